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

use classic::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use consumer::*;
use share::*;
use streams::*;

#[rustfmt::skip]
coordinator_records! {
    GroupRecordKey, GroupRecordValue,
    // As Kafka 0.8 wrote it. The value is an ordinary one.
    legacy LegacyOffsetCommit = 0: OffsetCommitKey, OffsetCommitValue as OffsetCommit;
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
    use bytes::Bytes;
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

    #[cfg(feature = "json")]
    #[test]
    fn keys_and_values_as_json() {
        let json = GroupRecordKey::from(commit_key()).to_json().unwrap();
        assert_eq!(
            json.to_string(),
            r#"{"group":"g","topic":"t","partition":3}"#
        );
        let value = GroupRecordValue::from(OffsetCommitValue::default());
        let json = value.to_json(0).unwrap().to_string();
        assert_eq!(json, r#"{"offset":0,"metadata":"","commitTimestamp":0}"#);
    }

    /// As Kafka 4.3.1 wrote it for a member of librdkafka: null in a tagged field is not -1.
    #[test]
    fn a_member_without_the_classic_protocol() {
        let bytes = Bytes::from_static(
            b"\0\0\0\0\x08rdkafka\x0b/127.0.0.1\x02\x0acodec-lz4\x01\0\x04\x93\xe0\0\x01\0\x01\0",
        );
        let key = GroupRecordKey::from(ConsumerGroupMemberMetadataKey {
            group_id: "g".into(),
            member_id: "m".into(),
        });
        let value = key.decode_value(&bytes).unwrap();
        let GroupRecordValue::ConsumerGroupMemberMetadata(member) = &value else {
            panic!("{value:?}");
        };
        assert_eq!(member.classic_member_metadata, None);
        assert_eq!(member.rebalance_timeout_ms, 300_000);
        assert_eq!(value.encode(0), Ok(bytes));
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
