use std::cmp::Ordering;

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset};

/// Who leads a partition, as its replica on this node sees it: what a reader must know that does not take the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// The metadata has not said yet.
    Unassigned,
    /// This node.
    Leader {
        /// The epoch for which it leads.
        leader_epoch: LeaderEpoch,
        /// The log end offset at the beginning of the epoch.
        epoch_start_offset: Offset,
    },
    /// Another node, or none.
    Follower {
        /// The last epoch that this node has heard of.
        leader_epoch: LeaderEpoch,
        /// The leader, if there is one.
        leader: Option<NodeId>,
    },
    /// The disk failed, and the replica with it.
    Offline,
}

impl Leadership {
    /// The leader epoch of the partition as far as this node has heard, [`LeaderEpoch::NONE`] without a role.
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        match *self {
            Self::Leader { leader_epoch, .. } | Self::Follower { leader_epoch, .. } => leader_epoch,
            Self::Unassigned | Self::Offline => LeaderEpoch::NONE,
        }
    }

    /// Whether this node leads, in the epoch that a request names. [`LeaderEpoch::NONE`] names none.
    ///
    /// The answers are `KAFKA_STORAGE_ERROR`, `FENCED_LEADER_EPOCH`, `UNKNOWN_LEADER_EPOCH` and `NOT_LEADER_OR_FOLLOWER`.
    pub fn check_leader_epoch(&self, current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        self.check_epoch(current_leader_epoch)?;
        match self {
            Self::Leader { .. } => Ok(()),
            _ => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        }
    }

    /// Whether consumers may read from this replica, be it the leader or not, in the epoch that a request names (KIP-392).
    ///
    /// The answers are those of [`check_leader_epoch`](Self::check_leader_epoch).
    pub fn check_replica_epoch(&self, current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        self.check_epoch(current_leader_epoch)?;
        match self {
            Self::Leader { .. } | Self::Follower { .. } => Ok(()),
            _ => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        }
    }

    fn check_epoch(&self, current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        if *self == Self::Offline {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        if current_leader_epoch != LeaderEpoch::NONE {
            // KIP-320
            match current_leader_epoch.cmp(&self.leader_epoch()) {
                Ordering::Less => return Err(ErrorCode::FENCED_LEADER_EPOCH),
                Ordering::Greater => return Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
                Ordering::Equal => {}
            }
        }
        Ok(())
    }

    /// Whether consumers may be told the end of the log (and search it by time).
    ///
    /// A new leader may not know yet how far the old one had committed. Until its high watermark has reached the beginning
    /// of its epoch the answer is `OFFSET_NOT_AVAILABLE`, lest the end seems to go back (KIP-207).
    pub fn check_end_known(&self, high_watermark: Offset) -> Result<(), ErrorCode> {
        match *self {
            Self::Leader {
                epoch_start_offset, ..
            } if high_watermark < epoch_start_offset => Err(ErrorCode::OFFSET_NOT_AVAILABLE),
            _ => self.check_leader_epoch(LeaderEpoch::NONE),
        }
    }
}
