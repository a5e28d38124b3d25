//! A queue of jobs: workers share them, a job that fails is tried again, one that fails every time is put aside, and the jobs
//! of a worker that dies are taken over.
//!
//! The workers are members of one consumer group, which divides the partitions of the topic among them. A worker commits a job when
//! it is done with it: whoever takes over a partition begins with the first job that nobody was done with. A job is so done at least
//! once, and twice if a worker dies between its last step and the commit; results that are named by their job make the second time
//! harmless.
//!
//! `cargo run -p tidelog-examples --example work_queue`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidelog_broker::{Broker, MemoryNetwork, NewTopic, Offset};
use tidelog_client::{
    Client, Config, Connecting, Consumer, ConsumerConfig, ConsumerRecord, OffsetReset, Producer,
    ProducerConfig, ProducerRecord, Stream, Transport,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How often a job is tried.
const ATTEMPTS_MAX: u32 = 3;
/// The header that says which attempt this is.
const ATTEMPT: &str = "attempt";
const JOBS: usize = 12;

/// How clients reach the broker: it is in this process and has no port.
#[derive(Debug)]
struct InProcess(MemoryNetwork);

impl Transport for InProcess {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let stream = self.0.connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

async fn connect(broker: &Broker, name: &str) -> Outcome<Client> {
    let mut config = Config::default();
    config.client_id = name.into();
    config.transport = Arc::new(InProcess(broker.network().clone()));
    Ok(Client::connect(&broker.bootstrap_servers(), config).await?)
}

/// What there is to do; this one knows how jobs go wrong.
struct Work {
    /// Told the worker to whom the job `hangs` came first: he never gets further.
    hanging: mpsc::Sender<&'static str>,
    has_hung: AtomicBool,
}

impl Work {
    async fn perform(
        &self,
        worker: &'static str,
        job: &str,
        attempt: u32,
    ) -> Result<String, String> {
        match job {
            "flaky" if attempt == 1 => Err("the other end did not answer".to_owned()),
            "poison" => Err("this is no job at all".to_owned()),
            "hangs" if !self.has_hung.swap(true, Ordering::Relaxed) => {
                let _ = self.hanging.send(worker).await;
                std::future::pending().await
            }
            job => Ok(format!("{job}, done")),
        }
    }
}

/// One of those who work, until it is stopped.
struct Worker {
    name: &'static str,
    work: Arc<Work>,
    jobs: Consumer,
    producer: Producer,
}

impl Worker {
    async fn start(
        broker: &Broker,
        name: &'static str,
        work: &Arc<Work>,
    ) -> Outcome<JoinHandle<Outcome<()>>> {
        let client = connect(broker, name).await?;
        let mut config = ConsumerConfig::group("workers");
        config.offset_reset = OffsetReset::Earliest;
        // Only what is done is committed, and at once.
        config.auto_commit_interval = None;
        let jobs = Consumer::new(&client, config)?;
        jobs.subscribe(&["jobs"])?;
        let producer = Producer::new(&client, ProducerConfig::default())?;
        let work = Arc::clone(work);
        let worker = Self {
            name,
            work,
            jobs,
            producer,
        };
        Ok(tokio::spawn(worker.run()))
    }

    async fn run(mut self) -> Outcome<()> {
        loop {
            // What is about a connection or the group passes, and is tried again.
            let Ok(job) = self.jobs.recv().await else {
                continue;
            };
            self.handle(&job).await?;
            // Refused if another has the partition by now, who does the job again.
            let _ = self.jobs.commit().await;
        }
    }

    async fn handle(&self, job: &ConsumerRecord) -> Outcome<()> {
        let attempt = match job.header(ATTEMPT) {
            Some(attempt) => str::from_utf8(attempt)?.parse()?,
            None => 1,
        };
        let text = String::from_utf8_lossy(job.value.as_deref().unwrap_or_default());
        let next = (attempt + 1).to_string();
        let (value, record) = match self.work.perform(self.name, &text, attempt).await {
            Ok(result) => (
                result,
                ProducerRecord::to("results").header("worker", self.name),
            ),
            // To the end of the queue, so that it holds up no other.
            Err(_) if attempt < ATTEMPTS_MAX => (
                text.to_string(),
                ProducerRecord::to("jobs").header(ATTEMPT, &next),
            ),
            Err(reason) => (
                format!("{text}: {reason}"),
                ProducerRecord::to("jobs-put-aside"),
            ),
        };
        self.producer.send(record.value(&value)).await?.await?;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    // Whoever has not been heard of for two seconds is taken for dead; 45 are the default.
    let broker = Broker::builder()
        .no_ports()
        .property("group.consumer.min.session.timeout.ms", "2000")
        .property("group.consumer.session.timeout.ms", "2000")
        .property("group.consumer.min.heartbeat.interval.ms", "200")
        .property("group.consumer.heartbeat.interval.ms", "200")
        .start()
        .await?;
    // As many may work side by side as there are partitions.
    broker
        .create_topic(NewTopic::new("jobs").partitions(6))
        .await?;
    let results = broker.create_topic("results").await?;
    let put_aside = broker.create_topic("jobs-put-aside").await?;

    let (hanging, mut hung) = mpsc::channel(1);
    let has_hung = AtomicBool::new(false);
    let work = Arc::new(Work { hanging, has_hung });
    let mut workers = BTreeMap::new();
    for name in ["anna", "ben", "cleo"] {
        workers.insert(name, Worker::start(&broker, name, &work).await?);
    }

    let client = connect(&broker, "office").await?;
    let producer = Producer::new(&client, ProducerConfig::default())?;
    let mut jobs: Vec<_> = (0..JOBS - 3).map(|n| format!("job {n}")).collect();
    jobs.extend(["flaky", "poison", "hangs"].map(str::to_owned));
    for (n, job) in jobs.iter().enumerate() {
        let record = ProducerRecord::to("jobs")
            .value(job)
            .partition((n % 6) as i32);
        producer.send(record).await?.await?;
    }
    println!("{} jobs for {} workers", jobs.len(), workers.len());

    let dead = hung.recv().await.ok_or("somebody hangs")?;
    workers.get(dead).ok_or("a worker")?.abort();
    println!("one was killed in the middle of a job");

    let mut done = BTreeMap::<String, String>::new();
    let mut records = results.records(0, Offset::ZERO);
    while done.len() < JOBS - 1 {
        let result = records.next().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let worker = text(result.header("worker").ok_or("a worker")?);
        done.insert(text(result.value.as_deref().unwrap_or_default()), worker);
    }
    assert_ne!(done["hangs, done"], dead);
    println!("its job was taken over");
    let expected = jobs.iter().filter(|job| *job != "poison");
    let expected: BTreeSet<_> = expected.map(|job| format!("{job}, done")).collect();
    assert_eq!(done.keys().cloned().collect::<BTreeSet<_>>(), expected);
    println!(
        "{} jobs are done, one of them at the second attempt",
        done.len()
    );
    let aside = put_aside.records(0, Offset::ZERO).next().await?;
    let aside = aside.value.unwrap_or_default();
    println!(
        "put aside after {ATTEMPTS_MAX} attempts: {}",
        String::from_utf8_lossy(&aside)
    );

    workers.values().for_each(JoinHandle::abort);
    broker.shutdown().await?;
    Ok(())
}
