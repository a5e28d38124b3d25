//! Where two logs part, found by leader epochs (KIP-101, KIP-595).
//!
//! Two logs that have a record of the same leader epoch at the same offset have the same records up to it, since an epoch
//! has one leader, and a follower only ever appends what follows on what it has in common with that leader. So a follower
//! says of which epoch its last record is, and the leader answers with the end of that epoch in its own log, or of the
//! latest one before it. [`compare`] is the leader's half of the rule, [`truncation_offset`] the follower's.
//!
//! ```
//! use tidelog_replication::divergence::{Branch, EpochEnd, compare, truncation_offset};
//! use tidelog_types::{LeaderEpoch, Offset};
//!
//! let end = |epoch, offset| EpochEnd { epoch: LeaderEpoch::new(epoch), end_offset: Offset::new(offset) };
//! // The follower ends at 12 with a record of epoch 4; to the leader, epoch 4 has no records, and epoch 3 ends at 10.
//! let leader = end(3, 10);
//! assert_eq!(compare(LeaderEpoch::new(4), Offset::new(12), leader), Branch::Diverging(leader));
//! // In the follower's log epoch 3 ends at 9. That is how far it has to go back before it asks again.
//! assert_eq!(truncation_offset(leader, end(3, 9), Offset::new(12)), Offset::new(9));
//! ```

use tidelog_types::{LeaderEpoch, Offset};

/// A leader epoch, and where it ends in some log: what a log answers when it is asked for an epoch. If it has no records of
/// that epoch, it answers with the latest one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset after its last record: the log end offset if it is the last epoch, else where the next one begins.
    pub end_offset: Offset,
}

impl EpochEnd {
    /// The log cannot say: it knows of no epoch as late as the one asked for.
    pub const UNKNOWN: Self = Self {
        epoch: LeaderEpoch::NONE,
        end_offset: Offset::NONE,
    };
}

/// Whether a follower's log is a beginning of the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// It is, up to the offset from which the follower asks.
    Same,
    /// It is not. The follower is told this epoch and its end, and truncates.
    Diverging(EpochEnd),
    /// The leader's log cannot say.
    Unknown,
}

/// The leader's half of the rule: a follower asks for what follows `fetch_offset`, and the record before it is of
/// `last_fetched_epoch`. `leader` is what the leader's own log answers for that epoch.
///
/// [`LeaderEpoch::NONE`] comes from a follower that has no record, or no epochs; there is nothing to compare.
pub fn compare(last_fetched_epoch: LeaderEpoch, fetch_offset: Offset, leader: EpochEnd) -> Branch {
    if last_fetched_epoch == LeaderEpoch::NONE {
        return Branch::Same;
    }
    if leader.epoch == LeaderEpoch::NONE || leader.end_offset == Offset::NONE {
        return Branch::Unknown;
    }
    if leader.epoch < last_fetched_epoch || leader.end_offset < fetch_offset {
        Branch::Diverging(leader)
    } else {
        Branch::Same
    }
}

/// The follower's half: the offset at which it cuts its log, which ends at `log_end_offset`, after the leader has answered
/// that the logs part. `own` is what the follower's own log answers for `leader.epoch`.
///
/// If the follower has no records of that epoch it cuts off what is later than its own last epoch before it, and asks
/// again: the answer is about an earlier epoch then.
pub fn truncation_offset(leader: EpochEnd, own: EpochEnd, log_end_offset: Offset) -> Offset {
    let end = if own.end_offset == Offset::NONE {
        // It has no epochs that early: the leader's word is all there is.
        leader.end_offset
    } else if own.epoch == leader.epoch {
        own.end_offset.min(leader.end_offset)
    } else {
        own.end_offset
    };
    end.min(log_end_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn end(epoch: i32, end_offset: i64) -> EpochEnd {
        EpochEnd {
            epoch: LeaderEpoch::new(epoch),
            end_offset: Offset::new(end_offset),
        }
    }

    /// A log as the epochs of its records.
    fn answer(log: &[i32], epoch: i32) -> EpochEnd {
        let later = log.iter().position(|e| *e > epoch);
        match (later, log.last()) {
            (None, Some(last)) if *last == epoch => end(epoch, log.len() as i64),
            (None, _) => EpochEnd::UNKNOWN,
            (Some(0), _) => end(epoch, 0),
            (Some(at), _) => end(log[at - 1], at as i64),
        }
    }

    /// Lets a follower find its place by itself; gives what is left of its log, and how often it asked.
    fn settle(leader: &[i32], follower: &[i32]) -> (Vec<i32>, usize) {
        let mut log = follower.to_vec();
        for asked in 1.. {
            let last = log.last().copied().unwrap_or(-1);
            let fetch_offset = Offset::new(log.len() as i64);
            match compare(LeaderEpoch::new(last), fetch_offset, answer(leader, last)) {
                Branch::Same => return (log, asked),
                Branch::Unknown => panic!("the leader's epoch is the latest"),
                Branch::Diverging(theirs) => {
                    let own = answer(&log, theirs.epoch.value());
                    let cut = truncation_offset(theirs, own, fetch_offset).value() as usize;
                    assert!(cut < log.len(), "it gets shorter each time");
                    log.truncate(cut);
                }
            }
        }
        unreachable!("it asks without end")
    }

    /// Hard corner 24.
    #[test]
    fn a_follower_ends_where_the_logs_part() {
        let cases: [(&[i32], &[i32], usize, usize); 7] = [
            // It is behind, on the same branch.
            (&[1, 1, 1, 3], &[1, 1], 2, 1),
            // It has more of the same epoch than the leader.
            (&[1, 1, 3], &[1, 1, 1, 1], 2, 2),
            // It has an epoch that the leader does not know.
            (&[1, 1, 4], &[1, 1, 2, 2], 2, 2),
            // The leader has an epoch in between that it does not know.
            (&[1, 2, 2, 5], &[1, 1, 1, 3, 3], 1, 3),
            // Nothing in common.
            (&[4, 4], &[1, 1, 2], 0, 2),
            // It is empty.
            (&[1, 2], &[], 0, 1),
            // It is behind by an epoch.
            (&[1, 2, 3], &[1, 2], 2, 1),
        ];
        for (leader, follower, common, asked) in cases {
            let settled = settle(leader, follower);
            assert_eq!(
                settled,
                (leader[..common].to_vec(), asked),
                "{leader:?} {follower:?}"
            );
        }
    }

    #[test]
    fn without_an_epoch_there_is_nothing_to_compare() {
        let ask = |leader| compare(LeaderEpoch::NONE, Offset::new(5), leader);
        assert_eq!(ask(EpochEnd::UNKNOWN), Branch::Same);
        assert_eq!(ask(end(3, 2)), Branch::Same);
    }

    #[test]
    fn an_epoch_later_than_all_is_unknown() {
        let branch = compare(LeaderEpoch::new(7), Offset::new(5), EpochEnd::UNKNOWN);
        assert_eq!(branch, Branch::Unknown);
    }

    /// The records of the epoch are gone below the log start: its end is where what is left begins.
    #[test]
    fn a_follower_without_the_leaders_epochs_takes_its_word() {
        let cut = |leader, own| truncation_offset(leader, own, Offset::new(20));
        assert_eq!(cut(end(3, 10), EpochEnd::UNKNOWN), Offset::new(10));
        assert_eq!(cut(end(3, 10), end(3, 12)), Offset::new(10));
        assert_eq!(cut(end(3, 30), end(3, 25)), Offset::new(20));
        assert_eq!(cut(end(3, 10), end(2, 12)), Offset::new(12));
    }
}
