use std::collections::BTreeMap;
use std::time::Instant;

use tidelog_types::{GroupId, Str};

/// What is to be done when a time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A member may have been silent for the whole of its session.
    Session { group_id: GroupId, member_id: Str },
    /// A member that was given an id has not joined with it.
    PendingMember { group_id: GroupId, member_id: Str },
    /// The join phase of a rebalance has lasted long enough.
    Join { group_id: GroupId },
    /// Members should have asked for their assignment by now.
    Sync { group_id: GroupId },
    /// The time of a member of a consumer group is up.
    Member {
        group_id: GroupId,
        member_id: Str,
        timer: MemberTimer,
    },
    /// It is time to look for expired offsets.
    Retention,
}

/// What a member of a consumer group has a time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberTimer {
    /// It may have been silent for the whole of its session.
    Session,
    /// It should have given up partitions by now.
    Rebalance,
    /// It speaks the classic protocol and should have joined again by now.
    Join,
    /// It speaks the classic protocol and should have asked for its assignment by now.
    Sync,
}

/// Names an armed timer; ordered by the time at which it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId {
    pub(super) deadline: Instant,
    sequence: u64,
}

/// Every timer of a shard, the next one first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<TimerId, Timer>,
    sequence: u64,
}

impl Timers {
    pub(super) fn arm(&mut self, deadline: Instant, timer: Timer) -> TimerId {
        self.sequence += 1;
        let id = TimerId {
            deadline,
            sequence: self.sequence,
        };
        self.queue.insert(id, timer);
        id
    }

    pub(super) fn disarm(&mut self, id: TimerId) {
        self.queue.remove(&id);
    }

    /// Takes the next timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let entry = self.queue.first_entry()?;
        (entry.key().deadline <= now).then(|| entry.remove())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(id, _)| id.deadline)
    }

    pub(super) fn is_armed(&self, id: TimerId) -> bool {
        self.queue.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}
