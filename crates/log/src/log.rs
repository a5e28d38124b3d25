use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tidelog_record::Batch;
use tidelog_types::{LeaderEpoch, Now, Offset, ProducerId, Timestamp, TopicId, Uuid};

use crate::cleaner::CleaningState;
use crate::config::LogConfig;
use crate::dir::Dir;
use crate::epochs::{EpochEntry, LeaderEpochs};
use crate::error::{Context, LogError};
use crate::files::Place;
use crate::flush::{PendingFlush, Upkeep};
use crate::producers::ProducerState;
use crate::reader::LogReader;
use crate::recovery::{Recovery, Start};
use crate::rest::{LogSummary, PendingRest, Rest};
use crate::retention::DeletedSegment;
use crate::segment::Segment;
use crate::writer::Writer;

/// The log of one partition, with its single writer.
///
/// Nothing of it is durable before it was flushed: [`begin_flush`](Self::begin_flush) under the owner's lock,
/// [`PendingFlush::run`](crate::PendingFlush::run) without, [`flush_finished`](Self::flush_finished) under it again.
/// Those who read use a [`LogReader`], which waits for nobody.
///
/// After a failed write or flush the log takes no more: what reached the disk is unknown, and a second flush may lie.
///
/// ```text
///                append, truncate, ..
///   resting ──────────────────────────► awake: active segment, index, producers in memory
///      ▲                                  │
///      └──────── begin_rest, close ◄──────┘
/// ```
///
/// A resting log costs some hundred bytes and has no file open. It wakes by itself: what needs more than the offsets reads
/// its files again, which takes some tens of microseconds. A new log rests until the first append.
#[derive(Debug)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<LogConfig>,
    state: State,
    pub(crate) cleaning: CleaningState,
}

#[derive(Debug)]
enum State {
    Awake(Box<Writer>),
    Resting(Box<Rest>),
}

/// What readers and flushes see of a log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub place: Arc<Place>,
    pub log_start: AtomicI64,
    pub log_end: AtomicI64,
    pub segments: RwLock<SegmentList>,
    pub epochs: RwLock<LeaderEpochs>,
    pub fault: OnceLock<Box<Fault>>,
    /// Counts truncations.
    pub generation: AtomicU64,
    /// Held while files are written aside of the log, so that a truncation leaves none that describes what is gone.
    pub aside: Mutex<()>,
    /// Whether somebody read or wrote since this was looked at last.
    pub was_used: AtomicBool,
}

/// The segments of a log.
#[derive(Debug)]
pub(crate) enum SegmentList {
    Loaded(Arc<Vec<Arc<Segment>>>),
    /// The log rests, and nobody has asked for them since. The last one is known.
    Unloaded(LastSegment),
}

/// The last segment of a log that rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastSegment {
    pub base_offset: Offset,
    /// How long its file is; `None` if it was not created yet.
    pub len: Option<u32>,
}

/// Why a log takes no more.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Failed {
        reason: String,
        /// The system refused a file operation; else what is in the files is wrong.
        by_disk: bool,
    },
    Deleted,
}

impl Shared {
    /// Fails if the log is poisoned or deleted.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        let path = || self.place.path.clone();
        match self.fault.get().map(|fault| &**fault) {
            None => Ok(()),
            Some(Fault::Failed { reason, .. }) => Err(LogError::Poisoned {
                path: path(),
                reason: reason.clone(),
            }),
            Some(Fault::Deleted) => Err(LogError::Deleted { path: path() }),
        }
    }

    /// From now on the log takes no more.
    pub(crate) fn poison(&self, error: &LogError) {
        let path = &self.place.path;
        let fault = Box::new(Fault::Failed {
            reason: error.to_string(),
            by_disk: matches!(error, LogError::Io { .. }),
        });
        if self.fault.set(fault).is_ok() {
            tracing::error!(log = %path.display(), %error, "the log failed and is closed for writing");
        }
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset::new(self.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset::new(self.log_end.load(Ordering::Acquire))
    }

    pub(crate) fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.read().latest().map(|entry| entry.epoch)
    }

    /// Notes that the log is in use, for [`Log::take_used`].
    pub(crate) fn used(&self) {
        // Many threads may read the same log, so the line is written to only when it has to be.
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
    }

    /// The segments; those of a log that rests are looked up in its folder. None of them is opened.
    pub(crate) fn segments(&self) -> Result<Arc<Vec<Arc<Segment>>>, LogError> {
        self.used();
        if let SegmentList::Loaded(segments) = &*self.segments.read() {
            return Ok(segments.clone());
        }
        let mut list = self.segments.write();
        match &*list {
            SegmentList::Loaded(segments) => Ok(segments.clone()),
            SegmentList::Unloaded(last) => {
                let loaded = crate::rest::load_segments(&self.place, *last, self.log_end());
                let loaded = Arc::new(loaded.inspect_err(|error| {
                    if matches!(error, LogError::Corrupt { .. }) {
                        self.poison(error);
                    }
                })?);
                *list = SegmentList::Loaded(loaded.clone());
                Ok(loaded)
            }
        }
    }

    /// The base offset of the last segment.
    pub(crate) fn last_segment_base_offset(&self) -> Offset {
        match &*self.segments.read() {
            SegmentList::Loaded(segments) => segments
                .last()
                .map_or(Offset::ZERO, |segment| segment.base_offset()),
            SegmentList::Unloaded(last) => last.base_offset,
        }
    }
}

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The offset that the next record will get.
    pub offset: Offset,
    /// The base offset of the last segment.
    pub segment_base_offset: Offset,
    /// How many bytes the last segment has.
    pub position: u32,
}

/// What [`Log::append_as_leader`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record; of a batch sent again, the one it got the first time.
    pub base_offset: Offset,
    /// The offset of the last record.
    pub last_offset: Offset,
    /// The timestamp of all records if the log sets it, or [`Timestamp::NONE`]; of a batch sent again, its largest one.
    pub log_append_time: Timestamp,
    /// Whether the batch was in the log already, so that nothing was appended (KIP-98).
    pub duplicate: bool,
    /// Whether a new segment was begun. The old one should be flushed, even where nobody waits for flushes.
    pub rolled: bool,
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// The end of the log now.
    pub end: LogEnd,
}

impl Log {
    /// Opens the log in the folder `path` of `dir`, or begins one there.
    ///
    /// A new log makes no file before the first append. A log that was closed cleanly is not read but for the end of its
    /// last segment; any other is recovered from [`Start::recovery_point`] on, and cut where the first damaged batch
    /// begins.
    pub fn open(
        dir: Arc<dyn Dir>,
        path: impl Into<PathBuf>,
        config: impl Into<Arc<LogConfig>>,
        start: Start,
        now: Now,
    ) -> Result<(Self, Recovery), LogError> {
        let place = Arc::new(Place {
            dir,
            path: path.into(),
        });
        crate::recovery::open(place, config.into(), start, now.timestamp)
    }

    /// Opens a log of which a summary tells that was written when its directory was closed, see
    /// [`LogDirectory::take_clean_shutdown`](crate::LogDirectory::take_clean_shutdown). No file is touched.
    pub fn resume(
        dir: Arc<dyn Dir>,
        path: impl Into<PathBuf>,
        config: impl Into<Arc<LogConfig>>,
        summary: LogSummary,
    ) -> Self {
        let place = Arc::new(Place {
            dir,
            path: path.into(),
        });
        Self::resting(place, config.into(), summary)
    }

    pub(crate) fn resting(place: Arc<Place>, config: Arc<LogConfig>, summary: LogSummary) -> Self {
        let shared = Shared {
            place,
            log_start: AtomicI64::new(summary.log_start_offset.value()),
            log_end: AtomicI64::new(summary.log_end_offset.value()),
            segments: RwLock::new(SegmentList::Unloaded(summary.last_segment)),
            epochs: RwLock::new(summary.epochs),
            fault: OnceLock::new(),
            generation: AtomicU64::new(0),
            aside: Mutex::new(()),
            was_used: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            config,
            state: State::Resting(Box::new(summary.rest)),
            cleaning: CleaningState::default(),
        }
    }

    /// A log that was just opened. It rests if its files are complete.
    pub(crate) fn opened(writer: Writer, may_rest: bool) -> Self {
        let (shared, config) = (writer.shared.clone(), writer.config.clone());
        let state = if may_rest {
            let rest = writer.rest();
            shared.unload(rest.last_segment(&shared));
            State::Resting(Box::new(rest))
        } else {
            State::Awake(Box::new(writer))
        };
        Self {
            shared,
            config,
            state,
            cleaning: CleaningState::default(),
        }
    }

    /// The writer, woken if the log rests.
    pub(crate) fn writer(&mut self, now: Option<Timestamp>) -> Result<&mut Writer, LogError> {
        if let State::Resting(rest) = &self.state {
            self.shared.used();
            let mut writer = Writer::wake(self.shared.clone(), self.config.clone(), rest)?;
            if let Some(now) = now {
                // Those who were forgotten meanwhile, had the log been awake.
                let expiration_ms = self.config.producer_id_expiration_ms;
                writer.producers.expire(now, expiration_ms);
            }
            self.state = State::Awake(Box::new(writer));
        }
        match &mut self.state {
            State::Awake(writer) => Ok(writer),
            State::Resting(_) => unreachable!("it was just woken"),
        }
    }

    /// What is remembered of a log that rests; `None` if it is awake.
    pub(crate) fn at_rest(&self) -> Option<&Rest> {
        match &self.state {
            State::Awake(_) => None,
            State::Resting(rest) => Some(rest),
        }
    }

    /// A handle for reading. Readers see what was appended at once, whether it is durable or not.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// The folder of the partition, relative to the log directory.
    pub fn path(&self) -> &Path {
        &self.shared.place.path
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> Offset {
        self.shared.log_end()
    }

    /// The end of the log with its place in the last segment.
    pub fn end(&self) -> LogEnd {
        match &self.state {
            State::Awake(writer) => writer.end(),
            State::Resting(rest) => LogEnd {
                offset: self.log_end_offset(),
                segment_base_offset: self.shared.last_segment_base_offset(),
                position: rest.last_segment_len(),
            },
        }
    }

    /// Up to where the log is durable: what goes into `recovery-point-offset-checkpoint`.
    pub fn recovery_point(&self) -> Offset {
        match &self.state {
            State::Awake(writer) => writer.flushed,
            State::Resting(_) => self.log_end_offset(),
        }
    }

    /// The first segment's base offset: what a log start offset is compared with before it goes into
    /// `log-start-offset-checkpoint`.
    pub fn first_segment_base_offset(&self) -> Offset {
        match &self.state {
            State::Awake(writer) => writer.first_segment_base_offset(),
            State::Resting(rest) => rest.first_segment.base_offset,
        }
    }

    /// Bytes of all segments.
    pub fn size(&self) -> u64 {
        match &self.state {
            State::Awake(writer) => writer.size(),
            State::Resting(rest) => rest.size,
        }
    }

    /// How many segments there are.
    pub fn segments_count(&self) -> usize {
        match &self.state {
            State::Awake(writer) => writer.segments.len(),
            State::Resting(rest) => rest.segments_count as usize,
        }
    }

    /// The settings in force.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings; they hold from the next append or deletion on. Logs with the same settings may share them.
    pub fn update_config(&mut self, config: impl Into<Arc<LogConfig>>) {
        self.config = config.into();
        self.cleaning.config_changed();
        if let State::Awake(writer) = &mut self.state {
            writer.config = self.config.clone();
        }
    }

    /// Which incarnation of the topic the log belongs to (KIP-516), as far as it was said.
    pub fn topic_id(&self) -> Option<TopicId> {
        match &self.state {
            State::Awake(writer) => writer.topic_id,
            State::Resting(rest) => rest.topic_id,
        }
    }

    /// Whether the log has failed or was deleted, so that it takes no more.
    pub fn check(&self) -> Result<(), LogError> {
        self.shared.check()
    }

    /// Whether the log has failed because the disk refused something, so that other logs on it will fail as well.
    pub fn disk_has_failed(&self) -> bool {
        let fault = self.shared.fault.get().map(|fault| &**fault);
        matches!(fault, Some(Fault::Failed { by_disk: true, .. }))
    }

    // Epochs

    /// Notes that a leader of this epoch begins at the end of the log (KIP-101).
    pub fn begin_leader_epoch(&mut self, epoch: LeaderEpoch) {
        match &mut self.state {
            State::Awake(writer) => writer.begin_leader_epoch(epoch),
            State::Resting(rest) => {
                if epoch >= LeaderEpoch::new(0) && self.shared.latest_epoch() != Some(epoch) {
                    let end = self.shared.log_end();
                    rest.epochs_unsaved |= self.shared.epochs.write().assign(epoch, end);
                }
            }
        }
    }

    /// The leader epochs, oldest first.
    pub fn leader_epochs(&self) -> Vec<EpochEntry> {
        self.shared.epochs.read().entries().to_vec()
    }

    /// The newest leader epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.latest_epoch()
    }

    /// Where an epoch ends, see [`LeaderEpochs::end_offset_for`].
    pub fn end_offset_for(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.shared
            .epochs
            .read()
            .end_offset_for(epoch, self.log_end_offset())
    }

    // Transactions and producers

    /// The last stable offset: before it every transaction is decided, and its end below the high watermark.
    pub fn last_stable_offset(&mut self, high_watermark: Offset) -> Offset {
        self.first_unstable_offset(high_watermark)
            .map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// The first offset of a transaction that is open, or whose end is not below the high watermark.
    pub fn first_unstable_offset(&mut self, high_watermark: Offset) -> Option<Offset> {
        match &mut self.state {
            State::Awake(writer) => writer.producers.first_unstable(high_watermark),
            State::Resting(rest) => rest.first_unstable_offset,
        }
    }

    /// What is known about each producer, for DescribeProducers. Wakes the log if it has any.
    pub fn producers(
        &mut self,
    ) -> Result<impl Iterator<Item = (ProducerId, &ProducerState)>, LogError> {
        if let State::Resting(rest) = &self.state
            && !rest.has_producers
        {
            return Ok(None.into_iter().flatten());
        }
        Ok(Some(self.writer(None)?.producers.states())
            .into_iter()
            .flatten())
    }

    /// What is known about one producer. Wakes the log if it knows of any.
    pub fn producer(&mut self, id: ProducerId) -> Result<Option<&ProducerState>, LogError> {
        match &self.state {
            State::Resting(rest) if !rest.has_producers => Ok(None),
            _ => Ok(self.writer(None)?.producers.state(id)),
        }
    }

    /// Forgets producers that have written nothing for [`LogConfig::producer_id_expiration_ms`].
    pub fn expire_producers(&mut self, now: Now) {
        // Those of a log that rests are not in memory.
        if let State::Awake(writer) = &mut self.state {
            writer
                .producers
                .expire(now.timestamp, writer.config.producer_id_expiration_ms);
        }
    }

    // Appending

    /// Appends a batch as the leader of the partition: it gets the next offsets, the leader's epoch, and the time of the
    /// append if the topic wants that.
    ///
    /// Checks what depends on the log: the size, and the sequence of an idempotent or transactional producer. Everything
    /// that the batch alone can tell, the CRC first of all, is the caller's to check (`tidelog_record::validate`).
    pub fn append_as_leader(
        &mut self,
        batch: &Batch,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Appended, LogError> {
        self.shared.check()?;
        self.shared.used();
        self.writer(Some(now))?
            .append_as_leader(batch, leader_epoch, now)
    }

    /// Appends a batch that a leader has written: it keeps its offsets and its epoch. Checks the CRC, and that the batch
    /// does not begin before the end of the log.
    pub fn append_as_follower(
        &mut self,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Appended, LogError> {
        self.shared.check()?;
        self.shared.used();
        self.writer(Some(now))?.append_as_follower(batch, now)
    }

    // Flushing

    /// Begins a flush of everything that was appended or otherwise changed; cheap. `None` if all is durable.
    pub fn begin_flush(&mut self) -> Option<PendingFlush> {
        match &mut self.state {
            State::Awake(writer) => writer.begin_flush(),
            State::Resting(_) => None,
        }
    }

    /// Takes note of how a flush went. Answers up to where the log is durable now. A flush of the log that this one
    /// [succeeds](Self::succeed) says nothing of this one.
    pub fn flush_finished(
        &mut self,
        flush: PendingFlush,
        result: Result<(), LogError>,
    ) -> Result<Offset, LogError> {
        if !flush.is_of(&self.shared) {
            return Ok(self.recovery_point());
        }
        if let Err(error) = result {
            self.shared.poison(&error);
            return Err(error);
        }
        self.shared.check()?;
        if let State::Awake(writer) = &mut self.state {
            writer.flushed(flush);
        }
        Ok(self.recovery_point())
    }

    /// Makes everything durable that was appended, on the calling thread: a whole flush in one call, for programs with one
    /// thread. Answers up to where the log is durable.
    pub fn flush(&mut self) -> Result<Offset, LogError> {
        self.shared.check()?;
        match self.begin_flush() {
            None => Ok(self.recovery_point()),
            Some(flush) => {
                let result = flush.run();
                self.flush_finished(flush, result)
            }
        }
    }

    /// Collects work that nobody waits for, to be run on the flusher's thread after those who wait were told: indexes and
    /// producer snapshots of closed segments, and of the active one every
    /// [`checkpoint_interval_bytes`](crate::LogConfig::checkpoint_interval_bytes); zeros written ahead of a log that is
    /// flushed often. `None` if there is nothing to do. Call it after every flush.
    pub fn begin_upkeep(&mut self) -> Option<Upkeep> {
        match &mut self.state {
            State::Awake(writer) => writer.begin_upkeep(),
            State::Resting(_) => None,
        }
    }

    // Resting

    /// Whether the log costs as little as it can: no file is open for it, and only its offsets are in memory.
    pub fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting(_))
            && matches!(*self.shared.segments.read(), SegmentList::Unloaded(_))
    }

    /// Whether somebody read or wrote since the last call. A log that says no when it is asked every few minutes should rest.
    pub fn take_used(&self) -> bool {
        self.shared.was_used.swap(false, Ordering::Relaxed)
    }

    /// Begins to put the log to rest: [`PendingRest::run`] makes its files complete without the owner's lock, and
    /// [`rest_finished`](Self::rest_finished) frees its memory. `None` if nothing is to be done, or if it cannot rest
    /// now, because it failed, somebody is at its segments, or a transaction ended behind the high watermark.
    pub fn begin_rest(&mut self, high_watermark: Offset) -> Option<PendingRest> {
        match &mut self.state {
            State::Awake(writer) => {
                let may_rest =
                    !writer.is_looked_at() && writer.producers.is_decided(high_watermark);
                let pending = may_rest.then(|| writer.begin_rest());
                // An error has poisoned the log.
                pending?.ok()
            }
            State::Resting(rest) => {
                self.shared.unload(rest.last_segment(&self.shared));
                None
            }
        }
    }

    /// Ends what [`begin_rest`](Self::begin_rest) began. Answers whether the log rests: it does not if it was written to
    /// meanwhile, and goes on as if nothing had happened.
    pub fn rest_finished(
        &mut self,
        pending: PendingRest,
        result: Result<(), LogError>,
    ) -> Result<bool, LogError> {
        let State::Awake(writer) = &mut self.state else {
            return Ok(true);
        };
        if !pending.is_of(&self.shared) {
            return Ok(false);
        }
        result?;
        self.shared.check()?;
        let Some(rest) = writer.rest_finished(pending) else {
            return Ok(false);
        };
        self.shared.unload(rest.last_segment(&self.shared));
        self.state = State::Resting(Box::new(rest));
        Ok(true)
    }

    /// Closes the log: everything is durable, the files are as Kafka leaves them, and nothing has to be recovered at the
    /// next start. It should not be written to any more. Answers what the next start has to know, see
    /// [`LogDirectory::write_clean_shutdown`](crate::LogDirectory::write_clean_shutdown).
    pub fn close(&mut self) -> Result<LogSummary, LogError> {
        self.shared.check()?;
        if let State::Awake(writer) = &mut self.state {
            let pending = writer.begin_rest()?;
            let result = pending.run();
            self.rest_finished(pending, result)?;
        }
        match &self.state {
            State::Resting(rest) => Ok(LogSummary::of(&self.shared, rest)),
            State::Awake(_) => unreachable!("nobody else has written to it"),
        }
    }

    // Moving

    /// Completes the log, gives its folder another name, durably, and goes on there.
    pub fn renamed(mut self, path: impl Into<PathBuf>) -> Result<Self, LogError> {
        let summary = self.close()?;
        let from = &self.shared.place;
        let dir = Arc::clone(&from.dir);
        let place = Arc::new(Place {
            dir: Arc::clone(&dir),
            path: path.into(),
        });
        if summary.rest.exists {
            dir.rename(&from.path, &place.path)
                .context("rename", &from.path)?;
            let parent = place.path.parent().unwrap_or_else(|| Path::new(""));
            if let Err(error) = dir.sync_dir(parent) {
                // Which name there will be after a crash is unknown. The new one must not be seen where the old one is said to be.
                let _ = dir.rename(&place.path, &from.path);
                return Err(error).context("sync", parent);
            }
        }
        Ok(Self::resting(place, self.config, summary))
    }

    /// Takes the place of another log with the same records, which is not written to any more. What was begun on that one, such as
    /// a flush or a compaction, is not taken for this one's.
    pub fn succeed(&mut self, predecessor: &Self) {
        self.update_config(Arc::clone(&predecessor.config));
        let generation = predecessor.shared.generation.load(Ordering::Acquire) + 1;
        self.shared.generation.store(generation, Ordering::Release);
        if let Some(epoch) = predecessor.latest_epoch() {
            self.begin_leader_epoch(epoch);
        }
        if let Some(offset) = predecessor.first_dirty_offset() {
            self.set_first_dirty_offset(offset);
        }
    }

    // Shortening

    /// Takes the oldest segments out of the log that `retention.ms`, `retention.bytes` or the log start offset want gone,
    /// as far as they lie below the high watermark. The log start offset follows.
    ///
    /// The active segment goes too if all its records are old; a new one is begun then. A log that rests wakes only if
    /// there is something to delete.
    pub fn delete_old_segments(
        &mut self,
        now: Now,
        high_watermark: Offset,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        self.shared.check()?;
        if let State::Resting(rest) = &self.state {
            let start = self.log_start_offset();
            let end = self.log_end_offset();
            if !rest.may_lose_segments(&self.config, now.timestamp, start, end, high_watermark) {
                return Ok(Vec::new());
            }
        }
        self.writer(Some(now.timestamp))?
            .delete_old_segments(now, high_watermark)
    }

    /// Moves the log start offset, after DeleteRecords or as the leader says. Moving it back does nothing. Segments before
    /// it are deleted by [`delete_old_segments`](Self::delete_old_segments).
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<(), LogError> {
        if offset <= self.log_start_offset() {
            return Ok(());
        }
        self.writer(None)?.advance_log_start(offset)
    }

    /// Cuts the log so that it ends at `offset`, or before it if the offset lies in the middle of a batch or behind a gap.
    /// Answers the end. Nothing happens if the log ends there or before.
    ///
    /// A recovery point or log start offset that was written to a checkpoint file and lies behind the end must be lowered
    /// there before more is appended.
    pub fn truncate_to(&mut self, offset: Offset, now: Now) -> Result<Offset, LogError> {
        self.shared.check()?;
        if offset >= self.log_end_offset() {
            return Ok(self.log_end_offset());
        }
        let end = self.writer(Some(now.timestamp))?.truncate_to(offset, now)?;
        self.cleaning.truncated(end);
        Ok(end)
    }

    /// Drops everything; the log begins and ends at `offset` then. For a follower whose leader begins later than it ends.
    pub fn truncate_fully_and_start_at(
        &mut self,
        offset: Offset,
        now: Now,
    ) -> Result<(), LogError> {
        self.shared.check()?;
        self.writer(Some(now.timestamp))?
            .truncate_fully_and_start_at(offset, now)?;
        self.cleaning = CleaningState::default();
        Ok(())
    }

    /// Deletes the log: its folder gets a name that says so, with a number that was never used before, and is removed
    /// later by [`LogDirectory::remove_folder`](crate::LogDirectory::remove_folder). Answers the new name, or `None` if
    /// there never was a folder. Readers that have files open keep them.
    pub fn delete(&mut self, id: Uuid) -> Result<Option<PathBuf>, LogError> {
        let exists = match &self.state {
            State::Awake(writer) => writer.active.exists,
            State::Resting(rest) => rest.exists,
        };
        crate::retention::delete(&self.shared, exists, id)
    }
}

impl Shared {
    /// Forgets the segments of a log that rests; who reads them goes on.
    fn unload(&self, last: LastSegment) {
        *self.segments.write() = SegmentList::Unloaded(last);
    }
}
