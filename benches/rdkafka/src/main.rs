//! Loads by the crate `rdkafka`: the rates that `produce_load` and `consume_load` of the benches have for `tidelog-client`, and
//! the way of a record from end to end, by both.
//!
//! ```text
//! produce ADDRESS TOPIC RECORDS BYTES
//! consume ADDRESS TOPIC RECORDS
//! latency rdkafka|tidelog ADDRESS TOPIC RECORDS LINGER
//! ```
//!
//! The settings are the defaults of each client, but for those that the defaults of the other call for.

mod latency;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// For how long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// After how many records the sender looks at deliveries.
const LOOK_EACH: usize = 1000;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["produce", address, topic, records, bytes] => {
            produce(address, topic, records.parse()?, bytes.parse()?)
        }
        ["consume", address, topic, records] => consume(address, topic, records.parse()?),
        ["latency", client, address, topic, records, linger] => {
            let linger = Duration::from_millis(linger.parse()?);
            latency::run(client, address, topic, records.parse()?, linger)
        }
        _ => Err("see the first lines of benches/rdkafka/src/main.rs".into()),
    }
}

/// A producer as ours is by default.
fn producer_config(address: &str, linger: Duration) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", linger.as_millis().to_string());
    config
}

/// A consumer of partition 0 from its beginning, as ours is by default.
fn consumer(address: &str, topic: &str) -> Outcome<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("isolation.level", "read_uncommitted");
    let consumer: BaseConsumer = config.create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    Ok(consumer)
}

/// Counts what was delivered.
#[derive(Default)]
struct Delivered(AtomicUsize);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(result.is_ok().into(), Ordering::Relaxed);
    }
}

type CountingProducer = BaseProducer<Delivered>;

/// Hands a record over, as soon as there is room.
fn send(producer: &CountingProducer, topic: &str, value: &[u8]) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<(), [u8]>::to(topic).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                producer.poll(Duration::from_millis(100));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Waits until all is delivered.
fn finish(producer: &CountingProducer, records: usize) -> Outcome<()> {
    producer.flush(PATIENCE)?;
    let delivered = producer.context().0.load(Ordering::Relaxed);
    if delivered != records {
        return Err(format!("{delivered} of {records} records were delivered").into());
    }
    Ok(())
}

fn produce(address: &str, topic: &str, records: usize, bytes: usize) -> Outcome<()> {
    let config = producer_config(address, Duration::from_millis(5));
    let producer: CountingProducer = config.create_with_context(Delivered::default())?;
    let value = vec![b'x'; bytes];
    for n in 1..=records {
        send(&producer, topic, &value)?;
        if n % LOOK_EACH == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    finish(&producer, records)
}

fn consume(address: &str, topic: &str, records: usize) -> Outcome<()> {
    let consumer = consumer(address, topic)?;
    let mut bytes = 0;
    for _ in 0..records {
        let record = consumer.poll(PATIENCE).ok_or("nothing more comes")??;
        bytes += record.payload().map_or(0, <[u8]>::len);
    }
    println!("bytes {bytes}");
    Ok(())
}
