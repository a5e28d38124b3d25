//! The directories of `log.dirs`.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidelog_log::{Checkpoint, Dir, DirectoryError, Flusher, LogDirectory};
use tidelog_metadata::configs::Durability;
use tidelog_types::{Offset, PartitionIndex, TopicName, TopicPartition, Uuid};

/// One directory with the thread that flushes it.
pub(crate) struct DataDirectory {
    pub(crate) path: PathBuf,
    pub(crate) id: Uuid,
    pub(crate) files: Arc<LogDirectory>,
    pub(crate) flusher: Arc<Flusher>,
    /// Whether the last broker that used the directory closed it in order.
    pub(crate) was_clean: bool,
    /// Where the logs of topics live that are kept in memory only.
    memory: Arc<dyn Dir>,
    folders: HashSet<String>,
    found: BTreeMap<TopicPartition, Checkpointed>,
    partitions_count: AtomicUsize,
    written: Mutex<Written>,
}

/// What was written last, so that what has not changed is not written again.
#[derive(Default)]
struct Written {
    log_start: Option<Vec<(TopicPartition, Offset)>>,
    recovery_point: Option<Vec<(TopicPartition, Offset)>>,
    high_watermark: Option<Vec<(TopicPartition, Offset)>>,
}

/// What the checkpoints say of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpointed {
    pub(crate) log_start: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) high_watermark: Offset,
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
        let was_clean = files.take_clean_shutdown()?.is_some();
        let mut found: BTreeMap<TopicPartition, Checkpointed> = BTreeMap::new();
        let mut read = |checkpoint, set: fn(&mut Checkpointed, Offset)| {
            for (partition, offset) in files.read_checkpoint(checkpoint)? {
                set(found.entry(partition).or_insert(Checkpointed::NEW), offset);
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
        let folders = files
            .partitions()?
            .into_iter()
            .map(|folder| folder.name)
            .collect();
        Ok(Self {
            path,
            id,
            files,
            flusher,
            was_clean,
            memory,
            folders,
            found,
            partitions_count: AtomicUsize::new(0),
            written: Mutex::default(),
        })
    }

    /// Where a log of this durability lives.
    pub(crate) fn dir_for(&self, durability: Durability) -> Arc<dyn Dir> {
        match durability {
            Durability::Fsync | Durability::PageCache => self.files.dir(),
            Durability::Memory => Arc::clone(&self.memory),
        }
    }

    /// Whether the folder of a partition was there when the directory was opened.
    pub(crate) fn has_folder(&self, topic: &TopicName, index: PartitionIndex) -> bool {
        self.folders.contains(&format!("{topic}-{index}"))
    }

    /// The folders of partitions that were there when the directory was opened.
    pub(crate) fn folders(&self) -> &HashSet<String> {
        &self.folders
    }

    /// What was written down of a partition before this start.
    pub(crate) fn checkpointed(&self, partition: &TopicPartition) -> Checkpointed {
        self.found
            .get(partition)
            .copied()
            .unwrap_or(Checkpointed::NEW)
    }

    /// How many partitions were opened here.
    pub(crate) fn partitions_count(&self) -> usize {
        self.partitions_count.load(Ordering::Relaxed)
    }

    pub(crate) fn count_partition(&self) {
        self.partitions_count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn write_checkpoints(
        &self,
        offsets: &BTreeMap<TopicPartition, Checkpointed>,
    ) -> Result<(), DirectoryError> {
        self.write_checkpoint(Checkpoint::LogStart, offsets)?;
        self.write_checkpoint(Checkpoint::RecoveryPoint, offsets)?;
        self.write_checkpoint(Checkpoint::Replication, offsets)
    }

    /// Writes one kind of checkpoint, unless the file says the same already.
    pub(crate) fn write_checkpoint(
        &self,
        checkpoint: Checkpoint,
        offsets: &BTreeMap<TopicPartition, Checkpointed>,
    ) -> Result<(), DirectoryError> {
        let mut written = self.written.lock();
        let (last, pick): (_, fn(&Checkpointed) -> Offset) = match checkpoint {
            Checkpoint::LogStart => (&mut written.log_start, |found| found.log_start),
            Checkpoint::RecoveryPoint => {
                (&mut written.recovery_point, |found| found.recovery_point)
            }
            Checkpoint::Replication => (&mut written.high_watermark, |found| found.high_watermark),
            Checkpoint::Cleaner => return Ok(()),
        };
        let now: Vec<_> = offsets
            .iter()
            .map(|(partition, found)| (partition.clone(), pick(found)))
            .collect();
        if last.as_ref() == Some(&now) {
            return Ok(());
        }
        let lines = now.iter().map(|(partition, offset)| (partition, *offset));
        self.files.write_checkpoint(checkpoint, lines)?;
        *last = Some(now);
        Ok(())
    }
}
