//! What others answer.

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset};

use super::Quorum;
use super::connections::Peer;
use super::event::{Anomaly, ControlRecord, Effect};
use super::message::{FetchResponse, FetchSnapshotResponse, Fetched, LeaderAndEpoch, Response};
use super::role::{Role, SnapshotFetch};
use super::snapshot::{Snapshot, SnapshotId};
use crate::divergence::{EpochEnd, truncation_offset};

/// How far an answer is dealt with.
enum Common {
    /// It has been.
    Done,
    /// It brought nothing: ask again a little later.
    Failed,
    /// It is about the epoch that this replica is in: look at the rest.
    Continue,
}

impl Quorum {
    pub(super) fn response(
        &mut self,
        now: Now,
        request_id: u64,
        response: Response,
        effects: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.connections.answered(request_id) else {
            return; // Too late, or to a role that is no more.
        };
        let (error, leader) = match &response {
            Response::Vote(r) => (r.error, &r.leader),
            Response::BeginQuorumEpoch(r)
            | Response::EndQuorumEpoch(r)
            | Response::UpdateRaftVoter(r) => (r.error, &r.leader),
            Response::Fetch(r) => (r.error, &r.leader),
            Response::FetchSnapshot(r) => (r.error, &r.leader),
            Response::AddRaftVoter(r) | Response::RemoveRaftVoter(r) => {
                if r.error.is_err() {
                    self.connections.back_off(now.instant, peer);
                }
                return;
            }
            Response::ApiVersions(r) => {
                return self.api_versions_answered(now, peer, r, effects);
            }
        };
        if let Response::UpdateRaftVoter(response) = &response {
            self.report_answered(now, peer, response.error);
        }
        let followed = self.leader_and_epoch();
        let is_taken = match self.common(now, error, leader, effects) {
            Common::Done => error.is_ok(),
            Common::Failed => false,
            Common::Continue => self.taken(now, request_id, peer, response, effects),
        };
        // Whoever brings news is not to be kept waiting: it may be the leader itself.
        if !is_taken && followed == self.leader_and_epoch() {
            self.connections.back_off(now.instant, peer);
        }
    }

    /// What the answers of all kinds have in common: the epoch, the leader, and some errors.
    fn common(
        &mut self,
        now: Now,
        error: ErrorCode,
        leader: &LeaderAndEpoch,
        effects: &mut Vec<Effect>,
    ) -> Common {
        if leader.leader_epoch < self.leader_epoch || error == ErrorCode::UNKNOWN_LEADER_EPOCH {
            return Common::Done; // It will learn.
        }
        if leader.leader_epoch > self.leader_epoch
            || error == ErrorCode::FENCED_LEADER_EPOCH
            || error == ErrorCode::NOT_LEADER_OR_FOLLOWER
        {
            self.hear_of(now, leader, effects);
            return Common::Done;
        }
        let names_another = leader.leader_id.is_some_and(|id| !self.names_this_node(id));
        if names_another && !self.hear_of(now, leader, effects) {
            return Common::Failed;
        }
        if error.is_ok() {
            Common::Continue
        } else if error == ErrorCode::INVALID_VOTER_KEY {
            Common::Done
        } else if matches!(self.role, Role::Follower(_)) && is_about_snapshot(error) {
            Common::Continue
        } else {
            Common::Failed
        }
    }

    /// Acts on an answer without error in this epoch; gives whether it was of any use.
    fn taken(
        &mut self,
        now: Now,
        request_id: u64,
        peer: Peer,
        response: Response,
        effects: &mut Vec<Effect>,
    ) -> bool {
        match (response, peer) {
            (Response::Vote(response), Peer::Node(voter)) => {
                self.vote_answered(voter, response.vote_granted);
                true
            }
            (Response::EndQuorumEpoch(_), Peer::Node(voter)) => {
                if let Role::Resigned(resigned) = &mut self.role {
                    resigned.unacknowledged.retain(|id| *id != voter);
                }
                true
            }
            (Response::BeginQuorumEpoch(_) | Response::UpdateRaftVoter(_), _) => true,
            (Response::Fetch(response), _) => {
                self.fetch_answered(now, request_id, &response, effects)
            }
            (Response::FetchSnapshot(response), _) => {
                self.snapshot_answered(now, request_id, &response, effects)
            }
            _ => false,
        }
    }

    fn vote_answered(&mut self, voter: NodeId, granted: bool) {
        match &mut self.role {
            Role::Prospective(prospective) => prospective.votes.record(voter, granted),
            Role::Candidate(candidate) => candidate.votes.record(voter, granted),
            _ => {}
        }
    }

    fn fetch_answered(
        &mut self,
        now: Now,
        request_id: u64,
        response: &FetchResponse,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if !matches!(self.role, Role::Follower(_)) {
            return false;
        }
        let taken = match response.fetched {
            Fetched::Diverging(end) => self.diverged(end, effects),
            Fetched::Snapshot(id) => self.begin_snapshot(id, effects),
            Fetched::Records { from, to } if from < to => {
                let fits = from == self.log.end();
                if fits {
                    self.is_changing_log = true;
                    effects.push(Effect::AppendFetched { request_id });
                }
                fits
            }
            Fetched::Records { .. } => true,
        };
        if taken && let Role::Follower(follower) = &mut self.role {
            // Where the logs part, what the leader has committed is not here.
            if matches!(response.fetched, Fetched::Records { .. }) {
                follower.leader_high_watermark =
                    follower.leader_high_watermark.max(response.high_watermark);
            }
            follower.fetch_until = now.instant + self.config.fetch_timeout;
            follower.has_fetched = true;
            follower.leader_is_gone = false;
            follower.leader_is_unreachable = false;
        }
        taken
    }

    /// The leader's log has something else where this one ends.
    fn diverged(&mut self, leaders: EpochEnd, effects: &mut Vec<Effect>) -> bool {
        if leaders.epoch.value() < 0 || leaders.end_offset.value() < 0 {
            return false;
        }
        let own = self.log.end_of(leaders.epoch);
        let end = truncation_offset(leaders, own, self.log.end());
        if end < self.high_watermark {
            self.report_lost_records(end, effects);
            return false;
        }
        if end < self.log.end() {
            self.is_changing_log = true;
            effects.push(Effect::Truncate { end });
        }
        true
    }

    fn report_lost_records(&self, end: Offset, effects: &mut Vec<Effect>) {
        effects.push(Effect::Report(Anomaly::TruncationBelowHighWatermark {
            end,
            high_watermark: self.high_watermark,
        }));
    }

    fn begin_snapshot(&mut self, id: SnapshotId, effects: &mut Vec<Effect>) -> bool {
        if id.epoch.value() < 0 || id.end_offset.value() < 0 || id.epoch > self.leader_epoch {
            return false;
        }
        if id.end_offset < self.high_watermark {
            self.report_lost_records(id.end_offset, effects);
            return false;
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.snapshot = Some(SnapshotFetch {
                id,
                position: 0,
                size: None,
                is_writing: false,
            });
        }
        true
    }

    fn snapshot_answered(
        &mut self,
        now: Now,
        request_id: u64,
        response: &FetchSnapshotResponse,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let fetch_until = now.instant + self.config.fetch_timeout;
        let Role::Follower(follower) = &mut self.role else {
            return false;
        };
        follower.fetch_until = fetch_until;
        follower.has_fetched = true;
        let Some(fetch) = &mut follower.snapshot else {
            return false;
        };
        let fits = response.error.is_ok()
            && response.snapshot_id == fetch.id
            && response.position == fetch.position
            && fetch.size.is_none_or(|size| size == response.size)
            && response.bytes > 0
            && response.bytes <= response.size.saturating_sub(fetch.position);
        if !fits {
            // It is gone, or another one by the same name. The next fetch tells which snapshot it is to be.
            follower.snapshot = None;
            return false;
        }
        fetch.size = Some(response.size);
        fetch.is_writing = true;
        effects.push(Effect::WriteSnapshotChunk {
            request_id,
            snapshot_id: fetch.id,
            position: fetch.position,
        });
        true
    }

    pub(super) fn snapshot_chunk_written(
        &mut self,
        id: SnapshotId,
        position: i64,
        effects: &mut Vec<Effect>,
    ) {
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        let Some(fetch) = follower.snapshot.as_mut().filter(|fetch| fetch.id == id) else {
            return;
        };
        fetch.position = position;
        if fetch.size.is_some_and(|size| position >= size) {
            self.is_changing_log = true;
            effects.push(Effect::InstallSnapshot { snapshot_id: id });
        } else {
            fetch.is_writing = false;
        }
    }

    pub(super) fn snapshot_installed(
        &mut self,
        snapshot: Snapshot,
        control_records: Vec<ControlRecord>,
        effects: &mut Vec<Effect>,
    ) {
        self.is_changing_log = false;
        self.log.installed(snapshot);
        self.history.install(control_records);
        if let Role::Follower(follower) = &mut self.role {
            follower.snapshot = None;
        }
        // What is in a snapshot is committed.
        if snapshot.id.end_offset > self.high_watermark {
            self.high_watermark = snapshot.id.end_offset;
            effects.push(Effect::PublishHighWatermark(self.high_watermark));
        }
    }

    pub(super) fn snapshot_refused(&mut self, id: SnapshotId) {
        self.is_changing_log = false;
        if let Role::Follower(follower) = &mut self.role
            && follower.snapshot() == Some(id)
        {
            follower.snapshot = None;
        }
    }

    /// The epoch of the last record, as requests name it.
    pub(super) fn last_fetched_epoch(&self) -> LeaderEpoch {
        self.log.last_epoch()
    }
}

/// Errors that say that another snapshot is to be fetched.
fn is_about_snapshot(error: ErrorCode) -> bool {
    error == ErrorCode::SNAPSHOT_NOT_FOUND || error == ErrorCode::POSITION_OUT_OF_RANGE
}
