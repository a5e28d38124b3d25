//! Values of control records: ends of transactions, and what stands in the metadata log besides
//! metadata.
//!
//! Every value begins with its version in two bytes. In the structs that Kafka gave a field for it,
//! the field says in which version the value is written.

use bytes::Bytes;
use tidelog_types::{NodeId, Timestamp, Uuid};

pub use crate::messages::describe_quorum::Listener as Endpoint;
pub use crate::messages::update_raft_voter::KRaftVersionFeature;
use crate::records::{read_versioned, write_versioned};
use crate::{DecodeError, EncodeError, Message, Reader, Wire, message};

/// The value of a control record.
pub trait ControlRecord: Message {
    /// Reads a value. One of a later version is read as far as this version knows it.
    fn decode_value(bytes: &Bytes) -> Result<Self, DecodeError>;

    /// Writes the value.
    fn encode_value(&self) -> Result<Bytes, EncodeError>;
}

impl ControlRecord for EndTxnMarker {
    fn decode_value(bytes: &Bytes) -> Result<Self, DecodeError> {
        read_versioned(bytes)
    }

    fn encode_value(&self) -> Result<Bytes, EncodeError> {
        write_versioned(self, Self::VERSIONS.max)
    }
}

/// Structs whose first field is their version.
macro_rules! versioned_by_field {
    ($($record:ident),*) => {
        $(impl ControlRecord for $record {
            fn decode_value(bytes: &Bytes) -> Result<Self, DecodeError> {
                let version = Reader::new(bytes.clone())
                    .i16()
                    .map_err(|e| e.in_field(Self::NAME, "version"))?;
                Self::read(&mut Reader::new(bytes.clone()), version.min(Self::VERSIONS.max))
            }

            fn encode_value(&self) -> Result<Bytes, EncodeError> {
                self.to_bytes(self.version)
            }
        })*
    };
}

versioned_by_field!(
    LeaderChangeMessage,
    SnapshotHeaderRecord,
    SnapshotFooterRecord,
    KRaftVersionRecord,
    VotersRecord
);

/// `Name(Struct) = type;`
macro_rules! control_values {
    ($($name:ident($record:ident) = $type:literal;)*) => {
        /// The value of any control record, by the type in its key.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum ControlValue {
            $(
                #[doc = concat!("See [`", stringify!($record), "`]; type ", stringify!($type), ".")]
                $name($record),
            )*
            /// A type that this version does not know.
            Unknown {
                /// The type.
                control_type: i16,
                /// The value with its version.
                value: Bytes,
            },
        }

        impl ControlValue {
            /// The type that the key of the record says.
            pub const fn control_type(&self) -> i16 {
                match self {
                    $(Self::$name(_) => $type,)*
                    Self::Unknown { control_type, .. } => *control_type,
                }
            }

            /// Reads the value of a record of `control_type`. One of a type that is not known
            /// becomes [`Unknown`](Self::Unknown), to be passed over.
            pub fn decode(control_type: i16, value: &Bytes) -> Result<Self, DecodeError> {
                match control_type {
                    $($type => $record::decode_value(value).map(Self::$name),)*
                    _ => {
                        let value = value.clone();
                        Ok(Self::Unknown { control_type, value })
                    }
                }
            }

            /// Writes the value.
            pub fn encode(&self) -> Result<Bytes, EncodeError> {
                match self {
                    $(Self::$name(record) => record.encode_value(),)*
                    Self::Unknown { value, .. } => Ok(value.clone()),
                }
            }
        }
    };
}

control_values! {
    Abort(EndTxnMarker) = 0;
    Commit(EndTxnMarker) = 1;
    LeaderChange(LeaderChangeMessage) = 2;
    SnapshotHeader(SnapshotHeaderRecord) = 3;
    SnapshotFooter(SnapshotFooterRecord) = 4;
    KRaftVersion(KRaftVersionRecord) = 5;
    KRaftVoters(VotersRecord) = 6;
}

versioned!(ControlRecordTypeSchema);

/// The key of a control record.
#[message(versions = 0..=0)]
pub struct ControlRecordTypeSchema {
    /// What the record is, as [`ControlValue`] numbers them.
    pub r#type: i16,
}

/// Ends the transaction of the producer that is named in the batch header.
#[message(versions = 0..=0)]
pub struct EndTxnMarker {
    /// The epoch of the transaction coordinator.
    pub coordinator_epoch: i32,
}

/// The first record of every leader of the metadata log (KIP-595).
///
/// Version 1 names the directories of the voters (KIP-853).
#[message(versions = 0..=1, flexible = 0..)]
pub struct LeaderChangeMessage {
    /// The version of the value.
    pub version: i16,
    /// The new leader.
    pub leader_id: NodeId,
    /// The voters.
    pub voters: Vec<LeaderChangeVoter>,
    /// The voters that elected the leader.
    pub granting_voters: Vec<LeaderChangeVoter>,
}

/// A voter. Kafka calls this struct `Voter`.
#[derive(Clone, PartialEq, Wire)]
pub struct LeaderChangeVoter {
    /// The node.
    pub voter_id: NodeId,
    /// The directory of the metadata log (KIP-853).
    #[wire(versions = 1..)]
    pub voter_directory_id: Uuid,
}

/// The first record of a snapshot (KIP-630).
#[message(versions = 0..=0, flexible = 0..)]
pub struct SnapshotHeaderRecord {
    /// The version of the value.
    pub version: i16,
    /// The timestamp of the last batch in the snapshot.
    pub last_contained_log_timestamp: Timestamp,
}

/// The last record of a snapshot (KIP-630).
#[message(versions = 0..=0, flexible = 0..)]
pub struct SnapshotFooterRecord {
    /// The version of the value.
    pub version: i16,
}

/// The level of `kraft.version` from here on (KIP-853).
#[message(versions = 0..=0, flexible = 0..)]
pub struct KRaftVersionRecord {
    /// The version of the value.
    pub version: i16,
    /// The level of `kraft.version` in use.
    #[wire(json = "kRaftVersion")]
    pub kraft_version: i16,
}

/// The voters from here on (KIP-853).
#[message(versions = 0..=0, flexible = 0..)]
pub struct VotersRecord {
    /// The version of the value.
    pub version: i16,
    /// The voters.
    pub voters: Vec<Voter>,
}

/// A voter.
#[derive(Clone, PartialEq, Wire)]
pub struct Voter {
    /// The node.
    pub voter_id: NodeId,
    /// The directory of the metadata log (KIP-853).
    pub voter_directory_id: Uuid,
    /// Where the voter listens.
    pub endpoints: Vec<Endpoint>,
    /// The levels of `kraft.version` that the voter supports.
    #[wire(json = "kRaftVersionFeature")]
    pub kraft_version_feature: KRaftVersionFeature,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_a_transaction_has_its_version_before_it() {
        let marker = EndTxnMarker {
            coordinator_epoch: 5,
        };
        let bytes = marker.encode_value().unwrap();
        assert_eq!(bytes, &[0, 0, 0, 0, 0, 5][..]);
        assert_eq!(EndTxnMarker::decode_value(&bytes), Ok(marker));
    }

    #[test]
    fn a_value_of_a_later_version_is_read_as_far_as_known() {
        let marker = EndTxnMarker::decode_value(&Bytes::from_static(&[0, 9, 0, 0, 0, 5, 1, 2]));
        assert_eq!(
            marker,
            Ok(EndTxnMarker {
                coordinator_epoch: 5
            })
        );
    }

    #[test]
    fn types_that_are_not_known_survive() {
        let key = ControlRecordTypeSchema { r#type: 7 };
        let bytes = key.encode_versioned(0).unwrap();
        assert_eq!(bytes, &[0, 0, 0, 7][..]);
        assert_eq!(ControlRecordTypeSchema::decode_versioned(&bytes), Ok(key));

        let value = Bytes::from_static(&[0, 0, 1, 2, 3]);
        let read = ControlValue::decode(7, &value).unwrap();
        assert_eq!((read.control_type(), read.encode()), (7, Ok(value)));
        let footer = ControlValue::decode(4, &Bytes::from_static(&[0, 0, 0]));
        assert_eq!(footer, Ok(ControlValue::SnapshotFooter(Default::default())));
    }

    #[test]
    fn a_leader_change_is_written_in_the_version_it_names() {
        let voter_directory_id = Uuid::from_bytes([7; 16]);
        let voter = LeaderChangeVoter {
            voter_id: NodeId::new(1),
            voter_directory_id,
        };
        let message = LeaderChangeMessage {
            version: 1,
            leader_id: NodeId::new(1),
            voters: vec![voter.clone()],
            granting_voters: vec![voter],
        };
        let bytes = message.encode_value().unwrap();
        assert_eq!(bytes[..2], [0, 1]);
        assert_eq!(LeaderChangeMessage::decode_value(&bytes), Ok(message));
    }
}
