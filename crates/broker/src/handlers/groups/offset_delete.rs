//! OffsetDelete: the offsets of some partitions (KIP-496).

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use tidelog_types::ErrorCode;

use crate::handlers::{Answer, Context};

pub(in crate::handlers) async fn handle(
    context: Context,
    mut request: OffsetDeleteRequest,
) -> Answer {
    let image = context.node.image.load();
    let unknown: Vec<_> = request
        .topics
        .extract_if(.., |topic| image.topic(&topic.name).is_none())
        .collect();
    drop(image);
    let group_id = request.group_id.clone();
    let mut response = match context
        .ask_group(&group_id, GroupRequest::OffsetDelete(request))
        .await
    {
        GroupResponse::OffsetDelete(response) => response,
        other => return context.mismatch(&other),
    };
    if response.error_code.is_ok() {
        let refused = unknown.into_iter().map(|topic| OffsetDeleteResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                })
                .collect(),
        });
        response.topics.extend(refused);
    }
    let response: OffsetDeleteResponse = response;
    context.answer(&response)
}
