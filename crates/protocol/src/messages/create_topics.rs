//! CreateTopics, key 19.

use super::*;

/// Creates topics.
///
/// Version 1 may only check, 4 allows the broker's defaults (KIP-464), 5 returns the configs
/// (KIP-525), 6 may be told to slow down (KIP-599), 7 returns topic ids (KIP-516).
#[message(versions = 0..=7, flexible = 5..)]
pub struct CreateTopicsRequest {
    /// The topics.
    pub topics: Vec<CreatableTopic>,
    /// How long the broker may take, in milliseconds.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
    /// Whether to check the request and change nothing.
    #[wire(versions = 1..)]
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatableTopic {
    /// The topic.
    pub name: TopicName,
    /// The number of partitions; -1 for the broker's default or if replicas are assigned.
    pub num_partitions: i32,
    /// The number of replicas of each partition; -1 for the broker's default or if replicas are
    /// assigned.
    pub replication_factor: i16,
    /// The replicas of each partition, if the client chooses them.
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// The configs.
    pub configs: Vec<CreatableTopicConfig>,
}

/// The replicas of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatableReplicaAssignment {
    /// The partition.
    pub partition_index: i32,
    /// The replicas, the preferred leader first.
    pub broker_ids: Vec<NodeId>,
}

/// A config of the topic.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatableTopicConfig {
    /// The name of the config.
    pub name: Str,
    /// The value, or null.
    pub value: Option<Str>,
}

/// Says which topics were created.
#[message(versions = 0..=7, flexible = 5..)]
pub struct CreateTopicsResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 2.., ignorable)]
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<CreatableTopicResult>,
}

/// The answer for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatableTopicResult {
    /// The topic.
    pub name: TopicName,
    /// The id of the topic (KIP-516).
    #[wire(versions = 7.., ignorable)]
    pub topic_id: Uuid,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    #[wire(versions = 1.., ignorable)]
    pub error_message: Option<Str>,
    /// Why the configs are not told, if they are not (KIP-525).
    #[wire(versions = 5.., tag = 0, ignorable)]
    pub topic_config_error_code: ErrorCode,
    /// The number of partitions, or -1 if it may not be told.
    #[wire(versions = 5.., default = -1, ignorable)]
    pub num_partitions: i32,
    /// The number of replicas of each partition, or -1 if it may not be told.
    #[wire(versions = 5.., default = -1, ignorable)]
    pub replication_factor: i16,
    /// The configs of the new topic, or null if they may not be told (KIP-525).
    #[wire(versions = 5.., ignorable)]
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

/// A config of the new topic.
#[derive(Clone, PartialEq, Wire)]
pub struct CreatableTopicConfigs {
    /// The name of the config.
    pub name: Str,
    /// The value, or null.
    pub value: Option<Str>,
    /// Whether the config cannot be changed.
    pub read_only: bool,
    /// Where the value comes from: 1 topic, 2 dynamic broker, 3 dynamic default of all brokers, 4
    /// file, 5 default, 8 group.
    #[wire(default = -1)]
    pub config_source: i8,
    /// Whether the value is secret and therefore null.
    pub is_sensitive: bool,
}
