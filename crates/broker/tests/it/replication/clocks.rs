//! Nodes whose clocks are hours apart. Whoever leads, nothing is lost, and nobody is taken for dead or late.

use std::time::{Duration, Instant};

use super::*;
use crate::groups::{commit, committed, is_loaded, join};
use tidelog_types::TopicName;

const HOUR: Duration = Duration::from_secs(3600);
/// For how long nobody may fall out of the ISR.
const A_WHILE: Duration = Duration::from_secs(2);

/// Node 1 has the time of the clients, node 2 is five hours ahead of it, and node 3 ten.
async fn hours_apart(properties: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::new(THREE, Voters::Fixed);
    for (ahead, id) in [0, 5, 10].into_iter().zip(1..) {
        let member = cluster.member(id);
        member.clock.advance(ahead * HOUR).await;
        member.set("offsets.topic.replication.factor", "3");
        for (key, value) in properties {
            member.set(key, value);
        }
    }
    cluster.run(&[1, 2, 3]).await;
    cluster
}

#[tokio::test]
async fn whoever_leads_nothing_is_lost_and_nobody_is_late() {
    let mut cluster = hours_apart(&[
        ("replica.lag.time.max.ms", "1000"),
        ("broker.session.timeout.ms", "1000"),
        ("broker.heartbeat.interval.ms", "100"),
    ])
    .await;
    let topic = create(&cluster, 1, "orders", &[("min.insync.replicas", "2")]).await;
    let mut producer = Producer::new(&cluster).await;
    // Each of them leads the quorum or the partition, and is gone.
    for id in [1, 2, 3, 1, 2, 3] {
        producer.write_many(&cluster, &topic, 3).await;
        cluster.crash(id);
        producer.write_many(&cluster, &topic, 3).await;
        cluster.run(&[id]).await;
        in_sync(&cluster, &topic, 3).await;
    }
    let began = Instant::now();
    let leader = in_sync(&cluster, &topic, 3).await;
    while began.elapsed() < A_WHILE {
        producer.write(&cluster, &topic).await;
        let (partition, brokers) = described(&cluster, 1, &topic).await;
        let partition = partition.unwrap();
        assert_eq!((partition.isr_nodes.len(), brokers.len()), (3, 3));
        assert_eq!(partition.leader_id.value(), leader);
    }
    all_have(&cluster, &topic, &producer.acknowledged).await;
}

#[tokio::test]
async fn a_group_goes_on_at_a_coordinator_of_another_time() {
    let mut cluster = hours_apart(&[("offsets.topic.num.partitions", "1")]).await;
    let topic = create(&cluster, 1, "orders", &[]).await;
    let offsets = Topic {
        name: TopicName::CONSUMER_OFFSETS,
        id: topic.id,
    };
    for round in 0..3 {
        let mut client = cluster.client(running(&cluster)[0]).await;
        let id = find_coordinator_elsewhere(&mut client).await;
        let mut member = cluster.client(id).await;
        is_loaded(&mut member, "group").await;
        if round > 0 {
            let found = committed(&mut member, "group", &topic, &[0]).await;
            assert_eq!(found[0].committed_offset, Offset::new(round));
        }
        join(&mut member, &format!("group-{round}")).await;
        let code = commit(&mut member, "group", &topic, (0, round + 1, 0)).await;
        assert_eq!(code, ErrorCode::NONE);
        in_sync(&cluster, &offsets, 3).await;
        cluster.crash(id);
        in_sync(&cluster, &offsets, 2).await;
        cluster.run(&[id]).await;
        in_sync(&cluster, &offsets, 3).await;
    }
}

/// The node that coordinates the group, whichever was asked.
async fn find_coordinator_elsewhere(client: &mut Client) -> i32 {
    let request = FindCoordinatorRequest {
        key_type: 0,
        coordinator_keys: vec!["group".into()],
        ..Default::default()
    };
    soon(async {
        loop {
            let found = client.ask(&request).await.coordinators.remove(0);
            if found.error_code.is_ok() {
                return found.node_id.value();
            }
        }
    })
    .await
}

/// What is too old is for the leader to say: a follower that is ahead keeps what the leader keeps.
#[tokio::test]
async fn a_follower_that_is_ahead_deletes_nothing_that_its_leader_keeps() {
    let cluster = hours_apart(&[("log.retention.check.interval.ms", "50")]).await;
    let configs = [
        ("retention.ms", "3600000"),
        ("message.timestamp.type", "CreateTime"),
    ];
    let mut count = 0;
    // Leaders are spread: one of the topics is led by node 1, by whose clock all is fresh.
    let topic = loop {
        let name = format!("orders-{count}");
        let topic = create(&cluster, 1, &name, &configs).await;
        if in_sync(&cluster, &topic, 3).await == 1 {
            break topic;
        }
        count += 1;
    };
    let mut producer = Producer::new(&cluster).await;
    producer.write_many(&cluster, &topic, 3).await;
    all_have(&cluster, &topic, &producer.acknowledged).await;
    let began = Instant::now();
    while began.elapsed() < A_WHILE / 4 {
        all_have(&cluster, &topic, &producer.acknowledged).await;
    }
}
