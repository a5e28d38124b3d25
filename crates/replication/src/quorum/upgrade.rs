//! From voters in the configuration (kraft.version 0) to voters in the log (KIP-853).
//!
//! The configuration knows ids and addresses, the log must know directories and versions as well. So each voter reports
//! itself to every new leader, which remembers it for as long as it leads. When all have, the version can be raised: the version and
//! the voters are appended in one batch, and what the configuration says of voters does not count any more.

use std::time::Duration;

use tidelog_types::{ErrorCode, Now};

use super::Quorum;
use super::connections::Peer;
use super::event::Effect;
use super::message::{QuorumResponse, Request, Response, UpdateRaftVoterRequest};
use super::role::{Follower, Role};
use super::voters::{Voter, VoterSet};

/// After this time a voter reports itself again, if it has heard nothing: the leader may be one that closes the connection over it.
const REPORT_AGAIN: Duration = Duration::from_secs(60);

impl Quorum {
    /// Whether the quorum can go over to this version now, where this node leads: why not, if it cannot.
    pub fn check_upgrade(&self, kraft_version: i16) -> Result<(), String> {
        self.upgraded(kraft_version).map(drop)
    }

    pub(super) fn upgrade_kraft_version(&mut self, kraft_version: i16, effects: &mut Vec<Effect>) {
        let Ok(voters) = self.upgraded(kraft_version) else {
            return;
        };
        if let Role::Leader(leader) = &mut self.role {
            leader.forget_nameless();
        }
        effects.push(Effect::AppendVoters {
            leader_epoch: self.leader_epoch(),
            kraft_version: Some(kraft_version),
            voters,
        });
    }

    /// The voters as the log is to have them.
    fn upgraded(&self, kraft_version: i16) -> Result<VoterSet, String> {
        let Role::Leader(leader) = &self.role else {
            return Err("this node does not lead".into());
        };
        if !leader.is_leading() {
            return Err("the leader does not know yet what is committed".into());
        }
        if kraft_version <= self.kraft_version() {
            return Err(format!("it is at level {} already", self.kraft_version()));
        }
        let mut voters = Vec::new();
        for voter in self.voters().iter() {
            let id = voter.key.id;
            let reported = match id == self.own_id() {
                true => Some(self.own_voter()),
                false => leader
                    .reported
                    .iter()
                    .find(|other| other.key.id == id)
                    .cloned(),
            };
            let Some(voter) = reported.filter(|voter| !voter.key.directory_id.is_zero()) else {
                return Err(format!(
                    "voter {id} has not said yet in which directory its log is"
                ));
            };
            if !voter.kraft_versions.contains(kraft_version) {
                let range = voter.kraft_versions;
                return Err(format!(
                    "voter {id} supports levels {} to {}",
                    range.min, range.max
                ));
            }
            voters.push(voter);
        }
        Ok(VoterSet::new(voters))
    }

    /// A voter has said what the configuration does not know of it.
    pub(super) fn voter_reported(
        &mut self,
        request_id: u64,
        request: UpdateRaftVoterRequest,
        effects: &mut Vec<Effect>,
    ) {
        let error = match self.check_report(&request) {
            Ok(()) => ErrorCode::NONE,
            Err(error) => error,
        };
        if let Role::Leader(leader) = &mut self.role
            && error.is_ok()
        {
            let id = request.voter.id;
            leader.reported.retain(|voter| voter.key.id != id);
            leader.reported.push(Voter {
                key: request.voter,
                endpoints: request.endpoints,
                kraft_versions: request.kraft_versions,
            });
        }
        let response = QuorumResponse {
            error,
            leader: self.leader_and_epoch(),
        };
        self.answer(request_id, Response::UpdateRaftVoter(response), effects);
    }

    fn check_report(&self, request: &UpdateRaftVoterRequest) -> Result<(), ErrorCode> {
        self.check_leader_request(request.current_leader_epoch)?;
        self.check_voter(request.voter, &request.endpoints)
            .map_err(|(error, _)| error)?;
        match &self.role {
            Role::Leader(leader) if !leader.is_leading() => Err(ErrorCode::REQUEST_TIMED_OUT),
            _ if !request.kraft_versions.contains(self.kraft_version()) => {
                Err(ErrorCode::INVALID_REQUEST)
            }
            _ if self.voters().find(request.voter.id).is_none() => Err(ErrorCode::VOTER_NOT_FOUND),
            _ => Ok(()),
        }
    }

    /// Whether this voter has something to say of itself to the leader that it follows.
    pub(super) fn reports_itself(&self, follower: &Follower) -> bool {
        self.kraft_version() == 0
            && self.config.can_become_voter
            && self.is_voter()
            && !follower.has_reported
            && !self.config.node.directory_id.is_zero()
            && !self.config.endpoints.is_empty()
    }

    pub(super) fn report_itself(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let own = self.own_voter();
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let leader = Peer::Node(follower.leader_id);
        if !self.reports_itself(follower) || !self.connections.is_ready(leader) {
            return;
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.update_voter_at = now.instant + REPORT_AGAIN;
        }
        let request = Request::UpdateRaftVoter(UpdateRaftVoterRequest {
            current_leader_epoch: self.leader_epoch,
            voter: own.key,
            endpoints: own.endpoints,
            kraft_versions: own.kraft_versions,
        });
        self.send(now, leader, request, effects);
    }

    /// The leader has answered to what this voter said of itself.
    pub(super) fn report_answered(&mut self, now: Now, peer: Peer, error: ErrorCode) {
        let again = now.instant + self.config.fetch_timeout;
        if let Role::Follower(follower) = &mut self.role
            && peer == Peer::Node(follower.leader_id)
        {
            match error {
                // Versions before this upgrade was there have no use for it.
                ErrorCode::NONE | ErrorCode::UNSUPPORTED_VERSION => follower.has_reported = true,
                _ => follower.update_voter_at = follower.update_voter_at.min(again),
            }
        }
    }
}
