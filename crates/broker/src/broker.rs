use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tidelog_metadata::configs::{BrokerConfig, Durability, SecurityProtocol};
use tidelog_replication::partition as replica;
use tidelog_replication::quorum::Endpoint;
use tidelog_types::{NodeId, Offset};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::aside::Aside;
use crate::builder::Disks;
use crate::cleaner::LogCleaner;
use crate::clock::Clock;
use crate::direct::{Caller, NewTopic, RequestError, Topic};
use crate::error::{Failure, ShutdownError, StartError};
use crate::failure::{self, Ending};
use crate::fetch_session::{self, FetchSessions};
use crate::groups::Groups;
use crate::handlers::controller::ControllerNode;
use crate::handlers::controller::presence::Presence;
use crate::housekeeping::Housekeeping;
use crate::identity::{Directories, metadata_directory, open_directories};
use crate::lifecycle::{self, Member, Membership};
use crate::listeners::{self, Open, Openings};
use crate::metadata::{self, ActiveController, MetadataHandle, Publisher, QuorumSetup};
use crate::metrics::{Metrics, Traffic};
use crate::missing::Missing;
use crate::net::listener::Worker;
use crate::net::memory::MemoryStream;
use crate::net::network::MemoryNetwork;
use crate::net::quota::ConnectionQuota;
use crate::node::{Node, Settings};
use crate::peers::Network;
use crate::producer_ids::ProducerIds;
use crate::random::random_seed;
use crate::replication::Replication;
use crate::store::Store;
use crate::store::directories::DataDirectory;
use crate::store::moves::LogMover;
#[cfg(feature = "testing")]
use crate::testing::Probe;
use crate::transactions::Transactions;
use crate::{Builder, groups};

/// A running node: a broker, a controller, or both.
///
/// Dropping it stops it at once, as a crash would; what was acknowledged is safe. [`shutdown`](Self::shutdown) stops it in
/// order, so that the next start has nothing to recover.
pub struct Broker {
    id: NodeId,
    cluster_id: String,
    listeners: Vec<ListenerAddress>,
    memory: MemoryNetwork,
    traffic: Arc<Traffic>,
    durability: Durability,
    pub(crate) clock: Clock,
    #[cfg(feature = "testing")]
    pub(crate) probe: Probe,
    /// What it was made of.
    #[cfg(feature = "testing")]
    pub(crate) kept: Option<Builder>,
    store: Arc<Store>,
    /// What it has as a broker.
    pub(crate) serving: Option<Serving>,
    /// Told to those who call the broker directly.
    stop_callers: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    ending: Ending,
    tasks: Vec<JoinHandle<()>>,
    stop_controller: watch::Sender<bool>,
    controller_tasks: Vec<JoinHandle<()>>,
    metadata: MetadataHandle,
    /// The directory of the metadata log, where it is none of the store's; locked as long as this is there.
    metadata_directory: Option<DataDirectory>,
    /// Ends last.
    aside: Aside,
}

/// What only a broker has.
pub(crate) struct Serving {
    broker_epoch: i64,
    membership: Option<Membership>,
    pub(crate) node: Arc<Node>,
    cleaner: LogCleaner,
    housekeeping: Housekeeping,
    mover: LogMover,
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

    /// Opens a stream to the first listener, within the process: what a client needs in place of a TCP connection. It is
    /// there whether the listener has a port or not.
    ///
    /// A client that follows the addresses it is told connects by way of the [`network`](Self::network), which knows them
    /// all: its transport has nothing to do but to call [`MemoryNetwork::connect`].
    pub async fn connect(&self) -> io::Result<MemoryStream> {
        self.memory.connect(&self.bootstrap_servers()).await
    }

    /// The network within the process on which the listeners are reached at their addresses.
    pub const fn network(&self) -> &MemoryNetwork {
        &self.memory
    }

    /// A topic of this broker, to append to and read from without a client. Whether it exists turns out when it is used.
    pub fn topic(&self, name: &str) -> Topic {
        Topic::new(self.caller(), name.into())
    }

    /// Creates a topic. It can be used when this returns; an error where it exists already.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tidelog_broker::{Broker, ErrorCode, NewTopic};
    ///
    /// let broker = Broker::builder().no_ports().start().await?;
    /// broker.create_topic("orders").await?;
    /// broker.create_topic(NewTopic::new("logins").partitions(3).config("retention.ms", "1000")).await?;
    /// let error = broker.create_topic("orders").await.unwrap_err();
    /// assert_eq!(error.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    /// assert_eq!(broker.topic_names(), ["logins", "orders"]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_topic(&self, topic: impl Into<NewTopic>) -> Result<Topic, RequestError> {
        self.caller().create_topic(topic.into()).await
    }

    /// Deletes a topic and what is in it.
    pub async fn delete_topic(&self, name: &str) -> Result<(), RequestError> {
        self.caller().delete_topic(name).await
    }

    /// The names of all topics of the cluster, apart from the internal ones, in order.
    pub fn topic_names(&self) -> Vec<String> {
        self.caller().topic_names()
    }

    /// Whoever calls the broker directly. One that is only a controller is as if it had stopped.
    fn caller(&self) -> Caller {
        let node = self.serving.as_ref().map(|serving| &serving.node);
        let listener = self.listeners.first().map(|listener| &*listener.name);
        Caller::new(
            node,
            listener.unwrap_or_default().into(),
            self.stop_callers.subscribe(),
        )
    }

    /// What the broker has counted since it was started, and what it has now. It costs a look at each partition.
    pub fn metrics(&self) -> Metrics {
        self.traffic.snapshot(&self.store)
    }

    /// The number of the node (`node.id`).
    pub fn node_id(&self) -> i32 {
        self.id.value()
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The data directories.
    pub fn data_dirs(&self) -> impl Iterator<Item = &Path> {
        self.store
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
        openings: &Openings,
        clock: Clock,
        #[cfg(feature = "testing")] probe: Probe,
    ) -> Result<Self, StartError> {
        check_supported(&config)?;
        // Before the disk is touched: a port in use must leave no trace.
        let open_controllers = listeners::open(&config, config.controller_listeners(), openings)?;
        let open_brokers = listeners::open(&config, config.broker_listeners(), openings)?;
        let node_id = config.node_id();
        let Directories {
            usable: directories,
            metadata: own_directory,
            unavailable,
            cluster_id,
        } = open_directories(&config, node_id, disks)?;
        let metadata_dir = metadata_directory(&config, &directories);
        let controllers = listeners::addresses(&open_controllers);
        let network = openings.network();
        let aside = if config.is_alone() {
            Aside::none()
        } else {
            Aside::start()?
        };
        let (metadata, active) = metadata::open(QuorumSetup {
            clock: clock.clone(),
            config: &config,
            cluster_id: &cluster_id,
            directory: match (&own_directory, metadata_dir) {
                (Some(own), _) => own,
                (None, at) => &directories[at.unwrap_or(0)],
            },
            endpoints: controllers.iter().map(endpoint).collect(),
            runtime: aside.handle().clone(),
            network: Arc::clone(&network),
        })?;
        let replica_config = replica::Config {
            replica_lag_time_max_ms: u32::try_from(config.replica_lag_time_max_ms())
                .unwrap_or(u32::MAX),
            fetch_backoff_ms: u32::try_from(config.replica_fetch_backoff_ms()).unwrap_or(0),
            ..replica::Config::new(node_id)
        };
        let store = Arc::new(Store::new(
            replica_config,
            clock.clone(),
            (directories, unavailable),
            &config,
        ));
        let active = Arc::new(active);
        let workers: Arc<[Worker]> = workers.into();
        let (stop, stopped) = watch::channel(false);
        let (stop_controller, controller_stopped) = watch::channel(false);
        let stops = [stop.clone(), stop_controller.clone()];
        let ending = Ending::new(stops, metadata.controller.clone());
        let presence = Presence::new(
            &config,
            aside.handle().clone(),
            Arc::clone(&network),
            metadata.controller.clone(),
        );
        let traffic = Arc::<Traffic>::default();
        let controller = Arc::new(ControllerNode {
            cluster_id: cluster_id.as_str().into(),
            config: Settings::new(&config),
            traffic: Arc::clone(&traffic),
            controller: metadata.controller.clone(),
            presence: Arc::clone(&presence),
        });
        let controller_tasks = {
            let _there = aside.handle().enter();
            let worker = Worker::shared(aside.handle().clone());
            let workers = [worker].into();
            let quota = quota(&config, open_controllers.len(), &traffic)?;
            listeners::serve(
                open_controllers,
                &controller,
                &workers,
                &quota,
                &controller_stopped,
            )
        };
        let mut broker = Self {
            id: node_id,
            cluster_id,
            listeners: controllers.clone(),
            memory: openings.party.network.clone(),
            traffic,
            durability: config.durability(),
            clock,
            #[cfg(feature = "testing")]
            probe,
            #[cfg(feature = "testing")]
            kept: None,
            store,
            serving: None,
            stop_callers: watch::Sender::new(false),
            stop,
            ending: ending.clone(),
            tasks: Vec::new(),
            stop_controller,
            controller_tasks,
            metadata,
            metadata_directory: own_directory,
            aside,
        };
        let disks = failure::Disks {
            store: Arc::clone(&broker.store),
            metadata_directory: metadata_dir,
            metadata: broker.metadata.controller.clone(),
            ending,
        };
        broker.tasks.push(tokio::spawn(disks.run(stopped.clone())));
        if config.roles().controller && !controllers.is_empty() {
            let registering = lifecycle::register_controller(
                active.clone(),
                node_id,
                controllers,
                stopped.clone(),
            );
            broker.tasks.push(tokio::spawn(registering));
            broker
                .tasks
                .push(broker.aside.handle().spawn(presence.run(stopped.clone())));
        }
        if config.roles().broker {
            broker
                .serve(&config, active, network, open_brokers, &workers, &stopped)
                .await?;
        }
        Ok(broker)
    }

    /// Becomes a broker: registers, becomes what the metadata says, serves, and only then counts as alive.
    async fn serve(
        &mut self,
        config: &BrokerConfig,
        active: Arc<ActiveController>,
        network: Arc<dyn Network>,
        open: Vec<Open>,
        workers: &Arc<[Worker]>,
        stopped: &watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        let clock = &self.clock;
        let store = &self.store;
        let groups = Groups::new(groups::config(config), clock.clone());
        let broker_config = Arc::new(ArcSwap::from_pointee(config.clone()));
        let quota = quota(config, open.len(), &self.traffic)?;
        let publisher = Publisher {
            connections: Arc::clone(&quota),
            node_id: self.id,
            store: Arc::clone(store),
            groups: Arc::clone(&groups),
            static_config: config.clone(),
            broker_config: Arc::clone(&broker_config),
        };
        let listeners = listeners::addresses(&open);
        let refuse = |reason: String| StartError::NotTaken { reason };
        let broker_epoch =
            lifecycle::register(&active, config, &self.cluster_id, &listeners, store).await;
        let broker_epoch = broker_epoch.map_err(refuse)?;
        // The registration stands in the log at its epoch.
        let from = Offset::new(broker_epoch + 1);
        let followed = active.follow(publisher, from).await;
        followed.map_err(|code| refuse(code.to_string()))?;
        let published = active.local().published().clone();
        let missing = Arc::new(Missing::new(Arc::clone(&published.image)));
        let replication = Arc::new(Replication {
            node_id: self.id,
            broker_epoch,
            cluster_id: self.cluster_id.as_str().into(),
            store: Arc::clone(store),
            image: Arc::clone(&published.image),
            config: Arc::clone(&broker_config),
            controller: Arc::clone(&active),
            network: Arc::clone(&network),
            missing: Arc::clone(&missing),
        });
        self.tasks
            .push(tokio::spawn(replication.run(stopped.clone())));
        let member = Member {
            id: self.id,
            broker_epoch,
            metadata_offset: Arc::clone(&published.offset),
            store: Arc::clone(store),
            config: Arc::clone(&broker_config),
            controller: Arc::clone(&active),
            ending: self.ending.clone(),
        };
        member.unfence().await.map_err(refuse)?;
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
            id: self.id,
            cluster_id: self.cluster_id.as_str().into(),
            broker_epoch,
            config: Settings::new(config),
            traffic: Arc::clone(&self.traffic),
            clock: clock.clone(),
            broker_config: Arc::clone(&broker_config),
            image: Arc::clone(&published.image),
            metadata_offset: Arc::clone(&published.offset),
            image_changed: Arc::clone(&published.changed),
            missing,
            store: Arc::clone(store),
            groups: Arc::clone(&groups),
            controller: Arc::clone(&active),
            producer_ids: ProducerIds::default(),
            transactions: Transactions::new(
                self.id,
                Arc::clone(&published.image),
                Arc::clone(&broker_config),
                network,
            ),
            fetch_sessions: FetchSessions::new(sessions, random_seed()),
            #[cfg(feature = "testing")]
            probe: self.probe.clone(),
        });
        let cleaner = LogCleaner::start(store.clone(), broker_config.clone(), clock.clone())?;
        let mover = LogMover::start(store.clone(), published.image.clone(), self.id)?;
        let housekeeping = Housekeeping::start(store.clone(), broker_config, clock.clone())?;
        self.tasks
            .extend(listeners::serve(open, &node, workers, &quota, stopped));
        let timers = Groups::run_timers(Arc::downgrade(&groups));
        let mut stopped_timers = stopped.clone();
        self.tasks.push(tokio::spawn(async move {
            tokio::select! {
                () = timers => {}
                _ = stopped_timers.wait_for(|stop| *stop) => {}
            }
        }));
        self.listeners.splice(0..0, listeners);
        self.serving = Some(Serving {
            broker_epoch,
            membership: Some(member.stay(self.aside.handle(), stopped.clone())),
            node,
            cleaner,
            housekeeping,
            mover,
        });
        Ok(())
    }

    /// Why the node has stopped by itself, as it does when it has lost its metadata log or its last log directory. Returns when
    /// that happens, and never if it does not. The port is closed then; what is left to do is to drop the value.
    pub async fn failure(&self) -> Failure {
        self.ending.failure().await
    }

    /// Stops in order: others take over what this node leads, no new requests, everything flushed, checkpoints written, files
    /// as Kafka leaves them.
    pub async fn shutdown(mut self) -> Result<(), ShutdownError> {
        if let Some(serving) = &mut self.serving
            && let Some(membership) = serving.membership.take()
            && serving
                .node
                .broker_config
                .load()
                .controlled_shutdown_enable()
        {
            membership.leave().await;
        }
        self.close().await
    }

    /// The same without having others take over what this node leads: where they stop too.
    pub(crate) async fn close(mut self) -> Result<(), ShutdownError> {
        self.stop_serving().await;
        let serving = self.serving.take();
        let store = Arc::clone(&self.store);
        let mut metadata = self.metadata.take_over();
        let metadata_directory = self.metadata_directory.take();
        let closed = tokio::task::spawn_blocking(move || {
            let broker_epoch = serving.map_or(-1, |mut serving| {
                serving.cleaner.stop();
                serving.housekeeping.stop();
                serving.mover.stop();
                serving.broker_epoch
            });
            // While controllers are still heard: the successor fetches what it lacks.
            metadata.stop();
            store.close(broker_epoch)?;
            let marked = metadata_directory.map_or(Ok(()), |directory| {
                let nothing = std::iter::empty();
                directory.files.write_clean_shutdown(broker_epoch, nothing)
            });
            marked.map_err(|error| error.to_string())
        });
        let closed = closed.await;
        self.stop_controlling().await;
        match closed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(ShutdownError { reason }),
            Err(panic) => Err(ShutdownError {
                reason: panic.to_string(),
            }),
        }
    }
}

#[cfg(feature = "testing")]
impl Broker {
    /// Cuts the broker off from the world: returns when no connection and no listener is left.
    pub(crate) async fn cut_off(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.stop_controller.send(true);
        let tasks = self.tasks.drain(..).chain(self.controller_tasks.drain(..));
        for task in tasks {
            // A task that panicked has said so.
            let _ = task.await;
        }
        self.probe.until_disconnected().await;
    }
}

impl Broker {
    /// Stops at once, as dropping does, and returns when nothing of the broker is left.
    pub(crate) async fn halt(mut self) {
        let _ = self.stop_controller.send(true);
        self.stop_serving().await;
        self.stop_controlling().await;
        let mut store = self.store.alive.subscribe();
        let dropped = tokio::task::spawn_blocking(move || drop(self));
        // A panic of a thread that it joins was reported when it happened.
        let _ = dropped.await;
        // Nothing is ever sent: what comes is that the store has gone, and with it the locks of its directories.
        let _ = store.changed().await;
    }

    /// Ends all tasks that serve clients; nothing of them is left when it returns.
    async fn stop_serving(&mut self) {
        let _ = self.stop_callers.send(true);
        let _ = self.stop.send(true);
        for task in self.tasks.drain(..) {
            // A task that panicked has said so.
            let _ = task.await;
        }
        if let Some(membership) = self.serving.as_mut().and_then(|s| s.membership.take()) {
            membership.end().await;
        }
        // Connections hold on to it until they have ended.
        self.stop.closed().await;
    }

    async fn stop_controlling(&mut self) {
        let _ = self.stop_controller.send(true);
        for task in self.controller_tasks.drain(..) {
            let _ = task.await;
        }
        self.stop_controller.closed().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.stop_callers.send(true);
        let _ = self.stop.send(true);
        let _ = self.stop_controller.send(true);
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
    let secured = config
        .listeners()
        .iter()
        .find(|l| l.protocol != SecurityProtocol::Plaintext);
    if let Some(listener) = secured {
        return Err(StartError::Unsupported(format!(
            "listener {} asks for {}, this version has only PLAINTEXT",
            listener.name, listener.protocol
        )));
    }
    Ok(())
}

fn quota(
    config: &BrokerConfig,
    listeners: usize,
    traffic: &Arc<Traffic>,
) -> Result<Arc<ConnectionQuota>, StartError> {
    let limits = config.connection_limits()?;
    Ok(ConnectionQuota::new(
        config,
        limits,
        listeners,
        Arc::clone(traffic),
    ))
}

fn endpoint(listener: &ListenerAddress) -> Endpoint {
    Endpoint {
        listener: listener.name.clone().into(),
        host: listener.host.clone().into(),
        port: listener.port,
    }
}
