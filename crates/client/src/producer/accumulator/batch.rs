//! The accumulator's view of batches, partitions and brokers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidelog_types::{LeaderEpoch, NodeId};

use super::event::{BatchId, Identity, RequestId, Slot, Stamp};

/// How the accumulator behaves. Every bound has a name here.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// A batch takes no further record beyond this (`batch.size`).
    pub(crate) batch_bytes_max: usize,
    /// A request takes no further batch beyond this (`max.request.size`).
    pub(crate) request_bytes_max: usize,
    /// No record is taken beyond this (`buffer.memory`).
    pub(crate) buffer_bytes_max: usize,
    /// How long a batch waits for company (`linger.ms`).
    pub(crate) linger: Duration,
    /// After how long a batch is given up (`delivery.timeout.ms`).
    pub(crate) delivery_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) retry_backoff_max: Duration,
    /// How many requests a broker may have at a time (`max.in.flight.requests.per.connection`).
    pub(crate) in_flight_max: usize,
    /// Whether batches are stamped (`enable.idempotence`).
    pub(crate) is_idempotent: bool,
    /// Where the chance in the waiting times comes from.
    pub(crate) seed: u64,
}

/// Where a batch stands.
///
/// ```text
///                      linger, full, flush           Send
///   Open ─────────────────────────► Waiting ─────────────────► InFlight ──► complete
///                                      ▲                          │
///                                      └── lost, retriable error ─┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes records.
    Open,
    /// Ready to be sent from then on.
    Waiting {
        not_before: Instant,
    },
    InFlight {
        request: RequestId,
        node: NodeId,
    },
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) partition: Slot,
    pub(super) records: u32,
    pub(super) bytes: usize,
    pub(super) opened: Instant,
    pub(super) state: State,
    /// How often it was sent.
    pub(super) attempts: u32,
    pub(super) stamp: Option<Stamp>,
    /// How many batches of the partition were stamped before it.
    pub(super) stamped_before: u64,
    /// To whom it was sent last, and in which epoch of the partition's leadership.
    pub(super) sent_to: Option<(NodeId, LeaderEpoch)>,
}

impl Batch {
    pub(super) const fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight { .. })
    }
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) leader: Option<NodeId>,
    pub(super) leader_epoch: LeaderEpoch,
    /// Those that are not over, in the order of their records.
    pub(super) batches: VecDeque<BatchId>,
    /// Under which identity `next_sequence` counts.
    pub(super) identity: Option<Identity>,
    pub(super) next_sequence: i32,
    /// How many batches were stamped.
    pub(super) stamped: u64,
    /// The broker has taken a batch of that identity, and from then on refuses what does not follow. Before, it would take a second
    /// batch though it lacks the first, so that no second one is sent until it has the first.
    pub(super) is_known: bool,
    /// A stamped batch has failed for good, so that there may be a gap: nothing is stamped any more until all that is stamped is
    /// over, or the broker has said that there is the gap.
    pub(super) is_broken: bool,
    /// The broker has said that there is a gap: as soon as nothing is in flight, the sequence begins anew (KIP-360).
    pub(super) is_restarting: bool,
    /// Becomes smaller when the broker finds a batch too large.
    pub(super) batch_bytes_max: usize,
    /// The entry in the accumulator's timers.
    pub(super) timer: Option<Instant>,
    /// Whose list of ready partitions it is in.
    pub(super) ready_on: Option<NodeId>,
}

/// What may happen to a partition next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This batch can go to this broker.
    Ready { batch: BatchId, node: NodeId },
    /// Something can go from then on.
    At(Instant),
    /// Something could go if there were a leader.
    NoLeader,
    /// Something could go if there were a producer id.
    NoIdentity,
    /// Something else has to happen first.
    Wait,
}

/// A broker to which something goes.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) in_flight: usize,
    /// Partitions with something to send, the longest waiting first.
    pub(super) ready: VecDeque<Slot>,
}

/// The sequence number `records` behind another; they begin at 0 again after the largest.
pub(super) const fn sequence_after(sequence: i32, records: u32) -> i32 {
    ((sequence as u32 + records) & i32::MAX as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_begin_again_at_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }
}
