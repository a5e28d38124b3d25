use bytes::{Bytes, BytesMut};
use tidelog_types::{LeaderEpoch, Offset, Timestamp};

use crate::crc::crc32c;
use crate::header::{CRC_AT, CRC_FROM, HEADER_LEN, MAGIC_AT};
use crate::{BatchError, BatchHeader, TimestampType};

/// The bytes at the front of a batch that a leader patches: base offset, length, leader epoch. The
/// CRC does not cover them.
pub const LEADER_FIELDS_LEN: usize = MAGIC_AT;

/// One whole batch: its bytes, shared and not copied, and its header.
///
/// The magic and the length are right; the CRC and the records have not been looked at. Cloning is
/// cheap.
///
/// ```
/// use tidelog_record::{Batch, BatchBuilder, Codec};
/// use tidelog_types::Timestamp;
///
/// # fn main() -> Result<(), tidelog_record::BatchError> {
/// let mut builder = BatchBuilder::new(Codec::Snappy.into());
/// builder.push(Timestamp::from_millis(7), Some(b"key"), Some(b"value"), &[]);
/// let mut fetched = [&builder.build()?.bytes()[..], b"the next one, cut off"].concat().into();
///
/// let batch = Batch::split_from(&mut fetched)?.expect("a whole batch");
/// batch.verify_crc()?;
/// let mut walk = batch.walk()?;
/// while let Some(record) = walk.next_record()? {
///     assert_eq!(record.value, Some(&b"value"[..]));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes `bytes` as exactly one batch.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = whole(&bytes, BatchHeader::decode, BatchHeader::size)?;
        Ok(Self { header, bytes })
    }

    /// Takes the next batch off the front of `bytes`.
    ///
    /// `None` if there is no whole batch left: what a fetch brings may end in the middle of one.
    /// The rest then stays in `bytes`, so a caller who expects whole batches looks whether it is
    /// empty.
    pub fn split_from(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        let split = split(bytes, BatchHeader::decode, BatchHeader::size)?;
        Ok(split.map(|(header, bytes)| Self { header, bytes }))
    }

    /// A batch out of parts that fit together.
    pub(crate) const fn from_parts(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// The header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes of the batch, header included.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The size of the batch in bytes, header included.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of the records, possibly compressed.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }

    /// Checks the CRC over the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        self.header.verify_crc(&self.bytes)
    }

    /// The first [`LEADER_FIELDS_LEN`] bytes of the batch as a leader writes them.
    ///
    /// A log writes these and [`after_leader_fields`](Self::after_leader_fields) in one go, so that
    /// the bytes that came from the network are neither copied nor changed.
    pub fn leader_fields(
        &self,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> [u8; LEADER_FIELDS_LEN] {
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: leader_epoch,
            ..self.header
        };
        let mut fields = [0; LEADER_FIELDS_LEN];
        fields.copy_from_slice(&header.encode()[..LEADER_FIELDS_LEN]);
        fields
    }

    /// Everything behind the fields that a leader patches.
    pub fn after_leader_fields(&self) -> &[u8] {
        &self.bytes[LEADER_FIELDS_LEN..]
    }

    /// This batch as a leader appends it. In place if nobody else holds the bytes, else a copy.
    #[must_use]
    pub fn with_leader_fields(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: leader_epoch,
            ..self.header
        };
        let mut bytes = into_mut(self.bytes);
        bytes[..HEADER_LEN].copy_from_slice(&header.encode());
        Self {
            header,
            bytes: bytes.freeze(),
        }
    }

    /// This batch with the time of its append for all its records
    /// (`message.timestamp.type=LogAppendTime`).
    #[must_use]
    pub fn with_log_append_time(self, now: Timestamp) -> Self {
        self.with_timestamps(TimestampType::LogAppendTime, now)
    }

    /// This batch with another timestamp type and max timestamp, and the CRC anew; unchanged if it
    /// has them already.
    #[must_use]
    pub(crate) fn with_timestamps(
        self,
        timestamp_type: TimestampType,
        max_timestamp: Timestamp,
    ) -> Self {
        let attributes = self.header.attributes.with_timestamp_type(timestamp_type);
        let mut header = BatchHeader {
            attributes,
            max_timestamp,
            ..self.header
        };
        if header == self.header {
            return self;
        }
        let mut bytes = into_mut(self.bytes);
        bytes[..HEADER_LEN].copy_from_slice(&header.encode());
        header.crc = crc32c(&bytes[CRC_FROM..]);
        bytes[CRC_AT..CRC_FROM].copy_from_slice(&header.crc.to_be_bytes());
        Self {
            header,
            bytes: bytes.freeze(),
        }
    }
}

/// The header of a batch of any format that is all of `bytes`.
pub(crate) fn whole<H>(
    bytes: &Bytes,
    decode: fn(&[u8]) -> Result<H, BatchError>,
    size: fn(&H) -> usize,
) -> Result<H, BatchError> {
    let header = decode(bytes)?;
    let (size, available) = (size(&header), bytes.len());
    match available.checked_sub(size) {
        Some(0) => Ok(header),
        Some(extra) => Err(BatchError::MoreThanOneBatch { extra }),
        None => Err(BatchError::Truncated {
            needed: size,
            available,
        }),
    }
}

/// Takes the next batch of any format off the front of `bytes`, if it is there as a whole.
pub(crate) fn split<H>(
    bytes: &mut Bytes,
    decode: fn(&[u8]) -> Result<H, BatchError>,
    size: fn(&H) -> usize,
) -> Result<Option<(H, Bytes)>, BatchError> {
    let header = match decode(bytes) {
        Ok(header) => header,
        Err(BatchError::Truncated { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = size(&header);
    Ok((size <= bytes.len()).then(|| (header, bytes.split_to(size))))
}

/// The bytes to write to: themselves if nobody else holds them, else a copy.
fn into_mut(bytes: Bytes) -> BytesMut {
    bytes
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
