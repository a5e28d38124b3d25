//! ApiVersions, key 18.

use super::*;

/// Asks which versions of which APIs may be used; the first request on most connections.
///
/// Version 3 tells the client's software (KIP-511), 4 may be told of features that start at 0
/// (KIP-584).
#[message(versions = 0..=4, flexible = 3..)]
pub struct ApiVersionsRequest {
    /// The name of the client library (KIP-511).
    #[wire(versions = 3.., ignorable)]
    pub client_software_name: Str,
    /// The version of the client library (KIP-511).
    #[wire(versions = 3.., ignorable)]
    pub client_software_version: Str,
}

/// Lists APIs and features. Its header is never flexible; a request in an unknown version is
/// answered in version 0.
#[message(versions = 0..=4, flexible = 3..)]
pub struct ApiVersionsResponse {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The APIs that may be called.
    pub api_keys: Vec<ApiVersion>,
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// The features that the broker supports (KIP-584).
    #[wire(versions = 3.., tag = 0, ignorable)]
    pub supported_features: Vec<SupportedFeatureKey>,
    /// The offset of the metadata that finalized the features, or -1 if unknown.
    #[wire(versions = 3.., tag = 1, default = -1, ignorable)]
    pub finalized_features_epoch: i64,
    /// The levels at which features are in use in the cluster (KIP-584).
    #[wire(versions = 3.., tag = 2, ignorable)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// Whether a migration from ZooKeeper may be made; always false.
    #[wire(versions = 3.., tag = 3, ignorable)]
    pub zk_migration_ready: bool,
}

/// One API.
#[derive(Clone, PartialEq, Wire)]
pub struct ApiVersion {
    /// The API.
    pub api_key: ApiKey,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

/// A feature that the broker supports.
#[derive(Clone, PartialEq, Wire)]
pub struct SupportedFeatureKey {
    /// The feature, such as `metadata.version`.
    pub name: Str,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

/// A feature in use in the cluster.
#[derive(Clone, PartialEq, Wire)]
pub struct FinalizedFeatureKey {
    /// The feature, such as `metadata.version`.
    pub name: Str,
    /// The highest finalized level.
    pub max_version_level: i16,
    /// The lowest finalized level.
    pub min_version_level: i16,
}
