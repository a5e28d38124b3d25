//! AlterConfigs, key 33.

use super::*;

/// Replaces all dynamic configs of resources (KIP-133).
#[message(versions = 0..=2, flexible = 2..)]
pub struct AlterConfigsRequest {
    /// The resources.
    pub resources: Vec<AlterConfigsResource>,
    /// Whether to check the request and change nothing.
    pub validate_only: bool,
}

/// The new configs of one resource.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterConfigsResource {
    /// The type of the resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The name of the resource; an empty one stands for all brokers.
    pub resource_name: Str,
    /// The changes.
    pub configs: Vec<AlterableConfig>,
}

/// One config.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterableConfig {
    /// The name of the config.
    pub name: Str,
    /// The value, which may be a password, or null to go back to the default.
    #[wire(secret)]
    pub value: Option<Str>,
}

/// Says whose configs were replaced.
#[message(versions = 0..=2, flexible = 2..)]
pub struct AlterConfigsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers, by topic.
    pub responses: Vec<AlterConfigsResourceResponse>,
}

/// The answer for one resource.
#[derive(Clone, PartialEq, Wire)]
pub struct AlterConfigsResourceResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The type of the resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The name of the resource; an empty one stands for all brokers.
    pub resource_name: Str,
}
