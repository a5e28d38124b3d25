//! Control records: what brokers write into a log for each other. They take an offset and are never
//! handed to consumers.
//!
//! The key says the type; what the value of each type is stands in Kafka's schemas and belongs to
//! the protocol crate. Only the markers that end transactions are simple enough, and needed often
//! enough, to be read here.
//!
//! ```
//! use tidelog_record::control::{ControlType, EndTxnMarker, TransactionResult};
//! use tidelog_types::{ProducerEpoch, ProducerId, Timestamp};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let marker = EndTxnMarker { result: TransactionResult::Commit, coordinator_epoch: 3 };
//! let (id, epoch) = (ProducerId::new(7), ProducerEpoch::new(0));
//! let batch = marker.batch(id, epoch, Timestamp::from_millis(1_700_000_000_000));
//! assert!(batch.header().attributes.is_control());
//!
//! let record = batch.records()?.next().expect("one record")?;
//! let control_type = ControlType::decode_key(&record.key.expect("a key"))?;
//! let value = record.value.expect("a value");
//! assert_eq!(EndTxnMarker::decode(control_type, &value)?, Some(marker));
//! # Ok(())
//! # }
//! ```

use tidelog_types::{ProducerEpoch, ProducerId, Timestamp};

use crate::{Batch, BatchBuilder, BatchError, Compression, RecordError};

/// The length of the key that is written: version and type.
pub const KEY_LEN: usize = 4;

/// What a control record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// A transaction was aborted (KIP-98).
    Abort,
    /// A transaction was committed (KIP-98).
    Commit,
    /// The metadata quorum has a new leader (KIP-595).
    LeaderChange,
    /// A snapshot begins (KIP-630).
    SnapshotHeader,
    /// A snapshot ends (KIP-630).
    SnapshotFooter,
    /// The version of the quorum's protocol (KIP-853).
    KRaftVersion,
    /// The voters of the quorum (KIP-853).
    KRaftVoters,
    /// A type of a later version, to be skipped.
    Unknown(i16),
}

impl ControlType {
    /// The number of the type.
    pub const fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    /// The type of this number.
    pub const fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            id => Self::Unknown(id),
        }
    }

    /// The key of a control record of this type: version 0 and the number, both i16.
    pub const fn key(self) -> [u8; KEY_LEN] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }

    /// The type that the key of a control record says. Later versions may make the key longer.
    pub fn decode_key(key: &[u8]) -> Result<Self, RecordError> {
        match key {
            [v0, v1, t0, t1, ..] if i16::from_be_bytes([*v0, *v1]) >= 0 => {
                Ok(Self::from_id(i16::from_be_bytes([*t0, *t1])))
            }
            _ => Err(RecordError::Control),
        }
    }

    /// A control batch of one record of this type, as `builder` is set up otherwise.
    pub fn batch(
        self,
        builder: BatchBuilder,
        timestamp: Timestamp,
        value: &[u8],
    ) -> Result<Batch, BatchError> {
        let mut builder = builder.control(true);
        builder.push(timestamp, Some(&self.key()), Some(value), &[]);
        builder.build()
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionResult {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

/// The record that ends a transaction in each partition it wrote to (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// How it ended.
    pub result: TransactionResult,
    /// The epoch of the transaction coordinator that decided; markers of an older one are refused.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// The type of the marker's control record.
    pub const fn control_type(self) -> ControlType {
        match self.result {
            TransactionResult::Abort => ControlType::Abort,
            TransactionResult::Commit => ControlType::Commit,
        }
    }

    /// The value of the marker's control record: version 0 as i16, and the coordinator's epoch.
    pub const fn value(self) -> [u8; 6] {
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }

    /// The marker in a control record; `None` if the record is of another type.
    pub fn decode(control_type: ControlType, value: &[u8]) -> Result<Option<Self>, RecordError> {
        let result = match control_type {
            ControlType::Abort => TransactionResult::Abort,
            ControlType::Commit => TransactionResult::Commit,
            _ => return Ok(None),
        };
        match value {
            [v0, v1, a, b, c, d, ..] if i16::from_be_bytes([*v0, *v1]) >= 0 => {
                let coordinator_epoch = i32::from_be_bytes([*a, *b, *c, *d]);
                Ok(Some(Self {
                    result,
                    coordinator_epoch,
                }))
            }
            _ => Err(RecordError::Control),
        }
    }

    /// The batch that carries the marker of the producer's transaction.
    pub fn batch(
        self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: Timestamp,
    ) -> Batch {
        let builder = BatchBuilder::new(Compression::NONE)
            .producer(producer_id, producer_epoch, -1)
            .transactional(true);
        self.control_type()
            .batch(builder, timestamp, &self.value())
            .expect("one small record that is not compressed makes a batch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_later_versions_survive() {
        for id in -1..9 {
            let control_type = ControlType::from_id(id);
            assert_eq!(
                ControlType::decode_key(&control_type.key()),
                Ok(control_type)
            );
        }
        // A later version with a longer key.
        assert_eq!(
            ControlType::decode_key(&[0, 1, 0, 2, 9]),
            Ok(ControlType::LeaderChange)
        );
    }

    #[test]
    fn malformed_control_records_are_refused() {
        assert_eq!(
            ControlType::decode_key(&[0, 0, 0]),
            Err(RecordError::Control)
        );
        assert_eq!(
            ControlType::decode_key(&[0xff, 0xff, 0, 0]),
            Err(RecordError::Control)
        );
        let short = EndTxnMarker::decode(ControlType::Commit, &[0; 5]);
        assert_eq!(short, Err(RecordError::Control));
        let other = EndTxnMarker::decode(ControlType::LeaderChange, &[]);
        assert_eq!(other, Ok(None));
    }
}
