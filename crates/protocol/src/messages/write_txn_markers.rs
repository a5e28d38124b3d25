//! WriteTxnMarkers, key 27.

use super::*;

/// Tells leaders to write the markers that end transactions; sent by transaction coordinators
/// (KIP-98).
///
/// Version 2 tells the transaction version (KIP-1228).
#[message(versions = 0..=2, flexible = 1..)]
pub struct WriteTxnMarkersRequest {
    /// The ends of transactions.
    pub markers: Vec<WritableTxnMarker>,
}

/// The end of one transaction.
#[derive(Clone, PartialEq, Wire)]
pub struct WritableTxnMarker {
    /// The producer id.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: ProducerEpoch,
    /// Whether the transaction is committed; otherwise it is aborted.
    pub transaction_result: bool,
    /// The topics.
    pub topics: Vec<WritableTxnMarkerTopic>,
    /// The leader epoch of the coordinator's partition of `__transaction_state`.
    pub coordinator_epoch: i32,
    /// The level of the feature `transaction.version` for the transaction; 2 has the marker's epoch
    /// checked strictly (KIP-1228).
    #[wire(versions = 2.., ignorable)]
    pub transaction_version: i8,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct WritableTxnMarkerTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partition_indexes: Vec<i32>,
}

/// Says which markers were written.
#[message(versions = 0..=2, flexible = 1..)]
pub struct WriteTxnMarkersResponse {
    /// The answers, by producer.
    pub markers: Vec<WritableTxnMarkerResult>,
}

/// The answers for one producer.
#[derive(Clone, PartialEq, Wire)]
pub struct WritableTxnMarkerResult {
    /// The producer id.
    pub producer_id: ProducerId,
    /// The topics.
    pub topics: Vec<WritableTxnMarkerTopicResult>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct WritableTxnMarkerTopicResult {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<WritableTxnMarkerPartitionResult>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct WritableTxnMarkerPartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
