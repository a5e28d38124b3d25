use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tidelog_record::{AnyBatch, AnyHeader, Batch, BatchError, Limits, upconvert};
use tidelog_types::{LeaderEpoch, Offset, Timestamp};

use crate::dir::File;
use crate::error::{Context, LogError};
use crate::log::Shared;
use crate::scan::{HEADERS_CHUNK, Scanned, Scanner, WHOLE_CHUNK};
use crate::segment::Segment;
use crate::transactions::AbortedTransaction;

/// Reads a log beside its writer, and never waits for it. Cheap to clone.
///
/// What may be read is the caller's to say, by `until`: the high watermark for a consumer, the last stable offset for one
/// that reads committed records only, the end of the log for a follower. The log is never read beyond its end.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// A part of a log as [`LogReader::read`] found it.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The bytes, still in their file: whole batches from the one on that holds the offset asked for, of which the last
    /// may be cut off by the size that was asked for.
    pub data: FileSlice,
    /// The first offset of the first batch, which may lie before the offset asked for; that offset itself if there is
    /// nothing to read.
    pub base_offset: Offset,
    /// The base offset of the segment that holds the bytes.
    pub segment_base_offset: Offset,
    /// The segments of that moment, and which of them holds the bytes.
    source: Option<(Arc<Vec<Arc<Segment>>>, usize)>,
    until: Offset,
    is_old_format: bool,
}

impl Slice {
    /// Whether there is nothing to read.
    pub const fn is_empty(&self) -> bool {
        self.data.len == 0
    }

    /// How many bytes there are.
    pub const fn len(&self) -> usize {
        self.data.len as usize
    }

    /// Whether the first batch is of message format 0 or 1. Consumers are given
    /// [`read_converted`](Self::read_converted) then.
    pub const fn is_old_format(&self) -> bool {
        self.is_old_format
    }

    /// All whole batches, those of message formats 0 and 1 converted to format 2 (KIP-724).
    pub fn read_converted(&self) -> Result<Bytes, LogError> {
        let stored = self.data.read_all();
        match &self.source {
            Some((segments, i)) => converted(stored.context("read", &segments[*i].log_path())?),
            None => Ok(Bytes::new()),
        }
    }
}

fn converted(stored: Bytes) -> Result<Bytes, LogError> {
    let end = end_of_whole(&stored);
    let batches = upconvert(stored, Limits::DEFAULT)?;
    if let Some(last) = batches.last()
        && last.header().next_offset() > end
    {
        // The log goes by the offset of the wrapper, so a reader would miss what follows.
        return Err(LogError::Batch(BatchError::InvalidWrapperOffset {
            offset: end.value() - 1,
            last: last.header().last_offset().value(),
        }));
    }
    match &batches[..] {
        [only] => Ok(only.bytes().clone()),
        batches => Ok(batches
            .iter()
            .flat_map(|batch| batch.bytes())
            .copied()
            .collect()),
    }
}

/// The offset behind the last batch that is whole.
fn end_of_whole(mut stored: &[u8]) -> Offset {
    let mut end = Offset::ZERO;
    while let Ok(header) = AnyHeader::decode(stored)
        && header.size() <= stored.len()
    {
        end = header.next_offset();
        stored = &stored[header.size()..];
    }
    end
}

/// Whether a batch of message format 0 or 1 begins here.
fn begins_in_old_format(bytes: &[u8]) -> bool {
    matches!(AnyHeader::decode(bytes), Ok(AnyHeader::Legacy(_)))
}

/// Bytes in a file, which stay readable even if the file is deleted meanwhile.
#[derive(Clone, Debug)]
pub struct FileSlice {
    file: Option<Arc<dyn File>>,
    position: u64,
    len: u32,
}

impl FileSlice {
    const EMPTY: Self = Self {
        file: None,
        position: 0,
        len: 0,
    };

    /// How many bytes there are.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the bytes begin in the file, for `sendfile`.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The descriptor of the file, for `sendfile`; `None` if the file is not one of the system, or there is nothing.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref()?.as_fd()
    }

    /// Fills `buf` with the bytes from `at` on, counted from the beginning of the slice.
    pub fn read_at(&self, buf: &mut [u8], at: usize) -> io::Result<()> {
        match &self.file {
            Some(file) if at + buf.len() <= self.len() => {
                file.read_exact_at(buf, self.position + at as u64)
            }
            _ if buf.is_empty() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// All bytes.
    pub fn read_all(&self) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(self.len());
        self.read_at(&mut bytes, 0)?;
        Ok(bytes.freeze())
    }
}

/// A record that was found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The timestamp of the record.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl LogReader {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> Offset {
        self.shared.log_end()
    }

    /// How often the end of the log, or all of it, was cut off. Who reads without the owner's lock, and finds that this has changed
    /// meanwhile, may have read what came later at the same offsets.
    pub fn truncations(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Where an epoch ends, see [`LeaderEpochs::end_offset_for`](crate::LeaderEpochs::end_offset_for).
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let end = self.log_end_offset();
        self.shared.epochs.read().end_offset_for(epoch, end)
    }

    /// The newest leader epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.epochs.read().latest().map(|entry| entry.epoch)
    }

    /// The leader epoch of the record at `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.epochs.read().epoch_at(offset)
    }

    /// Up to `max_bytes` of the batches from the one on that holds `from`, which is below `until`.
    ///
    /// Nothing is read but headers, and of the newest batches not even those. If the first batch is larger than
    /// `max_bytes`, it comes as a whole with `at_least_one_batch` (KIP-74), else nothing comes.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        until: Offset,
        at_least_one_batch: bool,
    ) -> Result<Slice, LogError> {
        if from == self.log_end_offset() && from >= self.log_start_offset() {
            // Those who wait at the end wake nothing.
            return Ok(Slice {
                data: FileSlice::EMPTY,
                base_offset: from,
                segment_base_offset: self.shared.last_segment_base_offset(),
                source: None,
                is_old_format: false,
                until,
            });
        }
        self.with_segments(|segments, end| {
            if from < self.log_start_offset() || from > end {
                return Err(self.out_of_range(from));
            }
            let until = until.min(end);
            read(segments, from, max_bytes, until, at_least_one_batch)
        })
    }

    /// Runs `read` on the segments and the end of the log. A segment that was deleted or replaced meanwhile and is not open
    /// cannot be read any more; then everything is done once more with the segments that there are now.
    fn with_segments<T>(
        &self,
        read: impl Fn(&Arc<Vec<Arc<Segment>>>, Offset) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let attempt = || {
            // The end first: the list of segments is then at least as new.
            let end = self.log_end_offset();
            let segments = self.shared.segments()?;
            read(&segments, end)
        };
        match attempt() {
            Err(error) if is_not_found(&error) => {
                // The names change hands at this very moment, and the new list comes when that is done.
                drop(self.shared.aside.lock());
                attempt()
            }
            result => result,
        }
    }

    fn out_of_range(&self, offset: Offset) -> LogError {
        LogError::OutOfRange {
            offset,
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
        }
    }

    /// How many bytes lie between two offsets, at most: cheap, for deciding whether a fetch has to wait.
    pub fn bytes_available(&self, from: Offset, until: Offset) -> u64 {
        let until = until.min(self.log_end_offset());
        if from >= until {
            return 0;
        }
        let Ok(segments) = self.shared.segments() else {
            // To be found out by who reads.
            return u64::MAX;
        };
        let first = floor(&segments, from);
        let touched = segments[first..]
            .iter()
            .take_while(|segment| segment.base_offset() < until);
        touched
            .map(|segment| segment.bytes_between(from, until))
            .sum()
    }

    /// From where on about `bytes` bytes lie before `until`, or the log start.
    pub(crate) fn start_of_bytes_before(&self, until: Offset, bytes: u64) -> Offset {
        let (mut low, mut high) = (self.log_start_offset().value(), until.value());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.bytes_available(Offset::new(middle), until) <= bytes {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Offset::new(high)
    }

    /// Whether `from` lies in an older segment than `until` does: then a fetch does not wait for more.
    pub fn is_in_older_segment(&self, from: Offset, until: Offset) -> bool {
        let last = self.shared.last_segment_base_offset();
        from < last
            && self
                .shared
                .segments()
                .is_ok_and(|segments| floor(&segments, from) < floor(&segments, until))
    }

    /// The aborted transactions that touch what `slice` holds, by first offset: what a consumer of committed records
    /// needs to leave out aborted ones (KIP-98).
    pub fn aborted_transactions(
        &self,
        from: Offset,
        slice: &Slice,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        let Some((segments, i)) = &slice.source else {
            return Ok(Vec::new());
        };
        let end = slice.data.position + u64::from(slice.data.len);
        let until = match segments[*i].offset_bound(end as u32) {
            // It was replaced meanwhile; a bound that is too far does no harm.
            Err(error) if is_not_found(&error) => segments[*i].next_offset(),
            bound => bound?,
        };
        let until = until.min(slice.until);
        // The segments of now may have been compacted, and not know of aborted records any more that the slice has.
        aborted_between(segments, from, until)
    }

    /// The aborted transactions that touch the offsets from `from` up to `until`, by first offset.
    pub fn aborted_between(
        &self,
        from: Offset,
        until: Offset,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        self.with_segments(|segments, _| aborted_between(segments, from, until))
    }

    /// The first record with a timestamp of at least `timestamp`, exact within its batch, if it lies below `until`.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        until: Offset,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        let start = self.log_start_offset();
        self.with_segments(|segments, end| {
            let until = until.min(end);
            for segment in &segments[floor(segments, start)..] {
                if segment.base_offset() >= until {
                    break;
                }
                if segment.len() == 0 || segment.max_timestamp()?.0 < timestamp {
                    continue;
                }
                let from = start.max(segment.base_offset());
                let position = segment.position_for_timestamp(timestamp, from)?;
                let found = find_record(
                    segment,
                    position,
                    from,
                    |batch_max| batch_max >= timestamp,
                    |t| t >= timestamp,
                )?;
                if let Some(found) = found {
                    return Ok(Some(found).filter(|found| found.offset < until));
                }
            }
            Ok(None)
        })
    }

    /// The first record that has the largest timestamp of the log, if it lies below `until`.
    pub fn max_timestamp(&self, until: Offset) -> Result<Option<TimestampAndOffset>, LogError> {
        let start = self.log_start_offset();
        self.with_segments(|segments, _| max_timestamp(segments, start, until))
    }

    /// The batches from the one on that holds `from`, as far as they lie below `until`; for replaying a log. Reads large
    /// pieces. `from` must not lie before the log start.
    pub fn batches(&self, from: Offset, until: Offset) -> Batches {
        Batches {
            reader: self.clone(),
            next: from,
            until,
            bytes: Bytes::new(),
            failed: false,
        }
    }
}

/// An iterator over whole batches, see [`LogReader::batches`]. Those of message formats 0 and 1 come converted to format 2.
///
/// It ends with the first error, unless that is [`LogError::DamagedBatch`]: then it goes on behind the batch.
#[derive(Debug)]
pub struct Batches {
    reader: LogReader,
    next: Offset,
    until: Offset,
    bytes: Bytes,
    failed: bool,
}

impl Iterator for Batches {
    type Item = Result<Batch, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        let goes_on = matches!(next, Err(LogError::DamagedBatch { .. }));
        self.failed = next.is_err() && !goes_on;
        next.transpose()
    }
}

impl Batches {
    fn advance(&mut self) -> Result<Option<Batch>, LogError> {
        loop {
            // Behind batches of format 2 older ones may follow, if the format was set back: these are read again.
            if begins_in_old_format(&self.bytes) {
                self.bytes = Bytes::new();
            }
            if let Some(batch) = Batch::split_from(&mut self.bytes)? {
                let from = std::mem::replace(&mut self.next, batch.header().next_offset());
                return match batch.verify_crc() {
                    Ok(()) => Ok(Some(batch)),
                    Err(error) => Err(self.damaged(from, &batch, error)),
                };
            }
            if self.next >= self.until.min(self.reader.log_end_offset()) {
                return Ok(None);
            }
            let slice = self.reader.read(self.next, WHOLE_CHUNK, self.until, true)?;
            if slice.is_empty() {
                return Ok(None);
            }
            let path = &self.reader.shared.place.path;
            let bytes = slice.data.read_all().context("read", path)?;
            self.bytes = if begins_in_old_format(&bytes) {
                converted(bytes)?
            } else {
                bytes
            };
        }
    }
}

impl Batches {
    /// What comes behind a damaged batch can be read if its offsets are to be believed.
    fn damaged(&self, from: Offset, batch: &Batch, error: BatchError) -> LogError {
        let header = batch.header();
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        match base_offset <= last_offset && (from..self.until).contains(&last_offset) {
            true => LogError::DamagedBatch {
                base_offset,
                last_offset,
                source: error,
            },
            false => error.into(),
        }
    }
}

/// The segment that `offset` lies in, or the first one.
fn floor(segments: &[Arc<Segment>], offset: Offset) -> usize {
    segments
        .partition_point(|segment| segment.base_offset() <= offset)
        .max(1)
        - 1
}

fn is_not_found(error: &LogError) -> bool {
    matches!(error, LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// The aborted transactions that touch the offsets from `from` up to `until`, by first offset.
pub(crate) fn aborted_between(
    segments: &[Arc<Segment>],
    from: Offset,
    until: Offset,
) -> Result<Vec<AbortedTransaction>, LogError> {
    let mut aborted = Vec::new();
    for segment in &segments[floor(segments, from)..] {
        if segment.collect_aborted(from, until, &mut aborted)? {
            break;
        }
    }
    aborted.sort_unstable_by_key(|aborted| aborted.first_offset);
    Ok(aborted)
}

fn read(
    segments: &Arc<Vec<Arc<Segment>>>,
    from: Offset,
    max_bytes: usize,
    until: Offset,
    at_least_one_batch: bool,
) -> Result<Slice, LogError> {
    let first = floor(segments, from);
    let empty = Slice {
        data: FileSlice::EMPTY,
        base_offset: from,
        segment_base_offset: segments[first].base_offset(),
        source: None,
        until,
        is_old_format: false,
    };
    if from >= until {
        return Ok(empty);
    }
    // A segment may end before the next one begins, where compaction has removed batches.
    for (i, segment) in segments.iter().enumerate().skip(first) {
        let Some(found) = segment.find(from.max(segment.base_offset()))? else {
            continue;
        };
        if found.base_offset >= until {
            return Ok(empty);
        }
        let available = (segment.end_position(until)?.saturating_sub(found.position)) as usize;
        let wanted = match found.size as usize {
            size if size <= max_bytes => max_bytes,
            size if at_least_one_batch => size,
            _ => 0,
        };
        let len = available.min(wanted) as u32;
        if len == 0 {
            return Ok(empty);
        }
        let position = u64::from(found.position);
        let is_old_format = found.magic < 2;
        return Ok(Slice {
            data: FileSlice {
                file: Some(segment.file()?),
                position,
                len,
            },
            // Where a wrapper of the old formats begins is not known.
            base_offset: match is_old_format {
                true => found.base_offset.min(from),
                false => found.base_offset,
            },
            segment_base_offset: segment.base_offset(),
            source: Some((segments.clone(), i)),
            until,
            is_old_format,
        });
    }
    Ok(empty)
}

/// See [`LogReader::max_timestamp`].
fn max_timestamp(
    segments: &[Arc<Segment>],
    start: Offset,
    until: Offset,
) -> Result<Option<TimestampAndOffset>, LogError> {
    let mut best: Option<(Timestamp, Offset, &Segment)> = None;
    for segment in &segments[floor(segments, start)..] {
        let (mut timestamp, mut offset) = segment.max_timestamp()?;
        if offset < start || segment.find(offset)?.is_none_or(|f| f.base_offset < start) {
            (timestamp, offset) = max_timestamp_from(segment, start)?;
        }
        if timestamp > best.map_or(Timestamp::NONE, |(best, ..)| best) {
            best = Some((timestamp, offset, segment));
        }
    }
    let Some((timestamp, offset, segment)) = best else {
        return Ok(None);
    };
    let Some(batch) = segment.find(offset)? else {
        return Ok(None);
    };
    let from = start.max(batch.base_offset);
    let is_it = |t: Timestamp| t >= timestamp;
    let found = find_record(segment, batch.position, from, is_it, is_it)?;
    Ok(found.filter(|found| found.offset < until))
}

/// The largest timestamp from `start` on, and the last offset of the batch that has it first. For the segment that the
/// log start offset has cut into, where the index counts too much.
fn max_timestamp_from(segment: &Segment, start: Offset) -> Result<(Timestamp, Offset), LogError> {
    let mut max = (Timestamp::NONE, Offset::NONE);
    let Some(found) = segment.find(start)? else {
        return Ok(max);
    };
    let path = segment.log_path();
    let file = segment.file()?;
    let end = u64::from(segment.len());
    let mut scanner = Scanner::new(&*file, u64::from(found.position), end, HEADERS_CHUNK);
    while let Scanned::Batch(at, header) = scanner.next_header().context("read", &path)? {
        let mut timestamp = header.max_timestamp;
        // Where a wrapper of the old formats begins is not known.
        if header.base_offset < start || header.magic < 2 {
            let batch = read_batch(segment, &*file, at, header.size())?;
            timestamp = Timestamp::NONE;
            let mut records = batch.walk()?;
            while let Some(record) = records.next_record()? {
                if record.offset >= start {
                    timestamp = timestamp.max(record.timestamp);
                }
            }
        }
        if timestamp > max.0 {
            max = (timestamp, header.last_offset());
        }
    }
    Ok(max)
}

fn read_batch(
    segment: &Segment,
    file: &dyn File,
    position: u64,
    size: usize,
) -> Result<AnyBatch, LogError> {
    let mut bytes = BytesMut::zeroed(size);
    file.read_exact_at(&mut bytes, position)
        .context("read", &segment.log_path())?;
    Ok(AnyBatch::parse(bytes.freeze())?)
}

/// The first record from `position` on, in a batch whose largest timestamp satisfies `is_in_batch`, that lies at `from`
/// or behind and whose timestamp satisfies `is_it`.
fn find_record(
    segment: &Segment,
    position: u32,
    from: Offset,
    is_in_batch: impl Fn(Timestamp) -> bool,
    is_it: impl Fn(Timestamp) -> bool,
) -> Result<Option<TimestampAndOffset>, LogError> {
    let path = segment.log_path();
    let file = segment.file()?;
    let end = u64::from(segment.len());
    let mut scanner = Scanner::new(&*file, u64::from(position), end, HEADERS_CHUNK);
    while let Scanned::Batch(at, header) = scanner.next_header().context("read", &path)? {
        if header.last_offset() < from || !is_in_batch(header.max_timestamp) {
            continue;
        }
        let batch = read_batch(segment, &*file, at, header.size())?;
        if let Some((offset, timestamp)) = find_in_batch(&batch, from, &is_it)? {
            let leader_epoch = header.partition_leader_epoch;
            return Ok(Some(TimestampAndOffset {
                timestamp,
                offset,
                leader_epoch,
            }));
        }
    }
    Ok(None)
}

fn find_in_batch(
    batch: &AnyBatch,
    from: Offset,
    is_it: impl Fn(Timestamp) -> bool,
) -> Result<Option<(Offset, Timestamp)>, BatchError> {
    let mut records = batch.walk()?;
    while let Some(record) = records.next_record()? {
        if record.offset >= from && is_it(record.timestamp) {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}
