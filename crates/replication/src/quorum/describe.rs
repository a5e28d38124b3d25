use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Timestamp};

use super::Quorum;
use super::role::Role;
use super::voters::ReplicaKey;

/// How the quorum is, as its leader sees it (DescribeQuorum).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumDescription {
    /// The leader: this node.
    pub leader_id: NodeId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// What is committed, once a record of its epoch is.
    pub high_watermark: Option<Offset>,
    /// The voters, by id. Where they are reached, [`Quorum::voters`] says.
    pub voters: Vec<ReplicaDescription>,
    /// Who else fetches.
    pub observers: Vec<ReplicaDescription>,
}

/// How far a replica is (KIP-836).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaDescription {
    /// The replica.
    pub key: ReplicaKey,
    /// The end of its log, if it has fetched in this epoch.
    pub log_end_offset: Option<Offset>,
    /// When it fetched last, by the leader's clock.
    pub last_fetch: Option<Timestamp>,
    /// When it last had all that the leader had.
    pub last_caught_up: Option<Timestamp>,
}

impl Quorum {
    /// How the quorum is. Only the leader knows; the answer of others is `NOT_LEADER_OR_FOLLOWER`.
    pub fn describe(&self, now: Now) -> Result<QuorumDescription, ErrorCode> {
        let Role::Leader(leader) = &self.role else {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        };
        let own = ReplicaDescription {
            key: self.config.node,
            log_end_offset: Some(self.log.end()),
            last_fetch: Some(now.timestamp),
            last_caught_up: Some(now.timestamp),
        };
        let describe = |key: ReplicaKey| {
            let progress = leader.progress(&key);
            ReplicaDescription {
                key,
                log_end_offset: progress.and_then(|p| p.end),
                last_fetch: progress.and_then(|p| p.last_fetch).map(|at| at.timestamp),
                last_caught_up: progress.and_then(|p| p.last_caught_up),
            }
        };
        let is_own = |key: &ReplicaKey| key.matches(&self.config.node);
        let voters = self.voters();
        let observers = leader.replicas().iter().map(|progress| progress.key);
        let observers = observers.filter(|key| !voters.keys().any(|voter| voter == *key));
        let mut observers: Vec<ReplicaDescription> = observers.map(describe).collect();
        if !self.is_voter() {
            observers.push(own);
        }
        Ok(QuorumDescription {
            leader_id: self.own_id(),
            leader_epoch: self.leader_epoch(),
            high_watermark: leader.is_leading().then_some(self.high_watermark()),
            voters: voters
                .keys()
                .map(|key| if is_own(&key) { own } else { describe(key) })
                .collect(),
            observers,
        })
    }
}
