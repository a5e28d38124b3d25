//! Finalized levels of features go up and down (KIP-584, KIP-778).
//!
//! A level is finalized only when everybody who may have to live with it can: this controller, every registered broker,
//! fenced or not, and every controller of the quorum.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use tidelog_protocol::records::metadata::{
    BrokerFeature, ConfigRecord, FeatureLevelRecord, MetadataRecord, NoOpRecord,
};
use tidelog_types::{ErrorCode, NodeId, Str};

use super::{Controller, ControllerResponse, Decision};
use crate::ApiError;
use crate::bootstrap::{
    ELIGIBLE_LEADER_REPLICAS_SINCE, ELIGIBLE_LEADER_REPLICAS_VERSION, KRAFT_VERSION,
    KRAFT_VERSIONS, METADATA_VERSION, MetadataVersion, SUPPORTED_FEATURES, registered_features,
};
use crate::configs::ResourceKind;
use crate::image::SupportedLevels;

const MIN_ISR: &str = "min.insync.replicas";

/// Levels from which on a feature needs another one: feature, level, the other, its level.
const DEPENDENCIES: [(&str, i16, &str, i16); 1] = [(
    ELIGIBLE_LEADER_REPLICAS_VERSION,
    1,
    METADATA_VERSION,
    ELIGIBLE_LEADER_REPLICAS_SINCE.level(),
)];

/// How a level may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UpgradeType {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

impl UpgradeType {
    fn of(update: &FeatureUpdateKey) -> Option<Self> {
        match update.upgrade_type {
            // Version 0 of the request has no types.
            1 if update.allow_downgrade => Some(Self::SafeDowngrade),
            1 => Some(Self::Upgrade),
            2 => Some(Self::SafeDowngrade),
            3 => Some(Self::UnsafeDowngrade),
            _ => None,
        }
    }
}

impl Controller {
    /// The level of a feature that the cluster uses, kraft.version included.
    pub(super) fn finalized_level(&self, name: &str) -> i16 {
        if name == KRAFT_VERSION {
            self.kraft_version
        } else {
            self.image.feature(name)
        }
    }

    /// All features change, or none.
    pub(super) fn update_features(&self, request: &UpdateFeaturesRequest) -> Decision {
        let mut proposed = self.image.features().clone();
        for update in &request.feature_updates {
            proposed.insert(update.feature.clone(), update.max_version_level);
        }
        let updates = request.feature_updates.iter();
        // Whether the quorum can, its owner finds out.
        let records: Result<Vec<_>, _> = updates
            .map(|update| self.update_feature(update, &proposed, request.validate_only))
            .collect();
        let result = |update: &FeatureUpdateKey| UpdatableFeatureResult {
            feature: update.feature.clone(),
            ..Default::default()
        };
        let (records, response) = match records {
            Ok(records) => {
                let results = request.feature_updates.iter().map(result).collect();
                let response = UpdateFeaturesResponse {
                    results,
                    ..Default::default()
                };
                (records, response)
            }
            Err(error) => {
                let reason = error.message.as_deref().unwrap_or_default();
                let response = UpdateFeaturesResponse {
                    error_code: error.code,
                    error_message: Some(format!("no feature was changed: {reason}").into()),
                    ..Default::default()
                };
                (Vec::new(), response)
            }
        };
        let enables_elr = !self.elr_enabled()
            && !records.is_empty()
            && proposed
                .get(ELIGIBLE_LEADER_REPLICAS_VERSION)
                .is_some_and(|level| *level > 0);
        let mut all = Vec::new();
        if !request.validate_only {
            if enables_elr {
                all = self.elr_safety_records();
            }
            all.extend(records);
        }
        Decision::atomic(all, ControllerResponse::UpdateFeatures(response))
    }

    /// The level to which the quorum has to raise kraft.version before the request is handed in, if everything else of it is as it
    /// should be.
    pub fn kraft_upgrade(&self, request: &UpdateFeaturesRequest) -> Option<i16> {
        let mut updates = request.feature_updates.iter();
        let level = updates
            .find(|update| update.feature == KRAFT_VERSION)?
            .max_version_level;
        let tried = UpdateFeaturesRequest {
            validate_only: true,
            ..request.clone()
        };
        let response = self.update_features(&tried).response;
        let would_succeed = matches!(
            response,
            ControllerResponse::UpdateFeatures(response) if response.error_code.is_ok()
        );
        (would_succeed && level > self.kraft_version).then_some(level)
    }

    /// The record that takes a feature to its new level.
    fn update_feature(
        &self,
        update: &FeatureUpdateKey,
        proposed: &BTreeMap<Str, i16>,
        is_kraft_upgradable: bool,
    ) -> Result<MetadataRecord, ApiError> {
        let name = &update.feature;
        let (from, to) = (self.finalized_level(name), update.max_version_level);
        let invalid = |reason: String| {
            let message = format!("{name} cannot be at level {to}: {reason}");
            Err(ApiError::new(ErrorCode::INVALID_UPDATE_VERSION, message))
        };
        let Some(upgrade_type) = UpgradeType::of(update) else {
            return invalid(format!("there is no upgrade type {}", update.upgrade_type));
        };
        if to < 0 {
            return invalid("levels begin at 0".into());
        }
        if let Some(reason) = self.who_does_not_support(name, from, to) {
            return invalid(reason);
        }
        if to < from && upgrade_type == UpgradeType::Upgrade {
            return invalid(format!(
                "that is less than {from}, and an upgrade was asked for"
            ));
        }
        if to > from && upgrade_type != UpgradeType::Upgrade {
            return invalid(format!(
                "that is more than {from}, and a downgrade was asked for"
            ));
        }
        if name == KRAFT_VERSION {
            return match (to == from, to < from) {
                // The record makes the answer wait as for any other feature.
                (true, _) => Ok(NoOpRecord {}.into()),
                (_, true) => invalid("it cannot go down".into()),
                _ if is_kraft_upgradable => Ok(NoOpRecord {}.into()),
                _ => invalid("the quorum has not raised it".into()),
            };
        }
        if name == METADATA_VERSION
            && to < from
            && let Some(reason) = why_not_downgraded(from, to)
        {
            return invalid(reason);
        }
        for (feature, since, other, least) in DEPENDENCIES {
            if name == feature
                && to >= since
                && proposed.get(other).is_none_or(|level| *level < least)
            {
                return invalid(format!("it needs {other} at level {least}"));
            }
        }
        let record = FeatureLevelRecord {
            name: name.clone(),
            feature_level: to,
        };
        Ok(record.into())
    }

    /// Why the cluster cannot have the feature at that level, if it cannot.
    fn who_does_not_support(&self, name: &str, from: i16, to: i16) -> Option<String> {
        // What is kept of Kafka's features can be switched off here, but not on.
        let local = if to > from {
            SUPPORTED_FEATURES
                .iter()
                .copied()
                .find(|(feature, _)| *feature == name)
        } else {
            registered_features().find(|(feature, _)| *feature == name)
        };
        let local = local.map(|(_, levels)| levels);
        let local = local.or_else(|| (name == KRAFT_VERSION).then_some(KRAFT_VERSIONS));
        let off = SupportedLevels { min: 0, max: 0 };
        let lacks = |who: String, levels: SupportedLevels| {
            (!levels.contains(to))
                .then(|| format!("{who} supports levels {} to {}", levels.min, levels.max))
        };
        let Some(local) = local else {
            return Some("this controller does not have the feature".into());
        };
        if let Some(reason) = lacks("this controller".into(), local) {
            return Some(reason);
        }
        for broker in self.image.brokers() {
            let levels = broker.features.get(name).copied().unwrap_or(off);
            if let Some(reason) = lacks(format!("broker {}", broker.id), levels) {
                return Some(reason);
            }
        }
        if !self.image.metadata_version().has_controller_registrations() {
            return None;
        }
        let this = self.config.broker.node_id();
        let mut known = BTreeSet::from([this]);
        for controller in self.image.controllers() {
            known.insert(controller.controller_id);
            let supported = controller
                .features
                .iter()
                .find(|feature| feature.name == *name);
            let levels = supported.map_or(off, |feature: &BrokerFeature| SupportedLevels {
                min: feature.min_supported_version,
                max: feature.max_supported_version,
            });
            // Of this one more is known than it has registered.
            if controller.controller_id != this
                && let Some(reason) =
                    lacks(format!("controller {}", controller.controller_id), levels)
            {
                return Some(reason);
            }
        }
        let silent = |id: &&NodeId| !known.contains(*id);
        let silent = self.config.controllers.iter().find(silent);
        silent.map(|id| format!("controller {id} has not registered, and may not support it"))
    }

    /// KIP-966: with eligible leader replicas every node must see the same min.insync.replicas, so that it is set for the
    /// cluster, and not for single brokers.
    pub(super) fn elr_safety_records(&self) -> Vec<MetadataRecord> {
        let record = |resource_name: Str, value: Option<Str>| {
            ConfigRecord {
                resource_type: ResourceKind::Broker.id(),
                resource_name,
                name: Str::from_static(MIN_ISR),
                value,
            }
            .into()
        };
        let is_set = |name: &str| {
            let configs = self.image.configs(ResourceKind::Broker, name);
            configs.is_some_and(|configs| configs.contains_key(MIN_ISR))
        };
        let mut records = Vec::new();
        if !is_set("") {
            let value = self.config.broker.min_insync_replicas().to_string();
            records.push(record(Str::default(), Some(value.into())));
        }
        let configured = self.image.configured();
        let brokers = configured.filter(|(resource, configs)| {
            resource.kind == ResourceKind::Broker
                && !resource.name.is_empty()
                && configs.contains_key(MIN_ISR)
        });
        records.extend(brokers.map(|(resource, _)| record(resource.name, None)));
        records
    }
}

/// metadata.version goes down only as long as no record would lose anything by it.
fn why_not_downgraded(from: i16, to: i16) -> Option<String> {
    let lost = MetadataVersion::all()
        .filter(|version| to < version.level() && version.level() <= from)
        .find(|version| version.changes_records());
    lost.map(|version| {
        format!(
            "records have changed with {} ({version}), and what they say would be lost",
            version.level()
        )
    })
}
