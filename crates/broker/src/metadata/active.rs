//! The active controller, wherever it is.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::{Request, Response};
use tidelog_types::{ErrorCode, NodeId, Offset, Str};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::forward::{self, Forwarded};
use super::{ControllerHandle, Leadership, Publisher};
use crate::clock::real::timeout;
use crate::peers::{self, Address, Network, OnBehalf, Peer, PeerError};

/// How long to wait before a controller is asked again that could not answer.
const RETRY_BACKOFF: Duration = Duration::from_millis(50);

/// Where requests to the controller go: to that of this node if it is the active one, else over the network.
///
/// Where no controller is known, where the other node is none (any more), and where the connection is lost, the request is
/// sent again until its time is up. The controller may have done it all the same: then the second answer says so.
#[derive(Debug)]
pub(crate) struct ActiveController {
    pub(super) local: ControllerHandle,
    pub(super) node_id: NodeId,
    /// Whether there is nobody else who could be the controller.
    pub(super) is_alone: bool,
    /// The listener of controllers.
    pub(super) listener: Str,
    /// How long a request without a timeout of its own may take.
    pub(super) request_timeout: Duration,
    pub(super) runtime: Handle,
    pub(super) network: Arc<dyn Network>,
    pub(super) config: peers::Config,
    /// The connection to the controller that was asked last.
    pub(super) peer: Mutex<Option<Arc<Peer>>>,
    /// The one for heartbeats: answers come in turn, and nothing that takes long may be before these.
    pub(super) reports: Mutex<Option<Arc<Peer>>>,
}

/// What is wanted of the controller's node.
enum Wanted {
    /// A change of the cluster.
    Decision(ControllerRequest),
    /// Something of the quorum, for a client.
    Quorum(Box<Request>),
}

enum Given {
    Decision(ControllerResponse),
    Quorum(Response),
}

impl ActiveController {
    /// Asks the controller in the name of this broker.
    pub(crate) async fn request(
        &self,
        request: ControllerRequest,
    ) -> Result<ControllerResponse, ErrorCode> {
        self.request_for(Ipv4Addr::LOCALHOST.into(), request).await
    }

    /// Asks the controller in the name of a client with this address.
    pub(crate) async fn request_for(
        &self,
        client: IpAddr,
        request: ControllerRequest,
    ) -> Result<ControllerResponse, ErrorCode> {
        let limit = request.timeout_ms().map_or(self.request_timeout, |ms| {
            Duration::from_millis(u64::try_from(ms).unwrap_or(0))
        });
        match self.ask(client, Wanted::Decision(request), limit).await? {
            Given::Decision(response) => Ok(response),
            Given::Quorum(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }

    /// Asks the leader of the quorum something in the name of a client with this address.
    pub(crate) async fn ask_quorum(
        &self,
        client: IpAddr,
        request: Request,
    ) -> Result<Response, ErrorCode> {
        let wanted = Wanted::Quorum(Box::new(request));
        match self.ask(client, wanted, self.request_timeout).await? {
            Given::Quorum(response) => Ok(response),
            Given::Decision(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }

    /// Has `publisher` follow the metadata from `from` on; returns when this node is what the metadata says.
    pub(crate) async fn follow(&self, publisher: Publisher, from: Offset) -> Result<(), ErrorCode> {
        self.local.follow(publisher, from).await
    }

    /// The controller of this node, active or not.
    pub(crate) const fn local(&self) -> &ControllerHandle {
        &self.local
    }

    async fn ask(
        &self,
        client: IpAddr,
        wanted: Wanted,
        limit: Duration,
    ) -> Result<Given, ErrorCode> {
        let asked = timeout(limit, self.ask_until_answered(client, &wanted));
        asked.await.unwrap_or(Err(ErrorCode::REQUEST_TIMED_OUT))
    }

    async fn ask_until_answered(
        &self,
        client: IpAddr,
        wanted: &Wanted,
    ) -> Result<Given, ErrorCode> {
        let mut leadership = self.local.leadership();
        loop {
            let known = leadership.borrow_and_update().clone();
            let given = if known.is_here {
                self.ask_here(wanted).await
            } else {
                self.ask_there(client, wanted, &known, &mut leadership)
                    .await
            };
            match given {
                Err(ErrorCode::NOT_CONTROLLER) => {}
                given => return given,
            }
            if self.is_alone && self.local.failure().is_some() {
                return Err(ErrorCode::NOT_CONTROLLER);
            }
            // Until something is known that was not known before; at the latest after a while.
            if let Ok(Err(_)) = timeout(RETRY_BACKOFF, leadership.changed()).await {
                return Err(ErrorCode::NOT_CONTROLLER);
            }
        }
    }

    async fn ask_here(&self, wanted: &Wanted) -> Result<Given, ErrorCode> {
        match wanted {
            Wanted::Decision(request) => {
                let response = self.local.request(request.clone()).await?;
                Ok(Given::Decision(response))
            }
            Wanted::Quorum(request) => {
                let listener = self.listener.clone();
                let response = self.local.ask((**request).clone(), listener).await;
                response.map(Given::Quorum).ok_or(ErrorCode::NOT_CONTROLLER)
            }
        }
    }

    /// Asks another node, for as long as it is held for the leader.
    async fn ask_there(
        &self,
        client: IpAddr,
        wanted: &Wanted,
        known: &Leadership,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> Result<Given, ErrorCode> {
        let is_other = known.leader_id.is_some_and(|leader| leader != self.node_id);
        let address = known.address.clone().filter(|_| is_other);
        let kept = match wanted {
            Wanted::Decision(ControllerRequest::BrokerHeartbeat(_)) => &self.reports,
            _ => &self.peer,
        };
        let Some(peer) = address.map(|address| self.peer(address, kept)) else {
            return Err(ErrorCode::NOT_CONTROLLER);
        };
        let (request, is_clients) = match wanted {
            Wanted::Decision(request) => match forward::ask(request) {
                Some(Forwarded::Own(request)) => (request, false),
                Some(Forwarded::Clients(request)) => (request, true),
                None => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            },
            Wanted::Quorum(request) => ((**request).clone(), true),
        };
        let on_behalf = is_clients.then(|| OnBehalf {
            principal: forward::anonymous(),
            client_address: octets(client),
        });
        let is_another = |now: &Leadership| {
            (now.leader_id, now.leader_epoch) != (known.leader_id, known.leader_epoch)
        };
        let answer = tokio::select! {
            answer = peer.request(request, on_behalf) => answer,
            // A leader that stalls is not waited for once there is another.
            _ = leadership.wait_for(is_another) => return Err(ErrorCode::NOT_CONTROLLER),
        };
        match answer {
            Ok(Response::Envelope(refused)) => Err(refused.error_code),
            Ok(response) => match wanted {
                Wanted::Decision(_) => forward::answer(response).map(Given::Decision),
                Wanted::Quorum(_) => Ok(Given::Quorum(response)),
            },
            Err(error @ PeerError::Unsupported { .. }) => {
                tracing::warn!(%error, "the controller cannot do what it is asked for");
                Err(ErrorCode::UNSUPPORTED_VERSION)
            }
            Err(error) => {
                tracing::debug!(%error, "the controller was not reached");
                Err(ErrorCode::NOT_CONTROLLER)
            }
        }
    }

    /// The connection to the node that listens at `address`, which may be the one that is kept.
    fn peer(&self, address: Address, kept: &Mutex<Option<Arc<Peer>>>) -> Arc<Peer> {
        let mut last = kept.lock();
        match &*last {
            Some(peer) if *peer.address() == address => Arc::clone(peer),
            _ => {
                let peer = Peer::start(
                    &self.runtime,
                    Arc::clone(&self.network),
                    address,
                    self.config.clone(),
                    // The quorum's own connections tell what has become of the node.
                    |_| {},
                );
                let peer = Arc::new(peer);
                *last = Some(Arc::clone(&peer));
                peer
            }
        }
    }
}

fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}
