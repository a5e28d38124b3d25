//! A real, durable Kafka-compatible broker as a Rust value.
//!
//! A [`Broker`] listens, stores and answers like the server does, because it is what the server runs: there is no second code
//! path for embedding or for tests. It runs on the caller's tokio runtime, keeps no globals, reads no environment,
//! installs no signal handler or logger, and never ends the process. As many as wanted run side by side.
//!
//! The key decision is where the work happens: a request is handled on the task of its connection, which takes the lock of a
//! partition for as long as an append takes and never waits under it. Only what blocks has a thread of its own, the flusher
//! of each log directory and the metadata quorum.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use tidelog_broker::{Broker, Offset};
//!
//! let broker = Broker::builder().data_dir("/var/lib/orders").start().await?;
//! println!("point a Kafka client at {}", broker.bootstrap_servers());
//!
//! let orders = broker.create_topic("orders").await?;
//! orders.produce(0, ["two apples"]).await?;
//! let first = orders.records(0, Offset::ZERO).next().await?;
//! broker.shutdown().await?;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "unit tests move no clock")
)]

mod aside;
mod broker;
mod builder;
mod cleaner;
mod clock;
mod cluster;
mod direct;
mod error;
mod failure;
mod fetch_session;
pub mod format;
mod groups;
mod handlers;
mod housekeeping;
mod identity;
mod lifecycle;
mod listeners;
mod metadata;
mod metrics;
mod missing;
mod net;
mod node;
mod peers;
mod producer_ids;
mod random;
mod rate;
mod replication;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod transactions;

pub use broker::{Broker, ListenerAddress};
pub use builder::Builder;
pub use cluster::{Cluster, ClusterBuilder, ClusterError};
pub use direct::{Appended, NewRecord, NewTopic, Offsets, Records, RequestError, Topic};
pub use error::{Failure, ShutdownError, StartError};
pub use metrics::Metrics;
pub use net::memory::MemoryStream;
pub use net::network::MemoryNetwork;
pub use tidelog_metadata::configs::{Durability, Warning};
pub use tidelog_record::{Codec, Compression, HeaderRef, Record, RecordHeader};
pub use tidelog_types::{ErrorCode, Offset, Timestamp};
