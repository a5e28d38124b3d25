//! What the fetcher knows of a partition, and of a broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidelog_types::{LeaderEpoch, NodeId, Uuid};

use super::session::Session;
use super::{Position, RequestId, Slot};
use crate::{OffsetReset, OffsetSpec};

/// How the fetcher behaves.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) reset: OffsetReset,
    /// How many bytes may be kept, or be on their way.
    pub(crate) buffer_bytes_max: usize,
    /// How many bytes an answer may have.
    pub(crate) fetch_bytes_max: usize,
    /// How many bytes may be kept before another fetch, even if answers bring less.
    pub(crate) ahead_bytes_min: usize,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    /// For how long a preferred replica is (KIP-392).
    pub(crate) preferred_for: Duration,
    pub(crate) seed: u64,
}

/// Where a partition stands.
///
/// ```text
/// Committed ──> Lookup ──> Validate ──> Fetch
///     └────────────────────────^  ^──────┘    any ──> Stopped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// What the group has committed is to be found out.
    Committed,
    /// An offset is to be looked up.
    Lookup(OffsetSpec),
    /// The position is there; whether the leader's log goes through it is to be found out (KIP-320).
    Validate,
    /// Records are fetched.
    Fetch,
    /// The application has to say where to go on.
    Stopped,
}

/// What is known of a partition, the consumer's or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leadership {
    pub(super) topic_id: Uuid,
    pub(super) node: Option<NodeId>,
    pub(super) epoch: LeaderEpoch,
}

impl Leadership {
    pub(super) const UNKNOWN: Self = Self {
        topic_id: Uuid::ZERO,
        node: None,
        epoch: LeaderEpoch::NONE,
    };
}

/// A partition of the consumer's.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) state: State,
    /// Where the next fetch begins.
    pub(super) position: Position,
    /// Raised when answers under way become void.
    pub(super) version: u64,
    pub(super) is_paused: bool,
    /// A request other than a fetch that is under way.
    pub(super) asked: Option<RequestId>,
    /// Who is asked in place of the leader, and until when.
    pub(super) preferred: Option<(NodeId, Instant)>,
    /// What is kept of it.
    pub(super) buffered_bytes: usize,
    /// Not to be asked for before then.
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u32,
    /// When it was served last, in answers.
    pub(super) served: u64,
}

impl Partition {
    pub(super) const fn new(state: State, version: u64) -> Self {
        Self {
            state,
            position: Position::at(tidelog_types::Offset::NONE),
            version,
            is_paused: false,
            asked: None,
            preferred: None,
            buffered_bytes: 0,
            retry_at: None,
            failures: 0,
            served: 0,
        }
    }

    /// Whether something may be asked about it now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.asked.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether there is anything to ask.
    pub(super) const fn has_wish(&self) -> bool {
        match self.state {
            State::Stopped => false,
            State::Fetch => !self.is_paused,
            _ => true,
        }
    }

    /// Whom to fetch from.
    pub(super) fn replica(&self, leader: Leadership, now: Instant) -> Option<NodeId> {
        match self.preferred {
            Some((node, until)) if now < until => Some(node),
            _ => leader.node,
        }
    }

    /// The position has changed, or the leader: asked of the leader if there is an epoch to ask about.
    pub(super) fn validate(&mut self, leader: Leadership) {
        let can_be =
            self.position.leader_epoch != LeaderEpoch::NONE && leader.epoch != LeaderEpoch::NONE;
        self.state = if can_be {
            State::Validate
        } else {
            State::Fetch
        };
    }
}

/// A broker that is fetched from.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) session: Session,
    pub(super) in_flight: Option<InFlight>,
    /// How much its last answer with records brought.
    pub(super) answer_bytes: usize,
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u32,
}

/// A fetch that has no answer yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) request: RequestId,
    pub(super) bytes_max: usize,
    /// As of which version of each partition.
    pub(super) versions: BTreeMap<Slot, u64>,
}
