//! TxnOffsetCommit, key 28.

use super::*;

/// Commits offsets of a group within a transaction (KIP-98).
///
/// Version 2 tells leader epochs (KIP-320), 3 who commits (KIP-447), 4 knows
/// `TRANSACTION_ABORTABLE`, 5 adds the group to the transaction by itself (KIP-890).
#[message(versions = 0..=5, flexible = 3..)]
pub struct TxnOffsetCommitRequest {
    /// The transactional id of the producer.
    pub transactional_id: TransactionalId,
    /// The group.
    pub group_id: GroupId,
    /// The producer id.
    pub producer_id: ProducerId,
    /// The epoch of the producer.
    pub producer_epoch: ProducerEpoch,
    /// The generation of a classic group, the member epoch of a consumer group, or -1 (KIP-447).
    #[wire(versions = 3.., default = -1)]
    pub generation_id: i32,
    /// The member, or empty (KIP-447).
    #[wire(versions = 3..)]
    pub member_id: Str,
    /// The name under which a static member survives restarts, or null (KIP-345).
    #[wire(versions = 3..)]
    pub group_instance_id: Option<Str>,
    /// The topics.
    pub topics: Vec<TxnOffsetCommitRequestTopic>,
}

/// The offsets of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TxnOffsetCommitRequestTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<TxnOffsetCommitRequestPartition>,
}

/// The offset of one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct TxnOffsetCommitRequestPartition {
    /// The partition.
    pub partition_index: i32,
    /// The offset of the next record to consume.
    pub committed_offset: Offset,
    /// The leader epoch of the last consumed record, or -1 (KIP-320).
    #[wire(versions = 2.., default = LeaderEpoch::NONE, ignorable)]
    pub committed_leader_epoch: LeaderEpoch,
    /// What the client wants to keep with the offset, or null.
    pub committed_metadata: Option<Str>,
}

/// Says which offsets wait for the end of the transaction.
///
/// Version 3 has the errors of group members (KIP-447).
#[message(versions = 0..=5, flexible = 3..)]
pub struct TxnOffsetCommitResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<TxnOffsetCommitResponseTopic>,
}

/// The answers for one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TxnOffsetCommitResponseTopic {
    /// The topic.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<TxnOffsetCommitResponsePartition>,
}

/// The answer for one partition.
#[derive(Clone, PartialEq, Wire)]
pub struct TxnOffsetCommitResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
}
