//! OffsetDelete: the offsets of some partitions (KIP-496).

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use tidelog_types::ErrorCode;

use crate::handlers::{Answer, Context};

pub(in crate::handlers) async fn handle(
    context: Context,
    mut request: OffsetDeleteRequest,
) -> Answer {
    let image = context.node.image.load();
    let mut unknown = Vec::new();
    for topic in &mut request.topics {
        let known = image.topic(&topic.name);
        let exists = |index| known.is_some_and(|known| known.partition(index).is_some());
        let partitions: Vec<_> = topic
            .partitions
            .extract_if(.., |partition| !exists(partition.partition_index))
            .collect();
        unknown.push((topic.name.clone(), partitions));
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
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
        for (name, partitions) in unknown {
            let refused = partitions
                .iter()
                .map(|partition| OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                });
            match response.topics.iter_mut().find(|topic| topic.name == name) {
                Some(topic) => topic.partitions.extend(refused),
                None => response.topics.push(OffsetDeleteResponseTopic {
                    name,
                    partitions: refused.collect(),
                }),
            }
        }
        response.topics.retain(|topic| !topic.partitions.is_empty());
    }
    context.answer(&response)
}
