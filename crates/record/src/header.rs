use tidelog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::crc::{check, crc32c};
use crate::{BatchError, Codec};

/// The size of the header of a batch.
pub const HEADER_LEN: usize = 61;
/// The bytes in front of what the length field counts: base offset and the length itself.
pub(crate) const LENGTH_END: usize = 12;
/// Where the magic byte stands, in every message format.
pub(crate) const MAGIC_AT: usize = 16;
/// Where the CRC stands.
pub(crate) const CRC_AT: usize = 17;
/// Where the bytes begin that the CRC covers.
pub(crate) const CRC_FROM: usize = 21;

/// The fixed part of a batch, big endian.
///
/// ```text
///  0  base_offset i64              27  base_timestamp i64
///  8  batch_length i32             35  max_timestamp i64
/// 12  partition_leader_epoch i32   43  producer_id i64
/// 16  magic i8 = 2                 51  producer_epoch i16
/// 17  crc u32, of all that follows 53  base_sequence i32
/// 21  attributes i16               57  records_count i32
/// 23  last_offset_delta i32        61  records
/// ```
///
/// What the leader assigns, base offset and leader epoch, lies in front of the CRC's reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; stays when compaction removes that record.
    pub base_offset: Offset,
    /// The bytes after this field: the size of the batch less 12.
    pub batch_length: i32,
    /// The leader that appended the batch.
    pub partition_leader_epoch: LeaderEpoch,
    /// The message format, 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// The last offset less the base offset; stays when compaction removes that record.
    pub last_offset_delta: i32,
    /// What the timestamps of the records count from; with a delete horizon, that horizon.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records; with LogAppendTime, the time of the append.
    pub max_timestamp: Timestamp,
    /// Who wrote the batch, if it is idempotent or transactional.
    pub producer_id: ProducerId,
    /// The incarnation of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the first record, -1 without.
    pub base_sequence: i32,
    /// How many records there are; 0 is possible after compaction.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may go on behind it.
    ///
    /// Checks the magic and the length field, and that the whole header is there; not the CRC.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic comes first: batches of older formats may be shorter than a header of this one.
        match bytes.get(MAGIC_AT).map(|magic| magic.cast_signed()) {
            None | Some(2) => {}
            Some(magic @ 0..=1) => return Err(BatchError::OldMagic { magic }),
            Some(magic) => return Err(BatchError::UnknownMagic { magic }),
        }
        let truncated = BatchError::Truncated {
            needed: HEADER_LEN,
            available: bytes.len(),
        };
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(truncated)?;
        let header = Self {
            base_offset: Offset::new(i64::from_be_bytes(at(header, 0))),
            batch_length: i32::from_be_bytes(at(header, 8)),
            partition_leader_epoch: LeaderEpoch::new(i32::from_be_bytes(at(header, 12))),
            magic: header[MAGIC_AT].cast_signed(),
            crc: u32::from_be_bytes(at(header, CRC_AT)),
            attributes: Attributes::from_bits(i16::from_be_bytes(at(header, CRC_FROM))),
            last_offset_delta: i32::from_be_bytes(at(header, 23)),
            base_timestamp: Timestamp::from_millis(i64::from_be_bytes(at(header, 27))),
            max_timestamp: Timestamp::from_millis(i64::from_be_bytes(at(header, 35))),
            producer_id: ProducerId::new(i64::from_be_bytes(at(header, 43))),
            producer_epoch: ProducerEpoch::new(i16::from_be_bytes(at(header, 51))),
            base_sequence: i32::from_be_bytes(at(header, 53)),
            records_count: i32::from_be_bytes(at(header, 57)),
        };
        if header.batch_length < (HEADER_LEN - LENGTH_END) as i32 {
            return Err(BatchError::InvalidLength {
                batch_length: header.batch_length,
            });
        }
        Ok(header)
    }

    /// The bytes of the header, with the CRC it carries.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&self.base_offset.value().to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.value().to_be_bytes());
        out[16] = self.magic.cast_unsigned();
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.bits().to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.as_millis().to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.as_millis().to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.value().to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.value().to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..].copy_from_slice(&self.records_count.to_be_bytes());
        out
    }

    /// The bytes of the whole batch, header included.
    pub const fn size(&self) -> usize {
        LENGTH_END + self.batch_length as usize
    }

    /// Checks the CRC over `batch`, the bytes of the whole batch.
    pub fn verify_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let covered = batch.get(CRC_FROM..).unwrap_or_default();
        check(self.crc, crc32c(covered))
    }

    /// The offset of the last record, also if compaction has removed it.
    ///
    /// Meaningful if [`check_offsets`](Self::check_offsets) holds; a hostile header gives some
    /// offset, not a panic.
    pub const fn last_offset(&self) -> Offset {
        Offset::new(
            self.base_offset
                .value()
                .saturating_add(self.last_offset_delta as i64),
        )
    }

    /// The offset that follows the batch.
    pub const fn next_offset(&self) -> Offset {
        Offset::new(self.last_offset().value().saturating_add(1))
    }

    /// The sequence number of the last record: numbers go from `i32::MAX` on to 0. -1 without
    /// sequence.
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        (self.base_sequence as i64 + self.last_offset_delta as i64) as i32 & i32::MAX
    }

    /// Whether the offsets can stand in a log: not negative, not running backwards, not
    /// overflowing, the count not negative nor larger than the range.
    pub const fn check_offsets(&self) -> Result<(), BatchError> {
        let base_offset = self.base_offset.value();
        let last_offset_delta = self.last_offset_delta;
        if base_offset < 0
            || last_offset_delta < 0
            || base_offset >= i64::MAX - last_offset_delta as i64
        {
            return Err(BatchError::InvalidOffsets {
                base_offset,
                last_offset_delta,
            });
        }
        if self.records_count < 0 || self.records_count as i64 > last_offset_delta as i64 + 1 {
            return Err(BatchError::InvalidCount {
                records_count: self.records_count,
            });
        }
        Ok(())
    }

    /// Whether the batch carries a producer id: it is idempotent or transactional.
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id.value() > ProducerId::NONE.value()
    }

    /// Until when compaction keeps the tombstones and markers of the batch, if it has looked at
    /// them once (KIP-534).
    pub const fn delete_horizon(&self) -> Option<Timestamp> {
        if self.attributes.has_delete_horizon() {
            Some(self.base_timestamp)
        } else {
            None
        }
    }
}

/// `N` bytes of a header, from `from` on.
pub(crate) fn at<const N: usize>(header: &[u8], from: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[from..from + N]);
    bytes
}

/// Whose clock the timestamps of a batch are from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer's, one for each record.
    #[default]
    CreateTime,
    /// The leader's, one for the batch: its max timestamp.
    LogAppendTime,
}

/// Codec and flags of a batch: bits 0-2 the codec, 3 timestamp type, 4 transactional, 5 control, 6
/// delete horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes(i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// Wraps the bits of the field.
    pub const fn from_bits(bits: i16) -> Self {
        Self(bits)
    }

    /// The bits of the field, unknown ones included.
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// How the records are compressed. Fails for the ids that are not in use.
    pub fn codec(self) -> Result<Codec, BatchError> {
        Codec::from_id((self.0 & Self::CODEC) as u8)
    }

    /// Whose clock the timestamps are from.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the batch belongs to a transaction (KIP-98).
    pub const fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    /// Whether the batch holds control records, which consumers never see.
    pub const fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// Whether the base timestamp is the delete horizon (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    /// These attributes with another codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Self {
        Self((self.0 & !Self::CODEC) | codec.id() as i16)
    }

    /// These attributes with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(
            Self::LOG_APPEND_TIME,
            matches!(timestamp_type, TimestampType::LogAppendTime),
        )
    }

    /// These attributes, transactional or not.
    #[must_use]
    pub const fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// These attributes, control or not.
    #[must_use]
    pub const fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    /// These attributes, with or without delete horizon.
    #[must_use]
    pub const fn with_delete_horizon(self, on: bool) -> Self {
        self.with(Self::DELETE_HORIZON, on)
    }

    const fn has(self, bit: i16) -> bool {
        self.0 & bit != 0
    }

    const fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset::new(7),
            batch_length: 60,
            partition_leader_epoch: LeaderEpoch::new(3),
            magic: 2,
            crc: 0xdead_beef,
            attributes: Attributes::default()
                .with_codec(Codec::Lz4)
                .with_transactional(true),
            last_offset_delta: 4,
            base_timestamp: Timestamp::from_millis(1000),
            max_timestamp: Timestamp::from_millis(2000),
            producer_id: ProducerId::new(99),
            producer_epoch: ProducerEpoch::new(5),
            base_sequence: i32::MAX - 1,
            records_count: 5,
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = header();
        assert_eq!(BatchHeader::decode(&header.encode()), Ok(header));
        assert_eq!(header.size(), 72);
        assert_eq!(header.last_offset(), Offset::new(11));
        assert_eq!(header.next_offset(), Offset::new(12));
        assert!(header.check_offsets().is_ok());
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!(header().last_sequence(), 2);
        let none = BatchHeader {
            base_sequence: -1,
            ..header()
        };
        assert_eq!(none.last_sequence(), -1);
    }

    #[test]
    fn old_and_unknown_formats_are_told_apart() {
        let mut bytes = header().encode();
        bytes[MAGIC_AT] = 1;
        assert_eq!(
            BatchHeader::decode(&bytes[..30]),
            Err(BatchError::OldMagic { magic: 1 })
        );
        bytes[MAGIC_AT] = 3;
        assert_eq!(
            BatchHeader::decode(&bytes),
            Err(BatchError::UnknownMagic { magic: 3 })
        );
        bytes[MAGIC_AT] = 2;
        let truncated = BatchError::Truncated {
            needed: HEADER_LEN,
            available: 60,
        };
        assert_eq!(BatchHeader::decode(&bytes[..60]), Err(truncated));
        bytes[8..12].copy_from_slice(&48_i32.to_be_bytes());
        let invalid = BatchError::InvalidLength { batch_length: 48 };
        assert_eq!(BatchHeader::decode(&bytes), Err(invalid));
    }

    #[test]
    fn hostile_offsets_do_not_overflow() {
        let hostile = BatchHeader {
            base_offset: Offset::new(i64::MAX - 3),
            ..header()
        };
        assert_eq!(hostile.next_offset(), Offset::new(i64::MAX));
        assert!(hostile.check_offsets().is_err());
        let backwards = BatchHeader {
            last_offset_delta: -1,
            ..header()
        };
        assert!(backwards.check_offsets().is_err());
        let crowded = BatchHeader {
            records_count: 6,
            ..header()
        };
        assert!(crowded.check_offsets().is_err());
    }
}
