//! Records in, offsets out.

mod accumulator;
mod config;
mod core;
mod delivery;
mod error;
mod partitioner;
mod record;
mod sender;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tidelog_protocol::messages::init_producer_id::InitProducerIdRequest;
use tidelog_record::BatchBuilder;
use tidelog_types::{ErrorCode, Timestamp, TopicName};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::accumulator::{Identity, Input};
use self::core::{Core, Put};
use crate::backoff::{Pace, Random, backoff};
use crate::{Client, ClientError};

pub use self::config::{Acks, ProducerConfig};
pub use self::delivery::{Delivery, RecordMetadata};
pub use self::error::ProduceError;
pub use self::partitioner::{Partitioner, murmur2, partition_for_key};
pub use self::record::ProducerRecord;

/// Sends records, in batches, to the leaders of their partitions.
///
/// [`send`](Self::send) puts a record into the batch of its partition and gives a [`Delivery`], a future of where the record is.
/// Not waiting for one before the next is sent is what makes it fast:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// # let broker = tidelog_broker::Broker::builder().data_dir(dir.path()).listener("PLAINTEXT://127.0.0.1:0");
/// # let broker = broker.start().await?;
/// # let bootstrap = broker.bootstrap_servers();
/// use tidelog_client::{Client, Config, Producer, ProducerConfig, ProducerRecord};
///
/// let client = Client::connect(&bootstrap, Config::default()).await?;
/// let producer = Producer::new(&client, ProducerConfig::default())?;
/// let mut deliveries = Vec::new();
/// for n in 0..1000 {
///     let value = format!("order {n}");
///     let record = ProducerRecord::to("orders").key(b"user-7").value(&value);
///     deliveries.push(producer.send(record).await?);
/// }
/// for delivery in deliveries {
///     let metadata = delivery.await?;
///     assert_eq!(metadata.partition, 0);
/// }
/// producer.close().await;
/// # Ok(())
/// # })
/// # }
/// ```
///
/// Every record that was accepted gets exactly one outcome, within [`ProducerConfig::delivery_timeout`]. What fails for a reason
/// that may pass is sent again, and by default (idempotence) neither doubled nor reordered by that.
///
/// A clone is the same producer. When the last one is dropped, what has no outcome yet ends as [`ProduceError::Closed`];
/// [`close`](Self::close) waits for the outcomes first.
#[derive(Clone, Debug)]
pub struct Producer {
    handle: Arc<Owner>,
}

/// What a producer has done since it began, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerStatistics {
    /// Records accepted.
    pub records: u64,
    /// Their bytes, with about what a batch adds to each.
    pub record_bytes: u64,
    /// Requests sent.
    pub requests: u64,
    /// Batches in them, also those that were sent again.
    pub batches: u64,
    /// Batches that were delivered.
    pub batches_delivered: u64,
    /// Batches that were not.
    pub batches_failed: u64,
    /// How often a batch had to be sent again.
    pub retries: u64,
    /// Bytes of records without an outcome.
    pub buffered_bytes: usize,
    /// Requests that wait for an answer.
    pub requests_in_flight: usize,
}

/// Ends the producer when the last handle goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// What the handles and the tasks of a producer share.
#[derive(Debug)]
struct Shared {
    client: Client,
    config: ProducerConfig,
    core: Mutex<Core>,
    /// Something is due earlier than the timer thinks.
    timer: Notify,
    /// Somebody wants to know who leads what.
    refresh: Notify,
    /// Something has ended, and so made room.
    room: Notify,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
}

impl Producer {
    /// A producer that uses the connections of `client`. Its tasks run on the current tokio runtime.
    ///
    /// # Panics
    /// If there is no current runtime.
    pub fn new(client: &Client, config: ProducerConfig) -> Result<Self, ProduceError> {
        config.check()?;
        try_codec(&config)?;
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(config.clone(), client.config())),
            client: client.clone(),
            config,
            timer: Notify::new(),
            refresh: Notify::new(),
            room: Notify::new(),
            tasks: Mutex::default(),
            runtime: Handle::current(),
        });
        shared.spawn(keep_time(shared.clone()));
        shared.spawn(keep_metadata(shared.clone()));
        Ok(Self {
            handle: Arc::new(Owner { shared }),
        })
    }

    /// Hands a record over, and gives what becomes of it. Waits while the topic is looked up, and while there is no room
    /// ([`ProducerConfig::buffer_bytes_max`]).
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, ProduceError> {
        let shared = &self.handle.shared;
        match shared.put(&record)? {
            Put::Joined(delivery) | Put::Opened(delivery) => Ok(delivery),
            Put::Unknown | Put::Full => shared.put_later(&record).await,
        }
    }

    /// Hands a record over if that needs no waiting. Can be called from anywhere, also where nothing is asynchronous.
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<Delivery, ProduceError> {
        match self.handle.shared.put(record)? {
            Put::Joined(delivery) | Put::Opened(delivery) => Ok(delivery),
            Put::Full => Err(ProduceError::Full),
            Put::Unknown => Err(ProduceError::TopicNotPrepared {
                topic: record.topic.into(),
            }),
        }
    }

    /// Looks up a topic, so that the first record need not wait for it.
    pub async fn prepare(&self, topic: &str) -> Result<(), ProduceError> {
        self.handle.shared.look_up(&topic.into()).await
    }

    /// Sends at once what lingers, and waits until everything that was handed over so far has its outcome.
    pub async fn flush(&self) {
        let cells = self.handle.shared.with_core(|core| {
            core.handle(Input::Flush);
            core.cells()
        });
        for cell in cells {
            cell.ended().await;
        }
    }

    /// Takes no further record, waits until everything has its outcome, and ends. That takes
    /// [`ProducerConfig::delivery_timeout`] at most.
    pub async fn close(&self) {
        self.handle.shared.core.lock().is_closed = true;
        self.flush().await;
        self.handle.shared.end();
    }

    /// What the producer has done so far.
    pub fn statistics(&self) -> ProducerStatistics {
        self.handle.shared.core.lock().snapshot()
    }
}

/// Fails now rather than with the first batch.
fn try_codec(config: &ProducerConfig) -> Result<(), ProduceError> {
    let mut probe = BatchBuilder::new(config.compression);
    probe.push(Timestamp::from_millis(0), None, None, &[]);
    probe
        .build()
        .map(drop)
        .map_err(|error| ProduceError::Codec {
            reason: error.to_string().into(),
        })
}

impl Shared {
    /// Works on the core, then does what it leaves to be done.
    fn with_core<T>(self: &Arc<Self>, work: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock();
        let done = work(&mut core);
        self.follow_up(core);
        done
    }

    fn follow_up(self: &Arc<Self>, mut core: MutexGuard<'_, Core>) {
        let chores = std::mem::take(&mut core.chores);
        let is_earlier = match (core.deadline(), core.timer_at) {
            (Some(due), Some(at)) => due < at,
            (due, None) => due.is_some(),
            (None, _) => false,
        };
        drop(core);
        if is_earlier {
            self.timer.notify_one();
        }
        if chores.refresh {
            self.refresh.notify_one();
        }
        if chores.identify {
            self.spawn(identify(self.clone()));
        }
        for (node, orders) in chores.nodes {
            self.spawn(sender::serve(self.clone(), node, orders));
        }
        if !chores.ended.is_empty() {
            for (cell, how) in chores.ended {
                cell.end(how);
            }
            self.room.notify_waiters();
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().spawn_on(task, &self.runtime);
    }

    fn put(self: &Arc<Self>, record: &ProducerRecord<'_>) -> Result<Put, ProduceError> {
        let mut core = self.core.lock();
        let put = core.put(record);
        if !matches!(put, Ok(Put::Joined(_))) {
            self.follow_up(core);
        }
        put
    }

    /// Until there is room and the topic is known.
    async fn put_later(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
    ) -> Result<Delivery, ProduceError> {
        let mut was_looked_up = false;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.put(record)? {
                Put::Joined(delivery) | Put::Opened(delivery) => return Ok(delivery),
                Put::Full => room.await,
                Put::Unknown if was_looked_up => {
                    return Err(ProduceError::NoPartition {
                        topic: record.topic.into(),
                        partition: record.partition.unwrap_or_default(),
                        partitions: self.core.lock().partitions(record.topic),
                    });
                }
                Put::Unknown => {
                    self.look_up(&record.topic.into()).await?;
                    was_looked_up = true;
                }
            }
        }
    }

    /// Asks for a topic until it is known, or for [`ProducerConfig::topic_timeout`].
    async fn look_up(self: &Arc<Self>, topic: &TopicName) -> Result<(), ProduceError> {
        let until = Instant::now() + self.config.topic_timeout;
        let config = self.client.config();
        let mut random = Random::seeded();
        let mut failures = 0;
        loop {
            let asked = self
                .client
                .refresh(std::slice::from_ref(topic), self.config.may_create_topics);
            let error = match asked.await {
                Ok(failed) => {
                    let client = &self.client;
                    let learn =
                        |core: &mut Core| client.read_cluster(|cluster| core.learn(topic, cluster));
                    if failed.is_empty() && self.with_core(learn) {
                        return Ok(());
                    }
                    let code = failed.first().map(|(_, code)| *code);
                    ProduceError::Topic {
                        topic: topic.clone(),
                        code: code.unwrap_or(ErrorCode::LEADER_NOT_AVAILABLE),
                    }
                }
                Err(error) => ProduceError::Client(Arc::new(error)),
            };
            failures += 1;
            let (first, max) = (config.retry_backoff, config.retry_backoff_max);
            let wait = backoff(first, max, failures, &mut random);
            if !error.is_retriable() || Instant::now() + wait > until {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Ends everything that is not over.
    fn end(self: &Arc<Self>) {
        self.with_core(|core| {
            core.is_closed = true;
            core.handle(Input::Abort);
            core.end_nodes();
        });
        self.tasks.lock().abort_all();
    }
}

/// Calls the accumulator when something is due.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let due = {
            let mut core = shared.core.lock();
            core.timer_at = core.deadline();
            core.timer_at
        };
        let Some(due) = due else {
            shared.timer.notified().await;
            continue;
        };
        // A sleep takes until the next whole millisecond, even if its time is over.
        if Instant::now() < due.into() {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = shared.timer.notified() => continue,
            }
        }
        shared.with_core(|core| core.handle(Input::Timeout));
    }
}

/// Asks who leads what: when something went wrong, and once in a while.
async fn keep_metadata(shared: Arc<Shared>) {
    let config = shared.client.config();
    let mut pace = Pace::seeded();
    loop {
        let idle_since = Instant::now();
        let is_urgent = tokio::select! {
            () = shared.refresh.notified() => true,
            () = tokio::time::sleep(config.metadata_age_max) => false,
        };
        let topics = shared.core.lock().topics();
        match shared.client.refresh(&topics, false).await {
            Ok(failed) => {
                for (topic, code) in failed {
                    tracing::debug!(%topic, %code, "a topic cannot be looked up");
                }
            }
            Err(error) => tracing::debug!(%error, "nobody says who leads what"),
        }
        shared.with_core(|core| {
            shared.client.read_cluster(|cluster| {
                for topic in &topics {
                    core.learn(topic, cluster);
                }
            });
        });
        if !is_urgent {
            continue;
        }
        let (first, max) = (config.retry_backoff, config.retry_backoff_max);
        tokio::time::sleep(pace.wait(idle_since.elapsed(), first, max)).await;
    }
}

/// Gets a producer id, from any broker (KIP-98).
async fn identify(shared: Arc<Shared>) {
    let request = InitProducerIdRequest {
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let config = shared.client.config();
    let mut random = Random::seeded();
    let mut failures = 0;
    loop {
        let answer = shared.client.ask_any(&request).await;
        let refused = match answer {
            Ok(answer) if answer.error_code.is_ok() => {
                let identity = Identity {
                    producer_id: answer.producer_id,
                    producer_epoch: answer.producer_epoch,
                };
                tracing::debug!(?identity, "the producer has an id");
                return shared.with_core(|core| core.handle(Input::Identified { identity }));
            }
            Ok(answer) => answer.error_code,
            Err(ClientError::Unsupported { .. }) => ErrorCode::UNSUPPORTED_VERSION,
            Err(error) if error.is_distrust() => ErrorCode::SASL_AUTHENTICATION_FAILED,
            Err(error) => {
                tracing::debug!(%error, "nobody gives a producer id");
                ErrorCode::NETWORK_EXCEPTION
            }
        };
        if !refused.is_retriable() {
            let error_code = refused;
            return shared.with_core(|core| core.handle(Input::Unidentified { error_code }));
        }
        failures += 1;
        let (first, max) = (config.retry_backoff, config.retry_backoff_max);
        let wait: Duration = backoff(first, max, failures, &mut random);
        tokio::time::sleep(wait).await;
    }
}
