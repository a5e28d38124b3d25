use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::event::{
    AlterPartition, AlteredPartition, BecomeLeader, Broker, FollowerFetch, IsrMember, LogRange,
    UNKNOWN_BROKER_EPOCH,
};
use super::isr::{IsrChange, Outcome};
use super::planted::{Bug, planted};
use super::{Config, Watermarks};

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: i32,
    /// The log end offset at the beginning of the epoch.
    pub(super) epoch_start_offset: Offset,
    /// The controller has not heard yet that this leader has recovered from an unclean election.
    recovering: bool,
    change: IsrChange,
    /// All replicas but this one.
    followers: Box<[Progress]>,
    /// How many of the replicas are being added.
    adding_replicas: u32,
    /// This node's own registration.
    broker_epoch: i64,
    /// The moment of the last input.
    seen: Instant,
}

/// How far a follower is known to have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Progress {
    id: NodeId,
    /// Whether it is in the ISR, as the controller has it.
    in_isr: bool,
    /// What the metadata says of its broker, if it is registered.
    broker: Option<Broker>,
    /// Its last fetch in this epoch.
    fetch: Option<LastFetch>,
    /// The last moment at which it is known to have had everything that the leader had. For one that has not fetched yet,
    /// and is in the ISR, the beginning of the epoch.
    caught_up_at: Option<Instant>,
}

/// What a follower said with its last fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LastFetch {
    at: Instant,
    /// Everything below it, the follower has.
    log_end_offset: Offset,
    log_start_offset: Offset,
    broker_epoch: i64,
    /// The leader's log end offset at that moment.
    leader_end_offset: Offset,
}

impl Progress {
    const fn new(id: NodeId) -> Self {
        Self {
            id,
            in_isr: false,
            broker: None,
            fetch: None,
            caught_up_at: None,
        }
    }

    /// Notes a fetch. A follower that has got as far as the leader was at its fetch before had caught up then; so one that
    /// is always a little behind a busy leader counts as caught up.
    fn fetched(&mut self, now: Instant, fetch: &FollowerFetch, leader_end_offset: Offset) {
        let offset = fetch.fetch_offset;
        let caught_up_at = match self.fetch {
            _ if offset >= leader_end_offset => Some(now),
            Some(last) if offset >= last.leader_end_offset => Some(last.at),
            _ => None,
        };
        self.caught_up_at = self.caught_up_at.max(caught_up_at);
        let known_end = self.fetch.map_or(leader_end_offset, |last| {
            last.leader_end_offset.max(leader_end_offset)
        });
        self.fetch = Some(LastFetch {
            at: now,
            log_end_offset: offset,
            log_start_offset: fetch.log_start_offset,
            broker_epoch: fetch.broker_epoch,
            leader_end_offset: known_end,
        });
    }

    fn log_end_offset(&self) -> Option<Offset> {
        self.fetch.map(|fetch| fetch.log_end_offset)
    }

    fn is_live(&self) -> bool {
        self.broker.is_some_and(|broker| !broker.fenced)
    }

    /// Whether its broker may have a replica in the ISR. What it fetched under an earlier registration says nothing of what
    /// it has now: it may have come back with an empty disk (KIP-903).
    fn is_eligible(&self) -> bool {
        let (Some(broker), Some(fetch)) = (self.broker, self.fetch) else {
            return false;
        };
        let same_registration = fetch.broker_epoch == UNKNOWN_BROKER_EPOCH
            || fetch.broker_epoch == broker.broker_epoch
            || planted(Bug::ExpandWithoutBrokerEpoch);
        !broker.fenced && !broker.in_controlled_shutdown && same_registration
    }

    /// Whether it has, or has had until a short while ago, everything that the leader has.
    fn is_caught_up(&self, log_end_offset: Offset, now: Instant, lag_max: Duration) -> bool {
        self.log_end_offset() == Some(log_end_offset)
            || self.caught_up_at.is_some_and(|at| now < at + lag_max)
    }
}

impl Leader {
    pub(super) fn new(
        node_id: NodeId,
        now: Instant,
        epoch_start_offset: Offset,
        state: &BecomeLeader,
    ) -> Self {
        let mut leader = Self {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            epoch_start_offset,
            recovering: state.recovering,
            change: IsrChange::SETTLED,
            followers: Box::default(),
            adding_replicas: 0,
            broker_epoch: UNKNOWN_BROKER_EPOCH,
            seen: now,
        };
        leader.set_replicas(node_id, state);
        leader.set_isr(&state.isr);
        leader
    }

    /// Takes over a state of the same leader epoch, which is as new as the known one or newer. What is known of a follower
    /// is kept. Tells whether there is something new in it.
    ///
    /// One that is as new as what an answer of the controller brought has the same ISR, but says what the answer did not: a
    /// finished reassignment has changed the replicas.
    pub(super) fn update(&mut self, node_id: NodeId, state: &BecomeLeader) -> bool {
        let later = state.partition_epoch > self.partition_epoch;
        let before: Vec<_> = self.followers.iter().map(|f| f.id).collect();
        self.set_replicas(node_id, state);
        if later || planted(Bug::OutdatedMetadata) {
            self.partition_epoch = state.partition_epoch;
            self.recovering = state.recovering;
            self.change = IsrChange::SETTLED;
            self.set_isr(&state.isr);
        }
        later || self.followers.iter().map(|f| f.id).ne(before)
    }

    fn set_replicas(&mut self, node_id: NodeId, state: &BecomeLeader) {
        let known = std::mem::take(&mut self.followers);
        let followers = state.replicas.iter().copied().filter(|id| *id != node_id);
        self.followers = followers
            .map(|id| {
                let known = known.iter().find(|follower| follower.id == id);
                known.copied().unwrap_or_else(|| Progress::new(id))
            })
            .collect();
        self.adding_replicas = u32::try_from(state.adding_replicas.len()).unwrap_or(u32::MAX);
        self.broker_epoch = UNKNOWN_BROKER_EPOCH;
        for follower in &mut self.followers {
            follower.broker = None;
        }
        for broker in &state.brokers {
            self.broker_changed(node_id, *broker);
        }
    }

    /// A follower may join the ISR without ever having had everything, and has as much time to catch up as any member.
    fn set_isr(&mut self, isr: &[NodeId]) {
        for follower in &mut self.followers {
            let member = isr.contains(&follower.id);
            if member && !follower.in_isr {
                follower.caught_up_at = Some(self.seen);
            }
            follower.in_isr = member;
        }
    }

    pub(super) fn broker_changed(&mut self, node_id: NodeId, broker: Broker) {
        if broker.id == node_id {
            self.broker_epoch = broker.broker_epoch;
        } else if let Some(follower) = self.followers.iter_mut().find(|f| f.id == broker.id) {
            follower.broker = Some(broker);
        }
    }

    /// Notes that an input came at this moment.
    pub(super) fn see(&mut self, now: Instant) {
        self.seen = self.seen.max(now);
    }

    /// Notes a fetch that [`check_follower`](Self::check_follower) allows; gives the change of the ISR that it calls for.
    pub(super) fn fetched(
        &mut self,
        node_id: NodeId,
        id: u64,
        fetch: &FollowerFetch,
        marks: &Watermarks,
    ) -> Option<AlterPartition> {
        let now = self.seen;
        let follower = self.followers.iter_mut().find(|f| f.id == fetch.replica)?;
        follower.fetched(now, fetch, marks.log_end_offset);
        let follower = *follower;
        self.may_join(&follower, marks)
            .then(|| self.propose(node_id, id, |f| f.in_isr || f.id == follower.id))
    }

    /// Whether a follower may become a member of the ISR: it has everything that is committed, and everything from before
    /// this leader's epoch, of which this leader may not know yet that it is committed.
    ///
    /// And it has deleted what this leader has deleted. Where the leader has no records any more, it cannot tell whether
    /// the follower's are the right ones (Kafka lets it join, and a record that was never committed may come to light when
    /// it leads).
    fn may_join(&self, follower: &Progress, marks: &Watermarks) -> bool {
        let Some(fetch) = follower.fetch else {
            return false;
        };
        let end = fetch.log_end_offset;
        self.change.is_proposable(self.seen)
            && !follower.in_isr
            && follower.is_eligible()
            && (fetch.log_start_offset >= marks.log_start_offset
                || planted(Bug::ExpandBelowLogStart))
            && (end >= marks.high_watermark || planted(Bug::ExpandBelowHighWatermark))
            && (end >= self.epoch_start_offset || planted(Bug::ExpandBelowEpochStart))
    }

    /// What the passing of time calls for: the same request again, or an ISR without those who lag.
    pub(super) fn timed_out(
        &mut self,
        node_id: NodeId,
        id: u64,
        log_end_offset: Offset,
        lag_max: Duration,
    ) -> Option<AlterPartition> {
        if let Some(request) = self.change.retry(self.seen, id) {
            return Some(request);
        }
        let seen = self.seen;
        let lags = |f: &Progress| f.in_isr && !f.is_caught_up(log_end_offset, seen, lag_max);
        (self.change.is_proposable(seen) && self.followers.iter().any(lags))
            .then(|| self.propose(node_id, id, |f| f.in_isr && !lags(f)))
    }

    /// A leader that was elected uncleanly has nothing to recover: what it has is the log. It says so as soon as it leads.
    pub(super) fn recovered(&mut self, node_id: NodeId, id: u64) -> Option<AlterPartition> {
        (self.recovering && self.change.is_proposable(self.seen))
            .then(|| self.propose(node_id, id, |f| f.in_isr))
    }

    fn propose(
        &mut self,
        node_id: NodeId,
        id: u64,
        is_member: impl Fn(&Progress) -> bool,
    ) -> AlterPartition {
        let blind = planted(Bug::ExpandWithoutBrokerEpoch);
        let own = IsrMember {
            id: node_id,
            broker_epoch: self.broker_epoch,
        };
        let members = self.followers.iter().filter(|f| is_member(f));
        let members = members.map(|f| IsrMember {
            id: f.id,
            broker_epoch: match f.fetch {
                Some(fetch) if !blind => fetch.broker_epoch,
                _ => UNKNOWN_BROKER_EPOCH,
            },
        });
        let request = AlterPartition {
            id,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            new_isr: [own].into_iter().chain(members).collect(),
        };
        self.change.propose(request.clone());
        request
    }

    /// Takes the controller's answer; tells whether the ISR or what is wanted of it has changed.
    pub(super) fn altered(
        &mut self,
        id: u64,
        answer: Result<AlteredPartition, ErrorCode>,
        backoff: Duration,
    ) -> bool {
        let outcome = self
            .change
            .answered(self.seen, id, answer, self.leader_epoch, backoff);
        match outcome {
            Outcome::Nothing => return false,
            Outcome::RolledBack => {}
            Outcome::Altered(state) => {
                self.partition_epoch = state.partition_epoch;
                self.recovering = state.recovering;
                self.set_isr(&state.isr);
            }
        }
        true
    }

    /// When something is to be done if nothing happens before.
    pub(super) fn deadline(&self, marks: &Watermarks, config: &Config) -> Option<Instant> {
        let lag_max = config.replica_lag_time_max();
        let behind = |f: &&Progress| f.log_end_offset() != Some(marks.log_end_offset);
        let until = |f: &Progress| f.caught_up_at.map_or(self.seen, |at| at + lag_max);
        // One that leaves the ISR when its time is up.
        let shrink = self.change.proposable_at().and_then(|not_before| {
            let members = self.followers.iter().filter(behind);
            let members = members.filter(|f| f.in_isr);
            let due = members.map(until).min();
            let recovered = self.recovering.then_some(self.seen);
            let due = due.into_iter().chain(recovered).min()?;
            Some(not_before.map_or(due, |at| at.max(due)))
        });
        // One for whom the high watermark waits, since it is about to join.
        let waits = self.followers.iter().filter(behind);
        let waits = waits.filter(|f| f.is_eligible() && !self.is_maximal_member(f));
        let waits = waits.map(until).filter(|at| *at > self.seen);
        waits.chain(shrink).chain(self.change.retry_at()).min()
    }

    pub(super) fn has_follower(&self, replica: NodeId) -> bool {
        self.followers.iter().any(|f| f.id == replica)
    }

    /// Whether a fetch may come from an incarnation of the follower's broker that is gone.
    pub(super) fn is_stale(&self, fetch: &FollowerFetch) -> bool {
        let follower = self.followers.iter().find(|f| f.id == fetch.replica);
        let live = follower.filter(|follower| follower.is_live());
        fetch.broker_epoch != UNKNOWN_BROKER_EPOCH
            && live
                .and_then(|follower| follower.broker)
                .is_some_and(|broker| fetch.broker_epoch < broker.broker_epoch)
    }

    /// How many members the ISR must have. More than there are replicas is never demanded.
    fn effective_min_isr(&self, min_insync_replicas: u32) -> usize {
        (min_insync_replicas as usize).min(self.followers.len() + 1)
    }

    /// Whether the ISR is large enough for records to become committed.
    pub(super) fn is_enough_in_sync(&self, min_insync_replicas: u32) -> bool {
        self.isr_len() >= self.effective_min_isr(min_insync_replicas)
    }

    /// Whether as many replicas have what is committed as `min.insync.replicas` demands.
    pub(super) fn is_enough_replicated(&self, min_insync_replicas: u32) -> bool {
        let maximal = self.followers.iter().filter(|f| self.is_maximal_member(f));
        maximal.count() + 1 >= self.effective_min_isr(min_insync_replicas)
    }

    fn isr_len(&self) -> usize {
        self.in_sync_followers().count() + 1
    }

    /// Whether a follower is in the ISR that the controller has, or in one that it may have.
    ///
    /// Whoever leaves the ISR is a member until the controller has said so, and who joins is one as soon as that was asked
    /// for: if this leader fails, any of them may be elected in its place (KIP-497).
    fn is_maximal_member(&self, follower: &Progress) -> bool {
        match self.change.wants(follower.id) {
            Some(wanted) if planted(Bug::ShrinkAtOnce) => wanted,
            Some(_) if planted(Bug::CommittedIsrOnly) => follower.in_isr,
            Some(wanted) => follower.in_isr || wanted,
            None => follower.in_isr,
        }
    }

    /// The end of what everyone has whom the high watermark waits for, this leader with `own_end` included; nothing while a
    /// member of the ISR has not been heard of in this epoch.
    ///
    /// It waits for the maximal ISR, and for those who are about to join: a follower that has caught up with a busy leader
    /// would else never reach the high watermark.
    pub(super) fn replicated_end(&self, marks: &Watermarks, lag_max: Duration) -> Option<Offset> {
        let counts = |f: &&Progress| {
            self.is_maximal_member(f)
                || f.is_eligible() && f.is_caught_up(marks.log_end_offset, self.seen, lag_max)
        };
        let own_end = if planted(Bug::LeaderCountsUnflushed) {
            marks.log_end_offset
        } else {
            marks.durable_end_offset
        };
        self.followers
            .iter()
            .filter(counts)
            .try_fold(own_end, |end, f| {
                f.log_end_offset().map(|theirs| end.min(theirs))
            })
    }

    /// The lowest log start offset of all replicas that are alive: what lies below it is deleted. [`Offset::NONE`] while
    /// one has not been heard of in this epoch.
    pub(super) fn low_watermark(&self, log_start_offset: Offset) -> Offset {
        let live = self.followers.iter().filter(|f| f.is_live());
        let starts = live.map(|f| f.fetch.map_or(Offset::NONE, |fetch| fetch.log_start_offset));
        starts.fold(log_start_offset, Ord::min)
    }

    pub(super) fn check(&self, node_id: NodeId) {
        assert!(
            !self.has_follower(node_id),
            "a leader does not follow itself: {self:?}"
        );
        self.change
            .check(node_id, self.leader_epoch, self.partition_epoch);
    }

    /// The replicas that are in sync with this one, as the controller has them.
    pub fn in_sync_followers(&self) -> impl Iterator<Item = NodeId> {
        self.followers.iter().filter(|f| f.in_isr).map(|f| f.id)
    }

    /// The logs of the replicas that are in sync with this one, as their last fetches told.
    pub fn in_sync_logs(&self) -> impl Iterator<Item = (NodeId, LogRange)> {
        let members = self.followers.iter().filter(|f| f.in_isr);
        members.filter_map(|f| {
            let fetch = f.fetch?;
            let log = LogRange {
                log_start_offset: fetch.log_start_offset,
                log_end_offset: fetch.log_end_offset,
            };
            Some((f.id, log))
        })
    }

    /// The change of the ISR that the controller was asked for, and may have made.
    pub fn proposed(&self) -> Option<&AlterPartition> {
        self.change.proposed()
    }

    /// The log end offset at the beginning of this leader's epoch.
    pub const fn epoch_start_offset(&self) -> Offset {
        self.epoch_start_offset
    }

    /// The version of the partition's state in the metadata.
    pub const fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// Whether a replica is missing in the ISR that is not just being added.
    pub fn is_under_replicated(&self) -> bool {
        let replicas = self.followers.len() + 1;
        self.isr_len() < replicas.saturating_sub(self.adding_replicas as usize)
    }
}
