use tidelog_types::{LeaderEpoch, Offset};

/// A leader epoch and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The first offset that a leader of this epoch wrote, or would write.
    pub start_offset: Offset,
}

/// Which leader epoch wrote which offsets (KIP-101): entries that rise in both numbers.
///
/// With it, two replicas find the offset where their logs part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// Takes entries in any state: such as contradict later ones are dropped, as [`assign`](Self::assign) does.
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> Self {
        let mut epochs = Self::default();
        for entry in entries {
            epochs.assign(entry.epoch, entry.start_offset);
        }
        epochs
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|i| self.entries[i].epoch)
    }

    /// Where the epoch asked for ends, as OffsetForLeaderEpoch answers it: the largest epoch not above `epoch` and the
    /// start of the next one, or the end of the log for the newest; `(NONE, NONE)` if that cannot be said.
    pub fn end_offset_for(
        &self,
        epoch: LeaderEpoch,
        log_end_offset: Offset,
    ) -> (LeaderEpoch, Offset) {
        const UNKNOWN: (LeaderEpoch, Offset) = (LeaderEpoch::NONE, Offset::NONE);
        if epoch == LeaderEpoch::NONE {
            return UNKNOWN;
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        match (
            higher.checked_sub(1).map(|i| self.entries[i]),
            self.entries.get(higher),
        ) {
            (Some(floor), None) if floor.epoch == epoch => (epoch, log_end_offset),
            (_, None) => UNKNOWN,
            (None, Some(higher)) => (epoch, higher.start_offset),
            (Some(floor), Some(higher)) => (floor.epoch, higher.start_offset),
        }
    }

    /// Notes that `epoch` begins at `start_offset`, unless it is known as the newest already. Entries that contradict
    /// the new one give way. Returns whether anything changed.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        let latest = self.entries.last();
        if latest.is_some_and(|l| l.epoch == epoch && start_offset >= l.start_offset) {
            return false;
        }
        // A leader that wrote nothing has left no records, and those of the epoch before it may go on.
        let empty = |e: &EpochEntry| e.start_offset >= start_offset;
        while self.entries.last().is_some_and(empty) {
            self.entries.pop();
        }
        if self.entries.last().is_some_and(|l| l.epoch == epoch) {
            return true;
        }
        while self.entries.last().is_some_and(|e| e.epoch >= epoch) {
            self.entries.pop();
        }
        // There are few, and of a hundred thousand logs each has its own.
        self.entries.reserve_exact(1);
        self.entries.push(EpochEntry {
            epoch,
            start_offset,
        });
        true
    }

    /// Drops the epochs that begin at `end_offset` or later.
    pub(crate) fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let keep = self
            .entries
            .partition_point(|entry| entry.start_offset < end_offset);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Drops the epochs that end at `start_offset` or before; the one that covers it begins there from now on.
    pub(crate) fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= start_offset);
        let Some(covering) = after.checked_sub(1) else {
            return false;
        };
        let changed = covering > 0 || self.entries[0].start_offset != start_offset;
        self.entries.drain(..covering);
        self.entries[0].start_offset = start_offset;
        changed
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(entries.iter().map(|&(epoch, start)| EpochEntry {
            epoch: LeaderEpoch::new(epoch),
            start_offset: Offset::new(start),
        }))
    }

    fn end(epochs: &LeaderEpochs, epoch: i32) -> (i32, i64) {
        let (epoch, offset) = epochs.end_offset_for(LeaderEpoch::new(epoch), Offset::new(100));
        (epoch.value(), offset.value())
    }

    #[test]
    fn end_offsets_are_answered_for_current_gap_and_unknown_epochs() {
        let known = epochs(&[(2, 10), (5, 40), (6, 70)]);
        assert_eq!(
            end(&known, 6),
            (6, 100),
            "the current epoch ends at the log's end"
        );
        assert_eq!(end(&known, 5), (5, 70));
        assert_eq!(end(&known, 4), (2, 40), "a gap: the next lower epoch");
        assert_eq!(end(&known, 1), (1, 10), "below the first");
        assert_eq!(end(&known, 7), (-1, -1), "newer than any known");
        assert_eq!(end(&known, -1), (-1, -1));
        assert_eq!(end(&epochs(&[]), 0), (-1, -1));
    }

    #[test]
    fn a_new_entry_drops_what_contradicts_it() {
        let mut known = epochs(&[(1, 0), (3, 50)]);
        assert!(known.assign(LeaderEpoch::new(5), Offset::new(40)));
        assert_eq!(known, epochs(&[(1, 0), (5, 40)]));
        assert!(!known.assign(LeaderEpoch::new(5), Offset::new(60)));
        // As a follower it may have to go on with the epoch before one in which it led and wrote nothing.
        let mut led = epochs(&[(1, 0), (3, 50), (5, 60)]);
        assert!(led.assign(LeaderEpoch::new(3), Offset::new(60)));
        assert_eq!(led, epochs(&[(1, 0), (3, 50)]));
        // An epoch in which nothing was written leaves no trace.
        assert!(known.assign(LeaderEpoch::new(6), Offset::new(60)));
        assert!(known.assign(LeaderEpoch::new(7), Offset::new(60)));
        assert_eq!(known, epochs(&[(1, 0), (5, 40), (7, 60)]));
    }

    #[test]
    fn truncation_from_both_ends() {
        let mut known = epochs(&[(1, 0), (2, 20), (4, 50)]);
        assert!(known.truncate_from_end(Offset::new(50)));
        assert_eq!(known, epochs(&[(1, 0), (2, 20)]));
        assert!(known.truncate_from_start(Offset::new(30)));
        assert_eq!(known, epochs(&[(2, 30)]));
        assert!(!known.truncate_from_start(Offset::new(30)));
        assert!(!known.truncate_from_start(Offset::new(5)));
        assert_eq!(known.epoch_at(Offset::new(29)), None);
        assert_eq!(known.epoch_at(Offset::new(31)), Some(LeaderEpoch::new(2)));
    }
}
