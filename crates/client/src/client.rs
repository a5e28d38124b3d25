//! Which broker to ask, and a connection to it.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;

use parking_lot::RwLock;
use regex::Regex;
use tidelog_protocol::ApiRequest;
use tidelog_protocol::messages::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use tidelog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use tidelog_types::{ErrorCode, GroupId, NodeId, Str, TopicId, TopicName};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::backoff::{Random, backoff};
use crate::metadata::Cluster;
use crate::statistics::{ClientStatistics, Counters};
use crate::{ClientError, Config, Connection};

/// The key type of FindCoordinator for groups.
const GROUP: i8 = 0;
/// From this version on FindCoordinator takes several keys (KIP-699).
const SEVERAL_KEYS_FROM_VERSION: i16 = 4;

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: NodeId,
    /// The host under which clients reach it.
    pub host: Str,
    /// The port.
    pub port: i32,
}

impl Broker {
    /// `host:port`.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A client of a cluster: a connection to each broker that it has had to do with, and what it knows of topics and leaders.
///
/// A clone is the same client.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bootstrap: Vec<String>,
    config: Config,
    connections: parking_lot::Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
    cluster: Arc<RwLock<Cluster>>,
    counters: Arc<Counters>,
}

/// The connection to one address. Its lock is held while it comes about, so that one attempt serves all who want it.
#[derive(Debug, Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    /// Attempts in a row that failed.
    failures: u32,
    /// Not to be tried before then.
    retry_at: Option<Instant>,
    /// Whether the broker has said that it wants to know who the client is.
    wants_sasl: bool,
}

impl Client {
    /// Connects to the first of `bootstrap` that answers, a list of `host:port` with commas between them.
    pub async fn connect(bootstrap: &str, config: Config) -> Result<Self, ClientError> {
        let addresses = bootstrap.split(',').map(str::trim);
        let addresses = addresses.filter(|address| !address.is_empty());
        let client = Self {
            shared: Arc::new(Shared {
                bootstrap: addresses.map(checked).collect::<Result<_, _>>()?,
                config,
                connections: parking_lot::Mutex::default(),
                cluster: Arc::default(),
                counters: Arc::default(),
            }),
        };
        client.any().await?;
        Ok(client)
    }

    /// A client of the same cluster with connections of its own, for requests that a broker holds back, and with them what comes
    /// behind them on the same connection.
    pub(crate) fn apart(&self) -> Self {
        Self {
            shared: Arc::new(Shared {
                bootstrap: self.shared.bootstrap.clone(),
                config: self.shared.config.clone(),
                connections: parking_lot::Mutex::default(),
                cluster: self.shared.cluster.clone(),
                counters: self.shared.counters.clone(),
            }),
        }
    }

    /// How the client behaves.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// What the client has done so far.
    pub fn statistics(&self) -> ClientStatistics {
        self.shared.counters.snapshot()
    }

    /// A connection to any broker: one that is there, or to the first that answers of those that are known, or, if none of
    /// them does, of those that the client began with (KIP-899).
    pub async fn any(&self) -> Result<Arc<Connection>, ClientError> {
        if let Some(connection) = self.open_connection() {
            return Ok(connection);
        }
        let mut addresses = self.known_addresses();
        for address in &self.shared.bootstrap {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let mut failed = ClientError::Address {
            text: self.shared.bootstrap.join(","),
        };
        for address in &addresses {
            match self.at(address).await {
                Ok(connection) => return Ok(connection),
                // The others have been told the same of the client.
                Err(error @ ClientError::Authentication { .. }) => return Err(error),
                // That another one is not there says less than what is wrong with the settings.
                Err(_) if failed.is_distrust() => {}
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A connection that is there, unless somebody is busy with it.
    fn open_connection(&self) -> Option<Arc<Connection>> {
        let connections = self.shared.connections.lock();
        let mut open = connections.values().filter_map(|slot| {
            let slot = slot.try_lock().ok()?;
            slot.connection.clone().filter(|it| !it.is_closed())
        });
        open.next()
    }

    fn known_addresses(&self) -> Vec<String> {
        let cluster = self.shared.cluster.read();
        cluster.brokers.values().map(Broker::address).collect()
    }

    /// A connection to this address. After a failure the next attempt waits a little.
    pub(crate) async fn at(&self, address: &str) -> Result<Arc<Connection>, ClientError> {
        let slot = {
            let mut connections = self.shared.connections.lock();
            let slot = connections.entry(address.to_owned());
            slot.or_default().clone()
        };
        let mut slot = slot.lock().await;
        let mut probes = slot.wants_sasl;
        if let Some(connection) = slot.connection.take_if(|it| it.is_closed()) {
            tracing::debug!(address = connection.address(), "connecting again");
            probes |= connection.is_cut_off();
        }
        if let Some(connection) = &slot.connection {
            return Ok(connection.clone());
        }
        if let Some(retry_at) = slot.retry_at {
            tokio::time::sleep_until(retry_at).await;
        }
        let counters = self.shared.counters.clone();
        let config = self.config().clone();
        match Connection::counted(address, config, counters.clone(), probes).await {
            Ok(connection) => {
                counters.connections.add(1);
                let connection = Arc::new(connection);
                *slot = Slot {
                    connection: Some(connection.clone()),
                    ..Slot::default()
                };
                Ok(connection)
            }
            Err(error) => {
                counters.connect_failures.add(1);
                tracing::debug!(address, %error, "no connection");
                slot.failures += 1;
                slot.wants_sasl = matches!(error, ClientError::SaslExpected { .. });
                let config = self.config();
                let wait = backoff(
                    config.reconnect_backoff,
                    config.reconnect_backoff_max,
                    slot.failures,
                    &mut Random::seeded(),
                );
                slot.retry_at = Some(Instant::now() + wait);
                Err(error)
            }
        }
    }

    /// A connection to a broker of the cluster.
    pub(crate) async fn at_node(&self, id: NodeId) -> Result<Arc<Connection>, ClientError> {
        let address = self.read_cluster(|cluster| cluster.brokers.get(&id).map(Broker::address));
        match address {
            Some(address) => self.at(&address).await,
            None => Err(ClientError::UnknownBroker { id }),
        }
    }

    /// Looks at what is known of the cluster.
    pub(crate) fn read_cluster<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        look(&self.shared.cluster.read())
    }

    /// Notes what an answer said of the cluster.
    pub(crate) fn note<T>(&self, note: impl FnOnce(&mut Cluster) -> T) -> T {
        note(&mut self.shared.cluster.write())
    }

    /// Asks any broker about these topics, and remembers the answer. Topics with an error come back with it.
    pub(crate) async fn refresh(
        &self,
        topics: &[TopicName],
        may_create: bool,
    ) -> Result<Vec<(TopicName, ErrorCode)>, ClientError> {
        let topics = topics.iter().map(|topic| MetadataRequestTopic {
            name: Some(topic.clone()),
            ..Default::default()
        });
        let request = MetadataRequest {
            topics: Some(topics.collect()),
            allow_auto_topic_creation: may_create,
            ..Default::default()
        };
        self.shared.counters.metadata_refreshes.add(1);
        let answer = self.ask_any(&request).await?;
        if answer.error_code == ErrorCode::REBOOTSTRAP_REQUIRED {
            // KIP-1102: these brokers are no longer the cluster's.
            self.note(|cluster| cluster.brokers.clear());
            self.shared.connections.lock().clear();
        }
        ClientError::check(answer.error_code, None, || "the metadata".into())?;
        Ok(self.note(|cluster| cluster.update(answer)))
    }

    /// Asks any broker about the topics with these ids, and remembers the answer.
    pub(crate) async fn refresh_ids(&self, ids: &[TopicId]) -> Result<(), ClientError> {
        let topics = ids.iter().map(|id| MetadataRequestTopic {
            topic_id: *id,
            name: None,
        });
        let request = MetadataRequest {
            topics: Some(topics.collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = self.ask_any(&request).await?;
        ClientError::check(answer.error_code, None, || "the metadata".into())?;
        self.note(|cluster| cluster.update(answer));
        Ok(())
    }

    /// The topics with such a name, but for those in which brokers keep their own records.
    pub(crate) async fn topics_matching(
        &self,
        regex: &Regex,
    ) -> Result<BTreeSet<TopicName>, ClientError> {
        let answer = self.metadata(None).await?;
        ClientError::check(answer.error_code, None, || "the metadata".into())?;
        let topics = answer.topics.into_iter();
        let topics = topics.filter(|topic| topic.error_code.is_ok() && !topic.is_internal);
        let names = topics.filter_map(|topic| topic.name);
        let names = names.filter(|name| regex.is_match(name));
        Ok(names.map(|name| name.detach()).collect())
    }

    /// Sends a request that any broker can answer.
    pub(crate) async fn ask_any<R: ApiRequest>(
        &self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.any().await?.send(request).await
    }

    /// The cluster: its brokers, and these topics, or all. No topic is created by asking.
    pub async fn metadata(
        &self,
        topics: Option<&[TopicName]>,
    ) -> Result<MetadataResponse, ClientError> {
        let topics = topics.map(|topics| {
            let topics = topics.iter().map(|topic| MetadataRequestTopic {
                name: Some(topic.clone()),
                ..Default::default()
            });
            topics.collect()
        });
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.ask_any(&request).await
    }

    /// The brokers of the cluster.
    pub async fn brokers(&self) -> Result<Vec<Broker>, ClientError> {
        let metadata = self.metadata(Some(&[])).await?;
        let brokers = metadata.brokers.into_iter().map(|broker| Broker {
            id: broker.node_id,
            host: broker.host,
            port: broker.port,
        });
        Ok(brokers.collect())
    }

    /// The broker that coordinates a group.
    pub async fn coordinator(&self, group: &GroupId) -> Result<Broker, ClientError> {
        let connection = self.any().await?;
        let several = connection
            .version::<FindCoordinatorRequest>(i16::MAX)
            .is_some_and(|version| version >= SEVERAL_KEYS_FROM_VERSION);
        let mut request = FindCoordinatorRequest {
            key_type: GROUP,
            ..Default::default()
        };
        match several {
            true => request.coordinator_keys.push(group.as_inner().clone()),
            false => request.key = group.as_inner().clone(),
        }
        found(group, connection.send(&request).await?)
    }

    /// Runs a call on the coordinator of a group, and again while it answers that it may work later.
    pub(crate) async fn on_coordinator<T, F>(
        &self,
        group: &GroupId,
        call: impl Fn(Broker, Arc<Connection>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.with_retries(|| async {
            let broker = self.coordinator(group).await?;
            let connection = self.at(&broker.address()).await?;
            call(broker, connection).await
        })
        .await
    }

    /// Calls until there is an answer that stays, or for [`Config::retry_timeout`]. That a broker cannot be reached is one.
    pub(crate) async fn with_retries<T, F>(&self, call: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let may = |error: &ClientError| error.code().is_some() && error.is_retriable();
        self.with_retries_if(call, may).await
    }

    /// Calls until there is an answer that `may` not be tried again, or for [`Config::retry_timeout`].
    pub(crate) async fn with_retries_if<T, F>(
        &self,
        call: impl Fn() -> F,
        may: impl Fn(&ClientError) -> bool,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let config = self.config();
        let until = Instant::now() + config.retry_timeout;
        let mut random = Random::seeded();
        let mut failures = 0;
        loop {
            match call().await {
                Err(error) if may(&error) => {
                    failures += 1;
                    let (first, max) = (config.retry_backoff, config.retry_backoff_max);
                    let wait = backoff(first, max, failures, &mut random);
                    if Instant::now() + wait > until {
                        return Err(error);
                    }
                    tokio::time::sleep(wait).await;
                }
                done => return done,
            }
        }
    }
}

/// An address with a host and a port.
fn checked(address: &str) -> Result<String, ClientError> {
    let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match is_address {
        true => Ok(address.to_owned()),
        false => Err(ClientError::Address {
            text: address.to_owned(),
        }),
    }
}

/// The coordinator in an answer of any version.
fn found(group: &GroupId, answer: FindCoordinatorResponse) -> Result<Broker, ClientError> {
    let subject = || format!("the coordinator of group {group}");
    if let Some(coordinator) = answer.coordinators.into_iter().next() {
        let message = coordinator.error_message.as_ref();
        ClientError::check(coordinator.error_code, message, subject)?;
        return Ok(Broker {
            id: coordinator.node_id,
            host: coordinator.host,
            port: coordinator.port,
        });
    }
    ClientError::check(answer.error_code, answer.error_message.as_ref(), subject)?;
    Ok(Broker {
        id: answer.node_id,
        host: answer.host,
        port: answer.port,
    })
}
