//! A Kafka client in pure, asynchronous Rust. It works with Tidelog and with Apache Kafka alike, from 2.1 on.
//!
//! It has the [`Producer`], the [`Consumer`] for partitions that are assigned by hand or shared in a group by either protocol, and
//! what an operator needs: topics, their configs and records, consumer groups, the cluster, ACLs, quotas and users.
//! **Every call says which version it speaks by what both sides know**: a [`Connection`] asks the broker for its APIs first, and
//! each request goes out in the newest common version. So there is no setting for the version of a broker, and a broker that
//! lacks an API gives an error that says so.
//!
//! [`Client`] finds the right broker for a call (any one, the controller, the leader of a partition, the coordinator of a group) and
//! keeps a connection to each. A call about several things has a result for each of them. What it knows of leaders it asks for again when that proves wrong, and after a while; if no broker that it
//! knows answers, it begins again where it began (KIP-899). How brokers are reached is a [`Transport`], TCP unless another is
//! given. Times, sizes and the like are fields of [`Config`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let broker = tidelog_broker::Broker::builder().data_dir(dir.path()).listener("PLAINTEXT://127.0.0.1:0");
//! # let broker = broker.start().await?;
//! # let bootstrap = broker.bootstrap_servers();
//! use tidelog_client::{Client, Config, Consumer, ConsumerConfig, NewTopic, OffsetReset};
//! use tidelog_client::{Producer, ProducerConfig, ProducerRecord, TopicPartition};
//!
//! let client = Client::connect(&bootstrap, Config::default()).await?;
//! let topics = [NewTopic::new("logins").partitions(12).config("retention.ms", "86400000")];
//! for (name, created) in client.create_topics(&topics, false).await? {
//!     println!("{name} has the id {:?}", created?.topic_id);
//! }
//!
//! let producer = Producer::new(&client, ProducerConfig::default())?;
//! let record = ProducerRecord::to("logins").key("user-1").value("logged in");
//! let metadata = producer.send(record).await?.await?;
//! println!("the record is at offset {} of partition {}", metadata.offset, metadata.partition);
//!
//! let mut config = ConsumerConfig::default();
//! config.offset_reset = OffsetReset::Earliest;
//! let mut consumer = Consumer::new(&client, config)?;
//! consumer.assign(&[TopicPartition::new("logins", metadata.partition)])?;
//! println!("{:?}", consumer.recv().await?);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! Connections are protected by `Tls`, with the feature `tls`, which brings primitives in C and assembler; a client says who it is by
//! [`Sasl`]. Where either does not work, the error says which setting to change.
//!
//! Records are compressed with gzip, snappy or lz4, which are pure Rust, or with zstd, a C library, if the feature `zstd` is on.

mod acls;
mod backoff;
mod client;
mod clock;
mod cluster;
mod config;
mod configs;
mod connection;
mod consumer;
mod controller;
mod error;
mod groups;
mod metadata;
mod nodes;
mod offsets;
mod producer;
mod quotas;
mod records;
mod replicas;
mod sasl;
mod statistics;
#[cfg(test)]
mod stories;
#[cfg(feature = "tls")]
mod tls;
mod topics;
mod transport;
mod users;

/// The machines of the client, without I/O, for simulators. They change as the client does, and nobody is promised anything.
#[cfg(feature = "machines")]
#[doc(hidden)]
pub mod machines {
    pub use crate::consumer::membership::*;
}

pub use acls::{
    Acl, AclFilter, AclOperation, AclPatternFilter, AclPatternType, AclPermission, AclResourceType,
    PerAcl,
};
pub use client::{Broker, Client};
pub use cluster::{
    ClusterDescription, ClusterNode, EndpointType, FeatureUpgrade, Features, LogDir, LogDirReplica,
    QuorumDescription, QuorumReplica,
};
pub use config::Config;
pub use configs::{
    ConfigChange, ConfigChanges, ConfigEntry, ConfigResource, ConfigSource, ConfigSynonym,
    PerResource,
};
pub use connection::Connection;
pub use consumer::{
    Assignor, Batches, Commit, ConsumeError, Consumer, ConsumerBatch, ConsumerConfig,
    ConsumerEvent, ConsumerRecord, ConsumerStatistics, GroupProtocol, IsolationLevel, OffsetReset,
    Rebalance, Watermarks,
};
pub use error::ClientError;
pub use groups::{GroupDescription, GroupListing, GroupMember, GroupType};
pub use offsets::{CommittedOffset, OffsetAt, OffsetSpec};
pub use producer::{
    Acks, Delivery, Partitioner, ProduceError, Producer, ProducerConfig, ProducerRecord,
    ProducerStatistics, RecordMetadata, murmur2, partition_for_key,
};
pub use quotas::{QuotaEntity, QuotaFilter, QuotaMatch, Quotas};
pub use records::PerPartition;
pub use replicas::{ElectionType, Reassignment};
pub use sasl::{OauthToken, Sasl, ScramMechanism, Secret, TokenError, TokenProvider};
pub use statistics::ClientStatistics;
pub use tidelog_record::{
    AnyBatch, BatchError, Codec, Compression, HeaderRef, RecordHeader, RecordRef, TimestampType,
};
pub use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, NodeId, Offset, PartitionIndex, Str, Timestamp, TopicId,
    TopicName, TopicPartition, Uuid,
};
#[cfg(feature = "tls")]
pub use tls::{Pem, Tls, TlsBuilder, TlsProblem};
pub use topics::{
    CreatedTopic, NewPartitions, NewTopic, PartitionDescription, PerTopic, TopicDescription,
    TopicListing,
};
pub use transport::{Connecting, Stream, Tcp, Transport};
pub use users::{PerUser, ScramChange};

/// The examples of a guide are tests, too.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/from-rdkafka.md")]
struct FromRdkafka;
