//! `tidelog bench consume`.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord};
use tidelog_types::{Offset, TopicPartition};
use tokio::time::timeout;

use super::load::{Load, Sending, Source};
use super::measure::Gauge;
use super::outcomes::Outcomes;
use super::round::{Failure, Job, Stop, Worker};
use super::target::{Side, Target};

/// For how long nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Clone)]
pub(super) struct Consume {
    #[command(flatten)]
    target: Target,
    /// How many records a new topic is filled with, and how many count in a round at most [default: 1000000 for a new topic; all].
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// The bytes of each value in a new topic.
    #[arg(long, short, value_name = "BYTES", default_value_t = 100)]
    size: u64,
    /// How long is read before it counts.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// How many threads read, each with a consumer of its own for some of the partitions.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Take records one by one instead of whole batches.
    #[arg(long)]
    one_by_one: bool,
    /// How many bytes an answer should have at least [default: the client's, 1].
    #[arg(long, value_name = "BYTES")]
    fetch_min: Option<usize>,
    /// How many bytes of one partition an answer may have [default: the client's, 1 MiB].
    #[arg(long, value_name = "BYTES")]
    partition_max: Option<usize>,
    /// How a new topic is filled.
    #[command(flatten)]
    sending: Sending,
}

impl Job for Consume {
    const NAME: &'static str = "consume";
    const LATENCIES: &'static [&'static str] = &[];
    const HAS_IO_THREAD: bool = true;

    fn target(&self) -> &Target {
        &self.target
    }

    fn threads(&self) -> usize {
        self.threads.into()
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn describe(&self) -> String {
        let how = match self.one_by_one {
            true => "one by one",
            false => "in batches",
        };
        match self.records {
            Some(records) => format!("{records} records at most, {how}"),
            None => format!("all records, {how}"),
        }
    }

    fn settings(&self) -> Value {
        json!({
            "records": self.records,
            "size": self.size,
            "threads": self.threads,
            "oneByOne": self.one_by_one,
        })
    }

    async fn prepare(&self, side: &Side, stop: &Stop) -> Result<(), Box<dyn Error>> {
        match side.is_new {
            true => self.fill(side, stop).await,
            false => Ok(()),
        }
    }

    async fn work(&self, worker: Worker) -> Result<Instant, Failure> {
        let own = worker.partitions.iter().enumerate();
        let own = own.filter(|(index, _)| index % self.threads() == worker.number);
        let own: Vec<_> = own.map(|(_, partition)| partition.clone()).collect();
        let consumer = Consumer::new(&worker.client, self.config())?;
        let starts = consumer.beginning_offsets(&own).await?;
        let ends = consumer.end_offsets(&own).await?;
        let mut reading = Reading {
            consumer,
            starts,
            ends,
            is_one_by_one: self.one_by_one,
            stop: worker.stop.clone(),
        };
        if !self.warm_up.is_zero() {
            let unseen = Gauge::new(0);
            let until = Some(Instant::now() + self.warm_up);
            reading.read(u64::MAX, until, &unseen).await?;
        }
        let records = self.records.unwrap_or(u64::MAX);
        worker.begin().await;
        let ended = reading.read(records, None, &worker.gauge).await?;
        reading.consumer.close().await?;
        Ok(ended)
    }
}

impl Consume {
    fn config(&self) -> ConsumerConfig {
        let mut config = ConsumerConfig::default();
        if let Some(bytes) = self.fetch_min {
            config.fetch_bytes_min = bytes;
        }
        if let Some(bytes) = self.partition_max {
            config.partition_bytes_max = bytes;
        }
        config
    }

    /// Fills a new topic.
    async fn fill(&self, side: &Side, stop: &Stop) -> Result<(), Box<dyn Error>> {
        const RECORDS: u64 = 1_000_000;
        let linger = ProducerConfig::default().linger;
        let producer = Producer::new(&side.client, self.sending.config(linger))?;
        let load = Load {
            size: self.size,
            keys: None,
            records: None,
            duration: Duration::ZERO,
            warm_up: Duration::ZERO,
        };
        let mut source = Source::new(&load, 0);
        let gauge = Gauge::new(1);
        let mut outcomes = Outcomes::new(gauge.clone(), 0, true);
        for _ in 0..self.records.unwrap_or(RECORDS) {
            if stop.is_set() {
                break;
            }
            let (_, value) = source.next();
            let record = ProducerRecord::to(self.target.topic()).value(value);
            let delivery = producer.send(record).await?;
            outcomes.push(Instant::now(), value.len(), delivery);
            tokio::task::coop::consume_budget().await;
        }
        producer.close().await;
        let finished = outcomes.finish().await;
        finished.map_err(|error| -> Box<dyn Error> { error })?;
        match gauge.take().first_error {
            Some(error) => Err(format!("the topic cannot be filled: {error}").into()),
            None => Ok(()),
        }
    }
}

/// A consumer, and what it reads.
struct Reading {
    consumer: Consumer,
    starts: BTreeMap<TopicPartition, Offset>,
    ends: BTreeMap<TopicPartition, Offset>,
    is_one_by_one: bool,
    stop: Stop,
}

impl Reading {
    /// Reads from the start: so many records, or to the end, or so long.
    async fn read(
        &mut self,
        records: u64,
        until: Option<Instant>,
        gauge: &Gauge,
    ) -> Result<Instant, Failure> {
        let is_empty = |(partition, end): (&TopicPartition, &Offset)| {
            self.starts.get(partition).is_none_or(|start| start >= end)
        };
        let mut left: BTreeMap<_, _> = self.ends.clone();
        left.retain(|partition, end| !is_empty((partition, end)));
        let partitions: Vec<_> = left.keys().cloned().collect();
        self.consumer.assign(&partitions)?;
        for partition in &partitions {
            self.consumer.seek(partition, self.starts[partition])?;
        }
        let mut read = 0;
        while !left.is_empty() && read < records && !self.stop.is_set() {
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            let next = timeout(PATIENCE, self.next()).await;
            let (partition, next_offset, count, bytes) =
                next.map_err(|_| format!("nothing has come for {PATIENCE:?}"))??;
            read += count;
            gauge.count(|tally| {
                tally.records += count;
                tally.bytes += bytes;
            });
            if left.get(&partition).is_some_and(|end| next_offset >= *end) {
                left.remove(&partition);
            }
        }
        Ok(Instant::now())
    }

    /// Of what came next: where it is from, the offset behind it, how many records it is, and their bytes.
    async fn next(&mut self) -> Result<(TopicPartition, Offset, u64, u64), Failure> {
        if self.is_one_by_one {
            let record = self.consumer.recv().await?;
            let bytes = record.value.as_ref().map_or(0, |it| it.len())
                + record.key.as_ref().map_or(0, |it| it.len());
            let partition = TopicPartition::new(record.topic, record.partition);
            return Ok((partition, record.offset.next(), 1, bytes as u64));
        }
        let batch = self.consumer.recv_batch().await?;
        let (mut count, mut bytes) = (0, 0);
        batch.visit(|record| {
            count += 1;
            bytes += record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
        })?;
        let partition = TopicPartition::new(batch.topic().clone(), batch.partition());
        Ok((partition, batch.next_offset(), count, bytes as u64))
    }
}
