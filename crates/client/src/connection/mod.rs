//! One connection to one broker: requests go out as they come, answers are matched by correlation id.

mod authentication;
mod driver;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidelog_protocol::{
    ApiKey, ApiRequest, Message, Reader, ResponseHeader, VersionRange, Writer, encode_request,
};
use tidelog_types::ErrorCode;
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use self::driver::{Driver, Outgoing};
use crate::error::api_name;
use crate::statistics::Counters;
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::{ClientError, Config, Stream};

/// A connection to a broker, which any number of tasks may use at once.
///
/// It ends when it is dropped, or when the broker closes it; requests that wait then fail. One task reads and writes. Where the
/// broker wants to hear again who the client is (KIP-368), that happens in time, and requests wait meanwhile.
#[derive(Debug)]
pub struct Connection {
    channel: Arc<Channel>,
    /// The task that authenticates again.
    renewal: Option<AbortHandle>,
    /// Whether there is a way to connect again, to ask why a connection has ended.
    may_ask_why: bool,
}

/// The way by which requests go.
#[derive(Debug)]
struct Channel {
    config: Config,
    versions: HashMap<ApiKey, VersionRange>,
    correlation_id: AtomicI32,
    requests: mpsc::Sender<Outgoing>,
    /// Shared by requests, had alone by an exchange that authenticates: brokers take no other request in the middle of it.
    gate: RwLock<()>,
    /// Until when requests that are under way may take.
    busy_until: Mutex<Instant>,
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
    /// How many answers have come.
    answers: AtomicU64,
    counters: Arc<Counters>,
    /// Whether the client says who it is.
    has_sasl: bool,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
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
    /// It no longer believes who the client is: the mechanism, and what it says.
    Distrusted(&'static str, String),
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
            Some(Ended::Failed(error)) => {
                #[cfg(feature = "tls")]
                if let Some(problem) = self.tls.as_ref().and_then(|tls| tls.explain_later(error)) {
                    return ClientError::Tls { address, problem };
                }
                // Errors of the system cannot be cloned.
                Some(io::Error::new(error.kind(), error.to_string()))
            }
            Some(Ended::NotKafka(what)) => {
                let what = what.clone();
                return ClientError::NotKafka { address, what };
            }
            Some(Ended::Tls) => return ClientError::TlsExpected { address },
            Some(Ended::Distrusted(mechanism, what)) => {
                return ClientError::Authentication {
                    address,
                    mechanism,
                    what: what.clone(),
                };
            }
            Some(Ended::ByBroker) | None if self.is_cut_off() => Some(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "it answered the greeting and nothing after it, as a listener does that wants to know who the client is (sasl.mechanism)",
            )),
            Some(Ended::ByBroker) | None => None,
        };
        ClientError::Closed { address, source }
    }

    /// Whether the greeting is all that was answered, and the client has not said who it is.
    fn is_cut_off(&self) -> bool {
        !self.has_sasl && self.answers.load(Ordering::Relaxed) == 1
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
    /// How long that is.
    within: Duration,
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
                    timeout: self.within,
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
    /// Connects to `address`, a `host:port`, agrees on TLS if the configuration wants it, asks for the broker's APIs, and says who the
    /// client is.
    pub async fn connect(address: &str, config: Config) -> Result<Self, ClientError> {
        Self::counted(address, config, Arc::default(), false).await
    }

    /// With `probes`, a client that says nothing of itself asks whether it had better.
    pub(crate) async fn counted(
        address: &str,
        config: Config,
        counters: Arc<Counters>,
        probes: bool,
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
        let mut connection = Self::greet(stream, address, config, counters, probes).await?;
        connection.may_ask_why = !probes;
        Ok(connection)
    }

    /// Speaks to a broker over something that is connected already. `address` is its name in errors, and the one that its certificate
    /// has to be for.
    pub async fn over<S>(stream: S, address: &str, config: Config) -> Result<Self, ClientError>
    where
        S: Stream + 'static,
    {
        Self::greet(Box::new(stream), address, config, Arc::default(), false).await
    }

    async fn greet(
        stream: Box<dyn Stream>,
        address: &str,
        config: Config,
        counters: Arc<Counters>,
        probes: bool,
    ) -> Result<Self, ClientError> {
        #[cfg(feature = "tls")]
        let stream = match &config.tls {
            Some(tls) => tls.protect(stream, address, config.connect_timeout).await?,
            None => stream,
        };
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            ended: Mutex::default(),
            answers: AtomicU64::new(0),
            counters,
            has_sasl: config.sasl.is_some(),
            #[cfg(feature = "tls")]
            tls: config.tls.clone(),
        });
        let (requests, queued) = mpsc::channel(REQUESTS_QUEUED_MAX);
        // A task of its own, so that a caller who gives up leaves no request written in part.
        let driver = Driver::new(stream, queued, config.response_bytes_max, shared.clone());
        let task = tokio::spawn(driver.run()).abort_handle();
        let mut channel = Channel {
            config,
            versions: HashMap::new(),
            correlation_id: AtomicI32::new(0),
            requests,
            gate: RwLock::default(),
            busy_until: Mutex::new(Instant::now()),
            shared,
            task,
        };
        channel.versions = channel.negotiate().await?;
        if probes && channel.config.sasl.is_none() {
            channel.probe().await?;
        }
        let lifetime = channel.authenticate().await?;
        let channel = Arc::new(channel);
        let renewal = lifetime.map(|lifetime| {
            let renewal = authentication::renew(channel.clone(), lifetime);
            tokio::spawn(renewal).abort_handle()
        });
        tracing::debug!(address, "connected");
        Ok(Self {
            channel,
            renewal,
            may_ask_why: false,
        })
    }

    /// The address, as it was given.
    pub fn address(&self) -> &str {
        &self.channel.shared.address
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.channel.shared.ended.lock().is_some()
    }

    /// Whether it has ended as it does where a client says nothing of itself and should.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_closed() && self.channel.shared.is_cut_off()
    }

    /// The newest version of an API that both sides know, if there is one, and it is at most `limit`.
    pub fn version<R: ApiRequest>(&self, limit: i16) -> Option<i16> {
        self.channel.version::<R>(limit)
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
        let answer = match self.submit(request, limit, true).await {
            Ok(mut pending) => pending.answer().await,
            Err(error) => Err(error),
        };
        match answer {
            Err(error @ ClientError::Closed { .. }) if self.may_ask_why && self.is_cut_off() => {
                Err(self.why(error).await)
            }
            answer => answer,
        }
    }

    /// What a broker says that has closed the connection where it would if it wanted to know who the client is.
    async fn why(&self, error: ClientError) -> ClientError {
        let (address, config) = (self.address(), self.channel.config.clone());
        let counters = self.channel.shared.counters.clone();
        // The way back to here is too long for the compiler.
        let asked: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(Self::counted(address, config, counters, true));
        match asked.await {
            Err(asked @ ClientError::SaslExpected { .. }) => asked,
            _ => error,
        }
    }

    /// Hands a request over to be sent, behind all that were handed over before.
    pub(crate) async fn submit<R: ApiRequest>(
        &self,
        request: &R,
        limit: i16,
        has_answer: bool,
    ) -> Result<Pending, ClientError> {
        let channel = &self.channel;
        let within = channel.config.request_timeout;
        channel.submit(request, limit, has_answer, within).await
    }

    /// Sends a request that the broker may hold back for long.
    pub(crate) async fn send_within<R: ApiRequest>(
        &self,
        request: &R,
        within: Duration,
    ) -> Result<R::Response, ClientError> {
        let pending = self.channel.submit(request, i16::MAX, true, within);
        pending.await?.answer().await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
        self.channel.task.abort();
    }
}

/// Whoever gives up while the connection comes about leaves no task behind.
impl Drop for Channel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Channel {
    fn address(&self) -> &str {
        &self.shared.address
    }

    fn version<R: ApiRequest>(&self, limit: i16) -> Option<i16> {
        let theirs = self.versions.get(&R::KEY)?;
        let newest = R::VERSIONS.max.min(theirs.max).min(limit);
        (newest >= R::VERSIONS.min.max(theirs.min)).then_some(newest)
    }

    /// Hands over a request like any other: while the client says again who it is, the request waits.
    async fn submit<R: ApiRequest>(
        &self,
        request: &R,
        limit: i16,
        has_answer: bool,
        within: Duration,
    ) -> Result<Pending, ClientError> {
        let version = self
            .version::<R>(limit)
            .ok_or_else(|| ClientError::Unsupported {
                address: self.address().to_owned(),
                api: api_name(R::KEY),
            })?;
        if self.config.sasl.is_none() {
            return self.exchange(request, version, has_answer, within).await;
        }
        let _shared = self.gate.read().await;
        let pending = self.exchange(request, version, has_answer, within).await?;
        let mut busy_until = self.busy_until.lock();
        *busy_until = pending.deadline.max(*busy_until);
        Ok(pending)
    }

    /// The versions of every API that the broker has (KIP-35, KIP-511).
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
                // It is one greeting, also where it was said twice.
                self.shared.answers.store(1, Ordering::Relaxed);
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
        within: Duration,
    ) -> Result<Bytes, ClientError> {
        let mut pending = self.exchange(request, version, true, within).await?;
        let not_kafka = |address, what: String| ClientError::NotKafka { address, what };
        pending.frame().await.map_err(|error| match error {
            ClientError::Closed { address, source } => not_kafka(
                address,
                source.map_or_else(|| self.closed_at_once(), |source| source.to_string()),
            ),
            ClientError::Timeout { address, .. } => not_kafka(
                address,
                format!("it has not answered the first request within {within:?}"),
            ),
            error => error,
        })
    }

    fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        let has_tls = self.config.tls.is_some();
        #[cfg(not(feature = "tls"))]
        let has_tls = false;
        has_tls
    }

    fn closed_at_once(&self) -> String {
        let what = "it closed the connection at once";
        #[cfg(feature = "tls")]
        if self
            .config
            .tls
            .as_ref()
            .is_some_and(|tls| !tls.has_identity())
        {
            return format!("{what}, as brokers do that want a certificate of the client");
        }
        what.to_owned()
    }

    /// Hands over one request; `within` runs from now on.
    async fn exchange<R: ApiRequest>(
        &self,
        request: &R,
        version: i16,
        has_answer: bool,
        within: Duration,
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
            within,
            shared: self.shared.clone(),
            task: self.task.clone(),
        })
    }
}
