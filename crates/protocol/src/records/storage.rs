//! What lies beside the logs: `.snapshot` files of producers, and the records of
//! `__remote_log_metadata`, which say what was copied to remote storage (KIP-405).

use bytes::Bytes;
use tidelog_types::{
    LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicName, Uuid,
};

use crate::{Wire, message};

/// The producers of a partition, as a `.snapshot` file holds them behind two bytes of version.
#[message(versions = 1..=1)]
pub struct ProducerSnapshot {
    /// The CRC-32C of the entries.
    pub crc: u32,
    /// The producers.
    pub producer_entries: Vec<ProducerEntry>,
}

/// One producer.
#[derive(Clone, PartialEq, Wire)]
pub struct ProducerEntry {
    /// The producer.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub epoch: ProducerEpoch,
    /// The sequence number of the last record, or -1.
    pub last_sequence: i32,
    /// The offset of the last record, or -1.
    pub last_offset: Offset,
    /// The offset of the last record, counted within its batch.
    pub offset_delta: i32,
    /// The largest timestamp in the last batch.
    pub timestamp: Timestamp,
    /// The epoch of the transaction coordinator that wrote the last marker.
    pub coordinator_epoch: i32,
    /// The first offset of the producer's open transaction, or -1.
    pub current_txn_first_offset: Offset,
}

framed_records! {
    /// A record of `__remote_log_metadata`.
    RemoteLogMetadataRecord;
    Segment(RemoteLogSegmentMetadataRecord) = 0;
    SegmentUpdate(RemoteLogSegmentMetadataUpdateRecord) = 1;
    PartitionDelete(RemotePartitionDeleteMetadataRecord) = 2;
    SegmentSnapshot(RemoteLogSegmentMetadataSnapshotRecord) = 3;
}

/// A segment whose copy begins (KIP-405).
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoteLogSegmentMetadataRecord {
    /// The segment.
    pub remote_log_segment_id: RemoteLogSegmentIdEntry,
    /// The first offset of the segment.
    pub start_offset: Offset,
    /// The last offset of the segment.
    pub end_offset: Offset,
    /// The broker that says so.
    pub broker_id: NodeId,
    /// The largest timestamp in the segment.
    pub max_timestamp_ms: Timestamp,
    /// When the record was made.
    pub event_timestamp_ms: Timestamp,
    /// The leader epochs in the segment.
    pub segment_leader_epochs: Vec<SegmentLeaderEpochEntry>,
    /// How many bytes the segment has.
    pub segment_size_in_bytes: i32,
    /// What the plug-in of the remote storage adds, or null.
    pub custom_metadata: Option<Bytes>,
    /// 0 being copied, 1 copied, 2 being deleted, 3 deleted.
    pub remote_log_segment_state: i8,
    /// Whether no transaction was aborted in the segment.
    #[wire(tag = 0)]
    pub txn_index_empty: bool,
}

/// A segment in remote storage.
#[derive(Clone, PartialEq, Wire)]
pub struct RemoteLogSegmentIdEntry {
    /// The partition.
    pub topic_id_partition: TopicIdPartitionEntry,
    /// The id of the copy.
    pub id: Uuid,
}

/// A partition.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicIdPartitionEntry {
    /// The topic.
    pub name: TopicName,
    /// The id of the topic.
    pub id: Uuid,
    /// The partition.
    pub partition: i32,
}

/// Where a leader epoch begins.
#[derive(Clone, PartialEq, Wire)]
pub struct SegmentLeaderEpochEntry {
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// The first offset of the epoch.
    pub offset: Offset,
}

/// A new state of a segment (KIP-405).
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoteLogSegmentMetadataUpdateRecord {
    /// The segment.
    pub remote_log_segment_id: RemoteLogSegmentIdEntry,
    /// The broker that says so.
    pub broker_id: NodeId,
    /// When the record was made.
    pub event_timestamp_ms: Timestamp,
    /// What the plug-in of the remote storage adds, or null.
    pub custom_metadata: Option<Bytes>,
    /// 0 being copied, 1 copied, 2 being deleted, 3 deleted.
    pub remote_log_segment_state: i8,
}

/// How far the deletion of a partition in remote storage is (KIP-405).
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemotePartitionDeleteMetadataRecord {
    /// The partition.
    pub topic_id_partition: TopicIdPartitionEntry,
    /// The node that says so.
    pub broker_id: NodeId,
    /// When the record was made.
    pub event_timestamp_ms: Timestamp,
    /// 0 to be deleted, 1 being deleted, 2 deleted.
    pub remote_partition_delete_state: i8,
}

/// A segment as brokers keep it in a snapshot of a partition's segments (KIP-405).
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoteLogSegmentMetadataSnapshotRecord {
    /// The id of the copy.
    pub segment_id: Uuid,
    /// The first offset of the segment.
    pub start_offset: Offset,
    /// The last offset of the segment.
    pub end_offset: Offset,
    /// The broker that said so.
    pub broker_id: NodeId,
    /// The largest timestamp in the segment.
    pub max_timestamp_ms: Timestamp,
    /// When the record was made.
    pub event_timestamp_ms: Timestamp,
    /// The leader epochs in the segment.
    pub segment_leader_epochs: Vec<SegmentLeaderEpochEntry>,
    /// How many bytes the segment has.
    pub segment_size_in_bytes: i32,
    /// What the plug-in of the remote storage adds, or null.
    pub custom_metadata: Option<Bytes>,
    /// 0 being copied, 1 copied, 2 being deleted, 3 deleted.
    pub remote_log_segment_state: i8,
    /// Whether no transaction was aborted in the segment.
    #[wire(tag = 0)]
    pub txn_index_empty: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_log_metadata_has_the_frame_of_the_metadata_log() {
        let update = RemoteLogSegmentMetadataUpdateRecord {
            remote_log_segment_state: 1,
            ..Default::default()
        };
        let record = RemoteLogMetadataRecord::from(update);
        let bytes = record.encode(0).unwrap();
        assert_eq!(bytes[..3], [1, 1, 0]);
        assert_eq!(RemoteLogMetadataRecord::decode(&bytes), Ok(record));
    }
}
