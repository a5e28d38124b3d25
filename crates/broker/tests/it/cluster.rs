//! Several nodes of one cluster in this process, on ports that the system chooses.

use std::collections::BTreeMap;
use std::net::TcpListener;

use tempfile::TempDir;
use tidelog_broker::format::{FormatOptions, InitialController, InitialControllers, format};
use tidelog_broker::{Broker, Builder, StartError};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_protocol::messages::describe_quorum::{self, DescribeQuorumRequest, PartitionResult};
use tidelog_types::{NodeId, Uuid};

use crate::client::{Client, soon};

/// A node that may run or not.
pub(crate) struct Member {
    id: i32,
    pub(crate) dir: TempDir,
    properties: BTreeMap<String, String>,
    /// The sockets of its listeners by their names, as far as their ports are known before it is started for the first time.
    sockets: BTreeMap<&'static str, TcpListener>,
    pub(crate) broker: Option<Broker>,
    /// The clock that it goes by.
    #[cfg(feature = "testing")]
    pub(crate) clock: tidelog_broker::testing::Clock,
}

/// The nodes of a cluster, by id.
pub(crate) struct Cluster {
    pub(crate) members: BTreeMap<i32, Member>,
}

/// How the voters are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voters {
    /// By `controller.quorum.voters`.
    Fixed,
    /// By the log (KIP-853).
    InLog,
    /// By the log, where the first controller is the only voter to begin with.
    FirstInLog,
}

const CLUSTER_ID: &str = "a-cluster-of-several";

impl Cluster {
    /// Formatted nodes with these ids and roles; those that are controllers vote.
    pub(crate) fn new(nodes: &[(i32, &str)], voters: Voters) -> Self {
        let mut sockets = BTreeMap::new();
        for (id, roles) in nodes {
            if roles.contains("controller") {
                sockets.insert(*id, TcpListener::bind("127.0.0.1:0").unwrap());
            }
        }
        let port = |socket: &TcpListener| socket.local_addr().unwrap().port();
        let addresses: BTreeMap<i32, u16> = sockets
            .iter()
            .map(|(id, socket)| (*id, port(socket)))
            .collect();
        let fixed = addresses
            .iter()
            .map(|(id, port)| format!("{id}@127.0.0.1:{port}"));
        let fixed = fixed.collect::<Vec<_>>().join(",");
        let servers = addresses.values().map(|port| format!("127.0.0.1:{port}"));
        let servers = servers.collect::<Vec<_>>().join(",");
        let first = addresses.iter().map(|(id, port)| InitialController {
            node_id: NodeId::new(*id),
            host: "127.0.0.1".to_owned(),
            port: *port,
            directory_id: Uuid::from_bytes([u8::try_from(*id).unwrap(); 16]),
        });
        let first: Vec<_> = first.collect();
        let members = nodes.iter().map(|(id, roles)| {
            let dir = tempfile::tempdir().unwrap();
            let mut listeners = Vec::new();
            if roles.contains("broker") {
                listeners.push("PLAINTEXT://127.0.0.1:0".to_owned());
            }
            if let Some(port) = addresses.get(id) {
                listeners.push(format!("CONTROLLER://127.0.0.1:{port}"));
            }
            let quorum = match voters {
                Voters::Fixed => ("controller.quorum.voters", fixed.clone()),
                Voters::InLog | Voters::FirstInLog => {
                    ("controller.quorum.bootstrap.servers", servers.clone())
                }
            };
            let properties = [
                ("process.roles", (*roles).to_owned()),
                ("node.id", id.to_string()),
                ("listeners", listeners.join(",")),
                ("controller.listener.names", "CONTROLLER".to_owned()),
                ("log.dirs", dir.path().to_str().unwrap().to_owned()),
                ("offsets.topic.num.partitions", "4".to_owned()),
                ("offsets.topic.replication.factor", "1".to_owned()),
                quorum,
            ];
            let properties = properties.map(|(key, value)| (key.to_owned(), value));
            let member = Member {
                id: *id,
                dir,
                properties: properties.into(),
                sockets: sockets
                    .remove(id)
                    .map(|socket| ("CONTROLLER", socket))
                    .into_iter()
                    .collect(),
                broker: None,
                #[cfg(feature = "testing")]
                clock: tidelog_broker::testing::Clock::new(),
            };
            let initial_controllers = match voters {
                Voters::Fixed => InitialControllers::Unsaid,
                Voters::InLog if roles.contains("controller") => {
                    InitialControllers::Listed(first.clone())
                }
                Voters::FirstInLog if Some(id) == addresses.keys().next() => {
                    InitialControllers::Standalone
                }
                Voters::FirstInLog if roles.contains("controller") => InitialControllers::Others,
                Voters::InLog | Voters::FirstInLog => InitialControllers::Unsaid,
            };
            member.format(CLUSTER_ID, initial_controllers);
            (*id, member)
        });
        Self {
            members: members.collect(),
        }
    }

    /// The same with all nodes running.
    pub(crate) async fn start(nodes: &[(i32, &str)], voters: Voters) -> Self {
        let mut cluster = Self::new(nodes, voters);
        cluster
            .run(&nodes.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .await;
        cluster
    }

    /// Starts these nodes, all at the same time: one alone would wait for the others.
    pub(crate) async fn run(&mut self, ids: &[i32]) {
        let starting: Vec<_> = ids
            .iter()
            .map(|id| {
                let builder = self.member(*id).builder();
                (*id, tokio::spawn(builder.start()))
            })
            .collect();
        for (id, starting) in starting {
            let broker = soon(starting).await.unwrap();
            self.member(id).broker = Some(broker.unwrap());
        }
    }

    pub(crate) fn member(&mut self, id: i32) -> &mut Member {
        self.members.get_mut(&id).unwrap()
    }

    /// Ends a node as a crash would.
    pub(crate) fn crash(&mut self, id: i32) {
        drop(self.member(id).broker.take().unwrap());
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&mut self, id: i32) {
        let broker = self.member(id).broker.take().unwrap();
        soon(broker.shutdown()).await.unwrap();
    }

    /// A client of a node that runs.
    pub(crate) async fn client(&self, id: i32) -> Client {
        Client::connect(&self.members[&id].address()).await
    }

    /// A client of the controller listener of a node that runs.
    pub(crate) async fn controller_client(&self, id: i32) -> Client {
        let broker = self.members[&id].broker.as_ref().unwrap();
        let mut listeners = broker.listeners().iter();
        let listener = listeners.find(|listener| listener.name == "CONTROLLER");
        Client::connect(&listener.unwrap().to_string()).await
    }

    /// Where a node is reached as a controller.
    pub(crate) fn controller_address(&self, id: i32) -> (String, u16) {
        let broker = self.members[&id].broker.as_ref().unwrap();
        let mut listeners = broker.listeners().iter();
        let listener = listeners.find(|listener| listener.name == "CONTROLLER");
        let listener = listener.unwrap();
        (listener.host.clone(), listener.port)
    }

    /// What the leader of the quorum says, when there is one; asked by way of node `id`.
    pub(crate) async fn quorum(&self, id: i32) -> PartitionResult {
        let mut client = self.client(id).await;
        quorum(&mut client).await
    }
}

/// What the leader of the quorum says, when there is one.
pub(crate) async fn quorum(client: &mut Client) -> PartitionResult {
    let request = DescribeQuorumRequest {
        topics: vec![describe_quorum::TopicData {
            topic_name: "__cluster_metadata".into(),
            partitions: vec![describe_quorum::PartitionData { partition_index: 0 }],
        }],
    };
    soon(async {
        loop {
            let mut answer = client.ask(&request).await;
            let partition = answer.topics.remove(0).partitions.remove(0);
            if partition.error_code.is_ok() {
                return partition;
            }
        }
    })
    .await
}

impl Member {
    pub(crate) fn builder(&mut self) -> Builder {
        let builder = Broker::builder().properties(self.properties.clone());
        #[cfg(feature = "testing")]
        let builder = builder.clock(&self.clock);
        std::mem::take(&mut self.sockets)
            .into_iter()
            .fold(builder, |builder, (listener, socket)| {
                builder.socket(listener, socket)
            })
    }

    /// Has a listener use a socket, when the node is started next.
    pub(crate) fn listen(&mut self, listener: &'static str, socket: TcpListener) {
        self.sockets.insert(listener, socket);
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.properties.insert(key.to_owned(), value.to_owned());
    }

    /// Formats the directory for a cluster.
    pub(crate) fn format(&self, cluster_id: &str, initial_controllers: InitialControllers) {
        let (config, _) = BrokerConfig::new(self.properties.clone()).unwrap();
        let mut options = FormatOptions::new(cluster_id, config);
        options.initial_controllers = initial_controllers;
        format(&options).unwrap();
    }

    /// Loses the disk, and is given a new one that is formatted.
    pub(crate) fn replace_disk(&mut self, initial_controllers: InitialControllers) {
        assert!(self.broker.is_none(), "node {} runs", self.id);
        self.dir = tempfile::tempdir().unwrap();
        let path = self.dir.path().to_str().unwrap().to_owned();
        self.set("log.dirs", &path);
        self.format(CLUSTER_ID, initial_controllers);
    }

    pub(crate) fn address(&self) -> String {
        self.broker.as_ref().unwrap().bootstrap_servers()
    }

    /// Why the node does not start.
    pub(crate) async fn refusal(&mut self) -> StartError {
        soon(self.builder().start()).await.unwrap_err()
    }
}
