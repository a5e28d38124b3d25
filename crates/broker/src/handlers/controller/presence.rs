//! Whether brokers are still there.
//!
//! A broker reports over one connection. When that closes, the active controller tries to open one to the broker: where nobody
//! listens any more, the process is gone, and the broker is fenced without waiting for the end of its session. A controller
//! that has just become active has heard of nobody yet, and looks for them all.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_metadata::controller::{BrokerEpoch, ControllerRequest};
use tidelog_types::NodeId;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clock::real::{sleep, timeout};
use crate::handlers::Peer;
use crate::metadata::ControllerHandle;
use crate::peers::{Address, Network};

/// How long a broker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a broker is looked for whose connection has closed: while a process ends, its listening socket may still take
/// connections.
const ATTEMPTS: u32 = 5;
/// The wait after the first attempt; doubles with each.
const BACKOFF: Duration = Duration::from_millis(20);

/// What is known of the processes of brokers.
pub(crate) struct Presence {
    runtime: Handle,
    network: Arc<dyn Network>,
    controller: ControllerHandle,
    /// The connection over which each broker has reported last.
    reports: Mutex<HashMap<NodeId, Report>>,
}

struct Report {
    broker_epoch: i64,
    connection: Weak<Peer>,
}

impl Presence {
    pub(crate) fn new(
        runtime: Handle,
        network: Arc<dyn Network>,
        controller: ControllerHandle,
    ) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            network,
            controller,
            reports: Mutex::default(),
        })
    }

    /// Looks for all brokers whenever this node becomes the active controller, until `stopped` says so.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut leadership = self.controller.leadership();
        let mut led_in = None;
        loop {
            let known = leadership.borrow_and_update().clone();
            let leads_in = known.is_here.then_some(known.leader_epoch);
            if leads_in.is_some() && leads_in != led_in {
                self.look_for_all();
            }
            led_in = leads_in;
            let changed = tokio::select! {
                changed = leadership.changed() => changed.is_ok(),
                _ = stopped.wait_for(|stop| *stop) => false,
            };
            if !changed {
                return;
            }
        }
    }

    fn look_for_all(self: &Arc<Self>) {
        let image = self.controller.published().image.load_full();
        for broker in image.brokers().filter(|broker| !broker.fenced) {
            let broker = BrokerEpoch {
                broker_id: broker.id,
                broker_epoch: broker.epoch,
            };
            self.runtime.spawn(Arc::clone(self).look_for(broker, 1));
        }
    }

    /// A broker has reported over this connection.
    pub(super) fn reported(self: &Arc<Self>, broker: BrokerEpoch, connection: &Arc<Peer>) {
        let mut reports = self.reports.lock();
        let is_known = reports.get(&broker.broker_id).is_some_and(|report| {
            report.broker_epoch == broker.broker_epoch
                && std::ptr::eq(report.connection.as_ptr(), Arc::as_ptr(connection))
        });
        if is_known {
            return;
        }
        let report = Report {
            broker_epoch: broker.broker_epoch,
            connection: Arc::downgrade(connection),
        };
        reports.insert(broker.broker_id, report);
        let presence = Arc::downgrade(self);
        connection.when_closed(move || {
            if let Some(presence) = presence.upgrade() {
                let runtime = presence.runtime.clone();
                runtime.spawn(presence.look_for(broker, ATTEMPTS));
            }
        });
    }

    /// The registration of a broker whose process has reported before and does so no longer.
    pub(super) fn gone(&self, broker_id: NodeId) -> Option<BrokerEpoch> {
        let reports = self.reports.lock();
        let report = reports.get(&broker_id)?;
        let is_gone = report.connection.strong_count() == 0;
        is_gone.then_some(BrokerEpoch {
            broker_id,
            broker_epoch: report.broker_epoch,
        })
    }

    /// Has the broker fenced if nobody listens where it did.
    async fn look_for(self: Arc<Self>, broker: BrokerEpoch, attempts: u32) {
        let mut backoff = BACKOFF;
        for _ in 0..attempts {
            let Some(address) = self.address(broker) else {
                return;
            };
            match timeout(CONNECT_TIMEOUT, self.network.connect(&address)).await {
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let broker_id = broker.broker_id;
                    tracing::warn!(%broker_id, %address, "a broker is gone: nobody listens there");
                    // Whoever is the controller by now finds out by itself.
                    let _ = self.controller.request(unreachable(broker)).await;
                    return;
                }
                // It lives, or is about to end, or the network knows.
                _ => sleep(backoff).await,
            }
            backoff *= 2;
        }
    }

    /// Where a broker listens that counts as alive; `None` where that is of no interest any more.
    fn address(&self, broker: BrokerEpoch) -> Option<Address> {
        if !self.controller.leadership().borrow().is_here {
            return None;
        }
        let image = self.controller.published().image.load();
        let registered = image.broker(broker.broker_id)?;
        let endpoint = registered.endpoints.first()?;
        let is_alive = registered.epoch == broker.broker_epoch && !registered.fenced;
        is_alive.then(|| Address {
            host: endpoint.host.clone(),
            port: endpoint.port,
        })
    }
}

/// What the controller is told of a broker whose process is gone.
pub(super) const fn unreachable(broker: BrokerEpoch) -> ControllerRequest {
    ControllerRequest::BrokerUnreachable {
        broker_id: broker.broker_id,
        broker_epoch: broker.broker_epoch,
    }
}
