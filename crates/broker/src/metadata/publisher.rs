//! Makes this node be what the committed metadata says, when requests see it: first partitions, then coordinators.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tidelog_coordinator::group::DeletedTopic;
use tidelog_metadata::Delta;
use tidelog_metadata::configs::{BrokerConfig, ResourceKind, TopicConfig};
use tidelog_metadata::image::{Image, PartitionImage, TopicImage, directory};
use tidelog_node::metadata;
use tidelog_replication::partition::Leadership;
use tidelog_types::{NodeId, Offset, PartitionIndex, TopicId, TopicName};

use crate::groups::Groups;
use crate::net::quota::ConnectionQuota;
use crate::store::partition::Partition;
use crate::store::{Store, Wanted};

/// The parts of the node that follow the metadata.
pub(crate) struct Publisher {
    pub(crate) node_id: NodeId,
    pub(crate) store: Arc<Store>,
    pub(crate) groups: Arc<Groups>,
    /// What the configuration file says.
    pub(crate) static_config: BrokerConfig,
    /// The same with what was changed while running.
    pub(crate) broker_config: Arc<ArcSwap<BrokerConfig>>,
    pub(crate) connections: Arc<ConnectionQuota>,
}

impl Publisher {
    /// Takes over the image at `offset` of the metadata log, which differs from the last one by `delta`. It is the one that
    /// requests see already.
    pub(crate) fn publish(&self, image: &Arc<Image>, delta: &Delta, offset: Offset) {
        self.publish_broker_config(image, delta);
        self.groups.cluster_changed(
            Arc::clone(image),
            self.broker_config.load_full(),
            offset.value(),
            delta,
        );
        self.publish_deleted(delta);
        self.publish_partitions(image, delta);
        self.publish_brokers(image, delta);
        self.publish_topic_configs(image, delta);
    }

    /// The configuration of this broker: an override for this node counts more than one for all.
    fn publish_broker_config(&self, image: &Image, delta: &Delta) {
        if !delta
            .configs
            .iter()
            .any(|resource| resource.kind == ResourceKind::Broker)
        {
            return;
        }
        let overrides = |name: &str| {
            image
                .configs(ResourceKind::Broker, name)
                .map(|map| (**map).clone())
                .unwrap_or_default()
        };
        let node = overrides(&self.node_id.to_string());
        let config = self.static_config.with_dynamic(&overrides(""), &node);
        self.store.configure_broker(&config);
        // What is stored was checked when it was set.
        if let Ok(limits) = config.connection_limits() {
            self.connections.configure(limits);
        }
        self.broker_config.store(Arc::new(config));
        // Every topic falls back on the broker's settings.
        for topic in self.store.topics.all() {
            self.configure(&topic.name, topic.id, image);
        }
    }

    fn publish_deleted(&self, delta: &Delta) {
        if delta.topics_deleted.is_empty() {
            return;
        }
        for (id, topic) in &delta.topics_deleted {
            if topic.name == TopicName::CONSUMER_OFFSETS {
                topic
                    .partitions
                    .keys()
                    .for_each(|index| self.groups.resigned(*index));
            }
            self.store.delete_topic(*id);
        }
        let deleted = delta.topics_deleted.values().map(|topic| DeletedTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
        });
        self.groups.topics_deleted(&deleted.collect::<Vec<_>>());
    }

    fn publish_partitions(&self, image: &Image, delta: &Delta) {
        let topics = delta.partitions.iter();
        let topics = topics.filter_map(|(id, indexes)| Some((image.topic_by_id(*id)?, indexes)));
        let topics: Vec<_> = topics
            .filter_map(|(topic, indexes)| {
                self.delete_moved(topic, indexes);
                let here = self.partitions_here(topic, indexes);
                (!here.is_empty()).then_some((topic, here))
            })
            .collect();
        // All logs first, so that many can be recovered at the same time.
        let wanted = topics.iter().map(|(topic, here)| Wanted {
            topic: self.store.topics.add(&topic.name, topic.id, || {
                self.topic_config(image, &topic.name)
            }),
            partitions: here
                .iter()
                .map(|(index, partition)| (*index, partition.directory(self.node_id)))
                .collect(),
        });
        let wanted: Vec<_> = wanted.collect();
        self.store.open_partitions(&wanted);
        for ((topic, here), Wanted { topic: local, .. }) in topics.iter().zip(&wanted) {
            for (index, state) in here {
                match local.partition(*index) {
                    Ok(Some(partition)) => {
                        self.assign(image, &partition, state);
                        self.publish_role(image, topic, &partition, state);
                    }
                    Ok(None) => {}
                    Err(_) => self.lose(image, (topic.id, *index), state),
                }
            }
        }
    }

    /// Deletes the replicas of partitions that are on other nodes only.
    fn delete_moved(&self, topic: &TopicImage, indexes: &BTreeSet<PartitionIndex>) {
        for index in indexes {
            let stays = |partition: &PartitionImage| partition.replicas.contains(&self.node_id);
            if topic.partition(*index).is_some_and(stays) {
                continue;
            }
            if topic.name == TopicName::CONSUMER_OFFSETS {
                self.groups.resigned(*index);
            }
            self.store.assignments.remove(topic.id, *index);
            self.store.delete_partition(topic.id, *index);
        }
    }

    /// Sees to it that the controller knows in which directory a replica is (KIP-858).
    fn assign(&self, image: &Image, partition: &Partition, state: &PartitionImage) {
        let moves = &self.store.moves;
        // The controller hears of a move when the copy has everything, and before it takes the place of the log.
        let asked = moves.asked(&partition.name);
        let directory = asked.unwrap_or_else(|| partition.directory());
        let own = self.store.directories()[directory].id;
        let (topic, index) = (partition.topic_id, partition.name.partition);
        if partition.published().leadership == Leadership::Offline {
            return;
        }
        if state.directory(self.node_id) == Some(own) || !image.metadata_version().has_directories()
        {
            self.store.assignments.remove(topic, index);
            if asked.is_some() {
                moves.accepted(&partition.name);
            }
        } else {
            self.store.assignments.add(topic, index, own);
        }
    }

    /// Sees to it that the controller counts on others, where the log of a replica could not be opened (KIP-858).
    fn lose(&self, image: &Image, key: (TopicId, PartitionIndex), state: &PartitionImage) {
        let registered = image.broker(self.node_id);
        let counts = state
            .directory(self.node_id)
            .is_some_and(|id| registered.is_some_and(|broker| broker.has_online_directory(id)));
        if counts && image.metadata_version().has_directories() {
            self.store.assignments.add(key.0, key.1, directory::LOST);
        }
    }

    /// The partitions among these of which this node has a replica.
    fn partitions_here<'a>(
        &self,
        topic: &'a TopicImage,
        indexes: &BTreeSet<PartitionIndex>,
    ) -> Vec<(PartitionIndex, &'a PartitionImage)> {
        let known = indexes
            .iter()
            .filter_map(|index| Some((*index, topic.partition(*index)?)));
        known
            .filter(|(_, partition)| partition.replicas.contains(&self.node_id))
            .collect()
    }

    /// A leader must know whose replicas may be in sync.
    fn publish_brokers(&self, image: &Image, delta: &Delta) {
        for id in delta.brokers.iter().filter(|id| **id != self.node_id) {
            let broker = metadata::broker(image, *id);
            for topic in self.store.topics.all() {
                for partition in topic.partitions() {
                    partition.broker_changed(broker);
                }
            }
        }
    }

    fn publish_role(
        &self,
        image: &Image,
        topic: &TopicImage,
        partition: &Arc<Partition>,
        state: &PartitionImage,
    ) {
        let leads = state.leader == self.node_id;
        partition.role_changed(metadata::role(image, self.node_id, state));
        if topic.name == TopicName::CONSUMER_OFFSETS {
            if leads {
                self.groups.elected(partition, topic.partitions.len());
            } else {
                self.groups.resigned(partition.name.partition);
            }
        }
    }

    fn publish_topic_configs(&self, image: &Image, delta: &Delta) {
        for resource in delta
            .configs
            .iter()
            .filter(|resource| resource.kind == ResourceKind::Topic)
        {
            if let Some(topic) = image.topic(&resource.name) {
                self.configure(&topic.name, topic.id, image);
            }
        }
    }

    fn configure(&self, name: &TopicName, id: TopicId, image: &Image) {
        let config = self.topic_config(image, name);
        self.store.configure(id, config);
    }

    fn topic_config(&self, image: &Image, name: &TopicName) -> TopicConfig {
        TopicConfig::resolve(&image.topic_configs(name), &self.broker_config.load())
    }
}
