use std::io;
use std::path::{Path, PathBuf};

use tidelog_log::DirectoryError;
use tidelog_metadata::configs::ConfigError;

/// Why a broker did not start. Nothing was changed on the disk, except where a variant says otherwise.
///
/// The text says in one line what is wrong, and how to mend it where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is not valid.
    #[error("invalid configuration: {0}")]
    Config(#[from] ConfigError),
    /// The configuration asks for something that this version does not have.
    #[error("{0}")]
    Unsupported(String),
    /// An address to listen on is in use.
    #[error(
        "the address {address} of listener {listener} is in use: stop the other program or choose another port"
    )]
    AddressInUse {
        /// The listener's name.
        listener: String,
        /// Host and port, as configured.
        address: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for listener {listener}: {source}")]
    Listen {
        /// The listener's name.
        listener: String,
        /// Host and port, as configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A log directory cannot be written, belongs to another process or another node, or is damaged.
    #[error("cannot use the log directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: DirectoryError,
    },
    /// The metadata of the cluster cannot be read.
    #[error("cannot load the cluster metadata from {path}: {reason}")]
    Metadata {
        /// The folder of the metadata log.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The node belongs to a cluster of several, and nothing says to which.
    #[error(
        "the log directory {path} is not formatted; run `tidelog format` with the id of the cluster first"
    )]
    Unformatted {
        /// The directory of the metadata log.
        path: PathBuf,
    },
    /// The cluster does not take this broker in. Its log directories were opened.
    #[error("the cluster does not take this broker: {reason}")]
    NotTaken {
        /// What the controller says.
        reason: String,
    },
    /// The system refused a thread, a socket or the like.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// What is wrong with a log directory.
    pub(crate) fn directory(path: &Path, source: DirectoryError) -> Self {
        Self::Directory {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a node has stopped by itself. Its data is as safe as after a crash: nothing that was acknowledged is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Without its metadata log a node cannot know what it should be.
    #[error("the metadata log has failed: {reason}")]
    MetadataLog {
        /// What was tried, and what the system said.
        reason: String,
    },
    /// Nothing is left to serve from.
    #[error("the last log directory has failed, {path}")]
    LastLogDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Others would go on to count on what is in the directory.
    #[error(
        "no controller has heard of the failure of a log directory for {timeout_ms} ms (log.dir.failure.timeout.ms)"
    )]
    Untold {
        /// The time allowed, in milliseconds.
        timeout_ms: i64,
    },
}

/// Why a broker did not stop in order. Its data is as safe as after a crash: nothing that was acknowledged is lost.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not stop in order: {reason}")]
#[non_exhaustive]
pub struct ShutdownError {
    /// What went wrong.
    pub reason: String,
}
