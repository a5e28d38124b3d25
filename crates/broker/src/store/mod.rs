//! The partitions of this node, their logs and the directories in which they lie.

mod deletion;
pub(crate) mod directories;
pub(crate) mod moves;
pub(crate) mod outbox;
pub(crate) mod partition;
mod throttles;
pub(crate) mod topics;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_log::{
    Checkpoint, DirectoryError, FlushTarget, FolderKind, Log, LogConfig, LogError, LogSummary,
    PartitionFolder, Start,
};
use tidelog_metadata::configs::{BrokerConfig, Durability, TopicConfig};
use tidelog_metadata::image::directory;
use tidelog_node::partition::PartitionCore;
use tidelog_replication::partition::{Config as ReplicaConfig, DurableWhen};
use tidelog_types::{PartitionIndex, TopicId, TopicName, TopicPartition, Uuid};
use tokio::sync::watch;

use self::deletion::Doomed;
use self::directories::DataDirectory;
use self::moves::Moves;
use self::outbox::Outbox;
use self::partition::Partition;
use self::throttles::Throttles;
use self::topics::{LocalTopic, Slot, Topics};
use crate::clock::Clock;
use crate::random::random_uuid;
use crate::replication::Assignments;

/// Logs are opened on several threads when there are at least so many: each thread costs more than a small log.
const OPEN_IN_PARALLEL_MIN: usize = 8;
/// On how many threads the logs of a directory are closed. A disk answers that many flushes at a time three times faster
/// than one after the other.
const CLOSE_THREADS: usize = 8;

/// From so many logs on that are to be closed in a directory its file system syncs all their files at once.
const SYNCED_TOGETHER_MIN: usize = 256;

/// Everything this node stores, the metadata log apart.
pub(crate) struct Store {
    pub(crate) topics: Topics,
    /// What the replicas want of other nodes.
    pub(crate) outbox: Arc<Outbox>,
    /// What the controller does not know of the directories of replicas.
    pub(crate) assignments: Assignments,
    /// Replicas that move between directories.
    pub(crate) moves: Moves,
    /// How fast replicas may be copied.
    pub(crate) throttles: Throttles,
    /// What every replica begins with; the topic's configuration is put on top.
    replica_config: ReplicaConfig,
    clock: Clock,
    directories: Vec<DataDirectory>,
    /// Log directories that could not be used at the start.
    unavailable: Vec<PathBuf>,
    /// How many directories have failed.
    failed_directories: watch::Sender<usize>,
    /// Goes with the store.
    pub(crate) alive: watch::Sender<()>,
    producer_id_expiration_ms: AtomicI64,
    recovery_threads: AtomicUsize,
    /// Files that are to be removed when their time has come: readers may be at them until then.
    doomed: Mutex<Vec<(Instant, Doomed)>>,
}

/// Partitions of one topic that are to be opened, each with the directory that the metadata names.
pub(crate) struct Wanted {
    pub(crate) topic: Arc<LocalTopic>,
    pub(crate) partitions: Vec<(PartitionIndex, Option<Uuid>)>,
}

/// One log that is to be opened.
struct Job {
    topic: Arc<LocalTopic>,
    name: TopicPartition,
    folder: String,
    directory: usize,
    log_config: Arc<LogConfig>,
    summary: Option<LogSummary>,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.outbox.clear();
    }
}

impl Store {
    pub(crate) fn new(
        replica_config: ReplicaConfig,
        clock: Clock,
        (directories, unavailable): (Vec<DataDirectory>, Vec<PathBuf>),
        config: &BrokerConfig,
    ) -> Self {
        let store = Self {
            topics: Topics::default(),
            outbox: Arc::new(Outbox::new()),
            assignments: Assignments::default(),
            moves: Moves::default(),
            throttles: Throttles::default(),
            replica_config,
            clock,
            directories,
            unavailable,
            failed_directories: watch::Sender::new(0),
            alive: watch::Sender::new(()),
            producer_id_expiration_ms: AtomicI64::default(),
            recovery_threads: AtomicUsize::default(),
            doomed: Mutex::new(Vec::new()),
        };
        store.configure_broker(config);
        store
    }

    /// How many flushes the flushers of the directories have made.
    pub(crate) fn flushes(&self) -> u64 {
        let directories = self.directories.iter();
        directories
            .map(|directory| directory.flusher.flushes())
            .sum()
    }

    pub(crate) fn directories(&self) -> &[DataDirectory] {
        &self.directories
    }

    /// Log directories that could not be used at the start.
    pub(crate) fn unavailable(&self) -> &[PathBuf] {
        &self.unavailable
    }

    /// Takes over a new configuration of the broker.
    pub(crate) fn configure_broker(&self, config: &BrokerConfig) {
        let directories = self.directories.iter();
        directories.for_each(|directory| directory.configure(config));
        self.throttles.configure(config);
        // The table of configs has no number below 1 for these.
        let threads = usize::try_from(config.num_recovery_threads_per_data_dir()).unwrap_or(1);
        self.recovery_threads
            .store(threads.max(1), Ordering::Relaxed);
        let expiration_ms = config.producer_id_expiration_ms();
        self.producer_id_expiration_ms
            .store(expiration_ms.into(), Ordering::Relaxed);
        let fetchers = u32::try_from(config.num_replica_fetchers()).unwrap_or(1);
        if self.outbox.set_fetchers_per_source(fetchers) {
            for topic in self.topics.all() {
                let partitions = topic.partitions();
                partitions.iter().for_each(Partition::change_fetcher);
            }
        }
    }

    /// Opens partitions that are not open yet, each where its log is, or in its directory by id; one without goes where the
    /// fewest are. A log that cannot be opened leaves its partition offline.
    ///
    /// Logs whose files have to be looked into are opened on `num.recovery.threads.per.data.dir` threads for each directory.
    pub(crate) fn open_partitions(&self, wanted: &[Wanted]) {
        let mut by_files: Vec<Vec<Job>> = Vec::new();
        by_files.resize_with(self.directories.len(), Vec::new);
        for Wanted { topic, partitions } in wanted {
            let log_config = Arc::new(self.log_config(&topic.config()));
            for (index, id) in partitions {
                if !matches!(topic.partition(*index), Ok(None)) {
                    continue;
                }
                let name = TopicPartition::new(topic.name.clone(), *index);
                let folder = name.to_string();
                let Some(directory) = self.directory_for(&name, *id) else {
                    tracing::error!(partition = %name, "the log may be in a directory that is out of service, the partition is offline");
                    topic.insert(*index, Slot::Failed);
                    continue;
                };
                let place = &self.directories[directory];
                let summary = place.take_summary(&folder).filter(|summary| {
                    // A folder of the same name may belong to a topic that was deleted while this node was away.
                    summary.topic_id().is_none_or(|id| id == topic.id)
                });
                let needs_files = summary.is_none() && place.had_folder(&folder) == Some(true);
                let job = Job {
                    topic: Arc::clone(topic),
                    name,
                    folder,
                    directory,
                    log_config: Arc::clone(&log_config),
                    summary,
                };
                if needs_files {
                    by_files[directory].push(job);
                } else {
                    self.run(job);
                }
            }
        }
        self.run_all(by_files);
    }

    fn run_all(&self, jobs: Vec<Vec<Job>>) {
        // A thread costs more than a few small logs.
        if jobs.iter().map(Vec::len).sum::<usize>() < OPEN_IN_PARALLEL_MIN {
            jobs.into_iter().flatten().for_each(|job| self.run(job));
            return;
        }
        std::thread::scope(|scope| {
            for jobs in jobs {
                let threads = self
                    .recovery_threads
                    .load(Ordering::Relaxed)
                    .min(jobs.len());
                let jobs = Arc::new(Mutex::new(jobs.into_iter()));
                for _ in 0..threads {
                    let jobs = Arc::clone(&jobs);
                    scope.spawn(move || {
                        loop {
                            // Not in the condition of the loop, which would hold the lock meanwhile.
                            let Some(job) = jobs.lock().next() else { break };
                            self.run(job);
                        }
                    });
                }
            }
        });
    }

    fn run(&self, job: Job) {
        let (topic, index, directory) = (Arc::clone(&job.topic), job.name.partition, job.directory);
        let slot = match self.open(job) {
            Ok(partition) => Slot::Here(partition),
            Err(error) => {
                let topic = &topic.name;
                tracing::error!(%topic, index, %error, "cannot open a log, the partition is offline");
                if let DirectoryError::Log(LogError::Io { .. }) = error {
                    self.fail_directory(directory);
                }
                Slot::Failed
            }
        };
        topic.insert(index, slot);
    }

    /// The directory of a partition: the one that has its log, or else the one that the metadata names. `None` if that is out of
    /// service: an empty log elsewhere would take its place.
    fn directory_for(&self, name: &TopicPartition, id: Option<Uuid>) -> Option<usize> {
        let folder = name.to_string();
        let id = id.filter(|id| !directory::is_reserved(*id));
        let named = self.position(|directory| Some(directory.id) == id);
        let has_log = |directory: &DataDirectory| directory.had_folder(&folder) == Some(true);
        let found = match named {
            Some(named) if has_log(&self.directories[named]) => Some(named),
            // The last process ended while the log was moved, or before the controller knew where it had put it.
            _ => self.position(has_log),
        };
        let is_away = id.is_some() && named.is_none() && !self.unavailable.is_empty();
        let directory = match found.or(named) {
            Some(directory) => directory,
            None if is_away => return None,
            None => match self.moves.take_preferred(name) {
                Some(preferred) => preferred,
                None => self.emptiest()?,
            },
        };
        if self.directories[directory].has_failed() {
            return None;
        }
        self.directories[directory].count_partition();
        Some(directory)
    }

    fn position(&self, is_it: impl Fn(&DataDirectory) -> bool) -> Option<usize> {
        self.directories.iter().position(is_it)
    }

    /// Where a new partition goes: where the fewest are, and not where none shall go if that can be helped (KIP-1066).
    fn emptiest(&self) -> Option<usize> {
        let usable = (0..self.directories.len()).filter(|d| !self.directories[*d].has_failed());
        usable.min_by_key(|d| {
            let directory = &self.directories[*d];
            (directory.is_cordoned(), directory.partitions_count())
        })
    }

    fn open(&self, job: Job) -> Result<Arc<Partition>, DirectoryError> {
        let Job {
            topic,
            name,
            folder,
            directory,
            log_config,
            summary,
        } = job;
        let config = topic.config();
        let in_memory = config.durability == Durability::Memory;
        let place = &self.directories[directory];
        let found = place.checkpointed(&name);
        let dir = place.dir_for(config.durability);
        let mut log = match summary.filter(|_| !in_memory) {
            Some(summary) => Log::resume(dir, &folder, log_config, summary),
            None => {
                self.set_aside_predecessor(place, &topic, &folder)?;
                let start = Start {
                    log_start_offset: found.log_start,
                    recovery_point: found.recovery_point,
                    clean: place.was_clean,
                    topic_id: Some(topic.id),
                };
                // What was cut is said by the log.
                Log::open(dir, &folder, log_config, start, self.clock.now())?.0
            }
        };
        if let Some(first_dirty) = found.first_dirty {
            log.set_first_dirty_offset(first_dirty);
        }
        warn_of_transactions(&name, &mut log);
        let recovery_point = log.recovery_point();
        let core = PartitionCore::new(log, self.replica_config(&config), found.high_watermark);
        let flush = core.needs_flush();
        let place = (directory, place);
        let partition = Partition::new(
            (name, topic.id),
            place,
            in_memory,
            core,
            &self.outbox,
            self.clock.clone(),
        );
        let marks = partition.published().marks;
        let says = (found.log_start, found.recovery_point, found.high_watermark);
        if says != (marks.log_start_offset, recovery_point, marks.high_watermark) {
            partition.note_changed();
        }
        if flush {
            // What recovery found is served once it is known to be on the disk.
            partition.flush();
        }
        Ok(partition)
    }

    /// A folder of the same name may belong to a topic that was deleted while this node was away.
    fn set_aside_predecessor(
        &self,
        place: &DataDirectory,
        topic: &LocalTopic,
        folder: &str,
    ) -> Result<(), DirectoryError> {
        if place.had_folder(folder) == Some(false) {
            return Ok(());
        }
        let found = place.files.partition_topic_id(folder)?;
        if found.is_some_and(|id| id != topic.id) {
            let stray = place.files.mark_stray(folder, random_uuid())?;
            tracing::warn!(
                folder,
                stray,
                "set aside the log of another topic of the same name"
            );
        }
        Ok(())
    }

    /// Sets aside the folders of partitions that this node does not have any more, and removes what was deleted before
    /// the last stop. To be called when everything that the metadata names is open.
    pub(crate) fn set_aside_strays(&self) {
        for (index, directory) in self.directories.iter().enumerate() {
            for folder in directory.take_folders() {
                let Some(folder) = PartitionFolder::parse(&folder) else {
                    continue;
                };
                let done = match folder.kind {
                    FolderKind::Deleted => directory.files.remove_folder(&folder.name),
                    FolderKind::Future => self.resume_move(&folder, index),
                    FolderKind::Live if !self.is_open(&folder.partition, index) => {
                        let name = &folder.name;
                        tracing::warn!(
                            name,
                            "set aside the log of a partition that nothing knows of"
                        );
                        directory.files.mark_stray(name, random_uuid()).map(drop)
                    }
                    _ => Ok(()),
                };
                if let Err(error) = done {
                    tracing::warn!(folder = folder.name, %error, "cannot tidy up a folder");
                }
            }
        }
    }

    /// Whether a partition is served out of this directory, or would be if its log had opened.
    fn is_open(&self, name: &TopicPartition, directory: usize) -> bool {
        let is_metadata = name.topic == TopicName::CLUSTER_METADATA;
        let open = self
            .topics
            .by_name(&name.topic)
            .map(|topic| topic.partition(name.partition));
        is_metadata
            || match open {
                Some(Ok(Some(partition))) => partition.directory() == directory,
                Some(Ok(None)) | None => false,
                Some(Err(_)) => true,
            }
    }

    /// Takes over a new configuration of a topic.
    pub(crate) fn configure(&self, id: TopicId, config: TopicConfig) {
        let Some(topic) = self.topics.by_id(id) else {
            return;
        };
        let log_config = Arc::new(self.log_config(&config));
        for partition in topic.partitions() {
            partition.configure(Arc::clone(&log_config), self.replica_config(&config));
        }
        topic.set_config(config);
    }

    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        // The table of configs has no negative value for the sizes.
        let size = |bytes: i32| u32::try_from(bytes).unwrap_or(0);
        LogConfig {
            segment_bytes: size(config.segment_bytes),
            segment_ms: config.segment_ms,
            segment_jitter_ms: config.segment_jitter_ms,
            segment_index_bytes: size(config.segment_index_bytes),
            index_interval_bytes: size(config.index_interval_bytes),
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            delete: config.delete,
            compact: config.compact,
            min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: config.min_compaction_lag_ms,
            max_compaction_lag_ms: config.max_compaction_lag_ms,
            delete_retention_ms: config.delete_retention_ms,
            message_timestamp_type: topics::timestamp_type(config),
            producer_id_expiration_ms: self.producer_id_expiration_ms.load(Ordering::Relaxed),
            ..LogConfig::default()
        }
    }

    fn replica_config(&self, config: &TopicConfig) -> ReplicaConfig {
        ReplicaConfig {
            min_insync_replicas: u32::try_from(config.min_insync_replicas).unwrap_or(1),
            durable_when: match config.durability {
                Durability::Fsync => DurableWhen::Flushed,
                Durability::PageCache | Durability::Memory => DurableWhen::Appended,
            },
            ..self.replica_config
        }
    }

    /// Whether all directories were closed in order before this start.
    pub(crate) fn was_clean(&self) -> bool {
        self.directories.iter().all(|directory| directory.was_clean)
    }

    /// The epoch of the broker that closed all directories in order before this start, or -1 (KIP-966).
    pub(crate) fn previous_broker_epoch(&self) -> i64 {
        let mut epochs = self
            .directories
            .iter()
            .map(|directory| directory.previous_broker_epoch);
        let first = epochs.next().unwrap_or(-1);
        if epochs.all(|epoch| epoch == first) {
            first
        } else {
            -1
        }
    }

    /// How many directories have failed, and how that changes.
    pub(crate) fn failed_directories(&self) -> watch::Receiver<usize> {
        self.failed_directories.subscribe()
    }

    /// Writes all checkpoints that have changed. A directory that does not take them has failed: its partitions go offline,
    /// also those that nobody writes to just now, and those of other directories go on.
    pub(crate) fn checkpoint(&self) {
        for (index, directory) in self.directories.iter().enumerate() {
            if directory.has_failed() {
                continue;
            }
            if let Err(error) = directory.write_checkpoints(directories::ALL) {
                let path = directory.path.display();
                tracing::error!(%path, %error, "cannot write checkpoints");
                self.fail_directory(index);
            }
        }
    }

    /// Takes a directory out of service until the next start, with all its partitions.
    pub(crate) fn fail_directory(&self, index: usize) {
        if !self.directories[index].fail() {
            return;
        }
        self.cancel_moves_of(index);
        let path = self.directories[index].path.display();
        tracing::error!(%path, "a log directory is out of service until the next start, with all partitions in it");
        for topic in self.topics.all() {
            let partitions = topic.partitions().into_iter();
            partitions
                .filter(|partition| partition.directory() == index && !partition.in_memory())
                .for_each(|partition| partition.fail());
        }
        self.failed_directories.send_modify(|count| *count += 1);
    }

    /// Writes where logs begin, if that has changed.
    pub(crate) fn checkpoint_log_starts(&self) -> Result<(), DirectoryError> {
        let mut directories = self.directories.iter().enumerate();
        directories.try_for_each(|(index, directory)| {
            if directory.has_failed() {
                return Ok(());
            }
            let written = directory.write_checkpoints(&[Checkpoint::LogStart]);
            written.inspect_err(|_| self.fail_directory(index))
        })
    }

    /// Writes how long the logs of a directory are, after one was cut: a checkpoint behind the end of its log must not be
    /// there when the log grows again.
    pub(crate) fn checkpoint_cut(&self, directory: usize) {
        let kinds = &[
            Checkpoint::LogStart,
            Checkpoint::RecoveryPoint,
            Checkpoint::Replication,
        ];
        if let Err(error) = self.directories[directory].write_checkpoints(kinds) {
            let path = self.directories[directory].path.display();
            tracing::error!(%path, %error, "cannot write checkpoints");
            self.fail_directory(directory);
        }
    }

    /// Writes how far the logs of a directory are compacted, if that has changed.
    pub(crate) fn checkpoint_cleaned(&self, directory: usize) {
        let directory = &self.directories[directory];
        if let Err(error) = directory.write_checkpoints(&[Checkpoint::Cleaner]) {
            let path = directory.path.display();
            tracing::error!(%path, %error, "cannot write how far logs are compacted; they are compacted again after a crash");
        }
    }

    /// Closes all logs, so that the next start finds nothing to recover. Tells whether all of them closed in order.
    pub(crate) fn close(&self, broker_epoch: i64) -> Result<(), String> {
        // Nobody reads any more.
        let doomed = std::mem::take(&mut *self.doomed.lock());
        self.remove(doomed);
        let mut by_directory: Vec<Vec<Arc<Partition>>> = Vec::new();
        by_directory.resize_with(self.directories.len(), Vec::new);
        for topic in self.topics.all() {
            for partition in topic.partitions() {
                by_directory[partition.directory()].push(partition);
            }
        }
        let mut failed = None;
        for (directory, partitions) in self.directories.iter().zip(&by_directory) {
            if let Err(error) = close_directory(directory, partitions, broker_epoch) {
                let path = directory.path.display();
                tracing::error!(%path, error, "a log directory was not closed in order");
                failed = Some(error);
            }
            // Whoever waits for records in a call of its own has the store until it looks again.
            directory.files.unlock();
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Closes the logs of a directory, several at a time: most of the work is waiting for the disk.
fn close_directory(
    directory: &DataDirectory,
    partitions: &[Arc<Partition>],
    broker_epoch: i64,
) -> Result<(), String> {
    if directory.has_failed() {
        return Err("the directory is out of service".to_owned());
    }
    let (resting, awake): (Vec<_>, Vec<_>) = partitions.iter().partition(|p| p.is_resting());
    let close = |partition: &Arc<Partition>| {
        let closed = partition.close();
        closed.map(|summary| (Arc::clone(partition), summary))
    };
    let share = awake.len().div_ceil(CLOSE_THREADS).max(1);
    let close_all = || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = awake
                .chunks(share)
                .map(|share| {
                    scope.spawn(move || share.iter().map(|p| close(p)).collect::<Vec<_>>())
                })
                .collect();
            let mut closed: Vec<_> = resting.iter().map(|p| close(p)).collect();
            for thread in threads {
                closed.extend(thread.join().expect("closing a log does not panic"));
            }
            closed
        })
    };
    let closed = match awake.len() >= SYNCED_TOGETHER_MIN {
        true => directory.files.sync_together(close_all),
        false => Ok(close_all()),
    };
    let closed = closed.map_err(|error| error.to_string())?;
    let mut summaries = Vec::with_capacity(closed.len());
    let mut failed = None;
    for closed in closed {
        match closed {
            Ok((partition, summary)) => {
                if !partition.in_memory() {
                    directory.set_recovery_point(&partition.name, summary.log_end_offset());
                    summaries.push((partition.name.to_string(), summary));
                }
            }
            Err(error) => failed = Some(error.to_string()),
        }
    }
    directory
        .write_checkpoints(directories::ALL)
        .map_err(|error| error.to_string())?;
    if let Some(error) = failed {
        return Err(error);
    }
    let logs = summaries.iter().filter(|(_, summary)| summary.has_files());
    let logs = logs.map(|(folder, summary)| (Path::new(folder), summary));
    directory
        .files
        .write_clean_shutdown(broker_epoch, logs)
        .map_err(|error| error.to_string())
}

/// The leader epoch of the last record.
/// Nobody ends a transaction yet that Kafka has left open. Its records stay, and readers of committed records stop at them.
fn warn_of_transactions(partition: &TopicPartition, log: &mut Log) {
    let end = log.log_end_offset();
    if log.first_unstable_offset(end).is_none() {
        return;
    }
    // A log that cannot be read says so to its readers.
    for (producer_id, state) in log.producers().into_iter().flatten() {
        if let Some(first_offset) = state.current_txn_first_offset {
            tracing::warn!(%partition, %producer_id, %first_offset,
                "a transaction is open, and stays so: this version does not serve transactions");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
