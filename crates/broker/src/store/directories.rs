//! The directories of `log.dirs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidelog_log::{Checkpoint, Dir, DirectoryError, Flusher, LogDirectory, LogSummary};
use tidelog_metadata::configs::{BrokerConfig, Durability};
use tidelog_types::{Offset, TopicPartition, Uuid};

use super::partition::Partition;

/// One directory with the thread that flushes it.
pub(crate) struct DataDirectory {
    pub(crate) path: PathBuf,
    pub(crate) id: Uuid,
    pub(crate) files: Arc<LogDirectory>,
    pub(crate) flusher: Arc<Flusher>,
    /// Whether the last broker that used the directory closed it in order.
    pub(crate) was_clean: bool,
    /// The epoch of the broker that closed the directory in order, -1 if nobody did or the mark does not say.
    pub(crate) previous_broker_epoch: i64,
    /// Partitions of which the checkpoints do not say what they should.
    pub(crate) changed: Arc<Changed>,
    /// Where the logs of topics live that are kept in memory only.
    memory: Arc<dyn Dir>,
    /// What was there when the directory was opened; `None` once everything is open that the metadata names.
    found: Mutex<Option<Found>>,
    checkpoints: Mutex<Checkpoints>,
    partitions_count: AtomicUsize,
    is_cordoned: AtomicBool,
    has_failed: AtomicBool,
}

struct Found {
    folders: HashSet<String>,
    summaries: HashMap<String, LogSummary>,
}

/// Partitions whose offsets have changed since the checkpoints were written, so that nobody has to look through all. They hold
/// on to it, and not it to them.
#[derive(Default)]
pub(crate) struct Changed(Mutex<Vec<Weak<Partition>>>);

impl Changed {
    pub(crate) fn add(&self, partition: &Arc<Partition>) {
        self.0.lock().push(Arc::downgrade(partition));
    }
}

/// What the checkpoint files say, or should say.
#[derive(Default)]
struct Checkpoints {
    offsets: BTreeMap<TopicPartition, Checkpointed>,
    /// Which of the files are to be written.
    stale: [bool; KINDS.len()],
}

type OffsetOf = fn(&Checkpointed) -> Option<Offset>;

/// The checkpoints in the order in which they are written, and what each says of a partition.
const KINDS: [(Checkpoint, OffsetOf); 4] = [
    (Checkpoint::LogStart, |found| Some(found.log_start)),
    (Checkpoint::RecoveryPoint, |found| {
        Some(found.recovery_point)
    }),
    (Checkpoint::Replication, |found| Some(found.high_watermark)),
    (Checkpoint::Cleaner, |found| found.first_dirty),
];

/// What the checkpoints say of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpointed {
    pub(crate) log_start: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) high_watermark: Offset,
    /// Up to where the log was compacted, if it ever was.
    pub(crate) first_dirty: Option<Offset>,
}

impl Checkpointed {
    /// A partition of which nothing is written down.
    pub(crate) const NEW: Self = Self {
        log_start: Offset::ZERO,
        recovery_point: Offset::ZERO,
        high_watermark: Offset::ZERO,
        first_dirty: None,
    };
}

impl Checkpoints {
    fn set(&mut self, partition: &TopicPartition, now: Checkpointed) {
        let last = self.offsets.insert(partition.clone(), now);
        for (stale, (_, offset)) in self.stale.iter_mut().zip(KINDS) {
            *stale |= last.as_ref().and_then(offset) != offset(&now);
        }
    }
}

impl DataDirectory {
    /// Reads the checkpoints of a directory whose identity was checked.
    pub(crate) fn open(
        path: PathBuf,
        id: Uuid,
        files: Arc<LogDirectory>,
        flusher: Arc<Flusher>,
        memory: Arc<dyn Dir>,
    ) -> Result<Self, DirectoryError> {
        let clean = files.take_clean_shutdown()?;
        let mut checkpoints = Checkpoints::default();
        let offsets = &mut checkpoints.offsets;
        let mut read = |checkpoint, set: fn(&mut Checkpointed, Offset)| {
            for (partition, offset) in files.read_checkpoint(checkpoint)? {
                set(
                    offsets.entry(partition).or_insert(Checkpointed::NEW),
                    offset,
                );
            }
            Ok::<_, DirectoryError>(())
        };
        read(Checkpoint::LogStart, |found, offset| {
            found.log_start = offset
        })?;
        read(Checkpoint::RecoveryPoint, |found, offset| {
            found.recovery_point = offset
        })?;
        read(Checkpoint::Replication, |found, offset| {
            found.high_watermark = offset
        })?;
        read(Checkpoint::Cleaner, |found, offset| {
            found.first_dirty = Some(offset)
        })?;
        let folders = files.partitions()?.into_iter().map(|folder| folder.name);
        let found = Found {
            folders: folders.collect(),
            summaries: HashMap::new(),
        };
        let was_clean = clean.is_some();
        let previous_broker_epoch = clean.as_ref().map_or(-1, |clean| clean.broker_epoch);
        let summaries = clean.map(|clean| clean.summaries).unwrap_or_default();
        Ok(Self {
            path,
            id,
            files,
            flusher,
            was_clean,
            previous_broker_epoch,
            changed: Arc::default(),
            memory,
            found: Mutex::new(Some(Found { summaries, ..found })),
            checkpoints: Mutex::new(checkpoints),
            partitions_count: AtomicUsize::new(0),
            is_cordoned: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        })
    }

    /// Where a log of this durability lives.
    pub(crate) fn dir_for(&self, durability: Durability) -> Arc<dyn Dir> {
        match durability {
            Durability::Fsync | Durability::PageCache => self.files.dir(),
            Durability::Memory => Arc::clone(&self.memory),
        }
    }

    /// Whether the folder of a partition was there when the directory was opened; `None` if that is not known any more.
    pub(crate) fn had_folder(&self, folder: &str) -> Option<bool> {
        let found = self.found.lock();
        found.as_ref().map(|found| found.folders.contains(folder))
    }

    /// What the last broker wrote down of a log when it closed the directory.
    pub(crate) fn take_summary(&self, folder: &str) -> Option<LogSummary> {
        let mut found = self.found.lock();
        let found = found
            .as_mut()
            .filter(|found| found.folders.contains(folder));
        found?.summaries.remove(folder)
    }

    /// The folders of partitions that were there when the directory was opened. To be asked for once, when everything that
    /// the metadata names is open.
    pub(crate) fn take_folders(&self) -> HashSet<String> {
        let found = self.found.lock().take();
        found.map(|found| found.folders).unwrap_or_default()
    }

    /// What is written down of a partition.
    pub(crate) fn checkpointed(&self, partition: &TopicPartition) -> Checkpointed {
        let checkpoints = self.checkpoints.lock();
        let found = checkpoints.offsets.get(partition).copied();
        found.unwrap_or(Checkpointed::NEW)
    }

    /// How many partitions were opened here.
    pub(crate) fn partitions_count(&self) -> usize {
        self.partitions_count.load(Ordering::Relaxed)
    }

    pub(crate) fn count_partition(&self) {
        self.partitions_count.fetch_add(1, Ordering::Relaxed);
    }

    /// KIP-1066: whether the directory takes no new replicas.
    pub(crate) fn is_cordoned(&self) -> bool {
        self.is_cordoned.load(Ordering::Relaxed)
    }

    /// Takes over `cordoned.log.dirs`, in which `*` stands for all.
    pub(super) fn configure(&self, config: &BrokerConfig) {
        let mut cordoned = config.cordoned_log_dirs().iter();
        let is_cordoned = cordoned.any(|path| path == "*" || self.path == Path::new(path));
        self.is_cordoned.store(is_cordoned, Ordering::Relaxed);
    }

    pub(super) fn uncount_partition(&self) {
        self.partitions_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes what is to be known of a partition that is about to come here, durably.
    pub(super) fn note(
        &self,
        partition: &TopicPartition,
        now: Checkpointed,
    ) -> Result<(), DirectoryError> {
        self.checkpoints.lock().set(partition, now);
        self.write_checkpoints(ALL)
    }

    /// Whether the directory is out of service until the next start.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Takes the directory out of service; tells whether it was in service.
    pub(super) fn fail(&self) -> bool {
        !self.has_failed.swap(true, Ordering::AcqRel)
    }

    /// Takes a partition that was deleted out of the checkpoints.
    pub(crate) fn forget(&self, partition: &TopicPartition) {
        let mut checkpoints = self.checkpoints.lock();
        if checkpoints.offsets.remove(partition).is_some() {
            checkpoints.stale = [true; KINDS.len()];
        }
    }

    /// Notes that a log was closed, with everything durable.
    pub(crate) fn set_recovery_point(&self, partition: &TopicPartition, recovery_point: Offset) {
        let found = self.checkpointed(partition);
        let now = Checkpointed {
            recovery_point,
            ..found
        };
        self.checkpoints.lock().set(partition, now);
    }

    /// Writes the checkpoints of those kinds that do not say what they should.
    pub(crate) fn write_checkpoints(&self, kinds: &[Checkpoint]) -> Result<(), DirectoryError> {
        let changed = std::mem::take(&mut *self.changed.0.lock());
        let mut checkpoints = self.checkpoints.lock();
        for partition in changed.iter().filter_map(Weak::upgrade) {
            // One that has moved away is noted where it is now.
            if partition.is_noted_in(&self.changed)
                && let Some(now) = partition.take_changed()
            {
                checkpoints.set(&partition.name, now);
            }
        }
        let Checkpoints { offsets, stale } = &mut *checkpoints;
        for ((kind, offset), stale) in KINDS.into_iter().zip(stale) {
            if *stale && kinds.contains(&kind) {
                let lines = offsets
                    .iter()
                    .filter_map(|(partition, found)| Some((partition, offset(found)?)));
                self.files.write_checkpoint(kind, lines)?;
                *stale = false;
            }
        }
        Ok(())
    }
}

/// The path by which clients know a directory.
pub(crate) fn absolute(path: &Path) -> String {
    // It fails for an empty path only.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.to_string_lossy().into_owned()
}

/// All checkpoints that the store writes.
pub(crate) const ALL: &[Checkpoint] = &[
    Checkpoint::LogStart,
    Checkpoint::RecoveryPoint,
    Checkpoint::Replication,
    Checkpoint::Cleaner,
];
