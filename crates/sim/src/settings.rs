//! What all nodes of a cluster have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_metadata::configs::BrokerConfig;

/// The cluster.
pub(crate) const CLUSTER_ID: &str = "simulated-cluster-----";

/// The settings of a cluster.
#[derive(Debug)]
pub(crate) struct Settings {
    /// How many nodes there are.
    pub(crate) nodes: i32,
    /// The nodes 1 to this are voters of the metadata quorum.
    pub(crate) voters: i32,
    /// Whether voters come and go (KIP-853); those were there first.
    pub(crate) dynamic: bool,
    pub(crate) broker: Arc<BrokerConfig>,
    /// After so many bytes of metadata a snapshot is made.
    pub(crate) snapshot_bytes: i64,
}

impl Settings {
    pub(crate) fn new(nodes: i32, voters: i32, dynamic: bool, snapshot_bytes: i64) -> Self {
        let configs = [
            ("node.id", "1"),
            ("broker.session.timeout.ms", "3000"),
            ("broker.heartbeat.interval.ms", "500"),
            ("replica.lag.time.max.ms", "3000"),
        ];
        let configs: BTreeMap<_, _> = configs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let broker = BrokerConfig::new(configs);
        let (broker, _) = broker.expect("the configuration is in order");
        Self {
            nodes,
            voters,
            dynamic,
            broker: Arc::new(broker),
            snapshot_bytes,
        }
    }
}
