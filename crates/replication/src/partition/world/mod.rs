//! A small world for replicas: three nodes with a log each, a network that loses, doubles and reorders, a controller, and
//! whoever produces and consumes.
//!
//! Nothing happens by itself: every event is a [`Step`]. [`random`] takes steps at random, [`exhaustive`] takes all there
//! are. After each step the [`checkers`] look at what must hold.

mod checkers;
mod controller;
mod exhaustive;
mod log;
mod random;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::task::Poll;
use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Timestamp};

use self::controller::{Controller, Image, broker};
use self::log::{ModelLog, Record};
use super::{
    AlterPartition, AlteredPartition, Ask, BecomeFollower, BecomeLeader, Config, DurableWhen,
    Effect, FetchAnswer, FetchState, FollowerFetch, Input, LogRange, Replica, Restored,
};
use crate::divergence::EpochEnd;

/// The nodes 1, 2 and 3, or fewer; by their index.
type Node = usize;

/// How many records an answer has at most.
const RECORDS_PER_FETCH: usize = 2;

const fn id(node: Node) -> NodeId {
    NodeId::new(node as i32 + 1)
}

fn index(id: NodeId) -> Node {
    id.value() as usize - 1
}

/// Something that happens. What is not possible just now does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A producer gives the node a record, with acks=all.
    Produce(Node),
    /// The node flushes its log.
    Flush(Node),
    /// The node sends its leader what it asks for.
    Ask(Node),
    /// The message at this place in the network arrives.
    Deliver(usize),
    /// It is lost. Who waits for an answer of the controller is told that there will be none.
    Lose(usize),
    /// It arrives, and will arrive once more.
    DeliverTwice(usize),
    /// The node hears of the next change of the metadata.
    LearnMetadata(Node),
    /// The node loses power.
    Crash(Node),
    /// It loses power and its disk, and the controller knows that it is gone.
    LoseDisk(Node),
    /// The node starts again.
    Start(Node),
    /// The controller has not heard from the node for long.
    Fence(Node),
    /// The controller hears from the node.
    Unfence(Node),
    /// The controller elects the node.
    Elect(Node),
    /// The node is given a replica, or the one that it has is removed.
    Reassign(Node),
    /// Time passes until the node has something to do.
    AwaitDeadline(Node),
    /// So many milliseconds pass.
    Elapse(u64),
    /// The leader deletes what is committed.
    DeleteRecords(Node),
    /// The node writes its high watermark down.
    Checkpoint(Node),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Message {
    Fetch {
        from: Node,
        broker_epoch: i64,
        request: FetchState,
    },
    FetchAnswer {
        to: Node,
        request: FetchState,
        answer: Answer,
    },
    Offsets {
        from: Node,
        leader: NodeId,
        leader_epoch: LeaderEpoch,
    },
    OffsetsAnswer {
        to: Node,
        leader_epoch: LeaderEpoch,
        answer: Result<LogRange, ErrorCode>,
    },
    AlterPartition {
        from: Node,
        broker_epoch: i64,
        request: AlterPartition,
    },
    Altered {
        to: Node,
        id: u64,
        answer: Result<AlteredPartition, ErrorCode>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Records {
        base_offset: Offset,
        records: Vec<Record>,
        high_watermark: Offset,
        log_start_offset: Offset,
    },
    Diverging(EpochEnd),
    Error(ErrorCode),
}

/// A node with its disk. Without a replica it is down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Machine {
    replica: Option<Replica>,
    log: ModelLog,
    /// The state of the metadata that it has heard of last.
    metadata: usize,
    broker_epoch: i64,
    /// Records that were produced here, and whose producers wait.
    waiting: Vec<(Offset, Record)>,
}

/// What differs from one world to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rules {
    nodes: usize,
    isr: usize,
    min_insync_replicas: u32,
    durable_when: DurableWhen,
}

/// Something that must not be.
type Violation = String;

#[derive(Clone, Debug, PartialEq, Eq)]
struct World {
    rules: Rules,
    now: Instant,
    machines: Vec<Machine>,
    controller: Controller,
    network: Vec<Message>,
    next_value: u32,
    /// Everything that was ever committed, by offset.
    committed: Vec<Record>,
    /// What producers were told that is written.
    acknowledged: Vec<(Offset, Record)>,
    /// The highest high watermark that the leader of each epoch has shown to consumers.
    shown: BTreeMap<LeaderEpoch, Offset>,
    violation: Option<Violation>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.now.hash(state);
        self.machines.hash(state);
        self.controller.hash(state);
        self.network.hash(state);
        self.committed.hash(state);
        self.acknowledged.hash(state);
        self.shown.hash(state);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock"
)]
fn beginning() -> Instant {
    Instant::now()
}

impl World {
    fn new(now: Instant, rules: Rules) -> Self {
        let nodes: Vec<_> = (0..rules.nodes).map(id).collect();
        let controller = Controller::new(&nodes, &nodes[..rules.isr]);
        let mut world = Self {
            rules,
            now,
            machines: Vec::new(),
            network: Vec::new(),
            next_value: 0,
            committed: Vec::new(),
            acknowledged: Vec::new(),
            shown: BTreeMap::new(),
            violation: None,
            controller,
        };
        for node in 0..rules.nodes {
            world.machines.push(Machine {
                replica: None,
                log: ModelLog::default(),
                metadata: 0,
                broker_epoch: broker(world.controller.now(), id(node)).broker_epoch,
                waiting: Vec::new(),
            });
            world.open(node);
        }
        world
    }

    fn open(&mut self, node: Node) {
        let image = self.controller.image(self.machines[node].metadata).clone();
        self.open_log(node);
        self.give_role(node, &image);
    }

    fn open_log(&mut self, node: Node) {
        let config = Config {
            min_insync_replicas: self.rules.min_insync_replicas,
            durable_when: self.rules.durable_when,
            replica_lag_time_max_ms: 10_000,
            ..Config::new(id(node))
        };
        let machine = &mut self.machines[node];
        let log = &machine.log;
        let restored = Restored {
            log_start_offset: log.start(),
            log_end_offset: log.end(),
            durable_end_offset: log.flushed(),
            high_watermark: log.checkpoint,
            last_epoch: log.last_epoch(),
            first_unstable_offset: None,
        };
        machine.replica = Some(Replica::new(config, restored));
    }

    fn step(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Produce(node) => self.produce(node),
            Step::Flush(node) => self.flush(node),
            Step::Ask(node) => self.ask(node),
            Step::Deliver(at) => {
                if at < self.network.len() {
                    let message = self.network.remove(at);
                    self.deliver(message);
                }
            }
            Step::DeliverTwice(at) => match self.network.get(at).cloned() {
                // What goes to the controller and comes from there does so once: a request has one answer.
                None | Some(Message::AlterPartition { .. } | Message::Altered { .. }) => {}
                Some(message) => self.deliver(message),
            },
            Step::Lose(at) => {
                if at < self.network.len() {
                    let message = self.network.remove(at);
                    self.lost(&message);
                }
            }
            Step::LearnMetadata(node) => self.learn_metadata(node),
            Step::Crash(node) => self.crash(node),
            Step::LoseDisk(node) => self.lose_disk(node),
            Step::Start(node) => self.start(node),
            Step::Fence(node) => self.controller.fence(id(node)),
            Step::Unfence(node) => self.unfence(node),
            Step::Elect(node) => self.controller.transfer(id(node)),
            Step::Reassign(node) => self.controller.reassign(id(node)),
            Step::AwaitDeadline(node) => {
                let replica = self.machines[node].replica.as_ref();
                if let Some(deadline) = replica.and_then(Replica::deadline) {
                    self.now = self.now.max(deadline);
                    self.handle(node, Input::Timeout, Vec::new());
                }
            }
            Step::Elapse(ms) => self.elapse(ms),
            Step::DeleteRecords(node) => self.delete_records(node),
            Step::Checkpoint(node) => {
                let machine = &mut self.machines[node];
                if let Some(replica) = &machine.replica {
                    machine.log.checkpoint = replica.watermarks().high_watermark;
                }
            }
        }
        let heard = self.machines.iter().map(|machine| machine.metadata);
        self.controller
            .forget(heard.min().expect("there are nodes"));
        self.acknowledge();
        match self.violation.take() {
            Some(violation) => Err(violation),
            None => self.check(),
        }
    }

    // What nodes do

    fn produce(&mut self, node: Node) {
        let machine = &mut self.machines[node];
        let Some(replica) = &machine.replica else {
            return;
        };
        let leads = replica.check_leader_epoch(LeaderEpoch::NONE);
        if leads.and_then(|()| replica.check_min_isr()).is_err() {
            return;
        }
        let record = Record {
            leader_epoch: replica.leader_epoch(),
            value: self.next_value,
        };
        self.next_value += 1;
        machine.waiting.push((machine.log.end(), record));
        self.append(node, record);
    }

    fn append(&mut self, node: Node, record: Record) {
        let machine = &mut self.machines[node];
        machine.log.append(record);
        let input = Input::Appended {
            end: machine.log.end(),
            leader_epoch: record.leader_epoch,
            first_unstable_offset: None,
        };
        self.handle(node, input, Vec::new());
    }

    fn flush(&mut self, node: Node) {
        if self.machines[node].replica.is_some() {
            let end = self.machines[node].log.flush();
            self.handle(node, Input::Flushed { end }, Vec::new());
        }
    }

    fn ask(&mut self, node: Node) {
        let machine = &self.machines[node];
        let Some(replica) = &machine.replica else {
            return;
        };
        self.network.extend(match replica.asks() {
            None => None,
            Some(Ask::Records(request)) => Some(Message::Fetch {
                from: node,
                broker_epoch: machine.broker_epoch,
                request,
            }),
            Some(Ask::Offsets {
                leader,
                leader_epoch,
            }) => Some(Message::Offsets {
                from: node,
                leader,
                leader_epoch,
            }),
        });
    }

    fn delete_records(&mut self, node: Node) {
        let machine = &mut self.machines[node];
        let Some(replica) = &machine.replica else {
            return;
        };
        if let Ok(log_start_offset) = replica.delete_records_end(Offset::NONE) {
            machine.log.advance_start(log_start_offset);
            self.handle(
                node,
                Input::LogStartAdvanced { log_start_offset },
                Vec::new(),
            );
        }
    }

    fn learn_metadata(&mut self, node: Node) {
        let machine = &mut self.machines[node];
        if machine.replica.is_none() || machine.metadata + 1 >= self.controller.len() {
            return;
        }
        let before = self.controller.image(machine.metadata).clone();
        machine.metadata += 1;
        let image = self.controller.image(machine.metadata).clone();
        if image.partition_epoch != before.partition_epoch {
            self.give_role(node, &image);
        }
        for (broker, before) in image.brokers.iter().zip(&before.brokers) {
            if broker != before {
                self.handle(node, Input::BrokerChanged(*broker), Vec::new());
            }
        }
    }

    fn give_role(&mut self, node: Node, image: &Image) {
        if !image.replicas.contains(&id(node)) {
            // Its log is deleted, and whoever waited for it is told so.
            self.machines[node].log = ModelLog::default();
            self.machines[node].waiting.clear();
            self.open_log(node);
            return;
        }
        let input = if image.leader == Some(id(node)) {
            Input::BecomeLeader(BecomeLeader {
                leader_epoch: image.leader_epoch,
                partition_epoch: image.partition_epoch,
                replicas: image.replicas.clone(),
                adding_replicas: Vec::new(),
                isr: image.isr.clone(),
                recovering: false,
                brokers: image.brokers.clone(),
            })
        } else {
            Input::BecomeFollower(BecomeFollower {
                leader_epoch: image.leader_epoch,
                partition_epoch: image.partition_epoch,
                leader: image.leader,
            })
        };
        self.handle(node, input, Vec::new());
    }

    fn elapse(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for node in 0..self.rules.nodes {
            let replica = self.machines[node].replica.as_ref();
            let deadline = replica.and_then(Replica::deadline);
            if deadline.is_some_and(|at| at <= self.now) {
                self.handle(node, Input::Timeout, Vec::new());
            }
        }
    }

    // What befalls nodes

    fn crash(&mut self, node: Node) {
        let machine = &mut self.machines[node];
        if machine.replica.take().is_none() {
            return;
        }
        if self.rules.durable_when == DurableWhen::Flushed {
            machine.log.crash();
        }
        machine.waiting.clear();
        // Its connections are gone, and what was on the way to it. What it has sent may still arrive.
        self.network
            .retain(|message| receiver(message) != Some(node));
    }

    /// Nothing can make up for a disk if nobody else has what was on it.
    fn lose_disk(&mut self, node: Node) {
        let isr = &self.controller.now().isr;
        if isr.iter().any(|member| *member != id(node)) {
            self.crash(node);
            self.controller.fence(id(node));
            self.machines[node].log = ModelLog::default();
        }
    }

    /// A broker registers, and hears all metadata up to its registration, before it serves anything.
    fn start(&mut self, node: Node) {
        if self.machines[node].replica.is_none() {
            self.machines[node].broker_epoch = self.controller.register(id(node));
            self.machines[node].metadata = self.controller.len() - 1;
            self.open(node);
        }
    }

    fn unfence(&mut self, node: Node) {
        if self.machines[node].replica.is_some() {
            self.controller.unfence(id(node));
        }
    }

    // What the network does

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Fetch {
                from,
                broker_epoch,
                request,
            } => {
                if let Some(answer) = self.fetched(from, broker_epoch, request) {
                    self.network.push(Message::FetchAnswer {
                        to: from,
                        request,
                        answer,
                    });
                }
            }
            Message::FetchAnswer {
                to,
                request,
                answer,
            } => self.fetch_answered(to, request, answer),
            Message::Offsets {
                from,
                leader,
                leader_epoch,
            } => {
                let machine = &self.machines[index(leader)];
                if let Some(replica) = &machine.replica {
                    let range = LogRange {
                        log_start_offset: machine.log.start(),
                        log_end_offset: machine.log.end(),
                    };
                    let leads = replica.check_leader_epoch(leader_epoch);
                    self.network.push(Message::OffsetsAnswer {
                        to: from,
                        leader_epoch,
                        answer: leads.map(|()| range),
                    });
                }
            }
            Message::OffsetsAnswer {
                to,
                leader_epoch,
                answer,
            } => {
                let input = Input::OffsetsAnswered {
                    leader_epoch,
                    answer,
                };
                self.handle(to, input, Vec::new());
            }
            Message::AlterPartition {
                from,
                broker_epoch,
                request,
            } => {
                let answer = self
                    .controller
                    .alter_partition(id(from), broker_epoch, &request);
                if self.machines[from].broker_epoch == broker_epoch
                    && self.machines[from].replica.is_some()
                {
                    self.network.push(Message::Altered {
                        to: from,
                        id: request.id,
                        answer,
                    });
                }
            }
            Message::Altered { to, id, answer } => {
                self.handle(to, Input::AlterPartitionAnswered { id, answer }, Vec::new());
            }
        }
    }

    fn lost(&mut self, message: &Message) {
        let (node, id) = match message {
            Message::AlterPartition {
                from,
                broker_epoch,
                request,
            } if self.machines[*from].broker_epoch == *broker_epoch => (*from, request.id),
            Message::Altered { to, id, .. } => (*to, *id),
            _ => return,
        };
        let answer = Err(ErrorCode::NETWORK_EXCEPTION);
        self.handle(
            node,
            Input::AlterPartitionAnswered { id, answer },
            Vec::new(),
        );
    }

    fn fetched(&mut self, from: Node, broker_epoch: i64, request: FetchState) -> Option<Answer> {
        let leader = index(request.leader);
        let machine = &self.machines[leader];
        let replica = machine.replica.as_ref()?;
        let fetch = FollowerFetch {
            replica: id(from),
            broker_epoch,
            current_leader_epoch: request.leader_epoch,
            fetch_offset: request.fetch_offset,
            last_fetched_epoch: request.last_fetched_epoch,
            epoch_end: machine.log.epoch_end(request.last_fetched_epoch),
            log_start_offset: request.log_start_offset,
        };
        let answer = match replica.check_fetch(&fetch) {
            Err(error) => Answer::Error(error),
            Ok(Some(end)) => Answer::Diverging(end),
            Ok(None) => {
                let marks = replica.watermarks();
                Answer::Records {
                    base_offset: request.fetch_offset,
                    records: machine.log.read(request.fetch_offset, RECORDS_PER_FETCH),
                    high_watermark: marks.high_watermark,
                    log_start_offset: marks.log_start_offset,
                }
            }
        };
        self.handle(leader, Input::Fetched(fetch), Vec::new());
        Some(answer)
    }

    fn fetch_answered(&mut self, to: Node, request: FetchState, answer: Answer) {
        let log = &self.machines[to].log;
        let (answer, records) = match answer {
            Answer::Records {
                base_offset,
                records,
                high_watermark,
                log_start_offset,
            } => {
                // The log has nothing twice.
                let fits = base_offset == log.end();
                let answer = FetchAnswer::Records {
                    is_empty: records.is_empty(),
                    high_watermark,
                    log_start_offset,
                };
                (answer, if fits { records } else { Vec::new() })
            }
            Answer::Diverging(leader) => {
                let own = log.epoch_end(leader.epoch);
                (FetchAnswer::Diverging { leader, own }, Vec::new())
            }
            Answer::Error(error) => (FetchAnswer::Error(error), Vec::new()),
        };
        self.handle(to, Input::FetchAnswered { request, answer }, records);
    }

    /// Hands the input to the node's replica, and does what it says.
    fn handle(&mut self, node: Node, input: Input, records: Vec<Record>) {
        let now = Now {
            instant: self.now,
            timestamp: Timestamp::from_millis(0),
        };
        let machine = &mut self.machines[node];
        let Some(replica) = &mut machine.replica else {
            return;
        };
        let mut effects = Vec::new();
        replica.handle(now, input, &mut effects);
        for effect in effects {
            let machine = &mut self.machines[node];
            match effect {
                Effect::StartLeaderEpoch { leader_epoch, .. } => {
                    machine.log.begin_epoch(leader_epoch);
                }
                Effect::AlterPartition(request) => self.network.push(Message::AlterPartition {
                    from: node,
                    broker_epoch: machine.broker_epoch,
                    request,
                }),
                Effect::AppendFetched => {
                    for record in &records {
                        self.append(node, *record);
                    }
                }
                Effect::Truncate { end } => {
                    machine.log.truncate(end);
                    let input = Input::Truncated {
                        end,
                        last_epoch: machine.log.last_epoch(),
                        first_unstable_offset: None,
                    };
                    self.handle(node, input, Vec::new());
                }
                Effect::Restart { offset } => {
                    machine.log.restart(offset);
                    self.handle(node, Input::Restarted { offset }, Vec::new());
                }
                Effect::AdvanceLogStart { log_start_offset } => {
                    machine.log.advance_start(log_start_offset);
                    self.handle(
                        node,
                        Input::LogStartAdvanced { log_start_offset },
                        Vec::new(),
                    );
                }
                Effect::ReportCommittedLost { from, to } => {
                    self.violation = Some(format!("{} gives up {from} to {to}", id(node)));
                }
                Effect::PublishWatermarks(_)
                | Effect::PublishLowWatermark(_)
                | Effect::WakeWaiters
                | Effect::AskLeader(_) => {}
            }
        }
    }

    /// Tells producers what has become of their records.
    fn acknowledge(&mut self) {
        for machine in &mut self.machines {
            let Some(replica) = &machine.replica else {
                continue;
            };
            let acknowledged = &mut self.acknowledged;
            machine.waiting.retain(|(offset, record)| {
                match replica.poll_committed(record.leader_epoch, offset.next()) {
                    Poll::Pending => true,
                    Poll::Ready(result) => {
                        if result.is_ok() {
                            acknowledged.push((*offset, *record));
                        }
                        false
                    }
                }
            });
        }
    }
}

fn receiver(message: &Message) -> Option<Node> {
    match message {
        Message::Fetch { request, .. } => Some(index(request.leader)),
        Message::Offsets { leader, .. } => Some(index(*leader)),
        Message::FetchAnswer { to, .. }
        | Message::OffsetsAnswer { to, .. }
        | Message::Altered { to, .. } => Some(*to),
        Message::AlterPartition { .. } => None,
    }
}
