//! AddRaftVoter, key 80.

pub use super::describe_quorum::Listener;
use super::*;

/// Adds a voter to the metadata quorum (KIP-853).
///
/// Version 1 may be answered before the voters are committed (KIP-1186).
#[message(versions = 0..=1, flexible = 0..)]
pub struct AddRaftVoterRequest {
    /// The id of the cluster, or null to not check it.
    pub cluster_id: Option<Str>,
    /// How long the node may take, in milliseconds.
    pub timeout_ms: i32,
    /// The voter.
    pub voter_id: NodeId,
    /// The directory of the voter's metadata log (KIP-853).
    pub voter_directory_id: Uuid,
    /// Where the voter listens.
    pub listeners: Vec<Listener>,
    /// Whether to answer only when the new voters are committed, not as soon as the leader has
    /// written them (KIP-1186).
    #[wire(versions = 1.., default = true)]
    pub ack_when_committed: bool,
}

/// Says whether the voter was added.
#[message(versions = 0..=1, flexible = 0..)]
pub struct AddRaftVoterResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
