use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_types::{Offset, TopicId};

use crate::checkpoint;
use crate::dir::{remove_if_exists, replace_file};
use crate::epochs::EpochEntry;
use crate::error::{Context, LogError};
use crate::log::Shared;
use crate::names;
use crate::segment::Segment;
use crate::writer::Writer;

/// When something was changed last, counted in changes of the log; 0 if it is durable.
pub(crate) type Mark = u64;

/// What was changed since the last flush, other than the bytes of the active segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty {
    changes: u64,
    /// Segments that were closed or cut.
    pub segments: Vec<Arc<Segment>>,
    /// The active segment was cut, or its length is otherwise not what the disk has.
    pub cut: Mark,
    /// The transaction index of the active segment has new entries.
    pub aborted: Mark,
    /// The leader epochs differ from their file.
    pub epochs: Mark,
    /// `partition.metadata` is to be written.
    pub topic_id: Mark,
    /// Names were added to or removed from the folder.
    pub names: Mark,
    /// The folder itself is new.
    pub folder: Mark,
}

impl Dirty {
    /// The mark of a change that happens now.
    pub(crate) const fn mark(&mut self) -> Mark {
        self.changes += 1;
        self.changes
    }

    const fn marks(&mut self) -> [&mut Mark; 6] {
        let Self {
            cut,
            aborted,
            epochs,
            topic_id,
            names,
            folder,
            ..
        } = self;
        [cut, aborted, epochs, topic_id, names, folder]
    }

    fn is_clean(&mut self) -> bool {
        self.segments.is_empty() && self.marks().iter().all(|mark| **mark == 0)
    }

    /// Forgets what `done` has seen, but not what was changed since.
    fn clean(&mut self, mut done: Self) {
        self.segments
            .retain(|s| !done.segments.iter().any(|d| Arc::ptr_eq(s, d)));
        for (mark, done) in self.marks().into_iter().zip(done.marks()) {
            if *mark == *done {
                *mark = 0;
            }
        }
    }
}

/// What is to be done aside of appending and flushing.
#[derive(Debug, Default)]
pub(crate) struct UpkeepState {
    /// Segments that were closed and whose indexes may not be in their files.
    pub sealed: Vec<Arc<Segment>>,
    /// Producer snapshots that are not written yet.
    pub snapshots: Vec<(Offset, Vec<u8>)>,
    /// Where the last snapshot was taken.
    pub last_snapshot: Offset,
    /// A snapshot in the middle of the active segment, to be replaced by the next one.
    pub middle_snapshot: Option<Offset>,
    /// Bytes ever appended.
    pub appended: u64,
    /// Of them, how many there were at the last snapshot.
    appended_at_snapshot: u64,
    /// And how many when the last flush began.
    appended_at_flush: u64,
    /// How many of the last flushes had little to write.
    small_flushes: u32,
    /// How many zero bytes were written ahead the last time.
    prepared_bytes: u32,
}

impl UpkeepState {
    /// Of a log whose files are complete up to `end`.
    pub(crate) fn at(end: Offset) -> Self {
        Self {
            last_snapshot: end,
            middle_snapshot: Some(end),
            ..Self::default()
        }
    }

    /// Notes how much the log has grown since the last flush.
    const fn flush_begins(&mut self) {
        let written = self.appended - self.appended_at_flush;
        self.appended_at_flush = self.appended;
        self.small_flushes = match written {
            0 => self.small_flushes,
            1..=SMALL_FLUSH_BYTES => self.small_flushes.saturating_add(1),
            _ => 0,
        };
    }
}

/// A flush that has begun: it covers what was appended before.
#[derive(Debug)]
#[must_use = "nothing is durable before it was run"]
pub struct PendingFlush {
    shared: Arc<Shared>,
    generation: u64,
    active: Arc<Segment>,
    dirty: Dirty,
    epochs: Vec<EpochEntry>,
    topic_id: TopicId,
    end: Offset,
}

impl PendingFlush {
    /// Whether it was begun on that log.
    pub(crate) fn is_of(&self, log: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, log)
    }

    /// Where the log will be durable up to.
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// Makes it so. Takes as long as the disk takes, so the owner's lock is not held meanwhile.
    ///
    /// Pages of one file go to the disk together with the file's length, segments one after another from the oldest; the
    /// names of new files last. So a crash in between leaves a log that ends somewhere.
    pub fn run(&self) -> Result<(), LogError> {
        self.shared.check()?;
        self.sync().inspect_err(|error| self.shared.poison(error))
    }

    fn sync(&self) -> Result<(), LogError> {
        let place = &self.shared.place;
        let dir = &*place.dir;
        let dirty = &self.dirty;
        if dirty.epochs > 0 {
            let path = place.file(names::EPOCHS);
            let content = checkpoint::write_epochs(&self.epochs);
            replace_file(dir, &path, &content).context("write", &path)?;
        }
        if dirty.topic_id > 0 {
            let path = place.file(names::PARTITION_METADATA);
            let content = checkpoint::write_partition_metadata(self.topic_id);
            replace_file(dir, &path, &content).context("write", &path)?;
        }
        for segment in &dirty.segments {
            let file = match segment.file() {
                // It was compacted meanwhile, and what has taken its place is durable.
                Err(_) if segment.is_replaced() => continue,
                file => file?,
            };
            file.sync_all().context("sync", &segment.log_path())?;
            segment.sync_aborted()?;
        }
        let file = self.active.file()?;
        let synced = if dirty.cut > 0 {
            file.sync_all()
        } else {
            file.sync_data()
        };
        synced.context("sync", &self.active.log_path())?;
        if dirty.aborted > 0 {
            self.active.sync_aborted()?;
        }
        if dirty.names > 0 || dirty.epochs > 0 || dirty.topic_id > 0 {
            dir.sync_dir(&place.path).context("sync", &place.path)?;
        }
        if dirty.folder > 0 {
            let parent = place.path.parent().map_or_else(PathBuf::new, PathBuf::from);
            dir.sync_dir(&parent).context("sync", &parent)?;
        }
        Ok(())
    }
}

/// Work that nobody waits for, done on the flusher's thread: see [`Log::begin_upkeep`](crate::Log::begin_upkeep).
#[derive(Debug)]
#[must_use = "nothing is done before it was run"]
pub struct Upkeep {
    shared: Arc<Shared>,
    generation: u64,
    sealed: Vec<Arc<Segment>>,
    /// The active segment, if its index so far is to be saved.
    index_of: Option<Arc<Segment>>,
    snapshots: Vec<(Offset, Vec<u8>)>,
    remove_snapshot: Option<Offset>,
    prepare: Option<(Arc<Segment>, u32)>,
    /// The active segment, if blocks are to be set aside for it, and how many bytes of them.
    reserve: Option<(Arc<Segment>, u64)>,
}

impl Upkeep {
    /// Does the work. What fails is either tried again or done by the next recovery, but for a failed sync of the log
    /// itself, which poisons it.
    pub fn run(self) {
        if self.shared.check().is_err() {
            return;
        }
        if let Some((segment, bytes)) = &self.prepare
            && let Err(error) = segment.prepare(*bytes)
        {
            self.shared.poison(&error);
            return;
        }
        if let Some((segment, bytes)) = &self.reserve
            && let Err(error) = segment.reserve(*bytes)
        {
            let log = self.shared.place.path.display();
            tracing::debug!(%log, %error, "no space was reserved; appending takes more work");
        }
        let aside = self.shared.aside.lock();
        if self.shared.generation.load(Ordering::Acquire) == self.generation
            && let Err(error) = self.save()
        {
            let log = self.shared.place.path.display();
            tracing::warn!(%log, %error, "indexes or a producer snapshot were not written; recovery will take longer");
        }
        drop(aside);
    }

    /// Does the part of the work that completes the files, and tells what fails.
    pub(crate) fn run_whole(&self) -> Result<(), LogError> {
        let _aside = self.shared.aside.lock();
        if self.shared.generation.load(Ordering::Acquire) == self.generation {
            self.save()?;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), LogError> {
        let place = &self.shared.place;
        let dir = &*place.dir;
        let mut names_changed = false;
        for segment in self.sealed.iter().chain(&self.index_of) {
            names_changed |= segment.save_index()?;
        }
        for segment in &self.sealed {
            segment.release_index();
        }
        for (offset, content) in &self.snapshots {
            let path = place.file(&names::of_segment(*offset, names::SNAPSHOT));
            replace_file(dir, &path, content).context("write", &path)?;
            names_changed = true;
        }
        if names_changed {
            dir.sync_dir(&place.path).context("sync", &place.path)?;
        }
        if let Some(offset) = self.remove_snapshot {
            let path = place.file(&names::of_segment(offset, names::SNAPSHOT));
            remove_if_exists(dir, &path).context("remove", &path)?;
        }
        Ok(())
    }
}

/// A flush of at most this many bytes is a small one.
const SMALL_FLUSH_BYTES: u64 = 64 << 10;
/// After so many small flushes in a row space is prepared.
const SMALL_FLUSHES_MIN: u32 = 4;
/// From which length on a segment reserves space, and how much at a time: as much as it has, within these bounds. A log that
/// is written at a gigabyte a second uses up the least of them before the next reservation is made.
const RESERVE_FROM_BYTES: u64 = 1 << 20;
const RESERVE_BYTES_MIN: u64 = 32 << 20;
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// The first preparation of a log; each one after it is twice as large.
const PREPARE_BYTES_MIN: u32 = 64 << 10;

impl Writer {
    /// See [`Log::begin_flush`](crate::Log::begin_flush).
    pub(crate) fn begin_flush(&mut self) -> Option<PendingFlush> {
        let end = self.log_end_offset();
        // Before the first append there is no folder for the epochs.
        if self.shared.fault.get().is_some() || !self.active.exists {
            return None;
        }
        if end == self.flushed && self.dirty.is_clean() {
            return None;
        }
        self.upkeep.flush_begins();
        // The next flush may begin before this one ends, and must not vouch for what only this one does: so what is dirty
        // stays so until it is known to be durable.
        Some(PendingFlush {
            shared: self.shared.clone(),
            generation: self.shared.generation.load(Ordering::Acquire),
            active: self.active().clone(),
            epochs: if self.dirty.epochs > 0 {
                self.shared.epochs.read().entries().to_vec()
            } else {
                Vec::new()
            },
            topic_id: self.topic_id.unwrap_or_default(),
            dirty: self.dirty.clone(),
            end,
        })
    }

    /// Takes note of a flush that went well.
    pub(crate) fn flushed(&mut self, flush: PendingFlush) {
        // If the log was cut meanwhile, other bytes may stand at these offsets now: the next flush has to do it all.
        if flush.generation == self.shared.generation.load(Ordering::Acquire) {
            for segment in &flush.dirty.segments {
                segment.flushed();
            }
            if flush.end == self.log_end_offset() {
                flush.active.flushed();
            }
            self.dirty.clean(flush.dirty);
            self.flushed = self.flushed.max(flush.end);
        }
    }

    /// See [`Log::begin_upkeep`](crate::Log::begin_upkeep).
    pub(crate) fn begin_upkeep(&mut self) -> Option<Upkeep> {
        if self.shared.fault.get().is_some() || !self.active.exists {
            return None;
        }
        let prepare = self.due_preparation();
        let reserve = self.due_reservation();
        let end = self.log_end_offset();
        let state = &mut self.upkeep;
        let interval = u64::from(self.config.checkpoint_interval_bytes);
        let mut index_of = None;
        let mut remove_snapshot = None;
        if !state.snapshots.is_empty() {
            state.appended_at_snapshot = state.appended;
            remove_snapshot = state.middle_snapshot.take();
        } else if end > state.last_snapshot
            && state.appended - state.appended_at_snapshot > interval
        {
            state.appended_at_snapshot = state.appended;
            index_of = Some(self.active().clone());
            self.take_snapshot(end);
            remove_snapshot = self.upkeep.middle_snapshot.replace(end);
        }
        let remove_snapshot = remove_snapshot.filter(|at| !self.keeps_snapshot(*at));
        let state = &mut self.upkeep;
        let has_files = !state.sealed.is_empty() || !state.snapshots.is_empty();
        if !has_files && prepare.is_none() && reserve.is_none() {
            return None;
        }
        Some(Upkeep {
            generation: self.shared.generation.load(Ordering::Acquire),
            sealed: std::mem::take(&mut state.sealed),
            index_of,
            snapshots: std::mem::take(&mut state.snapshots),
            remove_snapshot,
            prepare,
            reserve,
            shared: self.shared.clone(),
        })
    }

    /// At the beginning of a segment a snapshot stays as long as the segment does.
    fn keeps_snapshot(&self, at: Offset) -> bool {
        let is_base = self.segments.iter().any(|s| s.base_offset() == at);
        is_base
            || self
                .upkeep
                .snapshots
                .iter()
                .any(|(offset, _)| *offset == at)
    }

    /// All that the files lack before the log can be forgotten.
    pub(crate) fn whole_upkeep(&mut self) -> Upkeep {
        let end = self.log_end_offset();
        let replaced = self.upkeep.middle_snapshot.replace(end);
        let remove_snapshot = replaced.filter(|at| *at != end && !self.keeps_snapshot(*at));
        let state = &mut self.upkeep;
        state.small_flushes = 0;
        state.prepared_bytes = 0;
        state.appended_at_snapshot = state.appended;
        Upkeep {
            generation: self.shared.generation.load(Ordering::Acquire),
            sealed: std::mem::take(&mut state.sealed),
            index_of: self.segments.last().cloned(),
            snapshots: std::mem::take(&mut state.snapshots),
            remove_snapshot,
            prepare: None,
            reserve: None,
            shared: self.shared.clone(),
        }
    }

    /// Whether the files have all there is to know, after a [`whole_upkeep`](Self::whole_upkeep).
    pub(crate) fn is_complete(&mut self) -> bool {
        self.dirty.is_clean() && self.upkeep.sealed.is_empty() && self.upkeep.snapshots.is_empty()
    }

    /// Reserving pays for a log that is appended to in bulk: writing into blocks that are set aside already takes the file
    /// system less work. A log that has not shown that it grows reserves nothing.
    fn due_reservation(&self) -> Option<(Arc<Segment>, u64)> {
        let active = self.active();
        let len = u64::from(active.len());
        let room = u64::from(self.config.segment_bytes).saturating_sub(len);
        let bytes = len.clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX).min(room);
        let due =
            len >= RESERVE_FROM_BYTES && room >= RESERVE_BYTES_MIN && active.reserved() < bytes / 2;
        due.then(|| (active.clone(), bytes))
    }

    /// Preparing pays for a log that is flushed often with little each time: the flush then changes no metadata of the
    /// file. The first preparation is small, since the log may fall idle.
    fn due_preparation(&mut self) -> Option<(Arc<Segment>, u32)> {
        let bytes_max = self.config.write_ahead_bytes_max;
        if bytes_max == 0 || self.upkeep.small_flushes < SMALL_FLUSHES_MIN {
            return None;
        }
        let active = self.active();
        if active.prepared() >= u64::from(self.upkeep.prepared_bytes / 4).max(1) {
            return None;
        }
        let room = self.config.segment_bytes.saturating_sub(active.len());
        let bytes = self
            .upkeep
            .prepared_bytes
            .saturating_mul(2)
            .max(PREPARE_BYTES_MIN);
        let bytes = bytes.min(bytes_max);
        if room < bytes {
            return None;
        }
        let active = active.clone();
        self.upkeep.prepared_bytes = bytes;
        Some((active, bytes))
    }
}
