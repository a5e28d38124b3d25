use bytes::Bytes;
use tidelog_types::{Offset, Timestamp};

use super::batch::{CRC_AT, CRC_FROM, LegacyMagic};
use crate::builder::check_size;
use crate::compression::compress;
use crate::crc::crc32;
use crate::header::LENGTH_END;
use crate::{Attributes, BatchError, Codec, Compression, TimestampType};

/// Builds a record set of message format v0 or v1: a row of messages, or a wrapper with all of
/// them.
///
/// See [the module](super) for an example.
#[derive(Clone, Debug)]
pub struct LegacyBuilder {
    magic: LegacyMagic,
    compression: Compression,
    log_append_time: Option<Timestamp>,
    base_offset: i64,
    next_offset: i64,
    max_timestamp: Timestamp,
    records_count: i32,
    /// The messages, one behind another.
    messages: Vec<u8>,
}

impl LegacyBuilder {
    /// A builder of records that begin at offset 0. Fails for zstd, which these formats do not have
    /// (KIP-110).
    pub fn new(magic: LegacyMagic, compression: Compression) -> Result<Self, BatchError> {
        if compression.codec() == Codec::Zstd {
            return Err(BatchError::CodecNotInFormat {
                codec: Codec::Zstd,
                magic: magic.id(),
            });
        }
        Ok(Self {
            magic,
            compression,
            log_append_time: None,
            base_offset: 0,
            next_offset: 0,
            max_timestamp: Timestamp::NONE,
            records_count: 0,
            messages: Vec::new(),
        })
    }

    /// The offset of the first record.
    #[must_use]
    pub const fn base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset.value();
        self.next_offset = base_offset.value();
        self
    }

    /// The time of the append, which then is the time of all records. v0 has no times.
    #[must_use]
    pub const fn log_append_time(mut self, now: Timestamp) -> Self {
        self.log_append_time = Some(now);
        self
    }

    /// Adds a record behind the last one. v0 has no room for the timestamp.
    pub fn push(&mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.put(self.next_offset, timestamp, key, value);
    }

    /// Adds a record with an offset of its own. Fails if that does not lie behind the last one, or
    /// is negative.
    pub fn push_at(
        &mut self,
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), BatchError> {
        let offset = offset.value();
        if offset < self.next_offset.max(0) {
            return Err(BatchError::UnorderedOffsets {
                previous: self.next_offset.saturating_sub(1),
                offset,
            });
        }
        self.put(offset, timestamp, key, value);
        Ok(())
    }

    fn put(&mut self, offset: i64, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) {
        if self.records_count == 0 {
            self.base_offset = offset;
        }
        let wrapped = self.compression.codec() != Codec::None;
        // In a wrapper, the records keep the time when they were made.
        let timestamp = match self.log_append_time {
            Some(now) if !wrapped => now,
            _ => timestamp,
        };
        let written_offset = match self.magic {
            LegacyMagic::V1 if wrapped => offset - self.base_offset,
            _ => offset,
        };
        let attributes = self.attributes(Codec::None);
        let out = &mut self.messages;
        let start = start_message(out, self.magic, written_offset, attributes, timestamp);
        put_nullable(out, key);
        put_nullable(out, value);
        end_message(out, start);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.next_offset = offset.saturating_add(1);
        self.records_count = self.records_count.saturating_add(1);
    }

    const fn attributes(&self, codec: Codec) -> Attributes {
        let attributes = Attributes::from_bits(0).with_codec(codec);
        match (self.magic, self.log_append_time) {
            (LegacyMagic::V1, Some(_)) => {
                attributes.with_timestamp_type(TimestampType::LogAppendTime)
            }
            _ => attributes,
        }
    }

    /// How many records there are.
    pub const fn records_count(&self) -> i32 {
        self.records_count
    }

    /// The size of the record set so far, were it not compressed.
    pub const fn size(&self) -> usize {
        self.messages.len()
    }

    /// Compresses the messages into a wrapper, if so asked, and gives the record set.
    ///
    /// Fails if there are no records, if they are larger than 2 GiB, or if the codec is not there.
    pub fn build(self) -> Result<Bytes, BatchError> {
        if self.records_count == 0 {
            return Err(BatchError::InvalidCount { records_count: 0 });
        }
        // Beyond this the sizes in the buffer may have wrapped around.
        check_size(self.messages.len())?;
        let codec = self.compression.codec();
        if codec == Codec::None {
            return Ok(self.messages.into());
        }
        let mut out = Vec::new();
        let offset = self.next_offset - 1;
        let timestamp = self.log_append_time.unwrap_or(self.max_timestamp);
        let attributes = self.attributes(codec);
        let start = start_message(&mut out, self.magic, offset, attributes, timestamp);
        put_nullable(&mut out, None);
        let size_at = out.len();
        out.extend_from_slice(&[0; 4]);
        compress(
            self.compression,
            self.magic.framing(),
            &self.messages,
            &mut out,
        )?;
        check_size(out.len())?;
        let size = (out.len() - size_at - 4) as i32;
        out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
        end_message(&mut out, start);
        Ok(out.into())
    }
}

/// Writes what stands in front of the key, with room for size and CRC, and says where it begins.
fn start_message(
    out: &mut Vec<u8>,
    magic: LegacyMagic,
    offset: i64,
    attributes: Attributes,
    timestamp: Timestamp,
) -> usize {
    let start = out.len();
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&[0; CRC_FROM - 8]);
    out.push(magic.id().cast_unsigned());
    out.push(attributes.bits() as u8);
    if magic == LegacyMagic::V1 {
        out.extend_from_slice(&timestamp.as_millis().to_be_bytes());
    }
    start
}

/// Fills in size and CRC of the message that begins at `start` and ends where `out` does.
fn end_message(out: &mut [u8], start: usize) {
    let message = &mut out[start..];
    let size = (message.len() - LENGTH_END) as i32;
    message[8..LENGTH_END].copy_from_slice(&size.to_be_bytes());
    let crc = crc32(&message[CRC_FROM..]);
    message[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(-1, |bytes| bytes.len() as i32);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}
