//! ListTransactions, key 66.

use super::*;

/// Asks which transactional ids this broker coordinates (KIP-664).
///
/// Version 1 filters by age (KIP-994), 2 by an expression (KIP-1152).
#[message(versions = 0..=2, flexible = 0..)]
pub struct ListTransactionsRequest {
    /// The wanted states, such as `Ongoing`; empty for all.
    pub state_filters: Vec<Str>,
    /// The wanted producers; empty for all.
    pub producer_id_filters: Vec<ProducerId>,
    /// The shortest age of the wanted transactions, in milliseconds; -1 for all (KIP-994).
    #[wire(versions = 1.., default = -1)]
    pub duration_filter: i64,
    /// An expression (RE2) that the transactional ids match; null or empty for all (KIP-1152).
    #[wire(versions = 2..)]
    pub transactional_id_pattern: Option<Str>,
}

/// Lists transactional ids.
#[message(versions = 0..=2, flexible = 0..)]
pub struct ListTransactionsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The wanted states that the broker does not know.
    pub unknown_state_filters: Vec<Str>,
    /// The transactions.
    pub transaction_states: Vec<TransactionState>,
}

/// One transactional id.
#[derive(Clone, PartialEq, Wire)]
pub struct TransactionState {
    /// The transactional id.
    pub transactional_id: TransactionalId,
    /// The producer.
    pub producer_id: ProducerId,
    /// The state of the transaction, such as `Ongoing`.
    pub transaction_state: Str,
}
