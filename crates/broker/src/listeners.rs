//! The listeners of a node: opened, told to others, served.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;

use tidelog_metadata::configs::{BrokerConfig, Listener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ListenerAddress;
use crate::error::StartError;
use crate::handlers::Service;
use crate::net::listener::{self, Bound, Worker};

/// Sockets that listen already, by the name of their listener.
pub(crate) type Sockets = BTreeMap<String, Arc<TcpListener>>;

/// Opens listeners.
pub(crate) fn bind<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    sockets: &Sockets,
) -> Result<Vec<Bound>, StartError> {
    let bind = |listener: &Listener| {
        let address = ListenerAddress {
            name: listener.name.clone(),
            host: listener.host.clone(),
            port: listener.port,
        };
        let name = listener.name.clone().into();
        let bound = match sockets.get(&listener.name) {
            Some(socket) => Bound::take(name, socket),
            None => Bound::bind(name, &listener.host, listener.port),
        };
        bound.map_err(|source| {
            let (listener, address) = (address.name.clone(), address.to_string());
            if source.kind() == std::io::ErrorKind::AddrInUse {
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
    listeners.map(bind).collect()
}

/// What others are told of each listener: the configured address, with the port that was bound in place of 0.
pub(crate) fn advertise(config: &BrokerConfig, bound: &[Bound]) -> Vec<ListenerAddress> {
    bound
        .iter()
        .map(|bound| {
            let advertised = config.advertised_listeners().iter();
            let mut advertised = advertised.chain(config.listeners());
            let advertised = advertised.find(|listener| bound.name == *listener.name);
            let host = advertised.map_or("", |listener| &listener.host);
            let port = advertised.map_or(0, |listener| listener.port);
            let is_everywhere = matches!(host, "" | "0.0.0.0" | "::");
            ListenerAddress {
                name: bound.name.to_string(),
                host: if is_everywhere {
                    host_name()
                } else {
                    host.to_owned()
                },
                port: if port == 0 { bound.port() } else { port },
            }
        })
        .collect()
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

/// Serves listeners until `stopped` says so.
pub(crate) fn serve(
    bound: Vec<Bound>,
    service: &Arc<impl Service + 'static>,
    workers: &Arc<[Worker]>,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for Bound { name, sockets } in bound {
        for (socket, _) in sockets {
            let service = Arc::clone(service) as Arc<dyn Service>;
            let workers = Arc::clone(workers);
            let serving = listener::serve(socket, name.clone(), service, workers, stopped.clone());
            tasks.push(tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "a listener has ended");
                }
            }));
        }
    }
    tasks
}
