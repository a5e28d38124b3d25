//! A cluster with its clients, and the loop that lets time pass.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidelog_log::testing::Crash;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use tidelog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::elect_leaders::ElectLeadersRequest;
use tidelog_replication::quorum::Voter;
use tidelog_replication::quorum::message::{
    self as quorum, AddRaftVoterRequest, RemoveRaftVoterRequest, UpdateRaftVoterRequest,
};
use tidelog_types::{LeaderEpoch, NodeId, Offset, TopicName};

use crate::check::Oracle;
use crate::client::Producer;
use crate::clock::{Clock, MS, SECOND, Time};
use crate::consumer::Consumer;
use crate::event::{Event, Queue};
use crate::io::{Io, Trace};
use crate::message::{Message, Partition, Request, Response};
use crate::network::{CLIENTS, CONSUMERS, Network, Place};
use crate::node::{Node, voter};
use crate::plan::{Fault, Plan};
use crate::planted::Bug;
use crate::random::Random;
use crate::settings::Settings;

/// The administrator, who is a client too.
const ADMIN: Place = CLIENTS - 1;
/// How long a cluster may take to come right when nothing goes wrong any more.
const SETTLE_MAX: Time = 60 * SECOND;
const TOPIC: &str = "simulated";

/// What became of a cluster.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong, if anything is.
    pub wrong: Option<String>,
    /// A number that differs if anything of the run differs.
    pub hash: u64,
    /// How long the run was, in simulated nanoseconds.
    pub simulated_ns: u64,
    /// How many events there were.
    pub events_count: u64,
    /// How many batches were acknowledged.
    pub acknowledged_count: u64,
    /// How often each kind of fault happened.
    pub faults: BTreeMap<&'static str, u64>,
    /// What happened, if that was asked for.
    pub lines: Vec<String>,
}

/// Lets a cluster live, in words if they are wanted.
pub fn run(plan: &Plan, bug: Option<Bug>, in_words: bool) -> Outcome {
    World::new(plan.clone(), bug, in_words).live()
}

struct World {
    plan: Plan,
    settings: Arc<Settings>,
    bug: Option<Bug>,
    now: Time,
    random: Random,
    queue: Queue,
    network: Network,
    oracle: Oracle,
    trace: Trace,
    nodes: Vec<Node>,
    /// Nodes whose disk fails, until they are started anew.
    faulty: Vec<bool>,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    groups_created: bool,
    topic_created: bool,
    admin_id: u64,
    faults: BTreeMap<&'static str, u64>,
    is_calm: bool,
    settled: bool,
}

impl World {
    fn new(plan: Plan, bug: Option<Bug>, in_words: bool) -> Self {
        let mut random = Random::new(plan.seed);
        let base = Instant::now();
        let nodes = (1..=plan.nodes).map(|id| {
            let drift = random.between(0, 2_000) as i64 - 1_000;
            let skew = random.between(0, 7_200_000) as i64 - 3_600_000;
            Node::new(NodeId::new(id), Clock::new(base, drift, skew))
        });
        let nodes: Vec<_> = nodes.collect();
        let settings = Settings::new(plan.nodes, plan.voters, plan.dynamic, plan.snapshot_bytes);
        let producers = (0..plan.partitions).map(|index| {
            let topic = TopicName::from(TOPIC);
            Producer::new(index as usize, topic, index, plan.nodes, plan.interval)
        });
        let consumers = (0..plan.consumers).map(|index| {
            let drift = random.between(0, 2_000) as i64 - 1_000;
            let clock = Clock::new(base, drift, 0);
            Consumer::new(
                index,
                plan.protocol,
                TopicName::from(TOPIC),
                plan.nodes,
                clock,
            )
        });
        let consumers = consumers.collect();
        Self {
            settings: Arc::new(settings),
            bug,
            now: 0,
            random,
            queue: Queue::default(),
            network: Network::default(),
            oracle: Oracle::default(),
            trace: Trace::new(in_words),
            faulty: vec![false; nodes.len()],
            nodes,
            producers: producers.collect(),
            consumers,
            groups_created: false,
            topic_created: false,
            admin_id: 0,
            faults: BTreeMap::new(),
            is_calm: false,
            settled: false,
            plan,
        }
    }

    fn live(mut self) -> Outcome {
        for id in 1..=self.plan.nodes {
            let at = self.random.below(500 * MS);
            self.queue.push(at, Event::Restart(NodeId::new(id)));
        }
        for index in 0..self.producers.len() {
            self.queue.push(SECOND, Event::Client(index));
        }
        for (index, planned) in self.plan.faults.iter().enumerate() {
            self.queue.push(planned.at, Event::Fault(index));
        }
        self.queue.push(SECOND, Event::Look);
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.trace.events_count += 1;
            self.handle(event);
            if self.settled || self.oracle.verdict().is_some() {
                break;
            }
        }
        self.conclude()
    }

    fn conclude(mut self) -> Outcome {
        if let Some(wrong) = self.oracle.verdict().cloned() {
            self.trace.say(self.now, || format!("WRONG: {wrong}"));
        }
        Outcome {
            wrong: self.oracle.verdict().cloned(),
            hash: self.trace.hash(),
            simulated_ns: self.now,
            events_count: self.trace.events_count,
            acknowledged_count: self.oracle.acknowledged,
            faults: self.faults,
            lines: self.trace.into_lines(),
        }
    }

    /// The world as it looks to one node, and the node.
    fn at(&mut self, node: NodeId) -> (&mut Node, Io<'_>) {
        let index = (node.value() - 1) as usize;
        let io = Io {
            now: self.now,
            random: &mut self.random,
            queue: &mut self.queue,
            network: &mut self.network,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            bug: self.bug,
        };
        (&mut self.nodes[index], io)
    }

    fn at_producer(&mut self, index: usize) -> (&mut Producer, Io<'_>) {
        let io = Io {
            now: self.now,
            random: &mut self.random,
            queue: &mut self.queue,
            network: &mut self.network,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            bug: self.bug,
        };
        (&mut self.producers[index], io)
    }

    fn at_consumer(&mut self, index: usize) -> (&mut Consumer, Io<'_>) {
        let io = Io {
            now: self.now,
            random: &mut self.random,
            queue: &mut self.queue,
            network: &mut self.network,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            bug: self.bug,
        };
        (&mut self.consumers[index], io)
    }

    /// Hands an event to a consumer, unless it is paused.
    fn with_consumer(&mut self, index: usize, event: Event) {
        let (consumer, mut io) = self.at_consumer(index);
        if consumer.paused {
            return consumer.deferred.push(event);
        }
        match event {
            Event::Consumer { life, .. } => consumer.tick(&mut io, life),
            Event::Deliver { message, .. } => consumer.message(&mut io, message),
            _ => {}
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver {
                from,
                to,
                breaks,
                message,
            } => self.deliver(from, to, breaks, message),
            Event::Timer { node, life, timer } => {
                self.trace.mix(self.now ^ node.value() as u64);
                self.with_process(node, Some(life), Event::Timer { node, life, timer });
            }
            Event::DiskGoesOn { node, life } => {
                self.with_process(node, Some(life), Event::DiskGoesOn { node, life });
            }
            Event::Disk { node, life, work } => {
                self.trace.mix(self.now ^ 7 ^ node.value() as u64);
                self.with_process(node, Some(life), Event::Disk { node, life, work });
            }
            Event::Client(index) => {
                let is_loaded = !self.is_calm && self.topic_created;
                let (producer, mut io) = self.at_producer(index);
                producer.tick(&mut io, is_loaded);
            }
            Event::Consumer { index, .. } => self.with_consumer(index, event),
            Event::Fault(index) => self.fault(index),
            Event::Relief(index) => self.relieve(index),
            Event::Restart(node) => self.restart(node),
            Event::ShutDown(node) => self.shut_down(node),
            Event::Gone { node, gone } => self.with_process(node, None, Event::Gone { node, gone }),
            Event::Look => self.look(),
        }
    }

    fn deliver(&mut self, from: Place, to: Place, breaks: u32, message: Message) {
        if breaks != self.network.breaks_of(from, to) {
            return;
        }
        self.trace
            .mix(self.now.rotate_left(9) ^ (from as u64) << 16 ^ to as u64);
        if to == ADMIN {
            return self.told_admin(message);
        }
        if to >= CONSUMERS {
            let event = Event::Deliver {
                from,
                to,
                breaks,
                message,
            };
            return self.with_consumer((to - CONSUMERS) as usize, event);
        }
        if to >= CLIENTS {
            let (producer, mut io) = self.at_producer((to - CLIENTS) as usize);
            return producer.message(&mut io, message);
        }
        let event = Event::Deliver {
            from,
            to,
            breaks,
            message,
        };
        self.with_process(NodeId::new(to), None, event);
    }

    /// Hands an event to a node's process, if it is still the one that it is meant for.
    fn with_process(&mut self, id: NodeId, life: Option<u32>, event: Event) {
        let (node, mut io) = self.at(id);
        if life.is_some_and(|life| life != node.life) {
            return;
        }
        let Some(process) = &mut node.process else {
            if let Event::Deliver {
                from,
                message: Message::Request { id: request, .. },
                ..
            } = event
            {
                // Nobody listens there.
                io.send(id.value(), from, Message::Closed { id: request });
            }
            return;
        };
        if node.paused {
            node.deferred.push(event);
            return;
        }
        match event {
            Event::Deliver { from, message, .. } => process.message(&mut io, from, message),
            Event::Timer { timer, .. } => process.timer(&mut io, timer),
            Event::Disk { work, .. } => {
                // What is done comes in the order in which it was begun, also after a halt.
                process.disk_done.push_back(work);
                process.disk_goes_on(&mut io);
            }
            Event::DiskGoesOn { .. } => process.disk_goes_on(&mut io),
            Event::Gone { gone, .. } => process.unreachable(&mut io, gone),
            _ => {}
        }
        node.keep_checkpoints();
        let has_stopped = node
            .process
            .as_ref()
            .is_some_and(|process| process.has_stopped());
        let failure = node
            .process
            .as_ref()
            .and_then(|process| process.failure.clone());
        if let Some(failure) = failure {
            self.process_failed(id, &failure);
        } else if has_stopped {
            self.trace
                .say(self.now, || format!("node {id}: has stopped"));
            self.crash(id, Crash::KeepAll);
            let down = self.random.between(100 * MS, 3 * SECOND);
            self.queue.push(self.now + down, Event::Restart(id));
        }
    }

    fn shut_down(&mut self, id: NodeId) {
        let (node, mut io) = self.at(id);
        if !node.paused
            && let Some(process) = &mut node.process
        {
            process.shut_down(&mut io);
        }
    }

    /// Asks whoever leads the quorum for another voter, or one less.
    fn change_voters(&mut self, request: impl Fn(LeaderEpoch) -> quorum::Request) {
        let leaders = self.nodes.iter().filter_map(|node| {
            let process = node.process.as_ref()?;
            let leads = process.quorum.is_leader();
            leads.then(|| (node.id, process.quorum.leader_epoch()))
        });
        let leaders: Vec<_> = leaders.collect();
        for (node, epoch) in leaders {
            self.admin_id += 1;
            let id = self.admin_id;
            let request = Request::Quorum(request(epoch));
            let (_, mut io) = self.at(node);
            io.send(ADMIN, node.value(), Message::Request { id, request });
        }
    }

    /// A process ends by itself when its disk fails, and only then.
    fn process_failed(&mut self, id: NodeId, why: &str) {
        self.trace
            .say(self.now, || format!("node {id}: ends: {why}"));
        if !self.faulty[(id.value() - 1) as usize] {
            self.oracle
                .wrong(format!("node {id} ends without a reason: {why}"));
        }
        self.crash(id, Crash::KeepAll);
        let down = self.random.between(SECOND, 5 * SECOND);
        self.queue.push(self.now + down, Event::Restart(id));
    }

    fn crash(&mut self, id: NodeId, how: Crash) {
        let (node, _) = self.at(id);
        if node.process.take().is_none() {
            return;
        }
        node.disk.crash(how);
        node.paused = false;
        node.deferred.clear();
        let others: Vec<_> = (1..=self.plan.nodes)
            .filter(|other| *other != id.value())
            .collect();
        for other in others {
            self.disconnect(id.value(), other);
            let is_cut =
                self.network.is_cut(id.value(), other) || self.network.is_cut(other, id.value());
            if how == Crash::KeepAll && !is_cut {
                let (node, gone) = (NodeId::new(other), id);
                let at = self.now + self.random.between(MS, 20 * MS);
                self.queue.push(at, Event::Gone { node, gone });
            }
        }
        for index in 0..self.producers.len() {
            self.network
                .break_between(id.value(), CLIENTS + index as Place);
            let (producer, mut io) = self.at_producer(index);
            producer.look_again(&mut io);
        }
        for index in 0..self.consumers.len() {
            let place = CONSUMERS + index as Place;
            self.network.break_between(id.value(), place);
            let (consumer, mut io) = self.at_consumer(index);
            if !consumer.paused {
                consumer.look_again(&mut io, id.value());
            }
        }
        self.network.break_between(id.value(), id.value());
    }

    /// Breaks the connections between two nodes; both notice.
    fn disconnect(&mut self, a: Place, b: Place) {
        self.network.break_between(a, b);
        for (here, there) in [(a, b), (b, a)] {
            let (node, _) = self.at(NodeId::new(here));
            let pending = node
                .process
                .as_ref()
                .map(|process| process.pending_with(there));
            for id in pending.into_iter().flatten() {
                let event = Event::Deliver {
                    from: there,
                    to: here,
                    breaks: self.network.breaks_of(a, b),
                    message: Message::Closed { id },
                };
                self.queue.push(self.now + MS, event);
            }
        }
    }

    fn restart(&mut self, id: NodeId) {
        let settings = Arc::clone(&self.settings);
        if self.at(id).0.process.is_some() {
            return;
        }
        self.faulty[(id.value() - 1) as usize] = false;
        let (node, mut io) = self.at(id);
        node.disk.heal();
        io.say(|| format!("node {id}: starts"));
        if let Err(error) = node.start(&settings, &mut io) {
            self.oracle
                .wrong(format!("node {id} does not start: {error}"));
        }
    }

    fn fault(&mut self, index: usize) {
        let planned = self.plan.faults[index];
        if self.is_calm {
            return;
        }
        let until = self.now + planned.lasts;
        *self.faults.entry(planned.fault.name()).or_default() += 1;
        self.trace.say(self.now, || {
            format!("--- {:?} for {} ms", planned.fault, planned.lasts / MS)
        });
        match planned.fault {
            Fault::Crash(node, how) => {
                self.crash(NodeId::new(node), how);
                self.queue.push(until, Event::Restart(NodeId::new(node)));
                return;
            }
            Fault::Pause(node) => self.at(NodeId::new(node)).0.paused = true,
            Fault::CutOneWay(a, b) => self.network.cut(a, b),
            Fault::CutLink(a, b) => {
                self.network.cut(a, b);
                self.network.cut(b, a);
            }
            Fault::Isolate(node) => {
                for other in (1..=self.plan.nodes).filter(|other| *other != node) {
                    self.network.cut(node, other);
                    self.network.cut(other, node);
                }
            }
            Fault::Break(a, b) => self.disconnect(a, b),
            Fault::Reassign(partition, seed) => {
                return self.reassign(TopicName::from(TOPIC), partition, seed);
            }
            Fault::Elect => return self.elect(),
            Fault::CreateTopic(number) => {
                return self.create_topic(&format!("passing-{number}"), 2);
            }
            Fault::DeleteTopic(number) => return self.delete_topic(&format!("passing-{number}")),
            Fault::ShutDown(node) => return self.shut_down(NodeId::new(node)),
            Fault::RollingRestart => {
                for id in 1..=self.plan.nodes {
                    let at = self.now + (id - 1) as Time * 4 * SECOND;
                    self.queue.push(at, Event::ShutDown(NodeId::new(id)));
                }
                return;
            }
            Fault::AddVoter(node) => {
                let Voter { key, endpoints, .. } = voter(NodeId::new(node), true);
                return self.change_voters(|_| {
                    quorum::Request::AddRaftVoter(AddRaftVoterRequest {
                        voter: key,
                        endpoints: endpoints.clone(),
                        ack_when_committed: true,
                    })
                });
            }
            Fault::RemoveVoter(node) => {
                let voter = voter(NodeId::new(node), true).key;
                return self.change_voters(|_| {
                    quorum::Request::RemoveRaftVoter(RemoveRaftVoterRequest { voter })
                });
            }
            Fault::UpdateVoter(node, port) => {
                let mut voter = voter(NodeId::new(node), true);
                voter.endpoints.iter_mut().for_each(|it| it.port = port);
                return self.change_voters(|current_leader_epoch| {
                    quorum::Request::UpdateRaftVoter(UpdateRaftVoterRequest {
                        current_leader_epoch,
                        voter: voter.key,
                        endpoints: voter.endpoints.clone(),
                        kraft_versions: voter.kraft_versions,
                    })
                });
            }
            Fault::MoveCoordinator(seed) => {
                return self.reassign(TopicName::CONSUMER_OFFSETS, 0, seed);
            }
            Fault::KillConsumer(index) => {
                self.kill_consumer(index);
                self.trace
                    .say(self.now, || format!("consumer {index}: is gone"));
            }
            Fault::PauseConsumer(index) => self.consumers[index].paused = true,
            Fault::LeaveGroup(index) => {
                let (consumer, mut io) = self.at_consumer(index);
                if !consumer.paused {
                    consumer.leave(&mut io);
                }
            }
            Fault::Slow(node) => drop(self.network.slow.insert(node)),
            Fault::StallDisk(node) => {
                let (node, _) = self.at(NodeId::new(node));
                if let Some(process) = &mut node.process {
                    // Two at a time end with the later one: the disk does things in order.
                    process.stalled_until = process.stalled_until.max(until);
                }
                return;
            }
            Fault::FailDisk(node, op, nth) => {
                self.faulty[(node - 1) as usize] = true;
                let (node, _) = self.at(NodeId::new(node));
                node.disk.fail(op, nth, std::io::ErrorKind::Other);
            }
            Fault::FillDisk(node, bytes) => {
                self.faulty[(node - 1) as usize] = true;
                let (node, _) = self.at(NodeId::new(node));
                let used = node.disk.bytes_used();
                node.disk.limit_capacity(used + bytes);
            }
        }
        self.queue.push(until, Event::Relief(index));
    }

    fn relieve(&mut self, index: usize) {
        match self.plan.faults[index].fault {
            Fault::Pause(node) => self.resume(NodeId::new(node)),
            Fault::CutOneWay(a, b) => self.mend(a, b),
            Fault::CutLink(a, b) => {
                self.mend(a, b);
                self.mend(b, a);
            }
            Fault::Isolate(node) => {
                for other in (1..=self.plan.nodes).filter(|other| *other != node) {
                    self.mend(node, other);
                    self.mend(other, node);
                }
            }
            Fault::Slow(node) => drop(self.network.slow.remove(&node)),
            Fault::FailDisk(node, ..) | Fault::FillDisk(node, _) => {
                // What it did was final for a process that has noticed.
                let (node, _) = self.at(NodeId::new(node));
                node.disk.heal();
            }
            Fault::PauseConsumer(index) => self.resume_consumer(index),
            Fault::KillConsumer(index) | Fault::LeaveGroup(index) => self.start_consumer(index),
            Fault::Crash(..)
            | Fault::Break(..)
            | Fault::StallDisk(_)
            | Fault::Reassign(..)
            | Fault::Elect
            | Fault::CreateTopic(_)
            | Fault::DeleteTopic(_)
            | Fault::MoveCoordinator(_)
            | Fault::ShutDown(_)
            | Fault::RollingRestart
            | Fault::AddVoter(_)
            | Fault::RemoveVoter(_)
            | Fault::UpdateVoter(..) => {}
        }
    }

    fn resume(&mut self, id: NodeId) {
        let (node, io) = self.at(id);
        node.paused = false;
        let deferred = std::mem::take(&mut node.deferred);
        let now = io.now;
        for event in deferred {
            self.queue.push(now, event);
        }
    }

    fn kill_consumer(&mut self, index: usize) {
        let place = CONSUMERS + index as Place;
        for node in 1..=self.plan.nodes {
            self.network.break_between(node, place);
        }
        let (consumer, mut io) = self.at_consumer(index);
        consumer.kill(&mut io);
    }

    fn resume_consumer(&mut self, index: usize) {
        let (consumer, _) = self.at_consumer(index);
        consumer.paused = false;
        for event in std::mem::take(&mut consumer.deferred) {
            self.queue.push(self.now, event);
        }
    }

    fn start_consumer(&mut self, index: usize) {
        let has_topics = self.topic_created && self.groups_created;
        let (consumer, mut io) = self.at_consumer(index);
        if has_topics && !consumer.paused {
            consumer.start(&mut io);
        }
    }

    fn mend(&mut self, from: Place, to: Place) {
        for message in self.network.mend(from, to) {
            let (_, mut io) = self.at(NodeId::new(from));
            io.send(from, to, message);
        }
    }

    /// Nothing goes wrong any more.
    fn calm_down(&mut self) {
        self.is_calm = true;
        self.trace
            .say(self.now, || "--- nothing goes wrong any more".to_owned());
        for (from, to) in self.network.cuts() {
            self.mend(from, to);
        }
        self.network.slow.clear();
        for index in 0..self.consumers.len() {
            self.resume_consumer(index);
            self.start_consumer(index);
        }
        for id in (1..=self.plan.nodes).map(NodeId::new) {
            self.resume(id);
            self.nodes[(id.value() - 1) as usize].disk.heal();
            self.queue.push(self.now + SECOND, Event::Restart(id));
        }
    }

    /// The administrator looks after the topic; when all is calm, the oracle looks whether all is well.
    fn look(&mut self) {
        self.queue.push(self.now + 250 * MS, Event::Look);
        if !self.topic_created {
            self.create_topic(TOPIC, self.plan.partitions);
        }
        if !self.groups_created && !self.consumers.is_empty() {
            self.create_topic(&TopicName::CONSUMER_OFFSETS, 1);
        }
        if !self.is_calm && self.now >= self.plan.calm_at {
            self.calm_down();
        }
        if !self.is_calm {
            return;
        }
        match self.unsettled() {
            None => {
                self.compare_replicas();
                self.settled = true;
            }
            Some(why) if self.now >= self.plan.calm_at + SETTLE_MAX => {
                let after = SETTLE_MAX / SECOND;
                self.oracle
                    .wrong(format!("{after} s after the last fault {why}"));
            }
            Some(_) => {}
        }
    }

    fn create_topic(&mut self, name: &str, partitions: i32) {
        let config = CreatableTopicConfig {
            name: "min.insync.replicas".into(),
            value: Some("2".into()),
        };
        let topic = CreatableTopic {
            name: TopicName::from(name),
            num_partitions: partitions,
            replication_factor: 3,
            configs: vec![config],
            ..Default::default()
        };
        let request = ControllerRequest::CreateTopics(CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 5_000,
            ..Default::default()
        });
        self.ask_controllers(&request);
    }

    fn delete_topic(&mut self, name: &str) {
        let topic = DeleteTopicState {
            name: Some(TopicName::from(name)),
            ..Default::default()
        };
        let request = DeleteTopicsRequest {
            topics: vec![topic],
            timeout_ms: 5_000,
            ..Default::default()
        };
        self.ask_controllers(&ControllerRequest::DeleteTopics {
            api_version: 6,
            request,
        });
    }

    /// Moves a partition to three nodes, in any order.
    fn reassign(&mut self, name: TopicName, partition_index: i32, seed: u64) {
        let mut random = Random::new(seed);
        let mut nodes: Vec<_> = (1..=self.plan.nodes).map(NodeId::new).collect();
        while nodes.len() > 3 {
            nodes.remove(random.below(nodes.len() as u64) as usize);
        }
        nodes.rotate_left(random.below(3) as usize);
        let partition = ReassignablePartition {
            partition_index,
            replicas: Some(nodes),
        };
        let topic = ReassignableTopic {
            name,
            partitions: vec![partition],
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        self.ask_controllers(&ControllerRequest::AlterPartitionReassignments(request));
    }

    fn elect(&mut self) {
        let request = ElectLeadersRequest {
            topic_partitions: None,
            timeout_ms: 5_000,
            ..Default::default()
        };
        self.ask_controllers(&ControllerRequest::ElectLeaders(request));
    }

    /// Asks whoever holds itself for the controller.
    fn ask_controllers(&mut self, request: &ControllerRequest) {
        let controls = |node: &&Node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.controller.is_some())
        };
        let controllers: Vec<_> = self
            .nodes
            .iter()
            .filter(controls)
            .map(|node| node.id)
            .collect();
        for node in controllers {
            self.admin_id += 1;
            let id = self.admin_id;
            let request = Request::Controller(request.clone());
            let (_, mut io) = self.at(node);
            io.send(ADMIN, node.value(), Message::Request { id, request });
        }
    }

    fn told_admin(&mut self, message: Message) {
        if let Message::Response {
            response: Response::Controller(ControllerResponse::CreateTopics(answer)),
            ..
        } = message
        {
            let is_there = |name: &str| {
                answer.topics.iter().any(|topic| {
                    let is_there = topic.error_code.is_ok()
                        || topic.error_code == tidelog_types::ErrorCode::TOPIC_ALREADY_EXISTS;
                    is_there && &*topic.name == name
                })
            };
            let created = is_there(TOPIC) && !self.topic_created;
            let groups_created = is_there(&TopicName::CONSUMER_OFFSETS) && !self.groups_created;
            self.topic_created |= created;
            self.groups_created |= groups_created;
            if created {
                self.trace
                    .say(self.now, || "the topic is created".to_owned());
            }
            if created || groups_created {
                (0..self.consumers.len()).for_each(|index| self.start_consumer(index));
            }
        }
    }

    /// What keeps the cluster from being as it should, if anything does.
    fn unsettled(&self) -> Option<String> {
        let controllers = self.nodes.iter().filter(|node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.controller.is_some())
        });
        let controllers: Vec<_> = controllers.collect();
        let [controller] = controllers[..] else {
            return Some(format!("there are {} controllers", controllers.len()));
        };
        let controller = controller.process.as_ref()?;
        for node in &self.nodes {
            let Some(process) = &node.process else {
                return Some(format!("node {} does not run", node.id));
            };
            if process.metadata_offset() != controller.metadata_offset() {
                return Some(format!("node {} has not read all metadata", node.id));
            }
            let broker = controller.image.broker(node.id);
            if broker.is_none_or(|broker| !broker.is_active()) {
                return Some(format!("broker {} is fenced", node.id));
            }
        }
        for producer in &self.producers {
            if !producer.is_done() {
                return Some(producer.waits_for());
            }
        }
        if let Some(why) = self.group_unsettled() {
            return Some(why);
        }
        for topic in controller.image.topics() {
            for (index, partition) in &topic.partitions {
                if partition.is_reassigning() {
                    return Some(format!("partition {index} is being reassigned"));
                }
                if !partition.has_leader() {
                    return Some(format!("partition {index} has no leader"));
                }
                if partition.isr.len() != partition.replicas.len() {
                    return Some(format!(
                        "the ISR of partition {index} is {:?}",
                        partition.isr
                    ));
                }
                let id = (topic.id, *index);
                if let Some(why) = self.lagging(id, &partition.replicas) {
                    return Some(why);
                }
            }
        }
        None
    }

    /// What keeps the group from having read everything, if anything does.
    fn group_unsettled(&self) -> Option<String> {
        let mut owned = BTreeMap::new();
        for consumer in &self.consumers {
            if !consumer.is_running() {
                return Some(consumer.status());
            }
            for partition in consumer.owned() {
                *owned.entry(partition).or_insert(0) += 1;
            }
        }
        for producer in &self.producers {
            let (index, partition) = (producer.partition_index, producer.partition?);
            if self.consumers.is_empty() {
                break;
            }
            if owned.get(&index) != Some(&1) {
                let all: Vec<_> = self.consumers.iter().map(Consumer::status).collect();
                let all = all.join(", ");
                return Some(format!(
                    "partition {index} is read by {:?}: {all}",
                    owned.get(&index)
                ));
            }
            let end = self.oracle.committed_end(partition);
            let consumed = self.oracle.groups.consumed_to(index);
            let committed = self.oracle.groups.last_committed(index);
            if consumed != end || (end > Offset::ZERO && committed != Some(end)) {
                return Some(format!(
                    "partition {index} ends at {end}, is consumed up to {consumed}, and {committed:?} is committed"
                ));
            }
        }
        None
    }

    fn lagging(&self, partition: Partition, replicas: &[NodeId]) -> Option<String> {
        let end = self.oracle.committed_end(partition);
        for node in replicas {
            let node = &self.nodes[(node.value() - 1) as usize];
            let process = node.process.as_ref()?;
            let Some(local) = process.partitions.get(&partition) else {
                return Some(format!("node {} lacks partition {}", node.id, partition.1));
            };
            let (marks, _) = local.core.readers_see();
            if marks.log_end_offset != end || marks.high_watermark != end {
                return Some(format!(
                    "partition {} on node {} ends at {}, committed up to {}, and {end} is committed",
                    partition.1, node.id, marks.log_end_offset, marks.high_watermark
                ));
            }
        }
        None
    }

    /// All replicas are the same, each batch is there once and in order, and what was acknowledged is.
    fn compare_replicas(&mut self) {
        for node in &self.nodes {
            let Some(process) = &node.process else {
                continue;
            };
            for (partition, local) in &process.partitions {
                let reader = local.core.log().reader();
                let end = reader.log_end_offset();
                self.oracle
                    .committed(*partition, node.id, None, &reader, Offset::ZERO, end);
            }
        }
        for producer in &self.producers {
            let Some(partition) = producer.partition else {
                continue;
            };
            let written = self.oracle.written(partition);
            if written != producer.sent() {
                let sent = producer.sent();
                self.oracle.wrong(format!(
                    "{written} batches of partition {} are there, and {sent} were sent and acknowledged",
                    partition.1
                ));
            }
        }
    }
}
