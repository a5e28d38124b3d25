//! What a replica does of its own accord: it asks for votes, makes itself known, fetches, and gives up waiting.

use tidelog_types::{NodeId, Now};

use super::Quorum;
use super::connections::Peer;
use super::event::{Destination, Effect, LeaderChange};
use super::leader::check_quorum_timeout;
use super::message::{
    AddRaftVoterRequest, BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest,
    FetchSnapshotRequest, RemoveRaftVoterRequest, Request, UpdateRaftVoterRequest, VoteRequest,
};
use super::role::{Phase, Role, Votes};
use super::snapshot::SnapshotId;
use super::voters::{Endpoint, ReplicaKey, Voter};
use tidelog_types::Offset;

/// More changes of role than can follow from one input: unattached, prospective, candidate.
const STEPS_MAX: usize = 8;

impl Quorum {
    /// Does what is due. As long as something is being stored nothing is.
    pub(super) fn poll(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for _ in 0..STEPS_MAX {
            if self.is_storing() || !self.step(now, effects) {
                break;
            }
        }
        let state = self.quorum_state();
        if state != self.to_store {
            self.to_store = state;
            effects.push(Effect::StoreQuorumState(state));
        }
    }

    /// Does what is due in this role; gives whether it is another role now.
    fn step(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        if self.is_out() {
            self.say_goodbye(now, effects);
            return false;
        }
        match &self.role {
            Role::Unattached(unattached) => {
                if self.may_stand() && unattached.election_at <= now.instant {
                    self.become_prospective(now, effects);
                    return true;
                }
                self.fetch_from_anybody(now, effects);
                false
            }
            Role::Prospective(prospective) => {
                let votes = prospective.votes.clone();
                let timed_out = prospective.election_at <= now.instant;
                #[cfg(test)]
                let skips = self.has(super::tests::Planted::NoPreVote);
                #[cfg(not(test))]
                let skips = false;
                if skips || votes.is_won(self.voters()) {
                    self.become_candidate(now, effects);
                    true
                } else if timed_out || votes.is_lost(self.voters()) {
                    self.give_up_election(now, effects);
                    true
                } else {
                    self.ask_for_votes(now, &votes, true, effects);
                    false
                }
            }
            Role::Candidate(candidate) => {
                let votes = candidate.votes.clone();
                if votes.is_won(self.voters()) {
                    self.become_leader(now, votes, effects);
                    true
                } else if candidate.election_at <= now.instant {
                    self.become_prospective(now, effects);
                    true
                } else {
                    self.ask_for_votes(now, &votes, false, effects);
                    false
                }
            }
            Role::Leader(_) => self.lead(now, effects),
            Role::Follower(follower) => {
                if self.may_stand() && follower.fetch_until <= now.instant {
                    if !self.lets_others_stand_first(now) {
                        self.become_prospective(now, effects);
                    }
                    return true;
                }
                self.tell_leader_about_voter(now, effects);
                self.follow(now, effects);
                false
            }
            Role::Resigned(resigned) => {
                if resigned.election_at <= now.instant
                    && let Some(epoch) = self.next_epoch()
                {
                    // Not in the epoch in which it led: it might have forgotten records of it.
                    self.become_unattached(now, epoch, None, effects);
                    return true;
                }
                self.say_goodbye(now, effects);
                false
            }
        }
    }

    fn destination(&self, peer: Peer) -> Destination {
        let (leader_id, leader_endpoints) = self.role.leader(self.config.node.id);
        match peer {
            Peer::Node(id) => Destination {
                node_id: Some(id),
                endpoints: match leader_endpoints {
                    [_, ..] if leader_id == Some(id) => leader_endpoints.to_vec(),
                    _ => self.voters().endpoints(id),
                },
            },
            Peer::Bootstrap(index) => Destination {
                node_id: None,
                endpoints: self
                    .config
                    .bootstrap_servers
                    .get(index)
                    .cloned()
                    .into_iter()
                    .collect(),
            },
        }
    }

    /// Sends a request, unless the other node still owes an answer or is given a pause.
    pub(super) fn send(
        &mut self,
        now: Now,
        peer: Peer,
        request: Request,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let to = self.destination(peer);
        self.send_to(now, peer, to, request, effects)
    }

    pub(super) fn send_to(
        &mut self,
        now: Now,
        peer: Peer,
        to: Destination,
        request: Request,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_ready = self.connections.is_ready(peer);
        if is_ready {
            effects.push(Effect::Send {
                request_id: self.connections.sent(now.instant, peer),
                to,
                request,
            });
        }
        is_ready
    }

    fn ask_for_votes(
        &mut self,
        now: Now,
        votes: &Votes,
        pre_vote: bool,
        effects: &mut Vec<Effect>,
    ) {
        let undecided: Vec<ReplicaKey> = self
            .voters()
            .keys()
            .filter(|key| !votes.has(key.id))
            .collect();
        for voter in undecided {
            let request = Request::Vote(VoteRequest {
                replica: self.config.node,
                replica_epoch: self.leader_epoch,
                voter: Some(voter),
                last_offset_epoch: self.last_fetched_epoch(),
                last_offset: self.log.end(),
                pre_vote,
            });
            self.send(now, Peer::Node(voter.id), request, effects);
        }
    }

    /// What a leader does as time passes; gives whether it has stepped down.
    fn lead(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        let others = self.other_voters();
        let Role::Leader(leader) = &mut self.role else {
            return false;
        };
        if leader.phase == Phase::Storing {
            leader.phase = Phase::Beginning {
                epoch_start_offset: self.log.end(),
            };
            self.append_leader_change(effects);
            return false;
        }
        if others.is_empty() {
            // A voter that is added has as much time as one that was there from the beginning.
            leader.check_quorum_at = now.instant + check_quorum_timeout(self.config.fetch_timeout);
        } else if leader.check_quorum_at <= now.instant {
            self.become_resigned(now, effects);
            return true;
        }
        let begins = leader.begin_at <= now.instant;
        if begins {
            // Half the time after which a voter that hears nothing would ask for votes.
            leader.begin_at = now.instant + self.config.fetch_timeout / 2;
            leader.forget_observers(now, self.config.observer_session, self.history.voters());
            self.make_known(now, effects);
        }
        self.expire_change(now, effects);
        self.serve_waiting(now, effects);
        self.continue_change(now, effects);
        false
    }

    fn append_leader_change(&self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let voters = self.voters();
        let granting = |key: &ReplicaKey| leader.granting_voters.contains(&key.id);
        // KIP-853: what format wrote about the voters goes into the log of the first leader.
        let is_first = self.kraft_version() > 0
            && self
                .history
                .voters_offset()
                .is_some_and(|offset| offset < Offset::ZERO);
        effects.push(Effect::AppendLeaderChange(LeaderChange {
            leader_epoch: self.leader_epoch,
            leader_id: self.config.node.id,
            voters: voters.keys().collect(),
            granting_voters: voters.keys().filter(granting).collect(),
            first_voters: is_first.then(|| (self.kraft_version(), self.first_voters())),
        }));
    }

    /// The voters as `format` wrote them, this one as it is.
    fn first_voters(&self) -> super::VoterSet {
        let voters = self.voters();
        let own = self.own_voter();
        let updated = if own.endpoints.is_empty() {
            None
        } else {
            voters.updated(own)
        };
        updated.unwrap_or_else(|| voters.clone())
    }

    /// This node as a voter.
    pub(super) fn own_voter(&self) -> Voter {
        Voter {
            key: self.config.node,
            endpoints: self.config.endpoints.clone(),
            kraft_versions: self.config.kraft_versions,
        }
    }

    /// Tells the voters that do not fetch who leads.
    fn make_known(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let recently = self.config.fetch_timeout / 2;
        let follows = |key: &ReplicaKey| {
            let fetch = leader.progress(key).and_then(|p| p.last_fetch);
            fetch.is_some_and(|fetch| now.instant.duration_since(fetch.instant) < recently)
        };
        let silent: Vec<ReplicaKey> = self
            .voters()
            .keys()
            .filter(|key| key.id != self.config.node.id && !follows(key))
            .collect();
        for voter in silent {
            let request = Request::BeginQuorumEpoch(BeginQuorumEpochRequest {
                voter: Some(voter),
                leader_id: self.config.node.id,
                leader_epoch: self.leader_epoch,
                leader_endpoints: self.config.endpoints.clone(),
            });
            self.send(now, Peer::Node(voter.id), request, effects);
        }
    }

    /// Tells the voters that this node leads no longer, until all have heard.
    fn say_goodbye(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Resigned(resigned) = &self.role else {
            return;
        };
        let request = EndQuorumEpochRequest {
            leader_id: self.config.node.id,
            leader_epoch: self.leader_epoch,
            preferred_candidates: resigned.preferred_candidates.clone(),
            leader_endpoints: self.config.endpoints.clone(),
        };
        for voter in resigned.unacknowledged.clone() {
            let request = Request::EndQuorumEpoch(request.clone());
            self.send(now, Peer::Node(voter), request, effects);
        }
    }

    /// Fetches from the leader; if it does not answer, from anybody, who may know a later one.
    fn follow(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let leader = Peer::Node(follower.leader_id);
        if self.connections.is_backing_off(leader) {
            return self.fetch_from_anybody(now, effects);
        }
        if self.connections.is_waiting_for_any() || self.is_changing_log {
            return;
        }
        let request = match &follower.snapshot {
            Some(fetch) if fetch.is_writing => return,
            Some(fetch) => self.fetch_snapshot_request(fetch.id, fetch.position),
            None if self.has_unflushed() => return,
            None => self.fetch_request(),
        };
        self.send(now, leader, request, effects);
    }

    /// Looks for the leader among the bootstrap servers, one after the other, beginning anywhere.
    fn fetch_from_anybody(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.connections.is_waiting_for_any() || self.is_changing_log || self.has_unflushed() {
            return;
        }
        let peers = self.bootstrap_peers();
        let first = self.random.below(peers.len());
        let (before, from) = peers.split_at(first);
        let mut in_turn = from.iter().chain(before);
        let ready = in_turn.find(|peer| self.connections.is_ready(**peer));
        if let Some(peer) = ready.copied() {
            let request = self.fetch_request();
            self.send(now, peer, request, effects);
        }
    }

    fn bootstrap_peers(&self) -> Vec<Peer> {
        let servers = &self.config.bootstrap_servers;
        if servers.is_empty() {
            return self.other_voters().into_iter().map(Peer::Node).collect();
        }
        let is_own = |server: &Endpoint| {
            let same = |own: &Endpoint| own.host == server.host && own.port == server.port;
            self.config.endpoints.iter().any(same)
        };
        let others = servers
            .iter()
            .enumerate()
            .filter(|(_, server)| !is_own(server));
        others.map(|(index, _)| Peer::Bootstrap(index)).collect()
    }

    /// Whether there are records that a leader must not count yet. A node that cannot become a voter is never counted.
    fn has_unflushed(&self) -> bool {
        #[cfg(test)]
        if self.has(super::tests::Planted::FetchesUnflushed) {
            return false;
        }
        self.config.can_become_voter && self.log.durable_end() < self.log.end()
    }

    fn fetch_request(&self) -> Request {
        Request::Fetch(FetchRequest {
            replica: self.config.node,
            current_leader_epoch: self.leader_epoch,
            fetch_offset: self.log.end(),
            last_fetched_epoch: self.last_fetched_epoch(),
            high_watermark: self.high_watermark,
            max_wait_ms: i32::try_from(self.config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
        })
    }

    fn fetch_snapshot_request(&self, snapshot_id: SnapshotId, position: i64) -> Request {
        Request::FetchSnapshot(FetchSnapshotRequest {
            replica: self.config.node,
            current_leader_epoch: self.leader_epoch,
            snapshot_id,
            position,
        })
    }

    /// Whether this replica has to look after its place among the voters.
    pub(super) fn updates_voters(&self) -> bool {
        self.kraft_version() > 0
            && self.config.can_become_voter
            && (self.is_voter() || self.config.auto_join)
    }

    /// A voter whose addresses or versions have changed tells the leader; an observer that is to join does so, once its
    /// former self is removed (KIP-853).
    fn tell_leader_about_voter(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let updates_voters = self.updates_voters();
        let (own, period) = (self.own_voter(), self.config.fetch_timeout);
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        if follower.update_voter_at > now.instant {
            return;
        }
        if !updates_voters {
            return self.report_itself(now, effects);
        }
        let leader = Peer::Node(follower.leader_id);
        if !self.connections.is_ready(leader) {
            return; // As soon as the fetch is answered.
        }
        follower.update_voter_at = now.instant + period;
        let known = self.voters().find(own.key.id).cloned();
        let request = match known {
            Some(known) if known == own => return,
            Some(known) if known.key.matches(&own.key) => {
                Request::UpdateRaftVoter(UpdateRaftVoterRequest {
                    current_leader_epoch: self.leader_epoch,
                    voter: own.key,
                    endpoints: own.endpoints,
                    kraft_versions: own.kraft_versions,
                })
            }
            Some(known) => Request::RemoveRaftVoter(RemoveRaftVoterRequest { voter: known.key }),
            None => Request::AddRaftVoter(AddRaftVoterRequest {
                voter: own.key,
                endpoints: own.endpoints,
                ack_when_committed: false,
            }),
        };
        self.send(now, leader, request, effects);
    }

    pub(super) const fn own_id(&self) -> NodeId {
        self.config.node.id
    }
}
