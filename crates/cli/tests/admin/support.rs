//! A broker for the tests of the commands and of the client's calls.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use tidelog_broker::{Broker, Builder, Durability};
use tidelog_client::Client;
use tidelog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidelog_record::{BatchBuilder, Codec};
use tidelog_types::{ErrorCode, Timestamp, TopicName};

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
        Self::of(Broker::builder().durability(Durability::Memory)).await
    }

    /// Starts one of ours as `tidelog broker` does, with its data in this directory.
    pub(crate) async fn start_in(data: &Path) -> Self {
        Self::of(Broker::builder().data_dir(data)).await
    }

    async fn of(builder: Builder) -> Self {
        let broker = builder.listener("PLAINTEXT://127.0.0.1:0").start().await;
        let broker = broker.unwrap();
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
    let broker = client.any().await.unwrap();
    let code = async || {
        let answer = broker.send_up_to(&request, PRODUCE_BY_NAME).await.unwrap();
        answer.responses[0].partition_responses[0].error_code
    };
    // A broker may not know yet that it leads a topic that is new.
    let code = eventually(code, |code| !code.is_retriable()).await;
    assert_eq!(code, ErrorCode::NONE);
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

/// The command, with nothing in its surroundings but where the broker is.
pub(crate) fn tidelog(address: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidelog"))
        .args(arguments)
        .env_clear()
        .env("TIDELOG_BOOTSTRAP_SERVER", address)
        .output()
        .unwrap()
}

impl Server {
    /// What a command prints that succeeds.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = tidelog(&self.address, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert_eq!(error, "", "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Creates a topic, and waits until the broker knows it.
    pub(crate) async fn creates(&self, topic: &str, more: &[&str]) {
        self.says(&[&["topic", "create", topic], more].concat());
        let is_known = async || tidelog(&self.address, &["topic", "describe", topic]);
        let described = eventually(is_known, |output| output.status.success()).await;
        assert!(described.status.success(), "{described:?}");
    }

    /// What a command prints for programs.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.says(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// The lines of a command that fails, without its name in front of each.
    pub(crate) fn refuses(&self, arguments: &[&str]) -> Vec<String> {
        let output = tidelog(&self.address, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        let lines = error.lines().map(|line| {
            let line = line.strip_prefix("tidelog: ");
            line.unwrap_or_else(|| panic!("{error}")).to_owned()
        });
        lines.collect()
    }
}
