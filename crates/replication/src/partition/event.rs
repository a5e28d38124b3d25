use tidelog_types::{LeaderEpoch, NodeId, Offset};

use super::{Config, Watermarks};

/// What has happened to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The metadata names this node as leader. With the current leader epoch it brings a new ISR or new replicas.
    BecomeLeader(BecomeLeader),
    /// The metadata names another node as leader, or none.
    BecomeFollower(BecomeFollower),
    /// The log has grown by a batch: as leader by a producer's, as follower by one of the leader's.
    Appended {
        /// The log end offset after the batch.
        end: Offset,
        /// The first offset of the oldest transaction that is still open at `end`, if any.
        first_unstable_offset: Option<Offset>,
    },
    /// A flush is done.
    Flushed {
        /// Everything below this offset survives a power failure.
        end: Offset,
    },
    /// A follower asked this leader for records, and thereby said how far it has got.
    Fetched {
        /// Which replica.
        replica: NodeId,
        /// The offset it asked for: its log end offset.
        offset: Offset,
    },
    /// The leader answered a fetch of this follower.
    FetchAnswered {
        /// The leader's high watermark.
        high_watermark: Offset,
    },
    /// The end of this follower's log was cut off, since the leader has other records there.
    Truncated {
        /// The log end offset after the cut.
        end: Offset,
        /// The first offset of the oldest transaction that is open at `end`, if any.
        first_unstable_offset: Option<Offset>,
    },
    /// Old records are gone: retention, or a DeleteRecords request.
    LogStartAdvanced {
        /// The first offset that is left.
        log_start_offset: Offset,
    },
    /// The configuration of the topic or of the broker has changed.
    ConfigChanged(Config),
    /// A write or a flush failed. The replica stays offline until it is opened anew.
    Failed,
}

/// The state of a partition whose leader is this node, out of the metadata image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BecomeLeader {
    /// Goes up with every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Goes up with every change of the partition's record in the metadata.
    pub partition_epoch: i32,
    /// All replicas, this one among them.
    pub replicas: Vec<NodeId>,
    /// The replicas that have everything below the high watermark, this one among them.
    pub isr: Vec<NodeId>,
}

/// The state of a partition whose leader is another node, out of the metadata image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BecomeFollower {
    /// Goes up with every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Goes up with every change of the partition's record in the metadata.
    pub partition_epoch: i32,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
}

/// What the owner of a replica is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Show these watermarks to readers, and wake whoever waits for one of them.
    PublishWatermarks(Watermarks),
    /// Note in the log's leader epoch cache that this epoch begins at this offset.
    StartLeaderEpoch {
        /// The epoch of this leader.
        leader_epoch: LeaderEpoch,
        /// The log end offset at its beginning.
        start_offset: Offset,
    },
    /// The role, the leader epoch or the ISR is not what it was: let everyone who waits on this partition look again.
    WakeWaiters,
}
