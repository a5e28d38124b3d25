//! The state of a producer: the accumulator, and the bytes that it decides about.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use tidelog_record::{Batch, BatchBuilder, Compression, HeaderRef};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, PartitionIndex, Timestamp, TopicName};
use tokio::sync::mpsc;

use super::accumulator::{
    Accumulator, Answer, BatchId, Dispatch, Effect, Input, Outcome, RequestId, Slot, Stamp,
};
use super::delivery::{Cell, Delivery, Ended};
use super::partitioner::{Sticky, partition_for_key};
use super::{ProduceError, ProducerConfig, ProducerRecord, ProducerStatistics};
use crate::backoff::Random;
use crate::clock::Clock;
use crate::metadata::Cluster;

/// What is to be sent in one request.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) request: RequestId,
    pub(super) batches: Vec<Ordered>,
}

/// A batch of an order.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) batch: BatchId,
    pub(super) topic: TopicName,
    pub(super) partition: PartitionIndex,
    pub(super) stamp: Option<Stamp>,
    pub(super) content: Content,
}

/// The records of a batch.
#[derive(Debug)]
pub(super) enum Content {
    /// Not compressed yet.
    Open(BatchBuilder),
    /// As it was sent.
    Built(Batch),
    /// With the task that sends it.
    Away,
}

/// What a broker has said of a batch beside the code.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) message: Option<Arc<str>>,
    pub(super) records: HashMap<u32, Option<Arc<str>>>,
}

#[derive(Debug)]
struct Buffer {
    slot: Slot,
    content: Content,
    cell: Arc<Cell>,
}

/// A partition that the producer writes to.
#[derive(Debug)]
struct Target {
    topic: TopicName,
    /// Where among the topics that one is.
    topic_index: usize,
    partition: PartitionIndex,
    /// How large the last batch became, which the next one makes room for.
    batch_bytes: usize,
    /// What went wrong last.
    failure: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Topic {
    /// What stands for each partition in the accumulator.
    slots: Vec<Slot>,
    sticky: Sticky,
}

/// What tasks have to do that the core cannot.
#[derive(Debug, Default)]
pub(super) struct Chores {
    pub(super) identify: bool,
    pub(super) refresh: bool,
    /// Brokers to which something goes for the first time.
    pub(super) nodes: Vec<(NodeId, mpsc::UnboundedReceiver<Order>)>,
    /// Batches that are over, to be told when the lock is released.
    pub(super) ended: Vec<(Arc<Cell>, Ended)>,
}

/// What became of a record that was to be put into a batch.
pub(super) enum Put {
    /// It is in a batch that was open before, so that nothing else is to be done.
    Joined(Delivery),
    /// It is the first of a batch.
    Opened(Delivery),
    /// There is no room.
    Full,
    /// The topic is not known, or not that it has so many partitions.
    Unknown,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Core {
    accumulator: Accumulator,
    effects: Vec<Effect>,
    topics: Vec<Topic>,
    topic_indexes: FxHashMap<TopicName, usize>,
    targets: Vec<Target>,
    buffers: FxHashMap<BatchId, Buffer>,
    details: FxHashMap<BatchId, Details>,
    nodes: HashMap<NodeId, mpsc::UnboundedSender<Order>>,
    config: ProducerConfig,
    random: Random,
    clock: Clock,
    pub(super) chores: Chores,
    pub(super) statistics: ProducerStatistics,
    /// Until when the timer sleeps.
    pub(super) timer_at: Option<Instant>,
    pub(super) is_closed: bool,
}

impl Core {
    pub(super) fn new(config: ProducerConfig, client: &crate::Config) -> Self {
        let mut clock = Clock::new();
        Self {
            accumulator: Accumulator::new(clock.now(), config.accumulator(client)),
            effects: Vec::new(),
            topics: Vec::new(),
            topic_indexes: FxHashMap::default(),
            targets: Vec::new(),
            buffers: FxHashMap::default(),
            details: FxHashMap::default(),
            nodes: HashMap::new(),
            config,
            random: Random::seeded(),
            clock,
            chores: Chores::default(),
            statistics: ProducerStatistics::default(),
            timer_at: None,
            is_closed: false,
        }
    }

    /// Has the accumulator take in what has happened, and does what it wants.
    pub(super) fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.accumulator.handle(now, input, &mut self.effects);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send {
                    request,
                    node,
                    batches,
                } => self.send(request, node, &batches),
                Effect::Split {
                    batch,
                    records,
                    first,
                    second,
                } => self.split(batch, records, [first, second]),
                Effect::Complete { batch, outcome } => self.complete(batch, outcome),
                Effect::Identify => self.chores.identify = true,
                Effect::Refresh => self.chores.refresh = true,
                Effect::Put { .. } | Effect::Full => {
                    unreachable!("said of records only, which are put elsewhere")
                }
            }
        }
        self.effects = effects;
    }

    /// When the accumulator wants to be called again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.accumulator.deadline()
    }

    /// Puts a record into the batch that it belongs to.
    pub(super) fn put(&mut self, record: &ProducerRecord<'_>) -> Result<Put, ProduceError> {
        if self.is_closed {
            return Err(ProduceError::Closed);
        }
        let bytes = record.size();
        if bytes > self.config.request_bytes_max {
            let max = self.config.request_bytes_max;
            return Err(ProduceError::TooLarge { bytes, max });
        }
        let Some(slot) = self.slot(record)? else {
            return Ok(Put::Unknown);
        };
        if let Some(batch) = self.accumulator.join(slot, bytes) {
            let delivery = self.append(batch, record);
            self.count(slot, record, bytes);
            return Ok(Put::Joined(delivery));
        }
        let now = self.clock.now();
        let input = Input::Record {
            partition: slot,
            bytes,
        };
        self.accumulator.handle(now, input, &mut self.effects);
        let is_verdict = |effect: &Effect| matches!(effect, Effect::Put { .. } | Effect::Full);
        let verdict = self.effects.iter().position(is_verdict);
        let verdict = verdict.map(|index| self.effects.remove(index));
        let Some(Effect::Put { batch }) = verdict else {
            self.carry_out();
            return Ok(Put::Full);
        };
        self.open(batch, slot);
        let delivery = self.append(batch, record);
        self.count(slot, record, bytes);
        self.carry_out();
        Ok(Put::Opened(delivery))
    }

    /// Begins to keep a batch.
    fn open(&mut self, batch: BatchId, slot: Slot) {
        let target = &self.targets[slot];
        // Of a few sizes only, so that the memory of a batch that is over serves the next one as it is.
        let room = target.batch_bytes.next_power_of_two();
        let room = room.min(self.config.batch_bytes_max);
        let builder = BatchBuilder::new(self.config.compression).capacity(room);
        let buffer = Buffer {
            slot,
            content: Content::Open(builder),
            cell: Cell::new(target.topic.clone(), target.partition),
        };
        self.buffers.insert(batch, buffer);
    }

    fn append(&mut self, batch: BatchId, record: &ProducerRecord<'_>) -> Delivery {
        let buffer = self.buffers.get_mut(&batch);
        let buffer = buffer.expect("a batch that takes records is kept");
        let Content::Open(builder) = &mut buffer.content else {
            unreachable!("what takes records has not been sent");
        };
        let index = builder.records_count() as u32;
        let clock = &mut self.clock;
        let timestamp = record.timestamp.unwrap_or_else(|| clock.now().timestamp);
        builder.push(timestamp, record.key, record.value, &record.headers);
        Delivery::new(buffer.cell.clone(), index, timestamp)
    }

    /// Takes note of a record that is in a batch.
    fn count(&mut self, slot: Slot, record: &ProducerRecord<'_>, bytes: usize) {
        self.statistics.records += 1;
        self.statistics.record_bytes += bytes as u64;
        if record.partition.is_none() && record.key.is_none() {
            let sticky = &mut self.topics[self.targets[slot].topic_index].sticky;
            let has_room = || self.accumulator.has_room_in_open(slot, bytes);
            sticky.count(bytes, self.config.batch_bytes_max, has_room);
        }
    }

    /// What stands for the record's partition, if topic and partition are known.
    fn slot(&mut self, record: &ProducerRecord<'_>) -> Result<Option<Slot>, ProduceError> {
        let Some(index) = self.topic_indexes.get(record.topic) else {
            return Ok(None);
        };
        let topic = &mut self.topics[*index];
        let partitions = topic.slots.len() as i32;
        let partition = match (record.partition, record.key, &self.config.partitioner) {
            (Some(partition), _, _) => partition,
            (None, key, Some(own)) => own.partition(record.topic, key, record.value, partitions),
            (None, Some(key), None) => partition_for_key(key, partitions),
            (None, None, None) => {
                let accumulator = &self.accumulator;
                let slots = topic.slots.iter().enumerate();
                let loads = || {
                    let led = slots.filter(|(_, slot)| accumulator.has_leader(**slot));
                    led.map(|(index, slot)| (index as i32, accumulator.queued(*slot)))
                        .collect()
                };
                topic.sticky.partition(partitions, &mut self.random, loads)
            }
        };
        if partition < 0 {
            return Err(ProduceError::NoPartition {
                topic: record.topic.into(),
                partition,
                partitions,
            });
        }
        Ok(topic.slots.get(partition as usize).copied())
    }

    /// Takes over what the client knows of a topic; false if that is nothing.
    pub(super) fn learn(&mut self, name: &TopicName, cluster: &Cluster) -> bool {
        let Some(known) = cluster.topics.get(name) else {
            return false;
        };
        let topic_index = self.topic_indexes.get(name).copied();
        if topic_index.is_none() && known.partitions.is_empty() {
            return false;
        }
        let topic_index = topic_index.unwrap_or_else(|| {
            self.topics.push(Topic::default());
            let index = self.topics.len() - 1;
            self.topic_indexes.insert(name.clone(), index);
            index
        });
        for (index, partition) in known.partitions.iter().enumerate() {
            let slots = &mut self.topics[topic_index].slots;
            if index == slots.len() {
                slots.push(self.accumulator.add_partition());
                self.targets.push(Target {
                    topic: name.clone(),
                    topic_index,
                    partition: index as i32,
                    batch_bytes: 0,
                    failure: None,
                });
            }
            let (slot, leader) = (slots[index], partition.leader);
            self.lead(slot, leader, partition.leader_epoch);
        }
        true
    }

    fn lead(&mut self, partition: Slot, leader: Option<NodeId>, leader_epoch: LeaderEpoch) {
        self.handle(Input::Leader {
            partition,
            leader,
            leader_epoch,
        });
    }

    /// The topics that the producer has to do with.
    pub(super) fn topics(&self) -> Vec<TopicName> {
        self.topic_indexes.keys().cloned().collect()
    }

    /// How many partitions the topic has, as far as is known.
    pub(super) fn partitions(&self, topic: &str) -> i32 {
        let index = self.topic_indexes.get(topic);
        index.map_or(0, |index| self.topics[*index].slots.len() as i32)
    }

    /// Those batches that are not over.
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        let buffers = self.buffers.values();
        buffers.map(|buffer| buffer.cell.clone()).collect()
    }

    /// The figures of the moment.
    pub(super) fn snapshot(&self) -> ProducerStatistics {
        ProducerStatistics {
            buffered_bytes: self.accumulator.buffered_bytes(),
            requests_in_flight: self.accumulator.requests_in_flight(),
            ..self.statistics
        }
    }

    fn send(&mut self, request: RequestId, node: NodeId, batches: &[Dispatch]) {
        let ordered = batches.iter().map(|dispatch| {
            let buffer = self.buffers.get_mut(&dispatch.batch);
            let buffer = buffer.expect("a batch that is sent has records");
            let target = &mut self.targets[buffer.slot];
            if let Content::Open(builder) = &buffer.content {
                target.batch_bytes = builder.size();
            }
            Ordered {
                batch: dispatch.batch,
                topic: target.topic.clone(),
                partition: target.partition,
                stamp: dispatch.stamp,
                content: std::mem::replace(&mut buffer.content, Content::Away),
            }
        });
        let order = Order {
            request,
            batches: ordered.collect(),
        };
        self.statistics.requests += 1;
        self.statistics.batches += batches.len() as u64;
        let nodes = self.nodes.entry(node).or_insert_with(|| {
            let (orders, taken) = mpsc::unbounded_channel();
            self.chores.nodes.push((node, taken));
            orders
        });
        // A task that has ended has been told to, along with everything else.
        let _ = nodes.send(order);
    }

    /// No task is to send anything any more.
    pub(super) fn end_nodes(&mut self) {
        self.nodes.clear();
    }

    /// The batches of an order come back from the task that sent them.
    pub(super) fn take_back(&mut self, batches: Vec<Ordered>) {
        for ordered in batches {
            // What is over is gone.
            if let Some(buffer) = self.buffers.get_mut(&ordered.batch) {
                buffer.content = ordered.content;
            }
        }
    }

    /// A request is over without an answer.
    pub(super) fn lost(&mut self, order: Order, why: &str) {
        let why: Arc<str> = why.into();
        for ordered in &order.batches {
            self.note_failure(ordered.batch, why.clone());
        }
        self.statistics.retries += order.batches.len() as u64;
        self.take_back(order.batches);
        self.handle(Input::Lost {
            request: order.request,
        });
    }

    /// A request was answered.
    pub(super) fn answered(
        &mut self,
        order: Order,
        answers: Vec<(BatchId, Answer)>,
        details: Vec<(BatchId, Details)>,
    ) {
        for (batch, answer) in &answers {
            let code = answer.error_code;
            if !code.is_ok() {
                self.statistics.retries += u64::from(code.is_retriable());
                self.note_failure(*batch, format!("{} ({code})", code.text()).into());
            }
        }
        self.details.extend(details);
        self.take_back(order.batches);
        self.handle(Input::Answered {
            request: order.request,
            answers,
        });
        self.details.clear();
    }

    fn note_failure(&mut self, batch: BatchId, why: Arc<str>) {
        if let Some(buffer) = self.buffers.get(&batch) {
            self.targets[buffer.slot].failure = Some(why);
        }
    }

    fn complete(&mut self, batch: BatchId, outcome: Outcome) {
        let Some(buffer) = self.buffers.remove(&batch) else {
            return;
        };
        let target = &mut self.targets[buffer.slot];
        let (topic, partition) = (target.topic.clone(), target.partition);
        let details = self.details.remove(&batch).unwrap_or_default();
        let how = match outcome {
            Outcome::Delivered {
                base_offset,
                log_append_time,
            } => {
                target.failure = None;
                Ended::Delivered {
                    base_offset,
                    log_append_time,
                }
            }
            Outcome::Refused { error_code: code } if !details.records.is_empty() => {
                let records = details.records;
                Ended::Invalid { code, records }
            }
            Outcome::Refused { error_code: code } => Ended::Failed(ProduceError::Refused {
                topic,
                partition,
                code,
                message: details.message,
            }),
            Outcome::TimedOut => Ended::Failed(ProduceError::TimedOut {
                topic,
                partition,
                timeout: self.config.delivery_timeout,
                cause: target.failure.clone(),
            }),
            Outcome::Unidentified { error_code: code } => {
                Ended::Failed(ProduceError::Unidentified { code })
            }
            Outcome::Aborted => Ended::Failed(ProduceError::Closed),
        };
        match how {
            Ended::Delivered { .. } => self.statistics.batches_delivered += 1,
            _ => self.statistics.batches_failed += 1,
        }
        self.chores.ended.push((buffer.cell, how));
    }

    /// The records of a batch move into two.
    fn split(&mut self, batch: BatchId, records: u32, halves: [BatchId; 2]) {
        let buffer = self.buffers.remove(&batch);
        let buffer = buffer.expect("a batch that was sent has records");
        let Content::Built(built) = &buffer.content else {
            unreachable!("a batch that was answered has been built");
        };
        let builders = divide(built, records, self.config.compression);
        let cells = buffer.cell.split(records);
        for ((id, builder), cell) in halves.into_iter().zip(builders).zip(cells) {
            let half = Buffer {
                slot: buffer.slot,
                content: Content::Open(builder),
                cell,
            };
            self.buffers.insert(id, half);
        }
    }
}

/// The records of a batch of ours, the first `records` in one builder and the rest in another.
fn divide(batch: &Batch, records: u32, compression: Compression) -> [BatchBuilder; 2] {
    let mut builders = [(); 2].map(|()| BatchBuilder::new(compression));
    let mut walk = batch.walk().expect("a batch that we built");
    let mut seen = 0;
    while let Some(record) = walk.next_record().expect("a record that we wrote") {
        let headers: Vec<HeaderRef<'_>> = record.headers.iter().collect();
        let half = usize::from(seen >= records);
        builders[half].push(record.timestamp, record.key, record.value, &headers);
        seen += 1;
    }
    builders
}

/// An answer where the broker gave none worth the name.
pub(super) const fn without_offset(error_code: ErrorCode) -> Answer {
    Answer {
        error_code,
        base_offset: Offset::NONE,
        log_append_time: Timestamp::NONE,
    }
}
