use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_record::{BatchError, BatchHeader};
use tidelog_types::{Offset, Timestamp};

use crate::dir::{Access, Dir, File, read_file};
use crate::error::{Context, LogError};
use crate::index::{Entries, Entry, OffsetEntry, TimeEntry, open_entries, write_entries};
use crate::names;
use crate::scan::{HEADERS_CHUNK, Scanned, Scanner, WHOLE_CHUNK};
use crate::transactions::AbortedTransaction;

/// How many of the newest batches of the active segment are known by position.
const RECENT_MAX: usize = 64;
/// Space is prepared in pieces of this size, each of which an append may have to wait for.
const PREPARE_CHUNK: u64 = 64 << 10;

/// Where the files of a partition are.
#[derive(Debug)]
pub(crate) struct Place {
    pub dir: Arc<dyn Dir>,
    /// The folder of the partition.
    pub path: PathBuf,
}

impl Place {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A part of a log: a file of batches with its indexes.
///
/// The writer appends to the last segment of a log, everybody reads all of them. Both locks are held for memory accesses
/// only, but for `space` around a write into the page cache.
#[derive(Debug)]
pub(crate) struct Segment {
    place: Arc<Place>,
    base_offset: Offset,
    file: Mutex<Option<Arc<dyn File>>>,
    space: Mutex<Space>,
    state: Mutex<State>,
}

/// Keeps the writing of zeros ahead of the log away from the batches themselves.
#[derive(Debug)]
struct Space {
    /// Where the batches end.
    end: u64,
    /// Up to where the file has blocks that are written; at least `end`.
    prepared: u64,
    /// Whether nothing is to be prepared any more.
    sealed: bool,
}

#[derive(Debug)]
struct State {
    /// Bytes of batches in the file.
    len: u32,
    /// The offset behind the last batch; of a segment that was not looked into, the base of the next segment.
    next_offset: Offset,
    /// `None` until first used.
    index: Option<Index>,
    /// Where the batch of the last entry in the offset index begins.
    last_indexed: u32,
    /// The largest timestamp and the batch that has it first, by its last offset; `None` until first used.
    max_timestamp: Option<(Timestamp, Offset)>,
    recent: VecDeque<Recent>,
    /// `None` until first used.
    aborted: Option<Vec<AbortedTransaction>>,
}

#[derive(Debug, Default)]
struct Index {
    offsets: Entries<OffsetEntry>,
    times: Entries<TimeEntry>,
}

/// One of the newest batches; offsets count from the base offset of the segment.
#[derive(Clone, Copy, Debug)]
struct Recent {
    base: u32,
    last: u32,
    position: u32,
}

/// A batch that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it begins in the segment.
    pub position: u32,
    /// Its size in bytes.
    pub size: u32,
    /// Its first offset.
    pub base_offset: Offset,
    /// Its last offset.
    pub last_offset: Offset,
}

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
    /// A segment whose file does not exist yet, or is empty.
    pub(crate) fn new(place: Arc<Place>, base_offset: Offset) -> Self {
        Self::with_state(
            place,
            base_offset,
            State {
                len: 0,
                next_offset: base_offset,
                index: Some(Index::default()),
                last_indexed: 0,
                max_timestamp: Some((Timestamp::NONE, Offset::NONE)),
                recent: VecDeque::new(),
                aborted: Some(Vec::new()),
            },
        )
    }

    /// A segment that exists, of which nothing is opened before it is needed.
    pub(crate) fn existing(
        place: Arc<Place>,
        base_offset: Offset,
        len: u32,
        next_offset: Offset,
    ) -> Self {
        Self::with_state(
            place,
            base_offset,
            State {
                len,
                next_offset,
                index: None,
                last_indexed: 0,
                max_timestamp: None,
                recent: VecDeque::new(),
                aborted: None,
            },
        )
    }

    fn with_state(place: Arc<Place>, base_offset: Offset, state: State) -> Self {
        let len = u64::from(state.len);
        Self {
            place,
            base_offset,
            file: Mutex::new(None),
            space: Mutex::new(Space {
                end: len,
                prepared: len,
                sealed: false,
            }),
            state: Mutex::new(state),
        }
    }

    pub(crate) const fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn len(&self) -> u32 {
        self.state.lock().len
    }

    /// The offset behind the last batch.
    pub(crate) fn next_offset(&self) -> Offset {
        self.state.lock().next_offset
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.place.file(&names::segment(self.base_offset))
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.place
            .file(&names::of_segment(self.base_offset, suffix))
    }

    /// The file of batches, opened if it is not.
    pub(crate) fn file(&self) -> Result<Arc<dyn File>, LogError> {
        self.open(Access::Write)
    }

    /// Creates the file, empty.
    pub(crate) fn create(&self) -> Result<(), LogError> {
        self.open(Access::Truncate).map(drop)
    }

    fn open(&self, access: Access) -> Result<Arc<dyn File>, LogError> {
        let mut slot = self.file.lock();
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let path = self.log_path();
        let file = self.place.dir.open(&path, access).context("open", &path)?;
        Ok(slot.insert(file).clone())
    }

    // Writing

    /// Writes a batch behind the last one. After an error the file may have a part of it.
    pub(crate) fn append(
        &self,
        parts: &mut [IoSlice<'_>],
        header: &BatchHeader,
        index_interval_bytes: u32,
    ) -> Result<(), LogError> {
        let file = self.file()?;
        let position = {
            let mut space = self.space.lock();
            let position = space.end;
            file.write_all_at(parts, position)
                .context("write", &self.log_path())?;
            space.end += header.size() as u64;
            space.prepared = space.prepared.max(space.end);
            position as u32
        };
        let mut state = self.state.lock();
        state.note(self.base_offset, position, header, index_interval_bytes);
        if state.recent.len() == RECENT_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(Recent {
            base: (header.base_offset - self.base_offset) as u32,
            last: (header.last_offset() - self.base_offset) as u32,
            position,
        });
        Ok(())
    }

    /// Whether an index has no room for another entry.
    pub(crate) fn is_index_full(&self, offsets_max: usize, times_max: usize) -> bool {
        let state = self.state.lock();
        // The last entry of the time index is kept for when the segment is closed.
        state.index.as_ref().is_some_and(|index| {
            index.offsets.len() >= offsets_max || index.times.len() + 1 >= times_max
        })
    }

    /// Writes zeros behind the batches, up to `bytes` of them, for faster flushes later.
    pub(crate) fn prepare(&self, bytes: u32) -> Result<(), LogError> {
        static ZEROS: [u8; PREPARE_CHUNK as usize] = [0; PREPARE_CHUNK as usize];
        let file = self.file()?;
        let path = self.log_path();
        let mut target = None;
        loop {
            let mut space = self.space.lock();
            let target = *target.get_or_insert_with(|| space.end + u64::from(bytes));
            if space.sealed || space.prepared >= target {
                break;
            }
            let n = (target - space.prepared).min(PREPARE_CHUNK);
            let zeros = &ZEROS[..n as usize];
            match file.write_all_at(&mut [IoSlice::new(zeros)], space.prepared) {
                Ok(()) => space.prepared += n,
                // A disk without room for the preparation has none for the batches soon, and they will tell.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    file.set_len(space.end).context("cut", &path)?;
                    space.prepared = space.end;
                    space.sealed = true;
                    break;
                }
                Err(error) => return Err(error).context("write", &path),
            }
        }
        file.sync_data().context("sync", &path)
    }

    /// How many prepared bytes are left, and how many can be.
    pub(crate) fn prepared(&self) -> u64 {
        let space = self.space.lock();
        space.prepared - space.end
    }

    /// Nothing is appended any more: cuts off what was prepared and completes the time index.
    pub(crate) fn seal(&self) -> Result<(), LogError> {
        self.trim()?;
        let mut state = self.state.lock();
        state.recent = VecDeque::new();
        state.add_last_time_entry(self.base_offset);
        Ok(())
    }

    fn trim(&self) -> Result<(), LogError> {
        let mut space = self.space.lock();
        space.sealed = true;
        if space.prepared > space.end {
            self.file()?
                .set_len(space.end)
                .context("cut", &self.log_path())?;
            space.prepared = space.end;
        }
        Ok(())
    }

    /// Adds an entry to the transaction index. The caller flushes it.
    pub(crate) fn add_aborted(&self, aborted: AbortedTransaction) -> Result<(), LogError> {
        self.load_aborted()?;
        let mut state = self.state.lock();
        let list = state.aborted.get_or_insert_default();
        let position = (list.len() * AbortedTransaction::SIZE) as u64;
        let path = self.path(names::TXN_INDEX);
        let file = self
            .place
            .dir
            .open(&path, Access::Create)
            .context("open", &path)?;
        write_entries(&*file, position, &aborted.encode()).context("write", &path)?;
        list.push(aborted);
        Ok(())
    }

    /// Makes the transaction index durable, if there is one.
    pub(crate) fn sync_aborted(&self) -> Result<(), LogError> {
        let path = self.path(names::TXN_INDEX);
        match self.place.dir.open(&path, Access::Write) {
            Ok(file) => file.sync_all().context("sync", &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("open", &path),
        }
    }

    /// Writes what the index files lack. They are not needed for what was acknowledged, so nobody waits for this.
    pub(crate) fn save_index(&self) -> Result<(), LogError> {
        let (offsets, times, counts) = {
            let state = self.state.lock();
            let Some(index) = &state.index else {
                return Ok(());
            };
            let counts = (index.offsets.len(), index.times.len());
            (index.offsets.unsaved(), index.times.unsaved(), counts)
        };
        for (suffix, unsaved) in [(names::OFFSET_INDEX, offsets), (names::TIME_INDEX, times)] {
            let path = self.path(suffix);
            // Kafka wants the files to exist, even if they are empty.
            let (position, bytes) = unsaved.unwrap_or_default();
            let file = self
                .place
                .dir
                .open(&path, Access::Create)
                .context("open", &path)?;
            if !bytes.is_empty() {
                write_entries(&*file, position, &bytes).context("write", &path)?;
            }
            // A part of an index that was lost with the power might look like a whole one.
            file.sync_all().context("sync", &path)?;
        }
        let mut state = self.state.lock();
        if let Some(index) = &mut state.index {
            index.offsets.saved(counts.0);
            index.times.saved(counts.1);
        }
        Ok(())
    }

    /// Drops the index from memory, if it is in the files as a whole. For segments that are not appended to.
    pub(crate) fn release_index(&self) {
        let mut state = self.state.lock();
        let saved =
            |index: &Index| index.offsets.unsaved().is_none() && index.times.unsaved().is_none();
        if state.index.as_ref().is_some_and(saved) {
            state.index = None;
        }
    }

    /// Cuts off the batch that holds `offset` and all behind it. Answers where the segment ends then: behind the last
    /// batch that is left, for that is what the file says after a restart.
    pub(crate) fn truncate(&self, offset: Offset) -> Result<Offset, LogError> {
        self.load_index()?;
        self.load_aborted()?;
        let Some(found) = self.find(offset)? else {
            return Ok(self.next_offset());
        };
        let file = self.file()?;
        {
            let mut space = self.space.lock();
            file.set_len(u64::from(found.position))
                .context("cut", &self.log_path())?;
            space.end = u64::from(found.position);
            space.prepared = space.end;
            space.sealed = false;
        }
        let mut state = self.state.lock();
        state.len = found.position;
        state
            .recent
            .retain(|recent| recent.position < found.position);
        let lost = (found.base_offset - self.base_offset) as u32;
        let index = state.index.get_or_insert_default();
        index
            .offsets
            .load()
            .context("read", &self.path(names::OFFSET_INDEX))?;
        index
            .times
            .load()
            .context("read", &self.path(names::TIME_INDEX))?;
        let keep = index
            .offsets
            .count_while(|entry| entry.position < found.position);
        let keep = keep.context("read", &self.path(names::OFFSET_INDEX))?;
        index.offsets.truncate(keep);
        self.cut_file(names::OFFSET_INDEX, keep * OffsetEntry::SIZE)?;
        let keep = index.times.count_while(|entry| entry.offset < lost);
        let keep = keep.context("read", &self.path(names::TIME_INDEX))?;
        index.times.truncate(keep);
        self.cut_file(names::TIME_INDEX, keep * TimeEntry::SIZE)?;
        if let Some(aborted) = &mut state.aborted {
            aborted.retain(|aborted| aborted.last_offset < found.base_offset);
            self.cut_file(names::TXN_INDEX, aborted.len() * AbortedTransaction::SIZE)?;
        }
        drop(state);
        self.refresh_from_index(&*file)?;
        Ok(self.next_offset())
    }

    /// Shortens a file to `len`, if it exists and is longer.
    fn cut_file(&self, suffix: &str, len: usize) -> Result<(), LogError> {
        let path = self.path(suffix);
        match self.place.dir.open(&path, Access::Write) {
            Ok(file) if file.len().context("read", &path)? > len as u64 => {
                file.set_len(len as u64).context("cut", &path)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("open", &path),
        }
    }

    /// Finds the end, the largest timestamp, and where the next index entry is due, out of the index and the batches
    /// behind its last entry.
    fn refresh_from_index(&self, file: &dyn File) -> Result<(), LogError> {
        let mut state = self.state.lock();
        let Some(index) = &state.index else {
            return Ok(());
        };
        let io = |result: io::Result<_>| result.context("read", &self.log_path());
        let last_offset = index.offsets.last().context("read", &self.log_path())?;
        let last_time = index.times.last().context("read", &self.log_path())?;
        state.last_indexed = last_offset.map_or(0, |entry| entry.position);
        let mut next_offset = self.base_offset;
        let mut max = (Timestamp::NONE, Offset::NONE);
        if let Some(entry) = last_time {
            max = (
                Timestamp::from_millis(entry.timestamp),
                self.base_offset + i64::from(entry.offset),
            );
        }
        let (start, end) = (u64::from(state.last_indexed), u64::from(state.len));
        let mut scanner = Scanner::new(file, start, end, HEADERS_CHUNK);
        while let Scanned::Batch(_, header) = io(scanner.next_header())? {
            if header.max_timestamp > max.0 {
                max = (header.max_timestamp, header.last_offset());
            }
            next_offset = header.next_offset();
        }
        state.max_timestamp = Some(max);
        state.next_offset = next_offset;
        Ok(())
    }

    // Opening

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
        index.offsets.load().context("read", &path)?;
        index.times.load().context("read", &path)?;
        let last = index.offsets.last().context("read", &path)?;
        let start = last.map_or(0, |entry| entry.position);
        let mut scanner = Scanner::new(&*file, u64::from(start), u64::from(len), HEADERS_CHUNK);
        let mut next_offset = base_offset;
        loop {
            match scanner.next_header().context("read", &path)? {
                Scanned::Batch(_, header) if header.base_offset >= next_offset => {
                    next_offset = header.next_offset();
                }
                Scanned::Batch(..) => return Ok(None),
                Scanned::Broken(BatchError::OldMagic { magic }) => {
                    return Err(segment.old_format(scanner.position(), magic));
                }
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
                Scanned::Broken(BatchError::OldMagic { magic })
                    if is_old_message(&*file, scanner.position()).context("read", &path)? =>
                {
                    return Err(self.old_format(scanner.position(), magic));
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
            opened.offsets.load().context("read", &path)?;
            opened.times.load().context("read", &path)?;
            let keep = opened
                .offsets
                .count_while(|e| e.offset < wanted)
                .context("read", &path)?;
            opened.offsets.truncate(keep);
            let last = opened.offsets.last().context("read", &path)?;
            if let Some(last) = last {
                let position = u64::from(last.position);
                let mut scanner = Scanner::new(file, position.min(len), len, HEADERS_CHUNK);
                let first = scanner.next_batch().context("read", &path)?;
                let expected = self.base_offset + i64::from(last.offset);
                if matches!(&first, Scanned::Batch(_, h) if h.last_offset() == expected) {
                    start = scanner.position() as u32;
                    next_offset = expected.next();
                    let times = opened.times.count_while(|e| e.offset <= last.offset);
                    opened.times.truncate(times.context("read", &path)?);
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

    fn old_format(&self, position: u64, magic: i8) -> LogError {
        LogError::OldFormat {
            path: self.log_path(),
            position,
            magic,
        }
    }

    /// Opens the index files. `None` if one is missing or cannot be right.
    fn open_index(&self) -> Result<Option<Index>, LogError> {
        let (len, records) = {
            let state = self.state.lock();
            (state.len, state.next_offset - self.base_offset)
        };
        let file = |suffix| match self.place.dir.open(&self.path(suffix), Access::Write) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("open", &self.path(suffix)),
        };
        let (offsets, times) = (file(names::OFFSET_INDEX)?, file(names::TIME_INDEX)?);
        let Some((offsets, times)) = offsets.zip(times) else {
            return Ok(None);
        };
        let is_within =
            |entry: OffsetEntry| entry.position < len && i64::from(entry.offset) < records;
        let offsets =
            open_entries(offsets, is_within).context("read", &self.path(names::OFFSET_INDEX))?;
        let times = open_entries(times, |entry: TimeEntry| i64::from(entry.offset) < records)
            .context("read", &self.path(names::TIME_INDEX))?;
        // A segment with batches has an entry for its largest timestamp at least.
        let times = times.filter(|times| times.len() > 0 || len == 0);
        Ok(offsets
            .zip(times)
            .map(|(offsets, times)| Index { offsets, times }))
    }

    /// Sees to it that there is an index: opens the files, or rebuilds them.
    fn load_index(&self) -> Result<(), LogError> {
        if self.state.lock().index.is_some() {
            return Ok(());
        }
        if let Some(index) = self.open_index()? {
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
                Scanned::Broken(BatchError::OldMagic { magic }) => {
                    return Err(self.old_format(scanner.position(), magic));
                }
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

    fn corrupt(&self, position: u64, error: &BatchError) -> LogError {
        LogError::Corrupt {
            path: self.log_path(),
            position,
            reason: error.to_string(),
        }
    }

    fn read_aborted(&self) -> Result<Vec<AbortedTransaction>, LogError> {
        let path = self.path(names::TXN_INDEX);
        let bytes = read_file(&*self.place.dir, &path).context("read", &path)?;
        Ok(bytes
            .map(|bytes| AbortedTransaction::decode_all(&bytes))
            .unwrap_or_default())
    }

    fn load_aborted(&self) -> Result<(), LogError> {
        if self.state.lock().aborted.is_none() {
            let aborted = self.read_aborted()?;
            self.state.lock().aborted.get_or_insert(aborted);
        }
        Ok(())
    }

    // Reading

    /// The first batch whose last offset is not below `offset`. `None` if the segment ends before.
    pub(crate) fn find(&self, offset: Offset) -> Result<Option<Found>, LogError> {
        let base = self.base_offset;
        let (recent, len) = {
            let state = self.state.lock();
            if offset >= state.next_offset || state.len == 0 {
                return Ok(None);
            }
            (state.find_recent(base, offset), state.len)
        };
        if recent.is_some() {
            return Ok(recent);
        }
        let start = self.index_position(offset)?;
        let file = self.file()?;
        let path = self.log_path();
        let mut scanner = Scanner::new(&*file, u64::from(start), u64::from(len), HEADERS_CHUNK);
        loop {
            match scanner.next_header().context("read", &path)? {
                Scanned::Batch(position, header) if header.last_offset() >= offset => {
                    return Ok(Some(Found {
                        position: position as u32,
                        size: header.size() as u32,
                        base_offset: header.base_offset,
                        last_offset: header.last_offset(),
                    }));
                }
                Scanned::Batch(..) => {}
                Scanned::End => return Ok(None),
                Scanned::Broken(error) => return Err(self.corrupt(scanner.position(), &error)),
            }
        }
    }

    /// Where the batches end that lie wholly below `until`.
    pub(crate) fn end_position(&self, until: Offset) -> Result<u32, LogError> {
        {
            let state = self.state.lock();
            if until >= state.next_offset {
                return Ok(state.len);
            }
        }
        Ok(self
            .find(until)?
            .map_or_else(|| self.len(), |found| found.position))
    }

    /// A position at or before the batch of `offset`, found without reading the segment.
    fn index_position(&self, offset: Offset) -> Result<u32, LogError> {
        self.load_index()?;
        let wanted = u32::try_from((offset - self.base_offset).max(0)).unwrap_or(u32::MAX);
        let entry = self.search(
            |index| &index.offsets,
            names::OFFSET_INDEX,
            |entries| entries.last_while(|entry| entry.offset <= wanted),
        )?;
        Ok(entry.map_or(0, |entry| entry.position))
    }

    /// Searches an index: in memory under the lock, on disk outside of it.
    fn search<E: Entry, T>(
        &self,
        entries: impl Fn(&Index) -> &Entries<E>,
        suffix: &str,
        search: impl Fn(&Entries<E>) -> io::Result<T>,
    ) -> Result<T, LogError> {
        let on_disk = {
            let state = self.state.lock();
            match state.index.as_ref().map(entries) {
                Some(Entries::Disk { file, count }) => Entries::Disk {
                    file: file.clone(),
                    count: *count,
                },
                Some(memory) => return search(memory).context("read", &self.path(suffix)),
                None => Entries::default(),
            }
        };
        search(&on_disk).context("read", &self.path(suffix))
    }

    /// How many bytes lie between two offsets, at most, as far as that can be told without reading.
    pub(crate) fn bytes_between(&self, from: Offset, until: Offset) -> u64 {
        let state = self.state.lock();
        let start = state
            .position_hint(self.base_offset, from)
            .map_or(0, |(position, _)| position);
        let end = if until >= state.next_offset {
            state.len
        } else {
            state
                .position_hint(self.base_offset, until)
                .map_or(state.len, |(_, position)| position)
        };
        u64::from(end.saturating_sub(start))
    }

    /// The largest timestamp and the last offset of the batch that has it first; [`Timestamp::NONE`] if there is none.
    pub(crate) fn max_timestamp(&self) -> Result<(Timestamp, Offset), LogError> {
        if let Some(max) = self.state.lock().max_timestamp {
            return Ok(max);
        }
        self.load_index()?;
        if let Some(max) = self.state.lock().max_timestamp {
            return Ok(max);
        }
        // A sealed segment has its largest timestamp in the last entry.
        let last = self.search(|index| &index.times, names::TIME_INDEX, Entries::last)?;
        let max = last.map_or((Timestamp::NONE, Offset::NONE), |entry| {
            let offset = self.base_offset + i64::from(entry.offset);
            (Timestamp::from_millis(entry.timestamp), offset)
        });
        self.state.lock().max_timestamp = Some(max);
        Ok(max)
    }

    /// A position at or before the first batch with a timestamp of at least `timestamp` and a last offset of at least
    /// `from`.
    pub(crate) fn position_for_timestamp(
        &self,
        timestamp: Timestamp,
        from: Offset,
    ) -> Result<u32, LogError> {
        self.load_index()?;
        let floor = self.search(
            |index| &index.times,
            names::TIME_INDEX,
            |entries| entries.last_while(|entry| entry.timestamp <= timestamp.as_millis()),
        )?;
        let offset = floor.map_or(0, |entry| i64::from(entry.offset));
        self.index_position(from.max(self.base_offset + offset))
    }

    /// The first offset that surely lies behind `position`: the end of what a read up to there can hold.
    pub(crate) fn offset_bound(&self, position: u32) -> Result<Offset, LogError> {
        self.load_index()?;
        let next_offset = self.next_offset();
        let entry = self.search(
            |index| &index.offsets,
            names::OFFSET_INDEX,
            |entries| {
                let behind = entries.count_while(|entry| entry.position < position)?;
                (behind < entries.len())
                    .then(|| entries.entry(behind))
                    .transpose()
            },
        )?;
        Ok(entry.map_or(next_offset, |entry| {
            self.base_offset + i64::from(entry.offset) + 1
        }))
    }

    /// Adds the aborted transactions that touch the offsets from `from` up to `until`. Answers whether later segments
    /// can have none.
    pub(crate) fn collect_aborted(
        &self,
        from: Offset,
        until: Offset,
        out: &mut Vec<AbortedTransaction>,
    ) -> Result<bool, LogError> {
        self.load_aborted()?;
        let state = self.state.lock();
        for aborted in state.aborted.iter().flatten() {
            if aborted.last_offset >= from && aborted.first_offset < until {
                out.push(*aborted);
            }
            if aborted.last_stable_offset >= until {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The header of the first batch.
    pub(crate) fn first_header(&self) -> Result<Option<BatchHeader>, LogError> {
        let len = self.len();
        if len == 0 {
            return Ok(None);
        }
        let file = self.file()?;
        let mut scanner = Scanner::new(&*file, 0, u64::from(len), HEADERS_CHUNK);
        match scanner.next_header().context("read", &self.log_path())? {
            Scanned::Batch(_, header) => Ok(Some(header)),
            _ => Ok(None),
        }
    }
}

/// The interval of a rebuilt index, Kafka's default.
const REBUILT_INTERVAL: u32 = 4096;

impl State {
    /// Notes a batch at the end of the segment.
    fn note(&mut self, base: Offset, position: u32, header: &BatchHeader, interval: u32) {
        let last = header.last_offset();
        let max = self
            .max_timestamp
            .get_or_insert((Timestamp::NONE, Offset::NONE));
        if header.max_timestamp > max.0 {
            *max = (header.max_timestamp, last);
        }
        if position - self.last_indexed > interval {
            let entry = OffsetEntry {
                offset: (last - base) as u32,
                position,
            };
            self.index.get_or_insert_default().offsets.push(entry);
            self.last_indexed = position;
            self.add_last_time_entry(base);
        }
        self.len = position + header.size() as u32;
        self.next_offset = last.next();
    }

    /// Brings the time index up to the largest timestamp.
    fn add_last_time_entry(&mut self, base: Offset) {
        let (Some((timestamp, offset)), Some(index)) = (self.max_timestamp, &mut self.index) else {
            return;
        };
        let Entries::Memory { entries, .. } = &index.times else {
            return;
        };
        if timestamp.as_millis() >= 0
            && entries
                .last()
                .is_none_or(|last| timestamp.as_millis() > last.timestamp)
        {
            let offset = (offset - base) as u32;
            index.times.push(TimeEntry {
                timestamp: timestamp.as_millis(),
                offset,
            });
        }
    }

    /// Looks for a batch among the newest ones.
    fn find_recent(&self, base: Offset, offset: Offset) -> Option<Found> {
        let wanted = u32::try_from(offset - base).ok()?;
        let i = self.recent.partition_point(|recent| recent.last < wanted);
        let recent = self.recent.get(i)?;
        // What is older than the first one is not known, unless the batch holds the very offset.
        if i == 0 && recent.base > wanted && recent.position > 0 {
            return None;
        }
        let end = self
            .recent
            .get(i + 1)
            .map_or(self.len, |next| next.position);
        Some(Found {
            position: recent.position,
            size: end - recent.position,
            base_offset: base + i64::from(recent.base),
            last_offset: base + i64::from(recent.last),
        })
    }

    /// Positions between which the batch of `offset` begins.
    fn position_hint(&self, base: Offset, offset: Offset) -> Option<(u32, u32)> {
        if offset <= base {
            return Some((0, 0));
        }
        if let Some(found) = self.find_recent(base, offset) {
            return Some((found.position, found.position));
        }
        let Some(Index {
            offsets: Entries::Memory { entries, .. },
            ..
        }) = &self.index
        else {
            return None;
        };
        let wanted = u32::try_from(offset - base).ok()?;
        let after = entries.partition_point(|entry| entry.offset <= wanted);
        let low = after.checked_sub(1).map_or(0, |i| entries[i].position);
        Some((
            low,
            entries.get(after).map_or(self.len, |entry| entry.position),
        ))
    }
}

/// Whether a message of format 0 or 1 begins here. Torn bytes may look like one, so its checksum has to be right.
fn is_old_message(file: &dyn File, position: u64) -> io::Result<bool> {
    // 0 offset i64, 8 size i32, 12 crc u32 of all that follows, 16 magic i8
    let mut front = [0; 16];
    file.read_exact_at(&mut front, position)?;
    let size = u32::from_be_bytes([front[8], front[9], front[10], front[11]]) as u64;
    if !(14..=file.len()? - position - 12).contains(&size) {
        return Ok(false);
    }
    let mut message = vec![0; size as usize - 4];
    file.read_exact_at(&mut message, position + 16)?;
    let stored = u32::from_be_bytes([front[12], front[13], front[14], front[15]]);
    let computed = crc_fast::crc32_iso_hdlc(&message);
    Ok(computed == stored)
}
