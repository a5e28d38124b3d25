use bytes::Bytes;
use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::compression::{Framing, compress};
use crate::crc::crc32c;
use crate::header::{CRC_AT, CRC_FROM, HEADER_LEN, LENGTH_END};
use crate::varint::{
    VARINT_LEN_MAX, VARLONG_LEN_MAX, varint_len, write_uvarlong, zigzag32, zigzag64,
};
use crate::{
    Attributes, Batch, BatchError, BatchHeader, Codec, Compression, HeaderRef, RecordRef,
    TimestampType,
};

/// Builds a batch: records are encoded in place into one growing buffer, behind a space for the
/// header.
///
/// ```
/// use tidelog_record::{BatchBuilder, Codec};
/// use tidelog_types::Timestamp;
///
/// # fn main() -> Result<(), tidelog_record::BatchError> {
/// let mut builder = BatchBuilder::new(Codec::Lz4.into());
/// builder.push(Timestamp::from_millis(1_700_000_000_000), Some(b"key"), Some(b"value"), &[]);
/// let batch = builder.build()?;
/// assert_eq!(batch.header().records_count, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// [`HEADER_LEN`] bytes to be filled in, then the records, not yet compressed.
    buffer: Buffer,
    header: BatchHeader,
    compression: Compression,
    /// The delta of the next record to be pushed.
    next_offset_delta: i32,
}

impl BatchBuilder {
    /// A builder of a batch that neither belongs to a producer id nor has a place in a log: what a
    /// plain producer sends.
    pub fn new(compression: Compression) -> Self {
        Self {
            buffer: Buffer {
                bytes: vec![0; HEADER_LEN],
                len: HEADER_LEN,
            },
            header: BatchHeader {
                base_offset: Offset::ZERO,
                batch_length: 0,
                partition_leader_epoch: LeaderEpoch::NONE,
                magic: 2,
                crc: 0,
                attributes: Attributes::default().with_codec(compression.codec()),
                last_offset_delta: 0,
                base_timestamp: Timestamp::NONE,
                max_timestamp: Timestamp::NONE,
                producer_id: ProducerId::NONE,
                producer_epoch: ProducerEpoch::NONE,
                base_sequence: -1,
                records_count: 0,
            },
            compression,
            next_offset_delta: 0,
        }
    }

    /// With room for `bytes` of records, so that the buffer need not grow.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.buffer.room(bytes);
        self
    }

    /// The offset of the first record.
    #[must_use]
    pub const fn base_offset(mut self, base_offset: Offset) -> Self {
        self.header.base_offset = base_offset;
        self
    }

    /// The leader that appends the batch.
    #[must_use]
    pub const fn partition_leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.header.partition_leader_epoch = leader_epoch;
        self
    }

    /// Who writes the batch, and the sequence number of its first record (KIP-98).
    #[must_use]
    pub const fn producer(
        mut self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_sequence: i32,
    ) -> Self {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn transactional(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(on);
        self
    }

    /// Whether the records are control records.
    #[must_use]
    pub const fn control(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_control(on);
        self
    }

    /// The time of the append, which then is the time of all records.
    #[must_use]
    pub const fn log_append_time(mut self, now: Timestamp) -> Self {
        self.header.attributes = self
            .header
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = now;
        self
    }

    /// Until when compaction keeps tombstones and markers (KIP-534).
    #[must_use]
    pub const fn delete_horizon(mut self, horizon: Timestamp) -> Self {
        self.header.attributes = self.header.attributes.with_delete_horizon(true);
        self.header.base_timestamp = horizon;
        self
    }

    /// Adds a record behind the last one.
    #[inline]
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) {
        let headers_len = headers
            .iter()
            .map(|header| nullable_size(Some(header.key)) + nullable_size(header.value))
            .sum();
        let offset_delta = self.next_offset_delta;
        self.put_record(
            offset_delta,
            timestamp,
            key,
            value,
            headers.len(),
            headers_len,
        );
        if !headers.is_empty() {
            self.put_headers(headers, headers_len);
        }
    }

    fn put_headers(&mut self, headers: &[HeaderRef<'_>], headers_len: usize) {
        let out = self.buffer.room(headers_len);
        let mut at = 0;
        for header in headers {
            at = write_nullable(out, at, Some(header.key));
            at = write_nullable(out, at, header.value);
        }
        self.buffer.len += at;
    }

    /// Adds a record of another batch, with its offset, its time of creation and its headers.
    ///
    /// # Panics
    /// If the offset does not lie behind the last one, or 2^31 or more behind the base offset.
    pub fn push_record(&mut self, record: &RecordRef<'_>) {
        let delta = record
            .offset
            .value()
            .wrapping_sub(self.header.base_offset.value());
        let offset_delta = i32::try_from(delta).expect("an offset within reach of the base offset");
        assert!(
            offset_delta >= self.next_offset_delta,
            "offsets grow within a batch"
        );
        let headers = record.headers;
        let encoded = headers.encoded();
        self.put_record(
            offset_delta,
            record.create_timestamp,
            record.key,
            record.value,
            headers.len(),
            encoded.len(),
        );
        self.buffer.room(encoded.len()).copy_from_slice(encoded);
        self.buffer.len += encoded.len();
    }

    /// Whether a record of a stored batch, which may be damaged, can be pushed.
    fn check_follows(&self, record: &RecordRef<'_>) -> Result<(), BatchError> {
        if record.offset_delta < self.next_offset_delta {
            return Err(BatchError::InvalidOffsets {
                base_offset: self.header.base_offset.value(),
                last_offset_delta: record.offset_delta,
            });
        }
        Ok(())
    }

    /// Everything of a record but its headers, for which it leaves room.
    #[inline(always)]
    fn put_record(
        &mut self,
        offset_delta: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_count: usize,
        headers_len: usize,
    ) {
        let header = &mut self.header;
        if header.records_count == 0 && !header.attributes.has_delete_horizon() {
            header.base_timestamp = timestamp;
        }
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp = header.max_timestamp.max(timestamp);
        }
        header.last_offset_delta = offset_delta;
        header.records_count += 1;
        self.next_offset_delta = offset_delta + 1;
        let timestamp_delta = timestamp
            .as_millis()
            .wrapping_sub(header.base_timestamp.as_millis());

        // The length comes first but is known last. Its own length is guessed, and the record moved
        // if that was wrong.
        let (key_len, value_len) = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
        let contents_len = key_len + value_len + headers_len;
        let guess = varint_len((contents_len + 6) as i32);
        let out = self.buffer.room(contents_len + NUMBERS_LEN_MAX);
        // The attributes.
        out[guess] = 0;
        let mut at = write_uvarlong(out, guess + 1, zigzag64(timestamp_delta));
        at = write_uvarlong(out, at, zigzag32(offset_delta).into());
        at = write_nullable(out, at, key);
        at = write_nullable(out, at, value);
        at = write_uvarlong(out, at, zigzag32(headers_count as i32).into());
        let body_len = at - guess;
        let length = (body_len + headers_len) as i32;
        let length_len = varint_len(length);
        if length_len != guess {
            out.copy_within(guess..at, length_len);
        }
        write_uvarlong(out, 0, zigzag32(length).into());
        self.buffer.len += length_len + body_len;
    }

    /// How many records there are.
    pub const fn records_count(&self) -> i32 {
        self.header.records_count
    }

    /// Whether there are no records.
    pub const fn is_empty(&self) -> bool {
        self.header.records_count == 0
    }

    /// The size of the batch so far, were it not compressed.
    pub const fn size(&self) -> usize {
        self.buffer.len
    }

    /// Compresses the records, fills in the header and seals it with the CRC.
    ///
    /// Fails if there are no records, if the batch is larger than 2 GiB, or if the codec is not
    /// there.
    pub fn build(self) -> Result<Batch, BatchError> {
        if self.is_empty() {
            return Err(BatchError::InvalidCount { records_count: 0 });
        }
        // Beyond this the lengths and counts in the buffer may have wrapped around.
        check_size(self.buffer.len)?;
        let mut bytes = self.buffer.bytes;
        bytes.truncate(self.buffer.len);
        if self.compression.codec() != Codec::None {
            let records = std::mem::replace(&mut bytes, vec![0; HEADER_LEN]);
            compress(
                self.compression,
                Framing::Standard,
                &records[HEADER_LEN..],
                &mut bytes,
            )?;
            check_size(bytes.len())?;
        }
        Ok(seal(self.header, bytes))
    }
}

impl Batch {
    /// What compaction keeps of this batch when all its records are gone: the offsets, the time,
    /// and the producer's last sequence number.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let header = self.header();
        let attributes = header
            .attributes
            .with_codec(Codec::None)
            .with_delete_horizon(false);
        let emptied = BatchHeader {
            attributes,
            base_timestamp: Timestamp::NONE,
            records_count: 0,
            ..*header
        };
        seal(emptied, vec![0; HEADER_LEN])
    }

    /// What compaction keeps of this batch when some of its records go, or when its delete horizon is set (KIP-534): the
    /// records for which `keep` answers true, with their offsets and timestamps, compressed as before. First and last
    /// offset, producer and sequence stay, also those of records that are gone.
    ///
    /// Fails if nothing is kept; [`emptied`](Self::emptied) is for that.
    pub fn retain(
        &self,
        delete_horizon: Option<Timestamp>,
        mut keep: impl FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let header = self.header();
        let compression = Compression::from(header.attributes.codec()?);
        let mut builder = BatchBuilder::new(compression).capacity(self.size());
        builder.header = BatchHeader {
            attributes: header.attributes.with_delete_horizon(false),
            base_timestamp: Timestamp::NONE,
            records_count: 0,
            ..*header
        };
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            builder.header.max_timestamp = Timestamp::NONE;
        }
        if let Some(horizon) = delete_horizon {
            builder = builder.delete_horizon(horizon);
        }
        let mut walk = self.walk()?;
        while let Some(record) = walk.next_record()? {
            if keep(&record) {
                builder.check_follows(&record)?;
                builder.push_record(&record);
            }
        }
        builder.header.last_offset_delta = header.last_offset_delta;
        builder.build()
    }
}

/// The batch that consists of `header` and what stands behind its space in `bytes`.
fn seal(mut header: BatchHeader, mut bytes: Vec<u8>) -> Batch {
    header.batch_length = (bytes.len() - LENGTH_END) as i32;
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    header.crc = crc32c(&bytes[CRC_FROM..]);
    bytes[CRC_AT..CRC_FROM].copy_from_slice(&header.crc.to_be_bytes());
    Batch::from_parts(header, Bytes::from(bytes))
}

pub(crate) fn check_size(size: usize) -> Result<(), BatchError> {
    if i32::try_from(size).is_err() {
        return Err(BatchError::TooLarge { size });
    }
    Ok(())
}

/// What the attributes and numbers of a record take at most: a byte, a varlong and five varints.
const NUMBERS_LEN_MAX: usize = 1 + VARLONG_LEN_MAX + 5 * VARINT_LEN_MAX;

/// A growing buffer that is initialized ahead of what was written, so that a record goes in with
/// plain stores: appending its small pieces to a `Vec` one by one takes twice as long.
#[derive(Clone, Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// How much was written.
    len: usize,
}

impl Buffer {
    /// The next `len` bytes to be written.
    #[inline(always)]
    fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if end > self.bytes.len() {
            self.grow(end);
        }
        &mut self.bytes[self.len..end]
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        self.bytes.resize(end.max(2 * self.bytes.len()), 0);
    }
}

/// Writes length and bytes, or null, at `at` and gives where they end.
#[inline(always)]
fn write_nullable(out: &mut [u8], at: usize, bytes: Option<&[u8]>) -> usize {
    let Some(bytes) = bytes else {
        return write_uvarlong(out, at, zigzag32(-1).into());
    };
    let at = write_uvarlong(out, at, zigzag32(bytes.len() as i32).into());
    let end = at + bytes.len();
    out[at..end].copy_from_slice(bytes);
    end
}

/// How much [`write_nullable`] writes.
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_len(bytes.len() as i32) + bytes.len())
}
