//! A broker for the tests of the commands and of the client's calls.

use std::time::Duration;

use tidelog_broker::{Broker, Durability};
use tidelog_client::Client;
use tidelog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidelog_record::{BatchBuilder, Codec};
use tidelog_types::{Timestamp, TopicName};

/// The last version of Produce that names topics instead of their ids.
const PRODUCE_BY_NAME: i16 = 12;

/// A broker in this process or, with `TIDELOG_TEST_BOOTSTRAP=host:port`, one that runs already: so that the same tests show
/// whether they ask for what Kafka does.
pub(crate) struct Server {
    broker: Option<Broker>,
    address: String,
}

impl Server {
    /// Starts a broker on a port that the system chooses, unless there is one.
    pub(crate) async fn start() -> Self {
        if let Ok(address) = std::env::var("TIDELOG_TEST_BOOTSTRAP") {
            return Self {
                broker: None,
                address,
            };
        }
        let broker = Broker::builder()
            .durability(Durability::Memory)
            .listener("PLAINTEXT://127.0.0.1:0")
            .start()
            .await
            .unwrap();
        Self {
            address: broker.bootstrap_servers(),
            broker: Some(broker),
        }
    }

    /// Whether the broker is one of ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.broker.is_some()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Stops the broker, if it is one of ours.
    pub(crate) async fn stop(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await.unwrap();
        }
    }
}

/// A name that no other run of the tests has, for brokers that have seen others.
pub(crate) fn fresh(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Writes so many records, all of this time in milliseconds, into a partition.
pub(crate) async fn produce(
    client: &Client,
    topic: &TopicName,
    partition: i32,
    records: usize,
    time: i64,
) {
    let mut batch = BatchBuilder::new(Codec::None.into());
    for _ in 0..records {
        batch.push(Timestamp::from_millis(time), None, Some(b"x"), &[]);
    }
    let records = batch.build().unwrap().bytes().clone();
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.clone(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(records),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let brokers = client.any().await.unwrap();
    let answer = brokers.send_up_to(&request, PRODUCE_BY_NAME).await.unwrap();
    let result = &answer.responses[0].partition_responses[0];
    assert!(result.error_code.is_ok(), "{result:?}");
}

/// Asks until the answer is right, since a broker may learn of a change after it was promised.
pub(crate) async fn eventually<T>(ask: impl AsyncFn() -> T, is_right: impl Fn(&T) -> bool) -> T {
    let mut answer = ask().await;
    for _ in 0..100 {
        if is_right(&answer) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = ask().await;
    }
    answer
}
