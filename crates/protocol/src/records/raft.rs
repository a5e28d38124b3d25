//! What a voter of the metadata quorum must not forget, as it lies in the file `quorum-state`.

use tidelog_types::{LeaderEpoch, NodeId, Offset, Str, Uuid};

use crate::Wire;

/// The epoch of a voter, and its vote (KIP-595). Kafka's schema is called `QuorumStateData`.
///
/// The file holds it as JSON with the version as `data_version`. Version 1 belongs to quorums whose
/// voters may change (KIP-853).
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = 0..=1, flexible = 0..)]
pub struct QuorumState {
    /// The id of the cluster.
    #[wire(versions = ..=0)]
    pub cluster_id: Str,
    /// The leader, or -1 if unknown.
    #[wire(default = NodeId::NONE)]
    pub leader_id: NodeId,
    /// The epoch of the leader.
    #[wire(default = LeaderEpoch::NONE)]
    pub leader_epoch: LeaderEpoch,
    /// Whom the voter has given its vote in the epoch, or -1.
    #[wire(default = NodeId::NONE)]
    pub voted_id: NodeId,
    /// The directory of that candidate's metadata log (KIP-853).
    #[wire(versions = 1..)]
    pub voted_directory_id: Uuid,
    /// Not used.
    #[wire(versions = ..=0)]
    pub applied_offset: Offset,
    /// The voters, or null.
    #[wire(versions = ..=0)]
    pub current_voters: Option<Vec<Voter>>,
}

/// A voter.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct Voter {
    /// The node.
    pub voter_id: NodeId,
}
