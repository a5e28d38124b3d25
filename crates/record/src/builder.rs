use bytes::Bytes;
use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::compression::{Framing, compress};
use crate::crc::crc32c;
use crate::header::{CRC_AT, CRC_FROM, HEADER_LEN, LENGTH_END};
use crate::varint::{uvarlong_len, write_uvarlong, zigzag32, zigzag64};
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
    buffer: Vec<u8>,
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
            buffer: vec![0; HEADER_LEN],
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
        self.buffer.reserve(bytes);
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
        for header in headers {
            for part in [Some(header.key), header.value] {
                let len = nullable_len(part);
                put_numbers(&mut self.buffer, |room| write_uvarlong(room, 0, len));
                self.buffer.extend_from_slice(part.unwrap_or_default());
            }
        }
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
        self.buffer.extend_from_slice(encoded);
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

        let body_len = 1
            + number_size(zigzag64(timestamp_delta))
            + number_size(zigzag32(offset_delta).into())
            + nullable_size(key)
            + nullable_size(value)
            + number_size(zigzag32(headers_count as i32).into())
            + headers_len;
        let out = &mut self.buffer;
        // Once for all the pieces.
        out.reserve(body_len + 3 * NUMBERS_LEN);
        let value_len = nullable_len(value);
        put_numbers(out, |room| {
            let mut at = write_uvarlong(room, 0, zigzag32(body_len as i32).into());
            // The attributes.
            room[at] = 0;
            at = write_uvarlong(room, at + 1, zigzag64(timestamp_delta));
            at = write_uvarlong(room, at, zigzag32(offset_delta).into());
            at = write_uvarlong(room, at, nullable_len(key));
            match key {
                Some(_) => at,
                None => write_uvarlong(room, at, value_len),
            }
        });
        if let Some(key) = key {
            out.extend_from_slice(key);
            put_numbers(out, |room| write_uvarlong(room, 0, value_len));
        }
        out.extend_from_slice(value.unwrap_or_default());
        match headers_count {
            0 => out.push(0),
            _ => put_numbers(out, |room| {
                write_uvarlong(room, 0, zigzag32(headers_count as i32).into())
            }),
        }
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
        self.buffer.len()
    }

    /// Has the batch reach up to `last_offset`, if the records do not reach so far.
    pub(crate) fn extend_to(&mut self, last_offset: Offset) {
        let delta = (last_offset - self.header.base_offset) as i32;
        self.header.last_offset_delta = self.header.last_offset_delta.max(delta);
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
        check_size(self.buffer.len())?;
        let mut bytes = self.buffer;
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

    /// The same records as another incarnation of the producer sends them, or with other sequence numbers: what a producer sends
    /// again after its epoch was raised (KIP-360).
    ///
    /// ```
    /// use tidelog_record::{BatchBuilder, Codec};
    /// use tidelog_types::{ProducerEpoch, ProducerId, Timestamp};
    ///
    /// # fn main() -> Result<(), tidelog_record::BatchError> {
    /// let builder = BatchBuilder::new(Codec::Lz4.into());
    /// let mut builder = builder.producer(ProducerId::new(7), ProducerEpoch::new(0), 40);
    /// builder.push(Timestamp::from_millis(1), None, Some(b"value"), &[]);
    /// let sent = builder.build()?;
    /// let again = sent.with_producer(ProducerId::new(7), ProducerEpoch::new(1), 0);
    /// again.verify_crc()?;
    /// assert_eq!(again.header().producer_epoch, ProducerEpoch::new(1));
    /// assert_eq!((again.header().base_sequence, again.payload()), (0, sent.payload()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_producer(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_sequence: i32,
    ) -> Self {
        let header = BatchHeader {
            producer_id,
            producer_epoch,
            base_sequence,
            ..*self.header()
        };
        seal(header, self.bytes().to_vec())
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

/// Room for the numbers between two pieces of a record: at most a byte, a varlong and four varints.
const NUMBERS_LEN: usize = 32;

/// Lets numbers be written at the end of a buffer.
///
/// They go with plain stores into a few zeros that are put there for them, and of which the rest is
/// cut off after: appending them one by one takes twice as long.
#[inline(always)]
fn put_numbers(out: &mut Vec<u8>, write: impl FnOnce(&mut [u8; NUMBERS_LEN]) -> usize) {
    let start = out.len();
    out.extend_from_slice(&[0; NUMBERS_LEN]);
    if let Some(room) = out[start..].first_chunk_mut() {
        let len = write(room);
        out.truncate(start + len);
    }
}

/// The length of bytes as it is written; null has -1.
#[inline(always)]
fn nullable_len(bytes: Option<&[u8]>) -> u64 {
    zigzag32(bytes.map_or(-1, |bytes| bytes.len() as i32)).into()
}

/// How much a record's length and bytes take, or null.
#[inline(always)]
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| {
        number_size(zigzag32(bytes.len() as i32).into()) + bytes.len()
    })
}

/// How much a number takes. Most are small.
#[inline(always)]
fn number_size(value: u64) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => uvarlong_len(value),
    }
}
