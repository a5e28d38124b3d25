//! One round of a bench on one cluster: workers in threads of their own, which are watched from here.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidelog_client::Client;
use tidelog_types::TopicPartition;
use tokio::runtime;
use tokio::sync::{Barrier, mpsc};

use super::measure::{Gauge, Tally, processor_time, resident_bytes};
use super::report;
use super::target::{Side, Target};

/// How often is looked, and said how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What fails in a worker.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// A kind of bench.
pub(super) trait Job: Clone + Send + Sync + 'static {
    /// What it is called.
    const NAME: &'static str;
    /// Which latencies it measures; the first is the one that counts.
    const LATENCIES: &'static [&'static str];
    /// Whether a worker has a thread for its connections beside its own.
    const HAS_IO_THREAD: bool;

    fn target(&self) -> &Target;

    /// How many workers there are.
    fn threads(&self) -> usize;

    /// Refuses what makes no sense.
    fn check(&self) -> Result<(), String>;

    /// In words, what it does.
    fn describe(&self) -> String;

    /// The same for programs.
    fn settings(&self) -> Value;

    /// Gets a cluster ready.
    async fn prepare(&self, side: &Side, stop: &Stop) -> Result<(), Box<dyn Error>>;

    /// What a worker does: warms up, [begins](Worker::begin), and counts. Gives when the last of what counts had happened.
    fn work(&self, worker: Worker) -> impl Future<Output = Result<Instant, Failure>>;
}

/// Whether the user has seen enough.
#[derive(Clone)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Set by SIGINT; a second one ends the process.
    pub(super) fn on_interrupt() -> Self {
        const INTERRUPTED: i32 = 130;
        let stop = Self(Arc::default());
        let set = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                set.0.store(true, Ordering::Relaxed);
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(INTERRUPTED);
            }
        });
        stop
    }

    #[cfg(test)]
    pub(super) fn never() -> Self {
        Self(Arc::default())
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a worker has to know.
pub(super) struct Worker {
    /// From 0 on.
    pub(super) number: usize,
    pub(super) client: Client,
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) gauge: Gauge,
    pub(super) stop: Stop,
    start: Arc<Barrier>,
    events: mpsc::UnboundedSender<Event>,
}

impl Worker {
    /// Waits until all workers are warm; from now on it counts.
    pub(super) async fn begin(&self) {
        self.start.wait().await;
        // Who has gone away has no interest.
        let _ = self.events.send(Event::Began(Instant::now()));
    }
}

enum Event {
    Began(Instant),
    Ended(Result<Instant, Failure>),
}

/// What came of a round.
pub(super) struct Round {
    pub(super) tally: Tally,
    pub(super) took: Duration,
    /// Processor time of this process.
    pub(super) processor: Duration,
    /// The most memory that this process was seen with.
    pub(super) resident: Option<u64>,
}

impl Round {
    pub(super) fn records_per_second(&self) -> f64 {
        self.tally.records as f64 / self.took.as_secs_f64()
    }

    pub(super) fn bytes_per_second(&self) -> f64 {
        self.tally.bytes as f64 / self.took.as_secs_f64()
    }

    /// Microseconds of processor time for a record, or seconds for a million of them.
    pub(super) fn processor_per_record(&self) -> f64 {
        self.processor.as_micros() as f64 / self.tally.records as f64
    }
}

/// Runs a round.
pub(super) async fn run<J: Job>(
    job: &J,
    side: &Side,
    (number, rounds): (u32, u32),
    stop: &Stop,
) -> Result<Round, Box<dyn Error>> {
    let (events, mut told) = mpsc::unbounded_channel();
    let gauge = Gauge::new(J::LATENCIES.len());
    let start = Arc::new(Barrier::new(job.threads()));
    for number in 0..job.threads() {
        let worker = Worker {
            number,
            client: side.client.clone(),
            partitions: side.partitions.clone(),
            gauge: gauge.clone(),
            stop: stop.clone(),
            start: start.clone(),
            events: events.clone(),
        };
        spawn(job.clone(), worker)?;
    }
    drop(events);
    let mut watch = Watch::new(gauge, format!("{} round {number}/{rounds}", side.address));
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let mut working = job.threads();
    while working > 0 {
        tokio::select! {
            event = told.recv() => match event {
                Some(Event::Began(at)) => watch.begin(at),
                Some(Event::Ended(ended)) => {
                    working -= 1;
                    let ended = ended.map_err(|error| -> Box<dyn Error> { error })?;
                    watch.ended = watch.ended.max(Some(ended));
                }
                None => return Err("a worker has died".into()),
            },
            _ = ticks.tick() => watch.look(),
        }
    }
    watch.end()
}

fn spawn<J: Job>(job: J, worker: Worker) -> io::Result<()> {
    let runtime = match J::HAS_IO_THREAD {
        true => runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?,
        false => runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
    };
    let name = format!("bench-{}", worker.number);
    thread::Builder::new().name(name).spawn(move || {
        let events = worker.events.clone();
        let ended = runtime.block_on(async {
            // A connection lives in one runtime.
            let config = worker.client.config().clone();
            let address = worker.client.any().await?.address().to_owned();
            let client = Client::connect(&address, config).await?;
            job.work(Worker { client, ..worker }).await
        });
        let _ = events.send(Event::Ended(ended));
    })?;
    Ok(())
}

/// Who looks on.
struct Watch {
    gauge: Gauge,
    total: Tally,
    began: Option<Instant>,
    ended: Option<Instant>,
    processor: Duration,
    resident: Option<u64>,
    looked: Instant,
    /// What stands in front of what is shown; nothing, if nobody looks.
    title: Option<String>,
}

impl Watch {
    fn new(gauge: Gauge, title: String) -> Self {
        Self {
            total: gauge.take(),
            gauge,
            began: None,
            ended: None,
            processor: Duration::ZERO,
            resident: None,
            looked: Instant::now(),
            title: io::stderr().is_terminal().then_some(title),
        }
    }

    fn begin(&mut self, at: Instant) {
        if self.began.is_none() {
            self.began = Some(at);
            self.processor = processor_time();
            self.looked = at;
        }
    }

    fn look(&mut self) {
        self.resident = self.resident.max(resident_bytes());
        let since = self.gauge.take();
        self.total.add(&since);
        let took = self.looked.elapsed();
        self.looked = Instant::now();
        if let Some(title) = &self.title {
            let line = match self.began {
                None => "warming up".to_owned(),
                Some(began) => report::line(began.elapsed(), &since, took),
            };
            // Who cannot see it misses nothing.
            let _ = write!(io::stderr(), "\r{title}  {line}\x1b[K");
        }
    }

    fn end(mut self) -> Result<Round, Box<dyn Error>> {
        let processor = processor_time().saturating_sub(self.processor);
        self.total.add(&self.gauge.take());
        self.resident = self.resident.max(resident_bytes());
        if self.title.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let (Some(began), Some(ended)) = (self.began, self.ended) else {
            return Err("nothing was measured".into());
        };
        Ok(Round {
            tally: self.total,
            took: ended.saturating_duration_since(began),
            processor,
            resident: self.resident,
        })
    }
}
