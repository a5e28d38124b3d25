//! The accumulator against brokers that are a few lines each: they remember as much of a producer as Kafka's do, answer late,
//! wrongly or not at all, lose connections, and hand partitions over to each other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tidelog_types::{
    ErrorCode, LeaderEpoch, NodeId, Now, Offset, ProducerEpoch, ProducerId, Timestamp,
};

use super::super::batch::sequence_after;
use super::super::*;

const PARTITIONS: usize = 3;
const NODES: i32 = 2;
/// How many batches a broker remembers of a producer.
const REMEMBERED: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Record(usize, usize),
    Pass(u64),
    /// A broker carries out the next request; or answers with this code instead.
    Work(i32, Option<ErrorCode>),
    /// An answer arrives.
    Arrive(i32),
    /// The latest answer arrives, by a new connection, while it is not noticed yet that the one of the others is broken.
    Overtake(i32),
    /// A connection is lost after so many requests were carried out; perhaps the broker still has the next one in hand.
    Cut(i32, usize, bool),
    /// What a broker had in hand when a connection was lost is carried out.
    Late,
    /// The partition gets another leader, of which the producer has not heard.
    Move(usize),
    /// The producer hears who leads what.
    Tell,
    Identify,
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..NODES;
    let code = prop::sample::select(vec![
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::INVALID_RECORD,
        ErrorCode::MESSAGE_TOO_LARGE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ]);
    let step = prop_oneof![
        10 => (0..PARTITIONS, 1..60_usize).prop_map(|(slot, bytes)| Step::Record(slot, bytes)),
        4 => (1..200_u64).prop_map(Step::Pass),
        1 => (3000..6000_u64).prop_map(Step::Pass),
        8 => node.clone().prop_map(|node| Step::Work(node, None)),
        1 => (node.clone(), code).prop_map(|(node, code)| Step::Work(node, Some(code))),
        8 => node.clone().prop_map(Step::Arrive),
        2 => node.clone().prop_map(Step::Overtake),
        1 => (node, 0..4_usize, any::<bool>()).prop_map(|(n, k, l)| Step::Cut(n, k, l)),
        1 => Just(Step::Late),
        1 => (0..PARTITIONS).prop_map(Step::Move),
        2 => Just(Step::Tell),
        2 => Just(Step::Identify),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..150)
}

/// A batch as it goes over the wire.
#[derive(Clone, Debug)]
struct Sent {
    batch: BatchId,
    slot: Slot,
    stamp: Option<Stamp>,
    records: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Request {
    id: RequestId,
    batches: Vec<Sent>,
}

/// A request and what was said of its batches, on its way back.
type Answered = (RequestId, Vec<(BatchId, Answer)>);

/// A partition, which all brokers see alike.
#[derive(Debug, Default)]
struct Log {
    leader: i32,
    epoch: i32,
    records: Vec<u64>,
    producer: Option<Stamp>,
    /// First sequence, next sequence and offset of the last batches.
    last: VecDeque<(i32, i32, usize)>,
}

impl Log {
    /// Appends as Kafka does: the same batch once, and none before the one in front of it.
    fn append(&mut self, sent: &Sent) -> Result<usize, ErrorCode> {
        let offset = self.records.len();
        let Some(stamp) = sent.stamp else {
            self.records.extend(&sent.records);
            return Ok(offset);
        };
        let next = sequence_after(stamp.base_sequence, sent.records.len() as u32);
        if let Some(known) = self.producer {
            let (known, new) = (known.identity.producer_epoch, stamp.identity.producer_epoch);
            if new < known {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if new > known {
                self.last.clear();
                if stamp.base_sequence != 0 {
                    return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            } else {
                let known = |it: &&(i32, i32, usize)| (it.0, it.1) == (stamp.base_sequence, next);
                if let Some((_, _, offset)) = self.last.iter().find(known) {
                    return Ok(*offset);
                }
                if self.last.back().map(|it| it.1) != Some(stamp.base_sequence) {
                    return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            }
        }
        self.producer = Some(stamp);
        self.last.push_back((stamp.base_sequence, next, offset));
        if self.last.len() > REMEMBERED {
            self.last.pop_front();
        }
        self.records.extend(&sent.records);
        Ok(offset)
    }
}

#[derive(Debug)]
struct World {
    accumulator: Accumulator,
    config: Config,
    now: Now,
    logs: Vec<Log>,
    requests: BTreeMap<i32, VecDeque<Request>>,
    answers: BTreeMap<i32, VecDeque<Answered>>,
    late: Option<(i32, Request)>,
    /// What a broker has found wrong with a batch, by its first record and their number: it finds so again.
    refused: HashMap<(u64, usize), ErrorCode>,
    /// The records of every batch that is not over.
    batches: HashMap<BatchId, (Slot, Vec<u64>)>,
    outcomes: HashMap<u64, Outcome>,
    accepted: u64,
    wants_identity: bool,
    identities: i64,
}

impl World {
    fn new(config: Config) -> Self {
        let now = super::start();
        let mut accumulator = Accumulator::new(now, config.clone());
        let logs = (0..PARTITIONS).map(|slot| {
            accumulator.add_partition();
            Log {
                leader: slot as i32 % NODES,
                ..Log::default()
            }
        });
        Self {
            logs: logs.collect(),
            accumulator,
            config,
            now,
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            late: None,
            refused: HashMap::new(),
            batches: HashMap::new(),
            outcomes: HashMap::new(),
            accepted: 0,
            wants_identity: false,
            identities: 0,
        }
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        let record = match input {
            Input::Record { partition, .. } => Some(partition),
            _ => None,
        };
        self.accumulator.handle(self.now, input, &mut effects);
        self.accumulator.check();
        let limit = self.config.buffer_bytes_max;
        assert!(self.accumulator.buffered_bytes() <= limit);
        for effect in effects {
            self.carry_out(effect, record);
        }
    }

    fn carry_out(&mut self, effect: Effect, record: Option<Slot>) {
        match effect {
            Effect::Put { batch } => {
                let slot = record.expect("said of a record");
                let batch = self.batches.entry(batch).or_insert((slot, Vec::new()));
                assert_eq!(batch.0, slot);
                batch.1.push(self.accepted);
                self.accepted += 1;
            }
            Effect::Full => {
                let held = self.accumulator.buffered_bytes();
                assert!(held > 0, "an empty buffer takes anything");
            }
            Effect::Send {
                request,
                node,
                batches,
            } => {
                let batches = batches.iter().map(|dispatch| {
                    let (slot, records) = self.batches[&dispatch.batch].clone();
                    Sent {
                        batch: dispatch.batch,
                        slot,
                        stamp: dispatch.stamp,
                        records,
                    }
                });
                let request = Request {
                    id: request,
                    batches: batches.collect(),
                };
                let queue = self.requests.entry(node.value()).or_default();
                queue.push_back(request);
            }
            Effect::Split {
                batch,
                records,
                first,
                second,
            } => {
                let (slot, mut whole) = self.batches.remove(&batch).unwrap();
                let rest = whole.split_off(records as usize);
                assert!(!whole.is_empty() && !rest.is_empty());
                self.batches.insert(first, (slot, whole));
                self.batches.insert(second, (slot, rest));
            }
            Effect::Complete { batch, outcome } => {
                let (slot, records) = self.batches.remove(&batch).expect("ends once");
                for (index, record) in records.into_iter().enumerate() {
                    if let Outcome::Delivered { base_offset, .. } = outcome {
                        let offset = base_offset.value() as usize + index;
                        assert_eq!(self.logs[slot].records[offset], record);
                    }
                    assert_eq!(self.outcomes.insert(record, outcome), None);
                }
            }
            Effect::Identify => self.wants_identity = true,
            Effect::Refresh => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Record(partition, bytes) => self.handle(Input::Record { partition, bytes }),
            Step::Pass(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                self.handle(Input::Timeout);
            }
            Step::Work(node, instead) => self.work(node, instead),
            Step::Arrive(node) => {
                let answer = self.answers.get_mut(&node).and_then(VecDeque::pop_front);
                if let Some((request, answers)) = answer {
                    self.handle(Input::Answered { request, answers });
                }
            }
            Step::Overtake(node) => {
                let answer = self.answers.get_mut(&node).and_then(VecDeque::pop_back);
                if let Some((request, answers)) = answer {
                    self.handle(Input::Answered { request, answers });
                }
            }
            Step::Cut(node, done, keeps) => self.cut(node, done, keeps),
            Step::Late => {
                if let Some((node, request)) = self.late.take() {
                    self.answer_to(node, &request, None);
                }
            }
            Step::Move(slot) => {
                let log = &mut self.logs[slot];
                log.leader = (log.leader + 1) % NODES;
                log.epoch += 1;
            }
            Step::Tell => self.tell(),
            Step::Identify => {
                if std::mem::take(&mut self.wants_identity) {
                    self.identities += 1;
                    let identity = Identity {
                        producer_id: ProducerId::new(self.identities),
                        producer_epoch: ProducerEpoch::new(0),
                    };
                    self.handle(Input::Identified { identity });
                }
            }
            Step::Flush => self.handle(Input::Flush),
        }
    }

    fn tell(&mut self) {
        for partition in 0..PARTITIONS {
            let log = &self.logs[partition];
            let input = Input::Leader {
                partition,
                leader: Some(NodeId::new(log.leader)),
                leader_epoch: LeaderEpoch::new(log.epoch),
            };
            self.handle(input);
        }
    }

    fn work(&mut self, node: i32, instead: Option<ErrorCode>) {
        let next = self.requests.get_mut(&node).and_then(VecDeque::pop_front);
        if let Some(request) = next {
            let answers = self.answer_to(node, &request, instead);
            let queue = self.answers.entry(node).or_default();
            queue.push_back((request.id, answers));
        }
    }

    fn answer_to(
        &mut self,
        node: i32,
        request: &Request,
        instead: Option<ErrorCode>,
    ) -> Vec<(BatchId, Answer)> {
        let answers = request.batches.iter().map(|sent| {
            let log = &mut self.logs[sent.slot];
            let content = (sent.records[0], sent.records.len());
            if let Some(code @ (ErrorCode::INVALID_RECORD | ErrorCode::MESSAGE_TOO_LARGE)) = instead
                && log.leader == node
                && !log.records.contains(&content.0)
            {
                self.refused.insert(content, code);
            }
            let refused = self.refused.get(&content).copied();
            let done = match refused.or_else(|| instead.filter(|code| code.is_retriable())) {
                // It may also come after the batch was appended.
                Some(ErrorCode::REQUEST_TIMED_OUT) if log.leader == node => {
                    log.append(sent).and(Err(ErrorCode::REQUEST_TIMED_OUT))
                }
                _ if log.leader != node => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                Some(code) => Err(code),
                None => log.append(sent),
            };
            let answer = Answer {
                error_code: done.err().unwrap_or(ErrorCode::NONE),
                base_offset: done.map_or(Offset::NONE, |offset| Offset::new(offset as i64)),
                log_append_time: Timestamp::NONE,
            };
            (sent.batch, answer)
        });
        answers.collect()
    }

    fn cut(&mut self, node: i32, done: usize, keeps: bool) {
        let mut lost: Vec<RequestId> = Vec::new();
        for (request, _) in self.answers.remove(&node).unwrap_or_default() {
            lost.push(request);
        }
        let mut requests = self.requests.remove(&node).unwrap_or_default();
        lost.extend(requests.iter().map(|request| request.id));
        for request in requests
            .drain(..done.min(requests.len()))
            .collect::<Vec<_>>()
        {
            self.answer_to(node, &request, None);
        }
        if let (true, None, Some(next)) = (keeps, &self.late, requests.pop_front()) {
            self.late = Some((node, next));
        }
        for request in lost {
            self.handle(Input::Lost { request });
        }
    }

    /// Everything works from now on, until nothing is left to do.
    fn calm_down(&mut self) {
        self.step(Step::Flush);
        for _ in 0..1000 {
            if self.batches.is_empty() {
                break;
            }
            self.step(Step::Identify);
            self.tell();
            for node in 0..NODES {
                while self.requests.get(&node).is_some_and(|it| !it.is_empty()) {
                    self.work(node, None);
                }
                while self.answers.get(&node).is_some_and(|it| !it.is_empty()) {
                    self.step(Step::Arrive(node));
                }
            }
            if let Some(due) = self.accumulator.deadline() {
                let passed = due.saturating_duration_since(self.now.instant);
                self.now = self.now + passed;
                self.handle(Input::Timeout);
            }
        }
        assert_eq!(self.batches.len(), 0, "everything comes to an end");
        assert_eq!(self.accumulator.buffered_bytes(), 0);
        for record in 0..self.accepted {
            assert!(
                self.outcomes.contains_key(&record),
                "{record} has an outcome"
            );
        }
    }

    /// Nothing twice, nothing out of order, and what was delivered is there.
    fn check_logs(&self) {
        for log in &self.logs {
            let is_in_order = log.records.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(is_in_order, "{:?}", log.records);
        }
        let all: Vec<u64> = self
            .logs
            .iter()
            .flat_map(|log| log.records.clone())
            .collect();
        for (record, outcome) in &self.outcomes {
            if matches!(outcome, Outcome::Delivered { .. }) {
                assert!(all.contains(record), "{record} is in the log");
            }
            if matches!(outcome, Outcome::Refused { .. }) {
                assert!(!all.contains(record), "{record} was refused");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn with_idempotence_nothing_is_lost_doubled_or_reordered(
        steps in steps(),
        in_flight_max in 1..6_usize,
    ) {
        let mut world = World::new(Config { in_flight_max, ..super::config() });
        for step in steps {
            world.step(step);
        }
        world.calm_down();
        world.check_logs();
    }

    #[test]
    fn without_idempotence_every_record_has_one_outcome(
        steps in steps(),
        in_flight_max in 1..8_usize,
    ) {
        let config = Config { in_flight_max, is_idempotent: false, ..super::config() };
        let mut world = World::new(config);
        for step in steps {
            world.step(step);
        }
        world.calm_down();
    }
}
