//! FindCoordinator, key 10.

use super::*;

/// Asks which broker coordinates a group or a transactional id.
///
/// Version 1 finds transaction coordinators (KIP-98), 4 asks for several at once (KIP-699), 5 knows
/// `TRANSACTION_ABORTABLE` (KIP-890), 6 asks for share partitions (KIP-932).
#[message(versions = 0..=6, flexible = 3..)]
pub struct FindCoordinatorRequest {
    /// The group or the transactional id; replaced by the list of keys in version 4.
    #[wire(versions = ..=3)]
    pub key: Str,
    /// What the keys are: 0 groups, 1 transactional ids, 2 share partitions.
    #[wire(versions = 1..)]
    pub key_type: i8,
    /// The groups, transactional ids or share partitions (KIP-699).
    #[wire(versions = 4..)]
    pub coordinator_keys: Vec<Str>,
}

/// Names the coordinators.
#[message(versions = 0..=6, flexible = 3..)]
pub struct FindCoordinatorResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    #[wire(versions = ..=3)]
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    #[wire(versions = 1..=3, ignorable)]
    pub error_message: Option<Str>,
    /// The coordinator, or -1.
    #[wire(versions = ..=3)]
    pub node_id: NodeId,
    /// The host name or address.
    #[wire(versions = ..=3)]
    pub host: Str,
    /// The port.
    #[wire(versions = ..=3)]
    pub port: i32,
    /// The coordinators, by key.
    #[wire(versions = 4..)]
    pub coordinators: Vec<Coordinator>,
}

/// The coordinator of one key.
#[derive(Clone, PartialEq, Wire)]
pub struct Coordinator {
    /// The group, transactional id or share partition.
    pub key: Str,
    /// The coordinator, or -1.
    pub node_id: NodeId,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
