//! AddOffsetsToTxn, key 25.

use super::*;

/// Adds the offsets of a group to a transaction (KIP-98).
///
/// Version 2 knows `PRODUCER_FENCED` (KIP-588), 4 `TRANSACTION_ABORTABLE` (KIP-890). Producers of
/// transaction version 2 do not send it.
#[message(versions = 0..=4, flexible = 3..)]
pub struct AddOffsetsToTxnRequest {
    /// The transactional id of the producer.
    pub transactional_id: TransactionalId,
    /// The producer id.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The group.
    pub group_id: GroupId,
}

/// Says whether offsets may be committed in the transaction.
#[message(versions = 0..=4, flexible = 3..)]
pub struct AddOffsetsToTxnResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
