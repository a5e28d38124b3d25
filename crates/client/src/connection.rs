//! One connection to one broker: requests go out as they come, answers are matched by correlation id.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tidelog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidelog_protocol::{
    ApiKey, ApiRequest, Message, Reader, ResponseHeader, VersionRange, Writer, encode_request,
    frame,
};
use tidelog_types::ErrorCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::api_name;
use crate::{ClientError, Config};

/// A connection to a broker, which any number of tasks may use at once.
///
/// It ends when it is dropped, or when the broker closes it; requests that wait then fail.
#[derive(Debug)]
pub struct Connection {
    address: String,
    config: Config,
    versions: HashMap<ApiKey, VersionRange>,
    correlation_id: AtomicI32,
    requests: mpsc::Sender<Bytes>,
    waiting: Arc<Mutex<Waiting>>,
    tasks: [JoinHandle<()>; 2],
}

/// How many requests may wait until the broker takes them.
const REQUESTS_QUEUED_MAX: usize = 64;

/// Who waits for which answer, until the connection ends.
#[derive(Debug)]
enum Waiting {
    Open(HashMap<i32, oneshot::Sender<Bytes>>),
    Ended(Option<io::Error>),
}

impl Waiting {
    /// Why no answer will come.
    fn ended(&self, address: &str) -> ClientError {
        let source = match self {
            // Errors of the system cannot be cloned.
            Self::Ended(Some(error)) => Some(io::Error::new(error.kind(), error.to_string())),
            _ => None,
        };
        ClientError::Closed {
            address: address.to_owned(),
            source,
        }
    }
}

impl Connection {
    /// Connects to `address`, a `host:port`, and asks for the broker's APIs.
    pub async fn connect(address: &str, config: Config) -> Result<Self, ClientError> {
        let connect = |source| ClientError::Connect {
            address: address.to_owned(),
            source,
        };
        let stream = timeout(config.connect_timeout, TcpStream::connect(address))
            .await
            .map_err(|_| connect(io::ErrorKind::TimedOut.into()))?
            .map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        Self::over(stream, address, config).await
    }

    /// Speaks to a broker over something that is connected already. `address` is its name in errors.
    pub async fn over<S>(stream: S, address: &str, config: Config) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        let waiting = Arc::new(Mutex::new(Waiting::Open(HashMap::new())));
        let (requests, queued) = mpsc::channel(REQUESTS_QUEUED_MAX);
        // Tasks of their own, so that a caller who gives up leaves no request written in part.
        let tasks = [
            tokio::spawn(read(reader, waiting.clone(), config.response_bytes_max)),
            tokio::spawn(write(writer, waiting.clone(), queued)),
        ];
        let mut connection = Self {
            address: address.to_owned(),
            config,
            versions: HashMap::new(),
            correlation_id: AtomicI32::new(0),
            requests,
            waiting,
            tasks,
        };
        connection.versions = connection.negotiate().await?;
        Ok(connection)
    }

    /// The address, as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        matches!(*self.waiting.lock(), Waiting::Ended(_))
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
        let version = self
            .version::<R>(limit)
            .ok_or_else(|| ClientError::Unsupported {
                address: self.address.clone(),
                api: api_name(R::KEY),
            })?;
        let mut answer = Reader::new(self.exchange(request, version).await?);
        self.read_answer(&mut answer, R::KEY, version)
    }

    /// The versions of every API that the broker has (KIP-35, KIP-511).
    async fn negotiate(&self) -> Result<HashMap<ApiKey, VersionRange>, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: "tidelog".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let mut version = ApiVersionsRequest::VERSIONS.max;
        loop {
            let frame = self
                .exchange(&request, version)
                .await
                .map_err(|error| match error {
                    // Something that is no broker ends the connection, or says what makes no sense.
                    ClientError::Closed { address, source } => ClientError::NotKafka {
                        address,
                        what: source.map_or_else(
                            || "it closed the connection at once".into(),
                            |source| source.to_string(),
                        ),
                    },
                    error => error,
                })?;
            // A broker that does not know the version says so in version 0, along with what it knows.
            let is_refused =
                frame.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes()[..]);
            let in_version = if is_refused { 0 } else { version };
            let mut reader = Reader::new(frame);
            let answer: ApiVersionsResponse =
                self.read_answer(&mut reader, ApiKey::ApiVersions, in_version)?;
            let ranges = answer.api_keys.iter().map(|api| {
                let range = VersionRange::new(api.min_version, api.max_version);
                (api.api_key, range)
            });
            let ranges: HashMap<_, _> = ranges.collect();
            if !is_refused {
                ClientError::check(answer.error_code, None, || self.address.clone())?;
                return Ok(ranges);
            }
            let known = ranges
                .get(&ApiKey::ApiVersions)
                .map_or(0, |range| range.max);
            if known >= version {
                return Err(ClientError::NotKafka {
                    address: self.address.clone(),
                    what: "it refuses the version that it says it knows".into(),
                });
            }
            version = known.max(0);
        }
    }

    fn read_answer<M: Message>(
        &self,
        reader: &mut Reader,
        key: ApiKey,
        version: i16,
    ) -> Result<M, ClientError> {
        ResponseHeader::read(reader, key, version)
            .and_then(|_| M::read(reader, version))
            .map_err(|source| ClientError::Decode {
                address: self.address.clone(),
                source,
            })
    }

    /// Sends one request and waits for the frame that answers it.
    async fn exchange<R: ApiRequest>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<Bytes, ClientError> {
        let correlation_id = self.correlation_id.fetch_add(1, Ordering::Relaxed);
        let mut frame = Writer::contiguous();
        let client_id = Some(&self.config.client_id);
        encode_request(&mut frame, version, correlation_id, client_id, request)?;
        let frame = frame.finish_contiguous()?;
        let (answered, answer) = oneshot::channel();
        match &mut *self.waiting.lock() {
            Waiting::Open(waiting) => waiting.insert(correlation_id, answered),
            ended @ Waiting::Ended(_) => return Err(ended.ended(&self.address)),
        };
        let exchanged = timeout(self.config.request_timeout, async {
            // A writer that has ended has failed, and told everybody who waits.
            let _ = self.requests.send(frame).await;
            answer.await
        });
        match exchanged.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.waiting.lock().ended(&self.address)),
            Err(_) => {
                // A broker that does not answer this will not answer what waits behind it.
                end(&self.waiting, Some(io::ErrorKind::TimedOut.into()));
                Err(ClientError::Timeout {
                    address: self.address.clone(),
                    what: api_name(R::KEY),
                    timeout: self.config.request_timeout,
                })
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// No answer comes any more; whoever waits hears of it.
fn end(waiting: &Mutex<Waiting>, error: Option<io::Error>) {
    let mut waiting = waiting.lock();
    if matches!(*waiting, Waiting::Open(_)) {
        *waiting = Waiting::Ended(error);
    }
}

/// Writes the requests in the order in which they come.
async fn write(
    mut stream: impl AsyncWrite + Unpin,
    waiting: Arc<Mutex<Waiting>>,
    mut queued: mpsc::Receiver<Bytes>,
) {
    while let Some(request) = queued.recv().await {
        if let Err(error) = stream.write_all(&request).await {
            return end(&waiting, Some(error));
        }
    }
}

/// Hands every answer that arrives to whoever waits for it, until the connection ends.
async fn read(
    mut stream: impl AsyncRead + Unpin,
    waiting: Arc<Mutex<Waiting>>,
    response_bytes_max: usize,
) {
    let mut input = BytesMut::new();
    let error = loop {
        match frame::next_frame(&mut input, response_bytes_max) {
            Ok(Some(frame)) => {
                if let Err(error) = hand_over(&waiting, frame) {
                    break Some(error);
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => break Some(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        match stream.read_buf(&mut input).await {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error),
        }
    };
    end(&waiting, error);
}

fn hand_over(waiting: &Mutex<Waiting>, frame: Bytes) -> io::Result<()> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let id = frame
        .first_chunk()
        .ok_or_else(|| invalid("an answer without a correlation id"))?;
    let id = i32::from_be_bytes(*id);
    let Waiting::Open(waiting) = &mut *waiting.lock() else {
        return Ok(());
    };
    let answered = waiting
        .remove(&id)
        .ok_or_else(|| invalid("an answer to nothing that was asked"))?;
    // Whoever asked may have given up.
    let _ = answered.send(frame);
    Ok(())
}
