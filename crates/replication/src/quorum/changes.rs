//! Voters come, go and change, one at a time (KIP-853).
//!
//! A record with the new voters is appended, and they count from then on; the change is done when a majority of the new
//! voters has it. Two sets that differ by one voter share a voter in every two majorities, which is why there is never a
//! second change before the first one is committed.

use std::time::Instant;

use tidelog_types::{ErrorCode, Now, Offset, Timestamp};

use super::Quorum;
use super::connections::Peer;
use super::event::{ControlRecord, Destination, Effect};
use super::message::{
    AddRaftVoterRequest, ApiVersionsResponse, QuorumResponse, RemoveRaftVoterRequest, Request,
    Response, UpdateRaftVoterRequest, VoterChangeResponse,
};
use super::role::Role;
use super::voters::{Endpoint, ReplicaKey, Voter, VoterSet};

/// For how long a replica counts as caught up that once was.
const CAUGHT_UP_MS: i64 = 60 * 60 * 1000;

/// A change of the voters that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    request_id: u64,
    kind: Kind,
    stage: Stage,
    /// When it has failed.
    pub(super) until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Add {
        voter: ReplicaKey,
        endpoints: Vec<Endpoint>,
        ack_when_committed: bool,
    },
    Remove,
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The new voter is to say what it knows of `kraft.version`.
    Asking,
    /// The record is on its way to the log.
    Appending,
    /// The record is in the log, at this offset.
    Committing(Offset),
}

impl Quorum {
    /// What every change needs: a leader that can say what is committed, `kraft.version` 1, and no other change under way.
    fn check_change(&self) -> Result<(), (ErrorCode, &'static str)> {
        let Role::Leader(leader) = &self.role else {
            return Err((ErrorCode::NOT_LEADER_OR_FOLLOWER, "this node does not lead"));
        };
        if leader.change.is_some() {
            let reason = "the leader is still busy with an earlier change of the voters";
            return Err((ErrorCode::REQUEST_TIMED_OUT, reason));
        }
        if !leader.is_leading() {
            let reason = "the leader does not know yet what is committed";
            return Err((ErrorCode::REQUEST_TIMED_OUT, reason));
        }
        if self.kraft_version() < 1 {
            let reason = "voters cannot be changed with kraft.version 0";
            return Err((ErrorCode::UNSUPPORTED_VERSION, reason));
        }
        let committed = |offset: Offset| offset < self.high_watermark;
        #[cfg(test)]
        let committed = |offset: Offset| {
            committed(offset) || self.has(super::tests::Planted::OverlappingChanges)
        };
        if !self.history.voters_offset().is_some_and(committed) {
            let reason = "the last change of the voters is not committed yet";
            return Err((ErrorCode::REQUEST_TIMED_OUT, reason));
        }
        Ok(())
    }

    /// A voter needs an id, a directory, and an address on the listener that all controllers have.
    pub(super) fn check_voter(
        &self,
        voter: ReplicaKey,
        endpoints: &[Endpoint],
    ) -> Result<(), (ErrorCode, &'static str)> {
        if voter.id.value() < 0 || voter.directory_id.is_zero() {
            return Err((
                ErrorCode::INVALID_REQUEST,
                "a voter has an id and a directory id",
            ));
        }
        if !endpoints.iter().any(|e| e.listener == self.config.listener) {
            let reason = "a voter listens on the first listener of the controllers";
            return Err((ErrorCode::INVALID_REQUEST, reason));
        }
        Ok(())
    }

    pub(super) fn add_voter(
        &mut self,
        now: Now,
        request_id: u64,
        request: AddRaftVoterRequest,
        effects: &mut Vec<Effect>,
    ) {
        let voter = request.voter;
        let checked = self
            .check_leads()
            .and_then(|()| self.check_voter(voter, &request.endpoints))
            .and_then(|()| self.check_change())
            .and_then(|()| match self.voters().find(voter.id) {
                Some(_) => Err((ErrorCode::DUPLICATE_VOTER, "the node is a voter already")),
                None => Ok(()),
            });
        if let Err((error, reason)) = checked {
            let response = VoterChangeResponse {
                error,
                reason: Some(reason),
            };
            return self.answer(request_id, Response::AddRaftVoter(response), effects);
        }
        self.begin_change(Change {
            request_id,
            kind: Kind::Add {
                voter,
                endpoints: request.endpoints,
                ack_when_committed: request.ack_when_committed,
            },
            stage: Stage::Asking,
            until: now.instant + self.config.request_timeout,
        });
    }

    fn check_leads(&self) -> Result<(), (ErrorCode, &'static str)> {
        let checked = self.check_leader_request(self.leader_epoch());
        checked.map_err(|error| (error, "this node does not lead"))
    }

    fn begin_change(&mut self, change: Change) {
        if let Role::Leader(leader) = &mut self.role {
            leader.change = Some(change);
        }
    }

    pub(super) fn remove_voter(
        &mut self,
        now: Now,
        request_id: u64,
        request: RemoveRaftVoterRequest,
        effects: &mut Vec<Effect>,
    ) {
        let voter = request.voter;
        let checked = self.check_leads().and_then(|()| {
            if voter.id.value() < 0 || voter.directory_id.is_zero() {
                let reason = "a voter has an id and a directory id";
                return Err((ErrorCode::INVALID_REQUEST, reason));
            }
            self.check_change()?;
            let others = self.voters().without(&voter);
            let others = others.ok_or((ErrorCode::VOTER_NOT_FOUND, "the replica does not vote"))?;
            if others.is_empty() {
                return Err((ErrorCode::INVALID_REQUEST, "the last voter has to stay"));
            }
            Ok(others)
        });
        match checked {
            Ok(others) => {
                self.begin_change(Change {
                    request_id,
                    kind: Kind::Remove,
                    stage: Stage::Appending,
                    until: now.instant + self.config.request_timeout,
                });
                self.append_voters(others, effects);
            }
            Err((error, reason)) => {
                let response = VoterChangeResponse {
                    error,
                    reason: Some(reason),
                };
                self.answer(request_id, Response::RemoveRaftVoter(response), effects);
            }
        }
    }

    pub(super) fn update_voter(
        &mut self,
        now: Now,
        request_id: u64,
        request: UpdateRaftVoterRequest,
        effects: &mut Vec<Effect>,
    ) {
        if self.kraft_version() == 0 {
            return self.voter_reported(request_id, request, effects);
        }
        let updated = self.check_update(request);
        match updated {
            Ok(voters) => {
                self.begin_change(Change {
                    request_id,
                    kind: Kind::Update,
                    stage: Stage::Appending,
                    until: now.instant + self.config.request_timeout,
                });
                self.append_voters(voters, effects);
            }
            Err(error) => {
                let response = QuorumResponse {
                    error,
                    leader: self.leader_and_epoch(),
                };
                self.answer(request_id, Response::UpdateRaftVoter(response), effects);
            }
        }
    }

    fn check_update(&self, request: UpdateRaftVoterRequest) -> Result<VoterSet, ErrorCode> {
        self.check_leader_request(request.current_leader_epoch)?;
        self.check_voter(request.voter, &request.endpoints)
            .and_then(|()| self.check_change())
            .map_err(|(error, _)| error)?;
        if !request.kraft_versions.contains(self.kraft_version()) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let voter = Voter {
            key: request.voter,
            endpoints: request.endpoints,
            kraft_versions: request.kraft_versions,
        };
        let updated = self.voters().updated(voter);
        updated.ok_or(ErrorCode::VOTER_NOT_FOUND)
    }

    fn append_voters(&self, voters: VoterSet, effects: &mut Vec<Effect>) {
        effects.push(Effect::AppendVoters {
            leader_epoch: self.leader_epoch(),
            kraft_version: None,
            voters,
        });
    }

    /// Asks the new voter what it knows, if that is the next thing to do.
    pub(super) fn continue_change(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        if let Some(Change {
            kind: Kind::Add {
                voter, endpoints, ..
            },
            stage: Stage::Asking,
            ..
        }) = &leader.change
        {
            let to = Destination {
                node_id: Some(voter.id),
                endpoints: endpoints.clone(),
            };
            self.send_to(now, Peer::Node(voter.id), to, Request::ApiVersions, effects);
        }
    }

    pub(super) fn api_versions_answered(
        &mut self,
        now: Now,
        peer: Peer,
        response: &ApiVersionsResponse,
        effects: &mut Vec<Effect>,
    ) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let Some(Change {
            kind: Kind::Add {
                voter, endpoints, ..
            },
            stage: Stage::Asking,
            ..
        }) = &leader.change
        else {
            return;
        };
        if peer != Peer::Node(voter.id) {
            return;
        }
        let checked = self
            .check_new_voter(now, *voter, response)
            .map(|range| Voter {
                key: *voter,
                endpoints: endpoints.clone(),
                kraft_versions: range,
            });
        let checked = checked.and_then(|voter| {
            let voters = self.voters().with(voter);
            voters.ok_or((ErrorCode::DUPLICATE_VOTER, "the node is a voter already"))
        });
        match checked {
            Ok(voters) => {
                if let Role::Leader(leader) = &mut self.role
                    && let Some(change) = &mut leader.change
                {
                    change.stage = Stage::Appending;
                }
                self.append_voters(voters, effects);
            }
            Err((error, reason)) => self.end_change(error, Some(reason), effects),
        }
    }

    fn check_new_voter(
        &self,
        now: Now,
        voter: ReplicaKey,
        response: &ApiVersionsResponse,
    ) -> Result<super::VersionRange, (ErrorCode, &'static str)> {
        if response.error.is_err() {
            let reason = "the new voter answered with an error";
            return Err((ErrorCode::REQUEST_TIMED_OUT, reason));
        }
        let range = response.kraft_versions;
        let range = range.filter(|range| range.contains(self.kraft_version()));
        let reason = "the new voter does not know the kraft.version of this cluster";
        let range = range.ok_or((ErrorCode::INVALID_REQUEST, reason))?;
        if !self.has_caught_up(now.timestamp, &voter) {
            let reason = "the new voter is too far behind";
            return Err((ErrorCode::REQUEST_TIMED_OUT, reason));
        }
        Ok(range)
    }

    /// Whether an observer has been at the end of the log, and has fetched within the last hour.
    fn has_caught_up(&self, now: Timestamp, replica: &ReplicaKey) -> bool {
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        leader.progress(replica).is_some_and(|progress| {
            let recent = |fetch: &Now| now.millis_since(fetch.timestamp) < CAUGHT_UP_MS;
            progress.last_caught_up.is_some() && progress.last_fetch.as_ref().is_some_and(recent)
        })
    }

    /// A control record was appended: a change that waits for it goes on.
    pub(super) fn change_appended(&mut self, record: &ControlRecord, effects: &mut Vec<Effect>) {
        let ControlRecord::Voters { offset, .. } = record else {
            return;
        };
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(change) = leader.change.as_mut() else {
            return;
        };
        if change.stage != Stage::Appending {
            return;
        }
        change.stage = Stage::Committing(*offset);
        match change.kind {
            // Whoever joins by itself is not kept waiting; neither is a voter that has news of itself.
            Kind::Add {
                ack_when_committed: false,
                ..
            }
            | Kind::Update => self.end_change(ErrorCode::NONE, None, effects),
            Kind::Add { .. } | Kind::Remove => {}
        }
    }

    /// The high watermark has moved: a change below it is done. A leader that votes no longer has done its duty then.
    pub(super) fn change_committed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let committed = leader.change.as_ref().is_some_and(|change| {
            matches!(change.stage, Stage::Committing(offset) if offset < self.high_watermark)
        });
        if committed {
            self.end_change(ErrorCode::NONE, None, effects);
        }
        let voters_committed = self.history.voters_offset() < Some(self.high_watermark);
        if voters_committed && !self.is_voter() {
            self.become_resigned(now, effects);
        }
    }

    pub(super) fn expire_change(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let change = leader.change.as_ref();
        if change.is_some_and(|change| change.until <= now.instant) {
            let reason = "the change was not committed in time; it may still be";
            self.end_change(ErrorCode::REQUEST_TIMED_OUT, Some(reason), effects);
        }
    }

    fn end_change(
        &mut self,
        error: ErrorCode,
        reason: Option<&'static str>,
        effects: &mut Vec<Effect>,
    ) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(change) = leader.change.take()
        {
            self.change_ended(change, error, reason, effects);
        }
    }

    pub(super) fn change_ended(
        &mut self,
        change: Change,
        error: ErrorCode,
        reason: Option<&'static str>,
        effects: &mut Vec<Effect>,
    ) {
        let response = VoterChangeResponse { error, reason };
        let response = match change.kind {
            Kind::Add { .. } => Response::AddRaftVoter(response),
            Kind::Remove => Response::RemoveRaftVoter(response),
            Kind::Update => Response::UpdateRaftVoter(QuorumResponse {
                error,
                leader: self.leader_and_epoch(),
            }),
        };
        self.answer(change.request_id, response, effects);
    }
}
