//! Brokers come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_protocol::records::metadata::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, MetadataRecord,
    ProducerIdsRecord, RegisterBrokerRecord,
};
use tidelog_types::{ErrorCode, ProducerId, Uuid};

use super::election::Move;
use super::event::{BrokerEpoch, BrokerRegistration, ProducerIdBlock};
use super::{Controller, ControllerResponse, Decision};
use crate::ApiError;
use crate::image::{BrokerImage, Endpoint, SupportedLevels, directory};

/// How many producer ids are handed out at a time (KIP-730).
const PRODUCER_IDS_PER_BLOCK: i32 = 1000;

impl Controller {
    /// A new incarnation has lost its place: what its predecessor led gets another leader, or none until the new one is
    /// unfenced. So each restart raises the leader epoch, and what the predecessor may have sent late is fenced off.
    pub(super) fn register_broker(&self, registration: BrokerRegistration) -> Decision {
        if let Err(error) = self.check_registration(&registration) {
            return Decision::atomic(Vec::new(), ControllerResponse::RegisterBroker(Err(error)));
        }
        let id = registration.broker_id;
        let before = self.image.broker(id);
        let amended = before.filter(|b| b.incarnation_id == registration.incarnation_id);
        let mut records = Vec::new();
        if amended.is_none() {
            self.move_leaders(&Move::Leaving(id), &mut records);
        }
        let record = RegisterBrokerRecord {
            broker_id: id,
            incarnation_id: registration.incarnation_id,
            broker_epoch: amended.map_or_else(|| self.end_offset.value(), |broker| broker.epoch),
            end_points: registration.endpoints.iter().map(endpoint).collect(),
            features: registration.features.iter().map(feature).collect(),
            rack: registration.rack.clone(),
            fenced: amended.is_none_or(|broker| broker.fenced),
            in_controlled_shutdown: amended.is_some_and(|broker| broker.in_controlled_shutdown),
            log_dirs: if self.image.metadata_version().has_directories() {
                registration.log_dirs
            } else {
                Vec::new()
            },
            ..Default::default()
        };
        let epoch = record.broker_epoch;
        records.push(record.into());
        Decision::divisible(records, ControllerResponse::RegisterBroker(Ok(epoch)))
    }

    fn check_registration(&self, registration: &BrokerRegistration) -> Result<(), ApiError> {
        let invalid =
            |message: String| Err(ApiError::new(ErrorCode::INVALID_REGISTRATION, message));
        let dirs: BTreeSet<Uuid> = registration.log_dirs.iter().copied().collect();
        if self.image.metadata_version().has_directories() {
            if dirs.is_empty() {
                return invalid("the registration names no log directory".into());
            }
            if dirs.iter().any(|dir| directory::is_reserved(*dir)) {
                return invalid("the registration names a log directory by a reserved id".into());
            }
            if dirs.len() < registration.log_dirs.len() {
                return invalid("the registration names a log directory twice".into());
            }
            let others = self
                .image
                .brokers()
                .filter(|b| b.id != registration.broker_id);
            for other in others {
                if let Some(dir) = other.log_dirs.iter().find(|dir| dirs.contains(dir)) {
                    return invalid(format!(
                        "the log directory {dir} belongs to broker {}",
                        other.id
                    ));
                }
            }
        }
        for (name, level) in self.image.features() {
            let supported = registration
                .features
                .iter()
                .find(|(feature, _)| feature == name);
            let levels =
                supported.map_or(SupportedLevels { min: 0, max: 0 }, |(_, levels)| *levels);
            if !levels.contains(*level) {
                let message = format!(
                    "the cluster uses level {level} of {name}, and the broker supports {} to {}",
                    levels.min, levels.max
                );
                return Err(ApiError::new(ErrorCode::UNSUPPORTED_VERSION, message));
            }
        }
        Ok(())
    }

    pub(super) fn unfence_broker(&self, broker: BrokerEpoch) -> Decision {
        let mut records = Vec::new();
        let result = self.registered(broker).map(|registered| {
            if registered.fenced {
                records.push(change(registered, |record| record.fenced = -1));
                self.move_leaders(&Move::Coming(broker.broker_id), &mut records);
            }
        });
        Decision::divisible(records, ControllerResponse::UnfenceBroker(result))
    }

    pub(super) fn fence_broker(&self, broker: BrokerEpoch) -> Decision {
        let mut records = Vec::new();
        let result = self.registered(broker).map(|registered| {
            if !registered.fenced {
                self.move_leaders(&Move::Leaving(broker.broker_id), &mut records);
                records.push(change(registered, |record| record.fenced = 1));
            }
        });
        Decision::divisible(records, ControllerResponse::FenceBroker(result))
    }

    pub(super) fn begin_controlled_shutdown(&self, broker: BrokerEpoch) -> Decision {
        let mut records = Vec::new();
        let result = self.registered(broker).map(|registered| {
            if !registered.in_controlled_shutdown {
                records.push(change(registered, |record| {
                    record.in_controlled_shutdown = 1
                }));
            }
            self.move_leaders(&Move::Leaving(broker.broker_id), &mut records);
        });
        Decision::divisible(records, ControllerResponse::BeginControlledShutdown(result))
    }

    pub(super) fn allocate_producer_ids(&self, broker: BrokerEpoch) -> Decision {
        let first = self.image.next_producer_id();
        let block = self.registered(broker).and_then(|_| {
            let next = first.value().checked_add(i64::from(PRODUCER_IDS_PER_BLOCK));
            let exhausted =
                || ApiError::new(ErrorCode::UNKNOWN_SERVER_ERROR, "no producer ids are left");
            next.map(ProducerId::new).ok_or_else(exhausted)
        });
        let record = |next_producer_id: ProducerId| {
            let BrokerEpoch {
                broker_id,
                broker_epoch,
            } = broker;
            ProducerIdsRecord {
                broker_id,
                broker_epoch,
                next_producer_id,
            }
            .into()
        };
        let records = block.iter().copied().map(record).collect();
        let block = block.map(|_| ProducerIdBlock {
            first,
            len: PRODUCER_IDS_PER_BLOCK,
        });
        Decision::atomic(records, ControllerResponse::AllocateProducerIds(block))
    }

    /// The registration that the request means, if it is the current one.
    fn registered(&self, broker: BrokerEpoch) -> Result<&Arc<BrokerImage>, ApiError> {
        let BrokerEpoch {
            broker_id,
            broker_epoch,
        } = broker;
        match self.image.broker(broker_id) {
            None => {
                let message = format!("broker {broker_id} is not registered");
                Err(ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message))
            }
            Some(registered) if registered.epoch != broker_epoch => {
                let epoch = registered.epoch;
                let message =
                    format!("the epoch of broker {broker_id} is {epoch}, not {broker_epoch}");
                Err(ApiError::new(ErrorCode::STALE_BROKER_EPOCH, message))
            }
            Some(registered) => Ok(registered),
        }
    }
}

fn change(
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

fn endpoint(endpoint: &Endpoint) -> BrokerEndpoint {
    BrokerEndpoint {
        name: endpoint.name.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    }
}

fn feature((name, levels): &(tidelog_types::Str, SupportedLevels)) -> BrokerFeature {
    BrokerFeature {
        name: name.clone(),
        min_supported_version: levels.min,
        max_supported_version: levels.max,
    }
}
