use tidelog_types::{NodeId, PartitionIndex};

use crate::configs::ConfigMap;
use crate::configs::broker::BrokerConfig;
use crate::configs::def::{
    ConfigDef, ConfigError, DURABILITIES, Valid, boolean, double, int, list, long, string,
};
use crate::configs::value::Value;

#[rustfmt::skip]
static TABLE: &[ConfigDef] = &[
    list("cleanup.policy").default("delete").one_of(&["compact", "delete"]).defaults_to("log.cleanup.policy")
        .doc("What becomes of old records: `delete`, `compact`, both, or nothing at all."),
    int("compression.gzip.level").default("-1").gzip_level().defaults_to("compression.gzip.level")
        .doc("Level of gzip when the broker compresses; -1 for the codec's own choice."),
    int("compression.lz4.level").default("9").between(1, 17).defaults_to("compression.lz4.level")
        .doc("Level of lz4 when the broker compresses."),
    string("compression.type").default("producer").one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
        .defaults_to("compression.type")
        .doc("How batches are stored: a codec, `uncompressed`, or `producer` for as they come."),
    int("compression.zstd.level").default("3").between(-131072, 22).defaults_to("compression.zstd.level")
        .doc("Level of zstd when the broker compresses."),
    long("delete.retention.ms").default("86400000").at_least(0).defaults_to("log.cleaner.delete.retention.ms")
        .doc("How long tombstones stay in a compacted log."),
    long("file.delete.delay.ms").default("60000").at_least(0).defaults_to("log.segment.delete.delay.ms")
        .doc("How long the files of a deleted segment stay on disk."),
    long("flush.messages").default("9223372036854775807").at_least(1).defaults_to("log.flush.interval.messages")
        .doc("Records after which the log is flushed, beside what `tidelog.durability` demands."),
    long("flush.ms").default("9223372036854775807").at_least(0).defaults_to("log.flush.interval.ms")
        .doc("Milliseconds after which the log is flushed, beside what `tidelog.durability` demands."),
    list("follower.replication.throttled.replicas").default("").valid(Valid::ThrottledReplicas)
        .doc("Replicas whose fetches are throttled, `partition:broker` separated by commas, or `*`."),
    int("index.interval.bytes").default("4096").at_least(0).defaults_to("log.index.interval.bytes")
        .doc("Bytes of records between two entries of the offset index."),
    list("leader.replication.throttled.replicas").default("").valid(Valid::ThrottledReplicas)
        .doc("Replicas to which the leader sends throttled, `partition:broker` separated by commas, or `*`."),
    long("local.retention.bytes").default("-2").at_least(-2).defaults_to("log.local.retention.bytes")
        .doc("Size of the local part of a tiered partition; -2 for what `retention.bytes` says."),
    long("local.retention.ms").default("-2").at_least(-2).defaults_to("log.local.retention.ms")
        .doc("How long tiered segments are kept on local disk; -2 as long as `retention.ms` says."),
    long("max.compaction.lag.ms").default("9223372036854775807").at_least(1).defaults_to("log.cleaner.max.compaction.lag.ms")
        .doc("Age at which a record must be compacted."),
    int("max.message.bytes").default("1048588").at_least(0).defaults_to("message.max.bytes")
        .doc("Largest record batch, as sent, in bytes."),
    long("message.timestamp.after.max.ms").default("3600000").at_least(0).defaults_to("log.message.timestamp.after.max.ms")
        .doc("How much ahead of the broker's clock a record's timestamp may be."),
    long("message.timestamp.before.max.ms").default("9223372036854775807").at_least(0)
        .defaults_to("log.message.timestamp.before.max.ms")
        .doc("How much older than the broker's clock a record's timestamp may be."),
    string("message.timestamp.type").default("CreateTime").one_of(&["CreateTime", "LogAppendTime"])
        .defaults_to("log.message.timestamp.type")
        .doc("Whether records keep the producer's time (`CreateTime`) or get the broker's (`LogAppendTime`)."),
    double("min.cleanable.dirty.ratio").default("0.5").between(0, 1).defaults_to("log.cleaner.min.cleanable.ratio")
        .doc("Share of the log that must be uncompacted before it is compacted."),
    long("min.compaction.lag.ms").default("0").at_least(0).defaults_to("log.cleaner.min.compaction.lag.ms")
        .doc("Youngest age at which a record may be compacted."),
    int("min.insync.replicas").default("1").at_least(1).defaults_to("min.insync.replicas")
        .doc("Replicas that must be in sync, the leader included, for a write with acks=all."),
    boolean("preallocate").default("false").defaults_to("log.preallocate")
        .doc("Reserve the whole space of a segment when it is created."),
    boolean("remote.log.copy.disable").default("false")
        .doc("Send no more segments to tiered storage, and keep what is there readable."),
    boolean("remote.log.delete.on.disable").default("false")
        .doc("Delete what is in tiered storage when it is switched off for the topic."),
    boolean("remote.storage.enable").default("false")
        .doc("Send old segments to tiered storage (KIP-405)."),
    long("retention.bytes").default("-1").defaults_to("log.retention.bytes")
        .doc("Size of a partition above which its oldest segments are deleted; -1 for no bound."),
    long("retention.ms").default("604800000").at_least(-1).defaults_to("log.retention.ms")
        .doc("Milliseconds that records are kept; -1 for ever."),
    int("segment.bytes").default("1073741824").at_least(1048576).defaults_to("log.segment.bytes")
        .doc("Size of a segment, in bytes."),
    int("segment.index.bytes").default("10485760").at_least(4).defaults_to("log.index.size.max.bytes")
        .doc("Size of an offset index, in bytes."),
    long("segment.jitter.ms").default("0").at_least(0).defaults_to("log.roll.jitter.ms")
        .doc("Milliseconds by which rolling may come earlier, at random."),
    long("segment.ms").default("604800000").at_least(1).defaults_to("log.roll.ms")
        .doc("Milliseconds after which a segment is rolled."),
    string("tidelog.durability").default("fsync").one_of(DURABILITIES).defaults_to("tidelog.durability")
        .doc("What an acknowledgement means: `fsync`, flushed to the disk; `page-cache`, handed to the operating system; `memory`, never flushed."),
    boolean("unclean.leader.election.enable").default("false").defaults_to("unclean.leader.election.enable")
        .doc("Elect a replica that is not in sync when no other is left; records may be lost."),
];

/// Every topic config, by name.
pub fn topic_configs() -> &'static [ConfigDef] {
    TABLE
}

/// The topic config of that name.
pub fn topic_config(name: &str) -> Option<&'static ConfigDef> {
    TABLE
        .binary_search_by(|def| def.name.cmp(name))
        .ok()
        .map(|i| &TABLE[i])
}

/// When acknowledged records are safe (`tidelog.durability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// When they were flushed to the disk.
    #[default]
    Fsync,
    /// When the operating system has them: they survive the process, not the machine.
    PageCache,
    /// Never: nothing is flushed, not even on an orderly end. For tests.
    Memory,
}

impl Durability {
    /// The value of `tidelog.durability`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::PageCache => "page-cache",
            Self::Memory => "memory",
        }
    }
}

/// How batches are stored (`compression.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressionType {
    /// As the producer compressed them.
    #[default]
    Producer,
    /// Not compressed.
    Uncompressed,
    /// With gzip.
    Gzip,
    /// With snappy.
    Snappy,
    /// With lz4.
    Lz4,
    /// With zstd.
    Zstd,
}

/// Whose time records carry (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// Replicas of a topic whose traffic among brokers is bounded (KIP-73).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ThrottledReplicas {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These.
    These(Vec<(PartitionIndex, NodeId)>),
}

impl ThrottledReplicas {
    fn from_value(value: &Value) -> Self {
        let mut texts = value.texts().peekable();
        match texts.peek() {
            None => Self::None,
            Some(&"*") => Self::All,
            Some(_) => {
                let pairs = texts.filter_map(|text| {
                    let (partition, broker) = text.split_once(':')?;
                    Some((partition.parse().ok()?, NodeId::new(broker.parse().ok()?)))
                });
                Self::These(pairs.collect())
            }
        }
    }

    /// Whether the replica of a partition on this broker is among them.
    pub fn contains(&self, partition: PartitionIndex, broker: NodeId) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(pairs) => pairs.contains(&(partition, broker)),
        }
    }
}

/// The configuration of a topic, resolved from its overrides and the broker's defaults into plain numbers.
///
/// ```
/// use tidelog_metadata::configs::{BrokerConfig, ConfigMap, Durability, TopicConfig};
///
/// let (broker, _) = BrokerConfig::parse("log.retention.hours=1\n").unwrap();
/// let overrides = ConfigMap::from([("cleanup.policy".into(), "compact".into())]);
/// let config = TopicConfig::resolve(&overrides, &broker);
/// assert_eq!(config.retention_ms, 3_600_000);
/// assert!(config.compact && !config.delete);
/// assert_eq!(config.durability, Durability::Fsync);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// `compression.type`.
    pub compression_type: CompressionType,
    /// `compression.gzip.level`; -1 is the codec's choice.
    pub compression_gzip_level: i32,
    /// `compression.lz4.level`.
    pub compression_lz4_level: i32,
    /// `compression.zstd.level`.
    pub compression_zstd_level: i32,
    /// `tidelog.durability`.
    pub durability: Durability,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`, a count of records.
    pub flush_messages: i64,
    /// `flush.ms`.
    pub flush_ms: i64,
    /// `follower.replication.throttled.replicas`.
    pub follower_throttled_replicas: ThrottledReplicas,
    /// `index.interval.bytes`.
    pub index_interval_bytes: i32,
    /// `leader.replication.throttled.replicas`.
    pub leader_throttled_replicas: ThrottledReplicas,
    /// `local.retention.bytes`, -2 resolved to `retention.bytes`.
    pub local_retention_bytes: i64,
    /// `local.retention.ms`, -2 resolved to `retention.ms`.
    pub local_retention_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`.
    pub max_message_bytes: i32,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`, 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `preallocate`.
    pub preallocate: bool,
    /// `remote.storage.enable`.
    pub remote_storage_enable: bool,
    /// `retention.bytes`; -1 is no bound.
    pub retention_bytes: i64,
    /// `retention.ms`; -1 is for ever.
    pub retention_ms: i64,
    /// `segment.bytes`.
    pub segment_bytes: i32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: i32,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election_enable: bool,
}

impl TopicConfig {
    /// The effective configuration. An override that is unknown or malformed does not count: it was valid for the
    /// version that accepted it.
    pub fn resolve(overrides: &ConfigMap, broker: &BrokerConfig) -> Self {
        let value = |name: &str| effective(name, overrides, broker);
        let int = |name: &str| match value(name) {
            Value::Int(n) => n,
            other => unreachable!("{name} is a number, not {other:?}"),
        };
        let small = |name: &str| int(name) as i32;
        let flag = |name: &str| value(name) == Value::Boolean(true);
        let policy = value("cleanup.policy");
        let or_inherited = |own: i64, inherited: i64| if own == -2 { inherited } else { own };
        let retention_bytes = int("retention.bytes");
        let retention_ms = int("retention.ms");
        Self {
            delete: policy.texts().any(|p| p == "delete"),
            compact: policy.texts().any(|p| p == "compact"),
            compression_type: match value("compression.type").to_string().as_str() {
                "uncompressed" => CompressionType::Uncompressed,
                "gzip" => CompressionType::Gzip,
                "snappy" => CompressionType::Snappy,
                "lz4" => CompressionType::Lz4,
                "zstd" => CompressionType::Zstd,
                _ => CompressionType::Producer,
            },
            compression_gzip_level: small("compression.gzip.level"),
            compression_lz4_level: small("compression.lz4.level"),
            compression_zstd_level: small("compression.zstd.level"),
            durability: Durability::from_value(&value("tidelog.durability")),
            delete_retention_ms: int("delete.retention.ms"),
            file_delete_delay_ms: int("file.delete.delay.ms"),
            flush_messages: int("flush.messages"),
            flush_ms: int("flush.ms"),
            follower_throttled_replicas: ThrottledReplicas::from_value(&value(
                "follower.replication.throttled.replicas",
            )),
            index_interval_bytes: small("index.interval.bytes"),
            leader_throttled_replicas: ThrottledReplicas::from_value(&value(
                "leader.replication.throttled.replicas",
            )),
            local_retention_bytes: or_inherited(int("local.retention.bytes"), retention_bytes),
            local_retention_ms: or_inherited(int("local.retention.ms"), retention_ms),
            max_compaction_lag_ms: int("max.compaction.lag.ms"),
            max_message_bytes: small("max.message.bytes"),
            message_timestamp_after_max_ms: int("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: int("message.timestamp.before.max.ms"),
            message_timestamp_type: match value("message.timestamp.type").to_string().as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: match value("min.cleanable.dirty.ratio") {
                Value::Double(ratio) => ratio,
                other => unreachable!("the ratio is a number, not {other:?}"),
            },
            min_compaction_lag_ms: int("min.compaction.lag.ms"),
            min_insync_replicas: small("min.insync.replicas"),
            preallocate: flag("preallocate"),
            remote_storage_enable: flag("remote.storage.enable"),
            retention_bytes,
            retention_ms,
            segment_bytes: small("segment.bytes"),
            segment_index_bytes: small("segment.index.bytes"),
            segment_jitter_ms: int("segment.jitter.ms"),
            segment_ms: int("segment.ms"),
            unclean_leader_election_enable: flag("unclean.leader.election.enable"),
        }
    }
}

impl Durability {
    pub(crate) fn from_value(value: &Value) -> Self {
        match value.to_string().as_str() {
            "page-cache" => Self::PageCache,
            "memory" => Self::Memory,
            _ => Self::Fsync,
        }
    }
}

/// The value of topic config `name` that counts.
fn effective(name: &str, overrides: &ConfigMap, broker: &BrokerConfig) -> Value {
    let def = topic_config(name).expect("the fields of TopicConfig are in the table");
    let own = overrides.get(name).and_then(|text| def.parse(text).ok());
    own.unwrap_or_else(|| broker.topic_default(def))
}

/// Whether a topic may have these overrides, `before` being those it has now.
pub(crate) fn validate_topic_configs(
    overrides: &ConfigMap,
    before: &ConfigMap,
    broker: &BrokerConfig,
) -> Result<(), ConfigError> {
    for (name, value) in overrides {
        match topic_config(name) {
            Some(def) => drop(def.parse(value)?),
            // What an older version stored may stay, so that the rest can still be changed.
            None if before.get(name.as_str()) == Some(value) => {}
            None => {
                return Err(ConfigError::Conflict(format!(
                    "Unknown topic config name: {name}"
                )));
            }
        }
    }
    let config = TopicConfig::resolve(overrides, broker);
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        return Err(ConfigError::Conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            config.min_compaction_lag_ms, config.max_compaction_lag_ms
        )));
    }
    if config.remote_storage_enable && !broker.remote_log_storage_system_enable() {
        return Err(ConfigError::Conflict(
            "Tiered Storage functionality is disabled in the broker. \
             Topic cannot be configured with remote log storage."
                .into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn defaults_need_no_broker_setting() {
        let config = TopicConfig::resolve(&ConfigMap::new(), &BrokerConfig::default());
        assert_eq!(config.retention_ms, 604_800_000);
        assert_eq!(config.local_retention_ms, 604_800_000);
        assert_eq!(config.segment_ms, 604_800_000);
        assert_eq!(config.flush_ms, i64::MAX);
        assert_eq!(config.segment_bytes, 1 << 30);
        assert!(config.delete && !config.compact);
    }

    #[test]
    fn units_of_time_go_before_each_other_from_small_to_large() {
        let retention = |text: &str| {
            let (broker, _) = BrokerConfig::parse(text).unwrap();
            TopicConfig::resolve(&ConfigMap::new(), &broker).retention_ms
        };
        assert_eq!(retention("log.retention.hours=2"), 7_200_000);
        assert_eq!(
            retention("log.retention.hours=2\nlog.retention.minutes=3"),
            180_000
        );
        assert_eq!(retention("log.retention.minutes=3\nlog.retention.ms=4"), 4);
        assert_eq!(retention("log.retention.hours=-1"), -1);
    }

    #[test]
    fn what_an_older_version_stored_is_tolerated_but_not_accepted() {
        let broker = BrokerConfig::default();
        let old = ConfigMap::from([("message.format.version".into(), "2.8".into())]);
        assert_eq!(validate_topic_configs(&old, &old, &broker), Ok(()));
        let error = validate_topic_configs(&old, &ConfigMap::new(), &broker).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Unknown topic config name: message.format.version"
        );
    }

    #[test]
    fn replicas_are_throttled_by_partition_and_broker() {
        let throttled = |text: &str| {
            let overrides =
                ConfigMap::from([("leader.replication.throttled.replicas".into(), text.into())]);
            let config = TopicConfig::resolve(&overrides, &BrokerConfig::default());
            let is_in = |partition, broker| {
                config
                    .leader_throttled_replicas
                    .contains(partition, NodeId::new(broker))
            };
            [is_in(0, 1), is_in(1, 1), is_in(1, 2)]
        };
        assert_eq!(throttled(""), [false; 3]);
        assert_eq!(throttled("*"), [true; 3]);
        assert_eq!(throttled("0:1,1:2"), [true, false, true]);
    }

    #[test]
    fn lags_may_not_cross() {
        let overrides = ConfigMap::from([
            ("min.compaction.lag.ms".into(), "10".into()),
            ("max.compaction.lag.ms".into(), "5".into()),
        ]);
        let error = validate_topic_configs(&overrides, &ConfigMap::new(), &BrokerConfig::default());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("(10) > max.compaction.lag.ms (5)")
        );
    }
}
