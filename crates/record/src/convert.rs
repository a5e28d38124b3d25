use bytes::Bytes;
use tidelog_types::{Offset, Timestamp};

use crate::legacy::{LegacyBatch, LegacyBuilder, LegacyMagic};
use crate::{AnyBatch, Batch, BatchBuilder, BatchError, Codec, Compression, Limits, TimestampType};

/// The size at which a row of single messages is cut into batches: what producers send by default.
const ROW_BYTES: usize = 16 * 1024;

/// The batches of a record set, those of message formats v0 and v1 converted to v2.
///
/// - Batches of v2 stay as they are; a batch that the record set cuts off at its end is left out.
/// - A wrapper becomes one batch of the same codec. Messages that stand alone are put together into
///   batches of 16 KiB, as far as their timestamps allow: with LogAppendTime, a batch has only one.
/// - Offsets, keys, values and timestamps stay. Records of v0 have no timestamp
///   ([`Timestamp::NONE`]). What the older formats do not have is empty: headers, producer, leader
///   epoch. Nothing is lost but the key of a wrapper, which has no meaning.
///
/// `limits` hold for each wrapper. CRCs are checked.
///
/// ```
/// use tidelog_record::legacy::{LegacyBuilder, LegacyMagic};
/// use tidelog_record::{Compression, Limits, upconvert};
/// use tidelog_types::{Offset, Timestamp};
///
/// # fn main() -> Result<(), tidelog_record::BatchError> {
/// let mut old = LegacyBuilder::new(LegacyMagic::V1, Compression::NONE)?
///     .base_offset(Offset::new(7));
/// old.push(Timestamp::from_millis(1), None, Some(b"a"));
/// old.push(Timestamp::from_millis(2), None, Some(b"b"));
/// let batches = upconvert(old.build()?, Limits::DEFAULT)?;
/// assert_eq!(batches.len(), 1);
/// assert_eq!(batches[0].header().base_offset, Offset::new(7));
/// assert_eq!(batches[0].header().records_count, 2);
/// # Ok(())
/// # }
/// ```
pub fn upconvert(mut record_set: Bytes, limits: Limits) -> Result<Vec<Batch>, BatchError> {
    let mut batches = Vec::new();
    let mut row: Option<Row> = None;
    while let Some(batch) = AnyBatch::split_from(&mut record_set)? {
        batch.verify_crc()?;
        let joined = match (&mut row, &batch) {
            (Some(row), AnyBatch::Legacy(message)) => row.takes(message)?,
            _ => false,
        };
        if joined {
            continue;
        }
        if let Some(row) = row.take() {
            batches.push(row.builder.build()?);
        }
        match batch {
            AnyBatch::V2(batch) => batches.push(batch),
            AnyBatch::Legacy(message) => {
                let begun = Row::begin(&message, limits)?;
                if message.header().codec()? == Codec::None {
                    row = Some(begun);
                } else {
                    batches.push(begun.builder.build()?);
                }
            }
        }
    }
    if let Some(row) = row {
        batches.push(row.builder.build()?);
    }
    Ok(batches)
}

/// A batch of v2 that is made of messages of v0 and v1.
struct Row {
    builder: BatchBuilder,
    append_time: Option<Timestamp>,
    base_offset: i64,
    last_offset: i64,
}

impl Row {
    /// A batch with the records of a message.
    fn begin(message: &LegacyBatch, limits: Limits) -> Result<Self, BatchError> {
        let header = message.header();
        let mut walk = message.walk_within(limits)?;
        let mut row = Self {
            builder: BatchBuilder::new(header.codec()?.into()),
            append_time: append_time(message),
            base_offset: 0,
            last_offset: -1,
        };
        if let Some(now) = row.append_time {
            row.builder = row.builder.log_append_time(now);
        }
        while let Some(record) = walk.next_record()? {
            let offset = record.offset.value();
            if row.builder.is_empty() {
                row.builder = row.builder.base_offset(record.offset);
                row.base_offset = offset;
            }
            if !row.reaches(offset) {
                return Err(BatchError::UnorderedOffsets {
                    previous: row.last_offset,
                    offset,
                });
            }
            row.builder.push_record(&record);
            row.last_offset = offset;
        }
        // The offset of a wrapper is that of its last record, also if that is gone: a reader who went on behind the last one
        // that is left would find the same batch again.
        let offset = header.offset.value();
        if offset - row.base_offset < i64::from(i32::MAX) {
            row.builder.extend_to(header.offset);
        }
        Ok(row)
    }

    /// Adds a message that stands alone, if it fits.
    fn takes(&mut self, message: &LegacyBatch) -> Result<bool, BatchError> {
        let header = message.header();
        let fits = header.codec()? == Codec::None
            && append_time(message) == self.append_time
            && self.builder.size() + message.size() <= ROW_BYTES
            && self.reaches(header.offset.value());
        if fits {
            let mut walk = message.walk()?;
            if let Some(record) = walk.next_record()? {
                self.builder.push_record(&record);
                self.last_offset = header.offset.value();
            }
        }
        Ok(fits)
    }

    /// Whether a record of this offset can be the next one.
    fn reaches(&self, offset: i64) -> bool {
        offset > self.last_offset && offset - self.base_offset < i64::from(i32::MAX)
    }
}

fn append_time(message: &LegacyBatch) -> Option<Timestamp> {
    let header = message.header();
    (header.timestamp_type() == Some(TimestampType::LogAppendTime)).then_some(header.timestamp)
}

/// The record set in message format v0 or v1, for clients that read no later one (KIP-31, KIP-32).
///
/// - Batches of `magic` or an older format stay as they are; a batch that the record set cuts off
///   at its end is left out.
/// - A compressed batch becomes a wrapper of the same codec, with all its records. Zstd fails: no
///   older format has it.
/// - Of a batch that is not compressed, the records below `first_offset` are left out: each record
///   becomes a message of its own, and some clients rely on the first being what they asked for.
/// - Control batches are left out, and so are batches that compaction has emptied.
///
/// Offsets, keys and values stay. Lost are the headers of records, producer id, epoch and sequence
/// numbers, whether a batch is transactional, its leader epoch and delete horizon; in v0 the
/// timestamps too, and, where the time of the append counts, the time when a record was made.
///
/// ```
/// use tidelog_record::legacy::LegacyMagic;
/// use tidelog_record::{AnyBatch, BatchBuilder, Codec, Limits, downconvert};
/// use tidelog_types::{Offset, Timestamp};
///
/// # fn main() -> Result<(), tidelog_record::BatchError> {
/// let mut builder = BatchBuilder::new(Codec::Gzip.into());
/// builder.push(Timestamp::from_millis(1), None, Some(b"a"), &[]);
/// let record_set = builder.build()?.bytes().clone();
/// let mut old = downconvert(record_set, LegacyMagic::V1, Offset::ZERO, Limits::DEFAULT)?;
/// let wrapper = AnyBatch::split_from(&mut old)?.expect("a whole message");
/// assert_eq!(wrapper.header().magic(), 1);
/// # Ok(())
/// # }
/// ```
pub fn downconvert(
    mut record_set: Bytes,
    magic: LegacyMagic,
    first_offset: Offset,
    limits: Limits,
) -> Result<Bytes, BatchError> {
    let mut converted = Vec::with_capacity(record_set.len());
    while let Some(batch) = AnyBatch::split_from(&mut record_set)? {
        let (codec, append_time) = match &batch {
            AnyBatch::Legacy(message) => (message.header().codec()?, append_time(message)),
            AnyBatch::V2(batch) if batch.header().attributes.is_control() => continue,
            AnyBatch::V2(batch) => {
                let header = batch.header();
                let append_time =
                    header.attributes.timestamp_type() == TimestampType::LogAppendTime;
                let append_time = append_time.then_some(header.max_timestamp);
                (header.attributes.codec()?, append_time)
            }
        };
        if batch.header().magic() <= magic.id() {
            converted.extend_from_slice(batch.bytes());
            continue;
        }
        let mut builder = LegacyBuilder::new(magic, Compression::new(codec))?;
        if let Some(now) = append_time {
            builder = builder.log_append_time(now);
        }
        let mut walk = batch.walk_within(limits)?;
        while let Some(record) = walk.next_record()? {
            if codec != Codec::None || record.offset >= first_offset {
                builder.push_at(record.offset, record.timestamp, record.key, record.value)?;
            }
        }
        if builder.records_count() > 0 {
            converted.extend_from_slice(&builder.build()?);
        }
    }
    Ok(converted.into())
}
