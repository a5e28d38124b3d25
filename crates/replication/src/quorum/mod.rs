//! A replica of the metadata log: a voter of the quorum (KRaft), or an observer.
//!
//! Voters elect a leader (KIP-595, with a question beforehand, KIP-996), the leader appends, everybody else fetches from it,
//! and what a majority of the voters has flushed is committed. Who votes is configured, or stands in the log itself and can
//! be changed while the quorum is at work (KIP-853). A replica that is too far behind fetches a snapshot (KIP-630).
//!
//! The machine knows offsets and epochs. The owner has the log, the snapshots, the file `quorum-state` and the network:
//! records and pieces of snapshots go from the network to the disk on its side, and the machine only says whether they may.
//! Messages are plain structs ([`message`]). Nothing leaves the machine while a change of the quorum state is not yet stored.
//!
//! Three voters, one network, no disk:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use tidelog_replication::quorum::{
//!     Appended, Config, Effect, EpochStart, Input, Quorum, ReplicaKey, Restored, VersionRange, Voter, VoterSet,
//! };
//! use tidelog_types::{NodeId, Now, Offset, Timestamp, Uuid};
//!
//! let key = |id| ReplicaKey { id: NodeId::new(id), directory_id: Uuid::ZERO };
//! let voter = |id| Voter { key: key(id), endpoints: vec![], kraft_versions: VersionRange { min: 0, max: 1 } };
//! let voters = VoterSet::new(vec![voter(0), voter(1), voter(2)]);
//!
//! # let mut now = Now { instant: Instant::now(), timestamp: Timestamp::from_millis(0) };
//! let config = |id| Config::new(key(id), voters.clone(), id as u64);
//! let mut nodes: Vec<Quorum> = (0..3).map(|id| Quorum::new(now, config(id), Restored::default())).collect();
//!
//! // Time passes until somebody leads. Requests carry the number of the node that waits for the answer.
//! while !nodes.iter().any(|node| node.is_leader() && node.high_watermark() > Offset::ZERO) {
//!     now = now + Duration::from_millis(10);
//!     let mut inputs: Vec<(usize, Input)> = (0..3).map(|node| (node, Input::Timeout)).collect();
//!     while let Some((node, input)) = inputs.pop() {
//!         let mut effects = Vec::new();
//!         nodes[node].handle(now, input, &mut effects);
//!         let end = nodes[node].log_end_offset().next();
//!         for effect in effects {
//!             match effect {
//!                 Effect::StoreQuorumState(state) => inputs.push((node, Input::QuorumStateStored(state))),
//!                 Effect::AppendLeaderChange(change) => {
//!                     let epochs = vec![EpochStart { leader_epoch: change.leader_epoch, start_offset: end + -1 }];
//!                     // Reported last in, first out: appended before flushed.
//!                     inputs.push((node, Input::Flushed { end }));
//!                     inputs.push((node, Input::Appended(Appended { end, epochs, control_records: vec![] })));
//!                 }
//!                 Effect::AppendFetched { .. } => {
//!                     let epochs = vec![EpochStart { leader_epoch: nodes[node].leader_epoch(), start_offset: end + -1 }];
//!                     inputs.push((node, Input::Flushed { end }));
//!                     inputs.push((node, Input::Appended(Appended { end, epochs, control_records: vec![] })));
//!                 }
//!                 Effect::Send { request_id, to, request } => {
//!                     let to = to.node_id.expect("all are known").value() as usize;
//!                     inputs.insert(0, (to, Input::Request { request_id: request_id * 3 + node as u64, request }));
//!                 }
//!                 Effect::Answer { request_id, response } => {
//!                     let asked = (request_id % 3) as usize;
//!                     inputs.insert(0, (asked, Input::Response { request_id: request_id / 3, response }));
//!                 }
//!                 _ => {}
//!             }
//!         }
//!     }
//! }
//! assert_eq!(nodes.iter().filter(|node| node.is_leader()).count(), 1);
//! ```

mod changes;
mod config;
mod connections;
mod describe;
mod event;
mod leader;
mod log;
pub mod message;
mod random;
mod requests;
mod responses;
mod role;
mod sending;
mod snapshot;
#[cfg(test)]
mod tests;
mod transitions;
mod upgrade;
mod voters;

use std::time::Instant;

use tidelog_types::{LeaderEpoch, NodeId, Now, Offset};

pub use self::config::{Config, LogEnd, Restored};
use self::connections::{Connections, Peer};
pub use self::describe::{QuorumDescription, ReplicaDescription};
pub use self::event::{
    Anomaly, Appended, ControlRecord, Destination, Effect, EpochStart, Input, LeaderChange,
    QuorumState,
};
use self::log::LogState;
use self::message::{LeaderAndEpoch, Response};
use self::random::Random;
use self::role::{Announced, Phase};
pub use self::role::{Candidate, Follower, Leader, Prospective, Resigned, Role, Unattached};
pub use self::snapshot::{Snapshot, SnapshotId};
use self::voters::VoterHistory;
pub use self::voters::{Endpoint, ReplicaKey, VersionRange, Voter, VoterSet};

/// A replica of the metadata log. See the [module](self).
#[derive(Clone, Debug)]
pub struct Quorum {
    config: Config,
    role: Role,
    leader_epoch: LeaderEpoch,
    /// What is known to be on the disk.
    stored: QuorumState,
    /// What was last asked to be stored.
    to_store: QuorumState,
    /// Answers that wait for the quorum state to be stored.
    parked: Vec<(u64, Response)>,
    log: LogState,
    history: VoterHistory,
    high_watermark: Offset,
    /// Where the log ended before some of it was lost.
    lost: Option<LogEnd>,
    connections: Connections,
    random: Random,
    announced: Option<Announced>,
    /// The owner is changing the log; what it will look like is reported next.
    is_changing_log: bool,
    /// The node is about to stop.
    is_shutting_down: bool,
    /// The disk failed.
    has_failed: bool,
    #[cfg(test)]
    planted: Option<tests::Planted>,
}

impl Quorum {
    /// A replica that has just started: it has heard of no leader but the one it may remember.
    pub fn new(now: Now, config: Config, restored: Restored) -> Self {
        let log = LogState::new(&restored);
        let mut history = VoterHistory::new(config.voters.clone());
        history.install(restored.control_records);
        let connections = Connections::new(config.request_timeout, config.retry_backoff);
        let mut quorum = Self {
            random: Random::new(config.seed),
            role: Role::Unattached(Unattached {
                voted: None,
                leader_id: None,
                election_at: now.instant,
            }),
            leader_epoch: QuorumState::NOTHING.leader_epoch,
            stored: QuorumState::NOTHING,
            to_store: QuorumState::NOTHING,
            parked: Vec::new(),
            high_watermark: restored.high_watermark.min(log.end()),
            lost: restored.lost.filter(|lost| log.durable_log_end() < *lost),
            log,
            history,
            connections,
            announced: None,
            is_changing_log: false,
            is_shutting_down: false,
            has_failed: false,
            config,
            #[cfg(test)]
            planted: None,
        };
        quorum.restore(now, restored.quorum_state);
        quorum.check();
        quorum
    }

    /// Takes in what has happened, and adds to `effects` what is to be done.
    ///
    /// # Panics
    /// If an input about the log contradicts what happened before (a log that shrinks by appending, a flush beyond the end):
    /// a defect of the caller. No message from the network causes a panic.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        self.connections.expire(now.instant);
        match input {
            Input::Timeout => {}
            Input::Request {
                request_id,
                request,
            } => self.request(now, request_id, request, effects),
            Input::Response {
                request_id,
                response,
            } => self.response(now, request_id, response, effects),
            Input::RequestFailed { request_id } => {
                if let Some(peer) = self.connections.answered(request_id) {
                    self.connections.back_off(now.instant, peer);
                }
            }
            Input::Unreachable { node } => self.unreachable(now, node),
            Input::QuorumStateStored(state) => self.quorum_state_stored(state, effects),
            Input::Appended(appended) => self.appended(now, appended, effects),
            Input::Truncated { end } => {
                self.is_changing_log = false;
                self.log.truncated(end);
                self.history.truncate(end);
            }
            Input::Flushed { end } => self.log.flushed(end),
            Input::SnapshotsChanged {
                snapshots,
                log_start_offset,
            } => {
                self.log.snapshots_changed(snapshots, log_start_offset);
                self.history.forget_before(log_start_offset);
            }
            Input::SnapshotChunkWritten {
                snapshot_id,
                position,
            } => self.snapshot_chunk_written(snapshot_id, position, effects),
            Input::SnapshotInstalled {
                snapshot,
                control_records,
            } => self.snapshot_installed(snapshot, control_records, effects),
            Input::SnapshotRefused { snapshot_id } => self.snapshot_refused(snapshot_id),
            Input::UpgradeKRaftVersion { kraft_version } => {
                self.upgrade_kraft_version(kraft_version, effects);
            }
            Input::Resign { leader_epoch } => {
                if self.is_leader() && self.leader_epoch == leader_epoch {
                    self.become_resigned(now, effects);
                }
            }
            Input::Failed => {
                self.step_aside(now, effects);
                self.has_failed = true;
            }
            Input::Shutdown => {
                self.step_aside(now, effects);
                self.is_shutting_down = true;
            }
        }
        let lost = self.lost.take();
        self.lost = lost.filter(|lost| self.log.durable_log_end() < *lost);
        self.advance_high_watermark(now, effects);
        self.poll(now, effects);
        self.announce(effects);
        self.check();
    }

    /// When to report [`Input::Timeout`], if ever.
    pub fn deadline(&self) -> Option<Instant> {
        if self.is_storing() {
            return None;
        }
        let role = if self.is_out() {
            None
        } else {
            self.role_deadline()
        };
        role.into_iter().chain(self.connections.deadline()).min()
    }

    fn role_deadline(&self) -> Option<Instant> {
        let voter = self.may_stand();
        match &self.role {
            Role::Unattached(unattached) => voter.then_some(unattached.election_at),
            Role::Prospective(prospective) => Some(prospective.election_at),
            Role::Candidate(candidate) => Some(candidate.election_at),
            Role::Leader(leader) => self.leader_deadline(leader),
            Role::Follower(follower) => {
                let leader = Peer::Node(follower.leader_id);
                let updates = self.updates_voters() || self.reports_itself(follower);
                let updates = updates && self.connections.is_ready(leader);
                let update = updates.then_some(follower.update_voter_at);
                let fetch = voter.then_some(follower.fetch_until);
                fetch.into_iter().chain(update).min()
            }
            Role::Resigned(resigned) => Some(resigned.election_at),
        }
    }

    fn leader_deadline(&self, leader: &Leader) -> Option<Instant> {
        let waiting = leader.waiting.iter().map(|fetch| fetch.until);
        let change = leader.change.as_ref().map(|change| change.until);
        let others = self
            .voters()
            .keys()
            .any(|key| key.id != self.config.node.id);
        let others = others.then_some([leader.check_quorum_at, leader.begin_at]);
        waiting
            .chain(change)
            .chain(others.into_iter().flatten())
            .min()
    }

    fn quorum_state_stored(&mut self, state: QuorumState, effects: &mut Vec<Effect>) {
        self.stored = state;
        if !self.is_storing() {
            let parked = self.parked.drain(..);
            effects.extend(parked.map(|(request_id, response)| Effect::Answer {
                request_id,
                response,
            }));
        }
    }

    fn appended(&mut self, now: Now, appended: Appended, effects: &mut Vec<Effect>) {
        let was_changing = std::mem::take(&mut self.is_changing_log);
        if was_changing && appended.end == self.log.end() {
            // What came was damaged. Perhaps it is not when it comes again.
            self.leave_leader_alone(now);
        }
        self.log.appended(&appended);
        for record in appended.control_records {
            self.change_appended(&record, effects);
            self.history.replay(record);
        }
        self.serve_waiting(now, effects);
    }

    fn leave_leader_alone(&mut self, now: Now) {
        if let Role::Follower(follower) = &self.role {
            let leader = Peer::Node(follower.leader_id);
            self.connections.back_off(now.instant, leader);
        }
    }

    /// A leader counts what a majority of the voters has flushed; a follower takes the leader's word for what it has.
    fn advance_high_watermark(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let end = match &self.role {
            Role::Leader(leader) => self.replicated_end(leader),
            Role::Follower(follower) => follower
                .leader_high_watermark
                .map(|high_watermark| high_watermark.min(self.log.end())),
            _ => None,
        };
        let Some(end) = end else { return };
        if let Role::Leader(leader) = &mut self.role
            && let Phase::Beginning { epoch_start_offset } = leader.phase
        {
            leader.phase = Phase::Leading { epoch_start_offset };
            effects.push(Effect::Lead {
                leader_epoch: self.leader_epoch,
            });
        }
        if end > self.high_watermark {
            self.high_watermark = end;
            effects.push(Effect::PublishHighWatermark(end));
            self.change_committed(now, effects);
            self.serve_waiting(now, effects);
        }
    }

    /// Records of earlier epochs become committed only along with one of the leader's own: until then another leader
    /// could still replace them (Raft, section 5.4.2).
    fn replicated_end(&self, leader: &Leader) -> Option<Offset> {
        let epoch_start_offset = leader.epoch_start_offset()?;
        let own_end = self.own_durable_end();
        let end = leader.replicated_end(&self.config.node, own_end, self.voters());
        #[cfg(test)]
        if self.has(tests::Planted::CommitsEarlierEpochs) {
            return Some(end);
        }
        (end > epoch_start_offset).then_some(end)
    }

    fn own_durable_end(&self) -> Offset {
        #[cfg(test)]
        if self.has(tests::Planted::CountsUnflushed) {
            return self.log.end();
        }
        self.log.durable_end()
    }

    /// Says who leads, if that is news.
    fn announce(&mut self, effects: &mut Vec<Effect>) {
        if self.is_storing() {
            return;
        }
        let LeaderAndEpoch {
            leader_id,
            leader_epoch,
            endpoints,
        } = self.leader_and_epoch();
        // One that has resigned leads nobody.
        let (leader_id, endpoints) = match leader_id {
            Some(id) if self.names_this_node(id) && !self.is_leader() => (None, Vec::new()),
            _ => (leader_id, endpoints),
        };
        let news = (leader_epoch, leader_id, endpoints);
        if self.announced.as_ref() != Some(&news) {
            effects.push(Effect::AnnounceLeader(LeaderAndEpoch {
                leader_id,
                leader_epoch,
                endpoints: news.2.clone(),
            }));
            self.announced = Some(news);
        }
    }

    /// Whether what was promised in memory is not on the disk yet.
    fn is_storing(&self) -> bool {
        #[cfg(test)]
        if self.has(tests::Planted::AnswersBeforeStoring) {
            return false;
        }
        self.stored != self.quorum_state()
    }

    /// Whether this replica does nothing of its own accord any more.
    const fn is_out(&self) -> bool {
        self.is_shutting_down || self.has_failed
    }

    /// What `quorum-state` must say before anything leaves.
    fn quorum_state(&self) -> QuorumState {
        let (leader_id, _) = self.role.leader(self.config.node.id);
        QuorumState {
            leader_epoch: self.leader_epoch,
            leader_id,
            voted: self.role.voted(self.config.node),
        }
    }

    /// The part that the replica plays now.
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// Whether this node leads; it may append from when [`Effect::AppendLeaderChange`] has been carried out.
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether this replica is one of the voters.
    pub fn is_voter(&self) -> bool {
        self.voters().contains(&self.config.node)
    }

    /// Whether this replica stands for election. One that is not among the voters any more still does as long as that is not
    /// known to be committed: the others may need the records that only it has (Ongaro's dissertation, section 4.2.2).
    /// Nor does one whose log lacks what it once had: it may have been what made that committed.
    fn may_stand(&self) -> bool {
        let (own, committed) = (&self.config.node, self.high_watermark);
        self.config.can_become_voter
            && self.lost_end().is_none()
            && self.history.may_vote(own, committed)
    }

    /// Where the log ended before some of it was lost, as long as the leader has not brought all of that back
    /// ([`Restored::lost`]).
    pub fn lost_end(&self) -> Option<LogEnd> {
        #[cfg(test)]
        if self.has(tests::Planted::ForgetsLoss) {
            return None;
        }
        self.lost
    }

    /// The voters, as the last record in the log says, committed or not.
    pub fn voters(&self) -> &VoterSet {
        self.history.voters()
    }

    /// The finalized level of `kraft.version`, as the last record in the log says.
    pub fn kraft_version(&self) -> i16 {
        self.history.kraft_version()
    }

    /// Whether this replica follows a leader, and has all that is committed as far as the leader has said.
    pub fn has_all_committed(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.leader_high_watermark == Some(self.high_watermark),
            _ => false,
        }
    }

    /// The epoch that the replica is in.
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The leader as far as it is known. A leader that has resigned still names itself: it did lead in this epoch.
    pub fn leader_and_epoch(&self) -> LeaderAndEpoch {
        let (leader_id, endpoints) = self.role.leader(self.config.node.id);
        let endpoints = match leader_id {
            Some(id) if id == self.config.node.id => self.config.endpoints.clone(),
            Some(id) if endpoints.is_empty() => self.voters().endpoints(id),
            _ => endpoints.to_vec(),
        };
        LeaderAndEpoch {
            leader_id,
            leader_epoch: self.leader_epoch,
            endpoints,
        }
    }

    /// Everything below it is committed.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The offset that the next record will get.
    pub const fn log_end_offset(&self) -> Offset {
        self.log.end()
    }

    /// After [`Input::Shutdown`] or [`Input::Failed`]: whether all voters know that this node leads no longer, so that the
    /// process may end.
    pub const fn has_handed_over(&self) -> bool {
        match &self.role {
            Role::Resigned(resigned) => resigned.unacknowledged.is_empty(),
            _ => true,
        }
    }

    fn names_this_node(&self, id: NodeId) -> bool {
        id == self.config.node.id
    }

    /// Asserts everything that must hold between two inputs.
    ///
    /// # Panics
    /// If something does not hold: a defect of this program.
    pub fn check(&self) {
        self.log.check();
        assert!(
            self.high_watermark <= self.log.end(),
            "committed what is not there: {self:?}"
        );
        if let Role::Leader(leader) = &self.role {
            assert!(
                !self.voters().is_empty() && !leader.granting_voters.is_empty(),
                "not elected: {self:?}"
            );
            if let Phase::Beginning { epoch_start_offset } = leader.phase {
                assert!(
                    self.high_watermark <= epoch_start_offset,
                    "committed too early: {self:?}"
                );
            }
        }
        if let Role::Follower(follower) = &self.role {
            assert!(
                !self.names_this_node(follower.leader_id),
                "follows itself: {self:?}"
            );
        }
    }

    #[cfg(test)]
    fn has(&self, planted: tests::Planted) -> bool {
        self.planted == Some(planted)
    }
}
