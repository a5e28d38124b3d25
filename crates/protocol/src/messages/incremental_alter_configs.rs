//! IncrementalAlterConfigs, key 44.

pub use super::alter_configs::AlterConfigsResourceResponse;
use super::*;

/// Changes single configs of resources (KIP-339).
#[message(versions = 0..=1, flexible = 1..)]
pub struct IncrementalAlterConfigsRequest {
    /// The resources.
    pub resources: Vec<AlterConfigsResource>,
    /// Whether to check the request and change nothing.
    pub validate_only: bool,
}

/// The changes for one resource.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterConfigsResource {
    /// The type of the resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The name of the resource; an empty one stands for all brokers.
    pub resource_name: Str,
    /// The changes.
    pub configs: Vec<AlterableConfig>,
}

/// One change.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterableConfig {
    /// The name of the config.
    pub name: Str,
    /// What to do: 0 set, 1 delete, 2 append to a list, 3 subtract from a list (KIP-339).
    pub config_operation: i8,
    /// The value, which may be a password, or null to go back to the default.
    #[wire(secret)]
    pub value: Option<Str>,
}

/// Says whose configs were changed.
#[message(versions = 0..=1, flexible = 1..)]
pub struct IncrementalAlterConfigsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers, by topic.
    pub responses: Vec<AlterConfigsResourceResponse>,
}
