use std::collections::BTreeMap;

use tidelog_protocol::records::metadata::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, ClientQuotaRecord, EntityData,
    MetadataRecord, RegisterBrokerRecord,
};
use tidelog_types::{NodeId, Str, Uuid};

use crate::image::{ReplayError, directory};

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name of the listener.
    pub name: Str,
    /// The host name or address that clients are told.
    pub host: Str,
    /// The port.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// Which levels of a feature a node supports (KIP-584).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedLevels {
    /// The lowest level.
    pub min: i16,
    /// The highest level.
    pub max: i16,
}

impl SupportedLevels {
    /// Whether the node supports the level.
    pub const fn contains(self, level: i16) -> bool {
        self.min <= level && level <= self.max
    }
}

/// A broker's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    /// The broker.
    pub id: NodeId,
    /// The epoch of the registration: an offset of the metadata log, higher with each one.
    pub epoch: i64,
    /// The id of this start of the process.
    pub incarnation_id: Uuid,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// The rack (`broker.rack`).
    pub rack: Option<Str>,
    /// Whether it is fenced: it leads nothing and is in no ISR that has other members.
    pub fenced: bool,
    /// Whether it is shutting down in order.
    pub in_controlled_shutdown: bool,
    /// The features that it supports, by name.
    pub features: BTreeMap<Str, SupportedLevels>,
    /// Its log directories that are online, in ascending order.
    pub log_dirs: Vec<Uuid>,
    /// Those of them that take no new partitions (KIP-1066), in ascending order; `None` as long as the broker has not said.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl BrokerImage {
    /// Whether it can lead partitions and join an ISR.
    pub const fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Where it listens under that listener's name.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.name == *listener)
    }

    /// Whether a replica in that directory can be served.
    pub fn has_online_directory(&self, id: Uuid) -> bool {
        match id {
            directory::MIGRATING | directory::UNASSIGNED => true,
            directory::LOST => false,
            id => self.log_dirs.contains(&id),
        }
    }

    /// The directory that a new replica on this broker is assigned to.
    pub fn default_directory(&self) -> Uuid {
        match self.log_dirs[..] {
            [] => directory::MIGRATING,
            [only] => only,
            _ => directory::UNASSIGNED,
        }
    }

    /// Whether no directory takes new partitions.
    pub fn is_cordoned(&self) -> bool {
        !self.log_dirs.is_empty()
            && self.log_dirs.iter().all(|dir| {
                self.cordoned_log_dirs
                    .iter()
                    .flatten()
                    .any(|cordoned| cordoned == dir)
            })
    }

    pub(crate) fn from_record(record: &RegisterBrokerRecord) -> Self {
        let endpoint = |e: &BrokerEndpoint| Endpoint {
            name: e.name.detach(),
            host: e.host.detach(),
            port: e.port,
            security_protocol: e.security_protocol,
        };
        let levels = |f: &BrokerFeature| {
            let levels = SupportedLevels {
                min: f.min_supported_version,
                max: f.max_supported_version,
            };
            (f.name.detach(), levels)
        };
        Self {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            endpoints: record.end_points.iter().map(endpoint).collect(),
            rack: record.rack.as_ref().map(Str::detach),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            features: record.features.iter().map(levels).collect(),
            log_dirs: sorted(&record.log_dirs),
            cordoned_log_dirs: record.cordoned_log_dirs.as_deref().map(sorted),
        }
    }

    pub(crate) fn changed(
        &self,
        record: &BrokerRegistrationChangeRecord,
    ) -> Result<Self, ReplayError> {
        let mut next = self.clone();
        match record.fenced {
            -1 => next.fenced = false,
            0 => {}
            1 => next.fenced = true,
            _ => return Err(ReplayError::InvalidField { field: "fenced" }),
        }
        match record.in_controlled_shutdown {
            0 => {}
            1 => next.in_controlled_shutdown = true,
            _ => {
                return Err(ReplayError::InvalidField {
                    field: "in_controlled_shutdown",
                });
            }
        }
        if !record.log_dirs.is_empty() {
            next.log_dirs = sorted(&record.log_dirs);
        }
        if let Some(cordoned) = &record.cordoned_log_dirs {
            next.cordoned_log_dirs = Some(sorted(cordoned));
        }
        Ok(next)
    }

    /// The record that registers the broker as it is now.
    pub(crate) fn record(&self) -> RegisterBrokerRecord {
        let endpoint = |e: &Endpoint| BrokerEndpoint {
            name: e.name.clone(),
            host: e.host.clone(),
            port: e.port,
            security_protocol: e.security_protocol,
        };
        let feature = |(name, levels): (&Str, &SupportedLevels)| BrokerFeature {
            name: name.clone(),
            min_supported_version: levels.min,
            max_supported_version: levels.max,
        };
        RegisterBrokerRecord {
            broker_id: self.id,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch,
            end_points: self.endpoints.iter().map(endpoint).collect(),
            features: self.features.iter().map(feature).collect(),
            rack: self.rack.clone(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.log_dirs.clone(),
            cordoned_log_dirs: self.cordoned_log_dirs.clone(),
            ..Default::default()
        }
    }
}

fn sorted(ids: &[Uuid]) -> Vec<Uuid> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

/// Whom a client quota is for: pairs of a type (`user`, `client-id`, `ip`) and a name, `None` for the default of the
/// type, in ascending order.
pub type QuotaEntity = Vec<(Str, Option<Str>)>;

pub(crate) fn quota_entity(record: &ClientQuotaRecord) -> QuotaEntity {
    let part = |data: &EntityData| {
        (
            data.entity_type.detach(),
            data.entity_name.as_ref().map(Str::detach),
        )
    };
    let mut entity: QuotaEntity = record.entity.iter().map(part).collect();
    entity.sort_unstable();
    entity
}

pub(crate) fn quota_record(entity: &QuotaEntity, key: &Str, value: f64) -> MetadataRecord {
    let part = |(entity_type, entity_name): &(Str, Option<Str>)| EntityData {
        entity_type: entity_type.clone(),
        entity_name: entity_name.clone(),
    };
    let entity = entity.iter().map(part).collect();
    ClientQuotaRecord {
        entity,
        key: key.clone(),
        value,
        remove: false,
    }
    .into()
}
