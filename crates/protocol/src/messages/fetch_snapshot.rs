//! FetchSnapshot, key 59.

pub use super::vote::NodeEndpoint;
use super::*;

/// Asks for a piece of a snapshot of the metadata log (KIP-630).
///
/// Version 1 names the directory (KIP-853).
#[message(versions = 0..=1, flexible = 0..)]
pub struct FetchSnapshotRequest {
    /// The id of the cluster, if the fetcher knows it.
    #[wire(tag = 0)]
    pub cluster_id: Option<Str>,
    /// The replica that fetches, or -1.
    #[wire(default = NodeId::NONE)]
    pub replica_id: NodeId,
    /// How many bytes the answer may have.
    #[wire(default = i32::MAX)]
    pub max_bytes: i32,
    /// The topics.
    pub topics: Vec<TopicSnapshot>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicSnapshot {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<PartitionSnapshot>,
}

/// The piece that is wanted.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionSnapshot {
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the sender knows; -1 if unknown.
    pub current_leader_epoch: LeaderEpoch,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The first wanted byte of the snapshot.
    pub position: i64,
    /// The directory of its metadata log (KIP-853).
    #[wire(versions = 1.., tag = 0, ignorable)]
    pub replica_directory_id: Uuid,
}

/// A snapshot of the metadata log.
#[derive(Clone, PartialEq, Wire)]
pub struct SnapshotId {
    /// The first offset after the snapshot.
    pub end_offset: Offset,
    /// The epoch of the last record in the snapshot.
    pub epoch: LeaderEpoch,
}

/// Brings pieces of snapshots.
///
/// Version 1 tells where leaders listen (KIP-853).
#[message(versions = 0..=1, flexible = 0..)]
pub struct FetchSnapshotResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The topics.
    pub topics: Vec<TopicSnapshotResult>,
    /// Where the leaders named above listen.
    #[wire(versions = 1.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic. Kafka calls this struct `TopicSnapshot`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicSnapshotResult {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<PartitionSnapshotResult>,
}

/// A piece of a snapshot. Kafka calls this struct `PartitionSnapshot`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionSnapshotResult {
    /// The partition.
    pub index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The leader to ask, if it is not this node.
    #[wire(tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
    /// How many bytes the snapshot has.
    pub size: i64,
    /// Where in the snapshot the bytes stand.
    pub position: i64,
    /// Bytes of the snapshot; they may begin and end within a batch.
    pub unaligned_records: Payload,
}

/// A leader and its epoch.
#[derive(Clone, PartialEq, Wire)]
pub struct LeaderIdAndEpoch {
    /// The leader, or -1 if unknown.
    pub leader_id: NodeId,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
}
