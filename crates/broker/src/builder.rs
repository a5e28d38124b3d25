use std::collections::BTreeMap;
use std::net::TcpListener;
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
#[cfg(feature = "testing")]
use crate::testing::{Disk, Probe};
use crate::{Broker, MemoryNetwork, StartError};

/// What a broker is to be like. Made by [`Broker::builder`].
///
/// Everything that Kafka's `server.properties` may say can be [set](Builder::property); the other methods are short for the
/// properties that most programs want.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) properties: BTreeMap<String, String>,
    workers: Vec<Handle>,
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

/// What takes the place of the file system under some of the log directories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks(BTreeMap<PathBuf, Arc<dyn Dir>>);

impl Disks {
    /// Where the files of a log directory are.
    pub(crate) fn open(&self, config: &BrokerConfig, path: &Path) -> Arc<dyn Dir> {
        match (self.0.get(path), config.durability()) {
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
            ("listeners", "PLAINTEXT://localhost:9092"),
            ("controller.listener.names", "CONTROLLER"),
            ("log.dirs", "tidelog-data"),
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
        self
    }

    /// Sets one property.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
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
        self.disks.0.insert(path.as_ref().to_owned(), dir);
        self.data_dir(path)
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
        self.probe.get_or_insert_with(Probe::new);
        let kept = self.clone();
        for disk in &self.test_disks {
            let path = disk.path().to_owned();
            self.disks.0.insert(path, disk.attach());
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

    async fn start_now(self) -> Result<Broker, StartError> {
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
}
