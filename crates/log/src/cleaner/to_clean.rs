//! Which part of a log can be compacted, and whether it is time to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_types::{Offset, ProducerId, Timestamp};

use super::filter::{LastBatch, last_batches};
use crate::config::LogConfig;
use crate::error::{Context, LogError};
use crate::log::Shared;
use crate::names;
use crate::segment::Segment;
use crate::writer::Writer;

/// A log as compaction finds it: what its writer knows, to be looked through without the writer's lock.
#[derive(Clone, Debug)]
pub struct LogToClean {
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<LogConfig>,
    pub(super) segments: Arc<Vec<Arc<Segment>>>,
    /// Counts truncations.
    pub(super) generation: u64,
    pub(super) last_batches: Arc<HashMap<ProducerId, LastBatch>>,
    log_end_offset: Offset,
    first_dirty_offset: Option<Offset>,
    last_stable_offset: Offset,
}

/// What of a log can be compacted.
#[derive(Clone, Debug)]
pub struct Cleanable {
    pub(super) log: LogToClean,
    /// The offset behind what was compacted before.
    pub first_dirty_offset: Offset,
    /// The base offset of the first segment that must stay as it is: the active one, or one that is too young, or one that
    /// holds a transaction that is not decided.
    pub first_uncleanable_offset: Offset,
    /// Bytes of the segments before the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes of the segments that can be compacted and were not yet.
    pub cleanable_bytes: u64,
    /// Whether a record is older than `max.compaction.lag.ms` allows (KIP-354).
    pub is_overdue: bool,
    /// Where the log ended when it was looked at.
    pub(super) log_end_offset: Offset,
}

impl Writer {
    /// See [`Log::to_clean`](crate::Log::to_clean).
    pub(super) fn to_clean(
        &self,
        first_dirty_offset: Option<Offset>,
        last_stable_offset: Offset,
    ) -> LogToClean {
        LogToClean {
            shared: self.shared.clone(),
            config: self.config.clone(),
            segments: self.segments.clone(),
            generation: self.shared.generation.load(Ordering::Acquire),
            last_batches: Arc::new(last_batches(&self.producers)),
            log_end_offset: self.log_end_offset(),
            first_dirty_offset,
            last_stable_offset,
        }
    }
}

impl LogToClean {
    /// Finds out what can be compacted. Reads little, and nothing at all unless compaction has a lag to keep.
    pub fn assess(self, now: Timestamp) -> Result<Cleanable, LogError> {
        let first_dirty = self.first_dirty();
        let closed = &self.segments[..self.segments.len() - 1];
        let dirty = &closed[floor(&self.segments, first_dirty).min(closed.len())..];
        let mut uncleanable = self
            .last_stable_offset
            .min(self.segments[closed.len()].base_offset());
        if self.config.min_compaction_lag_ms > 0 {
            for segment in dirty {
                let (newest, _) = segment.max_timestamp()?;
                if now.millis_since(newest) < self.config.min_compaction_lag_ms {
                    uncleanable = uncleanable.min(segment.base_offset());
                    break;
                }
            }
        }
        let uncleanable = uncleanable.max(first_dirty);
        // A segment is compacted as a whole or not at all.
        let first_uncleanable = self.segments[floor(&self.segments, uncleanable)].base_offset();
        let bytes = |segments: &mut dyn Iterator<Item = &Arc<Segment>>| -> u64 {
            segments.map(|segment| u64::from(segment.len())).sum()
        };
        let clean_bytes = bytes(&mut closed.iter().take_while(|s| s.base_offset() < first_dirty));
        let cleanable_bytes = bytes(
            &mut dirty
                .iter()
                .take_while(|s| s.base_offset() < first_uncleanable),
        );
        let is_overdue = cleanable_bytes > 0 && self.is_overdue(dirty, now)?;
        Ok(Cleanable {
            first_dirty_offset: first_dirty,
            first_uncleanable_offset: first_uncleanable,
            clean_bytes,
            cleanable_bytes,
            is_overdue,
            log_end_offset: self.log_end_offset,
            log: self,
        })
    }

    /// Where the last cleaning ended, or where the log begins now.
    fn first_dirty(&self) -> Offset {
        let start = self.shared.log_start();
        self.first_dirty_offset
            .map_or(start, |offset| offset.max(start))
    }

    fn is_overdue(&self, dirty: &[Arc<Segment>], now: Timestamp) -> Result<bool, LogError> {
        if self.config.max_compaction_lag_ms == i64::MAX {
            return Ok(false);
        }
        for segment in dirty {
            let first = segment.first_header()?.map(|header| header.max_timestamp);
            let is_old = |at: Timestamp| {
                at > Timestamp::from_millis(0)
                    && now.millis_since(at) > self.config.max_compaction_lag_ms
            };
            if first.is_some_and(is_old) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Cleanable {
    /// The share of the log that was not compacted yet, of what can be.
    pub fn ratio(&self) -> f64 {
        let total = self.clean_bytes + self.cleanable_bytes;
        self.cleanable_bytes as f64 / total.max(1) as f64
    }

    /// Whether the log is to be compacted now: `min.cleanable.dirty.ratio` is exceeded, or a record is overdue.
    pub fn is_due(&self) -> bool {
        self.is_overdue || self.ratio() > self.log.config.min_cleanable_dirty_ratio
    }

    /// Puts the segments before `end` into groups of neighbours, each of which becomes one segment: small ones come
    /// together, as far as `segment.bytes`, `segment.index.bytes` and the span of 2^31 offsets allow.
    pub(super) fn groups(&self, end: Offset) -> Result<Vec<Group>, LogError> {
        let place = &self.log.shared.place;
        let files = place.dir.list(&place.path).context("list", &place.path)?;
        let files: HashMap<_, _> = files
            .iter()
            .map(|file| (file.name.as_str(), file))
            .collect();
        let file = |base, of| files.get(names::of_segment(base, of).as_str());
        let index_bytes = |base, of| file(base, of).map_or(0, |file| file.len);
        let config = &self.log.config;
        let segments = &self.log.segments;
        let count = segments.partition_point(|segment| segment.base_offset() < end);
        let mut groups: Vec<Group> = Vec::new();
        for (segment, next) in segments.iter().zip(&segments[1..]).take(count) {
            let base = segment.base_offset();
            let sizes = [
                u64::from(segment.len()),
                index_bytes(base, names::OFFSET_INDEX),
                index_bytes(base, names::TIME_INDEX),
            ];
            let modified = file(base, names::LOG).map_or(Timestamp::from_millis(0), |f| f.modified);
            let upper = next.base_offset().min(self.first_uncleanable_offset);
            let fits = |group: &&mut Group| {
                let index_max = u64::from(config.segment_index_bytes);
                let span = upper - group.sources[0].segment.base_offset() - 1;
                group.sizes[0] + sizes[0] <= u64::from(config.segment_bytes)
                    && group.sizes[1] + sizes[1] <= index_max
                    && group.sizes[2] + sizes[2] <= index_max
                    && (sizes[0] == 0 || span <= i64::from(i32::MAX))
            };
            let source = SourceSegment {
                segment: segment.clone(),
                modified,
            };
            match groups.last_mut().filter(fits) {
                Some(group) => {
                    group.sources.push(source);
                    for (sum, size) in group.sizes.iter_mut().zip(sizes) {
                        *sum += size;
                    }
                }
                None => groups.push(Group {
                    sources: vec![source],
                    sizes,
                }),
            }
        }
        Ok(groups)
    }
}

/// Segments that become one.
pub(super) struct Group {
    pub sources: Vec<SourceSegment>,
    /// Of the batches, the offset indexes and the time indexes.
    sizes: [u64; 3],
}

/// A segment and when its file was written.
pub(super) struct SourceSegment {
    pub segment: Arc<Segment>,
    pub modified: Timestamp,
}

/// The segment that `offset` lies in, or the first one.
fn floor(segments: &[Arc<Segment>], offset: Offset) -> usize {
    let after = segments.partition_point(|segment| segment.base_offset() <= offset);
    after.max(1) - 1
}
