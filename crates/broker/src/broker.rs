use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::ArcSwap;
use tidelog_log::testing::FaultDir;
use tidelog_log::{DirectoryError, Flusher, LogDirectory, MetaProperties};
use tidelog_metadata::configs::{BrokerConfig, Durability, Listener, SecurityProtocol};
use tidelog_metadata::image::Image;
use tidelog_replication::partition as replica;
use tidelog_types::NodeId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::builder::Disks;
use crate::cleaner::LogCleaner;
use crate::clock::Clock;
use crate::error::{ShutdownError, StartError};
use crate::fetch_session::{self, FetchSessions};
use crate::format::format_new;
use crate::groups::Groups;
use crate::housekeeping::Housekeeping;
use crate::lifecycle::{self, Member, Membership};
use crate::metadata::{self, MetadataHandle, Publisher};
use crate::net::listener::{self, Bound, Worker};
use crate::node::{Node, Settings};
use crate::producer_ids::ProducerIds;
use crate::random::{random_seed, random_uuid};
use crate::store::Store;
use crate::store::directories::DataDirectory;
use crate::{Builder, groups};

/// How many partitions of a log directory are flushed at the same time: where many small writes wait for theirs, such as commits of
/// many groups, the disk answers more of them at once than one after the other.
const FLUSHES_AT_A_TIME: usize = 4;

/// A running broker.
///
/// Dropping it stops it at once, as a crash would; what was acknowledged is safe. [`shutdown`](Self::shutdown) stops it in
/// order, so that the next start has nothing to recover.
pub struct Broker {
    node: Arc<Node>,
    listeners: Vec<ListenerAddress>,
    durability: Durability,
    stop: watch::Sender<bool>,
    membership: Option<Membership>,
    tasks: Vec<JoinHandle<()>>,
    cleaner: LogCleaner,
    housekeeping: Housekeeping,
    metadata: MetadataHandle,
}

/// Where clients reach one listener of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerAddress {
    /// The name of the listener.
    pub name: String,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker that is a cluster of its own, to be adapted.
    pub fn builder() -> Builder {
        Builder::single_node()
    }

    /// Host and port of the first listener: the `bootstrap.servers` of a client.
    pub fn bootstrap_servers(&self) -> String {
        self.listeners
            .first()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Where clients reach the listeners.
    pub fn listeners(&self) -> &[ListenerAddress] {
        &self.listeners
    }

    /// The number of the node (`node.id`).
    pub fn node_id(&self) -> i32 {
        self.node.id.value()
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.node.cluster_id
    }

    /// The data directories.
    pub fn data_dirs(&self) -> impl Iterator<Item = &Path> {
        self.node
            .store
            .directories()
            .iter()
            .map(|directory| directory.path.as_path())
    }

    /// What an acknowledgement promises where a topic does not say otherwise.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) async fn start(
        config: BrokerConfig,
        workers: Vec<Worker>,
        disks: &Disks,
    ) -> Result<Self, StartError> {
        check_supported(&config)?;
        // Before the disk is touched: a port in use must leave no trace.
        let bound = bind(&config)?;
        let clock = Clock;
        let node_id = config.node_id();
        let durability = config.durability();
        let (directories, cluster_id) = open_directories(&config, node_id, disks)?;
        let metadata_dir = metadata_directory(&config, &directories);
        let mut metadata =
            metadata::open(clock, &config, &cluster_id, &directories[metadata_dir]).await?;
        let groups = Groups::new(groups::config(&config), clock);
        let broker_config = Arc::new(ArcSwap::from_pointee(config.clone()));
        let replica_config = replica::Config {
            replica_lag_time_max_ms: u32::try_from(config.replica_lag_time_max_ms())
                .unwrap_or(u32::MAX),
            ..replica::Config::new(node_id)
        };
        let store = Arc::new(Store::new(
            replica_config,
            clock,
            directories,
            i64::from(config.producer_id_expiration_ms()),
            usize::try_from(config.num_recovery_threads_per_data_dir()).unwrap_or(1),
        ));
        let image = Arc::new(ArcSwap::from_pointee(Image::default()));
        let metadata_offset = Arc::new(AtomicI64::new(-1));
        let controller = metadata.controller.clone();
        let publisher = Publisher {
            node_id,
            image: Arc::clone(&image),
            metadata_offset: Arc::clone(&metadata_offset),
            store: Arc::clone(&store),
            groups: Arc::clone(&groups),
            static_config: config.clone(),
            broker_config: Arc::clone(&broker_config),
        };
        let listeners = advertise(&config, &bound);
        let joined = join(&metadata, publisher, &config, &cluster_id, &listeners).await;
        let member = match joined {
            Ok(member) => member,
            Err(reason) => {
                metadata.stop();
                let path = store.directories()[metadata_dir].path.clone();
                return Err(StartError::Metadata { path, reason });
            }
        };
        store.set_aside_strays();
        if !store.was_clean() {
            // What was recovered need not be read again after the next crash.
            store.checkpoint();
        }
        let sessions = fetch_session::Config {
            slots_max: usize::try_from(config.max_incremental_fetch_session_cache_slots())
                .unwrap_or(0),
            ..Default::default()
        };
        let node = Arc::new(Node {
            id: node_id,
            cluster_id: cluster_id.into(),
            broker_epoch: member.broker_epoch,
            config: Settings::new(&config),
            clock,
            broker_config: Arc::clone(&broker_config),
            image,
            metadata_offset,
            store: Arc::clone(&store),
            groups: Arc::clone(&groups),
            controller,
            producer_ids: ProducerIds::default(),
            fetch_sessions: FetchSessions::new(sessions, random_seed()),
        });
        let cleaner = LogCleaner::start(store.clone(), broker_config.clone(), clock)?;
        let housekeeping = Housekeeping::start(store, broker_config)?;
        let (stop, stopped) = watch::channel(false);
        let membership = member.stay(stopped.clone());
        let tasks = serve(bound, &node, &groups, workers, &stopped);
        Ok(Self {
            node,
            listeners,
            durability,
            stop,
            membership: Some(membership),
            tasks,
            cleaner,
            housekeeping,
            metadata,
        })
    }

    /// Stops in order: others lead what this broker led, no new requests, everything flushed, checkpoints written, files as
    /// Kafka leaves them.
    pub async fn shutdown(mut self) -> Result<(), ShutdownError> {
        if let Some(membership) = self.membership.take()
            && self.node.broker_config.load().controlled_shutdown_enable()
        {
            membership.leave().await;
        }
        let _ = self.stop.send(true);
        for task in self.tasks.drain(..) {
            // A task that panicked has said so.
            let _ = task.await;
        }
        let node = Arc::clone(&self.node);
        let broker_epoch = node.broker_epoch;
        let closed = tokio::task::spawn_blocking(move || {
            self.cleaner.stop();
            self.housekeeping.stop();
            self.metadata.stop();
            node.store.close(broker_epoch)
        });
        match closed.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(ShutdownError { reason }),
            Err(panic) => Err(ShutdownError {
                reason: panic.to_string(),
            }),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

impl std::fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a configuration may ask for that this version does not have.
fn check_supported(config: &BrokerConfig) -> Result<(), StartError> {
    let unsupported = |text: String| Err(StartError::Unsupported(text));
    let roles = config.roles();
    if !(roles.broker && roles.controller) {
        return unsupported(
            "this version runs nodes that are broker and controller; set process.roles=broker,controller".into(),
        );
    }
    let voters = config.controller_quorum_voters();
    let others = voters.iter().filter(|voter| {
        voter
            .split_once('@')
            .is_none_or(|(id, _)| id.parse() != Ok(config.node_id().value()))
    });
    if let Some(other) = others.into_iter().next() {
        return unsupported(format!(
            "this version runs clusters of one node; controller.quorum.voters names {other}"
        ));
    }
    let secured = config
        .broker_listeners()
        .find(|l| l.protocol != SecurityProtocol::Plaintext);
    if let Some(listener) = secured {
        return unsupported(format!(
            "listener {} asks for {}, this version has only PLAINTEXT",
            listener.name, listener.protocol
        ));
    }
    Ok(())
}

fn bind(config: &BrokerConfig) -> Result<Vec<Bound>, StartError> {
    let bind = |listener: &Listener| {
        let address = ListenerAddress {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: listener.port,
        };
        Bound::bind(listener.name.clone().into(), &listener.host, listener.port).map_err(|source| {
            let (listener, address) = (address.name.clone(), address.to_string());
            if source.kind() == std::io::ErrorKind::AddrInUse {
                StartError::AddressInUse { listener, address }
            } else {
                StartError::Listen {
                    listener,
                    address,
                    source,
                }
            }
        })
    };
    config.broker_listeners().map(bind).collect()
}

/// What clients are told of each listener: the configured address, with the port that was bound in place of 0.
fn advertise(config: &BrokerConfig, bound: &[Bound]) -> Vec<ListenerAddress> {
    bound
        .iter()
        .map(|bound| {
            let advertised = config.advertised_listeners().iter();
            let advertised = advertised
                .into_iter()
                .find(|listener| bound.name == *listener.name);
            let host = advertised.map_or("", |listener| &listener.host);
            let port = advertised.map_or(0, |listener| listener.port);
            ListenerAddress {
                name: bound.name.to_string(),
                host: if host.is_empty() {
                    host_name()
                } else {
                    host.to_owned()
                },
                port: if port == 0 { bound.port() } else { port },
            }
        })
        .collect()
}

/// What this machine calls itself, for listeners that name no host.
fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

/// Opens and locks the log directories, and gives those that are new the identity of the cluster.
fn open_directories(
    config: &BrokerConfig,
    node_id: NodeId,
    disks: &Disks,
) -> Result<(Vec<DataDirectory>, String), StartError> {
    let known = identify(config, node_id, disks)?;
    let mut opened = Vec::new();
    for path in config.log_dirs() {
        let path = PathBuf::from(path);
        let files = LogDirectory::open(disks.open(config, &path));
        let files = files.map_err(|source| StartError::directory(&path, source))?;
        opened.push((path, files));
    }
    let cluster_id = match known {
        Some(cluster_id) => cluster_id,
        None => {
            // The first start formats the directories by itself.
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

/// Checks whose the log directories are, before anything is locked or created. Answers the cluster, unless all are new.
fn identify(
    config: &BrokerConfig,
    node_id: NodeId,
    disks: &Disks,
) -> Result<Option<String>, StartError> {
    let mut cluster_id = None;
    for path in config.log_dirs().iter().map(Path::new) {
        let refuse = |source| StartError::directory(path, source);
        let properties = LogDirectory::peek(&*disks.open(config, path)).map_err(refuse)?;
        if let Some(properties) = properties {
            let cluster_id = cluster_id.get_or_insert_with(|| properties.cluster_id.clone());
            properties.check(cluster_id, node_id).map_err(refuse)?;
        }
    }
    Ok(cluster_id)
}

fn metadata_directory(config: &BrokerConfig, directories: &[DataDirectory]) -> usize {
    let path = Path::new(config.metadata_log_dir());
    directories
        .iter()
        .position(|directory| directory.path == path)
        .unwrap_or(0)
}

/// Makes this node a member of its cluster: registers, becomes what the metadata says, and only then counts as alive.
async fn join(
    metadata: &MetadataHandle,
    publisher: Publisher,
    config: &BrokerConfig,
    cluster_id: &str,
    listeners: &[ListenerAddress],
) -> Result<Member, String> {
    let controller = metadata.controller.clone();
    if let Some(epoch) = metadata.former_epoch {
        lifecycle::report_former_self(&controller, config.node_id(), epoch).await;
    }
    let store = Arc::clone(&publisher.store);
    let broker_epoch =
        lifecycle::register(&controller, config, cluster_id, listeners, &store).await?;
    let member = Member {
        id: config.node_id(),
        broker_epoch,
        metadata_offset: Arc::clone(&publisher.metadata_offset),
        store,
        config: Arc::clone(&publisher.broker_config),
        controller,
    };
    let followed = member.controller.follow(publisher).await;
    followed.map_err(|code| code.to_string())?;
    member.unfence().await?;
    Ok(member)
}

fn serve(
    bound: Vec<Bound>,
    node: &Arc<Node>,
    groups: &Arc<Groups>,
    workers: Vec<Worker>,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let workers: Arc<[Worker]> = workers.into();
    let mut tasks = Vec::new();
    for Bound { name, sockets } in bound {
        for (socket, _) in sockets {
            let (node, workers) = (Arc::clone(node), Arc::clone(&workers));
            let serving = listener::serve(socket, name.clone(), node, workers, stopped.clone());
            tasks.push(tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "a listener has ended");
                }
            }));
        }
    }
    let timers = Groups::run_timers(Arc::downgrade(groups));
    let mut stopped = stopped.clone();
    tasks.push(tokio::spawn(async move {
        tokio::select! {
            () = timers => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }));
    tasks
}
