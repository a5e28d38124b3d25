//! This broker as a member of its cluster: it registers, tells that it is alive, and leaves in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidelog_metadata::bootstrap::registered_features;
use tidelog_metadata::configs::{BrokerConfig, SecurityProtocol};
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::broker_heartbeat::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse,
};
use tidelog_protocol::messages::broker_registration::{
    BrokerRegistrationRequest, Feature, Listener,
};
use tidelog_protocol::messages::controller_registration::ControllerRegistrationRequest;
use tidelog_types::{ErrorCode, NodeId, Offset, Str, Uuid};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::broker::ListenerAddress;
use crate::clock::real;
use crate::error::Failure;
use crate::failure::Ending;
use crate::handlers::controller::presence::REPORT_EVERY;
use crate::metadata::ActiveController;
use crate::random::random_uuid;
use crate::store::Store;

/// How long to wait after a heartbeat that had no answer, at first.
const RETRY: Duration = Duration::from_millis(100);

/// The first and the longest wait for something that only takes others to read a few records.
const SOON: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// How long an orderly shutdown waits for others to take over what this broker leads.
const LEAVE_MAX: Duration = Duration::from_secs(5);

fn told_listeners(listeners: &[ListenerAddress]) -> Vec<Listener> {
    let listener = |listener: &ListenerAddress| Listener {
        name: listener.name.clone().into(),
        host: listener.host.clone().into(),
        port: listener.port,
        security_protocol: SecurityProtocol::Plaintext.id(),
    };
    listeners.iter().map(listener).collect()
}

fn features() -> Vec<Feature> {
    let feature = |(name, levels): (&'static str, _)| {
        let tidelog_metadata::image::SupportedLevels { min, max } = levels;
        Feature {
            name: Str::from_static(name),
            min_supported_version: min,
            max_supported_version: max,
        }
    };
    registered_features().map(feature).collect()
}

/// Asks the controller to make this node a member of its cluster. Where a former process of it still counts as alive, waits
/// until it does not. Gives the epoch of the registration.
pub(crate) async fn register(
    controller: &ActiveController,
    config: &BrokerConfig,
    cluster_id: &str,
    listeners: &[ListenerAddress],
    store: &Store,
) -> Result<i64, String> {
    let registration = BrokerRegistrationRequest {
        broker_id: config.node_id(),
        cluster_id: cluster_id.into(),
        incarnation_id: random_uuid(),
        listeners: told_listeners(listeners),
        features: features(),
        rack: config.broker_rack().map(Str::from),
        log_dirs: store
            .directories()
            .iter()
            .map(|directory| directory.id)
            .collect(),
        previous_broker_epoch: store.previous_broker_epoch(),
        ..Default::default()
    };
    let limit = config.initial_broker_registration_timeout_ms();
    let limit = Duration::from_millis(u64::try_from(limit).unwrap_or(0));
    let deadline = real::now() + limit;
    let mut refusal = "no active controller was found".to_owned();
    let mut is_said = false;
    loop {
        let request = ControllerRequest::BrokerRegistration(registration.clone());
        refusal = match real::timeout_at(deadline, controller.request(request)).await {
            Ok(Ok(ControllerResponse::BrokerRegistration(Ok(epoch)))) => return Ok(epoch),
            Ok(Ok(ControllerResponse::BrokerRegistration(Err(error)))) => {
                if error.code != ErrorCode::DUPLICATE_BROKER_REGISTRATION {
                    return Err(error.to_string());
                }
                report_former_self(controller, &registration).await;
                error.to_string()
            }
            Ok(Ok(_)) => return Err("the controller answered something else".to_owned()),
            Ok(Err(code)) => match controller.local().failure() {
                Some(failure) => return Err(failure.to_owned()),
                None => code.to_string(),
            },
            // What was heard last says more.
            Err(_) => refusal,
        };
        if real::now() >= deadline {
            return Err(refusal);
        }
        if !std::mem::replace(&mut is_said, true) {
            tracing::warn!(refusal, "this broker is not registered yet");
        }
        real::sleep(RETRY).await;
    }
}

/// Tells the controller that the former process of this node is gone, if that is certain: this one has its directories.
async fn report_former_self(controller: &ActiveController, now: &BrokerRegistrationRequest) {
    let image = controller.local().published().image.load_full();
    let Some(former) = image.broker(now.broker_id) else {
        return;
    };
    if former.log_dirs.iter().any(|id| now.log_dirs.contains(id)) {
        let request = ControllerRequest::BrokerUnreachable {
            broker_id: former.id,
            broker_epoch: former.epoch,
        };
        // Where it does not come to be known, the session of the former process ends after a while.
        let _ = controller.request(request).await;
    }
}

/// A registered broker, and what its heartbeats tell.
pub(crate) struct Member {
    pub(crate) controller: Arc<ActiveController>,
    pub(crate) id: NodeId,
    pub(crate) broker_epoch: i64,
    /// The offset up to which the metadata is applied, exclusive.
    pub(crate) metadata_offset: Arc<AtomicI64>,
    pub(crate) store: Arc<Store>,
    pub(crate) config: Arc<ArcSwap<BrokerConfig>>,
    pub(crate) ending: Ending,
}

impl Member {
    /// Returns when this broker may serve, and its metadata says so too: clients are told of it then.
    pub(crate) async fn unfence(&self) -> Result<(), String> {
        let (mut wait, longest) = SOON;
        while self.heartbeat(false).await?.is_fenced || !self.is_shown() {
            real::sleep(wait).await;
            wait = longest.min(wait * 2);
        }
        Ok(())
    }

    fn is_shown(&self) -> bool {
        let image = self.controller.local().published().image.load();
        image
            .broker(self.id)
            .is_some_and(|broker| broker.epoch == self.broker_epoch && !broker.fenced)
    }

    /// Sends heartbeats until `leaving` is told to leave, and then until this broker is needed no more, or until `stopped`.
    pub(crate) fn stay(self, runtime: &Handle, stopped: watch::Receiver<bool>) -> Membership {
        let (leave, leaving) = oneshot::channel();
        Membership {
            leave,
            task: runtime.spawn(self.run(leaving, stopped)),
        }
    }

    /// How often this broker reports. Controllers of this kind hold a broker for stalled that they do not hear of for a few
    /// times [`REPORT_EVERY`].
    fn interval(&self) -> Duration {
        let config = self.config.load();
        let interval = config.broker_heartbeat_interval_ms();
        let interval = Duration::from_millis(u64::try_from(interval).unwrap_or(0)).max(RETRY);
        if config.is_alone() {
            interval
        } else {
            interval.min(REPORT_EVERY)
        }
    }

    async fn run(self, mut leaving: oneshot::Receiver<()>, mut stopped: watch::Receiver<bool>) {
        let interval = self.interval();
        let (mut wait, mut retry) = (interval, RETRY);
        let mut failed = self.store.failed_directories();
        // Since when a directory has failed of which the controller does not know it.
        let mut untold = None;
        let mut leadership = self.controller.local().leadership();
        loop {
            let left = tokio::select! {
                () = real::sleep(wait) => None,
                _ = failed.changed() => {
                    untold.get_or_insert_with(real::now);
                    None
                }
                // Who takes over learns at once who is there.
                Ok(()) = leadership.changed() => None,
                left = &mut leaving => Some(left.is_ok()),
                _ = stopped.wait_for(|stop| *stop) => Some(false),
            };
            match left {
                None => {}
                Some(false) => return,
                Some(true) => return self.leave().await,
            }
            let timeout_ms = self.config.load().log_dir_failure_timeout_ms();
            let timeout = Duration::from_millis(timeout_ms.unsigned_abs());
            let answer = match untold {
                None => self.heartbeat(false).await,
                Some(since) => real::timeout_at(since + timeout, self.heartbeat(false))
                    .await
                    .unwrap_or_else(|_| Err("it has not answered in time".to_owned())),
            };
            match answer {
                Ok(_) => (wait, retry, untold) = (interval, RETRY, None),
                Err(reason) => {
                    if untold.is_some_and(|since| since + timeout <= real::now()) {
                        return self.ending.end(Failure::Untold { timeout_ms });
                    }
                    tracing::warn!(reason, "the controller did not take a heartbeat");
                    wait = retry;
                    retry = interval.min(retry * 2);
                }
            }
        }
    }

    /// The orderly shutdown: others take over what this broker leads.
    async fn leave(&self) {
        let (mut wait, longest) = SOON;
        loop {
            match self.heartbeat(true).await {
                Ok(answer) if answer.should_shut_down => return,
                Ok(_) => real::sleep(wait).await,
                Err(reason) => {
                    tracing::warn!(reason, "this broker leaves without the controller knowing");
                    return;
                }
            }
            wait = longest.min(wait * 2);
        }
    }

    async fn heartbeat(&self, want_shut_down: bool) -> Result<BrokerHeartbeatResponse, String> {
        let next_offset = self.metadata_offset.load(Ordering::Acquire);
        let request = BrokerHeartbeatRequest {
            broker_id: self.id,
            broker_epoch: self.broker_epoch,
            current_metadata_offset: Offset::new(next_offset - 1),
            want_fence: false,
            want_shut_down,
            offline_log_dirs: self.offline_directories(),
            cordoned_log_dirs: Some(self.cordoned_directories()),
        };
        let request = ControllerRequest::BrokerHeartbeat(request);
        match self.controller.request(request).await {
            Ok(ControllerResponse::BrokerHeartbeat(Ok(answer))) => Ok(answer),
            Ok(ControllerResponse::BrokerHeartbeat(Err(error))) => Err(error.to_string()),
            Ok(_) => Err("the controller answered something else".to_owned()),
            Err(code) => Err(code.to_string()),
        }
    }

    fn offline_directories(&self) -> Vec<Uuid> {
        let directories = self.store.directories().iter();
        directories
            .filter(|directory| directory.has_failed())
            .map(|directory| directory.id)
            .collect()
    }

    /// KIP-1066: those of `cordoned.log.dirs`.
    fn cordoned_directories(&self) -> Vec<Uuid> {
        let directories = self.store.directories().iter();
        directories
            .filter(|directory| directory.is_cordoned())
            .map(|directory| directory.id)
            .collect()
    }
}

/// Registers this node as a controller (KIP-919), and again whenever the metadata does not show it.
pub(crate) async fn register_controller(
    active: Arc<ActiveController>,
    node_id: NodeId,
    listeners: Vec<ListenerAddress>,
    mut stopped: watch::Receiver<bool>,
) {
    let incarnation_id = random_uuid();
    let request = ControllerRegistrationRequest {
        controller_id: node_id,
        incarnation_id,
        listeners: told_listeners(&listeners),
        features: features(),
        ..Default::default()
    };
    let register = async {
        loop {
            let image = active.local().published().image.load_full();
            if !image.metadata_version().has_controller_registrations() {
                // Older clusters know of no such records.
                real::sleep(RETRY * 10).await;
                continue;
            }
            let is_shown = image.controllers().any(|controller| {
                controller.controller_id == node_id && controller.incarnation_id == incarnation_id
            });
            if is_shown {
                return;
            }
            let request = ControllerRequest::ControllerRegistration(request.clone());
            match active.request(request).await {
                Ok(ControllerResponse::ControllerRegistration(Ok(()))) => return,
                Ok(answer) => tracing::warn!(?answer, "this controller is not registered"),
                Err(error) => tracing::debug!(%error, "this controller is not registered yet"),
            }
            real::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = register => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

/// The task that sends the heartbeats.
pub(crate) struct Membership {
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Membership {
    /// Leaves the cluster in order; returns when nobody needs this broker any more.
    pub(crate) async fn leave(mut self) {
        // A task that has ended has nothing to leave.
        let _ = self.leave.send(());
        // Without a controller it may be in the middle of a heartbeat that nobody answers.
        if real::timeout(LEAVE_MAX, &mut self.task).await.is_err() {
            tracing::warn!("nobody has taken over what this broker leads; it stops all the same");
            self.task.abort();
        }
    }

    /// Stays no longer, without telling anybody; returns when the task has ended.
    pub(crate) async fn end(self) {
        self.task.abort();
        // A task that panicked has said so.
        let _ = self.task.await;
    }
}
