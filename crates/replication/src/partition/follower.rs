use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::Watermarks;
use super::event::{Ask, BecomeFollower, Effect, FetchAnswer, FetchState, LogRange};
use super::planted::{Bug, planted};
use crate::divergence::truncation_offset;

/// What only a follower knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: i32,
    pub(super) leader: Option<NodeId>,
    phase: Phase,
    /// The highest of this leader's high watermarks that was told.
    leader_high_watermark: Offset,
    /// The highest of this leader's log start offsets that was told, and the one up to which the owner was told to delete.
    leader_log_start_offset: Offset,
    deleted_to: Offset,
}

/// What a follower is at.
///
/// ```text
///              diverging                 out of range
///   Truncating ◄──────── Fetching ────────────────────► AwaitingOffsets
///       │  ▲              │ ▲ │  ▲                         │   │  │
///       │  │        error │ │ │  └──── the range is fine, ──┘   │  │
///       └──┼──────────────┼─┘ │ fenced    after a while         │  │
///          │   done       ▼   ▼                                 │  │
///          │          Delayed AwaitingMetadata                  │  │
///          │             ▲                            error     │  │
///          │             └──────────────────────────────────────┘  │
///          └────────────── the leader ends or begins elsewhere ────┘
/// ```
///
/// A later leader epoch begins with Fetching, from wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Asks for records, as soon as what it has is flushed.
    Fetching,
    /// The owner is to cut the log. Until that is done nothing is asked for.
    Truncating,
    /// Asks where the leader's log begins and ends.
    AwaitingOffsets,
    /// Asks again later.
    Delayed { until: Instant },
    /// The leader has a later epoch. The metadata is about to bring it.
    AwaitingMetadata,
}

/// What a follower must know of its own log.
#[derive(Clone, Copy)]
pub(super) struct OwnLog {
    pub(super) marks: Watermarks,
    pub(super) last_epoch: LeaderEpoch,
}

impl Follower {
    pub(super) const fn new(state: &BecomeFollower) -> Self {
        Self {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            leader: state.leader,
            phase: Phase::Fetching,
            leader_high_watermark: Offset::ZERO,
            leader_log_start_offset: Offset::ZERO,
            deleted_to: Offset::ZERO,
        }
    }

    /// What it wants of its leader.
    pub(super) fn asks(&self, log: OwnLog) -> Option<Ask> {
        let leader = self.leader?;
        let leader_epoch = self.leader_epoch;
        let marks = log.marks;
        let flushed = marks.durable_end_offset == marks.log_end_offset;
        match self.phase {
            Phase::Fetching if flushed || planted(Bug::FetchFromUnflushed) => {
                Some(Ask::Records(FetchState {
                    leader,
                    leader_epoch,
                    fetch_offset: marks.log_end_offset,
                    last_fetched_epoch: log.last_epoch,
                    log_start_offset: marks.log_start_offset,
                }))
            }
            Phase::AwaitingOffsets => Some(Ask::Offsets {
                leader,
                leader_epoch,
            }),
            _ => None,
        }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Delayed { until } => Some(until),
            _ => None,
        }
    }

    pub(super) fn timed_out(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| until <= now) {
            self.phase = Phase::Fetching;
        }
    }

    /// Takes the answer to a fetch, if the request is still what this follower asks for.
    pub(super) fn fetch_answered(
        &mut self,
        now: Instant,
        (request, answer): (&FetchState, FetchAnswer),
        log: OwnLog,
        backoff: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_asked(request, log) {
            return;
        }
        match answer {
            FetchAnswer::Records {
                is_empty,
                high_watermark,
                log_start_offset,
            } => {
                self.leader_high_watermark = self.leader_high_watermark.max(high_watermark);
                self.leader_log_start_offset = self.leader_log_start_offset.max(log_start_offset);
                if !is_empty {
                    effects.push(Effect::AppendFetched);
                }
            }
            FetchAnswer::Diverging { leader, own } => {
                let end = truncation_offset(leader, own, log.marks.log_end_offset);
                if end < log.marks.log_end_offset {
                    self.truncate(end, &log.marks, effects);
                } else {
                    // There is nothing that it could give up.
                    self.delay(now, backoff);
                }
            }
            FetchAnswer::Error(ErrorCode::OFFSET_OUT_OF_RANGE) => {
                self.phase = Phase::AwaitingOffsets;
            }
            FetchAnswer::Error(ErrorCode::FENCED_LEADER_EPOCH) => {
                self.phase = Phase::AwaitingMetadata;
            }
            FetchAnswer::Error(_) => self.delay(now, backoff),
        }
    }

    /// Whether an answer to this request is of use. What the log start offset was when the request left does not matter.
    fn is_asked(&self, request: &FetchState, log: OwnLog) -> bool {
        match self.asks(log) {
            Some(Ask::Records(asked)) => {
                let log_start_offset = asked.log_start_offset;
                asked
                    == FetchState {
                        log_start_offset,
                        ..*request
                    }
            }
            _ => false,
        }
    }

    /// Takes the range of the leader's log, in which this follower's end is not.
    pub(super) fn offsets_answered(
        &mut self,
        now: Instant,
        (leader_epoch, answer): (LeaderEpoch, Result<LogRange, ErrorCode>),
        marks: &Watermarks,
        backoff: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if self.phase != Phase::AwaitingOffsets || leader_epoch != self.leader_epoch {
            return;
        }
        match answer {
            // The leader was elected uncleanly, and knows nothing of the epochs of what this follower has.
            Ok(leader) if leader.log_end_offset < marks.log_end_offset => {
                self.truncate(leader.log_end_offset, marks, effects);
            }
            // Everything that this follower has, the leader has deleted.
            Ok(leader) if leader.log_start_offset > marks.log_end_offset => {
                self.phase = Phase::Truncating;
                effects.push(Effect::Restart {
                    offset: leader.log_start_offset,
                });
            }
            Ok(_) => self.delay(now, backoff),
            Err(ErrorCode::FENCED_LEADER_EPOCH) => self.phase = Phase::AwaitingMetadata,
            Err(_) => self.delay(now, backoff),
        }
    }

    pub(super) fn truncate(&mut self, end: Offset, marks: &Watermarks, effects: &mut Vec<Effect>) {
        let end = end.max(Offset::ZERO);
        if end < marks.high_watermark {
            effects.push(Effect::ReportCommittedLost {
                from: end,
                to: marks.high_watermark,
            });
        }
        self.phase = Phase::Truncating;
        effects.push(Effect::Truncate { end });
    }

    pub(super) fn delay(&mut self, now: Instant, backoff: Duration) {
        self.phase = Phase::Delayed {
            until: now + backoff,
        };
    }

    /// The log is cut, perhaps in the middle of what was deleted.
    pub(super) const fn truncated(&mut self) {
        self.phase = Phase::Fetching;
        self.deleted_to = Offset::ZERO;
    }

    /// The high watermark, as far as this follower has the records. What it has up to where it fetched is what its leader
    /// has.
    pub(super) fn high_watermark(&self, marks: &Watermarks) -> Offset {
        let reached = self.leader_high_watermark.min(marks.log_end_offset);
        marks.high_watermark.max(reached)
    }

    /// Has the owner delete what the leader has deleted.
    pub(super) fn follow_log_start(&mut self, marks: &Watermarks, effects: &mut Vec<Effect>) {
        let log_start_offset = self.leader_log_start_offset;
        if log_start_offset > marks.log_start_offset.max(self.deleted_to)
            && log_start_offset <= marks.high_watermark
        {
            self.deleted_to = log_start_offset;
            effects.push(Effect::AdvanceLogStart { log_start_offset });
        }
    }

    /// The leader that it copies, if the partition has one.
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }
}
