//! What others ask for.

use std::time::Duration;

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now};

use super::Quorum;
use super::config::LogEnd;
use super::event::{Anomaly, Effect};
use super::leader::WaitingFetch;
use super::message::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse,
    FetchSnapshotRequest, FetchSnapshotResponse, Fetched, LeaderAndEpoch, QuorumResponse, Request,
    Response, VoteRequest, VoteResponse, VoterChangeResponse,
};
use super::role::{Role, Votes};
use super::snapshot::SnapshotId;
use super::voters::{Endpoint, ReplicaKey};

impl Quorum {
    pub(super) fn request(
        &mut self,
        now: Now,
        request_id: u64,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        if self.has_failed || self.parked.len() >= self.config.parked_answers_max {
            if let Some(response) = self.refused(&request, ErrorCode::BROKER_NOT_AVAILABLE) {
                effects.push(Effect::Answer {
                    request_id,
                    response,
                });
            }
            return;
        }
        let response = match request {
            Request::Vote(request) => self.vote(now, &request, effects),
            Request::BeginQuorumEpoch(request) => self.begin_quorum_epoch(now, request, effects),
            Request::EndQuorumEpoch(request) => self.end_quorum_epoch(now, request, effects),
            Request::Fetch(request) => return self.fetch(now, request_id, request, effects),
            Request::FetchSnapshot(request) => self.fetch_snapshot(now, &request),
            Request::AddRaftVoter(request) => {
                return self.add_voter(now, request_id, request, effects);
            }
            Request::RemoveRaftVoter(request) => {
                return self.remove_voter(now, request_id, request, effects);
            }
            Request::UpdateRaftVoter(request) => {
                return self.update_voter(now, request_id, request, effects);
            }
            Request::ApiVersions => return,
        };
        self.answer(request_id, response, effects);
    }

    /// An answer that says no more than that something is wrong.
    fn refused(&self, request: &Request, error: ErrorCode) -> Option<Response> {
        let leader = self.leader_and_epoch();
        let change = VoterChangeResponse {
            error,
            reason: None,
        };
        Some(match request {
            Request::Vote(_) => Response::Vote(VoteResponse {
                error,
                leader,
                vote_granted: false,
            }),
            Request::BeginQuorumEpoch(_) => {
                Response::BeginQuorumEpoch(QuorumResponse { error, leader })
            }
            Request::EndQuorumEpoch(_) => {
                Response::EndQuorumEpoch(QuorumResponse { error, leader })
            }
            Request::Fetch(_) => self.fetch_refused(error),
            Request::FetchSnapshot(request) => self.snapshot_refused_with(request, error),
            Request::AddRaftVoter(_) => Response::AddRaftVoter(change),
            Request::RemoveRaftVoter(_) => Response::RemoveRaftVoter(change),
            Request::UpdateRaftVoter(_) => {
                Response::UpdateRaftVoter(QuorumResponse { error, leader })
            }
            Request::ApiVersions => return None,
        })
    }

    /// Answers now, or when everything is stored that the answer may depend on.
    pub(super) fn answer(
        &mut self,
        request_id: u64,
        response: Response,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_storing() {
            self.parked.push((request_id, response));
        } else {
            effects.push(Effect::Answer {
                request_id,
                response,
            });
        }
    }

    fn vote(&mut self, now: Now, request: &VoteRequest, effects: &mut Vec<Effect>) -> Response {
        let (error, vote_granted) = match self.check_vote(now, request, effects) {
            Ok(granted) => (ErrorCode::NONE, granted),
            Err(error) => (error, false),
        };
        Response::Vote(VoteResponse {
            error,
            leader: self.leader_and_epoch(),
            vote_granted,
        })
    }

    fn check_vote(
        &mut self,
        now: Now,
        request: &VoteRequest,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, ErrorCode> {
        let (epoch, last_epoch) = (request.replica_epoch, request.last_offset_epoch);
        let is_epoch_possible = if request.pre_vote {
            last_epoch <= epoch
        } else {
            last_epoch < epoch
        };
        if request.last_offset.value() < 0 || last_epoch.value() < 0 || !is_epoch_possible {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.check_voter_request(request.replica.id, epoch)?;
        if epoch > self.leader_epoch {
            self.become_unattached(now, epoch, None, effects);
        }
        self.check_addressee(request.voter)?;
        let candidate = LogEnd {
            epoch: last_epoch,
            offset: request.last_offset,
        };
        let is_log_up_to_date =
            candidate >= self.log.log_end() && self.lost_end().is_none_or(|lost| candidate >= lost);
        #[cfg(test)]
        let is_log_up_to_date =
            is_log_up_to_date || self.has(super::tests::Planted::VotesForShorterLogs);
        let granted = self
            .role
            .may_vote(&request.replica, is_log_up_to_date, request.pre_vote);
        #[cfg(test)]
        let granted =
            granted || request.pre_vote && self.has(super::tests::Planted::PromisesAnyVote);
        if granted && !request.pre_vote {
            self.voted_for(now, request.replica);
        }
        Ok(granted)
    }

    /// Notes a vote. It is stored before the answer leaves; the candidate gets the time of an election.
    fn voted_for(&mut self, now: Now, candidate: ReplicaKey) {
        let until = self.election_at(now);
        let own_id = self.config.node.id;
        match &mut self.role {
            Role::Unattached(unattached) if unattached.voted.is_none() => {
                unattached.voted = Some(candidate);
                unattached.election_at = until;
            }
            Role::Prospective(prospective) if prospective.voted.is_none() => {
                prospective.voted = Some(candidate);
                prospective.votes = Votes::new(own_id);
                prospective.election_at = until;
                self.connections.reset();
            }
            _ => {}
        }
    }

    /// What holds for every request among voters.
    fn check_voter_request(&self, from: NodeId, epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        if epoch < self.leader_epoch {
            Err(ErrorCode::FENCED_LEADER_EPOCH)
        } else if from.value() < 0 {
            Err(ErrorCode::INVALID_REQUEST)
        } else {
            Ok(())
        }
    }

    /// A node that lost its disk does not speak for the one it was (KIP-853).
    fn check_addressee(&self, voter: Option<ReplicaKey>) -> Result<(), ErrorCode> {
        if voter.is_none_or(|voter| voter.matches(&self.config.node)) {
            Ok(())
        } else {
            Err(ErrorCode::INVALID_VOTER_KEY)
        }
    }

    fn begin_quorum_epoch(
        &mut self,
        now: Now,
        request: BeginQuorumEpochRequest,
        effects: &mut Vec<Effect>,
    ) -> Response {
        let (leader_id, epoch) = (request.leader_id, request.leader_epoch);
        let checked = self
            .hear_of_leader(now, leader_id, epoch, request.leader_endpoints, effects)
            .and_then(|()| self.check_addressee(request.voter));
        Response::BeginQuorumEpoch(QuorumResponse {
            error: checked.err().unwrap_or(ErrorCode::NONE),
            leader: self.leader_and_epoch(),
        })
    }

    fn hear_of_leader(
        &mut self,
        now: Now,
        leader_id: NodeId,
        leader_epoch: LeaderEpoch,
        endpoints: Vec<Endpoint>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        self.check_voter_request(leader_id, leader_epoch)?;
        let leader = LeaderAndEpoch {
            leader_id: Some(leader_id),
            leader_epoch,
            endpoints,
        };
        if self.hear_of(now, &leader, effects) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_SERVER_ERROR)
        }
    }

    fn end_quorum_epoch(
        &mut self,
        now: Now,
        request: EndQuorumEpochRequest,
        effects: &mut Vec<Effect>,
    ) -> Response {
        let (leader_id, epoch) = (request.leader_id, request.leader_epoch);
        let checked = self.hear_of_leader(now, leader_id, epoch, request.leader_endpoints, effects);
        if checked.is_ok() {
            let wait = self.succession_wait(&request.preferred_candidates);
            if let Role::Follower(follower) = &mut self.role
                && follower.leader_id == leader_id
            {
                follower.leader_is_gone = true;
                follower.fetch_until = now.instant + wait;
            }
        }
        Response::EndQuorumEpoch(QuorumResponse {
            error: checked.err().unwrap_or(ErrorCode::NONE),
            leader: self.leader_and_epoch(),
        })
    }

    /// The first of the preferred candidates stands for election at once, the others wait twice as long each, those that are
    /// not named longest.
    fn succession_wait(&self, preferred: &[ReplicaKey]) -> Duration {
        let longest = self.config.election_backoff_max;
        let rank = preferred.iter().position(|c| c.matches(&self.config.node));
        match rank.unwrap_or(preferred.len()) {
            0 => Duration::ZERO,
            rank if rank >= preferred.len() => longest,
            rank => {
                let halvings = u32::try_from(preferred.len() - rank).unwrap_or(u32::MAX);
                longest / 2_u32.saturating_pow(halvings)
            }
        }
    }

    /// What holds for every request that only the leader serves.
    pub(super) fn check_leader_request(&self, epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        if epoch < self.leader_epoch {
            Err(ErrorCode::FENCED_LEADER_EPOCH)
        } else if epoch > self.leader_epoch {
            Err(ErrorCode::UNKNOWN_LEADER_EPOCH)
        } else if !self.is_leader() {
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        } else {
            Ok(())
        }
    }

    fn fetch(
        &mut self,
        now: Now,
        request_id: u64,
        request: FetchRequest,
        effects: &mut Vec<Effect>,
    ) {
        let is_valid = request.max_wait_ms >= 0
            && request.fetch_offset.value() >= 0
            && request.last_fetched_epoch.value() >= 0
            && request.last_fetched_epoch <= request.current_leader_epoch;
        if !is_valid {
            let response = self.fetch_refused(ErrorCode::INVALID_REQUEST);
            return self.answer(request_id, response, effects);
        }
        let response = match self.serve_fetch(now, &request, effects) {
            Ok(response) => response,
            Err(error) => {
                let response = self.fetch_refused(error);
                return self.answer(request_id, response, effects);
            }
        };
        // By what it has just said, more may have become committed.
        self.advance_high_watermark(now, effects);
        if !self.is_leader() {
            let response = self.fetch_refused(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            return self.answer(request_id, response, effects);
        }
        let response = self.with_high_watermark(response);
        if request.max_wait_ms == 0 || is_worth_sending(&request, &response) {
            return self.answer(request_id, Response::Fetch(response), effects);
        }
        self.wait_with(now, request_id, request, effects);
    }

    /// Holds a fetch back. Of one replica only the last fetch is of interest: it has given up waiting for the others.
    fn wait_with(
        &mut self,
        now: Now,
        request_id: u64,
        request: FetchRequest,
        effects: &mut Vec<Effect>,
    ) {
        let max_wait = u64::try_from(request.max_wait_ms).unwrap_or(0);
        let max_wait = Duration::from_millis(max_wait).min(self.config.fetch_max_wait);
        let waiting_max = self.config.observers_max;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let same = |fetch: &WaitingFetch| {
            fetch.request.replica == request.replica && request.replica.id.value() >= 0
        };
        let superseded = leader.waiting.iter().position(same);
        let is_full = leader.waiting.len() >= waiting_max;
        let superseded = superseded.or_else(|| is_full.then_some(0));
        let superseded = superseded.map(|at| leader.waiting.remove(at));
        leader.waiting.push(WaitingFetch {
            request_id,
            request,
            until: now.instant + max_wait,
        });
        if let Some(fetch) = superseded {
            self.answer_fetch(now, fetch, effects);
        }
    }

    /// What a fetch gets from the leader, which takes note of how far the replica is.
    fn serve_fetch(
        &mut self,
        now: Now,
        request: &FetchRequest,
        effects: &mut Vec<Effect>,
    ) -> Result<FetchResponse, ErrorCode> {
        self.check_leader_request(request.current_leader_epoch)?;
        if self.names_this_node(request.replica.id) {
            effects.push(Effect::Report(Anomaly::DuplicateNodeId {
                replica: request.replica,
            }));
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        let fetched = self
            .log
            .fetched(request.fetch_offset, request.last_fetched_epoch);
        if matches!(fetched, Fetched::Records { .. }) && request.replica.id.value() >= 0 {
            let replica = self.known_key(request.replica);
            let (end, voters) = (self.log.end(), self.history.voters());
            let replicas_max = self.config.observers_max + voters.len();
            if let Role::Leader(leader) = &mut self.role {
                leader.fetched_from(now, replica, request.fetch_offset, end, replicas_max);
                let (own, timeout) = (&self.config.node, self.config.fetch_timeout);
                leader.heard_from(now, &replica, own, voters, timeout);
            }
        }
        Ok(FetchResponse {
            error: ErrorCode::NONE,
            leader: self.leader_and_epoch(),
            high_watermark: None,
            log_start_offset: self.log.start(),
            fetched,
        })
    }

    /// The key of a voter as the voters have it (without directory in a static configuration), others as they come.
    pub(super) fn known_key(&self, replica: ReplicaKey) -> ReplicaKey {
        let voter = self.voters().find(replica.id).map(|voter| voter.key);
        voter.filter(|key| key.matches(&replica)).unwrap_or(replica)
    }

    fn with_high_watermark(&self, mut response: FetchResponse) -> FetchResponse {
        if let Role::Leader(leader) = &self.role
            && leader.is_leading()
        {
            response.high_watermark = Some(self.high_watermark);
        }
        response
    }

    pub(super) fn fetch_refused(&self, error: ErrorCode) -> Response {
        Response::Fetch(FetchResponse {
            error,
            leader: self.leader_and_epoch(),
            high_watermark: None,
            log_start_offset: self.log.start(),
            fetched: Fetched::Records {
                from: tidelog_types::Offset::ZERO,
                to: tidelog_types::Offset::ZERO,
            },
        })
    }

    fn answer_fetch(&mut self, now: Now, fetch: WaitingFetch, effects: &mut Vec<Effect>) {
        let response = match self.serve_fetch(now, &fetch.request, effects) {
            Ok(response) => Response::Fetch(self.with_high_watermark(response)),
            Err(error) => self.fetch_refused(error),
        };
        self.answer(fetch.request_id, response, effects);
    }

    /// Answers the fetches for which there is something now: records, a new high watermark, or the end of their time.
    pub(super) fn serve_waiting(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (end, high_watermark) = (self.log.end(), self.high_watermark);
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let is_leading = leader.is_leading();
        let is_due = |fetch: &mut WaitingFetch| {
            fetch.until <= now.instant
                || fetch.request.fetch_offset < end
                || is_leading && fetch.request.high_watermark < high_watermark
        };
        let due: Vec<WaitingFetch> = leader.waiting.extract_if(.., is_due).collect();
        for fetch in due {
            // It fetched when it came; that it was answered late says nothing new about it.
            let fetched = self
                .log
                .fetched(fetch.request.fetch_offset, fetch.request.last_fetched_epoch);
            let response = self.with_high_watermark(FetchResponse {
                error: ErrorCode::NONE,
                leader: self.leader_and_epoch(),
                high_watermark: None,
                log_start_offset: self.log.start(),
                fetched,
            });
            self.answer(fetch.request_id, Response::Fetch(response), effects);
        }
    }

    fn fetch_snapshot(&mut self, now: Now, request: &FetchSnapshotRequest) -> Response {
        let checked = self.check_leader_request(request.current_leader_epoch);
        let checked = checked.and_then(|()| {
            let snapshot = self.log.snapshot(request.snapshot_id);
            // What format wrote is in the log of the first leader, and so everywhere.
            let snapshot = snapshot.filter(|snapshot| snapshot.id != SnapshotId::BOOTSTRAP);
            let snapshot = snapshot.ok_or(ErrorCode::SNAPSHOT_NOT_FOUND)?;
            if (0..snapshot.size).contains(&request.position) {
                Ok(snapshot)
            } else {
                Err(ErrorCode::POSITION_OUT_OF_RANGE)
            }
        });
        let snapshot = match checked {
            Ok(snapshot) => snapshot,
            Err(error) => return self.snapshot_refused_with(request, error),
        };
        let replica = self.known_key(request.replica);
        if let Role::Leader(leader) = &mut self.role {
            // A voter that fetches a snapshot follows, however far behind it is.
            let (own, timeout) = (&self.config.node, self.config.fetch_timeout);
            leader.heard_from(now, &replica, own, self.history.voters(), timeout);
        }
        Response::FetchSnapshot(FetchSnapshotResponse {
            error: ErrorCode::NONE,
            leader: self.leader_and_epoch(),
            snapshot_id: snapshot.id,
            size: snapshot.size,
            position: request.position,
            bytes: 0,
        })
    }

    fn snapshot_refused_with(&self, request: &FetchSnapshotRequest, error: ErrorCode) -> Response {
        Response::FetchSnapshot(FetchSnapshotResponse {
            error,
            leader: self.leader_and_epoch(),
            snapshot_id: request.snapshot_id,
            size: 0,
            position: request.position,
            bytes: 0,
        })
    }
}

/// Whether an answer says anything that the follower does not know.
fn is_worth_sending(request: &FetchRequest, response: &FetchResponse) -> bool {
    let Fetched::Records { from, to } = response.fetched else {
        return true;
    };
    from < to
        || response
            .high_watermark
            .is_some_and(|high_watermark| request.high_watermark < high_watermark)
}
