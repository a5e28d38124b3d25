//! Fetch: what is empty, what is large, what is waited for, and sessions.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_protocol::Payload;
use tidelog_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, ForgottenTopic, PartitionData, ReplicaState,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Uuid};

use crate::ops::{Topic, batch, fetch_request, long, values};
use crate::server::Server;

const FOREVER_MS: i32 = 600_000;

#[tokio::test]
async fn corner_5_no_data_is_an_empty_list_of_records_in_every_version() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("empty", 1, &[]).await;
    let unknown = Topic {
        name: "unknown".into(),
        id: Uuid::from_bytes([7; 16]),
    };
    for version in 4..=18 {
        for (topic, expected) in [
            (&topic, ErrorCode::NONE),
            (
                &unknown,
                match version {
                    ..13 => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    _ => ErrorCode::UNKNOWN_TOPIC_ID,
                },
            ),
        ] {
            let request = fetch_request(topic, &[(0, 0)]);
            let response = client.call(version, &request).await;
            let data = &response.responses[0].partitions[0];
            assert_eq!(data.error_code, expected, "version {version}");
            let empty = Some(Payload::Bytes(Bytes::new()));
            assert_eq!(data.records, empty, "version {version}");
        }
    }
}

#[tokio::test]
async fn corner_6_a_batch_above_all_limits_comes_whole_from_the_first_partition_that_has_any() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("big", 3, &[]).await;
    let value = long(50_000);
    for partition in [1, 2] {
        client.put(&topic, partition, &[&value]).await;
        client.put(&topic, partition, &[&value]).await;
    }
    let mut request = fetch_request(&topic, &[(0, 0), (1, 0), (2, 0)]);
    request.max_bytes = 1000;
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = 1000;
    }
    let data = client.fetch(&request).await;
    assert_eq!(values(&data[0]), []);
    assert_eq!(values(&data[1]), [(0, value.clone())]);
    assert_eq!(
        values(&data[2]),
        [],
        "only the first one goes over the limit"
    );
    let total: usize = data.iter().map(records_len).sum();
    assert!(total < 60_000, "{total}");

    // The limit of the partition alone is gone over as well.
    request.max_bytes = 10 << 20;
    let data = client.fetch(&request).await;
    assert_eq!(values(&data[1]), [(0, value)]);
    assert!(records_len(&data[2]) <= 1000);
}

#[tokio::test]
async fn corner_6_what_is_cut_off_is_cut_at_the_limit() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("cut", 2, &[]).await;
    for partition in [0, 1] {
        for _ in 0..20 {
            client.put(&topic, partition, &[&long(1000)]).await;
        }
    }
    let mut request = fetch_request(&topic, &[(0, 0), (1, 0)]);
    request.max_bytes = 7000;
    request.topics[0].partitions[0].partition_max_bytes = 5000;
    let data = client.fetch(&request).await;
    assert_eq!(values(&data[0]).len(), 4);
    assert_eq!(values(&data[1]).len(), 1);
    let total: usize = data.iter().map(records_len).sum();
    assert!(total <= 7000, "{total}");
}

fn records_len(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, Payload::len)
}

#[tokio::test]
async fn corner_7_min_bytes_are_those_of_all_partitions_together() {
    let server = Server::start().await;
    let (mut client, mut producer) = (server.client().await, server.client().await);
    let topic = client.create_topic("sum", 2, &[]).await;
    let size = i32::try_from(batch(&[&long(1000)]).len()).unwrap();
    let mut request = fetch_request(&topic, &[(0, 0), (1, 0)]);
    request.max_wait_ms = FOREVER_MS;
    request.min_bytes = 2 * size;
    client.send(18, &request).await;
    producer.put(&topic, 0, &[&long(1000)]).await;
    producer.put(&topic, 1, &[&long(1000)]).await;
    let response: FetchResponse = client.receive(18).await;
    let data = &response.responses[0].partitions;
    assert_eq!((values(&data[0]).len(), values(&data[1]).len()), (1, 1));
}

#[tokio::test]
async fn corner_7_a_fetch_without_enough_data_ends_after_max_wait() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("wait", 1, &[]).await;
    client.put(&topic, 0, &["one"]).await;
    let mut request = fetch_request(&topic, &[(0, 0)]);
    request.max_wait_ms = 50;
    request.min_bytes = 1_000_000;
    let start = Instant::now();
    let data = client.fetch(&request).await;
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(values(&data[0]).len(), 1, "what there is comes at the end");
    // A partition counts with no more than it may return, so this much can never come together.
    for _ in 0..4 {
        client.put(&topic, 0, &[&long(1000)]).await;
    }
    request.min_bytes = 3000;
    request.topics[0].partitions[0].partition_max_bytes = 2000;
    let start = Instant::now();
    client.fetch(&request).await;
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn corner_7_an_error_or_an_older_segment_ends_the_wait_at_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let configs = [("segment.bytes", "1048576")];
    let topic = client.create_topic("urgent", 2, &configs).await;
    let value = long(300_000);
    for _ in 0..6 {
        client.put(&topic, 0, &[&value]).await;
    }
    let mut waiting = fetch_request(&topic, &[(0, 0)]);
    waiting.max_wait_ms = FOREVER_MS;
    waiting.min_bytes = 50 << 20;
    waiting.topics[0].partitions[0].partition_max_bytes = 10_000;
    let data = client.fetch(&waiting).await;
    assert_eq!(values(&data[0]).len(), 1, "an older segment");

    let wait = |set: fn(&mut FetchPartition)| {
        let mut request = fetch_request(&topic, &[(1, 0), (0, 6)]);
        request.max_wait_ms = FOREVER_MS;
        request.min_bytes = 50 << 20;
        set(&mut request.topics[0].partitions[0]);
        request
    };
    type Set = fn(&mut FetchPartition);
    let cases: [(Set, ErrorCode); 3] = [
        (
            |p| p.fetch_offset = Offset::new(1),
            ErrorCode::OFFSET_OUT_OF_RANGE,
        ),
        (
            |p| p.current_leader_epoch = LeaderEpoch::new(99),
            ErrorCode::UNKNOWN_LEADER_EPOCH,
        ),
        (
            |p| p.fetch_offset = Offset::new(-1),
            ErrorCode::OFFSET_OUT_OF_RANGE,
        ),
    ];
    for (set, expected) in cases {
        let data = client.fetch(&wait(set)).await;
        assert_eq!(data[0].error_code, expected);
        let none = Offset::NONE;
        let offsets = (
            data[0].high_watermark,
            data[0].last_stable_offset,
            data[0].log_start_offset,
        );
        assert_eq!(offsets, (none, none, none));
    }
}

#[tokio::test]
async fn corner_7_no_partitions_and_no_wait_are_answered_at_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("none", 1, &[]).await;
    let mut request = fetch_request(&topic, &[]);
    request.max_wait_ms = FOREVER_MS;
    assert_eq!(client.fetch(&request).await, []);
    let mut request = fetch_request(&topic, &[(0, 0)]);
    request.max_wait_ms = FOREVER_MS;
    request.min_bytes = 0;
    assert_eq!(values(&client.fetch(&request).await[0]), []);
}

/// A request that begins a session.
fn begin(topic: &Topic, partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        session_id: 0,
        session_epoch: 0,
        ..fetch_request(topic, partitions)
    }
}

/// A request that continues a session and has nothing new to say.
fn go_on(session_id: i32, session_epoch: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_id,
        session_epoch,
        ..Default::default()
    }
}

#[tokio::test]
async fn corner_8_an_empty_incremental_request_is_woken_by_any_partition_of_its_session() {
    let server = Server::start().await;
    let (mut client, mut producer) = (server.client().await, server.client().await);
    let topic = client.create_topic("session", 3, &[]).await;
    let first = client.ask(&begin(&topic, &[(0, 0), (1, 0), (2, 0)])).await;
    assert_ne!(first.session_id, 0);
    let mut request = go_on(first.session_id, 1);
    request.max_wait_ms = FOREVER_MS;
    client.send(18, &request).await;
    producer.put(&topic, 2, &["wakes"]).await;
    let response: FetchResponse = client.receive(18).await;
    assert_eq!(response.session_id, first.session_id);
    let [topic] = &response.responses[..] else {
        panic!("{response:?}");
    };
    assert_eq!(topic.partitions.len(), 1);
    assert_eq!(topic.partitions[0].partition_index, 2);
    assert_eq!(values(&topic.partitions[0]), [(0, "wakes".to_owned())]);

    // Without news it waits as long as it was told to.
    let mut request = go_on(first.session_id, 2);
    request.max_wait_ms = 30;
    let mut moved = fetch_request(&topic_of(topic.topic_id), &[(2, 1)]);
    request.topics.append(&mut moved.topics);
    let start = Instant::now();
    let response = client.ask(&request).await;
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(response.responses, []);
}

fn topic_of(id: Uuid) -> Topic {
    Topic {
        name: "".into(),
        id,
    }
}

#[tokio::test]
async fn corner_9_an_incremental_answer_has_what_has_changed_and_no_more() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("changes", 4, &[]).await;
    for partition in 0..4 {
        client.put(&topic, partition, &["a", "b"]).await;
    }
    let ends = [(0, 2), (1, 2), (2, 2), (3, 2)];
    let first = client.ask(&begin(&topic, &ends)).await;
    assert_eq!(first.responses[0].partitions.len(), 4);
    let session = first.session_id;
    assert_eq!(client.ask(&go_on(session, 1)).await.responses, []);

    // A high watermark that has moved, though there is nothing to read for this session: it reads the other end.
    let mut request = go_on(session, 2);
    request.topics = fetch_request(&topic, &[(1, 3)]).topics;
    let response = client.ask(&request).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(partitions.len(), 1);
    assert_eq!(partitions[0].error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    // An error is told again each time, and when it is over its partition comes once more.
    let again = client.ask(&go_on(session, 3)).await;
    assert_eq!(again.responses[0].partitions.len(), 1);
    client.put(&topic, 1, &["c"]).await;
    let over = client.ask(&go_on(session, 4)).await;
    let partitions = &over.responses[0].partitions;
    assert_eq!(partitions.len(), 1);
    assert_eq!(partitions[0].error_code, ErrorCode::NONE);
    assert_eq!(partitions[0].high_watermark.value(), 3);
    assert_eq!(client.ask(&go_on(session, 5)).await.responses, []);

    // A log start that has moved is the only news of its partition.
    crate::offsets::delete_records(&mut client, &topic, 0, 1).await;
    let moved = client.ask(&go_on(session, 6)).await;
    let partitions = &moved.responses[0].partitions;
    assert_eq!(partitions.len(), 1);
    assert_eq!(partitions[0].partition_index, 0);
    assert_eq!(partitions[0].log_start_offset.value(), 1);
    assert_eq!(values(&partitions[0]), []);
    assert_eq!(client.ask(&go_on(session, 7)).await.responses, []);

    // What was forgotten does not come any more.
    let mut forget = go_on(session, 8);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: topic.name.clone(),
        topic_id: topic.id,
        partitions: vec![3],
    }];
    client.put(&topic, 3, &["unheard"]).await;
    assert_eq!(client.ask(&forget).await.responses, []);
    client.put(&topic, 2, &["heard"]).await;
    let heard = client.ask(&go_on(session, 9)).await;
    assert_eq!(heard.responses[0].partitions.len(), 1);
    assert_eq!(heard.responses[0].partitions[0].partition_index, 2);
}

#[tokio::test]
async fn corner_9_a_lost_answer_gives_71_and_an_unknown_session_70() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("gaps", 1, &[]).await;
    let session = client.ask(&begin(&topic, &[(0, 0)])).await.session_id;
    for (session, epoch, expected) in [
        (session, 2, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (session, 1, ErrorCode::NONE),
        (session, 1, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (session ^ 1, 1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        (session, 2, ErrorCode::NONE),
        (session, -1, ErrorCode::NONE),
        (session, 3, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
    ] {
        let response = client.ask(&go_on(session, epoch)).await;
        assert_eq!(response.error_code, expected, "epoch {epoch}");
    }
    let session = client.ask(&begin(&topic, &[(0, 0)])).await.session_id;
    server.restart().await;
    let mut client = server.client().await;
    let response = client.ask(&go_on(session, 1)).await;
    assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[tokio::test]
async fn corner_10_watermarks_are_real_also_where_there_is_no_data() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("marks", 2, &[]).await;
    client.put(&topic, 0, &["a", "b", "c"]).await;
    crate::offsets::delete_records(&mut client, &topic, 0, 2).await;
    for isolation_level in [0, 1] {
        let mut request = fetch_request(&topic, &[(0, 3), (1, 0)]);
        request.isolation_level = isolation_level;
        let data = client.fetch(&request).await;
        let marks = |data: &PartitionData| {
            (
                data.log_start_offset.value(),
                data.last_stable_offset.value(),
                data.high_watermark.value(),
            )
        };
        assert_eq!(marks(&data[0]), (2, 3, 3));
        assert_eq!(marks(&data[1]), (0, 0, 0));
    }
}

#[tokio::test]
async fn corner_11_a_fetcher_that_says_it_is_a_replica_is_held_to_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("follower", 1, &[]).await;
    client.put(&topic, 0, &["a"]).await;
    let epoch = client.describe("follower").await.partitions[0].leader_epoch;
    for (version, leader_epoch, expected) in [
        (14, LeaderEpoch::NONE, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (14, epoch, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (15, LeaderEpoch::NONE, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (18, epoch, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        let mut request = fetch_request(&topic, &[(0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = leader_epoch;
        if version >= 15 {
            request.replica_state = ReplicaState {
                replica_id: NodeId::new(7),
                replica_epoch: 1,
            };
        } else {
            request.replica_id = NodeId::new(7);
        }
        let response = client.call(version, &request).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.error_code, expected, "version {version}");
    }
}

#[tokio::test]
async fn corner_12_only_a_reader_of_committed_data_gets_a_list_of_aborted_transactions() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("isolation", 1, &[]).await;
    client.put(&topic, 0, &["a"]).await;
    for version in 4..=18 {
        let mut request = fetch_request(&topic, &[(0, 0)]);
        let response = client.call(version, &request).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.aborted_transactions, None, "version {version}");
        request.isolation_level = 1;
        let response = client.call(version, &request).await;
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.aborted_transactions, Some(vec![]), "version {version}");
        assert_eq!(values(data).len(), 1);
    }
}

#[tokio::test]
async fn corner_24_a_fetcher_on_another_branch_is_told_where_the_logs_part() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("diverging", 1, &[]).await;
    client.put(&topic, 0, &["a", "b"]).await;
    let epoch = client.describe("diverging").await.partitions[0].leader_epoch;
    server.restart().await;
    let mut client = server.client().await;
    client.put(&topic, 0, &["c"]).await;
    let mut request = fetch_request(&topic, &[(0, 2)]);
    request.topics[0].partitions[0].last_fetched_epoch = epoch;
    let data = client.fetch(&request).await;
    assert_eq!(data[0].diverging_epoch, Default::default(), "same branch");
    // Somebody who has three records of the first epoch has one that this log does not have.
    request.max_wait_ms = FOREVER_MS;
    request.topics[0].partitions[0].fetch_offset = Offset::new(3);
    let newest = client.describe("diverging").await.partitions[0].leader_epoch;
    assert!(newest > epoch, "a restart is a change of leadership");
    let data = client.fetch(&request).await;
    let diverging = data[0].diverging_epoch.clone();
    assert_eq!((diverging.epoch, diverging.end_offset.value()), (epoch, 2));
    assert_eq!(values(&data[0]), []);
}
