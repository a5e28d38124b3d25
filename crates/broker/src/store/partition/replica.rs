//! A partition as the follower of another node, and as the leader that other nodes follow.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_log::LogError;
use tidelog_record::Batch;
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::partition::{
    AlteredPartition, Ask, FetchAnswer, FetchState, FollowerFetch, Input, LogRange, Role,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::{After, Core, Partition};

/// A leader's answer to a fetch, with the records.
pub(crate) enum Fetched {
    Records {
        records: Bytes,
        high_watermark: Offset,
        log_start_offset: Offset,
    },
    Diverging(EpochEnd),
    Error(ErrorCode),
}

/// What an answer has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Nothing is asked for until the flush that was requested is done.
    pub(crate) is_flushing: bool,
    /// The log was cut: the checkpoints must say so before anything is appended.
    pub(crate) was_cut: bool,
}

/// A replica of which a consumer may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadReplica {
    pub(crate) id: NodeId,
    pub(crate) log: LogRange,
}

impl Partition {
    /// What this replica wants of its leader, if it follows one.
    pub(crate) fn asks(&self) -> Option<Ask> {
        self.core.lock().replica.asks()
    }

    /// Whether this follower asks for nothing because it waits for its disk.
    pub(crate) fn is_flushing(&self) -> bool {
        let core = self.core.lock();
        core.is_flushing()
    }

    /// Takes the leader's answer to a fetch.
    pub(crate) fn fetch_answered(&self, request: FetchState, fetched: Fetched) -> Taken {
        let mut after = After::default();
        let mut core = self.core.lock();
        let answer = match &fetched {
            Fetched::Records {
                records,
                high_watermark,
                log_start_offset,
            } => FetchAnswer::Records {
                is_empty: records.is_empty(),
                high_watermark: *high_watermark,
                log_start_offset: *log_start_offset,
            },
            Fetched::Diverging(leader) => FetchAnswer::Diverging {
                leader: *leader,
                own: core.epoch_end(leader.epoch),
            },
            Fetched::Error(code) => FetchAnswer::Error(*code),
        };
        self.step(
            &mut core,
            Input::FetchAnswered { request, answer },
            &mut after,
        );
        let may_append = std::mem::take(&mut after.append_fetched);
        let mut rolled = false;
        if let Fetched::Records { records, .. } = fetched
            && may_append
        {
            rolled = self.append_fetched(&mut core, records, &mut after);
        }
        let flush = rolled || core.replica.needs_flush();
        let taken = Taken {
            is_flushing: core.is_flushing(),
            was_cut: after.was_cut,
        };
        drop(core);
        self.conclude(after);
        if flush {
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
        let mut after = After::default();
        let mut core = self.core.lock();
        let input = Input::OffsetsAnswered {
            leader_epoch,
            answer,
        };
        self.step(&mut core, input, &mut after);
        let taken = Taken {
            is_flushing: core.is_flushing(),
            was_cut: after.was_cut,
        };
        drop(core);
        self.conclude(after);
        taken
    }

    /// Appends what a leader has sent, batch by batch, until one does not fit. Tells whether a segment was closed.
    fn append_fetched(&self, core: &mut Core, mut records: Bytes, after: &mut After) -> bool {
        let mut rolled = false;
        let refused = loop {
            let batch = match Batch::split_from(&mut records) {
                Ok(Some(batch)) => batch,
                // What is cut off at the end comes with the next answer.
                Ok(None) => break None,
                Err(error) => break Some(LogError::from(error)),
            };
            match self.append_fetched_batch(core, &batch, after) {
                Ok(closed) => rolled |= closed,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = refused
            && !self.look_for_failure(core, after)
        {
            tracing::warn!(partition = %self.name, %error, "the leader's records cannot be appended");
            self.step(core, Input::AppendRefused, after);
        }
        rolled
    }

    fn append_fetched_batch(
        &self,
        core: &mut Core,
        batch: &Batch,
        after: &mut After,
    ) -> Result<bool, LogError> {
        let now = self.clock.now();
        let header = batch.header();
        let end = core.log.log_end_offset();
        let is_empty = core.log.log_start_offset() == end;
        if is_empty && header.base_offset < end && header.last_offset() >= end {
            // The leader's log begins in the middle of this batch.
            let offset = header.base_offset;
            core.log.truncate_fully_and_start_at(offset, now)?;
            after.was_cut = true;
            self.step(core, Input::Restarted { offset }, after);
        }
        let appended = core.log.append_as_follower(batch, now.timestamp)?;
        let end = appended.end.offset;
        let input = Input::Appended {
            end,
            leader_epoch: header.partition_leader_epoch,
            first_unstable_offset: core.log.first_unstable_offset(end),
        };
        self.step(core, input, after);
        Ok(appended.rolled)
    }

    /// Cuts the log as the replica says; gives what to tell it.
    pub(super) fn truncate(&self, core: &mut Core, end: Offset) -> Result<Input, LogError> {
        let end = core.log.truncate_to(end, self.clock.now())?;
        let last = (end > core.log.log_start_offset()).then(|| Offset::new(end.value() - 1));
        let last_epoch = last.and_then(|last| self.reader.epoch_at(last));
        Ok(Input::Truncated {
            end,
            last_epoch: last_epoch.unwrap_or(LeaderEpoch::NONE),
            first_unstable_offset: core.log.first_unstable_offset(end),
        })
    }

    /// Takes note of a follower's fetch; gives where its log parts from this one, if it does.
    pub(crate) fn follower_fetched(
        &self,
        fetch: FollowerFetch,
    ) -> Result<Option<EpochEnd>, ErrorCode> {
        let mut after = After::default();
        let mut core = self.core.lock();
        let fetch = FollowerFetch {
            epoch_end: core.epoch_end(fetch.last_fetched_epoch),
            ..fetch
        };
        let answer = core.replica.check_fetch(&fetch);
        self.step(&mut core, Input::Fetched(fetch), &mut after);
        drop(core);
        self.conclude(after);
        answer
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
        let core = self.core.lock();
        let Role::Leader(leader) = core.replica.role() else {
            return Vec::new();
        };
        let marks = core.replica.watermarks();
        let own = ReadReplica {
            id: core.replica.config().node_id,
            log: LogRange {
                log_start_offset: marks.log_start_offset,
                log_end_offset: marks.log_end_offset,
            },
        };
        let followers = leader.in_sync_logs();
        let followers = followers.map(|(id, log)| ReadReplica { id, log });
        std::iter::once(own).chain(followers).collect()
    }

    /// The low watermark, once all live replicas have deleted what lies below `offset`; `None` if not yet.
    pub(crate) fn deleted_up_to(
        &self,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Option<Offset>, ErrorCode> {
        match self.core.lock().replica.poll_deleted(leader_epoch, offset) {
            std::task::Poll::Pending => Ok(None),
            std::task::Poll::Ready(deleted) => deleted.map(Some),
        }
    }

    /// Hands in that it is time, if it is.
    pub(crate) fn wake(self: &Arc<Self>) {
        let mut after = After::default();
        let mut core = self.core.lock();
        let now = self.clock.now().instant;
        if let Some(waits) = &mut core.waits {
            waits.wakes_at = None;
        }
        if core
            .replica
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.step(&mut core, Input::Timeout, &mut after);
        } else {
            core.schedule(&mut after);
        }
        drop(core);
        self.conclude(after);
    }
}

impl Core {
    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        let (epoch, end_offset) = self.log.end_offset_for(epoch);
        EpochEnd { epoch, end_offset }
    }

    fn is_flushing(&self) -> bool {
        matches!(self.replica.role(), Role::Follower(_))
            && self.replica.needs_flush()
            && self.replica.asks().is_none()
    }

    /// Notes when the replica wants to be woken, unless it will be by then anyway.
    pub(super) fn schedule(&mut self, after: &mut After) {
        let Some(deadline) = self.replica.deadline() else {
            return;
        };
        let wakes_at = &mut self.waits.get_or_insert_default().wakes_at;
        if wakes_at.is_none_or(|at| deadline < at) {
            *wakes_at = Some(deadline);
            after.wake_at = Some(deadline);
        }
    }

    /// Notes whether what is asked of a leader has changed, and of whom.
    pub(super) fn note_asks(&mut self, after: &mut After) {
        let leader = self.replica.asks().map(|ask| match ask {
            Ask::Records(fetch) => fetch.leader,
            Ask::Offsets { leader, .. } => leader,
        });
        // Whoever was asked last must hear that nothing is wanted any more.
        let asked_of = &mut self.waits.get_or_insert_default().asked_of;
        let before = std::mem::replace(asked_of, leader);
        for told in [before, leader].into_iter().flatten() {
            if !after.asks_changed.contains(&Some(told))
                && let Some(free) = after.asks_changed.iter_mut().find(|told| told.is_none())
            {
                *free = Some(told);
            }
        }
    }
}
