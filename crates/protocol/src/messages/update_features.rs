//! UpdateFeatures, key 57.

use super::*;

/// Finalizes features at a level (KIP-584).
///
/// Version 1 tells how a level may change and may only check the request (KIP-778).
#[message(versions = 0..=2, flexible = 0..)]
pub struct UpdateFeaturesRequest {
    /// How long the node may take, in milliseconds.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
    /// The features to change.
    pub feature_updates: Vec<FeatureUpdateKey>,
    /// Whether to only check the request (KIP-778).
    #[wire(versions = 1..)]
    pub validate_only: bool,
}

/// A feature and its wanted level.
#[derive(Clone, PartialEq, Wire)]
pub struct FeatureUpdateKey {
    /// The feature, such as `metadata.version`.
    pub feature: Str,
    /// The wanted level; less than 1 removes the feature.
    pub max_version_level: i16,
    /// Whether the level may become lower; replaced by the type of upgrade in version 1.
    #[wire(versions = ..=0)]
    pub allow_downgrade: bool,
    /// 1 the level may only become higher, 2 lower if nothing is lost, 3 lower even if something is
    /// lost (KIP-778).
    #[wire(versions = 1.., default = 1)]
    pub upgrade_type: i8,
}

/// Says whether the features were changed: in version 2 only all or none of them.
#[message(versions = 0..=2, flexible = 0..)]
pub struct UpdateFeaturesResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// What became of each feature.
    #[wire(versions = ..=1, ignorable)]
    pub results: Vec<UpdatableFeatureResult>,
}

/// What became of a feature.
#[derive(Clone, PartialEq, Wire)]
pub struct UpdatableFeatureResult {
    /// The feature, such as `metadata.version`.
    pub feature: Str,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
