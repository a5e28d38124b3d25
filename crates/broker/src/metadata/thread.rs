//! The thread that owns the metadata log.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use tidelog_log::LogDirectory;
use tidelog_metadata::Delta;
use tidelog_metadata::controller::{
    Config as ControllerConfig, Controller, ControllerResponse, Input,
};
use tidelog_metadata::image::Image;
use tidelog_node::metadata::{
    Applied, Plan, Retention, Snapshots, append_control, append_fetched, apply_committed, control,
    everything, forget_lost_log, install_snapshot, store_quorum_state, trim,
};
use tidelog_protocol::Response;
use tidelog_record::Batch;
use tidelog_replication::quorum::{self, Anomaly, Appended, Effect, Quorum};
use tidelog_types::{LeaderEpoch, NodeId, Offset, Timestamp};
use tokio::sync::{oneshot, watch};

use super::clocks::ControllersClock;
use super::links::Links;
use super::log::MetadataLog;
use super::questions::Asked;
use super::wire::{self, Brought, Cluster};
use super::{Command, Follow, Leadership, Published, Publisher};
use crate::clock::{Clock, real};
use crate::peers::{Address, PeerError};

/// How long a node that stops goes on, so that its successor hears of it.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);

/// What the thread starts with.
pub(super) struct Setup {
    pub(super) clock: Clock,
    pub(super) node_id: NodeId,
    pub(super) log: Arc<MetadataLog>,
    pub(super) files: Arc<LogDirectory>,
    pub(super) quorum: Quorum,
    pub(super) cluster: Cluster,
    pub(super) links: Links,
    pub(super) controller: ControllerConfig,
    /// The metadata as the newest snapshot has it.
    pub(super) image: Image,
    pub(super) applied: Applied,
    pub(super) limits: SnapshotLimits,
    pub(super) commands: Sender<Command>,
    pub(super) published: Published,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) failure: Arc<OnceLock<String>>,
}

/// When a snapshot is made, and how many are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotLimits {
    /// After so many bytes of records.
    pub(super) bytes: i64,
    /// After so long, if there are new records.
    pub(super) interval: Option<Duration>,
    pub(super) retention: Retention,
}

/// The state of the thread.
pub(super) struct MetadataThread {
    pub(super) clock: Clock,
    node_id: NodeId,
    pub(super) log: Arc<MetadataLog>,
    pub(super) files: Arc<LogDirectory>,
    pub(super) quorum: Quorum,
    pub(super) cluster: Cluster,
    pub(super) links: Links,
    pub(super) snapshots: Snapshots,
    limits: SnapshotLimits,
    commands: Sender<Command>,
    /// Whether a snapshot is being made.
    making_snapshot: bool,
    next_snapshot_at: Option<Instant>,
    /// Requests that the machine has not answered.
    pub(super) asked: HashMap<u64, Asked>,
    pub(super) controller_config: ControllerConfig,
    pub(super) controller: Option<Controller>,
    /// Requests that the controller has not answered.
    pub(super) parked: HashMap<u64, oneshot::Sender<ControllerResponse>>,
    pub(super) next_id: u64,
    publisher: Option<Publisher>,
    /// Those who wait until enough is applied.
    followers: Vec<Follow>,
    pub(super) image: Image,
    applied: Applied,
    published: Published,
    leadership: watch::Sender<Leadership>,
    failure: Arc<OnceLock<String>>,
    /// What the machine has said is committed, and was not applied yet.
    committed: Option<Offset>,
    /// Where the log ends behind control records that the controller has not heard of.
    control_records_end: Option<Offset>,
    /// The epoch for which the controller is to begin its work, when what is committed is applied.
    leads: Option<LeaderEpoch>,
    /// Until when the thread hands over.
    stopping: Option<Instant>,
    controllers_clock: ControllersClock,
    /// A part of the log was lost, and is not back yet.
    lacks_records: bool,
    /// When it was last said that nodes of another cluster ask.
    pub(super) strangers_said_at: Option<Instant>,
}

/// Why the thread cannot go on.
pub(super) type Fatal = String;

impl MetadataThread {
    pub(super) fn new(setup: Setup) -> Self {
        let mut thread = Self {
            controllers_clock: ControllersClock::default(),
            lacks_records: setup.quorum.lost_end().is_some(),
            clock: setup.clock,
            node_id: setup.node_id,
            log: setup.log,
            snapshots: Snapshots::new(Arc::clone(&setup.files)),
            files: setup.files,
            quorum: setup.quorum,
            cluster: setup.cluster,
            links: setup.links,
            limits: setup.limits,
            commands: setup.commands,
            making_snapshot: false,
            next_snapshot_at: None,
            asked: HashMap::new(),
            controller_config: setup.controller,
            controller: None,
            parked: HashMap::new(),
            next_id: 0,
            publisher: None,
            followers: Vec::new(),
            image: setup.image,
            applied: setup.applied,
            published: setup.published,
            leadership: setup.leadership,
            failure: setup.failure,
            committed: None,
            control_records_end: None,
            leads: None,
            stopping: None,
            strangers_said_at: None,
        };
        let image = Arc::new(thread.image.clone());
        thread.published.image.store(image);
        thread.publish(&Delta::default());
        thread
    }

    /// Serves commands and deadlines until it is told to stop.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        // An observer looks for the leader from now on; it has no deadline of its own.
        if let Err(error) = self.drive(quorum::Input::Timeout, Brought::Nothing) {
            self.fail(error);
        }
        while !self.is_done() {
            let done = match real::receive(commands, self.deadline()) {
                Ok(command) => self.command(command),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = done.and_then(|()| self.due()) {
                self.fail(error);
            }
        }
        self.resign();
        if let Err(error) = self.log.with(|log| log.close()) {
            tracing::warn!(%error, "the metadata log was not closed in order");
        }
    }

    fn command(&mut self, command: Command) -> Result<(), Fatal> {
        match command {
            Command::Request(request, reply) => self.request(*request, reply),
            Command::Question(question) => self.question(*question),
            Command::Answered {
                request_id,
                from,
                answer,
            } => {
                if let Some(from) = from.filter(|_| answer.is_ok()) {
                    self.links.answered(&from);
                }
                self.answered(request_id, answer)
            }
            Command::Refused(address) => match self.links.refused(&address) {
                Some(node) => self.drive(quorum::Input::Unreachable { node }, Brought::Nothing),
                None => Ok(()),
            },
            Command::Follow(follow) => {
                self.followers.push(*follow);
                self.let_follow();
                Ok(())
            }
            Command::Flushed(Ok(_)) => {
                // The log knows better: it may have been cut since.
                let end = self.log.with(|log| log.recovery_point());
                self.drive(quorum::Input::Flushed { end }, Brought::Nothing)
            }
            Command::Flushed(Err(error)) => Err(error),
            Command::SnapshotMade(made) => self.snapshot_made(made),
            Command::Stop => self.stop(),
            Command::Abort => {
                self.stopping = Some(real::now());
                Ok(())
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let controller = self.controller.as_ref().and_then(Controller::deadline);
        let snapshot = self.next_snapshot_at.filter(|_| self.wants_snapshot());
        let deadlines = self.quorum.deadline().into_iter();
        deadlines
            .chain(controller)
            .chain(snapshot)
            .chain(self.stopping)
            .min()
    }

    /// Does what has come due.
    fn due(&mut self) -> Result<(), Fatal> {
        let now = real::now();
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.quorum.deadline()) {
            self.drive(quorum::Input::Timeout, Brought::Nothing)?;
        }
        if is_due(self.controller.as_ref().and_then(Controller::deadline)) {
            self.controller(Input::Timeout)?;
        }
        if is_due(self.next_snapshot_at) && self.wants_snapshot() {
            self.make_snapshot();
        }
        Ok(())
    }

    /// The node takes no further part in the quorum. What the machine still has to say, that it leads no longer, is said.
    fn fail(&mut self, error: Fatal) {
        if self.failure.set(error.clone()).is_ok() {
            tracing::error!(%error, "the metadata log failed; this node takes no further part in the quorum");
        }
        self.resign();
        // It is over already.
        let _ = self.drive(quorum::Input::Failed, Brought::Nothing);
        self.leadership.send_modify(|_| {});
    }

    fn stop(&mut self) -> Result<(), Fatal> {
        self.resign();
        self.stopping = Some(real::now() + HAND_OVER_MAX);
        self.drive(quorum::Input::Shutdown, Brought::Nothing)
    }

    fn is_done(&self) -> bool {
        self.stopping
            .is_some_and(|until| self.quorum.has_handed_over() || until <= real::now())
    }

    /// An answer to a request of this node, with what it brings.
    fn answered(
        &mut self,
        request_id: u64,
        answer: Result<Box<Response>, PeerError>,
    ) -> Result<(), Fatal> {
        let brought = match answer {
            Ok(response) => {
                self.say_of_strangers(&response, "this node asks nodes of another cluster");
                wire::brought(&self.cluster, *response).map_err(|code| code.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match brought {
            Ok((response, brought)) => {
                let input = quorum::Input::Response {
                    request_id,
                    response,
                };
                self.drive(input, brought)
            }
            Err(error) => {
                tracing::debug!(error, "a request of the quorum failed");
                self.drive(
                    quorum::Input::RequestFailed { request_id },
                    Brought::Nothing,
                )
            }
        }
    }

    /// Hands inputs to the quorum until it has no more to say, and then applies what has become committed.
    pub(super) fn drive(
        &mut self,
        input: quorum::Input,
        mut brought: Brought,
    ) -> Result<(), Fatal> {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.quorum.handle(self.clock.steady(), input, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect, &mut brought, &mut inputs)?;
            }
        }
        if let Some(end) = self.control_records_end.take() {
            self.controller(Input::ControlRecordsAppended { end })?;
        }
        if let Some(offset) = self.committed.take() {
            self.apply_committed(offset)?;
        }
        self.announce_kraft_version()?;
        if self.lacks_records && self.quorum.lost_end().is_none() {
            self.lacks_records = false;
            forget_lost_log(&self.files)?;
            tracing::warn!("all of the metadata is there again; this node votes like others");
        }
        if let Some(leader_epoch) = self.leads.take()
            && self.quorum.is_leader()
            && self.quorum.leader_epoch() == leader_epoch
        {
            self.lead()?;
        }
        Ok(())
    }

    /// Carries out one effect. What changes the log is reported before anything else.
    fn carry_out(
        &mut self,
        effect: Effect,
        brought: &mut Brought,
        inputs: &mut VecDeque<quorum::Input>,
    ) -> Result<(), Fatal> {
        match effect {
            Effect::Send {
                request_id,
                to,
                request,
            } => {
                let request = wire::ask(&self.cluster, &request);
                self.links.send(request_id, &to, request);
            }
            Effect::Answer {
                request_id,
                response,
            } => self.answer(request_id, response),
            Effect::StoreQuorumState(state) => {
                store_quorum_state(&self.files, state)?;
                inputs.push_back(quorum::Input::QuorumStateStored(state));
            }
            Effect::AppendLeaderChange(change) => {
                let batch = control::leader_change(&change, self.now())?;
                let appended = self.append_control(&batch, change.leader_epoch)?;
                inputs.push_front(quorum::Input::Appended(appended));
            }
            Effect::AppendVoters {
                leader_epoch,
                kraft_version,
                voters,
            } => {
                let batch = control::voters_change(kraft_version, &voters, self.now())?;
                let appended = self.append_control(&batch, leader_epoch)?;
                self.control_records_end = Some(appended.end);
                inputs.push_front(quorum::Input::Appended(appended));
            }
            Effect::AppendFetched { .. } => {
                let appended = self.append_fetched(std::mem::replace(brought, Brought::Nothing))?;
                inputs.push_front(quorum::Input::Appended(appended));
            }
            Effect::Truncate { end } => {
                let end = self.truncate(end)?;
                inputs.push_front(quorum::Input::Truncated { end });
            }
            Effect::WriteSnapshotChunk {
                snapshot_id,
                position,
                ..
            } => {
                let Brought::Piece(bytes) = brought else {
                    return Err("a piece of a snapshot came without its bytes".into());
                };
                let position = self.snapshots.write_piece(snapshot_id, position, bytes)?;
                inputs.push_front(quorum::Input::SnapshotChunkWritten {
                    snapshot_id,
                    position,
                });
            }
            Effect::InstallSnapshot { snapshot_id } => {
                inputs.push_front(self.install_snapshot(snapshot_id)?);
            }
            Effect::PublishHighWatermark(offset) => self.committed = Some(offset),
            Effect::AnnounceLeader(leader) => self.announce(&leader),
            Effect::Lead { leader_epoch } => self.leads = Some(leader_epoch),
            Effect::StopLeading { leader_epoch } => {
                tracing::info!(%leader_epoch, "this node leads the metadata quorum no longer");
                self.leads = None;
                self.resign();
            }
            Effect::Report(anomaly) => report(&anomaly),
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.steady().timestamp
    }

    /// Appends a batch of this leader and asks for its flush; gives the end of the log.
    pub(super) fn append(&self, batch: &Batch, leader_epoch: LeaderEpoch) -> Result<Offset, Fatal> {
        let now = self.now();
        let appended = self
            .log
            .with(|log| log.append_as_leader(batch, leader_epoch, now));
        let end = appended.map_err(|error| error.to_string())?.end.offset;
        self.log.request_flush();
        Ok(end)
    }

    fn append_control(&self, batch: &Batch, leader_epoch: LeaderEpoch) -> Result<Appended, Fatal> {
        let now = self.now();
        let appended = self
            .log
            .with(|log| append_control(log, batch, leader_epoch, now))?;
        self.log.request_flush();
        Ok(appended)
    }

    /// Appends what the leader has sent, as it is.
    fn append_fetched(&self, brought: Brought) -> Result<Appended, Fatal> {
        let Brought::Records(batches) = brought else {
            return Err("records were fetched and did not come".into());
        };
        let now = self.now();
        let appended = self.log.with(|log| append_fetched(log, &batches, now))?;
        self.log.request_flush();
        Ok(appended)
    }

    fn truncate(&self, end: Offset) -> Result<Offset, Fatal> {
        let now = self.clock.steady();
        let cut = self.log.with(|log| log.truncate_to(end, now));
        let cut = cut.map_err(|error| error.to_string())?;
        tracing::warn!(%cut, "the metadata log is cut: another leader has other records from there on");
        assert!(
            cut >= self.applied.offset,
            "what is committed is never cut off"
        );
        self.log.request_flush();
        Ok(cut)
    }

    /// Applies what has been committed since the last time, batch by batch, and publishes it.
    fn apply_committed(&mut self, offset: Offset) -> Result<(), Fatal> {
        let reader = self.log.with(|log| log.reader());
        let delta = apply_committed(&reader, &mut self.image, &mut self.applied, offset)?;
        self.publish(&delta);
        if self.controller.is_some() {
            self.controller(Input::Committed { offset })?;
        }
        self.compare_clocks();
        if self.applied.bytes >= self.limits.bytes {
            self.make_snapshot();
        } else if self.next_snapshot_at.is_none() {
            let interval = self.limits.interval;
            self.next_snapshot_at = interval.map(|interval| real::now() + interval);
        }
        Ok(())
    }

    /// What is committed last was written a moment ago, since an active controller writes at least twice a second.
    fn compare_clocks(&mut self) {
        if !self.quorum.has_all_committed() {
            return;
        }
        let (written, own) = (self.applied.timestamp, self.now());
        let apart = self.controllers_clock.compare(written, own, real::now());
        if let Some(ahead_ms) = apart {
            tracing::warn!(
                ahead_ms,
                "the clock of this node and that of the active controller are apart; timestamps, and for how long records are kept, \
                 go by the clock of whichever broker leads"
            );
        }
    }

    /// Makes the image of the moment the one that is seen.
    fn publish(&mut self, delta: &Delta) {
        let offset = self.applied.offset;
        let image = Arc::new(self.image.clone());
        if !delta.is_empty() {
            self.published.image.store(Arc::clone(&image));
            self.published.changed.notify_waiters();
        }
        self.published
            .offset
            .store(offset.value(), Ordering::Release);
        if let Some(publisher) = self.publisher.as_ref().filter(|_| !delta.is_empty()) {
            publisher.publish(&image, delta, offset);
        }
        self.let_follow();
    }

    /// Begins to publish for those who have waited for what is applied now. All that is there already is published at once.
    fn let_follow(&mut self) {
        let applied = self.applied.offset;
        for follow in self
            .followers
            .extract_if(.., |follow| follow.from <= applied)
        {
            let Follow {
                publisher, done, ..
            } = follow;
            let image = Arc::new(self.image.clone());
            publisher.publish(&image, &everything(&image), applied);
            self.publisher = Some(publisher);
            // Whoever asked may have given up.
            let _ = done.send(());
        }
    }

    fn announce(&self, leader: &quorum::message::LeaderAndEpoch) {
        let mut endpoints = leader.endpoints.iter();
        let endpoint = endpoints
            .find(|endpoint| {
                endpoint
                    .listener
                    .eq_ignore_ascii_case(&self.cluster.listener)
            })
            .or_else(|| leader.endpoints.first());
        let address = endpoint.map(|endpoint| Address {
            host: endpoint.host.clone(),
            port: endpoint.port,
        });
        match leader.leader_id {
            Some(leader_id) => {
                let leader_epoch = leader.leader_epoch;
                tracing::info!(%leader_id, %leader_epoch, "the metadata quorum has a leader");
            }
            None => {
                let leader_epoch = leader.leader_epoch;
                tracing::info!(%leader_epoch, "the leader of the metadata quorum is not known");
            }
        }
        self.leadership.send_modify(|known| {
            let is_here = leader.leader_id == Some(self.node_id) && self.controller.is_some();
            *known = Leadership {
                leader_id: leader.leader_id,
                leader_epoch: leader.leader_epoch,
                address,
                is_here,
                kraft_version: known.kraft_version,
            };
        });
    }

    /// Tells whether the controller of this node is at work.
    pub(super) fn announce_controller(&self) {
        let is_here = self.controller.is_some();
        self.leadership.send_if_modified(|known| {
            let is_changed = known.is_here != is_here;
            known.is_here = is_here;
            is_changed
        });
    }

    /// Tells of a level of kraft.version that was not known before.
    fn announce_kraft_version(&mut self) -> Result<(), Fatal> {
        let level = self.quorum.kraft_version();
        let is_new = self.leadership.send_if_modified(|known| {
            let is_new = known.kraft_version != level;
            known.kraft_version = level;
            is_new
        });
        match is_new {
            true => self.controller(Input::KRaftVersion { level }),
            false => Ok(()),
        }
    }

    fn wants_snapshot(&self) -> bool {
        !self.making_snapshot && self.applied.bytes > 0
    }

    fn make_snapshot(&mut self) {
        if !self.wants_snapshot() || self.image.in_transaction() {
            return;
        }
        let plan = Plan {
            id: quorum::SnapshotId {
                end_offset: self.applied.offset,
                epoch: self.applied.epoch,
            },
            image: self.image.clone(),
            voters: self.applied.voters.clone(),
            last_contained_log_timestamp: self.applied.timestamp,
            now: self.now(),
        };
        self.next_snapshot_at = None;
        match self.spawn_snapshot(plan) {
            Ok(()) => {
                self.making_snapshot = true;
                self.applied.bytes = 0;
            }
            Err(error) => tracing::warn!(%error, "no snapshot of the metadata was made"),
        }
    }

    /// Makes a snapshot on a thread of its own, since a large one takes a while; [`Command::SnapshotMade`] tells of the end.
    fn spawn_snapshot(&self, plan: Plan) -> io::Result<()> {
        let (snapshots, commands) = (self.snapshots.clone(), self.commands.clone());
        let thread = thread::Builder::new().name("tidelog-snapshot".into());
        thread.spawn(move || {
            let made = snapshots.write(&plan);
            // Nobody listens any more when the node is stopping.
            let _ = commands.send(Command::SnapshotMade(made));
        })?;
        Ok(())
    }

    /// Deletes what the new snapshot makes superfluous, as far as the configuration wants that.
    fn snapshot_made(&mut self, made: Result<quorum::SnapshotId, String>) -> Result<(), Fatal> {
        self.making_snapshot = false;
        let id = match made {
            Ok(id) => id,
            Err(error) => {
                // A disk that fails will fail the log as well.
                tracing::error!(error, "no snapshot of the metadata was made");
                return Ok(());
            }
        };
        tracing::info!(?id, "a snapshot of the metadata was made");
        let now = self.clock.steady();
        let changed = self
            .log
            .with(|log| trim(&self.snapshots, log, self.limits.retention, now))?;
        self.drive(changed, Brought::Nothing)
    }

    /// Begins anew with a snapshot that was fetched.
    fn install_snapshot(
        &mut self,
        snapshot_id: quorum::SnapshotId,
    ) -> Result<quorum::Input, Fatal> {
        let now = self.clock.steady();
        let (image, applied) = (&mut self.image, &mut self.applied);
        let (installed, input) = self
            .log
            .with(|log| install_snapshot(&self.snapshots, log, image, applied, snapshot_id, now))?;
        match installed {
            Ok(delta) => {
                self.log.request_flush();
                tracing::info!(
                    ?snapshot_id,
                    "the metadata begins anew with a snapshot of the leader"
                );
                self.publish(&delta);
            }
            Err(error) => {
                tracing::warn!(?snapshot_id, %error, "a snapshot came damaged; it is fetched again");
            }
        }
        Ok(input)
    }
}

/// Says what is wrong and needs a look.
fn report(anomaly: &Anomaly) {
    match anomaly {
        Anomaly::TruncationBelowHighWatermark {
            end,
            high_watermark,
        } => tracing::error!(
            %end, %high_watermark,
            "the leader of the metadata quorum wants committed records cut off, which are kept; its disk may have lost them"
        ),
        Anomaly::InconsistentLeader {
            leader_epoch,
            known,
            claimed,
        } => tracing::error!(
            %leader_epoch, ?known, %claimed,
            "two nodes claim to lead the metadata quorum in the same epoch; is a node id used twice?"
        ),
        Anomaly::DuplicateNodeId { replica } => tracing::error!(
            node = %replica.id, directory = %replica.directory_id,
            "another node fetches with the id of this one; give it a node.id of its own"
        ),
    }
}
