//! What a program that embeds a broker can do without a client: the same requests, without a connection and without bytes
//! in between.
//!
//! A call makes the message that a client would send and has it handled by the handler of its API. What is checked, what is
//! appended, who is woken and when it is acknowledged is therefore the same, and so are the errors.

mod records;
mod topic;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::{ApiKey, Message, RequestHeader};
use tidelog_types::{ErrorCode, Str};
use tokio::sync::watch;

pub use self::records::Records;
pub use self::topic::{Appended, NewRecord, Offsets, Topic};
use crate::handlers::{Context, Peer};
use crate::node::Node;

/// What the program calls itself where a client has its `client.id`.
const CLIENT_ID: &str = "embedded";

/// Why a direct call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The broker refuses it, with the error that a client would be told.
    #[error("{}", explain(code, message.as_deref()))]
    Refused {
        /// The error.
        code: ErrorCode,
        /// What is wrong in particular, where the broker says so.
        message: Option<String>,
    },
    /// The records are more than fit into a batch, or those that were read are damaged.
    #[error("the records are not valid: {0}")]
    Records(String),
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopped,
}

fn explain(code: &ErrorCode, message: Option<&str>) -> String {
    match message {
        Some(message) => message.to_owned(),
        None => code.text().to_owned(),
    }
}

impl RequestError {
    /// The error that a client would be told; `None` where it is not one of the protocol's.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Records(_) | Self::Stopped => None,
        }
    }

    fn check(code: ErrorCode, message: Option<&Str>) -> Result<(), Self> {
        match code.is_ok() {
            true => Ok(()),
            false => Err(Self::Refused {
                code,
                message: message.map(ToString::to_string),
            }),
        }
    }
}

impl From<ErrorCode> for RequestError {
    fn from(code: ErrorCode) -> Self {
        Self::Refused {
            code,
            message: None,
        }
    }
}

/// A topic that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it has; `None` for `num.partitions` of the broker.
    pub partitions: Option<i32>,
    /// How many brokers keep each; `None` for `default.replication.factor` of the broker.
    pub replication_factor: Option<i16>,
    /// Its configuration, as far as it is not the default.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic that is in everything as the broker has it by default.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            replication_factor: None,
            configs: Vec::new(),
        }
    }

    /// With so many partitions.
    #[must_use]
    pub const fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// With so many replicas of each partition.
    #[must_use]
    pub const fn replication_factor(mut self, replication_factor: i16) -> Self {
        self.replication_factor = Some(replication_factor);
        self
    }

    /// With this in its configuration, such as `retention.ms`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((key.into(), value.into()));
        self
    }
}

impl From<&str> for NewTopic {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// A running broker, as long as it runs, for whoever calls it directly.
#[derive(Clone)]
pub(crate) struct Caller {
    node: Weak<Node>,
    /// Who calls, as the handlers see it.
    peer: Arc<Peer>,
    stopped: watch::Receiver<bool>,
}

impl Caller {
    /// Somebody who comes as if to this listener.
    pub(crate) fn new(
        node: Option<&Arc<Node>>,
        listener: Str,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            node: node.map(Arc::downgrade).unwrap_or_default(),
            peer: Arc::new(Peer::new(address, listener)),
            stopped,
        }
    }

    /// What the handler of an API gets with a request.
    fn context(&self, api_key: ApiKey, api_version: i16) -> Result<Context, RequestError> {
        if *self.stopped.borrow() {
            return Err(RequestError::Stopped);
        }
        Ok(Context {
            node: self.node.upgrade().ok_or(RequestError::Stopped)?,
            peer: Arc::clone(&self.peer),
            header: RequestHeader {
                api_key,
                api_version,
                correlation_id: 0,
                client_id: Some(Str::from_static(CLIENT_ID)),
            },
        })
    }

    /// Waits for an answer, unless the broker stops first.
    async fn unless_stopped<T>(&self, answer: impl Future<Output = T>) -> Result<T, RequestError> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            _ = stopped.wait_for(|stopped| *stopped) => Err(RequestError::Stopped),
        }
    }

    /// The error in an answer. One of a broker that has stopped is that it has stopped, whatever it found closed.
    fn check(&self, code: ErrorCode) -> Result<(), RequestError> {
        RequestError::check(code, None).map_err(|error| match *self.stopped.borrow() {
            true => RequestError::Stopped,
            false => error,
        })
    }

    async fn decide(&self, request: ControllerRequest) -> Result<ControllerResponse, RequestError> {
        let context = self.context(ApiKey::ApiVersions, 0)?;
        let answer = self.unless_stopped(context.ask_controller(request));
        answer.await
    }

    /// Creates a topic. It is there when this returns, on this broker.
    pub(crate) async fn create_topic(&self, topic: NewTopic) -> Result<Topic, RequestError> {
        let name = Str::from(topic.name);
        let configs = topic.configs.into_iter();
        let configs = configs.map(|(name, value)| CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.clone().into(),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: self.request_timeout_ms()?,
            validate_only: false,
        };
        let answer = self
            .decide(ControllerRequest::CreateTopics(request))
            .await?;
        let ControllerResponse::CreateTopics(answer) = answer else {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
        };
        for topic in &answer.topics {
            RequestError::check(topic.error_code, topic.error_message.as_ref())?;
        }
        Ok(Topic::new(self.clone(), name))
    }

    /// Deletes a topic.
    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), RequestError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(name.into()),
                ..Default::default()
            }],
            timeout_ms: self.request_timeout_ms()?,
            ..Default::default()
        };
        let request = ControllerRequest::DeleteTopics {
            api_version: DeleteTopicsRequest::VERSIONS.max,
            request,
        };
        let ControllerResponse::DeleteTopics(answer) = self.decide(request).await? else {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
        };
        for topic in &answer.responses {
            RequestError::check(topic.error_code, topic.error_message.as_ref())?;
        }
        Ok(())
    }

    /// The names of all topics but the internal ones, in order.
    pub(crate) fn topic_names(&self) -> Vec<String> {
        let Some(node) = self.node.upgrade() else {
            return Vec::new();
        };
        let image = node.image.load();
        let topics = image.topics().filter(|topic| !topic.name.is_internal());
        let mut names: Vec<_> = topics.map(|topic| topic.name.to_string()).collect();
        names.sort();
        names
    }

    /// How many partitions a topic has.
    fn partitions(&self, name: &str) -> Result<usize, RequestError> {
        let node = self.node.upgrade().ok_or(RequestError::Stopped)?;
        let image = node.image.load();
        let topic = image.topic(name);
        let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        Ok(topic.partitions.len())
    }

    fn request_timeout_ms(&self) -> Result<i32, RequestError> {
        let node = self.node.upgrade().ok_or(RequestError::Stopped)?;
        Ok(node.broker_config.load().request_timeout_ms())
    }
}
