//! What DescribeConfigs and CreateTopics say about configs.

use crate::configs::ConfigMap;
use crate::configs::broker::{BrokerConfig, broker_config, broker_configs};
use crate::configs::def::{ConfigDef, ConfigType, UpdateMode};
use crate::configs::group::{effective as effective_group, group_config, group_configs};
use crate::configs::topic::{topic_config, topic_configs};
use crate::configs::value::Value;

/// Where a value comes from. The numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// An override of the topic.
    Topic = 1,
    /// Changed while running, for one broker.
    DynamicBroker = 2,
    /// Changed while running, for all brokers.
    DynamicDefaultBroker = 3,
    /// `server.properties`.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
    /// A subscription to client metrics.
    ClientMetrics = 7,
    /// An override of the group.
    Group = 8,
}

impl ConfigSource {
    /// The number in DescribeConfigs.
    pub const fn id(self) -> i8 {
        self as i8
    }
}

/// One place where a value is set, or would be taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The key at that place.
    pub name: String,
    /// The value there; `None` for secrets.
    pub value: Option<String>,
    /// The place.
    pub source: ConfigSource,
}

/// One config as DescribeConfigs tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value that counts; `None` for secrets and for what is not set.
    pub value: Option<String>,
    /// Whether it can be changed only in `server.properties`.
    pub read_only: bool,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether the value is a secret.
    pub sensitive: bool,
    /// The type.
    pub kind: ConfigType,
    /// Every place where a value is set, the one that counts first.
    pub synonyms: Vec<ConfigSynonym>,
    /// What it does; `None` for unknown keys.
    pub doc: Option<&'static str>,
}

impl ConfigEntry {
    fn new(name: &str, def: Option<&ConfigDef>, value: &Value) -> Self {
        let kind = def.map_or(ConfigType::Unknown, |def| def.kind);
        let hidden = kind.is_sensitive() || value.is_unset();
        Self {
            name: name.into(),
            value: (!hidden).then(|| value.to_string()),
            read_only: false,
            source: ConfigSource::Default,
            sensitive: kind.is_sensitive(),
            kind,
            synonyms: Vec::new(),
            doc: def.map(|def| def.doc),
        }
    }

    fn own_value(&self, source: ConfigSource) -> ConfigSynonym {
        ConfigSynonym {
            name: self.name.clone(),
            value: self.value.clone(),
            source,
        }
    }

    fn with_synonyms(mut self, synonyms: Vec<ConfigSynonym>) -> Self {
        self.source = synonyms
            .first()
            .map_or(ConfigSource::Default, |first| first.source);
        self.synonyms = synonyms;
        self
    }
}

/// The configs of a topic that has `overrides`.
pub fn describe_topic(overrides: &ConfigMap, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let known = topic_configs().iter().map(|def| {
        let own = overrides
            .get(def.name)
            .and_then(|text| def.parse(text).ok());
        let is_own = own.is_some();
        let value = own.unwrap_or_else(|| broker.topic_default(def));
        let entry = ConfigEntry::new(def.name, Some(def), &value);
        let mut synonyms = Vec::new();
        if is_own {
            synonyms.push(entry.own_value(ConfigSource::Topic));
        }
        if let Some(synonym) = def.synonym {
            synonyms.extend(broker_chain(synonym, broker));
        }
        entry.with_synonyms(synonyms)
    });
    let unknown = overrides
        .keys()
        .filter(|name| topic_config(name).is_none())
        .map(|name| {
            let entry = ConfigEntry::new(name, None, &Value::Unset);
            let own = entry.own_value(ConfigSource::Topic);
            entry.with_synonyms(vec![own])
        });
    known.chain(unknown).collect()
}

/// The configs that a new topic with `overrides` would have, as CreateTopics answers (KIP-525): no synonyms, and a source
/// that counts each unit of time.
pub fn describe_new_topic(overrides: &ConfigMap, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let entries = topic_configs().iter().map(|def| {
        let own = overrides
            .get(def.name)
            .and_then(|text| def.parse(text).ok());
        let inherited = || {
            let names = def.synonym.map(broker_synonyms).unwrap_or_default();
            let sources = names.iter().flat_map(|name| places(name, broker));
            sources
                .map(|(source, _)| source)
                .find(|source| *source != ConfigSource::Default)
        };
        let source = match own {
            Some(_) => ConfigSource::Topic,
            None => inherited().unwrap_or(ConfigSource::Default),
        };
        let value = own.unwrap_or_else(|| broker.topic_default(def));
        ConfigEntry {
            source,
            ..ConfigEntry::new(def.name, Some(def), &value)
        }
    });
    entries.collect()
}

/// The configs of this broker.
pub fn describe_broker(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let layers = [
        &broker.static_configs,
        &broker.cluster_configs,
        &broker.node_configs,
    ];
    let mut others: Vec<&str> = layers
        .into_iter()
        .flat_map(|layer| layer.keys())
        .map(|name| name.as_str())
        .filter(|name| broker.value(name).is_none())
        .collect();
    others.sort_unstable();
    others.dedup();
    let known = broker_configs().iter().map(|def| def.name);
    known
        .chain(others)
        .map(|name| broker_entry(name, broker))
        .collect()
}

/// What was changed while running for all brokers.
pub fn describe_cluster_defaults(broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let entries = broker.cluster_configs.iter().map(|(name, text)| {
        let def = broker_config(name);
        let value = def.and_then(|def| def.parse(text).ok());
        let entry = ConfigEntry::new(
            name,
            def,
            &value.unwrap_or_else(|| Value::Text(text.to_string())),
        );
        let mut synonyms = broker_chain(name, broker);
        synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
        let read_only = is_read_only(def);
        ConfigEntry {
            read_only,
            ..entry.with_synonyms(synonyms)
        }
    });
    entries.collect()
}

fn broker_entry(name: &str, broker: &BrokerConfig) -> ConfigEntry {
    let def = broker_config(name);
    let text = || places(name, broker).next().map(|(_, text)| text);
    let value = match (broker.value(name), def) {
        (Some(value), _) => value.clone(),
        // A value for one listener or mechanism only.
        (None, Some(def)) => text()
            .and_then(|text| def.parse(&text).ok())
            .unwrap_or(Value::Unset),
        (None, None) => Value::Unset,
    };
    let entry = ConfigEntry::new(name, def, &value);
    let entry = entry.with_synonyms(broker_chain(name, broker));
    ConfigEntry {
        read_only: is_read_only(def),
        ..entry
    }
}

fn is_read_only(def: Option<&ConfigDef>) -> bool {
    def.is_none_or(|def| def.update_mode == UpdateMode::ReadOnly)
}

/// The configs of a group that has `overrides`.
pub fn describe_group(overrides: &ConfigMap, broker: &BrokerConfig) -> Vec<ConfigEntry> {
    let known = group_configs().iter().map(|def| {
        let entry = ConfigEntry::new(
            def.name,
            Some(def),
            &effective_group(def, overrides, broker),
        );
        let mut synonyms = Vec::new();
        if overrides.contains_key(def.name) {
            synonyms.push(entry.own_value(ConfigSource::Group));
        }
        match def.synonym {
            Some(synonym) => synonyms.extend(broker_chain(synonym, broker)),
            None => synonyms.push(ConfigSynonym {
                name: def.name.into(),
                value: def.default.map(Into::into),
                source: ConfigSource::Default,
            }),
        }
        entry.with_synonyms(synonyms)
    });
    let unknown = overrides
        .keys()
        .filter(|name| group_config(name).is_none())
        .map(|name| {
            let entry = ConfigEntry::new(name, None, &Value::Unset);
            let own = entry.own_value(ConfigSource::Group);
            entry.with_synonyms(vec![own])
        });
    known.chain(unknown).collect()
}

/// Where broker config `name` is set, the place that counts first, its synonyms included.
///
/// A chain begins with `name` itself: what only another unit of time says is left out, as Kafka does. So `retention.ms` has
/// no synonyms as long as only `log.retention.hours` is there.
fn broker_chain(name: &str, broker: &BrokerConfig) -> Vec<ConfigSynonym> {
    let sensitive = broker_config(name).is_none_or(|def| def.kind.is_sensitive());
    let mut chain = Vec::new();
    for rank in 0..4 {
        for synonym in broker_synonyms(name) {
            let place = place(synonym, rank, broker);
            chain.extend(place.map(|(source, text)| ConfigSynonym {
                name: synonym.into(),
                value: (!sensitive).then_some(text),
                source,
            }));
        }
    }
    let before = chain
        .iter()
        .take_while(|synonym| synonym.name != name)
        .count();
    chain.drain(..before);
    if HAVE_NO_DEFAULT_IN_KAFKA.contains(&name) && chain.len() > 1 {
        chain.retain(|synonym| synonym.source != ConfigSource::Default);
    }
    chain
}

/// What Kafka insists on being told, and shows no default of.
const HAVE_NO_DEFAULT_IN_KAFKA: [&str; 3] =
    ["node.id", "process.roles", "controller.listener.names"];

/// The names under which a broker config may be set, the most exact first.
fn broker_synonyms(name: &str) -> Vec<&str> {
    const UNITS: [&[&str]; 4] = [
        &[
            "log.retention.ms",
            "log.retention.minutes",
            "log.retention.hours",
        ],
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    ];
    // The interval of the flush scheduler stands in for the other, not the other way round.
    let units = UNITS.into_iter().find(|names| names.contains(&name));
    match units.filter(|_| name != "log.flush.scheduler.interval.ms") {
        Some(names) => names.to_vec(),
        None => match name
            .strip_prefix("listener.name.")
            .and_then(|rest| rest.split_once('.'))
        {
            Some((_, base)) => vec![name, base],
            None => vec![name],
        },
    }
}

/// Where `name` itself is set, the place that counts first.
fn places(name: &str, broker: &BrokerConfig) -> impl Iterator<Item = (ConfigSource, String)> {
    (0..4).filter_map(move |rank| place(name, rank, broker))
}

fn place(name: &str, rank: usize, broker: &BrokerConfig) -> Option<(ConfigSource, String)> {
    let (source, layer) = match rank {
        0 => (ConfigSource::DynamicBroker, &broker.node_configs),
        1 => (ConfigSource::DynamicDefaultBroker, &broker.cluster_configs),
        2 => (ConfigSource::StaticBroker, &broker.static_configs),
        _ => {
            let row = broker_configs().iter().find(|def| def.name == name)?;
            return Some((ConfigSource::Default, row.default?.into()));
        }
    };
    layer.get(name).map(|text| (source, text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(entry: &ConfigEntry) -> Vec<String> {
        let text = |s: &ConfigSynonym| {
            format!(
                "{:?}:{}={}",
                s.source,
                s.name,
                s.value.as_deref().unwrap_or("-")
            )
        };
        entry.synonyms.iter().map(text).collect()
    }

    fn find<'a>(entries: &'a [ConfigEntry], name: &str) -> &'a ConfigEntry {
        entries.iter().find(|entry| entry.name == name).unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    /// As Kafka 4.3.1 answered to the same settings.
    #[test]
    fn synonyms_come_best_first() {
        let broker = BrokerConfig::default().with_dynamic(
            &map(&[("log.retention.ms", "1000000")]),
            &map(&[
                ("log.retention.ms", "2000000"),
                ("log.cleanup.policy", "delete,compact"),
            ]),
        );
        let topic = describe_topic(
            &map(&[("retention.ms", "5"), ("cleanup.policy", "")]),
            &broker,
        );
        let retention = find(&topic, "retention.ms");
        assert_eq!(retention.value.as_deref(), Some("5"));
        assert_eq!(retention.source, ConfigSource::Topic);
        assert_eq!(
            chain(retention),
            [
                "Topic:retention.ms=5",
                "DynamicBroker:log.retention.ms=2000000",
                "DynamicDefaultBroker:log.retention.ms=1000000",
                "Default:log.retention.hours=168",
            ]
        );
        assert_eq!(
            chain(find(&topic, "cleanup.policy")),
            [
                "Topic:cleanup.policy=",
                "DynamicBroker:log.cleanup.policy=delete,compact",
                "Default:log.cleanup.policy=delete",
            ]
        );
        assert_eq!(chain(find(&topic, "flush.ms")), [""; 0]);
        let own = describe_broker(&broker);
        let retention = find(&own, "log.retention.ms");
        assert_eq!(retention.source, ConfigSource::DynamicBroker);
        assert_eq!(retention.synonyms.len(), 3);
        assert!(!retention.read_only && find(&own, "log.retention.hours").read_only);
        let defaults = describe_cluster_defaults(&broker);
        assert_eq!(defaults.len(), 1);
        assert_eq!(
            chain(&defaults[0]),
            ["DynamicDefaultBroker:log.retention.ms=1000000"]
        );
    }

    #[test]
    fn a_group_without_overrides_shows_the_brokers_values() {
        let entries = describe_group(
            &map(&[("consumer.session.timeout.ms", "50000")]),
            &BrokerConfig::default(),
        );
        assert_eq!(
            chain(find(&entries, "consumer.session.timeout.ms")),
            [
                "Group:consumer.session.timeout.ms=50000",
                "Default:group.consumer.session.timeout.ms=45000",
            ]
        );
        assert_eq!(
            chain(find(&entries, "share.isolation.level")),
            ["Default:share.isolation.level=read_uncommitted"]
        );
    }

    #[test]
    fn secrets_and_unknown_keys_are_hidden() {
        let (broker, warnings) =
            BrokerConfig::parse("ssl.key.password=hush\nmy.plugin.secret=hush").unwrap();
        assert_eq!(warnings.len(), 1);
        let entries = describe_broker(&broker);
        for name in ["ssl.key.password", "my.plugin.secret"] {
            let entry = find(&entries, name);
            assert!(entry.sensitive && entry.value.is_none());
            assert_eq!(entry.source, ConfigSource::StaticBroker);
            assert!(entry.synonyms.iter().all(|synonym| synonym.value.is_none()));
        }
    }

    #[test]
    fn a_new_topic_tells_which_unit_counts() {
        let (broker, _) = BrokerConfig::parse("log.retention.hours=1").unwrap();
        let entries = describe_new_topic(&ConfigMap::new(), &broker);
        let retention = find(&entries, "retention.ms");
        assert_eq!(retention.value.as_deref(), Some("3600000"));
        assert_eq!(retention.source, ConfigSource::StaticBroker);
    }
}
