//! UpdateRaftVoter, key 82.

pub use super::describe_quorum::Listener;
use super::*;

/// Tells the leader of the metadata quorum where a voter listens and what it supports (KIP-853).
#[message(versions = 0..=0, flexible = 0..)]
pub struct UpdateRaftVoterRequest {
    /// The id of the cluster, or null to not check it.
    pub cluster_id: Option<Str>,
    /// The leader epoch that the sender knows; -1 if unknown.
    pub current_leader_epoch: LeaderEpoch,
    /// The voter.
    pub voter_id: NodeId,
    /// The directory of the voter's metadata log (KIP-853).
    pub voter_directory_id: Uuid,
    /// Where the voter listens.
    pub listeners: Vec<Listener>,
    /// The levels of `kraft.version` that the voter supports.
    #[wire(json = "kRaftVersionFeature")]
    pub kraft_version_feature: KRaftVersionFeature,
}

/// The levels of `kraft.version` that a voter supports.
#[derive(Clone, PartialEq, Wire)]
pub struct KRaftVersionFeature {
    /// The lowest supported level.
    pub min_supported_version: i16,
    /// The highest supported level.
    pub max_supported_version: i16,
}

/// Says whether the voter was updated.
#[message(versions = 0..=0, flexible = 0..)]
pub struct UpdateRaftVoterResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// The leader to ask, if it is not this node.
    #[wire(tag = 0)]
    pub current_leader: CurrentLeader,
}

/// A leader and where it listens.
#[derive(Clone, PartialEq, Wire)]
pub struct CurrentLeader {
    /// The leader, or -1 if unknown.
    #[wire(default = NodeId::NONE)]
    pub leader_id: NodeId,
    /// The epoch of the leader.
    #[wire(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: i32,
}
