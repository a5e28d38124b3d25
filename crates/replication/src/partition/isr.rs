use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId};

use super::event::{AlterPartition, AlteredPartition};
use super::planted::{Bug, planted};

/// What the leader wants the in-sync replicas to be, if that is not what the controller has. One change is asked for at a
/// time.
///
/// ```text
///                 propose                     no answer, or one that
///   Settled ───────────────────► InFlight ──────────────────────────► RetryAt
///     ▲  ▲                       │  │  ▲       explains nothing          │
///     │  │ answered: the new ISR,│  │  └───────── the same again ────────┘
///     │  └── or surely refused ──┘  │ refused, and the metadata will say why
///     │                             ▼
///     └────── later metadata ◄── AwaitingMetadata
/// ```
///
/// Later metadata settles everything, from wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum IsrChange {
    /// Nothing is asked for. After a refusal nothing will be before this moment.
    Settled { not_before: Option<Instant> },
    /// Something is, and whether the controller made it, nobody here knows.
    Proposed(Box<Proposed>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposed {
    request: AlterPartition,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    InFlight,
    RetryAt(Instant),
    AwaitingMetadata,
}

/// What an answer of the controller came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answers something that is not asked any more, or tells nothing that helps.
    Nothing,
    /// This is the state now.
    Altered(AlteredPartition),
    /// The change is off.
    RolledBack,
}

impl IsrChange {
    /// The controller has what the leader has.
    pub(super) const SETTLED: Self = Self::Settled { not_before: None };

    /// The change that is asked for, if there is one.
    pub(super) fn proposed(&self) -> Option<&AlterPartition> {
        match self {
            Self::Settled { .. } => None,
            Self::Proposed(proposed) => Some(&proposed.request),
        }
    }

    /// Whether a replica is a member of the ISR that is asked for, if one is.
    pub(super) fn wants(&self, id: NodeId) -> Option<bool> {
        let request = self.proposed()?;
        Some(request.new_isr.iter().any(|member| member.id == id))
    }

    /// From when on a change may be proposed, or `None` while one is; `Some(None)` is at any time.
    pub(super) const fn proposable_at(&self) -> Option<Option<Instant>> {
        match self {
            Self::Settled { not_before } => Some(*not_before),
            Self::Proposed(_) => None,
        }
    }

    /// Whether a change may be proposed now.
    pub(super) fn is_proposable(&self, now: Instant) -> bool {
        let at = self.proposable_at();
        at.is_some_and(|not_before| not_before.is_none_or(|at| at <= now))
    }

    pub(super) fn propose(&mut self, request: AlterPartition) {
        assert!(self.proposed().is_none(), "one change at a time");
        *self = Self::Proposed(Box::new(Proposed {
            request,
            stage: Stage::InFlight,
        }));
    }

    /// When the change is to be asked for once more.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Proposed(proposed) => match proposed.stage {
                Stage::RetryAt(at) => Some(at),
                Stage::InFlight | Stage::AwaitingMetadata => None,
            },
            Self::Settled { .. } => None,
        }
    }

    /// The same request again under a new id, if it is time.
    pub(super) fn retry(&mut self, now: Instant, id: u64) -> Option<AlterPartition> {
        if self.retry_at().is_none_or(|at| at > now) {
            return None;
        }
        let Self::Proposed(proposed) = self else {
            return None;
        };
        proposed.stage = Stage::InFlight;
        proposed.request.id = id;
        Some(proposed.request.clone())
    }

    /// Takes the controller's answer to the request of this id.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        id: u64,
        answer: Result<AlteredPartition, ErrorCode>,
        leader_epoch: LeaderEpoch,
        backoff: Duration,
    ) -> Outcome {
        let Self::Proposed(proposed) = self else {
            return Outcome::Nothing;
        };
        if proposed.request.id != id || proposed.stage != Stage::InFlight {
            return Outcome::Nothing;
        }
        let settle_later = Self::Settled {
            not_before: Some(now + backoff),
        };
        match answer {
            Ok(state)
                if state.leader_epoch == leader_epoch
                    && state.partition_epoch >= proposed.request.partition_epoch =>
            {
                // A controller that takes no note of a recovery is told again, but not at once.
                *self = if state.recovering {
                    settle_later
                } else {
                    Self::SETTLED
                };
                Outcome::Altered(state)
            }
            // The metadata is about to say who leads now.
            Ok(_) => {
                proposed.stage = Stage::AwaitingMetadata;
                Outcome::Nothing
            }
            // The controller says that its state is the one on which the change builds, and that it did not make it. So no
            // controller ever did.
            Err(ErrorCode::OPERATION_NOT_ATTEMPTED | ErrorCode::INELIGIBLE_REPLICA) => {
                *self = settle_later;
                Outcome::RolledBack
            }
            // The partition is not in the state on which the change builds, or is gone.
            Err(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::FENCED_LEADER_EPOCH
                | ErrorCode::INVALID_UPDATE_VERSION
                | ErrorCode::INVALID_REQUEST
                | ErrorCode::NEW_LEADER_ELECTED,
            ) => {
                proposed.stage = Stage::AwaitingMetadata;
                Outcome::Nothing
            }
            Err(_) if planted(Bug::RollBackOnAnyError) => {
                *self = settle_later;
                Outcome::RolledBack
            }
            // Perhaps it was made, and only the answer got lost. The same request cannot do harm.
            Err(_) => {
                proposed.stage = Stage::RetryAt(now + backoff);
                Outcome::Nothing
            }
        }
    }

    pub(super) fn check(&self, node_id: NodeId, leader_epoch: LeaderEpoch, partition_epoch: i32) {
        if let Some(request) = self.proposed() {
            assert!(
                request.leader_epoch == leader_epoch && request.partition_epoch == partition_epoch,
                "a change builds on the latest state that is known: {self:?}"
            );
            assert!(
                self.wants(node_id) == Some(true),
                "a leader stays in its ISR: {self:?}"
            );
        }
    }
}
