//! DescribeCluster, key 60.

use super::*;

/// Asks which nodes there are (KIP-700).
///
/// Version 1 may ask for controllers (KIP-919), 2 for fenced brokers (KIP-1073).
#[message(versions = 0..=2, flexible = 0..)]
pub struct DescribeClusterRequest {
    /// Whether to say what the client may do with the cluster (KIP-430).
    pub include_cluster_authorized_operations: bool,
    /// Who is asked about: 1 brokers, 2 controllers (KIP-919).
    #[wire(versions = 1.., default = 1)]
    pub endpoint_type: i8,
    /// Whether to tell brokers that are fenced, too (KIP-1073).
    #[wire(versions = 2..)]
    pub include_fenced_brokers: bool,
}

/// Lists the nodes of the cluster.
#[message(versions = 0..=2, flexible = 0..)]
pub struct DescribeClusterResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// Who is asked about: 1 brokers, 2 controllers (KIP-919).
    #[wire(versions = 1.., default = 1)]
    pub endpoint_type: i8,
    /// The id of the cluster.
    pub cluster_id: Str,
    /// The controller, or -1.
    #[wire(default = NodeId::NONE)]
    pub controller_id: NodeId,
    /// The brokers.
    pub brokers: Vec<DescribeClusterBroker>,
    /// What the client may do with the cluster, a bit each; the smallest number if not asked for.
    #[wire(default = i32::MIN)]
    pub cluster_authorized_operations: i32,
}

/// One node.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribeClusterBroker {
    /// The broker.
    pub broker_id: NodeId,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
    /// The rack (`broker.rack`), or null.
    pub rack: Option<Str>,
    /// Whether the broker is fenced.
    #[wire(versions = 2..)]
    pub is_fenced: bool,
}
