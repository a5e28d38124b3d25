//! RemoveRaftVoter, key 81.

use super::*;

/// Removes a voter from the metadata quorum (KIP-853).
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoveRaftVoterRequest {
    /// The id of the cluster, or null to not check it.
    pub cluster_id: Option<Str>,
    /// The voter.
    pub voter_id: NodeId,
    /// The directory of the voter's metadata log (KIP-853).
    pub voter_directory_id: Uuid,
}

/// Says whether the voter was removed.
#[message(versions = 0..=0, flexible = 0..)]
pub struct RemoveRaftVoterResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
}
