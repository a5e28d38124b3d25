//! One replica of one log as a machine without I/O: roles, leader epochs, in-sync replicas, watermarks.
//!
//! Two machines live here. [`partition::Replica`] is one replica of a data partition, [`quorum::Quorum`] one of the metadata
//! log, which elects its leader itself. Both know offsets and epochs only: no files, no sockets, no clock, not what is inside
//! a batch. What has happened comes in as an input, what should happen goes out as effects, and whoever owns the log carries
//! them out.
//!
//! The key decision: **a single node is a cluster of one**. There is no path for "standalone"; a partition with one
//! replica has an ISR of one, and its high watermark is the minimum over that ISR. The leader counts itself by what it
//! has made durable, so with a flush behind every acknowledgement the high watermark never covers a record that a power
//! failure could take back.
//!
//! Two replicas find the place where their logs part by [`divergence`], whichever machine they are of.
//!
//! ```
//! use tidelog_replication::partition::{BecomeLeader, Config, Effect, Input, Replica, Restored};
//! use tidelog_types::{LeaderEpoch, NodeId, Now, Offset, Timestamp};
//!
//! # let now = Now { instant: std::time::Instant::now(), timestamp: Timestamp::from_millis(0) };
//! let mut replica = Replica::new(Config::new(NodeId::new(1)), Restored::default());
//! let mut effects = Vec::new();
//!
//! let partition = BecomeLeader {
//!     leader_epoch: LeaderEpoch::new(0),
//!     partition_epoch: 0,
//!     replicas: vec![NodeId::new(1)],
//!     adding_replicas: vec![],
//!     isr: vec![NodeId::new(1)],
//!     recovering: false,
//!     brokers: vec![],
//! };
//! replica.handle(now, Input::BecomeLeader(partition), &mut effects);
//! let appended = Input::Appended {
//!     end: Offset::new(3),
//!     leader_epoch: LeaderEpoch::new(0),
//!     first_unstable_offset: None,
//! };
//! replica.handle(now, appended, &mut effects);
//! assert_eq!(replica.watermarks().high_watermark, Offset::ZERO);
//!
//! effects.clear();
//! replica.handle(now, Input::Flushed { end: Offset::new(3) }, &mut effects);
//! assert_eq!(replica.watermarks().high_watermark, Offset::new(3));
//! assert_eq!(effects, [Effect::PublishWatermarks(replica.watermarks())]);
//! ```

pub mod divergence;
pub mod majority;
pub mod partition;
pub mod quorum;
