//! What leaders ask of the controller: AlterPartition (KIP-497), for many partitions at a time.

use std::collections::HashMap;
use std::sync::Arc;

use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionData, PartitionResult,
    TopicData,
};
use tidelog_replication::partition::{AlterPartition, AlteredPartition};
use tidelog_types::{ErrorCode, PartitionIndex, TopicId};

use super::Replication;
use crate::store::partition::Partition;

/// How many partitions one request may be about.
const PARTITIONS_MAX: usize = 10_000;
/// `leader_recovery_state` of a leader that has recovered.
const RECOVERED: i8 = 0;

/// Passes on what leaders ask, one request at a time.
pub(super) async fn run(replication: Arc<Replication>) {
    loop {
        let changes = replication.store.outbox.changes(PARTITIONS_MAX).await;
        let request = AlterPartitionRequest {
            broker_id: replication.node_id,
            broker_epoch: replication.broker_epoch,
            topics: topics(&changes),
        };
        let request = ControllerRequest::AlterPartition(request);
        let answer = match replication.controller.request(request).await {
            Ok(ControllerResponse::AlterPartition(answer)) => answer,
            Ok(_) => refused(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(code) => refused(code),
        };
        settle(changes, &answer);
    }
}

fn refused(error_code: ErrorCode) -> AlterPartitionResponse {
    AlterPartitionResponse {
        error_code,
        ..AlterPartitionResponse::default()
    }
}

fn topics(changes: &[(Arc<Partition>, AlterPartition)]) -> Vec<TopicData> {
    let mut topics: HashMap<TopicId, Vec<PartitionData>> = HashMap::new();
    for (partition, change) in changes {
        let members = change.new_isr.iter().map(|member| BrokerState {
            broker_id: member.id,
            broker_epoch: member.broker_epoch,
        });
        let data = PartitionData {
            partition_index: partition.name.partition,
            leader_epoch: change.leader_epoch,
            new_isr: Vec::new(),
            new_isr_with_epochs: members.collect(),
            leader_recovery_state: RECOVERED,
            partition_epoch: change.partition_epoch,
        };
        topics.entry(partition.topic_id).or_default().push(data);
    }
    let topics = topics.into_iter().map(|(topic_id, partitions)| TopicData {
        topic_id,
        partitions,
        ..TopicData::default()
    });
    topics.collect()
}

fn settle(changes: Vec<(Arc<Partition>, AlterPartition)>, answer: &AlterPartitionResponse) {
    if answer.error_code.is_err() {
        let code = answer.error_code;
        tracing::warn!(%code, "the controller does not change what is in sync");
    }
    let mut results: HashMap<(TopicId, PartitionIndex), &PartitionResult> = HashMap::new();
    for topic in &answer.topics {
        let partitions = topic.partitions.iter();
        results.extend(partitions.map(|result| ((topic.topic_id, result.partition_index), result)));
    }
    for (partition, change) in changes {
        let key = (partition.topic_id, partition.name.partition);
        let result = match results.get(&key) {
            _ if answer.error_code.is_err() => Err(answer.error_code),
            None => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            Some(result) if result.error_code.is_err() => Err(result.error_code),
            Some(result) => Ok(AlteredPartition {
                leader_epoch: result.leader_epoch,
                partition_epoch: result.partition_epoch,
                isr: result.isr.clone(),
                recovering: result.leader_recovery_state != RECOVERED,
            }),
        };
        partition.alter_partition_answered(change.id, result);
    }
}
