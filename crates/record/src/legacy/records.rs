use bytes::Bytes;
use tidelog_types::{Offset, Timestamp};

use super::batch::{LegacyBatch, LegacyHeader, LegacyMagic};
use crate::header::LENGTH_END;
use crate::record::{Headers, take_slice};
use crate::unpack::Unpacker;
use crate::{BatchError, Codec, Limits, Record, RecordError, RecordRef, TimestampType};

impl LegacyBatch {
    /// The records, one after another, decompressed as they are asked for.
    pub fn records(&self) -> Result<LegacyRecords, BatchError> {
        self.records_within(Limits::DEFAULT)
    }

    /// [`records`](Self::records) with other limits.
    pub fn records_within(&self, limits: Limits) -> Result<LegacyRecords, BatchError> {
        self.walk_within(limits).map(LegacyRecords)
    }

    /// The records, borrowed one at a time: no allocation and no shared ownership per record.
    ///
    /// What a wrapper of v1 holds is decompressed twice, since the offset of its first record
    /// depends on that of the last: once for that, keeping nothing, and then for the records.
    pub fn walk(&self) -> Result<LegacyWalk, BatchError> {
        self.walk_within(Limits::DEFAULT)
    }

    /// [`walk`](Self::walk) with other limits.
    pub fn walk_within(&self, limits: Limits) -> Result<LegacyWalk, BatchError> {
        let mut context = Context::default();
        let source = match self.header().codec()? {
            Codec::None => Source::Single(self.bytes().clone()),
            codec => {
                let packed = self.wrapped()?;
                context.wrapped = true;
                if self.header().magic == LegacyMagic::V1 {
                    let mut unpacker = self.unpacker(codec, packed.clone(), limits)?;
                    context.base_offset = self.base_of_relative_offsets(&mut unpacker)?;
                }
                if self.header().timestamp_type() == Some(TimestampType::LogAppendTime) {
                    context.append_time = Some(self.header().timestamp);
                }
                Source::Wrapper(self.unpacker(codec, packed, limits)?)
            }
        };
        Ok(LegacyWalk {
            source,
            context,
            index: 0,
            ended: false,
        })
    }

    /// What a wrapper holds, compressed.
    fn wrapped(&self) -> Result<Bytes, BatchError> {
        let wrong = |source| BatchError::Record { index: 0, source };
        let (_, value) = take_key_and_value(self.header(), self.bytes()).map_err(wrong)?;
        let value = value.ok_or(BatchError::EmptyWrapper)?;
        Ok(self.bytes().slice_ref(value))
    }

    fn unpacker(
        &self,
        codec: Codec,
        packed: Bytes,
        limits: Limits,
    ) -> Result<Box<Unpacker>, BatchError> {
        Unpacker::new(codec, self.header().magic.framing(), packed, limits).map(Box::new)
    }

    /// What the relative offsets in a wrapper of v1 count from. The wrapper's own offset is that of
    /// its last record.
    fn base_of_relative_offsets(&self, unpacker: &mut Unpacker) -> Result<i64, BatchError> {
        let offset = self.header().offset.value();
        let mut last = None;
        let mut index = 0;
        while let Some((inner, size)) = next_prefix(unpacker, index)? {
            if !unpacker.skip(LENGTH_END + size)? {
                return Err(cut_off(index, size, unpacker));
            }
            last = Some(inner);
            index += 1;
        }
        match last.ok_or(BatchError::EmptyWrapper)? {
            // Some versions of librdkafka produce wrappers without an offset of their own.
            _ if offset == 0 => Ok(0),
            last if (0..=offset).contains(&last) => Ok(offset - last),
            last => Err(BatchError::InvalidWrapperOffset { offset, last }),
        }
    }
}

/// The records of a [`LegacyBatch`], borrowed one at a time. Ends after the first error.
pub struct LegacyWalk {
    source: Source,
    context: Context,
    index: i32,
    /// Whether the end, or an error, was reached.
    ended: bool,
}

/// Where the messages come from.
enum Source {
    /// There is one, and it lies there.
    Single(Bytes),
    /// They are compressed.
    Wrapper(Box<Unpacker>),
}

impl LegacyWalk {
    /// The next record, or `None` after the last one.
    pub fn next_record(&mut self) -> Result<Option<RecordRef<'_>>, BatchError> {
        let Some((index, len)) = self.step()? else {
            return Ok(None);
        };
        let bytes = match &mut self.source {
            Source::Single(bytes) => &bytes[..],
            Source::Wrapper(unpacker) => unpacker.lend(len),
        };
        let record = self.context.record(index, bytes)?;
        self.ended = false;
        Ok(Some(record))
    }

    /// The next record, sharing the bytes that it lies in.
    fn next_shared(&mut self) -> Result<Option<Record>, BatchError> {
        let Some((index, len)) = self.step()? else {
            return Ok(None);
        };
        let bytes = match &mut self.source {
            Source::Single(bytes) => bytes.clone(),
            Source::Wrapper(unpacker) => unpacker.take(len),
        };
        let record = self.context.record(index, &bytes)?.shared(&bytes);
        self.ended = false;
        Ok(Some(record))
    }

    /// Brings the next message to the front: its index and its length. Leaves `ended` set, for the
    /// caller to take back when the record has turned out well.
    fn step(&mut self) -> Result<Option<(i32, usize)>, BatchError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(None);
        }
        let index = self.index;
        let len = match &mut self.source {
            Source::Single(bytes) if index == 0 => bytes.len(),
            Source::Single(_) => return Ok(None),
            Source::Wrapper(unpacker) => match next_prefix(unpacker, index)? {
                Some((_, size)) => {
                    unpacker.check_record(size)?;
                    if !unpacker.fill_to(LENGTH_END + size)? {
                        return Err(cut_off(index, size, unpacker));
                    }
                    LENGTH_END + size
                }
                None if index == 0 => return Err(BatchError::EmptyWrapper),
                None => return Ok(None),
            },
        };
        self.index = index.saturating_add(1);
        Ok(Some((index, len)))
    }
}

/// The records of a [`LegacyBatch`]. Ends after the first error.
pub struct LegacyRecords(LegacyWalk);

impl Iterator for LegacyRecords {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_shared().transpose()
    }
}

/// Looks at the next message in a wrapper: its offset and the size behind the size field; `None` at
/// the end.
fn next_prefix(unpacker: &mut Unpacker, index: i32) -> Result<Option<(i64, usize)>, BatchError> {
    let wrong = |source| BatchError::Record { index, source };
    if unpacker.is_at_end()? {
        return Ok(None);
    }
    unpacker.fill_to(LENGTH_END)?;
    let window = unpacker.window();
    let (offset, size) = window.split_at_checked(8).unwrap_or_default();
    let (Some(offset), Some(length)) = (offset.first_chunk(), size.first_chunk()) else {
        return Err(wrong(RecordError::Truncated));
    };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(size) if size >= LegacyMagic::V0.message_size_min() => {
            Ok(Some((i64::from_be_bytes(*offset), size)))
        }
        _ => Err(wrong(RecordError::Length {
            length,
            available: window.len() - LENGTH_END,
        })),
    }
}

fn cut_off(index: i32, size: usize, unpacker: &Unpacker) -> BatchError {
    let source = RecordError::Length {
        length: size as i32,
        available: unpacker.window().len(),
    };
    BatchError::Record { index, source }
}

/// What a wrapper adds to each of its records; nothing, for a record by itself.
#[derive(Clone, Copy, Debug, Default)]
struct Context {
    wrapped: bool,
    /// What relative offsets count from.
    base_offset: i64,
    append_time: Option<Timestamp>,
    first_offset: i64,
}

impl Context {
    /// The record in a message. Of a wrapped one the CRC is checked; of another one it is the
    /// batch's.
    fn record<'a>(&mut self, index: i32, bytes: &'a [u8]) -> Result<RecordRef<'a>, BatchError> {
        let wrong = |source| BatchError::Record { index, source };
        let header = LegacyHeader::decode(bytes).map_err(|error| match error {
            BatchError::UnknownMagic { magic } => wrong(RecordError::Magic { magic }),
            _ => wrong(RecordError::Truncated),
        })?;
        if self.wrapped {
            if let Err(BatchError::CrcMismatch { stored, computed }) = header.verify_crc(bytes) {
                return Err(wrong(RecordError::Crc { stored, computed }));
            }
            if header.attributes.codec()? != Codec::None {
                return Err(wrong(RecordError::NestedWrapper));
            }
        }
        let (key, value) = take_key_and_value(&header, bytes).map_err(wrong)?;
        // Wrapping: the sums of a hostile wrapper are nonsense, but not a panic.
        let offset = self.base_offset.wrapping_add(header.offset.value());
        if index == 0 {
            self.first_offset = offset;
        }
        let append_time = match header.magic {
            LegacyMagic::V0 => None,
            LegacyMagic::V1 => self.append_time,
        };
        Ok(RecordRef {
            attributes: 0,
            offset: Offset::new(offset),
            offset_delta: offset.wrapping_sub(self.first_offset) as i32,
            timestamp: append_time.unwrap_or(header.timestamp),
            create_timestamp: header.timestamp,
            key,
            value,
            headers: Headers::default(),
        })
    }
}

type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The key and value of a whole message, which go to its end.
fn take_key_and_value<'a>(
    header: &LegacyHeader,
    message: &'a [u8],
) -> Result<KeyAndValue<'a>, RecordError> {
    let mut rest = message
        .get(header.magic.header_len()..)
        .ok_or(RecordError::Truncated)?;
    let key = take_nullable(&mut rest)?;
    let value = take_nullable(&mut rest)?;
    if !rest.is_empty() {
        return Err(RecordError::BytesLeftOver { extra: rest.len() });
    }
    Ok((key, value))
}

/// A negative length is null, whichever it is.
fn take_nullable<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    let (length, after) = rest.split_first_chunk().ok_or(RecordError::Truncated)?;
    *rest = after;
    match i32::from_be_bytes(*length) {
        ..0 => Ok(None),
        length => take_slice(rest, length).map(Some),
    }
}
