//! Records out.
//!
//! The [`Fetcher`](fetcher::Fetcher) decides what is asked of whom; tasks send its requests. What comes is kept as it came, and looked into
//! when the application asks for the next record: by its own task, without a lock, and without a copy.

mod classic;
mod commits;
mod config;
mod core;
mod error;
mod fetcher;
mod group;
#[cfg_attr(
    feature = "machines",
    expect(missing_docs, reason = "nobody is promised anything")
)]
#[cfg_attr(
    not(feature = "machines"),
    expect(unreachable_pub, reason = "see `machines`")
)]
pub(crate) mod membership;
mod reader;
mod record;
mod requests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use parking_lot::Mutex;
use tidelog_record::BatchError;
use tidelog_types::{Offset, Timestamp, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::core::{Core, Ready};
use self::fetcher::{Position, Start};
use self::membership::Subscription;
use self::reader::Reader;
use crate::backoff::Pace;
use crate::{Broker, Client, CommittedOffset, OffsetAt, OffsetSpec};

pub use self::commits::Commit;
pub use self::config::{ConsumerConfig, GroupProtocol, IsolationLevel, OffsetReset};
pub use self::core::Watermarks;
pub use self::error::ConsumeError;
pub use self::group::Rebalance;
pub use self::membership::Assignor;
pub use self::record::{ConsumerBatch, ConsumerRecord};

/// Reads records, partition by partition in their order.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let dir = tempfile::tempdir()?;
/// # let broker = tidelog_broker::Broker::builder().data_dir(dir.path()).listener("PLAINTEXT://127.0.0.1:0");
/// # let broker = broker.start().await?;
/// # let bootstrap = broker.bootstrap_servers();
/// use tidelog_client::{Client, Config, Consumer, ConsumerConfig, OffsetReset};
/// # use tidelog_client::{Producer, ProducerConfig, ProducerRecord};
///
/// let client = Client::connect(&bootstrap, Config::default()).await?;
/// # let producer = Producer::new(&client, ProducerConfig::default())?;
/// # producer.send(ProducerRecord::to("orders").value("two apples")).await?.await?;
/// let mut config = ConsumerConfig::group("billing");
/// config.offset_reset = OffsetReset::Earliest;
/// let mut consumer = Consumer::new(&client, config)?;
/// consumer.subscribe(&["orders"])?;
///
/// let record = consumer.recv().await?;
/// assert_eq!(record.value.as_deref(), Some(&b"two apples"[..]));
/// consumer.close().await?;
/// # Ok(())
/// # })
/// # }
/// ```
///
/// [`recv`](Self::recv) is cancel-safe, and the consumer is a [`Stream`] that never ends; [`recv_batch`](Self::recv_batch) and
/// [`batches`](Self::batches) bring whole batches, which costs less. What is kept ahead is bounded by
/// [`ConsumerConfig::buffer_bytes_max`]. An error is about one partition, unless it says otherwise; the others go on with the next call.
///
/// **When a record counts as consumed**: when the next one is asked for. Then
/// [`ConsumerConfig::auto_commit_interval`] commits it sooner or later; [`commit`](Self::commit) commits what was handed out so
/// far at once.
pub struct Consumer {
    shared: Arc<Shared>,
    /// Nobody ever waits for this lock: it is there so that the methods that do not read may be called from anywhere.
    reader: Mutex<Option<Reader>>,
    /// What the application was told to give up, and the number of the demand.
    revoked: Option<(u64, Vec<TopicPartition>)>,
}

/// What comes out of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// A record.
    Record(ConsumerRecord),
    /// Partitions have come, or go.
    Rebalance(Rebalance),
}

/// What is next: something of a reader, or a notice.
enum Next<T> {
    Item(T),
    Rebalance(Rebalance),
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// What a consumer has done since it began, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStatistics {
    /// Fetches sent.
    pub fetches: u64,
    /// Bytes of batches that they brought, as they came.
    pub bytes_fetched: u64,
    /// Bytes of batches that wait for the application.
    pub buffered_bytes: usize,
}

/// What a consumer and its tasks share.
#[derive(Debug)]
struct Shared {
    client: Client,
    /// Fetches wait at the broker, and so does what follows them on the same connection.
    fetching: Client,
    /// What groups are asked, but for what follows.
    coordinating: Client,
    /// A coordinator lets whoever joins wait for the other members. Who wants to commit or to leave meanwhile does not wait behind that.
    joining: Client,
    coordinator: tokio::sync::Mutex<Option<Broker>>,
    config: ConsumerConfig,
    core: Mutex<Core>,
    /// Positions are to be committed when the application asks for the next record.
    is_commit_due: AtomicBool,
    /// What was committed by itself last.
    committed: Mutex<BTreeMap<TopicPartition, Position>>,
    /// The application has asked for something since this was looked at.
    has_polled: AtomicBool,
    /// The group was left.
    left: Notify,
    /// Something is due earlier than the timer thinks.
    timer: Notify,
    /// Somebody wants to know who leads what.
    refresh: Notify,
    /// The next refresh is not to be put off.
    others_wait: Notify,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
}

impl Consumer {
    /// A consumer of the cluster of `client`, with connections of its own. Its tasks run on the current tokio runtime.
    ///
    /// # Panics
    /// If there is no current runtime.
    pub fn new(client: &Client, config: ConsumerConfig) -> Result<Self, ConsumeError> {
        config.check(client.config())?;
        let shared = Arc::new(Shared {
            client: client.clone(),
            fetching: client.apart(),
            coordinating: client.apart(),
            joining: client.apart(),
            coordinator: tokio::sync::Mutex::default(),
            core: Mutex::new(Core::new(config.clone(), client.clone())),
            config,
            is_commit_due: AtomicBool::new(false),
            committed: Mutex::default(),
            has_polled: AtomicBool::new(false),
            left: Notify::new(),
            timer: Notify::new(),
            refresh: Notify::new(),
            others_wait: Notify::new(),
            tasks: Mutex::default(),
            runtime: Handle::current(),
        });
        shared.spawn(keep_time(shared.clone()));
        shared.spawn(keep_metadata(shared.clone()));
        if let (Some(_), Some(every)) =
            (&shared.config.group_id, shared.config.auto_commit_interval)
        {
            shared.spawn(keep_committed(shared.clone(), every));
        }
        Ok(Self {
            shared,
            reader: Mutex::default(),
            revoked: None,
        })
    }

    // ---- what is read

    /// Shares these topics with the other members of the group: the broker divides their partitions (KIP-848), or, in a
    /// [classic](ConsumerConfig::group_protocol) group, a member. What comes and goes is told by [`next_event`](Self::next_event). Topics that do not exist yet are waited for. A second call replaces the topics.
    pub fn subscribe(&self, topics: &[&str]) -> Result<(), ConsumeError> {
        let topics = topics.iter().map(|topic| (*topic).into()).collect();
        let regex = None;
        self.subscribe_to(Subscription { topics, regex })
    }

    /// Like [`subscribe`](Self::subscribe), for every topic whose whole name the expression matches, also those that come later. The
    /// broker resolves it, in the syntax of RE2. In a classic group the consumer does so itself, in the syntax of the crate `regex`, which is nearly the same,
    /// whenever it looks at the metadata ([`Config::metadata_age_max`](crate::Config::metadata_age_max)), and leaves out the topics in which
    /// brokers keep their own records.
    pub fn subscribe_matching(&self, regex: &str) -> Result<(), ConsumeError> {
        let topics = Vec::new();
        let regex = Some(regex.into());
        self.subscribe_to(Subscription { topics, regex })
    }

    fn subscribe_to(&self, subscription: Subscription) -> Result<(), ConsumeError> {
        let shared = &self.shared;
        shared.with_core(|core| core.subscribe(&shared.config, subscription))
    }

    /// Leaves the group, after what it owns was given up.
    pub fn unsubscribe(&self) {
        let leave = membership::Input::Leave;
        self.shared.with_core(|core| core.handle_member(leave));
    }

    /// Reads exactly these partitions from now on. One that is new begins where the group is, or else as
    /// [`ConsumerConfig::offset_reset`] says; one that was read before goes on.
    ///
    /// A consumer that has subscribed to topics gets its partitions from the group, and this is an error.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        if self.shared.core.lock().group.is_some() {
            let what = "a consumer that subscribes gets its partitions from the group";
            return Err(ConsumeError::Config { what });
        }
        let start = match self.shared.config.group_id {
            Some(_) => Start::Committed,
            None => Start::Reset,
        };
        self.shared.with_core(|core| {
            for gone in core.assignment() {
                if !partitions.contains(&gone) {
                    core.unassign(&gone);
                }
            }
            core.assign(partitions, start);
        });
        Ok(())
    }

    /// The partitions that this consumer reads.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.core.lock().assignment()
    }

    /// Goes on at this offset.
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), ConsumeError> {
        self.move_to(partition, Start::At(Position::at(offset)))
    }

    /// Goes on where a look-up leads. If no record is of the time or later, that is the end.
    pub fn seek_to(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) -> Result<(), ConsumeError> {
        self.move_to(partition, Start::Lookup(spec))
    }

    fn move_to(&self, partition: &TopicPartition, start: Start) -> Result<(), ConsumeError> {
        let is_ours = self.shared.with_core(|core| core.seek(partition, start));
        ours(partition, is_ours)
    }

    /// Hands no records of the partition out until it is [resumed](Self::resume). What was fetched ahead of it is fetched again
    /// then.
    pub fn pause(&self, partition: &TopicPartition) -> Result<(), ConsumeError> {
        let is_ours = self.shared.with_core(|core| core.pause(partition, true));
        ours(partition, is_ours)
    }

    /// Ends a [pause](Self::pause).
    pub fn resume(&self, partition: &TopicPartition) -> Result<(), ConsumeError> {
        let is_ours = self.shared.with_core(|core| core.pause(partition, false));
        ours(partition, is_ours)
    }

    /// Whether the partition is paused.
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        let core = self.shared.core.lock();
        core.assigned_of(partition).is_some_and(|it| it.is_paused)
    }

    // ---- records

    /// The next record. Dropping the future loses none.
    pub async fn recv(&mut self) -> Result<ConsumerRecord, ConsumeError> {
        poll_fn(|cx| self.poll_with(cx, Reader::next_record)).await
    }

    /// The next batch, or what is left of the one that was begun. Dropping the future loses none.
    pub async fn recv_batch(&mut self) -> Result<ConsumerBatch, ConsumeError> {
        poll_fn(|cx| self.poll_with(cx, Reader::next_whole)).await
    }

    /// The next record, or what has become of the partitions. Dropping the future loses none.
    ///
    /// [`recv`](Self::recv) and its like pass over the latter, and give up at once what is to be given up.
    ///
    /// ```no_run
    /// # async fn work(consumer: &mut tidelog_client::Consumer) -> Result<(), tidelog_client::ConsumeError> {
    /// use tidelog_client::{ConsumerEvent, Rebalance};
    ///
    /// loop {
    ///     match consumer.next_event().await? {
    ///         ConsumerEvent::Record(record) => println!("{record:?}"),
    ///         // With the next call they are another one's: what is left to be done is done here.
    ///         ConsumerEvent::Rebalance(Rebalance::Revoked(_)) => consumer.commit().await?,
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn next_event(&mut self) -> Result<ConsumerEvent, ConsumeError> {
        poll_fn(|cx| {
            let next = self.poll_next_of(cx, Reader::next_record);
            next.map_ok(|next| match next {
                Next::Item(record) => ConsumerEvent::Record(record),
                Next::Rebalance(rebalance) => ConsumerEvent::Rebalance(rebalance),
            })
        })
        .await
    }

    /// A stream of batches.
    pub const fn batches(&mut self) -> Batches<'_> {
        Batches { consumer: self }
    }

    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        next: fn(&mut Reader) -> Result<Option<T>, BatchError>,
    ) -> Poll<Result<T, ConsumeError>> {
        loop {
            if let Next::Item(item) = ready!(self.poll_next_of(cx, next))? {
                return Poll::Ready(Ok(item));
            }
        }
    }

    fn poll_next_of<T>(
        &mut self,
        cx: &mut Context<'_>,
        next: fn(&mut Reader) -> Result<Option<T>, BatchError>,
    ) -> Poll<Result<Next<T>, ConsumeError>> {
        self.shared.has_polled.store(true, Ordering::Relaxed);
        if let Some((demand, partitions)) = self.revoked.take() {
            self.shared.confirm(demand, partitions);
        }
        if self.shared.is_commit_due.load(Ordering::Relaxed) {
            self.shared.commit_by_itself();
        }
        loop {
            let current = self.reader.get_mut();
            if let Some(reader) = current {
                if reader.chunk.progress.is_void() {
                    *current = None;
                    continue;
                }
                match next(reader) {
                    Ok(Some(item)) => return Poll::Ready(Ok(Next::Item(item))),
                    Ok(None) => {}
                    Err(error) => {
                        let error = self.shared.damaged(reader, error);
                        *current = None;
                        return Poll::Ready(Err(error));
                    }
                }
            }
            let proceed = ready!(tokio::task::coop::poll_proceed(cx));
            let done = current.take();
            let ready = self.shared.with_core(|core| {
                if let Some(done) = done {
                    core.taken(&done.chunk);
                }
                core.handle_member(membership::Input::Polled);
                core.poll_ready(cx)
            });
            match ready!(ready) {
                Ready::Chunk(chunk) => {
                    *current = Some(Reader::new(chunk, self.shared.config.check_crcs));
                }
                Ready::Error(error) => return Poll::Ready(Err(error)),
                Ready::Notice(notice) => {
                    if let (Some(demand), Rebalance::Revoked(partitions)) =
                        (notice.demand, &notice.rebalance)
                    {
                        self.revoked = Some((demand, partitions.clone()));
                    }
                    return Poll::Ready(Ok(Next::Rebalance(notice.rebalance)));
                }
            }
            proceed.made_progress();
        }
    }

    // ---- positions

    /// The offset of the next record that [`recv`](Self::recv) gives of the partition; `None` if it is not this consumer's, or is
    /// still being looked up.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let core = self.shared.core.lock();
        let position = core.assigned_of(partition)?.progress.position();
        position.map(|position| position.offset)
    }

    /// Where the partition begins and ends, as the last answer of its broker said; `None` before the first.
    pub fn watermarks(&self, partition: &TopicPartition) -> Option<Watermarks> {
        let core = self.shared.core.lock();
        core.assigned_of(partition)?.watermarks
    }

    /// How many offsets the position is behind the end that this consumer can see, as of the last answer; `None` if one of the
    /// two is not known yet.
    pub fn lag(&self, partition: &TopicPartition) -> Option<u64> {
        let watermarks = self.watermarks(partition)?;
        let end = match self.shared.config.isolation_level {
            IsolationLevel::ReadUncommitted => watermarks.high_watermark,
            IsolationLevel::ReadCommitted => watermarks.last_stable_offset,
        };
        let lag = end - self.position(partition)?;
        Some(u64::try_from(lag).unwrap_or(0))
    }

    /// The offset of the first record of each partition.
    pub async fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumeError> {
        self.offsets(partitions, OffsetSpec::Earliest).await
    }

    /// The offset that follows the last record of each partition that this consumer can see.
    pub async fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumeError> {
        self.offsets(partitions, OffsetSpec::Latest).await
    }

    async fn offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, Offset>, ConsumeError> {
        let partitions: Vec<_> = partitions.iter().map(|it| (it.clone(), spec)).collect();
        let found = self.find(&partitions).await?.into_iter();
        Ok(found
            .filter_map(|(partition, at)| Some((partition, at.offset?)))
            .collect())
    }

    /// For each partition the first record of this time or later; without an offset if there is none.
    pub async fn offsets_for_times(
        &self,
        times: &BTreeMap<TopicPartition, Timestamp>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAt>, ConsumeError> {
        let times = times.iter();
        let times: Vec<_> = times
            .map(|(partition, time)| (partition.clone(), OffsetSpec::At(*time)))
            .collect();
        self.find(&times).await
    }

    async fn find(
        &self,
        partitions: &[(TopicPartition, OffsetSpec)],
    ) -> Result<BTreeMap<TopicPartition, OffsetAt>, ConsumeError> {
        let level = self.shared.config.isolation_level;
        let found = self.shared.client.list_offsets_seen(partitions, level);
        let found = found.await?.into_iter();
        found
            .map(|(partition, at)| match at {
                Ok(at) => Ok((partition, at)),
                Err(code) => Err(ConsumeError::Refused { partition, code }),
            })
            .collect()
    }

    // ---- commits

    /// Commits the position of every partition, and waits for it.
    pub async fn commit(&self) -> Result<(), ConsumeError> {
        self.start_commit().await
    }

    /// Begins to commit the position of every partition. Commits are carried out in the order of the calls; those that wait
    /// for one that is under way become one.
    pub fn start_commit(&self) -> Commit {
        let positions = self.shared.core.lock().positions();
        self.shared.start_commit(positions)
    }

    /// Begins to commit these offsets: those of the records that are to be read next.
    pub fn start_commit_of(&self, offsets: &BTreeMap<TopicPartition, Offset>) -> Commit {
        let positions = offsets.iter();
        let positions = positions
            .map(|(partition, offset)| (partition.clone(), Position::at(*offset)))
            .collect();
        self.shared.start_commit(positions)
    }

    /// What the group has committed for these partitions, where it has.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<CommittedOffset>, ConsumeError> {
        let known = self.shared.committed_offsets(partitions).await?;
        Ok(known.into_values().collect())
    }

    /// Commits what was consumed, if that goes by itself, leaves the group, and ends. It waits for no other member, also not in the
    /// middle of a rebalance; where the coordinator cannot be reached, for [`Config::retry_timeout`](crate::Config::retry_timeout)
    /// and [`Config::request_timeout`](crate::Config::request_timeout) at most. A consumer that is only dropped leaves nothing: the
    /// group waits for its session to end.
    pub async fn close(self) -> Result<(), ConsumeError> {
        let commits_by_itself = self.shared.config.auto_commit_interval.is_some();
        let committed = match self.shared.config.group_id {
            Some(_) if commits_by_itself => self.commit().await,
            _ => Ok(()),
        };
        // Whoever does not hear of it waits for the session to end.
        let within = self.shared.client.config().request_timeout;
        let _ = tokio::time::timeout(within, self.shared.leave()).await;
        self.shared.end();
        committed
    }

    /// What the consumer has done so far.
    pub fn statistics(&self) -> ConsumerStatistics {
        self.shared.core.lock().snapshot()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_with(cx, Reader::next_record).map(Some)
    }
}

/// The batches of a consumer, one after another.
#[derive(Debug)]
pub struct Batches<'a> {
    consumer: &'a mut Consumer,
}

impl Stream for Batches<'_> {
    type Item = Result<ConsumerBatch, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let consumer = &mut self.get_mut().consumer;
        consumer.poll_with(cx, Reader::next_whole).map(Some)
    }
}

fn ours(partition: &TopicPartition, is_ours: bool) -> Result<(), ConsumeError> {
    match is_ours {
        true => Ok(()),
        false => Err(ConsumeError::NotAssigned {
            partition: partition.clone(),
        }),
    }
}

impl Shared {
    /// Works on the core, then does what it leaves to be done.
    fn with_core<T>(self: &Arc<Self>, work: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock();
        let done = work(&mut core);
        let chores = std::mem::take(&mut core.chores);
        let is_earlier = match (core.deadline(), core.timer_at) {
            (Some(due), Some(at)) => due < at,
            (due, None) => due.is_some(),
            (None, _) => false,
        };
        let is_closed = core.is_closed;
        drop(core);
        if is_earlier {
            self.timer.notify_one();
        }
        if chores.refresh {
            self.refresh.notify_one();
        }
        if chores.others_wait {
            self.others_wait.notify_one();
        }
        if let Some(waker) = chores.wake {
            waker.wake();
        }
        if chores.left {
            self.left.notify_waiters();
        }
        for (request, heartbeat) in chores.heartbeats {
            self.spawn(group::beat(self.clone(), request, heartbeat));
        }
        for effect in chores.classic {
            self.spawn(classic::say(self.clone(), effect));
        }
        for order in chores.orders.into_iter().filter(|_| !is_closed) {
            self.spawn(requests::serve(self.clone(), order));
        }
        done
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        // What has ended is kept until somebody looks.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }

    /// The application cannot have what follows in this partition.
    fn damaged(self: &Arc<Self>, reader: &Reader, error: BatchError) -> ConsumeError {
        let progress = &reader.chunk.progress;
        let offset = progress.position().map_or(Offset::NONE, |it| it.offset);
        self.with_core(|core| core.stop(&progress.partition));
        ConsumeError::Damaged {
            partition: progress.partition.clone(),
            offset,
            source: Arc::new(error),
        }
    }

    fn start_commit(self: &Arc<Self>, offsets: BTreeMap<TopicPartition, Position>) -> Commit {
        let (commit, begins) = self.core.lock().commits.add(offsets);
        if begins {
            self.spawn(keep_committing(self.clone()));
        }
        commit
    }

    /// Commits the positions if they are others than last time.
    fn commit_by_itself(self: &Arc<Self>) {
        self.is_commit_due.store(false, Ordering::Relaxed);
        let positions = self.core.lock().positions();
        let mut committed = self.committed.lock();
        if *committed != positions {
            committed.clone_from(&positions);
            drop(committed);
            // Who fails is told of in the log; the next one commits more.
            drop(self.start_commit(positions));
        }
    }

    /// Finds the topics that an expression matches, if that is the consumer's own business.
    async fn look_for_matches(self: &Arc<Self>) {
        let Some(matching) = self.core.lock().matching() else {
            return;
        };
        match self.client.topics_matching(&matching).await {
            Ok(topics) => self.with_core(|core| core.matched(&matching, topics)),
            Err(error) => {
                tracing::debug!(%error, "nobody says what topics there are");
                self.with_core(|core| {
                    core.failed(error);
                    core.chores.refresh = true;
                });
            }
        }
    }

    /// Gives everything up, and waits until the group knows.
    async fn leave(self: &Arc<Self>) {
        let mut left = std::pin::pin!(self.left.notified());
        left.as_mut().enable();
        let has_left = self.with_core(|core| {
            let Some(group) = &mut core.group else {
                return true;
            };
            if group.has_left {
                return true;
            }
            group.is_closing = true;
            core.close_demands();
            core.handle_member(membership::Input::Leave);
            false
        });
        if !has_left {
            left.await;
        }
    }

    /// Ends everything that is not over.
    fn end(self: &Arc<Self>) {
        self.with_core(Core::end);
        self.tasks.lock().abort_all();
    }
}

/// Carries commits out, one after another, until none waits.
async fn keep_committing(shared: Arc<Shared>) {
    loop {
        let Some(next) = shared.with_core(|core| core.commits.next()) else {
            return;
        };
        let done = shared.commit(&next.offsets).await;
        if let Err(error) = &done {
            tracing::debug!(%error, "offsets are not committed");
        }
        next.end(&done);
    }
}

/// Says once in a while that positions are to be committed; at once if the application waits, and has so consumed all that it got.
async fn keep_committed(shared: Arc<Shared>, every: std::time::Duration) {
    loop {
        tokio::time::sleep(every).await;
        let is_waited_for = shared.core.lock().is_waited_for();
        match is_waited_for {
            true => shared.commit_by_itself(),
            false => shared.is_commit_due.store(true, Ordering::Relaxed),
        }
    }
}

/// Calls the fetcher when something is due.
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
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {
                let has_polled = shared.has_polled.swap(false, Ordering::Relaxed);
                shared.with_core(|core| core.fire(has_polled));
            }
            () = shared.timer.notified() => {}
        }
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
        shared.look_for_matches().await;
        let (topics, nameless, counted) = {
            let core = shared.core.lock();
            (core.topics(), core.subscribed().1, core.counted())
        };
        let may_create = shared.config.may_create_topics;
        let refreshed = shared.client.refresh(&topics, may_create).await;
        let is_known = refreshed.is_ok();
        let failed = refreshed.unwrap_or_else(|error| {
            tracing::debug!(%error, "nobody says who leads what");
            shared.with_core(|core| core.failed(error));
            Vec::new()
        });
        if !nameless.is_empty()
            && let Err(error) = shared.client.refresh_ids(&nameless).await
        {
            tracing::debug!(%error, "nobody says what topics are called");
        }
        shared.with_core(|core| {
            for topic in &topics {
                core.learn(topic);
            }
            for (topic, code) in &failed {
                core.topic_failed(topic, *code);
            }
            core.name_topics();
            // What is to be counted may have changed meanwhile.
            if is_known && core.counted() == counted {
                core.count_topics(&counted);
            } else if !core.counted().is_empty() {
                core.chores.refresh = true;
            }
        });
        if !is_urgent {
            continue;
        }
        let (first, max) = (config.retry_backoff, config.retry_backoff_max);
        let pause = pace.wait(idle_since.elapsed(), first, max);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Once in a generation, so it does not go round in circles.
            () = shared.others_wait.notified() => {}
        }
    }
}
