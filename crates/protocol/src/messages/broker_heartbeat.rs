//! BrokerHeartbeat, key 63.

use super::*;

/// Keeps a broker alive, and says what it wants (KIP-631).
///
/// Version 1 tells failed log directories (KIP-858), 2 cordoned ones (KIP-1066).
#[message(versions = 0..=2, flexible = 0..)]
pub struct BrokerHeartbeatRequest {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration.
    #[wire(default = -1)]
    pub broker_epoch: i64,
    /// Up to where the broker has read the metadata log.
    pub current_metadata_offset: Offset,
    /// Whether the broker wants to be fenced.
    pub want_fence: bool,
    /// Whether the broker wants to shut down.
    pub want_shut_down: bool,
    /// The log directories that have failed (KIP-858).
    #[wire(versions = 1.., tag = 0)]
    pub offline_log_dirs: Vec<Uuid>,
    /// The log directories that take no new partitions (KIP-1066); null while the broker starts.
    #[wire(versions = 2.., tag = 1)]
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// Tells a broker what it may do.
#[message(versions = 0..=2, flexible = 0..)]
pub struct BrokerHeartbeatResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// Whether the broker has nearly all of the metadata log.
    pub is_caught_up: bool,
    /// Whether the broker is fenced.
    #[wire(default = true)]
    pub is_fenced: bool,
    /// Whether the broker may shut down now.
    pub should_shut_down: bool,
}
