//! A Kafka client in pure, asynchronous Rust. It works with Tidelog and with Apache Kafka alike.
//!
//! So far it has what an operator needs: topics, their configs and records, consumer groups, the cluster. **Every call says
//! which version it speaks by what both sides know**: a [`Connection`] asks the broker for its APIs first, and each request
//! goes out in the newest common version. So there is no setting for the version of a broker, and a broker that lacks an API
//! gives an error that says so.
//!
//! [`Client`] finds the right broker for a call (any one, the controller, the leader of a partition, the coordinator of a
//! group) and keeps a connection to each. A call about several things has a result for each of them.
//!
//! ```no_run
//! use tidelog_client::{Client, Config, NewTopic};
//!
//! # async fn f() -> Result<(), tidelog_client::ClientError> {
//! let client = Client::connect("localhost:9092", Config::default()).await?;
//! let topics = [
//!     NewTopic::new("orders").partitions(12).config("retention.ms", "86400000"),
//!     NewTopic::new("payments"),
//! ];
//! for (name, created) in client.create_topics(&topics, false).await? {
//!     match created {
//!         Ok(topic) => println!("{name} has the id {:?}", topic.topic_id),
//!         Err(error) => println!("{error}"),
//!     }
//! }
//! for group in client.list_groups(&[], &[]).await? {
//!     println!("{} is {}", group.group_id, group.state);
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod cluster;
mod config;
mod configs;
mod connection;
mod controller;
mod error;
mod groups;
mod offsets;
mod records;
mod replicas;
mod topics;

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
pub use error::ClientError;
pub use groups::{GroupDescription, GroupListing, GroupMember, GroupType};
pub use offsets::{CommittedOffset, OffsetAt, OffsetSpec};
pub use records::PerPartition;
pub use replicas::{ElectionType, Reassignment};
pub use topics::{
    CreatedTopic, NewPartitions, NewTopic, PartitionDescription, PerTopic, TopicDescription,
    TopicListing,
};
