//! A partition as the follower of another node, and as the leader that other nodes follow.

use std::task::Poll;

use bytes::Bytes;
use tidelog_log::LogError;
use tidelog_record::Batch;
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::partition::{
    Ask, FetchAnswer, FetchState, FollowerFetch, Input, LogRange, Role,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset};

use super::{After, Note, PartitionCore};

/// A leader's answer to a fetch, with the records.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// The follower's log is a beginning of the leader's.
    Records {
        /// Whole batches and perhaps a part of one more; empty if there is nothing new.
        records: Bytes,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start offset.
        log_start_offset: Offset,
    },
    /// The logs part: an epoch that they may have in common, and where it ends in the leader's log.
    Diverging(EpochEnd),
    /// The leader refused, or there was no answer.
    Error(ErrorCode),
}

/// What an answer has come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// Nothing is asked for until the flush is done.
    pub is_flushing: bool,
    /// The log was cut: the checkpoints must say so before anything is appended.
    pub was_cut: bool,
    /// The owner has to see to a flush.
    pub flush: bool,
}

/// A replica of which a consumer may read.
#[derive(Clone, Copy, Debug)]
pub struct ReadReplica {
    /// The node.
    pub id: NodeId,
    /// Where its log begins and ends, as far as the leader knows.
    pub log: LogRange,
}

impl<W> PartitionCore<W> {
    /// What this replica wants of its leader, if it follows one.
    pub fn asks(&self) -> Option<Ask> {
        self.replica.asks()
    }

    /// Whether this follower asks for nothing because it waits for its disk.
    pub fn is_flushing(&self) -> bool {
        matches!(self.replica.role(), Role::Follower(_))
            && self.replica.needs_flush()
            && self.replica.asks().is_none()
    }

    /// Takes the leader's answer to a fetch.
    pub fn fetch_answered(
        &mut self,
        now: Now,
        request: FetchState,
        fetched: Fetched,
        after: &mut After<W>,
    ) -> Taken {
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
                own: self.epoch_end(leader.epoch),
            },
            Fetched::Error(code) => FetchAnswer::Error(*code),
        };
        self.step(now, Input::FetchAnswered { request, answer }, after);
        let may_append = std::mem::take(&mut after.append_fetched);
        let mut rolled = false;
        if let Fetched::Records { records, .. } = fetched
            && may_append
        {
            rolled = self.append_fetched(now, records, after);
        }
        self.taken(rolled, after)
    }

    /// Takes the leader's answer to where its log begins and ends.
    pub fn offsets_answered(
        &mut self,
        now: Now,
        leader_epoch: LeaderEpoch,
        answer: Result<LogRange, ErrorCode>,
        after: &mut After<W>,
    ) -> Taken {
        let input = Input::OffsetsAnswered {
            leader_epoch,
            answer,
        };
        self.step(now, input, after);
        self.taken(false, after)
    }

    fn taken(&self, rolled: bool, after: &After<W>) -> Taken {
        Taken {
            is_flushing: self.is_flushing(),
            was_cut: after.was_cut,
            flush: rolled || self.replica.needs_flush(),
        }
    }

    /// Appends what a leader has sent, batch by batch, until one does not fit. Tells whether a segment was closed.
    fn append_fetched(&mut self, now: Now, mut records: Bytes, after: &mut After<W>) -> bool {
        let mut rolled = false;
        let refused = loop {
            let batch = match Batch::split_from(&mut records) {
                Ok(Some(batch)) => batch,
                // What is cut off at the end comes with the next answer.
                Ok(None) => break None,
                Err(error) => break Some(LogError::from(error)),
            };
            match self.append_fetched_batch(now, &batch, after) {
                Ok(closed) => rolled |= closed,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = refused
            && !self.look_for_failure(now, after)
        {
            after.notes.push(Note::FetchedRefused(error));
            self.step(now, Input::AppendRefused, after);
        }
        rolled
    }

    fn append_fetched_batch(
        &mut self,
        now: Now,
        batch: &Batch,
        after: &mut After<W>,
    ) -> Result<bool, LogError> {
        let header = batch.header();
        let end = self.log.log_end_offset();
        let is_empty = self.log.log_start_offset() == end;
        if is_empty && header.base_offset < end && header.last_offset() >= end {
            // The leader's log begins in the middle of this batch.
            let offset = header.base_offset;
            self.log.truncate_fully_and_start_at(offset, now)?;
            after.was_cut = true;
            self.step(now, Input::Restarted { offset }, after);
        }
        let appended = self.log.append_as_follower(batch, now.timestamp)?;
        let end = appended.end.offset;
        let input = Input::Appended {
            end,
            leader_epoch: header.partition_leader_epoch,
            first_unstable_offset: self.log.first_unstable_offset(end),
        };
        self.step(now, input, after);
        Ok(appended.rolled)
    }

    /// Takes note of a follower's fetch; gives where its log parts from this one, if it does. What the follower's last epoch
    /// is in this log is filled in here.
    pub fn follower_fetched(
        &mut self,
        now: Now,
        fetch: FollowerFetch,
        after: &mut After<W>,
    ) -> Result<Option<EpochEnd>, ErrorCode> {
        let fetch = FollowerFetch {
            epoch_end: self.epoch_end(fetch.last_fetched_epoch),
            ..fetch
        };
        let answer = self.replica.check_fetch(&fetch);
        self.step(now, Input::Fetched(fetch), after);
        answer
    }

    /// The replicas in sync, if this node leads, each with what it is known to have.
    pub fn read_replicas(&self) -> Vec<ReadReplica> {
        let Role::Leader(leader) = self.replica.role() else {
            return Vec::new();
        };
        let marks = self.replica.watermarks();
        let own = ReadReplica {
            id: self.replica.config().node_id,
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
    pub fn deleted_up_to(
        &self,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Option<Offset>, ErrorCode> {
        match self.replica.poll_deleted(leader_epoch, offset) {
            Poll::Pending => Ok(None),
            Poll::Ready(deleted) => deleted.map(Some),
        }
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        let (epoch, end_offset) = self.log.end_offset_for(epoch);
        EpochEnd { epoch, end_offset }
    }
}
