//! The quorum, the metadata log and the controller of a node, as the broker's metadata thread has them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_log::{LogConfig, LogDirectory};
use tidelog_metadata::bootstrap::{MetadataVersion, bootstrap_records};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::{
    Config as ControllerConfig, Controller, ControllerRequest, Effect as ControllerEffect,
    Input as ControllerInput, Restored,
};
use tidelog_metadata::image::Image;
use tidelog_node::metadata::{
    METADATA_FOLDER, Opened, Plan, Retention, Snapshots, append_control, append_fetched,
    apply_committed, batch_of, control, everything, install_snapshot, open, store_quorum_state,
    trim,
};
use tidelog_record::Batch;
use tidelog_replication::quorum::message::{self, ApiVersionsResponse, Fetched};
use tidelog_replication::quorum::{
    Appended, Config, ControlRecord, Destination, Effect, Endpoint, Input, Quorum, QuorumState,
    ReplicaKey, SnapshotId, VersionRange, Voter, VoterSet,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Str, Uuid};

use super::groups::Coordinators;
use super::member::{Stage, Stopping};
use super::{Context, Inputs, Node, Process, batches};
use crate::clock::SECOND;
use crate::event::{DiskWork, Timer};
use crate::io::Io;
use crate::message::{Request, Response};
use crate::network::Place;
use crate::planted::Bug;
use crate::settings::{CLUSTER_ID, Settings};

/// How much one fetch brings.
const FETCH_BYTES: usize = 8 * 1024;
/// How much of a snapshot one fetch brings.
const PIECE_BYTES: usize = 2 * 1024;

/// The bytes that came with an answer.
pub(super) enum Brought {
    Nothing,
    Records(Vec<Batch>),
    Piece(Bytes),
}

type Fatal = String;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The directory of a node, which also names its replica in the quorum.
pub(super) fn directory_id(node: NodeId) -> Uuid {
    Uuid::from_random([node.value() as u8; 16])
}

pub(crate) fn voter(node: NodeId, dynamic: bool) -> Voter {
    Voter {
        key: ReplicaKey {
            id: node,
            directory_id: match dynamic {
                true => directory_id(node),
                false => Uuid::ZERO,
            },
        },
        endpoints: vec![Endpoint {
            listener: Str::from_static("CONTROLLER"),
            host: Str::from(node.to_string()),
            port: 9093,
        }],
        kraft_versions: VersionRange { min: 0, max: 1 },
    }
}

fn quorum_config(node: NodeId, settings: &Settings, seed: u64) -> Config {
    let voters = first_voters(settings, false);
    let key = ReplicaKey {
        id: node,
        directory_id: directory_id(node),
    };
    let endpoints = voter(node, false).endpoints;
    if settings.dynamic {
        // The voters are in the log; whoever does not know the leader asks anybody.
        let nodes = (1..=settings.nodes).map(NodeId::new);
        let servers = nodes.flat_map(|node| voter(node, false).endpoints);
        return Config {
            endpoints,
            bootstrap_servers: servers.collect(),
            ..Config::new(key, VoterSet::new(Vec::new()), seed)
        };
    }
    Config {
        endpoints,
        can_become_voter: node.value() <= settings.voters,
        ..Config::new(key, voters, seed)
    }
}

fn first_voters(settings: &Settings, dynamic: bool) -> VoterSet {
    let voters = (1..=settings.voters).map(|id| voter(NodeId::new(id), dynamic));
    VoterSet::new(voters.collect())
}

/// What `format` leaves in the directory of a voter: a snapshot of nothing but the voters.
fn format(files: &Arc<LogDirectory>, settings: &Settings, now: Now) -> Result<(), Fatal> {
    let voters = first_voters(settings, true);
    let plan = Plan {
        id: SnapshotId {
            end_offset: Offset::ZERO,
            epoch: LeaderEpoch::new(0),
        },
        image: Image::default(),
        voters: Some(control::voters_record(&voters)),
        last_contained_log_timestamp: now.timestamp,
        now: now.timestamp,
    };
    files
        .dir()
        .create_dir(std::path::Path::new(METADATA_FOLDER))
        .map_err(text)?;
    Snapshots::new(Arc::clone(files)).write(&plan)?;
    Ok(())
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 8 * 1024,
        segment_index_bytes: 1024,
        delete: false,
        ..LogConfig::default()
    }
}

impl Process {
    pub(super) fn open(
        node: &Node,
        settings: &Arc<Settings>,
        io: &mut Io<'_>,
    ) -> Result<Self, Fatal> {
        let now = node.clock.now(io.now);
        let dir = Arc::new(node.disk.clone());
        let files = Arc::new(LogDirectory::open(dir).map_err(text)?);
        if settings.dynamic && node.life == 1 && node.id.value() <= settings.voters {
            format(&files, settings, now)?;
        }
        let Opened {
            log,
            image,
            applied,
            mut restored,
        } = open(&files, log_config(), false, true, now)?;
        if io.has(Bug::ForgetsVoterChanges) {
            for record in &mut restored.control_records {
                if let ControlRecord::Voters { voters, .. } = record {
                    *voters = first_voters(settings, true);
                }
            }
        }
        let seed = io.random.next();
        let config = quorum_config(node.id, settings, seed);
        let quorum = Quorum::new(now, config, restored);
        Ok(Self {
            id: node.id,
            life: node.life,
            clock: node.clock,
            settings: Arc::clone(settings),
            snapshots: Snapshots::new(Arc::clone(&files)),
            files,
            directory_id: directory_id(node.id),
            checkpoints: node.checkpoints.clone(),
            checkpoints_changed: false,
            quorum,
            log,
            image,
            applied,
            metadata_flush: None,
            committed: None,
            control_records_end: None,
            leads: None,
            controller: None,
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stage: Stage::Registering,
            stopping: Stopping::No,
            member_seed: io.random.next(),
            changes: Vec::new(),
            changes_in_flight: false,
            partitions: BTreeMap::new(),
            fetching: BTreeSet::new(),
            parked: BTreeMap::new(),
            producers: BTreeMap::new(),
            coordinators: Coordinators::default(),
            pending: BTreeMap::new(),
            timers: BTreeMap::new(),
            next_id: u64::from(node.life) << 32,
            stalled_until: 0,
            disk_done: VecDeque::new(),
            failure: None,
        })
    }

    /// The process begins its work.
    pub(super) fn run(&mut self, io: &mut Io<'_>) {
        self.flush_metadata(io);
        self.drive(io, Input::Timeout, Brought::Nothing);
        let jitter = io.random.below(SECOND / 10);
        self.arm_in(io, Timer::Member, jitter);
        self.arm_in(io, Timer::Checkpoint, SECOND + jitter);
    }

    pub(super) fn quorum_due(&mut self, io: &mut Io<'_>) {
        self.drive(io, Input::Timeout, Brought::Nothing);
    }

    pub(super) fn controller_due(&mut self, io: &mut Io<'_>) {
        let now = self.now(io).instant;
        let deadline = self.controller.as_ref().and_then(Controller::deadline);
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.controller_input(io, ControllerInput::Timeout);
        }
        self.arm_machines(io);
    }

    fn arm_machines(&mut self, io: &mut Io<'_>) {
        if let Some(deadline) = self.quorum.deadline() {
            let at = self.clock.when(deadline);
            self.arm(io, Timer::Quorum, at);
        }
        if let Some(deadline) = self.controller.as_ref().and_then(Controller::deadline) {
            let at = self.clock.when(deadline);
            self.arm(io, Timer::Controller, at);
        }
    }

    /// Hands an input to the quorum, and carries out all that follows.
    pub(super) fn drive(&mut self, io: &mut Io<'_>, input: Input, brought: Brought) {
        if let Err(error) = self.try_drive(io, input, brought) {
            self.fail(error);
        }
        self.arm_machines(io);
    }

    fn try_drive(
        &mut self,
        io: &mut Io<'_>,
        input: Input,
        mut brought: Brought,
    ) -> Result<(), Fatal> {
        let mut inputs = Inputs::from([input]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.quorum.handle(self.now(io), input, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(io, effect, &mut brought, &mut inputs)?;
            }
        }
        if self.quorum.is_leader() {
            let epoch = self.quorum.leader_epoch();
            io.oracle.leads_quorum(epoch, self.id);
        }
        if let Some(end) = self.control_records_end.take() {
            self.try_controller(io, ControllerInput::ControlRecordsAppended { end })?;
        }
        if let Some(offset) = self.committed.take() {
            self.apply(io, offset)?;
        }
        if let Some(leader_epoch) = self.leads.take()
            && self.quorum.is_leader()
            && self.quorum.leader_epoch() == leader_epoch
        {
            self.lead(io)?;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        io: &mut Io<'_>,
        effect: Effect,
        brought: &mut Brought,
        inputs: &mut Inputs,
    ) -> Result<(), Fatal> {
        let now = self.now(io);
        match effect {
            Effect::Send {
                request_id,
                to,
                request,
            } => self.send(io, request_id, &to, request),
            Effect::Answer {
                request_id,
                response,
            } => self.quorum_answer(io, request_id, response)?,
            Effect::StoreQuorumState(state) => {
                // Of two that are under way the later one must win: the disk takes its time, always the same.
                self.store_later(io, state);
            }
            Effect::AppendLeaderChange(change) => {
                let batch = control::leader_change(&change, now.timestamp)?;
                let appended =
                    append_control(&mut self.log, &batch, change.leader_epoch, now.timestamp)?;
                self.flush_metadata(io);
                inputs.push_front(Input::Appended(appended));
            }
            Effect::AppendVoters {
                leader_epoch,
                kraft_version,
                voters,
            } => {
                let batch = control::voters_change(kraft_version, &voters, now.timestamp)?;
                let appended = append_control(&mut self.log, &batch, leader_epoch, now.timestamp)?;
                self.flush_metadata(io);
                self.control_records_end = Some(appended.end);
                inputs.push_front(Input::Appended(appended));
            }
            Effect::AppendFetched { .. } => {
                let Brought::Records(batches) = std::mem::replace(brought, Brought::Nothing) else {
                    return Err("records were fetched and did not come".into());
                };
                let appended = append_fetched(&mut self.log, &batches, now.timestamp)?;
                self.flush_metadata(io);
                inputs.push_front(Input::Appended(appended));
            }
            Effect::Truncate { end } => {
                let id = self.id;
                io.say(|| format!("node {id}: the metadata log is cut to {end}"));
                let end = self.log.truncate_to(end, now).map_err(text)?;
                self.flush_metadata(io);
                inputs.push_front(Input::Truncated { end });
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
                inputs.push_front(Input::SnapshotChunkWritten {
                    snapshot_id,
                    position,
                });
            }
            Effect::InstallSnapshot { snapshot_id } => {
                inputs.push_front(self.install(io, snapshot_id)?);
            }
            Effect::PublishHighWatermark(offset) => self.committed = Some(offset),
            Effect::AnnounceLeader(leader) => {
                let id = self.id;
                io.say(|| match leader.leader_id {
                    Some(leader_id) => format!(
                        "node {id}: node {leader_id} leads the quorum in epoch {}",
                        leader.leader_epoch
                    ),
                    None => format!(
                        "node {id}: nobody leads the quorum in epoch {}",
                        leader.leader_epoch
                    ),
                });
            }
            Effect::Lead { leader_epoch } => self.leads = Some(leader_epoch),
            Effect::StopLeading { .. } => {
                self.leads = None;
                self.resign(io);
            }
            Effect::Report(anomaly) => io.oracle.anomaly(self.id, &anomaly),
        }
        Ok(())
    }

    fn send(
        &mut self,
        io: &mut Io<'_>,
        request_id: u64,
        to: &Destination,
        request: message::Request,
    ) {
        let named = to.endpoints.first();
        let place = named.and_then(|endpoint| endpoint.host.parse::<Place>().ok());
        if let Some(place) = place {
            let request = Request::Quorum(request);
            self.ask(io, place, request, Context::Quorum(request_id));
        }
    }

    fn store_later(&mut self, io: &mut Io<'_>, state: QuorumState) {
        let event = crate::event::Event::Disk {
            node: self.id,
            life: self.life,
            work: DiskWork::QuorumState(state),
        };
        io.queue.push(io.now + 700_000, event);
    }

    pub(super) fn quorum_state_stored(&mut self, io: &mut Io<'_>, state: QuorumState) {
        if !io.has(Bug::ForgetsVotes)
            && let Err(error) = store_quorum_state(&self.files, state)
        {
            return self.fail(error);
        }
        self.drive(io, Input::QuorumStateStored(state), Brought::Nothing);
    }

    fn flush_metadata(&mut self, io: &mut Io<'_>) {
        if self.metadata_flush.is_none()
            && let Some(flush) = self.log.begin_flush()
        {
            self.metadata_flush = Some(flush);
            self.disk(io, DiskWork::FlushMetadata);
        }
    }

    pub(super) fn metadata_flushed(&mut self, io: &mut Io<'_>) {
        let Some(flush) = self.metadata_flush.take() else {
            return;
        };
        let result = match io.has(Bug::MetadataFlushLies) {
            true => Ok(()),
            false => flush.run(),
        };
        if let Err(error) = self.log.flush_finished(flush, result) {
            return self.fail(error.to_string());
        }
        let end = self.log.recovery_point();
        self.flush_metadata(io);
        self.drive(io, Input::Flushed { end }, Brought::Nothing);
    }

    pub(super) fn quorum_asked(
        &mut self,
        io: &mut Io<'_>,
        asker: (Place, u64),
        request: message::Request,
    ) {
        if matches!(request, message::Request::ApiVersions) {
            let answer = message::Response::ApiVersions(ApiVersionsResponse {
                error: ErrorCode::NONE,
                kraft_versions: Some(VersionRange { min: 0, max: 1 }),
            });
            return self.answer(io, asker, Response::Quorum(answer, Bytes::new()));
        }
        let request_id = self.id();
        self.asked.insert(request_id, asker);
        let input = Input::Request {
            request_id,
            request,
        };
        self.drive(io, input, Brought::Nothing);
    }

    fn quorum_answer(
        &mut self,
        io: &mut Io<'_>,
        request_id: u64,
        response: message::Response,
    ) -> Result<(), Fatal> {
        let Some(asker) = self.asked.remove(&request_id) else {
            return Ok(());
        };
        let bytes = match &response {
            message::Response::Fetch(fetch) => match fetch.fetched {
                Fetched::Records { from, to } if from < to => {
                    let reader = self.log.reader();
                    let slice = reader.read(from, FETCH_BYTES, to, true).map_err(text)?;
                    slice.data.read_all().map_err(text)?
                }
                _ => Bytes::new(),
            },
            message::Response::FetchSnapshot(fetch) if fetch.error.is_ok() => {
                let (id, position) = (fetch.snapshot_id, fetch.position);
                self.snapshots.read_piece(id, position, PIECE_BYTES)?
            }
            _ => Bytes::new(),
        };
        self.answer(io, asker, Response::Quorum(response, bytes));
        Ok(())
    }

    pub(super) fn quorum_answered(
        &mut self,
        io: &mut Io<'_>,
        request_id: u64,
        mut response: message::Response,
        bytes: Bytes,
    ) {
        let mut brought = Brought::Nothing;
        match &mut response {
            message::Response::Fetch(fetch) => {
                if let Fetched::Records { from, to } = &mut fetch.fetched {
                    let batches = batches(bytes);
                    (*from, *to) = match (batches.first(), batches.last()) {
                        (Some(first), Some(last)) => {
                            (first.header().base_offset, last.header().next_offset())
                        }
                        _ => (Offset::ZERO, Offset::ZERO),
                    };
                    brought = Brought::Records(batches);
                }
            }
            message::Response::FetchSnapshot(fetch) => {
                fetch.bytes = bytes.len() as i64;
                brought = Brought::Piece(bytes);
            }
            _ => {}
        }
        let input = Input::Response {
            request_id,
            response,
        };
        self.drive(io, input, brought);
    }

    pub(super) fn quorum_unanswered(&mut self, io: &mut Io<'_>, request_id: u64) {
        self.drive(io, Input::RequestFailed { request_id }, Brought::Nothing);
    }

    /// Nobody listens any more where a node was.
    pub(crate) fn unreachable(&mut self, io: &mut Io<'_>, node: NodeId) {
        self.drive(io, Input::Unreachable { node }, Brought::Nothing);
        let broker = self.image.broker(node).filter(|broker| !broker.fenced);
        if let Some(broker) = broker
            && self.controller.is_some()
        {
            let request = ControllerRequest::BrokerUnreachable {
                broker_id: node,
                broker_epoch: broker.epoch,
            };
            let request_id = self.id();
            self.controller_input(
                io,
                ControllerInput::Request {
                    request_id,
                    request,
                },
            );
            self.arm_machines(io);
        }
    }

    fn apply(&mut self, io: &mut Io<'_>, offset: Offset) -> Result<(), Fatal> {
        let reader = self.log.reader();
        io.oracle
            .metadata_committed(self.id, &reader, self.applied.offset, offset);
        let (image, applied) = (&mut self.image, &mut self.applied);
        let delta = apply_committed(&reader, image, applied, offset)?;
        self.publish(io, &delta);
        if self.controller.is_some() {
            self.try_controller(io, ControllerInput::Committed { offset })?;
        }
        if self.applied.bytes >= self.settings.snapshot_bytes && !self.image.in_transaction() {
            self.snapshot(io)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, io: &mut Io<'_>) -> Result<(), Fatal> {
        let now = self.now(io);
        let plan = Plan {
            id: SnapshotId {
                end_offset: self.applied.offset,
                epoch: self.applied.epoch,
            },
            image: self.image.clone(),
            voters: self.applied.voters.clone(),
            last_contained_log_timestamp: self.applied.timestamp,
            now: now.timestamp,
        };
        self.applied.bytes = 0;
        let id = self.snapshots.write(&plan)?;
        let node = self.id;
        io.say(|| format!("node {node}: a snapshot of the metadata is made, {id:?}"));
        let retention = Retention {
            bytes: self.settings.snapshot_bytes * 2,
            ms: -1,
        };
        let changed = trim(&self.snapshots, &mut self.log, retention, now)?;
        self.try_drive(io, changed, Brought::Nothing)
    }

    fn install(&mut self, io: &mut Io<'_>, snapshot_id: SnapshotId) -> Result<Input, Fatal> {
        let now = self.now(io);
        let (image, applied) = (&mut self.image, &mut self.applied);
        let (installed, input) = install_snapshot(
            &self.snapshots,
            &mut self.log,
            image,
            applied,
            snapshot_id,
            now,
        )?;
        let node = self.id;
        io.say(|| format!("node {node}: the metadata begins anew with snapshot {snapshot_id:?}"));
        match installed {
            Ok(delta) => {
                self.flush_metadata(io);
                self.publish(io, &delta);
            }
            Err(error) => io.oracle.wrong(format!("a snapshot came damaged: {error}")),
        }
        Ok(input)
    }

    fn lead(&mut self, io: &mut Io<'_>) -> Result<(), Fatal> {
        let id = self.id;
        let leader_epoch = self.quorum.leader_epoch();
        io.say(|| format!("node {id}: is the active controller in epoch {leader_epoch}"));
        let restored = Restored {
            image: self.image.clone(),
            end_offset: self.quorum.log_end_offset(),
        };
        let mut config = controller_config(&self.settings, io);
        config.controllers = self.quorum.voters().keys().map(|voter| voter.id).collect();
        self.controller = Some(Controller::new(self.now(io), config, restored));
        let level = self.quorum.kraft_version();
        self.try_controller(io, ControllerInput::KRaftVersion { level })?;
        if self.image.features().is_empty() {
            let request_id = self.id();
            let request = ControllerRequest::Bootstrap(bootstrap_records(MetadataVersion::LATEST));
            let input = ControllerInput::Request {
                request_id,
                request,
            };
            self.try_controller(io, input)?;
        }
        Ok(())
    }

    pub(super) fn controller_asked(
        &mut self,
        io: &mut Io<'_>,
        asker: (Place, u64),
        request: ControllerRequest,
    ) {
        if self.controller.is_none() {
            return self.answer(io, asker, Response::NotController);
        }
        let request_id = self.id();
        self.waiting.insert(request_id, asker);
        let input = ControllerInput::Request {
            request_id,
            request,
        };
        self.controller_input(io, input);
        self.arm_machines(io);
    }

    fn controller_input(&mut self, io: &mut Io<'_>, input: ControllerInput) {
        if let Err(error) = self.try_controller(io, input) {
            self.fail(error);
        }
    }

    fn try_controller(&mut self, io: &mut Io<'_>, input: ControllerInput) -> Result<(), Fatal> {
        let now = self.now(io);
        let Some(controller) = &mut self.controller else {
            return Ok(());
        };
        let mut effects = Vec::new();
        controller.handle(now, input, &mut effects);
        for effect in effects {
            if self.controller.is_none() {
                break;
            }
            match effect {
                ControllerEffect::Append {
                    base_offset,
                    records,
                } => {
                    let end = self.quorum.log_end_offset();
                    if base_offset != end {
                        io.oracle.wrong(format!(
                            "the controller's batch is to begin at {base_offset}, its log ends at {end}"
                        ));
                    }
                    let controller = self.controller.as_ref().map(Controller::image);
                    let version = controller.unwrap_or(&self.image).metadata_version();
                    let batch = batch_of(&records, version, now.timestamp)?;
                    let epoch = self.quorum.leader_epoch();
                    let appended = self.log.append_as_leader(&batch, epoch, now.timestamp);
                    let appended = Appended {
                        end: appended.map_err(text)?.end.offset,
                        epochs: Vec::new(),
                        control_records: Vec::new(),
                    };
                    self.flush_metadata(io);
                    self.try_drive(io, Input::Appended(appended), Brought::Nothing)?;
                }
                ControllerEffect::Reply {
                    request_id,
                    response,
                } => {
                    if let Some(asker) = self.waiting.remove(&request_id) {
                        self.answer(io, asker, Response::Controller(response));
                    }
                }
                other => return Err(format!("the controller wants what is not known: {other:?}")),
            }
        }
        Ok(())
    }

    fn resign(&mut self, io: &mut Io<'_>) {
        self.controller = None;
        for (_, asker) in std::mem::take(&mut self.waiting) {
            self.answer(io, asker, Response::NotController);
        }
    }

    /// The leader of the quorum, as far as this node knows.
    pub(super) fn controller_place(&self) -> Option<Place> {
        let leader = self.quorum.leader_and_epoch().leader_id;
        leader.map(|leader| leader.value())
    }

    /// What everybody knows is published, once this node is registered.
    pub(super) fn publish_everything(&mut self, io: &mut Io<'_>) {
        let delta = everything(&self.image);
        self.publish_delta(io, &delta);
    }

    pub(crate) const fn metadata_offset(&self) -> Offset {
        self.applied.offset
    }
}

fn controller_config(settings: &Settings, io: &mut Io<'_>) -> ControllerConfig {
    let mut config = ControllerConfig::new(
        BrokerConfig::clone(&settings.broker),
        Str::from_static(CLUSTER_ID),
        io.random.bytes32(),
    );
    config.idle_interval = Some(std::time::Duration::from_secs(2));
    config
}
