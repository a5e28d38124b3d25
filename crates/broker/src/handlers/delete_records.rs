//! DeleteRecords: moves the start of a partition's log (KIP-107).

use std::sync::Arc;

use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use tidelog_types::{ErrorCode, Offset, TopicName};

use super::{Answer, Context};

pub(super) async fn handle(context: Context, request: DeleteRecordsRequest) -> Answer {
    let topics = request.topics.iter().map(|topic| DeleteRecordsTopicResult {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|wanted| {
                let partition_index = wanted.partition_index;
                match delete(&context, &topic.name, wanted) {
                    Ok(low_watermark) => DeleteRecordsPartitionResult {
                        partition_index,
                        low_watermark,
                        error_code: ErrorCode::NONE,
                    },
                    Err(error_code) => DeleteRecordsPartitionResult {
                        partition_index,
                        low_watermark: Offset::NONE,
                        error_code,
                    },
                }
            })
            .collect(),
    });
    let mut response = DeleteRecordsResponse {
        topics: topics.collect(),
        ..Default::default()
    };
    // The new start must survive a crash before the client hears of it.
    let store = Arc::clone(&context.node.store);
    let stored = tokio::task::spawn_blocking(move || store.checkpoint_log_starts());
    let stored = match stored.await {
        Ok(stored) => stored.map_err(|error| error.to_string()),
        Err(panic) => Err(panic.to_string()),
    };
    if let Err(error) = stored {
        tracing::error!(error, "cannot store the log start offsets");
        let results = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
        for result in results.filter(|result| result.error_code.is_ok()) {
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            result.low_watermark = Offset::NONE;
        }
    }
    context.answer(&response)
}

/// Deletes the records below the offset; gives the new start of the log.
fn delete(
    context: &Context,
    topic: &TopicName,
    wanted: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
    let node = &context.node;
    let local = node
        .store
        .topics
        .by_name(topic)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if topic.is_internal() {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let partition = local
        .partition(wanted.partition_index)?
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if !local.config().delete {
        // A compacted topic keeps the last record of each key.
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    partition.delete_records(wanted.offset)
}
