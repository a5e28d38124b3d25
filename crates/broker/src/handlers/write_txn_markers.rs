//! WriteTxnMarkers: the coordinator of a transaction has its end written into the partitions of which it was (KIP-98).

use std::time::Duration;

use tidelog_protocol::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use tidelog_record::control::{EndTxnMarker, TransactionResult};
use tidelog_types::{ErrorCode, PartitionIndex, TopicId, TopicName};

use super::wait::AppendWait;
use super::{Answer, Context};
use crate::store::partition::{AppendRefused, TransactionEnd, Waiter};

pub(super) async fn handle(context: Context, request: WriteTxnMarkersRequest) -> Answer {
    let wait = AppendWait::new();
    let mut index = 0;
    let mut response = WriteTxnMarkersResponse::default();
    for marker in &request.markers {
        let end = end_of(marker);
        let topics = marker.topics.iter().map(|topic| {
            let write = |partition: &PartitionIndex| {
                let waiter = wait.expect(index);
                index += 1;
                let written = write(&context, &end, (&topic.name, *partition), waiter);
                if !matches!(written, Ok(Written::Waits)) {
                    wait.settled();
                }
                WritableTxnMarkerPartitionResult {
                    partition_index: *partition,
                    error_code: written.err().unwrap_or(ErrorCode::NONE),
                }
            };
            WritableTxnMarkerTopicResult {
                name: topic.name.clone(),
                partitions: topic.partition_indexes.iter().map(write).collect(),
            }
        });
        response.markers.push(WritableTxnMarkerResult {
            producer_id: marker.producer_id,
            topics: topics.collect(),
        });
    }
    let timeout_ms = context.node.broker_config.load().request_timeout_ms();
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let failed = wait.wait(&context.node.clock, timeout).await;
    settle(&mut response, failed.as_deref());
    context.answer(&response)
}

fn end_of(marker: &WritableTxnMarker) -> TransactionEnd {
    TransactionEnd {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        marker: EndTxnMarker {
            result: match marker.transaction_result {
                true => TransactionResult::Commit,
                false => TransactionResult::Abort,
            },
            coordinator_epoch: marker.coordinator_epoch,
        },
        transaction_version: marker.transaction_version,
    }
}

enum Written {
    /// On as many replicas as it takes.
    Done,
    /// The waiter will be told.
    Waits,
}

fn write(
    context: &Context,
    end: &TransactionEnd,
    (topic, partition): (&TopicName, PartitionIndex),
    waiter: Waiter,
) -> Result<Written, ErrorCode> {
    let node = &context.node;
    let found = node.partition(false, TopicId::ZERO, topic, partition)?;
    let accepted = if *topic == TopicName::CONSUMER_OFFSETS {
        // What was committed in the transaction counts from now on, or never.
        node.groups.end_transaction(partition, end, waiter)
    } else {
        found.end_transaction(end, waiter)
    };
    let accepted = accepted.map_err(|refused: AppendRefused| refused.error_code())?;
    if accepted.flush {
        context.peer.due_flushes.add(&found);
    }
    Ok(match accepted.done {
        true => Written::Done,
        false => Written::Waits,
    })
}

/// Enters what became of the appends; nothing is known of them if the time was over.
fn settle(response: &mut WriteTxnMarkersResponse, failed: Option<&[(usize, ErrorCode)]>) {
    let topics = response
        .markers
        .iter_mut()
        .flat_map(|marker| &mut marker.topics);
    let partitions = topics.flat_map(|topic| &mut topic.partitions);
    for (index, result) in partitions.enumerate() {
        let code = match failed {
            None => Some(ErrorCode::REQUEST_TIMED_OUT),
            Some(failed) => failed
                .iter()
                .find(|(place, _)| *place == index)
                .map(|(_, code)| *code),
        };
        if let Some(code) = code
            && result.error_code.is_ok()
        {
            result.error_code = code;
        }
    }
}
