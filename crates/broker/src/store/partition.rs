//! One partition of which this node has a replica.
//!
//! The log and its replica machine sit behind one mutex, which is held for an append or a step of the machine, never
//! across an await and never across a flush. Readers do not take it: they have a [`LogReader`] and what was
//! [`Published`].

mod replica;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_log::{Appended, FlushTarget, Flusher, Log, LogError, LogReader, LogSummary, Upkeep};
use tidelog_record::Batch;
use tidelog_replication::partition::{
    AlterPartition, BecomeFollower, BecomeLeader, Broker, Config, Effect, Input, Leadership,
    Replica, Watermarks,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, TopicId, TopicPartition};
use tokio::sync::Notify;

pub(crate) use self::replica::Fetched;
use super::directories::{Changed, Checkpointed, DataDirectory};
use super::outbox::Outbox;
use crate::clock::Clock;
use crate::random::random_uuid;

/// What an append waits for before it counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acks {
    /// Nothing (acks=0).
    None,
    /// This replica has it, as durably as the topic demands (acks=1).
    Leader,
    /// All in-sync replicas have it (acks=-1).
    All,
}

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

/// What came of an append.
pub(crate) struct Accepted {
    pub(crate) appended: Appended,
    /// It counts as written already: whoever waits for it need not, and will not be told.
    pub(crate) done: bool,
    /// The caller has to see to a flush: [`Partition::request_flush`] or [`Partition::flush_here`].
    pub(crate) flush: bool,
}

/// Why a partition refused an append.
#[derive(Debug)]
pub(crate) enum AppendRefused {
    /// The replica is not in a state to take it.
    Replica(ErrorCode),
    /// The log refused the batch, or failed.
    Log(LogError),
}

impl AppendRefused {
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Replica(code) => *code,
            Self::Log(error) => error.error_code(),
        }
    }
}

/// What readers know of the replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) marks: Watermarks,
    pub(crate) leadership: Leadership,
}

/// A partition with its log.
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: TopicId,
    /// Which of the log directories the partition lives in.
    pub(crate) directory: usize,
    core: Mutex<Core>,
    reader: LogReader,
    published: Mutex<Published>,
    waiting_fetches: Mutex<Vec<Arc<Notify>>>,
    flusher: Arc<Flusher>,
    /// Where the replica leaves what it wants of other nodes.
    outbox: Arc<Outbox>,
    /// Where the partition is noted when the checkpoints of the directory do not say any more what they should.
    changed: Arc<Changed>,
    is_changed: AtomicBool,
    /// Whether the log has no files, so that nothing of it is written down.
    in_memory: bool,
    clock: Clock,
    this: Weak<Self>,
}

struct Core {
    log: Log,
    replica: Replica,
    effects: Vec<Effect>,
    /// What others wait for, and what this replica waits for; `None` if nothing was waited for lately.
    waits: Option<Box<Waits>>,
}

/// Who waits, and for what.
#[derive(Default)]
struct Waits {
    /// Appends that wait for the flush, and those that wait for the high watermark, each with the offset that must be
    /// reached. The offsets rise from front to back.
    until_durable: Waiters,
    until_committed: Waiters,
    /// The epoch in which they were appended.
    epoch: LeaderEpoch,
    /// The leader that was last asked for something.
    asked_of: Option<NodeId>,
    /// When the replica will be woken.
    wakes_at: Option<Instant>,
}

type Waiters = VecDeque<(Offset, Waiter)>;

/// What to do once the lock is free.
#[derive(Default)]
struct After {
    done: Vec<Waiter>,
    failed: Vec<(Waiter, ErrorCode)>,
    wake_fetches: bool,
    /// The replica wants this of the controller.
    changes: Vec<AlterPartition>,
    /// The leaders of whom something else is wanted than before.
    asks_changed: [Option<NodeId>; 2],
    wake_at: Option<Instant>,
    /// The records that came with an answer may be appended.
    append_fetched: bool,
    /// The end of the log, or all of it, was cut off.
    was_cut: bool,
}

impl Partition {
    pub(crate) fn new(
        (name, topic_id): (TopicPartition, TopicId),
        (directory, place): (usize, &DataDirectory),
        in_memory: bool,
        (log, replica): (Log, Replica),
        outbox: &Arc<Outbox>,
        clock: Clock,
    ) -> Arc<Self> {
        let reader = log.reader();
        let published = Published {
            marks: replica.watermarks(),
            leadership: replica.leadership(),
        };
        let core = Core {
            log,
            replica,
            effects: Vec::new(),
            waits: None,
        };
        Arc::new_cyclic(|this| Self {
            name,
            topic_id,
            directory,
            core: Mutex::new(core),
            reader,
            published: Mutex::new(published),
            waiting_fetches: Mutex::new(Vec::new()),
            flusher: Arc::clone(&place.flusher),
            outbox: Arc::clone(outbox),
            changed: Arc::clone(&place.changed),
            is_changed: AtomicBool::new(false),
            in_memory,
            clock,
            this: this.clone(),
        })
    }

    /// The log for reading.
    pub(crate) fn reader(&self) -> &LogReader {
        &self.reader
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
        let now = self.clock.now();
        let mut after = After::default();
        let mut core = self.core.lock();
        core.replica
            .check_leader_epoch(leader_epoch)
            .map_err(AppendRefused::Replica)?;
        if acks == Acks::All {
            core.replica
                .check_min_isr()
                .map_err(AppendRefused::Replica)?;
        }
        let epoch = core.replica.leader_epoch();
        let appended = match core.log.append_as_leader(batch, epoch, now.timestamp) {
            Ok(appended) => appended,
            Err(error) => {
                self.look_for_failure(&mut core, &mut after);
                drop(core);
                self.conclude(after);
                return Err(AppendRefused::Log(error));
            }
        };
        if !appended.duplicate {
            let end = appended.end.offset;
            let first_unstable_offset = core.log.first_unstable_offset(end);
            let input = Input::Appended {
                end,
                leader_epoch: epoch,
                first_unstable_offset,
            };
            self.step(&mut core, input, &mut after);
        }
        let done = core.wait(acks, appended.last_offset.next(), waiter);
        // A segment that was closed is flushed even where nobody waits for it.
        let flush = core.replica.needs_flush() || appended.rolled;
        drop(core);
        self.conclude(after);
        Ok(Accepted {
            appended,
            done,
            flush,
        })
    }

    /// Takes over what the metadata says of the partition's leadership.
    pub(crate) fn become_leader(&self, state: BecomeLeader) {
        self.input(Input::BecomeLeader(state));
    }

    /// Takes over what the metadata says of the partition's leadership.
    pub(crate) fn become_follower(&self, state: BecomeFollower) {
        self.input(Input::BecomeFollower(state));
    }

    /// Takes over what the metadata says of a broker that may have a replica of this partition.
    pub(crate) fn broker_changed(&self, broker: Broker) {
        self.input(Input::BrokerChanged(broker));
    }

    /// Moves the start of the log to `offset`, or to the high watermark for [`Offset::NONE`]; gives the new start.
    pub(crate) fn delete_records(&self, offset: Offset) -> Result<Offset, ErrorCode> {
        let end = {
            let core = self.core.lock();
            core.replica.check_leader_epoch(LeaderEpoch::NONE)?;
            core.replica.delete_records_end(offset)?
        };
        self.with_log(|log, _| log.advance_log_start(end))
            .map_err(|error| error.error_code())?;
        Ok(self.published().marks.log_start_offset)
    }

    /// Takes over a new configuration.
    pub(crate) fn configure(&self, log: Arc<tidelog_log::LogConfig>, replica: Config) {
        let mut after = After::default();
        let mut core = self.core.lock();
        core.log.update_config(log);
        self.step(&mut core, Input::ConfigChanged(replica), &mut after);
        drop(core);
        self.conclude(after);
    }

    fn input(&self, input: Input) {
        let mut after = After::default();
        let mut core = self.core.lock();
        self.step(&mut core, input, &mut after);
        // What the metadata says comes to all partitions, also to those that are idle from then on.
        core.free();
        drop(core);
        self.conclude(after);
    }

    /// Runs `change` on the log, and tells the replica of a new log start.
    pub(crate) fn with_log<R>(&self, change: impl FnOnce(&mut Log, Watermarks) -> R) -> R {
        let mut after = After::default();
        let mut core = self.core.lock();
        let marks = core.replica.watermarks();
        let result = change(&mut core.log, marks);
        let log_start_offset = core.log.log_start_offset();
        if !self.look_for_failure(&mut core, &mut after)
            && log_start_offset > marks.log_start_offset
        {
            self.step(
                &mut core,
                Input::LogStartAdvanced { log_start_offset },
                &mut after,
            );
        }
        drop(core);
        self.conclude(after);
        result
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
            self.changed.add(this);
        }
    }

    /// What the checkpoints of the directory should say, for whoever writes them; `None` if the partition was deleted.
    pub(crate) fn take_changed(&self) -> Option<Checkpointed> {
        // First, so that what changes from now on is noted again.
        self.is_changed.store(false, Ordering::Release);
        let core = self.core.lock();
        if matches!(core.log.check(), Err(LogError::Deleted { .. })) {
            return None;
        }
        let marks = core.replica.watermarks();
        Some(Checkpointed {
            // A log that begins with its first segment needs no line, but one does no harm.
            log_start: marks.log_start_offset,
            recovery_point: core.log.recovery_point(),
            high_watermark: marks.high_watermark,
            first_dirty: core.log.first_dirty_offset(),
        })
    }

    /// Whether the partition was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        matches!(self.core.lock().log.check(), Err(LogError::Deleted { .. }))
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
        self.core.lock().log.is_resting()
    }

    /// Frees what the log has in memory and open, if nobody has used it since the last call. Its files are completed first,
    /// without the lock.
    pub(crate) fn rest(&self) {
        let pending = {
            let mut core = self.core.lock();
            if core.log.is_resting() || core.log.take_used() {
                return;
            }
            let high_watermark = core.replica.watermarks().high_watermark;
            core.free();
            core.log.begin_rest(high_watermark)
        };
        let Some(pending) = pending else {
            return;
        };
        let result = pending.run();
        let mut after = After::default();
        let mut core = self.core.lock();
        if let Err(error) = core.log.rest_finished(pending, result) {
            tracing::warn!(partition = %self.name, %error, "a log that is not used stays in memory");
        }
        if !self.look_for_failure(&mut core, &mut after) {
            let end = core.log.recovery_point();
            self.step(&mut core, Input::Flushed { end }, &mut after);
            self.note_changed();
        }
        drop(core);
        self.conclude(after);
    }

    /// Closes the log for good, with everything durable; gives what the next start has to know. Whoever comes later finds
    /// the replica offline.
    pub(crate) fn close(&self) -> Result<LogSummary, LogError> {
        let mut after = After::default();
        let mut core = self.core.lock();
        let closed = core.log.close();
        self.step(&mut core, Input::Failed, &mut after);
        drop(core);
        self.conclude(after);
        closed
    }

    /// Deletes the log: its folder is renamed and can be removed when nobody reads it any more.
    pub(crate) fn delete(&self) -> Result<Option<PathBuf>, LogError> {
        let mut after = After::default();
        let mut core = self.core.lock();
        let deleted = core.log.delete(random_uuid());
        self.step(&mut core, Input::Failed, &mut after);
        drop(core);
        self.conclude(after);
        deleted
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
            self.flusher.request(this);
        }
    }

    /// Flushes on the calling thread, if the flusher has nothing else to do; see [`Flusher::flush_here`].
    pub(crate) fn flush_here(self: &Arc<Self>) -> bool {
        let this: Arc<dyn FlushTarget> = self.clone();
        self.flusher.flush_here(&this)
    }

    /// Feeds the replica and does what it says, under the lock; what must wait for the lock to be free goes to `after`.
    fn step(&self, core: &mut Core, input: Input, after: &mut After) {
        let mut effects = std::mem::take(&mut core.effects);
        core.replica.handle(self.clock.now(), input, &mut effects);
        let mut followed = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::PublishWatermarks(_)
                | Effect::WakeWaiters
                | Effect::PublishLowWatermark(_) => after.wake_fetches = true,
                Effect::StartLeaderEpoch { leader_epoch, .. } => {
                    core.log.begin_leader_epoch(leader_epoch);
                }
                Effect::AlterPartition(change) => after.changes.push(change),
                Effect::AskLeader(_) => core.note_asks(after),
                Effect::AppendFetched => after.append_fetched = true,
                Effect::ReportCommittedLost { from, to } => {
                    tracing::error!(partition = %self.name, %from, %to,
                        "committed records are given up, since the leader was elected uncleanly and lacks them");
                }
                effect @ (Effect::Truncate { .. }
                | Effect::Restart { .. }
                | Effect::AdvanceLogStart { .. }) => followed.extend(self.cut(core, effect, after)),
            }
        }
        core.effects = effects;
        for input in followed {
            self.step(core, input, after);
        }
        core.schedule(after);
        let marks = core.replica.watermarks();
        let leadership = core.replica.leadership();
        let last = std::mem::replace(&mut *self.published.lock(), Published { marks, leadership });
        let is_written_down = |marks: &Watermarks| {
            (
                marks.log_start_offset,
                marks.durable_end_offset,
                marks.high_watermark,
            )
        };
        if is_written_down(&last.marks) != is_written_down(&marks) {
            self.note_changed();
        }
        core.release(marks, after);
    }

    /// Shortens the log as the replica says; gives what to tell it.
    fn cut(&self, core: &mut Core, effect: Effect, after: &mut After) -> Option<Input> {
        let done = match effect {
            Effect::Truncate { end } => {
                after.was_cut = true;
                tracing::info!(partition = %self.name, %end, "the log is cut to where the leader's parts from it");
                self.truncate(core, end)
            }
            Effect::Restart { offset } => {
                after.was_cut = true;
                tracing::info!(partition = %self.name, %offset, "the log begins anew, where the leader's begins");
                let restarted = core
                    .log
                    .truncate_fully_and_start_at(offset, self.clock.now());
                restarted.map(|()| Input::Restarted { offset })
            }
            Effect::AdvanceLogStart { log_start_offset } => core
                .log
                .advance_log_start(log_start_offset)
                .map(|()| Input::LogStartAdvanced { log_start_offset }),
            _ => return None,
        };
        match done {
            Ok(input) => Some(input),
            Err(error) => {
                tracing::error!(partition = %self.name, %error, "the log cannot be cut, the partition goes offline");
                Some(Input::Failed)
            }
        }
    }

    /// Takes the replica offline if its log has failed.
    fn look_for_failure(&self, core: &mut Core, after: &mut After) -> bool {
        let failed = core.log.check().is_err();
        if failed {
            self.step(core, Input::Failed, after);
        }
        failed
    }

    fn conclude(&self, after: After) {
        for waiter in after.done {
            waiter.target.acknowledged(waiter.token, Ok(()));
        }
        for (waiter, code) in after.failed {
            waiter.target.acknowledged(waiter.token, Err(code));
        }
        if after.wake_fetches {
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
}

impl Core {
    /// Notes who waits for an append that ends at `end`; tells whether there is nothing to wait for.
    fn wait(&mut self, acks: Acks, end: Offset, waiter: Waiter) -> bool {
        let marks = self.replica.watermarks();
        let reached = match acks {
            Acks::None => return true,
            Acks::Leader => marks.durable_end_offset,
            Acks::All => marks.high_watermark,
        };
        if reached >= end {
            return true;
        }
        let waits = self.waits.get_or_insert_default();
        if !waits.has_waiters() {
            waits.epoch = self.replica.leader_epoch();
        }
        let waiters = match acks {
            Acks::All => &mut waits.until_committed,
            _ => &mut waits.until_durable,
        };
        // A duplicate waits for the offset of its original, which lies before the last append's.
        let at = waiters.partition_point(|(other, _)| *other <= end);
        waiters.insert(at, (end, waiter));
        false
    }

    /// Takes out the waiters whose offset is reached; all of them if this replica does not lead any more, or anew.
    fn release(&mut self, marks: Watermarks, after: &mut After) {
        let waits = self.waits.as_mut().filter(|waits| waits.has_waiters());
        let Some(waits) = waits else {
            return;
        };
        let reached = |waiters: &mut Waiters, mark| waiters.pop_front_if(|(end, _)| *end <= mark);
        while let Some((_, waiter)) = reached(&mut waits.until_durable, marks.durable_end_offset) {
            after.done.push(waiter);
        }
        while let Some((end, waiter)) = reached(&mut waits.until_committed, marks.high_watermark) {
            match self.replica.poll_committed(waits.epoch, end) {
                Poll::Ready(Err(code)) => after.failed.push((waiter, code)),
                Poll::Ready(Ok(())) | Poll::Pending => after.done.push(waiter),
            }
        }
        let lost = match self.replica.check_leader_epoch(LeaderEpoch::NONE) {
            Ok(()) if self.replica.leader_epoch() == waits.epoch => return,
            Ok(()) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Err(code) => code,
        };
        let waiters = waits.until_durable.drain(..);
        let waiters = waiters.chain(waits.until_committed.drain(..));
        after
            .failed
            .extend(waiters.map(|(_, waiter)| (waiter, lost)));
    }

    /// Frees what a partition that nobody uses can do without.
    fn free(&mut self) {
        self.effects = Vec::new();
        let is_needed = |waits: &mut Box<Waits>| {
            waits.has_waiters() || waits.asked_of.is_some() || waits.wakes_at.is_some()
        };
        self.waits = self.waits.take_if(|waits| is_needed(waits));
    }
}

impl Waits {
    fn has_waiters(&self) -> bool {
        !self.until_durable.is_empty() || !self.until_committed.is_empty()
    }
}

impl FlushTarget for Partition {
    /// Flushes what was appended so far. While the disk works the lock is free, and the next group of appends forms.
    fn flush(&self) -> Option<Upkeep> {
        let pending = self.core.lock().log.begin_flush()?;
        let result = pending.run();
        let mut after = After::default();
        let mut core = self.core.lock();
        let input = match core.log.flush_finished(pending, result) {
            Ok(end) => {
                self.note_changed();
                Input::Flushed { end }
            }
            Err(error) => {
                tracing::error!(partition = %self.name, %error, "a flush failed, the partition goes offline");
                Input::Failed
            }
        };
        self.step(&mut core, input, &mut after);
        drop(core);
        self.conclude(after);
        // Those who wait were told; what nobody waits for comes after.
        self.core.lock().log.begin_upkeep()
    }
}
