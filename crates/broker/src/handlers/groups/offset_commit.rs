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
    let unknown: Vec<_> = request
        .topics
        .extract_if(.., |topic| !complete(&context, topic, by_id))
        .collect();
    let code = if by_id {
        ErrorCode::UNKNOWN_TOPIC_ID
    } else {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    };
    let mut response = OffsetCommitResponse::default();
    if !request.topics.is_empty() || unknown.is_empty() {
        let group_id = request.group_id.clone();
        match context
            .ask_group(&group_id, GroupRequest::OffsetCommit(request))
            .await
        {
            GroupResponse::OffsetCommit(answer) => response = answer,
            other => return context.mismatch(&other),
        }
    }
    response
        .topics
        .extend(unknown.iter().map(|topic| refuse(topic, code)));
    context.answer(&response)
}

/// Gives the topic both its name and its id; false if it does not exist.
fn complete(context: &Context, topic: &mut OffsetCommitRequestTopic, by_id: bool) -> bool {
    let image = context.node.image.load();
    let known = if by_id {
        image.topic_by_id(topic.topic_id)
    } else {
        image.topic(&topic.name)
    };
    let Some(known) = known else { return false };
    topic.name = known.name.clone();
    topic.topic_id = known.id;
    true
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
