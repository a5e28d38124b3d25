//! One replica of a data partition.
//!
//! The owner (a partition of the broker, or of the simulator) holds the log and this machine side by side. It tells the
//! machine what the metadata says, what has become of the log, and what other nodes have asked and answered; it carries out
//! what comes back: publishes watermarks, asks the leader or the controller, appends and truncates.
//!
//! A leader keeps the ISR: it learns from the fetches of its followers how far they are, and asks the controller for every
//! change ([`Effect::AlterPartition`]), since whoever the controller elects must have everything that was acknowledged.
//! A follower says what it wants next ([`Effect::AskLeader`]), and truncates when its log is not a beginning of the
//! leader's ([`crate::divergence`]).

mod event;
mod follower;
mod isr;
mod leader;
mod leadership;
mod planted;
mod watermarks;
#[cfg(test)]
mod world;

use std::task::Poll;
use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset};

pub use self::event::{
    AlterPartition, AlteredPartition, Ask, BecomeFollower, BecomeLeader, Broker, Effect,
    FetchAnswer, FetchState, FollowerFetch, Input, IsrMember, LogRange, UNKNOWN_BROKER_EPOCH,
};
pub use self::follower::Follower;
use self::follower::OwnLog;
pub use self::leader::Leader;
pub use self::leadership::Leadership;
use self::planted::{Bug, planted};
use self::watermarks::Unstable;
pub use self::watermarks::Watermarks;
use crate::divergence::{Branch, EpochEnd, compare};

/// What a replica must know that is not in the log or the metadata of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node.
    pub node_id: NodeId,
    /// `min.insync.replicas`: with fewer replicas in sync, `acks=all` is refused and nothing becomes committed.
    pub min_insync_replicas: u32,
    /// When this replica counts a record as its own.
    pub durable_when: DurableWhen,
    /// `replica.lag.time.max.ms`: who has not caught up with the leader for so long leaves the ISR.
    pub replica_lag_time_max_ms: u32,
    /// How long a leader waits before it asks the controller again, after a refusal or when no answer came.
    pub alter_partition_backoff_ms: u32,
    /// `replica.fetch.backoff.ms`: how long a follower waits before it asks its leader again, after an error.
    pub fetch_backoff_ms: u32,
}

impl Config {
    /// Kafka's defaults: one replica in sync is enough, 30 s of lag, and 1 s between tries; every record is flushed.
    pub const fn new(node_id: NodeId) -> Self {
        Self {
            node_id,
            min_insync_replicas: 1,
            durable_when: DurableWhen::Flushed,
            replica_lag_time_max_ms: 30_000,
            alter_partition_backoff_ms: 50,
            fetch_backoff_ms: 1_000,
        }
    }

    fn replica_lag_time_max(&self) -> Duration {
        Duration::from_millis(u64::from(self.replica_lag_time_max_ms))
    }

    fn alter_partition_backoff(&self) -> Duration {
        Duration::from_millis(u64::from(self.alter_partition_backoff_ms))
    }

    fn fetch_backoff(&self) -> Duration {
        Duration::from_millis(u64::from(self.fetch_backoff_ms))
    }
}

/// When a replica vouches for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DurableWhen {
    /// When it was flushed to the disk.
    Flushed,
    /// When it was appended; a power failure may take it back, and then only the other replicas have it.
    Appended,
}

/// What was found on the disk when the log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The first offset of the log.
    pub log_start_offset: Offset,
    /// The offset after the last record.
    pub log_end_offset: Offset,
    /// Everything below it is known to survive a power failure.
    pub durable_end_offset: Offset,
    /// The high watermark out of the checkpoint. One that the durable log does not reach is lowered.
    pub high_watermark: Offset,
    /// The leader epoch of the last record, [`LeaderEpoch::NONE`] without one.
    pub last_epoch: LeaderEpoch,
    /// The first offset of the oldest transaction that is open at the end, if any.
    pub first_unstable_offset: Option<Offset>,
}

impl Default for Restored {
    /// An empty log.
    fn default() -> Self {
        Self {
            log_start_offset: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            durable_end_offset: Offset::ZERO,
            high_watermark: Offset::ZERO,
            last_epoch: LeaderEpoch::NONE,
            first_unstable_offset: None,
        }
    }
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// One replica of a data partition. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    config: Config,
    role: Role,
    watermarks: Watermarks,
    /// The leader epoch of the last record.
    last_epoch: LeaderEpoch,
    unstable: Unstable,
    /// The id of the last request to the controller.
    alter_partition_id: u64,
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
            last_epoch: restored.last_epoch,
            unstable: Unstable::new(restored.first_unstable_offset),
            alter_partition_id: 0,
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
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let now = now.instant;
        let before = (self.watermarks, self.low_watermark(), self.asks());
        if let Role::Leader(leader) = &mut self.role {
            leader.see(now);
        }
        self.take(now, input, effects);
        match &mut self.role {
            Role::Leader(leader) => {
                let id = self.alter_partition_id + 1;
                let request = leader.recovered(self.config.node_id, id);
                self.ask_controller(request, effects);
            }
            Role::Follower(follower) => {
                self.watermarks.high_watermark = follower.high_watermark(&self.watermarks);
                follower.follow_log_start(&self.watermarks, effects);
            }
            Role::Unassigned | Role::Offline => {}
        }
        self.advance_high_watermark();
        self.update_last_stable_offset();
        self.watermarks.check();
        let (marks, low_watermark, asks) = before;
        if self.watermarks != marks {
            effects.push(Effect::PublishWatermarks(self.watermarks));
        }
        match (low_watermark, self.low_watermark()) {
            (Ok(before), Ok(low_watermark)) if low_watermark > before => {
                effects.push(Effect::PublishLowWatermark(low_watermark));
            }
            _ => {}
        }
        if self.asks() != asks {
            effects.push(Effect::AskLeader(self.asks()));
        }
    }

    fn take(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Timeout => self.timed_out(now, effects),
            Input::BecomeLeader(state) => self.become_leader(now, &state, effects),
            Input::BecomeFollower(state) => self.become_follower(&state, effects),
            Input::BrokerChanged(broker) => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.broker_changed(self.config.node_id, broker);
                }
            }
            Input::Appended {
                end,
                leader_epoch,
                first_unstable_offset,
            } => self.appended(end, leader_epoch, first_unstable_offset),
            Input::Flushed { end } => self.flushed(end),
            Input::Fetched(fetch) => self.fetched(&fetch, effects),
            Input::AlterPartitionAnswered { id, answer } => {
                if let Role::Leader(leader) = &mut self.role
                    && leader.altered(id, answer, self.config.alter_partition_backoff())
                {
                    effects.push(Effect::WakeWaiters);
                }
            }
            Input::FetchAnswered { request, answer } => {
                let (log, backoff) = (self.own_log(), self.config.fetch_backoff());
                if let Role::Follower(follower) = &mut self.role {
                    follower.fetch_answered(now, (&request, answer), log, backoff, effects);
                }
            }
            Input::OffsetsAnswered {
                leader_epoch,
                answer,
            } => {
                let backoff = self.config.fetch_backoff();
                if let Role::Follower(follower) = &mut self.role {
                    let answer = (leader_epoch, answer);
                    follower.offsets_answered(now, answer, &self.watermarks, backoff, effects);
                }
            }
            Input::AppendRefused => {
                if let Role::Follower(follower) = &mut self.role {
                    follower.delay(now, self.config.fetch_backoff());
                }
            }
            Input::Truncated {
                end,
                last_epoch,
                first_unstable_offset,
            } => self.truncated(end, last_epoch, first_unstable_offset),
            Input::Restarted { offset } => self.restarted(offset),
            Input::LogStartAdvanced { log_start_offset } => {
                self.log_start_advanced(log_start_offset);
            }
            Input::ConfigChanged(config) => self.config_changed(config, effects),
            Input::Failed => {
                self.role = Role::Offline;
                effects.push(Effect::WakeWaiters);
            }
        }
    }

    fn timed_out(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match &mut self.role {
            Role::Leader(leader) => {
                let request = leader.timed_out(
                    self.config.node_id,
                    self.alter_partition_id + 1,
                    self.watermarks.log_end_offset,
                    self.config.replica_lag_time_max(),
                );
                self.ask_controller(request, effects);
            }
            Role::Follower(follower) => follower.timed_out(now),
            Role::Unassigned | Role::Offline => {}
        }
    }

    fn ask_controller(&mut self, request: Option<AlterPartition>, effects: &mut Vec<Effect>) {
        if let Some(request) = request {
            self.alter_partition_id = request.id;
            effects.push(Effect::AlterPartition(request));
        }
    }

    fn become_leader(&mut self, now: Instant, state: &BecomeLeader, effects: &mut Vec<Effect>) {
        if self.is_outdated(state.partition_epoch) {
            return;
        }
        let node_id = self.config.node_id;
        match &mut self.role {
            Role::Leader(leader) if leader.leader_epoch == state.leader_epoch => {
                if leader.update(node_id, state) {
                    effects.push(Effect::WakeWaiters);
                }
            }
            _ => {
                effects.push(Effect::WakeWaiters);
                let start_offset = self.watermarks.log_end_offset;
                effects.push(Effect::StartLeaderEpoch {
                    leader_epoch: state.leader_epoch,
                    start_offset,
                });
                self.role = Role::Leader(Leader::new(node_id, now, start_offset, state));
            }
        }
    }

    fn become_follower(&mut self, state: &BecomeFollower, effects: &mut Vec<Effect>) {
        if self.is_outdated(state.partition_epoch) {
            return;
        }
        match &mut self.role {
            // A change of the ISR is no business of a follower.
            Role::Follower(follower) if follower.leader_epoch == state.leader_epoch => {
                follower.partition_epoch = state.partition_epoch;
                follower.leader = state.leader;
            }
            _ => {
                effects.push(Effect::WakeWaiters);
                let mut follower = Follower::new(state);
                let marks = &self.watermarks;
                if planted(Bug::TruncateToHighWatermark)
                    && marks.high_watermark < marks.log_end_offset
                {
                    follower.truncate(marks.high_watermark, marks, effects);
                }
                self.role = Role::Follower(follower);
            }
        }
    }

    /// Whether the replica knows a later state of the partition already, or is beyond caring.
    ///
    /// A leader learns of a change from the controller's answer, and hears of it from the metadata once more.
    fn is_outdated(&self, partition_epoch: i32) -> bool {
        match &self.role {
            Role::Unassigned => false,
            Role::Offline => true,
            Role::Leader(_) if planted(Bug::OutdatedMetadata) => false,
            Role::Leader(leader) => partition_epoch < leader.partition_epoch,
            Role::Follower(follower) => partition_epoch <= follower.partition_epoch,
        }
    }

    fn appended(
        &mut self,
        end: Offset,
        leader_epoch: LeaderEpoch,
        first_unstable_offset: Option<Offset>,
    ) {
        assert!(
            end >= self.watermarks.log_end_offset,
            "appending moved the log end offset back to {end}"
        );
        if let Role::Leader(leader) = &self.role {
            assert_eq!(
                leader_epoch, leader.leader_epoch,
                "a leader appends in its epoch"
            );
        }
        self.watermarks.log_end_offset = end;
        self.last_epoch = leader_epoch;
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

    fn fetched(&mut self, fetch: &FollowerFetch, effects: &mut Vec<Effect>) {
        if self.check_fetch(fetch) != Ok(None) {
            return;
        }
        if let Role::Leader(leader) = &mut self.role {
            let id = self.alter_partition_id + 1;
            let request = leader.fetched(self.config.node_id, id, fetch, &self.watermarks);
            self.ask_controller(request, effects);
        }
    }

    fn truncated(
        &mut self,
        end: Offset,
        last_epoch: LeaderEpoch,
        first_unstable_offset: Option<Offset>,
    ) {
        assert!(
            !matches!(self.role, Role::Leader(_)),
            "a leader does not truncate its log"
        );
        let marks = &mut self.watermarks;
        assert!(
            end <= marks.log_end_offset,
            "truncating moved the log end offset forward to {end}"
        );
        marks.log_end_offset = end;
        marks.durable_end_offset = marks.durable_end_offset.min(end);
        marks.high_watermark = marks.high_watermark.min(end);
        // A log start offset in the middle of a batch goes with the batch.
        marks.log_start_offset = marks.log_start_offset.min(end);
        self.last_epoch = last_epoch;
        self.unstable.truncated(end, first_unstable_offset);
        if let Role::Follower(follower) = &mut self.role {
            follower.truncated();
        }
    }

    fn restarted(&mut self, offset: Offset) {
        assert!(
            !matches!(self.role, Role::Leader(_)),
            "a leader does not drop its log"
        );
        self.watermarks = Watermarks {
            log_start_offset: offset,
            last_stable_offset: offset,
            high_watermark: offset,
            durable_end_offset: offset,
            log_end_offset: offset,
        };
        self.last_epoch = LeaderEpoch::NONE;
        self.unstable = Unstable::default();
        if let Role::Follower(follower) = &mut self.role {
            follower.truncated();
        }
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
        let lag_max = self.config.replica_lag_time_max();
        if let Some(end) = leader.replicated_end(&self.watermarks, lag_max) {
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

    /// How this leader is to answer a follower's fetch: with records from where it asks, with the epoch from which on their
    /// logs part, or with an error: those of [`check_follower`](Self::check_follower), `OFFSET_OUT_OF_RANGE`, and
    /// `NOT_LEADER_OR_FOLLOWER` for an incarnation of the broker that is gone (KIP-903).
    ///
    /// Under the same lock, [`Input::Fetched`] is to follow.
    pub fn check_fetch(&self, fetch: &FollowerFetch) -> Result<Option<EpochEnd>, ErrorCode> {
        let epoch = if planted(Bug::FetchesOfOtherEpochs) {
            LeaderEpoch::NONE
        } else {
            fetch.current_leader_epoch
        };
        self.check_follower(fetch.replica, epoch)?;
        let marks = &self.watermarks;
        let branch = compare(
            fetch.last_fetched_epoch,
            fetch.fetch_offset,
            fetch.epoch_end,
        );
        if branch == Branch::Unknown || fetch.fetch_offset < marks.log_start_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if let Branch::Diverging(end) = branch
            && !planted(Bug::NoDivergenceCheck)
        {
            return Ok(Some(end));
        }
        if fetch.fetch_offset > marks.log_end_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if self.leader()?.is_stale(fetch) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        Ok(None)
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
            Ok(leader) if leader.is_enough_replicated(self.config.min_insync_replicas) => {
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

    /// Whether a DeleteRecords request of `leader_epoch`, up to `offset`, is done: when all live replicas have deleted what
    /// lies below. Gives the low watermark.
    ///
    /// Ask again after [`Effect::PublishLowWatermark`] and [`Effect::WakeWaiters`].
    pub fn poll_deleted(
        &self,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Poll<Result<Offset, ErrorCode>> {
        let low_watermark = self
            .leader_in(leader_epoch)
            .and_then(|_| self.low_watermark());
        match low_watermark {
            Ok(low_watermark) if low_watermark < offset => Poll::Pending,
            done => Poll::Ready(done),
        }
    }

    /// The lowest log start offset of this leader and its live followers; [`Offset::NONE`] while one of them has not been
    /// heard of in this epoch.
    pub fn low_watermark(&self) -> Result<Offset, ErrorCode> {
        let leader = self.leader()?;
        Ok(leader.low_watermark(self.watermarks.log_start_offset))
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

    /// What a follower wants of its leader, as the last [`Effect::AskLeader`] said.
    pub fn asks(&self) -> Option<Ask> {
        match &self.role {
            Role::Follower(follower) => follower.asks(self.own_log()),
            _ => None,
        }
    }

    const fn own_log(&self) -> OwnLog {
        OwnLog {
            marks: self.watermarks,
            last_epoch: self.last_epoch,
        }
    }

    /// When to hand in [`Input::Timeout`], if nothing happens before. A little later does no harm.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => leader.deadline(&self.watermarks, &self.config),
            Role::Follower(follower) => follower.deadline(),
            Role::Unassigned | Role::Offline => None,
        }
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
            leader.check(self.config.node_id);
            if leader.is_enough_in_sync(self.config.min_insync_replicas) {
                let replicated = leader.replicated_end(marks, self.config.replica_lag_time_max());
                assert!(
                    replicated.is_none_or(|end| end <= marks.high_watermark),
                    "held back: {self:?}"
                );
            }
        }
        if let Some(Ask::Records(fetch)) = self.asks() {
            assert!(
                fetch.fetch_offset <= marks.durable_end_offset,
                "a follower says that it has what it may lose: {self:?}"
            );
        }
    }
}
