//! AlterPartition, key 56.

use super::*;

/// Asks the controller to change the replicas in sync of partitions (KIP-497).
///
/// Version 1 tells of unclean elections (KIP-704), 2 names topics by id (KIP-841), 3 brokers with
/// their epochs (KIP-903).
#[message(versions = 0..=3, flexible = 0..)]
pub struct AlterPartitionRequest {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration.
    #[wire(default = -1)]
    pub broker_epoch: i64,
    /// The topics.
    pub topics: Vec<TopicData>,
}

/// One topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicData {
    /// The topic; replaced by its id in version 2.
    #[wire(versions = ..=1, ignorable)]
    pub topic_name: TopicName,
    /// The id of the topic, in place of its name from version 2 on (KIP-841).
    #[wire(versions = 2.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionData>,
}

/// One partition.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionData {
    /// The partition.
    pub partition_index: i32,
    /// The epoch of the leader that asks.
    pub leader_epoch: LeaderEpoch,
    /// The wanted replicas in sync; replaced in version 3.
    #[wire(versions = ..=2)]
    pub new_isr: Vec<NodeId>,
    /// The wanted replicas in sync, each with its broker epoch (KIP-903).
    #[wire(versions = 3..)]
    pub new_isr_with_epochs: Vec<BrokerState>,
    /// 1 while an uncleanly elected leader recovers, else 0 (KIP-704).
    #[wire(versions = 1..)]
    pub leader_recovery_state: i8,
    /// How often the partition's registration has changed, as far as the leader knows.
    pub partition_epoch: i32,
}

/// A broker and the epoch of its registration.
#[derive(Clone, PartialEq, Wire)]
pub struct BrokerState {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the broker's registration, or -1 to not check it.
    #[wire(default = -1)]
    pub broker_epoch: i64,
}

/// Says what the partitions are now.
///
/// Version 1 tells of unclean elections (KIP-704), 2 names topics by id (KIP-841).
#[message(versions = 0..=3, flexible = 0..)]
pub struct AlterPartitionResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The topics.
    pub topics: Vec<TopicResult>,
}

/// One topic. Kafka calls this struct `TopicData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicResult {
    /// The topic; replaced by its id in version 2.
    #[wire(versions = ..=1, ignorable)]
    pub topic_name: TopicName,
    /// The id of the topic, in place of its name from version 2 on (KIP-841).
    #[wire(versions = 2.., ignorable)]
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<PartitionResult>,
}

/// One partition as it is now. Kafka calls this struct `PartitionData`, too.
#[derive(Clone, PartialEq, Wire)]
pub struct PartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The leader, or -1 if unknown.
    pub leader_id: NodeId,
    /// The epoch of the leader.
    pub leader_epoch: LeaderEpoch,
    /// The replicas in sync.
    pub isr: Vec<NodeId>,
    /// 1 while an uncleanly elected leader recovers, else 0 (KIP-704).
    #[wire(versions = 1.., ignorable)]
    pub leader_recovery_state: i8,
    /// How often the partition's registration has changed.
    pub partition_epoch: i32,
}
