//! The partitions of a node: what the broker's store, publisher, fetchers and handlers do around a partition's core.

use std::path::Path;

use bytes::Bytes;
use tidelog_log::{Log, LogConfig, PendingFlush, Start};
use tidelog_metadata::Delta;
use tidelog_metadata::configs::TopicConfig;
use tidelog_metadata::image::PartitionImage;
use tidelog_node::metadata::{broker, role};
use tidelog_node::partition::{Fetched, PartitionCore};
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::partition::{
    Ask, Config, FetchState, FollowerFetch, Input, Leadership, LogRange,
};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Offset, TopicName, TopicPartition, Uuid};

use super::{Checkpoint, Context, Process};
use crate::check::Kind;
use crate::clock::{MS, SECOND, Time};
use crate::event::{DiskWork, Timer};
use crate::io::Io;
use crate::message::{Partition, Request, Response};
use crate::network::Place;
use crate::planted::Bug;

/// How much one fetch brings.
const FETCH_BYTES: usize = 16 * 1024;
/// How long a fetch waits at the leader.
const FETCH_WAIT: Time = 500 * MS;
/// How soon a leader is asked again that could not be reached.
const RETRY: Time = 50 * MS;

/// Whoever waits for an append.
type Waiter = u64;
type After = tidelog_node::partition::After<Waiter>;

/// A partition of which the node has a replica.
pub(crate) struct Local {
    pub(crate) name: TopicPartition,
    pub(crate) core: PartitionCore<Waiter>,
    flush: Option<PendingFlush>,
    /// Up to where the oracle has seen it.
    pub(crate) seen: Offset,
    leads_in: Option<LeaderEpoch>,
}

/// A follower's fetch that waits for records.
pub(super) struct Parked {
    asker: (Place, u64),
    partitions: Vec<Wanted>,
}

/// What a follower wants of a partition, and what the replica has to say to that.
struct Wanted {
    partition: Partition,
    state: FetchState,
    admitted: Result<Option<EpochEnd>, ErrorCode>,
}

impl Process {
    /// Makes this node be what the committed metadata says.
    pub(super) fn publish(&mut self, io: &mut Io<'_>, delta: &Delta) {
        if self.is_serving() {
            self.publish_delta(io, delta);
        }
        self.look_for_registration(io);
    }

    pub(super) fn publish_delta(&mut self, io: &mut Io<'_>, delta: &Delta) {
        for id in delta.topics_deleted.keys() {
            let gone: Vec<_> = self
                .partitions
                .range((*id, 0)..=(*id, i32::MAX))
                .map(|(p, _)| *p)
                .collect();
            gone.into_iter()
                .for_each(|partition| self.delete(io, partition));
        }
        for (id, indexes) in &delta.partitions {
            for index in indexes {
                let partition = (*id, *index);
                let Some(state) = self.image.partition(*id, *index).cloned() else {
                    continue;
                };
                if state.replicas.contains(&self.id) {
                    self.assume(io, partition, &state);
                } else if !io.has(Bug::KeepsReplicas) {
                    self.delete(io, partition);
                }
            }
        }
        self.tell_groups(io, delta);
        let brokers: Vec<_> = delta.brokers.iter().filter(|id| **id != self.id).collect();
        let partitions: Vec<_> = self.partitions.keys().copied().collect();
        for id in brokers {
            let broker = broker(&self.image, *id);
            for partition in &partitions {
                self.partition_input(io, *partition, Input::BrokerChanged(broker));
            }
        }
    }

    /// Takes over the role that the metadata names.
    fn assume(&mut self, io: &mut Io<'_>, partition: Partition, state: &PartitionImage) {
        if !self.partitions.contains_key(&partition) {
            match self.open_partition(io, partition) {
                Ok(local) => drop(self.partitions.insert(partition, local)),
                Err(error) => return self.fail(error),
            }
            self.flush(io, partition);
        }
        let input = role(&self.image, self.id, state);
        self.partition_input(io, partition, input);
        if self.is_of_groups(partition) {
            match state.leader == self.id {
                true => self.elected(io, partition.1),
                false => self.resigned(io, partition.1),
            }
        }
    }

    fn is_of_groups(&self, partition: Partition) -> bool {
        let local = self.partitions.get(&partition);
        local.is_some_and(|local| local.name.topic == TopicName::CONSUMER_OFFSETS)
    }

    /// Closes all logs, so that the next start need not look through them.
    pub(super) fn close_partitions(&mut self, io: &mut Io<'_>) {
        let now = self.now(io);
        for (partition, mut local) in std::mem::take(&mut self.partitions) {
            let (marks, _) = local.core.readers_see();
            let mut after = After::default();
            if let Some(flush) = local.flush.take() {
                let result = flush.run();
                local.core.flush_finished(now, flush, result, &mut after);
            }
            if let Err(error) = local.core.close(now, &mut after) {
                return self.fail(error.to_string());
            }
            let checkpoint = Checkpoint {
                log_start: marks.log_start_offset,
                recovery_point: local.core.log().log_end_offset(),
                high_watermark: marks.high_watermark,
                clean: true,
            };
            self.checkpoints.insert(partition, checkpoint);
        }
        self.checkpoints_changed = true;
    }

    fn open_partition(&mut self, io: &mut Io<'_>, partition: Partition) -> Result<Local, String> {
        let topic = self
            .image
            .topic_by_id(partition.0)
            .ok_or("a topic is gone")?;
        let name = TopicPartition::new(topic.name.clone(), partition.1);
        let overrides = self.image.topic_configs(&topic.name);
        let config = TopicConfig::resolve(&overrides, &self.settings.broker);
        let folder = name.to_string();
        let found = self
            .checkpoints
            .get(&partition)
            .copied()
            .unwrap_or_default();
        let text = |error: &dyn std::fmt::Display| error.to_string();
        if let Some(checkpoint) = self.checkpoints.get_mut(&partition) {
            checkpoint.clean = false;
            self.checkpoints_changed = true;
        }
        // A folder of the same name may belong to a topic that was deleted while this node was away.
        let other = self
            .files
            .partition_topic_id(&folder)
            .map_err(|e| text(&e))?;
        if other.is_some_and(|id| id != partition.0) && !io.has(Bug::TakesOverFolders) {
            let stray = Uuid::from_random(io.random.bytes16());
            let marked = self.files.mark_stray(&folder, stray);
            let stray = marked.map_err(|e| text(&e))?;
            self.remove_folder(stray.as_ref())?;
        }
        let log_config = LogConfig {
            segment_bytes: 16 * 1024,
            segment_index_bytes: 1024,
            ..LogConfig::default()
        };
        let start = Start {
            log_start_offset: found.log_start,
            recovery_point: found.recovery_point,
            clean: found.clean,
            topic_id: Some(partition.0),
        };
        let (log, _) = Log::open(self.files.dir(), &folder, log_config, start, self.now(io))
            .map_err(|e| text(&e))?;
        let min_insync_replicas = u32::try_from(config.min_insync_replicas).unwrap_or(1);
        let config = Config {
            min_insync_replicas,
            replica_lag_time_max_ms: 3_000,
            fetch_backoff_ms: 100,
            ..Config::new(self.id)
        };
        let core = PartitionCore::new(log, config, found.high_watermark);
        let (id, end) = (self.id, core.log().log_end_offset());
        io.say(|| format!("node {id}: opens {name}, which ends at {end}"));
        Ok(Local {
            name,
            core,
            flush: None,
            seen: Offset::ZERO,
            leads_in: None,
        })
    }

    /// Removes a folder that has got another name. The broker waits a minute before that; here the name is made durable, so
    /// that nobody finds what is left of the files under the old one.
    fn remove_folder(&self, folder: &Path) -> Result<(), String> {
        let named = self.files.dir().sync_dir(Path::new(""));
        named.map_err(|error| error.to_string())?;
        let removed = self.files.remove_folder(folder);
        removed.map_err(|error| error.to_string())
    }

    fn delete(&mut self, io: &mut Io<'_>, partition: Partition) {
        if self.is_of_groups(partition) {
            self.resigned(io, partition.1);
        }
        let Some(mut local) = self.partitions.remove(&partition) else {
            return;
        };
        let id = self.id;
        io.say(|| format!("node {id}: deletes {}", local.name));
        let mut after = After::default();
        let unique = Uuid::from_random(io.random.bytes16());
        let deleted = local.core.delete(self.now(io), unique, &mut after);
        self.checkpoints.remove(&partition);
        self.checkpoints_changed = true;
        self.fetching.remove(&partition);
        match deleted {
            Ok(Some(folder)) => {
                if let Err(error) = self.remove_folder(&folder) {
                    self.fail(error);
                }
            }
            Ok(None) => {}
            Err(error) => self.fail(error.to_string()),
        }
        for (waiter, code) in after.failed {
            self.acknowledge(io, waiter, Err(code));
        }
    }

    pub(super) fn partition_input(&mut self, io: &mut Io<'_>, partition: Partition, input: Input) {
        self.with(io, partition, |core, now, after| {
            core.handle(now, input, after)
        });
    }

    pub(super) fn partition_due(&mut self, io: &mut Io<'_>, partition: Partition) {
        self.with(io, partition, PartitionCore::wake);
    }

    /// Makes one call of a partition, and does what it leaves to do.
    pub(super) fn with<R>(
        &mut self,
        io: &mut Io<'_>,
        partition: Partition,
        call: impl FnOnce(&mut PartitionCore<Waiter>, tidelog_types::Now, &mut After) -> R,
    ) -> Option<R> {
        let now = self.now(io);
        let local = self.partitions.get_mut(&partition)?;
        let mut after = After::default();
        let result = call(&mut local.core, now, &mut after);
        self.settle(io, partition, after);
        Some(result)
    }

    fn settle(&mut self, io: &mut Io<'_>, partition: Partition, after: After) {
        let id = self.id;
        let Some(local) = self.partitions.get_mut(&partition) else {
            return;
        };
        for note in &after.notes {
            io.say(|| format!("node {id}: {}: {note:?}", local.name));
        }
        if after.was_cut {
            local.seen = local.seen.min(local.core.log().log_end_offset());
            self.checkpoint(partition);
        }
        self.look(io, partition);
        for waiter in after.done {
            self.acknowledge(io, waiter, Ok(()));
        }
        for (waiter, code) in after.failed {
            self.acknowledge(io, waiter, Err(code));
        }
        if after.wake_readers {
            self.serve_parked(io, partition);
        }
        self.want_changes(io, partition, after.changes);
        for leader in after.asks_changed.into_iter().flatten() {
            self.arm_in(io, Timer::Kick(leader), MS / 10);
        }
        if let Some(at) = after.wake_at {
            let at = self.clock.when(at);
            self.arm(io, Timer::Partition(partition), at);
        }
        self.settle_groups(io);
    }

    /// Tells the oracle what is to be seen of a partition.
    fn look(&mut self, io: &mut Io<'_>, partition: Partition) {
        let id = self.id;
        let Some(local) = self.partitions.get_mut(&partition) else {
            return;
        };
        let (marks, leadership) = local.core.readers_see();
        let kind = Kind::of(&local.name.topic);
        io.oracle.kinds.insert(partition.0, kind);
        match leadership {
            Leadership::Leader { leader_epoch, .. } => {
                if local.leads_in != Some(leader_epoch) {
                    local.leads_in = Some(leader_epoch);
                    io.say(|| {
                        format!(
                            "node {id}: leads {} in epoch {leader_epoch}, from {}",
                            local.name, marks.log_end_offset
                        )
                    });
                    let reader = local.core.log().reader();
                    if kind.is_kept() {
                        io.oracle.leads(partition, leader_epoch, id, &reader);
                    }
                }
            }
            Leadership::Offline => return self.fail("a log has failed"),
            _ => local.leads_in = None,
        }
        if !kind.is_kept() {
            return;
        }
        if marks.high_watermark < local.seen {
            let (seen, now) = (local.seen, marks.high_watermark);
            io.oracle.wrong(format!(
                "the high watermark of {} on node {id} goes back from {seen} to {now}",
                local.name
            ));
        }
        if marks.high_watermark > local.seen {
            let reader = local.core.log().reader();
            io.oracle.committed(
                partition,
                id,
                local.leads_in,
                &reader,
                local.seen.max(marks.log_start_offset),
                marks.high_watermark,
            );
            local.seen = marks.high_watermark;
        }
    }

    pub(super) fn flush(&mut self, io: &mut Io<'_>, partition: Partition) {
        let Some(local) = self.partitions.get_mut(&partition) else {
            return;
        };
        if local.flush.is_none()
            && let Some(flush) = local.core.begin_flush()
        {
            local.flush = Some(flush);
            self.disk(io, DiskWork::Flush(partition));
        }
    }

    pub(super) fn flushed(&mut self, io: &mut Io<'_>, partition: Partition) {
        let local = self.partitions.get_mut(&partition);
        let Some(flush) = local.and_then(|local| local.flush.take()) else {
            return;
        };
        let result = match io.has(Bug::FlushLies) {
            true => Ok(()),
            false => flush.run(),
        };
        self.with(io, partition, |core, now, after| {
            core.flush_finished(now, flush, result, after)
        });
        let local = self.partitions.get_mut(&partition);
        if let Some(upkeep) = local.and_then(|local| local.core.begin_upkeep()) {
            upkeep.run();
        }
        self.kick_for(io, partition, MS / 100);
        // What was appended meanwhile.
        self.flush(io, partition);
    }

    pub(super) fn checkpoint(&mut self, partition: Partition) {
        let Some(local) = self.partitions.get(&partition) else {
            return;
        };
        let (marks, _) = local.core.readers_see();
        let checkpoint = Checkpoint {
            log_start: marks.log_start_offset,
            recovery_point: local.core.log().recovery_point(),
            high_watermark: marks.high_watermark,
            clean: false,
        };
        self.checkpoints.insert(partition, checkpoint);
        self.checkpoints_changed = true;
    }

    pub(super) fn checkpoint_due(&mut self, io: &mut Io<'_>) {
        let partitions: Vec<_> = self.partitions.keys().copied().collect();
        partitions
            .into_iter()
            .for_each(|partition| self.checkpoint(partition));
        self.arm_in(io, Timer::Checkpoint, 3 * SECOND);
    }

    /// Asks a leader for what is wanted of it and was not asked for yet.
    pub(super) fn kick(&mut self, io: &mut Io<'_>, leader: NodeId) {
        if !self.is_serving() {
            return;
        }
        let mut records = Vec::new();
        let mut offsets = Vec::new();
        for (partition, local) in &self.partitions {
            match local.core.asks() {
                Some(Ask::Records(state))
                    if state.leader == leader && !self.fetching.contains(partition) =>
                {
                    records.push((*partition, state));
                }
                Some(Ask::Offsets {
                    leader: of,
                    leader_epoch,
                }) if of == leader && !self.fetching.contains(partition) => {
                    offsets.push((*partition, leader_epoch));
                }
                _ => {}
            }
        }
        let to = leader.value();
        for (partition, leader_epoch) in offsets {
            self.fetching.insert(partition);
            let context = Context::Offsets(partition, leader_epoch);
            self.ask(io, to, Request::Offsets(partition, leader_epoch), context);
        }
        if !records.is_empty() {
            self.fetching.extend(records.iter().map(|(p, _)| *p));
            let request = Request::Fetch {
                broker_epoch: self.broker_epoch(),
                partitions: records.clone(),
            };
            self.ask(io, to, request, Context::Fetch(records));
        }
    }

    pub(super) fn fetch_asked(
        &mut self,
        io: &mut Io<'_>,
        asker: (Place, u64),
        broker_epoch: i64,
        partitions: Vec<(Partition, FetchState)>,
    ) {
        let wanted = partitions.into_iter().map(|(partition, state)| {
            let mut fetch_offset = state.fetch_offset;
            if io.has(Bug::CountsWhatWasSent)
                && let Some(local) = self.partitions.get(&partition)
            {
                fetch_offset = local.core.log().log_end_offset();
            }
            let fetch = FollowerFetch {
                replica: NodeId::new(asker.0),
                broker_epoch,
                current_leader_epoch: state.leader_epoch,
                fetch_offset,
                last_fetched_epoch: state.last_fetched_epoch,
                epoch_end: EpochEnd::UNKNOWN,
                log_start_offset: state.log_start_offset,
            };
            let admitted = self.with(io, partition, |core, now, after| {
                core.follower_fetched(now, fetch, after)
            });
            let mut admitted = admitted.unwrap_or(Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
            if io.has(Bug::HidesDivergence) && matches!(admitted, Ok(Some(_))) {
                admitted = Ok(None);
            }
            Wanted {
                partition,
                state,
                admitted,
            }
        });
        let partitions: Vec<_> = wanted.collect();
        let (answers, is_enough) = self.read(&partitions);
        if is_enough {
            return self.answer(io, asker, Response::Fetch(answers));
        }
        let id = self.id();
        self.parked.insert(id, Parked { asker, partitions });
        self.arm_in(io, Timer::Parked(id), FETCH_WAIT);
    }

    /// Reads what there is; tells whether there is any reason to answer.
    fn read(&self, wanted: &[Wanted]) -> (Vec<(Partition, Fetched)>, bool) {
        let mut is_enough = false;
        let answers = wanted.iter().map(|wanted| {
            let fetched = self.read_one(wanted).unwrap_or_else(Fetched::Error);
            is_enough |=
                !matches!(&fetched, Fetched::Records { records, .. } if records.is_empty());
            (wanted.partition, fetched)
        });
        (answers.collect(), is_enough)
    }

    fn read_one(&self, wanted: &Wanted) -> Result<Fetched, ErrorCode> {
        if let Some(leader) = wanted.admitted? {
            return Ok(Fetched::Diverging(leader));
        }
        let local = self.partitions.get(&wanted.partition);
        let local = local.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let (marks, leadership) = local.core.readers_see();
        leadership.check_leader_epoch(wanted.state.leader_epoch)?;
        let from = wanted.state.fetch_offset;
        if from < marks.log_start_offset || from > marks.log_end_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let mut records = Bytes::new();
        if from < marks.log_end_offset {
            let reader = local.core.log().reader();
            let slice = reader.read(from, FETCH_BYTES, marks.log_end_offset, true);
            let slice = slice.map_err(|error| error.error_code())?;
            let read = slice.data.read_all();
            records = read.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
        }
        Ok(Fetched::Records {
            records,
            high_watermark: marks.high_watermark,
            log_start_offset: marks.log_start_offset,
        })
    }

    fn serve_parked(&mut self, io: &mut Io<'_>, partition: Partition) {
        let concerned = self.parked.iter().filter(|(_, parked)| {
            parked
                .partitions
                .iter()
                .any(|wanted| wanted.partition == partition)
        });
        let concerned: Vec<_> = concerned.map(|(id, _)| *id).collect();
        for id in concerned {
            let (_, is_enough) = self.read(&self.parked[&id].partitions);
            if is_enough {
                self.unpark(io, id);
            }
        }
    }

    pub(super) fn unpark(&mut self, io: &mut Io<'_>, id: u64) {
        self.timers.remove(&Timer::Parked(id));
        if let Some(parked) = self.parked.remove(&id) {
            let (answers, _) = self.read(&parked.partitions);
            self.answer(io, parked.asker, Response::Fetch(answers));
        }
    }

    pub(super) fn fetch_answered(
        &mut self,
        io: &mut Io<'_>,
        asked: &[(Partition, FetchState)],
        answers: Vec<(Partition, Fetched)>,
    ) {
        for ((partition, state), (_, fetched)) in asked.iter().zip(answers) {
            let fetched = self.misheard(io, *partition, fetched);
            self.fetching.remove(partition);
            let taken = self.with(io, *partition, |core, now, after| {
                core.fetch_answered(now, *state, fetched, after)
            });
            if taken.is_some_and(|taken| taken.flush) {
                self.flush(io, *partition);
            }
            self.kick_for(io, *partition, MS / 100);
        }
    }

    /// What a follower makes of an answer with a planted defect.
    fn misheard(&self, io: &Io<'_>, partition: Partition, fetched: Fetched) -> Fetched {
        let local = self.partitions.get(&partition);
        let committed = local.map_or(Offset::ZERO, |it| it.core.readers_see().0.high_watermark);
        match fetched {
            Fetched::Records {
                records,
                high_watermark,
                ..
            } if io.has(Bug::KeepsDeletedRecords) => Fetched::Records {
                records,
                high_watermark,
                log_start_offset: Offset::ZERO,
            },
            Fetched::Diverging(common)
                if io.has(Bug::KeepsWhatWasCommitted) && common.end_offset < committed =>
            {
                Fetched::Error(ErrorCode::UNKNOWN_SERVER_ERROR)
            }
            fetched => fetched,
        }
    }

    /// Has the leader asked whom a partition follows now: it may be another than before.
    fn kick_for(&mut self, io: &mut Io<'_>, partition: Partition, after: Time) {
        let local = self.partitions.get(&partition);
        let leader = local.and_then(|local| local.core.asks().map(|ask| ask_of(&ask)));
        if let Some(leader) = leader {
            self.arm_in(io, Timer::Kick(leader), after);
        }
    }

    pub(super) fn fetch_unanswered(&mut self, io: &mut Io<'_>, asked: &[(Partition, FetchState)]) {
        if io.has(Bug::NeverAsksAgain) {
            return;
        }
        for (partition, _) in asked {
            self.fetching.remove(partition);
            self.kick_for(io, *partition, RETRY);
        }
    }

    pub(super) fn offsets(
        &self,
        partition: Partition,
        leader_epoch: LeaderEpoch,
    ) -> Result<LogRange, ErrorCode> {
        let local = self.partitions.get(&partition);
        let local = local.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let (marks, leadership) = local.core.readers_see();
        leadership.check_leader_epoch(leader_epoch)?;
        Ok(LogRange {
            log_start_offset: marks.log_start_offset,
            log_end_offset: marks.log_end_offset,
        })
    }

    pub(super) fn offsets_answered(
        &mut self,
        io: &mut Io<'_>,
        partition: Partition,
        leader_epoch: LeaderEpoch,
        answer: Result<LogRange, ErrorCode>,
    ) {
        self.fetching.remove(&partition);
        let taken = self.with(io, partition, |core, now, after| {
            core.offsets_answered(now, leader_epoch, answer, after)
        });
        if taken.is_some_and(|taken| taken.flush) {
            self.flush(io, partition);
        }
        self.kick_for(io, partition, RETRY);
    }
}

const fn ask_of(ask: &Ask) -> NodeId {
    match ask {
        Ask::Records(state) => state.leader,
        Ask::Offsets { leader, .. } => *leader,
    }
}
