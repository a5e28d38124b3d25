//! Opening segments, with and without trust in what their files say.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use tidelog_record::{BatchError, BatchHeader};
use tidelog_types::{Offset, Timestamp};

use super::{Index, Segment, Space, State};
use crate::dir::{Access, File, read_all};
use crate::error::{Context, LogError};
use crate::files::Place;
use crate::index::{Entry, OffsetEntry, TimeEntry, open_entries};
use crate::names;
use crate::scan::{HEADERS_CHUNK, Scanned, Scanner, WHOLE_CHUNK};
use crate::transactions::AbortedTransaction;

/// What [`Segment::recover`] found.
#[derive(Debug)]
pub(crate) struct SegmentRecovery {
    /// Bytes that were scanned.
    pub scanned: u64,
    /// Bytes that were cut off, other than prepared space.
    pub cut: u64,
    /// What was wrong with them.
    pub reason: Option<BatchError>,
    /// Whether the file was changed and must be made durable.
    pub changed: bool,
}

impl Segment {
    /// Opens the last segment of a log that was closed cleanly, which finds out where the log ends. `None` if it is not
    /// as it must be: the index is missing or damaged, or the batches do not end with the file.
    pub(crate) fn open_clean(
        place: Arc<Place>,
        base_offset: Offset,
        len: u32,
    ) -> Result<Option<Self>, LogError> {
        let segment = Self::existing(place, base_offset, len, Offset::new(i64::MAX));
        let Some(mut index) = segment.open_index()? else {
            return Ok(None);
        };
        let file = segment.file()?;
        let path = segment.log_path();
        index.offsets.load()?;
        index.times.load()?;
        let last = index.offsets.last()?;
        let start = last.map_or(0, |entry| entry.position);
        let mut scanner = Scanner::new(&*file, u64::from(start), u64::from(len), HEADERS_CHUNK);
        let mut next_offset = base_offset;
        loop {
            match scanner.next_header().context("read", &path)? {
                Scanned::Batch(_, header) if header.base_offset >= next_offset => {
                    next_offset = header.next_offset();
                }
                Scanned::Batch(..) => return Ok(None),
                Scanned::Broken(_) => return Ok(None),
                Scanned::End => break,
            }
        }
        {
            let mut state = segment.state.lock();
            state.next_offset = next_offset;
            state.index = Some(index);
        }
        segment.refresh_from_index(&*file)?;
        Ok(Some(segment))
    }

    /// Goes through the batches from `from` on (an offset at which the indexes may be trusted, or the base offset),
    /// checks every byte, and rebuilds the indexes. Ends at the first batch that is not whole and cuts the file there.
    pub(crate) fn recover(
        &self,
        from: Offset,
        index_interval_bytes: u32,
        on_batch: &mut dyn FnMut(&BatchHeader, &[u8]),
    ) -> Result<SegmentRecovery, LogError> {
        let path = self.log_path();
        let file = self.file()?;
        let len = file.len().context("read", &path)?;
        let start = self.start_recovery(&*file, from, len)?;
        // A position does not fit into an index entry beyond this.
        let bound = len.min(u64::from(u32::MAX >> 1));
        let mut scanner = Scanner::new(&*file, u64::from(start), bound, WHOLE_CHUNK);
        let mut reason = None;
        loop {
            match scanner.next_batch().context("read", &path)? {
                Scanned::Batch(position, header) => {
                    let relative = header.last_offset() - self.base_offset;
                    if header.base_offset < self.base_offset || relative > i64::from(i32::MAX) {
                        reason = Some(BatchError::InvalidOffsets {
                            base_offset: header.base_offset.value(),
                            last_offset_delta: header.last_offset_delta,
                        });
                        break;
                    }
                    on_batch(&header, scanner.bytes());
                    let mut state = self.state.lock();
                    state.note(
                        self.base_offset,
                        position as u32,
                        &header,
                        index_interval_bytes,
                    );
                }
                Scanned::Broken(error) => {
                    reason = Some(error);
                    break;
                }
                Scanned::End => break,
            }
        }
        let valid = u64::from(self.len());
        let scanned = scanner.position() - u64::from(start);
        let mut rest = Scanner::new(&*file, valid, len, WHOLE_CHUNK);
        let prepared = rest.rest_is_zero().context("read", &path)?;
        if len > valid {
            file.set_len(valid).context("cut", &path)?;
        }
        *self.space.lock() = Space {
            end: valid,
            prepared: valid,
            reserved: 0,
            sealed: false,
        };
        Ok(SegmentRecovery {
            scanned,
            cut: if prepared { 0 } else { len - valid },
            reason: if prepared { None } else { reason },
            changed: len > valid,
        })
    }

    /// Sets the state to what is in front of the place where recovery starts, and returns that place.
    fn start_recovery(&self, file: &dyn File, from: Offset, len: u64) -> Result<u32, LogError> {
        let path = self.log_path();
        let mut index = Index::default();
        let mut start = 0;
        let mut next_offset = self.base_offset;
        let wanted = u32::try_from(from - self.base_offset).unwrap_or(0);
        let opened = if wanted > 0 { self.open_index()? } else { None };
        if let Some(mut opened) = opened {
            opened.offsets.keep_while(|entry| entry.offset < wanted)?;
            let last = opened.offsets.last()?;
            if let Some(last) = last {
                let position = u64::from(last.position);
                let mut scanner = Scanner::new(file, position.min(len), len, HEADERS_CHUNK);
                let first = scanner.next_batch().context("read", &path)?;
                let expected = self.base_offset + i64::from(last.offset);
                if matches!(&first, Scanned::Batch(_, h) if h.last_offset() == expected) {
                    start = scanner.position() as u32;
                    next_offset = expected.next();
                    opened
                        .times
                        .keep_while(|entry| entry.offset <= last.offset)?;
                    index = opened;
                }
            }
        }
        self.cut_file(names::OFFSET_INDEX, index.offsets.len() * OffsetEntry::SIZE)?;
        self.cut_file(names::TIME_INDEX, index.times.len() * TimeEntry::SIZE)?;
        let mut aborted = self.read_aborted()?;
        // The entries of what was durable stay; those of the rest are found again.
        aborted.retain(|aborted| aborted.last_offset < from);
        self.cut_file(names::TXN_INDEX, aborted.len() * AbortedTransaction::SIZE)?;
        {
            let mut state = self.state.lock();
            state.len = start;
            state.next_offset = next_offset;
            state.index = Some(index);
            state.recent.clear();
            state.aborted = Some(aborted);
        }
        self.refresh_from_index(file)?;
        Ok(start)
    }

    /// Opens the index files. `None` if one is missing or cannot be right.
    fn open_index(&self) -> Result<Option<Index>, LogError> {
        let (len, records) = {
            let state = self.state.lock();
            (state.len, state.next_offset - self.base_offset)
        };
        let is_within =
            |entry: OffsetEntry| entry.position < len && i64::from(entry.offset) < records;
        let offsets = open_entries(self.index_slot(names::OFFSET_INDEX), is_within)?;
        let is_within = |entry: TimeEntry| i64::from(entry.offset) < records;
        let times = open_entries(self.index_slot(names::TIME_INDEX), is_within)?;
        // A segment with batches has an entry for its largest timestamp at least, unless it knows of none.
        let has_no_times = times.as_ref().is_some_and(|times| times.len() == 0);
        let times = if has_no_times && len > 0 && !self.is_without_timestamps()? {
            None
        } else {
            times
        };
        Ok(offsets.zip(times).map(|(offsets, times)| Index {
            offsets,
            times,
            has_files: true,
        }))
    }

    /// Whether the first batch has no timestamp, as in message format 0; the others will have none either.
    fn is_without_timestamps(&self) -> Result<bool, LogError> {
        let first = self.first_header()?;
        Ok(first.is_some_and(|header| header.max_timestamp == Timestamp::NONE))
    }

    /// Sees to it that there is an index: opens the files, or rebuilds them.
    pub(super) fn load_index(&self) -> Result<(), LogError> {
        {
            let mut state = self.state.lock();
            if state.len == 0 {
                state.index.get_or_insert_default();
            }
            if state.index.is_some() {
                return Ok(());
            }
        }
        if let Some(index) = self.open_index()?
            && self.is_complete(&index)?
        {
            self.state.lock().index.get_or_insert(index);
            return Ok(());
        }
        tracing::warn!(segment = %self.log_path().display(), "rebuilding a missing or damaged index");
        let path = self.log_path();
        let file = self.file()?;
        let mut scanner = Scanner::new(&*file, 0, u64::from(self.len()), WHOLE_CHUNK);
        let mut rebuilt = State {
            len: 0,
            next_offset: self.base_offset,
            index: Some(Index::default()),
            last_indexed: 0,
            max_timestamp: Some((Timestamp::NONE, Offset::NONE)),
            recent: VecDeque::new(),
            aborted: None,
        };
        loop {
            match scanner.next_header().context("read", &path)? {
                Scanned::Batch(position, header) => {
                    rebuilt.note(self.base_offset, position as u32, &header, REBUILT_INTERVAL);
                }
                Scanned::End => break,
                Scanned::Broken(error) => return Err(self.corrupt(scanner.position(), &error)),
            }
        }
        rebuilt.add_last_time_entry(self.base_offset);
        {
            let mut state = self.state.lock();
            state.last_indexed = rebuilt.last_indexed;
            state.max_timestamp = rebuilt.max_timestamp;
            state.index = rebuilt.index;
        }
        if let Err(error) = self.save_index() {
            tracing::warn!(%error, "a rebuilt index stays in memory");
        }
        Ok(())
    }

    /// Whether an index covers its closed segment. After a crash it may be from when the segment still grew: then there are
    /// many batches behind its last entry, or one with a larger timestamp.
    fn is_complete(&self, index: &Index) -> Result<bool, LogError> {
        let path = self.log_path();
        let file = self.file()?;
        let last_offset = index.offsets.last()?;
        let last_time = index.times.last()?;
        let start = last_offset.map_or(0, |entry| u64::from(entry.position));
        let largest = last_time.map_or(-1, |entry| entry.timestamp);
        let mut scanner = Scanner::new(&*file, start, u64::from(self.len()), HEADERS_CHUNK);
        let mut batches = 0;
        while let Scanned::Batch(position, header) = scanner.next_header().context("read", &path)? {
            batches += 1;
            let is_far = position - start > UNINDEXED_BYTES_MAX && batches > 2;
            if is_far || header.max_timestamp.as_millis() > largest {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn corrupt(&self, position: u64, error: &BatchError) -> LogError {
        LogError::Corrupt {
            path: self.log_path(),
            position,
            reason: error.to_string(),
        }
    }

    fn read_aborted(&self) -> Result<Vec<AbortedTransaction>, LogError> {
        let path = self.path(names::TXN_INDEX);
        let file = match self.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_replaced() => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error).context("open", &path),
        };
        let bytes = read_all(&*file).context("read", &path)?;
        Ok(AbortedTransaction::decode_all(&bytes))
    }

    pub(super) fn load_aborted(&self) -> Result<(), LogError> {
        if self.state.lock().aborted.is_none() {
            let aborted = self.read_aborted()?;
            self.state.lock().aborted.get_or_insert(aborted);
        }
        Ok(())
    }
}

/// With more than this behind the last entry, an index is taken for unfinished. Far more than the usual interval.
const UNINDEXED_BYTES_MAX: u64 = 64 << 10;
/// The interval of a rebuilt index, Kafka's default.
const REBUILT_INTERVAL: u32 = 4096;
