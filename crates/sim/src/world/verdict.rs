//! Whether all is as it should be when nothing goes wrong any more.

use std::collections::BTreeMap;

use tidelog_metadata::image::PartitionImage;
use tidelog_types::{NodeId, Offset};

use super::World;
use crate::check::Kind;
use crate::consumer::Consumer;
use crate::message::Partition;
use crate::node::Local;

impl World {
    /// What keeps the cluster from being as it should, if anything does.
    pub(super) fn unsettled(&self) -> Option<String> {
        let controllers = self.nodes.iter().filter(|node| {
            let process = node.process.as_ref();
            process.is_some_and(|process| process.controller.is_some())
        });
        let controllers: Vec<_> = controllers.collect();
        let [controller] = controllers[..] else {
            return Some(format!("there are {} controllers", controllers.len()));
        };
        let controller = controller.process.as_ref()?;
        for node in &self.nodes {
            let Some(process) = &node.process else {
                return Some(format!("node {} does not run", node.id));
            };
            if process.metadata_offset() != controller.metadata_offset() {
                return Some(format!("node {} has not read all metadata", node.id));
            }
            if process.quorum.voters() != controller.quorum.voters() {
                return Some(format!("node {} knows other voters", node.id));
            }
            let broker = controller.image.broker(node.id);
            if broker.is_none_or(|broker| !broker.is_active()) {
                return Some(format!("broker {} is fenced", node.id));
            }
        }
        for producer in &self.producers {
            if !producer.is_done() {
                return Some(producer.waits_for());
            }
        }
        if let Some(why) = self.group_unsettled() {
            return Some(why);
        }
        for topic in controller.image.topics() {
            for (index, partition) in &topic.partitions {
                if partition.is_reassigning() {
                    return Some(format!("partition {index} is being reassigned"));
                }
                if !partition.has_leader() {
                    return Some(format!("partition {index} has no leader"));
                }
                if partition.isr.len() != partition.replicas.len() {
                    return Some(format!(
                        "the ISR of partition {index} is {:?}",
                        partition.isr
                    ));
                }
                let id = (topic.id, *index);
                if let Some(why) = self.lagging(id, partition) {
                    return Some(why);
                }
            }
        }
        None
    }

    /// What keeps the group from having read everything, if anything does.
    pub(super) fn group_unsettled(&self) -> Option<String> {
        let mut owned = BTreeMap::new();
        for consumer in &self.consumers {
            if !consumer.is_running() {
                return Some(consumer.status());
            }
            for partition in consumer.owned() {
                *owned.entry(partition).or_insert(0) += 1;
            }
        }
        for producer in &self.producers {
            let (index, partition) = (producer.partition_index, producer.partition?);
            if self.consumers.is_empty() {
                break;
            }
            if owned.get(&index) != Some(&1) {
                let all: Vec<_> = self.consumers.iter().map(Consumer::status).collect();
                let all = all.join(", ");
                return Some(format!(
                    "partition {index} is read by {:?}: {all}",
                    owned.get(&index)
                ));
            }
            let end = self.oracle.committed_end(partition);
            let consumed = self.oracle.groups.consumed_to(index);
            let committed = self.oracle.groups.last_committed(index);
            if consumed != end || (end > Offset::ZERO && committed != Some(end)) {
                return Some(format!(
                    "partition {index} ends at {end}, is consumed up to {consumed}, and {committed:?} is committed"
                ));
            }
        }
        None
    }

    /// What keeps the replicas of a partition from being where they should be, and the same.
    pub(super) fn lagging(&self, id: Partition, partition: &PartitionImage) -> Option<String> {
        let leader = self.local(partition.leader, id)?;
        let (leads, _) = leader.core.readers_see();
        let is_kept = Kind::of(&leader.name.topic).is_kept();
        let end = match is_kept {
            true => self.oracle.committed_end(id),
            false => leads.log_end_offset,
        };
        for node in &self.nodes {
            let is_replica = partition.replicas.contains(&node.id);
            let Some(local) = self.local(node.id, id) else {
                if is_replica {
                    return Some(format!("node {} lacks {}", node.id, leader.name));
                }
                continue;
            };
            if !is_replica {
                return Some(format!("node {} keeps {}", node.id, leader.name));
            }
            let (marks, _) = local.core.readers_see();
            if marks.log_end_offset != end || marks.high_watermark != end {
                return Some(format!(
                    "{} on node {} ends at {}, committed up to {}, and {end} is committed",
                    leader.name, node.id, marks.log_end_offset, marks.high_watermark
                ));
            }
            // A leader may have forgotten with its power that something was deleted.
            if marks.log_start_offset < leads.log_start_offset {
                return Some(format!(
                    "{} on node {} begins with {}, and with {} on its leader",
                    leader.name, node.id, marks.log_start_offset, leads.log_start_offset
                ));
            }
        }
        None
    }

    fn local(&self, node: NodeId, partition: Partition) -> Option<&Local> {
        let node = &self.nodes[(node.value() - 1) as usize];
        node.process.as_ref()?.partitions.get(&partition)
    }

    /// All replicas are the same, each batch is there once and in order, and what was acknowledged is.
    pub(super) fn compare_replicas(&mut self) {
        for node in &self.nodes {
            let Some(process) = &node.process else {
                continue;
            };
            for (partition, local) in &process.partitions {
                let reader = local.core.log().reader();
                let (start, end) = (reader.log_start_offset(), reader.log_end_offset());
                self.oracle
                    .committed(*partition, node.id, None, &reader, start, end);
            }
        }
        for producer in &self.producers {
            let Some(partition) = producer.partition else {
                continue;
            };
            let written = self.oracle.written(partition);
            if written != producer.sent() {
                let sent = producer.sent();
                self.oracle.wrong(format!(
                    "{written} batches of partition {} are there, and {sent} were sent and acknowledged",
                    partition.1
                ));
            }
        }
    }
}
