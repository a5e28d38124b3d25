//! The two sparse indexes of a segment: by offset and by time.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::dir::File;
use crate::error::{Context, LogError};
use crate::files::Slot;

/// An entry of the offset index: a batch and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// The last offset of the batch, counted from the base offset of the segment.
    pub offset: u32,
    /// Where the batch begins in the segment.
    pub position: u32,
}

/// An entry of the time index: the largest timestamp up to here and the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub timestamp: i64,
    /// The last offset of the batch with that timestamp, counted from the base offset of the segment.
    pub offset: u32,
}

/// What both kinds of entry have in common: a fixed size, and both numbers rise.
pub(crate) trait Entry: Copy {
    const SIZE: usize;
    fn decode(bytes: &[u8]) -> Self;
    fn encode(self, out: &mut Vec<u8>);
    fn follows(self, other: Self) -> bool;
    fn is_zero(self) -> bool;
}

impl Entry for OffsetEntry {
    const SIZE: usize = 8;

    fn decode(bytes: &[u8]) -> Self {
        Self {
            offset: u32_at(bytes, 0),
            position: u32_at(bytes, 4),
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn follows(self, other: Self) -> bool {
        self.offset > other.offset && self.position > other.position
    }

    fn is_zero(self) -> bool {
        self.offset == 0 && self.position == 0
    }
}

impl Entry for TimeEntry {
    const SIZE: usize = 12;

    fn decode(bytes: &[u8]) -> Self {
        let high = i64::from(u32_at(bytes, 0).cast_signed());
        Self {
            timestamp: (high << 32) | i64::from(u32_at(bytes, 4)),
            offset: u32_at(bytes, 8),
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn follows(self, other: Self) -> bool {
        self.timestamp > other.timestamp && self.offset >= other.offset
    }

    fn is_zero(self) -> bool {
        self.timestamp == 0 && self.offset == 0
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The entries of one index, in memory or on disk.
#[derive(Debug)]
pub(crate) enum Entries<E> {
    /// All entries, of which the first `saved` are in the file already.
    Memory { entries: Vec<E>, saved: usize },
    /// The file, and how many entries it has.
    Disk { file: Arc<Slot>, count: usize },
}

impl<E> Default for Entries<E> {
    fn default() -> Self {
        Self::Memory {
            entries: Vec::new(),
            saved: 0,
        }
    }
}

impl<E: Entry> Entries<E> {
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Memory { entries, .. } => entries.len(),
            Self::Disk { count, .. } => *count,
        }
    }

    pub(crate) fn entry(&self, i: usize) -> Result<E, LogError> {
        match self {
            Self::Memory { entries, .. } => Ok(entries[i]),
            Self::Disk { file, .. } => read_entry(&*file.file()?, i).context("read", &file.path()),
        }
    }

    pub(crate) fn last(&self) -> Result<Option<E>, LogError> {
        self.len().checked_sub(1).map(|i| self.entry(i)).transpose()
    }

    /// How many entries satisfy `holds`, given that they stand in front of those that do not.
    pub(crate) fn count_while(&self, holds: impl Fn(E) -> bool) -> Result<usize, LogError> {
        match self {
            Self::Memory { entries, .. } => Ok(entries.partition_point(|entry| holds(*entry))),
            Self::Disk { file, count } => {
                let open = file.file()?;
                let (mut low, mut high) = (0, *count);
                while low < high {
                    let middle = low + (high - low) / 2;
                    if holds(read_entry(&*open, middle).context("read", &file.path())?) {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                Ok(low)
            }
        }
    }

    /// The last entry that satisfies `holds`.
    pub(crate) fn last_while(&self, holds: impl Fn(E) -> bool) -> Result<Option<E>, LogError> {
        self.count_while(holds)?
            .checked_sub(1)
            .map(|i| self.entry(i))
            .transpose()
    }

    /// Adds an entry; the index must be in memory, as that of an active segment is.
    pub(crate) fn push(&mut self, entry: E) {
        if let Self::Memory { entries, .. } = self {
            debug_assert!(entries.last().is_none_or(|last| entry.follows(*last)));
            entries.push(entry);
        }
    }

    /// Keeps the first entries, as far as they satisfy `holds`, in memory. Answers how many that are.
    pub(crate) fn keep_while(&mut self, holds: impl Fn(E) -> bool) -> Result<usize, LogError> {
        self.load()?;
        let keep = self.count_while(holds)?;
        if let Self::Memory { entries, saved } = self {
            entries.truncate(keep);
            *saved = (*saved).min(keep);
        }
        Ok(keep)
    }

    /// Brings all entries into memory.
    pub(crate) fn load(&mut self) -> Result<(), LogError> {
        if let Self::Disk { file, count } = self {
            let entries = read_entries(&*file.file()?, *count).context("read", &file.path())?;
            *self = Self::Memory {
                saved: entries.len(),
                entries,
            };
        }
        Ok(())
    }

    /// Leaves the entries to the file, if it has them all.
    pub(crate) fn release(&mut self, file: impl FnOnce() -> Arc<Slot>) {
        if let Self::Memory { entries, saved } = self
            && *saved == entries.len()
        {
            *self = Self::Disk {
                count: entries.len(),
                file: file(),
            };
        }
    }

    /// What the file lacks, and at which position it belongs.
    pub(crate) fn unsaved(&self) -> Option<(u64, Vec<u8>)> {
        let Self::Memory { entries, saved } = self else {
            return None;
        };
        if *saved == entries.len() {
            return None;
        }
        let mut bytes = Vec::with_capacity((entries.len() - saved) * E::SIZE);
        for entry in &entries[*saved..] {
            entry.encode(&mut bytes);
        }
        Some(((saved * E::SIZE) as u64, bytes))
    }

    /// Notes that the file has the first `count` entries.
    pub(crate) const fn saved(&mut self, count: usize) {
        if let Self::Memory { saved, .. } = self {
            *saved = count;
        }
    }
}

fn read_entry<E: Entry>(file: &dyn File, i: usize) -> io::Result<E> {
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..E::SIZE];
    file.read_exact_at(bytes, (i * E::SIZE) as u64)?;
    Ok(E::decode(bytes))
}

fn read_entries<E: Entry>(file: &dyn File, count: usize) -> io::Result<Vec<E>> {
    let mut bytes = vec![0; count * E::SIZE];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes.chunks_exact(E::SIZE).map(E::decode).collect())
}

/// Looks through an index file. `None` if there is none, or if it cannot be the index of a segment: an entry does not
/// follow the one in front of it, or lies beyond what `is_within` allows. Zero bytes at the end are none of the entries, a
/// broker that was killed leaves them.
pub(crate) fn open_entries<E: Entry>(
    slot: Arc<Slot>,
    is_within: impl Fn(E) -> bool,
) -> Result<Option<Entries<E>>, LogError> {
    let file = match slot.file() {
        Ok(file) => file,
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let len = file.len().context("read", &slot.path())?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len % E::SIZE != 0 {
        return Ok(None);
    }
    let entries = read_entries::<E>(&*file, len / E::SIZE).context("read", &slot.path())?;
    let zeros = entries
        .iter()
        .rev()
        .take_while(|entry| entry.is_zero())
        .count();
    let entries = &entries[..entries.len() - zeros];
    let rises = entries.windows(2).all(|pair| pair[1].follows(pair[0]));
    let sane = rises && entries.iter().all(|entry| is_within(*entry));
    Ok(sane.then_some(Entries::Disk {
        file: slot,
        count: entries.len(),
    }))
}

/// Writes `bytes` of an index at `position`, and cuts the file behind them.
pub(crate) fn write_entries(file: &dyn File, position: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(&mut [IoSlice::new(bytes)], position)?;
    let end = position + bytes.len() as u64;
    if file.len()? != end {
        file.set_len(end)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tidelog_types::Offset;

    use super::*;
    use crate::files::Place;
    use crate::names;
    use crate::testing::FaultDir;

    fn slot(bytes: &[u8]) -> Arc<Slot> {
        let dir = FaultDir::new();
        dir.put(names::of_segment(Offset::ZERO, names::OFFSET_INDEX), bytes);
        let place = Place {
            dir: Arc::new(dir),
            path: PathBuf::new(),
        };
        Arc::new(Slot::new(
            Arc::new(place),
            Arc::default(),
            Offset::ZERO,
            names::OFFSET_INDEX,
        ))
    }

    fn bytes(entries: &[(u32, u32)]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(offset, position) in entries {
            OffsetEntry { offset, position }.encode(&mut out);
        }
        out
    }

    fn open(bytes: &[u8]) -> Option<Entries<OffsetEntry>> {
        open_entries(slot(bytes), |entry: OffsetEntry| entry.position < 1000).unwrap()
    }

    #[test]
    fn an_index_is_searched_on_disk_and_in_memory() {
        let mut index = open(&bytes(&[(3, 100), (7, 200), (20, 300)])).unwrap();
        for _ in 0..2 {
            let floor = |offset| index.last_while(|entry| entry.offset <= offset).unwrap();
            assert_eq!(floor(2), None);
            assert_eq!(floor(7).unwrap().position, 200);
            assert_eq!(floor(19).unwrap().position, 200);
            assert_eq!(floor(99).unwrap().position, 300);
            index.load().unwrap();
        }
    }

    #[test]
    fn what_cannot_be_an_index_is_refused() {
        assert!(
            open(&bytes(&[(3, 100), (3, 200)])).is_none(),
            "offsets must rise"
        );
        assert!(
            open(&bytes(&[(3, 200), (4, 100)])).is_none(),
            "positions must rise"
        );
        assert!(
            open(&bytes(&[(3, 100), (0, 0), (9, 300)])).is_none(),
            "a hole"
        );
        assert!(open(&bytes(&[(3, 1000)])).is_none(), "beyond the segment");
        assert!(open(&[0; 9]).is_none(), "not a whole number of entries");
    }

    #[test]
    fn zeros_at_the_end_are_no_entries() {
        let index = open(&bytes(&[(3, 100), (0, 0), (0, 0)])).unwrap();
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn only_what_is_new_is_saved() {
        let mut index = Entries::default();
        index.push(TimeEntry {
            timestamp: 5,
            offset: 1,
        });
        let (position, bytes) = index.unsaved().unwrap();
        assert_eq!((position, bytes.len()), (0, 12));
        index.saved(1);
        assert!(index.unsaved().is_none());
        index.push(TimeEntry {
            timestamp: 1 << 40,
            offset: 2,
        });
        let (position, bytes) = index.unsaved().unwrap();
        assert_eq!(position, 12);
        assert_eq!(
            TimeEntry::decode(&bytes),
            TimeEntry {
                timestamp: 1 << 40,
                offset: 2
            }
        );
    }
}
