//! Over which connections brokers report.
//!
//! A broker that comes back is refused while the session of its former process goes on, since two processes may have one id by
//! mistake. But a process that has reported and has hung up is no longer there: its successor need not wait for the session
//! to end. That a process is gone for good the active controller finds out by itself (`metadata/watched.rs`).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidelog_metadata::controller::{BrokerEpoch, ControllerRequest};
use tidelog_types::NodeId;

use crate::handlers::Peer;

/// The connection over which each broker has reported last.
#[derive(Default)]
pub(crate) struct Presence(Mutex<HashMap<NodeId, Report>>);

struct Report {
    broker_epoch: i64,
    connection: Weak<Peer>,
}

impl Presence {
    /// A broker has reported over this connection.
    pub(super) fn reported(&self, broker: BrokerEpoch, connection: &Arc<Peer>) {
        let report = Report {
            broker_epoch: broker.broker_epoch,
            connection: Arc::downgrade(connection),
        };
        self.0.lock().insert(broker.broker_id, report);
    }

    /// The registration of a broker whose process has reported before and has hung up.
    pub(super) fn gone(&self, broker_id: NodeId) -> Option<BrokerEpoch> {
        let reports = self.0.lock();
        let report = reports.get(&broker_id)?;
        let is_gone = report.connection.strong_count() == 0;
        is_gone.then_some(BrokerEpoch {
            broker_id,
            broker_epoch: report.broker_epoch,
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
