//! One replica of a data partition.
//!
//! The owner (a partition of the broker, or of the simulator) holds the log and this machine side by side. It tells the
//! machine what the metadata says and what has become of the log, and publishes the watermarks that come out.

mod event;
mod leader;
mod leadership;
mod watermarks;

use std::task::Poll;

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset};

pub use self::event::{BecomeFollower, BecomeLeader, Effect, Input};
pub use self::leader::Leader;
pub use self::leadership::Leadership;
use self::watermarks::Unstable;
pub use self::watermarks::Watermarks;

/// What a replica must know that is not in the log or the metadata of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node_id: NodeId,
    /// `min.insync.replicas`: with fewer replicas in sync, `acks=all` is refused and nothing becomes committed.
    pub min_insync_replicas: usize,
    /// When this replica counts a record as its own.
    pub durable_when: DurableWhen,
}

/// When a replica vouches for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurableWhen {
    /// When it was flushed to the disk.
    Flushed,
    /// When it was appended; a power failure may take it back, and then only the other replicas have it.
    Appended,
}

/// What was found on the disk when the log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Restored {
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// The offset after the last record.
    pub log_end_offset: Offset,
    /// Everything below it is known to survive a power failure.
    pub durable_end_offset: Offset,
    /// The high watermark out of the checkpoint. One that the durable log does not reach is lowered.
    pub high_watermark: Offset,
    /// The first offset of the oldest transaction that is open at the end, if any.
    pub first_unstable_offset: Option<Offset>,
}

/// The part that a replica plays.
///
/// ```text
///                    BecomeLeader
///   Unassigned ─────────────────────► Leader ◄─┐ BecomeLeader: same epoch, new ISR or replicas;
///       │                             │    ▲ └─┘               or a later epoch, begun anew
///       │ BecomeFollower              │    │
///       │               BecomeFollower│    │BecomeLeader
///       │                             ▼    │
///       └───────────────────────────► Follower ◄─┐ BecomeFollower: later epoch
///                                         └──────┘
///   any ── Failed ──► Offline (final)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The metadata has not said yet what this replica is.
    Unassigned,
    /// Takes the producers' records and decides what is committed.
    Leader(Leader),
    /// Copies the leader.
    Follower(Follower),
    /// The disk failed.
    Offline,
}

/// What only a follower knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    leader: Option<NodeId>,
}

impl Follower {
    /// The leader that it copies, if the partition has one.
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }
}

/// One replica of a data partition. See the [module](self).
#[derive(Clone, Debug)]
pub struct Replica {
    config: Config,
    role: Role,
    watermarks: Watermarks,
    unstable: Unstable,
}

impl Replica {
    /// A replica of a log that was just opened or created. It has no role until the metadata gives it one.
    pub fn new(config: Config, restored: Restored) -> Self {
        let log_end_offset = restored.log_end_offset;
        let durable_end_offset = match config.durable_when {
            DurableWhen::Flushed => restored.durable_end_offset.min(log_end_offset),
            DurableWhen::Appended => log_end_offset,
        };
        // What is gone cannot be lost.
        let durable_end_offset = durable_end_offset.max(restored.log_start_offset);
        let mut replica = Self {
            config,
            role: Role::Unassigned,
            watermarks: Watermarks {
                log_start_offset: restored.log_start_offset,
                last_stable_offset: restored.log_start_offset,
                high_watermark: restored
                    .high_watermark
                    .min(durable_end_offset)
                    .max(restored.log_start_offset),
                durable_end_offset,
                log_end_offset,
            },
            unstable: Unstable::new(restored.first_unstable_offset),
        };
        replica.update_last_stable_offset();
        replica.check();
        replica
    }

    /// Takes in what has happened, and adds to `effects` what is to be done.
    ///
    /// # Panics
    /// If the input contradicts what happened before (a log that shrinks by appending, a flush beyond the end): a defect
    /// of the caller.
    pub fn handle(&mut self, _now: Now, input: Input, effects: &mut Vec<Effect>) {
        let before = self.watermarks;
        match input {
            Input::BecomeLeader(state) => self.become_leader(state, effects),
            Input::BecomeFollower(state) => self.become_follower(&state, effects),
            Input::Appended {
                end,
                first_unstable_offset,
            } => self.appended(end, first_unstable_offset),
            Input::Flushed { end } => self.flushed(end),
            Input::Fetched { replica, offset } => self.fetched(replica, offset),
            Input::FetchAnswered { high_watermark } => self.fetch_answered(high_watermark),
            Input::Truncated {
                end,
                first_unstable_offset,
            } => self.truncated(end, first_unstable_offset),
            Input::LogStartAdvanced { log_start_offset } => {
                self.log_start_advanced(log_start_offset)
            }
            Input::ConfigChanged(config) => self.config_changed(config, effects),
            Input::Failed => {
                self.role = Role::Offline;
                effects.push(Effect::WakeWaiters);
            }
        }
        self.advance_high_watermark();
        self.update_last_stable_offset();
        self.watermarks.check();
        if self.watermarks != before {
            effects.push(Effect::PublishWatermarks(self.watermarks));
        }
    }

    fn become_leader(&mut self, state: BecomeLeader, effects: &mut Vec<Effect>) {
        if self.is_outdated(state.leader_epoch, state.partition_epoch) {
            return;
        }
        effects.push(Effect::WakeWaiters);
        let node_id = self.config.node_id;
        match &mut self.role {
            Role::Leader(leader) if leader.leader_epoch == state.leader_epoch => {
                leader.update(node_id, state)
            }
            _ => {
                let start_offset = self.watermarks.log_end_offset;
                effects.push(Effect::StartLeaderEpoch {
                    leader_epoch: state.leader_epoch,
                    start_offset,
                });
                self.role = Role::Leader(Leader::new(node_id, start_offset, state));
            }
        }
    }

    fn become_follower(&mut self, state: &BecomeFollower, effects: &mut Vec<Effect>) {
        if self.is_outdated(state.leader_epoch, state.partition_epoch) {
            return;
        }
        effects.push(Effect::WakeWaiters);
        self.role = Role::Follower(Follower {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            leader: state.leader,
        });
    }

    /// Whether the replica knows this state of the partition already, or a later one, or is beyond caring.
    fn is_outdated(&self, leader_epoch: LeaderEpoch, partition_epoch: i32) -> bool {
        let known = match &self.role {
            Role::Unassigned => return false,
            Role::Offline => return true,
            Role::Leader(leader) => (leader.leader_epoch, leader.partition_epoch),
            Role::Follower(follower) => (follower.leader_epoch, follower.partition_epoch),
        };
        (leader_epoch, partition_epoch) <= known
    }

    fn appended(&mut self, end: Offset, first_unstable_offset: Option<Offset>) {
        assert!(
            end >= self.watermarks.log_end_offset,
            "appending moved the log end offset back to {end}"
        );
        self.watermarks.log_end_offset = end;
        self.unstable.appended(end, first_unstable_offset);
        if self.config.durable_when == DurableWhen::Appended {
            self.watermarks.durable_end_offset = end;
        }
    }

    fn flushed(&mut self, end: Offset) {
        assert!(
            end <= self.watermarks.log_end_offset,
            "flushed up to {end}, beyond the log end offset"
        );
        // Flushes may be reported out of order, and after a change from `Appended` an older one may come in.
        self.watermarks.durable_end_offset = self.watermarks.durable_end_offset.max(end);
    }

    fn fetched(&mut self, replica: NodeId, offset: Offset) {
        if let Role::Leader(leader) = &mut self.role {
            leader.fetched(replica, offset);
        }
    }

    fn fetch_answered(&mut self, high_watermark: Offset) {
        if let Role::Follower(_) = self.role {
            let reached = high_watermark.min(self.watermarks.log_end_offset);
            self.watermarks.high_watermark = self.watermarks.high_watermark.max(reached);
        }
    }

    fn truncated(&mut self, end: Offset, first_unstable_offset: Option<Offset>) {
        assert!(
            !matches!(self.role, Role::Leader(_)),
            "a leader does not truncate its log"
        );
        let marks = &mut self.watermarks;
        assert!(
            end >= marks.log_start_offset,
            "truncated to {end}, below the log start offset"
        );
        assert!(
            end <= marks.log_end_offset,
            "truncating moved the log end offset forward to {end}"
        );
        marks.log_end_offset = end;
        marks.durable_end_offset = marks.durable_end_offset.min(end);
        marks.high_watermark = marks.high_watermark.min(end);
        self.unstable.truncated(end, first_unstable_offset);
    }

    fn log_start_advanced(&mut self, log_start_offset: Offset) {
        assert!(
            log_start_offset >= self.watermarks.log_start_offset,
            "the log start offset went back"
        );
        assert!(
            log_start_offset <= self.watermarks.high_watermark,
            "deleted up to {log_start_offset}, beyond the high watermark"
        );
        self.watermarks.log_start_offset = log_start_offset;
        // What is gone cannot be lost.
        self.watermarks.durable_end_offset =
            self.watermarks.durable_end_offset.max(log_start_offset);
    }

    fn config_changed(&mut self, config: Config, effects: &mut Vec<Effect>) {
        assert_eq!(
            config.node_id, self.config.node_id,
            "a replica stays on its node"
        );
        self.config = config;
        if config.durable_when == DurableWhen::Appended {
            self.watermarks.durable_end_offset = self.watermarks.log_end_offset;
        }
        effects.push(Effect::WakeWaiters);
    }

    /// KIP-966: with too few replicas in sync nothing becomes committed, so that one which comes back can be elected
    /// without losing what was promised.
    fn advance_high_watermark(&mut self) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        if !leader.is_enough_in_sync(self.config.min_insync_replicas) {
            return;
        }
        if let Some(end) = leader.replicated_end(self.watermarks.durable_end_offset) {
            self.watermarks.high_watermark = self.watermarks.high_watermark.max(end);
        }
    }

    fn update_last_stable_offset(&mut self) {
        let stable = self.unstable.advance(self.watermarks.high_watermark);
        // Deleting records may take the beginning of an open transaction with it.
        self.watermarks.last_stable_offset = stable.max(self.watermarks.log_start_offset);
    }

    /// Whether this replica leads, in the epoch that the request names: [`Leadership::check_leader_epoch`].
    pub fn check_leader_epoch(&self, current_leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        self.leadership().check_leader_epoch(current_leader_epoch)
    }

    /// Whether this replica leads and `replica` is one of its followers, in the epoch that the request names.
    ///
    /// One that is not assigned may know of an assignment that this leader has yet to hear of.
    pub fn check_follower(
        &self,
        replica: NodeId,
        current_leader_epoch: LeaderEpoch,
    ) -> Result<(), ErrorCode> {
        self.check_leader_epoch(current_leader_epoch)?;
        if self.leader()?.has_follower(replica) {
            Ok(())
        } else if current_leader_epoch == LeaderEpoch::NONE {
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        } else {
            Err(ErrorCode::UNKNOWN_LEADER_EPOCH)
        }
    }

    /// Whether a batch with `acks=all` may be appended: `NOT_ENOUGH_REPLICAS` if it could not be acknowledged anyway.
    pub fn check_min_isr(&self) -> Result<(), ErrorCode> {
        if self
            .leader()?
            .is_enough_in_sync(self.config.min_insync_replicas)
        {
            Ok(())
        } else {
            Err(ErrorCode::NOT_ENOUGH_REPLICAS)
        }
    }

    /// Whether a batch with `acks=all` that was appended in `leader_epoch` and ends before `end` can be acknowledged.
    ///
    /// Ask again when the watermarks move and after [`Effect::WakeWaiters`].
    pub fn poll_committed(
        &self,
        leader_epoch: LeaderEpoch,
        end: Offset,
    ) -> Poll<Result<(), ErrorCode>> {
        match self.leader_in(leader_epoch) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) if self.watermarks.high_watermark < end => Poll::Pending,
            Ok(leader) if leader.is_enough_in_sync(self.config.min_insync_replicas) => {
                Poll::Ready(Ok(()))
            }
            Ok(_) => Poll::Ready(Err(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND)),
        }
    }

    /// Whether a batch with `acks=1` that was appended in `leader_epoch` and ends before `end` can be acknowledged: when
    /// this replica alone vouches for it.
    pub fn poll_durable(
        &self,
        leader_epoch: LeaderEpoch,
        end: Offset,
    ) -> Poll<Result<(), ErrorCode>> {
        match self.leader_in(leader_epoch) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) if self.watermarks.durable_end_offset < end => Poll::Pending,
            Ok(_) => Poll::Ready(Ok(())),
        }
    }

    /// The new log start offset that a DeleteRecords request asks for: `offset`, or the high watermark for
    /// [`Offset::NONE`]. What is not committed cannot be deleted: `OFFSET_OUT_OF_RANGE`.
    pub fn delete_records_end(&self, offset: Offset) -> Result<Offset, ErrorCode> {
        self.leader()?;
        let marks = &self.watermarks;
        match offset {
            Offset::NONE => Ok(marks.high_watermark),
            offset if offset < Offset::ZERO || offset > marks.high_watermark => {
                Err(ErrorCode::OFFSET_OUT_OF_RANGE)
            }
            offset => Ok(offset.max(marks.log_start_offset)),
        }
    }

    fn leader(&self) -> Result<&Leader, ErrorCode> {
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            Role::Offline => Err(ErrorCode::KAFKA_STORAGE_ERROR),
            Role::Unassigned | Role::Follower(_) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        }
    }

    fn leader_in(&self, leader_epoch: LeaderEpoch) -> Result<&Leader, ErrorCode> {
        self.leader().and_then(|leader| {
            if leader.leader_epoch == leader_epoch {
                Ok(leader)
            } else {
                Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
            }
        })
    }

    /// The part that the replica plays now.
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// The offsets that divide the log.
    pub const fn watermarks(&self) -> Watermarks {
        self.watermarks
    }

    /// The configuration in force.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The leader epoch of the partition: [`Leadership::leader_epoch`].
    pub const fn leader_epoch(&self) -> LeaderEpoch {
        self.leadership().leader_epoch()
    }

    /// Who leads, for publishing along with the watermarks.
    pub const fn leadership(&self) -> Leadership {
        match &self.role {
            Role::Unassigned => Leadership::Unassigned,
            Role::Leader(leader) => Leadership::Leader {
                leader_epoch: leader.leader_epoch,
                epoch_start_offset: leader.epoch_start_offset,
            },
            Role::Follower(follower) => Leadership::Follower {
                leader_epoch: follower.leader_epoch,
                leader: follower.leader,
            },
            Role::Offline => Leadership::Offline,
        }
    }

    /// Whether somebody may be waiting for a flush: this replica does not vouch for all of its records yet.
    pub fn needs_flush(&self) -> bool {
        self.role != Role::Offline
            && self.watermarks.durable_end_offset < self.watermarks.log_end_offset
    }

    /// Asserts everything that must hold between two inputs.
    ///
    /// # Panics
    /// If something does not hold: a defect of this program.
    pub fn check(&self) {
        let marks = &self.watermarks;
        marks.check();
        self.unstable.check(marks.high_watermark);
        if self.config.durable_when == DurableWhen::Appended {
            assert_eq!(
                marks.durable_end_offset, marks.log_end_offset,
                "appended is durable"
            );
        }
        if let Role::Leader(leader) = &self.role {
            // Below the beginning of its epoch, the leader takes the word of the one before it.
            let committable = marks.durable_end_offset.max(leader.epoch_start_offset);
            assert!(
                marks.high_watermark <= committable,
                "committed what the leader may lose: {self:?}"
            );
            assert!(
                leader.epoch_start_offset <= marks.log_end_offset,
                "an epoch begins within the log: {self:?}"
            );
            assert!(
                !leader.has_follower(self.config.node_id),
                "a leader does not follow itself"
            );
            if leader.is_enough_in_sync(self.config.min_insync_replicas) {
                let replicated = leader.replicated_end(marks.durable_end_offset);
                assert!(
                    replicated.is_none_or(|end| end <= marks.high_watermark),
                    "held back: {self:?}"
                );
            }
        }
    }
}
