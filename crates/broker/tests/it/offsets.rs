//! Offsets by time and by epoch, and the start of a log.

use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidelog_protocol::messages::list_offsets::ListOffsetsPartitionResponse;
use tidelog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidelog_record::{BatchBuilder, Codec};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Timestamp};

use crate::client::Client;
use crate::ops::{Topic, fetch_request, list_offsets_request};
use crate::server::Server;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

pub(crate) async fn delete_records(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    offset: i64,
) -> DeleteRecordsPartitionResult {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.name.clone(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset: Offset::new(offset),
            }],
        }],
        timeout_ms: 30_000,
    };
    client.ask(&request).await.topics[0].partitions[0].clone()
}

/// A batch of records without keys, created at these times.
fn timed(codec: Codec, times: &[i64]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(codec.into());
    for time in times {
        builder.push(Timestamp::from_millis(*time), None, Some(b"v"), &[]);
    }
    builder.build().unwrap().bytes().clone()
}

fn found(answer: &ListOffsetsPartitionResponse) -> (ErrorCode, i64, i64) {
    (
        answer.error_code,
        answer.offset.value(),
        answer.timestamp.as_millis(),
    )
}

#[tokio::test]
async fn corner_23_a_time_is_looked_up_to_the_record_inside_compressed_batches() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for codec in [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ] {
        let name = format!("times-{}", codec.name());
        let topic = client.create_topic(&name, 1, &[]).await;
        for times in [&[1000, 1100, 1200][..], &[1500, 1900, 1900, 1300], &[1400]] {
            let answer = client.produce(&topic, 0, timed(codec, times)).await;
            assert_eq!(answer.error_code, ErrorCode::NONE);
        }
        for (time, offset, timestamp) in [
            (0, 0, 1000),
            (1000, 0, 1000),
            (1001, 1, 1100),
            (1200, 2, 1200),
            (1201, 3, 1500),
            (1501, 4, 1900),
            (1900, 4, 1900),
            (1901, -1, -1),
            (i64::MAX, -1, -1),
            (MAX_TIMESTAMP, 4, 1900),
            (EARLIEST, 0, -1),
            (LATEST, 8, -1),
        ] {
            let answer = client.list_offset(&topic, 0, time).await;
            let expected = (ErrorCode::NONE, offset, timestamp);
            assert_eq!(found(&answer), expected, "{codec:?} at {time}");
            let epoch = answer.leader_epoch.value();
            assert_eq!(
                epoch >= 0,
                offset >= 0,
                "{codec:?} at {time}: epoch {epoch}"
            );
        }
    }
}

#[tokio::test]
async fn corner_23_an_empty_partition_has_ends_and_no_times() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("empty-times", 1, &[]).await;
    for (time, offset) in [(EARLIEST, 0), (LATEST, 0), (MAX_TIMESTAMP, -1), (0, -1)] {
        let answer = client.list_offset(&topic, 0, time).await;
        assert_eq!(found(&answer), (ErrorCode::NONE, offset, -1), "at {time}");
    }
}

#[tokio::test]
async fn corner_13_latest_is_the_last_stable_offset_for_readers_of_committed_data() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("stable", 1, &[]).await;
    client.put(&topic, 0, &["a", "b"]).await;
    for isolation_level in [0, 1] {
        let mut request = list_offsets_request(&topic, 0, LATEST);
        request.isolation_level = isolation_level;
        let response = client.ask(&request).await;
        assert_eq!(response.topics[0].partitions[0].offset.value(), 2);
    }
}

#[tokio::test]
async fn list_offsets_refuses_what_makes_no_sense() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("refused", 1, &[]).await;
    let mut twice = list_offsets_request(&topic, 0, LATEST);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    let response = client.ask(&twice).await;
    for partition in &response.topics[0].partitions {
        assert_eq!(partition.error_code, ErrorCode::INVALID_REQUEST);
    }
    for (version, time, expected) in [
        (6, MAX_TIMESTAMP, ErrorCode::UNSUPPORTED_VERSION),
        (7, MAX_TIMESTAMP, ErrorCode::NONE),
        (7, -4, ErrorCode::UNSUPPORTED_VERSION),
        (8, -4, ErrorCode::NONE),
        (8, -5, ErrorCode::UNSUPPORTED_VERSION),
        (9, -5, ErrorCode::NONE),
        (11, -7, ErrorCode::UNSUPPORTED_VERSION),
    ] {
        let request = list_offsets_request(&topic, 0, time);
        let response = client.call(version, &request).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(
            partition.error_code, expected,
            "{time} in version {version}"
        );
    }
    let mut fenced = list_offsets_request(&topic, 0, LATEST);
    fenced.topics[0].partitions[0].current_leader_epoch = LeaderEpoch::new(99);
    let response = client.ask(&fenced).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
    let unknown = client.list_offset(&topic, 5, LATEST).await;
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

async fn end_of_epoch(client: &mut Client, topic: &Topic, epoch: i32) -> (ErrorCode, i32, i64) {
    let request = OffsetForLeaderEpochRequest {
        replica_id: NodeId::NONE,
        topics: vec![OffsetForLeaderTopic {
            topic: topic.name.clone(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                leader_epoch: LeaderEpoch::new(epoch),
                ..Default::default()
            }],
        }],
    };
    let answer = client.ask(&request).await.topics[0].partitions[0].clone();
    (
        answer.error_code,
        answer.leader_epoch.value(),
        answer.end_offset.value(),
    )
}

#[tokio::test]
async fn corner_24_the_end_of_each_epoch_is_exact() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("epochs", 1, &[]).await;
    let mut epochs = Vec::new();
    let mut end = 0;
    for records in [&["a", "b"][..], &["c"], &["d", "e", "f"]] {
        let epoch = client.describe("epochs").await.partitions[0].leader_epoch;
        epochs.push((epoch.value(), end));
        end += i64::try_from(records.len()).unwrap();
        client.put(&topic, 0, records).await;
        server.restart().await;
        client = server.client().await;
    }
    let current = client.describe("epochs").await.partitions[0].leader_epoch;
    let current = current.value();
    let none = ErrorCode::NONE;
    assert_eq!(
        end_of_epoch(&mut client, &topic, current).await,
        (none, current, end)
    );
    let newer = end_of_epoch(&mut client, &topic, current + 1).await;
    assert_eq!(newer, (none, -1, -1));
    let older = end_of_epoch(&mut client, &topic, -1).await;
    assert_eq!(older, (none, -1, -1));
    // Every epoch that has records ends where the next one begins.
    let expected = |asked: i32| {
        let (epoch, _) = *epochs.iter().rfind(|(epoch, _)| *epoch <= asked).unwrap();
        let end = epochs
            .iter()
            .find(|(epoch, _)| *epoch > asked)
            .map_or(end, |(_, start)| *start);
        (none, epoch, end)
    };
    for asked in epochs[0].0..current {
        let answer = end_of_epoch(&mut client, &topic, asked).await;
        assert_eq!(answer, expected(asked), "epoch {asked} of {epochs:?}");
    }
    // Once the log begins after an epoch's records, that epoch ends where the log begins.
    delete_records(&mut client, &topic, 0, 2).await;
    let (code, epoch, end) = end_of_epoch(&mut client, &topic, epochs[0].0).await;
    assert_eq!((code, end), (none, 2));
    assert!(epoch <= epochs[0].0);
}

#[tokio::test]
async fn corner_45_deleted_records_are_gone_to_the_offset_and_stay_gone() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("deleted", 2, &[]).await;
    client.put(&topic, 0, &["a", "b", "c", "d"]).await;
    client.put(&topic, 0, &["e"]).await;
    let answer = delete_records(&mut client, &topic, 0, 3).await;
    assert_eq!(
        (answer.error_code, answer.low_watermark.value()),
        (ErrorCode::NONE, 3)
    );
    // An offset that is gone already changes nothing.
    let answer = delete_records(&mut client, &topic, 0, 1).await;
    assert_eq!(
        (answer.error_code, answer.low_watermark.value()),
        (ErrorCode::NONE, 3)
    );
    for (partition, offset, expected) in [
        (0, 6, ErrorCode::OFFSET_OUT_OF_RANGE),
        (0, -2, ErrorCode::OFFSET_OUT_OF_RANGE),
        (7, 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        let answer = delete_records(&mut client, &topic, partition, offset).await;
        assert_eq!(answer.error_code, expected);
        assert_eq!(answer.low_watermark, Offset::NONE);
    }
    for _ in 0..2 {
        let earliest = client.list_offset(&topic, 0, EARLIEST).await;
        assert_eq!(found(&earliest), (ErrorCode::NONE, 3, -1));
        let below = client.fetch(&fetch_request(&topic, &[(0, 2)])).await;
        assert_eq!(below[0].error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
        // The batch still has the deleted records, which the client skips.
        let records = client.read(&topic, 0, 3).await;
        assert_eq!(records.last(), Some(&(4, "e".to_owned())));
        let by_time = client.list_offset(&topic, 0, 0).await;
        assert_eq!(by_time.offset.value(), 3, "times below the start are gone");
        server.restart().await;
        client = server.client().await;
    }
    // All of it, without knowing how much that is.
    let answer = delete_records(&mut client, &topic, 0, -1).await;
    assert_eq!(
        (answer.error_code, answer.low_watermark.value()),
        (ErrorCode::NONE, 5)
    );
    assert_eq!(client.put(&topic, 0, &["f"]).await, 5);
}

#[tokio::test]
async fn corner_45_a_compacted_topic_keeps_its_records() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (policy, expected) in [
        ("compact", ErrorCode::POLICY_VIOLATION),
        ("compact,delete", ErrorCode::NONE),
    ] {
        let name = policy.replace(',', "-");
        let topic = client
            .create_topic(&name, 1, &[("cleanup.policy", policy)])
            .await;
        let answer = delete_records(&mut client, &topic, 0, 0).await;
        assert_eq!(answer.error_code, expected, "{policy}");
    }
}
