//! Several log directories: what lies in each, and what becomes of it when one fails.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use tidelog_broker::Broker;
use tidelog_log::testing::{FaultDir, Op};
use tidelog_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use tidelog_protocol::messages::create_topics::CreatableReplicaAssignment;
use tidelog_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResult,
};
use tidelog_types::{ErrorCode, NodeId};

use crate::client::{Client, soon};
use crate::cluster::{Cluster, Voters};
use crate::ops::{ALL, Topic, batch, create_topic_request, produce_request};
use crate::server::builder;

/// What a broker says of its directories, by the last part of their paths.
pub(crate) async fn describe(client: &mut Client) -> BTreeMap<String, DescribeLogDirsResult> {
    by_name(client, &DescribeLogDirsRequest { topics: None }).await
}

async fn by_name(
    client: &mut Client,
    request: &DescribeLogDirsRequest,
) -> BTreeMap<String, DescribeLogDirsResult> {
    let answer = client.ask(request).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let results = answer.results.into_iter().map(|result| {
        assert!(result.log_dir.starts_with('/'), "{}", result.log_dir);
        let name = result.log_dir.rsplit('/').next().unwrap().to_owned();
        (name, result)
    });
    results.collect()
}

#[tokio::test]
async fn log_directories_are_described_with_what_lies_in_them() {
    let root = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| root.path().join(name).to_str().unwrap().to_owned());
    let dirs = format!("{a},{b}");
    let broker: Broker = builder()
        .property("log.dirs", dirs)
        .property("cordoned.log.dirs", b.clone())
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("spread", 3, &[]).await;
    for partition in 0..3 {
        client.put(&topic, partition, &["x"]).await;
    }
    let described = describe(&mut client).await;
    assert_eq!(described.keys().collect::<Vec<_>>(), ["a", "b"]);
    for result in described.values() {
        assert_eq!(result.error_code, ErrorCode::NONE);
        assert!(result.total_bytes >= result.usable_bytes && result.usable_bytes > 0);
    }
    assert!(!described["a"].is_cordoned && described["b"].is_cordoned);
    let topics = described.values().flat_map(|result| &result.topics);
    let partitions = topics.flat_map(|topic| &topic.partitions);
    let partitions: Vec<_> = partitions.collect();
    assert_eq!(partitions.len(), 3);
    for partition in partitions {
        assert!(partition.partition_size > 61, "{partition:?}");
        assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
    }
    let request = DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic {
            topic: topic.name.clone(),
            partitions: vec![1, 7],
        }]),
    };
    let described = by_name(&mut client, &request).await;
    let topics = described.values().flat_map(|result| &result.topics);
    let found = topics.flat_map(|topic| &topic.partitions);
    assert_eq!(
        found.map(|p| p.partition_index).collect::<Vec<_>>(),
        [1],
        "only what was asked for"
    );
    broker.shutdown().await.unwrap();
}

/// A broker with a directory that works and another one.
async fn start_on(root: &tempfile::TempDir, disk: &FaultDir) -> Broker {
    let first = root.path().join("first").to_str().unwrap().to_owned();
    let builder = builder().data_dir_on("/second", Arc::new(disk.clone()));
    let builder = builder.property("log.dirs", format!("{first},/second"));
    builder.start().await.unwrap()
}

/// The partitions of a topic in a directory.
fn lying_in(described: &BTreeMap<String, DescribeLogDirsResult>, directory: &str) -> Vec<i32> {
    let topics = described[directory].topics.iter();
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions.map(|found| found.partition_index).collect()
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_at_the_start_takes_its_partitions_with_it() {
    let (root, disk) = (tempfile::tempdir().unwrap(), FaultDir::new());
    let broker = start_on(&root, &disk).await;
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("kept", 4, &[]).await;
    for partition in 0..4 {
        client.put(&topic, partition, &["x"]).await;
    }
    let described = describe(&mut client).await;
    let [first, second] = ["first", "second"].map(|name| lying_in(&described, name));
    assert_eq!((first.len(), second.len()), (2, 2));
    broker.shutdown().await.unwrap();

    disk.fail(Op::Read, 0, ErrorKind::Other);
    disk.fail(Op::Mutation, 0, ErrorKind::Other);
    let broker = start_on(&root, &disk).await;
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let described = describe(&mut client).await;
    assert_eq!(
        described["second"].error_code,
        ErrorCode::KAFKA_STORAGE_ERROR
    );
    assert_eq!(lying_in(&described, "first"), first);
    for partition in &first {
        assert_eq!(client.read(&topic, *partition, 0).await.len(), 1);
    }
    for partition in &second {
        let answer = client.produce(&topic, *partition, batch(&["lost"])).await;
        assert_eq!(answer.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    }
    broker.shutdown().await.unwrap();

    disk.heal();
    let broker = start_on(&root, &disk).await;
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    for partition in 0..4 {
        assert_eq!(client.read(&topic, partition, 0).await.len(), 1);
        assert_eq!(client.put(&topic, partition, &["y"]).await, 1);
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn others_lead_what_was_in_a_directory_that_has_failed() {
    let roles = [(1, "broker,controller"), (2, "broker"), (3, "broker")];
    let mut cluster = Cluster::new(&roles, Voters::Fixed);
    let disk = FaultDir::new();
    let member = cluster.member(3);
    let dirs = format!("{},/extra", member.dir.path().display());
    let third = member
        .builder()
        .data_dir_on("/extra", Arc::new(disk.clone()))
        .property("log.dirs", dirs);
    let third = tokio::spawn(third.start());
    cluster.run(&[1, 2]).await;
    cluster.member(3).broker = Some(soon(third).await.unwrap().unwrap());

    let mut client = cluster.client(1).await;
    let mut request = create_topic_request("led", 0, 0, &[]);
    let topic = &mut request.topics[0];
    (topic.num_partitions, topic.replication_factor) = (-1, -1);
    topic.assignments = (0..4)
        .map(|partition_index| CreatableReplicaAssignment {
            partition_index,
            broker_ids: [3, 1, 2].map(NodeId::new).to_vec(),
        })
        .collect();
    let created = client.ask(&request).await.topics.remove(0);
    assert_eq!(created.error_code, ErrorCode::NONE, "{created:?}");
    let topic = Topic {
        name: created.name,
        id: created.topic_id,
    };
    let mut on_third = cluster.client(3).await;
    for partition in 0..4 {
        soon(async {
            let put = batch(&["x"]);
            while on_third
                .produce(&topic, partition, put.clone())
                .await
                .error_code
                .is_err()
            {}
        })
        .await;
    }
    let described = describe(&mut on_third).await;
    let lost = lying_in(&described, "extra");
    assert_eq!(lost.len(), 2);

    disk.fail(Op::Write, 0, ErrorKind::Other);
    let request = produce_request(&topic, ALL, &[(lost[0], batch(&["lost"]))]);
    let answer = on_third.ask(&request).await;
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::KAFKA_STORAGE_ERROR);
    soon(async {
        loop {
            let described = client.describe(&topic.name).await;
            let is_moved = |index: i32, leader: NodeId| {
                let is_third = leader == NodeId::new(3);
                lost.contains(&index) != is_third && leader != NodeId::NONE
            };
            let mut partitions = described.partitions.iter();
            if partitions.all(|p| is_moved(p.partition_index, p.leader_id)) {
                return;
            }
        }
    })
    .await;
    // What is in the other directory is served as before.
    let kept = (0..4).find(|index| !lost.contains(index)).unwrap();
    assert_eq!(on_third.put(&topic, kept, &["y"]).await, 1);
    let described = describe(&mut on_third).await;
    assert_eq!(
        described["extra"].error_code,
        ErrorCode::KAFKA_STORAGE_ERROR
    );
}

/// Asks for a replica to be moved into a directory.
async fn move_to(client: &mut Client, path: &str, topic: &str, partition: i32) -> ErrorCode {
    let request = AlterReplicaLogDirsRequest {
        dirs: vec![AlterReplicaLogDir {
            path: path.into(),
            topics: vec![AlterReplicaLogDirTopic {
                name: topic.into(),
                partitions: vec![partition],
            }],
        }],
    };
    let answer = client.ask(&request).await;
    answer.results[0].partitions[0].error_code
}

#[tokio::test]
async fn a_replica_moves_between_directories_under_load() {
    let root = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| root.path().join(name).to_str().unwrap().to_owned());
    let start = async || {
        let builder = builder().property("log.dirs", format!("{a},{b}"));
        builder.start().await.unwrap()
    };
    let mut broker = start().await;
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let mut mover = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("moving", 1, &[]).await;
    let mut written = 0;
    let mut lies_in_a = !lying_in(&describe(&mut mover).await, "a").is_empty();
    for _ in 0..6 {
        let (to, dir) = if lies_in_a { ("b", &b) } else { ("a", &a) };
        assert_eq!(move_to(&mut mover, dir, "moving", 0).await, ErrorCode::NONE);
        soon(async {
            loop {
                assert_eq!(client.put(&topic, 0, &["x", "y"]).await, written);
                written += 2;
                let described = describe(&mut mover).await;
                let topics = described[to].topics.iter();
                let mut found = topics.flat_map(|topic| &topic.partitions);
                if found.any(|found| !found.is_future_key) {
                    return;
                }
            }
        })
        .await;
        lies_in_a = !lies_in_a;
        assert_eq!(client.put(&topic, 0, &["x", "y"]).await, written);
        written += 2;
        let read = client.read(&topic, 0, 0).await;
        let offsets = read.iter().map(|(offset, _)| *offset);
        assert!(offsets.eq(0..written), "{read:?}");
    }
    broker.shutdown().await.unwrap();
    broker = start().await;
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let described = describe(&mut client).await;
    let lies_in = if lies_in_a { "a" } else { "b" };
    assert_eq!(lying_in(&described, lies_in), [0]);
    assert_eq!(
        client.list_offset(&topic, 0, -1).await.offset.value(),
        written
    );
    broker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_replica_that_is_not_there_yet_is_made_where_it_was_wanted() {
    let root = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| root.path().join(name).to_str().unwrap().to_owned());
    let builder = builder().property("log.dirs", format!("{a},{b}"));
    let broker = builder.start().await.unwrap();
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let code = move_to(&mut client, "/nowhere", "wanted", 0).await;
    assert_eq!(code, ErrorCode::LOG_DIR_NOT_FOUND);
    for partition in 0..3 {
        let code = move_to(&mut client, &b, "wanted", partition).await;
        assert_eq!(code, ErrorCode::REPLICA_NOT_AVAILABLE);
    }
    client.create_topic("wanted", 3, &[]).await;
    assert_eq!(lying_in(&describe(&mut client).await, "b").len(), 3);
    broker.shutdown().await.unwrap();
}
