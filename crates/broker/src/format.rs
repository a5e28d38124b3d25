//! Formats log directories: what `kafka-storage format` does, and what a broker does by itself at its first start.
//!
//! ```text
//! <log dir>/meta.properties        whose the directory is; written last, so a directory that has it is whole
//! <log dir>/bootstrap.checkpoint   the first records of the cluster
//! <metadata log dir>/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint
//!                                  the first voters, where they are part of the log (KIP-853)
//! ```
//!
//! The files are those that Kafka 4.3 writes, with one difference: a feature that this version does not have is not
//! switched on. Nothing is written before everything was checked.

mod error;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;
use tidelog_log::{DirectoryError, FsDir, LogDirectory, MetaProperties, SnapshotId};
use tidelog_metadata::bootstrap::{
    ELIGIBLE_LEADER_REPLICAS_SINCE, ELIGIBLE_LEADER_REPLICAS_VERSION,
    ELIGIBLE_LEADER_REPLICAS_VERSION_LATEST, GROUP_VERSION, GROUP_VERSION_LATEST, KRAFT_VERSION,
    KRAFT_VERSIONS, METADATA_VERSION, MetadataVersion, UNSERVED_FEATURES, bootstrap_records_with,
    default_group_version,
};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_protocol::records::control::{Endpoint, KRaftVersionFeature, Voter, VotersRecord};
use tidelog_types::{LeaderEpoch, NodeId, Offset, Timestamp, Uuid};

pub use self::error::FormatError;
use crate::clock::real;
use crate::random::random_uuid;
use tidelog_node::metadata::Snapshot;

const LOCK: &str = ".lock";
const METADATA_FOLDER: &str = "__cluster_metadata-0";

/// What to format, and for what cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FormatOptions {
    /// The cluster; any word, the same on all its nodes. Usually a uuid in base64.
    pub cluster_id: String,
    /// The node, its directories and its controller listener.
    pub config: BrokerConfig,
    /// Who the first voters of the metadata quorum are.
    pub initial_controllers: InitialControllers,
    /// The release whose record formats the cluster begins with; the latest unless said.
    pub release_version: Option<MetadataVersion>,
    /// Levels of features, by name. `metadata.version` is another way to say the release.
    pub features: Vec<(String, i16)>,
    /// Leave directories alone that are formatted already, for this cluster and node, instead of refusing.
    pub ignore_formatted: bool,
}

impl FormatOptions {
    /// What `config` says, for this cluster.
    pub fn new(cluster_id: impl Into<String>, config: BrokerConfig) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            config,
            initial_controllers: InitialControllers::Unsaid,
            release_version: None,
            features: Vec::new(),
            ignore_formatted: false,
        }
    }
}

/// Who the first voters of the metadata quorum are (KIP-853).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitialControllers {
    /// Nothing was said, which is right for a node that is no controller, or if `controller.quorum.voters` says it.
    #[default]
    Unsaid,
    /// This node alone: `--standalone`.
    Standalone,
    /// These, the same list on all of them: `--initial-controllers`.
    Listed(Vec<InitialController>),
    /// Others; this node learns of them, and may join them later: `--no-initial-controllers`.
    Others,
}

/// One of the first voters. Its text is `id@host:port:directory-id`, the host in brackets if it is an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialController {
    /// The node.
    pub node_id: NodeId,
    /// Where its controller listener is reached.
    pub host: String,
    /// Where its controller listener is reached.
    pub port: u16,
    /// The id that its metadata log directory has, or will be given.
    pub directory_id: Uuid,
}

/// A formatted directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Formatted {
    /// The directory, as configured.
    pub directory: PathBuf,
    /// Its id; directories that Kafka formatted before 3.7 have none.
    pub directory_id: Option<Uuid>,
    /// What the directory is for.
    pub kind: DirectoryKind,
    /// Whether it was formatted before, and was left alone.
    pub already_formatted: bool,
    /// The record formats of the cluster that was being formatted.
    pub metadata_version: MetadataVersion,
}

/// What a log directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryKind {
    /// Partitions of topics only.
    Data,
    /// Also the metadata log, whose voters are configured.
    Metadata,
    /// Also the metadata log, whose voters are part of it, and this node is none of the first.
    DynamicMetadata,
    /// Also the metadata log, whose voters are part of it, and this node is one of the first.
    DynamicMetadataVoter,
}

impl fmt::Display for DirectoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data directory",
            Self::Metadata => "metadata directory",
            Self::DynamicMetadata => "dynamic metadata directory",
            Self::DynamicMetadataVoter => "dynamic metadata voter directory",
        })
    }
}

impl FromStr for InitialController {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let text = text.trim();
        let wrong = |reason| FormatError::InvalidController {
            text: text.to_owned(),
            reason,
        };
        let (id, address) = text.split_once('@').ok_or_else(|| wrong("it has no @"))?;
        let node_id: i32 = id.parse().map_err(|_| wrong("the id is not a number"))?;
        if node_id < 0 {
            return Err(wrong("the id is negative"));
        }
        let (host, rest) = match address.strip_prefix('[') {
            Some(address) => {
                let (host, rest) = address
                    .split_once(']')
                    .ok_or_else(|| wrong("the bracket is not closed"))?;
                let rest = rest
                    .strip_prefix(':')
                    .ok_or_else(|| wrong("it has no port"))?;
                (host, rest)
            }
            None => address
                .split_once(':')
                .ok_or_else(|| wrong("it has no port"))?,
        };
        let (port, directory_id) = rest
            .split_once(':')
            .ok_or_else(|| wrong("it has no directory id"))?;
        Ok(Self {
            node_id: NodeId::new(node_id),
            host: host.to_owned(),
            port: port
                .parse()
                .map_err(|_| wrong("the port is not a number up to 65535"))?,
            directory_id: directory_id
                .parse()
                .map_err(|_| wrong("the directory id is not 22 characters of base64url"))?,
        })
    }
}

impl InitialControllers {
    /// Reads the list of `--initial-controllers`, whose elements are separated by commas.
    pub fn parse_list(text: &str) -> Result<Self, FormatError> {
        let elements = text.split(',').filter(|element| !element.trim().is_empty());
        Ok(Self::Listed(
            elements.map(str::parse).collect::<Result<_, _>>()?,
        ))
    }
}

/// Formats the log directories of a node. Answers all of them, those that were formatted before included.
pub fn format(options: &FormatOptions) -> Result<Vec<Formatted>, FormatError> {
    let plan = Plan::new(options)?;
    let config = &options.config;
    let metadata_log_dir = Path::new(config.metadata_log_dir());
    let mut paths: BTreeSet<&Path> = config.log_dirs().iter().map(Path::new).collect();
    paths.insert(metadata_log_dir);
    let existing = existing(&paths)?;
    plan.check(&existing)?;
    if let Some(path) = existing.keys().next()
        && !options.ignore_formatted
    {
        return Err(FormatError::AlreadyFormatted((*path).to_owned()));
    }
    let formatted = paths.into_iter().map(|path| {
        let kind = plan.kind(path == metadata_log_dir);
        let directory_id = match existing.get(path) {
            Some(properties) => properties.directory_id,
            None => Some(format_directory(path, &plan, kind)?),
        };
        Ok(Formatted {
            directory: path.to_owned(),
            directory_id,
            kind,
            already_formatted: existing.contains_key(path),
            metadata_version: plan.metadata_version,
        })
    });
    formatted.collect()
}

/// Formats the directories of a broker that starts for the first time, for this cluster or for one with an id that is made
/// up; the answer is the id.
///
/// None of them may be formatted, and all are locked by the caller. The node becomes the only voter of the quorum, in the
/// log if it has an address as a controller, as `--standalone` does; else because nobody else is configured.
pub(crate) fn format_new(
    directories: &[(&Path, &LogDirectory)],
    config: &BrokerConfig,
    cluster_id: Option<&str>,
) -> Result<String, FormatError> {
    let has_voters = !config.controller_quorum_voters().is_empty();
    let is_reachable = controller_address(config).is_some_and(|(_, port)| port != 0);
    let initial_controllers = match config.roles().controller && !has_voters && is_reachable {
        true => InitialControllers::Standalone,
        false => InitialControllers::Others,
    };
    let cluster_id = cluster_id.map_or_else(|| random_uuid().to_string(), str::to_owned);
    let mut options = FormatOptions::new(cluster_id, config.clone());
    options.initial_controllers = initial_controllers;
    let plan = Plan::new(&options)?;
    for (path, directory) in directories {
        let kind = plan.kind(*path == Path::new(config.metadata_log_dir()));
        plan.write(path, directory, kind)?;
    }
    Ok(plan.cluster_id)
}

/// The identities of those directories that are formatted.
fn existing<'a>(
    paths: &BTreeSet<&'a Path>,
) -> Result<BTreeMap<&'a Path, MetaProperties>, FormatError> {
    let mut existing = BTreeMap::new();
    for path in paths {
        let found = LogDirectory::peek(&FsDir::new(*path)).map_err(refused(path))?;
        existing.extend(found.map(|properties| (*path, properties)));
    }
    Ok(existing)
}

fn format_directory(path: &Path, plan: &Plan, kind: DirectoryKind) -> Result<Uuid, FormatError> {
    let directory = LogDirectory::open(Arc::new(FsDir::new(path))).map_err(refused(path))?;
    let directory_id = plan.write(path, &directory, kind)?;
    // Kafka's format leaves no lock file, and whoever compares finds the same files. It is still locked here.
    let lock = Path::new(LOCK);
    directory
        .dir()
        .remove_file(lock)
        .map_err(|source| FormatError::Io {
            path: path.join(lock),
            source,
        })?;
    Ok(directory_id)
}

fn refused(path: &Path) -> impl Fn(DirectoryError) -> FormatError {
    move |source| FormatError::Directory {
        path: path.to_owned(),
        source,
    }
}

/// What the directories of one node are to hold, all checked.
struct Plan {
    cluster_id: String,
    node_id: NodeId,
    metadata_version: MetadataVersion,
    bootstrap: Bytes,
    /// The first voters, if they are to be part of the log.
    voters: Option<Voters>,
}

struct Voters {
    snapshot: Bytes,
    /// The id that the metadata log directory of this node must have, if it is one of them.
    own_directory_id: Option<Uuid>,
}

impl Plan {
    fn new(options: &FormatOptions) -> Result<Self, FormatError> {
        check_cluster_id(&options.cluster_id)?;
        let controllers = controllers(options)?;
        let levels = feature_levels(options)?;
        let metadata_version = levels.metadata;
        let now = real::both().timestamp;
        let bootstrap = Snapshot {
            last_contained_log_timestamp: Timestamp::from_millis(0),
            voters: None,
            records: bootstrap_records_with(metadata_version, levels.group, levels.elr),
        };
        let node_id = options.config.node_id();
        let voters = controllers.map(|controllers| {
            let own = controllers
                .iter()
                .find(|controller| controller.node_id == node_id);
            let own_directory_id = own.map(|controller| controller.directory_id);
            let snapshot = Snapshot {
                last_contained_log_timestamp: now,
                voters: Some(voters_record(controllers, &options.config)?),
                records: Vec::new(),
            };
            Ok(Voters {
                snapshot: encode(&snapshot, metadata_version, now),
                own_directory_id,
            })
        });
        Ok(Self {
            cluster_id: options.cluster_id.clone(),
            node_id,
            metadata_version,
            bootstrap: encode(&bootstrap, metadata_version, now),
            voters: voters.transpose()?,
        })
    }

    /// Checks that what is formatted already is of this cluster and node.
    fn check(&self, existing: &BTreeMap<&Path, MetaProperties>) -> Result<(), FormatError> {
        let mut ids: BTreeMap<Uuid, &Path> = BTreeMap::new();
        for (path, properties) in existing {
            properties
                .check(&self.cluster_id, self.node_id)
                .map_err(refused(path))?;
            if let Some(id) = properties.directory_id
                && let Some(other) = ids.insert(id, path)
            {
                return Err(FormatError::DuplicateDirectoryId(
                    other.to_owned(),
                    (*path).to_owned(),
                ));
            }
        }
        Ok(())
    }

    const fn kind(&self, is_metadata_log_dir: bool) -> DirectoryKind {
        match (&self.voters, is_metadata_log_dir) {
            (_, false) => DirectoryKind::Data,
            (None, true) => DirectoryKind::Metadata,
            (Some(voters), true) if voters.own_directory_id.is_some() => {
                DirectoryKind::DynamicMetadataVoter
            }
            (Some(_), true) => DirectoryKind::DynamicMetadata,
        }
    }

    /// Formats a directory, which makes it durable too. Answers its id.
    fn write(
        &self,
        path: &Path,
        directory: &LogDirectory,
        kind: DirectoryKind,
    ) -> Result<Uuid, FormatError> {
        directory
            .write_bootstrap(&self.bootstrap)
            .map_err(refused(path))?;
        let mut directory_id = None;
        if let Some(voters) = &self.voters
            && kind != DirectoryKind::Data
        {
            create_folder(directory, METADATA_FOLDER).map_err(|source| FormatError::Io {
                path: path.join(METADATA_FOLDER),
                source,
            })?;
            let id = SnapshotId {
                end_offset: Offset::ZERO,
                epoch: 0,
            };
            directory
                .write_snapshot(METADATA_FOLDER, id, &voters.snapshot)
                .map_err(refused(path))?;
            directory_id = voters.own_directory_id;
        }
        let directory_id = directory_id.unwrap_or_else(random_uuid);
        let properties = MetaProperties {
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_id,
            directory_id: Some(directory_id),
        };
        directory
            .write_meta_properties(&properties)
            .map_err(refused(path))?;
        Ok(directory_id)
    }
}

/// It is written into a properties file as it is.
fn check_cluster_id(cluster_id: &str) -> Result<(), FormatError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~@+/".contains(c);
    match !cluster_id.is_empty() && cluster_id.chars().all(is_plain) {
        true => Ok(()),
        false => Err(FormatError::InvalidClusterId(cluster_id.to_owned())),
    }
}

/// The first voters, if they are to be part of the log: by node id.
fn controllers(options: &FormatOptions) -> Result<Option<Vec<InitialController>>, FormatError> {
    let config = &options.config;
    let is_controller = config.roles().controller;
    let is_static = !config.controller_quorum_voters().is_empty();
    let mut controllers = match &options.initial_controllers {
        InitialControllers::Standalone | InitialControllers::Listed(_) if is_static => {
            return Err(FormatError::StaticVoters);
        }
        InitialControllers::Unsaid if is_controller && !is_static => {
            return Err(FormatError::InitialControllersUnsaid);
        }
        InitialControllers::Unsaid | InitialControllers::Others => return Ok(None),
        InitialControllers::Standalone if !is_controller => {
            return Err(FormatError::NotAController);
        }
        InitialControllers::Standalone => vec![standalone(config)?],
        InitialControllers::Listed(controllers) => controllers.clone(),
    };
    if controllers.is_empty() {
        return Err(FormatError::NoControllers);
    }
    controllers.sort_by_key(|controller| controller.node_id);
    let twice = controllers
        .windows(2)
        .find(|pair| pair[0].node_id == pair[1].node_id);
    match twice {
        Some(pair) => Err(FormatError::DuplicateController(pair[0].node_id)),
        None => Ok(Some(controllers)),
    }
}

/// This node as the only voter.
fn standalone(config: &BrokerConfig) -> Result<InitialController, FormatError> {
    let (host, port) = controller_address(config).ok_or(FormatError::NoControllerListener)?;
    Ok(InitialController {
        node_id: config.node_id(),
        host,
        port,
        directory_id: random_uuid(),
    })
}

/// Where this node is reached as a controller: the advertised address of its first controller listener.
fn controller_address(config: &BrokerConfig) -> Option<(String, u16)> {
    let first = config.controller_listener_names().first()?;
    let advertised = config.advertised_listeners().iter();
    let mut listeners = advertised.chain(config.controller_listeners());
    let listener = listeners.find(|listener| listener.name.eq_ignore_ascii_case(first))?;
    let host = match listener.host.as_str() {
        "" | "0.0.0.0" | "::" => "localhost",
        host => host,
    };
    Some((host.to_owned(), listener.port))
}

fn voters_record(
    controllers: Vec<InitialController>,
    config: &BrokerConfig,
) -> Result<VotersRecord, FormatError> {
    let names = config.controller_listener_names();
    let listener = names
        .first()
        .ok_or(FormatError::NoControllerListener)?
        .to_uppercase();
    let voters = controllers.into_iter().map(|controller| Voter {
        voter_id: controller.node_id,
        voter_directory_id: controller.directory_id,
        endpoints: vec![Endpoint {
            name: listener.clone().into(),
            host: java_host(controller.host).into(),
            port: controller.port,
        }],
        kraft_version_feature: KRaftVersionFeature {
            min_supported_version: KRAFT_VERSIONS.min,
            max_supported_version: KRAFT_VERSIONS.max,
        },
    });
    Ok(VotersRecord {
        version: 0,
        voters: voters.collect(),
    })
}

/// An IPv6 address as Java spells it, in full: all voters must begin with the same record, also where some are Kafka's.
fn java_host(host: String) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => address
            .segments()
            .map(|segment| format!("{segment:x}"))
            .join(":"),
        Err(_) => host,
    }
}

/// The levels of features to begin with.
struct Levels {
    metadata: MetadataVersion,
    group: i16,
    /// That of eligible.leader.replicas.version.
    elr: i16,
}

/// The levels to begin with, after a look at all features that were asked for.
fn feature_levels(options: &FormatOptions) -> Result<Levels, FormatError> {
    let is_dynamic = options.config.controller_quorum_voters().is_empty()
        && options.initial_controllers != InitialControllers::Unsaid;
    let mut version = options.release_version.unwrap_or(MetadataVersion::LATEST);
    let (mut group_version, mut elr) = (None, 0);
    for (name, level) in &options.features {
        let level = *level;
        let out_of = |min, max| FormatError::UnsupportedLevel {
            name: name.clone(),
            level,
            min,
            max,
        };
        match name.as_str() {
            METADATA_VERSION if options.release_version.is_some() => {
                return Err(FormatError::ReleaseSaidTwice);
            }
            METADATA_VERSION => {
                let (min, max) = (
                    MetadataVersion::MINIMUM.level(),
                    MetadataVersion::LATEST.level(),
                );
                version = MetadataVersion::from_level(level).ok_or_else(|| out_of(min, max))?;
            }
            GROUP_VERSION if !(0..=GROUP_VERSION_LATEST).contains(&level) => {
                return Err(out_of(0, GROUP_VERSION_LATEST));
            }
            GROUP_VERSION => group_version = Some(level),
            ELIGIBLE_LEADER_REPLICAS_VERSION => {
                let latest = ELIGIBLE_LEADER_REPLICAS_VERSION_LATEST;
                if !(0..=latest).contains(&level) {
                    return Err(out_of(0, latest));
                }
                elr = level;
            }
            KRAFT_VERSION if !(0..=1).contains(&level) => return Err(out_of(0, 1)),
            KRAFT_VERSION if level != i16::from(is_dynamic) => {
                return Err(FormatError::KRaftVersion { level });
            }
            KRAFT_VERSION => {}
            name if is_unserved(name) && level == 0 => {}
            _ => return Err(FormatError::UnsupportedFeature { name: name.clone() }),
        }
    }
    if elr > 0 && version < ELIGIBLE_LEADER_REPLICAS_SINCE {
        return Err(FormatError::NeedsRelease {
            name: ELIGIBLE_LEADER_REPLICAS_VERSION.to_owned(),
            level: elr,
            least: ELIGIBLE_LEADER_REPLICAS_SINCE.level(),
        });
    }
    Ok(Levels {
        metadata: version,
        group: group_version.unwrap_or_else(|| default_group_version(version)),
        elr,
    })
}

/// Whether a feature may be asked for at level 0 only, which is off.
fn is_unserved(name: &str) -> bool {
    UNSERVED_FEATURES.iter().any(|feature| feature.name == name)
}

fn encode(snapshot: &Snapshot, metadata_version: MetadataVersion, now: Timestamp) -> Bytes {
    snapshot
        .encode(LeaderEpoch::new(0), metadata_version, now)
        .expect("voters and features can be written in every version")
}

fn create_folder(directory: &LogDirectory, name: &str) -> io::Result<()> {
    directory.dir().create_dir(Path::new(name))?;
    directory.dir().sync_dir(Path::new(""))
}
