//! Disks that fail: what fails is not acknowledged, its partition goes offline, and the others go on.

use std::io::ErrorKind;
use std::ops::Deref;
use std::sync::Arc;

use tidelog_broker::{Broker, Failure};
use tidelog_log::testing::{Crash, FaultDir, Op};
use tidelog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidelog_protocol::messages::fetch::FetchResponse;
use tidelog_protocol::messages::produce::ProduceResponse;
use tidelog_types::ErrorCode;

use crate::client::{Client, soon};
use crate::ops::{ALL, Topic, batch, fetch_request, long, produce_request};
use crate::server::builder;

/// The disks of a broker: one for the metadata, and one for what clients write. By itself it is the latter.
struct Disks {
    metadata: FaultDir,
    data: FaultDir,
    /// The disk that gets no new partitions.
    cordoned: &'static str,
}

impl Disks {
    fn new() -> Self {
        Self {
            metadata: FaultDir::new(),
            data: FaultDir::new(),
            cordoned: "/metadata",
        }
    }

    /// The same, where partitions go to both in turn.
    fn both() -> Self {
        Self {
            cordoned: "",
            ..Self::new()
        }
    }
}

impl Deref for Disks {
    type Target = FaultDir;

    fn deref(&self) -> &FaultDir {
        &self.data
    }
}

async fn start(disks: &Disks) -> (Broker, Client) {
    let builder = builder()
        .data_dir_on("/metadata", Arc::new(disks.metadata.clone()))
        .data_dir_on("/data", Arc::new(disks.data.clone()))
        .property("log.dirs", "/metadata,/data")
        .property("cordoned.log.dirs", disks.cordoned);
    let broker = builder.start().await.unwrap();
    let client = Client::connect(&broker.bootstrap_servers()).await;
    (broker, client)
}

/// Ends the broker with what the crash leaves of its disks, on which the next one starts.
async fn crash(broker: Broker, disks: &Disks, crash: Crash) -> (Broker, Client) {
    for disk in [&disks.metadata, &disks.data] {
        disk.crash(crash);
    }
    drop(broker);
    for disk in [&disks.metadata, &disks.data] {
        disk.heal();
    }
    start(disks).await
}

/// Produces one record, and tells what became of it.
async fn write(client: &mut Client, topic: &Topic, acks: i16, value: &str) -> ErrorCode {
    let request = produce_request(topic, acks, &[(0, batch(&[value]))]);
    let response = client.ask(&request).await;
    response.responses[0].partition_responses[0].error_code
}

fn numbered(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|i| (i, i.to_string())).collect()
}

#[tokio::test]
async fn a_failed_write_or_flush_takes_its_directory_offline_and_no_other() {
    for op in [Op::Write, Op::Sync, Op::Mutation] {
        for acks in [1, ALL] {
            let disk = Disks::both();
            let (broker, mut client) = start(&disk).await;
            let good = client.create_topic("good", 1, &[]).await;
            let bad = client.create_topic("bad", 1, &[]).await;
            for i in 0..3 {
                client.put(&bad, 0, &[&i.to_string()]).await;
                client.put(&good, 0, &[&i.to_string()]).await;
            }
            disk.fail(op, 0, ErrorKind::Other);
            let at = format!("{op:?} with acks={acks}");
            let storage = ErrorCode::KAFKA_STORAGE_ERROR;
            assert_eq!(
                write(&mut client, &bad, acks, "lost").await,
                storage,
                "{at}"
            );
            disk.heal();
            // A disk that works again does not bring it back: what is in its files is not known.
            assert_eq!(
                write(&mut client, &bad, acks, "lost").await,
                storage,
                "{at}"
            );
            let data = client.fetch(&fetch_request(&bad, &[(0, 0)])).await;
            assert_eq!(data[0].error_code, storage, "{at}");
            let offset = client.list_offset(&bad, 0, -1).await;
            assert_eq!(offset.error_code, storage, "{at}");
            assert_eq!(client.put(&good, 0, &["3"]).await, 3, "{at}");
            assert_eq!(client.read(&good, 0, 0).await, numbered(0..4), "{at}");
            let later = client.create_topic("later", 1, &[]).await;
            assert_eq!(client.put(&later, 0, &["0"]).await, 0, "{at}");

            let (_broker, mut client) = crash(broker, &disk, Crash::LoseUnsynced).await;
            assert_eq!(client.read(&bad, 0, 0).await, numbered(0..3), "{at}");
            assert_eq!(client.read(&good, 0, 0).await, numbered(0..4), "{at}");
            assert_eq!(client.put(&bad, 0, &["3"]).await, 3, "{at}");
        }
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_flush_hear_that_it_failed() {
    let disk = Disks::new();
    let (_broker, mut client) = start(&disk).await;
    let topic = client.create_topic("waits", 1, &[]).await;
    client.put(&topic, 0, &["0"]).await;
    disk.fail(Op::Sync, 0, ErrorKind::Other);
    for _ in 0..20 {
        let request = produce_request(&topic, ALL, &[(0, batch(&["lost"]))]);
        client.send(13, &request).await;
    }
    for _ in 0..20 {
        let response: ProduceResponse = client.receive(13).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(answer.base_offset.value(), -1);
    }
}

#[tokio::test]
async fn corner_7_a_fetch_that_waits_hears_that_its_partition_went_offline() {
    let disk = Disks::new();
    let (broker, mut client) = start(&disk).await;
    let topic = client.create_topic("offline", 1, &[]).await;
    let mut reader = Client::connect(&broker.bootstrap_servers()).await;
    let mut fetch = fetch_request(&topic, &[(0, 0)]);
    fetch.max_wait_ms = 600_000;
    reader.send(18, &fetch).await;
    disk.fail(Op::Write, 0, ErrorKind::Other);
    let code = write(&mut client, &topic, ALL, "lost").await;
    assert_eq!(code, ErrorCode::KAFKA_STORAGE_ERROR);
    let response: FetchResponse = reader.receive(18).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_no_empty_log() {
    let disk = Disks::new();
    let (broker, mut client) = start(&disk).await;
    let topic = client.create_topic("unreadable", 1, &[]).await;
    client.put(&topic, 0, &["0"]).await;
    disk.fail(Op::Read, 0, ErrorKind::Other);
    let mut reader = Client::connect(&broker.bootstrap_servers()).await;
    reader.send(18, &fetch_request(&topic, &[(0, 0)])).await;
    // The answer was begun before the records are read, so that the connection is all that can be given up.
    reader.ended().await;
    let by_time = client.list_offset(&topic, 0, 0).await;
    assert!(by_time.error_code.is_err());
    disk.heal();
    assert_eq!(client.read(&topic, 0, 0).await, numbered(0..1));
    assert_eq!(client.put(&topic, 0, &["1"]).await, 1);
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_what_it_acknowledged() {
    let disk = Disks::new();
    let (broker, mut client) = start(&disk).await;
    let topic = client.create_topic("full", 1, &[]).await;
    client.put(&topic, 0, &["0"]).await;
    let used: usize = disk
        .files()
        .iter()
        .map(|file| disk.content(file).unwrap().len())
        .sum();
    disk.limit_capacity(used as u64 + 10_000);
    let value = long(900);
    let mut acknowledged = 1;
    while write(&mut client, &topic, ALL, &value).await == ErrorCode::NONE {
        acknowledged += 1;
        assert!(acknowledged < 100, "the disk is full by now");
    }
    assert!(acknowledged > 5);
    let refused = write(&mut client, &topic, ALL, &value).await;
    assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR);
    let (_broker, mut client) = crash(broker, &disk, Crash::KeepAll).await;
    let kept = client.read(&topic, 0, 0).await;
    assert_eq!(kept.len(), acknowledged);
    let next = i64::try_from(acknowledged).unwrap();
    assert_eq!(client.put(&topic, 0, &["room again"]).await, next);
}

#[tokio::test]
async fn whatever_a_power_failure_leaves_has_all_that_was_acknowledged() {
    for seed in 0..30 {
        let disk = Disks::new();
        let (broker, mut client) = start(&disk).await;
        let topic = client.create_topic("power", 1, &[]).await;
        for i in 0..5 {
            client.put(&topic, 0, &[&i.to_string()]).await;
        }
        // Written, and perhaps flushed, without anybody waiting for it.
        let request = produce_request(&topic, 0, &[(0, batch(&["5"]))]);
        client.send(13, &request).await;
        let (broker, mut client) = crash(broker, &disk, Crash::Tear(seed)).await;
        let kept = client.read(&topic, 0, 0).await;
        assert_eq!(kept[..5], numbered(0..5), "seed {seed}");
        let next = i64::try_from(kept.len()).unwrap();
        assert_eq!(client.put(&topic, 0, &["more"]).await, next, "seed {seed}");
        // And a second time, on what recovery made of it.
        let (_broker, mut client) = crash(broker, &disk, Crash::Tear(seed + 1000)).await;
        let again = client.read(&topic, 0, 0).await;
        assert_eq!(again[..kept.len()], kept, "seed {seed}");
        assert_eq!(
            again.last().unwrap(),
            &(next, "more".to_owned()),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn a_topic_whose_record_cannot_be_written_is_not_created_and_the_node_stops() {
    for op in [Op::Write, Op::Sync] {
        let disk = Disks::new();
        let (broker, mut client) = start(&disk).await;
        let topic = client.create_topic("before", 1, &[]).await;
        client.put(&topic, 0, &["0"]).await;
        disk.metadata.fail(op, 0, ErrorKind::Other);
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: "lost".into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 30_000,
            ..Default::default()
        };
        // The connection may be closed before the answer is out.
        let created = client.try_ask(&request).await;
        assert!(created.is_err() || created.unwrap().topics[0].error_code.is_err());
        let failure = soon(broker.failure()).await;
        assert!(matches!(failure, Failure::MetadataLog { .. }), "{failure}");
        is_closed(&broker).await;
        let (_broker, mut client) = crash(broker, &disk, Crash::LoseUnsynced).await;
        let described = client.describe("lost").await;
        assert_eq!(described.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(client.read(&topic, 0, 0).await, numbered(0..1));
        client.create_topic("lost", 1, &[]).await;
    }
}

#[tokio::test]
async fn a_broker_whose_only_directory_fails_stops_and_says_why() {
    let disk = FaultDir::new();
    let builder = builder().data_dir_on("/disk", Arc::new(disk.clone()));
    let broker = builder.start().await.unwrap();
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("last", 1, &[]).await;
    client.put(&topic, 0, &["0"]).await;
    disk.fail(Op::Write, 0, ErrorKind::StorageFull);
    let request = produce_request(&topic, ALL, &[(0, batch(&["lost"]))]);
    let answer = client.try_ask(&request).await;
    let is_refused = |code: ErrorCode| code == ErrorCode::KAFKA_STORAGE_ERROR;
    let code = |answer: ProduceResponse| answer.responses[0].partition_responses[0].error_code;
    assert!(answer.map_or(true, |answer| is_refused(code(answer))));
    let failure = soon(broker.failure()).await;
    let path = "/disk".into();
    assert_eq!(failure, Failure::LastLogDirectory { path });
    is_closed(&broker).await;
    broker.shutdown().await.unwrap_err();
}

/// Waits until nobody listens any more where the broker did.
async fn is_closed(broker: &Broker) {
    let address = broker.bootstrap_servers();
    soon(async { while Client::try_connect(&address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn an_offset_that_cannot_be_written_is_not_committed() {
    for op in [Op::Write, Op::Sync] {
        let disk = Disks::new();
        let (broker, mut client) = start(&disk).await;
        let topic = client.create_topic("committed", 1, &[]).await;
        crate::groups::find_coordinator(&mut client, "g").await;
        let commit = crate::groups::commit(&mut client, "g", &topic, (0, 1, 0)).await;
        assert_eq!(commit, ErrorCode::NONE);
        disk.fail(op, 0, ErrorKind::Other);
        for offset in [2, 3] {
            let commit = crate::groups::commit(&mut client, "g", &topic, (0, offset, 0)).await;
            assert!(commit.is_err(), "{op:?}");
        }
        let (_broker, mut client) = crash(broker, &disk, Crash::LoseUnsynced).await;
        crate::groups::is_loaded(&mut client, "g").await;
        let found = crate::groups::committed(&mut client, "g", &topic, &[0]).await;
        assert_eq!(found[0].committed_offset.value(), 1, "{op:?}");
    }
}

#[tokio::test]
async fn a_log_start_that_cannot_be_stored_is_not_promised() {
    for op in [Op::Write, Op::Sync, Op::Change] {
        let disk = Disks::new();
        let (broker, mut client) = start(&disk).await;
        let topic = client.create_topic("start", 1, &[]).await;
        for i in 0..5 {
            client.put(&topic, 0, &[&i.to_string()]).await;
        }
        disk.fail(op, 0, ErrorKind::Other);
        let answer = crate::offsets::delete_records(&mut client, &topic, 0, 3).await;
        assert_eq!(answer.error_code, ErrorCode::KAFKA_STORAGE_ERROR, "{op:?}");
        let (_broker, mut client) = crash(broker, &disk, Crash::LoseUnsynced).await;
        let answer = crate::offsets::delete_records(&mut client, &topic, 0, 2).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{op:?}");
        assert_eq!(answer.low_watermark.value(), 2, "{op:?}");
    }
}

#[tokio::test]
async fn deleted_records_stay_deleted_when_the_power_fails() {
    let disk = Disks::new();
    let (broker, mut client) = start(&disk).await;
    let topic = client.create_topic("gone", 1, &[]).await;
    for i in 0..5 {
        client.put(&topic, 0, &[&i.to_string()]).await;
    }
    let answer = crate::offsets::delete_records(&mut client, &topic, 0, 3).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let (_broker, mut client) = crash(broker, &disk, Crash::LoseUnsynced).await;
    assert_eq!(client.list_offset(&topic, 0, -2).await.offset.value(), 3);
    assert_eq!(client.read(&topic, 0, 3).await, numbered(3..5));
}

#[tokio::test]
async fn a_broker_with_a_failed_log_does_not_claim_to_have_stopped_in_order() {
    let disk = Disks::new();
    let (broker, mut client) = start(&disk).await;
    let topic = client.create_topic("failed", 1, &[]).await;
    client.put(&topic, 0, &["0"]).await;
    disk.fail(Op::Sync, 0, ErrorKind::Other);
    let code = write(&mut client, &topic, ALL, "lost").await;
    assert_eq!(code, ErrorCode::KAFKA_STORAGE_ERROR);
    disk.heal();
    broker.shutdown().await.unwrap_err();
    assert_eq!(disk.content(".kafka_cleanshutdown"), None);
    let (_broker, mut client) = start(&disk).await;
    assert_eq!(client.read(&topic, 0, 0).await[..1], numbered(0..1));
}
