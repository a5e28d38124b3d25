//! How the active controller finds out at once that the process of a broker is gone.
//!
//! It keeps a connection to every other broker that serves, over which it asks for nothing. When the process ends the
//! connection breaks, and is opened again at once; that nobody listens there any more is the evidence. Who was never
//! reached proves nothing by not being reached: then, and where only the network has failed, the session has to run out.
//! Unless it was a controller, too, whose other listener was reached and is not any more: who takes over from a node that
//! died has not reached the broker on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidelog_metadata::image::{BrokerImage, Image};
use tidelog_protocol::Request;
use tidelog_protocol::messages::api_versions::ApiVersionsRequest;
use tidelog_types::{NodeId, Str};

use super::Command;
use super::links::Links;
use crate::peers::{Address, Outgoing, Peer};

/// The connections, and the epoch of the registration that each belongs to.
#[derive(Default)]
pub(super) struct Watched(BTreeMap<NodeId, (i64, Peer)>);

impl Watched {
    /// Watches the brokers of `image` that serve, but for `this` node. [`Command::BrokerGone`] tells who is gone.
    pub(super) fn follow(
        &mut self,
        image: &Image,
        this: NodeId,
        listener: Option<&str>,
        links: &Links,
    ) {
        let serves = |broker: &BrokerImage| broker.id != this && !broker.fenced;
        let current = |id: &NodeId, epoch: i64| {
            let broker = image.broker(*id);
            broker.is_some_and(|broker| serves(broker) && broker.epoch == epoch)
        };
        self.0.retain(|id, (epoch, _)| current(id, *epoch));
        for broker in image.brokers().filter(|broker| serves(broker)) {
            let named = listener.and_then(|listener| broker.endpoint(listener));
            let Some(endpoint) = named.or_else(|| broker.endpoints.first()) else {
                continue;
            };
            self.0.entry(broker.id).or_insert_with(|| {
                let address = Address {
                    host: endpoint.host.clone(),
                    port: endpoint.port,
                };
                (broker.epoch, watch(broker.id, broker.epoch, address, links))
            });
        }
    }

    /// Looks anew at whether a broker is there, if it is watched.
    pub(super) fn look_again(&mut self, broker: NodeId) {
        self.0.remove(&broker);
    }

    /// Watches nobody any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn watch(broker_id: NodeId, broker_epoch: i64, address: Address, links: &Links) -> Peer {
    let was_reached = Arc::new(AtomicBool::new(links.is_gone(broker_id)));
    let reached = Arc::clone(&was_reached);
    let commands = links.commands.clone();
    let peer = Peer::start(
        &links.runtime,
        Arc::clone(&links.network),
        address,
        links.config.clone(),
        move || {
            if was_reached.load(Ordering::Acquire) {
                // Nobody listens any more when the node is stopping.
                let _ = commands.send(Command::BrokerGone {
                    broker_id,
                    broker_epoch,
                });
            }
        },
    );
    // Any request opens the connection. It is kept, and opened again, without further ones.
    peer.send(Outgoing {
        request: Request::ApiVersions(ApiVersionsRequest {
            client_software_name: Str::from_static("tidelog"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
        }),
        version_max: i16::MAX,
        on_behalf: None,
        reply: Box::new(move |answer| {
            reached.fetch_or(answer.is_ok(), Ordering::Release);
        }),
    });
    peer
}
