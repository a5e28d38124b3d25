//! Brokers that end as by power failure, and disks that do what a test wants.

use std::time::Duration;

use proptest::prelude::*;
use tidelog_broker::Broker;
use tidelog_broker::testing::{ApiKey, Crash, Disk, DiskOp, TestBroker};
use tidelog_protocol::messages::init_producer_id::InitProducerIdRequest;
use tidelog_types::{ErrorCode, ProducerEpoch, ProducerId};

use crate::client::Client;
use crate::groups::{commit, find_coordinator};
use crate::ops::{ALL, Topic, batch, produce_request, sequenced};
use crate::server::builder;

async fn client(broker: &Broker) -> Client {
    Client::connect(&broker.bootstrap_servers()).await
}

async fn write(client: &mut Client, topic: &Topic, value: &str) -> ErrorCode {
    let request = produce_request(topic, ALL, &[(0, batch(&[value]))]);
    let response = client.ask(&request).await;
    response.responses[0].partition_responses[0].error_code
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_at_the_same_address() {
    let broker = TestBroker::start().await.unwrap();
    let address = broker.bootstrap_servers();
    let mut c = client(&broker).await;
    let topic = c.create_topic("kept", 1, &[]).await;
    c.put(&topic, 0, &["a", "b"]).await;
    find_coordinator(&mut c, "group").await;
    assert!(commit(&mut c, "group", &topic, (0, 2, 0)).await.is_ok());
    let broker = broker.crash(Crash::LoseUnsynced).await.unwrap();
    assert_eq!(broker.bootstrap_servers(), address);
    c.closed().await;
    broker.wait_for_offset("kept", 0, 1).await.unwrap();
    broker.wait_for_commit("group", "kept", 0, 2).await.unwrap();
    let mut c = client(&broker).await;
    assert_eq!(c.put(&topic, 0, &["c"]).await, 2);
    let values: Vec<_> = broker.stored_records("kept");
    let values: Vec<_> = values.iter().map(|r| (r.offset, r.text())).collect();
    assert_eq!(values, [(0, "a".into()), (1, "b".into()), (2, "c".into())]);
}

#[tokio::test]
async fn what_was_not_flushed_is_gone() {
    let broker = TestBroker::start().await.unwrap();
    let mut c = client(&broker).await;
    let settings = [("tidelog.durability", "page-cache")];
    let topic = c.create_topic("lost", 1, &settings).await;
    assert!(write(&mut c, &topic, "unflushed").await.is_ok());
    let broker = broker.crash(Crash::LoseUnsynced).await.unwrap();
    assert!(broker.stored_records("lost").is_empty());
    let mut c = client(&broker).await;
    assert!(write(&mut c, &topic, "unflushed").await.is_ok());
    // Only the process dies.
    let broker = broker.crash(Crash::KeepAll).await.unwrap();
    assert_eq!(broker.stored_records("lost").len(), 1);
}

#[tokio::test]
async fn a_real_directory_has_what_the_crash_has_left() {
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::directory(root.path()).unwrap();
    let broker = builder().disks([&disk]).start().await.unwrap();
    let mut c = client(&broker).await;
    let topic = c.create_topic("kept", 1, &[]).await;
    c.put(&topic, 0, &["a"]).await;
    let crashed = broker.crash(Crash::LoseUnsynced).await.unwrap();
    drop((crashed, disk));
    // Another broker, which knows nothing of tests.
    let broker = builder().data_dir(root.path()).start().await.unwrap();
    assert_eq!(broker.stored_records("kept").len(), 1);
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn disks_fail_are_full_and_are_slow() {
    let (good, bad) = (Disk::memory(), Disk::memory());
    let broker = builder().disks([&good, &bad]).start().await.unwrap();
    let mut c = client(&broker).await;
    let mut topics = Vec::new();
    for name in ["a", "b"] {
        topics.push(c.create_topic(name, 1, &[]).await);
        assert!(write(&mut c, topics.last().unwrap(), "x").await.is_ok());
    }
    let on_bad = ["a-0", "b-0"].map(|name| bad.files().iter().any(|file| file.starts_with(name)));
    assert_ne!(on_bad[0], on_bad[1], "one topic in each directory");
    bad.fail(DiskOp::Sync);
    let storage = ErrorCode::KAFKA_STORAGE_ERROR;
    for (topic, is_bad) in topics.iter().zip(on_bad) {
        let expected = if is_bad { storage } else { ErrorCode::NONE };
        assert_eq!(write(&mut c, topic, "y").await, expected);
    }
    let crashed = broker.crash(Crash::LoseUnsynced).await.unwrap();
    let broker = crashed.start().await.unwrap();
    let mut c = client(&broker).await;
    for topic in &topics {
        assert!(write(&mut c, topic, "z").await.is_ok(), "{}", topic.name);
    }
    for disk in [&good, &bad] {
        disk.slow(DiskOp::Sync, Duration::from_millis(1));
    }
    let before = good.syncs() + bad.syncs();
    assert!(write(&mut c, &topics[0], "slow").await.is_ok());
    assert!(good.syncs() + bad.syncs() > before);
    bad.fill();
    for (topic, is_bad) in topics.iter().zip(on_bad) {
        let expected = if is_bad { storage } else { ErrorCode::NONE };
        assert_eq!(write(&mut c, topic, "too much").await, expected);
    }
}

/// Producers that write as fast as they are answered, until the broker is gone. Gives what was acknowledged: by producer, how
/// many of its numbered records.
async fn load(address: String, topic: Topic, producer: usize) -> (usize, i32) {
    let mut acknowledged = 0;
    let Ok(mut client) = Client::try_connect(&address).await else {
        return (producer, 0);
    };
    let new = InitProducerIdRequest {
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        ..Default::default()
    };
    let Ok(given) = client.try_ask(&new).await else {
        return (producer, 0);
    };
    let (id, epoch) = (given.producer_id, given.producer_epoch.value());
    loop {
        let value = format!("{producer}:{acknowledged}");
        let records = sequenced((id, epoch), acknowledged, &[&value]);
        let request = produce_request(&topic, ALL, &[(0, records)]);
        let Ok(response) = client.try_ask(&request).await else {
            return (producer, acknowledged);
        };
        if response.responses[0].partition_responses[0]
            .error_code
            .is_err()
        {
            return (producer, acknowledged);
        }
        acknowledged += 1;
    }
}

/// Several lives under load: everything acknowledged is there, in its order, once, whatever else is.
async fn survives(crashes: Vec<(usize, u64)>) {
    const PRODUCERS: usize = 3;
    let mut broker = TestBroker::start().await.unwrap();
    let topic = client(&broker).await.create_topic("load", 1, &[]).await;
    let mut expected = 0;
    for (life, (requests, seed)) in crashes.into_iter().enumerate() {
        let address = broker.bootstrap_servers();
        let producers = (0..PRODUCERS).map(|producer| {
            let producer = life * PRODUCERS + producer;
            tokio::spawn(load(address.clone(), topic.clone(), producer))
        });
        let producers: Vec<_> = producers.collect();
        let seen = broker.requests().of(ApiKey::Produce).since_now();
        seen.at_least(requests).await.unwrap();
        broker = broker.crash(Crash::Tear(seed)).await.unwrap();
        let stored = broker.stored_records("load");
        for task in producers {
            let (producer, acknowledged) = task.await.unwrap();
            let prefix = format!("{producer}:");
            let mine = stored.iter().filter_map(|record| {
                let text = record.text();
                text.strip_prefix(&prefix)
                    .map(|number| number.parse::<i32>().unwrap())
            });
            let mine: Vec<_> = mine.collect();
            // The last one may have been written, and its answer have been lost.
            let written = i32::try_from(mine.len()).unwrap();
            assert!(mine.iter().copied().eq(0..written), "{mine:?}");
            assert!(
                (acknowledged..=acknowledged + 1).contains(&written),
                "{acknowledged} acknowledged, {written} there"
            );
            expected += mine.len();
        }
        assert_eq!(stored.len(), expected, "earlier lives lose nothing");
        let offsets = stored.iter().map(|record| record.offset);
        assert!(offsets.eq(0..stored.len() as i64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_clients_were_acknowledged_survives_crashes_at_any_time(
        crashes in prop::collection::vec((1..60_usize, any::<u64>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(survives(crashes));
    }
}
