use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::{Config, Watermarks};
use crate::divergence::EpochEnd;

/// What has happened to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The deadline has passed.
    Timeout,
    /// The metadata names this node as leader. With the current leader epoch it brings a new ISR, other replicas, or other
    /// brokers.
    BecomeLeader(BecomeLeader),
    /// The metadata names another node as leader, or none.
    BecomeFollower(BecomeFollower),
    /// The metadata says something new of a broker that has a replica of this partition. Of use to a leader only.
    BrokerChanged(Broker),
    /// The log has grown by a batch: as leader by a producer's, as follower by one of the leader's.
    Appended {
        /// The log end offset after the batch.
        end: Offset,
        /// The epoch of the batch: a leader's own, or what a follower found in it.
        leader_epoch: LeaderEpoch,
        /// The first offset of the oldest transaction that is still open at `end`, if any.
        first_unstable_offset: Option<Offset>,
    },
    /// A flush is done.
    Flushed {
        /// Everything below this offset survives a power failure.
        end: Offset,
    },
    /// A follower asked this leader for records, and thereby said how far it has got. To be handed in under the same lock as
    /// [`Replica::check_fetch`](super::Replica::check_fetch), which tells how to answer; what that refuses changes nothing.
    Fetched(FollowerFetch),
    /// The controller answered [`Effect::AlterPartition`], or the owner gave up on it.
    AlterPartitionAnswered {
        /// [`AlterPartition::id`]
        id: u64,
        /// The new state, or why there is none. Whatever kept the answer from coming (a connection that broke) is an error
        /// too; the owner sees to it that such a request cannot take effect later.
        answer: Result<AlteredPartition, ErrorCode>,
    },
    /// The leader answered [`Ask::Records`].
    FetchAnswered {
        /// What was asked.
        request: FetchState,
        /// The answer.
        answer: FetchAnswer,
    },
    /// The leader answered [`Ask::Offsets`].
    OffsetsAnswered {
        /// The leader epoch that was asked for.
        leader_epoch: LeaderEpoch,
        /// Where the leader's log begins and ends.
        answer: Result<LogRange, ErrorCode>,
    },
    /// The log refused a batch that was fetched: it is damaged, or does not fit.
    AppendRefused,
    /// The end of this follower's log was cut off, after [`Effect::Truncate`].
    Truncated {
        /// The log end offset after the cut: not above what was asked for, and below it if a batch lay across it.
        end: Offset,
        /// The epoch of the last record that is left, [`LeaderEpoch::NONE`] without one.
        last_epoch: LeaderEpoch,
        /// The first offset of the oldest transaction that is open at `end`, if any.
        first_unstable_offset: Option<Offset>,
    },
    /// All records of this follower's log are gone, after [`Effect::Restart`], or since the leader's first batch begins
    /// before its log start offset.
    Restarted {
        /// Where the empty log begins and ends now.
        offset: Offset,
    },
    /// Old records are gone: retention, a DeleteRecords request, or [`Effect::AdvanceLogStart`].
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BecomeLeader {
    /// Goes up with every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Goes up with every change of the partition's record in the metadata.
    pub partition_epoch: i32,
    /// All replicas, this one among them; during a reassignment those that are added and those that are removed, too.
    pub replicas: Vec<NodeId>,
    /// The replicas that a reassignment adds, and that do not count for the replication factor yet.
    pub adding_replicas: Vec<NodeId>,
    /// The replicas that have everything below the high watermark, this one among them.
    pub isr: Vec<NodeId>,
    /// The leader was elected although it may lack committed records, and the controller has not heard yet that it has
    /// recovered (KIP-704).
    pub recovering: bool,
    /// What the metadata says of the brokers of these replicas. One that is missing is not registered.
    pub brokers: Vec<Broker>,
}

/// The state of a partition whose leader is another node, out of the metadata image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BecomeFollower {
    /// Goes up with every change of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Goes up with every change of the partition's record in the metadata.
    pub partition_epoch: i32,
    /// The leader, if there is one.
    pub leader: Option<NodeId>,
}

/// A broker, as far as it matters for whether its replica may be in the ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    /// The node.
    pub id: NodeId,
    /// The epoch of its registration (KIP-903).
    pub broker_epoch: i64,
    /// The controller has not heard from it for long, or it is still starting. One that was unregistered is fenced, too.
    pub fenced: bool,
    /// It is about to stop.
    pub in_controlled_shutdown: bool,
}

/// A follower's fetch, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FollowerFetch {
    /// Which replica.
    pub replica: NodeId,
    /// The registration under which it runs, [`UNKNOWN_BROKER_EPOCH`] if its version does not say.
    pub broker_epoch: i64,
    /// The leader epoch that it knows, [`LeaderEpoch::NONE`] if its version does not say.
    pub current_leader_epoch: LeaderEpoch,
    /// It has everything below this offset, as durably as its topic demands.
    pub fetch_offset: Offset,
    /// The epoch of the record before `fetch_offset`, [`LeaderEpoch::NONE`] if there is none.
    pub last_fetched_epoch: LeaderEpoch,
    /// What this leader's own log answers for `last_fetched_epoch`.
    pub epoch_end: EpochEnd,
    /// The first offset of the follower's log.
    pub log_start_offset: Offset,
}

/// "Not known" instead of a broker epoch.
pub const UNKNOWN_BROKER_EPOCH: i64 = -1;

/// A change of the ISR, or of the leader recovery state, that a leader asks of the controller (KIP-497). The leader recovery
/// state that goes with it is always RECOVERED.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlterPartition {
    /// By what the answer is known. No two requests of a replica have the same.
    pub id: u64,
    /// The epoch in which this node leads.
    pub leader_epoch: LeaderEpoch,
    /// The state on which the change builds: if the partition has a later one, the change is refused.
    pub partition_epoch: i32,
    /// The ISR that is wanted.
    pub new_isr: Vec<IsrMember>,
}

/// A replica in a wanted ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IsrMember {
    /// Which replica.
    pub id: NodeId,
    /// The registration under which it has fetched, [`UNKNOWN_BROKER_EPOCH`] for a member that has not yet (KIP-903).
    pub broker_epoch: i64,
}

/// What the controller answers to a change that it made, or that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlteredPartition {
    /// The leader epoch of the partition.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch with this ISR.
    pub partition_epoch: i32,
    /// The ISR.
    pub isr: Vec<NodeId>,
    /// Whether the leader still counts as recovering.
    pub recovering: bool,
}

/// What a follower wants of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Records: a Fetch. It is repeated while the answers bring nothing new.
    Records(FetchState),
    /// Where the leader's log begins and ends (ListOffsets, earliest and latest): what the follower asked for is not there.
    Offsets {
        /// The leader.
        leader: NodeId,
        /// The epoch in which it leads.
        leader_epoch: LeaderEpoch,
    },
}

/// From where a follower wants records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FetchState {
    /// The leader.
    pub leader: NodeId,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The end of what this follower has. With [`DurableWhen::Flushed`](super::DurableWhen::Flushed) nothing is asked for
    /// while a part of the log is not flushed.
    pub fetch_offset: Offset,
    /// The epoch of the last record, [`LeaderEpoch::NONE`] without one.
    pub last_fetched_epoch: LeaderEpoch,
    /// The first offset of this follower's log.
    pub log_start_offset: Offset,
}

/// What a leader answers to a follower's fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchAnswer {
    /// The follower's log is a beginning of the leader's. The records stay with the owner.
    Records {
        /// There are none: the follower has everything.
        is_empty: bool,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start offset.
        log_start_offset: Offset,
    },
    /// The follower's log has records that the leader's has not.
    Diverging {
        /// The epoch that they may have in common, and where it ends in the leader's log.
        leader: EpochEnd,
        /// What this follower's own log answers for that epoch.
        own: EpochEnd,
    },
    /// The leader refused, or there was no answer.
    Error(ErrorCode),
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogRange {
    /// The first offset.
    pub log_start_offset: Offset,
    /// The offset after the last record.
    pub log_end_offset: Offset,
}

/// What the owner of a replica is to do. What concerns the log is done before the replica gets its next input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Show these watermarks to readers, and wake whoever waits for one of them.
    PublishWatermarks(Watermarks),
    /// All live replicas have deleted what lies below this offset: wake whoever waits for a deletion.
    PublishLowWatermark(Offset),
    /// Note in the log's leader epoch cache that this epoch begins at this offset.
    StartLeaderEpoch {
        /// The epoch of this leader.
        leader_epoch: LeaderEpoch,
        /// The log end offset at its beginning.
        start_offset: Offset,
    },
    /// The role, the leader epoch or the ISR is not what it was: let everyone who waits on this partition look again.
    WakeWaiters,
    /// Ask the controller for a change, and report [`Input::AlterPartitionAnswered`].
    AlterPartition(AlterPartition),
    /// Ask the leader for this from now on, instead of what was said before; `None`: for nothing.
    AskLeader(Option<Ask>),
    /// Append the records that came with the answer, and report [`Input::Appended`] for each batch, or
    /// [`Input::AppendRefused`].
    AppendFetched,
    /// Cut the log, so that it ends at this offset or before, and report [`Input::Truncated`].
    Truncate {
        /// The end that is wanted.
        end: Offset,
    },
    /// Drop all records, let the log begin at this offset, and report [`Input::Restarted`].
    Restart {
        /// Where it begins and ends.
        offset: Offset,
    },
    /// Delete what lies below this offset, as the leader has, and report [`Input::LogStartAdvanced`].
    AdvanceLogStart {
        /// The first offset to be left.
        log_start_offset: Offset,
    },
    /// Say in the log of the node that this follower gives up records which it knew as committed, since its leader, which
    /// was elected uncleanly, does not have them. [`Effect::Truncate`] or [`Effect::Restart`] comes with it.
    ReportCommittedLost {
        /// From this offset on.
        from: Offset,
        /// Up to this offset (exclusive): the high watermark.
        to: Offset,
    },
}
