//! EndTxn, key 26.

use super::*;

/// Commits or aborts a transaction (KIP-98).
///
/// Version 2 knows `PRODUCER_FENCED` (KIP-588), 4 `TRANSACTION_ABORTABLE`, 5 raises the epoch with
/// every transaction (KIP-890).
#[message(versions = 0..=5, flexible = 3..)]
pub struct EndTxnRequest {
    /// The transactional id of the producer.
    pub transactional_id: TransactionalId,
    /// The producer id.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: ProducerEpoch,
    /// Whether to commit; otherwise the transaction is aborted.
    pub committed: bool,
}

/// Says whether the transaction will end as asked.
///
/// Version 5 brings the producer id and epoch of the next transaction (KIP-890).
#[message(versions = 0..=5, flexible = 3..)]
pub struct EndTxnResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The producer id for the next transaction, or -1 (KIP-890).
    #[wire(versions = 5.., default = ProducerId::NONE, ignorable)]
    pub producer_id: ProducerId,
    /// The epoch for the next transaction, or -1 (KIP-890).
    #[wire(versions = 5.., default = ProducerEpoch::NONE, ignorable)]
    pub producer_epoch: ProducerEpoch,
}
