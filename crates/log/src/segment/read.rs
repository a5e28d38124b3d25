//! Looking things up in a segment.

use tidelog_record::BatchHeader;
use tidelog_types::{Offset, Timestamp};

use super::{Found, Index, Segment};
use crate::error::{Context, LogError};
use crate::index::{Entries, Entry};
use crate::scan::{HEADERS_CHUNK, Scanned, Scanner};
use crate::transactions::AbortedTransaction;

impl Segment {
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
                        magic: header.magic,
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
            |entries| entries.last_while(|entry| entry.offset <= wanted),
        )?;
        Ok(entry.map_or(0, |entry| entry.position))
    }

    /// Searches an index: in memory under the lock, on disk outside of it.
    fn search<E: Entry, T>(
        &self,
        entries: impl Fn(&Index) -> &Entries<E>,
        search: impl Fn(&Entries<E>) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let on_disk = {
            let state = self.state.lock();
            match state.index.as_ref().map(entries) {
                Some(Entries::Disk { file, count }) => Entries::Disk {
                    file: file.clone(),
                    count: *count,
                },
                Some(memory) => return search(memory),
                None => Entries::default(),
            }
        };
        search(&on_disk)
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
        let last = self.search(|index| &index.times, Entries::last)?;
        let max = last.map_or((Timestamp::NONE, Offset::NONE), |entry| {
            let offset = self.base_offset + i64::from(entry.offset);
            (Timestamp::from_millis(entry.timestamp), offset)
        });
        self.state.lock().max_timestamp = Some(max);
        Ok(max)
    }

    /// The largest timestamp, if it can be told without reading.
    pub(crate) fn known_max_timestamp(&self) -> Option<Timestamp> {
        self.state
            .lock()
            .max_timestamp
            .map(|(timestamp, _)| timestamp)
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
