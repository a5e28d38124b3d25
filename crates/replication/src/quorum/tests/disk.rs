//! What a node has on its disk: a log, snapshots, the quorum state, and what a power failure takes away.

use std::sync::Arc;

use tidelog_types::{LeaderEpoch, Offset};

use super::super::{
    ControlRecord, EpochStart, LogEnd, QuorumState, Restored, Snapshot, SnapshotId, VoterSet,
};

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) epoch: LeaderEpoch,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    LeaderChange,
    KRaftVersion(i16),
    Voters(VoterSet),
    /// Written once.
    Data(u64),
}

/// A snapshot: all records that it replaces.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFile {
    pub(super) id: SnapshotId,
    pub(super) records: Arc<Vec<Record>>,
    /// What `format` wrote about the voters.
    pub(super) formatted: Option<VoterSet>,
}

impl SnapshotFile {
    /// Ten bytes a record.
    pub(super) fn size(&self) -> i64 {
        10 * self.records.len() as i64 + 10
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            id: self.id,
            size: self.size(),
        }
    }

    pub(super) fn control_records(&self) -> Vec<ControlRecord> {
        let offset = self.id.end_offset + -1;
        let voters = self
            .records
            .iter()
            .rev()
            .find_map(|record| match &record.body {
                Body::Voters(voters) => Some(voters.clone()),
                _ => None,
            });
        let Some(voters) = voters.or_else(|| self.formatted.clone()) else {
            return Vec::new();
        };
        vec![
            ControlRecord::KRaftVersion {
                offset,
                kraft_version: 1,
            },
            ControlRecord::Voters { offset, voters },
        ]
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// The offset of the first record.
    pub(super) start: i64,
    pub(super) records: Vec<Record>,
    /// Everything below it survives a power failure.
    pub(super) flushed: i64,
    /// By id.
    pub(super) snapshots: Vec<SnapshotFile>,
    pub(super) stored: Option<QuorumState>,
    /// What is on the way to `stored`.
    pub(super) storing: Vec<QuorumState>,
    /// Where the log ended before its snapshot was damaged.
    pub(super) lost: Option<LogEnd>,
}

impl Disk {
    pub(super) fn end(&self) -> i64 {
        self.start + self.records.len() as i64
    }

    pub(super) fn record(&self, offset: i64) -> Option<&Record> {
        let index = usize::try_from(offset - self.start).ok()?;
        self.records.get(index)
    }

    pub(super) fn read(&self, from: i64, to: i64) -> Vec<Record> {
        let to = to.min(self.end());
        (from..to)
            .filter_map(|offset| self.record(offset).cloned())
            .collect()
    }

    pub(super) fn truncate(&mut self, end: i64) {
        self.records
            .truncate(usize::try_from(end - self.start).unwrap_or(0));
        self.flushed = self.flushed.min(end);
    }

    /// A power failure: what was not flushed is gone, down to `end`, and of what was being stored only the first `stored`.
    pub(super) fn crash(&mut self, end: i64, stored: usize) {
        self.truncate(end.max(self.flushed));
        self.flushed = self.end();
        if let Some(state) = self.storing.drain(..).take(stored).next_back() {
            self.stored = Some(state);
        }
        // A log that ends before its snapshot begins anew there.
        if let Some(latest) = self.snapshots.last().cloned()
            && latest.id.end_offset.value() > self.end()
        {
            self.begin_at(&latest);
        }
    }

    pub(super) fn begin_at(&mut self, snapshot: &SnapshotFile) {
        self.records.clear();
        self.start = snapshot.id.end_offset.value();
        self.flushed = self.start;
        self.snapshots = vec![snapshot.clone()];
    }

    /// All snapshots are damaged: a log that does not go back to the beginning is of no use without, so it begins anew.
    pub(super) fn lose_snapshots(&mut self) {
        let ids = self.snapshots.iter().map(|snapshot| LogEnd {
            epoch: snapshot.id.epoch,
            offset: snapshot.id.end_offset,
        });
        let last = self.records.last().map(|record| LogEnd {
            epoch: record.epoch,
            offset: Offset::new(self.end()),
        });
        self.lost = ids.chain(last).chain(self.lost).max();
        self.snapshots.clear();
        if self.start > 0 {
            self.records.clear();
            (self.start, self.flushed) = (0, 0);
        }
    }

    /// All records below `end`, those of the snapshot too.
    pub(super) fn prefix(&self, end: i64) -> Vec<Record> {
        let below = self
            .snapshots
            .iter()
            .rev()
            .find(|s| s.id.end_offset.value() >= self.start);
        let mut records: Vec<Record> = below
            .map(|snapshot| {
                snapshot
                    .records
                    .iter()
                    .take(self.start as usize)
                    .cloned()
                    .collect()
            })
            .unwrap_or_default();
        records.extend(self.read(self.start, end));
        records
    }

    pub(super) fn snapshot_infos(&self) -> Vec<Snapshot> {
        self.snapshots.iter().map(SnapshotFile::snapshot).collect()
    }

    pub(super) fn restored(&self) -> Restored {
        let mut epochs: Vec<EpochStart> = Vec::new();
        let mut control_records = Vec::new();
        let mut from = 0;
        if let Some(latest) = self.snapshots.last() {
            control_records = latest.control_records();
            from = latest.id.end_offset.value();
        }
        for (offset, record) in (self.start..).zip(&self.records) {
            let offset = Offset::new(offset);
            epochs.push(EpochStart {
                leader_epoch: record.epoch,
                start_offset: offset,
            });
            if offset.value() >= from {
                control_records.extend(control_record(offset, record));
            }
        }
        let high_watermark = self.snapshots.last().map(|s| s.id.end_offset);
        Restored {
            quorum_state: self.stored,
            log_start_offset: Offset::new(self.start),
            log_end_offset: Offset::new(self.end()),
            durable_end_offset: Offset::new(self.flushed),
            epochs,
            snapshots: self.snapshot_infos(),
            control_records,
            high_watermark: high_watermark.unwrap_or_default(),
            lost: self.lost,
        }
    }
}

/// What the quorum hears of a record.
pub(super) fn control_record(offset: Offset, record: &Record) -> Option<ControlRecord> {
    match &record.body {
        Body::KRaftVersion(kraft_version) => Some(ControlRecord::KRaftVersion {
            offset,
            kraft_version: *kraft_version,
        }),
        Body::Voters(voters) => Some(ControlRecord::Voters {
            offset,
            voters: voters.clone(),
        }),
        Body::LeaderChange | Body::Data(_) => None,
    }
}
