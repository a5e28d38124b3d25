use std::fmt;

use tidelog_types::{LeaderEpoch, Offset};

/// Names a snapshot by what it replaces. Ordered by how far it reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The offset after the last record that is in it.
    pub end_offset: Offset,
    /// The epoch of that record.
    pub epoch: LeaderEpoch,
}

impl SnapshotId {
    /// What `format` writes for the first start. It is local to its node and never served.
    pub const BOOTSTRAP: Self = Self {
        end_offset: Offset::ZERO,
        epoch: LeaderEpoch::new(0),
    };
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.end_offset, self.epoch)
    }
}

/// A snapshot that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Its size in bytes.
    pub size: i64,
}
