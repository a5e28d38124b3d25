//! Whose the log directories are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::testing::FaultDir;
use tidelog_log::{DirectoryError, Flusher, LogDirectory, LogError, MetaProperties};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_types::{NodeId, Uuid};

use crate::builder::Disks;
use crate::error::StartError;
use crate::format::format_new;
use crate::random::random_uuid;
use crate::store::directories::DataDirectory;

/// How many partitions of a log directory are flushed at the same time: where many small writes wait for theirs, such as commits of
/// many groups, the disk answers more of them at once than one after the other.
const FLUSHES_AT_A_TIME: usize = 4;

/// The log directories of a node.
pub(crate) struct Directories {
    pub(crate) usable: Vec<DataDirectory>,
    /// `metadata.log.dir`, if it is none of them.
    pub(crate) metadata: Option<DataDirectory>,
    /// Those that the disk does not let be read and written. The node does without them.
    pub(crate) unavailable: Vec<PathBuf>,
    pub(crate) cluster_id: String,
}

/// The directories of a node that are being opened.
struct Opening<'a> {
    config: &'a BrokerConfig,
    disks: &'a Disks,
    unavailable: Vec<PathBuf>,
}

/// Opens and locks the log directories, and gives those that are new the identity of the cluster.
pub(crate) fn open_directories(
    config: &BrokerConfig,
    node_id: NodeId,
    disks: &Disks,
) -> Result<Directories, StartError> {
    let mut opening = Opening {
        config,
        disks,
        unavailable: Vec::new(),
    };
    let known = opening.identify(node_id)?;
    if known.is_none() && !config.is_alone() && disks.cluster_id.is_none() {
        return Err(StartError::Unformatted {
            path: PathBuf::from(config.metadata_log_dir()),
        });
    }
    let mut opened = Vec::new();
    for path in opening.directories() {
        let files = LogDirectory::open(disks.open(config, &path));
        if let Some(files) = opening.unless_unavailable(&path, files)? {
            opened.push((path, files));
        }
    }
    let cluster_id = match known {
        Some(cluster_id) => cluster_id,
        None => {
            // The first start of a node that is alone, or knows its cluster, formats the directories by itself.
            let unformatted = opened.iter().map(|(path, files)| (path.as_path(), files));
            let unformatted: Vec<_> = unformatted.collect();
            format_new(&unformatted, config, disks.cluster_id.as_deref())
                .map_err(|error| StartError::Unsupported(error.to_string()))?
        }
    };
    let (mut usable, mut metadata) = (Vec::new(), None);
    for (path, files) in opened {
        let id = directory_id(&files, &cluster_id, node_id);
        let Some(id) = opening.unless_unavailable(&path, id)? else {
            continue;
        };
        let flusher = Arc::new(Flusher::start_threads("tidelog-flush", FLUSHES_AT_A_TIME)?);
        let memory = Arc::new(FaultDir::new());
        let directory = DataDirectory::open(path.clone(), id, Arc::new(files), flusher, memory);
        let directory = opening.unless_unavailable(&path, directory)?;
        if opening.is_for_partitions(&path) {
            usable.extend(directory);
        } else {
            metadata = directory;
        }
    }
    Ok(Directories {
        usable,
        metadata,
        unavailable: opening.unavailable,
        cluster_id,
    })
}

/// The id of a directory; one that has none is given one.
fn directory_id(
    files: &LogDirectory,
    cluster_id: &str,
    node_id: NodeId,
) -> Result<Uuid, DirectoryError> {
    let properties = files.meta_properties()?;
    if let Some(id) = properties.and_then(|properties| properties.directory_id) {
        return Ok(id);
    }
    let id = random_uuid();
    let properties = MetaProperties {
        cluster_id: cluster_id.to_owned(),
        node_id,
        directory_id: Some(id),
    };
    files.write_meta_properties(&properties)?;
    Ok(id)
}

impl Opening<'_> {
    /// The log directories that may be usable, and that of the metadata log.
    fn directories(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = self.config.log_dirs().iter().map(PathBuf::from).collect();
        let metadata = PathBuf::from(self.config.metadata_log_dir());
        if !self.config.roles().broker {
            // A controller keeps nothing else.
            paths = vec![metadata];
        } else if !paths.contains(&metadata) {
            paths.push(metadata);
        }
        paths.retain(|path| !self.unavailable.contains(path));
        paths
    }

    /// Whether a directory is one of those that the store looks after: a controller has but one.
    fn is_for_partitions(&self, path: &Path) -> bool {
        let mut log_dirs = self.config.log_dirs().iter();
        !self.config.roles().broker || log_dirs.any(|log_dir| Path::new(log_dir) == path)
    }

    /// `None` for a directory that the disk refuses, where the node can do without it (KIP-112).
    fn unless_unavailable<T>(
        &mut self,
        path: &Path,
        result: Result<T, DirectoryError>,
    ) -> Result<Option<T>, StartError> {
        let error = match result {
            Ok(usable) => return Ok(Some(usable)),
            Err(error) => error,
        };
        let is_of_the_disk = matches!(
            error,
            DirectoryError::Unusable { .. } | DirectoryError::Log(LogError::Io { .. })
        );
        if !is_of_the_disk || path == Path::new(self.config.metadata_log_dir()) {
            return Err(StartError::directory(path, error));
        }
        tracing::error!(path = %path.display(), %error, "a log directory is out of service until the next start, with all partitions in it");
        self.unavailable.push(path.to_owned());
        Ok(None)
    }

    /// Checks whose the log directories are, before anything is locked or created. Answers the cluster, unless all are new.
    fn identify(&mut self, node_id: NodeId) -> Result<Option<String>, StartError> {
        let mut cluster_id = None;
        for path in self.directories() {
            let properties = LogDirectory::peek(&*self.disks.open(self.config, &path));
            let properties = self.unless_unavailable(&path, properties)?;
            if let Some(properties) = properties.flatten() {
                let cluster_id = cluster_id.get_or_insert_with(|| properties.cluster_id.clone());
                let checked = properties.check(cluster_id, node_id);
                checked.map_err(|source| StartError::directory(&path, source))?;
            }
        }
        Ok(cluster_id)
    }
}

/// Which of the directories has the metadata log, if one has.
pub(crate) fn metadata_directory(
    config: &BrokerConfig,
    directories: &[DataDirectory],
) -> Option<usize> {
    let path = Path::new(config.metadata_log_dir());
    directories
        .iter()
        .position(|directory| directory.path == path)
}
