//! Clusters as a Rust value, and what is done to their nodes and to the network between them.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_broker::{
    Broker, Cluster, ClusterError, ErrorCode, NewTopic, Offset, RequestError, Topic,
};

use crate::client::{Client, soon};

/// Appends one record by way of whichever node leads the partition, as soon as one does; the node and the offset.
async fn append(cluster: &Cluster, topic: &str, value: &str) -> (i32, i64) {
    soon(async {
        loop {
            for node in cluster.running().collect::<Vec<_>>() {
                let topic = cluster.node(node).unwrap().topic(topic);
                let appended = tokio::time::timeout(LONG, topic.produce(0, [value])).await;
                match appended {
                    Ok(Ok(appended)) => return (node, appended.base_offset.value()),
                    Ok(Err(error)) => assert!(is_passing(&error), "{error}"),
                    // It does not know yet that it is cut off.
                    Err(_) => {}
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// After so long without an acknowledgement another node is asked.
const LONG: Duration = Duration::from_secs(5);

fn is_passing(error: &RequestError) -> bool {
    let code = error.code().unwrap_or_else(|| panic!("{error}"));
    code.is_retriable() || code == ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
}

/// What a partition holds, as soon as the node knows that it is committed up to `count` records.
async fn read(topic: &Topic, count: usize) -> BTreeMap<i64, String> {
    let mut records = topic.records(0, Offset::ZERO);
    let mut read = BTreeMap::new();
    while read.len() < count {
        let record = soon(records.next()).await.unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        read.insert(record.offset.value(), value);
    }
    read
}

#[tokio::test]
async fn nodes_are_killed_stopped_and_restarted() {
    let mut cluster = soon(Cluster::builder().start()).await.unwrap();
    let first = cluster.node(1).unwrap();
    first.create_topic(NewTopic::new("kept")).await.unwrap();
    let (leader, offset) = append(&cluster, "kept", "0").await;
    assert_eq!(offset, 0);
    cluster.kill(leader).await.unwrap();
    let again = cluster.kill(leader).await.unwrap_err();
    assert!(matches!(again, ClusterError::NotRunning(_)), "{again}");
    assert_eq!(cluster.running().count(), 2);
    let (second, offset) = append(&cluster, "kept", "1").await;
    assert_ne!(second, leader);
    assert_eq!(offset, 1);
    soon(cluster.restart(leader)).await.unwrap();
    soon(cluster.stop(second)).await.unwrap();
    let (third, offset) = append(&cluster, "kept", "2").await;
    assert_eq!(offset, 2);
    soon(cluster.restart(second)).await.unwrap();
    let topic = cluster.node(third).unwrap().topic("kept");
    let expected = (0..3).map(|n| (n, n.to_string()));
    assert_eq!(read(&topic, 3).await, expected.collect());
    let unknown = cluster.restart(4).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no node 4");
    let running = cluster.restart(1).await.unwrap_err();
    assert_eq!(running.to_string(), "node 1 runs already");
    soon(cluster.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_cut_off_is_replaced_and_comes_back() {
    let cluster = Cluster::builder().property("broker.session.timeout.ms", "1000");
    let cluster = cluster.property("broker.heartbeat.interval.ms", "100");
    let cluster = soon(cluster.start()).await.unwrap();
    let first = cluster.node(1).unwrap();
    first.create_topic("kept").await.unwrap();
    let (leader, _) = append(&cluster, "kept", "0").await;
    for other in cluster.nodes().filter(|node| *node != leader) {
        cluster.cut(leader, other).unwrap();
    }
    let (second, offset) = append(&cluster, "kept", "1").await;
    assert_ne!(second, leader);
    cluster.heal();
    let topic = cluster.node(second).unwrap().topic("kept");
    let read = read(&topic, usize::try_from(offset).unwrap() + 1).await;
    assert_eq!((&*read[&0], &*read[&offset]), ("0", "1"));
    cluster.pause(second).unwrap();
    let (third, offset) = append(&cluster, "kept", "2").await;
    assert_ne!(third, second);
    cluster.resume(second).unwrap();
    assert!(offset >= 2);
    soon(cluster.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_cluster_on_ports_and_disks_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || Cluster::builder().nodes(2).data_dir(dir.path());
    let cluster = soon(builder().free_ports().start()).await.unwrap();
    let id = cluster.node(1).unwrap().cluster_id().to_owned();
    assert_eq!(cluster.data_dir(2), Some(&*dir.path().join("node-2")));
    for address in cluster.bootstrap_servers().split(',') {
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        let mut client = Client::connect(address).await;
        let described = client.describe("nothing").await;
        assert_eq!(described.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    cluster.node(2).unwrap().create_topic("kept").await.unwrap();
    soon(cluster.shutdown()).await.unwrap();
    let cluster = soon(builder().start()).await.unwrap();
    assert_eq!(cluster.node(2).unwrap().cluster_id(), id);
    assert_eq!(
        cluster.node(2).map(Broker::topic_names),
        Some(vec!["kept".to_owned()])
    );
    // As if all of them had been killed.
    drop(cluster);
}

#[tokio::test]
async fn the_data_of_a_temporary_cluster_goes_with_it() {
    let parent = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(parent.path()).unwrap().count();
    let builder = Cluster::builder().nodes(2).temporary_in(parent.path());
    let mut cluster = soon(builder.start()).await.unwrap();
    assert_eq!(entries(), 2);
    soon(cluster.stop(2)).await.unwrap();
    assert_eq!(entries(), 2);
    soon(cluster.shutdown()).await.unwrap();
    assert_eq!(entries(), 0);
    let none = Cluster::builder().nodes(0).start().await.unwrap_err();
    assert!(matches!(none, ClusterError::NoNodes), "{none}");
}
