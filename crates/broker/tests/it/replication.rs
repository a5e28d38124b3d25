//! Topics with replicas on three brokers: whoever leads may go, and what was acknowledged stays.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidelog_broker::format::InitialControllers;
use tidelog_log::{FsDir, Log, LogConfig, Start};
use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidelog_protocol::messages::fetch::FetchRequest;
use tidelog_protocol::messages::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition,
};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use tidelog_protocol::messages::produce::PartitionProduceResponse;
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, NodeId, Now, Offset, ProducerId};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::client::{Client, PATIENCE, soon};
use crate::cluster::{Cluster, Voters};
use crate::ops::{
    ALL, Topic, batch, batches, create_topic_request, fetch_request, now, produce_request,
    sequenced,
};

#[cfg(feature = "testing")]
mod clocks;
mod fetchers;
mod throttled;

const THREE: &[(i32, &str)] = &[
    (1, "broker,controller"),
    (2, "broker,controller"),
    (3, "broker,controller"),
];
/// One node outlives the others, with the controller.
const ONE_CONTROLLER: &[(i32, &str)] = &[(1, "broker,controller"), (2, "broker"), (3, "broker")];

async fn create(cluster: &Cluster, via: i32, name: &str, configs: &[(&str, &str)]) -> Topic {
    let mut client = cluster.client(via).await;
    let request = create_topic_request(name, 1, 3, configs);
    // A broker counts only when it has said that it is ready.
    let created = soon(async {
        loop {
            let created = client.ask(&request).await.topics.remove(0);
            if created.error_code != ErrorCode::INVALID_REPLICATION_FACTOR {
                return created;
            }
        }
    })
    .await;
    assert_eq!(created.error_code, ErrorCode::NONE, "{created:?}");
    Topic {
        name: created.name,
        id: created.topic_id,
    }
}

fn running(cluster: &Cluster) -> Vec<i32> {
    let running = cluster.members.iter();
    let running = running.filter(|(_, member)| member.broker.is_some());
    running.map(|(id, _)| *id).collect()
}

/// What a node says of partition 0 of a topic, and who there is.
async fn described(
    cluster: &Cluster,
    via: i32,
    topic: &Topic,
) -> (
    Option<MetadataResponsePartition>,
    Vec<MetadataResponseBroker>,
) {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic.name.clone()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let address = cluster.members[&via].address();
    let mut answer = soon(async {
        loop {
            if let Ok(mut client) = Client::try_connect(&address).await
                && let Ok(answer) = client.try_ask(&request).await
            {
                return answer;
            }
        }
    })
    .await;
    let mut partitions = answer.topics.remove(0).partitions.into_iter();
    (partitions.next(), answer.brokers)
}

/// Waits until all running nodes agree that so many replicas are in sync; gives the leader.
async fn in_sync(cluster: &Cluster, topic: &Topic, count: usize) -> i32 {
    soon(async {
        loop {
            let mut leaders = Vec::new();
            for via in running(cluster) {
                let (partition, _) = described(cluster, via, topic).await;
                let partition = partition.filter(|p| p.isr_nodes.len() == count);
                leaders.extend(partition.map(|partition| partition.leader_id));
            }
            leaders.dedup();
            if let [leader] = leaders[..]
                && leader != NodeId::NONE
            {
                return leader.value();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// A producer that finds the leader, and does not give up.
struct Producer {
    id: (ProducerId, i16),
    sequence: i32,
    connection: Option<Client>,
    acknowledged: Vec<(i64, String)>,
}

impl Producer {
    async fn new(cluster: &Cluster) -> Self {
        let mut client = cluster.client(running(cluster)[0]).await;
        Self {
            id: client.producer().await,
            sequence: 0,
            connection: None,
            acknowledged: Vec::new(),
        }
    }

    /// Writes one record until it is acknowledged by all replicas in sync.
    async fn write(&mut self, cluster: &Cluster, topic: &Topic) {
        let value = format!("record {}", self.sequence);
        let batch = sequenced(self.id, self.sequence, &[&value]);
        let offset = soon(async {
            loop {
                let answer = self.attempt(cluster, topic, batch.clone()).await;
                match answer {
                    Ok(answer) if answer.error_code.is_ok() => return answer.base_offset.value(),
                    Ok(answer) => {
                        let code = answer.error_code;
                        assert!(code.is_retriable(), "{code}");
                        self.connection = None;
                    }
                    Err(_) => self.connection = None,
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.sequence += 1;
        self.acknowledged.push((offset, value));
    }

    async fn attempt(
        &mut self,
        cluster: &Cluster,
        topic: &Topic,
        batch: Bytes,
    ) -> io::Result<PartitionProduceResponse> {
        if self.connection.is_none() {
            let via = running(cluster)[0];
            let (partition, brokers) = described(cluster, via, topic).await;
            let leader = partition.map(|partition| partition.leader_id);
            let broker = brokers.iter().find(|broker| Some(broker.node_id) == leader);
            let broker = broker.ok_or(io::ErrorKind::NotFound)?;
            let address = format!("{}:{}", broker.host, broker.port);
            self.connection = Some(Client::try_connect(&address).await?);
        }
        let client = self.connection.as_mut().unwrap();
        let request = produce_request(topic, ALL, &[(0, batch)]);
        let mut answer = client.try_ask(&request).await?;
        Ok(answer.responses.remove(0).partition_responses.remove(0))
    }

    async fn write_many(&mut self, cluster: &Cluster, topic: &Topic, count: usize) {
        for _ in 0..count {
            self.write(cluster, topic).await;
        }
    }
}

/// Everything that a replica serves, batch by batch.
async fn content(cluster: &Cluster, via: i32, topic: &Topic) -> Vec<Bytes> {
    let mut client = cluster.client(via).await;
    let (mut from, mut all) = (0, Vec::new());
    loop {
        let data = client.fetch(&fetch_request(topic, &[(0, from)])).await;
        let data = &data[0];
        if data.error_code.is_err() {
            return all;
        }
        let found = batches(data);
        let Some(last) = found.last() else {
            return all;
        };
        from = last.header().next_offset().value();
        all.extend(found.into_iter().map(|batch| batch.bytes().clone()));
    }
}

/// Waits until all running nodes serve the same bytes, with these records in this order and no others.
async fn all_have(cluster: &Cluster, topic: &Topic, records: &[(i64, String)]) {
    let mut contents = BTreeMap::new();
    let agree = async {
        loop {
            for via in running(cluster) {
                contents.insert(via, content(cluster, via, topic).await);
            }
            let first = contents.values().next().unwrap();
            if values(first) == records && contents.values().all(|other| other == first) {
                return;
            }
        }
    };
    if tokio::time::timeout(PATIENCE, agree).await.is_err() {
        let found = contents.iter().map(|(via, batches)| (via, values(batches)));
        panic!(
            "expected {records:?}, found {:?}",
            found.collect::<Vec<_>>()
        );
    }
}

fn values(contents: &[Bytes]) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    for bytes in contents {
        let batch = Batch::parse(bytes.clone()).unwrap();
        batch.verify_crc().unwrap();
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            values.push((record.offset.value(), value));
        }
    }
    values
}

#[tokio::test]
async fn what_all_acknowledged_is_on_all_replicas_with_the_same_bytes() {
    let cluster = Cluster::start(THREE, Voters::Fixed).await;
    let topic = create(&cluster, 1, "orders", &[("min.insync.replicas", "2")]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write_many(&cluster, &topic, 20).await;
    in_sync(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

/// Issue 7: each leader goes in turn, in order or not, and comes back; no acknowledged record is lost, doubled or moved.
#[tokio::test]
async fn leaders_that_stop_or_crash_in_turn_lose_no_acknowledged_record() {
    let mut cluster = Cluster::start(THREE, Voters::Fixed).await;
    let topic = create(&cluster, 1, "orders", &[("min.insync.replicas", "2")]).await;
    let mut producer = Producer::new(&cluster).await;
    for round in 0..4 {
        producer.write_many(&cluster, &topic, 5).await;
        let leader = in_sync(&cluster, &topic, 3).await;
        if round % 2 == 0 {
            cluster.crash(leader);
        } else {
            cluster.stop(leader).await;
        }
        producer.write_many(&cluster, &topic, 5).await;
        cluster.run(&[leader]).await;
    }
    in_sync(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

/// Nobody waits for the session of a broker that was the controller, too, though its successor has never reached it.
#[tokio::test]
async fn a_controller_that_dies_as_a_follower_is_missed_at_once() {
    let mut cluster = Cluster::new(THREE, Voters::Fixed);
    for id in 1..=3 {
        let member = cluster.member(id);
        member.set("broker.session.timeout.ms", "120000");
        member.set("replica.lag.time.max.ms", "120000");
    }
    cluster.run(&[1, 2, 3]).await;
    let controller = cluster.quorum(1).await.leader_id.value();
    let other = controller % 3 + 1;
    let mut producer = Producer::new(&cluster).await;
    let mut count = 0;
    let topic = loop {
        let name = format!("orders-{count}");
        let topic = create(&cluster, other, &name, &[("min.insync.replicas", "2")]).await;
        if in_sync(&cluster, &topic, 3).await != controller {
            break topic;
        }
        count += 1;
    };
    producer.write(&cluster, &topic).await;
    cluster.crash(controller);
    producer.write(&cluster, &topic).await;
    in_sync(&cluster, &topic, 2).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

/// Hard corner 22: with too few replicas in sync nothing is appended that asks for all of them.
#[tokio::test]
async fn corner_22_with_too_few_in_sync_nothing_is_appended() {
    let mut cluster = Cluster::start(ONE_CONTROLLER, Voters::Fixed).await;
    let topic = create(&cluster, 1, "orders", &[("min.insync.replicas", "2")]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write(&cluster, &topic).await;
    in_sync(&cluster, &topic, 3).await;
    cluster.stop(2).await;
    cluster.stop(3).await;
    assert_eq!(in_sync(&cluster, &topic, 1).await, 1);
    let refused = soon(async {
        loop {
            let batch = sequenced(producer.id, producer.sequence, &["too few"]);
            match producer.attempt(&cluster, &topic, batch).await {
                Ok(answer) => break answer.error_code,
                Err(_) => producer.connection = None,
            }
        }
    });
    assert_eq!(refused.await, ErrorCode::NOT_ENOUGH_REPLICAS);
    cluster.run(&[2]).await;
    producer.connection = None;
    producer.write(&cluster, &topic).await;
    cluster.run(&[3]).await;
    in_sync(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

#[tokio::test]
async fn a_broker_with_an_empty_disk_catches_up_and_is_in_sync_again() {
    let mut cluster = Cluster::start(ONE_CONTROLLER, Voters::Fixed).await;
    let topic = create(&cluster, 1, "orders", &[("min.insync.replicas", "2")]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write_many(&cluster, &topic, 10).await;
    in_sync(&cluster, &topic, 3).await;
    cluster.stop(3).await;
    cluster.member(3).replace_disk(InitialControllers::Unsaid);
    producer.write_many(&cluster, &topic, 10).await;
    cluster.run(&[3]).await;
    in_sync(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

/// A follower was a leader that nobody followed any more: what it wrote then goes, and what the others wrote comes.
#[tokio::test]
async fn corner_24_a_follower_whose_log_has_diverged_cuts_it() {
    let mut cluster = Cluster::start(ONE_CONTROLLER, Voters::Fixed).await;
    let topic = create(&cluster, 1, "orders", &[]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write_many(&cluster, &topic, 5).await;
    in_sync(&cluster, &topic, 3).await;
    cluster.stop(3).await;
    append_behind_the_back(&cluster, 3, &topic, &["lost 1", "lost 2", "lost 3"]);
    // A leader of a later epoch writes something else.
    cluster.stop(2).await;
    cluster.stop(1).await;
    cluster.run(&[1]).await;
    producer.connection = None;
    producer.write_many(&cluster, &topic, 2).await;
    cluster.run(&[2, 3]).await;
    in_sync(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

/// Writes to the log of a node that does not run, in the epoch of its last record.
fn append_behind_the_back(cluster: &Cluster, id: i32, topic: &Topic, values: &[&str]) {
    let dir = Arc::new(FsDir::new(cluster.members[&id].dir.path()));
    let config = Arc::new(LogConfig::default());
    let folder = format!("{}-0", topic.name);
    let start = Start {
        log_start_offset: Offset::ZERO,
        recovery_point: Offset::ZERO,
        clean: false,
        topic_id: Some(topic.id),
    };
    let now = Now {
        instant: Instant::now(),
        timestamp: now(),
    };
    let (mut log, _) = Log::open(dir, &folder, config, start, now).unwrap();
    let epoch = log.latest_epoch().unwrap();
    let batch = Batch::parse(batch(values)).unwrap();
    log.append_as_leader(&batch, epoch, now.timestamp).unwrap();
    log.close().unwrap();
    // The broker is to find the log as a crash leaves it.
    std::fs::remove_file(cluster.members[&id].dir.path().join(".kafka_cleanshutdown")).unwrap();
}

/// Hard corner 45: what is deleted is deleted on all replicas, at the same offset, also on one that was away.
#[tokio::test]
async fn corner_45_records_are_deleted_on_all_replicas() {
    let mut cluster = Cluster::start(ONE_CONTROLLER, Voters::Fixed).await;
    let topic = create(&cluster, 1, "orders", &[]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write_many(&cluster, &topic, 6).await;
    let delete = async |cluster: &Cluster, leader: i32, offset: i64| {
        let mut client = cluster.client(leader).await;
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: topic.name.clone(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset: Offset::new(offset),
                }],
            }],
            timeout_ms: 30_000,
        };
        let result = client
            .ask(&request)
            .await
            .topics
            .remove(0)
            .partitions
            .remove(0);
        (result.error_code, result.low_watermark.value())
    };
    let leader = in_sync(&cluster, &topic, 3).await;
    assert_eq!(delete(&cluster, leader, 2).await, (ErrorCode::NONE, 2));
    for id in running(&cluster) {
        assert_eq!(first_offset(&cluster, id, &topic).await, 2, "on {id}");
    }
    // One that is not alive is not waited for, and follows when it is back.
    cluster.stop(3).await;
    let leader = in_sync(&cluster, &topic, 2).await;
    assert_eq!(delete(&cluster, leader, 4).await, (ErrorCode::NONE, 4));
    cluster.run(&[3]).await;
    in_sync(&cluster, &topic, 3).await;
    soon(async { while first_offset(&cluster, 3, &topic).await != 4 {} }).await;
}

/// The first offset that a replica serves, be it the leader or not.
async fn first_offset(cluster: &Cluster, via: i32, topic: &Topic) -> i64 {
    let mut client = cluster.client(via).await;
    let data = client.fetch(&fetch_request(topic, &[(0, 6)])).await;
    data[0].log_start_offset.value()
}

/// Hard corner 25, KIP-951: who comes to the wrong broker is told the right one, in the epoch in which it leads.
#[tokio::test]
async fn a_broker_that_does_not_lead_says_who_does() {
    let mut cluster = Cluster::start(THREE, Voters::Fixed).await;
    let topic = create(&cluster, 1, "orders", &[]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write(&cluster, &topic).await;
    let leader = in_sync(&cluster, &topic, 3).await;
    let (partition, _) = described(&cluster, 1, &topic).await;
    let leader_epoch = partition.unwrap().leader_epoch;
    let other = running(&cluster)
        .into_iter()
        .find(|id| *id != leader)
        .unwrap();
    let mut client = cluster.client(other).await;
    let batch = sequenced(producer.id, 1, &["x"]);
    let mut answer = client
        .ask(&produce_request(&topic, ALL, &[(0, batch)]))
        .await;
    let partition = answer.responses.remove(0).partition_responses.remove(0);
    assert_eq!(partition.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let hint = partition.current_leader;
    assert_eq!(
        (hint.leader_id.value(), hint.leader_epoch),
        (leader, leader_epoch)
    );
    let endpoints = answer.node_endpoints.iter();
    let endpoints: Vec<_> = endpoints
        .map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port))
        .collect();
    assert_eq!(endpoints, [cluster.members[&leader].address()]);
    // A consumer that knows an older epoch is told, too.
    cluster.stop(leader).await;
    let successor = in_sync(&cluster, &topic, 2).await;
    let mut request = fetch_request(&topic, &[(0, 0)]);
    request.topics[0].partitions[0].current_leader_epoch = leader_epoch;
    let mut client = cluster.client(successor).await;
    let response = client.ask(&request).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(data.current_leader.leader_id.value(), successor);
    assert!(data.current_leader.leader_epoch > leader_epoch);
    assert_eq!(response.node_endpoints.len(), 1);
}

/// KIP-392: a consumer is sent to the replica in its rack, and gets the same records there.
#[tokio::test]
async fn a_consumer_reads_from_the_replica_in_its_rack() {
    const RACKS: &[(i32, &str)] = &[(1, "north"), (2, "south"), (3, "east")];
    let mut cluster = Cluster::new(ONE_CONTROLLER, Voters::Fixed);
    for (id, rack) in RACKS {
        let member = cluster.member(*id);
        member.set("broker.rack", rack);
        member.set(
            "replica.selector.class",
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        );
    }
    cluster.run(&[1, 2, 3]).await;
    let topic = create(&cluster, 1, "orders", &[]).await;
    let mut producer = Producer::new(&cluster).await;
    producer.write_many(&cluster, &topic, 3).await;
    let leader = in_sync(&cluster, &topic, 3).await;
    for (id, rack) in RACKS {
        let mut client = cluster.client(leader).await;
        let request = FetchRequest {
            rack_id: (*rack).into(),
            ..fetch_request(&topic, &[(0, 0)])
        };
        let data = client.fetch(&request).await.remove(0);
        if *id == leader {
            assert_eq!(data.preferred_read_replica, NodeId::NONE);
            continue;
        }
        assert_eq!(data.preferred_read_replica.value(), *id);
        soon(async {
            while values(&content(&cluster, *id, &topic).await) != producer.acknowledged {}
        })
        .await;
    }
}

#[tokio::test]
async fn groups_go_on_when_the_broker_of_their_coordinator_has_died() {
    let mut cluster = Cluster::new(THREE, Voters::Fixed);
    for id in 1..=3 {
        let member = cluster.member(id);
        member.set("offsets.topic.replication.factor", "3");
        member.set("offsets.topic.num.partitions", "2");
    }
    cluster.run(&[1, 2, 3]).await;
    let topic = create(&cluster, 1, "orders", &[]).await;
    let first = coordinator(&cluster, "readers").await;
    commit(&cluster, "readers", &topic, 7).await;
    let offsets = Topic {
        name: "__consumer_offsets".into(),
        id: cluster
            .client(first)
            .await
            .describe("__consumer_offsets")
            .await
            .topic_id,
    };
    in_sync(&cluster, &offsets, 3).await;
    cluster.crash(first);
    let second = soon(async {
        loop {
            let found = coordinator(&cluster, "readers").await;
            if found != first {
                return found;
            }
        }
    })
    .await;
    assert_ne!(second, first);
    assert_eq!(committed(&cluster, "readers", &topic).await, 7);
    commit(&cluster, "readers", &topic, 9).await;
    assert_eq!(committed(&cluster, "readers", &topic).await, 9);
}

/// The broker that coordinates a group; it is waited for.
async fn coordinator(cluster: &Cluster, group: &str) -> i32 {
    let mut client = cluster.client(running(cluster)[0]).await;
    let request = FindCoordinatorRequest {
        key_type: 0,
        coordinator_keys: vec![group.into()],
        ..Default::default()
    };
    soon(async {
        loop {
            let found = client.ask(&request).await.coordinators.remove(0);
            let id = found.node_id.value();
            if found.error_code.is_ok() && running(cluster).contains(&id) {
                return id;
            }
        }
    })
    .await
}

async fn commit(cluster: &Cluster, group: &str, topic: &Topic, offset: i64) {
    let request = OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: Offset::new(offset),
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    soon(async {
        loop {
            let mut client = cluster.client(coordinator(cluster, group).await).await;
            let mut answer = client.ask(&request).await;
            let code = answer.topics.remove(0).partitions.remove(0).error_code;
            if code.is_ok() {
                return;
            }
            assert!(code.is_retriable(), "{code}");
        }
    })
    .await;
}

async fn committed(cluster: &Cluster, group: &str, topic: &Topic) -> i64 {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.name.clone(),
                topic_id: topic.id,
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    soon(async {
        loop {
            let mut client = cluster.client(coordinator(cluster, group).await).await;
            let mut answer = client.ask(&request).await.groups.remove(0);
            if answer.error_code.is_ok() {
                let found = answer.topics.remove(0).partitions.remove(0);
                return found.committed_offset.value();
            }
            assert!(answer.error_code.is_retriable(), "{}", answer.error_code);
        }
    })
    .await
}

/// Stands between a broker and everybody else, and can cut all connections.
struct Proxy {
    port: u16,
    cut: watch::Sender<()>,
}

impl Proxy {
    async fn before(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, cuts) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((mut outside, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut inside) = TcpStream::connect(("127.0.0.1", broker)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut outside, &mut inside) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { port, cut }
    }
}

#[tokio::test]
async fn connections_that_are_cut_again_and_again_lose_and_double_nothing() {
    let mut cluster = Cluster::new(THREE, Voters::Fixed);
    let mut proxies = Vec::new();
    for id in 1..=3 {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::before(socket.local_addr().unwrap().port()).await;
        let advertised = format!("PLAINTEXT://127.0.0.1:{}", proxy.port);
        cluster.member(id).set("advertised.listeners", &advertised);
        cluster.member(id).listen("PLAINTEXT", socket);
        proxies.push(proxy);
    }
    cluster.run(&[1, 2, 3]).await;
    let topic = create(&cluster, 1, "orders", &[("min.insync.replicas", "2")]).await;
    let mut producer = Producer::new(&cluster).await;
    for _ in 0..8 {
        let cut = async {
            // While something is on its way, more often than not.
            tokio::task::yield_now().await;
            proxies.iter().for_each(|proxy| proxy.cut.send_replace(()));
        };
        tokio::join!(producer.write_many(&cluster, &topic, 3), cut);
    }
    in_sync(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
}
