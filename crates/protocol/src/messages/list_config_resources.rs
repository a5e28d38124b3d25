//! ListConfigResources, key 74.

use super::*;

/// Asks which resources have configs (KIP-1000).
///
/// In version 0, only client metrics; there the API is called ListClientMetricsResources. Version 1
/// asks for other types, too (KIP-1142).
#[message(versions = 0..=1, flexible = 0..)]
pub struct ListConfigResourcesRequest {
    /// The wanted types of resources; none for all (KIP-1142).
    #[wire(versions = 1..)]
    pub resource_types: Vec<i8>,
}

/// Lists resources.
#[message(versions = 0..=1, flexible = 0..)]
pub struct ListConfigResourcesResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The resources.
    pub config_resources: Vec<ConfigResource>,
}

/// A resource that has configs.
#[derive(Clone, PartialEq, Wire)]
pub struct ConfigResource {
    /// The name of the resource.
    pub resource_name: Str,
    /// The type of the resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    #[wire(versions = 1.., default = 16, ignorable)]
    pub resource_type: i8,
}
