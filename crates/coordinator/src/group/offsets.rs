use std::collections::BTreeMap;

use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use tidelog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use tidelog_protocol::records::group::classic::OffsetCommitValue;
use tidelog_types::{
    ErrorCode, LeaderEpoch, Now, Offset, PartitionIndex, ProducerId, Str, Timestamp, TopicId,
    TopicName,
};

use super::consumer::CommitFence;
use super::context::Context;
use super::group::{Group, Kind};
use super::member::Parked;
use super::request::refuse_commit;
use super::state::State;
use super::{DeletedTopic, Effect, GroupRecord, GroupResponse};

/// A position of a group in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommittedOffset {
    pub(super) offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    /// Half as large as a [`Str`], since offsets are many and most have none.
    pub(super) metadata: Box<str>,
    pub(super) commit_timestamp: Timestamp,
    /// -1 unless a client from before KIP-211 has asked for a time of its own.
    pub(super) expire_timestamp: Timestamp,
    /// Zero if the client did not know it.
    pub(super) topic_id: TopicId,
}

/// The offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<TopicName, BTreeMap<PartitionIndex, CommittedOffset>>,
    len: usize,
    /// Offsets in transactions that are not decided yet, by producer.
    pending: BTreeMap<ProducerId, BTreeMap<(TopicName, PartitionIndex), CommittedOffset>>,
}

impl CommittedOffset {
    fn from_record(value: &OffsetCommitValue) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: Box::from(&*value.metadata),
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: value.expire_timestamp,
            topic_id: value.topic_id,
        }
    }

    pub(super) fn to_record(&self) -> OffsetCommitValue {
        OffsetCommitValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: Str::from(&*self.metadata),
            commit_timestamp: self.commit_timestamp,
            expire_timestamp: self.expire_timestamp,
            topic_id: self.topic_id,
        }
    }

    /// Whether the offset was committed for a topic of this name that has been replaced by another since.
    fn is_for_another(&self, topic_id: TopicId) -> bool {
        self.topic_id != TopicId::ZERO && topic_id != TopicId::ZERO && self.topic_id != topic_id
    }
}

impl Offsets {
    /// One record takes effect. See [`Group::apply`].
    pub(super) fn apply(
        &mut self,
        producer_id: ProducerId,
        topic: &TopicName,
        partition: PartitionIndex,
        value: Option<&OffsetCommitValue>,
    ) {
        match value {
            Some(value) if producer_id == ProducerId::NONE => {
                self.put(topic, partition, CommittedOffset::from_record(value));
            }
            Some(value) => {
                let pending = self.pending.entry(producer_id).or_default();
                let offset = CommittedOffset::from_record(value);
                pending.insert((topic.detach(), partition), offset);
            }
            None => {
                self.remove(topic, partition);
                let key = (topic.clone(), partition);
                self.pending.values_mut().for_each(|pending| {
                    pending.remove(&key);
                });
                self.pending.retain(|_, pending| !pending.is_empty());
            }
        }
    }

    /// A transaction has ended. Its place in the log is that of its marker, so that it overrides what was committed before.
    pub(super) fn end_transaction(&mut self, producer_id: ProducerId, committed: bool) {
        for ((topic, partition), offset) in self.pending.remove(&producer_id).unwrap_or_default() {
            if committed {
                self.put(&topic, partition, offset);
            }
        }
    }

    fn put(&mut self, topic: &TopicName, partition: PartitionIndex, offset: CommittedOffset) {
        let former = match self.topics.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, offset),
            None => self
                .topics
                .entry(topic.detach())
                .or_default()
                .insert(partition, offset),
        };
        self.len += usize::from(former.is_none());
    }

    fn remove(&mut self, topic: &TopicName, partition: PartitionIndex) {
        let Some(partitions) = self.topics.get_mut(topic) else {
            return;
        };
        self.len -= usize::from(partitions.remove(&partition).is_some());
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }

    fn is_pending(&self, topic: &TopicName, partition: PartitionIndex) -> bool {
        // In the usual case nothing is looked up, and no key is made.
        !self.pending.is_empty() && {
            let key = (topic.clone(), partition);
            self.pending
                .values()
                .any(|pending| pending.contains_key(&key))
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0 && self.pending.is_empty()
    }

    /// Whether transactions of the group are open.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many partitions have an offset.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is room for these records.
    fn has_room_for(&self, records: &[GroupRecord], max: usize) -> bool {
        if self.len + records.len() <= max {
            return true;
        }
        // Only groups that are nearly full pay for looking up which records are new.
        let new = records.iter().filter(|record| match record {
            GroupRecord::OffsetCommit {
                topic, partition, ..
            } => !self
                .topics
                .get(topic)
                .is_some_and(|known| known.contains_key(partition)),
            _ => false,
        });
        self.len + new.count() <= max
    }

    pub(super) fn iter(
        &self,
    ) -> impl Iterator<Item = (&TopicName, PartitionIndex, &CommittedOffset)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, offset)| (topic, *partition, offset))
        })
    }

    fn iter_pending(&self) -> impl Iterator<Item = (&TopicName, PartitionIndex, &CommittedOffset)> {
        let all = self.pending.values().flatten();
        all.map(|((topic, partition), offset)| (topic, *partition, offset))
    }
}

/// Whether the metadata is longer than allowed, in the units that Java counts.
fn is_too_long(metadata: Option<&Str>, max: usize) -> bool {
    metadata.is_some_and(|text| text.len() > max && text.encode_utf16().count() > max)
}

impl Group {
    /// Whether the sender of a commit may speak for the group; if so, which partitions it may commit.
    fn validate_commit(
        &self,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> Result<CommitFence<'_>, ErrorCode> {
        let epoch = request.generation_id_or_member_epoch;
        let instance_id = request.group_instance_id.as_ref();
        match &self.kind {
            Kind::Classic(classic) => {
                classic.validate_commit(&request.member_id, instance_id, epoch)?;
                Ok(CommitFence::default())
            }
            Kind::Consumer(consumer) => {
                consumer.validate_commit(version, &request.member_id, epoch)
            }
        }
    }

    /// Appends offsets, or tombstones of them, and lets them take effect.
    fn append(&mut self, cx: &mut Context<'_>, records: Vec<GroupRecord>) -> u64 {
        for record in &records {
            self.apply(ProducerId::NONE, record);
        }
        let deadline = cx.after(cx.config.offset_commit_timeout_ms);
        let append_id = cx.appends.push(deadline);
        self.last_append = append_id;
        cx.effects.push(Effect::Append { append_id, records });
        append_id
    }

    /// Whether a member consumes the topic, or may do so.
    fn is_subscribed_to(&self, topic: &TopicName) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.is_subscribed_to(topic),
            Kind::Consumer(consumer) => consumer.is_subscribed_to(topic),
        }
    }

    pub(super) fn commit_offsets(
        &mut self,
        cx: &mut Context<'_>,
        parked: Parked,
        request: &OffsetCommitRequest,
    ) {
        let request_id = parked.request_id;
        let fence = match self.validate_commit(parked.version, request) {
            Ok(fence) => fence,
            Err(error_code) => {
                let response = refuse_commit(request, error_code);
                return cx.reply(request_id, GroupResponse::OffsetCommit(response));
            }
        };
        let (records, response) = self.commit_records(cx, fence, request);
        if let Kind::Classic(classic) = &mut self.kind {
            classic.renew_own_session(cx, &request.member_id);
        }
        let bytes: usize = records.iter().map(GroupRecord::size_bound).sum();
        if bytes > cx.config.append_bytes_max
            || !self
                .offsets
                .has_room_for(&records, cx.config.group_offsets_max)
        {
            let response = refuse_commit(request, ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
            return cx.reply(request_id, GroupResponse::OffsetCommit(response));
        }
        let response = GroupResponse::OffsetCommit(response);
        if records.is_empty() {
            return cx.reply(request_id, response);
        }
        let append_id = self.append(cx, records);
        cx.reply_after(append_id, request_id, response);
    }

    fn commit_records(
        &self,
        cx: &Context<'_>,
        fence: CommitFence<'_>,
        request: &OffsetCommitRequest,
    ) -> (Vec<GroupRecord>, OffsetCommitResponse) {
        let (now, config) = (cx.now, cx.config);
        // Clients from before KIP-211 may say for how long an offset is kept.
        let expire_timestamp = match request.retention_time_ms {
            ..0 => Timestamp::NONE,
            millis => now.timestamp.saturating_add_millis(millis),
        };
        let mut records =
            Vec::with_capacity(request.topics.iter().map(|t| t.partitions.len()).sum());
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.as_ref();
                let fenced = fence.check(cx.view, &topic.name, partition.partition_index);
                let error_code = if let Err(error_code) = fenced {
                    error_code
                } else if is_too_long(metadata, config.offset_metadata_max_bytes) {
                    ErrorCode::OFFSET_METADATA_TOO_LARGE
                } else {
                    records.push(GroupRecord::OffsetCommit {
                        group_id: self.id.clone(),
                        topic: topic.name.clone(),
                        partition: partition.partition_index,
                        value: Some(OffsetCommitValue {
                            offset: partition.committed_offset,
                            leader_epoch: partition.committed_leader_epoch,
                            metadata: metadata.cloned().unwrap_or_default(),
                            commit_timestamp: now.timestamp,
                            expire_timestamp,
                            topic_id: topic.topic_id,
                        }),
                    });
                    ErrorCode::NONE
                };
                let partition_index = partition.partition_index;
                partitions.push(OffsetCommitResponsePartition {
                    partition_index,
                    error_code,
                });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        (
            records,
            OffsetCommitResponse {
                topics,
                ..Default::default()
            },
        )
    }

    /// The positions that were asked for, or all.
    pub(super) fn fetch_offsets(
        &self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let group_id = request.group_id.clone();
        if let Kind::Consumer(consumer) = &self.kind
            && let Err(error_code) =
                consumer.validate_fetch(request.member_id.as_ref(), request.member_epoch)
        {
            return OffsetFetchResponseGroup {
                group_id,
                error_code,
                ..Default::default()
            };
        }
        let is_unstable = |topic: &TopicName, partition| {
            require_stable && self.offsets.is_pending(topic, partition)
        };
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let known = self.offsets.topics.get(&topic.name);
                    let one = |&partition: &PartitionIndex| {
                        let offset = known.and_then(|partitions| partitions.get(&partition));
                        let offset = offset.filter(|offset| !offset.is_for_another(topic.topic_id));
                        fetched(partition, offset, is_unstable(&topic.name, partition))
                    };
                    OffsetFetchResponseTopics {
                        name: topic.name.clone(),
                        topic_id: topic.topic_id,
                        partitions: topic.partition_indexes.iter().map(one).collect(),
                    }
                })
                .collect(),
            None => self
                .offsets
                .topics
                .iter()
                .map(|(name, partitions)| {
                    let one = |(&partition, offset): (&PartitionIndex, _)| {
                        fetched(partition, Some(offset), is_unstable(name, partition))
                    };
                    let newest = partitions
                        .values()
                        .max_by_key(|offset| offset.commit_timestamp);
                    OffsetFetchResponseTopics {
                        name: name.clone(),
                        topic_id: newest.map(|offset| offset.topic_id).unwrap_or_default(),
                        partitions: partitions.iter().map(one).collect(),
                    }
                })
                .collect(),
        };
        OffsetFetchResponseGroup {
            group_id,
            topics,
            ..Default::default()
        }
    }

    /// Forgets positions in topics that nobody in the group consumes.
    pub(super) fn delete_offsets(
        &mut self,
        cx: &mut Context<'_>,
        request_id: u64,
        request: &OffsetDeleteRequest,
    ) {
        let is_opaque = match &self.kind {
            Kind::Classic(classic) => {
                classic.state != State::Empty && !classic.uses_consumer_protocol()
            }
            Kind::Consumer(_) => false,
        };
        if is_opaque {
            let error_code = ErrorCode::NON_EMPTY_GROUP;
            let response = OffsetDeleteResponse {
                error_code,
                ..Default::default()
            };
            return cx.reply(request_id, GroupResponse::OffsetDelete(response));
        }
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let is_subscribed = self.is_subscribed_to(&topic.name);
            let error_code = if is_subscribed {
                ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
            } else {
                ErrorCode::NONE
            };
            let partitions = topic
                .partitions
                .iter()
                .map(|partition| partition.partition_index);
            if !is_subscribed {
                let known = partitions.clone().filter(|&partition| {
                    let committed = self.offsets.topics.get(&topic.name);
                    committed.is_some_and(|partitions| partitions.contains_key(&partition))
                        || self.offsets.is_pending(&topic.name, partition)
                });
                records.extend(known.map(|partition| self.tombstone(&topic.name, partition)));
            }
            topics.push(OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: partitions
                    .map(|partition_index| OffsetDeleteResponsePartition {
                        partition_index,
                        error_code,
                    })
                    .collect(),
            });
        }
        let response = OffsetDeleteResponse {
            topics,
            ..Default::default()
        };
        let response = GroupResponse::OffsetDelete(response);
        let mut last = self.last_append;
        for batch in super::appends::batches(records, cx.config.append_bytes_max) {
            last = self.append(cx, batch);
        }
        cx.reply_after(last, request_id, response);
    }

    /// Tombstones for everything that the group has committed.
    pub(super) fn all_offset_tombstones(&self, records: &mut Vec<GroupRecord>) {
        let all = self.offsets.iter().chain(self.offsets.iter_pending());
        records.extend(all.map(|(topic, partition, _)| self.tombstone(topic, partition)));
    }

    /// Tombstones for what was committed in a topic that is no more.
    pub(super) fn topic_tombstones(&self, topic: &DeletedTopic, records: &mut Vec<GroupRecord>) {
        let committed = self.offsets.topics.get(&topic.name).into_iter().flatten();
        let committed = committed.map(|(partition, offset)| (*partition, offset));
        let pending = self
            .offsets
            .iter_pending()
            .filter(|(name, ..)| **name == topic.name);
        let all = committed.chain(pending.map(|(_, partition, offset)| (partition, offset)));
        let gone = all.filter(|(_, offset)| !offset.is_for_another(topic.topic_id));
        records.extend(gone.map(|(partition, _)| self.tombstone(&topic.name, partition)));
    }

    /// KIP-211: tombstones for offsets that have outlived their use. True if none is left.
    pub(super) fn expired_offsets(
        &self,
        now: Now,
        retention_ms: i64,
        records: &mut Vec<GroupRecord>,
    ) -> bool {
        let empty_since = match &self.kind {
            // Every offset lives from its commit on; topics that are consumed are left out below.
            Kind::Consumer(_) => None,
            Kind::Classic(classic) => match (&classic.protocol_type, classic.state) {
                // Offsets of a simple group live from their commit on.
                (None, _) => None,
                (Some(_), State::Empty) => Some(classic.state_timestamp),
                // Topics that are not consumed any more.
                (Some(_), State::Stable) if classic.subscribed_topics.is_some() => None,
                // Who rebalances may be about to subscribe to anything.
                _ => return self.offsets.is_empty(),
            },
        };
        let mut all = !self.offsets.has_pending();
        for (topic, partition, offset) in self.offsets.iter() {
            // An administrator may have set an offset after the last member has left.
            let since = empty_since.map_or(offset.commit_timestamp, |empty_since| {
                empty_since.max(offset.commit_timestamp)
            });
            let is_expired = if offset.expire_timestamp != Timestamp::NONE {
                now.timestamp >= offset.expire_timestamp
            } else {
                now.timestamp.millis_since(since) >= retention_ms
            };
            if is_expired
                && !self.is_subscribed_to(topic)
                && !self.offsets.is_pending(topic, partition)
            {
                records.push(self.tombstone(topic, partition));
            } else {
                all = false;
            }
        }
        all
    }

    fn tombstone(&self, topic: &TopicName, partition: PartitionIndex) -> GroupRecord {
        let (group_id, topic) = (self.id.clone(), topic.clone());
        GroupRecord::OffsetCommit {
            group_id,
            topic,
            partition,
            value: None,
        }
    }
}

/// One partition of an answer to OffsetFetch. "Nothing committed" is no error.
fn fetched(
    partition_index: PartitionIndex,
    offset: Option<&CommittedOffset>,
    is_unstable: bool,
) -> OffsetFetchResponsePartitions {
    let nothing = OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: Offset::NONE,
        committed_leader_epoch: LeaderEpoch::NONE,
        metadata: Some(Str::EMPTY),
        error_code: ErrorCode::NONE,
    };
    match offset {
        _ if is_unstable => OffsetFetchResponsePartitions {
            error_code: ErrorCode::UNSTABLE_OFFSET_COMMIT,
            ..nothing
        },
        None => nothing,
        Some(offset) => OffsetFetchResponsePartitions {
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            metadata: Some(Str::from(&*offset.metadata)),
            ..nothing
        },
    }
}

/// The answer for a group that does not exist: it has committed nothing, which is no error.
pub(super) fn fetch_from_nobody(request: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    Group::new(request.group_id.clone()).fetch_offsets(request, false)
}
