//! What goes into the controller and what comes out of it.

use tidelog_protocol::messages::{
    alter_configs, alter_partition, alter_partition_reassignments, assign_replicas_to_dirs,
    broker_heartbeat, broker_registration, controller_registration, create_partitions,
    create_topics, delete_topics, elect_leaders, incremental_alter_configs, unregister_broker,
    update_features,
};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{ErrorCode, NodeId, Offset, ProducerId, Str, Uuid};

use crate::ApiError;

/// What happened, or what somebody wants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// Somebody wants something; exactly one [`Effect::Reply`] will carry the same id.
    Request {
        /// Chosen by the caller, unique among the requests that are not answered yet.
        request_id: u64,
        /// What is wanted.
        request: ControllerRequest,
    },
    /// Everything below `offset` of the metadata log is committed.
    Committed {
        /// The high watermark, exclusive.
        offset: Offset,
    },
    /// The quorum itself has appended control records, such as new voters, of which the controller knows nothing.
    ControlRecordsAppended {
        /// The log end offset behind them.
        end: Offset,
    },
    /// The quorum has finalized kraft.version at this level; without a word of it, it is 0. The owner raises it before it hands in a
    /// request that wants it raised and that [`kraft_upgrade`](super::Controller::kraft_upgrade) names.
    KRaftVersion {
        /// The level.
        level: i16,
    },
    /// The [deadline](super::Controller::deadline) has come.
    Timeout,
    /// This node does not lead the metadata quorum any more, or an append has failed. Everything that waits is refused;
    /// the machine must be dropped, and built again from the log if it is needed again.
    Resign,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Append the records to the metadata log as one batch that becomes visible as a whole, and flush it. Appends of one
    /// call are made in their order. When one fails, or its batch would not begin at `base_offset`, say [`Input::Resign`]
    /// and drop the machine.
    Append {
        /// Where the batch must begin.
        base_offset: Offset,
        /// At least one record. In which version to write it, [`record_version`](crate::bootstrap::record_version) says.
        records: Vec<MetadataRecord>,
    },
    /// Answer a request.
    Reply {
        /// The id it came with.
        request_id: u64,
        /// The answer.
        response: ControllerResponse,
    },
}

/// What the controller can be asked for.
///
/// Protocol messages are in the newest version's shape; who may do what is checked before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ControllerRequest {
    /// Creates topics, those that the brokers keep for themselves included.
    CreateTopics(create_topics::CreateTopicsRequest),
    /// Deletes topics.
    DeleteTopics {
        /// The version of the request: versions below 3 do not know the code for "switched off".
        api_version: i16,
        /// The request.
        request: delete_topics::DeleteTopicsRequest,
    },
    /// Adds partitions to topics.
    CreatePartitions(create_partitions::CreatePartitionsRequest),
    /// Changes single configs of topics, brokers and groups (KIP-339).
    IncrementalAlterConfigs(incremental_alter_configs::IncrementalAlterConfigsRequest),
    /// Replaces all configs of topics, brokers and groups.
    AlterConfigs(alter_configs::AlterConfigsRequest),
    /// The leader of partitions wants other replicas in sync, or has recovered (KIP-497, KIP-704). Replicas that come
    /// without broker epochs, as before version 3, are not checked for them.
    AlterPartition(alter_partition::AlterPartitionRequest),
    /// Elects preferred leaders, or unclean ones (KIP-183, KIP-460).
    ElectLeaders(elect_leaders::ElectLeadersRequest),
    /// Moves partitions to other brokers, or stops their move (KIP-455).
    AlterPartitionReassignments(alter_partition_reassignments::AlterPartitionReassignmentsRequest),
    /// Registers a broker that has just started (KIP-631). A new incarnation is fenced until its heartbeats say that it has
    /// read its registration and wants to serve.
    BrokerRegistration(broker_registration::BrokerRegistrationRequest),
    /// A broker is alive, and says what it wants: to be fenced or not, to shut down, which directories it has lost.
    BrokerHeartbeat(broker_heartbeat::BrokerHeartbeatRequest),
    /// The process of a registration seems to be gone: its connection closed and cannot be opened again. It is fenced at once,
    /// and its id is free for a new incarnation. If it lives after all, its next heartbeat unfences it.
    BrokerUnreachable {
        /// The broker.
        broker_id: NodeId,
        /// The epoch of the registration. An older one is no evidence against the current incarnation.
        broker_epoch: i64,
    },
    /// Forgets a broker. Its replicas stay assigned to it.
    UnregisterBroker(unregister_broker::UnregisterBrokerRequest),
    /// Registers a controller, active or not (KIP-919).
    ControllerRegistration(controller_registration::ControllerRegistrationRequest),
    /// Notes in which log directories a broker keeps its replicas (KIP-858).
    AssignReplicasToDirs(assign_replicas_to_dirs::AssignReplicasToDirsRequest),
    /// Finalizes features at other levels (KIP-584): all that the request names, or none.
    UpdateFeatures(update_features::UpdateFeaturesRequest),
    /// Hands out a block of producer ids (KIP-730).
    AllocateProducerIds(BrokerEpoch),
    /// Writes the first records of a fresh cluster.
    Bootstrap(Vec<MetadataRecord>),
}

/// One registration of a broker. A request with an older epoch comes from a former incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerEpoch {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch that [`ControllerResponse::BrokerRegistration`] brought.
    pub broker_epoch: i64,
}

/// A block of producer ids: `len` of them from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first id.
    pub first: ProducerId,
    /// How many.
    pub len: i32,
}

/// The answer to the [`ControllerRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ControllerResponse {
    /// Per topic.
    CreateTopics(create_topics::CreateTopicsResponse),
    /// Per topic.
    DeleteTopics(delete_topics::DeleteTopicsResponse),
    /// Per topic.
    CreatePartitions(create_partitions::CreatePartitionsResponse),
    /// Per resource.
    IncrementalAlterConfigs(incremental_alter_configs::IncrementalAlterConfigsResponse),
    /// Per resource.
    AlterConfigs(alter_configs::AlterConfigsResponse),
    /// Per partition.
    AlterPartition(alter_partition::AlterPartitionResponse),
    /// Per partition.
    ElectLeaders(elect_leaders::ElectLeadersResponse),
    /// Per partition.
    AlterPartitionReassignments(alter_partition_reassignments::AlterPartitionReassignmentsResponse),
    /// The epoch of the registration.
    BrokerRegistration(Result<i64, ApiError>),
    /// What the broker may do now.
    BrokerHeartbeat(Result<broker_heartbeat::BrokerHeartbeatResponse, ApiError>),
    /// Done, or nothing to do.
    BrokerUnreachable(Result<(), ApiError>),
    /// Done.
    UnregisterBroker(Result<(), ApiError>),
    /// Done.
    ControllerRegistration(Result<(), ApiError>),
    /// Per partition.
    AssignReplicasToDirs(assign_replicas_to_dirs::AssignReplicasToDirsResponse),
    /// One code for all features; the results by feature are filled in as well, for versions that have them.
    UpdateFeatures(update_features::UpdateFeaturesResponse),
    /// The block.
    AllocateProducerIds(Result<ProducerIdBlock, ApiError>),
    /// Done.
    Bootstrap(Result<(), ApiError>),
}

impl ControllerRequest {
    /// How long the sender waits, in milliseconds, if it says.
    pub const fn timeout_ms(&self) -> Option<i32> {
        match self {
            Self::CreateTopics(request) => Some(request.timeout_ms),
            Self::DeleteTopics { request, .. } => Some(request.timeout_ms),
            Self::CreatePartitions(request) => Some(request.timeout_ms),
            Self::ElectLeaders(request) => Some(request.timeout_ms),
            Self::AlterPartitionReassignments(request) => Some(request.timeout_ms),
            Self::UpdateFeatures(request) => Some(request.timeout_ms),
            _ => None,
        }
    }

    /// The answer that refuses all of it.
    pub fn refused(&self, error: &ApiError) -> ControllerResponse {
        let mut response = match self {
            Self::CreateTopics(request) => {
                let topic = |t: &create_topics::CreatableTopic| refused_topic(&t.name, error);
                let topics = request.topics.iter().map(topic).collect();
                ControllerResponse::CreateTopics(create_topics::CreateTopicsResponse {
                    topics,
                    ..Default::default()
                })
            }
            Self::DeleteTopics { request, .. } => unanswered_deletions(request),
            Self::CreatePartitions(request) => {
                let topic = |t: &create_partitions::CreatePartitionsTopic| {
                    create_partitions::CreatePartitionsTopicResult {
                        name: t.name.clone(),
                        ..Default::default()
                    }
                };
                ControllerResponse::CreatePartitions(create_partitions::CreatePartitionsResponse {
                    results: request.topics.iter().map(topic).collect(),
                    ..Default::default()
                })
            }
            Self::IncrementalAlterConfigs(request) => {
                use incremental_alter_configs as api;
                let resource = |r: &api::AlterConfigsResource| api::AlterConfigsResourceResponse {
                    resource_type: r.resource_type,
                    resource_name: r.resource_name.clone(),
                    ..Default::default()
                };
                ControllerResponse::IncrementalAlterConfigs(api::IncrementalAlterConfigsResponse {
                    responses: request.resources.iter().map(resource).collect(),
                    ..Default::default()
                })
            }
            Self::AlterConfigs(request) => {
                use alter_configs as api;
                let resource = |r: &api::AlterConfigsResource| api::AlterConfigsResourceResponse {
                    resource_type: r.resource_type,
                    resource_name: r.resource_name.clone(),
                    ..Default::default()
                };
                ControllerResponse::AlterConfigs(api::AlterConfigsResponse {
                    responses: request.resources.iter().map(resource).collect(),
                    ..Default::default()
                })
            }
            Self::AlterPartition(_) => ControllerResponse::AlterPartition(Default::default()),
            Self::ElectLeaders(request) => unanswered_elections(request),
            Self::AlterPartitionReassignments(request) => unanswered_reassignments(request),
            Self::BrokerRegistration(_) => ControllerResponse::BrokerRegistration(Ok(-1)),
            Self::BrokerHeartbeat(_) => ControllerResponse::BrokerHeartbeat(Err(error.clone())),
            Self::BrokerUnreachable { .. } => ControllerResponse::BrokerUnreachable(Ok(())),
            Self::UnregisterBroker(_) => ControllerResponse::UnregisterBroker(Ok(())),
            Self::ControllerRegistration(_) => ControllerResponse::ControllerRegistration(Ok(())),
            Self::AssignReplicasToDirs(_) => {
                ControllerResponse::AssignReplicasToDirs(Default::default())
            }
            Self::UpdateFeatures(_) => ControllerResponse::UpdateFeatures(Default::default()),
            Self::AllocateProducerIds(_) => {
                ControllerResponse::AllocateProducerIds(Err(error.clone()))
            }
            Self::Bootstrap(_) => ControllerResponse::Bootstrap(Ok(())),
        };
        response.refuse(error);
        response
    }
}

impl ControllerResponse {
    /// Makes it the answer that refuses all that it would have granted. What is refused already keeps its reason.
    pub(super) fn refuse(&mut self, error: &ApiError) {
        let refuse = |code: &mut ErrorCode, message: &mut Option<Str>| {
            if code.is_ok() {
                *code = error.code;
                message.clone_from(&error.message);
            }
        };
        match self {
            Self::CreateTopics(response) => {
                for topic in response
                    .topics
                    .iter_mut()
                    .filter(|topic| topic.error_code.is_ok())
                {
                    *topic = refused_topic(&topic.name, error);
                }
            }
            Self::DeleteTopics(response) => {
                for topic in &mut response.responses {
                    refuse(&mut topic.error_code, &mut topic.error_message);
                }
            }
            Self::CreatePartitions(response) => {
                for topic in &mut response.results {
                    refuse(&mut topic.error_code, &mut topic.error_message);
                }
            }
            Self::IncrementalAlterConfigs(response) => {
                for resource in &mut response.responses {
                    refuse(&mut resource.error_code, &mut resource.error_message);
                }
            }
            Self::AlterConfigs(response) => {
                for resource in &mut response.responses {
                    refuse(&mut resource.error_code, &mut resource.error_message);
                }
            }
            Self::AlterPartition(response) => {
                response.error_code = error.code;
                response.topics.clear();
            }
            Self::ElectLeaders(response) => {
                response.error_code = error.code;
                let topics = response.replica_election_results.iter_mut();
                for partition in topics.flat_map(|topic| &mut topic.partition_result) {
                    refuse(&mut partition.error_code, &mut partition.error_message);
                }
            }
            Self::AlterPartitionReassignments(response) => {
                refuse(&mut response.error_code, &mut response.error_message);
                let topics = response.responses.iter_mut();
                for partition in topics.flat_map(|topic| &mut topic.partitions) {
                    refuse(&mut partition.error_code, &mut partition.error_message);
                }
            }
            Self::BrokerRegistration(result) => deny(result, error),
            Self::BrokerHeartbeat(result) => deny(result, error),
            Self::BrokerUnreachable(result)
            | Self::UnregisterBroker(result)
            | Self::ControllerRegistration(result)
            | Self::Bootstrap(result) => deny(result, error),
            Self::AssignReplicasToDirs(response) => {
                if response.error_code.is_ok() {
                    response.error_code = error.code;
                    response.directories.clear();
                }
            }
            Self::UpdateFeatures(response) => {
                refuse(&mut response.error_code, &mut response.error_message);
                if response.error_code.is_err() {
                    response.results.clear();
                }
            }
            Self::AllocateProducerIds(result) => deny(result, error),
        }
    }
}

fn deny<T>(result: &mut Result<T, ApiError>, error: &ApiError) {
    if result.is_ok() {
        *result = Err(error.clone());
    }
}

/// The answer for a topic that is not created.
pub(super) fn refused_topic(
    name: &tidelog_types::TopicName,
    error: &ApiError,
) -> create_topics::CreatableTopicResult {
    create_topics::CreatableTopicResult {
        name: name.clone(),
        error_code: error.code,
        error_message: error.message.clone(),
        configs: Some(Vec::new()),
        ..Default::default()
    }
}

/// An answer to the request that grants all of it, to be refused.
fn unanswered_deletions(request: &delete_topics::DeleteTopicsRequest) -> ControllerResponse {
    let named = request
        .topic_names
        .iter()
        .map(|name| (Some(name.clone()), Uuid::ZERO));
    let states = request
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), topic.topic_id));
    let topic = |(name, topic_id)| delete_topics::DeletableTopicResult {
        name,
        topic_id,
        ..Default::default()
    };
    ControllerResponse::DeleteTopics(delete_topics::DeleteTopicsResponse {
        responses: named.chain(states).map(topic).collect(),
        ..Default::default()
    })
}

/// An answer to the request that grants all of it, to be refused. Where it asks for all partitions, none is named.
fn unanswered_elections(request: &elect_leaders::ElectLeadersRequest) -> ControllerResponse {
    use elect_leaders as api;
    let partition = |index: &i32| api::PartitionResult {
        partition_id: *index,
        ..Default::default()
    };
    let topic = |topic: &api::TopicPartitions| api::ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: topic.partitions.iter().map(partition).collect(),
    };
    let topics = request.topic_partitions.iter().flatten();
    ControllerResponse::ElectLeaders(api::ElectLeadersResponse {
        replica_election_results: topics.map(topic).collect(),
        ..Default::default()
    })
}

/// An answer to the request that grants all of it, to be refused.
fn unanswered_reassignments(
    request: &alter_partition_reassignments::AlterPartitionReassignmentsRequest,
) -> ControllerResponse {
    use alter_partition_reassignments as api;
    let partition = |partition: &api::ReassignablePartition| api::ReassignablePartitionResponse {
        partition_index: partition.partition_index,
        ..Default::default()
    };
    let topic = |topic: &api::ReassignableTopic| api::ReassignableTopicResponse {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(partition).collect(),
    };
    ControllerResponse::AlterPartitionReassignments(api::AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: request.topics.iter().map(topic).collect(),
        ..Default::default()
    })
}
