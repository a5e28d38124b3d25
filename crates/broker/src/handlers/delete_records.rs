//! DeleteRecords: moves the start of a partition's log (KIP-107).

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, TopicName};

use super::wait::Watch;
use super::{Answer, Context};
use crate::clock::{Clock, Moment};
use crate::store::partition::Partition;

/// Records that were deleted here, and may not yet be on the other replicas.
struct Deleted {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    offset: Offset,
}

pub(super) async fn handle(context: Context, request: DeleteRecordsRequest) -> Answer {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let clock = &context.node.clock;
    let deadline = clock.moment() + timeout;
    let mut deleted = Vec::new();
    let topics = request.topics.iter().map(|topic| DeleteRecordsTopicResult {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|wanted| {
                let partition_index = wanted.partition_index;
                let result = delete(&context, &topic.name, wanted);
                let error_code = result.as_ref().err().copied();
                deleted.push(result.ok());
                DeleteRecordsPartitionResult {
                    partition_index,
                    low_watermark: Offset::NONE,
                    error_code: error_code.unwrap_or(ErrorCode::NONE),
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
        }
        return context.answer(&response);
    }
    let results = response.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for (result, deleted) in results.zip(deleted) {
        let Some(deleted) = deleted else { continue };
        match deleted.everywhere(clock, deadline).await {
            Ok(low_watermark) => result.low_watermark = low_watermark,
            Err(code) => result.error_code = code,
        }
    }
    context.answer(&response)
}

impl Deleted {
    /// Waits until all live replicas have deleted the records; gives the low watermark.
    async fn everywhere(self, clock: &Clock, deadline: Moment) -> Result<Offset, ErrorCode> {
        let watch = Watch::new(std::iter::once(Arc::clone(&self.partition)));
        loop {
            let done = self
                .partition
                .deleted_up_to(self.leader_epoch, self.offset)?;
            if let Some(low_watermark) = done {
                return Ok(low_watermark);
            }
            if clock.timeout_at(deadline, watch.notified()).await.is_none() {
                return Err(ErrorCode::REQUEST_TIMED_OUT);
            }
        }
    }
}

/// Deletes the records below the offset on this node.
fn delete(
    context: &Context,
    topic: &TopicName,
    wanted: &DeleteRecordsPartition,
) -> Result<Deleted, ErrorCode> {
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
    let leader_epoch = partition.published().leadership.leader_epoch();
    let offset = partition.delete_records(wanted.offset)?;
    Ok(Deleted {
        partition,
        leader_epoch,
        offset,
    })
}
