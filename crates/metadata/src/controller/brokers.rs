//! Who belongs to the cluster: brokers and controllers register, brokers are forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tidelog_protocol::messages::broker_registration::BrokerRegistrationRequest;
use tidelog_protocol::messages::controller_registration::ControllerRegistrationRequest;
use tidelog_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use tidelog_protocol::records::metadata::{
    RegisterBrokerRecord, RegisterControllerRecord, UnregisterBrokerRecord,
};
use tidelog_types::{ErrorCode, NodeId, Str, Uuid};

use super::election::Move;
use super::{BrokerEpoch, Controller, ControllerResponse, Decision};
use crate::ApiError;
use crate::bootstrap::METADATA_VERSION;
use crate::image::{BrokerImage, SupportedLevels, directory};

impl Controller {
    /// A new incarnation has lost its place: what its predecessor led gets another leader, or none until the new one is
    /// unfenced. So each restart raises the leader epoch, and what the predecessor may have sent late is fenced off.
    pub(super) fn register_broker(
        &self,
        now: Instant,
        request: BrokerRegistrationRequest,
    ) -> Decision {
        if let Err(error) = self.check_registration(now, &request) {
            let response = ControllerResponse::BrokerRegistration(Err(error));
            return Decision::atomic(Vec::new(), response);
        }
        let id = request.broker_id;
        let before = self.image.broker(id);
        let amended = before.filter(|broker| broker.incarnation_id == request.incarnation_id);
        let mut records = Vec::new();
        if amended.is_none() {
            // KIP-966: who brings the epoch of the registration before has closed its logs in order.
            let is_clean =
                before.is_some_and(|broker| broker.epoch == request.previous_broker_epoch);
            let movement = if is_clean {
                Move::Leaving(id)
            } else {
                Move::UncleanRestart(id)
            };
            self.move_leaders(&movement, &mut records);
        }
        let record = RegisterBrokerRecord {
            broker_id: id,
            incarnation_id: request.incarnation_id,
            broker_epoch: amended.map_or_else(|| self.end_offset.value(), |broker| broker.epoch),
            end_points: request.listeners,
            features: request.features,
            rack: request.rack,
            fenced: amended.is_none_or(|broker| broker.fenced),
            in_controlled_shutdown: amended.is_some_and(|broker| broker.in_controlled_shutdown),
            log_dirs: if self.image.metadata_version().has_directories() {
                request.log_dirs
            } else {
                Vec::new()
            },
            ..Default::default()
        };
        let epoch = record.broker_epoch;
        records.push(record.into());
        Decision::divisible(records, ControllerResponse::BrokerRegistration(Ok(epoch)))
    }

    fn check_registration(
        &self,
        now: Instant,
        request: &BrokerRegistrationRequest,
    ) -> Result<(), ApiError> {
        let id = request.broker_id;
        if request.cluster_id != self.config.cluster_id {
            let message = format!(
                "this is the cluster {}, and broker {id} is a member of the cluster {}",
                self.config.cluster_id, request.cluster_id
            );
            return Err(ApiError::new(ErrorCode::INCONSISTENT_CLUSTER_ID, message));
        }
        if id < NodeId::new(0) {
            // The numbers below have meanings of their own where a leader is named.
            let message = format!("{id} is no number of a broker");
            return Err(ApiError::new(ErrorCode::INVALID_REGISTRATION, message));
        }
        if let Some(broker) = self.image.broker(id)
            && broker.incarnation_id != request.incarnation_id
            && self.heartbeats.has_session(now, epoch(broker))
        {
            let message = format!(
                "another process is broker {id}; if it is gone, its session will be over soon"
            );
            return Err(ApiError::new(
                ErrorCode::DUPLICATE_BROKER_REGISTRATION,
                message,
            ));
        }
        if request.is_migrating_zk_broker {
            let message = "there is no migration from ZooKeeper";
            return Err(ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message));
        }
        if self.image.metadata_version().has_directories() {
            self.check_directories(id, &request.log_dirs)?;
        }
        self.check_features(request)
    }

    fn check_directories(&self, id: NodeId, log_dirs: &[Uuid]) -> Result<(), ApiError> {
        let invalid =
            |message: String| Err(ApiError::new(ErrorCode::INVALID_REGISTRATION, message));
        let dirs: BTreeSet<Uuid> = log_dirs.iter().copied().collect();
        if dirs.is_empty() {
            return invalid("the registration names no log directory".into());
        }
        if dirs.iter().any(|dir| directory::is_reserved(*dir)) {
            return invalid("the registration names a log directory by a reserved id".into());
        }
        if dirs.len() < log_dirs.len() {
            return invalid("the registration names a log directory twice".into());
        }
        for other in self.image.brokers().filter(|broker| broker.id != id) {
            if let Some(dir) = other.log_dirs.iter().find(|dir| dirs.contains(dir)) {
                let message = format!("the log directory {dir} belongs to broker {}", other.id);
                return invalid(message);
            }
        }
        Ok(())
    }

    /// Every level in use must be one that the broker supports, and that is level 0 for features that are not in use.
    fn check_features(&self, request: &BrokerRegistrationRequest) -> Result<(), ApiError> {
        let unsupported = |name: &Str, level: i16, levels: SupportedLevels| {
            let message = format!(
                "the cluster uses level {level} of {name}, and the broker supports {} to {}",
                levels.min, levels.max
            );
            Err(ApiError::new(ErrorCode::UNSUPPORTED_VERSION, message))
        };
        for feature in &request.features {
            let levels = SupportedLevels {
                min: feature.min_supported_version,
                max: feature.max_supported_version,
            };
            let level = self.finalized_level(&feature.name);
            if !levels.contains(level) {
                return unsupported(&feature.name, level, levels);
            }
        }
        let names = |name: &str| request.features.iter().any(|feature| feature.name == *name);
        if !names(METADATA_VERSION) {
            let message =
                "the registration does not say which levels of metadata.version it supports";
            return Err(ApiError::new(ErrorCode::INVALID_REGISTRATION, message));
        }
        match self.image.features().iter().find(|(name, _)| !names(name)) {
            Some((name, level)) => unsupported(name, *level, SupportedLevels { min: 0, max: 0 }),
            None => Ok(()),
        }
    }

    pub(super) fn unregister_broker(&self, request: &UnregisterBrokerRequest) -> Decision {
        let mut records = Vec::new();
        let id = request.broker_id;
        let result = match self.image.broker(id) {
            None => {
                let message = format!("broker {id} is not registered");
                Err(ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message))
            }
            Some(broker) => {
                self.move_leaders(&Move::Leaving(id), &mut records);
                let record = UnregisterBrokerRecord {
                    broker_id: id,
                    broker_epoch: broker.epoch,
                };
                records.push(record.into());
                Ok(())
            }
        };
        Decision::divisible(records, ControllerResponse::UnregisterBroker(result))
    }

    pub(super) fn register_controller(&self, request: ControllerRegistrationRequest) -> Decision {
        if !self.image.metadata_version().has_controller_registrations() {
            let message = "metadata.version does not know registrations of controllers";
            let error = ApiError::new(ErrorCode::UNSUPPORTED_VERSION, message);
            let response = ControllerResponse::ControllerRegistration(Err(error));
            return Decision::atomic(Vec::new(), response);
        }
        let record = RegisterControllerRecord {
            controller_id: request.controller_id,
            incarnation_id: request.incarnation_id,
            zk_migration_ready: false,
            end_points: request.listeners,
            features: request.features,
        };
        let response = ControllerResponse::ControllerRegistration(Ok(()));
        Decision::atomic(vec![record.into()], response)
    }

    /// The registration that the sender means, if it is the current one.
    pub(super) fn registered(&self, sender: BrokerEpoch) -> Result<&Arc<BrokerImage>, ApiError> {
        let BrokerEpoch {
            broker_id,
            broker_epoch,
        } = sender;
        let stale = |message| Err(ApiError::new(ErrorCode::STALE_BROKER_EPOCH, message));
        match self.image.broker(broker_id) {
            None => stale(format!("broker {broker_id} is not registered")),
            Some(registered) if registered.epoch != broker_epoch => {
                let epoch = registered.epoch;
                stale(format!(
                    "the epoch of broker {broker_id} is {epoch}, not {broker_epoch}"
                ))
            }
            Some(registered) => Ok(registered),
        }
    }
}

/// By what a broker names its registration.
pub(super) const fn epoch(broker: &BrokerImage) -> BrokerEpoch {
    BrokerEpoch {
        broker_id: broker.id,
        broker_epoch: broker.epoch,
    }
}
