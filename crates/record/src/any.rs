use bytes::Bytes;
use tidelog_types::{LeaderEpoch, Offset, Timestamp};

use crate::header::MAGIC_AT;
use crate::legacy::{LegacyBatch, LegacyHeader, LegacyRecords, LegacyWalk};
use crate::{
    Batch, BatchError, BatchHeader, HEADER_LEN, Limits, Record, RecordRef, Records, TimestampType,
    Walk,
};

/// The header of a batch of any message format, which stands at the same place in all of them.
///
/// What a log needs to go from batch to batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyHeader {
    /// Message format v0 or v1.
    Legacy(LegacyHeader),
    /// Message format v2.
    V2(BatchHeader),
}

impl AnyHeader {
    /// How many bytes are needed to read the header of any format. Near the end of a log fewer may
    /// do.
    pub const LEN_MAX: usize = HEADER_LEN;

    /// Reads the header at the front of `bytes`, which may go on behind it.
    ///
    /// Checks the magic and the length field, and that the whole header is there; not the CRC.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        match bytes.get(MAGIC_AT) {
            Some(0 | 1) => LegacyHeader::decode(bytes).map(Self::Legacy),
            _ => BatchHeader::decode(bytes).map(Self::V2),
        }
    }

    /// The message format: 0, 1 or 2.
    pub const fn magic(&self) -> i8 {
        match self {
            Self::Legacy(header) => header.magic.id(),
            Self::V2(header) => header.magic,
        }
    }

    /// The bytes of the whole batch, header included.
    pub const fn size(&self) -> usize {
        match self {
            Self::Legacy(header) => header.size(),
            Self::V2(header) => header.size(),
        }
    }

    /// The smallest offset that a record of the batch can have, as far as the header says. Of
    /// formats v0 and v1 it says the last one only: `None`.
    pub const fn base_offset(&self) -> Option<Offset> {
        match self {
            Self::Legacy(_) => None,
            Self::V2(header) => Some(header.base_offset),
        }
    }

    /// The offset of the last record.
    pub const fn last_offset(&self) -> Offset {
        match self {
            Self::Legacy(header) => header.last_offset(),
            Self::V2(header) => header.last_offset(),
        }
    }

    /// The offset that follows the batch.
    pub const fn next_offset(&self) -> Offset {
        match self {
            Self::Legacy(header) => header.next_offset(),
            Self::V2(header) => header.next_offset(),
        }
    }

    /// The largest timestamp of the records; [`Timestamp::NONE`] in v0.
    pub const fn max_timestamp(&self) -> Timestamp {
        match self {
            Self::Legacy(header) => header.timestamp,
            Self::V2(header) => header.max_timestamp,
        }
    }

    /// Whose clock the timestamps are from; v0 has none.
    pub const fn timestamp_type(&self) -> Option<TimestampType> {
        match self {
            Self::Legacy(header) => header.timestamp_type(),
            Self::V2(header) => Some(header.attributes.timestamp_type()),
        }
    }

    /// The leader that appended the batch; [`LeaderEpoch::NONE`] before v2.
    pub const fn partition_leader_epoch(&self) -> LeaderEpoch {
        match self {
            Self::Legacy(_) => LeaderEpoch::NONE,
            Self::V2(header) => header.partition_leader_epoch,
        }
    }

    /// Checks the CRC over `batch`, the bytes of the whole batch.
    pub fn verify_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        match self {
            Self::Legacy(header) => header.verify_crc(batch),
            Self::V2(header) => header.verify_crc(batch),
        }
    }
}

/// A batch of any message format: what record sets and old logs consist of.
///
/// ```
/// use tidelog_record::legacy::{LegacyBuilder, LegacyMagic};
/// use tidelog_record::{AnyBatch, BatchBuilder, Compression};
/// use tidelog_types::{Offset, Timestamp};
///
/// # fn main() -> Result<(), tidelog_record::BatchError> {
/// let mut old = LegacyBuilder::new(LegacyMagic::V0, Compression::NONE)?;
/// old.push(Timestamp::NONE, None, Some(b"old"));
/// let mut new = BatchBuilder::new(Compression::NONE).base_offset(Offset::new(1));
/// new.push(Timestamp::NONE, None, Some(b"new"), &[]);
/// let mut log = [old.build()?, new.build()?.bytes().clone()].concat().into();
///
/// let mut values = Vec::new();
/// while let Some(batch) = AnyBatch::split_from(&mut log)? {
///     for record in batch.records()? {
///         values.push(record?.value.expect("a value"));
///     }
/// }
/// assert_eq!(values, ["old", "new"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyBatch {
    /// Message format v0 or v1.
    Legacy(LegacyBatch),
    /// Message format v2.
    V2(Batch),
}

impl AnyBatch {
    /// Takes `bytes` as exactly one batch.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        match bytes.get(MAGIC_AT) {
            Some(0 | 1) => LegacyBatch::parse(bytes).map(Self::Legacy),
            _ => Batch::parse(bytes).map(Self::V2),
        }
    }

    /// Takes the next batch off the front of `bytes`; `None` if there is no whole one left.
    ///
    /// See [`Batch::split_from`].
    pub fn split_from(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        Ok(match bytes.get(MAGIC_AT) {
            Some(0 | 1) => LegacyBatch::split_from(bytes)?.map(Self::Legacy),
            _ => Batch::split_from(bytes)?.map(Self::V2),
        })
    }

    /// The header.
    pub const fn header(&self) -> AnyHeader {
        match self {
            Self::Legacy(batch) => AnyHeader::Legacy(*batch.header()),
            Self::V2(batch) => AnyHeader::V2(*batch.header()),
        }
    }

    /// The bytes of the batch, header included.
    pub const fn bytes(&self) -> &Bytes {
        match self {
            Self::Legacy(batch) => batch.bytes(),
            Self::V2(batch) => batch.bytes(),
        }
    }

    /// Checks the CRC over the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        self.header().verify_crc(self.bytes())
    }

    /// The records, one after another, decompressed as they are asked for.
    pub fn records(&self) -> Result<AnyRecords, BatchError> {
        self.records_within(Limits::DEFAULT)
    }

    /// [`records`](Self::records) with other limits.
    pub fn records_within(&self, limits: Limits) -> Result<AnyRecords, BatchError> {
        match self {
            Self::Legacy(batch) => batch.records_within(limits).map(AnyRecords::Legacy),
            Self::V2(batch) => batch.records_within(limits).map(AnyRecords::V2),
        }
    }

    /// The records, borrowed one at a time.
    pub fn walk(&self) -> Result<AnyWalk<'_>, BatchError> {
        self.walk_within(Limits::DEFAULT)
    }

    /// [`walk`](Self::walk) with other limits.
    pub fn walk_within(&self, limits: Limits) -> Result<AnyWalk<'_>, BatchError> {
        match self {
            Self::Legacy(batch) => batch.walk_within(limits).map(AnyWalk::Legacy),
            Self::V2(batch) => batch.walk_within(limits).map(AnyWalk::V2),
        }
    }
}

/// The records of an [`AnyBatch`]. Ends after the first error.
pub enum AnyRecords {
    /// Message format v0 or v1.
    Legacy(LegacyRecords),
    /// Message format v2.
    V2(Records),
}

impl Iterator for AnyRecords {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Legacy(records) => records.next(),
            Self::V2(records) => records.next(),
        }
    }
}

/// The records of an [`AnyBatch`], borrowed one at a time. Ends after the first error.
pub enum AnyWalk<'a> {
    /// Message format v0 or v1.
    Legacy(LegacyWalk),
    /// Message format v2.
    V2(Walk<'a>),
}

impl AnyWalk<'_> {
    /// The next record, or `None` after the last one.
    pub fn next_record(&mut self) -> Result<Option<RecordRef<'_>>, BatchError> {
        match self {
            Self::Legacy(walk) => walk.next_record(),
            Self::V2(walk) => walk.next_record(),
        }
    }
}
