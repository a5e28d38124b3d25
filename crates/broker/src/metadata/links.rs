//! The connections over which the quorum's requests go out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tidelog_protocol::{Request, Response};
use tidelog_replication::quorum::Destination;
use tidelog_types::{NodeId, Str};
use tokio::runtime::Handle;

use super::Command;
use crate::peers::{self, Address, Contact, Network, Outgoing, Peer, PeerError};

/// How many connections are kept. A quorum is small; more come together only when voters move.
const LINKS_MAX: usize = 32;

/// One connection for each address at which a node of the quorum was ever asked for something.
pub(super) struct Links {
    pub(super) runtime: Handle,
    pub(super) network: Arc<dyn Network>,
    pub(super) config: peers::Config,
    /// The listener over which controllers reach each other.
    pub(super) listener: Str,
    pub(super) commands: Sender<Command>,
    pub(super) links: HashMap<Address, Link>,
    /// Grows with every use.
    pub(super) uses: u64,
}

pub(super) struct Link {
    peer: Peer,
    /// Who listens there, if that is known.
    node: Option<NodeId>,
    /// Whether it was said that nobody listens there.
    is_gone: bool,
    last_use: u64,
}

impl Links {
    /// Sends a request; [`Command::Answered`] tells what came of it.
    pub(super) fn send(&mut self, request_id: u64, to: &Destination, request: Request) {
        let commands = self.commands.clone();
        let reply = move |from, answer: Result<Response, PeerError>| {
            let answered = Command::Answered {
                request_id,
                from,
                answer: answer.map(Box::new),
            };
            // Nobody listens any more when the node is stopping.
            let _ = commands.send(answered);
        };
        let preferred = |listener: &Str| listener.eq_ignore_ascii_case(&self.listener);
        let mut endpoints = to.endpoints.iter();
        let endpoint = endpoints
            .find(|endpoint| preferred(&endpoint.listener))
            .or_else(|| to.endpoints.first());
        let Some(endpoint) = endpoint else {
            let why = "nobody knows where it listens".to_owned();
            return reply(None, Err(PeerError::Unreachable(why)));
        };
        let address = Address {
            host: endpoint.host.clone(),
            port: endpoint.port,
        };
        self.uses += 1;
        let last_use = self.uses;
        let from = address.clone();
        let link = self.link(address);
        link.last_use = last_use;
        link.node = to.node_id.or(link.node);
        link.peer.send(Outgoing {
            request,
            version_max: i16::MAX,
            on_behalf: None,
            reply: Box::new(move |answer| reply(Some(from), answer)),
        });
    }

    /// Nobody listens at an address any more; gives who did.
    pub(super) fn refused(&mut self, address: &Address) -> Option<NodeId> {
        let link = self.links.get_mut(address)?;
        let node = link.node?;
        if !std::mem::replace(&mut link.is_gone, true) {
            tracing::warn!(%node, %address, "a node of the metadata quorum is gone: nobody listens there");
        }
        Some(node)
    }

    /// Somebody has answered from an address.
    pub(super) fn answered(&mut self, address: &Address) {
        let Some(link) = self.links.get_mut(address) else {
            return;
        };
        if std::mem::take(&mut link.is_gone) {
            tracing::info!(node = ?link.node, %address, "a node of the metadata quorum is back");
        }
    }

    fn link(&mut self, address: Address) -> &mut Link {
        if !self.links.contains_key(&address) {
            self.make_room();
            let (commands, at) = (self.commands.clone(), address.clone());
            let peer = Peer::start(
                &self.runtime,
                Arc::clone(&self.network),
                address.clone(),
                self.config.clone(),
                move |contact| {
                    if contact == Contact::Refused {
                        // Nobody listens to that any more when the node is stopping.
                        let _ = commands.send(Command::Refused(at.clone()));
                    }
                },
            );
            let link = Link {
                peer,
                node: None,
                is_gone: false,
                last_use: 0,
            };
            self.links.insert(address.clone(), link);
        }
        self.links.get_mut(&address).expect("it was just made")
    }

    /// Closes the connection that was used least recently, if there are many.
    fn make_room(&mut self) {
        if self.links.len() < LINKS_MAX {
            return;
        }
        let oldest = self.links.iter().min_by_key(|(_, link)| link.last_use);
        if let Some(address) = oldest.map(|(address, _)| address.clone()) {
            self.links.remove(&address);
        }
    }
}
