//! The coordinators of groups on a node: what the broker does around a shard.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidelog_coordinator::group::{
    ClientInfo, ClusterView, Config, DeletedTopic, GroupCoordinator, GroupRecord, GroupRequest,
    GroupResponse, Input, partition_for, resolve_regexes,
};
use tidelog_metadata::Delta;
use tidelog_node::groups::{After, Append, Shard, View, replay, topic_changes};
use tidelog_node::partition::{Acks, AppendRefused};
use tidelog_protocol::messages::offset_commit::OffsetCommitRequest;
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, LeaderEpoch, Now, Offset, ProducerId, TopicName};

use super::Process;
use crate::clock::MS;
use crate::event::Timer;
use crate::io::Io;
use crate::message::{Partition, Response};
use crate::network::Place;
use crate::planted::Bug;

/// Who waits for an answer.
type Asker = (Place, u64);

/// All coordinators of a node.
#[derive(Default)]
pub(super) struct Coordinators {
    /// By partition of `__consumer_offsets`, but for those that are in the middle of a call.
    shards: BTreeMap<i32, Shard<Asker>>,
    at_work: BTreeSet<i32>,
    /// Who waits for an append: a shard, and the number under which it knows the append.
    appends: BTreeMap<u64, (i32, u64)>,
    /// Appends of which it is known what became of them.
    appended: VecDeque<(i32, u64, Result<(), ErrorCode>)>,
    /// How often each partition was committed when a request for its offset came.
    asked: BTreeMap<Asker, BTreeMap<i32, usize>>,
}

fn config(seed: u64) -> Config {
    Config {
        group_min_session_timeout_ms: 1_000,
        group_initial_rebalance_delay_ms: 300,
        consumer_group_session_timeout_ms: 3_000,
        consumer_group_heartbeat_interval_ms: 500,
        consumer_group_assignment_interval_ms: 100,
        seed,
        ..Config::default()
    }
}

impl Process {
    fn offsets_partition(&self, index: i32) -> Option<Partition> {
        let topic = self.image.topic(&TopicName::CONSUMER_OFFSETS)?;
        Some((topic.id, index))
    }

    fn view(&self) -> Arc<dyn ClusterView> {
        let image = Arc::new(self.image.clone());
        let config = Arc::clone(&self.settings.broker);
        Arc::new(View::new(image, config, self.applied.offset.value()))
    }

    /// Takes over the groups of a partition that this node leads now.
    pub(super) fn elected(&mut self, io: &mut Io<'_>, index: i32) {
        if let Entry::Vacant(entry) = self.coordinators.shards.entry(index) {
            entry.insert(Shard::default());
            self.load_later(io, index);
        }
    }

    fn load_later(&mut self, io: &mut Io<'_>, index: i32) {
        let takes = io.random.between(MS, 100 * MS);
        self.arm_in(io, Timer::LoadGroups(index), takes);
    }

    /// Lets go of the groups of a partition that this node leads no longer.
    pub(super) fn resigned(&mut self, io: &mut Io<'_>, index: i32) {
        self.with_shard(io, index, Shard::unload);
        let coordinators = &mut self.coordinators;
        coordinators.shards.remove(&index);
        coordinators.appends.retain(|_, (of, _)| *of != index);
        coordinators.appended.retain(|(of, ..)| *of != index);
    }

    /// Replays the log into a machine, and opens it for requests.
    pub(super) fn load_groups(&mut self, io: &mut Io<'_>, index: i32) {
        let now = self.now(io);
        let partition = self.offsets_partition(index);
        let local = partition.and_then(|partition| self.partitions.get(&partition));
        let is_loading = self.coordinators.shards.get(&index);
        let (Some(local), true) = (local, is_loading.is_some_and(Shard::is_loading)) else {
            return;
        };
        let (marks, leadership) = local.core.readers_see();
        let (epoch, seed) = (leadership.leader_epoch(), io.random.next());
        let reader = local.core.log().reader();
        let id = self.id;
        io.say(|| format!("node {id}: loads the groups of partition {index}, epoch {epoch}"));
        match replay(now, config(seed), epoch, &reader, marks) {
            Ok(mut replayed) => {
                for (offset, error) in &replayed.skipped {
                    io.oracle
                        .wrong(format!("the record of a group at {offset}: {error}"));
                }
                if io.has(Bug::ForgetsOffsetsWhenLoaded) {
                    let records = replayed.machine.records();
                    replayed.machine = without_offsets(now, records, epoch, seed);
                    replayed.uncommitted = None;
                }
                let view = self.view();
                self.with_shard(io, index, |shard, now, append, after| {
                    shard.open(now, replayed, Some(view), append, after);
                });
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    pub(super) fn groups_due(&mut self, io: &mut Io<'_>, index: i32) {
        let now = self.now(io).instant;
        let shard = self.coordinators.shards.get(&index);
        let deadline = shard.and_then(Shard::deadline);
        match deadline {
            Some(deadline) if deadline <= now => self.groups_input(io, index, Input::Timeout),
            Some(deadline) => {
                let at = self.clock.when(deadline);
                self.arm(io, Timer::Groups(index), at);
            }
            None => {}
        }
    }

    fn groups_input(&mut self, io: &mut Io<'_>, index: i32, input: Input) {
        self.with_shard(io, index, |shard, now, append, after| {
            shard.handle(now, input, append, after);
        });
    }

    /// The metadata has changed.
    pub(super) fn tell_groups(&mut self, io: &mut Io<'_>, delta: &Delta) {
        let indexes: Vec<_> = self.coordinators.shards.keys().copied().collect();
        let changes = topic_changes(&self.image, delta);
        if indexes.is_empty() || changes.is_empty() {
            return;
        }
        let deleted = delta.topics_deleted.values().map(|topic| DeletedTopic {
            name: topic.name.clone(),
            topic_id: topic.id,
        });
        let topics: Vec<_> = deleted.collect();
        let view = self.view();
        for index in indexes {
            let (view, changes) = (Arc::clone(&view), changes.clone());
            self.groups_input(io, index, Input::ClusterChanged { view, changes });
            if !topics.is_empty() {
                let topics = topics.clone();
                self.groups_input(io, index, Input::TopicsDeleted { topics });
            }
        }
    }

    pub(super) fn group_asked(
        &mut self,
        io: &mut Io<'_>,
        asker: Asker,
        version: i16,
        mut request: GroupRequest,
    ) {
        let topic = self.image.topic(&TopicName::CONSUMER_OFFSETS);
        let count = topic.map_or(0, |topic| topic.partitions.len());
        let group_id = request.group_id().cloned().unwrap_or_default();
        let index = partition_for(&group_id, i32::try_from(count).unwrap_or(0));
        let Some(shard) = self.coordinators.shards.get(&index) else {
            let response = request.error_response(ErrorCode::NOT_COORDINATOR, version);
            return self.answer(io, asker, Response::Group(Box::new(response)));
        };
        match &mut request {
            GroupRequest::OffsetCommit(commit) if io.has(Bug::ForgetsGenerations) => {
                let records = shard.machine().map(|machine| machine.records());
                unfence(commit, records.unwrap_or_default());
            }
            // Whoever has something to give up has given it up.
            GroupRequest::ConsumerGroupHeartbeat(heartbeat)
                if io.has(Bug::HandsOutBeforeRevoked) && heartbeat.member_epoch > 0 =>
            {
                heartbeat.topic_partitions = Some(Vec::new());
            }
            GroupRequest::OffsetFetch { .. } => {
                let counts = io.oracle.groups.offsets_count();
                self.coordinators.asked.insert(asker, counts);
            }
            _ => {}
        }
        let client = ClientInfo::default();
        self.with_shard(io, index, |shard, now, append, after| {
            shard.request(now, version, client, request, asker, append, after);
        });
    }

    /// Makes one call of a shard, and does what it leaves to do.
    fn with_shard(
        &mut self,
        io: &mut Io<'_>,
        index: i32,
        call: impl FnOnce(&mut Shard<Asker>, Now, Append<'_>, &mut After<Asker>),
    ) {
        let Some(mut shard) = self.coordinators.shards.remove(&index) else {
            return;
        };
        self.coordinators.at_work.insert(index);
        let now = self.now(io);
        let mut after = After::default();
        let mut append =
            |append_id: u64, batch: &Batch| self.append_for(io, index, append_id, batch);
        call(&mut shard, now, &mut append, &mut after);
        self.coordinators.at_work.remove(&index);
        if let Some(machine) = shard.machine() {
            machine.check();
        }
        let deadline = shard.deadline();
        self.coordinators.shards.insert(index, shard);
        let id = self.id;
        for (_, rebalance) in &after.reports {
            io.say(|| format!("node {id}: {:?}, {:?}", rebalance.causes, rebalance.outcome));
        }
        for error in &after.refused {
            io.say(|| format!("node {id}: a group cannot be written: {error}"));
        }
        for (asker, response) in after.replies {
            self.check_answer(io, index, asker, &response);
            self.answer(io, asker, Response::Group(Box::new(response)));
        }
        for (number, end) in after.waits {
            self.await_committed(io, index, number, end);
        }
        let view = (!after.regexes.is_empty()).then(|| self.view());
        for ((group_id, regexes), view) in after.regexes.into_iter().zip(view) {
            let resolved = resolve_regexes(&*view, &regexes);
            let input = Input::RegexesResolved {
                group_id,
                version: view.version(),
                resolved,
            };
            self.groups_input(io, index, input);
        }
        if let Some(deadline) = deadline {
            let at = self.clock.when(deadline);
            self.arm(io, Timer::Groups(index), at);
        }
        if after.reload {
            self.load_later(io, index);
        }
        self.settle_groups(io);
    }

    fn append_for(
        &mut self,
        io: &mut Io<'_>,
        index: i32,
        append_id: u64,
        batch: &Batch,
    ) -> Result<(), ErrorCode> {
        let partition = self.offsets_partition(index);
        let partition = partition.ok_or(ErrorCode::NOT_COORDINATOR)?;
        let waiter = self.id();
        let acks = match io.has(Bug::CommitsTooEarly) {
            true => Acks::None,
            false => Acks::All,
        };
        self.coordinators.appends.insert(waiter, (index, append_id));
        let accepted = self.with(io, partition, |core, now, after| {
            core.append(now, batch, LeaderEpoch::NONE, acks, waiter, after)
        });
        let accepted = accepted.unwrap_or_else(|| {
            let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            Err(AppendRefused::Replica(code))
        });
        match accepted {
            Ok(accepted) => {
                if accepted.done {
                    self.group_appended(waiter, Ok(()));
                }
                if accepted.flush {
                    self.flush(io, partition);
                }
                Ok(())
            }
            Err(refused) => {
                self.coordinators.appends.remove(&waiter);
                Err(refused.error_code())
            }
        }
    }

    /// Has a shard told when its log is committed up to `end`.
    fn await_committed(&mut self, io: &mut Io<'_>, index: i32, number: u64, end: Offset) {
        let waiter = self.id();
        self.coordinators.appends.insert(waiter, (index, number));
        let waits = self.offsets_partition(index).and_then(|partition| {
            self.with(io, partition, |core, _, _| {
                core.await_committed(end, waiter)
            })
        });
        match waits.unwrap_or(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)) {
            Ok(false) => {}
            Ok(true) => {
                self.group_appended(waiter, Ok(()));
            }
            Err(code) => {
                self.group_appended(waiter, Err(code));
            }
        }
    }

    /// Notes what became of an append, if it was a shard's.
    pub(super) fn group_appended(&mut self, waiter: u64, result: Result<(), ErrorCode>) -> bool {
        let append = self.coordinators.appends.remove(&waiter);
        let appended = append.map(|(index, append_id)| (index, append_id, result));
        self.coordinators.appended.extend(appended);
        append.is_some()
    }

    /// Tells the machines what became of their appends. A shard that is at work is told when it is done.
    pub(super) fn settle_groups(&mut self, io: &mut Io<'_>) {
        while let Some((index, append_id, result)) = self.coordinators.appended.front().copied() {
            if self.coordinators.at_work.contains(&index) {
                return;
            }
            self.coordinators.appended.pop_front();
            self.with_shard(io, index, |shard, now, append, after| {
                shard.appended(now, append_id, result, append, after);
            });
        }
    }

    /// What a coordinator says is in its log, unless another one has taken over meanwhile.
    fn check_answer(
        &mut self,
        io: &mut Io<'_>,
        index: i32,
        asker: Asker,
        response: &GroupResponse,
    ) {
        let Some(counts) = self.coordinators.asked.remove(&asker) else {
            return;
        };
        let GroupResponse::OffsetFetch(answer) = response else {
            return;
        };
        let local = self
            .offsets_partition(index)
            .and_then(|partition| Some((partition, self.partitions.get(&partition)?)));
        let Some((partition, local)) = local.filter(|_| answer.error_code.is_ok()) else {
            return;
        };
        let epoch = local.core.readers_see().1.leader_epoch();
        if !io.oracle.is_newest(partition, epoch) {
            return;
        }
        for topic in &answer.topics {
            for found in topic.partitions.iter().filter(|it| it.error_code.is_ok()) {
                let count = counts.get(&found.partition_index).copied();
                let (index, offset) = (found.partition_index, found.committed_offset);
                let checked = io.oracle.groups.answers(index, offset, count.unwrap_or(0));
                if let Err(wrong) = checked {
                    io.oracle.wrong(format!("node {}: {wrong}", self.id));
                }
            }
        }
    }
}

/// A machine with everything that the log says but for the offsets.
fn without_offsets(
    now: Now,
    records: Vec<GroupRecord>,
    epoch: LeaderEpoch,
    seed: u64,
) -> GroupCoordinator {
    let mut machine = GroupCoordinator::new(now, config(seed), epoch);
    for record in records {
        if !matches!(record, GroupRecord::OffsetCommit { .. }) {
            machine.replay(ProducerId::NONE, &record);
        }
    }
    machine
}

/// Has a commit come from somebody who may commit.
fn unfence(commit: &mut OffsetCommitRequest, records: Vec<GroupRecord>) {
    for record in records {
        match record {
            GroupRecord::GroupMetadata {
                value: Some(value), ..
            } => {
                if let Some(member) = value.members.first() {
                    commit.member_id = member.member_id.clone();
                    commit.generation_id_or_member_epoch = value.generation;
                }
            }
            GroupRecord::ConsumerGroupCurrentMember {
                member_id,
                value: Some(value),
                ..
            } => {
                commit.member_id = member_id;
                commit.generation_id_or_member_epoch = value.member_epoch;
            }
            _ => {}
        }
    }
}
