//! Several log directories: what lies in each.

use std::collections::BTreeMap;

use tidelog_broker::Broker;
use tidelog_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResult,
};
use tidelog_types::ErrorCode;

use crate::client::Client;
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
