//! Several nodes in one process that are a cluster, and what can happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidelog_log::testing::FaultDir;
use tidelog_log::{FsDir, LogDirectory};
use tidelog_metadata::configs::Durability;
use tokio::task::JoinHandle;

use crate::builder::temporary_dir;
use crate::random::random_uuid;
use crate::{Broker, Builder, MemoryNetwork, ShutdownError, StartError};

const CLIENTS: &str = "PLAINTEXT";
const CONTROLLERS: &str = "CONTROLLER";
/// The ports of a node where the network is in memory.
const CLIENTS_PORT: u16 = 9092;
const CONTROLLERS_PORT: u16 = 9093;
/// How many replicas topics have by default, where there are enough nodes.
const REPLICAS: usize = 3;

/// Several nodes in one process that are a cluster, and what can happen to them: a node is killed or stopped and started
/// again, the network between two is cut, slowed and healed.
///
/// Every node is a broker and a voter of the metadata quorum. They reach each other over a [`MemoryNetwork`], on which node 2
/// is called `node-2`; clients come over it too, or, if asked for, to ports. Topics have three replicas by default, of which
/// two must be in sync for `acks=all`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidelog_broker::{Cluster, NewTopic};
///
/// let mut cluster = Cluster::builder().nodes(3).start().await?;
/// let one = cluster.node(1).ok_or("it runs")?;
/// one.create_topic(NewTopic::new("orders")).await?;
///
/// cluster.kill(3).await?;
/// assert_eq!(cluster.running().collect::<Vec<_>>(), [1, 2]);
/// cluster.restart(3).await?;
/// cluster.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    network: MemoryNetwork,
    members: BTreeMap<i32, Member>,
}

/// A node that may run or not.
struct Member {
    id: i32,
    /// What it is started with, each time.
    builder: Builder,
    /// With what it is started the first time: its ports must be known before.
    sockets: Option<[TcpListener; 2]>,
    data: Option<PathBuf>,
    broker: Option<Broker>,
}

/// What a cluster is to be like. Made by [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    nodes: usize,
    ports: Ports,
    data: Data,
    properties: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug)]
enum Ports {
    None,
    Free,
    From(u16),
}

#[derive(Clone, Debug)]
enum Data {
    Memory,
    TemporaryIn(PathBuf),
    In(PathBuf),
}

/// Why something could not be done to a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The cluster has no node with this number.
    #[error("there is no node {0}")]
    UnknownNode(i32),
    /// The node runs already.
    #[error("node {0} runs already")]
    Running(i32),
    /// The node does not run.
    #[error("node {0} does not run")]
    NotRunning(i32),
    /// The cluster was to have no node.
    #[error("a cluster has at least one node")]
    NoNodes,
    /// A node did not start.
    #[error("node {node} did not start: {source}")]
    Start {
        /// The node.
        node: i32,
        /// Why.
        source: StartError,
    },
    /// A node did not stop in order.
    #[error("node {node}: {source}")]
    Shutdown {
        /// The node.
        node: i32,
        /// Why.
        source: ShutdownError,
    },
}

impl ClusterBuilder {
    /// How many nodes the cluster has; 3 by default. Their numbers begin with 1.
    #[must_use]
    pub const fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Opens ports on 127.0.0.1 that the system chooses. By default there are none, and clients come over
    /// [`Cluster::network`].
    #[must_use]
    pub const fn free_ports(mut self) -> Self {
        self.ports = Ports::Free;
        self
    }

    /// Opens ports on 127.0.0.1 from this one on: one for the clients of each node, and then one for the controller of each.
    #[must_use]
    pub const fn ports_from(mut self, port: u16) -> Self {
        self.ports = Ports::From(port);
        self
    }

    /// Keeps the data in memory, which is the default. A node that is killed finds it again when it is restarted; it goes
    /// with the cluster.
    #[must_use]
    pub fn memory(mut self) -> Self {
        self.data = Data::Memory;
        self
    }

    /// Keeps the data in new directories in `parent`, which are removed when the cluster has gone.
    #[must_use]
    pub fn temporary_in(mut self, parent: impl Into<PathBuf>) -> Self {
        self.data = Data::TemporaryIn(parent.into());
        self
    }

    /// Keeps the data in this directory, in a folder for each node. What is there already is gone on with.
    #[must_use]
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Data::In(directory.into());
        self
    }

    /// What an acknowledgement promises, where a topic does not say otherwise.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        self.property("tidelog.durability", durability.name())
    }

    /// Sets one property of Kafka's `server.properties` on all nodes.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Starts all nodes; each serves when this returns.
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        if self.nodes == 0 {
            return Err(ClusterError::NoNodes);
        }
        let network = MemoryNetwork::new();
        let known = self.known_cluster_id();
        let cluster_id = known.unwrap_or_else(|| random_uuid().to_string());
        let refuse = |node| {
            move |source: std::io::Error| ClusterError::Start {
                node,
                source: source.into(),
            }
        };
        let sockets = self.sockets().map_err(refuse(1))?;
        let voters: Vec<_> = sockets.iter().map(Sockets::voter).collect();
        let voters = voters.join(",");
        let mut members = BTreeMap::new();
        for sockets in sockets {
            let id = sockets.node;
            let builder = self.member(&sockets, &voters);
            let builder = builder.network(&network, &name(id)).cluster_id(&cluster_id);
            let (builder, data) = match &self.data {
                Data::Memory => (
                    builder.data_dir_on(name(id), Arc::new(FaultDir::new())),
                    None,
                ),
                Data::In(parent) => {
                    let data = parent.join(name(id));
                    (builder.data_dir(&data), Some(data))
                }
                Data::TemporaryIn(parent) => {
                    let data = parent.join(format!("tidelog-{cluster_id}-{}", name(id)));
                    let dir = temporary_dir(&data).map_err(refuse(id))?;
                    (builder.data_dir_on(&data, dir), Some(data))
                }
            };
            let builder = match sockets.opened {
                None => builder.no_ports(),
                Some(_) => builder,
            };
            let member = Member {
                id,
                builder,
                sockets: sockets.opened,
                data,
                broker: None,
            };
            members.insert(id, member);
        }
        let mut cluster = Cluster { network, members };
        let all: Vec<_> = cluster.members.keys().copied().collect();
        cluster.run(&all).await?;
        Ok(cluster)
    }

    /// The cluster to which what is there already belongs: nodes that are new become part of it.
    fn known_cluster_id(&self) -> Option<String> {
        let Data::In(parent) = &self.data else {
            return None;
        };
        let nodes = 1..=i32::try_from(self.nodes).unwrap_or(i32::MAX);
        nodes.into_iter().find_map(|node| {
            let dir = FsDir::new(parent.join(name(node)));
            // What cannot be read is dealt with when the node starts.
            let properties = LogDirectory::peek(&dir).ok()??;
            Some(properties.cluster_id)
        })
    }

    /// Where the nodes are reached. Ports are taken before any node starts, so that each can know those of the others.
    fn sockets(&self) -> std::io::Result<Vec<Sockets>> {
        let nodes = 1..=i32::try_from(self.nodes).unwrap_or(i32::MAX);
        let count = u16::try_from(self.nodes).unwrap_or(u16::MAX);
        let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        nodes
            .zip(0..)
            .map(|(node, index)| {
                let opened = match self.ports {
                    Ports::None => None,
                    Ports::Free => Some([bind(0)?, bind(0)?]),
                    Ports::From(port) => {
                        let clients = port.saturating_add(index);
                        Some([bind(clients)?, bind(clients.saturating_add(count))?])
                    }
                };
                Ok(Sockets { node, opened })
            })
            .collect()
    }

    fn member(&self, sockets: &Sockets, voters: &str) -> Builder {
        let replicas = self.nodes.min(REPLICAS);
        let in_sync = if replicas < REPLICAS { 1 } else { 2 };
        let [host, clients, controllers] = sockets.address();
        let listeners =
            format!("{CLIENTS}://{host}:{clients},{CONTROLLERS}://{host}:{controllers}");
        let properties = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", sockets.node.to_string()),
            ("listeners", listeners),
            ("controller.listener.names", CONTROLLERS.to_owned()),
            ("controller.quorum.voters", voters.to_owned()),
            ("default.replication.factor", replicas.to_string()),
            ("min.insync.replicas", in_sync.to_string()),
            ("offsets.topic.replication.factor", replicas.to_string()),
            (
                "transaction.state.log.replication.factor",
                replicas.to_string(),
            ),
            ("transaction.state.log.min.isr", in_sync.to_string()),
            (
                "share.coordinator.state.topic.replication.factor",
                replicas.to_string(),
            ),
            ("share.coordinator.state.topic.min.isr", in_sync.to_string()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ];
        let mut all: BTreeMap<_, _> = properties
            .map(|(key, value)| (key.to_owned(), value))
            .into();
        all.extend(self.properties.clone());
        Broker::builder().properties(all)
    }
}

/// Where a node is reached.
struct Sockets {
    node: i32,
    /// Those of its clients, and of controllers.
    opened: Option<[TcpListener; 2]>,
}

impl Sockets {
    /// Host, port for clients and port for controllers.
    fn address(&self) -> [String; 3] {
        match &self.opened {
            None => [
                name(self.node),
                CLIENTS_PORT.to_string(),
                CONTROLLERS_PORT.to_string(),
            ],
            Some(sockets) => {
                let [clients, controllers] = sockets.each_ref().map(|socket| {
                    let address = socket.local_addr();
                    address.map_or(0, |address| address.port()).to_string()
                });
                [Ipv4Addr::LOCALHOST.to_string(), clients, controllers]
            }
        }
    }

    fn voter(&self) -> String {
        let [host, _, controllers] = self.address();
        format!("{}@{host}:{controllers}", self.node)
    }
}

/// What a node is called on the network.
fn name(node: i32) -> String {
    format!("node-{node}")
}

impl Cluster {
    /// A cluster of three nodes in memory, to be adapted.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            nodes: 3,
            ports: Ports::None,
            data: Data::Memory,
            properties: BTreeMap::new(),
        }
    }

    /// The addresses of the nodes that run: the `bootstrap.servers` of a client.
    pub fn bootstrap_servers(&self) -> String {
        let running = self
            .members
            .values()
            .filter_map(|member| member.broker.as_ref());
        running
            .map(Broker::bootstrap_servers)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The network between the nodes, where node 2 is called `node-2`.
    pub const fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// The numbers of all nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = i32> {
        self.members.keys().copied()
    }

    /// The numbers of the nodes that run, in order.
    pub fn running(&self) -> impl Iterator<Item = i32> {
        let members = self.members.values();
        members
            .filter(|member| member.broker.is_some())
            .map(|member| member.id)
    }

    /// A node that runs; `None` for one that does not, or that there is not.
    pub fn node(&self, node: i32) -> Option<&Broker> {
        self.members.get(&node)?.broker.as_ref()
    }

    /// The directory of a node; `None` if its data is in memory.
    pub fn data_dir(&self, node: i32) -> Option<&std::path::Path> {
        self.members.get(&node)?.data.as_deref()
    }

    /// Ends a node at once, as `kill -9` would: what was written is there when it is restarted, nobody is told, and nothing
    /// listens any more where it did. Nothing of it is left when this returns.
    pub async fn kill(&mut self, node: i32) -> Result<(), ClusterError> {
        self.take(node)?.halt().await;
        Ok(())
    }

    /// Stops a node in order: others take over what it leads.
    pub async fn stop(&mut self, node: i32) -> Result<(), ClusterError> {
        let stopped = self.take(node)?.shutdown().await;
        stopped.map_err(|source| ClusterError::Shutdown { node, source })
    }

    /// Starts a node again that was killed or stopped, on what it has stored; it serves when this returns.
    pub async fn restart(&mut self, node: i32) -> Result<(), ClusterError> {
        self.run(&[node]).await
    }

    /// Starts nodes that do not run, all at the same time: where most of the voters are needed, one alone would wait for the
    /// others.
    pub async fn run(&mut self, nodes: &[i32]) -> Result<(), ClusterError> {
        let mut starting = Vec::new();
        for node in nodes.iter().copied().collect::<BTreeSet<_>>() {
            let member = self.members.get_mut(&node);
            let member = member.ok_or(ClusterError::UnknownNode(node))?;
            if member.broker.is_some() {
                return Err(ClusterError::Running(node));
            }
            let builder = member.builder.clone();
            let builder = match member.sockets.take() {
                None => builder,
                Some([clients, controllers]) => builder
                    .socket(CLIENTS, clients)
                    .socket(CONTROLLERS, controllers),
            };
            starting.push((node, builder));
        }
        let starting = starting.into_iter();
        let starting: Vec<_> = starting
            .map(|(node, builder)| (node, Starting(tokio::spawn(builder.start()))))
            .collect();
        for (node, mut starting) in starting {
            let started = match (&mut starting.0).await {
                Ok(started) => started,
                Err(panic) => Err(StartError::NotTaken {
                    reason: panic.to_string(),
                }),
            };
            let broker = started.map_err(|source| ClusterError::Start { node, source })?;
            if let Some(member) = self.members.get_mut(&node) {
                member.broker = Some(broker);
            }
        }
        Ok(())
    }

    /// Cuts the network between two nodes: neither hears of the other, and neither is told why.
    pub fn cut(&self, a: i32, b: i32) -> Result<(), ClusterError> {
        let (a, b) = self.names(a, b)?;
        self.network.cut(&a, &b);
        Ok(())
    }

    /// Cuts one way only: what the first sends does not arrive at the second.
    pub fn cut_one_way(&self, from: i32, to: i32) -> Result<(), ClusterError> {
        let (from, to) = self.names(from, to)?;
        self.network.cut_one_way(&from, &to);
        Ok(())
    }

    /// Has everything between two nodes take that long, each way.
    pub fn delay(&self, a: i32, b: i32, delay: Duration) -> Result<(), ClusterError> {
        let (a, b) = self.names(a, b)?;
        self.network.delay(&a, &b, delay);
        Ok(())
    }

    /// Holds up a node: nothing that anybody sends it over the [network](Self::network) arrives, nor does anything it sends.
    /// To the others it is like a process that is stopped, though its own clocks go on. Clients at ports are not held up.
    pub fn pause(&self, node: i32) -> Result<(), ClusterError> {
        self.check(node)?;
        self.network.pause(&name(node));
        Ok(())
    }

    /// Ends a [`pause`](Self::pause); what was sent meanwhile arrives.
    pub fn resume(&self, node: i32) -> Result<(), ClusterError> {
        self.check(node)?;
        self.network.resume(&name(node));
        Ok(())
    }

    /// Ends everything that was arranged with the network.
    pub fn heal(&self) {
        self.network.heal_all();
    }

    /// Stops all nodes in order, at the same time.
    pub async fn shutdown(mut self) -> Result<(), ClusterError> {
        self.heal();
        let brokers = self.members.values_mut();
        let brokers = brokers.filter_map(|member| Some((member.id, member.broker.take()?)));
        // Nobody is there to take over what the last ones lead.
        let stopping: Vec<_> = brokers
            .map(|(node, broker)| (node, tokio::spawn(broker.close())))
            .collect();
        let mut result = Ok(());
        for (node, stopping) in stopping {
            let stopped = stopping.await.unwrap_or_else(|panic| {
                Err(ShutdownError {
                    reason: panic.to_string(),
                })
            });
            let stopped = stopped.map_err(|source| ClusterError::Shutdown { node, source });
            result = result.and(stopped);
        }
        result
    }

    fn check(&self, node: i32) -> Result<(), ClusterError> {
        match self.members.contains_key(&node) {
            true => Ok(()),
            false => Err(ClusterError::UnknownNode(node)),
        }
    }

    fn names(&self, a: i32, b: i32) -> Result<(String, String), ClusterError> {
        self.check(a)?;
        self.check(b)?;
        Ok((name(a), name(b)))
    }

    fn take(&mut self, node: i32) -> Result<Broker, ClusterError> {
        let member = self.members.get_mut(&node);
        let member = member.ok_or(ClusterError::UnknownNode(node))?;
        member.broker.take().ok_or(ClusterError::NotRunning(node))
    }
}

/// A node that is being started, which is given up when this is dropped.
struct Starting(JoinHandle<Result<Broker, StartError>>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}
