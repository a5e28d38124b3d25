//! AlterPartition: what the leaders of partitions want.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tidelog_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionData, PartitionResult,
    TopicData, TopicResult,
};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{ErrorCode, NodeId, PartitionIndex, TopicId};

use super::partition_change::PartitionChange;
use super::{Controller, ControllerResponse, Decision};
use crate::image::{LeaderRecoveryState, NO_LEADER_CHANGE, PartitionImage};

/// What a leader wants its partition to become.
struct Wanted {
    isr: Vec<NodeId>,
    recovery_state: LeaderRecoveryState,
}

impl Controller {
    pub(super) fn alter_partition(&self, request: &AlterPartitionRequest) -> Decision {
        let mut response = AlterPartitionResponse::default();
        let leader = request.broker_id;
        let registered = self.image.broker(leader);
        if registered.is_none_or(|broker| broker.epoch != request.broker_epoch) {
            response.error_code = ErrorCode::STALE_BROKER_EPOCH;
            let response = ControllerResponse::AlterPartition(response);
            return Decision::atomic(Vec::new(), response);
        }
        let mut records = Vec::new();
        let mut altered = BTreeSet::new();
        for topic in &request.topics {
            let outcome = |partition: &PartitionData| {
                let mut result = PartitionResult {
                    partition_index: partition.partition_index,
                    ..Default::default()
                };
                // A second wish comes too late for the partition epoch that it names.
                let outcome = if altered.contains(&(topic.topic_id, partition.partition_index)) {
                    Err(ErrorCode::INVALID_UPDATE_VERSION)
                } else {
                    self.alter(leader, topic, partition, &mut records)
                };
                match outcome {
                    Ok(after) => {
                        altered.insert((topic.topic_id, partition.partition_index));
                        result.leader_id = after.leader;
                        result.leader_epoch = after.leader_epoch;
                        result.isr.clone_from(&after.isr);
                        result.leader_recovery_state = after.leader_recovery_state as i8;
                        result.partition_epoch = after.partition_epoch;
                    }
                    Err(code) => result.error_code = code,
                }
                result
            };
            response.topics.push(TopicResult {
                topic_id: topic.topic_id,
                partitions: topic.partitions.iter().map(outcome).collect(),
                ..Default::default()
            });
        }
        Decision::divisible(records, ControllerResponse::AlterPartition(response))
    }

    /// The partition as it is after the change, whose record is added to `records`.
    fn alter<'a>(
        &'a self,
        leader: NodeId,
        topic: &TopicData,
        wanted: &PartitionData,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<Cow<'a, PartitionImage>, ErrorCode> {
        let (topic_id, index): (TopicId, PartitionIndex) = (topic.topic_id, wanted.partition_index);
        let Some(topic) = self.image.topic_by_id(topic_id) else {
            return Err(ErrorCode::UNKNOWN_TOPIC_ID);
        };
        let Some(partition) = topic.partition(index) else {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let Wanted {
            isr,
            recovery_state,
        } = self.check_alteration(leader, partition, wanted)?;
        let can_lead = |node, partition: &PartitionImage| self.can_lead(node, partition);
        let rules = self.partition_rules(topic, &can_lead);
        let mut change = PartitionChange::of(partition, rules.election());
        change.isr = Cow::Owned(isr);
        change.recovery_state = recovery_state;
        let Some(record) = change.record(topic_id, index, &rules) else {
            return Ok(Cow::Borrowed(partition));
        };
        let after = partition
            .changed(&record)
            .expect("the record follows on the partition");
        let new_leader = record.leader;
        records.push(record.into());
        // What the leader wanted has ended a reassignment that leaves it out. It must look for its successor itself.
        if new_leader != NO_LEADER_CHANGE && new_leader != leader {
            return Err(ErrorCode::NEW_LEADER_ELECTED);
        }
        Ok(Cow::Owned(after))
    }

    /// The checks in Kafka's order.
    fn check_alteration(
        &self,
        leader: NodeId,
        partition: &PartitionImage,
        wanted: &PartitionData,
    ) -> Result<Wanted, ErrorCode> {
        // Who knows more than the controller has heard from a newer one.
        if wanted.leader_epoch > partition.leader_epoch
            || wanted.partition_epoch > partition.partition_epoch
        {
            return Err(ErrorCode::NOT_CONTROLLER);
        }
        if wanted.leader_epoch < partition.leader_epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        if leader != partition.leader {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if wanted.partition_epoch < partition.partition_epoch {
            return Err(ErrorCode::INVALID_UPDATE_VERSION);
        }
        let members = isr_with_epochs(wanted);
        let isr: Vec<NodeId> = members.iter().map(|member| member.broker_id).collect();
        let distinct: BTreeSet<NodeId> = isr.iter().copied().collect();
        let sound = distinct.len() == isr.len()
            && isr.iter().all(|node| partition.replicas.contains(node))
            && isr.contains(&leader);
        if !sound {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let recovery_state = LeaderRecoveryState::from_value(wanted.leader_recovery_state)
            .map_err(|_| ErrorCode::INVALID_REQUEST)?;
        // KIP-704: nobody joins before the leader has recovered, and it recovers once.
        if recovery_state == LeaderRecoveryState::Recovering
            && (isr.len() > 1 || partition.leader_recovery_state == LeaderRecoveryState::Recovered)
        {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if !members.iter().all(|member| self.is_eligible(member)) {
            return Err(ErrorCode::INELIGIBLE_REPLICA);
        }
        Ok(Wanted {
            isr,
            recovery_state,
        })
    }

    /// KIP-841, KIP-903: whether the broker may be in sync, and is the one that the leader has seen.
    fn is_eligible(&self, member: &BrokerState) -> bool {
        self.image.broker(member.broker_id).is_some_and(|broker| {
            let same = member.broker_epoch == -1 || member.broker_epoch == broker.epoch;
            broker.is_active() && same
        })
    }
}

/// The wanted ISR, in the shape of version 3.
fn isr_with_epochs(wanted: &PartitionData) -> Cow<'_, [BrokerState]> {
    if wanted.new_isr.is_empty() {
        return Cow::Borrowed(&wanted.new_isr_with_epochs);
    }
    let unchecked = |broker_id: &NodeId| BrokerState {
        broker_id: *broker_id,
        broker_epoch: -1,
    };
    Cow::Owned(wanted.new_isr.iter().map(unchecked).collect())
}
