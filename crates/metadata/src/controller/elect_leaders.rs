//! ElectLeaders.

use std::collections::BTreeSet;

use tidelog_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{ErrorCode, PartitionIndex, TopicId, TopicName};

use super::partition_change::{Election, PartitionChange};
use super::{Controller, ControllerRequest, ControllerResponse, Decision};
use crate::ApiError;
use crate::image::{PartitionImage, TopicImage};

impl Controller {
    pub(super) fn elect_leaders(&self, request: &ElectLeadersRequest) -> Decision {
        // Who asks for nothing is told nothing, not even that there is no such election.
        if request.topic_partitions.as_ref().is_some_and(Vec::is_empty) {
            let response = ControllerResponse::ElectLeaders(ElectLeadersResponse::default());
            return Decision::atomic(Vec::new(), response);
        }
        let election = match request.election_type {
            0 => Election::Preferred,
            1 => Election::Unclean,
            other => {
                let message = format!("there is no election of type {other}");
                let error = ApiError::new(ErrorCode::INVALID_REQUEST, message);
                let response = ControllerRequest::ElectLeaders(request.clone()).refused(&error);
                return Decision::atomic(Vec::new(), response);
            }
        };
        let mut records = Vec::new();
        let replica_election_results = match &request.topic_partitions {
            None => {
                let topics = self.image.topics();
                topics
                    .map(|topic| self.elect_all(topic, election, &mut records))
                    .collect()
            }
            Some(topics) => {
                let mut elected = BTreeSet::new();
                let mut results = Vec::new();
                for topic in topics {
                    let mut elect = |index: &PartitionIndex| {
                        let outcome =
                            self.elect_named(&topic.topic, *index, election, &mut elected);
                        result(*index, outcome, &mut records)
                    };
                    results.push(ReplicaElectionResult {
                        topic: topic.topic.clone(),
                        partition_result: topic.partitions.iter().map(&mut elect).collect(),
                    });
                }
                results
            }
        };
        let response = ElectLeadersResponse {
            replica_election_results,
            ..Default::default()
        };
        Decision::divisible(records, ControllerResponse::ElectLeaders(response))
    }

    /// Elects leaders of all partitions of a topic. Those that need none are not named in the answer.
    fn elect_all(
        &self,
        topic: &TopicImage,
        election: Election,
        records: &mut Vec<MetadataRecord>,
    ) -> ReplicaElectionResult {
        let mut results = Vec::new();
        for (index, partition) in &topic.partitions {
            let outcome = self.elect(topic, *index, partition, election);
            let is_needed = |error: &ApiError| error.code != ErrorCode::ELECTION_NOT_NEEDED;
            if outcome.as_ref().err().is_none_or(is_needed) {
                results.push(result(*index, outcome, records));
            }
        }
        ReplicaElectionResult {
            topic: topic.name.clone(),
            partition_result: results,
        }
    }

    fn elect_named(
        &self,
        name: &TopicName,
        index: PartitionIndex,
        election: Election,
        elected: &mut BTreeSet<(TopicId, PartitionIndex)>,
    ) -> Result<MetadataRecord, ApiError> {
        let unknown = |message| ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
        let topic = self.image.topic(name);
        let topic = topic.ok_or_else(|| unknown(format!("there is no topic {name}")))?;
        let partition = topic.partition(index);
        let partition = partition
            .ok_or_else(|| unknown(format!("there is no partition {index} of the topic {name}")))?;
        // The request has just elected one.
        if elected.contains(&(topic.id, index)) {
            return Err(ErrorCode::ELECTION_NOT_NEEDED.into());
        }
        let record = self.elect(topic, index, partition, election)?;
        elected.insert((topic.id, index));
        Ok(record)
    }

    /// The record that elects a leader.
    pub(super) fn elect(
        &self,
        topic: &TopicImage,
        index: PartitionIndex,
        partition: &PartitionImage,
        election: Election,
    ) -> Result<MetadataRecord, ApiError> {
        let (is_needed, unavailable) = match election {
            Election::Preferred => (
                !partition.has_preferred_leader(),
                ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
            ),
            Election::Online | Election::Unclean => (
                !partition.has_leader(),
                ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
            ),
        };
        if !is_needed {
            return Err(ErrorCode::ELECTION_NOT_NEEDED.into());
        }
        let can_lead = |node, partition: &PartitionImage| self.can_lead(node, partition);
        let rules = self.partition_rules(topic, &can_lead);
        let record = PartitionChange::of(partition, election).record(topic.id, index, &rules);
        record
            .map(MetadataRecord::from)
            .ok_or_else(|| unavailable.into())
    }
}

fn result(
    partition_id: PartitionIndex,
    outcome: Result<MetadataRecord, ApiError>,
    records: &mut Vec<MetadataRecord>,
) -> PartitionResult {
    let mut result = PartitionResult {
        partition_id,
        ..Default::default()
    };
    match outcome {
        Ok(record) => records.push(record),
        Err(error) => {
            result.error_code = error.code;
            result.error_message = error.message;
        }
    }
    result
}
