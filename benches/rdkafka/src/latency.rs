//! The way of a record from end to end: 20,000 records a second, by the clock, of 100 bytes each, to one partition and back.
//!
//! One thread sends what is due, another one receives; the rest is the client's. A record says when it was due, and counts from then
//! on. The first second is left out.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use tidelog_client::{
    Client, Config, Consumer, ConsumerConfig, OffsetReset, Producer, ProducerConfig,
    ProducerRecord, TopicPartition,
};

use crate::{CountingProducer, Delivered, Outcome, PATIENCE, finish, producer_config, send};

const RATE: usize = 20_000;
const BYTES: usize = 100;

pub fn run(
    client: &str,
    address: &str,
    topic: &str,
    records: usize,
    linger: Duration,
) -> Outcome<()> {
    let mut way = Way {
        begun: Instant::now() + Duration::from_millis(500),
        latencies: Vec::with_capacity(records),
        records,
    };
    match client {
        "rdkafka" => rdkafka(&mut way, address, topic, linger)?,
        "tidelog" => tidelog(&mut way, address, topic, linger)?,
        _ => return Err("rdkafka or tidelog".into()),
    }
    let mut latencies = way.latencies.split_off(RATE.min(records));
    latencies.sort_unstable();
    for (name, thousandths) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
        let index = latencies.len() * thousandths / 1000;
        let latency = latencies
            .get(index)
            .ok_or("more than a second of records")?;
        println!("{name} {:.3}", latency.as_secs_f64() * 1e3);
    }
    Ok(())
}

struct Way {
    begun: Instant,
    /// In the order of arrival.
    latencies: Vec<Duration>,
    records: usize,
}

impl Way {
    fn is_over(&self) -> bool {
        self.latencies.len() == self.records
    }

    fn received(&mut self, value: Option<&[u8]>) -> Outcome<()> {
        let due = value.and_then(|value| value.first_chunk());
        let due = u64::from_be_bytes(*due.ok_or("a record of another kind")?);
        let due = self.begun + Duration::from_nanos(due);
        self.latencies.push(due.elapsed());
        Ok(())
    }
}

/// Sends when it is time.
fn pace(begun: Instant, records: usize, mut send: impl FnMut(&[u8]) -> Outcome<()>) -> Outcome<()> {
    let mut value = [b'x'; BYTES];
    for n in 0..records {
        let due = Duration::from_secs(1) * n as u32 / RATE as u32;
        let wait = (begun + due).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        value[..8].copy_from_slice(&(due.as_nanos() as u64).to_be_bytes());
        send(&value)?;
    }
    Ok(())
}

/// The sender is a thread; what it has to say is said when it ends.
fn beside<T>(
    sending: impl FnOnce() -> Outcome<()> + Send,
    receiving: impl FnOnce() -> Outcome<T>,
) -> Outcome<T> {
    thread::scope(|scope| {
        let sender = scope.spawn(|| sending().map_err(|error| error.to_string()));
        let received = receiving()?;
        sender.join().map_err(|_| "the sender has panicked")??;
        Ok(received)
    })
}

fn rdkafka(way: &mut Way, address: &str, topic: &str, linger: Duration) -> Outcome<()> {
    let config = producer_config(address, linger);
    let producer: CountingProducer = config.create_with_context(Delivered::default())?;
    let consumer = crate::consumer(address, topic)?;
    let (begun, records) = (way.begun, way.records);
    let sending = || {
        pace(begun, records, |value| {
            producer.poll(Duration::ZERO);
            Ok(send(&producer, topic, value)?)
        })?;
        finish(&producer, records)
    };
    beside(sending, || {
        while !way.is_over() {
            let record = consumer.poll(PATIENCE).ok_or("nothing more comes")??;
            way.received(record.payload())?;
        }
        Ok(())
    })
}

fn tidelog(way: &mut Way, address: &str, topic: &str, linger: Duration) -> Outcome<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    let (producer, mut consumer) = runtime.block_on(async {
        let client = Client::connect(address, Config::default()).await?;
        let mut config = ProducerConfig::default();
        config.linger = linger;
        let producer = Producer::new(&client, config)?;
        producer.prepare(topic).await?;
        // A connection of its own, as the consumer of the other has one.
        let client = Client::connect(address, Config::default()).await?;
        let mut config = ConsumerConfig::default();
        config.offset_reset = OffsetReset::Earliest;
        let consumer = Consumer::new(&client, config)?;
        consumer.assign(&[TopicPartition::new(topic, 0)])?;
        Outcome::Ok((producer, consumer))
    })?;
    let (begun, records) = (way.begun, way.records);
    let sending = || {
        pace(begun, records, |value| {
            drop(producer.try_send(&ProducerRecord::to(topic).value(value))?);
            Ok(())
        })?;
        runtime.block_on(producer.flush());
        match producer.statistics().batches_failed {
            0 => Ok(()),
            failed => Err(format!("{failed} batches were not delivered").into()),
        }
    };
    beside(sending, || {
        runtime.block_on(async {
            while !way.is_over() {
                let record = consumer.recv().await?;
                way.received(record.value.as_deref())?;
            }
            Ok(())
        })
    })
}
