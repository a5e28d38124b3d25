//! OffsetFetch, key 9.

use super::*;

/// Asks how far groups have consumed.
///
/// Version 0 reads from ZooKeeper, 2 may ask for all topics (KIP-88), 5 tells leader epochs
/// (KIP-320), 7 may insist on decided offsets (KIP-447), 8 asks for several groups (KIP-709), 9
/// knows consumer groups (KIP-848), 10 names topics by id.
#[message(versions = 0..=10, flexible = 6..)]
pub struct OffsetFetchRequest {
    /// The group.
    #[wire(versions = ..=7)]
    pub group_id: GroupId,
    /// The topics, or null for all; replaced by the groups in version 8.
    #[wire(versions = ..=7, nullable = 2..)]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// The groups.
    #[wire(versions = 8..)]
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// Whether to fail with `UNSTABLE_OFFSET_COMMIT` while a transaction holds offsets back
    /// (KIP-447).
    #[wire(versions = 7..)]
    pub require_stable: bool,
}

/// The partitions of one topic, up to version 7.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchRequestTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partition_indexes: Vec<i32>,
}

/// What to fetch of one group.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchRequestGroup {
    /// The group.
    pub group_id: GroupId,
    /// The member that asks, or null (KIP-848).
    #[wire(versions = 9.., ignorable)]
    pub member_id: Option<Str>,
    /// The member epoch, or -1 (KIP-848).
    #[wire(versions = 9.., default = -1, ignorable)]
    pub member_epoch: i32,
    /// The topics, or null for all.
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

/// The partitions of one topic, from version 8 on.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchRequestTopics {
    /// The topic; replaced by its id in version 10.
    #[wire(versions = ..=9, ignorable)]
    pub name: TopicName,
    /// The id of the topic (KIP-516).
    #[wire(versions = 10.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partition_indexes: Vec<i32>,
}

/// Says how far groups have consumed.
#[message(versions = 0..=10, flexible = 6..)]
pub struct OffsetFetchResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 3.., ignorable)]
    pub throttle_time_ms: i32,
    /// The offsets, by topic; replaced by the groups in version 8.
    #[wire(versions = ..=7)]
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// What went wrong, if anything.
    #[wire(versions = 2..=7, ignorable)]
    pub error_code: ErrorCode,
    /// The groups.
    #[wire(versions = 8..)]
    pub groups: Vec<OffsetFetchResponseGroup>,
}

/// The offsets of one topic, up to version 7.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchResponseTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

/// The offset of one partition, up to version 7.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// The offset of the next record to consume, or -1 if none was committed.
    pub committed_offset: Offset,
    /// The leader epoch of the last consumed record, or -1 (KIP-320).
    #[wire(versions = 5.., default = LeaderEpoch::NONE, ignorable)]
    pub committed_leader_epoch: LeaderEpoch,
    /// What the client keeps with the offset.
    pub metadata: Option<Str>,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}

/// The offsets of one group.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchResponseGroup {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<OffsetFetchResponseTopics>,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}

/// The offsets of one topic, from version 8 on.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchResponseTopics {
    /// The topic; replaced by its id in version 10.
    #[wire(versions = ..=9, ignorable)]
    pub name: TopicName,
    /// The id of the topic (KIP-516).
    #[wire(versions = 10.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

/// The offset of one partition, from version 8 on.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetFetchResponsePartitions {
    /// The partition.
    pub partition_index: i32,
    /// The offset of the next record to consume, or -1 if none was committed.
    pub committed_offset: Offset,
    /// The leader epoch of the last consumed record, or -1 (KIP-320).
    #[wire(default = LeaderEpoch::NONE)]
    pub committed_leader_epoch: LeaderEpoch,
    /// What the client keeps with the offset.
    pub metadata: Option<Str>,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
