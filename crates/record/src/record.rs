use std::borrow::Cow;

use bytes::Bytes;
use tidelog_types::{Offset, Timestamp};

use crate::varint::take_varint;
use crate::varint::take_varlong;
use crate::{BatchHeader, RecordError, TimestampType};

/// One record, sharing the bytes of its batch (or of what was decompressed), not copied.
///
/// A small record that is kept for long keeps the whole of that alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The place of the record in its partition.
    pub offset: Offset,
    /// When the record was made, or appended, as the batch's timestamp type says.
    pub timestamp: Timestamp,
    /// What compaction and partitioning go by.
    pub key: Option<Bytes>,
    /// The content; null is a tombstone for compaction.
    pub value: Option<Bytes>,
    /// Further pairs, in their order; a key may come twice (KIP-82).
    pub headers: Vec<RecordHeader>,
}

/// A header of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The key. Text, if the producer kept to the rules; brokers do not look.
    pub key: Bytes,
    /// The value.
    pub value: Option<Bytes>,
}

impl Record {
    /// The value of the last header of this key.
    pub fn header(&self, key: &str) -> Option<&Bytes> {
        let mut headers = self.headers.iter().rev();
        let header = headers.find(|header| header.key == key.as_bytes());
        header.and_then(|header| header.value.as_ref())
    }
}

impl RecordHeader {
    /// The key as text, with what is not UTF-8 replaced.
    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// One record, borrowed from wherever its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// No bit of it has a meaning yet; 0.
    pub attributes: i8,
    /// The place of the record in its partition.
    pub offset: Offset,
    /// The offset less the base offset of the batch, or less that of the first record of a wrapper
    /// message.
    pub offset_delta: i32,
    /// When the record was made, or appended, as the batch's timestamp type says.
    pub timestamp: Timestamp,
    /// When the record was made, also where the time of the append counts.
    pub create_timestamp: Timestamp,
    /// What compaction and partitioning go by.
    pub key: Option<&'a [u8]>,
    /// The content; null is a tombstone for compaction.
    pub value: Option<&'a [u8]>,
    /// Further pairs.
    pub headers: Headers<'a>,
}

impl RecordRef<'_> {
    /// This record, sharing the bytes it lies in.
    #[inline(always)]
    pub(crate) fn shared(&self, bytes: &Bytes) -> Record {
        let share = |part: &[u8]| bytes.slice_ref(part);
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(share),
            value: self.value.map(share),
            headers: if self.headers.is_empty() {
                Vec::new()
            } else {
                self.headers.shared(bytes)
            },
        }
    }
}

/// A header of a [`RecordRef`], or of a record to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    /// The key, which should be UTF-8.
    pub key: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a [`RecordRef`], already checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub const fn len(self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// One after another.
    pub fn iter(self) -> impl Iterator<Item = HeaderRef<'a>> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| take_header(&mut rest).ok())
    }

    fn shared(self, bytes: &Bytes) -> Vec<RecordHeader> {
        let share = |part: &[u8]| bytes.slice_ref(part);
        let shared = self.iter().map(|header| RecordHeader {
            key: share(header.key),
            value: header.value.map(share),
        });
        shared.collect()
    }

    /// The headers as they stand in the record, after their count.
    pub(crate) const fn encoded(self) -> &'a [u8] {
        self.bytes
    }
}

/// What the header of a batch adds to each of its records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    offset: i64,
    timestamp: i64,
    append_time: Option<Timestamp>,
}

impl Base {
    pub(crate) fn of(header: &BatchHeader) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Self {
            offset: header.base_offset.value(),
            timestamp: header.base_timestamp.as_millis(),
            append_time,
        }
    }

    /// Reads the body of a record: everything after its length.
    #[inline(always)]
    pub(crate) fn read<'a>(&self, body: &'a [u8]) -> Result<RecordRef<'a>, RecordError> {
        let (&attributes, mut rest) = body.split_first().ok_or(RecordError::Truncated)?;
        let timestamp_delta = take_varlong(&mut rest)?;
        let offset_delta = take_varint(&mut rest)?;
        let key = take_bytes(&mut rest)?;
        let value = take_bytes(&mut rest)?;
        let headers = take_headers(&mut rest)?;
        // Wrapping: the sums of a hostile batch are nonsense, but not a panic.
        let create_timestamp = Timestamp::from_millis(self.timestamp.wrapping_add(timestamp_delta));
        Ok(RecordRef {
            attributes: attributes.cast_signed(),
            offset: Offset::new(self.offset.wrapping_add(i64::from(offset_delta))),
            offset_delta,
            timestamp: self.append_time.unwrap_or(create_timestamp),
            create_timestamp,
            key,
            value,
            headers,
        })
    }
}

/// The length of the body that follows, checked against what is there.
#[inline]
pub(crate) fn take_body<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], RecordError> {
    let length = take_varint(rest)?;
    take_slice(rest, length)
}

/// A negative length is null, whichever it is.
#[inline]
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    let length = take_varint(rest)?;
    if length < 0 {
        Ok(None)
    } else {
        take_slice(rest, length).map(Some)
    }
}

#[inline]
pub(crate) fn take_slice<'a>(rest: &mut &'a [u8], length: i32) -> Result<&'a [u8], RecordError> {
    let wrong = RecordError::Length {
        length,
        available: rest.len(),
    };
    let len = usize::try_from(length).map_err(|_| wrong)?;
    let (slice, after) = rest.split_at_checked(len).ok_or(wrong)?;
    *rest = after;
    Ok(slice)
}

/// The headers go to the end of the record, neither further nor less far.
#[inline]
fn take_headers<'a>(rest: &mut &'a [u8]) -> Result<Headers<'a>, RecordError> {
    let count = take_varint(rest)?;
    let bytes = *rest;
    if count != 0 {
        check_headers(rest, count)?;
    }
    if !rest.is_empty() {
        return Err(RecordError::BytesLeftOver { extra: rest.len() });
    }
    Ok(Headers {
        count: count as usize,
        bytes,
    })
}

fn check_headers(rest: &mut &[u8], count: i32) -> Result<(), RecordError> {
    let wrong = RecordError::HeaderCount { count };
    // A header takes two bytes at least.
    if usize::try_from(count).map_err(|_| wrong)? > rest.len() / 2 {
        return Err(wrong);
    }
    for _ in 0..count {
        take_header(rest)?;
    }
    Ok(())
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<HeaderRef<'a>, RecordError> {
    let key = take_bytes(rest)?.ok_or(RecordError::HeaderKey)?;
    let value = take_bytes(rest)?;
    Ok(HeaderRef { key, value })
}
