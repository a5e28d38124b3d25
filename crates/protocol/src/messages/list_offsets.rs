//! ListOffsets, key 2.

use super::*;

/// Looks up offsets by timestamp.
///
/// Version 1 finds one offset for a timestamp (KIP-79), where 0 lists starts of segments; 2 knows
/// transactions (KIP-98), 4 leader epochs (KIP-320), 7 asks for the largest timestamp (KIP-734), 8
/// for the local start (KIP-405), 9 for the last tiered offset (KIP-1005), 11 for the earliest
/// offset still to be tiered (KIP-1023).
#[message(versions = 0..=11, flexible = 6..)]
pub struct ListOffsetsRequest {
    /// The replica that asks, or -1 for a consumer.
    pub replica_id: NodeId,
    /// 0 to see all records, 1 to see committed ones only (KIP-98).
    #[wire(versions = 2..)]
    pub isolation_level: i8,
    /// The topics.
    pub topics: Vec<ListOffsetsTopic>,
    /// How long the broker may wait for remote storage, in milliseconds.
    #[wire(versions = 10.., ignorable)]
    pub timeout_ms: i32,
}

/// What to look up in one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ListOffsetsTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// What to look up in one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct ListOffsetsPartition {
    /// The partition.
    pub partition_index: i32,
    /// The leader epoch that the client knows; -1 to not check it (KIP-320).
    #[wire(versions = 4.., default = LeaderEpoch::NONE, ignorable)]
    pub current_leader_epoch: LeaderEpoch,
    /// The timestamp, or a special one: -1 the end, -2 the start, -3 the largest timestamp, -4 the
    /// local start, -5 the last tiered.
    pub timestamp: Timestamp,
    /// How many offsets the answer may have; one since version 1.
    #[wire(versions = ..=0, default = 1)]
    pub max_num_offsets: i32,
}

/// Says which offsets were found.
#[message(versions = 0..=11, flexible = 6..)]
pub struct ListOffsetsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 2.., ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// What was found in one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ListOffsetsTopicResponse {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// What was found in one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct ListOffsetsPartitionResponse {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The offsets found, the largest first; replaced by the one offset in version 1.
    #[wire(versions = ..=0)]
    pub old_style_offsets: Vec<Offset>,
    /// The timestamp of the record, or -1.
    #[wire(versions = 1.., default = Timestamp::NONE)]
    pub timestamp: Timestamp,
    /// The offset found, or -1.
    #[wire(versions = 1.., default = Offset::NONE)]
    pub offset: Offset,
    /// The epoch of the record, or -1.
    #[wire(versions = 4.., default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
}
