//! DescribeTransactions, key 65.

use super::*;

/// Asks for the state of transactional ids (KIP-664).
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeTransactionsRequest {
    /// The transactional ids.
    pub transactional_ids: Vec<TransactionalId>,
}

/// Describes transactional ids.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DescribeTransactionsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The transactions.
    pub transaction_states: Vec<TransactionState>,
}

/// One transactional id.
#[derive(Clone, PartialEq, Wire)]
pub struct TransactionState {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// The state of the transaction, such as `Ongoing`.
    pub transaction_state: Str,
    /// After how many milliseconds the coordinator aborts the transaction.
    pub transaction_timeout_ms: i32,
    /// When the transaction began, or -1.
    pub transaction_start_time_ms: Timestamp,
    /// The producer.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The partitions in the transaction; those without a marker yet once it ends.
    pub topics: Vec<TopicData>,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicData {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}
