//! AddPartitionsToTxn, key 24.

use super::*;

/// Adds partitions to transactions, or asks whether they belong to one (KIP-98).
///
/// Up to version 3 sent by producers, for one transaction; from version 4 on by brokers, for
/// several, also to verify that a transaction is open (KIP-890). Version 2 knows `PRODUCER_FENCED`
/// (KIP-588), 5 `TRANSACTION_ABORTABLE` (KIP-890).
#[message(versions = 0..=5, flexible = 3..)]
pub struct AddPartitionsToTxnRequest {
    /// The transactions (KIP-890).
    #[wire(versions = 4..)]
    pub transactions: Vec<AddPartitionsToTxnTransaction>,
    /// The transactional id of the producer; replaced by the transactions in version 4.
    #[wire(versions = ..=3)]
    pub v3_and_below_transactional_id: TransactionalId,
    /// The producer id.
    #[wire(versions = ..=3)]
    pub v3_and_below_producer_id: ProducerId,
    /// The epoch of the producer.
    #[wire(versions = ..=3)]
    pub v3_and_below_producer_epoch: ProducerEpoch,
    /// The topics.
    #[wire(versions = ..=3)]
    pub v3_and_below_topics: Vec<AddPartitionsToTxnTopic>,
}

/// The partitions of one transaction.
#[derive(Clone, PartialEq, Wire)]
pub struct AddPartitionsToTxnTransaction {
    /// The transactional id of the producer.
    pub transactional_id: TransactionalId,
    /// The producer id.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: ProducerEpoch,
    /// Whether to check that the partitions are in the transaction, and add none (KIP-890).
    pub verify_only: bool,
    /// The topics.
    pub topics: Vec<AddPartitionsToTxnTopic>,
}

/// The partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct AddPartitionsToTxnTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Says which partitions are in their transactions.
///
/// Version 4 answers for several transactions (KIP-890).
#[message(versions = 0..=5, flexible = 3..)]
pub struct AddPartitionsToTxnResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    #[wire(versions = 4.., ignorable)]
    pub error_code: ErrorCode,
    /// The answers, by transaction (KIP-890).
    #[wire(versions = 4..)]
    pub results_by_transaction: Vec<AddPartitionsToTxnResult>,
    /// The answers, by topic; replaced by those by transaction in version 4.
    #[wire(versions = ..=3)]
    pub results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>,
}

/// The answers for one transaction.
#[derive(Clone, PartialEq, Wire)]
pub struct AddPartitionsToTxnResult {
    /// The transactional id of the producer.
    pub transactional_id: TransactionalId,
    /// The answers, by topic.
    pub topic_results: Vec<AddPartitionsToTxnTopicResult>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct AddPartitionsToTxnTopicResult {
    /// The topic.
    pub name: TopicName,
    /// The answers, by partition.
    pub results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct AddPartitionsToTxnPartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub partition_error_code: ErrorCode,
}
