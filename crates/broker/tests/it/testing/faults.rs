//! Requests that go wrong as a test wants, and what a test sees of requests.

use std::time::Duration;

use tidelog_broker::testing::{ApiKey, TestBroker};
use tidelog_protocol::Request;
use tidelog_protocol::messages::fetch::FetchResponse;
use tidelog_protocol::messages::list_offsets::ListOffsetsResponse;
use tidelog_protocol::messages::produce::ProduceResponse;
use tidelog_types::ErrorCode;

use crate::client::Client;
use crate::groups::{find_coordinator, join};
use crate::ops::{ALL, Topic, batch, fetch_request, produce_request};

async fn start() -> (TestBroker, Client, Topic) {
    let broker = TestBroker::start().await.unwrap();
    let mut client = Client::connect(&broker.bootstrap_servers()).await;
    let topic = client.create_topic("orders", 2, &[]).await;
    (broker, client, topic)
}

fn texts(broker: &TestBroker) -> Vec<String> {
    let stored = broker.stored_records("orders");
    stored.iter().map(|record| record.text()).collect()
}

#[tokio::test]
async fn an_error_stands_where_the_api_has_it_and_the_request_has_no_effect() {
    let (broker, mut client, topic) = start().await;
    let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    let refused = broker.faults().on(ApiKey::Produce).times(1).answer(code);
    let request = produce_request(&topic, ALL, &[(0, batch(&["a"])), (1, batch(&["b"]))]);
    for version in [3, 9, 13] {
        let response: ProduceResponse = client.call(version, &request).await;
        let partitions = &response.responses[0].partition_responses;
        let codes: Vec<_> = partitions.iter().map(|p| (p.index, p.error_code)).collect();
        let expected = if version == 3 { code } else { ErrorCode::NONE };
        assert_eq!(codes, [(0, expected), (1, expected)], "version {version}");
    }
    assert_eq!(refused.fired(), 1);
    assert_eq!(texts(&broker), ["a", "a", "b", "b"]);

    let fetch = fetch_request(&topic, &[(0, 0), (1, 0)]);
    broker.faults().on(ApiKey::Fetch).times(1).answer(code);
    let response: FetchResponse = client.call(18, &fetch).await;
    let codes = response.responses[0].partitions.iter();
    assert!(codes.map(|p| p.error_code).eq([code, code]));
}

#[tokio::test]
async fn every_api_can_be_refused_in_every_version() {
    let (broker, mut client, topic) = start().await;
    find_coordinator(&mut client, "group").await;
    broker
        .faults()
        .on_any()
        .answer(ErrorCode::REQUEST_TIMED_OUT);
    for key in [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::FindCoordinator,
        ApiKey::JoinGroup,
        ApiKey::Heartbeat,
        ApiKey::LeaveGroup,
        ApiKey::SyncGroup,
        ApiKey::DescribeGroups,
        ApiKey::ListGroups,
        ApiKey::ApiVersions,
        ApiKey::CreateTopics,
        ApiKey::DeleteTopics,
        ApiKey::DeleteRecords,
        ApiKey::InitProducerId,
        ApiKey::OffsetForLeaderEpoch,
        ApiKey::DescribeConfigs,
        ApiKey::AlterConfigs,
        ApiKey::CreatePartitions,
        ApiKey::DeleteGroups,
        ApiKey::IncrementalAlterConfigs,
        ApiKey::OffsetDelete,
        ApiKey::DescribeCluster,
        ApiKey::ConsumerGroupHeartbeat,
        ApiKey::ConsumerGroupDescribe,
    ] {
        let api = key.api().unwrap();
        let supported = api.supported;
        for version in supported.min..=supported.max {
            let mut request = crate::wire::request(api, version, &topic);
            if let Request::Produce(produce) = &mut request {
                produce.acks = ALL;
            }
            let frame = client.encode_any(version, &request);
            client.send_frame(&frame).await;
            // It is whole, and says the error somewhere.
            let (response, _) = client.receive_any(key, version).await;
            let shown = format!("{response:?}");
            assert!(
                shown.contains("REQUEST_TIMED_OUT"),
                "{key} {version}: {shown}"
            );
        }
    }
}

#[tokio::test]
async fn rules_are_about_an_api_a_topic_a_client_a_connection_and_a_count() {
    let (broker, mut client, orders) = start().await;
    let other = client.create_topic("other", 1, &[]).await;
    let faults = broker.faults();
    let code = ErrorCode::REQUEST_TIMED_OUT;
    let produce = async |client: &mut Client, topic: &Topic| {
        let request = produce_request(topic, ALL, &[(0, batch(&["x"]))]);
        let response = client.ask(&request).await;
        response.responses[0].partition_responses[0].error_code
    };
    let by_topic = faults.on(ApiKey::Produce).topic("other").answer(code);
    assert!(produce(&mut client, &orders).await.is_ok());
    assert_eq!(produce(&mut client, &other).await, code);
    by_topic.remove();
    assert!(produce(&mut client, &other).await.is_ok());

    let by_client = faults.on_any().client("somebody").answer(code);
    assert!(produce(&mut client, &orders).await.is_ok());
    client.call_me("somebody");
    assert_eq!(produce(&mut client, &orders).await, code);
    by_client.remove();

    let mut second = Client::connect(&broker.bootstrap_servers()).await;
    assert!(produce(&mut second, &orders).await.is_ok());
    let connection = broker.requests().list().pop().unwrap().connection;
    let by_connection = faults.on_any().connection(connection).answer(code);
    assert!(produce(&mut client, &orders).await.is_ok());
    assert_eq!(produce(&mut second, &orders).await, code);
    by_connection.remove();

    let counted = faults.on(ApiKey::Produce).after(1).times(2).answer(code);
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(produce(&mut client, &orders).await);
    }
    assert_eq!(codes, [ErrorCode::NONE, code, code, ErrorCode::NONE]);
    assert_eq!(counted.fired(), 2);
    faults.on_any().answer(code);
    faults.clear();
    assert!(produce(&mut client, &orders).await.is_ok());
}

#[tokio::test]
async fn a_connection_is_dropped_before_or_after_the_request_took_effect() {
    let (broker, mut client, topic) = start().await;
    for (taken, value) in [(false, "before"), (true, "after")] {
        let on = broker.faults().on(ApiKey::Produce).times(1);
        let dropped = match taken {
            true => on.drop_after(),
            false => on.drop_before(),
        };
        let request = produce_request(&topic, ALL, &[(0, batch(&[value]))]);
        client.send(13, &request).await;
        // What is behind it on the wire is never read.
        client.send(13, &request).await;
        client.closed().await;
        assert_eq!(dropped.fired(), 1);
        client = Client::connect(&broker.bootstrap_servers()).await;
        let has = texts(&broker).iter().any(|text| text == value);
        assert_eq!(has, taken, "{value}");
    }
}

#[tokio::test]
async fn an_answer_may_break_off_in_its_middle() {
    let (broker, mut client, topic) = start().await;
    client.put(&topic, 0, &["a record"]).await;
    let fetch = fetch_request(&topic, &[(0, 0)]);
    client.send(18, &fetch).await;
    let whole = client.frame().await.len() + 4;
    // Up to the last byte, which lies in a file.
    for bytes in [0, 3, 10, whole - 1] {
        broker.faults().on(ApiKey::Fetch).times(1).partial(bytes);
        client.send(18, &fetch).await;
        assert_eq!(client.rest().await.len(), bytes);
        client = Client::connect(&broker.bootstrap_servers()).await;
    }
}

#[tokio::test]
async fn a_delay_ends_when_the_clock_is_moved() {
    let (broker, mut client, topic) = start().await;
    broker.clock().pause();
    let faults = broker.faults();
    let delayed = faults.on(ApiKey::ListOffsets);
    delayed.delay(Duration::from_secs(3600));
    let seen = broker.requests().of(ApiKey::ListOffsets).since_now();
    let request = crate::ops::list_offsets_request(&topic, 0, -1);
    client.send(7, &request).await;
    seen.at_least(1).await.unwrap();
    assert!(client.is_silent());
    broker.clock().advance(Duration::from_secs(3600)).await;
    let _: ListOffsetsResponse = client.receive(7).await;
}

#[tokio::test]
async fn what_has_not_come_is_told_with_what_has() {
    let (broker, mut client, topic) = start().await;
    find_coordinator(&mut client, "readers").await;
    join(&mut client, "readers").await;
    broker.set_patience(Duration::from_millis(20));
    let requests = broker.requests().of(ApiKey::JoinGroup).from("it");
    let error = requests.at_least(9).await.unwrap_err().to_string();
    assert!(error.contains("9 requests of JoinGroup from it were waited for, 2 have come"));
    let error = broker.wait_for_group("readers", 2).await.unwrap_err();
    assert!(error.to_string().contains("CompletingRebalance"), "{error}");
    let error = broker.wait_for_offset("orders", 0, 0).await.unwrap_err();
    assert!(error.to_string().contains("its high watermark is 0"));
    let error = broker.wait_for_connections(7).await.unwrap_err();
    assert!(error.to_string().contains("1 are open"), "{error}");
    let error = broker.wait_for_commit("readers", "orders", 0, 1).await;
    assert!(error.unwrap_err().to_string().contains("has committed {}"));
    client.put(&topic, 0, &["x"]).await;
    broker.wait_for_offset("orders", 0, 0).await.unwrap();
    drop(client);
    broker.set_patience(Duration::from_secs(30));
    broker.wait_for_connections(0).await.unwrap();
}
