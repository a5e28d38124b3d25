//! What happens to the accumulator, and what it wants done.

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Timestamp};

/// A partition that the producer writes to, counted from 0 in the order of first use.
pub(crate) type Slot = usize;
/// A batch; never used again.
pub(crate) type BatchId = u64;
/// A request that is in flight; never used again.
pub(crate) type RequestId = u64;

/// Under which name the producer's sequence numbers count (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
}

/// What makes a batch known again to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) identity: Identity,
    /// The sequence number of the first record.
    pub(crate) base_sequence: i32,
}

/// What a broker says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) error_code: ErrorCode,
    pub(crate) base_offset: Offset,
    /// -1 if the records keep their own timestamps.
    pub(crate) log_append_time: Timestamp,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A record that takes so many bytes is to go to the partition. Answered by [`Effect::Put`] or [`Effect::Full`].
    Record { partition: Slot, bytes: usize },
    /// Who leads the partition, as far as is known.
    Leader {
        partition: Slot,
        leader: Option<NodeId>,
        leader_epoch: LeaderEpoch,
    },
    /// A producer id was handed out.
    Identified { identity: Identity },
    /// None was, and none will be.
    Unidentified { error_code: ErrorCode },
    /// The broker has answered a request. What it says nothing of counts as lost.
    Answered {
        request: RequestId,
        answers: Vec<(BatchId, Answer)>,
    },
    /// No answer will come: the request may have been carried out or not.
    Lost { request: RequestId },
    /// Whatever is there should be sent now.
    Flush,
    /// Nothing more is to be sent.
    Abort,
    /// [`deadline`](super::Accumulator::deadline) has passed.
    Timeout,
}

/// A batch in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dispatch {
    pub(crate) batch: BatchId,
    /// None without idempotence.
    pub(crate) stamp: Option<Stamp>,
}

/// How it ended for all records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// They are in the log; without an offset if the broker did not say.
    Delivered {
        base_offset: Offset,
        log_append_time: Timestamp,
    },
    /// The broker does not want them.
    Refused { error_code: ErrorCode },
    /// Time is up. If the batch was ever sent, nobody knows whether the records are in the log.
    TimedOut,
    /// There is no producer id to send them under.
    Unidentified { error_code: ErrorCode },
    /// The producer ended first.
    Aborted,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The record is the next one of this batch, which is new if it was not named before.
    Put { batch: BatchId },
    /// There is no room for the record until something ends.
    Full,
    /// These batches go to the broker in one request, behind all former ones to it.
    Send {
        request: RequestId,
        node: NodeId,
        batches: Vec<Dispatch>,
    },
    /// The batch becomes two: `first` takes the first `records` records, `second` the others.
    Split {
        batch: BatchId,
        records: u32,
        first: BatchId,
        second: BatchId,
    },
    /// The batch is over, once and for all.
    Complete { batch: BatchId, outcome: Outcome },
    /// Get a producer id; answered by [`Input::Identified`] or [`Input::Unidentified`].
    Identify,
    /// What is known of leaders is out of date. A refresh is followed by [`Input::Leader`].
    Refresh,
}
