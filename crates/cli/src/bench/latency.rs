//! `tidelog bench latency`.
//!
//! Producer, consumer and their connections share one thread, which sleeps until something is due or has come: no other thread has
//! to be woken on the way of a record, and nothing polls.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::load::{Load, Schedule, Sending, Source};
use super::measure::Gauge;
use super::outcomes::Outcomes;
use super::round::{Failure, Job, Stop, Worker};
use super::target::{Side, Target};

/// For how long nothing may come before records are taken for lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// What each value begins with: in which run it was sent, and when it was due, in nanoseconds.
const STAMP: usize = 16;

/// From when a record was due until the consumer has it.
const END_TO_END: usize = 0;
/// From when a record was due until the producer knows that it was delivered.
const ACKNOWLEDGED: usize = 1;
/// By how much this program was behind when it handed a record to the producer.
const SENDER_LATE: usize = 2;

#[derive(Args, Clone)]
pub(super) struct Latency {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    sending: Sending,
    /// So many records a second, by the clock: latencies count from when a record should have been sent.
    #[arg(long, value_name = "COUNT", help_heading = "Load", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Send a record when the one before has come back.
    #[arg(long, help_heading = "Load", conflicts_with = "rate")]
    one_at_a_time: bool,
}

impl Job for Latency {
    const NAME: &'static str = "latency";
    const LATENCIES: &'static [&'static str] = &["end to end", "acknowledged", "sender late"];
    const HAS_IO_THREAD: bool = false;

    fn target(&self) -> &Target {
        &self.target
    }

    fn threads(&self) -> usize {
        1
    }

    fn check(&self) -> Result<(), String> {
        match self.load.size < STAMP as u64 {
            true => Err(format!(
                "--size {}: a value has {STAMP} bytes at least, which say when it was due",
                self.load.size
            )),
            false => Ok(()),
        }
    }

    fn describe(&self) -> String {
        let rate = match self.one_at_a_time {
            true => "one at a time".to_owned(),
            false => format!("at {}/s", self.rate),
        };
        let load = self.load.describe();
        format!("{load}, {rate}; {}", Sending::describe(&self.config()))
    }

    fn settings(&self) -> Value {
        json!({
            "size": self.load.size,
            "keys": self.load.keys,
            "rate": (!self.one_at_a_time).then_some(self.rate),
            "oneAtATime": self.one_at_a_time,
            "producer": Sending::settings(&self.config()),
        })
    }

    async fn prepare(&self, _: &Side, _: &Stop) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    async fn work(&self, worker: Worker) -> Result<Instant, Failure> {
        let producer = Producer::new(&worker.client, self.config())?;
        producer.prepare(self.target.topic()).await?;
        let consumer = Consumer::new(&worker.client, ConsumerConfig::default())?;
        let ends = consumer.end_offsets(&worker.partitions).await?;
        consumer.assign(&worker.partitions)?;
        for (partition, end) in ends {
            consumer.seek(&partition, end)?;
        }
        let mut way = Way {
            producer,
            consumer: Some(consumer),
            source: Source::new(&self.load, worker.number),
            stop: worker.stop.clone(),
        };
        let unseen = Gauge::new(Self::LATENCIES.len());
        self.measure(&mut way, &self.load.warm_up(), unseen).await?;
        worker.begin().await;
        let ended = self.measure(&mut way, &self.load, worker.gauge.clone());
        let ended = ended.await?;
        way.producer.close().await;
        Ok(ended)
    }
}

/// What records go through.
struct Way {
    producer: Producer,
    consumer: Option<Consumer>,
    source: Source,
    stop: Stop,
}

/// What tells the records of one run, and when they were due.
#[derive(Clone, Copy)]
struct Stamp {
    run: u64,
    began: Instant,
}

impl Stamp {
    fn write(&self, due: Instant, value: &mut [u8]) {
        let nanos = u64::try_from((due - self.began).as_nanos()).unwrap_or(u64::MAX);
        value[..8].copy_from_slice(&self.run.to_be_bytes());
        value[8..STAMP].copy_from_slice(&nanos.to_be_bytes());
    }

    /// When a record was due; nothing, if it is of another run.
    fn read(&self, value: Option<&[u8]>) -> Option<Instant> {
        let (run, rest) = value?.split_first_chunk()?;
        let (nanos, _) = rest.split_first_chunk()?;
        let is_ours = u64::from_be_bytes(*run) == self.run;
        is_ours.then(|| self.began + Duration::from_nanos(u64::from_be_bytes(*nanos)))
    }
}

impl Latency {
    fn config(&self) -> ProducerConfig {
        self.sending.config(Duration::ZERO)
    }

    /// Sends a load, and waits until all of it has come.
    async fn measure(&self, way: &mut Way, load: &Load, gauge: Gauge) -> Result<Instant, Failure> {
        let stamp = Stamp {
            run: getrandom::u64()?,
            began: Instant::now(),
        };
        let (expected, wanted) = watch::channel(None);
        let back = Arc::new(Notify::new());
        let receiving: JoinHandle<Result<Received, Failure>> = tokio::spawn(receive(
            way.consumer.take().ok_or("the consumer has failed")?,
            stamp,
            gauge.clone(),
            back.clone(),
            wanted,
        ));
        let delivered = self.send(way, load, stamp, gauge, &back).await?;
        // Who has failed says why.
        let _ = expected.send(Some(delivered));
        let received = receiving.await??;
        way.consumer = Some(received.consumer);
        Ok(received.last)
    }

    /// Gives how many records were delivered.
    async fn send(
        &self,
        way: &mut Way,
        load: &Load,
        stamp: Stamp,
        gauge: Gauge,
        back: &Notify,
    ) -> Result<u64, Failure> {
        let rate = (!self.one_at_a_time).then_some(f64::from(self.rate));
        let mut schedule = Schedule::new(load, rate, way.stop.clone())?;
        let mut outcomes = Outcomes::new(gauge.clone(), ACKNOWLEDGED, false);
        let mut value = Vec::new();
        while let Some(due) = schedule.next().await? {
            gauge.count(|tally| tally.record(SENDER_LATE, due.elapsed()));
            let (key, filler) = way.source.next();
            value.clear();
            value.extend_from_slice(filler);
            stamp.write(due, &mut value);
            let mut record = ProducerRecord::to(self.target.topic()).value(&value);
            record.key = key.map(str::as_bytes);
            let delivery = way.producer.send(record).await?;
            outcomes.push(due, value.len(), delivery);
            if self.one_at_a_time && timeout(PATIENCE, back.notified()).await.is_err() {
                break;
            }
        }
        way.producer.flush().await;
        Ok(outcomes.finish().await?.delivered)
    }
}

/// The consumer, and when it got the last record.
struct Received {
    consumer: Consumer,
    last: Instant,
}

/// Reads until as many records have come as are expected, once that is known. What has not come then is counted.
async fn receive(
    mut consumer: Consumer,
    stamp: Stamp,
    gauge: Gauge,
    back: Arc<Notify>,
    mut wanted: watch::Receiver<Option<u64>>,
) -> Result<Received, Failure> {
    let mut last = Instant::now();
    let (mut received, mut expected) = (0, None);
    while expected.is_none_or(|expected| received < expected) {
        let record = tokio::select! {
            biased;
            record = consumer.recv() => record?,
            changed = wanted.changed(), if expected.is_none() => {
                changed?;
                expected = *wanted.borrow_and_update();
                last = Instant::now().max(last);
                continue;
            }
            () = tokio::time::sleep_until((last + PATIENCE).into()), if expected.is_some() => break,
        };
        let now = Instant::now();
        let Some(due) = stamp.read(record.value.as_deref()) else {
            continue;
        };
        last = now;
        received += 1;
        gauge.count(|tally| {
            tally.records += 1;
            tally.bytes += record.value.as_ref().map_or(0, |it| it.len() as u64);
            tally.record(END_TO_END, now - due);
        });
        back.notify_one();
    }
    let lost = expected.unwrap_or(received).saturating_sub(received);
    if lost > 0 {
        gauge.count(|tally| {
            tally.failed += lost;
            let what = format!("delivered, and not read again within {PATIENCE:?}");
            tally.first_error.get_or_insert(what);
        });
    }
    Ok(Received { consumer, last })
}
