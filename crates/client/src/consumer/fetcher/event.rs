//! What happens to the fetcher, and what it wants done.

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Uuid};

use crate::OffsetSpec;

/// A partition, counted from 0 in the order of first use; the same one for as long as the consumer lives.
pub(crate) type Slot = usize;
/// A request that is in flight; never used again.
pub(crate) type RequestId = u64;

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The offset of the next record.
    pub(crate) offset: Offset,
    /// The leader epoch of the record before, or -1 (KIP-320).
    pub(crate) leader_epoch: LeaderEpoch,
}

impl Position {
    /// An offset of which nothing else is known.
    pub(crate) const fn at(offset: Offset) -> Self {
        Self {
            offset,
            leader_epoch: LeaderEpoch::NONE,
        }
    }
}

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At what the group has committed; if that is nothing, as the reset policy says.
    Committed,
    /// Here.
    At(Position),
    /// Where a look-up leads.
    Lookup(OffsetSpec),
    /// As the reset policy says.
    Reset,
}

/// What a broker says of a partition in answer to a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchAnswer {
    pub(crate) error_code: ErrorCode,
    /// Who is to be asked instead (KIP-392).
    pub(crate) preferred_replica: Option<NodeId>,
    /// The bytes of whole batches, and the position behind them; none if nothing came.
    pub(crate) records: Option<(usize, Position)>,
}

/// What a broker says of a fetch.
#[derive(Clone, Debug)]
pub(crate) struct FetchAnswers {
    /// What is wrong with the request, or its session.
    pub(crate) error_code: ErrorCode,
    /// The session, 0 for none.
    pub(crate) session_id: i32,
    /// For how long the broker wants to be left alone.
    pub(crate) throttle_ms: u32,
    /// What it has said of partitions.
    pub(crate) partitions: Vec<(Slot, FetchAnswer)>,
}

/// Where an epoch ends: the largest epoch up to the one that was asked about, and the first offset after it.
pub(crate) type EpochEnd = Position;

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The partitions are the consumer's, or are to be read from somewhere else. What was kept of them is void.
    Assign { starts: Vec<(Slot, Start)> },
    /// It no longer is. What was kept of it is void.
    Unassign { slot: Slot },
    /// Nothing of the partition is fetched for now.
    Pause { slot: Slot },
    /// It is fetched again.
    Resume { slot: Slot },
    /// What is known of the partition, the consumer's or not yet: the id of its topic, and who leads it.
    Leader {
        slot: Slot,
        topic_id: Uuid,
        leader: Option<NodeId>,
        leader_epoch: LeaderEpoch,
    },
    /// What the group has committed.
    Committed {
        request: RequestId,
        answers: Vec<(Slot, Result<Option<Position>, ErrorCode>)>,
    },
    /// What the look-up has found; `None` if no record is so young.
    Found {
        request: RequestId,
        answers: Vec<(Slot, Result<Option<Position>, ErrorCode>)>,
    },
    /// Where epochs end.
    EpochEnds {
        request: RequestId,
        answers: Vec<(Slot, Result<EpochEnd, ErrorCode>)>,
    },
    /// A fetch was answered.
    Fetched {
        request: RequestId,
        answers: FetchAnswers,
    },
    /// No answer will come.
    Lost { request: RequestId },
    /// The application has taken so many bytes of what was kept.
    Taken { slot: Slot, bytes: usize },
    /// The application must say where to go on, by [`Input::Assign`].
    Stop { slot: Slot },
    /// [`deadline`](super::Fetcher::deadline) has passed.
    Timeout,
}

/// A partition in a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) slot: Slot,
    pub(crate) fetch_offset: Offset,
    /// The leader epoch that is known.
    pub(crate) leader_epoch: LeaderEpoch,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the group's coordinator what was committed; answered by [`Input::Committed`].
    FetchCommitted {
        request: RequestId,
        slots: Vec<Slot>,
    },
    /// Look offsets up; answered by [`Input::Found`].
    Lookup {
        request: RequestId,
        node: NodeId,
        partitions: Vec<(Slot, OffsetSpec, LeaderEpoch)>,
    },
    /// Ask where epochs end, the second number; the first is the known leader epoch. Answered by [`Input::EpochEnds`].
    AskEpochEnds {
        request: RequestId,
        node: NodeId,
        partitions: Vec<(Slot, LeaderEpoch, LeaderEpoch)>,
    },
    /// Fetch; answered by [`Input::Fetched`].
    Fetch {
        request: RequestId,
        node: NodeId,
        session_id: i32,
        session_epoch: i32,
        bytes_max: usize,
        partitions: Vec<Wanted>,
        forgotten: Vec<Slot>,
    },
    /// What this answer brought for the partition is wanted, from this offset on.
    Keep { slot: Slot, from: Offset },
    /// The position is settled: reading begins there.
    Begin { slot: Slot, position: Position },
    /// The log no longer has what follows this place (KIP-320). What was kept of the partition is void; it waits for
    /// [`Input::Assign`].
    Truncated { slot: Slot, to: Position },
    /// What the consumer asks for next is not in the log, and no policy says where to go on. It waits for
    /// [`Input::Assign`].
    OutOfRange { slot: Slot, offset: Offset },
    /// Nothing was committed, and no policy says where to begin. It waits for [`Input::Assign`].
    NoOffset { slot: Slot },
    /// A broker refuses for a reason that will not pass by itself. It is asked again later nevertheless.
    Refused { slot: Slot, error_code: ErrorCode },
    /// What is known of leaders is out of date. A refresh is followed by [`Input::Leader`].
    Refresh,
}
