//! The configuration tables and what is made of them.
//!
//! There is one table per kind of resource: [`topic_configs`], [`broker_configs`], [`group_configs`]. A row is all there is
//! to say about a key, and parsing, checking, DescribeConfigs and the documentation follow from it. Names, types, defaults
//! and ranges are those of Apache Kafka 4.3.1; what is ours begins with `tidelog.`.

mod alter;
mod broker;
mod broker_table;
mod def;
mod describe;
mod group;
mod listener;
mod quorum;
mod topic;
mod value;

use std::collections::BTreeMap;

use tidelog_types::Str;

pub(crate) use alter::MIN_ISR;
pub use alter::{
    AlterOp, Alteration, ConfigChange, ConfigResource, ResourceKind, Rules, alter_incrementally,
    alter_wholly, check_broker_resource,
};
pub use broker::{
    BrokerConfig, ConnectionLimits, Roles, Warning, broker_config, broker_configs,
    dynamic_broker_configs,
};
pub use def::{ConfigDef, ConfigError, ConfigType, UpdateMode, Valid};
pub use describe::{
    ConfigEntry, ConfigSource, ConfigSynonym, describe_broker, describe_cluster_defaults,
    describe_group, describe_new_topic, describe_topic,
};
pub use group::{group_config, group_configs, group_override};
pub use listener::{Listener, SecurityProtocol};
pub use quorum::{HostPort, QuorumVoter};
pub use topic::{
    CompressionType, Durability, ThrottledReplicas, TimestampType, TopicConfig, topic_config,
    topic_configs,
};
pub use value::Value;

/// What was set on one resource, by key.
pub type ConfigMap = BTreeMap<Str, Str>;
