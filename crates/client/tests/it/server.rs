//! A broker of the test's own, and what is in its partitions.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tempfile::TempDir;
use tidelog_broker::testing::Faults;
use tidelog_broker::{Broker, Durability};
use tidelog_client::{
    Client, Config, Connection, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig,
    ProducerRecord,
};
use tidelog_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use tidelog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use tidelog_record::{AnyBatch, Record};
use tidelog_types::{Offset, TopicName};

pub(crate) struct Server {
    broker: Option<Broker>,
    dir: TempDir,
    address: String,
}

/// The variable that names another broker to test against.
const ELSEWHERE: &str = "TIDELOG_TEST_BOOTSTRAP";

impl Server {
    /// The broker to test against.
    pub(crate) async fn start() -> Self {
        match std::env::var(ELSEWHERE) {
            Ok(address) => Self {
                broker: None,
                dir: tempfile::tempdir().unwrap(),
                address,
            },
            Err(_) => Self::ours(&[]).await,
        }
    }

    /// A broker of our own with these properties, or none if the tests run against another.
    pub(crate) async fn own(properties: &[(&str, &str)]) -> Option<Self> {
        match std::env::var_os(ELSEWHERE) {
            Some(_) => {
                passed_over();
                None
            }
            None => Some(Self::ours(properties).await),
        }
    }

    async fn ours(properties: &[(&str, &str)]) -> Self {
        let mut server = Self {
            broker: None,
            dir: tempfile::tempdir().unwrap(),
            address: "127.0.0.1:0".into(),
        };
        server.run(properties).await;
        server
    }

    /// Starts the broker, again on its port if it has had one.
    pub(crate) async fn run(&mut self, properties: &[(&str, &str)]) {
        let mut builder = Broker::builder()
            .data_dir(self.dir.path())
            .listener(&format!("PLAINTEXT://{}", self.address))
            .durability(Durability::PageCache)
            .property("group.initial.rebalance.delay.ms", "0");
        for (key, value) in properties {
            builder = builder.property(*key, *value);
        }
        let broker = builder.start().await.unwrap();
        self.address = broker.bootstrap_servers();
        self.broker = Some(broker);
    }

    pub(crate) async fn stop(&mut self) {
        let broker = self.broker.take().unwrap();
        broker.shutdown().await.unwrap();
    }

    /// What goes wrong at a broker of our own.
    pub(crate) fn faults(&self) -> &Faults {
        self.broker.as_ref().unwrap().faults()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address, Config::default())
            .await
            .unwrap()
    }

    pub(crate) async fn producer(&self, config: ProducerConfig) -> Producer {
        Producer::new(&self.client().await, config).unwrap()
    }

    pub(crate) async fn consumer(&self, config: ConsumerConfig) -> Consumer {
        Consumer::new(&self.client().await, config).unwrap()
    }

    /// Whether the broker divides the partitions of a group (KIP-848).
    pub(crate) async fn divides(&self) -> bool {
        let connection = Connection::connect(&self.address, Config::default());
        let connection = connection.await.unwrap();
        let version = connection.version::<ConsumerGroupHeartbeatRequest>(i16::MAX);
        version.is_some()
    }

    /// The same for a test that needs it, and passes over brokers that do not.
    pub(crate) async fn divides_or_passed_over(&self) -> bool {
        let divides = self.divides().await;
        if !divides {
            passed_over();
        }
        divides
    }

    /// A new topic under a name that was never used.
    pub(crate) async fn topic(&self, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = format!("t{}", unique());
        self.create(&name, partitions, configs).await;
        name
    }

    /// A new topic under this name.
    pub(crate) async fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name)
            .partitions(partitions)
            .replication_factor(1);
        for (key, value) in configs {
            topic = topic.config(*key, *value);
        }
        let client = self.client().await;
        let created = client.create_topics(&[topic], false).await.unwrap();
        created[&TopicName::from(name)].as_ref().unwrap();
    }

    /// Every record of a partition.
    pub(crate) async fn records(&self, topic: &str, partition: i32) -> Vec<Record> {
        let connection = Connection::connect(&self.address, Config::default())
            .await
            .unwrap();
        let mut records: Vec<Record> = Vec::new();
        loop {
            let from = records
                .last()
                .map_or(Offset::ZERO, |last| last.offset.next());
            let mut batches = fetch(&connection, topic, partition, from).await;
            if batches.is_empty() {
                return records;
            }
            while let Some(batch) = AnyBatch::split_from(&mut batches).unwrap() {
                batch.verify_crc().unwrap();
                let read = batch.records().unwrap().map(Result::unwrap);
                records.extend(read.filter(|record| record.offset >= from));
            }
        }
    }
}

/// Says that a test has not looked at the other broker; `.ci/client_suite.py` counts it.
#[allow(clippy::print_stderr, reason = "this is what is counted")]
fn passed_over() {
    let test = std::thread::current();
    let name = test.name().unwrap_or("a test");
    eprintln!("passed over: {name} restarts its broker, sets its properties, or wants a newer one");
}

async fn fetch(connection: &Connection, topic: &str, partition: i32, from: Offset) -> Bytes {
    let request = FetchRequest {
        max_bytes: 8 << 20,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: from,
                partition_max_bytes: 4 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    // The last version with names.
    let answer = connection.send_up_to(&request, 12).await.unwrap();
    let partition = &answer.responses[0].partitions[0];
    assert!(partition.error_code.is_ok(), "{}", partition.error_code);
    match &partition.records {
        Some(tidelog_protocol::Payload::Bytes(bytes)) => bytes.clone(),
        _ => Bytes::new(),
    }
}

/// Part of a name that was never used.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    format!("{since}-{}-{number}", std::process::id())
}

/// A record of this value.
pub(crate) fn record<'a>(topic: &'a str, value: &'a str) -> ProducerRecord<'a> {
    ProducerRecord::to(topic).value(value)
}

pub(crate) fn text(bytes: Option<&Bytes>) -> &str {
    bytes.map_or("", |bytes| std::str::from_utf8(bytes).unwrap())
}
