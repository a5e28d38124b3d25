//! Replicas that move from one log directory to another (KIP-113, KIP-858).
//!
//! A [thread](LogMover) copies the log into a folder `topic-partition.<id>-future` of the other directory while the partition goes on. When
//! the copy has everything, the controller is told where the replica is about to be; when it knows, the copy takes the place of the
//! log. A crash at any moment leaves one whole log at least: before the copy has taken its place the old one counts, and the
//! next start goes on with the copy; then the copy counts, and the old one is set aside.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tidelog_log::{DirectoryError, Log, LogError, PartitionFolder, Start, future_name};
use tidelog_metadata::image::Image;
use tidelog_node::partition::FutureLog;
use tidelog_types::{ErrorCode, NodeId, TopicPartition};

use super::directories::Checkpointed;
use super::partition::Partition;
use super::topics::LocalTopic;
use super::{Doomed, Store};
use crate::clock::real;
use crate::random::random_uuid;
use crate::rate::{RATE_CHECK, Throttle};

/// How much is copied at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// The longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;
/// How often in a row a log may fail to be read before its move is given up: what is read may have been cut off just then.
const FAILURES_MAX: u32 = 5;

/// The moves of a node.
#[derive(Default)]
pub(crate) struct Moves {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    moves: BTreeMap<TopicPartition, Arc<Move>>,
    /// Directories for replicas that are not here yet.
    preferred: BTreeMap<TopicPartition, usize>,
    is_stopping: bool,
}

/// A replica on its way into another directory.
struct Move {
    partition: Arc<Partition>,
    to: usize,
    /// The folder of the copy.
    folder: String,
    stage: Mutex<Stage>,
    /// `None` when the move is over.
    copy: Mutex<Option<FutureLog>>,
    failures: Mutex<u32>,
}

/// ```text
/// Copying ── the copy has everything ──► Asked ── the controller knows ──► Accepted ── the copy takes the place ──► over
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Copying,
    Asked,
    Accepted,
}

/// A copy that is under way.
pub(crate) struct FutureReplica {
    pub(crate) name: TopicPartition,
    /// The directory that it moves to.
    pub(crate) directory: usize,
    pub(crate) size: u64,
    /// How many offsets it is behind.
    pub(crate) lag: i64,
}

impl Moves {
    /// Where a replica goes that is not here yet, if somebody has said so.
    pub(super) fn take_preferred(&self, partition: &TopicPartition) -> Option<usize> {
        self.state.lock().preferred.remove(partition)
    }

    /// Whether a replica moves, so that its log must not be compacted meanwhile.
    pub(crate) fn is_moving(&self, partition: &TopicPartition) -> bool {
        self.find(partition).is_some()
    }

    /// The directory in which the controller is to see a replica from now on, if it moves and the copy has everything.
    pub(crate) fn asked(&self, partition: &TopicPartition) -> Option<usize> {
        let found = self.find(partition)?;
        let stage = *found.stage.lock();
        (stage != Stage::Copying).then_some(found.to)
    }

    /// The controller knows where the replica is about to be.
    pub(crate) fn accepted(&self, partition: &TopicPartition) {
        if let Some(found) = self.find(partition) {
            *found.stage.lock() = Stage::Accepted;
            self.changed.notify_all();
        }
    }

    /// The copies that are under way. One that is written to just now is waited for.
    pub(crate) fn future_replicas(&self) -> Vec<FutureReplica> {
        let moves: Vec<_> = self.state.lock().moves.values().cloned().collect();
        let futures = moves.iter().filter_map(|found| {
            let copy = found.copy.lock();
            let log = copy.as_ref()?.log();
            let end = found.partition.reader().log_end_offset();
            Some(FutureReplica {
                name: found.partition.name.clone(),
                directory: found.to,
                size: log.size(),
                lag: end.value() - log.log_end_offset().value(),
            })
        });
        futures.collect()
    }

    /// Waits until so many bytes more may be copied, or the thread is to end.
    fn pay(&self, throttle: &Throttle, bytes: usize) {
        throttle.moved(bytes, real::now());
        let mut state = self.state.lock();
        while !state.is_stopping {
            let Some(wait) = throttle.wait(real::now()) else {
                return;
            };
            // The rate may be raised meanwhile.
            let until = real::now() + wait.min(RATE_CHECK);
            self.changed.wait_until(&mut state, until);
        }
    }

    fn find(&self, partition: &TopicPartition) -> Option<Arc<Move>> {
        self.state.lock().moves.get(partition).cloned()
    }

    fn remove(&self, found: &Arc<Move>) {
        let mut state = self.state.lock();
        let name = &found.partition.name;
        if state
            .moves
            .get(name)
            .is_some_and(|other| Arc::ptr_eq(other, found))
        {
            state.moves.remove(name);
        }
    }

    fn begin(&self, found: Move) {
        let mut state = self.state.lock();
        state
            .moves
            .insert(found.partition.name.clone(), Arc::new(found));
        self.changed.notify_all();
    }

    /// The next move behind `last` that has something to do; waits for one. `None` when the thread is to end.
    fn next(&self, last: Option<&TopicPartition>) -> Option<Arc<Move>> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopping {
                return None;
            }
            let is_ready = |found: &&Arc<Move>| *found.stage.lock() != Stage::Asked;
            let behind = state
                .moves
                .iter()
                .filter(|(name, _)| last.is_some_and(|last| *name > last));
            let mut moves = behind.map(|(_, found)| found).chain(state.moves.values());
            if let Some(next) = moves.find(is_ready) {
                return Some(Arc::clone(next));
            }
            self.changed.wait(&mut state);
        }
    }
}

impl Store {
    /// Moves a replica into the directory of that path, or stops its move if it is there. One that is not here yet will be made
    /// there, and the answer is an error all the same, as in Kafka.
    pub(crate) fn move_replica(&self, name: &TopicPartition, path: &str) -> Result<(), ErrorCode> {
        let id = random_uuid();
        let folder = future_name(name, id);
        if folder.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        let to = self.online_directory(path)?;
        let topic = self.topics.by_name(&name.topic);
        let partition = match &topic {
            Some(topic) => topic.partition(name.partition)?,
            None => None,
        };
        let under_way = self.moves.find(name);
        if under_way.as_ref().is_some_and(|found| found.to != to) {
            self.cancel_move(name);
        } else if under_way.is_some() {
            return Ok(());
        }
        let (Some(topic), Some(partition)) = (topic, partition) else {
            self.moves.state.lock().preferred.insert(name.clone(), to);
            return Err(ErrorCode::REPLICA_NOT_AVAILABLE);
        };
        if partition.directory() == to {
            return Ok(());
        }
        let all_online = self.unavailable.is_empty()
            && self
                .directories
                .iter()
                .all(|directory| !directory.has_failed());
        if !all_online {
            // Another copy may lie in the one that is out of service.
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        self.begin_move(&topic, partition, to, folder)
            .map_err(|error| {
                tracing::error!(partition = %name, %error, "cannot begin a move between log directories");
                error.error_code()
            })
    }

    fn online_directory(&self, path: &str) -> Result<usize, ErrorCode> {
        let is_it = |other: &std::path::Path| super::directories::absolute(other) == path;
        let Some(index) = self.position(|directory| is_it(&directory.path)) else {
            return Err(match self.unavailable.iter().any(|path| is_it(path)) {
                true => ErrorCode::KAFKA_STORAGE_ERROR,
                false => ErrorCode::LOG_DIR_NOT_FOUND,
            });
        };
        let directory = &self.directories[index];
        match () {
            () if directory.has_failed() => Err(ErrorCode::KAFKA_STORAGE_ERROR),
            () if directory.is_cordoned() => Err(ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            () => Ok(index),
        }
    }

    /// Begins a move, or goes on with one that the last process began in that folder.
    fn begin_move(
        &self,
        topic: &LocalTopic,
        partition: Arc<Partition>,
        to: usize,
        folder: String,
    ) -> Result<(), LogError> {
        let config = topic.config();
        let start = Start {
            topic_id: Some(topic.id),
            ..Start::NEW
        };
        let dir = self.directories[to].dir_for(config.durability);
        let (log, _) = Log::open(
            dir,
            &folder,
            self.log_config(&config),
            start,
            self.clock.now(),
        )?;
        let path = self.directories[to].path.display();
        tracing::info!(partition = %partition.name, to = %path, copied = %log.log_end_offset(), "a replica moves to another log directory");
        self.moves.begin(Move {
            partition,
            to,
            folder,
            stage: Mutex::new(Stage::Copying),
            copy: Mutex::new(Some(FutureLog::new(log))),
            failures: Mutex::new(0),
        });
        Ok(())
    }

    /// Goes on with a move that was under way when the last process ended, or removes what is left of one.
    pub(super) fn resume_move(
        &self,
        folder: &PartitionFolder,
        to: usize,
    ) -> Result<(), DirectoryError> {
        let name = &folder.partition;
        let topic = self.topics.by_name(&name.topic);
        let partition = topic
            .as_ref()
            .and_then(|topic| topic.partition(name.partition).ok()?);
        let goes_on = match (topic, partition) {
            (Some(topic), Some(partition)) => {
                let place = &self.directories[to];
                let is_of_it = place.files.partition_topic_id(&folder.name)? == Some(topic.id);
                let is_needed = partition.directory() != to && !self.moves.is_moving(name);
                (is_of_it && is_needed).then_some((topic, partition))
            }
            _ => None,
        };
        match goes_on {
            Some((topic, partition)) => {
                Ok(self.begin_move(&topic, partition, to, folder.name.clone())?)
            }
            None => self.directories[to]
                .files
                .discard(&folder.name, name, random_uuid()),
        }
    }

    /// Stops a move, if there is one, and removes the copy.
    pub(super) fn cancel_move(&self, name: &TopicPartition) {
        let Some(found) = self.moves.find(name) else {
            return;
        };
        self.moves.remove(&found);
        tracing::info!(partition = %name, "a move between log directories is stopped");
        self.discard(&found);
    }

    /// Removes what was copied, and sees to it that the controller knows where the replica stays.
    fn discard(&self, found: &Move) {
        drop(found.copy.lock().take());
        let name = &found.partition.name;
        if *found.stage.lock() != Stage::Copying {
            let stays = self.directories[found.partition.directory()].id;
            let topic = found.partition.topic_id;
            self.assignments.add(topic, name.partition, stays);
        }
        let place = &self.directories[found.to];
        place.forget(name);
        if found.partition.in_memory() || place.has_failed() {
            return;
        }
        if let Err(error) = place.files.discard(&found.folder, name, random_uuid()) {
            tracing::warn!(partition = %name, %error, "cannot remove a copy that is not needed");
        }
    }

    /// Takes one step of a move; gives how many bytes were copied.
    fn step(&self, found: &Arc<Move>, image: &Image, node: NodeId) -> usize {
        let mut copy = found.copy.lock();
        let Some(future) = &mut *copy else {
            return 0;
        };
        let now = self.clock.now();
        let copied = future.copy(now, &found.partition.reader(), CHUNK_BYTES);
        let has_failed = future.log().check().is_err();
        match copied {
            Ok(copied) => {
                *found.failures.lock() = 0;
                let stage = *found.stage.lock();
                if stage == Stage::Copying && copied.behind == 0 {
                    self.ask(found, image, node);
                } else if stage == Stage::Accepted && copied.bytes < CHUNK_BYTES {
                    let future = copy.take();
                    drop(copy);
                    self.finish(found, future, image, node);
                }
                copied.bytes
            }
            Err(error) => {
                let by_disk = future.log().disk_has_failed();
                drop(copy);
                let failures = {
                    let mut failures = found.failures.lock();
                    *failures += 1;
                    *failures
                };
                if has_failed || failures >= FAILURES_MAX {
                    self.give_up(found, &error, by_disk);
                }
                0
            }
        }
    }

    /// Has the controller told where the replica is about to be. Where it need not or does already know, the move goes on at once.
    fn ask(&self, found: &Move, image: &Image, node: NodeId) {
        // Before the controller is asked, which may be quick.
        *found.stage.lock() = Stage::Asked;
        if !self.tell(found, image, node) {
            *found.stage.lock() = Stage::Accepted;
        }
    }

    /// Has the controller told that the replica is where it moves to, unless it knows or need not know.
    fn tell(&self, found: &Move, image: &Image, node: NodeId) -> bool {
        let to = self.directories[found.to].id;
        let (topic, index) = (found.partition.topic_id, found.partition.name.partition);
        let known = image
            .topic_by_id(topic)
            .and_then(|topic| topic.partition(index));
        let is_known = known.is_some_and(|known| known.directory(node) == Some(to));
        let is_needed = !is_known && image.metadata_version().has_directories();
        if is_needed {
            self.assignments.add(topic, index, to);
        }
        is_needed
    }

    /// Has the copy take the place of the log.
    fn finish(&self, found: &Arc<Move>, future: Option<FutureLog>, image: &Image, node: NodeId) {
        let Some(future) = future else {
            return;
        };
        let partition = &found.partition;
        let (from, to) = (partition.directory(), found.to);
        let marks = partition.published().marks;
        // Before the folder has its name, so that a crash behind that brings no deleted record back.
        let checkpointed = Checkpointed {
            log_start: marks.log_start_offset,
            recovery_point: future.log().recovery_point().min(marks.log_end_offset),
            high_watermark: marks.high_watermark,
            first_dirty: None,
        };
        let place = &self.directories[to];
        let noted = match partition.in_memory() {
            true => Ok(()),
            false => place.note(&partition.name, checkpointed),
        };
        if let Err(error) = noted {
            tracing::error!(path = %place.path.display(), %error, "cannot write checkpoints");
            self.fail_directory(to);
            return;
        }
        let retired = match partition.take_future(future, (to, place)) {
            Ok(retired) => retired,
            Err(not) => return self.give_up(found, &not.error, not.copy_has_failed),
        };
        self.moves.remove(found);
        // Somebody may have stopped the move too late, and told the controller so.
        self.tell(found, image, node);
        self.directories[from].forget(&partition.name);
        self.directories[from].uncount_partition();
        place.count_partition();
        tracing::info!(partition = %partition.name, to = %place.path.display(), "a replica has moved to another log directory");
        match retired.folder {
            Ok(Some(folder)) => {
                let topic = self.topics.by_id(partition.topic_id);
                let delay = topic.map_or(0, |topic| topic.config().file_delete_delay_ms);
                let delay = Duration::from_millis(delay.unsigned_abs());
                self.doom(delay, Doomed::Folder(from, folder));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(partition = %partition.name, %error, "cannot delete the log that was moved");
                self.fail_directory(from);
            }
        }
    }

    fn give_up(&self, found: &Arc<Move>, error: &LogError, by_disk: bool) {
        tracing::error!(partition = %found.partition.name, %error, "a move between log directories is given up");
        self.moves.remove(found);
        self.discard(found);
        if by_disk {
            self.fail_directory(found.to);
        }
    }

    /// Stops the moves from and to a directory that has failed.
    pub(super) fn cancel_moves_of(&self, directory: usize) {
        let moves: Vec<_> = self.moves.state.lock().moves.values().cloned().collect();
        for found in moves {
            if found.to == directory || found.partition.directory() == directory {
                self.moves.remove(&found);
                self.discard(&found);
            }
        }
    }
}

/// The thread that copies.
pub(crate) struct LogMover {
    thread: Option<JoinHandle<()>>,
    store: Arc<Store>,
}

impl LogMover {
    pub(crate) fn start(
        store: Arc<Store>,
        image: Arc<ArcSwap<Image>>,
        node: NodeId,
    ) -> io::Result<Self> {
        let thread = Builder::new().name("tidelog-move".into()).spawn({
            let store = Arc::clone(&store);
            move || {
                let mut last = None;
                while let Some(next) = store.moves.next(last.as_ref()) {
                    let copied = store.step(&next, &image.load(), node);
                    store.moves.pay(&store.throttles.log_dirs, copied);
                    last = Some(next.partition.name.clone());
                }
            }
        })?;
        let thread = Some(thread);
        Ok(Self { thread, store })
    }

    /// Ends the thread, after what it is doing just now. What is not done goes on at the next start.
    pub(crate) fn stop(&mut self) {
        self.store.moves.state.lock().is_stopping = true;
        self.store.moves.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for LogMover {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::collections::BTreeMap;
    use std::io::ErrorKind;

    use tidelog_log::FlushTarget;
    use tidelog_log::testing::{Crash, FaultDir, Op};
    use tidelog_metadata::configs::{BrokerConfig, TopicConfig};
    use tidelog_protocol::records::metadata::FeatureLevelRecord;
    use tidelog_record::{BatchBuilder, Compression};
    use tidelog_replication::partition::{BecomeLeader, Config as ReplicaConfig, Input};
    use tidelog_types::{LeaderEpoch, Offset, Timestamp, TopicName, Uuid};

    use super::*;
    use crate::clock::Clock;
    use crate::store::Wanted;
    use crate::store::partition::{Acknowledge, Acks, Waiter};
    use crate::store::tests::directory;

    const NODE: NodeId = NodeId::new(1);
    const RECORDS: usize = 20;

    struct Nobody;

    impl Acknowledge for Nobody {
        fn acknowledged(&self, _: u64, _: Result<(), ErrorCode>) {}
    }

    fn id(number: u8) -> Uuid {
        Uuid::from_random([number; 16])
    }

    fn name() -> TopicPartition {
        TopicPartition::new(TopicName::from("moved"), 0)
    }

    /// A cluster that knows the directories of replicas.
    fn image() -> Image {
        let mut image = Image::default();
        let level = FeatureLevelRecord {
            name: "metadata.version".into(),
            feature_level: 30,
        };
        image.apply(&level.into()).unwrap();
        image
    }

    /// A broker with two directories and a partition, which is in the first, or in the one that the controller knows.
    fn open(disks: &[FaultDir; 2], known: u8) -> (Store, Arc<Partition>) {
        let directories = (1..).zip(disks);
        let directories = directories.map(|(id, disk)| directory(id, Arc::new(disk.clone())));
        let store = Store::new(
            ReplicaConfig::new(NODE),
            Clock::new(),
            (directories.collect(), Vec::new()),
            &BrokerConfig::default(),
        );
        let (config, _) = BrokerConfig::new(BTreeMap::new()).unwrap();
        let topic = store.topics.add(&name().topic, id(9), || {
            TopicConfig::resolve(&BTreeMap::new(), &config)
        });
        store.open_partitions(&[Wanted {
            topic: Arc::clone(&topic),
            partitions: vec![(0, Some(id(known)))],
        }]);
        let partition = topic.partition(0).unwrap().unwrap();
        partition.role_changed(Input::BecomeLeader(BecomeLeader {
            leader_epoch: LeaderEpoch::new(3),
            partition_epoch: 0,
            replicas: vec![NODE],
            adding_replicas: Vec::new(),
            isr: vec![NODE],
            recovering: false,
            brokers: Vec::new(),
        }));
        store.set_aside_strays();
        (store, partition)
    }

    fn append(partition: &Partition, count: usize) {
        for _ in 0..count {
            let mut batch = BatchBuilder::new(Compression::NONE);
            batch.push(Timestamp::from_millis(1), None, Some(&[7; 100]), &[]);
            let waiter = Waiter {
                target: Arc::new(Nobody),
                token: 0,
            };
            let batch = batch.build().unwrap();
            let appended = partition.append(&batch, LeaderEpoch::NONE, Acks::None, waiter);
            appended.unwrap();
        }
        partition.flush();
    }

    fn count(partition: &Partition) -> usize {
        let reader = partition.reader();
        let batches = reader.batches(Offset::ZERO, reader.log_end_offset());
        batches
            .filter(|batch| batch.as_ref().unwrap().header().base_offset >= Offset::ZERO)
            .count()
    }

    /// Moves the replica into the second directory as far as it goes; gives the directory that the controller knows then.
    fn go(store: &Store) -> u8 {
        let (mut known, image) = (1, image());
        if store.move_replica(&name(), "/directory2").is_err() {
            return known;
        }
        while let Some(found) = store.moves.find(&name()) {
            if store.moves.asked(&name()).is_some() {
                // The controller has heard of it.
                known = 2;
                store.moves.accepted(&name());
            }
            store.step(&found, &image, NODE);
            if store
                .directories()
                .iter()
                .any(|directory| directory.has_failed())
            {
                break;
            }
        }
        known
    }

    #[test]
    fn a_crash_at_any_step_of_a_move_loses_nothing() {
        let mut outcomes = [0, 0];
        for failing in [0, 1] {
            for crash in [Crash::LoseUnsynced, Crash::KeepAll, Crash::Tear(7)] {
                for nth in 0.. {
                    let disks = [FaultDir::new(), FaultDir::new()];
                    let (store, partition) = open(&disks, 1);
                    append(&partition, RECORDS);
                    store.checkpoint();
                    disks[failing].fail(Op::Mutation, nth, ErrorKind::Other);
                    let known = go(&store);
                    let has_failed = store.directories().iter().any(|one| one.has_failed());
                    let is_done = partition.directory() == 1 && !has_failed;
                    drop((store, partition));
                    for disk in &disks {
                        disk.crash(crash);
                        disk.heal();
                    }
                    let at = format!("disk {failing}, operation {nth}, {crash:?}");
                    let (store, partition) = open(&disks, known);
                    assert_eq!(count(&partition), RECORDS, "{at}");
                    outcomes[partition.directory()] += 1;
                    append(&partition, 1);
                    // And now for good.
                    if partition.directory() == 0 {
                        assert_eq!(go(&store), 2, "{at}");
                    }
                    assert_eq!(partition.directory(), 1, "{at}");
                    assert_eq!(count(&partition), RECORDS + 1, "{at}");
                    if is_done {
                        break;
                    }
                }
            }
        }
        assert!(outcomes.iter().all(|count| *count > 5), "{outcomes:?}");
    }

    #[test]
    fn a_move_that_is_stopped_leaves_nothing_behind() {
        let disks = [FaultDir::new(), FaultDir::new()];
        let (store, partition) = open(&disks, 1);
        append(&partition, RECORDS);
        store.move_replica(&name(), "/directory2").unwrap();
        let found = store.moves.find(&name()).unwrap();
        store.step(&found, &image(), NODE);
        assert_eq!(store.moves.asked(&name()), Some(1));
        let future = store.moves.future_replicas().remove(0);
        assert_eq!((future.directory, future.lag), (1, 0));
        let is_of_it = |path: &std::path::PathBuf| path.to_string_lossy().contains("moved");
        assert!(disks[1].files().iter().any(is_of_it));
        // To the directory where it is.
        store.move_replica(&name(), "/directory1").unwrap();
        assert!(!store.moves.is_moving(&name()));
        assert!(!disks[1].files().iter().any(is_of_it));
        store.step(&found, &image(), NODE);
        assert_eq!(partition.directory(), 0);
        assert_eq!(count(&partition), RECORDS);
    }

    #[test]
    fn what_cannot_be_moved_is_refused_as_in_kafka() {
        let disks = [FaultDir::new(), FaultDir::new()];
        let (store, _) = open(&disks, 1);
        let refused = |name: &TopicPartition, path| store.move_replica(name, path).unwrap_err();
        assert_eq!(refused(&name(), "/nowhere"), ErrorCode::LOG_DIR_NOT_FOUND);
        let long = TopicPartition::new(TopicName::from("x".repeat(240).as_str()), 0);
        let too_long = ErrorCode::INVALID_TOPIC_EXCEPTION;
        assert_eq!(refused(&long, "/directory2"), too_long);
        let unknown = TopicPartition::new(TopicName::from("moved"), 1);
        let code = refused(&unknown, "/directory2");
        assert_eq!(code, ErrorCode::REPLICA_NOT_AVAILABLE);
        // It is made there when it comes.
        let topic = store.topics.by_name("moved").unwrap();
        store.open_partitions(&[Wanted {
            topic: Arc::clone(&topic),
            partitions: vec![(1, None)],
        }]);
        assert_eq!(topic.partition(1).unwrap().unwrap().directory(), 1);
        store.fail_directory(0);
        let code = refused(&unknown, "/directory1");
        assert_eq!(code, ErrorCode::KAFKA_STORAGE_ERROR);
    }
}
