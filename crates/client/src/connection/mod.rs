//! One connection to one broker: requests go out as they come, answers are matched by correlation id.

mod driver;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidelog_protocol::{
    ApiKey, ApiRequest, Message, Reader, ResponseHeader, VersionRange, Writer, encode_request,
};
use tidelog_types::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use self::driver::{Driver, Outgoing};
use crate::error::api_name;
use crate::statistics::Counters;
use crate::{ClientError, Config, Stream};

/// A connection to a broker, which any number of tasks may use at once.
///
/// It ends when it is dropped, or when the broker closes it; requests that wait then fail. One task reads and writes.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    versions: HashMap<ApiKey, VersionRange>,
    correlation_id: AtomicI32,
    requests: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// How many requests may wait until the connection's task takes them.
const REQUESTS_QUEUED_MAX: usize = 64;

/// What a connection has in common with its task and with the answers that are waited for.
#[derive(Debug)]
struct Shared {
    address: String,
    ended: Mutex<Option<Ended>>,
    counters: Arc<Counters>,
}

/// Why a connection is over.
#[derive(Debug)]
enum Ended {
    /// The broker closed it in order.
    ByBroker,
    Failed(io::Error),
    /// It sent what no broker sends.
    NotKafka(String),
    /// It answered in TLS.
    Tls,
}

impl Shared {
    /// Notes why no answer will come any more; the first reason counts.
    fn end(&self, why: Ended) {
        self.ended.lock().get_or_insert(why);
    }

    /// Why no answer will come.
    fn error(&self) -> ClientError {
        let address = self.address.clone();
        let source = match &*self.ended.lock() {
            // Errors of the system cannot be cloned.
            Some(Ended::Failed(error)) => Some(io::Error::new(error.kind(), error.to_string())),
            Some(Ended::NotKafka(what)) => {
                let what = what.clone();
                return ClientError::NotKafka { address, what };
            }
            Some(Ended::Tls) => return ClientError::TlsExpected { address },
            Some(Ended::ByBroker) | None => None,
        };
        ClientError::Closed { address, source }
    }

    fn read_answer<M: Message>(
        &self,
        frame: Bytes,
        key: ApiKey,
        version: i16,
    ) -> Result<M, ClientError> {
        let mut reader = Reader::new(frame);
        ResponseHeader::read(&mut reader, key, version)
            .and_then(|_| M::read(&mut reader, version))
            .map_err(|source| ClientError::Decode {
                address: self.address.clone(),
                source,
            })
    }
}

/// An answer that has been asked for.
#[derive(Debug)]
pub(crate) struct Pending {
    answer: oneshot::Receiver<Bytes>,
    api: ApiKey,
    version: i16,
    deadline: Instant,
    config: Config,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Pending {
    /// Waits for the frame that answers the request.
    async fn frame(&mut self) -> Result<Bytes, ClientError> {
        match timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.shared.error()),
            Err(_) => {
                // A broker that does not answer this will not answer what waits behind it.
                self.shared
                    .end(Ended::Failed(io::ErrorKind::TimedOut.into()));
                self.task.abort();
                Err(ClientError::Timeout {
                    address: self.shared.address.clone(),
                    what: api_name(self.api),
                    timeout: self.config.request_timeout,
                })
            }
        }
    }

    /// Waits for the answer.
    pub(crate) async fn answer<M: Message>(&mut self) -> Result<M, ClientError> {
        let frame = self.frame().await?;
        self.shared.read_answer(frame, self.api, self.version)
    }

    /// Waits until a request without an answer has been written.
    pub(crate) async fn written(&mut self) -> Result<(), ClientError> {
        self.frame().await.map(drop)
    }
}

impl Connection {
    /// Connects to `address`, a `host:port`, and asks for the broker's APIs.
    pub async fn connect(address: &str, config: Config) -> Result<Self, ClientError> {
        Self::counted(address, config, Arc::default()).await
    }

    pub(crate) async fn counted(
        address: &str,
        config: Config,
        counters: Arc<Counters>,
    ) -> Result<Self, ClientError> {
        let connect = |source| ClientError::Connect {
            address: address.to_owned(),
            source,
        };
        let transport = config.transport.clone();
        let stream = timeout(config.connect_timeout, transport.connect(address))
            .await
            .map_err(|_| connect(io::ErrorKind::TimedOut.into()))?
            .map_err(connect)?;
        Self::greet(stream, address, config, counters).await
    }

    /// Speaks to a broker over something that is connected already. `address` is its name in errors.
    pub async fn over<S>(stream: S, address: &str, config: Config) -> Result<Self, ClientError>
    where
        S: Stream + 'static,
    {
        Self::greet(Box::new(stream), address, config, Arc::default()).await
    }

    async fn greet(
        stream: Box<dyn Stream>,
        address: &str,
        config: Config,
        counters: Arc<Counters>,
    ) -> Result<Self, ClientError> {
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            ended: Mutex::default(),
            counters,
        });
        let (requests, queued) = mpsc::channel(REQUESTS_QUEUED_MAX);
        // A task of its own, so that a caller who gives up leaves no request written in part.
        let driver = Driver::new(stream, queued, config.response_bytes_max, shared.clone());
        let task = tokio::spawn(driver.run()).abort_handle();
        let mut connection = Self {
            config,
            versions: HashMap::new(),
            correlation_id: AtomicI32::new(0),
            requests,
            shared,
            task,
        };
        connection.versions = connection.negotiate().await?;
        tracing::debug!(address, "connected");
        Ok(connection)
    }

    /// The address, as it was given.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.ended.lock().is_some()
    }

    /// The newest version of an API that both sides know, if there is one, and it is at most `limit`.
    pub fn version<R: ApiRequest>(&self, limit: i16) -> Option<i16> {
        let theirs = self.versions.get(&R::KEY)?;
        let newest = R::VERSIONS.max.min(theirs.max).min(limit);
        (newest >= R::VERSIONS.min.max(theirs.min)).then_some(newest)
    }

    /// Sends a request in the newest version that both sides know, and waits for the answer.
    pub async fn send<R: ApiRequest>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.send_up_to(request, i16::MAX).await
    }

    /// Like [`send`](Self::send), in version `limit` at most.
    pub async fn send_up_to<R: ApiRequest>(
        &self,
        request: &R,
        limit: i16,
    ) -> Result<R::Response, ClientError> {
        let mut pending = self.submit(request, limit, true).await?;
        pending.answer().await
    }

    /// Hands a request over to be sent, behind all that were handed over before.
    pub(crate) async fn submit<R: ApiRequest>(
        &self,
        request: &R,
        limit: i16,
        has_answer: bool,
    ) -> Result<Pending, ClientError> {
        let version = self
            .version::<R>(limit)
            .ok_or_else(|| ClientError::Unsupported {
                address: self.address().to_owned(),
                api: api_name(R::KEY),
            })?;
        self.exchange(request, version, has_answer, self.config.request_timeout)
            .await
    }

    /// The versions of every API that the broker has (KIP-35, KIP-511).
    /// Sends a request that the broker may hold back for long.
    pub(crate) async fn send_within<R: ApiRequest>(
        &self,
        request: &R,
        within: std::time::Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.version::<R>(i16::MAX);
        let version = version.ok_or_else(|| ClientError::Unsupported {
            address: self.address().to_owned(),
            api: api_name(R::KEY),
        })?;
        let mut pending = self.exchange(request, version, true, within).await?;
        pending.answer().await
    }

    async fn negotiate(&self) -> Result<HashMap<ApiKey, VersionRange>, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "tidelog".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let within = self.config.connect_timeout.min(self.config.request_timeout);
        let mut version = ApiVersionsRequest::VERSIONS.max;
        loop {
            let frame = self.greeting(&request, version, within).await?;
            // A broker that does not know the version says so in version 0, along with what it knows.
            let is_refused =
                frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes()[..]);
            let in_version = if is_refused { 0 } else { version };
            let answer: ApiVersionsResponse =
                self.shared
                    .read_answer(frame, ApiKey::ApiVersions, in_version)?;
            let ranges = answer.api_keys.iter().map(|api| {
                let range = VersionRange::new(api.min_version, api.max_version);
                (api.api_key, range)
            });
            let ranges: HashMap<_, _> = ranges.collect();
            if !is_refused {
                ClientError::check(answer.error_code, None, || self.address().to_owned())?;
                return Ok(ranges);
            }
            let known = ranges
                .get(&ApiKey::ApiVersions)
                .map_or(0, |range| range.max);
            if known >= version {
                return Err(ClientError::NotKafka {
                    address: self.address().to_owned(),
                    what: "it refuses the version that it says it knows".into(),
                });
            }
            version = known.max(0);
        }
    }

    /// The first exchange. Something that is no broker ends the connection, or stays silent.
    async fn greeting(
        &self,
        request: &ApiVersionsRequest,
        version: i16,
        within: std::time::Duration,
    ) -> Result<Bytes, ClientError> {
        let mut pending = self.exchange(request, version, true, within).await?;
        let not_kafka = |address, what: String| ClientError::NotKafka { address, what };
        pending.frame().await.map_err(|error| match error {
            ClientError::Closed { address, source } => not_kafka(
                address,
                source.map_or_else(
                    || "it closed the connection at once".into(),
                    |source| source.to_string(),
                ),
            ),
            ClientError::Timeout { address, .. } => not_kafka(
                address,
                format!("it has not answered the first request within {within:?}"),
            ),
            error => error,
        })
    }

    /// Hands over one request; `within` runs from now on.
    async fn exchange<R: ApiRequest>(
        &self,
        request: &R,
        version: i16,
        has_answer: bool,
        within: std::time::Duration,
    ) -> Result<Pending, ClientError> {
        let deadline = Instant::now() + within;
        let correlation_id = self.correlation_id.fetch_add(1, Ordering::Relaxed);
        let mut frame = Writer::new();
        let client_id = Some(&self.config.client_id);
        encode_request(&mut frame, version, correlation_id, client_id, request)?;
        let (answered, answer) = oneshot::channel();
        let outgoing = Outgoing {
            correlation_id,
            chunks: frame.finish(),
            has_answer,
            answered,
        };
        let queued = timeout_at(deadline, self.requests.send(outgoing)).await;
        if let Ok(Err(_)) = queued {
            return Err(self.shared.error());
        }
        // Without a place in the queue until the deadline, the wait for the answer says so.
        Ok(Pending {
            answer,
            api: R::KEY,
            version,
            deadline,
            config: self.config.clone(),
            shared: self.shared.clone(),
            task: self.task.clone(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
