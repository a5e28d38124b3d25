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

impl Completion {
    fn into_answer(self) -> Option<(u64, GroupResponse)> {
        match self {
            Self::Reply {
                request_id,
                response,
            } => Some((request_id, response)),
            Self::Assignment { .. } | Self::StaticMember { .. } => None,
        }
    }
}

impl Late {
    fn into_answer(self) -> (u64, GroupResponse) {
        (self.request_id, self.response)
    }
}

/// What the JoinGroup answer of a returning static member says about assigning partitions (KIP-814).
#[derive(Clone, Debug)]
pub(super) enum SkipAssignment {
    /// Version 9: the leader is told that it leads and that it need not assign anything.
    Supported,
    /// Before: the leader must not know that it leads, or it would assign. It is told who led before it came back.
    NotSupported { previous_leader: Str },
}

/// An append that is not committed yet.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) append_id: u64,
    pub(super) deadline: Instant,
    pub(super) completions: Vec<Completion>,
}

/// An answer that depends on an append which others have made before.
#[derive(Debug)]
struct Late {
    append_id: u64,
    deadline: Instant,
    request_id: u64,
    response: GroupResponse,
}

/// The appends of a shard that are under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Appends {
    /// The newest append, 0 before the first.
    last_id: u64,
    outstanding: VecDeque<Outstanding>,
    /// How many of the oldest appends have been waited for too long; their requests are answered.
    overdue: usize,
    /// In the order in which their time comes. Whoever asks waits from then on, however long the append takes already: it may be
    /// committed any moment.
    late: VecDeque<Late>,
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

    /// Whether an append will not be lost.
    pub(super) fn is_committed(&self, append_id: u64) -> bool {
        self.index(append_id).is_none()
    }

    /// Lets an answer follow an append that is not committed yet. Until `deadline`, which is never before that of any answer so far.
    pub(super) fn answer(
        &mut self,
        append_id: u64,
        deadline: Instant,
        request_id: u64,
        response: GroupResponse,
    ) {
        let index = self.index(append_id);
        let append = &self.outstanding[index.expect("only appends under way are followed")];
        if append.deadline == deadline {
            let completion = Completion::Reply {
                request_id,
                response,
            };
            return self.follow(append_id, completion);
        }
        self.late.push_back(Late {
            append_id,
            deadline,
            request_id,
            response,
        });
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

    /// Takes the answers of those who came late for an append that is covered by `committed`.
    pub(super) fn take_late(&mut self, committed: u64) -> Vec<(u64, GroupResponse)> {
        let is_covered = |late: &Late| late.append_id <= committed;
        if !self.late.iter().any(is_covered) {
            return Vec::new();
        }
        let late = std::mem::take(&mut self.late).into_iter();
        let (covered, others) = late.partition::<VecDeque<_>, _>(is_covered);
        self.late = others;
        covered.into_iter().map(Late::into_answer).collect()
    }

    /// The next of those who came late that has waited for too long.
    pub(super) fn next_late_overdue(&mut self, now: Instant) -> Option<(u64, GroupResponse)> {
        let late = self.late.pop_front_if(|late| late.deadline <= now)?;
        Some(late.into_answer())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let append = self.outstanding.get(self.overdue);
        [
            append.map(|append| append.deadline),
            self.late.front().map(|late| late.deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Gives up on everything; gives the answers that were waited for.
    pub(super) fn drain(&mut self) -> Vec<(u64, GroupResponse)> {
        self.overdue = 0;
        let appends = self.outstanding.drain(..);
        let completions = appends.flat_map(|append| append.completions);
        let mut answers: Vec<_> = completions.filter_map(Completion::into_answer).collect();
        answers.extend(self.late.drain(..).map(Late::into_answer));
        answers
    }

    /// The requests that are to be answered, for the invariants.
    pub(super) fn answers(&self) -> impl Iterator<Item = u64> + '_ {
        let completions = self.outstanding.iter().flat_map(|a| &a.completions);
        let replies = completions.filter_map(|completion| match completion {
            Completion::Reply { request_id, .. } => Some(*request_id),
            Completion::Assignment { .. } | Completion::StaticMember { .. } => None,
        });
        replies.chain(self.late.iter().map(|late| late.request_id))
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
