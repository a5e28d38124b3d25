//! WriteShareGroupState, key 85.

pub use super::initialize_share_group_state::PartitionResult;
pub use super::read_share_group_state::StateBatch;
use super::*;

/// Writes what has changed in share partitions (KIP-932).
///
/// Version 1 counts what is done with (KIP-1226).
#[message(versions = 0..=1, flexible = 0..)]
pub struct WriteShareGroupStateRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<WriteStateData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct WriteStateData {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// What has changed in one share partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition: i32,
    /// The epoch of the share partition; grows when its state is set anew.
    pub state_epoch: i32,
    /// The epoch of the leader that writes.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is still to be delivered, or -1 for no change.
    pub start_offset: Offset,
    /// How many of the records from the start offset on are done with, or -1 if unknown (KIP-1226).
    #[wire(versions = 1.., default = -1, ignorable)]
    pub delivery_complete_count: i32,
    /// The states that have changed.
    pub state_batches: Vec<StateBatch>,
}

/// Says which changes were written.
#[message(versions = 0..=1, flexible = 0..)]
pub struct WriteShareGroupStateResponse {
    /// The topics.
    pub results: Vec<WriteStateResult>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct WriteStateResult {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}
