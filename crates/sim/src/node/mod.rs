//! A node: the machines with their logs on a simulated disk, and what the broker's shell does around them.

mod clients;
mod groups;
mod member;
mod metadata;
mod partitions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidelog_log::testing::FaultDir;
use tidelog_log::{Log, LogDirectory, PendingFlush};
use tidelog_metadata::controller::Controller;
use tidelog_metadata::image::Image;
use tidelog_node::metadata::{Applied, Snapshots};
use tidelog_record::Batch;
use tidelog_replication::partition::{AlterPartition, FetchState};
use tidelog_replication::quorum::Quorum;
use tidelog_types::{LeaderEpoch, NodeId, Offset, Uuid};

use self::clients::Produced;
use self::groups::Coordinators;
use self::member::{Stage, Stopping};
pub(crate) use self::metadata::voter;
pub(crate) use self::partitions::Local;
use self::partitions::Parked;
use crate::clock::{Clock, MS, SECOND, Time};
use crate::event::{DiskWork, Event, Timer};
use crate::io::Io;
use crate::message::{Message, Partition, Request, Response};
use crate::network::Place;
use crate::settings::Settings;

/// How long an answer may take.
const PATIENCE: Time = 2 * SECOND;

/// A machine with a disk, on which a process may run.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: FaultDir,
    pub(crate) clock: Clock,
    /// What the checkpoint files of the partitions say.
    checkpoints: BTreeMap<Partition, Checkpoint>,
    /// How often it was started.
    pub(crate) life: u32,
    pub(crate) process: Option<Box<Process>>,
    pub(crate) paused: bool,
    /// What happened to it while it was paused.
    pub(crate) deferred: Vec<Event>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Checkpoint {
    log_start: Offset,
    recovery_point: Offset,
    high_watermark: Offset,
    /// Whether the log was closed in order, and not used since.
    clean: bool,
}

/// What a start of a node has in memory.
pub(crate) struct Process {
    id: NodeId,
    life: u32,
    clock: Clock,
    settings: Arc<Settings>,
    files: Arc<LogDirectory>,
    directory_id: Uuid,
    checkpoints: BTreeMap<Partition, Checkpoint>,
    checkpoints_changed: bool,

    pub(crate) quorum: Quorum,
    log: Log,
    snapshots: Snapshots,
    pub(crate) image: Image,
    applied: Applied,
    metadata_flush: Option<PendingFlush>,
    committed: Option<Offset>,
    control_records_end: Option<Offset>,
    leads: Option<LeaderEpoch>,
    pub(crate) controller: Option<Controller>,
    /// Requests that the quorum has not answered.
    asked: BTreeMap<u64, (Place, u64)>,
    /// Requests that the controller has not answered.
    waiting: BTreeMap<u64, (Place, u64)>,

    stage: Stage,
    stopping: Stopping,
    member_seed: u64,
    changes: Vec<(Partition, AlterPartition)>,
    changes_in_flight: bool,

    pub(crate) partitions: BTreeMap<Partition, Local>,
    fetching: BTreeSet<Partition>,
    parked: BTreeMap<u64, Parked>,
    /// Producers that wait for an append.
    producers: BTreeMap<u64, Produced>,
    coordinators: Coordinators,

    /// What this node has asked of others.
    pending: BTreeMap<u64, (Place, Context)>,
    timers: BTreeMap<Timer, Time>,
    next_id: u64,
    /// Until when the disk does nothing.
    pub(crate) stalled_until: Time,
    /// What the disk had done, and has not said since.
    pub(crate) disk_done: VecDeque<DiskWork>,
    /// Why the process ends.
    pub(crate) failure: Option<String>,
}

/// Why something was asked.
#[derive(Clone, Debug)]
enum Context {
    Quorum(u64),
    Register,
    Heartbeat,
    Forget,
    Changes(Vec<(Partition, AlterPartition)>),
    Fetch(Vec<(Partition, FetchState)>),
    Offsets(Partition, LeaderEpoch),
}

impl Node {
    pub(crate) fn new(id: NodeId, clock: Clock) -> Self {
        Self {
            id,
            disk: FaultDir::new(),
            clock,
            checkpoints: BTreeMap::new(),
            life: 0,
            process: None,
            paused: false,
            deferred: Vec::new(),
        }
    }

    /// Starts a process, which finds what is on the disk.
    pub(crate) fn start(
        &mut self,
        settings: &Arc<Settings>,
        io: &mut Io<'_>,
    ) -> Result<(), String> {
        self.life += 1;
        let mut process = Process::open(self, settings, io)?;
        process.run(io);
        self.process = Some(Box::new(process));
        Ok(())
    }

    /// What the process has written down in its checkpoints is on the disk.
    pub(crate) fn keep_checkpoints(&mut self) {
        if let Some(process) = &mut self.process
            && std::mem::take(&mut process.checkpoints_changed)
        {
            self.checkpoints.clone_from(&process.checkpoints);
        }
    }
}

impl Process {
    fn now(&self, io: &Io<'_>) -> tidelog_types::Now {
        self.clock.now(io.now)
    }

    const fn place(&self) -> Place {
        self.id.value()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Has `timer` come at `at`, or sooner if that was said before.
    fn arm(&mut self, io: &mut Io<'_>, timer: Timer, at: Time) {
        if self.timers.get(&timer).is_some_and(|armed| *armed <= at) {
            return;
        }
        self.timers.insert(timer, at);
        let event = Event::Timer {
            node: self.id,
            life: self.life,
            timer,
        };
        io.queue.push(at.max(io.now + 1), event);
    }

    fn arm_in(&mut self, io: &mut Io<'_>, timer: Timer, after: Time) {
        self.arm(io, timer, io.now + after);
    }

    /// The disk works through what it is given in order.
    fn disk(&self, io: &mut Io<'_>, work: DiskWork) {
        let event = Event::Disk {
            node: self.id,
            life: self.life,
            work,
        };
        let latency = io.random.between(MS / 5, 2 * MS);
        io.queue.push(io.now + latency, event);
    }

    fn ask(&mut self, io: &mut Io<'_>, to: Place, request: Request, context: Context) {
        let id = self.id();
        self.pending.insert(id, (to, context));
        self.arm_in(io, Timer::Patience(id), PATIENCE);
        io.send(self.place(), to, Message::Request { id, request });
    }

    pub(crate) fn timer(&mut self, io: &mut Io<'_>, timer: Timer) {
        // A timer that was set anew for an earlier time comes twice, and is due once.
        match self.timers.get(&timer) {
            Some(at) if *at <= io.now => drop(self.timers.remove(&timer)),
            _ => return,
        }
        match timer {
            Timer::Quorum => self.quorum_due(io),
            Timer::Controller => self.controller_due(io),
            Timer::Member => self.member_due(io),
            Timer::Partition(partition) => self.partition_due(io, partition),
            Timer::Parked(id) => self.unpark(io, id),
            Timer::Patience(id) => self.failed(io, id),
            Timer::Changes => self.send_changes(io),
            Timer::Checkpoint => self.checkpoint_due(io),
            Timer::Kick(leader) => self.kick(io, leader),
            Timer::Stop => self.stop(io),
            Timer::LoadGroups(index) => self.load_groups(io, index),
            Timer::Groups(index) => self.groups_due(io, index),
        }
    }

    /// Tells of what the disk has done, or looks again when its halt is over.
    pub(crate) fn disk_goes_on(&mut self, io: &mut Io<'_>) {
        if self.stalled_until > io.now {
            let (node, life) = (self.id, self.life);
            io.queue
                .push(self.stalled_until, Event::DiskGoesOn { node, life });
            return;
        }
        while let Some(work) = self.disk_done.pop_front() {
            match work {
                DiskWork::Flush(partition) => self.flushed(io, partition),
                DiskWork::FlushMetadata => self.metadata_flushed(io),
                DiskWork::QuorumState(state) => self.quorum_state_stored(io, state),
            }
        }
    }

    pub(crate) fn message(&mut self, io: &mut Io<'_>, from: Place, message: Message) {
        match message {
            Message::Request { id, request } => self.request(io, from, id, request),
            Message::Response { id, response } => self.response(io, id, response),
            Message::Closed { id } => self.failed(io, id),
        }
    }

    fn request(&mut self, io: &mut Io<'_>, from: Place, id: u64, request: Request) {
        match request {
            Request::Quorum(request) => self.quorum_asked(io, (from, id), request),
            Request::Controller(request) => self.controller_asked(io, (from, id), request),
            Request::Fetch {
                broker_epoch,
                partitions,
            } => self.fetch_asked(io, (from, id), broker_epoch, partitions),
            Request::Offsets(partition, leader_epoch) => {
                let answer = self.offsets(partition, leader_epoch);
                self.answer(io, (from, id), Response::Offsets(answer));
            }
            Request::Produce(partition, batch, acks) => {
                self.produce(io, (from, id), partition, &batch, acks);
            }
            Request::DeleteRecords(partition) => self.delete_records(io, partition),
            Request::Records(partition, offset) => {
                let records = self.records(partition, offset);
                self.answer(io, (from, id), Response::Records(records));
            }
            Request::Group(version, request) => {
                self.group_asked(io, (from, id), version, *request);
            }
            Request::Metadata => {
                let response = self.leaders();
                self.answer(io, (from, id), response);
            }
        }
    }

    fn answer(&self, io: &mut Io<'_>, (to, id): (Place, u64), response: Response) {
        io.send(self.place(), to, Message::Response { id, response });
    }

    fn response(&mut self, io: &mut Io<'_>, id: u64, response: Response) {
        self.timers.remove(&Timer::Patience(id));
        let Some((_, context)) = self.pending.remove(&id) else {
            // It was given up.
            return;
        };
        match (context, response) {
            (Context::Quorum(request_id), Response::Quorum(response, bytes)) => {
                self.quorum_answered(io, request_id, response, bytes);
            }
            (Context::Fetch(asked), Response::Fetch(answers)) => {
                self.fetch_answered(io, &asked, answers);
            }
            (Context::Offsets(partition, leader_epoch), Response::Offsets(answer)) => {
                self.offsets_answered(io, partition, leader_epoch, answer);
            }
            (context, Response::Controller(response)) => {
                self.controller_answered(io, context, Some(response));
            }
            (context, _) => self.controller_answered(io, context, None),
        }
    }

    /// A request brought no answer.
    fn failed(&mut self, io: &mut Io<'_>, id: u64) {
        self.timers.remove(&Timer::Patience(id));
        let Some((_, context)) = self.pending.remove(&id) else {
            return;
        };
        match context {
            Context::Quorum(request_id) => self.quorum_unanswered(io, request_id),
            Context::Fetch(asked) => self.fetch_unanswered(io, &asked),
            Context::Offsets(partition, leader_epoch) => {
                let error = Err(tidelog_types::ErrorCode::NETWORK_EXCEPTION);
                self.offsets_answered(io, partition, leader_epoch, error);
            }
            context => self.controller_answered(io, context, None),
        }
    }

    /// The requests to `other` that wait, which a broken connection ends.
    pub(crate) fn pending_with(&self, other: Place) -> Vec<u64> {
        let pending = self.pending.iter();
        pending
            .filter(|(_, (to, _))| *to == other)
            .map(|(id, _)| *id)
            .collect()
    }

    fn fail(&mut self, why: impl Into<String>) {
        self.failure.get_or_insert_with(|| why.into());
    }
}

/// Whole batches, checked.
fn batches(mut bytes: bytes::Bytes) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Ok(Some(batch)) = Batch::split_from(&mut bytes) {
        if batch.verify_crc().is_err() {
            break;
        }
        batches.push(batch);
    }
    batches
}

/// Inputs that wait for the machine.
type Inputs = VecDeque<tidelog_replication::quorum::Input>;
