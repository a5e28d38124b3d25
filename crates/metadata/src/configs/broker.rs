//! The configuration of a node.

mod accessors;
mod connections;
mod validate;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use tidelog_types::properties::parse_properties;
use tidelog_types::{NodeId, Str};

use crate::configs::ConfigMap;
use crate::configs::broker_table::{DYNAMIC, TABLES};
use crate::configs::def::{ConfigDef, ConfigError, UpdateMode};
use crate::configs::listener::{Listener, ProtocolMap, parse_listeners};
use crate::configs::quorum::{self, HostPort, QuorumVoter};
use crate::configs::topic::Durability;
use crate::configs::value::Value;

pub use self::connections::ConnectionLimits;

static BY_NAME: LazyLock<Vec<ConfigDef>> = LazyLock::new(|| {
    let mut rows = TABLES.concat();
    rows.sort_by_key(|def| def.name);
    rows
});

/// Every broker config, by name.
pub fn broker_configs() -> &'static [ConfigDef] {
    &BY_NAME
}

/// The broker configs that can be set only while a broker runs.
pub fn dynamic_broker_configs() -> &'static [ConfigDef] {
    DYNAMIC
}

/// The broker config of that name.
///
/// A listener may have values of its own, `listener.name.<listener>.<config>`, and a SASL mechanism of a listener too,
/// `listener.name.<listener>.<mechanism>.<config>`: the row is that of the plain config.
pub fn broker_config(name: &str) -> Option<&'static ConfigDef> {
    let row = |name: &str| index_of(name).map(|i| &BY_NAME[i]);
    let dynamic = || DYNAMIC.iter().find(|def| def.name == name);
    row(name).or_else(dynamic).or_else(|| {
        let (_listener, config) = name.strip_prefix("listener.name.")?.split_once('.')?;
        row(config).or_else(|| row(config.split_once('.')?.1))
    })
}

fn index_of(name: &str) -> Option<usize> {
    BY_NAME.binary_search_by(|def| def.name.cmp(name)).ok()
}

/// The config of a single broker that holds while it runs, too (KIP-1066).
pub(crate) const CORDONED: &str = "cordoned.log.dirs";

/// Something in a configuration that is probably not meant so, but does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The key.
    pub key: String,
    /// What about it.
    pub message: String,
}

/// What a node may be (`process.roles`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// It keeps partitions and serves clients.
    pub broker: bool,
    /// It takes part in the metadata quorum.
    pub controller: bool,
}

/// The configuration of a broker: what `server.properties` says, and above it what was changed while it runs.
///
/// Every key of the table has a value of its type; the accessors hand it out. Cheap to clone the sources of, not meant
/// for the hot path: who needs a value often copies it out.
///
/// ```
/// use tidelog_metadata::configs::BrokerConfig;
///
/// let text = "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://:9093\nnum.partitions=3\nnum.partition=4\n";
/// let (config, warnings) = BrokerConfig::parse(text).unwrap();
/// assert_eq!(config.num_partitions(), 3);
/// assert_eq!(config.broker_listeners().next().unwrap().port, 9092);
/// assert_eq!(warnings[0].key, "num.partition");
///
/// let error = BrokerConfig::parse("num.partitions=0").unwrap_err();
/// assert_eq!(error.to_string(), "Invalid value 0 for configuration num.partitions: Value must be at least 1");
/// ```
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub(crate) static_configs: Arc<ConfigMap>,
    /// Changed while running, for all brokers.
    pub(crate) cluster_configs: Arc<ConfigMap>,
    /// Changed while running, for this broker.
    pub(crate) node_configs: Arc<ConfigMap>,
    /// The value of each row of the table that counts.
    effective: Vec<Value>,
    listeners: Vec<Listener>,
    advertised_listeners: Vec<Listener>,
    quorum_voters: Vec<QuorumVoter>,
    quorum_bootstrap_servers: Vec<HostPort>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::new(BTreeMap::new())
            .expect("the defaults are valid")
            .0
    }
}

impl BrokerConfig {
    /// Reads the text of a `server.properties`.
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut configs = BTreeMap::new();
        let mut repeated = Vec::new();
        for property in parse_properties(text)? {
            if configs
                .insert(property.key.clone(), property.value)
                .is_some()
            {
                let message = format!("given more than once; line {} counts", property.line);
                repeated.push(Warning {
                    key: property.key,
                    message,
                });
            }
        }
        let (config, mut warnings) = Self::new(configs)?;
        warnings.append(&mut repeated);
        Ok((config, warnings))
    }

    /// Takes the keys and values of a `server.properties`.
    pub fn new(configs: BTreeMap<String, String>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut effective: Vec<Value> = BY_NAME.iter().map(ConfigDef::default_value).collect();
        let mut warnings = Vec::new();
        for (name, text) in &configs {
            let is_dynamic = DYNAMIC.iter().any(|def| def.name == name);
            let Some(def) = broker_config(name).filter(|_| !is_dynamic) else {
                let message = match is_dynamic {
                    true => "without effect here: it is set while the broker runs",
                    false => "unknown, and without effect",
                };
                warnings.push(Warning {
                    key: name.clone(),
                    message: message.into(),
                });
                continue;
            };
            let value = def.parse(text)?;
            if let Some(index) = index_of(name) {
                effective[index] = value;
            }
        }
        let static_configs = configs
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        let mut config = Self {
            static_configs: Arc::new(static_configs),
            cluster_configs: Arc::default(),
            node_configs: Arc::default(),
            effective,
            listeners: Vec::new(),
            advertised_listeners: Vec::new(),
            quorum_voters: Vec::new(),
            quorum_bootstrap_servers: Vec::new(),
        };
        config.unify_node_id()?;
        config.validate()?;
        config.resolve_listeners()?;
        config.connection_limits()?;
        config.quorum_voters = quorum::voters(&config)?;
        config.quorum_bootstrap_servers = quorum::bootstrap_servers(&config)?;
        quorum::check_roles(&config)?;
        Ok((config, warnings))
    }

    /// The same configuration with what was changed while running: for all brokers, and for this one. A stored value that
    /// is unknown, malformed or not changeable does not count.
    #[must_use]
    pub fn with_dynamic(&self, cluster: &ConfigMap, node: &ConfigMap) -> Self {
        let mut changed = self.clone();
        changed.cluster_configs = Arc::new(cluster.clone());
        changed.node_configs = Arc::new(node.clone());
        for (index, def) in BY_NAME.iter().enumerate() {
            let layers: &[&ConfigMap] = match def.update_mode {
                UpdateMode::ClusterWide => &[node, cluster, &self.static_configs],
                UpdateMode::PerBroker if def.name == CORDONED => &[node, &self.static_configs],
                UpdateMode::PerBroker | UpdateMode::ReadOnly => continue,
            };
            let texts = layers.iter().filter_map(|layer| layer.get(def.name));
            let value = texts.into_iter().find_map(|text| def.parse(text).ok());
            changed.effective[index] = value.unwrap_or_else(|| def.default_value());
        }
        changed
    }

    /// The value of the config of that name that counts; `None` for names that no table knows.
    pub fn value(&self, name: &str) -> Option<&Value> {
        Some(&self.effective[index_of(name)?])
    }

    fn read(&self, name: &str) -> &Value {
        self.value(name).expect("accessors name rows of the table")
    }

    /// Whether `server.properties` itself sets the key.
    pub fn is_set(&self, name: &str) -> bool {
        self.static_configs.contains_key(name)
    }

    /// What this node is.
    pub fn roles(&self) -> Roles {
        let has = |role| self.process_roles().iter().any(|r| r == role);
        Roles {
            broker: has("broker"),
            controller: has("controller"),
        }
    }

    /// The number of this node.
    pub fn node_id(&self) -> NodeId {
        NodeId::new(self.node_id_number())
    }

    /// All addresses to listen on, in the order given.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The addresses that clients are told. An empty host means that of the machine, port 0 the port that was bound.
    pub fn advertised_listeners(&self) -> &[Listener] {
        &self.advertised_listeners
    }

    /// The addresses to listen on as a broker.
    pub fn broker_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners
            .iter()
            .filter(|l| self.roles().broker && !self.is_controller_listener(l))
    }

    /// The addresses to listen on as a controller; there may be none in a cluster of one.
    pub fn controller_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners
            .iter()
            .filter(|l| self.roles().controller && self.is_controller_listener(l))
    }

    pub(crate) fn is_controller_listener(&self, listener: &Listener) -> bool {
        self.controller_listener_names()
            .iter()
            .any(|n| n.eq_ignore_ascii_case(&listener.name))
    }

    /// The fixed voters of the metadata quorum; none if they are part of the log, or if this node is alone.
    pub fn quorum_voters(&self) -> &[QuorumVoter] {
        &self.quorum_voters
    }

    /// Where the metadata quorum can be found.
    pub fn quorum_bootstrap_servers(&self) -> &[HostPort] {
        &self.quorum_bootstrap_servers
    }

    /// Whether nothing is said of other nodes: broker and controller in one, which needs no controller listener.
    pub fn is_alone(&self) -> bool {
        let roles = self.roles();
        let only_itself = |voter: &QuorumVoter| voter.id == self.node_id();
        let mut servers = self.quorum_bootstrap_servers.iter();
        roles.broker
            && roles.controller
            && servers.all(|server| self.is_own_controller(server))
            && self.quorum_voters.iter().all(only_itself)
    }

    /// Whether a controller listener of this node is meant, as in the `server.properties` that comes with Kafka.
    fn is_own_controller(&self, server: &HostPort) -> bool {
        let is_loopback = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "::1");
        let mut listeners = self.listeners().iter();
        listeners.any(|listener| {
            let is_here = listener.host == server.host
                || (is_loopback(&server.host)
                    && (listener.host.is_empty() || is_loopback(&listener.host)));
            self.is_controller_listener(listener) && listener.port == server.port && is_here
        })
    }

    /// The name of the listener that brokers use among themselves, if one fits.
    pub fn inter_broker_listener(&self) -> Option<&Listener> {
        let protocol = self.security_inter_broker_protocol();
        self.broker_listeners()
            .find(|listener| match self.inter_broker_listener_name() {
                Some(name) => listener.name.eq_ignore_ascii_case(name),
                None => listener.protocol.name() == protocol,
            })
    }

    /// The log directories: `log.dirs`, else `log.dir`.
    pub fn log_dirs(&self) -> &[String] {
        match self.read("log.dirs") {
            Value::List(dirs) if !dirs.is_empty() => dirs,
            _ => self.log_dir(),
        }
    }

    /// The directory of the metadata log.
    pub fn metadata_log_dir(&self) -> &str {
        self.metadata_log_dir_own().unwrap_or(&self.log_dirs()[0])
    }

    /// `tidelog.durability`.
    pub fn durability(&self) -> Durability {
        Durability::from_value(self.read("tidelog.durability"))
    }

    /// How long records are kept by default: the first of `log.retention.ms`, `.minutes`, `.hours` that is set.
    pub fn log_retention_ms(&self) -> i64 {
        let millis = |n: i64, unit: i64| if n < 0 { -1 } else { n * unit };
        self.log_retention_ms_own()
            .or_else(|| Some(millis(self.log_retention_minutes()?, 60_000)))
            .unwrap_or_else(|| millis(self.log_retention_hours().into(), 3_600_000))
    }

    /// After what time segments are rolled by default: `log.roll.ms`, else `log.roll.hours`.
    pub fn log_roll_ms(&self) -> i64 {
        let hours = || i64::from(self.log_roll_hours()) * 3_600_000;
        self.log_roll_ms_own().unwrap_or_else(hours)
    }

    /// By how much rolling may come earlier: `log.roll.jitter.ms`, else `log.roll.jitter.hours`.
    pub fn log_roll_jitter_ms(&self) -> i64 {
        let hours = || i64::from(self.log_roll_jitter_hours()) * 3_600_000;
        self.log_roll_jitter_ms_own().unwrap_or_else(hours)
    }

    /// After what time logs are flushed by default: `log.flush.interval.ms`, else `log.flush.scheduler.interval.ms`.
    pub fn log_flush_interval_ms(&self) -> i64 {
        self.log_flush_interval_ms_own()
            .unwrap_or_else(|| self.log_flush_scheduler_interval_ms())
    }

    /// `leader.replication.throttled.rate`, in bytes a second; `None` for no bound.
    pub fn leader_replication_throttled_rate(&self) -> Option<u64> {
        self.dynamic_rate("leader.replication.throttled.rate")
    }

    /// `follower.replication.throttled.rate`, in bytes a second; `None` for no bound.
    pub fn follower_replication_throttled_rate(&self) -> Option<u64> {
        self.dynamic_rate("follower.replication.throttled.rate")
    }

    /// `replica.alter.log.dirs.io.max.bytes.per.second`; `None` for no bound.
    pub fn replica_alter_log_dirs_io_max_bytes_per_second(&self) -> Option<u64> {
        self.dynamic_rate("replica.alter.log.dirs.io.max.bytes.per.second")
    }

    fn dynamic_rate(&self, name: &str) -> Option<u64> {
        let def = broker_config(name).expect("rates are in the table");
        let layers = [&self.node_configs, &self.cluster_configs];
        let texts = layers.into_iter().filter_map(|layer| layer.get(name));
        let mut values = texts.filter_map(|text| def.parse(text).ok());
        match values.next() {
            Some(Value::Int(rate)) if rate < i64::MAX => u64::try_from(rate).ok(),
            _ => None,
        }
    }

    /// What a topic config is where the topic does not say.
    pub(crate) fn topic_default(&self, def: &ConfigDef) -> Value {
        match (def.name, def.synonym) {
            ("retention.ms", _) => Value::Int(self.log_retention_ms()),
            ("segment.ms", _) => Value::Int(self.log_roll_ms()),
            ("segment.jitter.ms", _) => Value::Int(self.log_roll_jitter_ms()),
            ("flush.ms", _) => Value::Int(self.log_flush_interval_ms()),
            (_, Some(synonym)) => self.read(synonym).clone(),
            (_, None) => def.default_value(),
        }
    }

    /// `broker.id` is the older name of `node.id`; each stands in for the other.
    fn unify_node_id(&mut self) -> Result<(), ConfigError> {
        let own = |name| match (self.is_set(name), self.value(name)) {
            (true, Some(Value::Int(id))) => Some(*id),
            _ => None,
        };
        let (node, broker) = (own("node.id"), own("broker.id").filter(|id| *id >= 0));
        if let (Some(node), Some(broker)) = (node, broker)
            && node != broker
        {
            return Err(ConfigError::Conflict(format!(
                "You must set `node.id` to the same value as `broker.id`: they are {node} and {broker}"
            )));
        }
        let id = node
            .or(broker)
            .unwrap_or_else(|| self.node_id_number().into());
        let text = Str::from(id.to_string());
        for name in ["node.id", "broker.id"] {
            let index = index_of(name).expect("the table has both");
            self.effective[index] = Value::Int(id);
            Arc::make_mut(&mut self.static_configs).insert(name.into(), text.clone());
        }
        Ok(())
    }

    fn resolve_listeners(&mut self) -> Result<(), ConfigError> {
        let map_key = "listener.security.protocol.map";
        let map = self.read(map_key).to_string();
        let protocols =
            ProtocolMap::parse(&map, self.is_set(map_key), self.controller_listener_names())?;
        let elements = |name| match self.read(name) {
            Value::List(elements) => elements.as_slice(),
            _ => &[],
        };
        let parse = |name| parse_listeners(name, elements(name), &protocols);
        let (listeners, advertised) = (parse("listeners")?, parse("advertised.listeners")?);
        self.listeners = listeners;
        self.advertised_listeners = advertised;
        if self.advertised_listeners.is_empty() {
            self.advertised_listeners = self.broker_listeners().cloned().collect();
        }
        let unknown = self.advertised_listeners.iter().find(|a| {
            !self
                .listeners
                .iter()
                .any(|listener| listener.name == a.name)
        });
        if let Some(unknown) = unknown {
            return Err(ConfigError::Conflict(format!(
                "advertised.listeners names {}, which is not one of listeners",
                unknown.name
            )));
        }
        if self.roles().broker && self.broker_listeners().next().is_none() {
            return Err(ConfigError::Conflict(
                "listeners must contain a listener that controller.listener.names does not name"
                    .into(),
            ));
        }
        if let Some(name) = self.inter_broker_listener_name()
            && self.roles().broker
            && self.inter_broker_listener().is_none()
        {
            return Err(ConfigError::Conflict(format!(
                "inter.broker.listener.name is {name}, which is not one of the broker's listeners"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_row_has_a_doc() {
        assert!(BY_NAME.is_sorted_by(|a, b| a.name < b.name));
        assert!(BY_NAME.iter().all(|def| def.doc.ends_with('.')));
    }

    #[test]
    fn accessors_have_the_types_of_their_rows() {
        accessors::read_all(&BrokerConfig::default());
    }

    #[test]
    fn an_empty_file_is_a_cluster_of_one() {
        let config = BrokerConfig::default();
        assert_eq!(config.node_id(), NodeId::new(1));
        assert_eq!(
            config.roles(),
            Roles {
                broker: true,
                controller: true
            }
        );
        assert_eq!(config.listeners()[0].to_string(), "PLAINTEXT://:9092");
        assert_eq!(config.advertised_listeners(), config.listeners());
        assert_eq!(config.log_dirs(), ["/tmp/kafka-logs"]);
        assert_eq!(config.metadata_log_dir(), "/tmp/kafka-logs");
        assert_eq!(config.inter_broker_listener().unwrap().name, "PLAINTEXT");
    }

    #[test]
    fn listeners_of_the_controller_role_are_not_for_clients() {
        let (config, warnings) = BrokerConfig::parse(
            "process.roles=broker,controller\nnode.id=7\n\
             listeners=EXTERNAL://0.0.0.0:9092,PLAINTEXT://:9094,CONTROLLER://:9093\n\
             advertised.listeners=EXTERNAL://kafka.example:9092,PLAINTEXT://:9094\n\
             inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=EXTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             listener.name.external.ssl.client.auth=required\n",
        )
        .unwrap();
        assert_eq!(warnings, []);
        let names: Vec<_> = config.broker_listeners().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["EXTERNAL", "PLAINTEXT"]);
        assert_eq!(config.controller_listeners().count(), 1);
        assert_eq!(config.advertised_listeners()[0].host, "kafka.example");
        assert_eq!(config.node_id(), NodeId::new(7));
        assert_eq!(config.inter_broker_listener().unwrap().port, 9094);
    }

    #[test]
    fn contradictions_are_refused() {
        for text in [
            "node.id=1\nbroker.id=2",
            "log.retention.ms=0",
            "listeners=CONTROLLER://:1",
            "advertised.listeners=SSL://h:1",
            "advertised.listeners=PLAINTEXT://0.0.0.0:1",
            "inter.broker.listener.name=SSL",
            "process.roles=",
            "process.roles=broker,cook",
            "group.min.session.timeout.ms=10\ngroup.max.session.timeout.ms=9",
            "max.connections.per.ip=0",
            "max.connections.per.ip.overrides=here",
            "max.connections.per.ip.overrides=here:many",
        ] {
            assert!(BrokerConfig::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            BrokerConfig::parse("broker.id=5").unwrap().0.node_id(),
            NodeId::new(5)
        );
    }

    #[test]
    fn layers_go_before_each_other() {
        let (config, _) = BrokerConfig::parse("log.retention.ms=3").unwrap();
        let map = |text: &str| ConfigMap::from([("log.retention.ms".into(), text.into())]);
        let none = ConfigMap::new();
        assert_eq!(
            config.with_dynamic(&map("2"), &map("1")).log_retention_ms(),
            1
        );
        assert_eq!(config.with_dynamic(&map("2"), &none).log_retention_ms(), 2);
        assert_eq!(config.with_dynamic(&map("x"), &none).log_retention_ms(), 3);
        let changed = config.with_dynamic(&map("2"), &map("1"));
        assert_eq!(changed.with_dynamic(&none, &none).log_retention_ms(), 3);
    }

    #[test]
    fn rates_are_set_while_the_broker_runs_and_no_other_way() {
        let name = "leader.replication.throttled.rate";
        let (config, warnings) = BrokerConfig::parse(&format!("{name}=5")).unwrap();
        assert_eq!(warnings[0].key, name);
        assert_eq!(config.leader_replication_throttled_rate(), None);
        let rate = |cluster: &str, node: &str| {
            let map = |text: &str| match text {
                "" => ConfigMap::new(),
                text => ConfigMap::from([(name.into(), text.into())]),
            };
            let changed = config.with_dynamic(&map(cluster), &map(node));
            changed.leader_replication_throttled_rate()
        };
        assert_eq!(rate("", ""), None);
        assert_eq!(rate("7", ""), Some(7));
        assert_eq!(rate("7", "0"), Some(0));
        assert_eq!(rate("7", "9223372036854775807"), None);
    }

    #[test]
    fn a_key_given_twice_is_a_warning() {
        let (config, warnings) = BrokerConfig::parse("num.partitions=2\nnum.partitions=3").unwrap();
        assert_eq!(config.num_partitions(), 3);
        assert_eq!(warnings[0].message, "given more than once; line 2 counts");
    }
}
