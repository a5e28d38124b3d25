//! A partition's log and its replica as one thing, and whoever waits for either.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use tidelog_log::{Log, LogConfig, Start, testing::FaultDir};
//! use tidelog_node::partition::{Acks, After, PartitionCore};
//! use tidelog_record::{BatchBuilder, Compression};
//! use tidelog_replication::partition::{BecomeLeader, Config, Input};
//! use tidelog_types::{LeaderEpoch, NodeId, Now, Offset, Timestamp};
//!
//! let now = Now { instant: Instant::now(), timestamp: Timestamp::from_millis(1_700_000_000_000) };
//! let dir = Arc::new(FaultDir::new());
//! let (log, _) = Log::open(dir, "orders-0", LogConfig::default(), Start::NEW, now)?;
//! let mut partition = PartitionCore::new(log, Config::new(NodeId::new(1)), Offset::ZERO);
//!
//! let mut after = After::default();
//! let leads = BecomeLeader {
//!     leader_epoch: LeaderEpoch::new(0),
//!     partition_epoch: 0,
//!     replicas: vec![NodeId::new(1)],
//!     adding_replicas: vec![],
//!     isr: vec![NodeId::new(1)],
//!     recovering: false,
//!     brokers: vec![],
//! };
//! partition.handle(now, Input::BecomeLeader(leads), &mut after);
//!
//! let mut batch = BatchBuilder::new(Compression::NONE);
//! batch.push(now.timestamp, Some(b"key"), Some(b"value"), &[]);
//! let accepted = partition
//!     .append(now, &batch.build()?, LeaderEpoch::NONE, Acks::All, "whoever waits", &mut after)?;
//! assert!(!accepted.done && accepted.flush);
//!
//! let flush = partition.begin_flush().expect("something was appended");
//! let result = flush.run(); // wherever the owner likes
//! partition.flush_finished(now, flush, result, &mut after);
//! assert_eq!(after.done, ["whoever waits"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod follow;
mod future;
mod waits;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tidelog_log::{
    Appended, Log, LogConfig, LogError, LogSummary, PendingFlush, PendingRest, Upkeep,
};
use tidelog_record::Batch;
use tidelog_replication::partition::{
    AlterPartition, Config, Effect, Input, Leadership, Replica, Restored, Watermarks,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Uuid};

pub use self::follow::{Fetched, ReadReplica, Taken};
pub use self::future::{Copied, FutureLog, NotTaken, Retired};
use self::waits::Waits;

/// What an append waits for before it counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing (acks=0).
    None,
    /// This replica has it, as durably as the topic demands (acks=1).
    Leader,
    /// All in-sync replicas have it (acks=-1).
    All,
}

/// What came of an append.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Where the batch lies.
    pub appended: Appended,
    /// It counts as written already: whoever waits for it need not, and will not be told.
    pub done: bool,
    /// The owner has to see to a flush.
    pub flush: bool,
}

/// Why a partition refused an append.
#[derive(Debug)]
pub enum AppendRefused {
    /// The replica is not in a state to take it.
    Replica(ErrorCode),
    /// The log refused the batch, or failed.
    Log(LogError),
}

impl AppendRefused {
    /// What a producer is told.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::Replica(code) => *code,
            Self::Log(error) => error.error_code(),
        }
    }
}

impl fmt::Display for AppendRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(code) => write!(f, "{code}"),
            Self::Log(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for AppendRefused {}

/// What the owner is to do when a call has returned: everything that concerns others. Calls add to it.
///
/// `W` is whoever waits for an append.
#[derive(Debug)]
pub struct After<W> {
    /// Their appends count as written.
    pub done: Vec<W>,
    /// It is unknown whether their appends ever will, for this reason.
    pub failed: Vec<(W, ErrorCode)>,
    /// There may be more to read, or the partition changed hands.
    pub wake_readers: bool,
    /// The replica wants this of the controller; the answers are [`Input::AlterPartitionAnswered`].
    pub changes: Vec<AlterPartition>,
    /// The leaders of whom something else is wanted than before; see [`PartitionCore::asks`].
    pub asks_changed: [Option<NodeId>; 2],
    /// Call [`PartitionCore::wake`] then, whatever was said before.
    pub wake_at: Option<Instant>,
    /// The end of the log, or all of it, was cut off.
    pub was_cut: bool,
    /// What should be said in the log of the node, in order.
    pub notes: Vec<Note>,
    /// The records that came with an answer may be appended.
    append_fetched: bool,
}

impl<W> Default for After<W> {
    fn default() -> Self {
        Self {
            done: Vec::new(),
            failed: Vec::new(),
            wake_readers: false,
            changes: Vec::new(),
            asks_changed: [None; 2],
            wake_at: None,
            was_cut: false,
            notes: Vec::new(),
            append_fetched: false,
        }
    }
}

/// Something that people should hear of.
#[derive(Debug)]
#[non_exhaustive]
pub enum Note {
    /// The log is cut to where the leader's parts from it.
    Cut {
        /// The end that is wanted.
        end: Offset,
    },
    /// The log begins anew, where the leader's begins.
    BeganAnew {
        /// Where that is.
        offset: Offset,
    },
    /// Committed records are given up, since the leader was elected uncleanly and lacks them.
    CommittedLost {
        /// From this offset on.
        from: Offset,
        /// Up to this offset, exclusive.
        to: Offset,
    },
    /// The log cannot be cut, the partition goes offline.
    CutFailed(LogError),
    /// The leader's records cannot be appended.
    FetchedRefused(LogError),
    /// A flush failed, the partition goes offline.
    FlushFailed(LogError),
    /// A log that is not used stays in memory, since its files cannot be completed.
    RestFailed(LogError),
}

/// A log with its replica, and whoever waits for it. Calls are made one at a time; none waits for a disk to flush.
#[derive(Debug)]
pub struct PartitionCore<W> {
    log: Log,
    replica: Replica,
    /// What the replica's effects are written to, kept for its memory.
    effects: Vec<Effect>,
    /// What others wait for, and what this replica waits for; `None` if nothing was waited for lately.
    waits: Option<Box<Waits<W>>>,
}

impl<W> PartitionCore<W> {
    /// A partition that has just been opened, with the high watermark that was written down last. What the log holds and is
    /// not known to be flushed [needs a flush](Self::needs_flush).
    pub fn new(mut log: Log, config: Config, high_watermark: Offset) -> Self {
        let log_end_offset = log.log_end_offset();
        let restored = Restored {
            log_start_offset: log.log_start_offset(),
            log_end_offset,
            durable_end_offset: log.recovery_point(),
            high_watermark,
            last_epoch: last_epoch(&log),
            first_unstable_offset: log.first_unstable_offset(log_end_offset),
        };
        Self {
            log,
            replica: Replica::new(config, restored),
            effects: Vec::new(),
            waits: None,
        }
    }

    /// The log, to look at.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The replica, to look at.
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What readers may know at this moment.
    pub fn readers_see(&self) -> (Watermarks, Leadership) {
        (self.replica.watermarks(), self.replica.leadership())
    }

    /// Whether the owner has to see to a flush.
    pub fn needs_flush(&self) -> bool {
        self.replica.needs_flush()
    }

    /// Appends a batch as leader. `leader_epoch` is the epoch in which the caller believes this node to lead, if it has a
    /// belief. Whoever waits for `acks` is `waiter`.
    pub fn append(
        &mut self,
        now: Now,
        batch: &Batch,
        leader_epoch: LeaderEpoch,
        acks: Acks,
        waiter: W,
        after: &mut After<W>,
    ) -> Result<Accepted, AppendRefused> {
        self.replica
            .check_leader_epoch(leader_epoch)
            .map_err(AppendRefused::Replica)?;
        if acks == Acks::All {
            self.replica
                .check_min_isr()
                .map_err(AppendRefused::Replica)?;
        }
        let epoch = self.replica.leader_epoch();
        let appended = match self.log.append_as_leader(batch, epoch, now.timestamp) {
            Ok(appended) => appended,
            Err(error) => {
                self.look_for_failure(now, after);
                return Err(AppendRefused::Log(error));
            }
        };
        if !appended.duplicate {
            let end = appended.end.offset;
            let input = Input::Appended {
                end,
                leader_epoch: epoch,
                first_unstable_offset: self.log.first_unstable_offset(end),
            };
            self.step(now, input, after);
        }
        let done = self.wait(acks, appended.last_offset.next(), waiter);
        // A segment that was closed is flushed even where nobody waits for it.
        let flush = self.replica.needs_flush() || appended.rolled;
        Ok(Accepted {
            appended,
            done,
            flush,
        })
    }

    /// Takes in what has happened outside: what the metadata says of the partition and of brokers, the controller's answer.
    /// What happens to the log has calls of its own.
    pub fn handle(&mut self, now: Now, input: Input, after: &mut After<W>) {
        self.step(now, input, after);
        // What the metadata says comes to all partitions, also to those that are idle from then on.
        self.free();
    }

    /// Moves the start of the log to `offset`, or to the high watermark for [`Offset::NONE`]; gives the new start.
    pub fn delete_records(
        &mut self,
        now: Now,
        offset: Offset,
        after: &mut After<W>,
    ) -> Result<Offset, ErrorCode> {
        self.replica.check_leader_epoch(LeaderEpoch::NONE)?;
        let end = self.replica.delete_records_end(offset)?;
        self.with_log(now, after, |log, _| log.advance_log_start(end))
            .map_err(|error| error.error_code())?;
        Ok(self.replica.watermarks().log_start_offset)
    }

    /// Takes over a new configuration.
    pub fn configure(
        &mut self,
        now: Now,
        log: Arc<LogConfig>,
        replica: Config,
        after: &mut After<W>,
    ) {
        self.log.update_config(log);
        self.step(now, Input::ConfigChanged(replica), after);
    }

    /// Runs `change` on the log, and tells the replica of a new log start.
    pub fn with_log<R>(
        &mut self,
        now: Now,
        after: &mut After<W>,
        change: impl FnOnce(&mut Log, Watermarks) -> R,
    ) -> R {
        let marks = self.replica.watermarks();
        let result = change(&mut self.log, marks);
        let log_start_offset = self.log.log_start_offset();
        if !self.look_for_failure(now, after) && log_start_offset > marks.log_start_offset {
            self.step(now, Input::LogStartAdvanced { log_start_offset }, after);
        }
        result
    }

    /// Begins a flush of what was appended so far, unless there is nothing. It is [run](PendingFlush::run) while other calls
    /// are made, and reported by [`flush_finished`](Self::flush_finished).
    pub fn begin_flush(&mut self) -> Option<PendingFlush> {
        self.log.begin_flush()
    }

    /// Takes note of how a flush ended. Tells whether it was a success.
    pub fn flush_finished(
        &mut self,
        now: Now,
        flush: PendingFlush,
        result: Result<(), LogError>,
        after: &mut After<W>,
    ) -> bool {
        let (input, succeeded) = match self.log.flush_finished(flush, result) {
            Ok(end) => (Input::Flushed { end }, true),
            Err(error) => {
                after.notes.push(Note::FlushFailed(error));
                (Input::Failed, false)
            }
        };
        self.step(now, input, after);
        succeeded
    }

    /// Work on files that nobody waits for, once a flush is done.
    pub fn begin_upkeep(&mut self) -> Option<Upkeep> {
        self.log.begin_upkeep()
    }

    /// Begins to free what the log has in memory and open, if nobody has used it since the last call. The files are completed
    /// by [`PendingRest::run`] while other calls are made, and [`rest_finished`](Self::rest_finished) reports it.
    pub fn begin_rest(&mut self) -> Option<PendingRest> {
        if self.log.is_resting() || self.log.take_used() {
            return None;
        }
        self.free();
        self.log
            .begin_rest(self.replica.watermarks().high_watermark)
    }

    /// Takes note of how that ended. Tells whether the log is in order.
    pub fn rest_finished(
        &mut self,
        now: Now,
        rest: PendingRest,
        result: Result<(), LogError>,
        after: &mut After<W>,
    ) -> bool {
        if let Err(error) = self.log.rest_finished(rest, result) {
            after.notes.push(Note::RestFailed(error));
        }
        let failed = self.look_for_failure(now, after);
        if !failed {
            let end = self.log.recovery_point();
            self.step(now, Input::Flushed { end }, after);
        }
        !failed
    }

    /// Closes the log for good, with everything durable; gives what the next start has to know. Whoever comes later finds
    /// the replica offline.
    pub fn close(&mut self, now: Now, after: &mut After<W>) -> Result<LogSummary, LogError> {
        let closed = self.log.close();
        self.step(now, Input::Failed, after);
        closed
    }

    /// Deletes the log: its folder gets a name with `unique` in it, and can be removed when nobody reads it any more.
    pub fn delete(
        &mut self,
        now: Now,
        unique: Uuid,
        after: &mut After<W>,
    ) -> Result<Option<PathBuf>, LogError> {
        let deleted = self.log.delete(unique);
        self.step(now, Input::Failed, after);
        deleted
    }

    /// Feeds the replica and does what it says of the log.
    fn step(&mut self, now: Now, input: Input, after: &mut After<W>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.replica.handle(now, input, &mut effects);
        let mut followed = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::PublishWatermarks(_)
                | Effect::WakeWaiters
                | Effect::PublishLowWatermark(_) => after.wake_readers = true,
                Effect::StartLeaderEpoch { leader_epoch, .. } => {
                    self.log.begin_leader_epoch(leader_epoch);
                }
                Effect::AlterPartition(change) => after.changes.push(change),
                Effect::AskLeader(_) => self.note_asks(after),
                Effect::AppendFetched => after.append_fetched = true,
                Effect::ReportCommittedLost { from, to } => {
                    after.notes.push(Note::CommittedLost { from, to });
                }
                effect @ (Effect::Truncate { .. }
                | Effect::Restart { .. }
                | Effect::AdvanceLogStart { .. }) => {
                    followed.extend(self.cut(now, effect, after));
                }
            }
        }
        self.effects = effects;
        for input in followed {
            self.step(now, input, after);
        }
        self.schedule(after);
        self.release(after);
    }

    /// Shortens the log as the replica says; gives what to tell it.
    fn cut(&mut self, now: Now, effect: Effect, after: &mut After<W>) -> Option<Input> {
        let done = match effect {
            Effect::Truncate { end } => {
                after.was_cut = true;
                after.notes.push(Note::Cut { end });
                self.truncate(now, end)
            }
            Effect::Restart { offset } => {
                after.was_cut = true;
                after.notes.push(Note::BeganAnew { offset });
                let restarted = self.log.truncate_fully_and_start_at(offset, now);
                restarted.map(|()| Input::Restarted { offset })
            }
            Effect::AdvanceLogStart { log_start_offset } => self
                .log
                .advance_log_start(log_start_offset)
                .map(|()| Input::LogStartAdvanced { log_start_offset }),
            _ => return None,
        };
        match done {
            Ok(input) => Some(input),
            Err(error) => {
                after.notes.push(Note::CutFailed(error));
                Some(Input::Failed)
            }
        }
    }

    fn truncate(&mut self, now: Now, end: Offset) -> Result<Input, LogError> {
        let end = self.log.truncate_to(end, now)?;
        Ok(Input::Truncated {
            end,
            last_epoch: last_epoch(&self.log),
            first_unstable_offset: self.log.first_unstable_offset(end),
        })
    }

    /// Takes the replica offline if its log has failed.
    fn look_for_failure(&mut self, now: Now, after: &mut After<W>) -> bool {
        let failed = self.log.check().is_err();
        if failed {
            self.step(now, Input::Failed, after);
        }
        failed
    }

    /// Frees what a partition that nobody uses can do without.
    fn free(&mut self) {
        self.effects = Vec::new();
        self.waits = self.waits.take_if(|waits| waits.is_needed());
    }
}

/// The epoch of the last record, [`LeaderEpoch::NONE`] without one.
fn last_epoch(log: &Log) -> LeaderEpoch {
    let end = log.log_end_offset();
    let last = (end > log.log_start_offset()).then(|| Offset::new(end.value() - 1));
    let epoch = last.and_then(|last| log.reader().epoch_at(last));
    epoch.unwrap_or(LeaderEpoch::NONE)
}
