//! OffsetForLeaderEpoch: where the records of a leader epoch end, by which a consumer finds out that the log was truncated
//! behind it (KIP-320).

use tidelog_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, TopicName, Uuid};

use super::{Answer, Context};

pub(super) async fn handle(context: Context, request: OffsetForLeaderEpochRequest) -> Answer {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| {
                    let partition = asked.partition;
                    match end_offset(&context, &topic.topic, asked) {
                        Ok((leader_epoch, end_offset)) => EpochEndOffset {
                            partition,
                            leader_epoch,
                            end_offset,
                            ..Default::default()
                        },
                        Err(error_code) => EpochEndOffset {
                            partition,
                            error_code,
                            ..Default::default()
                        },
                    }
                })
                .collect(),
        });
    let topics = topics.collect();
    context.answer(&OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    })
}

fn end_offset(
    context: &Context,
    topic: &TopicName,
    asked: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let partition = context
        .node
        .partition(false, Uuid::ZERO, topic, asked.partition)?;
    let published = partition.published();
    published
        .leadership
        .check_leader_epoch(asked.current_leader_epoch)?;
    if asked.leader_epoch == published.leadership.leader_epoch() {
        return Ok((asked.leader_epoch, published.marks.log_end_offset));
    }
    Ok(partition.reader().end_offset_for_epoch(asked.leader_epoch))
}
