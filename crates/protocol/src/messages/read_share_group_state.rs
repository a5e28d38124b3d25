//! ReadShareGroupState, key 84.

use super::*;

/// Asks the share coordinator for the state of share partitions (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ReadShareGroupStateRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<ReadStateData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ReadStateData {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition: i32,
    /// The epoch of the leader that asks.
    pub leader_epoch: LeaderEpoch,
}

/// Brings the state of share partitions.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ReadShareGroupStateResponse {
    /// The topics.
    pub results: Vec<ReadStateResult>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ReadStateResult {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}

/// The state of one share partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionResult {
    /// The partition.
    pub partition: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The epoch of the share partition; grows when its state is set anew.
    pub state_epoch: i32,
    /// The first offset that is still to be delivered, or -1 if it is not set yet.
    pub start_offset: Offset,
    /// The states of the records from the start offset on.
    pub state_batches: Vec<StateBatch>,
}

/// The state of the records from one offset to another.
#[derive(Clone, PartialEq, Wire)]
pub struct StateBatch {
    /// The first offset.
    pub first_offset: Offset,
    /// The last offset.
    pub last_offset: Offset,
    /// 0 available, 2 acknowledged, 4 archived.
    pub delivery_state: i8,
    /// How often the records have been delivered.
    pub delivery_count: i16,
}
