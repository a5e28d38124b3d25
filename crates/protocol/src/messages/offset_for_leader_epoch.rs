//! OffsetForLeaderEpoch, key 23.

use super::*;

/// Asks where leader epochs end, to find where two logs part (KIP-101).
///
/// Version 2 checks the leader epoch that the client knows, 3 tells who asks (KIP-320).
#[message(versions = 0..=4, flexible = 4..)]
pub struct OffsetForLeaderEpochRequest {
    /// The replica that asks, -1 for a consumer, -2 for a debugging tool.
    #[wire(versions = 3.., default = NodeId::new(-2), ignorable)]
    pub replica_id: NodeId,
    /// The topics.
    pub topics: Vec<OffsetForLeaderTopic>,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetForLeaderTopic {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partitions: Vec<OffsetForLeaderPartition>,
}

/// The epoch of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetForLeaderPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the client knows; -1 to not check it (KIP-320).
    #[wire(versions = 2.., default = LeaderEpoch::NONE, ignorable)]
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch whose end is asked for.
    pub leader_epoch: LeaderEpoch,
}

/// Says where leader epochs end.
///
/// Version 1 tells which epoch was found (KIP-279).
#[message(versions = 0..=4, flexible = 4..)]
pub struct OffsetForLeaderEpochResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 2.., ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<OffsetForLeaderTopicResult>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct OffsetForLeaderTopicResult {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partitions: Vec<EpochEndOffset>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct EpochEndOffset {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition: i32,
    /// The largest epoch up to the one asked for, or -1.
    #[wire(versions = 1.., default = LeaderEpoch::NONE, ignorable)]
    pub leader_epoch: LeaderEpoch,
    /// The first offset after the epoch.
    #[wire(default = Offset::NONE)]
    pub end_offset: Offset,
}
