//! ListOffsets: the ends of a partition, or the first record from a point in time on.

use std::collections::HashSet;

use tidelog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Timestamp, Uuid};

use super::{Answer, Context};
use crate::store::partition::Partition;

/// Times with a meaning of their own, and the version from which a client may name them.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: (i64, i16) = (-3, 7);
const EARLIEST_LOCAL: (i64, i16) = (-4, 8);
const LATEST_TIERED: (i64, i16) = (-5, 9);
const EARLIEST_PENDING_UPLOAD: (i64, i16) = (-6, 11);
/// From this version on a client is told the epoch of the record that was found.
const LEADER_EPOCH_FROM_VERSION: i16 = 4;
/// From this version on a client knows the error of a leader that does not know yet how far its log is committed.
const OFFSET_NOT_AVAILABLE_FROM_VERSION: i16 = 5;
/// `isolation_level` of a consumer that wants committed transactions only.
const READ_COMMITTED: i8 = 1;

pub(super) async fn handle(context: Context, request: ListOffsetsRequest) -> Answer {
    context.answer(&list_offsets(&context, &request))
}

/// Finds the offsets that a request asks for.
pub(crate) fn list_offsets(context: &Context, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let mut named = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if !named.insert((topic.name.clone(), partition.partition_index)) {
                twice.insert((topic.name.clone(), partition.partition_index));
            }
        }
    }
    let look = |topic: &ListOffsetsTopic, wanted: &ListOffsetsPartition| {
        if twice.contains(&(topic.name.clone(), wanted.partition_index)) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let node = &context.node;
        let partition = node.partition(false, Uuid::ZERO, &topic.name, wanted.partition_index)?;
        find(&partition, wanted, request, context.header.api_version)
    };
    let answer = |topic: &ListOffsetsTopic, wanted: &ListOffsetsPartition| {
        let partition_index = wanted.partition_index;
        match look(topic, wanted) {
            Ok((timestamp, offset, leader_epoch)) => ListOffsetsPartitionResponse {
                partition_index,
                timestamp,
                offset,
                // Older versions have no room for it.
                leader_epoch: if context.header.api_version < LEADER_EPOCH_FROM_VERSION {
                    LeaderEpoch::NONE
                } else {
                    leader_epoch
                },
                ..Default::default()
            },
            Err(error_code) => ListOffsetsPartitionResponse {
                partition_index,
                error_code,
                ..Default::default()
            },
        }
    };
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|wanted| answer(topic, wanted))
            .collect(),
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

type Found = (Timestamp, Offset, LeaderEpoch);
const NOT_FOUND: Found = (Timestamp::NONE, Offset::NONE, LeaderEpoch::NONE);

fn find(
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    request: &ListOffsetsRequest,
    version: i16,
) -> Result<Found, ErrorCode> {
    let published = partition.published();
    published
        .leadership
        .check_leader_epoch(wanted.current_leader_epoch)?;
    let marks = published.marks;
    let latest = if request.replica_id > NodeId::NONE {
        marks.log_end_offset
    } else if request.isolation_level == READ_COMMITTED {
        marks.last_stable_offset
    } else {
        marks.high_watermark
    };
    // KIP-207: a new leader does not say where the log ends before it knows.
    let is_follower = request.replica_id > NodeId::NONE;
    let end_known = || match published.leadership.check_end_known(marks.high_watermark) {
        _ if is_follower => Ok(()),
        Err(ErrorCode::OFFSET_NOT_AVAILABLE) if version < OFFSET_NOT_AVAILABLE_FROM_VERSION => {
            Err(ErrorCode::LEADER_NOT_AVAILABLE)
        }
        known => known,
    };
    let not_found = || end_known().map(|()| NOT_FOUND);
    let reader = partition.reader();
    let at = |offset: Offset| {
        (
            Timestamp::NONE,
            offset,
            reader.epoch_at(offset).unwrap_or(LeaderEpoch::NONE),
        )
    };
    let since = |needed: i16| {
        if version < needed {
            Err(ErrorCode::UNSUPPORTED_VERSION)
        } else {
            Ok(())
        }
    };
    let found = match wanted.timestamp.as_millis() {
        LATEST => {
            end_known()?;
            (Timestamp::NONE, latest, published.leadership.leader_epoch())
        }
        EARLIEST => at(marks.log_start_offset),
        special if special == EARLIEST_LOCAL.0 => {
            since(EARLIEST_LOCAL.1)?;
            at(marks.log_start_offset)
        }
        special if special == LATEST_TIERED.0 => {
            since(LATEST_TIERED.1)?;
            NOT_FOUND
        }
        special if special == EARLIEST_PENDING_UPLOAD.0 => {
            since(EARLIEST_PENDING_UPLOAD.1)?;
            NOT_FOUND
        }
        special if special == MAX_TIMESTAMP.0 => {
            since(MAX_TIMESTAMP.1)?;
            reader
                .max_timestamp(latest)
                .map_err(|error| error.error_code())?
                .map_or_else(not_found, |found| {
                    Ok((found.timestamp, found.offset, found.leader_epoch))
                })?
        }
        negative if negative < 0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        _ => reader
            .offset_for_timestamp(wanted.timestamp, latest)
            .map_err(|error| error.error_code())?
            .map_or_else(not_found, |found| {
                Ok((found.timestamp, found.offset, found.leader_epoch))
            })?,
    };
    Ok(found)
}
