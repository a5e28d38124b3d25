use tidelog_types::{LeaderEpoch, NodeId, Offset};

use super::message::{LeaderAndEpoch, Request, Response};
use super::snapshot::{Snapshot, SnapshotId};
use super::voters::{Endpoint, ReplicaKey, VoterSet};

/// What a replica must remember before it acts on it: the content of the file `quorum-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// The highest epoch the replica has heard of.
    pub leader_epoch: LeaderEpoch,
    /// The leader of that epoch, if it is known.
    pub leader_id: Option<NodeId>,
    /// Whom the replica voted for in that epoch.
    pub voted: Option<ReplicaKey>,
}

impl QuorumState {
    /// That of a replica that has heard of nothing.
    pub const NOTHING: Self = Self {
        leader_epoch: LeaderEpoch::new(0),
        leader_id: None,
        voted: None,
    };
}

/// What has happened to a replica.
///
/// [`Effect::AppendLeaderChange`], [`Effect::AppendVoters`], [`Effect::AppendFetched`], [`Effect::Truncate`] and
/// [`Effect::InstallSnapshot`] change the log at once: the input that reports them comes before any other. Storing the quorum
/// state and flushing may take their time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline has passed.
    Timeout,
    /// Another node, or a client, asks for something.
    Request {
        /// Names the request in [`Effect::Answer`]. Unique as long as it is not answered.
        request_id: u64,
        /// What it asks for.
        request: Request,
    },
    /// The answer to a request that this node sent, if it is of the same kind as the request and names one partition.
    Response {
        /// That of [`Effect::Send`].
        request_id: u64,
        /// The answer.
        response: Response,
    },
    /// A request brought no answer: the connection broke, or the answer has an error for the whole request (cluster id).
    RequestFailed {
        /// That of [`Effect::Send`].
        request_id: u64,
    },
    /// A connection to a node was closed, and opening another one was refused: its process is gone. A hint; a wrong one costs
    /// an election, never a record.
    Unreachable {
        /// The node.
        node: NodeId,
    },
    /// A quorum state is on the disk and will survive a power failure.
    QuorumStateStored(QuorumState),
    /// The log has grown.
    Appended(Appended),
    /// The log was cut.
    Truncated {
        /// The log end offset.
        end: Offset,
    },
    /// A flush of the log is done. One that began before the log was cut reports no more than what is left.
    Flushed {
        /// Everything below this offset survives a power failure.
        end: Offset,
    },
    /// A snapshot was made or deleted, or what a snapshot replaces was deleted from the log.
    SnapshotsChanged {
        /// All snapshots that are there, in any order.
        snapshots: Vec<Snapshot>,
        /// The first offset of the log.
        log_start_offset: Offset,
    },
    /// A piece of a snapshot that is being fetched is in its file.
    SnapshotChunkWritten {
        /// The snapshot.
        snapshot_id: SnapshotId,
        /// How many bytes of it are there.
        position: i64,
    },
    /// A fetched snapshot is on the disk, and the log begins anew, and empty, where it ends.
    SnapshotInstalled {
        /// The snapshot. Those that are older are gone.
        snapshot: Snapshot,
        /// The control records in it; their offset counts as that of the last record that the snapshot replaces.
        control_records: Vec<ControlRecord>,
    },
    /// A fetched snapshot turned out to be damaged, and was deleted.
    SnapshotRefused {
        /// The snapshot.
        snapshot_id: SnapshotId,
    },
    /// The voters go from the configuration into the log (KIP-853). Nothing comes of it unless
    /// [`Quorum::check_upgrade`](super::Quorum::check_upgrade) allows it.
    UpgradeKRaftVersion {
        /// The version that the quorum is to have.
        kraft_version: i16,
    },
    /// The controller of this node gives up, having led in this epoch.
    Resign {
        /// The epoch.
        leader_epoch: LeaderEpoch,
    },
    /// The log could not be written or flushed, or the quorum state not stored. The node takes no further part; if it leads,
    /// it tells the others that it no longer does.
    Failed,
    /// The node is about to stop: if it leads, it hands over; it still votes, and stands for no election.
    Shutdown,
}

/// What was appended to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The log end offset.
    pub end: Offset,
    /// The epochs that begin in what was appended (or of all its batches, by base offset: what is known is passed over).
    pub epochs: Vec<EpochStart>,
    /// The control records in it that concern the quorum.
    pub control_records: Vec<ControlRecord>,
}

/// Where a leader epoch begins in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub leader_epoch: LeaderEpoch,
    /// The offset of its first record.
    pub start_offset: Offset,
}

/// A control record of the log that concerns the quorum (KIP-853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// From here on the quorum is of this version.
    KRaftVersion {
        /// The offset of the record.
        offset: Offset,
        /// 0: the voters are part of the configuration; 1: they are in the log.
        kraft_version: i16,
    },
    /// From here on these are the voters.
    Voters {
        /// The offset of the record.
        offset: Offset,
        /// The voters.
        voters: VoterSet,
    },
}

impl ControlRecord {
    /// The offset of the record.
    pub const fn offset(&self) -> Offset {
        match self {
            Self::KRaftVersion { offset, .. } | Self::Voters { offset, .. } => *offset,
        }
    }

    /// Counts the offset from `base`, where the batch is that was built from 0.
    #[must_use]
    pub fn based_at(mut self, base: Offset) -> Self {
        match &mut self {
            Self::KRaftVersion { offset, .. } | Self::Voters { offset, .. } => {
                *offset += base.value();
            }
        }
        self
    }
}

/// What the owner of a replica is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a request; report [`Input::Response`] or [`Input::RequestFailed`]. Whatever comes after the machine has given up
    /// waiting (`request_timeout`) or has lost interest is passed over, so it need not be cancelled.
    Send {
        /// Names the request.
        request_id: u64,
        /// To whom.
        to: Destination,
        /// What.
        request: Request,
    },
    /// Answer a request.
    Answer {
        /// That of [`Input::Request`].
        request_id: u64,
        /// The answer.
        response: Response,
    },
    /// Put this into `quorum-state`, flush it, and report [`Input::QuorumStateStored`]. Of two that are under way the later
    /// one must win.
    StoreQuorumState(QuorumState),
    /// Append the control batch that begins the leader's epoch, then report [`Input::Appended`].
    AppendLeaderChange(LeaderChange),
    /// Append a control batch with new voters, then report [`Input::Appended`].
    AppendVoters {
        /// The epoch of the batch.
        leader_epoch: LeaderEpoch,
        /// The version of the quorum from here on, which stands in front of the voters if it is another one.
        kraft_version: Option<i16>,
        /// The voters.
        voters: VoterSet,
    },
    /// Append the records that came with the answer to this request, as they are, then report [`Input::Appended`]. If some
    /// are damaged, append those before.
    AppendFetched {
        /// That of [`Effect::Send`].
        request_id: u64,
    },
    /// Cut the log, then report [`Input::Truncated`].
    Truncate {
        /// The first offset to go.
        end: Offset,
    },
    /// Write the bytes that came with the answer to this request into the file of a snapshot that is being fetched, cutting
    /// off what the file may have beyond, then report [`Input::SnapshotChunkWritten`].
    WriteSnapshotChunk {
        /// That of [`Effect::Send`].
        request_id: u64,
        /// The snapshot.
        snapshot_id: SnapshotId,
        /// Where the bytes belong. Position 0 begins the file anew.
        position: i64,
    },
    /// All of a snapshot is there: check and flush it, begin the log anew where it ends, then report
    /// [`Input::SnapshotInstalled`] or [`Input::SnapshotRefused`].
    InstallSnapshot {
        /// The snapshot.
        snapshot_id: SnapshotId,
    },
    /// Records below this offset are committed: apply them.
    PublishHighWatermark(Offset),
    /// This is known of the leader now.
    AnnounceLeader(LeaderAndEpoch),
    /// This node leads, and the beginning of its epoch is committed. When everything below the high watermark is
    /// applied, it may serve as controller.
    Lead {
        /// The epoch for which it leads.
        leader_epoch: LeaderEpoch,
    },
    /// This node leads no longer. What it has appended and is not committed may stay or go.
    StopLeading {
        /// The epoch for which it led.
        leader_epoch: LeaderEpoch,
    },
    /// Put a line into the log: something is wrong that needs a look.
    Report(Anomaly),
}

/// The control batch that begins the epoch of a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// The epoch of the batch.
    pub leader_epoch: LeaderEpoch,
    /// The new leader: this node.
    pub leader_id: NodeId,
    /// All voters.
    pub voters: Vec<ReplicaKey>,
    /// The voters that elected it.
    pub granting_voters: Vec<ReplicaKey>,
    /// In the first epoch of a cluster with `kraft.version` 1 two more records follow in the same batch: the version, and the
    /// voters.
    pub first_voters: Option<(i16, VoterSet)>,
}

/// To whom a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The node, if it is known who listens there.
    pub node_id: Option<NodeId>,
    /// Where it listens; the owner takes the listener that it prefers.
    pub endpoints: Vec<Endpoint>,
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// The leader wants committed records cut off. They are kept, and nothing is fetched from it.
    TruncationBelowHighWatermark {
        /// Where it wants the log to end.
        end: Offset,
        /// What is committed.
        high_watermark: Offset,
    },
    /// Two nodes claim the same epoch, or another node has this node's id.
    InconsistentLeader {
        /// The epoch.
        leader_epoch: LeaderEpoch,
        /// Whom this node holds for the leader.
        known: Option<NodeId>,
        /// Who claims to be, or is said to be.
        claimed: NodeId,
    },
    /// Another node fetches with this node's id.
    DuplicateNodeId {
        /// Its key.
        replica: ReplicaKey,
    },
}
