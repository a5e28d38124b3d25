//! A broker whose clock a test stops and moves.

use std::time::Duration;

use tidelog_broker::testing::Clock;
use tidelog_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidelog_protocol::messages::describe_groups::DescribeGroupsRequest;
use tidelog_types::Offset;

use crate::client::Client;
use crate::groups::{find_coordinator, join};
use crate::ops::{fetch_request, values};
use crate::server::Server;

const MILLI: Duration = Duration::from_millis(1);
/// What `groups::join` asks for.
const SESSION: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn members(client: &mut Client, group: &str) -> usize {
    let request = DescribeGroupsRequest {
        groups: vec![group.into()],
        ..Default::default()
    };
    let described = client.ask(&request).await;
    described.groups[0].members.len()
}

#[tokio::test]
async fn a_session_ends_exactly_when_its_time_has_come() {
    let server = Server::start().await;
    let mut client = server.client().await;
    find_coordinator(&mut client, "exact").await;
    let clock = server.broker.as_ref().unwrap().clock().clone();
    clock.pause();
    join(&mut client, "exact").await;
    clock.advance(SESSION - MILLI).await;
    assert_eq!(members(&mut client, "exact").await, 1);
    clock.advance(MILLI).await;
    assert_eq!(members(&mut client, "exact").await, 0);
}

#[tokio::test]
async fn a_leap_of_days_applies_retention_and_fences_nobody() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client
        .create_topic("old", 1, &[("retention.ms", "604800000")])
        .await;
    client.put(&topic, 0, &["old"]).await;
    let clock = server.broker.as_ref().unwrap().clock();
    clock.advance(7 * DAY - Duration::from_secs(60)).await;
    assert_eq!(client.read(&topic, 0, 0).await.len(), 1);
    // A log keeps its last segment only while something in it is young enough.
    clock.advance(Duration::from_secs(3600)).await;
    let earliest = client.list_offset(&topic, 0, -2).await;
    assert_eq!(earliest.offset, Offset::new(1));
    assert_eq!(client.put(&topic, 0, &["new"]).await, 1);
}

#[tokio::test]
async fn a_fetch_waits_no_longer_than_either_clock_says() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("empty", 1, &[]).await;
    let clock = server.broker.as_ref().unwrap().clock();
    clock.pause();
    let mut request = fetch_request(&topic, &[(0, 0)]);
    // The client has a clock of its own, which nobody has stopped.
    request.max_wait_ms = 20;
    assert_eq!(values(&client.fetch(&request).await[0]), []);
}

#[tokio::test]
async fn brokers_may_share_a_clock() {
    let clock = Clock::new();
    clock.pause();
    let (one, other) = (Server::start().await, Server::start().await);
    assert!(!one.broker.as_ref().unwrap().clock().is_paused());
    drop(other);
    let dir = tempfile::tempdir().unwrap();
    let builder = crate::server::builder().data_dir(dir.path()).clock(&clock);
    let broker = builder.start().await.unwrap();
    assert!(broker.clock().is_paused());
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("now", 1, &[]).await;
    client.put(&topic, 0, &["x"]).await;
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.name.clone(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: Offset::new(1),
            }],
        }],
        timeout_ms: 1000,
    };
    let deleted = client.ask(&request).await;
    assert!(deleted.topics[0].partitions[0].error_code.is_ok());
    clock.advance(DAY).await;
    broker.shutdown().await.unwrap();
}
