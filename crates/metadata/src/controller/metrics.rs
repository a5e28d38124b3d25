//! What is worth watching of a cluster, in numbers.

use tidelog_types::NodeId;

use crate::image::Image;

/// The state of the cluster in numbers, as Kafka's controller reports it (`kafka.controller:type=KafkaController`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterMetrics {
    /// Registered brokers that are not fenced (`ActiveBrokerCount`).
    pub active_brokers: usize,
    /// Registered brokers that are fenced (`FencedBrokerCount`).
    pub fenced_brokers: usize,
    /// Unfenced brokers that are shutting down in order (`ControlledShutdownBrokerCount`).
    pub brokers_shutting_down: usize,
    /// Topics (`GlobalTopicCount`).
    pub topics: usize,
    /// Partitions (`GlobalPartitionCount`).
    pub partitions: usize,
    /// Partitions without a leader (`OfflinePartitionsCount`).
    pub offline_partitions: usize,
    /// Partitions that are not led by their first replica (`PreferredReplicaImbalanceCount`).
    pub not_led_by_preferred_replica: usize,
}

impl ClusterMetrics {
    /// Counts. It looks at every partition, 100,000 in some milliseconds.
    pub fn of(image: &Image) -> Self {
        let mut metrics = Self {
            topics: image.topic_count(),
            ..Self::default()
        };
        for broker in image.brokers() {
            metrics.active_brokers += usize::from(!broker.fenced);
            metrics.fenced_brokers += usize::from(broker.fenced);
            let shuts_down = !broker.fenced && broker.in_controlled_shutdown;
            metrics.brokers_shutting_down += usize::from(shuts_down);
        }
        let partitions = image.topics().flat_map(|topic| topic.partitions.values());
        for partition in partitions {
            metrics.partitions += 1;
            metrics.offline_partitions += usize::from(partition.leader == NodeId::NONE);
            let is_preferred = partition.replicas.first() == Some(&partition.leader);
            metrics.not_led_by_preferred_replica += usize::from(!is_preferred);
        }
        metrics
    }
}
