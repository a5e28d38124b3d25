//! Translates between the protocol's messages of the metadata quorum and those of its machine.
//!
//! The machine sees no cluster id, no topic and no bytes: what concerns those is checked, added and taken out here.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use tidelog_protocol::messages::{begin_quorum_epoch, fetch, vote};
use tidelog_record::Batch;
use tidelog_replication::quorum::Endpoint;
use tidelog_replication::quorum::message::LeaderAndEpoch;
use tidelog_types::{LeaderEpoch, NodeId, Str, TopicId, TopicName};

pub(super) use self::incoming::{Asked, answer, asked};
pub(super) use self::outgoing::{ask, brought};

/// The only partition of the metadata log.
pub(super) const PARTITION: i32 = 0;

/// What messages of the quorum say beside what the machine knows.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// The cluster.
    pub(super) id: Str,
    /// The listener of controllers.
    pub(super) listener: Str,
    /// How many bytes of records one fetch brings.
    pub(super) fetch_max_bytes: i32,
    /// How many bytes of a snapshot one fetch brings.
    pub(super) fetch_snapshot_max_bytes: i32,
    /// How long the change of a voter may take that this node asks for, in milliseconds.
    pub(super) voter_change_timeout_ms: i32,
}

/// The bytes that came with an answer.
#[derive(Clone, Debug)]
pub(super) enum Brought {
    Nothing,
    /// Whole batches, checked by their checksums; damaged ones and all behind them are left out.
    Records(Vec<Batch>),
    /// A piece of a snapshot.
    Piece(Bytes),
}

impl Cluster {
    fn is_metadata(name: &TopicName, partition: i32) -> bool {
        *name == TopicName::CLUSTER_METADATA && partition == PARTITION
    }

    fn is_metadata_in_fetch(topic: &fetch::FetchTopic, partition: i32) -> bool {
        let by_id = topic.topic_id == TopicId::CLUSTER_METADATA;
        (by_id || topic.topic == TopicName::CLUSTER_METADATA) && partition == PARTITION
    }

    /// A cluster id is optional; one that is there must be ours.
    fn is_ours(&self, cluster_id: Option<&Str>) -> bool {
        cluster_id.is_none_or(|id| *id == self.id)
    }

    /// What an answer says of the leader: its address is that of our listener, whose name the answer does not tell.
    fn leader(
        &self,
        leader_id: NodeId,
        leader_epoch: LeaderEpoch,
        endpoint: Option<(Str, u16)>,
    ) -> LeaderAndEpoch {
        let endpoint = endpoint.map(|(host, port)| Endpoint {
            listener: self.listener.clone(),
            host,
            port,
        });
        LeaderAndEpoch {
            leader_id: known(leader_id),
            leader_epoch,
            endpoints: endpoint.into_iter().collect(),
        }
    }
}

/// Negative ids stand for nobody.
fn known(id: NodeId) -> Option<NodeId> {
    Some(id).filter(|id| id.value() >= 0)
}

fn leader_endpoints(endpoints: &[begin_quorum_epoch::LeaderEndpoint]) -> Vec<Endpoint> {
    let endpoint = |endpoint: &begin_quorum_epoch::LeaderEndpoint| Endpoint {
        listener: endpoint.name.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    };
    endpoints.iter().map(endpoint).collect()
}

fn told_endpoints(endpoints: &[Endpoint]) -> Vec<begin_quorum_epoch::LeaderEndpoint> {
    let endpoint = |endpoint: &Endpoint| begin_quorum_epoch::LeaderEndpoint {
        name: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
    };
    endpoints.iter().map(endpoint).collect()
}

/// Where the node is reached, as an answer says.
fn endpoint_of(endpoints: &[vote::NodeEndpoint], node: NodeId) -> Option<(Str, u16)> {
    let endpoint = endpoints.iter().find(|endpoint| endpoint.node_id == node)?;
    Some((endpoint.host.clone(), endpoint.port))
}
