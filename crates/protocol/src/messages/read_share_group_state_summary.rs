//! ReadShareGroupStateSummary, key 87.

pub use super::read_share_group_state::PartitionData;
use super::*;

/// Asks the share coordinator how far share partitions are (KIP-932).
#[message(versions = 0..=1, flexible = 0..)]
pub struct ReadShareGroupStateSummaryRequest {
    /// The group.
    pub group_id: GroupId,
    /// The topics.
    pub topics: Vec<ReadStateSummaryData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ReadStateSummaryData {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// Tells how far share partitions are.
///
/// Version 1 counts what is done with (KIP-1226).
#[message(versions = 0..=1, flexible = 0..)]
pub struct ReadShareGroupStateSummaryResponse {
    /// The topics.
    pub results: Vec<ReadStateSummaryResult>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct ReadStateSummaryResult {
    /// The id of the topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}

/// How far one share partition is.
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
    /// The epoch of the leader that wrote last.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is still to be delivered, or -1 if it is not set yet.
    pub start_offset: Offset,
    /// How many of the records from the start offset on are done with, or -1 if unknown (KIP-1226).
    #[wire(versions = 1.., default = -1, ignorable)]
    pub delivery_complete_count: i32,
}
