//! A cluster with its clients, and the loop that lets time pass.

mod admin;
mod faults;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tidelog_log::testing::Crash;
use tidelog_types::{NodeId, TopicName};

use crate::check::Oracle;
use crate::client::Producer;
use crate::clock::{Clock, MS, SECOND, Time};
use crate::consumer::Consumer;
use crate::event::{Event, Queue};
use crate::io::{Io, Trace};
use crate::message::Message;
use crate::network::{CLIENTS, CONSUMERS, Network, Place, WRITERS};
use crate::node::Node;
use crate::plan::{PASSING_TOPICS, Plan};
use crate::planted::Bug;
use crate::random::Random;
use crate::settings::Settings;
use crate::writer::{PASSING, UNCLEAN, Writer};

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
    writers: Vec<Writer>,
    /// The topics of which it is known that they were created.
    created: BTreeSet<TopicName>,
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
        let names = (0..PASSING_TOPICS).map(passing);
        let names = names.chain([TopicName::from(UNCLEAN)]);
        let names = names.filter(|_| plan.writers).enumerate();
        let writers = names.map(|(index, name)| Writer::new(index, name, plan.nodes));
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
            writers: writers.collect(),
            created: BTreeSet::new(),
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
        for index in 0..self.writers.len() {
            self.queue.push(SECOND, Event::Writer(index));
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

    fn at_writer(&mut self, index: usize) -> (&mut Writer, Io<'_>) {
        let io = Io {
            now: self.now,
            random: &mut self.random,
            queue: &mut self.queue,
            network: &mut self.network,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            bug: self.bug,
        };
        (&mut self.writers[index], io)
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
                let is_loaded = !self.is_calm && self.is_created(TOPIC);
                let (producer, mut io) = self.at_producer(index);
                producer.tick(&mut io, is_loaded);
            }
            Event::Writer(index) => {
                let is_loaded = !self.is_calm;
                let (writer, mut io) = self.at_writer(index);
                writer.tick(&mut io, is_loaded);
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
        if to >= WRITERS {
            let (writer, mut io) = self.at_writer((to - WRITERS) as usize);
            return writer.message(&mut io, message);
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
        for index in 0..self.writers.len() {
            let place = self.writers[index].place();
            self.network.break_between(id.value(), place);
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

    /// The administrator looks after the topic; when all is calm, the oracle looks whether all is well.
    fn look(&mut self) {
        self.queue.push(self.now + 250 * MS, Event::Look);
        self.create_topics();
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
}

/// The name of a topic that comes and goes.
fn passing(number: u64) -> TopicName {
    TopicName::from(format!("{PASSING}{number}"))
}
