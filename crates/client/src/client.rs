//! Which broker to ask, and a connection to it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use tidelog_protocol::ApiRequest;
use tidelog_protocol::messages::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use tidelog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use tidelog_types::{GroupId, NodeId, Str, TopicName};
use tokio::sync::Mutex;
use tokio::time::Instant;

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

/// A client of a cluster: a connection to each broker that it has had to do with.
#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<String>,
    config: Config,
    connections: Mutex<HashMap<String, Arc<Connection>>>,
}

impl Client {
    /// Connects to the first of `bootstrap` that answers, a list of `host:port` with commas between them.
    pub async fn connect(bootstrap: &str, config: Config) -> Result<Self, ClientError> {
        let addresses = bootstrap.split(',').map(str::trim);
        let addresses = addresses.filter(|address| !address.is_empty());
        let client = Self {
            bootstrap: addresses.map(checked).collect::<Result<_, _>>()?,
            config,
            connections: Mutex::default(),
        };
        client.any().await?;
        Ok(client)
    }

    /// How the client behaves.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// A connection to any broker: one that is there, or to the first of the list that answers.
    pub async fn any(&self) -> Result<Arc<Connection>, ClientError> {
        let mut failed = ClientError::Address {
            text: self.bootstrap.join(","),
        };
        for address in &self.bootstrap {
            match self.at(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A connection to this address.
    pub(crate) async fn at(&self, address: &str) -> Result<Arc<Connection>, ClientError> {
        let mut connections = self.connections.lock().await;
        if let Some(connection) = connections.get(address)
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let connection = Connection::connect(address, self.config.clone()).await?;
        let connection = Arc::new(connection);
        connections.insert(address.to_owned(), connection.clone());
        Ok(connection)
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

    /// Calls until there is an answer that stays, or for [`Config::retry_timeout`].
    pub(crate) async fn with_retries<T, F>(&self, call: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let until = Instant::now() + self.config.retry_timeout;
        loop {
            match call().await {
                Err(error) if error.code().is_some() && error.is_retriable() => {
                    if Instant::now() + self.config.retry_backoff > until {
                        return Err(error);
                    }
                    tokio::time::sleep(self.config.retry_backoff).await;
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
