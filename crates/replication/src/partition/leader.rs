use tidelog_types::{LeaderEpoch, NodeId, Offset};

use super::BecomeLeader;

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: i32,
    /// The log end offset at the beginning of the epoch.
    pub(super) epoch_start_offset: Offset,
    pub(super) isr: Vec<NodeId>,
    /// All replicas but this one.
    followers: Vec<Progress>,
    replicas_count: usize,
}

/// How far a follower is known to have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    id: NodeId,
    /// The offset of its last fetch in this epoch: everything below it, the follower has.
    log_end_offset: Option<Offset>,
}

impl Leader {
    pub(super) fn new(node_id: NodeId, epoch_start_offset: Offset, state: BecomeLeader) -> Self {
        let mut leader = Self {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            epoch_start_offset,
            isr: Vec::new(),
            followers: Vec::new(),
            replicas_count: 0,
        };
        leader.update(node_id, state);
        leader
    }

    /// Takes over the replicas and the ISR of a later state of the same epoch. What is known of a follower is kept.
    pub(super) fn update(&mut self, node_id: NodeId, state: BecomeLeader) {
        self.partition_epoch = state.partition_epoch;
        self.isr = state.isr;
        self.replicas_count = state.replicas.len();
        let known = std::mem::take(&mut self.followers);
        self.followers = state
            .replicas
            .into_iter()
            .filter(|id| *id != node_id)
            .map(|id| Progress {
                id,
                log_end_offset: known
                    .iter()
                    .find(|f| f.id == id)
                    .and_then(|f| f.log_end_offset),
            })
            .collect();
    }

    pub(super) fn fetched(&mut self, replica: NodeId, offset: Offset) {
        if let Some(follower) = self.followers.iter_mut().find(|f| f.id == replica) {
            follower.log_end_offset = Some(offset);
        }
    }

    pub(super) fn has_follower(&self, replica: NodeId) -> bool {
        self.followers.iter().any(|f| f.id == replica)
    }

    /// Whether the ISR is large enough for records to become committed. More than there are replicas is never demanded.
    pub(super) fn is_enough_in_sync(&self, min_insync_replicas: usize) -> bool {
        self.isr.len() >= min_insync_replicas.min(self.replicas_count)
    }

    /// The end of what the whole ISR has, this leader with `own_end` included; nothing while a member has not been
    /// heard of in this epoch.
    pub(super) fn replicated_end(&self, own_end: Offset) -> Option<Offset> {
        self.followers
            .iter()
            .filter(|f| self.isr.contains(&f.id))
            .try_fold(own_end, |end, f| {
                f.log_end_offset.map(|theirs| end.min(theirs))
            })
    }

    /// The replicas that are in sync.
    pub fn isr(&self) -> &[NodeId] {
        &self.isr
    }

    /// The log end offset at the beginning of this leader's epoch.
    pub const fn epoch_start_offset(&self) -> Offset {
        self.epoch_start_offset
    }
}
