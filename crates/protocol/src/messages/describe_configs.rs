//! DescribeConfigs, key 32.

use super::*;

/// Asks for configs (KIP-133).
///
/// Version 1 tells sources and synonyms (KIP-226), 3 types and documentation (KIP-569).
#[message(versions = 0..=4, flexible = 4..)]
pub struct DescribeConfigsRequest {
    /// The resources.
    pub resources: Vec<DescribeConfigsResource>,
    /// Whether to tell the values that are hidden by others.
    #[wire(versions = 1..)]
    pub include_synonyms: bool,
    /// Whether to tell what the config does.
    #[wire(versions = 3..)]
    pub include_documentation: bool,
}

/// The wanted configs of one resource.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeConfigsResource {
    /// The type of the resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The name of the resource; an empty one stands for all brokers.
    pub resource_name: Str,
    /// The names of the wanted configs, or null for all.
    pub configuration_keys: Option<Vec<Str>>,
}

/// Tells configs.
#[message(versions = 0..=4, flexible = 4..)]
pub struct DescribeConfigsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The answers.
    pub results: Vec<DescribeConfigsResult>,
}

/// The configs of one resource.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeConfigsResult {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The type of the resource: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// The name of the resource; an empty one stands for all brokers.
    pub resource_name: Str,
    /// The configs, with where they come from.
    pub configs: Vec<DescribeConfigsResourceResult>,
}

/// One config.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeConfigsResourceResult {
    /// The name of the config.
    pub name: Str,
    /// The value, or null.
    pub value: Option<Str>,
    /// Whether the config cannot be changed.
    pub read_only: bool,
    /// Whether nobody has set the config; replaced by the source in version 1.
    #[wire(versions = ..=0)]
    pub is_default: bool,
    /// Where the value comes from: 1 topic, 2 dynamic broker, 3 dynamic default of all brokers, 4
    /// file, 5 default, 8 group.
    #[wire(versions = 1.., default = -1, ignorable)]
    pub config_source: i8,
    /// Whether the value is secret and therefore null.
    pub is_sensitive: bool,
    /// All values of the config, the one in force first.
    #[wire(versions = 1.., ignorable)]
    pub synonyms: Vec<DescribeConfigsSynonym>,
    /// The type: 0 unknown, 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class,
    /// 9 password.
    #[wire(versions = 3.., ignorable)]
    pub config_type: i8,
    /// What the config does.
    #[wire(versions = 3.., ignorable)]
    pub documentation: Option<Str>,
}

/// A value of a config, in force or hidden.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeConfigsSynonym {
    /// The name under which the synonym is set.
    pub name: Str,
    /// The value, or null.
    pub value: Option<Str>,
    /// Where the value comes from, numbered like the config's own source.
    pub source: i8,
}
