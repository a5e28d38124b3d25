use std::time::{Duration, Instant};

use tidelog_types::{NodeId, Now, Offset, Timestamp};

use super::changes::Change;
use super::message::FetchRequest;
use super::role::Phase;
use super::voters::{ReplicaKey, Voter, VoterSet};
use crate::majority::{majority, majority_end};

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub(super) granting_voters: Vec<NodeId>,
    pub(super) phase: Phase,
    replicas: Vec<Progress>,
    /// The voters that have fetched since a majority had.
    fetched: Vec<NodeId>,
    /// When it steps down unless a majority fetches.
    pub(super) check_quorum_at: Instant,
    /// When it makes itself known to those that do not fetch.
    pub(super) begin_at: Instant,
    pub(super) waiting: Vec<WaitingFetch>,
    /// The change of the voters that is under way.
    pub(super) change: Option<Change>,
    /// What voters have said of themselves, as long as the log has none of them.
    pub(super) reported: Vec<Voter>,
}

/// A fetch for which there is nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WaitingFetch {
    pub(super) request_id: u64,
    pub(super) request: FetchRequest,
    pub(super) until: Instant,
}

/// How far a replica is known to have got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) key: ReplicaKey,
    /// Everything below it, the replica has.
    pub(super) end: Option<Offset>,
    pub(super) last_fetch: Option<Now>,
    /// The leader's log end offset at the last fetch.
    leader_end: Offset,
    pub(super) last_caught_up: Option<Timestamp>,
}

impl Leader {
    pub(super) fn new(now: Now, granting_voters: Vec<NodeId>, fetch_timeout: Duration) -> Self {
        Self {
            granting_voters,
            phase: Phase::Storing,
            replicas: Vec::new(),
            fetched: Vec::new(),
            check_quorum_at: now.instant + check_quorum_timeout(fetch_timeout),
            begin_at: now.instant,
            waiting: Vec::new(),
            change: None,
            reported: Vec::new(),
        }
    }

    /// Whether a record of its epoch is committed.
    pub(super) const fn is_leading(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    pub(super) const fn epoch_start_offset(&self) -> Option<Offset> {
        match self.phase {
            Phase::Storing => None,
            Phase::Beginning { epoch_start_offset } | Phase::Leading { epoch_start_offset } => {
                Some(epoch_start_offset)
            }
        }
    }

    pub(super) fn progress(&self, replica: &ReplicaKey) -> Option<&Progress> {
        self.replicas.iter().find(|p| p.key == *replica)
    }

    /// All that have fetched, voters or not.
    pub(super) fn replicas(&self) -> &[Progress] {
        &self.replicas
    }

    /// A replica has everything below `offset`. Of observers, only so many are remembered.
    pub(super) fn fetched_from(
        &mut self,
        now: Now,
        replica: ReplicaKey,
        offset: Offset,
        leader_end: Offset,
        replicas_max: usize,
    ) {
        let known = self.replicas.iter().position(|p| p.key == replica);
        let known = match known {
            Some(known) => known,
            None if self.replicas.len() >= replicas_max => return,
            None => {
                self.replicas.push(Progress {
                    key: replica,
                    end: None,
                    last_fetch: None,
                    leader_end: Offset::ZERO,
                    last_caught_up: None,
                });
                self.replicas.len() - 1
            }
        };
        let progress = &mut self.replicas[known];
        // Caught up now, or by the last fetch with what there was then.
        let caught_up = if offset >= leader_end {
            Some(now.timestamp)
        } else if progress.leader_end > Offset::ZERO && offset >= progress.leader_end {
            progress.last_fetch.map(|fetch| fetch.timestamp)
        } else {
            None
        };
        progress.last_caught_up = progress.last_caught_up.max(caught_up);
        progress.leader_end = leader_end;
        progress.last_fetch = Some(now);
        progress.end = Some(offset);
    }

    /// A replica has fetched: if that makes a majority of the voters, the leader goes on for another while.
    pub(super) fn heard_from(
        &mut self,
        now: Now,
        replica: &ReplicaKey,
        own: &ReplicaKey,
        voters: &VoterSet,
        fetch_timeout: Duration,
    ) {
        if !voters.contains(replica) {
            return;
        }
        if !self.fetched.contains(&replica.id) {
            self.fetched.push(replica.id);
        }
        let others = majority(voters.len()) - usize::from(voters.contains(own));
        let fetched = voters.keys().filter(|key| self.fetched.contains(&key.id));
        if fetched.count() >= others {
            self.fetched.clear();
            self.check_quorum_at = now.instant + check_quorum_timeout(fetch_timeout);
        }
    }

    /// What a majority of the voters has, this leader's log being durable up to `own_end`.
    pub(super) fn replicated_end(
        &self,
        own: &ReplicaKey,
        own_end: Offset,
        voters: &VoterSet,
    ) -> Offset {
        let mut ends: Vec<Offset> = voters
            .keys()
            .map(|key| {
                if key.matches(own) {
                    own_end
                } else {
                    let end = self.progress(&key).and_then(|progress| progress.end);
                    end.unwrap_or(Offset::ZERO)
                }
            })
            .collect();
        majority_end(&mut ends)
    }

    /// The other voters, the longest log first.
    pub(super) fn preferred_candidates(
        &self,
        own: &ReplicaKey,
        voters: &VoterSet,
    ) -> Vec<ReplicaKey> {
        let mut others: Vec<ReplicaKey> = voters.keys().filter(|key| !key.matches(own)).collect();
        let end = |key: &ReplicaKey| self.progress(key).and_then(|progress| progress.end);
        others.sort_by_key(|key| std::cmp::Reverse(end(key)));
        others
    }

    /// How far voters are is not known any more as long as it is not known of which directory.
    pub(super) fn forget_nameless(&mut self) {
        self.replicas
            .retain(|progress| !progress.key.directory_id.is_zero());
    }

    /// Observers that do not fetch any more are forgotten.
    pub(super) fn forget_observers(&mut self, now: Now, session: Duration, voters: &VoterSet) {
        self.replicas.retain(|progress| {
            voters.keys().any(|key| key == progress.key)
                || progress
                    .last_fetch
                    .is_some_and(|fetch| now.instant.duration_since(fetch.instant) < session)
        });
    }
}

/// With some time for the network and the disk beyond what a follower waits.
pub(super) fn check_quorum_timeout(fetch_timeout: Duration) -> Duration {
    fetch_timeout * 3 / 2
}
