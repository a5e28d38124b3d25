//! One partition of which this node has a replica.
//!
//! The log and its replica machine sit behind one mutex, which is held for an append or a step of the machine, never
//! across an await and never across a flush. Readers do not take it: they have a [`LogReader`] and what was
//! [`Published`].

mod replica;
mod transaction;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tidelog_log::{FlushTarget, Flusher, Log, LogError, LogReader, LogSummary, Upkeep};
use tidelog_node::partition::{FutureLog, NotTaken, Note, PartitionCore, Retired};
use tidelog_record::Batch;
use tidelog_replication::partition::{Broker, Config, Input, Leadership, Watermarks};
use tidelog_types::{ErrorCode, LeaderEpoch, Now, Offset, TopicId, TopicPartition};
use tokio::sync::Notify;

pub(crate) use tidelog_node::partition::{Accepted, Acks, AppendRefused, Fetched};

use self::transaction::Beginnings;
pub(crate) use self::transaction::{Beginning, TransactionEnd};

use super::directories::{Changed, Checkpointed, DataDirectory};
use super::outbox::{FailedLog, Outbox};
use crate::clock::Clock;
use crate::random::random_uuid;

/// Somebody who is told when an append counts as written.
pub(crate) trait Acknowledge: Send + Sync {
    /// The append named `token` counts as written, or it is unknown whether it ever will. Called once for each append,
    /// on whatever thread found out; must not block.
    fn acknowledged(&self, token: u64, result: Result<(), ErrorCode>);
}

/// Who is to be told of an append, and the name by which they know it.
#[derive(Clone)]
pub(crate) struct Waiter {
    pub(crate) target: Arc<dyn Acknowledge>,
    pub(crate) token: u64,
}

/// What readers know of the replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) marks: Watermarks,
    pub(crate) leadership: Leadership,
}

impl Published {
    fn of(core: &Core) -> Self {
        let (marks, leadership) = core.readers_see();
        Self { marks, leadership }
    }
}

/// Where a log lies.
struct Place {
    /// Which of the log directories.
    directory: usize,
    reader: LogReader,
    flusher: Arc<Flusher>,
    /// Where the partition is noted when the checkpoints of the directory do not say any more what they should.
    changed: Arc<Changed>,
}

impl Place {
    fn new((directory, place): (usize, &DataDirectory), log: &Log) -> Self {
        Self {
            directory,
            reader: log.reader(),
            flusher: Arc::clone(&place.flusher),
            changed: Arc::clone(&place.changed),
        }
    }
}

/// A partition with its log.
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: TopicId,
    /// Where the log lies; it may move.
    place: RwLock<Place>,
    core: Mutex<Core>,
    /// The transactions that are about to begin here; none in most partitions, of which there are many. Whoever takes `core` as well
    /// takes this first.
    beginnings: Mutex<Option<Box<Beginnings>>>,
    published: Mutex<Published>,
    waiting_fetches: Mutex<Vec<Arc<Notify>>>,
    /// Where the replica leaves what it wants of other nodes.
    outbox: Arc<Outbox>,
    /// Whether the partition is noted as one of which the checkpoints of its directory do not say what they should.
    is_changed: AtomicBool,
    /// Whether the log has no files, so that nothing of it is written down.
    in_memory: bool,
    clock: Clock,
    this: Weak<Self>,
}

type Core = PartitionCore<Waiter>;
type After = tidelog_node::partition::After<Waiter>;

impl Partition {
    pub(crate) fn new(
        (name, topic_id): (TopicPartition, TopicId),
        place: (usize, &DataDirectory),
        in_memory: bool,
        core: PartitionCore<Waiter>,
        outbox: &Arc<Outbox>,
        clock: Clock,
    ) -> Arc<Self> {
        let place = Place::new(place, core.log());
        let published = Published::of(&core);
        Arc::new_cyclic(|this| Self {
            name,
            topic_id,
            place: RwLock::new(place),
            core: Mutex::new(core),
            beginnings: Mutex::default(),
            published: Mutex::new(published),
            waiting_fetches: Mutex::new(Vec::new()),
            outbox: Arc::clone(outbox),
            is_changed: AtomicBool::new(false),
            in_memory,
            clock,
            this: this.clone(),
        })
    }

    /// The log for reading.
    pub(crate) fn reader(&self) -> LogReader {
        self.place.read().reader.clone()
    }

    /// Which of the log directories the log lies in.
    pub(crate) fn directory(&self) -> usize {
        self.place.read().directory
    }

    /// Has a copy of the log take its place, in this directory.
    pub(crate) fn take_future(
        &self,
        future: FutureLog,
        place: (usize, &DataDirectory),
    ) -> Result<Retired, NotTaken> {
        let retired = self.with_core(|core, now, after| {
            let retired = core.take_future(now, future, random_uuid(), after);
            if retired.is_ok() {
                *self.place.write() = Place::new(place, core.log());
            }
            retired
        })?;
        // It may be noted in the directory that it has left.
        self.is_changed.store(false, Ordering::Release);
        self.note_changed();
        Ok(retired)
    }

    /// Whether it is there that the partition is to be noted.
    pub(super) fn is_noted_in(&self, changed: &Arc<Changed>) -> bool {
        Arc::ptr_eq(&self.place.read().changed, changed)
    }

    /// What readers may know at this moment.
    pub(crate) fn published(&self) -> Published {
        *self.published.lock()
    }

    /// Appends a batch as leader. `leader_epoch` is the epoch in which the caller believes this node to lead, if it has a
    /// belief. Whoever waits for `acks` gives `waiter`.
    pub(crate) fn append(
        &self,
        batch: &Batch,
        leader_epoch: LeaderEpoch,
        acks: Acks,
        waiter: Waiter,
    ) -> Result<Accepted, AppendRefused> {
        self.with_core(|core, now, after| {
            core.append(now, batch, leader_epoch, acks, waiter, after)
        })
    }

    /// Has `waiter` told when the log is committed up to `end`, unless it is already.
    pub(crate) fn await_committed(&self, end: Offset, waiter: Waiter) -> Result<bool, ErrorCode> {
        self.with_core(|core, _, _| core.await_committed(end, waiter))
    }

    /// Takes over what the metadata says of the partition's leadership.
    pub(crate) fn role_changed(&self, role: Input) {
        self.input(role);
    }

    /// Takes over what the metadata says of a broker that may have a replica of this partition.
    pub(crate) fn broker_changed(&self, broker: Broker) {
        self.input(Input::BrokerChanged(broker));
    }

    /// Moves the start of the log to `offset`, or to the high watermark for [`Offset::NONE`]; gives the new start.
    pub(crate) fn delete_records(&self, offset: Offset) -> Result<Offset, ErrorCode> {
        self.with_core(|core, now, after| core.delete_records(now, offset, after))
    }

    /// Takes over a new configuration.
    pub(crate) fn configure(&self, log: Arc<tidelog_log::LogConfig>, replica: Config) {
        self.with_core(|core, now, after| core.configure(now, log, replica, after));
    }

    fn input(&self, input: Input) {
        self.with_core(|core, now, after| core.handle(now, input, after));
    }

    /// Runs `change` on the log, and tells the replica of a new log start.
    pub(crate) fn with_log<R>(&self, change: impl FnOnce(&mut Log, Watermarks) -> R) -> R {
        self.with_core(|core, now, after| core.with_log(now, after, change))
    }

    /// Notes that the checkpoints do not say any more what they should.
    pub(crate) fn note_changed(&self) {
        if self.in_memory
            || self.is_changed.load(Ordering::Relaxed)
            || self.is_changed.swap(true, Ordering::AcqRel)
        {
            return;
        }
        if let Some(this) = self.this.upgrade() {
            let changed = Arc::clone(&self.place.read().changed);
            changed.add(&this);
        }
    }

    /// What the checkpoints of the directory should say, for whoever writes them; `None` if the partition was deleted.
    pub(crate) fn take_changed(&self) -> Option<Checkpointed> {
        // First, so that what changes from now on is noted again.
        self.is_changed.store(false, Ordering::Release);
        let core = self.core.lock();
        let log = core.log();
        if matches!(log.check(), Err(LogError::Deleted { .. })) {
            return None;
        }
        let marks = core.replica().watermarks();
        Some(Checkpointed {
            // A log that begins with its first segment needs no line, but one does no harm.
            log_start: marks.log_start_offset,
            recovery_point: log.recovery_point(),
            high_watermark: marks.high_watermark,
            first_dirty: log.first_dirty_offset(),
        })
    }

    /// Whether the partition was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        matches!(
            self.core.lock().log().check(),
            Err(LogError::Deleted { .. })
        )
    }

    /// Takes the replica offline, since the directory has failed in which its log lies.
    pub(crate) fn fail(&self) {
        self.input(Input::Failed);
    }

    /// Whether nothing of the partition is to be written down.
    pub(crate) const fn in_memory(&self) -> bool {
        self.in_memory
    }

    /// Whether the log has nothing in memory that it could do without.
    pub(crate) fn is_resting(&self) -> bool {
        self.core.lock().log().is_resting()
    }

    /// Frees what the log has in memory and open, if nobody has used it since the last call. Its files are completed first,
    /// without the lock.
    pub(crate) fn rest(&self) {
        // The lock is free again before the files are written.
        let pending = self.core.lock().begin_rest();
        let Some(pending) = pending else {
            return;
        };
        let result = pending.run();
        let in_order =
            self.with_core(|core, now, after| core.rest_finished(now, pending, result, after));
        if in_order {
            self.note_changed();
        }
    }

    /// Closes the log for good, with everything durable; gives what the next start has to know. Whoever comes later finds
    /// the replica offline.
    pub(crate) fn close(&self) -> Result<LogSummary, LogError> {
        self.with_core(|core, now, after| core.close(now, after))
    }

    /// Deletes the log: its folder is renamed and can be removed when nobody reads it any more.
    pub(crate) fn delete(&self) -> Result<Option<PathBuf>, LogError> {
        self.with_core(|core, now, after| core.delete(now, random_uuid(), after))
    }

    /// Has `waiter` notified whenever there may be more to read, or the partition changed hands.
    pub(crate) fn watch(&self, waiter: &Arc<Notify>) {
        self.waiting_fetches.lock().push(Arc::clone(waiter));
    }

    /// Takes back [`watch`](Self::watch).
    pub(crate) fn unwatch(&self, waiter: &Arc<Notify>) {
        self.waiting_fetches
            .lock()
            .retain(|other| !Arc::ptr_eq(other, waiter));
    }

    /// Asks for a flush of what was appended.
    pub(crate) fn request_flush(&self) {
        if let Some(this) = self.this.upgrade() {
            let flusher = Arc::clone(&self.place.read().flusher);
            flusher.request(this);
        }
    }

    /// Flushes on the calling thread, if the flusher has nothing else to do; see [`Flusher::flush_here`].
    pub(crate) fn flush_here(self: &Arc<Self>) -> bool {
        let this: Arc<dyn FlushTarget> = self.clone();
        let flusher = Arc::clone(&self.place.read().flusher);
        flusher.flush_here(&this)
    }

    /// Makes one call under the lock, publishes what readers may know then, and does what must wait for the lock to be free.
    fn with_core<R>(&self, call: impl FnOnce(&mut Core, Now, &mut After) -> R) -> R {
        let mut after = After::default();
        let mut core = self.core.lock();
        // Under the lock, so that the machine sees no time that lies before what it has seen.
        let result = call(&mut core, self.clock.steady(), &mut after);
        let went_offline = self.publish(Published::of(&core));
        // One that is closed, or whose directory has failed, goes offline with a log that is in order.
        let has_failed =
            went_offline && matches!(core.log().check(), Err(LogError::Poisoned { .. }));
        let failed_by_disk = has_failed.then(|| core.log().disk_has_failed());
        drop(core);
        self.conclude(after);
        if let Some(by_disk) = failed_by_disk
            && !self.in_memory
            && let Some(partition) = self.this.upgrade()
        {
            self.outbox.failed(FailedLog { partition, by_disk });
        }
        result
    }

    /// Tells whether the replica has gone offline.
    fn publish(&self, published: Published) -> bool {
        let last = std::mem::replace(&mut *self.published.lock(), published);
        let is_written_down = |marks: &Watermarks| {
            (
                marks.log_start_offset,
                marks.durable_end_offset,
                marks.high_watermark,
            )
        };
        if is_written_down(&last.marks) != is_written_down(&published.marks) {
            self.note_changed();
        }
        published.leadership == Leadership::Offline && last.leadership != Leadership::Offline
    }

    fn conclude(&self, after: After) {
        for note in &after.notes {
            self.say(note);
        }
        for waiter in after.done {
            waiter.target.acknowledged(waiter.token, Ok(()));
        }
        for (waiter, code) in after.failed {
            waiter.target.acknowledged(waiter.token, Err(code));
        }
        if after.wake_readers {
            for waiter in self.waiting_fetches.lock().iter() {
                waiter.notify_one();
            }
        }
        if after.changes.is_empty() && after.asks_changed == [None; 2] && after.wake_at.is_none() {
            return;
        }
        let Some(this) = self.this.upgrade() else {
            return;
        };
        for change in after.changes {
            self.outbox.alter_partition(Arc::clone(&this), change);
        }
        for leader in after.asks_changed.into_iter().flatten() {
            let fetcher = (leader, self.outbox.fetcher_of(self));
            self.outbox.asks_changed(fetcher, Arc::clone(&this));
        }
        if let Some(at) = after.wake_at {
            self.outbox.wake_at(at, this);
        }
    }

    fn say(&self, note: &Note) {
        let partition = &self.name;
        match note {
            Note::Cut { end } => {
                tracing::info!(%partition, %end, "the log is cut to where the leader's parts from it");
            }
            Note::BeganAnew { offset } => {
                tracing::info!(%partition, %offset, "the log begins anew, where the leader's begins");
            }
            Note::CommittedLost { from, to } => tracing::error!(%partition, %from, %to,
                "committed records are given up, since the leader was elected uncleanly and lacks them"),
            Note::CutFailed(error) => {
                tracing::error!(%partition, %error, "the log cannot be cut, the partition goes offline");
            }
            Note::FetchedRefused(error) => {
                tracing::warn!(%partition, %error, "the leader's records cannot be appended");
            }
            Note::FlushFailed(error) => {
                tracing::error!(%partition, %error, "a flush failed, the partition goes offline");
            }
            Note::RestFailed(error) => {
                tracing::warn!(%partition, %error, "a log that is not used stays in memory");
            }
            other => tracing::warn!(%partition, ?other, "something is noteworthy"),
        }
    }
}

impl FlushTarget for Partition {
    /// Flushes what was appended so far. While the disk works the lock is free, and the next group of appends forms.
    fn flush(&self) -> Option<Upkeep> {
        let pending = self.core.lock().begin_flush()?;
        let result = pending.run();
        let succeeded =
            self.with_core(|core, now, after| core.flush_finished(now, pending, result, after));
        if succeeded {
            self.note_changed();
        }
        // Those who wait were told; what nobody waits for comes after.
        self.core.lock().begin_upkeep()
    }
}
