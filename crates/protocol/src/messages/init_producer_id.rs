//! InitProducerId, key 22.

use super::*;

/// Asks for a producer id and epoch, for idempotence or transactions (KIP-98).
///
/// Version 3 renews the epoch (KIP-360), 4 knows `PRODUCER_FENCED` (KIP-588), 5
/// `TRANSACTION_ABORTABLE` (KIP-890); 6 takes part in two-phase commit (KIP-939) and is not stable
/// yet.
#[message(versions = 0..=6, flexible = 2..)]
pub struct InitProducerIdRequest {
    /// The transactional id of the producer, or null for a producer without transactions.
    pub transactional_id: Option<TransactionalId>,
    /// How long a transaction may stay open, in milliseconds.
    pub transaction_timeout_ms: i32,
    /// The producer id that the producer has, or -1 (KIP-360).
    #[wire(versions = 3.., default = ProducerId::NONE)]
    pub producer_id: ProducerId,
    /// The epoch that the producer has, or -1 (KIP-360).
    #[wire(versions = 3.., default = ProducerEpoch::NONE)]
    pub producer_epoch: ProducerEpoch,
    /// Whether transactions are ended by an outside coordinator (KIP-939).
    #[wire(versions = 6..)]
    pub enable_2pc: bool,
    /// Whether a prepared transaction stays open (KIP-939).
    #[wire(versions = 6..)]
    pub keep_prepared_txn: bool,
}

/// Brings a producer id and epoch.
#[message(versions = 0..=6, flexible = 2..)]
pub struct InitProducerIdResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The new producer id.
    #[wire(default = ProducerId::NONE)]
    pub producer_id: ProducerId,
    /// The new epoch.
    pub producer_epoch: ProducerEpoch,
    /// The producer id of the prepared transaction, or -1 (KIP-939).
    #[wire(versions = 6.., default = ProducerId::NONE)]
    pub ongoing_txn_producer_id: ProducerId,
    /// The epoch of the prepared transaction, or -1 (KIP-939).
    #[wire(versions = 6.., default = ProducerEpoch::NONE)]
    pub ongoing_txn_producer_epoch: ProducerEpoch,
}
