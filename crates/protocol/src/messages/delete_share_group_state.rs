//! DeleteShareGroupState, key 86.

pub use super::initialize_share_group_state::PartitionResult;
use super::*;

/// Deletes the state of share partitions (KIP-932).
#[message(versions = 0..=0, flexible = 0..)]
pub struct DeleteShareGroupStateRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<DeleteStateData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteStateData {
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
}

/// Says which states were deleted.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DeleteShareGroupStateResponse {
    /// The topics.
    pub results: Vec<DeleteStateResult>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct DeleteStateResult {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}
