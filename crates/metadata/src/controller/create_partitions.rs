//! CreatePartitions.

use std::collections::BTreeMap;

use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{ErrorCode, NodeId, TopicName};

use super::{Controller, ControllerResponse, Decision};
use crate::ApiError;

impl Controller {
    pub(super) fn create_partitions(&mut self, request: &CreatePartitionsRequest) -> Decision {
        let mut counts: BTreeMap<&TopicName, usize> = BTreeMap::new();
        for topic in &request.topics {
            *counts.entry(&topic.name).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut results = Vec::new();
        for topic in &request.topics {
            let outcome = match counts.get(&topic.name) {
                // Answered already.
                None => continue,
                Some(1) => self.more_partitions(topic, records.len()),
                Some(_) => {
                    counts.remove(&topic.name);
                    let message = "the request names the topic more than once";
                    Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
                }
            };
            let mut result = CreatePartitionsTopicResult {
                name: topic.name.clone(),
                ..Default::default()
            };
            match outcome {
                Ok(new) => records.extend(new),
                Err(error) => {
                    result.error_code = error.code;
                    result.error_message = error.message;
                }
            }
            results.push(result);
        }
        if request.validate_only {
            records.clear();
        }
        let response = CreatePartitionsResponse {
            throttle_time_ms: 0,
            results,
        };
        Decision::atomic(records, ControllerResponse::CreatePartitions(response))
    }

    /// The records of the additional partitions of one topic, `before` of them being decided on for other topics.
    fn more_partitions(
        &mut self,
        wanted: &CreatePartitionsTopic,
        before: usize,
    ) -> Result<Vec<MetadataRecord>, ApiError> {
        let Some(topic) = self.image.topic(&wanted.name).cloned() else {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
        };
        // A group's partition follows from its name and their number, so groups would lose their offsets.
        if topic.name.is_internal() {
            let message = "the number of partitions of an internal topic cannot be changed";
            return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        }
        let count = topic.partitions.len();
        let additional = match usize::try_from(wanted.count)
            .ok()
            .and_then(|n| n.checked_sub(count))
        {
            Some(additional) if additional > 0 => additional,
            _ => {
                let message = format!(
                    "the topic has {count} partitions, {} are not more",
                    wanted.count
                );
                return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, message));
            }
        };
        let max = self.config.limits.partitions_per_request_max;
        if before + additional > max {
            let message = format!("the request creates more than {max} partitions");
            return Err(ApiError::new(ErrorCode::POLICY_VIOLATION, message));
        }
        let factor = topic
            .partitions
            .values()
            .next()
            .map_or(0, |p| p.replicas.len());
        let replicas = match &wanted.assignments {
            None => self.place(additional, factor)?,
            Some(assigned) if assigned.len() != additional => {
                let message = format!(
                    "{additional} partitions are to be added, but {} are assigned",
                    assigned.len()
                );
                return Err(ApiError::new(
                    ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                    message,
                ));
            }
            Some(assigned) => {
                for (index, assignment) in (count as i32..).zip(assigned) {
                    self.check_assignment(index, &assignment.broker_ids, Some(factor))?;
                }
                assigned
                    .iter()
                    .map(|a| a.broker_ids.clone())
                    .collect::<Vec<Vec<NodeId>>>()
            }
        };
        let record = |(index, replicas)| self.new_partition(topic.id, index, replicas);
        Ok((count as i32..).zip(replicas).map(record).collect())
    }
}
