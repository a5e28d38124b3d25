//! Compaction: of the records with one key only the newest stays.
//!
//! It works on closed segments and without the writer's lock. One pass over what was not compacted yet notes the last
//! offset of each key, in a map of bounded size; a second one copies the log from its beginning and leaves out the records
//! of which the map knows a newer one. The copy of a group of segments takes their place in one step
//! ([`Log::replace_segments`](crate::Log::replace_segments)), for which alone the lock is needed. Offsets never change;
//! gaps appear.
//!
//! Not only old values go. A tombstone (a record without value) and a transaction's marker stay for `delete.retention.ms`
//! after a compaction has first seen them (KIP-534), so that a consumer on its way sees them; records of aborted
//! transactions go at once. What stays although it is empty: the newest batch of each producer that is remembered, since it
//! alone tells the producer's sequence number, and the last batch of all, since it alone tells the offset.

mod filter;
mod offset_map;
mod output;
mod source;
mod swap;
mod to_clean;
mod transactions;

use std::sync::atomic::Ordering;

use tidelog_record::{AnyBatch, BatchError};
use tidelog_types::{Offset, Timestamp};

use self::filter::{Filter, Kept};
use self::offset_map::{KeyHash, OffsetMap};
pub use self::output::CleanedSegment;
use self::output::Output;
use self::source::Source;
pub(crate) use self::swap::CleaningState;
pub use self::to_clean::{Cleanable, LogToClean};
use self::to_clean::{Group, SourceSegment};
use self::transactions::Transactions;
use crate::error::{CleanError, Context, LogError};
use crate::log::Log;
use crate::reader::aborted_between;
use crate::segment::Segment;

/// What a [`Cleaner`] may use; Kafka's broker settings of the same names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerConfig {
    /// The most bytes for the keys of one log: 24 for each (`log.cleaner.dedupe.buffer.size`). With more keys than that a
    /// log is compacted piece by piece. As much is taken as the keys of the log at hand need, and given back after it.
    pub dedupe_buffer_bytes: usize,
    /// How full the map of keys may get (`log.cleaner.io.buffer.load.factor`).
    pub dedupe_buffer_load_factor: f64,
    /// Bytes for reading and writing together, unless a batch is larger (`log.cleaner.io.buffer.size`).
    pub io_buffer_bytes: usize,
    /// Some random bytes. Who does not know them cannot make keys that are taken for each other.
    pub seed: [u8; 16],
}

impl Default for CleanerConfig {
    fn default() -> Self {
        Self {
            dedupe_buffer_bytes: 128 << 20,
            dedupe_buffer_load_factor: 0.9,
            io_buffer_bytes: 512 << 10,
            seed: [0; 16],
        }
    }
}

/// Whose log is compacted, in practice a partition.
pub trait CleanTarget {
    /// Called whenever some bytes were read or written. It may take its time, which slows down the compaction; false ends
    /// it.
    fn moved(&mut self, bytes: u64) -> bool;
    /// Puts a segment in its place: calls [`Log::replace_segments`], with the lock around the log, and sees to what is
    /// handed back.
    fn replace(&mut self, segment: CleanedSegment) -> Result<(), CleanError>;
}

/// A log that only its owner knows of, so that nobody can be reading what is replaced.
impl CleanTarget for Log {
    fn moved(&mut self, _: u64) -> bool {
        true
    }

    fn replace(&mut self, segment: CleanedSegment) -> Result<(), CleanError> {
        for replaced in self.replace_segments(segment)? {
            replaced.remove()?;
        }
        Ok(())
    }
}

/// How a compaction went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleaned {
    /// Up to where the log is compacted now.
    pub first_dirty_offset: Offset,
    /// What was done.
    pub stats: CleanerStats,
    pub(crate) generation: u64,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CleanerStats {
    /// Bytes read while the newest records of all keys were looked for.
    pub map_bytes_read: u64,
    /// How full the map of keys was in the end, from 0 to 1.
    pub map_utilization: f64,
    /// Bytes read while copying: the log before.
    pub bytes_read: u64,
    /// Bytes written: the log after.
    pub bytes_written: u64,
    /// Records before.
    pub records_read: u64,
    /// Records after.
    pub records_kept: u64,
    /// Records without key, which do not belong into a compacted log and are gone now.
    pub invalid_records: u64,
}

/// Compacts logs, one at a time.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
///
/// use tidelog_log::{Cleaner, CleanerConfig, Log, LogConfig, Start, testing::FaultDir};
/// use tidelog_record::{BatchBuilder, Compression};
/// use tidelog_types::{LeaderEpoch, Now, Timestamp};
///
/// let now = Now { instant: Instant::now(), timestamp: Timestamp::from_millis(1_700_000_000_000) };
/// let config = LogConfig { compact: true, segment_bytes: 100, ..LogConfig::default() };
/// let (mut log, _) = Log::open(Arc::new(FaultDir::new()), "users-0", config, Start::NEW, now)?;
/// for name in ["Ada", "Ada L.", "Ada Lovelace"] {
///     let mut batch = BatchBuilder::new(Compression::NONE);
///     batch.push(now.timestamp, Some(b"user-1"), Some(name.as_bytes()), &[]);
///     log.append_as_leader(&batch.build()?, LeaderEpoch::new(0), now.timestamp)?;
/// }
///
/// let to_clean = log.to_clean(log.log_end_offset())?.expect("more than one segment");
/// let cleanable = to_clean.assess(now.timestamp)?;
/// assert!(cleanable.is_due());
/// let cleaned = Cleaner::new(CleanerConfig::default()).clean(&cleanable, &mut log, now.timestamp)?;
/// log.finish_cleaning(&cleaned);
///
/// // Of the two closed segments the newer one has the newer name.
/// assert_eq!(cleaned.stats.records_read, 2);
/// assert_eq!(cleaned.stats.records_kept, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cleaner {
    config: CleanerConfig,
}

impl Cleaner {
    /// A cleaner that has taken no memory yet.
    pub const fn new(config: CleanerConfig) -> Self {
        Self { config }
    }

    /// Compacts what can be, and all that lies before it again. Takes as long as the disk takes; the log's owner goes on
    /// meanwhile.
    ///
    /// After an error the log is as it was, or as it was but for some groups of segments that are compacted already.
    pub fn clean(
        &self,
        cleanable: &Cleanable,
        target: &mut dyn CleanTarget,
        now: Timestamp,
    ) -> Result<Cleaned, CleanError> {
        let mut work = Work {
            cleanable,
            target,
            chunk: (self.config.io_buffer_bytes / 2).max(4 << 10),
            keys: Vec::new(),
            stats: CleanerStats::default(),
        };
        let map = work.build_map(&self.config)?;
        let end = map.latest().next();
        work.stats.map_utilization = map.utilization();
        let log = &cleanable.log;
        let first = log.segments[0].base_offset();
        let aborted = aborted_between(&log.segments, first, cleanable.first_uncleanable_offset)?;
        let mut filter = Filter {
            map: &map,
            transactions: Transactions::new(aborted),
            last_batches: &log.last_batches,
            first_uncleanable_offset: cleanable.first_uncleanable_offset,
            now,
            delete_retention_ms: log.config.delete_retention_ms,
            keep_old_tombstones: true,
            records: Vec::new(),
            kept: Vec::new(),
        };
        let groups = cleanable.groups(end)?;
        // Tombstones in old formats go when what was clean before has been left alone for that long.
        let is_clean = |s: &&SourceSegment| s.segment.base_offset() < cleanable.first_dirty_offset;
        let mut clean = groups
            .iter()
            .flat_map(|group| &group.sources)
            .filter(is_clean);
        let retention_ms = log.config.delete_retention_ms;
        let horizon = clean
            .next_back()
            .map(|s| s.modified.as_millis() - retention_ms);
        for group in groups {
            work.clean_group(group, horizon.unwrap_or(0), &mut filter)?;
        }
        let place = &log.shared.place;
        // What counts as compacted from now on must not come back.
        place
            .dir
            .sync_dir(&place.path)
            .context("sync", &place.path)?;
        Ok(Cleaned {
            first_dirty_offset: end,
            stats: work.stats,
            generation: log.generation,
        })
    }
}

/// One compaction.
struct Work<'a> {
    cleanable: &'a Cleanable,
    target: &'a mut dyn CleanTarget,
    /// How much is read or written at a time.
    chunk: usize,
    /// The keys of the batch at hand, with their offsets.
    keys: Vec<(KeyHash, Offset)>,
    stats: CleanerStats,
}

impl Work<'_> {
    /// Notes the newest record of each key in what was not compacted yet, as far as the map has room.
    fn build_map(&mut self, config: &CleanerConfig) -> Result<OffsetMap, CleanError> {
        let log = &self.cleanable.log;
        let start = self.cleanable.first_dirty_offset;
        let end = self.cleanable.first_uncleanable_offset;
        let mut map = OffsetMap::new(
            config.seed,
            config.dedupe_buffer_bytes,
            config.dedupe_buffer_load_factor,
        );
        map.advance(start + -1);
        let mut transactions = Transactions::new(aborted_between(&log.segments, start, end)?);
        for (segment, next) in log.segments.iter().zip(&log.segments[1..]) {
            if segment.base_offset() >= end {
                break;
            }
            if next.base_offset() <= start {
                continue;
            }
            let is_full = self.map_segment(segment, start, &mut map, &mut transactions)?;
            if is_full {
                break;
            }
            // Offsets may be missing at the end of a segment.
            map.advance(next.base_offset().min(end) + -1);
        }
        Ok(map)
    }

    /// Notes the records of a segment from `start` on; answers whether the map has no more room.
    fn map_segment(
        &mut self,
        segment: &Segment,
        start: Offset,
        map: &mut OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<bool, CleanError> {
        let Some(found) = segment.find(start.max(segment.base_offset()))? else {
            return Ok(false);
        };
        let mut source = Source::new(segment, found.position, self.chunk)?;
        while let Some(batch) = source.next_batch()? {
            let read = source.take_read();
            self.stats.map_bytes_read += read;
            self.account(read)?;
            let noted = match &batch {
                AnyBatch::V2(v2) if v2.header().attributes.is_control() => {
                    transactions.is_needless(v2).map(|_| true)
                }
                // KIP-98: what never counted does not take the place of what does.
                AnyBatch::V2(v2) if transactions.is_aborted(v2.header()) => Ok(true),
                _ => self.note_keys(&batch, start, map),
            };
            if !noted.map_err(|error| source.damaged(error))? {
                return Ok(true);
            }
            map.advance(batch.header().last_offset());
        }
        Ok(false)
    }

    /// Notes the records of a batch from `start` on; false if the map has no more room.
    fn note_keys(
        &mut self,
        batch: &AnyBatch,
        start: Offset,
        map: &mut OffsetMap,
    ) -> Result<bool, BatchError> {
        self.keys.clear();
        let mut walk = batch.walk()?;
        while let Some(record) = walk.next_record()? {
            if let Some(key) = record.key
                && record.offset >= start
            {
                self.keys.push((map.hash(key), record.offset));
            }
        }
        map.fetch(self.keys.iter().map(|(key, _)| *key));
        Ok(self.keys.iter().all(|(key, offset)| map.put(*key, *offset)))
    }

    /// Writes what stays of some segments into one. `old_horizon`: tombstones in old formats go that were written before it.
    fn clean_group(
        &mut self,
        group: Group,
        old_horizon: i64,
        filter: &mut Filter<'_>,
    ) -> Result<(), CleanError> {
        let log = &self.cleanable.log;
        let base_offset = group.sources[0].segment.base_offset();
        let interval = log.config.index_interval_bytes;
        let mut output = Output::create(&log.shared, base_offset, interval)?;
        let mut modified = Timestamp::NONE;
        let mut sources = Vec::with_capacity(group.sources.len());
        for source in group.sources {
            modified = source.modified;
            filter.keep_old_tombstones = modified.as_millis() > old_horizon;
            self.clean_segment(&source.segment, filter, &mut output)?;
            // Those who read it go on doing so without the files.
            source.segment.load()?;
            sources.push(source.segment);
        }
        let aborted = filter.transactions.take_ended();
        let cleaned = output.finish(sources, &aborted, modified, log.generation)?;
        self.stats.bytes_written += u64::from(cleaned.len);
        self.check()?;
        self.target.replace(cleaned)
    }

    fn clean_segment(
        &mut self,
        segment: &Segment,
        filter: &mut Filter<'_>,
        output: &mut Output,
    ) -> Result<(), CleanError> {
        let mut source = Source::new(segment, 0, self.chunk)?;
        while let Some(batch) = source.next_batch()? {
            let read = source.take_read();
            self.stats.bytes_read += read;
            let kept = filter.apply(&batch, &mut self.stats);
            let written = match kept.map_err(|error| source.damaged(error))? {
                Kept::Nothing => 0,
                Kept::Whole => output.push(&batch, self.chunk)?,
                Kept::Part(batch) => output.push(&batch, self.chunk)?,
            };
            self.account(read + written)?;
        }
        Ok(())
    }

    /// Tells of bytes that were moved.
    fn account(&mut self, bytes: u64) -> Result<(), CleanError> {
        if bytes == 0 {
            return Ok(());
        }
        self.check()?;
        match self.target.moved(bytes) {
            true => Ok(()),
            false => Err(CleanError::Aborted),
        }
    }

    /// Ends the work if it is for nothing.
    fn check(&self) -> Result<(), CleanError> {
        let log = &self.cleanable.log;
        log.shared.check()?;
        // Or else the log would be put to rest.
        log.shared.used();
        match log.shared.generation.load(Ordering::Acquire) == log.generation {
            true => Ok(()),
            false => Err(CleanError::Aborted),
        }
    }
}

impl From<LogError> for CleanError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Deleted { .. } => Self::Aborted,
            error => Self::Log(error),
        }
    }
}
