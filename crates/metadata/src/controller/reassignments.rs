//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455).
//!
//! A reassignment goes in three steps. A record adds the new replicas to the replicas of the partition, and names those that
//! come and those that go. The leader lets the new ones into the ISR as they catch up. The record that lets the last one in
//! takes the others away. With nothing to wait for, the first record is also the last.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tidelog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use tidelog_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use tidelog_protocol::records::metadata::PartitionChangeRecord;
use tidelog_types::{ErrorCode, NodeId, PartitionIndex, TopicName};

use super::partition_change::{Election, PartitionChange};
use super::{Controller, ControllerResponse, Decision};
use crate::ApiError;
use crate::image::{Image, PartitionImage, TopicImage};

impl Controller {
    pub(super) fn alter_partition_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Decision {
        let mut records = Vec::new();
        let mut responses = Vec::new();
        let mut named = BTreeSet::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for wanted in &topic.partitions {
                let mut response = ReassignablePartitionResponse {
                    partition_index: wanted.partition_index,
                    ..Default::default()
                };
                let outcome = if named.insert((&topic.name, wanted.partition_index)) {
                    self.reassign(&topic.name, wanted, request.allow_replication_factor_change)
                } else {
                    let message = "the request names the partition more than once";
                    Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
                };
                match outcome {
                    Ok(record) => records.extend(record.map(Into::into)),
                    Err(error) => {
                        response.error_code = error.code;
                        response.error_message = error.message;
                    }
                }
                partitions.push(response);
            }
            responses.push(ReassignableTopicResponse {
                name: topic.name.clone(),
                partitions,
            });
        }
        let mut response = AlterPartitionReassignmentsResponse {
            responses,
            ..Default::default()
        };
        // Who asks for nothing is told the default, as by Kafka.
        if !request.topics.is_empty() {
            response.allow_replication_factor_change = request.allow_replication_factor_change;
        }
        let response = ControllerResponse::AlterPartitionReassignments(response);
        Decision::atomic(records, response)
    }

    fn reassign(
        &self,
        name: &TopicName,
        wanted: &ReassignablePartition,
        allow_factor_change: bool,
    ) -> Result<Option<PartitionChangeRecord>, ApiError> {
        let index = wanted.partition_index;
        let topic = self.image.topic(name);
        let found = topic.and_then(|topic| Some((topic, topic.partition(index)?)));
        let Some((topic, partition)) = found else {
            let message = format!("there is no partition {index} of a topic {name}");
            return Err(ApiError::new(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                message,
            ));
        };
        let can_lead = |node, partition: &PartitionImage| self.can_lead(node, partition);
        let rules = self.partition_rules(topic, &can_lead);
        let change = match &wanted.replicas {
            None if !partition.is_reassigning() => {
                return Err(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS.into());
            }
            None => {
                let (change, is_unclean) = reverted(partition, rules.election());
                if is_unclean && !rules.allow_unclean {
                    let message = "without the replicas that are being added nobody is in sync, \
                         and an unclean election is not allowed";
                    return Err(ApiError::new(
                        ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                        message,
                    ));
                }
                change
            }
            Some(replicas) => {
                self.check_replicas(index, replicas, None)?;
                let factor = without(&partition.replicas, &partition.removing_replicas).len();
                if !allow_factor_change && replicas.len() != factor {
                    // KIP-860
                    let message = format!(
                        "the partition has {factor} replicas, and {} are wanted",
                        replicas.len()
                    );
                    return Err(ApiError::new(
                        ErrorCode::INVALID_REPLICATION_FACTOR,
                        message,
                    ));
                }
                reassigned(partition, replicas)
            }
        };
        Ok(change.record(topic.id, index, &rules))
    }
}

/// The partition on other replicas, or on its way to them.
pub(super) fn reassigned<'a>(
    partition: &'a PartitionImage,
    target: &[NodeId],
) -> PartitionChange<'a> {
    let current = &partition.replicas;
    let removing = without(current, target);
    // A replica that an earlier reassignment adds, and this one keeps, still has to come. Kafka 4.3 forgets which ones
    // those are, and waits for ever if a reassignment is undone by naming the replicas from before.
    let mut adding = without(target, current);
    let still_adding = partition.adding_replicas.iter().copied();
    adding.extend(still_adding.filter(|node| target.contains(node)));
    adding.sort_unstable();
    let mut change = PartitionChange::of(partition, Election::Online);
    change.replicas = Cow::Owned(target.iter().chain(&removing).copied().collect());
    change.removing = Cow::Owned(removing);
    change.adding = Cow::Owned(adding);
    change
}

/// The partition without the replicas that its reassignment adds, and whether that costs records: if nobody else is in sync,
/// the first of the others is taken for it.
pub(super) fn reverted(
    partition: &PartitionImage,
    election: Election,
) -> (PartitionChange<'_>, bool) {
    let staying = |nodes: &[NodeId]| -> Vec<NodeId> {
        let stays = |node: &NodeId| !partition.adding_replicas.contains(node);
        nodes.iter().copied().filter(stays).collect()
    };
    let replicas = staying(&partition.replicas);
    let mut isr = staying(&partition.isr);
    let is_unclean = isr.is_empty();
    if is_unclean {
        isr.extend(replicas.first());
    }
    let mut change = PartitionChange::of(partition, election);
    change.isr = Cow::Owned(isr);
    change.replicas = Cow::Owned(replicas);
    change.removing = Cow::Borrowed(&[]);
    change.adding = Cow::Borrowed(&[]);
    (change, is_unclean)
}

/// The nodes of `all` that are not in `taken`, in ascending order.
fn without(all: &[NodeId], taken: &[NodeId]) -> Vec<NodeId> {
    let mut left: Vec<NodeId> = all
        .iter()
        .copied()
        .filter(|node| !taken.contains(node))
        .collect();
    left.sort_unstable();
    left
}

/// The answer to ListPartitionReassignments: which partitions are being moved, among those that are asked for.
pub fn list_partition_reassignments(
    image: &Image,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let topics = match &request.topics {
        None => {
            let all = image.topics();
            all.filter_map(|topic| ongoing(topic, topic.partitions.keys().copied()))
                .collect()
        }
        Some(topics) => {
            let named = topics.iter().filter_map(|wanted| {
                let topic = image.topic(&wanted.name)?;
                ongoing(topic, wanted.partition_indexes.iter().copied())
            });
            named.collect()
        }
    };
    ListPartitionReassignmentsResponse {
        topics,
        ..Default::default()
    }
}

fn ongoing(
    topic: &TopicImage,
    indexes: impl Iterator<Item = PartitionIndex>,
) -> Option<OngoingTopicReassignment> {
    let partition = |partition_index| {
        let partition = topic.partition(partition_index)?;
        partition
            .is_reassigning()
            .then(|| OngoingPartitionReassignment {
                partition_index,
                replicas: partition.replicas.clone(),
                adding_replicas: partition.adding_replicas.clone(),
                removing_replicas: partition.removing_replicas.clone(),
            })
    };
    let partitions: Vec<_> = indexes.filter_map(partition).collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name: topic.name.clone(),
        partitions,
    })
}
