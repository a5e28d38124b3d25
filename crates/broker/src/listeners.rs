//! The listeners of a node: opened, told to others, served.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tidelog_metadata::configs::{BrokerConfig, Listener};
use tidelog_types::Str;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ListenerAddress;
use crate::error::StartError;
use crate::handlers::Service;
use crate::net::listener::{Acceptor, Bound, Worker};
use crate::net::network::{MemoryListener, Party};
use crate::net::quota::ConnectionQuota;
use crate::peers::{self, Network};

/// What listeners are opened with.
#[derive(Clone, Debug)]
pub(crate) struct Openings {
    /// Sockets that listen already, by the name of their listener.
    pub(crate) sockets: BTreeMap<String, Arc<TcpListener>>,
    /// Whether ports are opened.
    pub(crate) ports: bool,
    /// The network within the process on which the listeners are reached too.
    pub(crate) party: Party,
    /// Whether others are on that network.
    pub(crate) is_shared: bool,
}

impl Openings {
    /// How the node reaches others.
    pub(crate) fn network(&self) -> Arc<dyn Network> {
        if self.is_shared || !self.ports {
            Arc::new(self.party.clone())
        } else {
            Arc::new(peers::Sockets)
        }
    }
}

/// A listener that is open, but not served yet.
pub(crate) struct Open {
    /// What others are told of it.
    pub(crate) address: ListenerAddress,
    bound: Bound,
    memory: Option<MemoryListener>,
}

/// Opens listeners.
pub(crate) fn open<'a>(
    config: &BrokerConfig,
    listeners: impl Iterator<Item = &'a Listener>,
    openings: &Openings,
) -> Result<Vec<Open>, StartError> {
    let open = |listener: &Listener| {
        let opened = match openings.ports {
            true => open_port(config, listener, openings),
            false => open_in_memory(listener, openings),
        };
        opened.map_err(|source| {
            let address = ListenerAddress {
                name: listener.name.clone(),
                host: listener.host.clone(),
                port: listener.port,
            };
            let (listener, address) = (address.name.clone(), address.to_string());
            if source.kind() == io::ErrorKind::AddrInUse {
                StartError::AddressInUse { listener, address }
            } else {
                StartError::Listen {
                    listener,
                    address,
                    source,
                }
            }
        })
    };
    listeners.map(open).collect()
}

fn open_port(config: &BrokerConfig, listener: &Listener, openings: &Openings) -> io::Result<Open> {
    let bound = match openings.sockets.get(&listener.name) {
        Some(socket) => Bound::take(socket)?,
        None => Bound::bind(&listener.host, listener.port)?,
    };
    let address = advertise(config, listener, &bound);
    let Party { network, name } = &openings.party;
    let memory = match network.listen(name, &address.host.as_str().into(), address.port) {
        // Two listeners may be advertised as one, of which the first counts.
        Err(_) if !openings.is_shared => None,
        memory => Some(memory?),
    };
    Ok(Open {
        address,
        bound,
        memory,
    })
}

/// Where no port is opened the host of a listener is the node itself.
fn open_in_memory(listener: &Listener, openings: &Openings) -> io::Result<Open> {
    let Party { network, name } = &openings.party;
    let memory = network.listen(name, name, listener.port)?;
    Ok(Open {
        address: ListenerAddress {
            name: listener.name.clone(),
            host: name.to_string(),
            port: memory.port(),
        },
        bound: Bound::default(),
        memory: Some(memory),
    })
}

/// What others are told of a listener: the configured address, with the port that was bound in place of 0.
fn advertise(config: &BrokerConfig, listener: &Listener, bound: &Bound) -> ListenerAddress {
    let advertised = config.advertised_listeners().iter();
    let mut advertised = advertised.chain([listener]);
    let advertised = advertised.find(|advertised| advertised.name == listener.name);
    let Listener { host, port, .. } = advertised.unwrap_or(listener);
    let is_everywhere = matches!(host.as_str(), "" | "0.0.0.0" | "::");
    ListenerAddress {
        name: listener.name.clone(),
        host: if is_everywhere {
            host_name()
        } else {
            host.clone()
        },
        port: if *port == 0 { bound.port() } else { *port },
    }
}

/// What this machine calls itself, for listeners that name no host.
fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

/// What others are told of listeners.
pub(crate) fn addresses(open: &[Open]) -> Vec<ListenerAddress> {
    open.iter().map(|open| open.address.clone()).collect()
}

/// Serves listeners until `stopped` says so.
pub(crate) fn serve(
    open: Vec<Open>,
    service: &Arc<impl Service + 'static>,
    workers: &Arc<[Worker]>,
    quota: &Arc<ConnectionQuota>,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let serve = |open: Open| {
        let acceptor = Acceptor {
            listener: Str::from(open.address.name),
            service: Arc::clone(service) as Arc<dyn Service>,
            workers: Arc::clone(workers),
            turn: AtomicUsize::new(0),
            quota: Arc::clone(quota),
            stop: stopped.clone(),
        };
        tokio::spawn(async move {
            if let Err(error) = acceptor.run(open.bound, open.memory).await {
                tracing::error!(%error, "a listener has ended");
            }
        })
    };
    open.into_iter().map(serve).collect()
}
