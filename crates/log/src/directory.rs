use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_types::{NodeId, Offset, PartitionIndex, TopicId, TopicPartition, Uuid};

use crate::checkpoint;
use crate::dir::{Dir, Lock, Space, read_file, remove_if_exists, remove_tree, replace_file};
use crate::error::{Context, LogError};
use crate::meta_properties::MetaProperties;
use crate::rest::{self, LogSummary};
use crate::{json, names};

pub(crate) const LOCK: &str = ".lock";
const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub(crate) const SUMMARY: &str = "tidelog.summary";
const BOOTSTRAP: &str = "bootstrap.checkpoint";

/// Why a log directory cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process, or another broker in this one, uses the directory.
    #[error(
        "it is in use by another broker; stop that one, or give this one a directory of its own"
    )]
    Locked,
    /// The directory cannot be made, read or written.
    #[error(
        "it cannot be read and written: {source}; give it to the user of the broker, or choose another directory"
    )]
    Unusable {
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// `meta.properties` names another cluster.
    #[error(
        "meta.properties says cluster {found}, but this broker is of cluster {expected}; correct the cluster id or \
         the directory, or move the directory's content away to begin anew"
    )]
    ForeignCluster {
        /// In the file.
        found: String,
        /// Of the broker.
        expected: String,
    },
    /// `meta.properties` names another node.
    #[error(
        "meta.properties says node {found}, but this is node {expected}; correct node.id or the directory, or move \
         the directory's content away to begin anew"
    )]
    ForeignNode {
        /// In the file.
        found: NodeId,
        /// Of the broker.
        expected: NodeId,
    },
    /// A file is not what it should be.
    #[error("{} is damaged: {reason}; {mend}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// The disk refused.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The files in which a log directory keeps one offset for each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Up to where logs were flushed.
    RecoveryPoint,
    /// Where logs begin, if not with their first segment.
    LogStart,
    /// High watermarks.
    Replication,
    /// Up to where logs were compacted.
    Cleaner,
}

impl Checkpoint {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RecoveryPoint,
        Self::LogStart,
        Self::Replication,
        Self::Cleaner,
    ];

    /// The name of the file.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::RecoveryPoint => "recovery-point-offset-checkpoint",
            Self::LogStart => "log-start-offset-checkpoint",
            Self::Replication => "replication-offset-checkpoint",
            Self::Cleaner => "cleaner-offset-checkpoint",
        }
    }
}

/// A folder in a log directory that holds, or held, a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFolder {
    /// The name of the folder.
    pub name: String,
    /// Whose log it is.
    pub partition: TopicPartition,
    /// What is to become of it.
    pub kind: FolderKind,
}

/// What the suffix of a partition's folder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderKind {
    /// The log of a partition.
    Live,
    /// The partition was deleted (`-delete`), the folder is to be removed.
    Deleted,
    /// A copy on its way from another directory (`-future`).
    Future,
    /// Nothing knows of the partition (`-stray`).
    Stray,
}

impl FolderKind {
    const SUFFIXES: [(&'static str, Self); 3] = [
        ("-delete", Self::Deleted),
        ("-future", Self::Future),
        ("-stray", Self::Stray),
    ];
}

impl PartitionFolder {
    /// Reads the name of a folder: `topic-partition`, or `topic-partition.<32 hex digits>-delete` and the like.
    pub fn parse(name: &str) -> Option<Self> {
        let suffixed = FolderKind::SUFFIXES.iter().find_map(|(suffix, kind)| {
            let (rest, id) = name.strip_suffix(suffix)?.rsplit_once('.')?;
            let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_id.then_some((rest, *kind))
        });
        let (rest, kind) = suffixed.unwrap_or((name, FolderKind::Live));
        let (topic, partition) = rest.rsplit_once('-')?;
        let is_number = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
        let partition: PartitionIndex = is_number.then(|| partition.parse().ok()).flatten()?;
        let partition = TopicPartition::new(topic, partition);
        partition.topic.validate().ok()?;
        Some(Self {
            name: name.to_owned(),
            partition,
            kind,
        })
    }
}

/// The name of the folder in which a copy of a partition's log grows (KIP-113). It may be too long for a file system.
pub fn future_name(partition: &TopicPartition, id: Uuid) -> String {
    format!(
        "{partition}.{:032x}-future",
        u128::from_be_bytes(*id.as_bytes())
    )
}

/// The name of a folder that is to be removed.
pub(crate) fn deleted_name(name: &str, id: Uuid) -> String {
    suffixed_name(name, id, "-delete")
}

fn suffixed_name(name: &str, id: Uuid, suffix: &str) -> String {
    // A name may have 255 bytes, and a topic 249 of them.
    let tail = format!(".{:032x}{suffix}", u128::from_be_bytes(*id.as_bytes()));
    let (topic, partition) = name.rsplit_once('-').unwrap_or((name, ""));
    let room = 255_usize.saturating_sub(tail.len() + partition.len() + 1);
    let topic = topic.get(..room).unwrap_or(topic);
    format!("{topic}-{partition}{tail}")
}

/// One directory of `log.dirs`: the folders of partitions and the files that concern them all.
///
/// ```
/// use std::sync::Arc;
/// use tidelog_log::{Checkpoint, LogDirectory, testing::FaultDir};
/// use tidelog_types::{Offset, TopicPartition};
///
/// let directory = LogDirectory::open(Arc::new(FaultDir::new()))?;
/// let orders = TopicPartition::new("orders", 0);
/// directory.write_checkpoint(Checkpoint::RecoveryPoint, [(&orders, Offset::new(42))])?;
/// let offsets = directory.read_checkpoint(Checkpoint::RecoveryPoint)?;
/// assert_eq!(offsets[&orders], Offset::new(42));
/// # Ok::<(), tidelog_log::DirectoryError>(())
/// ```
#[derive(Debug)]
pub struct LogDirectory {
    pub(crate) dir: Arc<dyn Dir>,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl LogDirectory {
    /// Creates the directory if it does not exist, and locks it until dropped or [unlocked](Self::unlock).
    pub fn open(dir: Arc<dyn Dir>) -> Result<Self, DirectoryError> {
        dir.create_dir(Path::new("")).map_err(unusable)?;
        let lock = match dir.lock(Path::new(LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(DirectoryError::Locked);
            }
            Err(error) => return Err(unusable(error)),
        };
        let lock = Mutex::new(Some(lock));
        Ok(Self { dir, lock })
    }

    /// The directory itself, for [`Log::open`](crate::Log::open).
    pub fn dir(&self) -> Arc<dyn Dir> {
        self.dir.clone()
    }

    /// How large the volume is; `None` if that is not known.
    pub fn space(&self) -> Result<Option<Space>, DirectoryError> {
        self.dir.space().map_err(unusable)
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Option<bytes::Bytes>, LogError> {
        read_file(&*self.dir, path).context("read", path)
    }

    pub(crate) fn replace(&self, path: &Path, content: &[u8]) -> Result<(), LogError> {
        replace_file(&*self.dir, path, content).context("write", path)?;
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        self.dir.sync_dir(parent).context("sync", parent)
    }

    // Identity

    /// Reads `meta.properties`; `None` if the directory was never used.
    pub fn meta_properties(&self) -> Result<Option<MetaProperties>, DirectoryError> {
        Self::peek(&*self.dir)
    }

    /// Reads `meta.properties` of a directory that is not open. Nothing is locked, and nothing created where nothing is.
    pub fn peek(dir: &dyn Dir) -> Result<Option<MetaProperties>, DirectoryError> {
        let path = Path::new(META_PROPERTIES);
        let Some(bytes) = read_file(dir, path).map_err(unusable)? else {
            return Ok(None);
        };
        let properties = MetaProperties::parse(&bytes).map_err(|reason| DirectoryError::Damaged {
            path: path.to_owned(),
            reason,
            mend: "write it anew with version=1, cluster.id, node.id and directory.id of this broker, or restore it from a \
                   copy",
        })?;
        Ok(Some(properties))
    }

    /// Writes `meta.properties`.
    pub fn write_meta_properties(&self, properties: &MetaProperties) -> Result<(), DirectoryError> {
        Ok(self.replace(Path::new(META_PROPERTIES), &properties.encode())?)
    }

    // Clean shutdown

    /// Tells whether the directory was closed cleanly, and with which broker epoch (KIP-966). The mark is removed: from
    /// now on a crash is a crash.
    ///
    /// With it comes what is known of each log, unless another program closed the directory, or it is a copy: then logs
    /// are opened by their files.
    pub fn take_clean_shutdown(&self) -> Result<Option<CleanShutdown>, DirectoryError> {
        let path = Path::new(CLEAN_SHUTDOWN);
        let Some(bytes) = self.read(path)? else {
            return Ok(None);
        };
        let summaries = self.read_summary().unwrap_or_default();
        remove_if_exists(&*self.dir, path).context("remove", path)?;
        self.dir
            .sync_dir(Path::new(""))
            .context("sync", Path::new(""))?;
        Ok(Some(CleanShutdown {
            broker_epoch: broker_epoch_in(&bytes),
            summaries,
        }))
    }

    /// What was written down of the logs together with this mark of a clean shutdown. Anything doubtful means nothing: the
    /// logs are opened by their files then.
    fn read_summary(&self) -> Option<HashMap<String, LogSummary>> {
        let mark = self
            .dir
            .identity(Path::new(CLEAN_SHUTDOWN))
            .ok()
            .flatten()?;
        let bytes = self.read(Path::new(SUMMARY)).ok().flatten()?;
        let summaries = rest::decode(&bytes, mark);
        if summaries.is_none() {
            tracing::info!(
                "{SUMMARY} is not of the last clean shutdown; logs are opened by their files"
            );
        }
        summaries
    }

    /// Marks the directory as closed cleanly. Every log must be closed and every checkpoint written. `logs` are their
    /// folders and what [`Log::close`](crate::Log::close) answered, so that the next start need not open them; one that is
    /// missing is opened by its files.
    pub fn write_clean_shutdown<'a>(
        &self,
        broker_epoch: i64,
        logs: impl IntoIterator<Item = (&'a Path, &'a LogSummary)>,
    ) -> Result<(), DirectoryError> {
        let content = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        let mark = Path::new(CLEAN_SHUTDOWN);
        self.replace(mark, content.as_bytes())?;
        // The summary names its mark, so it comes second. Without it the next start takes longer, and that is all.
        let identity = self.dir.identity(mark).context("read", mark)?;
        if let Some(identity) = identity {
            self.replace(Path::new(SUMMARY), &rest::encode(identity, logs))?;
        }
        Ok(())
    }

    /// Lets another have the directory, though somebody still holds on to this value. Nothing may be written by it any more.
    pub fn unlock(&self) {
        self.lock.lock().take();
    }

    /// Does some work, such as closing many logs. What that makes durable of files that it opens, and of names, is so when this
    /// returns, and need not be earlier: a file system does that for many small files at once much faster than for one after the
    /// other.
    pub fn sync_together<R>(&self, work: impl FnOnce() -> R) -> Result<R, DirectoryError> {
        let root = Path::new("");
        self.dir.defer_syncs().context("sync", root)?;
        let done = work();
        self.dir.sync_deferred().context("sync", root)?;
        Ok(done)
    }

    // Checkpoints

    /// Reads the offsets of a checkpoint; none if the file does not exist.
    pub fn read_checkpoint(
        &self,
        checkpoint: Checkpoint,
    ) -> Result<BTreeMap<TopicPartition, Offset>, DirectoryError> {
        let path = Path::new(checkpoint.file_name());
        let Some(bytes) = self.read(path)? else {
            return Ok(BTreeMap::new());
        };
        checkpoint::read_offsets(&bytes).map_err(|reason| DirectoryError::Damaged {
            path: path.to_owned(),
            reason,
            mend: "remove it: logs are then recovered from their beginning, and high watermarks found anew",
        })
    }

    /// Replaces the offsets of a checkpoint, durably.
    pub fn write_checkpoint<'a>(
        &self,
        checkpoint: Checkpoint,
        offsets: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
    ) -> Result<(), DirectoryError> {
        let content = checkpoint::write_offsets(offsets);
        Ok(self.replace(Path::new(checkpoint.file_name()), &content)?)
    }

    // The first records of a cluster

    /// Reads `bootstrap.checkpoint`, the records with which a formatted cluster begins; `None` if there is none.
    pub fn read_bootstrap(&self) -> Result<Option<bytes::Bytes>, DirectoryError> {
        Ok(self.read(Path::new(BOOTSTRAP))?)
    }

    /// Writes `bootstrap.checkpoint`.
    pub fn write_bootstrap(&self, content: &[u8]) -> Result<(), DirectoryError> {
        Ok(self.replace(Path::new(BOOTSTRAP), content)?)
    }

    // Partitions

    /// The folders of partitions, by name.
    pub fn partitions(&self) -> Result<Vec<PartitionFolder>, DirectoryError> {
        let names = self
            .dir
            .list_dirs(Path::new(""))
            .context("list", Path::new(""))?;
        let mut folders: Vec<_> = names
            .iter()
            .filter_map(|name| PartitionFolder::parse(name))
            .collect();
        folders.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(folders)
    }

    /// Which incarnation of its topic a folder belongs to; `None` if the file is missing or empty.
    pub fn partition_topic_id(&self, folder: &str) -> Result<Option<TopicId>, DirectoryError> {
        let path = Path::new(folder).join(names::PARTITION_METADATA);
        match self.read(&path)? {
            Some(bytes) if !bytes.is_empty() => {
                let topic_id = checkpoint::read_partition_metadata(&bytes);
                topic_id.map(Some).map_err(|reason| DirectoryError::Damaged {
                    path,
                    reason,
                    mend: "remove it: the folder is then taken to belong to the topic of its name",
                })
            }
            _ => Ok(None),
        }
    }

    /// Gives a folder that nobody uses, whatever it is called, a name by which it is known to be deleted, and removes it. If that is
    /// not done to the end, the next start does the rest.
    pub fn discard(
        &self,
        folder: &str,
        partition: &TopicPartition,
        id: Uuid,
    ) -> Result<(), DirectoryError> {
        let name = deleted_name(&partition.to_string(), id);
        match self.dir.rename(Path::new(folder), Path::new(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done.context("rename", Path::new(folder))?,
        }
        self.dir
            .sync_dir(Path::new(""))
            .context("sync", Path::new(""))?;
        self.remove_folder(&name)
    }

    /// Gives a folder that nothing knows of a name that says so. Answers the new name.
    pub fn mark_stray(&self, folder: &str, id: Uuid) -> Result<String, DirectoryError> {
        let name = suffixed_name(folder, id, "-stray");
        self.dir
            .rename(Path::new(folder), Path::new(&name))
            .context("rename", Path::new(folder))?;
        Ok(name)
    }

    /// Removes a folder with everything in it. It may take a while.
    pub fn remove_folder(&self, folder: impl AsRef<Path>) -> Result<(), DirectoryError> {
        let folder = folder.as_ref();
        Ok(remove_tree(&*self.dir, folder).context("remove", folder)?)
    }
}

fn unusable(source: io::Error) -> DirectoryError {
    DirectoryError::Unusable {
        source: Arc::new(source),
    }
}

/// What the mark of a clean shutdown says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanShutdown {
    /// The epoch with which the broker was registered, -1 if the mark does not say.
    pub broker_epoch: i64,
    /// What is known of each log, by its folder, for [`Log::resume`](crate::Log::resume). Logs that are not here are opened
    /// by their files.
    pub summaries: HashMap<String, LogSummary>,
}

/// The broker epoch in the mark of a clean shutdown, -1 if it does not say: Kafka before 3.8 wrote an empty file.
pub(crate) fn broker_epoch_in(mark: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(mark);
    let broker_epoch = json::field(&text, "brokerEpoch").and_then(|e| e.parse().ok());
    broker_epoch.unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Crash, FaultDir};

    #[test]
    fn folder_names_are_told_apart() {
        let parse = |name| PartitionFolder::parse(name).map(|f| (f.partition.to_string(), f.kind));
        assert_eq!(
            parse("a-b-12"),
            Some(("a-b-12".to_owned(), FolderKind::Live))
        );
        let removed = "removed-0.90f87b5f683a43ecb6d3e97a5785cdff-delete";
        assert_eq!(
            parse(removed),
            Some(("removed-0".to_owned(), FolderKind::Deleted))
        );
        let stray = "a.b-3.90f87b5f683a43ecb6d3e97a5785cdff-stray";
        assert_eq!(parse(stray), Some(("a.b-3".to_owned(), FolderKind::Stray)));
        for name in [
            "lost+found",
            "a",
            "a-",
            "-1",
            "a-x",
            "a-1.tmp",
            "remote-log-index-cache",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_long_name_still_fits_when_deleted() {
        let name = format!("{}-0", "x".repeat(249));
        let deleted = deleted_name(&name, Uuid::from_bytes([7; 16]));
        assert_eq!(deleted.len(), 255);
        assert_eq!(
            PartitionFolder::parse(&deleted).unwrap().kind,
            FolderKind::Deleted
        );
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let dir = FaultDir::new();
        let first = LogDirectory::open(Arc::new(dir.clone())).unwrap();
        let error = LogDirectory::open(Arc::new(dir.clone())).unwrap_err();
        assert!(matches!(error, DirectoryError::Locked), "{error}");
        drop(first);
        LogDirectory::open(Arc::new(dir)).unwrap();
    }

    #[test]
    fn a_clean_shutdown_counts_once() {
        let dir = FaultDir::new();
        let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
        assert_eq!(directory.take_clean_shutdown().unwrap(), None);
        directory.write_clean_shutdown(13, []).unwrap();
        assert_eq!(
            dir.content(CLEAN_SHUTDOWN).unwrap(),
            b"{\"version\":0,\"brokerEpoch\":13}"
        );
        drop(directory);
        dir.crash(Crash::LoseUnsynced);
        let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
        let mark = directory.take_clean_shutdown().unwrap().unwrap();
        assert_eq!((mark.broker_epoch, mark.summaries.len()), (13, 0));
        drop(directory);
        dir.crash(Crash::LoseUnsynced);
        let directory = LogDirectory::open(Arc::new(dir)).unwrap();
        assert_eq!(directory.take_clean_shutdown().unwrap(), None);
    }

    #[test]
    fn damage_is_told_with_a_way_to_mend_it() {
        let dir = FaultDir::new();
        dir.put("recovery-point-offset-checkpoint", b"0\n1\n");
        let directory = LogDirectory::open(Arc::new(dir)).unwrap();
        let error = directory
            .read_checkpoint(Checkpoint::RecoveryPoint)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "recovery-point-offset-checkpoint is damaged: line 2 promises 1 entries, there are 0; remove it: logs are then \
             recovered from their beginning, and high watermarks found anew"
        );
    }
}
