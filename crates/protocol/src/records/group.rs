//! Records of `__consumer_offsets`: groups of every kind, and committed offsets.
//!
//! ```text
//! key:   type i16    | fields, never flexible
//! value: version i16 | fields; null is a tombstone
//! ```

pub mod classic;
pub mod consumer;
pub mod share;
pub mod streams;

use bytes::Bytes;

use crate::{DecodeError, EncodeError, Message, Reader, Writer};
use classic::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use consumer::*;
use share::*;
use streams::*;

/// `Name = type: Key, Value;`
macro_rules! group_records {
    ($($name:ident = $type:literal: $key:ident, $value:ident;)*) => {
        /// The key of a record; says which kind of record it is.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum GroupRecordKey {
            /// A committed offset as Kafka 0.8 wrote it; type 0. The value is an ordinary one.
            LegacyOffsetCommit(OffsetCommitKey),
            $(
                #[doc = concat!("See [`", stringify!($value), "`]; type ", stringify!($type), ".")]
                $name($key),
            )*
            /// A kind of record that this version does not know.
            Unknown {
                /// The type.
                key_type: i16,
                /// What follows the type.
                fields: Bytes,
            },
        }

        /// The value of a record.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum GroupRecordValue {
            $(
                #[doc = concat!("See [`", stringify!($value), "`].")]
                $name($value),
            )*
            /// The value of a record of a kind that this version does not know, with its version.
            Unknown(Bytes),
        }

        impl GroupRecordKey {
            /// The type of the record.
            pub const fn key_type(&self) -> i16 {
                match self {
                    Self::LegacyOffsetCommit(_) => 0,
                    $(Self::$name(_) => $type,)*
                    Self::Unknown { key_type, .. } => *key_type,
                }
            }

            /// Reads a key. One of a kind that is not known becomes [`Unknown`](Self::Unknown), to
            /// be passed over.
            pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(bytes.clone());
                let key_type = reader.i16().map_err(|e| e.in_field("GroupRecordKey", "type"))?;
                match key_type {
                    0 => OffsetCommitKey::read(&mut reader, 0).map(Self::LegacyOffsetCommit),
                    $($type => $key::read(&mut reader, 0).map(Self::$name),)*
                    _ => {
                        let fields = reader.slice(reader.remaining())?;
                        Ok(Self::Unknown { key_type, fields })
                    }
                }
            }

            /// Writes the key.
            pub fn encode(&self) -> Result<Bytes, EncodeError> {
                let mut writer = Writer::contiguous();
                writer.put_i16(self.key_type());
                match self {
                    Self::LegacyOffsetCommit(key) => key.write(&mut writer, 0)?,
                    $(Self::$name(key) => key.write(&mut writer, 0)?,)*
                    Self::Unknown { fields, .. } => writer.put_slice(fields),
                }
                writer.finish_contiguous()
            }

            /// Reads the value that belongs to this key.
            ///
            /// A value in a version that is not known is an error.
            pub fn decode_value(&self, bytes: &Bytes) -> Result<GroupRecordValue, DecodeError> {
                let mut reader = Reader::new(bytes.clone());
                let mut version = || {
                    let version = reader.i16();
                    version.map_err(|e| e.in_field("GroupRecordValue", "version"))
                };
                match self {
                    Self::LegacyOffsetCommit(_) => {
                        let version = version()?;
                        let value = OffsetCommitValue::read(&mut reader, version)?;
                        Ok(GroupRecordValue::OffsetCommit(value))
                    }
                    $(Self::$name(_) => {
                        let version = version()?;
                        let value = $value::read(&mut reader, version)?;
                        Ok(GroupRecordValue::$name(value))
                    })*
                    Self::Unknown { .. } => Ok(GroupRecordValue::Unknown(bytes.clone())),
                }
            }
        }

        impl GroupRecordValue {
            /// Writes the value in `version`. A value of a kind that is not known keeps its own.
            pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
                match self {
                    $(Self::$name(value) => crate::records::write_versioned(value, version),)*
                    Self::Unknown(bytes) => Ok(bytes.clone()),
                }
            }
        }

        $(
            impl From<$key> for GroupRecordKey {
                fn from(key: $key) -> Self {
                    Self::$name(key)
                }
            }

            impl From<$value> for GroupRecordValue {
                fn from(value: $value) -> Self {
                    Self::$name(value)
                }
            }
        )*
    };
}

#[rustfmt::skip]
group_records! {
    OffsetCommit = 1: OffsetCommitKey, OffsetCommitValue;
    GroupMetadata = 2: GroupMetadataKey, GroupMetadataValue;
    ConsumerGroupMetadata = 3: ConsumerGroupMetadataKey, ConsumerGroupMetadataValue;
    ConsumerGroupPartitionMetadata = 4:
        ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue;
    ConsumerGroupMemberMetadata = 5:
        ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue;
    ConsumerGroupTargetAssignmentMetadata = 6:
        ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue;
    ConsumerGroupTargetAssignmentMember = 7:
        ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue;
    ConsumerGroupCurrentMemberAssignment = 8:
        ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue;
    ShareGroupMemberMetadata = 10: ShareGroupMemberMetadataKey, ShareGroupMemberMetadataValue;
    ShareGroupMetadata = 11: ShareGroupMetadataKey, ShareGroupMetadataValue;
    ShareGroupTargetAssignmentMetadata = 12:
        ShareGroupTargetAssignmentMetadataKey, ShareGroupTargetAssignmentMetadataValue;
    ShareGroupTargetAssignmentMember = 13:
        ShareGroupTargetAssignmentMemberKey, ShareGroupTargetAssignmentMemberValue;
    ShareGroupCurrentMemberAssignment = 14:
        ShareGroupCurrentMemberAssignmentKey, ShareGroupCurrentMemberAssignmentValue;
    ShareGroupStatePartitionMetadata = 15:
        ShareGroupStatePartitionMetadataKey, ShareGroupStatePartitionMetadataValue;
    ConsumerGroupRegularExpression = 16:
        ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue;
    StreamsGroupMetadata = 17: StreamsGroupMetadataKey, StreamsGroupMetadataValue;
    StreamsGroupMemberMetadata = 19: StreamsGroupMemberMetadataKey, StreamsGroupMemberMetadataValue;
    StreamsGroupTargetAssignmentMetadata = 20:
        StreamsGroupTargetAssignmentMetadataKey, StreamsGroupTargetAssignmentMetadataValue;
    StreamsGroupTargetAssignmentMember = 21:
        StreamsGroupTargetAssignmentMemberKey, StreamsGroupTargetAssignmentMemberValue;
    StreamsGroupCurrentMemberAssignment = 22:
        StreamsGroupCurrentMemberAssignmentKey, StreamsGroupCurrentMemberAssignmentValue;
    StreamsGroupTopology = 23: StreamsGroupTopologyKey, StreamsGroupTopologyValue;
}

#[cfg(test)]
mod tests {
    use tidelog_types::Offset;

    use super::*;

    fn commit_key() -> OffsetCommitKey {
        OffsetCommitKey {
            group: "g".into(),
            topic: "t".into(),
            partition: 3,
        }
    }

    #[test]
    fn a_committed_offset_and_back() {
        let key = GroupRecordKey::from(commit_key());
        let bytes = key.encode().unwrap();
        assert_eq!(bytes, &[0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 3][..]);
        assert_eq!(GroupRecordKey::decode(&bytes), Ok(key.clone()));

        let value = OffsetCommitValue {
            offset: Offset::new(9),
            ..Default::default()
        };
        let value = GroupRecordValue::from(value);
        for version in [0, 2, 3, 4] {
            let bytes = value.encode(version).unwrap();
            assert_eq!(bytes[..2], version.to_be_bytes());
            assert_eq!(key.decode_value(&bytes), Ok(value.clone()));
        }
    }

    #[test]
    fn an_offset_of_the_old_type_keeps_its_key_and_has_an_ordinary_value() {
        let key = GroupRecordKey::LegacyOffsetCommit(commit_key());
        let bytes = key.encode().unwrap();
        assert_eq!(bytes[..2], [0, 0]);
        assert_eq!(GroupRecordKey::decode(&bytes), Ok(key.clone()));
        let value = GroupRecordValue::from(OffsetCommitValue::default());
        assert_eq!(key.decode_value(&value.encode(1).unwrap()), Ok(value));
    }

    #[test]
    fn unknown_kinds_survive() {
        let bytes = Bytes::from_static(&[0x7f, 0, 1, 2, 3]);
        let key = GroupRecordKey::decode(&bytes).unwrap();
        assert_eq!(key.key_type(), 0x7f00);
        assert_eq!(key.encode(), Ok(bytes));
        let bytes = Bytes::from_static(&[9, 9, 9]);
        assert_eq!(key.decode_value(&bytes).unwrap().encode(0), Ok(bytes));
    }
}
