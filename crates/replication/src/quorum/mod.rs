//! One voter of the metadata quorum (KRaft).
//!
//! So far a quorum is carried as far as one voter needs: it elects itself at once, and what it has flushed is committed.
//! With more voters configured it stands for election and stays a candidate, since nobody asks the others yet.

mod event;

use std::time::Instant;

use tidelog_types::{LeaderEpoch, NodeId, Now, Offset};

pub use self::event::{Effect, Input, QuorumState, Voter};
use crate::majority::{majority, majority_end};

/// Who votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This voter.
    pub node: Voter,
    /// All voters, this one among them.
    pub voters: Vec<Voter>,
}

/// What was found on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The content of `quorum-state`, if the file is there.
    pub quorum_state: Option<QuorumState>,
    /// The epoch of the last batch in the log (or of the snapshot below it), [`LeaderEpoch::NONE`] if it is empty.
    pub log_end_epoch: LeaderEpoch,
    /// The log end offset.
    pub log_end_offset: Offset,
    /// Everything below it is known to survive a power failure.
    pub durable_end_offset: Offset,
    /// Everything below it is known to be committed: the end of the latest snapshot.
    pub high_watermark: Offset,
}

/// The part that a voter plays.
///
/// ```text
///   Unattached ── Timeout ──► Candidate ── a majority granted ──► Leader
///       │                         │                                 │
///       └────────── Shutdown ─────┴────────────► Resigned ◄─────────┘
/// ```
///
/// Every arrow to the right begins by storing the quorum state, and nothing else happens until it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Knows an epoch, but no leader.
    Unattached {
        /// When to stand for election.
        election_at: Instant,
    },
    /// Stands for election.
    Candidate {
        /// Who has granted it a vote; its own counts once it is stored.
        granted: Vec<NodeId>,
    },
    /// Decides what is appended, and learns what is committed.
    Leader(Leader),
    /// Has stepped down and awaits the end of the process.
    Resigned,
}

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    granting_voters: Vec<Voter>,
    phase: Phase,
}

/// How far a new leader has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The quorum state that names it is not stored yet.
    Storing,
    /// The control record that begins its epoch at this offset is not committed yet.
    Beginning { epoch_start_offset: Offset },
    /// The beginning of its epoch is committed.
    Leading,
}

/// One voter of the metadata quorum. See the [module](self).
#[derive(Clone, Debug)]
pub struct Quorum {
    config: Config,
    role: Role,
    leader_epoch: LeaderEpoch,
    log_end_offset: Offset,
    durable_end_offset: Offset,
    high_watermark: Offset,
}

impl Quorum {
    /// A voter that has just started: it has heard of no leader, and with no other voter to wait for its deadline is now.
    ///
    /// # Panics
    /// If this node is not among the voters.
    pub fn new(now: Now, config: Config, restored: Restored) -> Self {
        assert!(config.voters.contains(&config.node), "this node is a voter");
        let stored_epoch = restored
            .quorum_state
            .map_or(LeaderEpoch::NONE, |state| state.leader_epoch);
        let durable_end_offset = restored.durable_end_offset.min(restored.log_end_offset);
        let quorum = Self {
            config,
            role: Role::Unattached {
                election_at: now.instant,
            },
            // Epochs begin at 0; the first election makes it 1, as in Kafka.
            leader_epoch: stored_epoch
                .max(restored.log_end_epoch)
                .max(LeaderEpoch::new(0)),
            log_end_offset: restored.log_end_offset,
            durable_end_offset,
            high_watermark: restored.high_watermark.min(durable_end_offset),
        };
        quorum.check();
        quorum
    }

    /// Takes in what has happened, and adds to `effects` what is to be done.
    ///
    /// # Panics
    /// If the input contradicts what happened before (a log that shrinks, a flush beyond the end): a defect of the
    /// caller.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Timeout => {
                if self
                    .deadline()
                    .is_some_and(|deadline| deadline <= now.instant)
                {
                    self.stand_for_election(effects);
                }
            }
            Input::QuorumStateStored(state) => self.quorum_state_stored(state, effects),
            Input::Appended { end } => {
                assert!(
                    end >= self.log_end_offset,
                    "appending moved the log end offset back to {end}"
                );
                self.log_end_offset = end;
            }
            Input::Flushed { end } => {
                assert!(
                    end <= self.log_end_offset,
                    "flushed up to {end}, beyond the log end offset"
                );
                self.durable_end_offset = self.durable_end_offset.max(end);
                self.advance_high_watermark(effects);
            }
            Input::Shutdown => self.role = Role::Resigned,
        }
        self.check();
    }

    /// When to report [`Input::Timeout`], if ever.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.role {
            Role::Unattached { election_at } => Some(election_at),
            Role::Candidate { .. } | Role::Leader(_) | Role::Resigned => None,
        }
    }

    fn stand_for_election(&mut self, effects: &mut Vec<Effect>) {
        self.leader_epoch = self.leader_epoch.next();
        self.role = Role::Candidate {
            granted: Vec::new(),
        };
        effects.push(Effect::StoreQuorumState(self.quorum_state()));
    }

    fn quorum_state_stored(&mut self, state: QuorumState, effects: &mut Vec<Effect>) {
        if state != self.quorum_state() {
            return; // Overtaken by a shutdown, or by another epoch.
        }
        match &mut self.role {
            Role::Candidate { granted } if granted.is_empty() => {
                granted.push(self.config.node.id);
                if granted.len() >= majority(self.config.voters.len()) {
                    let granting_voters = self
                        .config
                        .voters
                        .iter()
                        .filter(|v| granted.contains(&v.id))
                        .copied()
                        .collect();
                    self.role = Role::Leader(Leader {
                        granting_voters,
                        phase: Phase::Storing,
                    });
                    effects.push(Effect::StoreQuorumState(self.quorum_state()));
                }
            }
            Role::Leader(leader) if leader.phase == Phase::Storing => {
                leader.phase = Phase::Beginning {
                    epoch_start_offset: self.log_end_offset,
                };
                effects.push(Effect::AppendLeaderChange {
                    leader_epoch: self.leader_epoch,
                    leader_id: self.config.node.id,
                    voters: self.config.voters.clone(),
                    granting_voters: leader.granting_voters.clone(),
                });
            }
            Role::Unattached { .. } | Role::Candidate { .. } | Role::Leader(_) | Role::Resigned => {
            }
        }
    }

    /// Records of earlier epochs become committed only along with one of the leader's own: until then another leader
    /// could still replace them (Raft, section 5.4.2).
    fn advance_high_watermark(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        // The ends of the other voters are unknown until they fetch.
        let mut ends = vec![Offset::ZERO; self.config.voters.len()];
        ends[0] = self.durable_end_offset;
        let end = majority_end(&mut ends);
        match leader.phase {
            Phase::Storing => return,
            Phase::Beginning { epoch_start_offset } if end <= epoch_start_offset => return,
            Phase::Beginning { .. } => {
                leader.phase = Phase::Leading;
                effects.push(Effect::Lead {
                    leader_epoch: self.leader_epoch,
                });
            }
            Phase::Leading => {}
        }
        if end > self.high_watermark {
            self.high_watermark = end;
            effects.push(Effect::PublishHighWatermark(end));
        }
    }

    fn quorum_state(&self) -> QuorumState {
        let node = self.config.node;
        let (leader_id, voted) = match self.role {
            Role::Leader(_) => (Some(node.id), None),
            Role::Candidate { .. } => (None, Some(node)),
            Role::Unattached { .. } | Role::Resigned => (None, None),
        };
        QuorumState {
            leader_epoch: self.leader_epoch,
            leader_id,
            voted,
        }
    }

    /// The part that the voter plays now.
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// Whether this node leads; it may append from when [`Effect::AppendLeaderChange`] has been carried out.
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The epoch that the voter is in.
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Everything below it is committed.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The offset that the next record will get.
    pub const fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// Asserts everything that must hold between two inputs.
    ///
    /// # Panics
    /// If something does not hold: a defect of this program.
    pub fn check(&self) {
        assert!(
            self.high_watermark <= self.durable_end_offset,
            "committed what may be lost: {self:?}"
        );
        assert!(
            self.durable_end_offset <= self.log_end_offset,
            "durable beyond the end: {self:?}"
        );
        if let Role::Leader(leader) = &self.role {
            assert!(
                leader.granting_voters.len() >= majority(self.config.voters.len()),
                "not elected: {self:?}"
            );
            if let Phase::Beginning { epoch_start_offset } = leader.phase {
                assert!(
                    self.high_watermark <= epoch_start_offset,
                    "committed too early: {self:?}"
                );
            }
        }
    }
}
