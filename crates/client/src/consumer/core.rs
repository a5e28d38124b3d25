//! The state of a consumer: the fetcher, the bytes that it decides about, and what waits for the application.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use rustc_hash::FxHashMap;
use tidelog_protocol::messages::fetch::AbortedTransaction;
use tidelog_types::{ErrorCode, NodeId, Now, Offset, TopicName, TopicPartition, Uuid};

use super::commits::Commits;
use super::fetcher::{
    Effect, FetchAnswer, FetchAnswers, Fetcher, Input, Position, RequestId, Slot, Start, Wanted,
};
use super::group::{Group, Notice};
use super::membership;
use super::reader::{Chunk, Progress};
use super::{ConsumeError, ConsumerConfig, ConsumerStatistics};
use crate::clock::Clock;
use crate::{Client, ClientError, OffsetReset, OffsetSpec};

/// A partition, as requests name it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) slot: Slot,
    pub(super) partition: TopicPartition,
    /// Zero if the broker is too old to say (before KIP-516).
    pub(super) topic_id: Uuid,
}

/// A request that a task is to send.
#[derive(Debug)]
pub(super) enum Order {
    Committed {
        request: RequestId,
        partitions: Vec<Target>,
    },
    Lookup {
        request: RequestId,
        node: NodeId,
        partitions: Vec<(Target, OffsetSpec, tidelog_types::LeaderEpoch)>,
    },
    EpochEnds {
        request: RequestId,
        node: NodeId,
        partitions: Vec<(
            Target,
            tidelog_types::LeaderEpoch,
            tidelog_types::LeaderEpoch,
        )>,
    },
    Fetch(FetchOrder),
}

/// A fetch that a task is to send.
#[derive(Debug)]
pub(super) struct FetchOrder {
    pub(super) request: RequestId,
    pub(super) node: NodeId,
    pub(super) session_id: i32,
    pub(super) session_epoch: i32,
    pub(super) bytes_max: usize,
    pub(super) partitions: Vec<(Target, Wanted)>,
    pub(super) forgotten: Vec<Target>,
}

/// What a fetch brought for a partition, before anybody has said that it is wanted.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) partition: TopicPartition,
    pub(super) answer: FetchAnswer,
    pub(super) batches: bytes::Bytes,
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) watermarks: Watermarks,
    /// Nothing of it can be read.
    pub(super) damage: Option<Arc<tidelog_record::BatchError>>,
}

/// Where a partition begins and ends, as of the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// The first offset that there still is; [`Offset::NONE`] if that is not known yet.
    pub log_start_offset: Offset,
    /// The first offset that is not yet on all in-sync replicas: the end, for who reads all records.
    pub high_watermark: Offset,
    /// The first offset of a transaction that is open: the end, for who reads committed records only.
    pub last_stable_offset: Offset,
}

/// A partition of the consumer's.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) progress: Arc<Progress>,
    pub(super) watermarks: Option<Watermarks>,
    pub(super) is_paused: bool,
    /// How many chunks of it wait, or are with the application.
    chunks: usize,
}

/// What waits for the application.
#[derive(Debug)]
pub(super) enum Ready {
    Chunk(Chunk),
    Notice(Notice),
    Error(ConsumeError),
}

/// What tasks have to do that the core cannot.
#[derive(Debug, Default)]
pub(super) struct Chores {
    pub(super) orders: Vec<Order>,
    pub(super) heartbeats: Vec<(membership::RequestId, membership::Heartbeat)>,
    /// What a member of a classic group says.
    pub(super) classic: Vec<membership::Effect>,
    pub(super) refresh: bool,
    /// Others wait for the refresh: it comes at once, however short a time ago the last one was.
    pub(super) others_wait: bool,
    /// The group was left.
    pub(super) left: bool,
    pub(super) wake: Option<Waker>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Core {
    fetcher: Fetcher,
    effects: Vec<Effect>,
    targets: Vec<Target>,
    slots: FxHashMap<TopicPartition, Slot>,
    pub(super) assigned: BTreeMap<Slot, Assigned>,
    ready: VecDeque<Ready>,
    /// Who waits for something to become ready.
    waker: Option<Waker>,
    /// What the answer that is being taken in brought.
    arrivals: FxHashMap<Slot, Arrival>,
    /// Topics that the cluster does not know, since when, and whether the application was told.
    pub(super) unknown_topics: HashMap<TopicName, (Instant, bool)>,
    /// Whether it has been told that brokers and client do not agree who they are.
    is_distrust_told: bool,
    pub(super) commits: Commits,
    /// Once the consumer has subscribed to something.
    pub(super) group: Option<Group>,
    pub(super) client: Client,
    pub(super) config: ConsumerConfig,
    clock: Clock,
    pub(super) chores: Chores,
    pub(super) statistics: ConsumerStatistics,
    /// Until when the timer sleeps.
    pub(super) timer_at: Option<Instant>,
    pub(super) is_closed: bool,
}

impl Core {
    pub(super) fn new(config: ConsumerConfig, client: Client) -> Self {
        let mut clock = Clock::new();
        Self {
            fetcher: Fetcher::new(clock.now(), config.fetcher(client.config())),
            effects: Vec::new(),
            targets: Vec::new(),
            slots: FxHashMap::default(),
            assigned: BTreeMap::new(),
            ready: VecDeque::new(),
            waker: None,
            arrivals: FxHashMap::default(),
            unknown_topics: HashMap::new(),
            is_distrust_told: false,
            commits: Commits::default(),
            group: None,
            client,
            config,
            clock,
            chores: Chores::default(),
            statistics: ConsumerStatistics::default(),
            timer_at: None,
            is_closed: false,
        }
    }

    /// Has the fetcher take in what has happened, and does what it wants.
    pub(super) fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.fetcher.handle(now, input, &mut self.effects);
        // Some effects have inputs of their own.
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::FetchCommitted { request, slots } => {
                let partitions = slots.iter().map(|slot| self.targets[*slot].clone());
                let partitions = partitions.collect();
                self.order(Order::Committed {
                    request,
                    partitions,
                });
            }
            Effect::Lookup {
                request,
                node,
                partitions,
            } => {
                let partitions = partitions.into_iter();
                let partitions =
                    partitions.map(|(slot, spec, epoch)| (self.targets[slot].clone(), spec, epoch));
                let partitions = partitions.collect();
                self.order(Order::Lookup {
                    request,
                    node,
                    partitions,
                });
            }
            Effect::AskEpochEnds {
                request,
                node,
                partitions,
            } => {
                let partitions = partitions.into_iter();
                let partitions =
                    partitions.map(|(slot, known, of)| (self.targets[slot].clone(), known, of));
                let partitions = partitions.collect();
                self.order(Order::EpochEnds {
                    request,
                    node,
                    partitions,
                });
            }
            Effect::Fetch {
                request,
                node,
                session_id,
                session_epoch,
                bytes_max,
                partitions,
                forgotten,
            } => {
                self.statistics.fetches += 1;
                let target = |slot: Slot| self.targets[slot].clone();
                let order = FetchOrder {
                    request,
                    node,
                    session_id,
                    session_epoch,
                    bytes_max,
                    partitions: partitions.iter().map(|it| (target(it.slot), *it)).collect(),
                    forgotten: forgotten.into_iter().map(target).collect(),
                };
                self.order(Order::Fetch(order));
            }
            Effect::Keep { slot, from } => self.keep(slot, from),
            Effect::Begin { slot, position } => {
                if let Some(assigned) = self.assigned.get(&slot).filter(|it| it.chunks == 0) {
                    assigned.progress.set(position);
                }
            }
            Effect::Truncated { slot, to } => self.truncated(slot, to),
            Effect::OutOfRange { slot, offset } => {
                let partition = self.targets[slot].partition.clone();
                self.tell(ConsumeError::OutOfRange { partition, offset });
            }
            Effect::NoOffset { slot } => {
                let partition = self.targets[slot].partition.clone();
                self.tell(ConsumeError::NoOffset { partition });
            }
            Effect::Refused { slot, error_code } => {
                let partition = self.targets[slot].partition.clone();
                let code = error_code;
                self.tell(ConsumeError::Refused { partition, code });
            }
            Effect::Refresh => self.chores.refresh = true,
        }
    }

    fn order(&mut self, order: Order) {
        self.chores.orders.push(order);
    }

    pub(super) fn now(&mut self) -> Now {
        self.clock.now()
    }

    /// When one of the machines wants to be called again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let fetcher = self.fetcher.deadline().into_iter();
        fetcher.chain(self.member_deadline()).min()
    }

    /// Something is due, or was.
    pub(super) fn fire(&mut self, has_polled: bool) {
        if has_polled || self.is_waited_for() {
            self.handle_member(membership::Input::Polled);
        }
        self.handle(Input::Timeout);
        self.handle_member(membership::Input::Timeout);
    }

    // ---- what the application does

    pub(super) fn push(&mut self, ready: Ready) {
        self.ready.push_back(ready);
        self.wake();
    }

    /// Tells the application before it gets anything else.
    pub(super) fn notify_first(&mut self, notice: Notice) {
        self.ready.push_front(Ready::Notice(notice));
        self.wake();
    }

    /// What was to be given up is lost.
    pub(super) fn forget_demands(&mut self) {
        let is_demand = |it: &Ready| matches!(it, Ready::Notice(it) if it.demand.is_some());
        self.ready.retain(|it| !is_demand(it));
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            self.chores.wake = Some(waker);
        }
    }

    pub(super) fn tell(&mut self, error: ConsumeError) {
        self.push(Ready::Error(error));
    }

    /// What is ready, or a wake-up when something is.
    pub(super) fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<Ready> {
        if let Some(ready) = self.ready.pop_front() {
            return Poll::Ready(ready);
        }
        if self.is_closed {
            return Poll::Ready(Ready::Error(ConsumeError::Closed));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The application has taken everything of a chunk.
    pub(super) fn taken(&mut self, chunk: &Chunk) {
        if chunk.progress.is_void() {
            return;
        }
        let (slot, bytes) = (chunk.slot, chunk.bytes);
        if let Some(assigned) = self.assigned.get_mut(&slot) {
            assigned.chunks -= 1;
        }
        self.handle(Input::Taken { slot, bytes });
    }

    /// The records behind the position cannot be read.
    pub(super) fn stop(&mut self, partition: &TopicPartition) {
        if let Some(slot) = self.stop_reading(partition) {
            self.handle(Input::Stop { slot });
        }
    }

    /// Drops what is kept of a partition.
    fn stop_reading(&mut self, partition: &TopicPartition) -> Option<Slot> {
        let slot = self.assigned_slot(partition)?;
        self.let_go(slot);
        Some(slot)
    }

    /// What stands for the partition.
    fn slot(&mut self, partition: &TopicPartition) -> Slot {
        if let Some(slot) = self.slots.get(partition) {
            return *slot;
        }
        let slot = self.targets.len();
        self.targets.push(Target {
            slot,
            partition: partition.clone(),
            topic_id: Uuid::ZERO,
        });
        self.slots.insert(partition.clone(), slot);
        slot
    }

    /// Makes partitions the consumer's, to be read from there. Those that are already go on.
    pub(super) fn assign(&mut self, partitions: &[TopicPartition], start: Start) {
        let mut starts = Vec::new();
        for partition in partitions {
            let slot = self.slot(partition);
            if self.assigned.contains_key(&slot) {
                continue;
            }
            let nowhere = Position::at(Offset::NONE);
            let assigned = Assigned {
                progress: Progress::new(partition.clone(), nowhere),
                watermarks: None,
                is_paused: false,
                chunks: 0,
            };
            self.assigned.insert(slot, assigned);
            self.learn_of(slot);
            starts.push((slot, start));
        }
        self.handle(Input::Assign { starts });
    }

    pub(super) fn unassign(&mut self, partition: &TopicPartition) {
        let Some(slot) = self.slots.get(partition).copied() else {
            return;
        };
        self.let_go(slot);
        self.assigned.remove(&slot);
        self.handle(Input::Unassign { slot });
    }

    /// Drops what is kept of a partition, which goes on where the application is.
    fn let_go(&mut self, slot: Slot) {
        if let Some(assigned) = self.assigned.get_mut(&slot) {
            assigned.progress.end();
            let at = assigned.progress.position();
            let at = at.unwrap_or(Position::at(Offset::NONE));
            assigned.progress = Progress::new(assigned.progress.partition.clone(), at);
            assigned.chunks = 0;
        }
        self.ready
            .retain(|it| !matches!(it, Ready::Chunk(chunk) if chunk.slot == slot));
    }

    /// Goes on somewhere else; false if the partition is not the consumer's.
    pub(super) fn seek(&mut self, partition: &TopicPartition, start: Start) -> bool {
        let Some(slot) = self.assigned_slot(partition) else {
            return false;
        };
        self.let_go(slot);
        if let Some(assigned) = self.assigned.get(&slot) {
            assigned.progress.set(Position::at(Offset::NONE));
        }
        self.restart(slot, start);
        true
    }

    fn restart(&mut self, slot: Slot, start: Start) {
        let starts = vec![(slot, start)];
        self.handle(Input::Assign { starts });
    }

    /// Hands nothing of the partition out, or again; false if it is not the consumer's.
    pub(super) fn pause(&mut self, partition: &TopicPartition, is_paused: bool) -> bool {
        let Some(slot) = self.assigned_slot(partition) else {
            return false;
        };
        if let Some(assigned) = self.assigned.get_mut(&slot) {
            assigned.is_paused = is_paused;
        }
        if !is_paused {
            self.handle(Input::Resume { slot });
            return true;
        }
        // What is kept would take the room of others.
        self.handle(Input::Pause { slot });
        let position = self.assigned[&slot].progress.position();
        if let Some(position) = position.filter(|_| self.assigned[&slot].chunks > 0) {
            self.let_go(slot);
            self.restart(slot, Start::At(position));
        }
        true
    }

    fn assigned_slot(&self, partition: &TopicPartition) -> Option<Slot> {
        let slot = self.slots.get(partition).copied();
        slot.filter(|slot| self.assigned.contains_key(slot))
    }

    pub(super) fn assigned_of(&self, partition: &TopicPartition) -> Option<&Assigned> {
        self.assigned.get(self.slots.get(partition)?)
    }

    /// How far the application is in those of these partitions that are the consumer's.
    pub(super) fn owned_of<'a>(
        &self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Vec<Arc<Progress>> {
        let owned = partitions.filter_map(|it| self.assigned_of(it));
        owned.map(|it| it.progress.clone()).collect()
    }

    /// Whether the partition is the consumer's ever since. Meanwhile it may have been another one's.
    pub(super) fn still_owns(&self, progress: &Arc<Progress>) -> bool {
        let assigned = self.assigned_of(&progress.partition);
        assigned.is_some_and(|it| Arc::ptr_eq(&it.progress, progress))
    }

    /// The partitions that are the consumer's.
    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        let assigned = self.assigned.values();
        let mut all: Vec<_> = assigned.map(|it| it.progress.partition.clone()).collect();
        all.sort();
        all
    }

    /// Whether the application waits for something to become ready.
    pub(super) const fn is_waited_for(&self) -> bool {
        self.waker.is_some()
    }

    /// How far the application is in each partition, as far as that is settled.
    pub(super) fn positions(&self) -> BTreeMap<TopicPartition, Position> {
        let assigned = self.assigned.values();
        let settled = assigned.filter_map(|it| {
            let position = it.progress.position()?;
            Some((it.progress.partition.clone(), position))
        });
        settled.collect()
    }

    // ---- what brokers say

    /// The topics that the consumer has to do with.
    pub(super) fn topics(&self) -> Vec<TopicName> {
        let slots = self.assigned.keys();
        let topics = slots.map(|slot| self.targets[*slot].partition.topic.clone());
        let mut topics: Vec<_> = topics.chain(self.subscribed().0).collect();
        topics.sort();
        topics.dedup();
        topics
    }

    /// Takes over what the client knows of a topic.
    pub(super) fn learn(&mut self, topic: &TopicName) {
        let slots = self.assigned.keys().copied();
        let slots: Vec<Slot> = slots
            .filter(|slot| self.targets[*slot].partition.topic == *topic)
            .collect();
        for slot in slots {
            self.learn_of(slot);
        }
    }

    fn learn_of(&mut self, slot: Slot) {
        let target = &mut self.targets[slot];
        let index = usize::try_from(target.partition.partition).unwrap_or(usize::MAX);
        let known = self.client.read_cluster(|cluster| {
            let topic = cluster.topics.get(&target.partition.topic)?;
            Some((topic.id, topic.partitions.get(index).copied()))
        });
        let Some((topic_id, partition)) = known else {
            return;
        };
        target.topic_id = topic_id;
        self.unknown_topics.remove(&target.partition.topic);
        if let Some(partition) = partition {
            self.handle(Input::Leader {
                slot,
                topic_id,
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
            });
        }
    }

    /// The cluster says that it has no such topic, or not for us.
    pub(super) fn topic_failed(&mut self, topic: &TopicName, code: ErrorCode) {
        // A group may wait for a topic that nobody has created yet.
        if self.subscribed().0.contains(topic) && code.is_retriable() {
            return;
        }
        let now = self.clock.now().instant;
        let known = self.unknown_topics.entry(topic.clone());
        let (since, is_told) = known.or_insert((now, false));
        let is_over = now.duration_since(*since) >= self.config.topic_timeout;
        if !*is_told && (is_over || !code.is_retriable()) {
            *is_told = true;
            let topic = topic.clone();
            self.tell(ConsumeError::Topic { topic, code });
        }
    }

    /// A request came to nothing. That nobody is let in is told, once until somebody is.
    pub(super) fn failed(&mut self, error: ClientError) {
        if error.is_distrust() && !std::mem::replace(&mut self.is_distrust_told, true) {
            self.tell(error.into());
        }
    }

    pub(super) fn fetched(
        &mut self,
        request: RequestId,
        answers: FetchAnswers,
        arrivals: Vec<Arrival>,
    ) {
        self.is_distrust_told = false;
        let mut answers = answers;
        for arrival in arrivals {
            let Some(slot) = self.slots.get(&arrival.partition).copied() else {
                continue;
            };
            answers.partitions.push((slot, arrival.answer));
            if let Some(assigned) = self.assigned.get_mut(&slot) {
                assigned.watermarks = match arrival.answer.error_code.is_ok() {
                    true => Some(arrival.watermarks),
                    false => assigned.watermarks,
                };
            }
            self.arrivals.insert(slot, arrival);
        }
        self.handle(Input::Fetched { request, answers });
        self.arrivals.clear();
    }

    fn keep(&mut self, slot: Slot, from: Offset) {
        let Some(arrival) = self.arrivals.remove(&slot) else {
            return;
        };
        let Some(assigned) = self.assigned.get_mut(&slot) else {
            return;
        };
        let progress = assigned.progress.clone();
        let bytes = arrival.answer.records.map_or(0, |(bytes, _)| bytes);
        if let Some(source) = arrival.damage {
            let partition = progress.partition.clone();
            self.stop(&partition);
            return self.tell(ConsumeError::Damaged {
                partition,
                offset: from,
                source,
            });
        }
        assigned.chunks += 1;
        self.statistics.bytes_fetched += bytes as u64;
        self.push(Ready::Chunk(Chunk {
            slot,
            progress,
            batches: arrival.batches,
            bytes,
            from,
            aborted: arrival.aborted,
        }));
    }

    /// What was fetched is not in the leader's log beyond this place.
    fn truncated(&mut self, slot: Slot, to: Position) {
        self.let_go(slot);
        let Some(assigned) = self.assigned.get(&slot) else {
            return;
        };
        let position = assigned.progress.position();
        let read = position.filter(|it| it.offset <= to.offset);
        if read.is_none() && self.config.offset_reset == OffsetReset::None {
            let partition = self.targets[slot].partition.clone();
            return self.tell(ConsumeError::Truncated {
                partition,
                offset: position.map_or(Offset::NONE, |it| it.offset),
                diverging_offset: to.offset,
            });
        }
        tracing::info!(partition = %self.targets[slot].partition, offset = %to.offset, "truncated");
        self.restart(slot, Start::At(read.unwrap_or(to)));
    }

    pub(super) fn snapshot(&self) -> ConsumerStatistics {
        ConsumerStatistics {
            buffered_bytes: self.fetcher.buffered_bytes(),
            ..self.statistics
        }
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self) {
        self.is_closed = true;
        for assigned in self.assigned.values() {
            assigned.progress.end();
        }
        self.ready.clear();
        self.chores.wake = self.waker.take();
    }
}
