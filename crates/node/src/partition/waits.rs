//! Who waits for which offset, and what the replica waits for.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Instant;

use tidelog_replication::partition::{Ask, Input};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset};

use super::{Acks, After, PartitionCore};

/// Who waits, and for what.
#[derive(Debug)]
pub(super) struct Waits<W> {
    /// Appends that wait for the flush, and those that wait for the high watermark, each with the offset that must be
    /// reached. The offsets rise from front to back.
    until_durable: Waiters<W>,
    until_committed: Waiters<W>,
    /// The epoch in which they were appended.
    epoch: LeaderEpoch,
    /// The leader that was last asked for something.
    asked_of: Option<NodeId>,
    /// When the replica will be woken.
    wakes_at: Option<Instant>,
}

type Waiters<W> = VecDeque<(Offset, W)>;

impl<W> Default for Waits<W> {
    fn default() -> Self {
        Self {
            until_durable: VecDeque::new(),
            until_committed: VecDeque::new(),
            epoch: LeaderEpoch::default(),
            asked_of: None,
            wakes_at: None,
        }
    }
}

impl<W> Waits<W> {
    fn has_waiters(&self) -> bool {
        !self.until_durable.is_empty() || !self.until_committed.is_empty()
    }

    pub(super) fn is_needed(&self) -> bool {
        self.has_waiters() || self.asked_of.is_some() || self.wakes_at.is_some()
    }
}

impl<W> PartitionCore<W> {
    /// Hands in that it is time, if it is.
    pub fn wake(&mut self, now: Now, after: &mut After<W>) {
        if let Some(waits) = &mut self.waits {
            waits.wakes_at = None;
        }
        let deadline = self.replica.deadline();
        if deadline.is_some_and(|deadline| deadline <= now.instant) {
            self.step(now, Input::Timeout, after);
        } else {
            self.schedule(after);
        }
    }

    /// Has `waiter` wait until the log of this leader is committed up to `end`; tells whether it is, and there is nothing to wait for.
    pub fn await_committed(&mut self, end: Offset, waiter: W) -> Result<bool, ErrorCode> {
        self.replica.check_leader_epoch(LeaderEpoch::NONE)?;
        Ok(self.wait(Acks::All, end, waiter))
    }

    /// Notes who waits for an append that ends at `end`; tells whether there is nothing to wait for.
    pub(super) fn wait(&mut self, acks: Acks, end: Offset, waiter: W) -> bool {
        let marks = self.replica.watermarks();
        let reached = match acks {
            Acks::None => return true,
            Acks::Leader => marks.durable_end_offset,
            Acks::All => marks.high_watermark,
        };
        if reached >= end {
            return true;
        }
        let waits = self.waits.get_or_insert_default();
        if !waits.has_waiters() {
            waits.epoch = self.replica.leader_epoch();
        }
        let waiters = match acks {
            Acks::All => &mut waits.until_committed,
            _ => &mut waits.until_durable,
        };
        // A duplicate waits for the offset of its original, which lies before the last append's.
        let at = waiters.partition_point(|(other, _)| *other <= end);
        waiters.insert(at, (end, waiter));
        false
    }

    /// Takes out the waiters whose offset is reached; all of them if this replica does not lead any more, or anew.
    pub(super) fn release(&mut self, after: &mut After<W>) {
        let waits = self.waits.as_mut().filter(|waits| waits.has_waiters());
        let Some(waits) = waits else {
            return;
        };
        let marks = self.replica.watermarks();
        let reached =
            |waiters: &mut Waiters<W>, mark| waiters.pop_front_if(|(end, _)| *end <= mark);
        while let Some((_, waiter)) = reached(&mut waits.until_durable, marks.durable_end_offset) {
            after.done.push(waiter);
        }
        while let Some((end, waiter)) = reached(&mut waits.until_committed, marks.high_watermark) {
            match self.replica.poll_committed(waits.epoch, end) {
                Poll::Ready(Err(code)) => after.failed.push((waiter, code)),
                Poll::Ready(Ok(())) | Poll::Pending => after.done.push(waiter),
            }
        }
        let lost = match self.replica.check_leader_epoch(LeaderEpoch::NONE) {
            Ok(()) if self.replica.leader_epoch() == waits.epoch => return,
            Ok(()) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Err(code) => code,
        };
        let waiters = waits.until_durable.drain(..);
        let waiters = waiters.chain(waits.until_committed.drain(..));
        after
            .failed
            .extend(waiters.map(|(_, waiter)| (waiter, lost)));
    }

    /// Notes when the replica wants to be woken, unless it will be by then anyway.
    pub(super) fn schedule(&mut self, after: &mut After<W>) {
        let Some(deadline) = self.replica.deadline() else {
            return;
        };
        let wakes_at = &mut self.waits.get_or_insert_default().wakes_at;
        if wakes_at.is_none_or(|at| deadline < at) {
            *wakes_at = Some(deadline);
            after.wake_at = Some(deadline);
        }
    }

    /// Notes whether what is asked of a leader has changed, and of whom.
    pub(super) fn note_asks(&mut self, after: &mut After<W>) {
        let leader = self.replica.asks().map(|ask| match ask {
            Ask::Records(fetch) => fetch.leader,
            Ask::Offsets { leader, .. } => leader,
        });
        // Whoever was asked last must hear that nothing is wanted any more.
        let asked_of = &mut self.waits.get_or_insert_default().asked_of;
        let before = std::mem::replace(asked_of, leader);
        for told in [before, leader].into_iter().flatten() {
            if !after.asks_changed.contains(&Some(told))
                && let Some(free) = after.asks_changed.iter_mut().find(|told| told.is_none())
            {
                *free = Some(told);
            }
        }
    }
}
