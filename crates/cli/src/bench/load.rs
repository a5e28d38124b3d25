//! What is sent, how, and when.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{Acks, Compression, ProducerConfig};
use tokio::task::coop::consume_budget;

use super::round::Stop;
use super::timer::Timer;
use crate::produce::{acks, compression};

/// How large a value may be, in bytes.
const SIZE_MAX: u64 = 64 << 20;

/// What is sent, and for how long.
#[derive(Args, Clone)]
#[command(next_help_heading = "Load")]
pub(super) struct Load {
    /// The bytes of each value.
    #[arg(long, short, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=SIZE_MAX))]
    pub(super) size: u64,
    /// How many different keys there are; without, records have none.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) keys: Option<u64>,
    /// So many records count in a round, instead of a time.
    #[arg(long, short = 'n', value_name = "COUNT", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) records: Option<u64>,
    /// How long a round counts.
    #[arg(long, short, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(super) duration: Duration,
    /// How long the same is done before it counts.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(super) warm_up: Duration,
}

impl Load {
    /// For what is not measured yet.
    pub(super) fn warm_up(&self) -> Self {
        Self {
            records: None,
            duration: self.warm_up,
            ..self.clone()
        }
    }

    /// The part of one of several workers.
    pub(super) fn part(&self, number: usize, workers: usize) -> Self {
        let (number, workers) = (number as u64, workers as u64);
        let part = |all: u64| all / workers + u64::from(number < all % workers);
        Self {
            records: self.records.map(part),
            ..self.clone()
        }
    }

    /// How much, in words.
    pub(super) fn describe(&self) -> String {
        let much = match self.records {
            Some(records) => format!("{records} records"),
            None => format!("{} of records", humantime::format_duration(self.duration)),
        };
        format!("{much} of {} bytes", self.size)
    }
}

/// How it is sent.
#[derive(Args, Clone)]
#[command(next_help_heading = "Producer")]
pub(super) struct Sending {
    /// Who has to have a record before it counts: 0, 1 or all.
    #[arg(long, value_name = "ACKS", value_parser = acks, default_value = "all")]
    acks: Acks,
    /// How to compress: none, gzip, snappy, lz4 or zstd, with a level as in gzip:9.
    #[arg(long, short = 'z', value_name = "CODEC", value_parser = compression, default_value = "none")]
    compression: Compression,
    /// How many bytes of records a batch takes [default: the client's, 256 KiB].
    #[arg(long, value_name = "BYTES")]
    batch_size: Option<usize>,
    /// How long a record waits for others to share its batch [default: 5ms; 0ms for latency].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    linger: Option<Duration>,
    /// How many requests a broker may have at a time [default: the client's, 5].
    #[arg(long, value_name = "COUNT")]
    in_flight: Option<usize>,
    /// Send without the numbers by which brokers recognize what they get twice.
    #[arg(long)]
    no_idempotence: bool,
}

impl Sending {
    pub(super) fn config(&self, linger: Duration) -> ProducerConfig {
        let mut config = ProducerConfig::default();
        config.acks = self.acks;
        config.idempotent = self.acks == Acks::All && !self.no_idempotence;
        config.compression = self.compression;
        config.linger = self.linger.unwrap_or(linger);
        if let Some(bytes) = self.batch_size {
            config.batch_bytes_max = bytes;
            config.request_bytes_max = config.request_bytes_max.max(bytes);
        }
        if let Some(requests) = self.in_flight {
            config.in_flight_max = requests;
        }
        config
    }

    /// In words.
    pub(super) fn describe(config: &ProducerConfig) -> String {
        let idempotent = match config.idempotent {
            true => "idempotent",
            false => "not idempotent",
        };
        format!(
            "acks {}, {idempotent}, linger {}, codec {}",
            acks_name(config.acks),
            humantime::format_duration(config.linger),
            config.compression.codec(),
        )
    }

    /// For programs.
    pub(super) fn settings(config: &ProducerConfig) -> Value {
        json!({
            "acks": acks_name(config.acks),
            "idempotent": config.idempotent,
            "lingerMs": config.linger.as_secs_f64() * 1e3,
            "codec": config.compression.codec().to_string(),
            "batchBytes": config.batch_bytes_max,
            "inFlight": config.in_flight_max,
        })
    }
}

const fn acks_name(acks: Acks) -> &'static str {
    match acks {
        Acks::None => "0",
        Acks::Leader => "1",
        Acks::All => "all",
    }
}

/// Values and keys that are no two the same.
pub(super) struct Source {
    pool: Arc<[u8]>,
    size: usize,
    keys: Option<u64>,
    random: u64,
    key: String,
}

impl Source {
    pub(super) fn new(load: &Load, seed: usize) -> Self {
        /// So much more than a value, so that there are some to choose from.
        const MORE: usize = 64 << 10;
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let size = load.size as usize;
        let mut random = 0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1);
        let pool = (0..size + MORE).map(|_| LETTERS[(next(&mut random) >> 58) as usize]);
        Self {
            pool: pool.collect(),
            size,
            keys: load.keys,
            random,
            key: String::new(),
        }
    }

    /// The next key, if records have one, and value.
    pub(super) fn next(&mut self) -> (Option<&str>, &[u8]) {
        use std::fmt::Write;

        let number = next(&mut self.random);
        let from = (number >> 32) as usize % (self.pool.len() - self.size);
        let key = self.keys.map(|keys| {
            self.key.clear();
            write!(self.key, "key-{}", (number & u64::from(u32::MAX)) % keys)
                .expect("a text takes what is written");
            self.key.as_str()
        });
        (key, &self.pool[from..from + self.size])
    }
}

/// Xorshift64*.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// When each record is due: by a rate that does not wait for anything (so that what comes late is late by all of it, and not left
/// out), or as soon as the one before has been taken.
pub(super) struct Schedule {
    timer: Timer,
    began: Instant,
    ends: Option<Instant>,
    records: Option<u64>,
    rate: Option<f64>,
    sent: u64,
    stop: Stop,
}

impl Schedule {
    pub(super) fn new(load: &Load, rate: Option<f64>, stop: Stop) -> io::Result<Self> {
        let began = Instant::now();
        Ok(Self {
            timer: Timer::new()?,
            began,
            ends: match load.records {
                Some(_) => None,
                None => Some(began + load.duration),
            },
            records: load.records,
            rate,
            sent: 0,
            stop,
        })
    }

    /// Waits until the next record is due; nothing, if there is none.
    pub(super) async fn next(&mut self) -> io::Result<Option<Instant>> {
        if self.stop.is_set() || self.records == Some(self.sent) {
            return Ok(None);
        }
        // Who is late does not wait, and others on this thread have their turn all the same.
        consume_budget().await;
        let due = match self.rate {
            Some(rate) => self.began + Duration::from_secs_f64(self.sent as f64 / rate),
            None => Instant::now(),
        };
        if self.ends.is_some_and(|ends| due >= ends) {
            return Ok(None);
        }
        if self.rate.is_some() {
            self.timer.wait_until(due).await?;
        }
        self.sent += 1;
        Ok(Some(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(records: u64) -> Load {
        Load {
            size: 10,
            keys: Some(2),
            records: Some(records),
            duration: Duration::ZERO,
            warm_up: Duration::ZERO,
        }
    }

    /// Nobody waits for who is late, and no lateness is left out.
    #[tokio::test]
    async fn what_is_late_was_due_all_the_same() {
        let stop = Stop::never();
        let mut schedule = Schedule::new(&load(3), Some(1000.0), stop).unwrap();
        let late = Duration::from_secs(1);
        schedule.began = Instant::now().checked_sub(late).unwrap();
        let began = schedule.began;
        let mut due = Vec::new();
        while let Some(at) = schedule.next().await.unwrap() {
            due.push((at - began).as_millis());
        }
        assert_eq!(due, [0, 1, 2]);
    }

    #[tokio::test]
    async fn nothing_is_sent_before_it_is_due() {
        let stop = Stop::never();
        let mut schedule = Schedule::new(&load(20), Some(2000.0), stop).unwrap();
        while let Some(due) = schedule.next().await.unwrap() {
            assert!(Instant::now() >= due);
        }
        assert!(schedule.began.elapsed() >= Duration::from_micros(9500));
    }

    #[test]
    fn workers_share_a_load() {
        let parts = (0..3).map(|number| load(11).part(number, 3).records.unwrap());
        assert_eq!(parts.collect::<Vec<_>>(), [4, 4, 3]);
    }

    #[test]
    fn values_and_keys_differ() {
        let mut source = Source::new(&load(1), 0);
        let first = source.next().1.to_vec();
        let (key, second) = source.next();
        assert_eq!(second.len(), 10);
        assert_ne!(first, second);
        assert!(["key-0", "key-1"].contains(&key.unwrap()));
    }
}
