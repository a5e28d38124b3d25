//! The rules of IncrementalAlterConfigs (KIP-339) and AlterConfigs.

use std::collections::BTreeSet;
use std::fmt;

use tidelog_types::{ErrorCode, NodeId, Str, TopicName};

use crate::configs::ConfigMap;
use crate::configs::broker::{BrokerConfig, CORDONED, broker_config};
use crate::configs::def::{ConfigDef, ConfigError, ConfigType, UpdateMode};
use crate::configs::group::{group_config, validate_group_configs};
use crate::configs::topic::{topic_config, validate_topic_configs};
use crate::error::ApiError;

pub(crate) const MIN_ISR: &str = "min.insync.replicas";

/// What kind of thing has configs. The numbers are those of the requests and of the metadata records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// A topic.
    Topic = 2,
    /// A broker, by its number; with an empty name, all brokers.
    Broker = 4,
    /// The log levels of a broker.
    BrokerLogger = 8,
    /// A subscription to client metrics.
    ClientMetrics = 16,
    /// A group.
    Group = 32,
}

impl ResourceKind {
    /// The number of the kind.
    pub const fn id(self) -> i8 {
        self as i8
    }

    /// The kind of that number.
    pub fn from_id(id: i8) -> Option<Self> {
        [
            Self::Topic,
            Self::Broker,
            Self::BrokerLogger,
            Self::ClientMetrics,
            Self::Group,
        ]
        .into_iter()
        .find(|kind| kind.id() == id)
    }
}

/// A thing that has configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// What it is.
    pub kind: ResourceKind,
    /// Its name; empty for the defaults of all brokers.
    pub name: Str,
}

impl ConfigResource {
    /// The defaults of all brokers.
    pub const CLUSTER: Self = Self {
        kind: ResourceKind::Broker,
        name: Str::EMPTY,
    };

    /// A topic.
    pub fn topic(name: &TopicName) -> Self {
        Self {
            kind: ResourceKind::Topic,
            name: name.as_inner().clone(),
        }
    }

    /// A broker.
    pub fn broker(id: NodeId) -> Self {
        Self {
            kind: ResourceKind::Broker,
            name: Str::from(id.to_string()),
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ResourceKind::Topic => "topic",
            ResourceKind::Broker => "broker",
            ResourceKind::BrokerLogger => "broker-logger",
            ResourceKind::ClientMetrics => "client-metrics",
            ResourceKind::Group => "group",
        };
        write!(f, "{kind}:{}", self.name)
    }
}

/// What is done to one key. The numbers are those of IncrementalAlterConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// Give it this value.
    Set = 0,
    /// Take its value away, so that the default counts.
    Delete = 1,
    /// Add these elements to the list.
    Append = 2,
    /// Take these elements out of the list.
    Subtract = 3,
}

impl AlterOp {
    /// The operation of that number.
    pub fn from_id(id: i8) -> Option<Self> {
        [Self::Set, Self::Delete, Self::Append, Self::Subtract]
            .into_iter()
            .find(|op| *op as i8 == id)
    }
}

/// What a request wants to do to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    /// The key.
    pub name: Str,
    /// What to do.
    pub op: AlterOp,
    /// With which value; none for [`AlterOp::Delete`].
    pub value: Option<Str>,
}

/// A key and its new value; `None` when it has none any more. What becomes a ConfigRecord.
pub type ConfigChange = (Str, Option<Str>);

/// What the answer depends on, beside the request and the configs of its resource.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The configuration of the broker that checks.
    pub broker: &'a BrokerConfig,
    /// Whether it is the broker that is to have the configs. A controller cannot say for it.
    pub is_own: bool,
    /// Whether eligible leader replicas (KIP-966) are switched on: then `min.insync.replicas` is a matter of the cluster.
    pub elr_enabled: bool,
}

/// Answers for a broker resource that only the broker itself can speak for: `None` when `name` means this broker or all.
pub fn check_broker_resource(name: &str, node_id: NodeId) -> Option<ApiError> {
    let refused = |message: String| Some(ApiError::new(ErrorCode::INVALID_REQUEST, message));
    match name.parse::<i32>() {
        _ if name.is_empty() => None,
        Ok(id) if id == node_id.value() => None,
        Ok(id) => refused(format!(
            "Unexpected broker id, expected {node_id}, but received {id}"
        )),
        Err(_) => refused(format!("Node id must be an integer, but it is: {name}")),
    }
}

/// What an incremental request changes on a resource that has the configs `before`.
pub fn alter_incrementally(
    resource: &ConfigResource,
    alterations: &[Alteration],
    before: &ConfigMap,
    rules: Rules<'_>,
) -> Result<Vec<ConfigChange>, ApiError> {
    check_form(alterations)?;
    let mut changes = Vec::with_capacity(alterations.len());
    for alteration in alterations {
        let current = before.get(&alteration.name);
        let value = alter_one(resource, alteration, current)?;
        // Brokers reload what a file holds (a key store, say) when its config is set again, so that is recorded too.
        if value.as_ref() != current || resource.kind == ResourceKind::Broker {
            changes.push((alteration.name.detach(), value.map(|value| value.detach())));
        }
    }
    check_changes(resource, &changes, before, rules)?;
    Ok(changes)
}

/// What a request that lists all configs a resource shall have changes.
pub fn alter_wholly(
    resource: &ConfigResource,
    values: &[(Str, Option<Str>)],
    before: &ConfigMap,
    rules: Rules<'_>,
) -> Result<Vec<ConfigChange>, ApiError> {
    let set = |(name, value): &(Str, Option<Str>)| Alteration {
        name: name.clone(),
        op: AlterOp::Set,
        value: value.clone(),
    };
    let alterations: Vec<Alteration> = values.iter().map(set).collect();
    check_form(&alterations)?;
    let mut changes: Vec<ConfigChange> = values
        .iter()
        .filter(|(name, value)| {
            before.get(name) != value.as_ref() || resource.kind == ResourceKind::Broker
        })
        .map(|(name, value)| (name.detach(), value.as_ref().map(Str::detach)))
        .collect();
    let listed: BTreeSet<&Str> = values.iter().map(|(name, _)| name).collect();
    let dropped = before.keys().filter(|name| !listed.contains(name));
    changes.extend(dropped.map(|name| (name.clone(), None)));
    check_changes(resource, &changes, before, rules)?;
    Ok(changes)
}

/// Applies changes to a map of configs.
pub(crate) fn apply_changes(configs: &mut ConfigMap, changes: &[ConfigChange]) {
    for (name, value) in changes {
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => configs.remove(name),
        };
    }
}

/// Each key once, and a value wherever the operation needs one.
fn check_form(alterations: &[Alteration]) -> Result<(), ApiError> {
    let mut names = BTreeSet::new();
    if !alterations
        .iter()
        .all(|alteration| names.insert(&alteration.name))
    {
        let message = "Error due to duplicate config keys";
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
    }
    let without_value: Vec<&str> = alterations
        .iter()
        .filter(|alteration| alteration.op != AlterOp::Delete && alteration.value.is_none())
        .map(|alteration| alteration.name.as_str())
        .collect();
    if !without_value.is_empty() {
        let message = format!(
            "Null value not supported for : {}",
            without_value.join(", ")
        );
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
    }
    Ok(())
}

fn row(resource: &ConfigResource, name: &str) -> Option<&'static ConfigDef> {
    match resource.kind {
        ResourceKind::Topic => topic_config(name),
        ResourceKind::Broker => broker_config(name),
        ResourceKind::Group => group_config(name),
        ResourceKind::BrokerLogger | ResourceKind::ClientMetrics => None,
    }
}

/// The new value of one key.
fn alter_one(
    resource: &ConfigResource,
    alteration: &Alteration,
    current: Option<&Str>,
) -> Result<Option<Str>, ApiError> {
    let Alteration { name, op, value } = alteration;
    let value = value.as_ref().map_or("", Str::as_str);
    let operation = match op {
        AlterOp::Set => return Ok(alteration.value.clone()),
        AlterOp::Delete => return Ok(None),
        AlterOp::Append => "append",
        AlterOp::Subtract => "subtract",
    };
    let def = row(resource, name);
    let Some(def) = def.filter(|def| def.kind == ConfigType::List) else {
        let message = match resource.kind {
            ResourceKind::Broker => {
                format!("Config value {operation} is not allowed for config key: {name}")
            }
            _ => format!(
                "Can't {} to key {name} because its type is not LIST.",
                operation.to_uppercase()
            ),
        };
        return Err(ApiError::new(ErrorCode::INVALID_CONFIG, message));
    };
    let base = current.map(Str::as_str).or(def.default).unwrap_or_default();
    let mut elements: Vec<&str> = base
        .split(',')
        .filter(|element| !element.is_empty())
        .collect();
    for element in value.split(',') {
        match op {
            AlterOp::Append if !elements.contains(&element) => elements.push(element),
            AlterOp::Subtract => elements.retain(|e| *e != element),
            _ => {}
        }
    }
    Ok(Some(Str::from(elements.join(","))))
}

/// Whether the resource may have the configs that the changes lead to.
fn check_changes(
    resource: &ConfigResource,
    changes: &[ConfigChange],
    before: &ConfigMap,
    rules: Rules<'_>,
) -> Result<(), ApiError> {
    let mut after = before.clone();
    apply_changes(&mut after, changes);
    let no_defaults = |kind: &str| {
        let message = format!("Default {kind} resources are not allowed.");
        ApiError::new(ErrorCode::INVALID_REQUEST, message)
    };
    let invalid = |error: ConfigError| ApiError::new(ErrorCode::INVALID_CONFIG, error.to_string());
    match resource.kind {
        ResourceKind::Topic if resource.name.is_empty() => Err(no_defaults("topic")),
        ResourceKind::Topic => {
            TopicName::from(resource.name.clone())
                .validate()
                .map_err(|e| ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, e.to_string()))?;
            validate_topic_configs(&after, before, rules.broker).map_err(invalid)
        }
        ResourceKind::Group if resource.name.is_empty() => Err(no_defaults("group")),
        ResourceKind::Group => validate_group_configs(&after, rules.broker).map_err(invalid),
        ResourceKind::Broker => check_broker_changes(resource, changes, &after, rules),
        ResourceKind::BrokerLogger | ResourceKind::ClientMetrics => {
            let message = format!("Unknown resource type {}", resource.kind.id());
            Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

fn check_broker_changes(
    resource: &ConfigResource,
    changes: &[ConfigChange],
    after: &ConfigMap,
    rules: Rules<'_>,
) -> Result<(), ApiError> {
    let refused = |message: String| Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
    let of_cluster = resource.name.is_empty();
    if !of_cluster && resource.name.parse::<i32>().is_ok_and(|id| id < 0) {
        return refused("Invalid negative broker ID.".into());
    }
    if !of_cluster && resource.name.parse::<i32>().is_err() {
        return refused("Unable to parse broker name as a base 10 number.".into());
    }
    if let Some((_, value)) = changes.iter().find(|(name, _)| *name == MIN_ISR)
        && rules.elr_enabled
    {
        let message = match value {
            _ if !of_cluster => {
                "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
            }
            None => "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
            Some(_) => "",
        };
        if !message.is_empty() {
            return Err(ApiError::new(ErrorCode::INVALID_CONFIG, message));
        }
    }
    let in_mode = |mode: UpdateMode| -> Vec<&str> {
        let names = changes
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| &**name);
        names
            .filter(|name| broker_config(name).is_some_and(|def| def.update_mode == mode))
            .collect()
    };
    let fixed = in_mode(UpdateMode::ReadOnly);
    if !fixed.is_empty() {
        return refused(format!(
            "Cannot update these configs dynamically: [{}]",
            fixed.join(", ")
        ));
    }
    let mut per_broker = in_mode(UpdateMode::PerBroker);
    if of_cluster && !per_broker.is_empty() {
        return refused(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
            per_broker.join(", ")
        ));
    }
    // Listeners, key stores and the like are read once, at the start.
    per_broker.retain(|name| *name != CORDONED);
    if !per_broker.is_empty() {
        let names = per_broker.join(", ");
        return refused(format!(
            "This version takes these configs only from its properties file: [{names}]"
        ));
    }
    for (name, value) in after {
        if let Some(Err(error)) = broker_config(name).map(|def| def.parse(value)) {
            return refused(error.to_string());
        }
    }
    let broker = rules.broker;
    let candidate = match of_cluster {
        true => broker.with_dynamic(after, &broker.node_configs),
        false => broker.with_dynamic(&broker.cluster_configs, after),
    };
    let checked = match rules.is_own {
        true => candidate
            .validate()
            .and_then(|()| broker.validate_change(&candidate)),
        false => candidate.validate(),
    };
    checked.or_else(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `resource op key value`, each answered as Kafka 4.3.1 answered to the same request.
    fn alter(before: &[(&str, &str)], request: &str) -> Result<String, String> {
        let broker = BrokerConfig::default();
        let rules = Rules {
            broker: &broker,
            is_own: true,
            elr_enabled: true,
        };
        let mut words = request.split(' ');
        let (kind, name) = words.next().unwrap().split_once(':').unwrap();
        let kind = match kind {
            "topic" => ResourceKind::Topic,
            "broker" => ResourceKind::Broker,
            _ => ResourceKind::Group,
        };
        let op = match words.next().unwrap() {
            "set" => AlterOp::Set,
            "delete" => AlterOp::Delete,
            "append" => AlterOp::Append,
            _ => AlterOp::Subtract,
        };
        let alteration = Alteration {
            name: words.next().unwrap().into(),
            op,
            value: words.next().map(Into::into),
        };
        let before = before
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        let resource = ConfigResource {
            kind,
            name: name.into(),
        };
        let changes = alter_incrementally(&resource, &[alteration], &before, rules)
            .map_err(|error| error.to_string())?;
        let text = |(name, value): &ConfigChange| {
            format!("{name}={}", value.as_ref().map_or("-", Str::as_str))
        };
        Ok(changes.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_grow_and_shrink() {
        let policy = |before: &str, request: &str| {
            alter(&[("cleanup.policy", before)], &format!("topic:t {request}")).unwrap()
        };
        let append = "topic:t append cleanup.policy compact";
        assert_eq!(alter(&[], append).unwrap(), "cleanup.policy=delete,compact");
        assert_eq!(
            policy("delete,compact", "subtract cleanup.policy delete"),
            "cleanup.policy=compact"
        );
        assert_eq!(
            policy("compact", "subtract cleanup.policy compact"),
            "cleanup.policy="
        );
        assert_eq!(policy("compact", "append cleanup.policy compact"), "");
        assert_eq!(
            policy("compact", "delete cleanup.policy"),
            "cleanup.policy=-"
        );
    }

    #[test]
    fn refusals_have_kafkas_codes_and_words() {
        for (request, answer) in [
            (
                "topic:t append retention.ms 6",
                "INVALID_CONFIG (40): Can't APPEND to key retention.ms because its type is not LIST.",
            ),
            (
                "topic:t append cleanup.policy bad",
                "INVALID_CONFIG (40): Invalid value bad for configuration cleanup.policy: String must be one of: compact, delete",
            ),
            (
                "topic:t set nope bad",
                "INVALID_CONFIG (40): Unknown topic config name: nope",
            ),
            (
                "topic:t set retention.ms",
                "INVALID_REQUEST (42): Null value not supported for : retention.ms",
            ),
            (
                "topic: set retention.ms 1",
                "INVALID_REQUEST (42): Default topic resources are not allowed.",
            ),
            (
                "broker:1 set log.retention.hours 1",
                "INVALID_REQUEST (42): Cannot update these configs dynamically: [log.retention.hours]",
            ),
            (
                "broker:1 set log.retention.ms x",
                "INVALID_REQUEST (42): Invalid value x for configuration log.retention.ms: Not a number of type LONG",
            ),
            (
                "broker:1 set log.segment.bytes 5",
                "INVALID_REQUEST (42): Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576",
            ),
            (
                "broker:1 set min.insync.replicas 1",
                "INVALID_CONFIG (40): Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
            ),
            (
                "broker: delete min.insync.replicas",
                "INVALID_CONFIG (40): Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
            ),
            (
                "broker:1 append log.retention.ms 5",
                "INVALID_CONFIG (40): Config value append is not allowed for config key: log.retention.ms",
            ),
            (
                "broker:1 set log.retention.ms 0",
                "INVALID_REQUEST (42): log.retention.ms must be unlimited (-1) or, equal or greater than 1",
            ),
            (
                "broker:1 set num.replica.fetchers 3",
                "INVALID_REQUEST (42): Dynamic thread count update validation failed for num.replica.fetchers=3, value should not be greater than double the current value 1",
            ),
            (
                "broker: set num.io.threads 3",
                "INVALID_REQUEST (42): Dynamic thread count update validation failed for num.io.threads=3, value should be at least half the current value 8",
            ),
            (
                "broker: set cordoned.log.dirs *",
                "INVALID_REQUEST (42): Cannot update these configs at default cluster level, broker id must be specified: [cordoned.log.dirs]",
            ),
            (
                "broker:1 set cordoned.log.dirs /nowhere",
                "INVALID_REQUEST (42): All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : /nowhere",
            ),
            (
                "broker:1 set cordoned.log.dirs *,/tmp/kafka-logs",
                "INVALID_REQUEST (42): When cordoned.log.dirs is set to *, it must not contain other values",
            ),
            (
                "group: set share.isolation.level read_committed",
                "INVALID_REQUEST (42): Default group resources are not allowed.",
            ),
        ] {
            assert_eq!(alter(&[], request).unwrap_err(), answer, "{request}");
        }
        assert_eq!(alter(&[], "topic:t delete nope").unwrap(), "");
        for allowed in [
            "cordoned.log.dirs=*",
            "cordoned.log.dirs=/tmp/kafka-logs",
            "num.replica.fetchers=2",
        ] {
            let request = format!("broker:1 set {}", allowed.replace('=', " "));
            assert_eq!(alter(&[], &request).unwrap(), allowed);
        }
        assert_eq!(
            alter(&[], "broker:1 set unknown.thing 5").unwrap(),
            "unknown.thing=5"
        );
        assert_eq!(
            alter(&[], "broker: set min.insync.replicas 2").unwrap(),
            "min.insync.replicas=2"
        );
    }

    #[test]
    fn the_whole_set_is_replaced() {
        let broker = BrokerConfig::default();
        let rules = Rules {
            broker: &broker,
            is_own: true,
            elr_enabled: true,
        };
        let before = ConfigMap::from([
            ("retention.ms".into(), "1".into()),
            ("segment.ms".into(), "2".into()),
        ]);
        let topic = ConfigResource::topic(&TopicName::from("t"));
        let values = [
            ("retention.ms".into(), Some("1".into())),
            ("flush.ms".into(), Some("3".into())),
        ];
        let changes = alter_wholly(&topic, &values, &before, rules).unwrap();
        let expected: Vec<ConfigChange> = vec![
            ("flush.ms".into(), Some("3".into())),
            ("segment.ms".into(), None),
        ];
        assert_eq!(changes, expected);
        let twice = [values[0].clone(), values[0].clone()];
        let error = alter_wholly(&topic, &twice, &before, rules).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
    }
}
