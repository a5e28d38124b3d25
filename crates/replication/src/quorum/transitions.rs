//! From one role to another.

use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now};

use super::Quorum;
use super::event::{Anomaly, Effect, QuorumState};
use super::leader::Leader;
use super::message::LeaderAndEpoch;
use super::role::{Candidate, Follower, Prospective, Resigned, Role, Unattached, Votes};
use super::voters::Endpoint;

impl Quorum {
    /// The role to begin with.
    pub(super) fn restore(&mut self, now: Now, stored: Option<QuorumState>) {
        let mut state = stored.unwrap_or(QuorumState::NOTHING);
        let last_epoch = self.log.last_epoch();
        let last_epoch = self
            .lost
            .map_or(last_epoch, |lost| lost.epoch.max(last_epoch));
        if last_epoch > state.leader_epoch {
            // The file is older than the log, or lost. Each start finds out again.
            state = QuorumState {
                leader_epoch: last_epoch,
                ..QuorumState::NOTHING
            };
        }
        let own_id = self.config.node.id;
        let is_only_voter = self.voters().is_only(&self.config.node);
        if is_only_voter && state.leader_id == Some(own_id) {
            // It never leads the same epoch twice, since it might have forgotten records of it; and there is nobody to tell.
            state.leader_id = None;
        }
        (self.stored, self.to_store) = (state, state);
        self.leader_epoch = state.leader_epoch;
        let election_at = if is_only_voter {
            // Nobody else can win.
            now.instant
        } else {
            self.election_at(now)
        };
        self.role = match state.leader_id {
            Some(id) if id == own_id => Role::Resigned(Resigned {
                unacknowledged: self.other_voters(),
                preferred_candidates: Vec::new(),
                election_at,
            }),
            Some(id) if id != own_id && self.voters().find(id).is_some() => {
                self.follower(now, id, self.voters().endpoints(id), state)
            }
            leader_id => Role::Unattached(Unattached {
                voted: state.voted,
                leader_id,
                election_at,
            }),
        };
    }

    fn follower(
        &self,
        now: Now,
        leader_id: NodeId,
        endpoints: Vec<Endpoint>,
        state: QuorumState,
    ) -> Role {
        Role::Follower(Follower {
            leader_id,
            endpoints,
            voted: state.voted,
            fetch_until: now.instant + self.config.fetch_timeout,
            update_voter_at: now.instant + self.config.fetch_timeout,
            has_reported: false,
            has_fetched: false,
            leader_is_gone: false,
            leader_is_unreachable: false,
            leader_high_watermark: None,
            snapshot: None,
        })
    }

    /// When an election that begins now, or a wait for one, is over.
    pub(super) fn election_at(&mut self, now: Now) -> Instant {
        now.instant + self.random.stretch(self.config.election_timeout)
    }

    pub(super) fn other_voters(&self) -> Vec<NodeId> {
        let ids = self.voters().keys().map(|key| key.id);
        ids.filter(|id| !self.names_this_node(*id)).collect()
    }

    /// Takes the role. A leader first tells those who wait for it.
    fn become_role(&mut self, epoch: LeaderEpoch, role: Role, effects: &mut Vec<Effect>) {
        let left_epoch = std::mem::replace(&mut self.leader_epoch, epoch);
        let left = std::mem::replace(&mut self.role, role);
        self.connections.reset();
        if let Role::Leader(leader) = left {
            self.dismiss(leader, left_epoch, effects);
        }
    }

    fn dismiss(&mut self, leader: Leader, leader_epoch: LeaderEpoch, effects: &mut Vec<Effect>) {
        if leader.is_leading() {
            effects.push(Effect::StopLeading { leader_epoch });
        }
        for fetch in leader.waiting {
            let response = self.fetch_refused(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            self.answer(fetch.request_id, response, effects);
        }
        if let Some(change) = leader.change {
            self.change_ended(change, ErrorCode::NOT_LEADER_OR_FOLLOWER, None, effects);
        }
    }

    pub(super) fn become_unattached(
        &mut self,
        now: Now,
        epoch: LeaderEpoch,
        leader_id: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) {
        let voted = self.role.voted(self.config.node);
        let voted = voted.filter(|_| epoch == self.leader_epoch);
        // Whoever waits for an election goes on waiting: a candidate that cannot win must not hold it up.
        let election_at = match &self.role {
            Role::Unattached(unattached) => unattached.election_at,
            Role::Candidate(candidate) => candidate.election_at,
            Role::Resigned(resigned) => resigned.election_at,
            Role::Prospective(prospective) if !prospective.votes.is_lost(self.voters()) => {
                prospective.election_at
            }
            _ => self.election_at(now),
        };
        let role = Role::Unattached(Unattached {
            voted,
            leader_id,
            election_at,
        });
        self.become_role(epoch, role, effects);
    }

    pub(super) fn become_follower(
        &mut self,
        now: Now,
        epoch: LeaderEpoch,
        leader_id: NodeId,
        endpoints: Vec<Endpoint>,
        effects: &mut Vec<Effect>,
    ) {
        let voted = self.role.voted(self.config.node);
        let state = QuorumState {
            voted: voted.filter(|_| epoch == self.leader_epoch),
            ..QuorumState::NOTHING
        };
        let role = self.follower(now, leader_id, endpoints, state);
        self.become_role(epoch, role, effects);
    }

    pub(super) fn become_prospective(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (leader_id, endpoints) = self.role.leader(self.config.node.id);
        let leader = leader_id
            .map(|id| (id, endpoints.to_vec()))
            .filter(|(id, _)| !self.names_this_node(*id));
        let leader_is_unreachable =
            matches!(&self.role, Role::Follower(follower) if follower.leader_is_unreachable);
        let mut votes = Votes::new(self.config.node.id);
        if let Some((id, _)) = leader.as_ref().filter(|_| leader_is_unreachable) {
            // It will not answer.
            votes.record(*id, false);
        }
        let role = Role::Prospective(Prospective {
            voted: self.role.voted(self.config.node),
            leader,
            leader_is_unreachable,
            votes,
            election_at: self.election_at(now),
        });
        self.become_role(self.leader_epoch, role, effects);
    }

    /// Stands for election in the next epoch, unless epochs are used up.
    pub(super) fn become_candidate(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let role = Candidate {
            votes: Votes::new(self.config.node.id),
            election_at: self.election_at(now),
        };
        match self.next_epoch() {
            Some(epoch) => self.become_role(epoch, Role::Candidate(role), effects),
            None => self.become_unattached(now, self.leader_epoch, None, effects),
        }
    }

    pub(super) fn next_epoch(&self) -> Option<LeaderEpoch> {
        (self.leader_epoch < LeaderEpoch::new(i32::MAX)).then(|| self.leader_epoch.next())
    }

    pub(super) fn become_leader(&mut self, now: Now, votes: Votes, effects: &mut Vec<Effect>) {
        let leader = Leader::new(now, votes.granted, self.config.fetch_timeout);
        self.become_role(self.leader_epoch, Role::Leader(leader), effects);
    }

    /// A leader steps down, and tells the other voters who should follow it.
    pub(super) fn become_resigned(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let preferred_candidates = leader.preferred_candidates(&self.config.node, self.voters());
        let role = Role::Resigned(Resigned {
            unacknowledged: self.other_voters(),
            preferred_candidates,
            election_at: self.election_at(now),
        });
        self.become_role(self.leader_epoch, role, effects);
    }

    /// Whatever this replica was about, it goes no further.
    pub(super) fn step_aside(&mut self, now: Now, effects: &mut Vec<Effect>) {
        match &self.role {
            Role::Leader(_) => self.become_resigned(now, effects),
            Role::Resigned(_) => {}
            _ => {
                let (leader_id, _) = self.role.leader(self.config.node.id);
                self.become_unattached(now, self.leader_epoch, leader_id, effects);
            }
        }
    }

    /// A voter whose promise of votes failed goes back to where it came from.
    pub(super) fn give_up_election(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Role::Prospective(prospective) = &self.role else {
            return;
        };
        let epoch = self.leader_epoch;
        let leader_is_unreachable = prospective.leader_is_unreachable;
        match prospective.leader.clone() {
            Some((id, endpoints)) if self.is_reachable(id, &endpoints) => {
                self.become_follower(now, epoch, id, endpoints, effects);
                if leader_is_unreachable {
                    // When all others have had their turn.
                    let turns = u32::try_from(self.voters().len()).unwrap_or(u32::MAX);
                    self.give_up_leader(now, self.config.succession_step * turns);
                }
            }
            leader => self.become_unattached(now, epoch, leader.map(|(id, _)| id), effects),
        }
    }

    /// Whether it is known where a node listens.
    fn is_reachable(&self, id: NodeId, endpoints: &[Endpoint]) -> bool {
        !endpoints.is_empty() || self.voters().find(id).is_some()
    }

    /// Another replica says who leads. Gives whether that can be: two leaders of an epoch, or this node leading without
    /// knowing, cannot.
    pub(super) fn hear_of(
        &mut self,
        now: Now,
        leader: &LeaderAndEpoch,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let epoch = leader.leader_epoch;
        let (known, known_endpoints) = self.role.leader(self.config.node.id);
        if epoch < self.leader_epoch {
            return true;
        }
        let Some(id) = leader.leader_id else {
            if epoch > self.leader_epoch {
                self.become_unattached(now, epoch, None, effects);
            }
            return true;
        };
        let contradicts = epoch == self.leader_epoch && known.is_some_and(|known| known != id);
        let leads_unknowingly =
            self.names_this_node(id) && (epoch > self.leader_epoch || known != Some(id));
        if contradicts || leads_unknowingly {
            effects.push(Effect::Report(Anomaly::InconsistentLeader {
                leader_epoch: epoch,
                known,
                claimed: id,
            }));
            if epoch > self.leader_epoch {
                self.become_unattached(now, epoch, None, effects);
            }
            return false;
        }
        if self.names_this_node(id) {
            return true;
        }
        let endpoints = if leader.endpoints.is_empty() {
            self.voters().endpoints(id)
        } else {
            leader.endpoints.clone()
        };
        let is_news = epoch > self.leader_epoch
            || known.is_none()
            || matches!(self.role, Role::Unattached(_))
            || endpoints.len() > known_endpoints.len();
        if !is_news {
            return true;
        }
        if self.is_out() || !self.is_reachable(id, &endpoints) {
            self.become_unattached(now, epoch, Some(id), effects);
        } else {
            self.become_follower(now, epoch, id, endpoints, effects);
        }
        true
    }

    /// The leader's process is gone: the voters ask for votes one after the other. Observers look elsewhere.
    pub(super) fn unreachable(&mut self, now: Now, node: NodeId) {
        let wait = self.turn_after(node);
        if let Role::Follower(follower) = &self.role
            && follower.leader_id == node
            && !follower.leader_is_unreachable
        {
            self.give_up_leader(now, wait);
        }
    }

    /// How long this voter waits for those whose turn it is before, so that they do not take votes from each other.
    fn turn_after(&self, leader: NodeId) -> Duration {
        let own_id = self.config.node.id;
        let before = |id: NodeId| id != leader && id < own_id;
        let rank = self.voters().keys().filter(|key| before(key.id)).count();
        self.config.succession_step * u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// The leader has not answered for too long, which the others notice at the same time. Whose turn it is not promises
    /// its vote to who asks before it is. Gives whether this voter waits.
    pub(super) fn lets_others_stand_first(&mut self, now: Now) -> bool {
        let Role::Follower(follower) = &self.role else {
            return false;
        };
        let wait = self.turn_after(follower.leader_id);
        if follower.leader_is_gone || wait.is_zero() {
            return false;
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.leader_is_gone = true;
            follower.fetch_until = now.instant + wait;
        }
        true
    }

    /// Follows no longer than for `wait`, unless the leader answers after all.
    fn give_up_leader(&mut self, now: Now, wait: Duration) {
        if let Role::Follower(follower) = &mut self.role {
            follower.leader_is_gone = true;
            follower.leader_is_unreachable = true;
            follower.fetch_until = follower.fetch_until.min(now.instant + wait);
        }
    }
}
