//! Whose the log directories are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::testing::FaultDir;
use tidelog_log::{DirectoryError, Flusher, LogDirectory, MetaProperties};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_types::NodeId;

use crate::builder::Disks;
use crate::error::StartError;
use crate::format::format_new;
use crate::random::random_uuid;
use crate::store::directories::DataDirectory;

/// How many partitions of a log directory are flushed at the same time: where many small writes wait for theirs, such as commits of
/// many groups, the disk answers more of them at once than one after the other.
const FLUSHES_AT_A_TIME: usize = 4;

/// Opens and locks the log directories, and gives those that are new the identity of the cluster.
pub(crate) fn open_directories(
    config: &BrokerConfig,
    node_id: NodeId,
    disks: &Disks,
) -> Result<(Vec<DataDirectory>, String), StartError> {
    let known = identify(config, node_id, disks)?;
    if known.is_none() && !config.is_alone() {
        return Err(StartError::Unformatted {
            path: PathBuf::from(config.metadata_log_dir()),
        });
    }
    let mut opened = Vec::new();
    for path in directories(config) {
        let files = LogDirectory::open(disks.open(config, &path));
        let files = files.map_err(|source| StartError::directory(&path, source))?;
        opened.push((path, files));
    }
    let cluster_id = match known {
        Some(cluster_id) => cluster_id,
        None => {
            // The first start of a node that is alone formats the directories by itself.
            let unformatted = opened.iter().map(|(path, files)| (path.as_path(), files));
            let unformatted: Vec<_> = unformatted.collect();
            format_new(&unformatted, config)
                .map_err(|error| StartError::Unsupported(error.to_string()))?
        }
    };
    let mut directories = Vec::new();
    for (path, files) in opened {
        let refuse = |source: DirectoryError| StartError::directory(&path, source);
        let properties = files.meta_properties().map_err(refuse)?;
        let id = match properties.and_then(|properties| properties.directory_id) {
            Some(id) => id,
            None => {
                let id = random_uuid();
                let properties = MetaProperties {
                    cluster_id: cluster_id.clone(),
                    node_id,
                    directory_id: Some(id),
                };
                files.write_meta_properties(&properties).map_err(refuse)?;
                id
            }
        };
        let flusher = Arc::new(Flusher::start_threads("tidelog-flush", FLUSHES_AT_A_TIME)?);
        let memory = Arc::new(FaultDir::new());
        let directory = DataDirectory::open(path.clone(), id, Arc::new(files), flusher, memory);
        directories.push(directory.map_err(refuse)?);
    }
    Ok((directories, cluster_id))
}

/// The log directories, and that of the metadata log.
fn directories(config: &BrokerConfig) -> Vec<PathBuf> {
    let mut paths: Vec<_> = config.log_dirs().iter().map(PathBuf::from).collect();
    if !config.roles().broker {
        // A controller keeps nothing else.
        paths = vec![PathBuf::from(config.metadata_log_dir())];
    }
    paths
}

/// Checks whose the log directories are, before anything is locked or created. Answers the cluster, unless all are new.
fn identify(
    config: &BrokerConfig,
    node_id: NodeId,
    disks: &Disks,
) -> Result<Option<String>, StartError> {
    let mut cluster_id = None;
    for path in directories(config) {
        let refuse = |source| StartError::directory(&path, source);
        let properties = LogDirectory::peek(&*disks.open(config, &path)).map_err(refuse)?;
        if let Some(properties) = properties {
            let cluster_id = cluster_id.get_or_insert_with(|| properties.cluster_id.clone());
            properties.check(cluster_id, node_id).map_err(refuse)?;
        }
    }
    Ok(cluster_id)
}

/// Which of the directories has the metadata log.
pub(crate) fn metadata_directory(config: &BrokerConfig, directories: &[DataDirectory]) -> usize {
    let path = Path::new(config.metadata_log_dir());
    directories
        .iter()
        .position(|directory| directory.path == path)
        .unwrap_or(0)
}
