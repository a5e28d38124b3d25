//! `tidelog bench produce`.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{Producer, ProducerConfig, ProducerRecord};

use super::load::{Load, Schedule, Sending, Source};
use super::measure::Gauge;
use super::outcomes::Outcomes;
use super::round::{Failure, Job, Stop, Worker};
use super::target::{Side, Target};

/// How long a record waits for others unless it is said, in milliseconds: the client's own default.
const LINGER: Duration = Duration::from_millis(5);

#[derive(Args, Clone)]
pub(super) struct Produce {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    sending: Sending,
    /// So many records a second, by the clock: latencies count from when a record should have been sent [default: as fast as they
    /// are taken].
    #[arg(long, value_name = "COUNT", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How many threads send, each with a producer and connections of its own.
    #[arg(long, value_name = "COUNT", help_heading = "Producer", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

impl Job for Produce {
    const NAME: &'static str = "produce";
    const LATENCIES: &'static [&'static str] = &["acknowledged"];
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
        let rate = match self.rate {
            Some(rate) => format!("at {rate}/s"),
            None => "as fast as they are taken".to_owned(),
        };
        let load = self.load.describe();
        format!("{load}, {rate}; {}", Sending::describe(&self.config()))
    }

    fn settings(&self) -> Value {
        json!({
            "size": self.load.size,
            "keys": self.load.keys,
            "rate": self.rate,
            "threads": self.threads,
            "producer": Sending::settings(&self.config()),
        })
    }

    async fn prepare(&self, _: &Side, _: &Stop) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    async fn work(&self, worker: Worker) -> Result<Instant, Failure> {
        let producer = Producer::new(&worker.client, self.config())?;
        producer.prepare(self.target.topic()).await?;
        let mut source = Source::new(&self.load, worker.number);
        let load = self.load.part(worker.number, self.threads());
        let unseen = Gauge::new(Self::LATENCIES.len());
        self.send(&producer, &mut source, &load.warm_up(), unseen, &worker)
            .await?;
        worker.begin().await;
        let gauge = worker.gauge.clone();
        let ended = self.send(&producer, &mut source, &load, gauge, &worker);
        let ended = ended.await?;
        producer.close().await;
        Ok(ended)
    }
}

impl Produce {
    fn config(&self) -> ProducerConfig {
        self.sending.config(LINGER)
    }

    /// Sends until the load is through, and waits for all outcomes.
    async fn send(
        &self,
        producer: &Producer,
        source: &mut Source,
        load: &Load,
        gauge: Gauge,
        worker: &Worker,
    ) -> Result<Instant, Failure> {
        let rate = self
            .rate
            .map(|rate| f64::from(rate) / f64::from(self.threads));
        let mut schedule = Schedule::new(load, rate, worker.stop.clone())?;
        let mut outcomes = Outcomes::new(gauge, 0, true);
        while let Some(due) = schedule.next().await? {
            let (key, value) = source.next();
            let mut record = ProducerRecord::to(self.target.topic()).value(value);
            record.key = key.map(str::as_bytes);
            let bytes = value.len() + key.map_or(0, str::len);
            outcomes.push(due, bytes, producer.send(record).await?);
        }
        producer.flush().await;
        Ok(outcomes.finish().await?.at)
    }
}
