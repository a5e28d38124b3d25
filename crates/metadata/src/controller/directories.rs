//! Log directories (KIP-858, KIP-1066): which replica is where, and what becomes of those whose directory fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_protocol::messages::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, AssignReplicasToDirsResponse, DirectoryResult, PartitionResult,
    TopicData, TopicResult,
};
use tidelog_protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{ErrorCode, NodeId, PartitionIndex, Uuid};

use super::election::Move;
use super::lifecycle::change;
use super::partition_change::PartitionChange;
use super::{BrokerEpoch, Controller, ControllerResponse, Decision, Effect};
use crate::ApiError;
use crate::image::{BrokerImage, PartitionImage};

impl Controller {
    /// Takes from the broker what it has in directories that have failed. Answers whether the broker has any left.
    ///
    /// A registration cannot be changed to have no directory at all, so who has lost the last one is fenced instead.
    pub(super) fn lose_directories(
        &mut self,
        request: &BrokerHeartbeatRequest,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(broker) = self.image.broker(request.broker_id).map(Arc::clone) else {
            return false;
        };
        let mut records = Vec::new();
        let (lost, left): (BTreeSet<Uuid>, BTreeSet<Uuid>) = broker
            .log_dirs
            .iter()
            .partition(|directory| request.offline_log_dirs.contains(directory));
        let has_directories = lost.is_empty() || !left.is_empty();
        if self.image.metadata_version().has_directories() && !lost.is_empty() && has_directories {
            let movement = Move::DirectoriesLost {
                broker_id: broker.id,
                directories: &lost,
            };
            self.move_leaders(&movement, &mut records);
            records.push(change(&broker, |record| {
                record.log_dirs = left.into_iter().collect()
            }));
        }
        self.append(records, effects);
        has_directories
    }

    /// Notes which directories of the broker take no new partitions, if that has changed.
    pub(super) fn cordon(
        &self,
        broker: &BrokerImage,
        request: &BrokerHeartbeatRequest,
        records: &mut Vec<MetadataRecord>,
    ) {
        let Some(cordoned) = &request.cordoned_log_dirs else {
            return;
        };
        let now: BTreeSet<Uuid> = cordoned.iter().copied().collect();
        let now: Vec<Uuid> = now.into_iter().collect();
        if self.image.metadata_version().has_cordoned_directories()
            && broker.cordoned_log_dirs.as_ref() != Some(&now)
        {
            records.push(change(broker, |record| {
                record.cordoned_log_dirs = Some(now)
            }));
        }
    }

    pub(super) fn assign_replicas_to_dirs(
        &self,
        request: &AssignReplicasToDirsRequest,
    ) -> Decision {
        let sender = BrokerEpoch {
            broker_id: request.broker_id,
            broker_epoch: request.broker_epoch,
        };
        let registered = if self.image.metadata_version().has_directories() {
            self.registered(sender)
        } else {
            let message = "metadata.version does not know the directories of replicas";
            Err(ApiError::new(ErrorCode::UNSUPPORTED_VERSION, message))
        };
        let broker = match registered {
            Ok(broker) => broker,
            Err(error) => {
                let response = AssignReplicasToDirsResponse {
                    error_code: error.code,
                    ..Default::default()
                };
                return Decision::atomic(
                    Vec::new(),
                    ControllerResponse::AssignReplicasToDirs(response),
                );
            }
        };
        let mut records = Vec::new();
        let directories = request.directories.iter().map(|directory| DirectoryResult {
            id: directory.id,
            topics: directory
                .topics
                .iter()
                .map(|topic| self.assign(broker, directory.id, topic, &mut records))
                .collect(),
        });
        let response = AssignReplicasToDirsResponse {
            directories: directories.collect(),
            ..Default::default()
        };
        Decision::divisible(records, ControllerResponse::AssignReplicasToDirs(response))
    }

    /// Notes that replicas of the broker are in `directory`. If it has failed, they are as good as gone.
    fn assign(
        &self,
        broker: &BrokerImage,
        directory: Uuid,
        assigned: &TopicData,
        records: &mut Vec<MetadataRecord>,
    ) -> TopicResult {
        let is_online = broker.has_online_directory(directory);
        let can_lead = |node: NodeId, partition: &PartitionImage| {
            (is_online || node != broker.id) && self.can_lead(node, partition)
        };
        let topic = self.image.topic_by_id(assigned.topic_id);
        let topic = topic.map(|topic| (topic, self.partition_rules(topic, &can_lead)));
        let mut assign = |index: PartitionIndex| {
            let Some((topic, rules)) = &topic else {
                return ErrorCode::UNKNOWN_TOPIC_ID;
            };
            let Some(partition) = topic.partition(index) else {
                return ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            };
            if !partition.replicas.contains(&broker.id) {
                return ErrorCode::NOT_LEADER_OR_FOLLOWER;
            }
            let mut change = PartitionChange::of(partition, rules.election());
            change.moved = Some((broker.id, directory));
            if !is_online {
                change.shrink_isr(|node| node == broker.id);
            }
            let record = change.record(topic.id, index, rules);
            records.extend(record.map(MetadataRecord::from));
            ErrorCode::NONE
        };
        let partitions = assigned.partitions.iter().map(|partition| PartitionResult {
            partition_index: partition.partition_index,
            error_code: assign(partition.partition_index),
        });
        TopicResult {
            topic_id: assigned.topic_id,
            partitions: partitions.collect(),
        }
    }
}
