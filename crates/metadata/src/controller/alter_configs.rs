//! IncrementalAlterConfigs and AlterConfigs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_protocol::messages::{alter_configs, incremental_alter_configs};
use tidelog_protocol::records::metadata::{ClearElrRecord, ConfigRecord, MetadataRecord};
use tidelog_types::{ErrorCode, NodeId, Str, TopicName};

use super::{Controller, ControllerResponse, Decision};
use crate::ApiError;
use crate::configs::{
    AlterOp, Alteration, ConfigChange, ConfigMap, ConfigResource, MIN_ISR, ResourceKind, Rules,
    alter_incrementally, alter_wholly,
};

impl Controller {
    pub(super) fn incremental_alter_configs(
        &self,
        request: &incremental_alter_configs::IncrementalAlterConfigsRequest,
    ) -> Decision {
        use incremental_alter_configs as api;
        let named: Vec<(i8, &Str)> = request
            .resources
            .iter()
            .map(|r| (r.resource_type, &r.resource_name))
            .collect();
        let mut records = Vec::new();
        let mut responses = Vec::new();
        for resource in &request.resources {
            let outcome = self
                .resource(resource.resource_type, &resource.resource_name, &named)
                .and_then(|target| {
                    let before = self.configs_of(&target);
                    let changes =
                        incremental_changes(&resource.configs, &target, &before, self.rules())?;
                    self.check_exists(&target)?;
                    Ok(config_records(&target, changes))
                });
            let mut response = api::AlterConfigsResourceResponse {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..Default::default()
            };
            match outcome {
                Ok(new) => records.extend(new),
                Err(error) => {
                    response.error_code = error.code;
                    response.error_message = error.message;
                }
            }
            responses.push(response);
        }
        self.clear_elr(&mut records);
        if request.validate_only {
            records.clear();
        }
        let response = api::IncrementalAlterConfigsResponse {
            throttle_time_ms: 0,
            responses,
        };
        Decision::atomic(
            records,
            ControllerResponse::IncrementalAlterConfigs(response),
        )
    }

    pub(super) fn alter_configs(&self, request: &alter_configs::AlterConfigsRequest) -> Decision {
        use alter_configs as api;
        let named: Vec<(i8, &Str)> = request
            .resources
            .iter()
            .map(|r| (r.resource_type, &r.resource_name))
            .collect();
        let mut records = Vec::new();
        let mut responses = Vec::new();
        for resource in &request.resources {
            let outcome = self
                .resource(resource.resource_type, &resource.resource_name, &named)
                .and_then(|target| {
                    let before = self.configs_of(&target);
                    let changes = whole_changes(&resource.configs, &target, &before, self.rules())?;
                    self.check_exists(&target)?;
                    Ok(config_records(&target, changes))
                });
            let mut response = api::AlterConfigsResourceResponse {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                ..Default::default()
            };
            match outcome {
                Ok(new) => records.extend(new),
                Err(error) => {
                    response.error_code = error.code;
                    response.error_message = error.message;
                }
            }
            responses.push(response);
        }
        self.clear_elr(&mut records);
        if request.validate_only {
            records.clear();
        }
        let response = api::AlterConfigsResponse {
            throttle_time_ms: 0,
            responses,
        };
        Decision::atomic(records, ControllerResponse::AlterConfigs(response))
    }

    /// KIP-966: who is eligible was found with another min.insync.replicas, so nobody is where it changes.
    fn clear_elr(&self, records: &mut Vec<MetadataRecord>) {
        if !self.elr_enabled() {
            return;
        }
        let cleared = |record: &MetadataRecord| match record {
            MetadataRecord::Config(config) if config.name == *MIN_ISR => {
                let of_topic = config.resource_type == ResourceKind::Topic.id();
                let topic_name = if of_topic {
                    TopicName::from(config.resource_name.clone())
                } else {
                    TopicName::default()
                };
                Some(MetadataRecord::from(ClearElrRecord { topic_name }))
            }
            _ => None,
        };
        let cleared: Vec<MetadataRecord> = records.iter().filter_map(cleared).collect();
        records.extend(cleared);
    }

    /// The resource of that type and name, unless the request names it twice.
    fn resource(
        &self,
        resource_type: i8,
        name: &Str,
        named: &[(i8, &Str)],
    ) -> Result<ConfigResource, ApiError> {
        let invalid = |message: String| Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
        if named
            .iter()
            .filter(|other| **other == (resource_type, name))
            .count()
            > 1
        {
            return invalid("the request names the resource more than once".into());
        }
        match ResourceKind::from_id(resource_type) {
            Some(kind @ (ResourceKind::Topic | ResourceKind::Broker | ResourceKind::Group)) => {
                Ok(ConfigResource {
                    kind,
                    name: name.clone(),
                })
            }
            _ => invalid(format!(
                "resources of type {resource_type} have no configs here"
            )),
        }
    }

    fn configs_of(&self, resource: &ConfigResource) -> Arc<ConfigMap> {
        self.image
            .configs(resource.kind, &resource.name)
            .cloned()
            .unwrap_or_default()
    }

    /// Topics and brokers must be there; a group may get its configs before its first member.
    fn check_exists(&self, resource: &ConfigResource) -> Result<(), ApiError> {
        match resource.kind {
            ResourceKind::Topic if self.image.topic_id(&resource.name).is_none() => {
                let message = format!("the topic {} does not exist", resource.name);
                Err(ApiError::new(
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    message,
                ))
            }
            ResourceKind::Broker if !resource.name.is_empty() => {
                let broker = resource.name.parse().ok().map(NodeId::new);
                if broker.is_some_and(|id| self.image.broker(id).is_some()) {
                    return Ok(());
                }
                let message = format!("broker {} is not registered", resource.name);
                Err(ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message))
            }
            _ => Ok(()),
        }
    }
}

/// What an IncrementalAlterConfigs request changes on a resource that has the configs `before`.
pub fn incremental_changes(
    configs: &[incremental_alter_configs::AlterableConfig],
    target: &ConfigResource,
    before: &ConfigMap,
    rules: Rules<'_>,
) -> Result<Vec<ConfigChange>, ApiError> {
    alter_incrementally(target, &alterations(configs)?, before, rules)
}

/// What an AlterConfigs request changes on a resource that has the configs `before`.
pub fn whole_changes(
    configs: &[alter_configs::AlterableConfig],
    target: &ConfigResource,
    before: &ConfigMap,
    rules: Rules<'_>,
) -> Result<Vec<ConfigChange>, ApiError> {
    let values = configs.iter();
    let values: Vec<(Str, Option<Str>)> = values
        .map(|config| (config.name.clone(), config.value.clone()))
        .collect();
    alter_wholly(target, &values, before, rules)
}

fn alterations(
    configs: &[incremental_alter_configs::AlterableConfig],
) -> Result<Vec<Alteration>, ApiError> {
    let alteration = |config: &incremental_alter_configs::AlterableConfig| {
        let op = AlterOp::from_id(config.config_operation).ok_or_else(|| {
            let message = format!("there is no operation {}", config.config_operation);
            ApiError::new(ErrorCode::INVALID_REQUEST, message)
        })?;
        Ok(Alteration {
            name: config.name.clone(),
            op,
            value: config.value.clone(),
        })
    };
    configs.iter().map(alteration).collect()
}

fn config_records(
    resource: &ConfigResource,
    changes: Vec<ConfigChange>,
) -> impl Iterator<Item = MetadataRecord> + use<> {
    let resource_name = resource.name.detach();
    let resource_type = resource.kind.id();
    // One record per key; a request that comes here names no key twice.
    let changes: BTreeMap<Str, Option<Str>> = changes.into_iter().collect();
    changes.into_iter().map(move |(name, value)| {
        let resource_name = resource_name.clone();
        ConfigRecord {
            resource_type,
            resource_name,
            name,
            value,
        }
        .into()
    })
}
