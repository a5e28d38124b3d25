//! What the machine knows of its log.

use tidelog_types::{LeaderEpoch, Offset};

use super::config::{LogEnd, Restored};
use super::event::{Appended, EpochStart};
use super::message::Fetched;
use super::snapshot::{Snapshot, SnapshotId};
use crate::divergence::{Branch, EpochEnd, compare};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogState {
    start: Offset,
    end: Offset,
    durable_end: Offset,
    epochs: Vec<EpochStart>,
    /// By id.
    snapshots: Vec<Snapshot>,
}

impl LogState {
    pub(super) fn new(restored: &Restored) -> Self {
        let mut log = Self {
            start: restored.log_start_offset,
            end: restored.log_end_offset,
            durable_end: restored.durable_end_offset.min(restored.log_end_offset),
            epochs: Vec::new(),
            snapshots: Vec::new(),
        };
        log.begin_epochs(&restored.epochs);
        log.snapshots_changed(restored.snapshots.clone(), restored.log_start_offset);
        log
    }

    fn begin_epochs(&mut self, epochs: &[EpochStart]) {
        for epoch in epochs {
            let last = self.epochs.last();
            if last.is_none_or(|last| last.leader_epoch < epoch.leader_epoch) {
                self.epochs.push(*epoch);
            }
        }
    }

    pub(super) fn appended(&mut self, appended: &Appended) {
        assert!(
            appended.end >= self.end,
            "appending moved the log end offset back to {}",
            appended.end
        );
        self.end = appended.end;
        self.begin_epochs(&appended.epochs);
    }

    pub(super) fn truncated(&mut self, end: Offset) {
        assert!(end <= self.end, "truncating moved the end up to {end}");
        self.end = end;
        self.durable_end = self.durable_end.min(end);
        self.epochs.retain(|epoch| epoch.start_offset < end);
    }

    pub(super) fn flushed(&mut self, end: Offset) {
        assert!(end <= self.end, "flushed up to {end}, beyond the end");
        self.durable_end = self.durable_end.max(end);
    }

    pub(super) fn snapshots_changed(&mut self, mut snapshots: Vec<Snapshot>, start: Offset) {
        snapshots.sort_by_key(|snapshot| snapshot.id);
        self.snapshots = snapshots;
        self.start = start;
        let first = self.epochs.partition_point(|e| e.start_offset <= start);
        self.epochs.drain(..first.saturating_sub(1));
        if let Some(epoch) = self.epochs.first_mut() {
            epoch.start_offset = epoch.start_offset.max(start);
        }
        if start == self.end {
            // The log is empty, and of the last epoch nothing is left but the snapshot: another one may begin where it ended.
            self.epochs.clear();
        }
    }

    /// The log is empty, and goes on where the snapshot ends.
    pub(super) fn installed(&mut self, snapshot: Snapshot) {
        let end = snapshot.id.end_offset;
        (self.start, self.end, self.durable_end) = (end, end, end);
        self.epochs.clear();
        self.snapshots = vec![snapshot];
    }

    pub(super) const fn start(&self) -> Offset {
        self.start
    }

    pub(super) const fn end(&self) -> Offset {
        self.end
    }

    pub(super) const fn durable_end(&self) -> Offset {
        self.durable_end
    }

    pub(super) fn latest_snapshot(&self) -> Option<SnapshotId> {
        self.snapshots.last().map(|snapshot| snapshot.id)
    }

    pub(super) fn snapshot(&self, id: SnapshotId) -> Option<Snapshot> {
        self.snapshots.iter().find(|s| s.id == id).copied()
    }

    /// The epoch of the last record; of the snapshot if the log is empty; 0 if there is nothing.
    pub(super) fn last_epoch(&self) -> LeaderEpoch {
        let in_log = self.epochs.last().map(|epoch| epoch.leader_epoch);
        in_log
            .or_else(|| self.latest_snapshot().map(|id| id.epoch))
            .unwrap_or(LeaderEpoch::new(0))
    }

    pub(super) fn log_end(&self) -> LogEnd {
        LogEnd {
            epoch: self.last_epoch(),
            offset: self.end,
        }
    }

    /// Where the log would end after a power failure.
    pub(super) fn durable_log_end(&self) -> LogEnd {
        let offset = self.durable_end;
        let begun = self.epochs.partition_point(|e| e.start_offset < offset);
        let in_log = begun.checked_sub(1).map(|i| self.epochs[i].leader_epoch);
        let snapshots = self.snapshots.iter().rev().map(|snapshot| snapshot.id);
        let snapshot = snapshots.filter(|id| id.end_offset <= offset).max();
        let epoch = in_log.or_else(|| snapshot.map(|id| id.epoch));
        LogEnd {
            epoch: epoch.unwrap_or(LeaderEpoch::new(0)),
            offset,
        }
    }

    /// The latest epoch that is not later than `epoch`, and where it ends.
    pub(super) fn end_of(&self, epoch: LeaderEpoch) -> EpochEnd {
        let later = self.epochs.partition_point(|e| e.leader_epoch <= epoch);
        let end_offset = self.epochs.get(later).map_or(self.end, |e| e.start_offset);
        if let Some(own) = later.checked_sub(1).map(|i| self.epochs[i]) {
            return EpochEnd {
                epoch: own.leader_epoch,
                end_offset,
            };
        }
        // All that is left of such epochs is a snapshot.
        let below = self
            .snapshots
            .iter()
            .find(|s| s.id.end_offset == end_offset);
        match below.map(|snapshot| snapshot.id) {
            Some(id) => EpochEnd {
                epoch: id.epoch,
                end_offset,
            },
            None if self.epochs.is_empty() => EpochEnd {
                epoch: self.last_epoch(),
                end_offset,
            },
            None => EpochEnd { epoch, end_offset },
        }
    }

    /// What a follower gets that has everything below `offset`, the last of it in `last_epoch`.
    pub(super) fn fetched(&self, offset: Offset, last_epoch: LeaderEpoch) -> Fetched {
        let latest = self.latest_snapshot();
        let latest = latest.filter(|id| *id != SnapshotId::BOOTSTRAP);
        if let Some(id) = latest
            && offset == Offset::ZERO
        {
            // An empty log is filled faster by a snapshot than by all that led to it.
            return Fetched::Snapshot(id);
        }
        let records = Fetched::Records {
            from: offset,
            to: self.end,
        };
        if self.start == Offset::ZERO && offset == Offset::ZERO {
            return records;
        }
        let earliest = self
            .snapshots
            .iter()
            .find(|s| s.id.end_offset >= self.start);
        if let (Some(earliest), Some(latest)) = (earliest, latest)
            && (offset < self.start
                || (offset == self.start && last_epoch != earliest.id.epoch)
                || last_epoch < earliest.id.epoch)
        {
            return Fetched::Snapshot(latest);
        }
        match compare(last_epoch, offset, self.end_of(last_epoch)) {
            Branch::Diverging(end) => Fetched::Diverging(end),
            Branch::Same | Branch::Unknown => records,
        }
    }

    pub(super) fn check(&self) {
        assert!(self.start <= self.end, "begins behind its end: {self:?}");
        assert!(
            self.durable_end <= self.end,
            "durable beyond the end: {self:?}"
        );
        assert!(
            self.epochs
                .windows(2)
                .all(|e| e[0].leader_epoch < e[1].leader_epoch
                    && e[0].start_offset < e[1].start_offset),
            "epochs out of order: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot may replace the whole log; the next leader's epoch begins where it ends.
    #[test]
    fn an_epoch_may_begin_where_a_snapshot_has_taken_all_of_the_one_before() {
        let mut log = log(0, 77, &[(1, 0), (2, 30)], &[]);
        let snapshot = Snapshot {
            id: id(77, 2),
            size: 10,
        };
        log.snapshots_changed(vec![snapshot], Offset::new(77));
        assert_eq!(log.last_epoch(), LeaderEpoch::new(2));
        log.appended(&Appended {
            end: Offset::new(78),
            epochs: vec![EpochStart {
                leader_epoch: LeaderEpoch::new(3),
                start_offset: Offset::new(77),
            }],
            control_records: Vec::new(),
        });
        log.check();
        let end = log.end_of(LeaderEpoch::new(2));
        assert_eq!((end.epoch.value(), end.end_offset.value()), (2, 77));
    }

    fn log(start: i64, end: i64, epochs: &[(i32, i64)], snapshots: &[(i64, i32)]) -> LogState {
        LogState::new(&Restored {
            log_start_offset: Offset::new(start),
            log_end_offset: Offset::new(end),
            durable_end_offset: Offset::new(end),
            epochs: epochs
                .iter()
                .map(|(epoch, offset)| EpochStart {
                    leader_epoch: LeaderEpoch::new(*epoch),
                    start_offset: Offset::new(*offset),
                })
                .collect(),
            snapshots: snapshots
                .iter()
                .map(|(offset, epoch)| Snapshot {
                    id: id(*offset, *epoch),
                    size: 1,
                })
                .collect(),
            ..Restored::default()
        })
    }

    fn id(offset: i64, epoch: i32) -> SnapshotId {
        SnapshotId {
            end_offset: Offset::new(offset),
            epoch: LeaderEpoch::new(epoch),
        }
    }

    fn fetch(log: &LogState, offset: i64, epoch: i32) -> String {
        match log.fetched(Offset::new(offset), LeaderEpoch::new(epoch)) {
            Fetched::Records { from, to } => format!("{from}..{to}"),
            Fetched::Diverging(end) => {
                format!("epoch {} ends at {}", end.epoch, end.end_offset)
            }
            Fetched::Snapshot(id) => format!("snapshot {id:?}"),
        }
    }

    /// Hard corner 24: the current epoch, a gap between epochs, one below the first, after truncation.
    #[test]
    fn where_a_log_leaves_the_leaders() {
        let mut log = log(0, 30, &[(1, 0), (3, 10), (6, 20)], &[]);
        assert_eq!(fetch(&log, 0, 0), "0..30");
        assert_eq!(fetch(&log, 10, 1), "10..30");
        assert_eq!(fetch(&log, 30, 6), "30..30");
        assert_eq!(fetch(&log, 31, 6), "epoch 6 ends at 30");
        assert_eq!(fetch(&log, 15, 1), "epoch 1 ends at 10");
        assert_eq!(fetch(&log, 22, 5), "epoch 3 ends at 20");
        assert_eq!(fetch(&log, 22, 4), "epoch 3 ends at 20");
        assert_eq!(fetch(&log, 40, 9), "epoch 6 ends at 30");
        assert_eq!(fetch(&log, 5, 0), "epoch 0 ends at 0");
        log.truncated(Offset::new(20));
        assert_eq!(fetch(&log, 22, 6), "epoch 3 ends at 20");
        assert_eq!(fetch(&log, 20, 3), "20..20");
    }

    /// Hard corner 24: after the log start has moved past the beginning of an epoch.
    #[test]
    fn what_is_gone_is_in_a_snapshot() {
        let log = log(12, 30, &[(1, 0), (3, 10), (6, 20)], &[(12, 3), (25, 6)]);
        assert_eq!(fetch(&log, 0, 0), "snapshot 25-6");
        assert_eq!(fetch(&log, 11, 3), "snapshot 25-6");
        assert_eq!(fetch(&log, 12, 3), "12..30");
        assert_eq!(fetch(&log, 12, 2), "snapshot 25-6");
        assert_eq!(fetch(&log, 15, 2), "snapshot 25-6");
        assert_eq!(fetch(&log, 22, 4), "epoch 3 ends at 20");
    }

    #[test]
    fn an_empty_log_behind_a_snapshot() {
        let log = log(12, 12, &[], &[(12, 3)]);
        assert_eq!(log.last_epoch(), LeaderEpoch::new(3));
        assert_eq!(fetch(&log, 12, 3), "12..12");
        assert_eq!(fetch(&log, 14, 5), "epoch 3 ends at 12");
        assert_eq!(fetch(&log, 14, 3), "epoch 3 ends at 12");
    }

    #[test]
    fn what_format_wrote_is_not_served() {
        let log = log(0, 3, &[(1, 0)], &[(0, 0)]);
        assert_eq!(fetch(&log, 0, 0), "0..3");
    }

    #[test]
    fn a_later_epoch_reaches_further_than_a_longer_log() {
        let end = |epoch, offset| LogEnd {
            epoch: LeaderEpoch::new(epoch),
            offset: Offset::new(offset),
        };
        let own = log(0, 30, &[(1, 0), (3, 10)], &[]).log_end();
        assert!(end(3, 30) >= own && end(3, 31) >= own && end(4, 1) >= own);
        assert!(end(3, 29) < own && end(2, 99) < own);
    }

    #[test]
    fn what_is_flushed_ends_in_an_epoch_of_its_own() {
        let mut log = log(20, 40, &[(3, 20), (5, 30)], &[(20, 2)]);
        let mut durable = |offset| {
            log.durable_end = Offset::new(offset);
            log.durable_log_end().epoch.value()
        };
        assert_eq!(
            [durable(20), durable(21), durable(30), durable(31)],
            [2, 3, 3, 5]
        );
    }
}
