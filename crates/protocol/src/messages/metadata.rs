//! Metadata, key 3.

use super::*;

/// Asks who leads which partition.
///
/// Version 1 can ask for no topics, 4 may forbid creating them, 8 asks what the client may do
/// (KIP-430), 11 leaves the cluster's part of that to DescribeCluster (KIP-700), 12 asks by topic
/// id (KIP-516).
#[message(versions = 0..=13, flexible = 9..)]
pub struct MetadataRequest {
    /// The topics, or null for all. In version 0, an empty list stands for all.
    #[wire(nullable = 1..)]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Whether topics that do not exist may be created.
    #[wire(versions = 4.., default = true)]
    pub allow_auto_topic_creation: bool,
    /// Whether to say what the client may do with the cluster (KIP-430).
    #[wire(versions = 8..=10)]
    pub include_cluster_authorized_operations: bool,
    /// Whether to say what the client may do with each topic (KIP-430).
    #[wire(versions = 8..)]
    pub include_topic_authorized_operations: bool,
}

/// A topic, by name or id.
#[derive(Clone, PartialEq, Wire)]
pub struct MetadataRequestTopic {
    /// The id of the topic; zero if it is asked for by name.
    #[wire(versions = 10.., ignorable)]
    pub topic_id: Uuid,
    /// The topic; null from version 10 on if it is asked for by its id.
    #[wire(nullable = 10..)]
    pub name: Option<TopicName>,
}

/// Says which brokers there are and who leads which partition.
///
/// Version 1 tells racks and the controller, 2 the id of the cluster (KIP-78), 5 offline replicas
/// (KIP-112), 7 leader epochs (KIP-320), 10 topic ids (KIP-516), 13 has an error of its own
/// (KIP-1102).
#[message(versions = 0..=13, flexible = 9..)]
pub struct MetadataResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 3.., ignorable)]
    pub throttle_time_ms: i32,
    /// The brokers.
    pub brokers: Vec<MetadataResponseBroker>,
    /// The id of the cluster.
    #[wire(versions = 2.., ignorable)]
    pub cluster_id: Option<Str>,
    /// The controller, or -1.
    #[wire(versions = 1.., default = NodeId::NONE, ignorable)]
    pub controller_id: NodeId,
    /// The topics.
    pub topics: Vec<MetadataResponseTopic>,
    /// What the client may do with the cluster, a bit each; the smallest number if not asked for.
    #[wire(versions = 8..=10, default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    /// What went wrong, if anything.
    #[wire(versions = 13.., ignorable)]
    pub error_code: ErrorCode,
}

/// A broker.
#[derive(Clone, PartialEq, Wire)]
pub struct MetadataResponseBroker {
    /// The broker.
    pub node_id: NodeId,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
    /// The rack (`broker.rack`), or null.
    #[wire(versions = 1.., ignorable)]
    pub rack: Option<Str>,
}

/// A topic.
#[derive(Clone, PartialEq, Wire)]
pub struct MetadataResponseTopic {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The topic; null from version 12 on if it was asked for by an unknown id.
    #[wire(nullable = 12..)]
    pub name: Option<TopicName>,
    /// The id of the topic (KIP-516).
    #[wire(versions = 10.., ignorable)]
    pub topic_id: Uuid,
    /// Whether brokers keep their own records in the topic.
    #[wire(versions = 1.., ignorable)]
    pub is_internal: bool,
    /// The partitions.
    pub partitions: Vec<MetadataResponsePartition>,
    /// What the client may do with the topic, a bit each; the smallest number if not asked for.
    #[wire(versions = 8.., default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// A partition.
#[derive(Clone, PartialEq, Wire)]
pub struct MetadataResponsePartition {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The partition.
    pub partition_index: i32,
    /// The leader, or -1 if there is none.
    pub leader_id: NodeId,
    /// The epoch of the leader.
    #[wire(versions = 7.., default = LeaderEpoch::NONE, ignorable)]
    pub leader_epoch: LeaderEpoch,
    /// The replicas, the preferred leader first.
    pub replica_nodes: Vec<NodeId>,
    /// The replicas in sync.
    pub isr_nodes: Vec<NodeId>,
    /// The replicas that are offline.
    #[wire(versions = 5.., ignorable)]
    pub offline_replicas: Vec<NodeId>,
}
