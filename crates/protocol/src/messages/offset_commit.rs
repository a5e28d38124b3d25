//! OffsetCommit, key 8.

use super::*;

/// Stores how far a group has consumed.
///
/// Version 0 went to ZooKeeper, 1 is kept by the group and tells who commits, 2 to 4 may say for
/// how long to keep the offsets, 6 tells leader epochs (KIP-320), 7 knows static members (KIP-345),
/// 9 consumer groups (KIP-848), 10 names topics by id.
#[message(versions = 0..=10, flexible = 8..)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group_id: GroupId,
    /// The generation of a classic group, the member epoch of a consumer group, or -1.
    #[wire(versions = 1.., default = -1, ignorable)]
    pub generation_id_or_member_epoch: i32,
    /// The member that commits, or empty.
    #[wire(versions = 1.., ignorable)]
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 7..)]
    pub group_instance_id: Option<Str>,
    /// How long to keep the offsets, in milliseconds, or -1.
    #[wire(versions = 2..=4, default = -1, ignorable)]
    pub retention_time_ms: i64,
    /// The topics.
    pub topics: Vec<OffsetCommitRequestTopic>,
}

/// The offsets of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetCommitRequestTopic {
    /// The topic; replaced by its id in version 10.
    #[wire(versions = ..=9, ignorable)]
    pub name: TopicName,
    /// The id of the topic (KIP-516).
    #[wire(versions = 10.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

/// The offset of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetCommitRequestPartition {
    /// The partition.
    pub partition_index: i32,
    /// The offset of the next record to consume.
    pub committed_offset: Offset,
    /// The leader epoch of the last consumed record, or -1 (KIP-320).
    #[wire(versions = 6.., default = LeaderEpoch::NONE, ignorable)]
    pub committed_leader_epoch: LeaderEpoch,
    /// The time of the commit, or -1 for now.
    #[wire(versions = 1..=1, default = Timestamp::NONE)]
    pub commit_timestamp: Timestamp,
    /// What the client wants to keep with the offset, or null.
    pub committed_metadata: Option<Str>,
}

/// Says which offsets were stored.
#[message(versions = 0..=10, flexible = 8..)]
pub struct OffsetCommitResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 3.., ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<OffsetCommitResponseTopic>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetCommitResponseTopic {
    /// The topic; replaced by its id in version 10.
    #[wire(versions = ..=9, ignorable)]
    pub name: TopicName,
    /// The id of the topic (KIP-516).
    #[wire(versions = 10.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetCommitResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
