//! Connections to the other nodes of the cluster.
//!
//! A [`Peer`] is one task that owns at most one connection. It connects when there is something to send, asks which versions
//! the other node knows, writes requests as they come and hands out the answers in the order in which the node gives them.
//! There is no task per request, and everything that waits is bounded: a request that finds the queue full fails at once.
//!
//! A connection that breaks is opened again at once, before anybody asks. If nobody listens there any more, the process is
//! probably gone. Whoever started the peer is told of both ([`Contact`]), and need not wait for a timeout to find out.

mod exchange;
mod network;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_protocol::{ApiKey, Request, Response};
use tidelog_types::Str;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use self::exchange::{Ended, Exchange};
pub(crate) use self::network::{Address, Connecting, Network, Sockets};
use crate::clock::real::{self, sleep_until, timeout};

/// What nodes of this kind call themselves where they ask for versions (KIP-511).
pub(crate) const SOFTWARE_NAME: &str = "tidelog";

/// What has become of the connection to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// There is one.
    Made,
    /// It broke.
    Lost,
    /// Nobody listens there.
    Refused,
}

/// How a peer behaves.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What this node calls itself in the headers of requests.
    pub(crate) client_id: Str,
    /// How long opening a connection may take, with the question for versions.
    pub(crate) connect_timeout: Duration,
    /// How long the answer to a request may take. A connection on which it takes longer is closed.
    pub(crate) request_timeout: Duration,
    /// How long nothing is sent after a connection could not be opened; doubles with every failure, up to
    /// [`reconnect_backoff_max`](Self::reconnect_backoff_max).
    pub(crate) reconnect_backoff: Duration,
    pub(crate) reconnect_backoff_max: Duration,
    /// How long an answer may be.
    pub(crate) response_bytes_max: usize,
}

/// How many requests may wait for a connection.
const REQUESTS_QUEUED_MAX: usize = 64;
/// How often a connection that broke is tried to be opened again before anybody asks. More than once: while a process ends,
/// its listening socket may still take a connection that nobody will serve.
const REOPEN_ATTEMPTS: u32 = 4;
/// How long the first of these attempts may take. Where a process ends just then the system may drop the packet that asks for a connection,
/// and sends the next one after a second; a new attempt is refused at once.
const FIRST_REOPEN_MAX: Duration = Duration::from_millis(250);
/// How long the answer to who [knocks](knock) may be.
const KNOCK_BYTES_MAX: usize = 1 << 20;

/// A request in the name of a client, to be sent in an Envelope (KIP-590).
#[derive(Clone, Debug)]
pub(crate) struct OnBehalf {
    /// The principal of the client, serialized.
    pub(crate) principal: Bytes,
    /// The address of the client: 4 or 16 bytes.
    pub(crate) client_address: Bytes,
}

/// A request on its way out.
pub(crate) struct Outgoing {
    pub(crate) request: Request,
    /// The newest version in which it may be sent, where that is not the newest that both sides know.
    pub(crate) version_max: i16,
    pub(crate) on_behalf: Option<OnBehalf>,
    pub(crate) reply: Reply,
}

/// Called once with the answer, on the task of the peer: it must not wait. A peer that is dropped calls nobody.
pub(crate) type Reply = Box<dyn FnOnce(Result<Response, PeerError>) + Send>;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    /// The node cannot be reached. Nothing was sent.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke while the answer was awaited. The node may have done what was asked for.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The answer did not come in time. The node may still do what was asked for.
    #[error("it did not answer in time")]
    TimedOut,
    /// Too much waits already. Nothing was sent.
    #[error("too many requests wait for it")]
    Busy,
    /// The node does not know the API, or no version of it that can say what is to be said. Nothing was sent.
    #[error("it cannot be asked for {api}: {reason}")]
    Unsupported { api: ApiKey, reason: String },
}

/// The other node, as it can be sent requests. Dropping it ends the connection.
#[derive(Debug)]
pub(crate) struct Peer {
    address: Address,
    queue: mpsc::Sender<Outgoing>,
}

impl Peer {
    /// A node that listens at `address`. `told` hears what becomes of the connection, on the task of the peer: it must not
    /// wait.
    pub(crate) fn start(
        runtime: &Handle,
        network: Arc<dyn Network>,
        address: Address,
        config: Config,
        told: impl Fn(Contact) + Send + 'static,
    ) -> Self {
        let (queue, queued) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let task = Task {
            network,
            address: address.clone(),
            backoff: Backoff::new(&config),
            config,
            told: Box::new(told),
            queued,
            first: None,
        };
        runtime.spawn(task.run());
        Self { address, queue }
    }

    /// Where the node listens.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a request. Never waits.
    pub(crate) fn send(&self, outgoing: Outgoing) {
        let refused = match self.queue.try_send(outgoing) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(outgoing)) => (outgoing, PeerError::Busy),
            Err(mpsc::error::TrySendError::Closed(outgoing)) => (
                outgoing,
                PeerError::Lost("this node is stopping".to_owned()),
            ),
        };
        let (outgoing, error) = refused;
        (outgoing.reply)(Err(error));
    }

    /// Sends a request, and waits for its answer.
    pub(crate) async fn request(
        &self,
        request: Request,
        on_behalf: Option<OnBehalf>,
    ) -> Result<Response, PeerError> {
        self.ask(request, i16::MAX, on_behalf).await
    }

    /// The same in no newer version than that one.
    pub(crate) async fn request_in(
        &self,
        version_max: i16,
        request: Request,
    ) -> Result<Response, PeerError> {
        self.ask(request, version_max, None).await
    }

    async fn ask(
        &self,
        request: Request,
        version_max: i16,
        on_behalf: Option<OnBehalf>,
    ) -> Result<Response, PeerError> {
        let (sender, answer) = oneshot::channel();
        self.send(Outgoing {
            request,
            version_max,
            on_behalf,
            // Whoever asked may have given up.
            reply: Box::new(move |answer| drop(sender.send(answer))),
        });
        let gone = |_| PeerError::Lost("this node is stopping".to_owned());
        answer.await.map_err(gone)?
    }
}

/// The task of a peer.
struct Task {
    network: Arc<dyn Network>,
    address: Address,
    config: Config,
    told: Box<dyn Fn(Contact) + Send>,
    backoff: Backoff,
    queued: mpsc::Receiver<Outgoing>,
    /// The request for which a connection is being opened.
    first: Option<Outgoing>,
}

impl Task {
    async fn run(mut self) {
        let mut reopen = 0;
        loop {
            if reopen == 0 {
                self.first = self.queued.recv().await;
                if self.first.is_none() {
                    return;
                }
            }
            sleep_until(self.backoff.until).await;
            let limit = match reopen {
                REOPEN_ATTEMPTS => self.config.connect_timeout.min(FIRST_REOPEN_MAX),
                _ => self.config.connect_timeout,
            };
            match connect(&*self.network, &self.address, &self.config, limit).await {
                Ok(mut exchange) => {
                    self.backoff = Backoff::new(&self.config);
                    (self.told)(Contact::Made);
                    let first = self.first.take();
                    match exchange.run(first, &mut self.queued).await {
                        Ended::Dropped => return,
                        Ended::Lost(why) => {
                            tracing::debug!(address = %self.address, why, "a connection to another node ended");
                            (self.told)(Contact::Lost);
                            exchange.fail(&PeerError::Lost(why));
                            reopen = REOPEN_ATTEMPTS;
                        }
                        Ended::TimedOut => {
                            reopen = 0;
                            tracing::debug!(address = %self.address, "another node does not answer");
                            exchange.fail(&PeerError::TimedOut);
                        }
                    }
                }
                Err(error) => {
                    let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
                    reopen = if is_refused {
                        0
                    } else {
                        reopen.saturating_sub(1)
                    };
                    self.failed(&error);
                }
            }
            if self.queued.is_closed() {
                return;
            }
        }
    }

    /// Fails what waits, so that whoever asked can turn to another node.
    fn failed(&mut self, error: &io::Error) {
        tracing::debug!(address = %self.address, %error, "another node cannot be reached");
        let why = PeerError::Unreachable(error.to_string());
        let mut waiting: VecDeque<_> = self.first.take().into_iter().collect();
        while let Ok(outgoing) = self.queued.try_recv() {
            waiting.push_back(outgoing);
        }
        for outgoing in waiting {
            (outgoing.reply)(Err(why.clone()));
        }
        if error.kind() == io::ErrorKind::ConnectionRefused {
            (self.told)(Contact::Refused);
        }
        self.backoff.failed(&self.config);
    }
}

/// Asks a node whether it is there, within this time: opens a connection of its own and asks for versions. Where nobody
/// listens, the error is of the kind `ConnectionRefused`.
pub(crate) async fn knock(
    network: &dyn Network,
    address: &Address,
    limit: Duration,
) -> io::Result<()> {
    let config = Config {
        client_id: SOFTWARE_NAME.into(),
        connect_timeout: limit,
        request_timeout: limit,
        reconnect_backoff: Duration::ZERO,
        reconnect_backoff_max: Duration::ZERO,
        response_bytes_max: KNOCK_BYTES_MAX,
    };
    connect(network, address, &config, limit).await.map(drop)
}

async fn connect(
    network: &dyn Network,
    address: &Address,
    config: &Config,
    limit: Duration,
) -> io::Result<Exchange> {
    let connect = async {
        let transport = network.connect(address).await?;
        Exchange::open(transport, config).await
    };
    match timeout(limit, connect).await {
        Ok(opened) => opened,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// When a connection may be tried again.
struct Backoff {
    next: Duration,
    until: Instant,
}

impl Backoff {
    fn new(config: &Config) -> Self {
        Self {
            next: config.reconnect_backoff,
            until: real::now(),
        }
    }

    fn failed(&mut self, config: &Config) {
        self.until = real::now() + self.next;
        self.next = (self.next * 2).min(config.reconnect_backoff_max);
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outgoing").field(&self.request).finish()
    }
}
