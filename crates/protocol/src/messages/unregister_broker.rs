//! UnregisterBroker, key 64.

use super::*;

/// Forgets a broker (KIP-631).
#[message(versions = 0..=0, flexible = 0..)]
pub struct UnregisterBrokerRequest {
    /// The broker.
    pub broker_id: NodeId,
}

/// Says whether the broker was forgotten.
#[message(versions = 0..=0, flexible = 0..)]
pub struct UnregisterBrokerResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
