//! What is there after a stop, after a crash, and who may use a directory.

use std::path::Path;
use std::sync::Arc;

use tidelog_broker::StartError;
use tidelog_log::testing::FaultDir;
use tidelog_protocol::Message;
use tidelog_protocol::records::raft::QuorumState;
use tidelog_protocol::records::storage::ProducerSnapshot;
use tidelog_types::ErrorCode;

use crate::client::{Client, soon};
use crate::ops::{ALL, Topic, batch, fetch_request, produce_request, sequenced};
use crate::server::{Server, builder};

/// Files of the directory that end like this, with the folder they lie in.
pub(crate) fn files_ending(dir: &Path, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(dir).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap();
            if name.ends_with(ending) {
                found.push(name.to_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn everything_is_there_after_an_orderly_stop() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client
        .create_topic("kept", 2, &[("retention.ms", "-1")])
        .await;
    let producer = client.producer().await;
    client
        .produce(&topic, 0, sequenced(producer, 0, &["a", "b"]))
        .await;
    client.put(&topic, 1, &["c"]).await;
    crate::groups::find_coordinator(&mut client, "g").await;
    let committed = crate::groups::commit(&mut client, "g", &topic, (0, 2, 0)).await;
    assert_eq!(committed, ErrorCode::NONE);
    let cluster_id = server.broker.as_ref().unwrap().cluster_id().to_owned();
    for round in 1..4 {
        server.stop().await;
        let marker = server.dir.path().join(".kafka_cleanshutdown");
        assert!(marker.exists(), "round {round}");
        server.run().await;
        assert!(!marker.exists(), "a crash from now on is a crash");
        let broker = server.broker.as_ref().unwrap();
        assert_eq!(broker.cluster_id(), cluster_id);
        let mut client = server.client().await;
        let described = client.describe("kept").await;
        assert_eq!(
            (described.topic_id, described.partitions.len()),
            (topic.id, 2)
        );
        let kept: Vec<_> = client.read(&topic, 0, 0).await;
        assert_eq!(kept.len(), 1 + round);
        assert_eq!(kept[..2], [(0, "a".to_owned()), (1, "b".to_owned())]);
        assert_eq!(client.read(&topic, 1, 0).await, [(0, "c".to_owned())]);
        // The producer goes on where it was, and its last batch is known again.
        let sequence = 1 + i32::try_from(round).unwrap();
        let records = sequenced(producer, sequence, &["more"]);
        for _ in 0..2 {
            let answer = client.produce(&topic, 0, records.clone()).await;
            assert_eq!(answer.error_code, ErrorCode::NONE);
            assert_eq!(answer.base_offset.value(), i64::from(sequence));
        }
    }
}

#[tokio::test]
async fn a_connection_is_served_to_its_end_and_new_ones_are_refused_after_a_stop() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("stops", 1, &[]).await;
    client.put(&topic, 0, &["a"]).await;
    let address = server.address();
    server.stop().await;
    client.ended().await;
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_requests_that_wait() {
    let mut server = Server::start().await;
    let mut fetching = server.client().await;
    let topic = fetching.create_topic("waiting", 1, &[]).await;
    let mut fetch = fetch_request(&topic, &[(0, 0)]);
    fetch.max_wait_ms = 600_000;
    fetching.send(18, &fetch).await;
    // A second member that waits until the first one joins again.
    let (mut one, mut two) = (server.client().await, server.client().await);
    crate::groups::find_coordinator(&mut one, "g").await;
    let joined = crate::groups::join(&mut one, "g").await;
    assert_eq!(joined.generation_id, 1);
    crate::groups::begin_to_join(&mut two, "g").await;
    soon(server.stop()).await;
    fetching.ended().await;
    two.ended().await;
    server.run().await;
    let mut client = server.client().await;
    assert_eq!(client.put(&topic, 0, &["a"]).await, 0);
}

#[tokio::test]
async fn a_broker_that_was_dropped_lets_go_of_its_directory() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("dropped", 1, &[]).await;
    client.put(&topic, 0, &["a"]).await;
    drop(server.broker.take());
    client.ended().await;
    // Its last task may still be on its way out.
    let restarted = soon(async {
        loop {
            match server.builder().start().await {
                Ok(broker) => return broker,
                Err(StartError::Directory { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    });
    server.broker = Some(restarted.await);
    let mut client = server.client().await;
    assert_eq!(client.read(&topic, 0, 0).await, [(0, "a".to_owned())]);
}

/// Runs a broker and a client in a runtime of their own, which ends with all its tasks and without a stop: what is left is
/// what a crash of the process leaves.
fn until_crash<F: Future + Send + 'static>(
    dir: &Path,
    work: impl FnOnce(Client) -> F + Send + 'static,
) -> F::Output
where
    F::Output: Send + 'static,
{
    let builder = builder().data_dir(dir);
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let broker = builder.start().await.unwrap();
            let client = Client::connect(&broker.bootstrap_servers()).await;
            work(client).await
        })
    });
    process.join().unwrap()
}

#[test]
fn every_acknowledged_record_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let topic = until_crash(dir.path(), |mut client| async move {
        let topic = client.create_topic("crashed", 1, &[]).await;
        client.put(&topic, 0, &["0"]).await;
        topic
    });
    for round in 1..5 {
        let marker = dir.path().join(".kafka_cleanshutdown");
        assert!(!marker.exists());
        let topic = topic.clone();
        until_crash(dir.path(), move |mut client| async move {
            let expected: Vec<_> = (0..round).map(|i| (i, i.to_string())).collect();
            assert_eq!(client.read(&topic, 0, 0).await, expected);
            assert_eq!(client.put(&topic, 0, &[&round.to_string()]).await, round);
        });
    }
}

#[test]
fn what_a_crash_has_torn_off_is_cut_and_the_rest_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let topic = until_crash(dir.path(), |mut client| async move {
        let topic = client.create_topic("torn", 1, &[]).await;
        client.put(&topic, 0, &["a"]).await;
        client.put(&topic, 0, &["b"]).await;
        topic
    });
    let log = dir.path().join("torn-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    // The length that was set aside for the file may go beyond what was written.
    let written = 2 * batch(&["a"]).len();
    bytes.truncate(written);
    bytes.extend_from_slice(&batch(&["never acknowledged"])[..50]);
    std::fs::write(&log, bytes).unwrap();
    until_crash(dir.path(), move |mut client| async move {
        let expected = [(0, "a".to_owned()), (1, "b".to_owned())];
        assert_eq!(client.read(&topic, 0, 0).await, expected);
        assert_eq!(client.put(&topic, 0, &["c"]).await, 2);
    });
}

#[tokio::test]
async fn a_directory_belongs_to_one_broker() {
    let server = Server::start().await;
    let error = server.builder().start().await.unwrap_err();
    assert!(matches!(error, StartError::Directory { .. }), "{error}");
    // The first one does not notice.
    let mut client = server.client().await;
    let topic = client.create_topic("mine", 1, &[]).await;
    assert_eq!(client.put(&topic, 0, &["a"]).await, 0);
}

#[tokio::test]
async fn a_port_in_use_is_said_and_nothing_is_written() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    let listener = format!("PLAINTEXT://{}", server.address());
    let error = builder().listener(&listener).data_dir(&path).start().await;
    let error = error.unwrap_err();
    assert!(matches!(error, StartError::AddressInUse { .. }), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn brokers_in_one_process_know_nothing_of_each_other() {
    let servers = [
        Server::start().await,
        Server::start().await,
        Server::start().await,
    ];
    let mut ids = std::collections::BTreeSet::new();
    for (i, server) in servers.iter().enumerate() {
        let mut client = server.client().await;
        let topic = client.create_topic("same-name", 1, &[]).await;
        client.put(&topic, 0, &[&i.to_string()]).await;
        ids.insert(server.broker.as_ref().unwrap().cluster_id().to_owned());
    }
    assert_eq!(ids.len(), 3);
    for (i, server) in servers.iter().enumerate() {
        let mut client = server.client().await;
        let described = client.describe("same-name").await;
        let topic = Topic {
            name: described.name.unwrap(),
            id: described.topic_id,
        };
        assert_eq!(client.read(&topic, 0, 0).await, [(0, i.to_string())]);
    }
    for mut server in servers {
        server.stop().await;
    }
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing_that_comes_back() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("leaves", 2, &[]).await;
    client.put(&topic, 0, &["a"]).await;
    assert_eq!(
        crate::topics::delete(&mut client, &topic.name).await,
        ErrorCode::NONE
    );
    server.restart().await;
    let left = files_ending(server.dir.path(), ".log");
    assert!(
        left.iter().all(|file| !file.starts_with("leaves")),
        "{left:?}"
    );
    let mut client = server.client().await;
    let described = client.describe("leaves").await;
    assert_eq!(described.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test]
async fn every_durability_serves_what_it_was_given() {
    for durability in ["fsync", "page-cache", "memory"] {
        let server = Server::start().await;
        let mut client = server.client().await;
        let topic = client
            .create_topic("durability", 1, &[("tidelog.durability", durability)])
            .await;
        for (acks, offset) in [(1, 0), (ALL, 1)] {
            let request = produce_request(&topic, acks, &[(0, batch(&["a"]))]);
            let response = client.ask(&request).await;
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, ErrorCode::NONE, "{durability}");
            assert_eq!(answer.base_offset.value(), offset);
        }
        assert_eq!(client.read(&topic, 0, 0).await.len(), 2, "{durability}");
    }
}

#[tokio::test]
async fn what_lies_beside_the_logs_has_kafkas_schemas() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("t", 1, &[]).await;
    let producer = client.producer().await;
    let records = sequenced(producer, 5, &["a", "b"]);
    client.produce(&topic, 0, records).await;
    server.stop().await;

    let snapshots = files_ending(server.dir.path(), ".snapshot");
    let of_topic = snapshots.iter().find(|name| name.starts_with("t-0"));
    let bytes = std::fs::read(server.dir.path().join(of_topic.unwrap())).unwrap();
    assert_eq!(bytes[..2], [0, 1], "the version");
    let snapshot = ProducerSnapshot::from_bytes(bytes[2..].to_vec().into(), 1).unwrap();
    let [entry] = &snapshot.producer_entries[..] else {
        panic!("{snapshot:?}");
    };
    assert_eq!((entry.producer_id, entry.epoch.value()), producer);
    assert_eq!((entry.last_sequence, entry.last_offset.value()), (6, 1));
    assert_eq!(
        (entry.offset_delta, entry.current_txn_first_offset.value()),
        (1, -1)
    );

    let path = server.dir.path().join("__cluster_metadata-0/quorum-state");
    let text = std::fs::read_to_string(path).unwrap();
    let state = QuorumState::from_file(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!((state.leader_id.value(), state.voted_id.value()), (1, -1));
    assert_eq!(state.to_file(1).unwrap().to_string(), text.trim_end());
}

/// A clean start opens no file of a partition, however many there are.
#[tokio::test]
async fn a_start_after_an_orderly_stop_opens_no_partition() {
    const PARTITIONS: i32 = 60;
    let disk = FaultDir::new();
    let start = || async {
        let builder = builder().data_dir_on("/disk", Arc::new(disk.clone()));
        let broker = builder.start().await.unwrap();
        let client = Client::connect(&broker.bootstrap_servers()).await;
        (broker, client)
    };
    let (broker, mut client) = start().await;
    let topic = client.create_topic("idle", PARTITIONS, &[]).await;
    for partition in 0..PARTITIONS {
        client.put(&topic, partition, &["before"]).await;
    }
    drop(client);
    broker.shutdown().await.unwrap();
    for round in 0..2 {
        let opened = disk.opened();
        let (broker, mut client) = start().await;
        let opened = disk.opened() - opened;
        assert!(opened < PARTITIONS as u64 / 2, "{opened} files were opened");
        if round == 1 {
            client.put(&topic, 7, &["after"]).await;
            let records = client.read(&topic, 7, 0).await;
            let values: Vec<_> = records.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(values, ["before", "after"]);
        }
        drop(client);
        broker.shutdown().await.unwrap();
    }
}

/// The metadata may have a disk to itself, which has no partitions then.
#[tokio::test]
async fn the_metadata_log_may_be_outside_of_the_log_directories() {
    let (data, metadata) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = |dir: &tempfile::TempDir| dir.path().to_str().unwrap().to_owned();
    let start = || {
        let builder = builder().property("log.dirs", path(&data));
        builder
            .property("metadata.log.dir", path(&metadata))
            .start()
    };
    let names = |dir: &tempfile::TempDir| {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    let has = |dir: &tempfile::TempDir, name: &str| names(dir).iter().any(|found| found == name);
    let broker = start().await.unwrap();
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("kept", 1, &[]).await;
    client.put(&topic, 0, &["kept"]).await;
    let dirs: Vec<_> = broker.data_dirs().map(ToOwned::to_owned).collect();
    assert_eq!(dirs, [data.path()]);
    broker.shutdown().await.unwrap();
    assert!(has(&metadata, "__cluster_metadata-0") && !has(&metadata, "kept-0"));
    assert!(has(&data, "kept-0") && !has(&data, "__cluster_metadata-0"));
    assert!(
        has(&metadata, ".kafka_cleanshutdown"),
        "{:?}",
        names(&metadata)
    );
    let broker = start().await.unwrap();
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    assert_eq!(client.read(&topic, 0, 0).await.len(), 1);
    // As a crash would. The directories are free when the last that used them has ended.
    drop((client, broker));
    let broker = soon(async {
        loop {
            match start().await {
                Err(StartError::Directory { .. }) => tokio::task::yield_now().await,
                started => return started.unwrap(),
            }
        }
    })
    .await;
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    assert_eq!(client.read(&topic, 0, 0).await.len(), 1);
    // It belongs to the node as the others do.
    let refused = builder()
        .property("log.dirs", path(&metadata))
        .start()
        .await;
    assert!(refused.is_err(), "the directory is locked");
}
