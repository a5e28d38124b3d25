//! What the committed metadata means for the replicas of a node.

use tidelog_metadata::image::{BrokerImage, Image, LeaderRecoveryState, PartitionImage};
use tidelog_replication::partition::{
    BecomeFollower, BecomeLeader, Broker, Input, UNKNOWN_BROKER_EPOCH,
};
use tidelog_types::NodeId;

/// What the replica of `node` is told of its partition.
pub fn role(image: &Image, node: NodeId, partition: &PartitionImage) -> Input {
    if partition.leader != node {
        return Input::BecomeFollower(BecomeFollower {
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            leader: Some(partition.leader).filter(|leader| *leader != NodeId::NONE),
        });
    }
    let brokers = partition.replicas.iter().filter_map(|id| image.broker(*id));
    let brokers = brokers.map(|broker| registration(broker));
    Input::BecomeLeader(BecomeLeader {
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        adding_replicas: partition.adding_replicas.clone(),
        isr: partition.isr.clone(),
        recovering: partition.leader_recovery_state == LeaderRecoveryState::Recovering,
        brokers: brokers.collect(),
    })
}

/// What leaders must know of a broker, registered or not.
pub fn broker(image: &Image, id: NodeId) -> Broker {
    match image.broker(id) {
        Some(broker) => registration(broker),
        None => Broker {
            id,
            broker_epoch: UNKNOWN_BROKER_EPOCH,
            fenced: true,
            in_controlled_shutdown: false,
        },
    }
}

fn registration(broker: &BrokerImage) -> Broker {
    Broker {
        id: broker.id,
        broker_epoch: broker.epoch,
        fenced: broker.fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
    }
}
