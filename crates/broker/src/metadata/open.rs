//! Opens the metadata log, and starts the thread that owns it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_log::LogConfig;
use tidelog_metadata::bootstrap::KRAFT_VERSIONS;
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::Config as ControllerConfig;
use tidelog_node::metadata::{METADATA_FOLDER, Opened, Retention};
use tidelog_replication::quorum::{
    self, ControlRecord, Endpoint, Quorum, ReplicaKey, VersionRange, Voter, VoterSet,
};
use tidelog_types::{NodeId, Str, Uuid};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::links::Links;
use super::log::MetadataLog;
use super::thread::{MetadataThread, Setup, SnapshotLimits};
use super::wire::Cluster;
use super::{ActiveController, ControllerHandle, Leadership, MetadataHandle, Published};
use crate::clock::Clock;
use crate::error::StartError;
use crate::peers::{self, Network};
use crate::random::{random_bytes, random_seed};
use crate::store::directories::DataDirectory;

/// How long a leader holds back the answer to a fetch for which there is nothing, as in Kafka.
const FETCH_MAX_WAIT: Duration = Duration::from_millis(500);
/// How long nothing is sent to a node that cannot be reached, at most: it may be back any moment.
const RECONNECT_BACKOFF_MAX: Duration = Duration::from_millis(320);

/// What it takes to be part of a quorum.
pub(crate) struct QuorumSetup<'a> {
    pub(crate) clock: Clock,
    pub(crate) config: &'a BrokerConfig,
    pub(crate) cluster_id: &'a str,
    /// Where the metadata log is.
    pub(crate) directory: &'a DataDirectory,
    /// Where others reach this node as a controller.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Where connections to other nodes are served.
    pub(crate) runtime: Handle,
    pub(crate) network: Arc<dyn Network>,
}

/// Opens the metadata, and takes part in the quorum from then on.
pub(crate) fn open(
    setup: QuorumSetup<'_>,
) -> Result<(MetadataHandle, ActiveController), StartError> {
    let QuorumSetup {
        clock,
        config,
        directory,
        ..
    } = &setup;
    let clock = clock.clone();
    let refuse = |reason: String| StartError::Metadata {
        path: directory.path.join(METADATA_FOLDER),
        reason,
    };
    let files = &directory.files;
    let machine = quorum_config(&setup);
    let opened = tidelog_node::metadata::open(
        files,
        log_config(config),
        directory.was_clean,
        has_others(&machine),
        clock.steady(),
    );
    let Opened {
        log,
        image,
        applied,
        restored,
    } = opened.map_err(refuse)?;
    check_alone(config, &machine, &restored.control_records).map_err(refuse)?;
    tracing::debug!(snapshot_end = %applied.offset, end = %restored.log_end_offset, "the metadata log is open");
    let cluster = cluster(&setup, &machine.listener);
    let quorum = Quorum::new(clock.steady(), machine, restored);
    let (commands, received) = mpsc::channel();
    let log = MetadataLog::new(log, Arc::clone(&directory.flusher), commands.clone());
    // What recovery found counts as committed once it is known to be on the disk.
    log.request_flush();
    let (leadership, leads) = watch::channel(Leadership::default());
    let controller = ControllerHandle {
        commands: commands.clone(),
        published: Published::default(),
        leadership: leads,
        failure: Arc::new(OnceLock::new()),
    };
    let active = active_controller(&setup, &controller, &cluster);
    let thread = MetadataThread::new(Setup {
        clock,
        node_id: config.node_id(),
        log,
        files: Arc::clone(files),
        quorum,
        links: Links {
            runtime: setup.runtime.clone(),
            network: Arc::clone(&setup.network),
            config: peer_config(
                config,
                millis(config.controller_quorum_request_timeout_ms()),
            ),
            listener: cluster.listener.clone(),
            commands: commands.clone(),
            links: HashMap::new(),
            uses: 0,
        },
        cluster,
        controller: controller_config(&setup),
        image,
        applied,
        limits: limits(config),
        commands,
        published: controller.published.clone(),
        leadership,
        failure: Arc::clone(&controller.failure),
    });
    let thread = thread::Builder::new()
        .name("tidelog-metadata".into())
        .spawn(move || thread.run(&received))?;
    let handle = MetadataHandle {
        controller,
        thread: Some(thread),
    };
    Ok((handle, active))
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn peer_config(config: &BrokerConfig, request_timeout: Duration) -> peers::Config {
    let setup_timeout = config.socket_connection_setup_timeout_ms();
    let setup_timeout = Duration::from_millis(u64::try_from(setup_timeout).unwrap_or(0));
    peers::Config {
        client_id: format!("tidelog-{}", config.node_id()).into(),
        connect_timeout: setup_timeout.min(request_timeout),
        request_timeout,
        reconnect_backoff: millis(config.controller_quorum_retry_backoff_ms()),
        reconnect_backoff_max: RECONNECT_BACKOFF_MAX,
        response_bytes_max: usize::try_from(config.socket_request_max_bytes()).unwrap_or(0),
    }
}

fn active_controller(
    setup: &QuorumSetup<'_>,
    local: &ControllerHandle,
    cluster: &Cluster,
) -> ActiveController {
    let config = setup.config;
    ActiveController {
        local: local.clone(),
        node_id: config.node_id(),
        is_alone: config.is_alone(),
        listener: cluster.listener.clone(),
        request_timeout: millis(config.request_timeout_ms()),
        runtime: setup.runtime.clone(),
        network: Arc::clone(&setup.network),
        config: peer_config(config, millis(config.controller_socket_timeout_ms())),
        peer: Mutex::new(None),
        reports: Mutex::new(None),
    }
}

fn controller_config(setup: &QuorumSetup<'_>) -> ControllerConfig {
    let cluster_id = Str::from(setup.cluster_id);
    let mut config = ControllerConfig::new(setup.config.clone(), cluster_id, random_bytes());
    if setup.config.is_alone() {
        // There is nobody to whom empty records could show how far it is.
        config.idle_interval = None;
    }
    config
}

fn cluster(setup: &QuorumSetup<'_>, listener: &Str) -> Cluster {
    let config = setup.config;
    Cluster {
        id: setup.cluster_id.into(),
        listener: listener.clone(),
        fetch_max_bytes: config.controller_quorum_fetch_max_bytes(),
        fetch_snapshot_max_bytes: config.controller_quorum_fetch_snapshot_max_bytes(),
        voter_change_timeout_ms: config.controller_quorum_request_timeout_ms(),
    }
}

fn limits(config: &BrokerConfig) -> SnapshotLimits {
    let interval = config.metadata_log_max_snapshot_interval_ms();
    let interval = u64::try_from(interval).unwrap_or(0);
    SnapshotLimits {
        bytes: config.metadata_log_max_record_bytes_between_snapshots(),
        interval: (interval > 0).then_some(Duration::from_millis(interval)),
        retention: Retention {
            bytes: config.metadata_max_retention_bytes(),
            ms: config.metadata_max_retention_ms(),
        },
    }
}

/// Who this node is in the quorum, and whom it knows by its configuration.
fn quorum_config(setup: &QuorumSetup<'_>) -> quorum::Config {
    let config = setup.config;
    let mut names = config.controller_listener_names().iter();
    let listener = names.next().map_or("CONTROLLER", String::as_str);
    let listener = Str::from(listener.to_uppercase());
    let endpoint = |host: &str, port| Endpoint {
        listener: listener.clone(),
        host: host.into(),
        port,
    };
    let voter = |id: NodeId, endpoints| Voter {
        key: ReplicaKey {
            id,
            directory_id: Uuid::ZERO,
        },
        endpoints,
        kraft_versions: VersionRange {
            min: KRAFT_VERSIONS.min,
            max: KRAFT_VERSIONS.max,
        },
    };
    let configured = config.quorum_voters().iter();
    let mut voters: Vec<_> = configured
        .map(|fixed| {
            let address = endpoint(&fixed.address.host, fixed.address.port);
            voter(fixed.id, vec![address])
        })
        .collect();
    if voters.is_empty() && config.is_alone() {
        voters.push(voter(config.node_id(), setup.endpoints.clone()));
    }
    let node = ReplicaKey {
        id: config.node_id(),
        directory_id: setup.directory.id,
    };
    let servers = config.quorum_bootstrap_servers().iter();
    quorum::Config {
        can_become_voter: config.roles().controller,
        endpoints: setup.endpoints.clone(),
        bootstrap_servers: servers
            .map(|server| endpoint(&server.host, server.port))
            .collect(),
        listener: listener.clone(),
        election_timeout: millis(config.controller_quorum_election_timeout_ms()),
        fetch_timeout: millis(config.controller_quorum_fetch_timeout_ms()),
        election_backoff_max: millis(config.controller_quorum_election_backoff_max_ms()),
        request_timeout: millis(config.controller_quorum_request_timeout_ms()),
        retry_backoff: millis(config.controller_quorum_retry_backoff_ms()),
        fetch_max_wait: FETCH_MAX_WAIT,
        auto_join: config.controller_quorum_auto_join_enable(),
        ..quorum::Config::new(node, VoterSet::new(voters), random_seed())
    }
}

/// A node of which nothing says where others are can only be part of a quorum of one.
fn check_alone(
    config: &BrokerConfig,
    machine: &quorum::Config,
    control_records: &[ControlRecord],
) -> Result<(), String> {
    let in_log = control_records
        .iter()
        .rev()
        .find_map(|record| match record {
            ControlRecord::Voters { voters, .. } => Some(voters),
            ControlRecord::KRaftVersion { .. } => None,
        });
    let voters = in_log.unwrap_or(&machine.voters);
    let other = voters.keys().find(|voter| voter.id != machine.node.id);
    match other {
        Some(other) if config.is_alone() && machine.endpoints.is_empty() => Err(format!(
            "node {} is a voter of the metadata quorum as well; give this node a controller listener \
             (controller.listener.names and listeners), and controller.quorum.bootstrap.servers",
            other.id
        )),
        _ => Ok(()),
    }
}

/// Whether there may be others in the quorum, from whom this node could fetch what it has lost.
fn has_others(machine: &quorum::Config) -> bool {
    let is_own = |server: &Endpoint| {
        let host = server.host.as_str();
        let is_local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let mut own = machine.endpoints.iter();
        own.any(|own| own.port == server.port && (is_local || own.host == server.host))
    };
    let mut voters = machine.voters.keys();
    voters.any(|voter| voter.id != machine.node.id)
        || machine
            .bootstrap_servers
            .iter()
            .any(|server| !is_own(server))
}

fn log_config(config: &BrokerConfig) -> LogConfig {
    LogConfig {
        segment_bytes: u32::try_from(config.metadata_log_segment_bytes()).unwrap_or(1 << 30),
        segment_ms: config.metadata_log_segment_ms(),
        // Nothing of this log may go before a snapshot replaces it.
        delete: false,
        ..LogConfig::default()
    }
}
