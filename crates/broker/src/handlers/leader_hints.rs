//! Who leads instead, for clients that came to the wrong broker (KIP-951): they need not ask for metadata first.

use tidelog_protocol::messages::fetch::{LeaderIdAndEpoch, NodeEndpoint};
use tidelog_types::{NodeId, PartitionIndex, TopicId};

use super::Context;

/// The leader of a partition, as the metadata has it.
pub(super) fn current_leader(
    context: &Context,
    topic: TopicId,
    partition: PartitionIndex,
) -> LeaderIdAndEpoch {
    let image = context.node.image.load();
    let found = image.partition(topic, partition);
    found.map_or_else(LeaderIdAndEpoch::default, |partition| LeaderIdAndEpoch {
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
    })
}

/// Where the leaders that an answer names listen; each once, and those left out that are not alive.
pub(super) fn endpoints(
    context: &Context,
    leaders: impl Iterator<Item = NodeId>,
) -> Vec<NodeEndpoint> {
    let mut leaders: Vec<_> = leaders.filter(|leader| *leader != NodeId::NONE).collect();
    leaders.sort_unstable();
    leaders.dedup();
    let image = context.node.image.load();
    let endpoints = leaders.into_iter().filter_map(|leader| {
        let broker = image.broker(leader).filter(|broker| !broker.fenced)?;
        let endpoint = broker.endpoint(&context.peer.listener)?;
        Some(NodeEndpoint {
            node_id: leader,
            host: endpoint.host.clone(),
            port: endpoint.port.into(),
            rack: broker.rack.clone(),
        })
    });
    endpoints.collect()
}
