//! BrokerRegistration, key 62.

use super::*;

/// Registers a broker with the controller (KIP-631).
///
/// Version 1 tells of a migration from ZooKeeper (KIP-866), 2 adds log directories (KIP-858), 3 the
/// epoch before an orderly shutdown (KIP-966). Before version 4, features that may be at level 0
/// must be left out.
#[message(versions = 0..=4, flexible = 0..)]
pub struct BrokerRegistrationRequest {
    /// The broker.
    pub broker_id: NodeId,
    /// The id of the cluster.
    pub cluster_id: Str,
    /// The id of this start of the process.
    pub incarnation_id: Uuid,
    /// Where the node listens.
    pub listeners: Vec<Listener>,
    /// The features that the node supports.
    pub features: Vec<Feature>,
    /// The rack (`broker.rack`), or null.
    pub rack: Option<Str>,
    /// Whether the broker is migrating from ZooKeeper; always false now.
    #[wire(versions = 1..)]
    pub is_migrating_zk_broker: bool,
    /// The log directories (KIP-858).
    #[wire(versions = 2.., ignorable)]
    pub log_dirs: Vec<Uuid>,
    /// The epoch of the registration before, if the broker was shut down in order, or -1 (KIP-966).
    #[wire(versions = 3.., default = -1, ignorable)]
    pub previous_broker_epoch: i64,
}

/// One listener.
#[derive(Clone, PartialEq, Wire)]
pub struct Listener {
    /// The name of the listener.
    pub name: Str,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A feature that the node supports.
#[derive(Clone, PartialEq, Wire)]
pub struct Feature {
    /// The feature, such as `metadata.version`.
    pub name: Str,
    /// The lowest supported level.
    pub min_supported_version: i16,
    /// The highest supported level.
    pub max_supported_version: i16,
}

/// Gives a broker its epoch.
#[message(versions = 0..=4, flexible = 0..)]
pub struct BrokerRegistrationResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The epoch of the broker's registration, or -1 if there was an error.
    #[wire(default = -1)]
    pub broker_epoch: i64,
}
