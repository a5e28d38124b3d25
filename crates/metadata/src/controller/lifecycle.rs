//! What a broker that is alive may do: heartbeats, sessions that end, and evidence that a broker is gone.

use std::sync::Arc;
use std::time::Instant;

use tidelog_protocol::messages::broker_heartbeat::{
    BrokerHeartbeatRequest, BrokerHeartbeatResponse,
};
use tidelog_protocol::records::metadata::{BrokerRegistrationChangeRecord, MetadataRecord};
use tidelog_types::NodeId;

use super::brokers::epoch;
use super::election::Move;
use super::{BrokerEpoch, Controller, ControllerResponse, Decision, Effect};
use crate::image::BrokerImage;

/// What a broker may do, as its heartbeats are told.
///
/// ```text
///                 caught up, does not want to be fenced
///   Registered ──► Fenced ───────────────────────────► Unfenced ──┐ wants to shut down
///                    ▲ │ ◄──── session over, unreachable, ────┘ │  │ and leads something
///                    │ │       wants to be fenced               │  ▼
///                    │ │                                        │ ControlledShutdown
///                    │ │ wants to shut down      leads nothing  │  │ leads nothing, and every
///                    │ └───────────► ShutdownNow ◄──────────────┘  │ active broker knows
///                    │                    ▲ └──────────────────────┘
///                    └── fenced as well ──┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It leads nothing, and joins no ISR.
    Fenced,
    Unfenced,
    /// It leads nothing any more; others may not have heard of it yet.
    ControlledShutdown,
    /// Nobody needs it any more.
    ShutdownNow,
}

impl State {
    const fn of(broker: &BrokerImage) -> Self {
        match (broker.fenced, broker.in_controlled_shutdown) {
            (true, _) => Self::Fenced,
            (false, true) => Self::ControlledShutdown,
            (false, false) => Self::Unfenced,
        }
    }
}

impl Controller {
    pub(super) fn broker_heartbeat(
        &mut self,
        now: Instant,
        request: &BrokerHeartbeatRequest,
        effects: &mut Vec<Effect>,
    ) -> Decision {
        let sender = sender(request);
        if let Err(error) = self.registered(sender) {
            return Decision::atomic(Vec::new(), ControllerResponse::BrokerHeartbeat(Err(error)));
        }
        let is_caught_up = self
            .heartbeats
            .touch(now, sender, request.current_metadata_offset);
        // What has failed counts before what the broker wants: nobody is elected onto a directory that is gone.
        let has_directories = self.lose_directories(request, effects);
        let broker = self.registered(sender).map(Arc::clone);
        let broker = broker.expect("a broker stays registered without directories");
        let next = self.next_state(&broker, request, is_caught_up, has_directories);
        let mut records = Vec::new();
        match next {
            State::Fenced | State::ShutdownNow => self.fence(&broker, &mut records),
            State::Unfenced => self.unfence(&broker, &mut records),
            State::ControlledShutdown => self.relieve(&broker, &mut records),
        }
        self.cordon(&broker, request, &mut records);
        match next {
            State::ControlledShutdown => {
                let end_offset = self.end_offset + records.len() as i64;
                self.heartbeats.shuts_down(sender, end_offset);
            }
            State::ShutdownNow => self.heartbeats.end(sender),
            State::Fenced | State::Unfenced => {}
        }
        let response = BrokerHeartbeatResponse {
            is_caught_up,
            is_fenced: matches!(next, State::Fenced | State::ShutdownNow),
            should_shut_down: next == State::ShutdownNow,
            ..Default::default()
        };
        Decision::divisible(records, ControllerResponse::BrokerHeartbeat(Ok(response)))
    }

    /// A heartbeat that cannot be served now still says that its sender is alive.
    pub(super) fn note_heartbeat(&mut self, now: Instant, request: &BrokerHeartbeatRequest) {
        self.heartbeats
            .touch(now, sender(request), request.current_metadata_offset);
    }

    fn next_state(
        &self,
        broker: &BrokerImage,
        request: &BrokerHeartbeatRequest,
        is_caught_up: bool,
        has_directories: bool,
    ) -> State {
        let wants_fence = request.want_fence || !has_directories;
        // Whose shutdown has begun registers anew before it serves again. One that serves goes on, however far it has read: a
        // controller that has just taken over is ahead of everybody.
        let stays_fenced = wants_fence || !is_caught_up || broker.in_controlled_shutdown;
        match State::of(broker) {
            State::Fenced if request.want_shut_down => State::ShutdownNow,
            State::Fenced if stays_fenced => State::Fenced,
            State::Unfenced if request.want_fence && request.want_shut_down => State::ShutdownNow,
            State::Unfenced if wants_fence => State::Fenced,
            State::Unfenced if request.want_shut_down => {
                if self.leads_anything(broker.id) {
                    State::ControlledShutdown
                } else {
                    State::ShutdownNow
                }
            }
            State::Fenced | State::Unfenced => State::Unfenced,
            State::ControlledShutdown | State::ShutdownNow => {
                let is_known = self
                    .heartbeats
                    .shutdown_is_known(&self.image, epoch(broker));
                if is_known && !self.leads_anything(broker.id) {
                    State::ShutdownNow
                } else {
                    State::ControlledShutdown
                }
            }
        }
    }

    /// Fences the broker for good reason to think that its process is gone.
    pub(super) fn broker_unreachable(&mut self, unreachable: BrokerEpoch) -> Decision {
        let mut records = Vec::new();
        if let Ok(broker) = self.registered(unreachable) {
            self.fence(broker, &mut records);
            self.heartbeats.end(unreachable);
        }
        Decision::divisible(records, ControllerResponse::BrokerUnreachable(Ok(())))
    }

    /// Fences the brokers whose sessions are over, one after the other: who is fenced is not elected for the next.
    pub(super) fn fence_stale_brokers(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some(id) = self.heartbeats.stale(now, &self.image) {
            let broker = self.image.broker(id).map(Arc::clone);
            let broker = broker.expect("only registered brokers have sessions");
            let mut records = Vec::new();
            self.fence(&broker, &mut records);
            self.append(records, effects);
            self.heartbeats.end(epoch(&broker));
        }
    }

    /// The records that fence a broker, unless it is fenced. What it leads goes to others.
    fn fence(&self, broker: &BrokerImage, records: &mut Vec<MetadataRecord>) {
        if !broker.fenced {
            self.move_leaders(&Move::Leaving(broker.id), records);
            records.push(change(broker, |record| record.fenced = 1));
        }
    }

    /// The records that unfence a broker, unless it is unfenced. It leads what nobody else could.
    fn unfence(&self, broker: &BrokerImage, records: &mut Vec<MetadataRecord>) {
        if broker.fenced {
            records.push(change(broker, |record| record.fenced = -1));
            self.move_leaders(&Move::Coming(broker.id), records);
        }
    }

    /// The records that begin the orderly shutdown of a broker, and take from it what it leads.
    fn relieve(&self, broker: &BrokerImage, records: &mut Vec<MetadataRecord>) {
        if !broker.in_controlled_shutdown {
            records.push(change(broker, |record| record.in_controlled_shutdown = 1));
            self.move_leaders(&Move::Leaving(broker.id), records);
        }
    }

    /// It looks at every partition of the cluster if there is none.
    fn leads_anything(&self, id: NodeId) -> bool {
        let mut partitions = self
            .image
            .topics()
            .flat_map(|topic| topic.partitions.values());
        partitions.any(|partition| partition.leader == id)
    }
}

/// Who says to send the heartbeat.
const fn sender(request: &BrokerHeartbeatRequest) -> BrokerEpoch {
    BrokerEpoch {
        broker_id: request.broker_id,
        broker_epoch: request.broker_epoch,
    }
}

/// A change of a broker's registration.
pub(super) fn change(
    broker: &BrokerImage,
    what: impl FnOnce(&mut BrokerRegistrationChangeRecord),
) -> MetadataRecord {
    let mut record = BrokerRegistrationChangeRecord {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
        ..Default::default()
    };
    what(&mut record);
    record.into()
}
