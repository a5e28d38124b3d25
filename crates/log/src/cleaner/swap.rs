//! Puts compacted segments in the place of others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_types::Offset;

use super::output::{CLEANED, CleanedSegment, SWAP};
use super::{Cleanable, Cleaned, LogToClean};
use crate::error::{CleanError, LogError};
use crate::log::Log;
use crate::names;
use crate::retention::{DeleteReason, DeletedSegment, rename_deleted};
use crate::segment::Segment;
use crate::writer::Writer;

/// What a log remembers of its compaction, also while it rests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CleaningState {
    /// Up to where the log was compacted.
    pub first_dirty_offset: Option<Offset>,
    /// Where the log ended when there was not enough to compact, whatever the time: as long as it rests there, it need not
    /// be woken to find out again.
    pub not_due_at: Option<Offset>,
}

impl CleaningState {
    pub(crate) fn truncated(&mut self, end: Offset) {
        self.first_dirty_offset = self.first_dirty_offset.map(|offset| offset.min(end));
        self.not_due_at = None;
    }

    pub(crate) const fn config_changed(&mut self) {
        self.not_due_at = None;
    }
}

impl Log {
    /// Up to where the log was compacted: what goes into `cleaner-offset-checkpoint`. `None` if it never was.
    pub const fn first_dirty_offset(&self) -> Option<Offset> {
        self.cleaning.first_dirty_offset
    }

    /// Takes over what `cleaner-offset-checkpoint` says, after opening. If recovery has cut the log before that, what is left
    /// was compacted as a whole.
    pub fn set_first_dirty_offset(&mut self, offset: Offset) {
        self.cleaning.first_dirty_offset = Some(offset.min(self.log_end_offset()));
    }

    /// What compaction needs to know of the log, up to the last stable offset, which is at most the high watermark. Cheap.
    /// `None` if `cleanup.policy` does not contain `compact`, if there is nothing but the active segment, or if the log rests
    /// and nothing has changed since there was not enough to compact.
    pub fn to_clean(&mut self, last_stable_offset: Offset) -> Result<Option<LogToClean>, LogError> {
        if !self.config.compact || self.segments_count() < 2 {
            return Ok(None);
        }
        if self.at_rest().is_some() {
            let last = self.shared.last_segment_base_offset();
            let is_clean = self
                .cleaning
                .first_dirty_offset
                .is_some_and(|dirty| dirty >= last);
            if is_clean || self.cleaning.not_due_at == Some(self.log_end_offset()) {
                return Ok(None);
            }
        }
        self.shared.check()?;
        let first_dirty_offset = self.cleaning.first_dirty_offset;
        let to_clean = self
            .writer(None)?
            .to_clean(first_dirty_offset, last_stable_offset);
        Ok(Some(to_clean))
    }

    /// Takes note that there was not enough to compact yet.
    pub fn not_due(&mut self, cleanable: &Cleanable) {
        let config = &self.config;
        let depends_on_time =
            config.min_compaction_lag_ms > 0 || config.max_compaction_lag_ms < i64::MAX;
        let end = self.log_end_offset();
        if !depends_on_time && cleanable.log_end_offset == end {
            self.cleaning.not_due_at = Some(end);
        }
    }

    /// Puts a compacted segment in the place of those that it was made of; those are handed back to be removed later. Only
    /// names change, so it takes a moment. Readers go on with the old segments until they are done.
    ///
    /// Fails with [`CleanError::Aborted`], and changes nothing, if the log was truncated or the segments were deleted since
    /// the compaction began.
    pub fn replace_segments(
        &mut self,
        cleaned: CleanedSegment,
    ) -> Result<Vec<DeletedSegment>, CleanError> {
        self.shared.check()?;
        self.writer(None)?.replace_segments(cleaned)
    }

    /// Takes note of how far a compaction came.
    pub fn finish_cleaning(&mut self, cleaned: &Cleaned) {
        if cleaned.generation == self.shared.generation.load(Ordering::Acquire) {
            self.cleaning.first_dirty_offset = Some(cleaned.first_dirty_offset);
        }
    }
}

impl Writer {
    fn replace_segments(
        &mut self,
        mut cleaned: CleanedSegment,
    ) -> Result<Vec<DeletedSegment>, CleanError> {
        // A log that has rested meanwhile has other values for the same segments.
        let is_same = |(segment, source): (&Arc<Segment>, &Arc<Segment>)| {
            segment.base_offset() == source.base_offset() && segment.len() == source.len()
        };
        let base = cleaned.files.base_offset;
        let first = self
            .segments
            .partition_point(|segment| segment.base_offset() < base);
        let behind = first + cleaned.sources.len();
        // The active segment is never compacted, so there is one behind the last.
        let are_there = behind < self.segments.len()
            && self.segments[first..behind]
                .iter()
                .zip(&cleaned.sources)
                .all(is_same);
        if !are_there || cleaned.generation != self.shared.generation.load(Ordering::Acquire) {
            return Err(CleanError::Aborted);
        }
        let shared = self.shared.clone();
        let _aside = shared.aside.lock();
        cleaned.files.placed = true;
        self.swap(first, &cleaned)
            .inspect_err(|error| self.shared.poison(error))
            .map_err(CleanError::Log)
    }

    /// The names of one folder reach the disk in the order in which they are changed. So a crash leaves either the old
    /// segments, or all of the new one's files as `.swap`, with which the next start goes on where this was interrupted.
    fn swap(
        &mut self,
        first: usize,
        cleaned: &CleanedSegment,
    ) -> Result<Vec<DeletedSegment>, LogError> {
        let files = &cleaned.files;
        let has = |of: &&&str| **of != names::TXN_INDEX || cleaned.has_aborted;
        // The segment itself last: with it the group is complete.
        for of in names::OF_SEGMENT.iter().rev().filter(has) {
            files.rename(of, CLEANED, SWAP)?;
        }
        let behind = first + cleaned.sources.len();
        let old = self.segments[first..behind].to_vec();
        let mut replaced = Vec::with_capacity(old.len());
        for segment in old.iter().chain(&cleaned.sources) {
            segment.give_up_names();
        }
        for segment in &old {
            let base = segment.base_offset();
            // What is known about producers where the first one begins holds for the new one too.
            rename_deleted(&self.place, base, base == files.base_offset)?;
            let (place, len) = (self.place.clone(), segment.len());
            replaced.push(DeletedSegment::new(
                place,
                base,
                len,
                DeleteReason::Compacted,
            ));
        }
        for of in names::OF_SEGMENT.iter().filter(has) {
            files.rename(of, SWAP, "")?;
        }
        let next_offset = self.segments[behind].base_offset();
        let place = self.place.clone();
        let new = Segment::existing(place, files.base_offset, cleaned.len, next_offset);
        Arc::make_mut(&mut self.segments).splice(first..behind, [Arc::new(new)]);
        self.publish_segments();
        let gone = |segment: &Arc<Segment>| old.iter().any(|o| Arc::ptr_eq(o, segment));
        self.dirty.segments.retain(|segment| !gone(segment));
        self.upkeep.sealed.retain(|segment| !gone(segment));
        let is_within = |at: Offset| at > files.base_offset && at < next_offset;
        self.upkeep.snapshots.retain(|(at, _)| !is_within(*at));
        self.dirty.names = self.dirty.mark();
        Ok(replaced)
    }
}
