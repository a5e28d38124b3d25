//! Configs of topics, brokers, groups and other resources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tidelog_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource as ReplacedResource, AlterConfigsResourceResponse,
    AlterableConfig as ReplacedConfig,
};
use tidelog_protocol::messages::create_topics::CreatableTopicConfigs;
use tidelog_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use tidelog_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use tidelog_protocol::messages::metadata::MetadataRequest;
use tidelog_types::{ErrorCode, GroupId, NodeId, Str, TopicName};

use crate::{Client, ClientError, Connection};

/// From this version on DescribeConfigs can tell what a config does (KIP-569).
const DOCUMENTATION_FROM_VERSION: i16 = 3;

/// The type that stands for one that a broker does not know.
const UNKNOWN_TYPE: i8 = 0;

/// For each resource what came of a call.
pub type PerResource<T> = BTreeMap<ConfigResource, Result<T, ClientError>>;

/// What has configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic.
    Topic(TopicName),
    /// A broker.
    Broker(NodeId),
    /// All brokers: what holds where a broker has nothing of its own.
    AllBrokers,
    /// The levels of the loggers of a broker (KIP-412).
    BrokerLogger(NodeId),
    /// A subscription of clients' metrics (KIP-714).
    ClientMetrics(Str),
    /// A group (KIP-848).
    Group(GroupId),
}

impl ConfigResource {
    fn to_wire(&self) -> (i8, Str) {
        match self {
            Self::Topic(name) => (2, name.as_inner().clone()),
            Self::Broker(id) => (4, Str::from(id.to_string())),
            Self::AllBrokers => (4, Str::EMPTY),
            Self::BrokerLogger(id) => (8, Str::from(id.to_string())),
            Self::ClientMetrics(name) => (16, name.clone()),
            Self::Group(group) => (32, group.as_inner().clone()),
        }
    }

    /// The broker that has to be asked, if not any of them will do.
    const fn broker(&self) -> Option<NodeId> {
        match self {
            Self::Broker(id) | Self::BrokerLogger(id) => Some(*id),
            _ => None,
        }
    }

    /// The source of what is set for this resource itself.
    pub const fn own_source(&self) -> ConfigSource {
        match self {
            Self::Topic(_) => ConfigSource::Topic,
            Self::Broker(_) => ConfigSource::Broker,
            Self::AllBrokers => ConfigSource::AllBrokers,
            Self::BrokerLogger(_) => ConfigSource::BrokerLogger,
            Self::ClientMetrics(_) => ConfigSource::ClientMetrics,
            Self::Group(_) => ConfigSource::Group,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::AllBrokers => f.write_str("all brokers"),
            Self::BrokerLogger(id) => write!(f, "the loggers of broker {id}"),
            Self::ClientMetrics(name) => write!(f, "client metrics {name}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// Which of the resources an answer is about. A broker that does not know a type answers as if it were none.
fn answered(resources: &[ConfigResource], kind: i8, name: &Str) -> Option<ConfigResource> {
    let is_it = |resource: &&ConfigResource| {
        let (own_kind, own_name) = resource.to_wire();
        own_name == *name && (own_kind == kind || kind == UNKNOWN_TYPE)
    };
    resources.iter().find(is_it).cloned()
}

/// Where the value of a config comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the broker while it runs.
    Broker,
    /// Set for all brokers while they run.
    AllBrokers,
    /// In the broker's configuration file.
    File,
    /// Nobody has set it.
    Default,
    /// Set for a logger of the broker.
    BrokerLogger,
    /// Set for a subscription of clients' metrics.
    ClientMetrics,
    /// Set for the group.
    Group,
    /// Something that this version does not know, by its number.
    Other(i8),
}

impl ConfigSource {
    const fn from_wire(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::AllBrokers,
            4 => Self::File,
            5 => Self::Default,
            6 => Self::BrokerLogger,
            7 => Self::ClientMetrics,
            8 => Self::Group,
            other => Self::Other(other),
        }
    }

    /// Kafka's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "DYNAMIC_TOPIC_CONFIG",
            Self::Broker => "DYNAMIC_BROKER_CONFIG",
            Self::AllBrokers => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::File => "STATIC_BROKER_CONFIG",
            Self::Default => "DEFAULT_CONFIG",
            Self::BrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            Self::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            Self::Group => "DYNAMIC_GROUP_CONFIG",
            Self::Other(_) => "UNKNOWN",
        }
    }
}

/// A config of a resource, and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// The name.
    pub name: Str,
    /// The value in force; `None` if it is secret, or if there is none.
    pub value: Option<Str>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether the value is secret.
    pub is_sensitive: bool,
    /// Whether it cannot be changed over the wire.
    pub is_read_only: bool,
    /// All values that there are, the one in force first; empty if the broker was not asked.
    pub synonyms: Vec<ConfigSynonym>,
    /// The type in Kafka's words, such as `LONG`, if the broker says (KIP-569).
    pub config_type: Option<&'static str>,
    /// What the config does, if the broker was asked and says (KIP-569).
    pub documentation: Option<Str>,
}

/// One of the values that a config has in several places.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigSynonym {
    /// The name under which it is set, which may be that of the broker's default for a topic.
    pub name: Str,
    /// The value; `None` if it is secret.
    pub value: Option<Str>,
    /// Where it is set.
    pub source: ConfigSource,
}

impl ConfigEntry {
    /// What the value is if nobody sets it for the resource itself: the next of the synonyms.
    pub fn inherited(&self, resource: &ConfigResource) -> Option<&ConfigSynonym> {
        let mut synonyms = self.synonyms.iter();
        synonyms.find(|synonym| synonym.source != resource.own_source())
    }
}

impl From<CreatableTopicConfigs> for ConfigEntry {
    fn from(config: CreatableTopicConfigs) -> Self {
        Self {
            name: config.name,
            value: config.value,
            source: ConfigSource::from_wire(config.config_source),
            is_sensitive: config.is_sensitive,
            is_read_only: config.read_only,
            synonyms: Vec::new(),
            config_type: None,
            documentation: None,
        }
    }
}

impl From<DescribeConfigsResourceResult> for ConfigEntry {
    fn from(config: DescribeConfigsResourceResult) -> Self {
        let synonyms = config.synonyms.into_iter().map(|synonym| ConfigSynonym {
            name: synonym.name,
            value: synonym.value,
            source: ConfigSource::from_wire(synonym.source),
        });
        Self {
            name: config.name,
            value: config.value,
            source: ConfigSource::from_wire(config.config_source),
            is_sensitive: config.is_sensitive,
            is_read_only: config.read_only,
            synonyms: synonyms.collect(),
            config_type: type_name(config.config_type),
            documentation: config.documentation.filter(|text| !text.is_empty()),
        }
    }
}

const fn type_name(config_type: i8) -> Option<&'static str> {
    Some(match config_type {
        1 => "BOOLEAN",
        2 => "STRING",
        3 => "INT",
        4 => "SHORT",
        5 => "LONG",
        6 => "DOUBLE",
        7 => "LIST",
        8 => "CLASS",
        9 => "PASSWORD",
        _ => return None,
    })
}

/// A change of one config (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a value.
    Set(Str),
    /// Takes the value back that is set for the resource.
    Unset,
    /// Adds elements, with commas between them, to a list.
    Append(Str),
    /// Takes elements, with commas between them, out of a list.
    Subtract(Str),
}

impl ConfigChange {
    fn to_wire(&self) -> (i8, Option<Str>) {
        match self {
            Self::Set(value) => (0, Some(value.clone())),
            Self::Unset => (1, None),
            Self::Append(value) => (2, Some(value.clone())),
            Self::Subtract(value) => (3, Some(value.clone())),
        }
    }

    /// What is set afterwards, where `value` was in force before.
    fn apply(&self, value: Option<&Str>) -> Option<Str> {
        let elements = |text: &Str| -> Vec<String> {
            let elements = text.split(',').map(str::trim);
            elements
                .filter(|e| !e.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let mut list = value.map(elements).unwrap_or_default();
        match self {
            Self::Set(value) => return Some(value.clone()),
            Self::Unset => return None,
            Self::Append(more) => {
                let more = elements(more).into_iter();
                let more: Vec<_> = more.filter(|element| !list.contains(element)).collect();
                list.extend(more);
            }
            Self::Subtract(fewer) => {
                let fewer = elements(fewer);
                list.retain(|element| !fewer.contains(element));
            }
        }
        Some(Str::from(list.join(",")))
    }
}

/// What is to be changed: for each resource its configs by name.
pub type ConfigChanges = BTreeMap<ConfigResource, BTreeMap<Str, ConfigChange>>;

impl Client {
    /// The configs of resources: those with these names, or all; with what they do if `documentation` is wanted.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
        names: Option<&[Str]>,
        documentation: bool,
    ) -> Result<PerResource<Vec<ConfigEntry>>, ClientError> {
        let resources = resources.iter().cloned().collect();
        self.settle(
            resources,
            |resources: BTreeSet<ConfigResource>| async move {
                let mut described = Vec::new();
                for (broker, resources) in by_broker(resources) {
                    let connection = self.configs_of(broker).await?;
                    described
                        .extend(describe(&connection, &resources, names, documentation).await?);
                }
                Ok(described)
            },
        )
        .await
    }

    /// Changes configs, or with `validate_only` says whether that would succeed. What is not named stays as it is, also with
    /// brokers that cannot change single configs (before Kafka 2.3): what is set there is read first, and written whole.
    pub async fn alter_configs(
        &self,
        changes: &ConfigChanges,
        validate_only: bool,
    ) -> Result<PerResource<()>, ClientError> {
        let resources = changes.keys().cloned().collect();
        self.settle(
            resources,
            |resources: BTreeSet<ConfigResource>| async move {
                let mut altered = Vec::new();
                for (broker, resources) in by_broker(resources) {
                    let connection = self.configs_of(broker).await?;
                    let version = connection.version::<IncrementalAlterConfigsRequest>(i16::MAX);
                    altered.extend(match version {
                        Some(_) => alter(&connection, &resources, changes, validate_only).await?,
                        None => replace(&connection, &resources, changes, validate_only).await?,
                    });
                }
                Ok(altered)
            },
        )
        .await
    }

    /// Whom to ask for the configs of a broker, or for any others.
    async fn configs_of(&self, broker: Option<NodeId>) -> Result<Arc<Connection>, ClientError> {
        let any = self.any().await?;
        // Behind a controller listener the controller answers for all brokers (KIP-919).
        if any.version::<MetadataRequest>(i16::MAX).is_none() {
            return self.controller().await;
        }
        let Some(id) = broker else { return Ok(any) };
        self.broker(id).await
    }

    /// A connection to the broker with this id.
    pub(crate) async fn broker(&self, id: NodeId) -> Result<Arc<Connection>, ClientError> {
        let brokers = self.brokers().await?;
        match brokers.iter().find(|broker| broker.id == id) {
            Some(broker) => self.at(&broker.address()).await,
            None => Err(ClientError::Refused {
                subject: format!("broker {id}"),
                code: ErrorCode::BROKER_NOT_AVAILABLE,
                message: Some(Str::from_static("the cluster has no such broker just now")),
            }),
        }
    }
}

fn by_broker(resources: BTreeSet<ConfigResource>) -> BTreeMap<Option<NodeId>, Vec<ConfigResource>> {
    let mut brokers = BTreeMap::<_, Vec<_>>::new();
    for resource in resources {
        let resources = brokers.entry(resource.broker()).or_default();
        resources.push(resource);
    }
    brokers
}

type Answers<T> = Vec<(ConfigResource, Result<T, ClientError>)>;

async fn describe(
    connection: &Connection,
    resources: &[ConfigResource],
    names: Option<&[Str]>,
    documentation: bool,
) -> Result<Answers<Vec<ConfigEntry>>, ClientError> {
    let version = connection.version::<DescribeConfigsRequest>(i16::MAX);
    let can_document = version.is_some_and(|version| version >= DOCUMENTATION_FROM_VERSION);
    let wanted = resources.iter().map(|resource| {
        let (resource_type, resource_name) = resource.to_wire();
        DescribeConfigsResource {
            resource_type,
            resource_name,
            configuration_keys: names.map(<[_]>::to_vec),
        }
    });
    let request = DescribeConfigsRequest {
        resources: wanted.collect(),
        include_synonyms: true,
        include_documentation: documentation && can_document,
    };
    let answer = connection.send(&request).await?;
    let results = answer.results.into_iter().filter_map(|result| {
        let resource = answered(resources, result.resource_type, &result.resource_name)?;
        let message = result.error_message.as_ref();
        let checked = ClientError::check(result.error_code, message, || resource.to_string());
        let entries = result.configs.into_iter().map(ConfigEntry::from);
        Some((resource, checked.map(|()| entries.collect())))
    });
    Ok(results.collect())
}

async fn alter(
    connection: &Connection,
    resources: &[ConfigResource],
    changes: &ConfigChanges,
    validate_only: bool,
) -> Result<Answers<()>, ClientError> {
    let wanted = resources.iter().map(|resource| {
        let (resource_type, resource_name) = resource.to_wire();
        let configs = changes[resource].iter().map(|(name, change)| {
            let (config_operation, value) = change.to_wire();
            AlterableConfig {
                name: name.clone(),
                config_operation,
                value,
            }
        });
        AlterConfigsResource {
            resource_type,
            resource_name,
            configs: configs.collect(),
        }
    });
    let request = IncrementalAlterConfigsRequest {
        resources: wanted.collect(),
        validate_only,
    };
    let answer = connection.send(&request).await?;
    let results = answer.responses.into_iter();
    Ok(results
        .filter_map(|result| altered(resources, result))
        .collect())
}

/// Changes single configs with the call that replaces all of them.
async fn replace(
    connection: &Connection,
    resources: &[ConfigResource],
    changes: &ConfigChanges,
    validate_only: bool,
) -> Result<Answers<()>, ClientError> {
    let mut answers = Vec::new();
    let mut request = AlterConfigsRequest {
        resources: Vec::new(),
        validate_only,
    };
    for (resource, entries) in describe(connection, resources, None, false).await? {
        match entries.and_then(|entries| replaced(&resource, &entries, &changes[&resource])) {
            Ok(configs) => {
                let (resource_type, resource_name) = resource.to_wire();
                request.resources.push(ReplacedResource {
                    resource_type,
                    resource_name,
                    configs,
                });
            }
            Err(error) => answers.push((resource, Err(error))),
        }
    }
    if !request.resources.is_empty() {
        let answer = connection.send(&request).await?;
        let results = answer.responses.into_iter();
        answers.extend(results.filter_map(|result| altered(resources, result)));
    }
    Ok(answers)
}

/// All that is set for a resource, after a change.
fn replaced(
    resource: &ConfigResource,
    entries: &[ConfigEntry],
    changes: &BTreeMap<Str, ConfigChange>,
) -> Result<Vec<ReplacedConfig>, ClientError> {
    let own = entries.iter();
    let own = own.filter(|entry| entry.source == resource.own_source());
    let mut kept: BTreeMap<Str, Option<Str>> = BTreeMap::new();
    for entry in own.filter(|entry| !changes.contains_key(&entry.name)) {
        // To write it back is impossible, and to leave it out would delete it.
        if entry.is_sensitive {
            return Err(ClientError::Refused {
                subject: resource.to_string(),
                code: ErrorCode::UNSUPPORTED_VERSION,
                message: Some(Str::from(format!(
                    "the broker can only replace all configs at once, and the value of {} is secret",
                    entry.name
                ))),
            });
        }
        kept.insert(entry.name.clone(), entry.value.clone());
    }
    for (name, change) in changes {
        let entry = entries.iter().find(|entry| entry.name == *name);
        let before = entry.and_then(|entry| entry.value.as_ref());
        if let Some(value) = change.apply(before) {
            kept.insert(name.clone(), Some(value));
        }
    }
    let configs = kept.into_iter();
    Ok(configs
        .map(|(name, value)| ReplacedConfig { name, value })
        .collect())
}

fn altered(
    resources: &[ConfigResource],
    result: AlterConfigsResourceResponse,
) -> Option<(ConfigResource, Result<(), ClientError>)> {
    let resource = answered(resources, result.resource_type, &result.resource_name)?;
    let message = result.error_message.as_ref();
    let checked = ClientError::check(result.error_code, message, || resource.to_string());
    Some((resource, checked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &'static str, value: &'static str, source: ConfigSource) -> ConfigEntry {
        ConfigEntry {
            name: Str::from_static(name),
            value: Some(Str::from_static(value)),
            source,
            is_sensitive: false,
            is_read_only: false,
            synonyms: Vec::new(),
            config_type: None,
            documentation: None,
        }
    }

    #[test]
    fn what_is_set_survives_a_call_that_replaces_everything() {
        let topic = ConfigResource::Topic("orders".into());
        let entries = [
            entry("retention.ms", "1000", ConfigSource::Topic),
            entry("segment.bytes", "2000", ConfigSource::Topic),
            entry("cleanup.policy", "delete", ConfigSource::Default),
            entry("max.message.bytes", "3000", ConfigSource::Default),
        ];
        let changes = [
            ("segment.bytes", ConfigChange::Unset),
            (
                "cleanup.policy",
                ConfigChange::Append("compact, delete".into()),
            ),
            ("flush.ms", ConfigChange::Set("7".into())),
        ];
        let changes = changes.map(|(name, change)| (Str::from_static(name), change));
        let all = replaced(&topic, &entries, &changes.into()).unwrap();
        let all: Vec<_> = all
            .iter()
            .map(|config| (config.name.as_str(), config.value.as_deref().unwrap()))
            .collect();
        let expected = [
            ("cleanup.policy", "delete,compact"),
            ("flush.ms", "7"),
            ("retention.ms", "1000"),
        ];
        assert_eq!(all, expected);
        let fewer = ConfigChange::Subtract("delete".into());
        let list = Str::from_static("compact,delete");
        assert_eq!(fewer.apply(Some(&list)).as_deref(), Some("compact"));
    }

    #[test]
    fn a_secret_is_not_lost_unawares() {
        let broker = ConfigResource::Broker(NodeId::new(1));
        let mut secret = entry("ssl.key.password", "", ConfigSource::Broker);
        secret.is_sensitive = true;
        secret.value = None;
        let changes = [(
            Str::from_static("log.cleaner.threads"),
            ConfigChange::Set("2".into()),
        )];
        let error = replaced(&broker, &[secret], &changes.into()).unwrap_err();
        assert!(
            error.to_string().contains("ssl.key.password is secret"),
            "{error}"
        );
    }
}
