//! AllocateProducerIds, key 67.

use super::*;

/// Asks the controller for a block of producer ids (KIP-730).
#[message(versions = 0..=0, flexible = 0..)]
pub struct AllocateProducerIdsRequest {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration.
    #[wire(default = -1)]
    pub broker_epoch: i64,
}

/// Hands out a block of producer ids.
#[message(versions = 0..=0, flexible = 0..)]
pub struct AllocateProducerIdsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The first id of the block.
    pub producer_id_start: ProducerId,
    /// How many ids the block has.
    pub producer_id_len: i32,
}
