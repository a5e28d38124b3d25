//! The cluster as group coordinators see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_coordinator::group::{
    ClusterView, GroupSettings, TopicChange, TopicChangeKind, TopicView,
};
use tidelog_metadata::Delta;
use tidelog_metadata::configs::{BrokerConfig, ResourceKind, group_override};
use tidelog_metadata::image::{Image, TopicImage};
use tidelog_types::{GroupId, PartitionIndex, Str, TopicId, TopicName};

/// One version of the metadata.
pub struct View {
    image: Arc<Image>,
    config: Arc<BrokerConfig>,
    version: i64,
}

impl View {
    /// The cluster as this image has it. `version` rises from one to the next; `config` is what groups have that set nothing
    /// for themselves.
    pub const fn new(image: Arc<Image>, config: Arc<BrokerConfig>, version: i64) -> Self {
        Self {
            image,
            config,
            version,
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl ClusterView for View {
    fn version(&self) -> i64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicView> {
        self.image.topic(name).map(|topic| view(topic))
    }

    fn topic_by_id(&self, id: TopicId) -> Option<TopicView> {
        self.image.topic_by_id(id).map(|topic| view(topic))
    }

    fn racks(&self, id: TopicId, partition: PartitionIndex) -> Vec<Str> {
        let partition = self.image.partition(id, partition);
        let replicas = partition.into_iter().flat_map(|p| &p.replicas);
        replicas
            .filter_map(|replica| self.image.broker(*replica)?.rack.clone())
            .collect()
    }

    fn topic_names(&self) -> Box<dyn Iterator<Item = TopicName> + '_> {
        Box::new(self.image.topics().map(|topic| topic.name.clone()))
    }

    fn group_settings(&self, group_id: &GroupId) -> GroupSettings {
        let Some(overrides) = self.image.configs(ResourceKind::Group, group_id) else {
            return GroupSettings::default();
        };
        let number = |name| group_override(name, overrides, &self.config);
        GroupSettings {
            consumer_session_timeout_ms: number("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: number("consumer.assignment.interval.ms"),
        }
    }
}

fn view(topic: &TopicImage) -> TopicView {
    TopicView {
        id: topic.id,
        name: topic.name.clone(),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    }
}

/// What has happened to topics that matters to who subscribes to them.
pub fn topic_changes(image: &Image, delta: &Delta) -> Vec<TopicChange> {
    let mut changes = BTreeMap::new();
    for topic in delta.topics_deleted.values() {
        changes.insert(topic.name.clone(), TopicChangeKind::Deleted);
    }
    for id in delta.partitions.keys() {
        if let Some(topic) = image.topic_by_id(*id) {
            changes.insert(topic.name.clone(), TopicChangeKind::Changed);
        }
    }
    for id in &delta.topics_created {
        if let Some(topic) = image.topic_by_id(*id) {
            changes.insert(topic.name.clone(), TopicChangeKind::Created);
        }
    }
    let changes = changes.into_iter();
    changes
        .map(|(name, kind)| TopicChange { name, kind })
        .collect()
}
