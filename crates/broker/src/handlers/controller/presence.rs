//! Whether the processes of brokers are there, as the active controller knows it (ADR 12).
//!
//! A broker reports over a connection that it keeps for that. Two things are evidence against its process:
//!
//! - *It is gone*: the connection has closed, no other has come, and nobody listens any more where the broker did.
//! - *It is stalled*: nothing has come for [`SILENCE_MAX`], though a broker of this kind reports four times as often. Others
//!   promise nothing, and have their session.
//!
//! Either has the broker fenced at once. A controller that takes over has heard of nobody yet. Brokers turn to it within
//! moments; who does not, and is gone, is found out in the same way. Of its predecessor it knows more: that it has given no
//! answer for so long that another was elected.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::{BrokerEpoch, ControllerRequest};
use tidelog_protocol::messages::broker_registration::BrokerRegistrationRequest;
use tidelog_types::{LeaderEpoch, NodeId, Str, Uuid};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::clock::real::{self, sleep, sleep_until};
use crate::handlers::Peer;
use crate::metadata::{ControllerHandle, Leadership};
use crate::peers::{self, Address, Network};

/// How often a broker reports at least.
pub(crate) const REPORT_EVERY: Duration = Duration::from_millis(500);
/// After how long without a report a broker that promised them counts as stalled.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Who looks so much later than planned has been held up, and could not hear anybody.
const LATE_MAX: Duration = Duration::from_millis(250);
/// How long the former controller may take to answer, once it has lost its place.
const KNOCK_MAX: Duration = Duration::from_millis(250);
/// How long brokers have to report to a controller that has just taken over.
const TURN_MAX: Duration = Duration::from_millis(300);
/// The first and the longest wait between two looks for a broker. While a process ends, its listening socket may still take
/// connections.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What is known of the processes of brokers.
pub(crate) struct Presence {
    node_id: NodeId,
    /// Where brokers listen for each other.
    listener: Option<Str>,
    /// After how long without a report a broker counts as stalled; `None` where the user has said how long a session is.
    silence_max: Option<Duration>,
    runtime: Handle,
    network: Arc<dyn Network>,
    controller: ControllerHandle,
    reports: Mutex<Reports>,
    /// The process that was refused last because there is one with its id: it asks many times.
    rival: Mutex<Uuid>,
    /// There is a new one to watch over.
    is_new: Notify,
}

impl Presence {
    pub(crate) fn new(
        config: &BrokerConfig,
        runtime: Handle,
        network: Arc<dyn Network>,
        controller: ControllerHandle,
    ) -> Arc<Self> {
        let listener = config.inter_broker_listener();
        let is_said = config.is_set("broker.session.timeout.ms");
        Arc::new(Self {
            node_id: config.node_id(),
            listener: listener.map(|listener| listener.name.as_str().into()),
            silence_max: (!is_said).then_some(SILENCE_MAX),
            runtime,
            network,
            controller,
            reports: Mutex::default(),
            rival: Mutex::new(Uuid::ZERO),
            is_new: Notify::new(),
        })
    }

    /// Watches over the brokers whenever this node is the active controller, until `stopped` says so.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut leadership = self.controller.leadership();
        let mut term = Term::default();
        loop {
            let known = leadership.borrow_and_update().clone();
            self.follow(&known, &mut term);
            let look_at = self.deadline();
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() {
                    return;
                },
                () = self.is_new.notified() => {}
                () = until(look_at) => self.look_for_silence(look_at),
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn follow(self: &Arc<Self>, known: &Leadership, term: &mut Term) {
        if !known.is_here {
            if term.leads_in.take().is_some() {
                self.reports.lock().0.clear();
            }
            let other = known.leader_id.filter(|id| *id != self.node_id);
            if let Some(other) = other.zip(known.address.clone()) {
                term.former = Some(other);
            }
        } else if term.leads_in != Some(known.leader_epoch) {
            term.leads_in = Some(known.leader_epoch);
            self.reports.lock().excuse(real::now());
            self.take_over(term.former.take());
        }
    }

    /// This node is the active controller now, and `former` was before, if that is known.
    fn take_over(self: &Arc<Self>, former: Option<(NodeId, Address)>) {
        let image = self.controller.published().image.load_full();
        let others = image.brokers().filter(|broker| broker.id != self.node_id);
        for broker in others.filter(|broker| !broker.fenced) {
            let broker = BrokerEpoch {
                broker_id: broker.id,
                broker_epoch: broker.epoch,
            };
            let presence = Arc::clone(self);
            match &former {
                Some((id, address)) if *id == broker.broker_id => {
                    let address = address.clone();
                    self.runtime.spawn(presence.succeed(broker, address));
                }
                _ => {
                    self.runtime.spawn(presence.expect(broker));
                }
            }
        }
    }

    /// Finds out what has become of the former controller, which is a broker as well. It does not report as long as it does
    /// not know that it was followed.
    async fn succeed(self: Arc<Self>, broker: BrokerEpoch, address: Address) {
        let deadline = real::now() + KNOCK_MAX;
        loop {
            let left = deadline.saturating_duration_since(real::now());
            match peers::knock(&*self.network, &address, left).await {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return self.is_gone(broker, &address).await;
                }
                Err(_) if real::now() < deadline => sleep(BACKOFF.0).await,
                Err(_) if self.silence_max.is_none() => break,
                Err(_) => {
                    let broker_id = broker.broker_id;
                    tracing::warn!(%broker_id, %address, "the former controller does not answer; others take over what its broker led");
                    return self.fence(broker).await;
                }
            }
        }
        self.expect(broker).await;
    }

    /// Gives the broker time to report, and looks for it if it does not.
    async fn expect(self: Arc<Self>, broker: BrokerEpoch) {
        sleep(TURN_MAX).await;
        self.look_for(broker).await;
    }

    /// Has the broker fenced if nobody listens where it did, for as long as it does not report.
    async fn look_for(self: Arc<Self>, broker: BrokerEpoch) {
        let (mut backoff, longest) = BACKOFF;
        while let Some(address) = self.where_missed(broker) {
            match peers::knock(&*self.network, &address, SILENCE_MAX).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return self.is_gone(broker, &address).await;
                }
                // It lives, or is about to end, or the network knows.
                _ => sleep(backoff).await,
            }
            backoff = longest.min(backoff * 2);
        }
    }

    /// Where a broker listens that counts as alive and does not report; `None` where that is of no interest any more.
    fn where_missed(&self, broker: BrokerEpoch) -> Option<Address> {
        if !self.controller.leadership().borrow().is_here || self.reports.lock().is_open(broker) {
            return None;
        }
        let image = self.controller.published().image.load();
        let registered = image.broker(broker.broker_id)?;
        let named = self.listener.as_ref();
        let named = named.and_then(|listener| registered.endpoint(listener));
        let endpoint = named.or_else(|| registered.endpoints.first())?;
        let is_alive = registered.epoch == broker.broker_epoch && !registered.fenced;
        is_alive.then(|| Address {
            host: endpoint.host.clone(),
            port: endpoint.port,
        })
    }

    async fn is_gone(&self, broker: BrokerEpoch, address: &Address) {
        if !self.reports.lock().is_open(broker) {
            let broker_id = broker.broker_id;
            tracing::warn!(%broker_id, %address, "a broker is gone: nobody listens there; others take over what it led");
            self.fence(broker).await;
        }
    }

    async fn fence(&self, broker: BrokerEpoch) {
        // Whoever is the controller by now finds out by itself.
        let _ = self.controller.request(unreachable(broker)).await;
    }

    fn deadline(&self) -> Option<Instant> {
        self.reports.lock().deadline(self.silence_max?)
    }

    /// Has brokers fenced of which nothing was heard for too long; it was to be looked for at `planned`.
    fn look_for_silence(self: &Arc<Self>, planned: Option<Instant>) {
        let (Some(silence_max), Some(planned)) = (self.silence_max, planned) else {
            return;
        };
        let now = real::now();
        let mut reports = self.reports.lock();
        if now.saturating_duration_since(planned) > LATE_MAX {
            reports.excuse(now);
            return;
        }
        for broker in reports.silent(now, silence_max) {
            let image = self.controller.published().image.load();
            let registered = image.broker(broker.broker_id);
            let is_alive =
                registered.is_some_and(|found| found.epoch == broker.broker_epoch && !found.fenced);
            if !is_alive {
                continue;
            }
            let broker_id = broker.broker_id;
            tracing::warn!(%broker_id, ?silence_max, "a broker is stalled or cut off: nothing is heard of it; others take over what it led");
            let presence = Arc::clone(self);
            self.runtime
                .spawn(async move { presence.fence(broker).await });
        }
    }

    /// A broker reports. It is not silent for as long as the answer takes, and the value lives.
    pub(super) fn hears(self: &Arc<Self>, broker: BrokerEpoch) -> Hearing {
        self.reports.lock().begin(broker);
        Hearing {
            presence: Arc::clone(self),
            broker,
        }
    }

    /// The report of a broker over this connection was accepted.
    pub(super) fn reported(self: &Arc<Self>, broker: BrokerEpoch, connection: &Arc<Peer>) {
        if !self.reports.lock().accept(real::now(), broker, connection) {
            return;
        }
        self.is_new.notify_one();
        let presence = Arc::downgrade(self);
        connection.when_closed(move || {
            if let Some(presence) = presence.upgrade() {
                let runtime = presence.runtime.clone();
                runtime.spawn(presence.look_for(broker));
            }
        });
    }

    /// The former registration of a broker that wants to register, if its process is certainly gone: it has hung up, or the
    /// new one has its directories, which it would not have been given otherwise.
    pub(super) fn former(&self, request: &BrokerRegistrationRequest) -> Option<BrokerEpoch> {
        let image = self.controller.published().image.load();
        let registered = image.broker(request.broker_id)?;
        let former = BrokerEpoch {
            broker_id: registered.id,
            broker_epoch: registered.epoch,
        };
        let mut directories = registered.log_dirs.iter();
        let is_over = match self.reports.lock().0.get(&former.broker_id) {
            // This very process, which reports to itself.
            _ if former.broker_id == self.node_id => false,
            Some(report) if report.broker_epoch == former.broker_epoch => !report.is_open(),
            _ => directories.any(|id| request.log_dirs.contains(id)),
        };
        is_over.then_some(former)
    }

    /// A process with this incarnation was refused since there is another with its id. Tells whether that is news.
    pub(super) fn is_another_rival(&self, incarnation_id: Uuid) -> bool {
        std::mem::replace(&mut *self.rival.lock(), incarnation_id) != incarnation_id
    }
}

/// Sleeps until then, or for ever.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// In which epoch this node leads, and who was the controller before.
#[derive(Default)]
struct Term {
    leads_in: Option<LeaderEpoch>,
    former: Option<(NodeId, Address)>,
}

/// A report that is being answered.
pub(super) struct Hearing {
    presence: Arc<Presence>,
    broker: BrokerEpoch,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.presence.reports.lock().end(real::now(), self.broker);
    }
}

/// What each broker has reported last.
#[derive(Default)]
struct Reports(HashMap<NodeId, Report>);

struct Report {
    broker_epoch: i64,
    connection: Weak<Peer>,
    /// Whether the broker has promised to report every [`REPORT_EVERY`].
    is_regular: bool,
    /// How many reports wait for an answer.
    unanswered: u32,
    /// When a report was answered last; `None` once it was noticed that none comes any more.
    heard_at: Option<Instant>,
}

impl Reports {
    /// Whether a broker has a connection over which it reports.
    fn is_open(&self, broker: BrokerEpoch) -> bool {
        let report = self.0.get(&broker.broker_id);
        report.is_some_and(|report| report.broker_epoch == broker.broker_epoch && report.is_open())
    }

    fn begin(&mut self, broker: BrokerEpoch) {
        if let Some(report) = self.of(broker) {
            report.unanswered += 1;
        }
    }

    fn end(&mut self, now: Instant, broker: BrokerEpoch) {
        if let Some(report) = self.of(broker) {
            report.unanswered = report.unanswered.saturating_sub(1);
            report.heard_at = Some(now);
        }
    }

    /// Tells whether the broker has not reported over this connection before.
    fn accept(&mut self, now: Instant, broker: BrokerEpoch, connection: &Arc<Peer>) -> bool {
        let report = Report {
            broker_epoch: broker.broker_epoch,
            connection: Arc::downgrade(connection),
            is_regular: connection.is_of_this_kind(),
            unanswered: self.of(broker).map_or(0, |report| report.unanswered),
            heard_at: Some(now),
        };
        let last = self.0.insert(broker.broker_id, report);
        !last.is_some_and(|last| {
            last.broker_epoch == broker.broker_epoch
                && std::ptr::eq(last.connection.as_ptr(), Arc::as_ptr(connection))
        })
    }

    /// When the next broker will have been silent for too long, if it stays silent.
    fn deadline(&self, silence_max: Duration) -> Option<Instant> {
        let watched = self.0.values().filter(|report| report.is_regular);
        watched
            .filter_map(|report| Some(report.heard_at? + silence_max))
            .min()
    }

    /// Who has been silent for too long. Told once; who waits for an answer is not silent.
    fn silent(&mut self, now: Instant, silence_max: Duration) -> Vec<BrokerEpoch> {
        let mut silent = Vec::new();
        for (broker_id, report) in &mut self.0 {
            let is_over = |at: &Instant| now.saturating_duration_since(*at) >= silence_max;
            if !report.is_regular || !report.heard_at.as_ref().is_some_and(is_over) {
                continue;
            }
            if report.unanswered > 0 {
                report.heard_at = Some(now);
                continue;
            }
            report.heard_at = None;
            silent.push(BrokerEpoch {
                broker_id: *broker_id,
                broker_epoch: report.broker_epoch,
            });
        }
        silent
    }

    /// Everybody may speak again before being judged.
    fn excuse(&mut self, now: Instant) {
        let heard = self.0.values_mut().filter_map(|r| r.heard_at.as_mut());
        heard.for_each(|at| *at = now);
    }

    fn of(&mut self, broker: BrokerEpoch) -> Option<&mut Report> {
        let report = self.0.get_mut(&broker.broker_id);
        report.filter(|report| report.broker_epoch == broker.broker_epoch)
    }
}

impl Report {
    fn is_open(&self) -> bool {
        self.connection.strong_count() > 0
    }
}

/// What the controller is told of a broker whose process is gone, or stalled.
pub(super) const fn unreachable(broker: BrokerEpoch) -> ControllerRequest {
    ControllerRequest::BrokerUnreachable {
        broker_id: broker.broker_id,
        broker_epoch: broker.broker_epoch,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const BROKER: BrokerEpoch = BrokerEpoch {
        broker_id: NodeId::new(2),
        broker_epoch: 7,
    };

    fn connection(is_of_this_kind: bool) -> Arc<Peer> {
        let peer = Peer::new((Ipv4Addr::LOCALHOST, 9).into(), "CONTROLLER".into());
        if is_of_this_kind {
            peer.names_itself(peers::SOFTWARE_NAME);
        }
        Arc::new(peer)
    }

    /// One broker that has reported at the beginning.
    fn one(is_of_this_kind: bool) -> (Reports, Arc<Peer>, Instant) {
        let (mut reports, connection) = (Reports::default(), connection(is_of_this_kind));
        let start = Instant::now();
        assert!(reports.accept(start, BROKER, &connection));
        assert!(!reports.accept(start, BROKER, &connection));
        (reports, connection, start)
    }

    #[test]
    fn who_promised_reports_and_sends_none_is_told_of_once() {
        let (mut reports, _connection, start) = one(true);
        assert_eq!(reports.deadline(SILENCE_MAX), Some(start + SILENCE_MAX));
        let early = start + SILENCE_MAX - Duration::from_millis(1);
        assert_eq!(reports.silent(early, SILENCE_MAX), []);
        assert_eq!(reports.silent(start + SILENCE_MAX, SILENCE_MAX), [BROKER]);
        assert_eq!(reports.deadline(SILENCE_MAX), None);
        assert_eq!(reports.silent(start + 2 * SILENCE_MAX, SILENCE_MAX), []);
        // It goes on, and everything begins anew.
        let again = start + 3 * SILENCE_MAX;
        reports.begin(BROKER);
        reports.end(again, BROKER);
        assert_eq!(reports.deadline(SILENCE_MAX), Some(again + SILENCE_MAX));
    }

    #[test]
    fn who_promised_nothing_is_never_silent() {
        let (mut reports, _connection, start) = one(false);
        assert_eq!(reports.deadline(SILENCE_MAX), None);
        assert_eq!(reports.silent(start + 10 * SILENCE_MAX, SILENCE_MAX), []);
    }

    #[test]
    fn who_waits_for_an_answer_is_not_silent() {
        let (mut reports, _connection, start) = one(true);
        reports.begin(BROKER);
        let late = start + 5 * SILENCE_MAX;
        assert_eq!(reports.silent(late, SILENCE_MAX), []);
        reports.end(late, BROKER);
        assert_eq!(reports.silent(late + SILENCE_MAX, SILENCE_MAX), [BROKER]);
    }

    #[test]
    fn who_was_not_listened_to_is_excused() {
        let (mut reports, _connection, start) = one(true);
        let late = start + 5 * SILENCE_MAX;
        reports.excuse(late);
        assert_eq!(reports.silent(late, SILENCE_MAX), []);
        assert_eq!(reports.deadline(SILENCE_MAX), Some(late + SILENCE_MAX));
    }

    #[test]
    fn a_connection_is_that_of_one_registration() {
        let (mut reports, connection, start) = one(true);
        let next = BrokerEpoch {
            broker_epoch: 9,
            ..BROKER
        };
        assert!(reports.is_open(BROKER) && !reports.is_open(next));
        drop(connection);
        assert!(!reports.is_open(BROKER));
        let connection = self::connection(true);
        assert!(reports.accept(start, next, &connection));
        assert!(reports.is_open(next) && !reports.is_open(BROKER));
        // What is left of the former one changes nothing.
        reports.end(start + SILENCE_MAX, BROKER);
        assert_eq!(reports.silent(start + SILENCE_MAX, SILENCE_MAX), [next]);
    }
}
