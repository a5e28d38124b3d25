//! The messages of the quorum as plain structs. Whoever owns the machine translates them to and from the protocol, checks the
//! cluster id and the partition, and adds or takes out the records.

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::snapshot::SnapshotId;
use super::voters::{Endpoint, ReplicaKey, VersionRange};
use crate::divergence::EpochEnd;

/// What a replica asks of another, or a client of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// For a vote, or for the promise of one.
    Vote(VoteRequest),
    /// A new leader makes itself known.
    BeginQuorumEpoch(BeginQuorumEpochRequest),
    /// A leader steps down.
    EndQuorumEpoch(EndQuorumEpochRequest),
    /// For the records that follow.
    Fetch(FetchRequest),
    /// For a piece of a snapshot.
    FetchSnapshot(FetchSnapshotRequest),
    /// To become, or make somebody, a voter (KIP-853).
    AddRaftVoter(AddRaftVoterRequest),
    /// To be a voter no longer (KIP-853).
    RemoveRaftVoter(RemoveRaftVoterRequest),
    /// A voter is reached at other addresses, or knows other versions (KIP-853).
    UpdateRaftVoter(UpdateRaftVoterRequest),
    /// For the range of `kraft.version` that a node knows. Only sent, never received: the owner answers it by itself.
    ApiVersions,
}

/// The answer to a [`Request`], by the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Vote`].
    Vote(VoteResponse),
    /// To [`Request::BeginQuorumEpoch`].
    BeginQuorumEpoch(QuorumResponse),
    /// To [`Request::EndQuorumEpoch`].
    EndQuorumEpoch(QuorumResponse),
    /// To [`Request::Fetch`].
    Fetch(FetchResponse),
    /// To [`Request::FetchSnapshot`].
    FetchSnapshot(FetchSnapshotResponse),
    /// To [`Request::AddRaftVoter`].
    AddRaftVoter(VoterChangeResponse),
    /// To [`Request::RemoveRaftVoter`].
    RemoveRaftVoter(VoterChangeResponse),
    /// To [`Request::UpdateRaftVoter`].
    UpdateRaftVoter(QuorumResponse),
    /// To [`Request::ApiVersions`].
    ApiVersions(ApiVersionsResponse),
}

/// Who leads, as far as a replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAndEpoch {
    /// The leader of the epoch, if it is known.
    pub leader_id: Option<NodeId>,
    /// The highest epoch that the replica has heard of.
    pub leader_epoch: LeaderEpoch,
    /// Where the leader is reached, by listener; empty if that is not known.
    pub endpoints: Vec<Endpoint>,
}

/// Asks a voter for its vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// Who stands for election.
    pub replica: ReplicaKey,
    /// In which epoch; with `pre_vote` the epoch that it is in.
    pub replica_epoch: LeaderEpoch,
    /// Whose vote is asked for; nobody's in version 0.
    pub voter: Option<ReplicaKey>,
    /// The epoch of the last record of its log, 0 if it is empty.
    pub last_offset_epoch: LeaderEpoch,
    /// The log end offset.
    pub last_offset: Offset,
    /// Whether it only asks if it would get the vote (KIP-996).
    pub pre_vote: bool,
}

/// Grants a vote, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteResponse {
    /// `FENCED_LEADER_EPOCH`, `INVALID_VOTER_KEY`, `INVALID_REQUEST`, ...
    pub error: ErrorCode,
    /// Who leads.
    pub leader: LeaderAndEpoch,
    /// Whether the vote is granted.
    pub vote_granted: bool,
}

/// Tells a voter who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginQuorumEpochRequest {
    /// Who is told; nobody in version 0.
    pub voter: Option<ReplicaKey>,
    /// The leader.
    pub leader_id: NodeId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where it is reached; empty in version 0.
    pub leader_endpoints: Vec<Endpoint>,
}

/// Tells a voter that the leader leads no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndQuorumEpochRequest {
    /// The leader that steps down.
    pub leader_id: NodeId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// Who should stand for election, the longest log first.
    pub preferred_candidates: Vec<ReplicaKey>,
    /// Where the leader is reached; empty in version 0.
    pub leader_endpoints: Vec<Endpoint>,
}

/// An answer that only says who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumResponse {
    /// What was wrong with the request, if anything.
    pub error: ErrorCode,
    /// Who leads.
    pub leader: LeaderAndEpoch,
}

/// Asks the leader for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// Who fetches. The directory id is zero before version 17.
    pub replica: ReplicaKey,
    /// The epoch that it is in.
    pub current_leader_epoch: LeaderEpoch,
    /// The end of its log; of what it has flushed, if it is or may become a voter.
    pub fetch_offset: Offset,
    /// The epoch of the last record below `fetch_offset`, 0 if there is none.
    pub last_fetched_epoch: LeaderEpoch,
    /// The high watermark that it knows (KIP-1166), [`FetchRequest::NO_HIGH_WATERMARK`] if it does not say (before version
    /// 18).
    pub high_watermark: Offset,
    /// How long the leader may wait for records, in milliseconds.
    pub max_wait_ms: i32,
}

impl FetchRequest {
    /// A `high_watermark` that no leader's exceeds: the follower is not woken for a new one.
    pub const NO_HIGH_WATERMARK: Offset = Offset::new(i64::MAX);
}

/// What the leader has for a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH`, `NOT_LEADER_OR_FOLLOWER`, ...
    pub error: ErrorCode,
    /// Who leads.
    pub leader: LeaderAndEpoch,
    /// The leader's high watermark, once a record of its epoch is committed.
    pub high_watermark: Option<Offset>,
    /// Where the leader's log begins.
    pub log_start_offset: Offset,
    /// Records, or why there are none.
    pub fetched: Fetched,
}

/// What a fetch brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Records.
    ///
    /// In an answer that this machine gives: the owner reads from its log at `from`, at least one batch and no more bytes
    /// than were asked for, never to beyond `to`. In one that it gets: the offset of the first record and the one after the
    /// last, as the owner finds them in the batches. Both are equal if there is nothing.
    Records {
        /// The first offset.
        from: Offset,
        /// The offset after the last one.
        to: Offset,
    },
    /// The follower's log is not a prefix of the leader's: it has to cut off everything beyond this.
    Diverging(EpochEnd),
    /// The records are gone, or never were in the log: the follower has to begin with this snapshot.
    Snapshot(SnapshotId),
}

/// Asks the leader for a piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSnapshotRequest {
    /// Who fetches.
    pub replica: ReplicaKey,
    /// The epoch that it is in.
    pub current_leader_epoch: LeaderEpoch,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// The first byte.
    pub position: i64,
}

/// A piece of a snapshot. Its bytes stay with the owner, who sends as many from `position` as were asked for and are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSnapshotResponse {
    /// `SNAPSHOT_NOT_FOUND`, `POSITION_OUT_OF_RANGE`, and those of a fetch.
    pub error: ErrorCode,
    /// Who leads.
    pub leader: LeaderAndEpoch,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Its size in bytes.
    pub size: i64,
    /// The first byte of this piece.
    pub position: i64,
    /// How many bytes this piece has. The machine, which answers before anything is read, leaves it at 0.
    pub bytes: i64,
}

/// Makes a node a voter (KIP-853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddRaftVoterRequest {
    /// The node.
    pub voter: ReplicaKey,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// Whether to answer when the change is committed; otherwise when it is in the leader's log.
    pub ack_when_committed: bool,
}

/// Makes a voter an observer (KIP-853).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoveRaftVoterRequest {
    /// The voter.
    pub voter: ReplicaKey,
}

/// Tells the leader what has changed about a voter (KIP-853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateRaftVoterRequest {
    /// The epoch that the voter is in.
    pub current_leader_epoch: LeaderEpoch,
    /// The voter.
    pub voter: ReplicaKey,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// What it knows of `kraft.version`.
    pub kraft_versions: VersionRange,
}

/// What became of a change of the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterChangeResponse {
    /// `REQUEST_TIMED_OUT`, `UNSUPPORTED_VERSION`, `DUPLICATE_VOTER`, `VOTER_NOT_FOUND`, ...
    pub error: ErrorCode,
    /// The reason, in words.
    pub reason: Option<&'static str>,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// What went wrong, if anything.
    pub error: ErrorCode,
    /// The range of the feature `kraft.version`, if the node knows it.
    pub kraft_versions: Option<VersionRange>,
}
