use std::io;
use std::path::PathBuf;

use tidelog_log::DirectoryError;
use tidelog_metadata::bootstrap::MetadataVersion;
use tidelog_types::NodeId;

/// Why nothing was formatted.
///
/// Only when the disk refuses in the middle of it some directories may be formatted and others not; formatting again with
/// `ignore_formatted` finishes them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The directory has a `meta.properties`.
    #[error(
        "the log directory {} is already formatted; --ignore-formatted leaves such directories alone and formats the others",
        .0.display()
    )]
    AlreadyFormatted(PathBuf),
    /// A directory cannot be read, or belongs to somebody else.
    #[error("cannot use the log directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: DirectoryError,
    },
    /// Two directories have the same id, so one is a copy.
    #[error("the log directories {} and {} have the same directory.id; remove the one that is a copy", .0.display(), .1.display())]
    DuplicateDirectoryId(PathBuf, PathBuf),
    /// The disk refused.
    #[error("cannot use {}: {source}; check that it can be created and written by this user", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The cluster id cannot stand in `meta.properties`.
    #[error(
        "the cluster id {0:?} must be one word of letters, digits and the characters - _ . ~ @ + /"
    )]
    InvalidClusterId(String),
    /// A controller of the list is malformed.
    #[error("{text:?} is no initial controller: {reason}; expected id@host:port:directory-id")]
    InvalidController {
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The list of controllers is empty.
    #[error(
        "the list of initial controllers is empty; name at least one as id@host:port:directory-id"
    )]
    NoControllers,
    /// The list of controllers names a node twice.
    #[error("node {0} is named twice among the initial controllers")]
    DuplicateController(NodeId),
    /// A static quorum is configured, and a dynamic one asked for.
    #[error(
        "controller.quorum.voters is set, which excludes --standalone and --initial-controllers; for a quorum with dynamic \
         voters remove it and set controller.quorum.bootstrap.servers"
    )]
    StaticVoters,
    /// `--standalone` on a node that is no controller.
    #[error(
        "--standalone is for a controller, but process.roles of this node does not contain controller"
    )]
    NotAController,
    /// A controller of a dynamic quorum must know who begins it.
    #[error(
        "this node is a controller and controller.quorum.voters is not set, so say who the first controllers are: \
         --standalone, --initial-controllers or --no-initial-controllers"
    )]
    InitialControllersUnsaid,
    /// Voters have an address, and this one has none.
    #[error(
        "this node has no address as a controller; name a listener in controller.listener.names and give it an address in \
         listeners"
    )]
    NoControllerListener,
    /// The release is said in two ways.
    #[error(
        "both --release-version and --feature metadata.version say the release; leave out one of them"
    )]
    ReleaseSaidTwice,
    /// A feature that this version does not have.
    #[error(
        "the feature {name} is not supported; supported are group.version 0 to 1, kraft.version 0 to 1 and metadata.version \
         {} to {}",
        MetadataVersion::MINIMUM.level(),
        MetadataVersion::LATEST.level()
    )]
    UnsupportedFeature {
        /// Its name.
        name: String,
    },
    /// A level that a feature does not have.
    #[error("the feature {name} has no level {level}; supported are {min} to {max}")]
    UnsupportedLevel {
        /// The feature.
        name: String,
        /// The level asked for.
        level: i16,
        /// The lowest supported one.
        min: i16,
        /// The highest supported one.
        max: i16,
    },
    /// A feature that the records of an older release cannot carry.
    #[error("the feature {name} at level {level} needs metadata.version at level {least}")]
    NeedsRelease {
        /// The feature.
        name: String,
        /// The level asked for.
        level: i16,
        /// The metadata.version that it needs.
        least: i16,
    },
    /// kraft.version does not fit the way voters are made known.
    #[error(
        "kraft.version {level} does not fit: it is {} here, since controller.quorum.voters is {}; leave out --feature \
         kraft.version",
        1 - level,
        if *level == 1 { "set or no initial controllers were said" } else { "not set" }
    )]
    KRaftVersion {
        /// The level asked for.
        level: i16,
    },
}
