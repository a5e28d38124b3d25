//! Listening sockets, and the hand-over of accepted connections to the worker runtimes.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidelog_types::Str;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use super::connection::Connection;
use super::network::MemoryListener;
use super::quota::{Admitted, ConnectionQuota};
use super::transport::Transport;
use crate::clock::real;
use crate::handlers::{Peer, Service};

/// How many connections the kernel keeps that were not accepted yet.
const BACKLOG: i32 = 1024;
/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address of clients that come by no network of the system's.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A runtime that serves connections.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    handle: Handle,
    /// How many connections it serves, if it is a single thread for nothing else.
    connections: Option<Arc<AtomicUsize>>,
}

impl Worker {
    /// The runtime of the program that embeds the broker, which has other things to do.
    pub(crate) const fn shared(handle: Handle) -> Self {
        Self {
            handle,
            connections: None,
        }
    }

    /// A runtime that was given to the broker for its connections.
    pub(crate) fn own(handle: Handle) -> Self {
        let is_thread = handle.runtime_flavor() == RuntimeFlavor::CurrentThread;
        Self {
            handle,
            connections: is_thread.then(Arc::default),
        }
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Option<Arc<AtomicUsize>>);

impl Counted {
    fn new(connections: Option<&Arc<AtomicUsize>>) -> Self {
        if let Some(connections) = connections {
            connections.fetch_add(1, Ordering::Relaxed);
        }
        Self(connections.cloned())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(connections) = &self.0 {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where one named listener is reached by the system's network: bound, but not served yet.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    sockets: Vec<std::net::TcpListener>,
    port: u16,
}

impl Bound {
    /// Binds every address that `host` stands for. The name `localhost` is both loopbacks, whatever the resolver says;
    /// no host at all is every address of the machine.
    pub(crate) fn bind(host: &str, port: u16) -> io::Result<Self> {
        let mut bound = Self {
            sockets: Vec::new(),
            port,
        };
        for (ip, required) in addresses(host)? {
            // With port 0 the second address takes the port that the first was given.
            match listen(SocketAddr::new(ip, bound.port)) {
                Ok((socket, address)) => {
                    bound.port = address.port();
                    bound.sockets.push(socket);
                }
                Err(e) if required || e.kind() == io::ErrorKind::AddrInUse => return Err(e),
                Err(_) => {}
            }
        }
        Ok(bound)
    }

    /// Takes a socket that listens already.
    pub(crate) fn take(socket: &std::net::TcpListener) -> io::Result<Self> {
        let socket = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        Ok(Self {
            sockets: vec![socket],
            port,
        })
    }

    /// The port on which all addresses listen.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

/// The addresses of a host, each with whether the broker cannot do without it: a machine may have no IPv6.
fn addresses(host: &str) -> io::Result<Vec<(IpAddr, bool)>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host == "localhost" {
        return Ok(vec![
            (Ipv4Addr::LOCALHOST.into(), true),
            (Ipv6Addr::LOCALHOST.into(), false),
        ]);
    }
    if host.is_empty() {
        return Ok(vec![
            (Ipv4Addr::UNSPECIFIED.into(), true),
            (Ipv6Addr::UNSPECIFIED.into(), false),
        ]);
    }
    if let Ok(ip) = host.parse() {
        return Ok(vec![(ip, true)]);
    }
    let first = (host, 0).to_socket_addrs()?.next();
    let first = first.ok_or_else(|| io::Error::other(format!("the host {host} has no address")))?;
    Ok(vec![(first.ip(), true)])
}

fn listen(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The IPv4 addresses have a socket of their own.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket: std::net::TcpListener = socket.into();
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// What takes the connections that come to a listener, and spreads them over the workers in turn.
pub(crate) struct Acceptor {
    pub(crate) listener: Str,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) workers: Arc<[Worker]>,
    pub(crate) turn: AtomicUsize,
    pub(crate) quota: Arc<ConnectionQuota>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Acceptor {
    /// Takes connections from everywhere until it is told to stop.
    pub(crate) async fn run(self, bound: Bound, memory: Option<MemoryListener>) -> io::Result<()> {
        let sockets = bound.sockets.into_iter().map(TcpListener::from_std);
        let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
        let mut stop = self.stop.clone();
        let acceptor = Arc::new(self);
        if let Some(memory) = &memory {
            let acceptor = Arc::clone(&acceptor);
            memory.serve(move |stream| acceptor.start(NOWHERE, None, || Ok(stream)));
        }
        loop {
            let accepted = tokio::select! {
                accepted = accept(&sockets) => accepted,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            };
            match accepted {
                Ok((stream, address)) => {
                    let admitted = tokio::select! {
                        admitted = acceptor.quota.admit(&acceptor.listener, address.ip()) => admitted,
                        _ = stop.wait_for(|stop| *stop) => return Ok(()),
                    };
                    let Some(admitted) = admitted else {
                        continue;
                    };
                    // It leaves the runtime that accepted it, since readiness is reported to the runtime with which it is
                    // registered.
                    let stream = stream.into_std();
                    acceptor.start(address, Some(admitted), move || {
                        let stream = TcpStream::from_std(stream?)?;
                        stream.set_nodelay(true)?;
                        Ok(stream)
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    real::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Starts the task of a connection on its worker, where its stream is made. Within the process there are no bounds.
    fn start<T: Transport + 'static>(
        &self,
        address: SocketAddr,
        admitted: Option<Admitted>,
        open: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let worker = &self.workers[turn % self.workers.len()];
        let service = Arc::clone(&self.service);
        let peer = Peer::new(address, self.listener.clone());
        #[cfg(feature = "testing")]
        let peer = {
            let mut peer = peer;
            peer.connected = service.connected();
            peer
        };
        let counted = Counted::new(worker.connections.as_ref());
        let mut stop = self.stop.clone();
        worker.handle.spawn(async move {
            let _admitted = admitted;
            let stream = match open() {
                Ok(stream) => stream,
                Err(error) => {
                    return tracing::debug!(%error, "an accepted connection was lost at once");
                }
            };
            tokio::select! {
                () = Connection::new(stream, service, peer, counted.0.clone()).run() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

/// The next connection to any of the sockets; never where there are none.
async fn accept(sockets: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut sockets = sockets.iter().map(|socket| socket.poll_accept(cx));
        sockets.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}
