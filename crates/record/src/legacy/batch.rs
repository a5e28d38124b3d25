use bytes::Bytes;
use tidelog_types::{Offset, Timestamp};

use crate::batch::{split, whole};
use crate::compression::Framing;
use crate::crc::{check, crc32};
use crate::header::{LENGTH_END, MAGIC_AT, at};
use crate::{Attributes, BatchError, Codec, TimestampType};

/// Where the checksum ends and what it covers begins: the magic, as it happens.
pub(crate) const CRC_FROM: usize = MAGIC_AT;
/// Where the checksum stands.
pub(crate) const CRC_AT: usize = LENGTH_END;
/// Where the attributes stand.
const ATTRIBUTES_AT: usize = 17;
/// Where the timestamp of v1 stands, or the key of v0.
const TIMESTAMP_AT: usize = 18;

/// One of the two message formats before v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LegacyMagic {
    /// Kafka 0.7 to 0.9: no timestamps, absolute offsets within wrappers.
    V0,
    /// Kafka 0.10: timestamps (KIP-32), relative offsets within wrappers (KIP-31).
    V1,
}

impl LegacyMagic {
    /// The magic byte.
    pub const fn id(self) -> i8 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
        }
    }

    /// The format of this magic byte, if it is one of the two.
    pub const fn from_id(magic: i8) -> Option<Self> {
        match magic {
            0 => Some(Self::V0),
            1 => Some(Self::V1),
            _ => None,
        }
    }

    /// What stands in front of the key.
    pub(crate) const fn header_len(self) -> usize {
        match self {
            Self::V0 => TIMESTAMP_AT,
            Self::V1 => LegacyHeader::LEN_MAX,
        }
    }

    /// The size of the smallest message behind its size field: no key, no value.
    pub(crate) const fn message_size_min(self) -> usize {
        self.header_len() - LENGTH_END + 8
    }

    pub(crate) const fn framing(self) -> Framing {
        match self {
            Self::V0 => Framing::MagicZero,
            Self::V1 => Framing::Standard,
        }
    }
}

/// What stands in front of the key and value of a message of formats v0 and v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyHeader {
    /// The offset of the record, or of the last one in a wrapper.
    pub offset: Offset,
    /// The bytes after this field.
    pub message_size: i32,
    /// CRC-32 of everything from the magic to the end.
    pub crc: u32,
    /// The message format.
    pub magic: LegacyMagic,
    /// Codec and, in v1, timestamp type; the other bits mean nothing.
    pub attributes: Attributes,
    /// The time of the record, or the largest of those in a wrapper; [`Timestamp::NONE`] in v0.
    pub timestamp: Timestamp,
}

impl LegacyHeader {
    /// How many bytes are needed to read the header of either format.
    pub const LEN_MAX: usize = 26;

    /// Reads the header at the front of `bytes`, which may go on behind it.
    ///
    /// Checks the magic and the size field, and that the whole header is there; not the CRC.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let truncated = |needed| BatchError::Truncated {
            needed,
            available: bytes.len(),
        };
        let Some(magic) = bytes.get(MAGIC_AT).map(|magic| magic.cast_signed()) else {
            return Err(truncated(LENGTH_END + LegacyMagic::V0.message_size_min()));
        };
        let magic = LegacyMagic::from_id(magic).ok_or(BatchError::UnknownMagic { magic })?;
        if bytes.len() < magic.header_len() {
            return Err(truncated(magic.header_len()));
        }
        let header = Self {
            offset: Offset::new(i64::from_be_bytes(at(bytes, 0))),
            message_size: i32::from_be_bytes(at(bytes, 8)),
            crc: u32::from_be_bytes(at(bytes, CRC_AT)),
            magic,
            attributes: Attributes::from_bits(i16::from(bytes[ATTRIBUTES_AT])),
            timestamp: match magic {
                LegacyMagic::V0 => Timestamp::NONE,
                LegacyMagic::V1 => Timestamp::from_millis(i64::from_be_bytes(at(bytes, 18))),
            },
        };
        if header.message_size < magic.message_size_min() as i32 {
            return Err(BatchError::InvalidLength {
                batch_length: header.message_size,
            });
        }
        Ok(header)
    }

    /// The bytes of the whole message, header included.
    pub const fn size(&self) -> usize {
        LENGTH_END + self.message_size as usize
    }

    /// The offset of the last record. That of the first one stands in a wrapper only, compressed.
    pub const fn last_offset(&self) -> Offset {
        self.offset
    }

    /// The offset that follows.
    pub const fn next_offset(&self) -> Offset {
        Offset::new(self.offset.value().saturating_add(1))
    }

    /// Whose clock the timestamps are from; v0 has none.
    pub const fn timestamp_type(&self) -> Option<TimestampType> {
        match self.magic {
            LegacyMagic::V0 => None,
            LegacyMagic::V1 => Some(self.attributes.timestamp_type()),
        }
    }

    /// How the records in a wrapper are compressed. Fails for the ids that are not in use, and for
    /// zstd, which these formats do not have.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        match self.attributes.codec()? {
            codec @ Codec::Zstd => Err(BatchError::CodecNotInFormat {
                codec,
                magic: self.magic.id(),
            }),
            codec => Ok(codec),
        }
    }

    /// Checks the CRC over the bytes of the whole message.
    pub fn verify_crc(&self, message: &[u8]) -> Result<(), BatchError> {
        let covered = message.get(CRC_FROM..).unwrap_or_default();
        check(self.crc, crc32(covered))
    }
}

/// A message of format v0 or v1: one record, or a wrapper with several, compressed.
///
/// The magic and the size are right; the CRC, key and value have not been looked at. Cloning is
/// cheap. See [the module](super) for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyBatch {
    header: LegacyHeader,
    bytes: Bytes,
}

impl LegacyBatch {
    /// Takes `bytes` as exactly one message.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = whole(&bytes, LegacyHeader::decode, LegacyHeader::size)?;
        Ok(Self { header, bytes })
    }

    /// Takes the next message off the front of `bytes`; `None` if there is no whole one left.
    ///
    /// See [`Batch::split_from`](crate::Batch::split_from).
    pub fn split_from(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        let split = split(bytes, LegacyHeader::decode, LegacyHeader::size)?;
        Ok(split.map(|(header, bytes)| Self { header, bytes }))
    }

    /// The header.
    pub const fn header(&self) -> &LegacyHeader {
        &self.header
    }

    /// The bytes of the message, offset and size included.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The size of the message in bytes, offset and size included.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Checks the CRC over the bytes; those of the messages in a wrapper are checked as they are
    /// read.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        self.header.verify_crc(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offset 7, no key, value "t".
    const V0: [u8; 27] = [
        0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 15, 0x9a, 0x3c, 0x5c, 0x18, 0, 0, 0xff, 0xff, 0xff, 0xff,
        0, 0, 0, 1, b't',
    ];

    #[test]
    fn a_header_is_refused_where_it_cannot_be_one() {
        let header = LegacyHeader::decode(&V0).unwrap();
        assert_eq!(header.offset, Offset::new(7));
        assert_eq!(header.next_offset(), Offset::new(8));
        assert_eq!(header.size(), V0.len());
        assert_eq!(header.timestamp_type(), None);
        for len in 0..TIMESTAMP_AT {
            let error = LegacyHeader::decode(&V0[..len]).unwrap_err();
            assert!(matches!(error, BatchError::Truncated { .. }), "{len}");
        }
        let mut later = V0;
        later[MAGIC_AT] = 2;
        assert_eq!(
            LegacyHeader::decode(&later),
            Err(BatchError::UnknownMagic { magic: 2 })
        );
        let mut small = V0;
        small[11] = 13;
        assert_eq!(
            LegacyHeader::decode(&small),
            Err(BatchError::InvalidLength { batch_length: 13 })
        );
    }

    #[test]
    fn zstd_came_later() {
        let mut bytes = V0;
        bytes[ATTRIBUTES_AT] = Codec::Zstd.id();
        let error = LegacyHeader::decode(&bytes).unwrap().codec().unwrap_err();
        assert_eq!(error.to_string(), "message format v0 does not have zstd");
    }
}
