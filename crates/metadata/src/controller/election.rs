//! Who leads when a broker comes or goes.

use std::collections::BTreeSet;

use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{NodeId, Uuid};

use super::Controller;
use super::partition_change::{PartitionChange, PartitionRules};
use crate::configs::{ConfigMap, MIN_ISR, ResourceKind, TopicConfig};
use crate::image::{PartitionImage, TopicImage, directory};

/// Whose coming or going leaders and ISRs follow.
pub(super) enum Move<'a> {
    /// The broker leads nothing any more, and leaves every ISR.
    Leaving(NodeId),
    /// The broker may lead partitions that have no leader. The image still shows it as fenced.
    Coming(NodeId),
    /// The broker has restarted without having shut down in order. Where eligible leader replicas are switched on, it
    /// leaves ISR and ELR alike; where not, this is the same as [`Self::Leaving`].
    UncleanRestart(NodeId),
    /// Directories of the broker are gone; the image still shows them as online.
    DirectoriesLost {
        broker_id: NodeId,
        directories: &'a BTreeSet<Uuid>,
    },
}

impl Move<'_> {
    /// Whether the partition is concerned at all.
    fn concerns(&self, partition: &PartitionImage) -> bool {
        match self {
            Self::Leaving(id) => partition.isr.contains(id),
            Self::Coming(_) => partition.leader == NodeId::NONE,
            Self::UncleanRestart(id) => {
                partition.isr.contains(id) || partition.eligible_leader_replicas.contains(id)
            }
            Self::DirectoriesLost {
                broker_id,
                directories,
            } => partition
                .directory(*broker_id)
                .is_some_and(|directory| directories.contains(&directory)),
        }
    }

    /// Who must not lead, and leaves the ISR.
    const fn leaving(&self) -> NodeId {
        match self {
            Self::Leaving(id) | Self::UncleanRestart(id) => *id,
            Self::DirectoriesLost { broker_id, .. } => *broker_id,
            Self::Coming(_) => NodeId::NONE,
        }
    }
}

impl Controller {
    /// Adds the records of all elections that a broker's coming or going causes. It looks at every partition of the
    /// cluster; 100,000 elections take a third of a second.
    pub(super) fn move_leaders(&self, movement: &Move<'_>, records: &mut Vec<MetadataRecord>) {
        let movement = match movement {
            Move::UncleanRestart(id) if !self.elr_enabled() => &Move::Leaving(*id),
            movement => movement,
        };
        let leaving = movement.leaving();
        let can_lead = |node: NodeId, partition: &PartitionImage| {
            let comes = matches!(movement, Move::Coming(id) if *id == node);
            node != leaving && (comes || self.is_active(node)) && self.is_online(node, partition)
        };
        for topic in self.image.topics() {
            let mut concerned = topic
                .partitions
                .iter()
                .filter(|(_, partition)| movement.concerns(partition))
                .peekable();
            if concerned.peek().is_none() {
                continue;
            }
            let rules = self.partition_rules(topic, &can_lead);
            for (index, partition) in concerned {
                let mut change = PartitionChange::of(partition, rules.election());
                change.shrink_isr(|node| node == leaving);
                if let Move::UncleanRestart(id) = movement {
                    change.unclean_restart = *id;
                }
                let record = change.record(topic.id, *index, &rules);
                records.extend(record.map(MetadataRecord::from));
            }
        }
    }

    /// Whether a replica may lead as things are now.
    pub(super) fn can_lead(&self, node: NodeId, partition: &PartitionImage) -> bool {
        self.is_active(node) && self.is_online(node, partition)
    }

    /// What goes for the partitions of the topic.
    pub(super) fn partition_rules<'a>(
        &'a self,
        topic: &TopicImage,
        can_lead: &'a dyn Fn(NodeId, &PartitionImage) -> bool,
    ) -> PartitionRules<'a> {
        let (allow_unclean, min_isr) = self.election_configs(topic);
        // As in Kafka, the first partition stands for all.
        let replicas = topic.partition(0).map_or(0, |first| first.replicas.len());
        PartitionRules {
            image: &self.image,
            can_lead,
            allow_unclean,
            min_isr: usize::try_from(min_isr).map_or(0, |min_isr| min_isr.min(replicas)),
            elr_enabled: self.elr_enabled(),
            metadata_version: self.image.metadata_version(),
        }
    }

    /// unclean.leader.election.enable and min.insync.replicas of a topic.
    pub(super) fn election_configs(&self, topic: &TopicImage) -> (bool, i32) {
        // Most topics do not set them, and resolving all of a topic's configs takes longer than its elections.
        let sets_any = |configs: &&std::sync::Arc<ConfigMap>| {
            configs.contains_key("unclean.leader.election.enable") || configs.contains_key(MIN_ISR)
        };
        match self
            .image
            .configs(ResourceKind::Topic, &topic.name)
            .filter(sets_any)
        {
            None => (
                self.broker.unclean_leader_election_enable(),
                self.broker.min_insync_replicas(),
            ),
            Some(configs) => {
                let resolved = TopicConfig::resolve(configs, &self.broker);
                (
                    resolved.unclean_leader_election_enable,
                    resolved.min_insync_replicas,
                )
            }
        }
    }

    /// Whether the directory of the node's replica is online.
    fn is_online(&self, node: NodeId, partition: &PartitionImage) -> bool {
        let directory = partition.directory(node).unwrap_or(directory::LOST);
        let broker = self.image.broker(node);
        broker.is_some_and(|broker| broker.has_online_directory(directory))
    }
}
