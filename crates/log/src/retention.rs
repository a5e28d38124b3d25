//! What makes a log shorter, at either end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_types::{Now, Offset, Timestamp, Uuid};

use crate::dir::remove_if_exists;
use crate::error::{Context, LogError};
use crate::files::Place;
use crate::log::{Fault, Shared};
use crate::names;
use crate::producers::Producers;
use crate::recovery::{read_snapshot, replay};
use crate::segment::Segment;
use crate::writer::{Active, Writer};

/// Removes the files of a segment and its producer snapshot, under their names with `suffix`.
pub(crate) fn remove_segment_files(
    place: &Place,
    base: Offset,
    suffix: &str,
) -> Result<(), LogError> {
    for of in names::OF_SEGMENT {
        let path = place.file(&format!("{}{suffix}", names::of_segment(base, of)));
        remove_if_exists(&*place.dir, &path).context("remove", &path)?;
    }
    Ok(())
}

/// A segment that was taken out of its log. Its files are still there under other names, for those who read them.
#[derive(Debug)]
#[must_use = "the files stay until they are removed"]
pub struct DeletedSegment {
    place: Arc<Place>,
    base_offset: Offset,
    size: u32,
    reason: DeleteReason,
}

/// Why a segment was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteReason {
    /// It lies before the log start offset.
    LogStart,
    /// The log was larger than `retention.bytes`.
    Size,
    /// Its newest record is older than `retention.ms`.
    Time,
    /// A compacted segment has taken its place.
    Compacted,
}

impl DeletedSegment {
    pub(crate) const fn new(
        place: Arc<Place>,
        base_offset: Offset,
        size: u32,
        reason: DeleteReason,
    ) -> Self {
        Self {
            place,
            base_offset,
            size,
            reason,
        }
    }

    /// The first offset that the segment could have.
    pub const fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Bytes of batches in the segment.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Why it was deleted.
    pub const fn reason(&self) -> DeleteReason {
        self.reason
    }

    /// Removes the files, to be done after `file.delete.delay.ms` on a thread that may wait: to free a large file takes
    /// the system a while.
    pub fn remove(self) -> Result<(), LogError> {
        remove_segment_files(&self.place, self.base_offset, DELETED)
    }
}

const DELETED: &str = ".deleted";

/// Gives the files of a segment names that say that they are to be removed. The producer snapshot where the segment begins
/// goes at once, unless it is still needed.
pub(crate) fn rename_deleted(
    place: &Place,
    base: Offset,
    keep_snapshot: bool,
) -> Result<(), LogError> {
    let dir = &*place.dir;
    for suffix in names::OF_SEGMENT {
        let path = place.file(&names::of_segment(base, suffix));
        let mut target = path.clone().into_os_string();
        target.push(DELETED);
        match dir.rename(&path, &PathBuf::from(target)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("rename", &path);
            }
            _ => {}
        }
    }
    if keep_snapshot {
        return Ok(());
    }
    let path = place.file(&names::of_segment(base, names::SNAPSHOT));
    remove_if_exists(dir, &path).context("remove", &path)
}

impl Writer {
    /// Takes the oldest segments out of the log that `retention.ms`, `retention.bytes` or the log start offset want gone,
    /// as far as they lie below the high watermark. The log start offset follows.
    ///
    /// The active segment goes too if all its records are old; a new one is begun then.
    pub(crate) fn delete_old_segments(
        &mut self,
        now: Now,
        high_watermark: Offset,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        self.shared.check()?;
        let now = now.timestamp;
        let mut reasons = Vec::new();
        let mut excess = match self.config.retention_bytes {
            bytes @ 0.. if self.config.delete => self.size().cast_signed() - bytes,
            _ => 0,
        };
        for (i, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(i + 1).map(|next| next.base_offset());
            let upper = next.unwrap_or_else(|| self.log_end_offset());
            if upper > high_watermark || (next.is_none() && segment.len() == 0) {
                break;
            }
            let Some(reason) = self.delete_reason(segment, next, excess, now)? else {
                break;
            };
            excess -= i64::from(segment.len());
            reasons.push(reason);
        }
        if reasons.is_empty() {
            return Ok(Vec::new());
        }
        self.drop_segments(&reasons, now)
            .inspect_err(|error| self.shared.poison(error))
    }

    fn delete_reason(
        &self,
        segment: &Segment,
        next: Option<Offset>,
        excess: i64,
        now: Timestamp,
    ) -> Result<Option<DeleteReason>, LogError> {
        if next.is_some_and(|next| next <= self.log_start_offset()) {
            return Ok(Some(DeleteReason::LogStart));
        }
        if !self.config.delete {
            return Ok(None);
        }
        if excess >= i64::from(segment.len()) && excess > 0 {
            return Ok(Some(DeleteReason::Size));
        }
        if self.config.retention_ms >= 0 {
            let (timestamp, _) = segment.max_timestamp()?;
            let newest = if timestamp == Timestamp::NONE {
                self.modified(segment)?
            } else {
                timestamp
            };
            if now.millis_since(newest) > self.config.retention_ms {
                return Ok(Some(DeleteReason::Time));
            }
        }
        Ok(None)
    }

    /// When the file of a segment was last written, which stands for its records if they have no timestamp.
    fn modified(&self, segment: &Segment) -> Result<Timestamp, LogError> {
        let entries = self
            .place
            .dir
            .list(&self.place.path)
            .context("list", &self.place.path)?;
        let name = names::segment(segment.base_offset());
        let entry = entries.iter().find(|entry| entry.name == name);
        Ok(entry.map_or(Timestamp::from_millis(i64::MAX), |entry| entry.modified))
    }

    /// Takes the first segments out of the log, one for each reason.
    fn drop_segments(
        &mut self,
        reasons: &[DeleteReason],
        now: Timestamp,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        if reasons.len() == self.segments.len() {
            self.roll(self.log_end_offset(), now)?;
            // Its name alone says where the log ends, so it has to be there before the others go.
            let path = &self.place.path;
            self.active()
                .file()?
                .sync_all()
                .context("sync", &self.active().log_path())?;
            self.place.dir.sync_dir(path).context("sync", path)?;
        }
        let dropped: Vec<_> = Arc::make_mut(&mut self.segments)
            .drain(..reasons.len())
            .collect();
        self.publish_segments();
        self.set_log_start(
            self.log_start_offset()
                .max(self.first_segment_base_offset()),
        );
        let gone = |segment: &Arc<Segment>| dropped.iter().any(|d| Arc::ptr_eq(d, segment));
        self.dirty.segments.retain(|segment| !gone(segment));
        self.upkeep.sealed.retain(|segment| !gone(segment));
        let shared = self.shared.clone();
        let _aside = shared.aside.lock();
        let mut deleted = Vec::with_capacity(dropped.len());
        for (segment, reason) in dropped.iter().zip(reasons) {
            // Who reads it right now, or is about to, needs an open file: the name goes.
            segment.file()?;
            let base = segment.base_offset();
            rename_deleted(&self.place, base, false)?;
            let place = self.place.clone();
            deleted.push(DeletedSegment::new(place, base, segment.len(), *reason));
        }
        self.dirty.names = self.dirty.mark();
        Ok(deleted)
    }

    /// Moves the log start offset, after DeleteRecords or as the leader says. Moving it back does nothing. Segments before
    /// it are deleted by [`delete_old_segments`](Self::delete_old_segments).
    pub(crate) fn advance_log_start(&mut self, offset: Offset) -> Result<(), LogError> {
        let log_end_offset = self.log_end_offset();
        if offset > log_end_offset {
            return Err(LogError::BeyondEnd {
                offset,
                log_end_offset,
            });
        }
        if offset > self.log_start_offset() {
            self.set_log_start(offset);
        }
        Ok(())
    }

    fn set_log_start(&mut self, offset: Offset) {
        self.shared
            .log_start
            .store(offset.value(), Ordering::Release);
        self.producers.advance_log_start(offset);
        if self.shared.epochs.write().truncate_from_start(offset) {
            self.dirty.epochs = self.dirty.mark();
        }
    }

    /// Cuts the log so that it ends at `offset`, or before it if the offset lies in the middle of a batch or behind a gap.
    /// Answers the end. Nothing happens if the log ends there or before.
    ///
    /// A recovery point or log start offset that was written to a checkpoint file and lies behind the end must be lowered
    /// there before more is appended.
    pub(crate) fn truncate_to(&mut self, offset: Offset, now: Now) -> Result<Offset, LogError> {
        self.shared.check()?;
        if offset >= self.log_end_offset() {
            return Ok(self.log_end_offset());
        }
        if offset < self.first_segment_base_offset() {
            self.truncate_fully_and_start_at(offset, now)?;
            return Ok(offset);
        }
        self.truncate(offset, now)
            .inspect_err(|error| self.shared.poison(error))
    }

    fn truncate(&mut self, offset: Offset, now: Now) -> Result<Offset, LogError> {
        let shared = self.shared.clone();
        let _aside = shared.aside.lock();
        shared.generation.fetch_add(1, Ordering::AcqRel);
        let keep = self
            .segments
            .partition_point(|s| s.base_offset() <= offset)
            .max(1);
        let dropped: Vec<_> = Arc::make_mut(&mut self.segments).drain(keep..).collect();
        let active = self.active().clone();
        self.publish_segments();
        // From the end on, so that a crash in between leaves no hole.
        for segment in dropped.iter().rev() {
            remove_segment_files(&self.place, segment.base_offset(), "")?;
        }
        if !dropped.is_empty() {
            // Or else they could come back behind what is appended now.
            let path = &self.place.path;
            self.place.dir.sync_dir(path).context("sync", path)?;
        }
        let end = active.truncate(offset)?;
        self.shared.log_end.store(end.value(), Ordering::Release);
        let gone = |segment: &Arc<Segment>| {
            Arc::ptr_eq(segment, &active) || dropped.iter().any(|d| Arc::ptr_eq(d, segment))
        };
        self.dirty.segments.retain(|segment| !gone(segment));
        self.upkeep.sealed.retain(|segment| !gone(segment));
        self.upkeep.snapshots.retain(|(at, _)| *at <= end);
        self.flushed = self.flushed.min(end);
        let mark = self.dirty.mark();
        self.dirty.cut = mark;
        self.dirty.names = mark;
        self.dirty.aborted = mark;
        if self.shared.epochs.write().truncate_from_end(end) {
            self.dirty.epochs = mark;
        }
        // A start offset in the middle of a batch that was cut off would leave the log ending before it begins.
        if end < self.log_start_offset() {
            self.shared.log_start.store(end.value(), Ordering::Release);
        }
        let first = active.first_header()?;
        self.active = Active {
            exists: self.active.exists,
            first_timestamp: first.map_or(Timestamp::NONE, |header| header.max_timestamp),
            created: now.timestamp,
        };
        self.reload_producers(end)?;
        Ok(end)
    }

    /// Rebuilds the state of the producers as it was at the end of the log, which was just cut.
    fn reload_producers(&mut self, end: Offset) -> Result<(), LogError> {
        let dir = &*self.place.dir;
        let path = &self.place.path;
        for entry in dir.list(path).context("list", path)? {
            if matches!(names::parse(&entry.name), Some((offset, names::SNAPSHOT)) if offset > end)
            {
                let path = self.place.file(&entry.name);
                remove_if_exists(dir, &path).context("remove", &path)?;
            }
        }
        (self.producers, self.upkeep.last_snapshot) =
            load_producers(&self.place, &self.segments, end)?;
        self.producers.advance_log_start(self.log_start_offset());
        self.upkeep.middle_snapshot = self.upkeep.middle_snapshot.filter(|at| *at <= end);
        Ok(())
    }

    /// Drops everything; the log begins and ends at `offset` then. For a follower whose leader begins later than it ends.
    pub(crate) fn truncate_fully_and_start_at(
        &mut self,
        offset: Offset,
        now: Now,
    ) -> Result<(), LogError> {
        self.shared.check()?;
        self.restart_at(offset, now.timestamp)
            .inspect_err(|error| self.shared.poison(error))
    }

    fn restart_at(&mut self, offset: Offset, now: Timestamp) -> Result<(), LogError> {
        let shared = self.shared.clone();
        let _aside = shared.aside.lock();
        shared.generation.fetch_add(1, Ordering::AcqRel);
        let new = Arc::new(Segment::new(self.place.clone(), offset));
        let old = std::mem::replace(&mut self.segments, Arc::new(vec![new.clone()]));
        self.upkeep.sealed.clear();
        self.upkeep.snapshots.clear();
        self.upkeep.last_snapshot = offset;
        self.upkeep.middle_snapshot = None;
        self.dirty.segments.clear();
        self.producers = Producers::starting_at(offset);
        self.shared.epochs.write().clear();
        self.shared
            .log_start
            .store(offset.value(), Ordering::Release);
        self.shared.log_end.store(offset.value(), Ordering::Release);
        self.publish_segments();
        self.flushed = offset;
        if self.active.exists {
            let dir = &*self.place.dir;
            for segment in old.iter().rev() {
                remove_segment_files(&self.place, segment.base_offset(), "")?;
            }
            let path = &self.place.path;
            for entry in dir.list(path).context("list", path)? {
                if matches!(names::parse(&entry.name), Some((_, names::SNAPSHOT))) {
                    let path = self.place.file(&entry.name);
                    remove_if_exists(dir, &path).context("remove", &path)?;
                }
            }
            new.create()?;
            let mark = self.dirty.mark();
            self.dirty.names = mark;
            self.dirty.cut = mark;
            self.dirty.epochs = mark;
        }
        self.active.first_timestamp = Timestamp::NONE;
        self.active.created = now;
        Ok(())
    }
}

/// See [`Log::delete`](crate::Log::delete).
pub(crate) fn delete(shared: &Shared, exists: bool, id: Uuid) -> Result<Option<PathBuf>, LogError> {
    shared.check()?;
    let _aside = shared.aside.lock();
    if shared.fault.set(Box::new(Fault::Deleted)).is_err() {
        shared.check()?;
    }
    if !exists {
        return Ok(None);
    }
    let path = &shared.place.path;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let target = path.with_file_name(crate::directory::deleted_name(name, id));
    shared
        .place
        .dir
        .rename(path, &target)
        .context("rename", path)?;
    Ok(Some(target))
}

/// The state of the producers at `end`, out of the newest snapshot up to there and the batches behind it, and where that
/// snapshot was taken.
pub(crate) fn load_producers(
    place: &Place,
    segments: &[Arc<Segment>],
    end: Offset,
) -> Result<(Producers, Offset), LogError> {
    let entries = place.dir.list(&place.path).context("list", &place.path)?;
    let mut at: Vec<_> = entries
        .iter()
        .filter_map(|entry| match names::parse(&entry.name) {
            Some((offset, names::SNAPSHOT)) if offset <= end => Some(offset),
            _ => None,
        })
        .collect();
    at.sort_unstable();
    let mut producers = None;
    while let (None, Some(offset)) = (&producers, at.pop()) {
        producers = read_snapshot(place, offset)?;
    }
    let first = segments[0].base_offset();
    let mut producers = producers.unwrap_or_else(|| Producers::starting_at(first));
    let snapshot = producers.end();
    replay(segments, snapshot, end, &mut producers)?;
    Ok((producers, snapshot))
}
