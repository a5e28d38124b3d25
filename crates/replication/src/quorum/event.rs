use tidelog_types::{LeaderEpoch, NodeId, Offset, Uuid};

/// A node that votes, or voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its node id.
    pub id: NodeId,
    /// Its log directory (KIP-853): a voter that lost its disk is another voter. Zero when unknown.
    pub directory_id: Uuid,
}

/// What a voter must remember before it acts on it: the content of the file `quorum-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// The highest epoch the voter has heard of.
    pub leader_epoch: LeaderEpoch,
    /// The leader of that epoch, if it is known.
    pub leader_id: Option<NodeId>,
    /// Whom the voter voted for in that epoch, unless the leader is known.
    pub voted: Option<Voter>,
}

/// What has happened to a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline has passed.
    Timeout,
    /// A quorum state is on the disk and will survive a power failure.
    QuorumStateStored(QuorumState),
    /// The log has grown.
    Appended {
        /// The log end offset.
        end: Offset,
    },
    /// A flush of the log is done.
    Flushed {
        /// Everything below this offset survives a power failure.
        end: Offset,
    },
    /// The node is about to stop: it leads no longer, and stands for no election.
    Shutdown,
}

/// What the owner of a voter is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put this into `quorum-state`, flush it, and report [`Input::QuorumStateStored`].
    StoreQuorumState(QuorumState),
    /// Append the control record that begins the leader's epoch, then report [`Input::Appended`].
    AppendLeaderChange {
        /// The epoch of the batch.
        leader_epoch: LeaderEpoch,
        /// The new leader: this node.
        leader_id: NodeId,
        /// All voters.
        voters: Vec<Voter>,
        /// The voters that elected it.
        granting_voters: Vec<Voter>,
    },
    /// Records below this offset are committed: apply them.
    PublishHighWatermark(Offset),
    /// This node leads, and the beginning of its epoch is committed. When everything below the high watermark is
    /// applied, it may serve as controller.
    Lead {
        /// The epoch for which it leads.
        leader_epoch: LeaderEpoch,
    },
}
