//! Listening sockets, and the hand-over of accepted connections to the worker runtimes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidelog_types::Str;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use super::connection::Connection;
use crate::handlers::{Peer, Service};

/// How many connections the kernel keeps that were not accepted yet.
const BACKLOG: i32 = 1024;
/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// The sockets of one named listener, bound but not served yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: Str,
    pub(crate) sockets: Vec<(std::net::TcpListener, SocketAddr)>,
}

impl Bound {
    /// Binds every address that `host` stands for. The name `localhost` is both loopbacks, whatever the resolver says;
    /// no host at all is every address of the machine.
    pub(crate) fn bind(name: Str, host: &str, port: u16) -> io::Result<Self> {
        let mut port = port;
        let mut sockets = Vec::new();
        for (ip, required) in addresses(host)? {
            match listen(SocketAddr::new(ip, port)) {
                Ok((socket, address)) => {
                    // With port 0 the second address takes the port that the first was given.
                    port = address.port();
                    sockets.push((socket, address));
                }
                Err(e) if required || e.kind() == io::ErrorKind::AddrInUse => return Err(e),
                Err(_) => {}
            }
        }
        Ok(Self { name, sockets })
    }

    /// Takes a socket that listens already.
    pub(crate) fn take(name: Str, socket: &std::net::TcpListener) -> io::Result<Self> {
        let socket = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self {
            name,
            sockets: vec![(socket, address)],
        })
    }

    /// The port on which all addresses listen.
    pub(crate) fn port(&self) -> u16 {
        self.sockets
            .first()
            .map_or(0, |(_, address)| address.port())
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

/// Accepts connections until `stop` says so, and spreads them over the workers in turn.
pub(crate) async fn serve(
    socket: std::net::TcpListener,
    listener: Str,
    service: Arc<dyn Service>,
    workers: Arc<[Worker]>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let worker = &workers[turn % workers.len()];
        turn += 1;
        if let Err(error) = hand_over(stream, address, &listener, &service, worker, stop.clone()) {
            tracing::debug!(%error, "an accepted connection was lost at once");
        }
    }
}

/// Starts the task of a connection on its worker. The stream leaves the runtime that accepted it, since readiness is
/// reported to the runtime with which it is registered.
fn hand_over(
    stream: TcpStream,
    address: SocketAddr,
    listener: &Str,
    service: &Arc<dyn Service>,
    worker: &Worker,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let service = Arc::clone(service);
    let peer = Peer::new(address, listener.clone());
    let counted = Counted::new(worker.connections.as_ref());
    worker.handle.spawn(async move {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "cannot register a connection"),
        };
        tokio::select! {
            () = Connection::new(stream, service, peer, counted.0.clone()).run() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
    Ok(())
}
