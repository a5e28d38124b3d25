use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::testing::FaultDir;
use tidelog_log::{Dir, FsDir};
use tidelog_metadata::configs::{BrokerConfig, Durability, Warning};
use tidelog_types::Str;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::listeners::Openings;
use crate::net::listener::Worker;
use crate::net::network::Party;
use crate::random::random_uuid;
#[cfg(feature = "testing")]
use crate::testing::{Disk, Probe};
use crate::{Broker, MemoryNetwork, StartError};

/// The properties that say where the data is.
const DATA_KEYS: [&str; 3] = ["log.dirs", "log.dir", "metadata.log.dir"];
/// What a log directory in memory is called.
const MEMORY: &str = "memory";

/// What a broker is to be like. Made by [`Broker::builder`].
///
/// Without further ado it is a cluster of its own that listens on a free port of the loopbacks and keeps its data in memory:
/// nothing is left behind, and nothing is in the way of another one. Everything that Kafka's `server.properties` may say can be [set](Builder::property); the other methods are short for the
/// properties that most programs want.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) properties: BTreeMap<String, String>,
    workers: Vec<Handle>,
    data: Data,
    disks: Disks,
    sockets: BTreeMap<String, Arc<TcpListener>>,
    ports: bool,
    /// A network that others are on, and what this node is called there.
    network: Option<(MemoryNetwork, Str)>,
    pub(crate) clock: Clock,
    /// What tests have arranged of a broker that came before.
    #[cfg(feature = "testing")]
    pub(crate) probe: Option<Probe>,
    #[cfg(feature = "testing")]
    pub(crate) test_disks: Vec<Disk>,
}

/// Where the data is.
#[derive(Clone, Debug)]
enum Data {
    /// In memory.
    Memory,
    /// In a new directory in this one, which goes with the broker.
    TemporaryIn(PathBuf),
    /// Where the properties say.
    Configured,
}

/// What takes the place of the file system under some of the log directories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks {
    by_path: BTreeMap<PathBuf, Arc<dyn Dir>>,
    /// The cluster for which directories are formatted that are not yet.
    pub(crate) cluster_id: Option<String>,
}

impl Disks {
    /// Where the files of a log directory are.
    pub(crate) fn open(&self, config: &BrokerConfig, path: &Path) -> Arc<dyn Dir> {
        match (self.by_path.get(path), config.durability()) {
            (Some(dir), _) => Arc::clone(dir),
            (None, Durability::Memory) => Arc::new(FaultDir::new()),
            (None, Durability::Fsync | Durability::PageCache) => {
                // Half of the files that the process may have open, for all directories together; sockets need some too.
                let dir = FsDir::new(path);
                let files_max = dir.open_files_max() / config.log_dirs().len().max(1);
                Arc::new(dir.with_open_files_max(files_max))
            }
        }
    }
}

impl Builder {
    /// A node that is a cluster of its own.
    pub(crate) fn single_node() -> Self {
        let properties = [
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://localhost:0"),
            ("controller.listener.names", "CONTROLLER"),
            // Where there is one broker, internal topics have one replica, and nobody is gained by waiting for more
            // members before the first assignment.
            ("offsets.topic.replication.factor", "1"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("share.coordinator.state.topic.min.isr", "1"),
            ("group.initial.rebalance.delay.ms", "0"),
        ];
        Self {
            properties: properties
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
            workers: Vec::new(),
            data: Data::Memory,
            disks: Disks::default(),
            sockets: BTreeMap::new(),
            ports: true,
            network: None,
            clock: Clock::new(),
            #[cfg(feature = "testing")]
            probe: None,
            #[cfg(feature = "testing")]
            test_disks: Vec::new(),
        }
    }

    /// Takes `properties` in place of everything that was set so far: the content of a `server.properties`.
    #[must_use]
    pub fn properties(mut self, properties: BTreeMap<String, String>) -> Self {
        self.properties = properties;
        self.data = Data::Configured;
        self
    }

    /// Sets one property.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        if DATA_KEYS.contains(&key.as_str()) {
            self.data = Data::Configured;
        }
        self.properties.insert(key, value.into());
        self
    }

    /// Listens on this address only, such as `PLAINTEXT://localhost:0`. `localhost` means both loopbacks; port 0 lets the
    /// system choose.
    #[must_use]
    pub fn listener(self, listener: &str) -> Self {
        self.property("listeners", listener)
    }

    /// Listens on a socket that listens already, in place of opening one for the listener of this name. Several nodes of one
    /// program find out each other's ports so, before they start.
    #[must_use]
    pub fn socket(mut self, listener: &str, socket: TcpListener) -> Self {
        self.sockets
            .insert(listener.to_uppercase(), Arc::new(socket));
        self
    }

    /// Listens on this port of both loopbacks only; 0, the default, lets the system choose.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.listener(&format!("PLAINTEXT://localhost:{port}"))
    }

    /// Opens no port. The listeners are reached within the process only, by [`Broker::connect`] and over
    /// [`Broker::network`].
    #[must_use]
    pub const fn no_ports(mut self) -> Self {
        self.ports = false;
        self
    }

    /// Reaches other nodes over this network within the process, in place of TCP, where it is called `name`. Its listeners
    /// are reached there too: at the addresses that clients are told, which without [ports](Self::no_ports) have `name`
    /// for their host.
    #[must_use]
    pub fn network(mut self, network: &MemoryNetwork, name: &str) -> Self {
        self.network = Some((network.clone(), name.into()));
        self
    }

    /// Keeps the data in memory, which is the default: it goes with the broker. What is acknowledged is what a page cache has
    /// ([`Durability::Memory`]).
    #[must_use]
    pub fn memory(mut self) -> Self {
        self.data = Data::Memory;
        self
    }

    /// Keeps the data in a new directory in `parent`, such as `std::env::temp_dir()`, which is removed when the broker has
    /// stopped or was dropped. Acknowledged records are flushed, as they are everywhere else.
    #[must_use]
    pub fn temporary_in(mut self, parent: impl Into<PathBuf>) -> Self {
        self.data = Data::TemporaryIn(parent.into());
        self
    }

    /// Keeps the data in this directory, which is created and formatted if it does not exist.
    #[must_use]
    pub fn data_dir(self, directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref().to_string_lossy().into_owned();
        self.property("log.dirs", directory)
    }

    /// Keeps the data in `dir`, which is called by this path: how tests put a failing disk under a broker.
    #[doc(hidden)]
    #[must_use]
    pub fn data_dir_on(mut self, path: impl AsRef<Path>, dir: Arc<dyn Dir>) -> Self {
        self.disks.by_path.insert(path.as_ref().to_owned(), dir);
        self.data_dir(path)
    }

    /// The number of the node (`node.id`); 1 by default.
    #[must_use]
    pub fn node_id(self, node_id: i32) -> Self {
        self.property("node.id", node_id.to_string())
    }

    /// Whether topics are created that a client asks for and that do not exist (`auto.create.topics.enable`); as in Kafka
    /// they are by default.
    #[must_use]
    pub fn auto_create_topics(self, enable: bool) -> Self {
        self.property("auto.create.topics.enable", enable.to_string())
    }

    /// How many partitions a topic has that is created without saying so (`num.partitions`); 1 by default.
    #[must_use]
    pub fn default_partitions(self, partitions: u32) -> Self {
        self.property("num.partitions", partitions.to_string())
    }

    /// Formats directories for the cluster with this id, where they are not formatted yet.
    pub(crate) fn cluster_id(mut self, cluster_id: &str) -> Self {
        self.disks.cluster_id = Some(cluster_id.to_owned());
        self
    }

    /// What an acknowledgement promises, where a topic does not say otherwise.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        self.property("tidelog.durability", durability.name())
    }

    /// Spreads the connections over these runtimes in turn. By default all of them run where [`start`](Self::start) is
    /// called. One single-threaded runtime for each core uses the least CPU; such a runtime is for the broker alone, which
    /// lets it wait for a flush where only one connection would notice.
    #[must_use]
    pub fn workers(mut self, workers: impl IntoIterator<Item = Handle>) -> Self {
        self.workers = workers.into_iter().collect();
        self
    }

    /// Reads the properties without starting anything: what is wrong with them, or what in them has no effect.
    pub fn check(&self) -> Result<Vec<Warning>, StartError> {
        Ok(BrokerConfig::new(self.properties.clone())?.1)
    }

    /// Starts the broker; it serves when this returns.
    #[cfg(feature = "testing")]
    pub async fn start(mut self) -> Result<Broker, StartError> {
        self.place_data()?;
        self.probe.get_or_insert_with(Probe::new);
        let kept = self.clone();
        for disk in &self.test_disks {
            let path = disk.path().to_owned();
            self.disks.by_path.insert(path, disk.attach());
        }
        let mut broker = self.start_now().await?;
        broker.kept = Some(kept);
        Ok(broker)
    }

    /// Starts the broker; it serves when this returns.
    #[cfg(not(feature = "testing"))]
    pub async fn start(self) -> Result<Broker, StartError> {
        self.start_now().await
    }

    async fn start_now(mut self) -> Result<Broker, StartError> {
        self.place_data()?;
        let (config, warnings) = BrokerConfig::new(self.properties)?;
        for warning in warnings {
            tracing::warn!(key = %warning.key, "{}", warning.message);
        }
        let workers = if self.workers.is_empty() {
            vec![Worker::shared(Handle::current())]
        } else {
            self.workers.into_iter().map(Worker::own).collect()
        };
        let is_shared = self.network.is_some();
        let (network, name) = self.network.unwrap_or_else(|| {
            let name = format!("node-{}", config.node_id());
            (MemoryNetwork::new(), name.into())
        });
        let openings = Openings {
            sockets: self.sockets,
            ports: self.ports,
            party: Party { network, name },
            is_shared,
        };
        Broker::start(
            config,
            workers,
            &self.disks,
            &openings,
            self.clock,
            #[cfg(feature = "testing")]
            self.probe.unwrap_or_else(Probe::new),
        )
        .await
    }

    /// Puts the data where no property says.
    fn place_data(&mut self) -> Result<(), StartError> {
        match &self.data {
            Data::Configured => {}
            Data::Memory => {
                let memory = Durability::Memory.name().to_owned();
                self.properties.insert("log.dirs".into(), MEMORY.into());
                self.properties
                    .entry("tidelog.durability".into())
                    .or_insert(memory);
                let disks = &mut self.disks.by_path;
                disks
                    .entry(MEMORY.into())
                    .or_insert_with(|| Arc::new(FaultDir::new()));
            }
            Data::TemporaryIn(parent) => {
                let path = parent.join(format!("tidelog-{}", random_uuid()));
                let dir = temporary_dir(&path)?;
                let name = path.to_string_lossy().into_owned();
                self.properties.insert("log.dirs".into(), name);
                self.disks.by_path.insert(path, dir);
            }
        }
        self.data = Data::Configured;
        Ok(())
    }
}

/// A new directory for this user alone, which is removed when nobody has it any more.
pub(crate) fn temporary_dir(path: &Path) -> std::io::Result<Arc<dyn Dir>> {
    let builder = &mut DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)?;
    Ok(Arc::new(FsDir::new(path).removed_when_dropped()))
}
