//! Answers that say an error, in the place where each API has it.

use bytes::Bytes;
use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::alter_configs::{
    AlterConfigsResourceResponse, AlterConfigsResponse,
};
use tidelog_protocol::messages::api_versions::ApiVersionsResponse;
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use tidelog_protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use tidelog_protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use tidelog_protocol::messages::describe_cluster::DescribeClusterResponse;
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsResponse, DescribeConfigsResult,
};
use tidelog_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use tidelog_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use tidelog_protocol::messages::heartbeat::HeartbeatResponse;
use tidelog_protocol::messages::incremental_alter_configs::IncrementalAlterConfigsResponse;
use tidelog_protocol::messages::init_producer_id::InitProducerIdResponse;
use tidelog_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use tidelog_protocol::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use tidelog_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use tidelog_protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use tidelog_protocol::{Payload, Request};
use tidelog_types::{ErrorCode, NodeId, Offset};

use crate::handlers::{Answer, Closed, Context, Role};

/// From this version on several coordinators are asked for at a time.
const FIND_MANY_FROM_VERSION: i16 = 4;
/// From this version on the offsets of several groups are asked for at a time.
const FETCH_GROUPS_FROM_VERSION: i16 = 8;

/// What answers `request` with `code` wherever the answer has a place for it. One that has none is a closed connection, and
/// so is that of a producer that wants no answer.
pub(super) fn refuse<R: Role>(context: &Context<R>, request: Request, code: ErrorCode) -> Answer {
    let version = context.header.api_version;
    match request {
        Request::Produce(request) if request.acks == 0 => closed(code),
        Request::Produce(request) => context.answer(&produce(request, code)),
        Request::Fetch(request) => context.answer(&fetch(request, code)),
        Request::ListOffsets(request) => context.answer(&ListOffsetsResponse {
            topics: map(request.topics, |topic| ListOffsetsTopicResponse {
                name: topic.name,
                partitions: map(topic.partitions, |partition| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: code,
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }),
        Request::OffsetForLeaderEpoch(request) => context.answer(&OffsetForLeaderEpochResponse {
            topics: map(request.topics, |topic| OffsetForLeaderTopicResult {
                topic: topic.topic,
                partitions: map(topic.partitions, |partition| EpochEndOffset {
                    error_code: code,
                    partition: partition.partition,
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }),
        Request::Metadata(request) => context.answer(&MetadataResponse {
            // Before it had one of its own the topics had the error.
            error_code: code,
            topics: map(request.topics.unwrap_or_default(), |topic| {
                MetadataResponseTopic {
                    error_code: code,
                    name: Some(topic.name.unwrap_or_default()),
                    topic_id: topic.topic_id,
                    ..Default::default()
                }
            }),
            controller_id: NodeId::NONE,
            ..Default::default()
        }),
        Request::FindCoordinator(request) => {
            context.answer(&find_coordinator(request, version, code))
        }
        Request::OffsetFetch(request) => context.answer(&offset_fetch(request, version, code)),
        Request::Heartbeat(_) => context.answer(&HeartbeatResponse {
            error_code: code,
            ..Default::default()
        }),
        Request::InitProducerId(_) => context.answer(&InitProducerIdResponse {
            error_code: code,
            ..Default::default()
        }),
        Request::ApiVersions(_) => context.answer(&ApiVersionsResponse {
            error_code: code,
            ..Default::default()
        }),
        Request::DescribeCluster(_) => context.answer(&DescribeClusterResponse {
            error_code: code,
            ..Default::default()
        }),
        other => match group_request(other) {
            Ok(request) => refuse_group(context, &request, code),
            Err(request) => refuse_admin(context, *request, code),
        },
    }
}

fn closed(code: ErrorCode) -> Answer {
    Answer::Close(Closed::ByFault(code.text()))
}

fn map<T, U>(items: Vec<T>, map: impl FnMut(T) -> U) -> Vec<U> {
    items.into_iter().map(map).collect()
}

fn produce(request: ProduceRequest, code: ErrorCode) -> ProduceResponse {
    ProduceResponse {
        responses: map(request.topic_data, |topic| TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: map(topic.partition_data, |partition| PartitionProduceResponse {
                index: partition.index,
                error_code: code,
                base_offset: Offset::NONE,
                log_start_offset: Offset::NONE,
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// A request that goes on with a session may name no partition; then the answer as a whole has the error, and the client
/// begins another session.
fn fetch(request: FetchRequest, code: ErrorCode) -> FetchResponse {
    if request.topics.is_empty() {
        return FetchResponse {
            error_code: code,
            ..Default::default()
        };
    }
    FetchResponse {
        responses: map(request.topics, |topic| FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: map(topic.partitions, |partition| PartitionData {
                partition_index: partition.partition,
                error_code: code,
                high_watermark: Offset::NONE,
                last_stable_offset: Offset::NONE,
                log_start_offset: Offset::NONE,
                records: Some(Payload::Bytes(Bytes::new())),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

fn find_coordinator(
    request: FindCoordinatorRequest,
    version: i16,
    code: ErrorCode,
) -> FindCoordinatorResponse {
    if version < FIND_MANY_FROM_VERSION {
        return FindCoordinatorResponse {
            error_code: code,
            node_id: NodeId::NONE,
            port: -1,
            ..Default::default()
        };
    }
    FindCoordinatorResponse {
        coordinators: map(request.coordinator_keys, |key| Coordinator {
            key,
            node_id: NodeId::NONE,
            port: -1,
            error_code: code,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn offset_fetch(request: OffsetFetchRequest, version: i16, code: ErrorCode) -> OffsetFetchResponse {
    if version >= FETCH_GROUPS_FROM_VERSION {
        return OffsetFetchResponse {
            groups: map(request.groups, |group| OffsetFetchResponseGroup {
                group_id: group.group_id,
                error_code: code,
                ..Default::default()
            }),
            ..Default::default()
        };
    }
    OffsetFetchResponse {
        error_code: code,
        topics: map(request.topics.unwrap_or_default(), |topic| {
            OffsetFetchResponseTopic {
                name: topic.name,
                partitions: map(topic.partition_indexes, |partition_index| {
                    OffsetFetchResponsePartition {
                        partition_index,
                        committed_offset: Offset::NONE,
                        error_code: code,
                        ..Default::default()
                    }
                }),
            }
        }),
        ..Default::default()
    }
}

/// A request of which the coordinators know how it is refused.
fn group_request(request: Request) -> Result<GroupRequest, Box<Request>> {
    Ok(match request {
        Request::JoinGroup(request) => GroupRequest::JoinGroup(request),
        Request::SyncGroup(request) => GroupRequest::SyncGroup(request),
        Request::LeaveGroup(request) => GroupRequest::LeaveGroup(request),
        Request::OffsetCommit(request) => GroupRequest::OffsetCommit(request),
        Request::OffsetDelete(request) => GroupRequest::OffsetDelete(request),
        Request::ConsumerGroupHeartbeat(request) => GroupRequest::ConsumerGroupHeartbeat(request),
        Request::ConsumerGroupDescribe(request) => GroupRequest::ConsumerGroupDescribe(request),
        Request::ListGroups(request) => GroupRequest::ListGroups(request),
        Request::DescribeGroups(request) => GroupRequest::DescribeGroups(request),
        Request::DeleteGroups(request) => GroupRequest::DeleteGroups(request),
        other => return Err(Box::new(other)),
    })
}

fn refuse_group<R: Role>(context: &Context<R>, request: &GroupRequest, code: ErrorCode) -> Answer {
    match request.error_response(code, context.header.api_version) {
        GroupResponse::JoinGroup(response) => context.answer(&response),
        GroupResponse::SyncGroup(response) => context.answer(&response),
        GroupResponse::LeaveGroup(response) => context.answer(&response),
        GroupResponse::OffsetCommit(response) => context.answer(&response),
        GroupResponse::OffsetDelete(response) => context.answer(&response),
        GroupResponse::ConsumerGroupHeartbeat(response) => context.answer(&response),
        GroupResponse::ConsumerGroupDescribe(response) => context.answer(&response),
        GroupResponse::ListGroups(response) => context.answer(&response),
        GroupResponse::DescribeGroups(response) => context.answer(&response),
        GroupResponse::DeleteGroups(response) => context.answer(&response),
        other => context.mismatch(&other),
    }
}

fn refuse_admin<R: Role>(context: &Context<R>, request: Request, code: ErrorCode) -> Answer {
    match request {
        Request::CreateTopics(request) => context.answer(&CreateTopicsResponse {
            topics: map(request.topics, |topic| CreatableTopicResult {
                name: topic.name,
                error_code: code,
                ..Default::default()
            }),
            ..Default::default()
        }),
        Request::DeleteTopics(request) => {
            let by_name = map(request.topic_names, |name| (Some(name), Default::default()));
            let topics = request.topics.into_iter();
            let topics = topics.map(|topic| (topic.name, topic.topic_id));
            context.answer(&DeleteTopicsResponse {
                responses: topics
                    .chain(by_name)
                    .map(|(name, topic_id)| DeletableTopicResult {
                        name,
                        topic_id,
                        error_code: code,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            })
        }
        Request::DeleteRecords(request) => context.answer(&DeleteRecordsResponse {
            topics: map(request.topics, |topic| DeleteRecordsTopicResult {
                name: topic.name,
                partitions: map(topic.partitions, |partition| DeleteRecordsPartitionResult {
                    partition_index: partition.partition_index,
                    low_watermark: Offset::NONE,
                    error_code: code,
                }),
            }),
            ..Default::default()
        }),
        Request::CreatePartitions(request) => context.answer(&CreatePartitionsResponse {
            results: map(request.topics, |topic| CreatePartitionsTopicResult {
                name: topic.name,
                error_code: code,
                ..Default::default()
            }),
            ..Default::default()
        }),
        Request::DescribeConfigs(request) => context.answer(&DescribeConfigsResponse {
            results: map(request.resources, |resource| DescribeConfigsResult {
                error_code: code,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                ..Default::default()
            }),
            ..Default::default()
        }),
        Request::AlterConfigs(request) => context.answer(&AlterConfigsResponse {
            responses: map(request.resources, |resource| {
                altered(resource.resource_type, resource.resource_name, code)
            }),
            ..Default::default()
        }),
        Request::IncrementalAlterConfigs(request) => {
            context.answer(&IncrementalAlterConfigsResponse {
                responses: map(request.resources, |resource| {
                    altered(resource.resource_type, resource.resource_name, code)
                }),
                ..Default::default()
            })
        }
        _ => closed(code),
    }
}

fn altered(
    resource_type: i8,
    resource_name: tidelog_types::Str,
    error_code: ErrorCode,
) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse {
        error_code,
        resource_type,
        resource_name,
        ..Default::default()
    }
}
