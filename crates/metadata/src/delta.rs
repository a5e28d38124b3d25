//! What a batch of records changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelog_types::{NodeId, PartitionIndex, Str, TopicId};

use crate::configs::ConfigResource;
use crate::image::TopicImage;

/// What changed between two images, gathered while records are applied.
///
/// It names what to look at; what it was and what it is now stand in the images before and after. What was created and
/// deleted again in between is not mentioned.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Delta {
    /// Topics that are new.
    pub topics_created: BTreeSet<TopicId>,
    /// Topics that are gone, as they were last.
    pub topics_deleted: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Partitions that are new or have changed, by topic; those of deleted topics are not among them.
    pub partitions: BTreeMap<TopicId, BTreeSet<PartitionIndex>>,
    /// Resources whose configs changed. A deleted topic that had configs is among them.
    pub configs: BTreeSet<ConfigResource>,
    /// Brokers that were registered, changed or unregistered.
    pub brokers: BTreeSet<NodeId>,
    /// Controllers that were registered.
    pub controllers: BTreeSet<NodeId>,
    /// Features whose level changed.
    pub features: BTreeSet<Str>,
}

impl Delta {
    /// Whether nothing that anybody watches has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn partition(&mut self, topic: TopicId, partition: PartitionIndex) {
        self.partitions.entry(topic).or_default().insert(partition);
    }

    pub(crate) fn topic_deleted(&mut self, topic: Arc<TopicImage>) {
        self.partitions.remove(&topic.id);
        if !self.topics_created.remove(&topic.id) {
            self.topics_deleted.insert(topic.id, topic);
        }
    }
}
