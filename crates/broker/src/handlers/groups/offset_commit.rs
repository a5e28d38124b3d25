//! OffsetCommit: the broker sorts out the topics that do not exist, the coordinator decides on the rest.

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidelog_types::ErrorCode;

use crate::handlers::{Answer, Context};

/// From this version on topics go by their id.
const TOPIC_ID_FROM_VERSION: i16 = 10;

pub(in crate::handlers) async fn handle(
    context: Context,
    mut request: OffsetCommitRequest,
) -> Answer {
    let by_id = context.header.api_version >= TOPIC_ID_FROM_VERSION;
    let mut refused = Vec::new();
    request
        .topics
        .retain_mut(|topic| sort_out(&context, topic, by_id, &mut refused));
    let mut response = OffsetCommitResponse::default();
    if !request.topics.is_empty() || refused.is_empty() {
        let group_id = request.group_id.clone();
        match context
            .ask_group(&group_id, GroupRequest::OffsetCommit(request))
            .await
        {
            GroupResponse::OffsetCommit(answer) => response = answer,
            other => return context.mismatch(&other),
        }
    }
    for topic in refused {
        let same = |other: &OffsetCommitResponseTopic| {
            other.name == topic.name && other.topic_id == topic.topic_id
        };
        match response.topics.iter_mut().find(|other| same(other)) {
            Some(answered) => answered.partitions.extend(topic.partitions),
            None => response.topics.push(topic),
        }
    }
    context.answer(&response)
}

/// Gives the topic both its name and its id, and moves what does not exist of it to `refused`; tells whether anything is
/// left.
fn sort_out(
    context: &Context,
    topic: &mut OffsetCommitRequestTopic,
    by_id: bool,
    refused: &mut Vec<OffsetCommitResponseTopic>,
) -> bool {
    let image = context.node.image.load();
    let known = if by_id {
        image.topic_by_id(topic.topic_id)
    } else {
        image.topic(&topic.name)
    };
    let Some(known) = known else {
        let code = if by_id {
            ErrorCode::UNKNOWN_TOPIC_ID
        } else {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        };
        refused.push(refuse(topic, code));
        return false;
    };
    topic.name = known.name.clone();
    topic.topic_id = known.id;
    let unknown = topic
        .partitions
        .extract_if(.., |partition| {
            known.partition(partition.partition_index).is_none()
        })
        .collect();
    let unknown = OffsetCommitRequestTopic {
        partitions: unknown,
        ..topic.clone()
    };
    if !unknown.partitions.is_empty() {
        refused.push(refuse(&unknown, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }
    !topic.partitions.is_empty()
}

fn refuse(topic: &OffsetCommitRequestTopic, error_code: ErrorCode) -> OffsetCommitResponseTopic {
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code,
            })
            .collect(),
    }
}
