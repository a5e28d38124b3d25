//! InitializeShareGroupState, key 83.

use super::*;

/// Sets the state of share partitions anew (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct InitializeShareGroupStateRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<InitializeStateData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct InitializeStateData {
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
    /// The epoch of the share partition; grows when its state is set anew.
    pub state_epoch: i32,
    /// The first offset that is still to be delivered, or -1 if it is not set yet.
    pub start_offset: Offset,
}

/// Says which states were set.
#[message(versions = 0..=0, flexible = 0..)]
pub struct InitializeShareGroupStateResponse {
    /// The topics.
    pub results: Vec<InitializeStateResult>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct InitializeStateResult {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionResult {
    /// The partition.
    pub partition: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
