//! ControllerRegistration, key 70.

pub use super::broker_registration::{Feature, Listener};
use super::*;

/// Registers a controller with the active one (KIP-919).
#[message(versions = 0..=0, flexible = 0..)]
pub struct ControllerRegistrationRequest {
    /// The controller.
    pub controller_id: NodeId,
    /// The id of this start of the process.
    pub incarnation_id: Uuid,
    /// Whether a migration from ZooKeeper may be made; always false.
    pub zk_migration_ready: bool,
    /// Where the node listens.
    pub listeners: Vec<Listener>,
    /// The features that the node supports.
    pub features: Vec<Feature>,
}

/// Says whether the controller was registered.
#[message(versions = 0..=0, flexible = 0..)]
pub struct ControllerRegistrationResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
