//! The part that a replica plays, and what each part has to know.

use std::time::Instant;

use tidelog_types::{LeaderEpoch, NodeId, Offset};

pub use super::leader::Leader;
use super::snapshot::SnapshotId;
use super::voters::{Endpoint, ReplicaKey, VoterSet};
use crate::majority::majority;

/// The part that a replica plays.
///
/// ```text
///             election timeout         a majority would vote          a majority voted
///   Unattached ────────────► Prospective ────────────► Candidate ────────────► Leader
///     ▲   ▲ ▲                  │  │  ▲ ▲                   │                      │
///     │   │ └── lost ──────────┘  │  │ └──── timeout ──────┘                      │
///     │   │                       │  │ fetch timeout                              │ majority not heard of,
///     │   │    lost, leader known ▼  │ (or leader gone)                           │ shutdown, failure,
///     │   └─────────────────── Follower                                           │ voter no more
///     │                           ▲                                               ▼
///     │                           └─── any: hears of a leader ──────────────── Resigned
///     └──────── any: hears of a later epoch without leader; Resigned: timeout ────┘
/// ```
///
/// What changes the quorum state (a new epoch, a vote, a leader) is stored first, and nothing leaves before it is. An
/// observer is unattached or follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Knows an epoch, but nobody to follow.
    Unattached(Unattached),
    /// Asks the others whether they would vote for it (KIP-996).
    Prospective(Prospective),
    /// Stands for election.
    Candidate(Candidate),
    /// Decides what is appended, and learns what is committed.
    Leader(Leader),
    /// Copies the leader.
    Follower(Follower),
    /// Led in this epoch, and leads no longer.
    Resigned(Resigned),
}

/// What an unattached replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unattached {
    pub(super) voted: Option<ReplicaKey>,
    /// Who leads, without knowing where.
    pub(super) leader_id: Option<NodeId>,
    /// When a voter asks the others.
    pub(super) election_at: Instant,
}

/// What a replica knows that asks for the promise of votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospective {
    pub(super) voted: Option<ReplicaKey>,
    /// The leader of the epoch, if it knew one: the promise failing, it follows again.
    pub(super) leader: Option<(NodeId, Vec<Endpoint>)>,
    /// The leader's process is gone. Others may not know yet, and are asked again soon.
    pub(super) leader_is_unreachable: bool,
    pub(super) votes: Votes,
    pub(super) election_at: Instant,
}

/// What a candidate knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub(super) votes: Votes,
    pub(super) election_at: Instant,
}

/// What a follower knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    pub(super) leader_id: NodeId,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) voted: Option<ReplicaKey>,
    /// When a voter gives the leader up.
    pub(super) fetch_until: Instant,
    /// When to look whether the leader should be told about this replica as a voter.
    pub(super) update_voter_at: Instant,
    /// Whether the leader knows of this voter what the configuration does not say, or does not want to know it.
    pub(super) has_reported: bool,
    /// Whether the leader has answered a fetch: it exists, and nobody else needs a vote.
    pub(super) has_fetched: bool,
    /// The leader has said that it steps down, its process is gone, or it does not answer and it is another voter's turn.
    pub(super) leader_is_gone: bool,
    /// Its process is gone.
    pub(super) leader_is_unreachable: bool,
    /// The leader's high watermark, as it was heard last.
    pub(super) leader_high_watermark: Option<Offset>,
    pub(super) snapshot: Option<SnapshotFetch>,
}

impl Follower {
    /// The leader that it copies.
    pub const fn leader_id(&self) -> NodeId {
        self.leader_id
    }

    /// The snapshot that it is fetching, if its log cannot go on where it ends.
    pub fn snapshot(&self) -> Option<SnapshotId> {
        self.snapshot.as_ref().map(|fetch| fetch.id)
    }
}

/// How far the fetching of a snapshot has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotFetch {
    pub(super) id: SnapshotId,
    pub(super) position: i64,
    /// Known from the first piece on.
    pub(super) size: Option<i64>,
    /// A piece is being written.
    pub(super) is_writing: bool,
}

/// What a replica knows that has led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resigned {
    /// The voters that have not heard yet.
    pub(super) unacknowledged: Vec<NodeId>,
    pub(super) preferred_candidates: Vec<ReplicaKey>,
    pub(super) election_at: Instant,
}

/// Who has said what in an election. Its own vote counts from the beginning: it is stored before anybody hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Votes {
    pub(super) granted: Vec<NodeId>,
    rejected: Vec<NodeId>,
}

impl Votes {
    pub(super) fn new(own: NodeId) -> Self {
        Self {
            granted: vec![own],
            rejected: Vec::new(),
        }
    }

    /// Notes what a voter says; it cannot take back what it granted.
    pub(super) fn record(&mut self, voter: NodeId, granted: bool) {
        if self.has(voter) {
            return;
        }
        let list = if granted {
            &mut self.granted
        } else {
            &mut self.rejected
        };
        list.push(voter);
    }

    pub(super) fn has(&self, voter: NodeId) -> bool {
        self.granted.contains(&voter) || self.rejected.contains(&voter)
    }

    pub(super) fn is_won(&self, voters: &VoterSet) -> bool {
        let granted = voters.keys().filter(|key| self.granted.contains(&key.id));
        granted.count() >= majority(voters.len())
    }

    /// Whether those that have not answered are too few to win.
    pub(super) fn is_lost(&self, voters: &VoterSet) -> bool {
        let possible = voters.keys().filter(|key| !self.rejected.contains(&key.id));
        possible.count() < majority(voters.len())
    }
}

impl Role {
    /// Kafka's word for the role, in small letters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unattached(_) => "unattached",
            Self::Prospective(_) => "prospective",
            Self::Candidate(_) => "candidate",
            Self::Leader(_) => "leader",
            Self::Follower(_) => "follower",
            Self::Resigned(_) => "resigned",
        }
    }

    /// The leader of the epoch and where it is reached, if that is known. `own` is this node.
    pub(super) fn leader(&self, own: NodeId) -> (Option<NodeId>, &[Endpoint]) {
        match self {
            Self::Leader(_) | Self::Resigned(_) => (Some(own), &[]),
            Self::Follower(follower) => (Some(follower.leader_id), &follower.endpoints),
            Self::Prospective(Prospective {
                leader: Some((id, endpoints)),
                ..
            }) => (Some(*id), endpoints),
            Self::Unattached(unattached) => (unattached.leader_id, &[]),
            Self::Prospective(_) | Self::Candidate(_) => (None, &[]),
        }
    }

    /// Whom the replica voted for in this epoch. `own` is this replica.
    pub(super) const fn voted(&self, own: ReplicaKey) -> Option<ReplicaKey> {
        match self {
            Self::Candidate(_) => Some(own),
            Self::Unattached(unattached) => unattached.voted,
            Self::Prospective(prospective) => prospective.voted,
            Self::Follower(follower) => follower.voted,
            // That it leads says as much.
            Self::Leader(_) | Self::Resigned(_) => None,
        }
    }

    /// Whether a vote, or the promise of one, may be given to `candidate` in this epoch (KIP-595, KIP-996).
    pub(super) fn may_vote(
        &self,
        candidate: &ReplicaKey,
        is_log_up_to_date: bool,
        pre_vote: bool,
    ) -> bool {
        let (voted, leader_id) = match self {
            Self::Unattached(u) => (u.voted, u.leader_id),
            Self::Prospective(p) => (p.voted, p.leader.as_ref().map(|(id, _)| *id)),
            Self::Candidate(_) | Self::Resigned(_) => return pre_vote && is_log_up_to_date,
            Self::Follower(follower) => {
                let needs_leader = !follower.has_fetched || follower.leader_is_gone;
                return pre_vote && needs_leader && is_log_up_to_date;
            }
            Self::Leader(_) => return false,
        };
        match voted {
            _ if pre_vote => is_log_up_to_date,
            Some(voted) => voted.matches(candidate),
            None => leader_id.is_none() && is_log_up_to_date,
        }
    }
}

/// How far a new leader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The quorum state that names it is not stored yet.
    Storing,
    /// The control record that begins its epoch at this offset is not committed yet.
    Beginning { epoch_start_offset: Offset },
    /// The beginning of its epoch is committed.
    Leading { epoch_start_offset: Offset },
}

/// What a replica was given out as: an epoch and its leader.
pub(super) type Announced = (LeaderEpoch, Option<NodeId>, Vec<Endpoint>);
