//! Consumers of a group: the client's real members, and around them a plain application that reads, and commits what it has read.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidelog_client::machines::{
    AnyMember, Assignor, ClassicConfig, ClassicMember, Config, Effect, Input, Member, Subscription,
    messages,
};
use tidelog_client::{ConsumerConfig, GroupProtocol};
use tidelog_coordinator::group::{GroupRequest, partition_for};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use tidelog_types::{ErrorCode, GroupId, NodeId, Offset, Str, TopicName, TopicPartition};

use crate::check::commit_tag;
use crate::clock::{Clock, MS, SECOND, Time};
use crate::event::Event;
use crate::io::Io;
use crate::message::{Message, Partition, Request};
use crate::network::{CONSUMERS, Place};

/// The group.
const GROUP: GroupId = GroupId::from_static("simulated");
/// How long an answer may take.
const PATIENCE: Time = 2 * SECOND;
/// How long it may take where the coordinator waits for others.
const PATIENCE_FOR_OTHERS: Time = 8 * SECOND;
/// How often the application looks what there is to do.
const TICK: Time = 100 * MS;
const COMMIT_INTERVAL: Time = 400 * MS;
const METADATA_INTERVAL: Time = 1500 * MS;
/// The versions in which requests go out.
const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_VERSION: i16 = 5;
const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 9;
const CONSUMER_HEARTBEAT_VERSION: i16 = 1;

/// How the members of the group divide partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// KIP-848.
    Consumer,
    Classic(Assignor),
}

/// A machine on which a consumer may run.
pub(crate) struct Consumer {
    index: usize,
    protocol: Protocol,
    topic: TopicName,
    nodes: i32,
    clock: Clock,
    pub(crate) life: u32,
    pub(crate) paused: bool,
    /// What happened to it while it was paused.
    pub(crate) deferred: Vec<Event>,
    running: Option<Box<Running>>,
}

/// A process with a consumer.
struct Running {
    config: ConsumerConfig,
    member: AnyMember,
    reads: BTreeMap<i32, Reading>,
    demand: Option<Demand>,
    known: BTreeMap<(TopicName, i32), (Partition, Option<NodeId>)>,
    asked_metadata_at: Option<Time>,
    is_outdated: bool,
    counts: BTreeSet<TopicName>,
    /// What is to be said once it is known to whom.
    unsent: Vec<(Time, What, i16, GroupRequest)>,
    pending: BTreeMap<u64, Pending>,
    next_id: u64,
    commit_at: Time,
    is_leaving: bool,
    refused_with: Option<ErrorCode>,
}

/// A partition that the consumer owns.
#[derive(Default)]
struct Reading {
    position: Option<Offset>,
    committed: Option<Offset>,
    is_asked: bool,
    fetch: Option<u64>,
    /// It is to be given up.
    stopped: bool,
}

/// Partitions that the member is to give up.
struct Demand {
    number: u64,
    partitions: Vec<TopicPartition>,
    /// When the application comes to it.
    at: Time,
    has_committed: bool,
}

struct Pending {
    what: What,
    to: Place,
    until: Time,
}

/// What an answer is for.
#[derive(Clone, Debug)]
enum What {
    Member(u64),
    Committed(Vec<i32>),
    Commit(BTreeMap<i32, (Offset, u64)>),
    Fetch(i32),
    Metadata,
}

impl Consumer {
    pub(crate) const fn new(
        index: usize,
        protocol: Protocol,
        topic: TopicName,
        nodes: i32,
        clock: Clock,
    ) -> Self {
        Self {
            index,
            protocol,
            topic,
            nodes,
            clock,
            life: 0,
            paused: false,
            deferred: Vec::new(),
            running: None,
        }
    }

    pub(crate) const fn place(&self) -> Place {
        CONSUMERS + self.index as Place
    }

    /// Starts a process that is a new member, unless there is one. One that leaves stays after all.
    pub(crate) fn start(&mut self, io: &mut Io<'_>) {
        if let Some(running) = &mut self.running {
            running.is_leaving = false;
            let input = self.subscribe();
            return self.input(io, input);
        }
        self.life += 1;
        let (index, life) = (self.index, self.life);
        io.say(|| format!("consumer {index}: starts"));
        let config = config(self.protocol);
        let member = member(self.protocol, &config, self.clock.now(io.now), io);
        self.running = Some(Box::new(Running {
            config,
            member,
            reads: BTreeMap::new(),
            demand: None,
            known: BTreeMap::new(),
            asked_metadata_at: None,
            is_outdated: true,
            counts: BTreeSet::new(),
            unsent: Vec::new(),
            pending: BTreeMap::new(),
            next_id: u64::from(life) << 32,
            commit_at: 0,
            is_leaving: false,
            refused_with: None,
        }));
        let input = self.subscribe();
        self.input(io, input);
        io.queue
            .push(io.now + TICK, Event::Consumer { index, life });
    }

    fn subscribe(&self) -> Input {
        let subscription = Subscription {
            topics: vec![self.topic.clone()],
            regex: None,
        };
        Input::Subscribe { subscription }
    }

    /// The process is gone, and nobody says so.
    pub(crate) fn kill(&mut self, io: &mut Io<'_>) {
        self.running = None;
        self.paused = false;
        self.deferred.clear();
        io.oracle.groups.gone(self.index);
    }

    /// The application wants out.
    pub(crate) fn leave(&mut self, io: &mut Io<'_>) {
        if let Some(running) = &mut self.running {
            running.is_leaving = true;
            self.input(io, Input::Leave);
        }
    }

    /// Hands an input to the member, and carries out what it wants.
    fn input(&mut self, io: &mut Io<'_>, input: Input) {
        let mut inputs = vec![input];
        let mut effects = Vec::new();
        let now = self.clock.now(io.now);
        while let Some(input) = inputs.pop() {
            let Some(running) = &mut self.running else {
                return;
            };
            running.member.handle(now, input, &mut effects);
            let identity = running.member.identity();
            io.oracle.groups.believes(self.index, identity);
            for effect in effects.drain(..) {
                self.carry_out(io, effect);
            }
        }
    }

    fn carry_out(&mut self, io: &mut Io<'_>, effect: Effect) {
        let index = self.index;
        let Some(running) = &mut self.running else {
            return;
        };
        match effect {
            Effect::Count { topics } => {
                running.counts = topics;
                running.is_outdated = true;
            }
            Effect::Name { .. } => running.is_outdated = true,
            Effect::Revoke { demand, partitions } => {
                io.say(|| format!("consumer {index}: is to give up {partitions:?}"));
                for partition in &partitions {
                    if let Some(reading) = running.reads.get_mut(&partition.partition) {
                        reading.stopped = true;
                    }
                }
                let takes = match io.random.one_in(3) {
                    true => io.random.below(SECOND),
                    false => 0,
                };
                running.demand = Some(Demand {
                    number: demand,
                    partitions,
                    at: io.now + takes,
                    has_committed: false,
                });
            }
            Effect::Assign { partitions } => {
                let identity = running.member.identity();
                io.say(|| format!("consumer {index}: takes {partitions:?} as {identity:?}"));
                for partition in partitions {
                    let partition = partition.partition;
                    running.reads.insert(partition, Reading::default());
                    let taken = io.oracle.groups.takes(index, partition);
                    io.oracle.check(taken);
                }
            }
            Effect::Lose { partitions } => {
                io.say(|| format!("consumer {index}: has lost {partitions:?}"));
                running.demand = None;
                for partition in partitions {
                    running.reads.remove(&partition.partition);
                    io.oracle.groups.gives_up(index, partition.partition);
                }
            }
            Effect::Left => {
                if running.is_leaving {
                    io.say(|| format!("consumer {index}: has left"));
                    self.kill(io);
                }
            }
            Effect::Fail {
                error_code,
                message,
            } => io.oracle.wrong(format!(
                "consumer {index} cannot be a member: {error_code}, {message:?}"
            )),
            effect => self.say(io, effect),
        }
    }

    /// What a member wants to say goes to the coordinator.
    fn say(&mut self, io: &mut Io<'_>, effect: Effect) {
        let Some(running) = &mut self.running else {
            return;
        };
        let config = &running.config;
        let (request, version, message) = match effect {
            Effect::Heartbeat { request, heartbeat } => {
                let heartbeat = messages::heartbeat(config, heartbeat);
                let message = GroupRequest::ConsumerGroupHeartbeat(heartbeat);
                (request, CONSUMER_HEARTBEAT_VERSION, message)
            }
            Effect::Join { request, join } => {
                let join = messages::join(config, &join).expect("a subscription that is short");
                (request, JOIN_VERSION, GroupRequest::JoinGroup(join))
            }
            Effect::Sync {
                request,
                generation_id,
                member_id,
                assignor,
                assignments,
            } => {
                let sync = messages::sync(config, generation_id, member_id, assignor, assignments);
                let sync = sync.expect("assignments that are short");
                (request, SYNC_VERSION, GroupRequest::SyncGroup(sync))
            }
            Effect::Beat {
                request,
                generation_id,
                member_id,
            } => {
                let beat = messages::beat(config, generation_id, member_id);
                (request, HEARTBEAT_VERSION, GroupRequest::Heartbeat(beat))
            }
            Effect::Leave { request, member_id } => {
                let leave = messages::leave(config, member_id, LEAVE_VERSION);
                (request, LEAVE_VERSION, GroupRequest::LeaveGroup(leave))
            }
            other => unreachable!("{other:?} is nothing to be said"),
        };
        self.tell(io, What::Member(request), version, message);
    }

    /// Sends a request to the coordinator, once it is known.
    fn tell(&mut self, io: &mut Io<'_>, what: What, version: i16, request: GroupRequest) {
        let Some(running) = &mut self.running else {
            return;
        };
        match running.coordinator() {
            Some(to) => {
                let patience = match request {
                    GroupRequest::JoinGroup(_) | GroupRequest::SyncGroup(_) => PATIENCE_FOR_OTHERS,
                    _ => PATIENCE,
                };
                let request = Request::Group(version, Box::new(request));
                self.ask(io, to.value(), what, patience, request);
            }
            None => {
                running.is_outdated = true;
                let until = io.now + PATIENCE;
                running.unsent.push((until, what, version, request));
            }
        }
    }

    fn ask(&mut self, io: &mut Io<'_>, to: Place, what: What, patience: Time, request: Request) {
        let place = self.place();
        if let Some(running) = &mut self.running {
            running.next_id += 1;
            let id = running.next_id;
            let until = io.now + patience;
            running.pending.insert(id, Pending { what, to, until });
            io.send(place, to, Message::Request { id, request });
        }
    }

    /// The application looks what there is to do.
    pub(crate) fn tick(&mut self, io: &mut Io<'_>, life: u32) {
        if self.life != life || self.running.is_none() {
            return;
        }
        let index = self.index;
        let next = io.now + io.random.between(TICK / 2, TICK * 3 / 2);
        io.queue.push(next, Event::Consumer { index, life });
        self.lose_patience(io);
        self.ask_metadata(io);
        self.input(io, Input::Polled);
        let now = self.clock.now(io.now).instant;
        let is_due = |running: &mut Box<Running>| {
            let deadline = running.member.deadline();
            deadline.is_some_and(|deadline| deadline <= now)
        };
        if self.running.as_mut().is_some_and(is_due) {
            self.input(io, Input::Timeout);
        }
        self.find_positions(io);
        self.fetch(io);
        self.commit(io);
        self.give_up(io);
    }

    fn lose_patience(&mut self, io: &mut Io<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        let pending = running.pending.iter();
        let late = pending.filter(|(_, pending)| pending.until <= io.now);
        let late: Vec<_> = late.map(|(id, _)| *id).collect();
        let unsent = std::mem::take(&mut running.unsent);
        let (late_unsent, unsent) = unsent.into_iter().partition(|(until, ..)| *until <= io.now);
        running.unsent = unsent;
        for (_, what, ..) in late_unsent {
            self.lost(io, what);
        }
        for id in late {
            self.failed(io, id);
        }
    }

    /// A request brought no answer.
    fn failed(&mut self, io: &mut Io<'_>, id: u64) {
        let running = self.running.as_mut();
        if let Some(pending) = running.and_then(|running| running.pending.remove(&id)) {
            self.lost(io, pending.what);
        }
    }

    fn lost(&mut self, io: &mut Io<'_>, what: What) {
        let Some(running) = &mut self.running else {
            return;
        };
        running.is_outdated = true;
        match what {
            What::Member(request) => self.input(io, Input::Lost { request }),
            What::Committed(partitions) => {
                for partition in partitions {
                    if let Some(reading) = running.reads.get_mut(&partition) {
                        reading.is_asked = false;
                    }
                }
            }
            What::Fetch(partition) => {
                if let Some(reading) = running.reads.get_mut(&partition) {
                    reading.fetch = None;
                }
            }
            What::Commit(_) | What::Metadata => {}
        }
    }

    /// Nobody answers any more who was asked there.
    pub(crate) fn look_again(&mut self, io: &mut Io<'_>, node: Place) {
        let Some(running) = &mut self.running else {
            return;
        };
        let pending = running.pending.iter();
        let gone = pending.filter(|(_, pending)| pending.to == node);
        let gone: Vec<_> = gone.map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.failed(io, id));
    }

    fn ask_metadata(&mut self, io: &mut Io<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        let mut pending = running.pending.values();
        let is_asked = pending.any(|it| matches!(it.what, What::Metadata));
        let is_old = running
            .asked_metadata_at
            .is_none_or(|at| io.now >= at + METADATA_INTERVAL);
        if !is_asked && (running.is_outdated || is_old) {
            running.asked_metadata_at = Some(io.now);
            let node = io.random.between(1, self.nodes as u64 + 1) as Place;
            self.ask(io, node, What::Metadata, PATIENCE, Request::Metadata);
        }
    }

    /// Asks where to begin with what is new.
    fn find_positions(&mut self, io: &mut Io<'_>) {
        let topic = self.topic.clone();
        let Some(running) = &mut self.running else {
            return;
        };
        let reads = running.reads.iter_mut();
        let wanted = reads.filter(|(_, reading)| {
            reading.position.is_none() && !reading.is_asked && !reading.stopped
        });
        let wanted = wanted.map(|(index, reading)| {
            reading.is_asked = true;
            *index
        });
        let partition_indexes: Vec<_> = wanted.collect();
        if partition_indexes.is_empty() {
            return;
        }
        let group = OffsetFetchRequestGroup {
            group_id: GROUP,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic,
                partition_indexes: partition_indexes.clone(),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let request = GroupRequest::OffsetFetch {
            group,
            require_stable: false,
        };
        self.tell(
            io,
            What::Committed(partition_indexes),
            FETCH_VERSION,
            request,
        );
    }

    fn fetch(&mut self, io: &mut Io<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        let mut asks = Vec::new();
        for (index, reading) in &running.reads {
            let known = running.known.get(&(self.topic.clone(), *index));
            match (known, reading.position) {
                (Some((partition, Some(leader))), Some(position))
                    if reading.fetch.is_none() && !reading.stopped =>
                {
                    asks.push((*index, *partition, *leader, position));
                }
                (Some((_, Some(_))), _) => {}
                _ => running.is_outdated = true,
            }
        }
        for (index, partition, leader, position) in asks {
            let request = Request::Records(partition, position);
            self.ask(io, leader.value(), What::Fetch(index), PATIENCE, request);
            if let Some(running) = &mut self.running {
                let id = running.next_id;
                running.reads.entry(index).or_default().fetch = Some(id);
            }
        }
    }

    /// Commits what was read since.
    fn commit(&mut self, io: &mut Io<'_>) {
        let Some(running) = &mut self.running else {
            return;
        };
        let is_waiting = running.is_committing();
        let gives_up = running
            .demand
            .as_ref()
            .is_some_and(|demand| !demand.has_committed && demand.at <= io.now);
        if is_waiting || (io.now < running.commit_at && !gives_up) {
            return;
        }
        running.commit_at = io.now + COMMIT_INTERVAL;
        let reads = running.reads.iter();
        let news = reads.filter_map(|(index, reading)| {
            let position = reading.position?;
            (reading.committed != Some(position)).then_some((*index, position))
        });
        let news: Vec<_> = news.collect();
        if let Some(demand) = running.demand.as_mut().filter(|_| gives_up) {
            demand.has_committed = true;
        }
        let (Some((member_id, epoch)), false) = (running.member.identity(), news.is_empty()) else {
            return;
        };
        let mut commits = BTreeMap::new();
        let partitions = news.into_iter().map(|(index, offset)| {
            let number = io.oracle.groups.number();
            commits.insert(index, (offset, number));
            OffsetCommitRequestPartition {
                partition_index: index,
                committed_offset: offset,
                committed_metadata: Some(Str::from(commit_tag(&member_id, epoch, number))),
                ..Default::default()
            }
        });
        let partitions = partitions.collect();
        let request = OffsetCommitRequest {
            group_id: GROUP,
            generation_id_or_member_epoch: epoch,
            member_id,
            topics: vec![OffsetCommitRequestTopic {
                name: self.topic.clone(),
                partitions,
                ..Default::default()
            }],
            ..Default::default()
        };
        let request = GroupRequest::OffsetCommit(request);
        self.tell(io, What::Commit(commits), COMMIT_VERSION, request);
    }

    /// Gives up what is to be given up, once that was committed or cannot be.
    fn give_up(&mut self, io: &mut Io<'_>) {
        let index = self.index;
        let Some(running) = &mut self.running else {
            return;
        };
        let is_committing = running.is_committing();
        let done = |demand: &mut Demand| demand.has_committed && !is_committing;
        let Some(demand) = running.demand.take_if(done) else {
            return;
        };
        let is_wanted = running.member.demand();
        if is_wanted.is_none_or(|(number, _)| number != demand.number) {
            return;
        }
        for partition in &demand.partitions {
            running.reads.remove(&partition.partition);
            io.oracle.groups.gives_up(index, partition.partition);
        }
        let demand = demand.number;
        self.input(io, Input::Revoked { demand });
    }

    /// The partitions that it reads.
    pub(crate) fn owned(&self) -> impl Iterator<Item = i32> + '_ {
        let reads = self.running.iter().flat_map(|running| &running.reads);
        reads
            .filter(|(_, reading)| !reading.stopped)
            .map(|(index, _)| *index)
    }

    /// What it has to say when it should be done, and is not.
    pub(crate) fn status(&self) -> String {
        match &self.running {
            None => format!("consumer {} does not run", self.index),
            Some(running) => format!(
                "consumer {} is {:?} and was refused with {:?}",
                self.index,
                running.member.identity(),
                running.refused_with
            ),
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl Running {
    fn coordinator(&self) -> Option<NodeId> {
        let first = (TopicName::CONSUMER_OFFSETS, 0);
        let all = self.known.range(first..);
        let count = all.take_while(|((name, _), _)| *name == TopicName::CONSUMER_OFFSETS);
        let count = count.count() as i32;
        let index = partition_for(&GROUP, count);
        let known = self.known.get(&(TopicName::CONSUMER_OFFSETS, index));
        known.and_then(|(_, leader)| *leader)
    }

    fn is_committing(&self) -> bool {
        let mut pending = self.pending.values();
        let unsent = self.unsent.iter().map(|(_, what, ..)| what);
        pending.any(|it| matches!(it.what, What::Commit(_)))
            || unsent
                .into_iter()
                .any(|what| matches!(what, What::Commit(_)))
    }
}

fn config(protocol: Protocol) -> ConsumerConfig {
    let mut config = ConsumerConfig::default();
    config.group_id = Some(GROUP);
    config.session_timeout = Duration::from_secs(3);
    config.heartbeat_interval = Duration::from_millis(500);
    config.poll_interval_max = Duration::from_secs(4);
    match protocol {
        Protocol::Consumer => config.group_protocol = GroupProtocol::Consumer,
        Protocol::Classic(assignor) => {
            config.group_protocol = GroupProtocol::Classic;
            config.assignors = vec![assignor];
        }
    }
    config
}

fn member(
    protocol: Protocol,
    config: &ConsumerConfig,
    now: tidelog_types::Now,
    io: &mut Io<'_>,
) -> AnyMember {
    let retry_backoff = Duration::from_millis(50);
    let retry_backoff_max = Duration::from_millis(500);
    let poll_interval_max = config.poll_interval_max;
    let seed = io.random.next();
    match protocol {
        Protocol::Consumer => {
            let config = Config {
                member_id: Str::from(format!("member-{seed:016x}")),
                is_static: false,
                poll_interval_max,
                retry_backoff,
                retry_backoff_max,
                seed,
            };
            AnyMember::Consumer(Box::new(Member::new(now, config)))
        }
        Protocol::Classic(assignor) => {
            let config = ClassicConfig {
                is_static: false,
                is_cooperative: assignor == Assignor::CooperativeSticky,
                heartbeat_interval: config.heartbeat_interval,
                poll_interval_max,
                retry_backoff,
                retry_backoff_max,
                seed,
            };
            AnyMember::Classic(Box::new(ClassicMember::new(now, config)))
        }
    }
}
