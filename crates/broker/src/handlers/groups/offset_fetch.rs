//! OffsetFetch: one group up to version 7, many from version 8 on (KIP-709), topics by id from version 10 on.

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, Str};

use crate::handlers::{Answer, Context};

/// From this version on several groups are asked for at once.
const BATCHED_FROM_VERSION: i16 = 8;
/// From this version on topics go by their id.
const TOPIC_ID_FROM_VERSION: i16 = 10;
/// From this version on the response has an error of its own.
const TOP_LEVEL_ERROR_FROM_VERSION: i16 = 2;

pub(in crate::handlers) async fn handle(context: Context, request: OffsetFetchRequest) -> Answer {
    let require_stable = request.require_stable;
    if context.header.api_version >= BATCHED_FROM_VERSION {
        let mut response = OffsetFetchResponse::default();
        for group in request.groups {
            match fetch(&context, group, require_stable).await {
                Ok(group) => response.groups.push(group),
                Err(answer) => return answer,
            }
        }
        return context.answer(&response);
    }
    let group = single_group(&request);
    match fetch(&context, group, require_stable).await {
        Ok(group) => {
            let response = single_response(group, &request, context.header.api_version);
            context.answer(&response)
        }
        Err(answer) => answer,
    }
}

/// Asks the coordinator for one group, with topic ids translated both ways.
async fn fetch(
    context: &Context,
    mut group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> Result<OffsetFetchResponseGroup, Answer> {
    let by_id = context.header.api_version >= TOPIC_ID_FROM_VERSION;
    let mut unknown = Vec::new();
    if by_id && let Some(topics) = &mut group.topics {
        let image = context.node.image.load();
        unknown = topics
            .extract_if(.., |topic| match image.topic_by_id(topic.topic_id) {
                Some(known) => {
                    topic.name = known.name.clone();
                    false
                }
                None => true,
            })
            .collect();
    }
    let group_id = group.group_id.clone();
    let request = GroupRequest::OffsetFetch {
        group,
        require_stable,
    };
    let mut response = match context.ask_group(&group_id, request).await {
        GroupResponse::OffsetFetch(response) => response,
        other => return Err(context.mismatch(&other)),
    };
    if by_id {
        let image = context.node.image.load();
        response
            .topics
            .retain_mut(|topic| match image.topic(&topic.name) {
                Some(known) => {
                    topic.topic_id = known.id;
                    true
                }
                None => false,
            });
        if response.error_code.is_ok() {
            response
                .topics
                .extend(unknown.iter().map(refuse_unknown_id));
        }
    }
    Ok(response)
}

fn refuse_unknown_id(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partition_indexes
            .iter()
            .map(|partition_index| OffsetFetchResponsePartitions {
                partition_index: *partition_index,
                committed_offset: Offset::NONE,
                committed_leader_epoch: LeaderEpoch::NONE,
                metadata: Some(Str::EMPTY),
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
            })
            .collect(),
    }
}

/// The request of an old client in the shape of the new ones.
fn single_group(request: &OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name.clone(),
            partition_indexes: topic.partition_indexes.clone(),
            ..Default::default()
        });
        topics.collect()
    });
    OffsetFetchRequestGroup {
        group_id: request.group_id.clone(),
        topics,
        ..Default::default()
    }
}

/// The response for an old client. Before version 2 it has no error of its own, so that every partition carries it.
fn single_response(
    group: OffsetFetchResponseGroup,
    request: &OffsetFetchRequest,
    version: i16,
) -> OffsetFetchResponse {
    let mut topics: Vec<OffsetFetchResponseTopic> = group
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic.partitions.into_iter().map(old_partition).collect(),
        })
        .collect();
    if group.error_code.is_err() && version < TOP_LEVEL_ERROR_FROM_VERSION {
        let asked = request.topics.iter().flatten();
        topics = asked
            .map(|topic| OffsetFetchResponseTopic {
                name: topic.name.clone(),
                partitions: topic
                    .partition_indexes
                    .iter()
                    .map(|partition_index| OffsetFetchResponsePartition {
                        partition_index: *partition_index,
                        committed_offset: Offset::NONE,
                        metadata: Some(Str::EMPTY),
                        error_code: group.error_code,
                        ..Default::default()
                    })
                    .collect(),
            })
            .collect();
    }
    OffsetFetchResponse {
        topics,
        error_code: group.error_code,
        ..Default::default()
    }
}

fn old_partition(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}
