mod open;
mod read;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_record::BatchHeader;
use tidelog_types::{Offset, Timestamp};

pub(crate) use self::open::SegmentRecovery;
use crate::dir::{Access, File};
use crate::error::{Context, LogError};
use crate::files::{Names, Place, Slot};
use crate::index::{Entries, Entry, OffsetEntry, TimeEntry, write_entries};
use crate::names;
use crate::scan::{HEADERS_CHUNK, Scanned, Scanner};
use crate::transactions::AbortedTransaction;

/// How many of the newest batches of the active segment are known by position.
const RECENT_MAX: usize = 64;
/// Space is prepared in pieces of this size, each of which an append may have to wait for.
const PREPARE_CHUNK: u64 = 64 << 10;

/// A part of a log: a file of batches with its indexes.
///
/// The writer appends to the last segment of a log, everybody reads all of them. Both locks are held for memory accesses
/// only, but for `space` around a write into the page cache.
#[derive(Debug)]
pub(crate) struct Segment {
    place: Arc<Place>,
    base_offset: Offset,
    names: Arc<Names>,
    file: Arc<Slot>,
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
    /// Up to where the file has blocks, written or not; 0 if none were asked for.
    reserved: u64,
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
    /// Whether the files are there; Kafka wants them even if they are empty.
    has_files: bool,
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
    /// Its message format.
    pub magic: i8,
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
        let own: Arc<Names> = Arc::default();
        let file = Slot::new(place.clone(), own.clone(), base_offset, names::LOG);
        let file = Arc::new(file);
        Self {
            place,
            base_offset,
            names: own,
            file,
            space: Mutex::new(Space {
                end: len,
                prepared: len,
                reserved: 0,
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

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.names.open(&self.place, path, access)
    }

    /// Brings into memory what readers of a segment need that is about to be replaced.
    pub(crate) fn load(&self) -> Result<(), LogError> {
        self.load_index()?;
        self.load_aborted()
    }

    /// From now on the files of this name are not the segment's: another one takes its place.
    pub(crate) fn give_up_names(&self) {
        self.names.give_up();
    }

    /// Whether another segment has taken its place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.names.are_given_up()
    }

    /// The file of batches, opened if it is not.
    pub(crate) fn file(&self) -> Result<Arc<dyn File>, LogError> {
        self.file.file()
    }

    /// Creates the file, empty.
    pub(crate) fn create(&self) -> Result<(), LogError> {
        self.file.set_unflushed(true);
        self.file.create()
    }

    /// Notes that all of the file is durable.
    pub(crate) fn flushed(&self) {
        self.file.set_unflushed(false);
    }

    // Writing

    /// Writes a batch behind the last one. After an error the file may have a part of it.
    pub(crate) fn append(
        &self,
        parts: &mut [IoSlice<'_>],
        header: &BatchHeader,
        index_interval_bytes: u32,
    ) -> Result<(), LogError> {
        self.file.set_unflushed(true);
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

    /// Has the file system set blocks aside behind the batches, so that appending need not look for them one by one.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), LogError> {
        let file = self.file()?;
        let mut space = self.space.lock();
        if space.sealed {
            return Ok(());
        }
        let from = space.reserved.max(space.end);
        match file.reserve(from, bytes) {
            Ok(()) => space.reserved = from + bytes,
            // A disk without room for this has none for the batches soon, and they will tell.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => space.reserved = u64::MAX,
            Err(error) => return Err(error).context("reserve space for", &self.log_path()),
        }
        Ok(())
    }

    /// How many reserved bytes are left.
    pub(crate) fn reserved(&self) -> u64 {
        let space = self.space.lock();
        space.reserved.saturating_sub(space.end)
    }

    /// How many prepared bytes are left, and how many can be.
    pub(crate) fn prepared(&self) -> u64 {
        let space = self.space.lock();
        space.prepared - space.end
    }

    /// Nothing is appended any more, at least for a while: cuts off what was prepared and completes the time index.
    /// Answers whether the file was cut.
    pub(crate) fn seal(&self) -> Result<bool, LogError> {
        let was_cut = self.trim()?;
        let mut state = self.state.lock();
        state.recent = VecDeque::new();
        state.add_last_time_entry(self.base_offset);
        Ok(was_cut)
    }

    fn trim(&self) -> Result<bool, LogError> {
        let mut space = self.space.lock();
        space.sealed = true;
        // Cutting also gives back what was reserved.
        let cut = space.prepared.max(space.reserved) > space.end;
        if cut {
            self.file()?
                .set_len(space.end)
                .context("cut", &self.log_path())?;
            space.prepared = space.end;
            space.reserved = 0;
        }
        Ok(cut)
    }

    /// Makes a segment that was closed ready for appends, which need its index in memory. Answers where it ends.
    pub(crate) fn reopen(&self) -> Result<Offset, LogError> {
        self.load_index()?;
        {
            let mut state = self.state.lock();
            let index = state.index.get_or_insert_default();
            index.offsets.load()?;
            index.times.load()?;
        }
        self.space.lock().sealed = false;
        self.refresh_from_index(&*self.file()?)?;
        Ok(self.next_offset())
    }

    /// Adds an entry to the transaction index. The caller flushes it.
    pub(crate) fn add_aborted(&self, aborted: AbortedTransaction) -> Result<(), LogError> {
        self.load_aborted()?;
        let mut state = self.state.lock();
        let list = state.aborted.get_or_insert_default();
        let position = (list.len() * AbortedTransaction::SIZE) as u64;
        let path = self.path(names::TXN_INDEX);
        let file = self.open(&path, Access::Create).context("open", &path)?;
        write_entries(&*file, position, &aborted.encode()).context("write", &path)?;
        list.push(aborted);
        Ok(())
    }

    /// Makes the transaction index durable, if there is one.
    pub(crate) fn sync_aborted(&self) -> Result<(), LogError> {
        let path = self.path(names::TXN_INDEX);
        match self.open(&path, Access::Write) {
            Ok(file) => file.sync_all().context("sync", &path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("open", &path),
        }
    }

    /// Writes what the index files lack. They are not needed for what was acknowledged, so nobody waits for this. Answers
    /// whether the files are new.
    pub(crate) fn save_index(&self) -> Result<bool, LogError> {
        let (offsets, times, counts, had_files) = {
            let state = self.state.lock();
            let Some(index) = &state.index else {
                return Ok(false);
            };
            let counts = (index.offsets.len(), index.times.len());
            let (offsets, times) = (index.offsets.unsaved(), index.times.unsaved());
            (offsets, times, counts, index.has_files)
        };
        if had_files && offsets.is_none() && times.is_none() {
            return Ok(false);
        }
        // The times first: whoever finds the offsets complete takes the times for complete too.
        for (suffix, unsaved) in [(names::TIME_INDEX, times), (names::OFFSET_INDEX, offsets)] {
            if had_files && unsaved.is_none() {
                continue;
            }
            let path = self.path(suffix);
            let (position, bytes) = unsaved.unwrap_or_default();
            let file = match self.open(&path, Access::Create) {
                // The segment that took the place of this one has an index of its own.
                Err(_) if self.is_replaced() => return Ok(false),
                file => file.context("open", &path)?,
            };
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
            index.has_files = true;
        }
        Ok(!had_files)
    }

    /// Drops the index from memory, as far as it is in the files. For segments that are not appended to.
    pub(crate) fn release_index(&self) {
        let mut state = self.state.lock();
        if let Some(index) = &mut state.index {
            index
                .offsets
                .release(|| self.index_slot(names::OFFSET_INDEX));
            index.times.release(|| self.index_slot(names::TIME_INDEX));
        }
    }

    fn index_slot(&self, suffix: &'static str) -> Arc<Slot> {
        let (place, own) = (self.place.clone(), self.names.clone());
        Arc::new(Slot::new(place, own, self.base_offset, suffix))
    }

    /// Cuts off the batch that holds `offset` and all behind it. Answers where the segment ends then: behind the last
    /// batch that is left, for that is what the file says after a restart.
    pub(crate) fn truncate(&self, offset: Offset) -> Result<Offset, LogError> {
        self.load_index()?;
        self.load_aborted()?;
        let found = self.find(offset)?;
        let position = found.map_or_else(|| self.len(), |found| found.position);
        // A segment that was closed knows its end only as the beginning of the next one.
        let end = found.map_or(offset, |found| found.base_offset);
        self.file.set_unflushed(true);
        let file = self.file()?;
        {
            let mut space = self.space.lock();
            let len = u64::from(position);
            file.set_len(len).context("cut", &self.log_path())?;
            *space = Space {
                end: len,
                prepared: len,
                reserved: 0,
                sealed: false,
            };
        }
        let mut state = self.state.lock();
        state.len = position;
        state.recent.retain(|recent| recent.position < position);
        let index = state.index.get_or_insert_default();
        let keep = index
            .offsets
            .keep_while(|entry| entry.position < position)?;
        self.cut_file(names::OFFSET_INDEX, keep * OffsetEntry::SIZE)?;
        let base = self.base_offset;
        let keep = index
            .times
            .keep_while(|entry| base + i64::from(entry.offset) < end)?;
        self.cut_file(names::TIME_INDEX, keep * TimeEntry::SIZE)?;
        if let Some(aborted) = &mut state.aborted {
            aborted.retain(|aborted| aborted.last_offset < end);
            self.cut_file(names::TXN_INDEX, aborted.len() * AbortedTransaction::SIZE)?;
        }
        drop(state);
        self.refresh_from_index(&*file)?;
        Ok(self.next_offset())
    }

    /// Shortens an index file to `len`, durably, if it exists and is longer. If the entries came back after a crash, they
    /// would point into batches that were written since.
    fn cut_file(&self, suffix: &str, len: usize) -> Result<(), LogError> {
        let path = self.path(suffix);
        match self.open(&path, Access::Write) {
            Ok(file) if file.len().context("read", &path)? > len as u64 => {
                file.set_len(len as u64).context("cut", &path)?;
                file.sync_all().context("sync", &path)
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
        let path = self.log_path();
        let last_offset = index.offsets.last()?;
        let last_time = index.times.last()?;
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
        while let Scanned::Batch(_, header) = scanner.next_header().context("read", &path)? {
            if header.max_timestamp > max.0 {
                max = (header.max_timestamp, header.last_offset());
            }
            next_offset = header.next_offset();
        }
        state.max_timestamp = Some(max);
        state.next_offset = next_offset;
        Ok(())
    }
}

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
            // Older formats are not written any more.
            magic: 2,
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
