//! The partitions of one session.

use std::collections::HashMap;

use tidelog_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchableTopicResponse, PartitionData,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicName};

/// How a request names a topic: by id, or by name in old versions. The other one is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) id: TopicId,
}

/// What a fetcher asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) partition: PartitionIndex,
    /// The largest number of bytes, except for the first batch of the answer.
    pub(crate) max_bytes: i32,
    pub(crate) fetch_offset: Offset,
    /// [`LeaderEpoch::NONE`] if it is not to be checked.
    pub(crate) current_leader_epoch: LeaderEpoch,
    /// The epoch of the record before `fetch_offset`, or [`LeaderEpoch::NONE`].
    pub(crate) last_fetched_epoch: LeaderEpoch,
    /// Where a follower's log starts.
    pub(crate) log_start_offset: Offset,
}

impl From<&FetchPartition> for Wanted {
    fn from(partition: &FetchPartition) -> Self {
        Self {
            partition: partition.partition,
            max_bytes: partition.partition_max_bytes,
            fetch_offset: partition.fetch_offset,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: partition.log_start_offset,
        }
    }
}

/// The partitions of a session, or of a request without one.
///
/// They lie in slots that do not move, so that serving them in turn moves only numbers.
#[derive(Default)]
pub(super) struct Partitions {
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    /// The slots that are in use, in the order in which they are served.
    order: Vec<u32>,
    /// The slot of each topic's partition. Empty without a session.
    index: HashMap<(u32, PartitionIndex), u32>,
    topics: Topics,
}

struct Slot {
    /// The number of the topic, or [`VACANT`].
    topic: u32,
    wanted: Wanted,
    sent: Sent,
}

const VACANT: u32 = u32::MAX;

/// What the fetcher was last told of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_start_offset: Offset,
}

impl Sent {
    const NOTHING: Self = Self {
        high_watermark: Offset::NONE,
        last_stable_offset: Offset::NONE,
        log_start_offset: Offset::NONE,
    };

    const fn of(data: &PartitionData) -> Self {
        Self {
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            log_start_offset: data.log_start_offset,
        }
    }
}

impl Slot {
    /// Notes what the fetcher is told, and tells whether it is news.
    fn note(&mut self, data: &PartitionData) -> bool {
        let failed = data.error_code != ErrorCode::NONE;
        let sent = Sent::of(data);
        let changed = sent != self.sent;
        // When the error has passed, that is news, whatever the offsets are then.
        self.sent = if failed { Sent::NOTHING } else { sent };
        changed
            || failed
            || has_records(data)
            || data.preferred_read_replica != NodeId::NONE
            || data.diverging_epoch.epoch != LeaderEpoch::NONE
    }
}

fn has_records(data: &PartitionData) -> bool {
    data.records
        .as_ref()
        .is_some_and(|records| !records.is_empty())
}

impl Partitions {
    /// Takes over the partitions of a request without session. One that is named twice is served twice.
    pub(super) fn list(&mut self, request: &FetchRequest) {
        self.slots.reserve_exact(
            request
                .topics
                .iter()
                .map(|topic| topic.partitions.len())
                .sum(),
        );
        for topic in &request.topics {
            let number = self.topics.entries.len() as u32;
            let name = Topic {
                name: topic.topic.clone(),
                id: topic.topic_id,
            };
            self.topics.entries.push(TopicEntry {
                topic: name,
                partitions_count: topic.partitions.len(),
            });
            for partition in &topic.partitions {
                self.insert(number, partition.into());
            }
        }
    }

    /// Adds, changes and removes what a request of a session says.
    pub(super) fn update(&mut self, request: &FetchRequest) {
        for topic in &request.topics {
            if topic.partitions.is_empty() {
                continue;
            }
            let number = self.topics.number(&topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                let wanted = Wanted::from(partition);
                if let Some(slot) = self.index.get(&(number, wanted.partition)) {
                    self.slots[*slot as usize].wanted = wanted;
                } else {
                    let slot = self.insert(number, wanted);
                    self.index.insert((number, wanted.partition), slot);
                    self.topics.entries[number as usize].partitions_count += 1;
                }
            }
        }
        let count = self.index.len();
        for topic in &request.forgotten_topics_data {
            let key = Topic {
                name: topic.topic.clone(),
                id: topic.topic_id,
            };
            let Some(number) = self.topics.numbers.get(&key).copied() else {
                continue;
            };
            for partition in &topic.partitions {
                if let Some(slot) = self.index.remove(&(number, *partition)) {
                    self.slots[slot as usize].topic = VACANT;
                    self.free_slots.push(slot);
                    self.topics.release(number);
                }
            }
        }
        if self.index.len() < count {
            self.order
                .retain(|slot| self.slots[*slot as usize].topic != VACANT);
        }
    }

    fn insert(&mut self, topic: u32, wanted: Wanted) -> u32 {
        let content = Slot {
            topic,
            wanted,
            sent: Sent::NOTHING,
        };
        let slot = if let Some(slot) = self.free_slots.pop() {
            self.slots[slot as usize] = content;
            slot
        } else {
            self.slots.push(content);
            (self.slots.len() - 1) as u32
        };
        self.order.push(slot);
        slot
    }

    /// Whether one of the results, in the order of the partitions, has offsets that the fetcher was not told.
    pub(super) fn have_news(&self, results: &[PartitionData]) -> bool {
        let mut slots = self.order.iter().zip(results);
        slots.any(|(slot, data)| self.slots[*slot as usize].sent != Sent::of(data))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Topic, &Wanted)> {
        self.order.iter().map(|slot| {
            let slot = &self.slots[*slot as usize];
            (
                &self.topics.entries[slot.topic as usize].topic,
                &slot.wanted,
            )
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn answer_all(
        &mut self,
        mut results: impl Iterator<Item = PartitionData>,
    ) -> Vec<FetchableTopicResponse> {
        let mut answer = Answer::default();
        for slot in &self.order {
            let slot = &mut self.slots[*slot as usize];
            let data = slot.result(&mut results);
            slot.note(&data);
            answer.push(&self.topics, slot.topic, data);
        }
        answer.responses
    }

    /// Answers with what is news. The partitions with data move to the end of the order, so that next time the others
    /// come first in sharing the bytes of the answer.
    pub(super) fn answer_changed(
        &mut self,
        mut results: impl Iterator<Item = PartitionData>,
    ) -> Vec<FetchableTopicResponse> {
        let mut answer = Answer::default();
        let mut served = Vec::new();
        self.order.retain(|number| {
            let slot = &mut self.slots[*number as usize];
            let data = slot.result(&mut results);
            if !slot.note(&data) {
                return true;
            }
            let stays = !has_records(&data);
            if !stays {
                served.push(*number);
            }
            answer.push(&self.topics, slot.topic, data);
            stays
        });
        self.order.append(&mut served);
        answer.responses
    }
}

impl Slot {
    fn result(&self, results: &mut impl Iterator<Item = PartitionData>) -> PartitionData {
        let data = results.next().expect("one result for each partition");
        assert_eq!(
            data.partition_index, self.wanted.partition,
            "results come in the order of the partitions"
        );
        data
    }
}

/// The topics of an answer. Neighbours of the same topic share an entry; a topic may come more than once, since what
/// counts is the order of the partitions.
#[derive(Default)]
struct Answer {
    responses: Vec<FetchableTopicResponse>,
    last_topic: Option<u32>,
}

impl Answer {
    fn push(&mut self, topics: &Topics, number: u32, data: PartitionData) {
        if let Some(last) = self
            .responses
            .last_mut()
            .filter(|_| self.last_topic == Some(number))
        {
            last.partitions.push(data);
            return;
        }
        let topic = &topics.entries[number as usize].topic;
        self.last_topic = Some(number);
        self.responses.push(FetchableTopicResponse {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partitions: vec![data],
        });
    }
}

/// The topics of a session, numbered.
#[derive(Default)]
struct Topics {
    entries: Vec<TopicEntry>,
    free: Vec<u32>,
    /// The number of each topic. Empty without a session.
    numbers: HashMap<Topic, u32>,
}

struct TopicEntry {
    topic: Topic,
    /// How many partitions of it there are; with the last one it goes.
    partitions_count: usize,
}

impl Topics {
    /// The number of the topic, which gets one if it has none. Its name is copied out of the request.
    fn number(&mut self, name: &TopicName, id: TopicId) -> u32 {
        let key = Topic {
            name: name.clone(),
            id,
        };
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let topic = Topic {
            name: name.detach(),
            id,
        };
        let entry = TopicEntry {
            topic: topic.clone(),
            partitions_count: 0,
        };
        let number = if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            number
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        };
        self.numbers.insert(topic, number);
        number
    }

    fn release(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        entry.partitions_count -= 1;
        if entry.partitions_count == 0 {
            self.numbers.remove(&entry.topic);
            self.free.push(number);
        }
    }
}
