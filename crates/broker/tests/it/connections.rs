//! One connection among others: order, patience, and clients that misbehave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_broker::Broker;
use tidelog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use tidelog_protocol::messages::fetch::{FetchResponse, ForgottenTopic};
use tidelog_protocol::messages::metadata::MetadataResponse;
use tidelog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidelog_protocol::messages::produce::ProduceResponse;
use tidelog_types::{ErrorCode, NodeId};

use crate::client::{Client, soon};
use crate::disk::{GatedDir, Keeper};
use crate::ops::{ALL, Topic, batch, fetch_request, long, produce_request, sequenced, values};
use crate::server::{Server, builder};
use crate::topics::alter_resource;

/// A broker whose flushes can be held up.
async fn gated() -> (Broker, Keeper, String) {
    let (disk, keeper) = GatedDir::new();
    let builder = builder().data_dir_on("/gated", Arc::new(disk));
    let broker = builder.start().await.unwrap();
    let address = broker.bootstrap_servers();
    (broker, keeper, address)
}

/// Where the log ends, whether or not that is committed.
async fn log_end(client: &mut Client, topic: &Topic) -> i64 {
    let epoch = client.describe(&topic.name).await.partitions[0].leader_epoch;
    let request = OffsetForLeaderEpochRequest {
        replica_id: NodeId::NONE,
        topics: vec![OffsetForLeaderTopic {
            topic: topic.name.clone(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                leader_epoch: epoch,
                ..Default::default()
            }],
        }],
    };
    client.ask(&request).await.topics[0].partitions[0]
        .end_offset
        .value()
}

fn base_offset(response: &ProduceResponse) -> (ErrorCode, i64) {
    let answer = &response.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset.value())
}

/// After so long without a byte taken, the broker takes none.
const LONG: Duration = Duration::from_millis(300);

#[tokio::test]
async fn requests_overlap_and_are_answered_in_order_while_a_produce_waits() {
    let (_broker, disk, address) = gated().await;
    let mut client = Client::connect(&address).await;
    let mut other = Client::connect(&address).await;
    let topic = client.create_topic("overlap", 1, &[]).await;
    disk.close();
    for value in ["a", "b"] {
        client
            .send(13, &produce_request(&topic, ALL, &[(0, batch(&[value]))]))
            .await;
    }
    client.send(3, &api_versions()).await;
    client.send(18, &fetch_request(&topic, &[(0, 0)])).await;
    client
        .send(13, &produce_request(&topic, 1, &[(0, batch(&["c"]))]))
        .await;
    // All of them are started before the first is answered.
    soon(async { while log_end(&mut other, &topic).await < 3 {} }).await;
    assert!(client.is_silent());
    assert_eq!(other.list_offset(&topic, 0, -1).await.offset.value(), 0);
    disk.open();
    let (first, produced) = client.receive_with_id::<ProduceResponse>(13).await;
    assert_eq!(base_offset(&produced), (ErrorCode::NONE, 0));
    let (second, produced) = client.receive_with_id::<ProduceResponse>(13).await;
    assert_eq!(base_offset(&produced), (ErrorCode::NONE, 1));
    let (third, _) = client.receive_with_id::<ApiVersionsResponse>(3).await;
    let (fourth, _) = client.receive_with_id::<FetchResponse>(18).await;
    let (fifth, produced) = client.receive_with_id::<ProduceResponse>(13).await;
    assert_eq!(base_offset(&produced), (ErrorCode::NONE, 2));
    assert!([first, second, third, fourth, fifth].is_sorted());
}

#[tokio::test]
async fn nothing_is_acknowledged_or_shown_before_it_is_flushed() {
    let (_broker, disk, address) = gated().await;
    let mut reader = Client::connect(&address).await;
    let topic = reader.create_topic("flushed", 1, &[]).await;
    disk.close();
    let mut producers = Vec::new();
    for acks in [1, ALL] {
        let mut producer = Client::connect(&address).await;
        producer
            .send(13, &produce_request(&topic, acks, &[(0, batch(&["a"]))]))
            .await;
        producers.push(producer);
    }
    soon(async { while log_end(&mut reader, &topic).await < 2 {} }).await;
    assert_eq!(reader.read(&topic, 0, 0).await, []);
    assert!(producers.iter_mut().all(Client::is_silent));
    // A fetch that waits is woken by the flush.
    let mut fetch = fetch_request(&topic, &[(0, 0)]);
    fetch.max_wait_ms = 600_000;
    reader.send(18, &fetch).await;
    disk.open();
    let fetched: FetchResponse = reader.receive(18).await;
    assert_ne!(fetched.responses[0].partitions[0].high_watermark.value(), 0);
    for mut producer in producers {
        let response: ProduceResponse = producer.receive(13).await;
        assert_eq!(base_offset(&response).0, ErrorCode::NONE);
    }
}

#[tokio::test]
async fn corner_16_a_duplicate_is_answered_when_its_original_is_committed() {
    let (_broker, disk, address) = gated().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(&address).await);
    }
    let topic = clients[0].create_topic("twice", 1, &[]).await;
    let producer = clients[0].producer().await;
    let mut other = Client::connect(&address).await;
    disk.close();
    for client in &mut clients {
        let records = sequenced(producer, 0, &["a", "b"]);
        client
            .send(13, &produce_request(&topic, ALL, &[(0, records)]))
            .await;
    }
    soon(async { while log_end(&mut other, &topic).await < 2 {} }).await;
    for _ in 0..3 {
        assert_eq!(other.list_offset(&topic, 0, -1).await.offset.value(), 0);
    }
    assert!(clients.iter_mut().all(Client::is_silent));
    disk.open();
    for client in &mut clients {
        let response: ProduceResponse = client.receive(13).await;
        assert_eq!(base_offset(&response), (ErrorCode::NONE, 0));
    }
    assert_eq!(other.list_offset(&topic, 0, -1).await.offset.value(), 2);
}

#[tokio::test]
async fn a_produce_that_takes_too_long_is_told_so() {
    let (_broker, disk, address) = gated().await;
    let mut client = Client::connect(&address).await;
    let topic = client.create_topic("slow", 1, &[]).await;
    disk.close();
    let mut request = produce_request(&topic, ALL, &[(0, batch(&["a"]))]);
    request.timeout_ms = 30;
    let response = client.ask(&request).await;
    assert_eq!(base_offset(&response), (ErrorCode::REQUEST_TIMED_OUT, -1));
    disk.open();
    soon(async { while client.list_offset(&topic, 0, -1).await.offset.value() < 1 {} }).await;
}

#[tokio::test]
async fn a_client_that_will_send_no_more_still_gets_its_answers() {
    let (_broker, disk, address) = gated().await;
    let mut client = Client::connect(&address).await;
    let topic = client.create_topic("half-closed", 1, &[]).await;
    disk.close();
    client
        .send(13, &produce_request(&topic, ALL, &[(0, batch(&["a"]))]))
        .await;
    client
        .send(
            13,
            &tidelog_protocol::messages::metadata::MetadataRequest::default(),
        )
        .await;
    client.end_output().await;
    let mut other = Client::connect(&address).await;
    soon(async { while log_end(&mut other, &topic).await < 1 {} }).await;
    disk.open();
    let response: ProduceResponse = client.receive(13).await;
    assert_eq!(base_offset(&response), (ErrorCode::NONE, 0));
    let _: MetadataResponse = client.receive(13).await;
    client.closed().await;
}

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "it".into(),
        client_software_version: "1".into(),
    }
}

#[tokio::test]
async fn thousands_of_requests_at_once_are_answered_one_by_one() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        bytes.extend_from_slice(&client.encode(3, &api_versions()));
    }
    client.send_bytes(&bytes).await;
    client.end_output().await;
    for id in 1..=2000 {
        let (answered, _) = client.receive_with_id::<ApiVersionsResponse>(3).await;
        assert_eq!(answered, id);
    }
    client.closed().await;
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let bytes = client.encode(3, &api_versions());
    for byte in &bytes {
        client.send_bytes(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    let _: ApiVersionsResponse = client.receive(3).await;
    // And a large one, of which most comes late.
    let topic = client
        .create_topic("large", 1, &[("max.message.bytes", "20000000")])
        .await;
    let records = batch(&[&long(10_000_000)]);
    let bytes = client.encode(13, &produce_request(&topic, ALL, &[(0, records)]));
    let (first, rest) = bytes.split_at(100_000);
    client.send_bytes(first).await;
    let mut other = server.client().await;
    other.describe("large").await;
    client.send_bytes(rest).await;
    let response: ProduceResponse = client.receive(13).await;
    assert_eq!(base_offset(&response), (ErrorCode::NONE, 0));
}

#[tokio::test]
async fn a_request_cut_off_by_the_end_of_its_connection_is_nobodys() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("cut-off", 1, &[]).await;
    for keep in [1, 4, 10, 60, 100] {
        let mut cut = server.client().await;
        let bytes = cut.encode(13, &produce_request(&topic, ALL, &[(0, batch(&["a"]))]));
        cut.send_bytes(&bytes[..keep]).await;
        cut.end_output().await;
        cut.closed().await;
    }
    assert_eq!(client.put(&topic, 0, &["whole"]).await, 0);
}

#[tokio::test]
async fn a_client_that_never_reads_is_not_read_from_for_ever() {
    const ENOUGH: usize = 256 << 20;
    let server = Server::start().await;
    let mut deaf = server.client().await;
    deaf.create_topic("configs", 1, &[]).await;
    // Answers much larger than the requests.
    let request = DescribeConfigsRequest {
        resources: vec![
            DescribeConfigsResource {
                resource_type: 2,
                resource_name: "configs".into(),
                configuration_keys: None,
            };
            20
        ],
        include_synonyms: true,
        include_documentation: true,
    };
    let bytes = deaf.encode(4, &request);
    let (mut sent, mut at) = (0, 0);
    // Until long after the last byte was taken: the broker waits for the client.
    while let Some(n) = deaf.send_some(&bytes[at..], LONG).await {
        sent += n;
        at = (at + n) % bytes.len();
        assert!(sent < ENOUGH, "the broker takes in requests without end");
    }
    let answers = sent / bytes.len();
    let mut other = server.client().await;
    let topic = other.create_topic("not-deaf", 1, &[]).await;
    assert_eq!(other.put(&topic, 0, &["heard"]).await, 0);
    // Once it reads, it gets everything in order.
    for _ in 0..answers.min(20) {
        assert!(deaf.frame().await.len() > 10_000);
    }
}

#[tokio::test]
async fn large_requests_behind_one_that_waits_are_not_taken_in_for_ever() {
    const ENOUGH: usize = 128 << 20;
    let server = Server::start().await;
    let mut client = server.client().await;
    let topic = client.create_topic("piles-up", 1, &[]).await;
    let mut fetch = fetch_request(&topic, &[(0, 0)]);
    fetch.max_wait_ms = 600_000;
    // So that each request takes a megabyte.
    fetch.forgotten_topics_data = vec![ForgottenTopic {
        partitions: vec![9; 250_000],
        ..Default::default()
    }];
    let bytes = client.encode(18, &fetch);
    let (mut sent, mut at) = (0, 0);
    while let Some(n) = client.send_some(&bytes[at..], LONG).await {
        sent += n;
        at = (at + n) % bytes.len();
        assert!(sent < ENOUGH, "the broker takes in requests without end");
    }
    let mut other = server.client().await;
    other.put(&topic, 0, &["wakes"]).await;
    for _ in 0..sent / bytes.len() {
        let response: FetchResponse = client.receive(18).await;
        assert_eq!(values(&response.responses[0].partitions[0]).len(), 1);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let server = Server::with(&[("connections.max.idle.ms", "100")]).await;
    let mut waiting = server.client().await;
    let topic = waiting.create_topic("idle", 1, &[]).await;
    let mut fetch = fetch_request(&topic, &[(0, 0)]);
    fetch.max_wait_ms = 400;
    let start = Instant::now();
    waiting.send(18, &fetch).await;
    let mut idle = server.client().await;
    idle.closed().await;
    assert!(start.elapsed() >= Duration::from_millis(100));
    // Half a request is no sign of life for long.
    let mut slow = server.client().await;
    slow.send_bytes(&[0, 0, 0, 100, 0]).await;
    slow.closed().await;
    let _: FetchResponse = waiting.receive(18).await;
    waiting.closed().await;
}

#[tokio::test]
async fn both_loopbacks_are_listened_on() {
    let server = Server::start().await;
    let port = server.broker.as_ref().unwrap().listeners()[0].port;
    let mut hosts = vec!["127.0.0.1"];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        hosts.push("[::1]");
    }
    for host in hosts {
        let mut client = Client::connect(&format!("{host}:{port}")).await;
        let response = client.call(3, &api_versions()).await;
        assert_eq!(response.error_code, ErrorCode::NONE, "{host}");
    }
}

#[tokio::test]
async fn beyond_max_connections_a_listener_waits_for_one_to_close() {
    let server = Server::with(&[("max.connections", "2")]).await;
    let mut first = Client::connect(&server.address()).await;
    let mut second = Client::connect(&server.address()).await;
    let mut third = Client::connect(&server.address()).await;
    for client in [&mut first, &mut second] {
        client.ask(&api_versions()).await;
    }
    third.send(3, &api_versions()).await;
    let asked = Instant::now();
    while asked.elapsed() < LONG {
        assert!(third.is_silent());
        tokio::task::yield_now().await;
    }
    drop(second);
    soon(third.receive::<ApiVersionsResponse>(3)).await;
    let metrics = server.broker.as_ref().unwrap().metrics();
    assert!(metrics.accepting_waited_ms >= 300, "{metrics:?}");
    // Another bound, for all brokers, lets the next one in.
    let mut fourth = Client::connect(&server.address()).await;
    fourth.send(3, &api_versions()).await;
    let set = ("max.connections", 0, Some("3"));
    let code = alter_resource(&mut first, (4, ""), set).await;
    assert_eq!(code, ErrorCode::NONE);
    soon(fourth.receive::<ApiVersionsResponse>(3)).await;
}

#[tokio::test]
async fn beyond_max_connections_per_ip_one_is_closed_at_once() {
    let server = Server::with(&[
        ("max.connections.per.ip", "5"),
        ("max.connections.per.ip.overrides", "127.0.0.1:2,::1:2"),
    ])
    .await;
    let address = server.address();
    let mut first = Client::connect(&address).await;
    let mut second = Client::connect(&address).await;
    for client in [&mut first, &mut second] {
        client.ask(&api_versions()).await;
    }
    soon(Client::connect(&address).await.closed()).await;
    let broker = server.broker.as_ref().unwrap();
    assert_eq!(broker.metrics().connections_refused, 1);
    drop(second);
    // When the broker has noticed, there is room for one.
    soon(async {
        loop {
            let mut client = Client::connect(&address).await;
            if client.try_ask(&api_versions()).await.is_ok() {
                break;
            }
        }
    })
    .await;
    assert_eq!(broker.metrics().connections, 2);
}

#[tokio::test]
async fn a_listener_may_have_a_bound_of_its_own_and_that_of_the_brokers_goes_beyond_that_of_all() {
    let broker = builder()
        .property("listeners", "INSIDE://localhost:0,OUTSIDE://localhost:0")
        .property(
            "listener.security.protocol.map",
            "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
        )
        .property("inter.broker.listener.name", "INSIDE")
        .property("max.connections", "2")
        .property("listener.name.outside.max.connections", "1")
        .start()
        .await
        .unwrap();
    let address = |name: &str| {
        let mut listeners = broker.listeners().iter();
        let listener = listeners.find(|listener| listener.name == name).unwrap();
        format!("{}:{}", listener.host, listener.port)
    };
    let mut outside = Client::connect(&address("OUTSIDE")).await;
    outside.ask(&api_versions()).await;
    let mut too_many = Client::connect(&address("OUTSIDE")).await;
    too_many.send(3, &api_versions()).await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&address("INSIDE")).await;
        client.ask(&api_versions()).await;
        inside.push(client);
    }
    assert!(too_many.is_silent());
    // Its listener has room now, and all together have not.
    drop(outside);
    drop(inside.pop());
    let asked = Instant::now();
    while asked.elapsed() < LONG {
        assert!(too_many.is_silent());
        tokio::task::yield_now().await;
    }
    drop(inside.pop());
    soon(too_many.receive::<ApiVersionsResponse>(3)).await;
}
