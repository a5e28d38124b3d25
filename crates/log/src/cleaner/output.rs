//! Writes the segment that takes the place of others.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use tidelog_record::AnyBatch;
use tidelog_types::{Offset, Timestamp};

use crate::dir::{Access, File, remove_if_exists};
use crate::error::{CleanError, Context, LogError};
use crate::index::{Entry, OffsetEntry, TimeEntry};
use crate::log::Shared;
use crate::names;
use crate::segment::Segment;
use crate::transactions::AbortedTransaction;

/// The suffix of what is being written.
pub(crate) const CLEANED: &str = ".cleaned";
/// The suffix of what is whole and about to take the place of others.
pub(crate) const SWAP: &str = ".swap";

/// So much is written between two flushes. A flush of everything at the end would hold up those of the log's appends for
/// long.
const FLUSH_BYTES: u64 = 8 << 20;

/// A segment that was compacted: its files are whole and durable, and wait for their names. Dropping it removes them.
///
/// [`Log::replace_segments`](crate::Log::replace_segments) puts it in the place of the segments that it was made of.
#[derive(Debug)]
#[must_use = "its files are removed unless it takes the place of the segments that it was made of"]
pub struct CleanedSegment {
    pub(super) files: CleanedFiles,
    /// The segments that it was made of.
    pub(super) sources: Vec<Arc<Segment>>,
    /// Bytes of batches.
    pub(super) len: u32,
    pub(super) has_aborted: bool,
    /// Counts the truncations of the log when it was begun.
    pub(super) generation: u64,
}

/// The files of a segment on their way; dropping them removes those that have no other name yet.
#[derive(Debug)]
pub(super) struct CleanedFiles {
    shared: Arc<Shared>,
    pub(super) base_offset: Offset,
    /// Whether they are to stay.
    pub(super) placed: bool,
}

impl CleanedFiles {
    pub(super) fn path(&self, of: &str, suffix: &str) -> PathBuf {
        let name = names::of_segment(self.base_offset, of);
        self.shared.place.file(&format!("{name}{suffix}"))
    }

    pub(super) fn rename(&self, of: &str, from: &str, to: &str) -> Result<(), LogError> {
        let (from, to) = (self.path(of, from), self.path(of, to));
        let renamed = self.shared.place.dir.rename(&from, &to);
        renamed.context("rename", &from)
    }

    fn write(&self, of: &str, bytes: &[u8]) -> Result<(), LogError> {
        let path = self.path(of, CLEANED);
        let file = self.shared.place.dir.open(&path, Access::Truncate);
        let file = file.context("create", &path)?;
        file.write_all_at(&mut [IoSlice::new(bytes)], 0)
            .context("write", &path)?;
        file.sync_all().context("sync", &path)
    }
}

impl Drop for CleanedFiles {
    fn drop(&mut self) {
        // The folder of a log that was deleted may be that of another one by now.
        if self.placed || self.shared.check().is_err() {
            return;
        }
        for of in names::OF_SEGMENT {
            let path = self.path(of, CLEANED);
            if let Err(error) = remove_if_exists(&*self.shared.place.dir, &path) {
                // The next start removes them.
                tracing::debug!(path = %path.display(), %error, "cannot remove an unfinished file");
            }
        }
    }
}

/// The segment that is being written.
pub(super) struct Output {
    files: CleanedFiles,
    file: Arc<dyn File>,
    /// What is not written yet.
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    written: u64,
    flushed: u64,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    last_indexed: u64,
    index_interval_bytes: u32,
    max_timestamp: (Timestamp, Offset),
}

impl Output {
    pub(super) fn create(
        shared: &Arc<Shared>,
        base_offset: Offset,
        index_interval_bytes: u32,
    ) -> Result<Self, LogError> {
        let files = CleanedFiles {
            shared: shared.clone(),
            base_offset,
            placed: false,
        };
        let path = files.path(names::LOG, CLEANED);
        let file = shared.place.dir.open(&path, Access::Truncate);
        Ok(Self {
            file: file.context("create", &path)?,
            files,
            buffer: Vec::new(),
            written: 0,
            flushed: 0,
            offsets: Vec::new(),
            times: Vec::new(),
            last_indexed: 0,
            index_interval_bytes,
            max_timestamp: (Timestamp::NONE, Offset::NONE),
        })
    }

    fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a batch; answers how many bytes were written to the file.
    pub(super) fn push(&mut self, batch: &AnyBatch, chunk: usize) -> Result<u64, CleanError> {
        let header = batch.header();
        let position = self.position();
        if position + header.size() as u64 > i32::MAX as u64 {
            return Err(CleanError::SegmentTooLarge {
                path: self.files.path(names::LOG, ""),
            });
        }
        if header.max_timestamp() > self.max_timestamp.0 {
            self.max_timestamp = (header.max_timestamp(), header.last_offset());
        }
        if position - self.last_indexed > u64::from(self.index_interval_bytes) {
            self.offsets.push(OffsetEntry {
                offset: (header.last_offset() - self.files.base_offset) as u32,
                position: position as u32,
            });
            self.last_indexed = position;
            self.add_time_entry();
        }
        self.buffer.extend_from_slice(batch.bytes());
        if self.buffer.len() < chunk {
            return Ok(0);
        }
        Ok(self.write()?)
    }

    fn add_time_entry(&mut self) {
        let (timestamp, offset) = self.max_timestamp;
        let timestamp = timestamp.as_millis();
        let rises = |last: &TimeEntry| timestamp > last.timestamp;
        if timestamp >= 0 && self.times.last().is_none_or(rises) {
            self.times.push(TimeEntry {
                timestamp,
                offset: (offset - self.files.base_offset) as u32,
            });
        }
    }

    fn write(&mut self) -> Result<u64, LogError> {
        let path = self.files.path(names::LOG, CLEANED);
        self.file
            .write_all_at(&mut [IoSlice::new(&self.buffer)], self.written)
            .context("write", &path)?;
        let n = self.buffer.len() as u64;
        self.written += n;
        self.buffer.clear();
        if self.written - self.flushed >= FLUSH_BYTES {
            self.file.sync_data().context("sync", &path)?;
            self.flushed = self.written;
        }
        Ok(n)
    }

    /// Writes the rest and the indexes, and makes all of it durable. `modified` is when the last source was written.
    pub(super) fn finish(
        mut self,
        sources: Vec<Arc<Segment>>,
        aborted: &[AbortedTransaction],
        modified: Timestamp,
        generation: u64,
    ) -> Result<CleanedSegment, LogError> {
        self.write()?;
        self.add_time_entry();
        let path = self.files.path(names::LOG, CLEANED);
        self.file.set_modified(modified).context("touch", &path)?;
        self.file.sync_all().context("sync", &path)?;
        let len = self.written as u32;
        self.files
            .write(names::OFFSET_INDEX, &encode(&self.offsets))?;
        self.files.write(names::TIME_INDEX, &encode(&self.times))?;
        if !aborted.is_empty() {
            let bytes: Vec<_> = aborted
                .iter()
                .flat_map(AbortedTransaction::encode)
                .collect();
            self.files.write(names::TXN_INDEX, &bytes)?;
        }
        Ok(CleanedSegment {
            files: self.files,
            sources,
            len,
            has_aborted: !aborted.is_empty(),
            generation,
        })
    }
}

fn encode<E: Entry>(entries: &[E]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * E::SIZE);
    for entry in entries {
        entry.encode(&mut bytes);
    }
    bytes
}
