//! A node that goes on where Apache Kafka 4.3.1 stopped: Kafka's own directories, and what its consumers and tools saw.

use std::collections::BTreeMap;
use std::path::Path;

use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use tidelog_protocol::messages::fetch::PartitionData;
use tidelog_protocol::messages::metadata::MetadataRequest;
use tidelog_record::Record;
use tidelog_types::{ErrorCode, NodeId, Offset, ProducerId};

use crate::client::Client;
use crate::fixture::{Expected, consume, unpack};
use crate::groups::{committed, find_coordinator};
use crate::ops::{Topic, batches, fetch_request};
use crate::server::{Server, is_elsewhere};

/// `config_source` of what was set on a topic.
const TOPIC_CONFIG: i8 = 1;
const TOPIC: i8 = 2;

/// Topics with partition counts, as `kafka-topics --describe` prints them.
fn described(expected: &Expected) -> BTreeMap<&str, (&str, usize)> {
    let lines = expected.lines("topics");
    let lines = lines.into_iter().filter(|line| line.starts_with("Topic:"));
    lines
        .map(|line| {
            let values: Vec<_> = line
                .split('\t')
                .filter_map(|field| Some(field.split_once(": ")?.1))
                .collect();
            (values[0], (values[1], values[2].parse().unwrap()))
        })
        .collect()
}

async fn check_topics(client: &mut Client, expected: &Expected) -> BTreeMap<String, Topic> {
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let topics = client.ask(&request).await.topics;
    let mut found = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for topic in topics {
        let name = topic.name.clone().unwrap();
        for partition in &topic.partitions {
            assert_eq!(partition.error_code, ErrorCode::NONE, "{name}");
            assert_eq!(partition.leader_id, NodeId::new(1), "{name}");
            assert_eq!(partition.isr_nodes, [NodeId::new(1)], "{name}");
        }
        counts.insert(
            name.to_string(),
            (topic.topic_id.to_string(), topic.partitions.len()),
        );
        let id = topic.topic_id;
        found.insert(name.to_string(), Topic { name, id });
    }
    let expected = described(expected).into_iter();
    let expected = expected.map(|(name, (id, count))| (name.to_owned(), (id.to_owned(), count)));
    assert_eq!(counts, expected.collect());
    found
}

/// What was set on the topics, as `kafka-configs --describe` prints it.
async fn check_configs(client: &mut Client, expected: &Expected) {
    let mut wanted: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut topic = "";
    for line in expected.0["configs"]["topics"].as_array().unwrap() {
        let words: Vec<_> = line.as_str().unwrap().split_whitespace().collect();
        if let ["Dynamic", "configs", "for", "topic", name, "are:"] = words[..] {
            topic = name;
            wanted.insert(topic, BTreeMap::new());
        } else {
            let (key, value) = words[0].split_once('=').unwrap();
            wanted.get_mut(topic).unwrap().insert(key, value);
        }
    }
    let request = DescribeConfigsRequest {
        resources: wanted
            .keys()
            .map(|name| DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: (*name).into(),
                configuration_keys: None,
            })
            .collect(),
        ..Default::default()
    };
    let response = client.ask(&request).await;
    for result in &response.results {
        let set = result
            .configs
            .iter()
            .filter(|config| config.config_source == TOPIC_CONFIG)
            .map(|config| (&*config.name, config.value.as_deref().unwrap()));
        let set: BTreeMap<&str, &str> = set.collect();
        assert_eq!(
            set, wanted[&*result.resource_name],
            "{}",
            result.resource_name
        );
    }
    assert_eq!(response.results.len(), wanted.len());
}

/// Reads a partition to its end, as a consumer does. Gives the records and the last answer.
async fn consume_all(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    (from, read_committed): (i64, bool),
) -> (Vec<Record>, PartitionData) {
    let mut from = Offset::new(from);
    let mut records = Vec::new();
    loop {
        let mut request = fetch_request(topic, &[(partition, from.value())]);
        request.isolation_level = i8::from(read_committed);
        // Many answers, for aborted transactions belong to what an answer holds.
        request.topics[0].partitions[0].partition_max_bytes = 1000;
        let data = client.fetch(&request).await.remove(0);
        assert_eq!(data.error_code, ErrorCode::NONE, "{}", topic.name);
        let batches = batches(&data);
        let Some(last) = batches.last() else {
            return (records, data);
        };
        let next = last.header().next_offset();
        let aborted = data.aborted_transactions.iter().flatten();
        let aborted: Vec<(ProducerId, Offset)> =
            aborted.map(|a| (a.producer_id, a.first_offset)).collect();
        records.extend(consume(batches, from, &aborted));
        from = next;
    }
}

async fn check_records(client: &mut Client, topics: &BTreeMap<String, Topic>, expected: &Expected) {
    for (folder, expected) in expected.partitions() {
        let (topic, partition) = folder.rsplit_once('-').unwrap();
        let (topic, partition) = (&topics[topic], partition.parse().unwrap());
        let from = expected.log_start_offset;
        let (all, end) = consume_all(client, topic, partition, (from, false)).await;
        assert_eq!(
            end.high_watermark.value(),
            expected.high_watermark,
            "{folder}"
        );
        assert_eq!(end.log_start_offset.value(), from, "{folder}");
        let (committed, end) = consume_all(client, topic, partition, (from, true)).await;
        if let Some(position) = expected.committed_end_position {
            assert_eq!(end.last_stable_offset.value(), position, "{folder}");
        }
        expected.check(folder, &all, &committed);
    }
}

/// The committed offsets, as `kafka-consumer-groups --describe` prints them.
async fn check_groups(client: &mut Client, topics: &BTreeMap<String, Topic>, expected: &Expected) {
    let lines = expected.lines("groups").into_iter();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("GROUP "));
    let mut count = 0;
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        let (group, topic, partition) = (words[0], words[1], words[2].parse().unwrap());
        find_coordinator(client, group).await;
        let found = committed(client, group, &topics[topic], &[partition]).await;
        assert_eq!(found[0].error_code, ErrorCode::NONE, "{line}");
        let offset = words[3].parse().unwrap_or(-1);
        assert_eq!(found[0].committed_offset.value(), offset, "{line}");
        count += 1;
    }
    assert!(count > 10, "{count}");
}

/// A broker to be started on a copy of the directory.
fn server(which: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    unpack(which, |path, content| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    });
    Server::on(dir)
}

async fn check(which: &str) {
    if is_elsewhere() {
        return;
    }
    let expected = Expected::of(which);
    let mut server = server(which);
    // What Kafka left, and what this broker leaves; neither may differ from what consumers saw before.
    for _ in 0..2 {
        server.run().await;
        let cluster_id = server.broker.as_ref().unwrap().cluster_id();
        assert_eq!(cluster_id, "dGlkZWxvZy1maXh0dXJlMQ");
        let mut client = server.client().await;
        let topics = check_topics(&mut client, &expected).await;
        check_configs(&mut client, &expected).await;
        check_records(&mut client, &topics, &expected).await;
        check_groups(&mut client, &topics, &expected).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_directory_that_kafka_closed_is_served() {
    check("clean").await;
}

#[tokio::test]
async fn a_directory_of_a_killed_kafka_is_served() {
    check("killed").await;
}

/// Changes the folder of the metadata log, and checks that nothing is missing, also after another start.
async fn check_metadata(change: impl Fn(&Path)) {
    if is_elsewhere() {
        return;
    }
    let expected = Expected::of("clean");
    let mut server = server("clean");
    change(&server.dir.path().join("__cluster_metadata-0"));
    for _ in 0..2 {
        server.run().await;
        let mut client = server.client().await;
        check_topics(&mut client, &expected).await;
        check_configs(&mut client, &expected).await;
        server.stop().await;
    }
}

/// The newest snapshot of the fixture.
const SNAPSHOT: &str = "00000000000000000291-0000000001.checkpoint";

#[tokio::test]
async fn the_metadata_is_there_when_all_that_is_left_of_it_is_a_snapshot() {
    check_metadata(|folder| {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with(SNAPSHOT) && !path.ends_with("quorum-state") {
                std::fs::remove_file(path).unwrap();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_damaged_snapshot_of_the_metadata_is_passed_over() {
    check_metadata(|folder| {
        let path = folder.join(SNAPSHOT);
        let mut snapshot = std::fs::read(&path).unwrap();
        let middle = snapshot.len() / 2;
        snapshot[middle] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, snapshot).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_metadata_log_that_no_snapshot_reaches_is_refused() {
    if is_elsewhere() {
        return;
    }
    let server = server("clean");
    let folder = server.dir.path().join("__cluster_metadata-0");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("quorum-state") {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::write(folder.join("00000000000000000300.log"), b"").unwrap();
    let error = server.builder().start().await.unwrap_err().to_string();
    assert!(error.contains("begins at offset 300"), "{error}");
}
