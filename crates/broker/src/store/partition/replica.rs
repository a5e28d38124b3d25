//! A partition as the follower of another node, and as the leader that other nodes follow.

use std::sync::Arc;

use tidelog_node::partition::{Fetched, ReadReplica, Taken};
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::partition::{
    AlteredPartition, Ask, FetchState, FollowerFetch, Input, LogRange,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset};

use super::Partition;

impl Partition {
    /// What this replica wants of its leader, if it follows one.
    pub(crate) fn asks(&self) -> Option<Ask> {
        self.core.lock().asks()
    }

    /// Partitions are spread over another number of fetchers.
    pub(crate) fn change_fetcher(self: &Arc<Self>) {
        match self.asks() {
            Some(Ask::Records(FetchState { leader, .. }) | Ask::Offsets { leader, .. }) => {
                self.outbox.change_fetcher(leader, self);
            }
            None => {}
        }
    }

    /// Whether this follower asks for nothing because it waits for its disk.
    pub(crate) fn is_flushing(&self) -> bool {
        self.core.lock().is_flushing()
    }

    /// Takes the leader's answer to a fetch.
    pub(crate) fn fetch_answered(&self, request: FetchState, fetched: Fetched) -> Taken {
        let taken =
            self.with_core(|core, now, after| core.fetch_answered(now, request, fetched, after));
        if taken.flush {
            self.request_flush();
        }
        taken
    }

    /// Takes the leader's answer to where its log begins and ends. Tells whether the log was cut.
    pub(crate) fn offsets_answered(
        &self,
        leader_epoch: LeaderEpoch,
        answer: Result<LogRange, ErrorCode>,
    ) -> Taken {
        self.with_core(|core, now, after| core.offsets_answered(now, leader_epoch, answer, after))
    }

    /// Takes note of a follower's fetch; gives where its log parts from this one, if it does.
    pub(crate) fn follower_fetched(
        &self,
        fetch: FollowerFetch,
    ) -> Result<Option<EpochEnd>, ErrorCode> {
        self.with_core(|core, now, after| core.follower_fetched(now, fetch, after))
    }

    /// The controller has answered a wish of this leader.
    pub(crate) fn alter_partition_answered(
        &self,
        id: u64,
        answer: Result<AlteredPartition, ErrorCode>,
    ) {
        self.input(Input::AlterPartitionAnswered { id, answer });
    }

    /// The replicas in sync, if this node leads, each with what it is known to have.
    pub(crate) fn read_replicas(&self) -> Vec<ReadReplica> {
        self.core.lock().read_replicas()
    }

    /// The low watermark, once all live replicas have deleted what lies below `offset`; `None` if not yet.
    pub(crate) fn deleted_up_to(
        &self,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Option<Offset>, ErrorCode> {
        self.core.lock().deleted_up_to(leader_epoch, offset)
    }

    /// Hands in that it is time, if it is.
    pub(crate) fn wake(self: &Arc<Self>) {
        self.with_core(|core, now, after| core.wake(now, after));
    }
}
