//! Fetch, key 1.

pub use super::produce::{LeaderIdAndEpoch, NodeEndpoint};
use super::*;

/// Asks for records, as a consumer, a follower or an observer of the metadata log.
///
/// Version 2 takes records with timestamps (format 1, KIP-32), 3 limits the whole answer (KIP-74),
/// 4 takes record batches and knows transactions (format 2, KIP-98), 5 tells where a follower's log
/// starts (KIP-107), 7 adds sessions (KIP-227), 9 leader epochs (KIP-320), 10 allows zstd, 11 adds
/// racks (KIP-392), 13 names topics by id (KIP-516), 15 moves the replica into a struct (KIP-903),
/// 17 adds the directory (KIP-853), 18 the follower's high watermark (KIP-1166).
#[message(versions = 0..=18, flexible = 12..)]
pub struct FetchRequest {
    /// The id of the cluster, if the fetcher knows it.
    #[wire(versions = 12.., tag = 0, ignorable)]
    pub cluster_id: Option<Str>,
    /// The follower that fetches, or -1 for a consumer; moved into the replica state in version 15.
    #[wire(versions = ..=14, default = NodeId::NONE)]
    pub replica_id: NodeId,
    /// Who fetches (KIP-903).
    #[wire(versions = 15.., tag = 1)]
    pub replica_state: ReplicaState,
    /// How long the broker may wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes the answer should have at least, if the wait allows.
    pub min_bytes: i32,
    /// How many bytes the answer may have; a first batch that is larger is sent nevertheless
    /// (KIP-74).
    #[wire(versions = 3.., default = i32::MAX, ignorable)]
    pub max_bytes: i32,
    /// 0 to see all records, 1 to see committed ones only (KIP-98).
    #[wire(versions = 4.., ignorable)]
    pub isolation_level: i8,
    /// The fetch session, or 0 for none (KIP-227).
    #[wire(versions = 7.., ignorable)]
    pub session_id: i32,
    /// The number of the request within the session; 0 opens one, -1 closes or avoids one
    /// (KIP-227).
    #[wire(versions = 7.., default = -1, ignorable)]
    pub session_epoch: i32,
    /// What to fetch, by topic; in a session, what has changed.
    pub topics: Vec<FetchTopic>,
    /// What to remove from the session (KIP-227).
    #[wire(versions = 7..)]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// The rack of the consumer, for fetching from a near replica (KIP-392).
    #[wire(versions = 11.., ignorable)]
    pub rack_id: Str,
}

/// The follower that fetches.
#[derive(Clone, PartialEq, Wire)]
pub struct ReplicaState {
    /// The replica that asks, or -1 for a consumer.
    #[wire(default = NodeId::NONE)]
    pub replica_id: NodeId,
    /// The broker epoch of the follower, or -1.
    #[wire(default = -1)]
    pub replica_epoch: i64,
}

/// What to fetch of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct FetchTopic {
    /// The topic; replaced by its id in version 13.
    #[wire(versions = ..=12, ignorable)]
    pub topic: TopicName,
    /// The id of the topic, in place of its name from version 13 on (KIP-516).
    #[wire(versions = 13.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
}

/// What to fetch of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct FetchPartition {
    /// The partition.
    pub partition: i32,
    /// The leader epoch that the client knows; -1 to not check it (KIP-320).
    #[wire(versions = 9.., default = LeaderEpoch::NONE, ignorable)]
    pub current_leader_epoch: LeaderEpoch,
    /// The first offset to fetch.
    pub fetch_offset: Offset,
    /// The epoch of the last record the fetcher has, or -1; the leader tells if the logs diverge
    /// (KIP-595).
    #[wire(versions = 12.., default = LeaderEpoch::NONE)]
    pub last_fetched_epoch: LeaderEpoch,
    /// The first offset of the follower's log; -1 from consumers.
    #[wire(versions = 5.., default = Offset::NONE, ignorable)]
    pub log_start_offset: Offset,
    /// How many bytes of this partition the answer may have (KIP-74).
    pub partition_max_bytes: i32,
    /// The log directory of the follower (KIP-853).
    #[wire(versions = 17.., tag = 0, ignorable)]
    pub replica_directory_id: Uuid,
    /// The high watermark that the follower knows; -1 if unknown, the largest number if it does not
    /// say (KIP-1166).
    #[wire(versions = 18.., tag = 1, default = Offset::new(i64::MAX), ignorable)]
    pub high_watermark: Offset,
}

/// Partitions of one topic to remove from the session.
#[derive(Clone, PartialEq, Wire)]
pub struct ForgottenTopic {
    /// The topic; replaced by its id in version 13.
    #[wire(versions = ..=12, ignorable)]
    pub topic: TopicName,
    /// The id of the topic, in place of its name from version 13 on (KIP-516).
    #[wire(versions = 13.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Brings records.
///
/// Version 4 tells of aborted transactions (KIP-98), 5 where the log starts (KIP-107), 7 adds
/// sessions (KIP-227), 11 names a nearer replica (KIP-392), 12 tells where logs diverge (KIP-595),
/// 13 names topics by id (KIP-516), 16 tells where new leaders listen (KIP-951).
#[message(versions = 0..=18, flexible = 12..)]
pub struct FetchResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    #[wire(versions = 1.., ignorable)]
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    #[wire(versions = 7.., ignorable)]
    pub error_code: ErrorCode,
    /// The fetch session, or 0 for none (KIP-227).
    #[wire(versions = 7..)]
    pub session_id: i32,
    /// What was fetched, by topic.
    pub responses: Vec<FetchableTopicResponse>,
    /// Where the leaders named above listen (KIP-951).
    #[wire(versions = 16.., tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What was fetched of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct FetchableTopicResponse {
    /// The topic; replaced by its id in version 13.
    #[wire(versions = ..=12, ignorable)]
    pub topic: TopicName,
    /// The id of the topic, in place of its name from version 13 on (KIP-516).
    #[wire(versions = 13.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// What was fetched of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The first offset that is not yet on all in-sync replicas.
    pub high_watermark: Offset,
    /// The first offset that belongs to an open transaction, at most the high watermark (KIP-98).
    #[wire(versions = 4.., default = Offset::NONE, ignorable)]
    pub last_stable_offset: Offset,
    /// The first offset of the log.
    #[wire(versions = 5.., default = Offset::NONE, ignorable)]
    pub log_start_offset: Offset,
    /// Where the logs of leader and follower part, if they do (KIP-595).
    #[wire(versions = 12.., tag = 0)]
    pub diverging_epoch: EpochEndOffset,
    /// The leader to ask, if it is not this broker (KIP-951).
    #[wire(versions = 12.., tag = 1)]
    pub current_leader: LeaderIdAndEpoch,
    /// The snapshot to fetch instead, if the log starts later (KIP-630).
    #[wire(versions = 12.., tag = 2)]
    pub snapshot_id: SnapshotId,
    /// The aborted transactions among the records, by first offset; null if all records are wanted.
    #[wire(versions = 4.., ignorable)]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica to fetch from, or -1 for this one (KIP-392).
    #[wire(versions = 11.., default = NodeId::NONE)]
    pub preferred_read_replica: NodeId,
    /// The record batches; possibly ending within a batch.
    pub records: Option<Payload>,
}

/// An epoch and its end.
#[derive(Clone, PartialEq, Wire)]
pub struct EpochEndOffset {
    /// The largest epoch that both logs may have.
    #[wire(default = LeaderEpoch::NONE)]
    pub epoch: LeaderEpoch,
    /// The first offset after the epoch.
    #[wire(default = Offset::NONE)]
    pub end_offset: Offset,
}

/// A snapshot of the metadata log.
#[derive(Clone, PartialEq, Wire)]
pub struct SnapshotId {
    /// The first offset after the snapshot.
    #[wire(default = Offset::NONE)]
    pub end_offset: Offset,
    /// The epoch of the last record in the snapshot.
    #[wire(default = LeaderEpoch::NONE)]
    pub epoch: LeaderEpoch,
}

/// A transaction whose records must be dropped.
#[derive(Clone, PartialEq, Wire)]
pub struct AbortedTransaction {
    /// The producer.
    pub producer_id: ProducerId,
    /// The offset of the first record of the transaction.
    pub first_offset: Offset,
}
