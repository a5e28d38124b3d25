use std::collections::VecDeque;

use tidelog_types::Offset;

/// The offsets that divide a log, from its start to its end:
///
/// ```text
/// log_start_offset ≤ last_stable_offset ≤ high_watermark ≤ log_end_offset
///                                          durable_end_offset ≤ log_end_offset
/// ```
///
/// On a leader nothing of its own epoch lies between `durable_end_offset` and `high_watermark`, since it is a member of
/// its ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Watermarks {
    /// The first offset that can be read.
    pub log_start_offset: Offset,
    /// Where a reader of committed transactions stops (exclusive): no transaction below it is undecided.
    pub last_stable_offset: Offset,
    /// Where every other consumer stops (exclusive): the whole ISR has what lies below it.
    pub high_watermark: Offset,
    /// Up to where this replica vouches for its own records (exclusive).
    pub durable_end_offset: Offset,
    /// The offset that the next record will get.
    pub log_end_offset: Offset,
}

impl Watermarks {
    /// Asserts the chain of inequalities.
    ///
    /// # Panics
    /// If it does not hold: a defect of this program.
    pub fn check(&self) {
        assert!(
            self.log_start_offset <= self.last_stable_offset
                && self.last_stable_offset <= self.high_watermark
                && self.high_watermark <= self.log_end_offset
                && self.durable_end_offset <= self.log_end_offset,
            "watermarks out of order: {self:?}"
        );
    }
}

/// The oldest undecided transaction, as it was at each point of the log at or above the high watermark.
///
/// A transaction is decided for readers only when its marker lies below the high watermark, so a change that an append
/// brings takes effect when the high watermark has passed that append. One entry is kept for each change in between:
/// without transactions there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Unstable {
    /// The first offset of the oldest transaction open at the high watermark.
    current: Option<Offset>,
    /// What changes above the high watermark. Most partitions never have any of it, and there are many partitions.
    pending: Option<Box<Pending>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pending {
    /// The log end offset of the append, and the first open offset from there on.
    changes: VecDeque<(Offset, Option<Offset>)>,
}

impl Unstable {
    pub(super) const fn new(first_unstable_offset: Option<Offset>) -> Self {
        Self {
            current: first_unstable_offset,
            pending: None,
        }
    }

    pub(super) fn appended(&mut self, end: Offset, first_unstable_offset: Option<Offset>) {
        let pending = self.pending.as_deref();
        let last = pending.and_then(|pending| pending.changes.back());
        let latest = last.map_or(self.current, |(_, first)| *first);
        if latest != first_unstable_offset {
            let pending = self.pending.get_or_insert_default();
            pending.changes.push_back((end, first_unstable_offset));
        }
    }

    pub(super) fn truncated(&mut self, end: Offset, first_unstable_offset: Option<Offset>) {
        if let Some(pending) = &mut self.pending {
            while pending.changes.pop_back_if(|(at, _)| *at > end).is_some() {}
        }
        self.appended(end, first_unstable_offset);
    }

    /// The last stable offset under this high watermark, which never goes back.
    pub(super) fn advance(&mut self, high_watermark: Offset) -> Offset {
        let mut opened = None;
        if let Some(pending) = &mut self.pending {
            let changes = &mut pending.changes;
            while let Some((_, first)) = changes.pop_front_if(|(at, _)| *at <= high_watermark) {
                self.current = first;
            }
            // A high watermark inside an append may already cover the beginning of a transaction which that append opened.
            opened = changes.front().and_then(|(_, first)| *first);
        }
        self.current
            .or(opened)
            .map_or(high_watermark, |first| first.min(high_watermark))
    }

    pub(super) fn check(&self, high_watermark: Offset) {
        let mut last = high_watermark;
        for (at, _) in self.pending.iter().flat_map(|pending| &pending.changes) {
            assert!(
                *at > last,
                "changes of transactions are kept in order, above the high watermark"
            );
            last = *at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(offset: i64) -> Option<Offset> {
        Some(Offset::new(offset))
    }

    #[test]
    fn a_transaction_is_decided_when_its_marker_is_below_the_high_watermark() {
        let mut unstable = Unstable::default();
        unstable.appended(Offset::new(5), None);
        unstable.appended(Offset::new(8), some(5));
        unstable.appended(Offset::new(9), None);
        let stable = |high_watermark: i64| {
            unstable
                .clone()
                .advance(Offset::new(high_watermark))
                .value()
        };
        assert_eq!([4, 5, 6, 8, 9].map(stable), [4, 5, 5, 5, 9]);
    }

    #[test]
    fn without_transactions_nothing_is_kept() {
        let mut unstable = Unstable::default();
        for end in 1..100 {
            unstable.appended(Offset::new(end), None);
        }
        assert_eq!(unstable, Unstable::default());
    }

    #[test]
    fn a_cut_forgets_what_came_after() {
        let mut unstable = Unstable::default();
        unstable.appended(Offset::new(8), some(5));
        unstable.appended(Offset::new(9), None);
        unstable.truncated(Offset::new(8), some(5));
        assert_eq!(unstable.advance(Offset::new(8)), Offset::new(5));
    }
}
