use std::collections::VecDeque;
use std::time::Instant;

use tidelog_types::{GroupId, Str};

use super::{GroupRecord, GroupResponse};

/// What follows when an append is committed.
#[derive(Clone, Debug)]
pub(super) enum Completion {
    /// The answer may leave.
    Reply {
        request_id: u64,
        response: GroupResponse,
    },
    /// The members learn their assignment, and the group is stable.
    Assignment { group_id: GroupId },
    /// A static member has come back under a new member id, and learns so.
    StaticMember {
        group_id: GroupId,
        member_id: Str,
        request_id: u64,
        skip_assignment: SkipAssignment,
    },
}

/// What the JoinGroup answer of a returning static member says about assigning partitions (KIP-814).
#[derive(Clone, Debug)]
pub(super) enum SkipAssignment {
    /// Version 9: the leader is told that it leads and that it need not assign anything.
    Supported,
    /// Before: the leader must not know that it leads, or it would assign. It is told who led before it came back.
    NotSupported { previous_leader: Str },
}

/// How far an append has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nobody waits long for it.
    UnderWay,
    /// It takes too long: whoever waits for it is told so.
    Overdue,
    /// It will not be lost.
    Committed,
}

/// An append that is not committed yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) append_id: u64,
    pub(super) deadline: Instant,
    pub(super) completions: Vec<Completion>,
}

/// The appends of a shard that are under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Appends {
    /// The newest append, 0 before the first.
    last_id: u64,
    outstanding: VecDeque<Outstanding>,
    /// How many of the oldest appends have been waited for too long; their requests are answered.
    overdue: usize,
}

impl Appends {
    /// Opens an append whose requests wait until `deadline`.
    pub(super) fn push(&mut self, deadline: Instant) -> u64 {
        self.last_id += 1;
        let completions = Vec::new();
        self.outstanding.push_back(Outstanding {
            append_id: self.last_id,
            deadline,
            completions,
        });
        self.last_id
    }

    /// The newest append, 0 before the first.
    pub(super) const fn newest(&self) -> u64 {
        self.last_id
    }

    /// How far an append has come.
    pub(super) fn progress(&self, append_id: u64) -> Progress {
        match self.index(append_id) {
            None => Progress::Committed,
            Some(index) if index < self.overdue => Progress::Overdue,
            Some(_) => Progress::UnderWay,
        }
    }

    /// Lets `completion` follow an append that is not committed yet.
    pub(super) fn follow(&mut self, append_id: u64, completion: Completion) {
        let index = self
            .index(append_id)
            .expect("only appends under way are followed");
        self.outstanding[index].completions.push(completion);
    }

    /// Appends have consecutive ids, and are committed in their order.
    fn index(&self, append_id: u64) -> Option<usize> {
        let first = self.outstanding.front()?.append_id;
        usize::try_from(append_id.checked_sub(first)?).ok()
    }

    /// Takes the oldest append if it is covered by `committed`.
    pub(super) fn pop_committed(&mut self, committed: u64) -> Option<Outstanding> {
        if self.outstanding.front()?.append_id > committed {
            return None;
        }
        self.overdue = self.overdue.saturating_sub(1);
        self.outstanding.pop_front()
    }

    /// The next append that has been waited for too long, with what follows it, for answering the requests. What else follows
    /// it is given back with [`Self::follow`].
    pub(super) fn next_overdue(&mut self, now: Instant) -> Option<(u64, Vec<Completion>)> {
        let append = self.outstanding.get_mut(self.overdue)?;
        if append.deadline > now {
            return None;
        }
        self.overdue += 1;
        Some((append.append_id, std::mem::take(&mut append.completions)))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.outstanding
            .get(self.overdue)
            .map(|append| append.deadline)
    }

    /// Gives up on everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Completion> + '_ {
        self.overdue = 0;
        self.outstanding
            .drain(..)
            .flat_map(|append| append.completions)
    }

    /// The appends under way, for the invariants.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Outstanding> {
        self.outstanding.iter()
    }
}

/// Cuts records into batches that the log accepts. A single record is never cut: its size is checked where it is made.
pub(super) fn batches(records: Vec<GroupRecord>, bytes_max: usize) -> Vec<Vec<GroupRecord>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for record in records {
        let size = record.size_bound();
        if !batch.is_empty() && bytes + size > bytes_max {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(record);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}
