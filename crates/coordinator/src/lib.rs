//! The group coordinator as a machine without I/O.
//!
//! Consumers that share the work of reading topics form a group. Its coordinator decides who is a member, lets one of the
//! members, the leader, divide the partitions, tells everybody what is theirs, and remembers how far the group has read.
//! [`group::GroupCoordinator`] does so for all groups of one partition of `__consumer_offsets`, which is where it keeps what
//! must survive, in the records of Apache Kafka.
//!
//! **The machine touches nothing.** It is handed an [`Input`](group::Input) and the time, and hands back
//! [`Effect`](group::Effect)s: append these records, reply to that request. What depends on an append comes out when its
//! completion goes in. So a test is a list of inputs, a whole week of retention passes in a millisecond, and the broker
//! decides about tasks, locks and sockets alone.
//!
//! ```
//! use std::time::Instant;
//!
//! use tidelog_coordinator::group::{
//!     ClientInfo, Config, Effect, GroupCoordinator, GroupRequest, GroupResponse, Input,
//! };
//! use tidelog_protocol::messages::offset_commit::{
//!     OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
//! };
//! use tidelog_types::{LeaderEpoch, Now, Offset, ProducerId, Timestamp};
//!
//! let now = Now { instant: Instant::now(), timestamp: Timestamp::from_millis(1_600_000_000_000) };
//! let mut effects = Vec::new();
//! let mut shard = GroupCoordinator::new(now, Config::default(), LeaderEpoch::new(0));
//! shard.handle(now, Input::Loaded, &mut effects);
//!
//! // A consumer without group management remembers that it has read up to offset 42.
//! let request = GroupRequest::OffsetCommit(OffsetCommitRequest {
//!     group_id: "billing".into(),
//!     topics: vec![OffsetCommitRequestTopic {
//!         name: "orders".into(),
//!         partitions: vec![OffsetCommitRequestPartition {
//!             partition_index: 0,
//!             committed_offset: Offset::new(42),
//!             ..Default::default()
//!         }],
//!         ..Default::default()
//!     }],
//!     ..Default::default()
//! });
//! let client = ClientInfo { client_id: "app".into(), client_host: "/127.0.0.1".into() };
//! shard.handle(now, Input::Request { request_id: 1, version: 9, client, request }, &mut effects);
//!
//! // First the record goes to the log ...
//! let Some(Effect::Append { append_id, records }) = effects.pop() else { panic!("an append") };
//! let (key, value) = records[0].encode()?;
//! assert!(effects.is_empty());
//!
//! // ... and the answer leaves when it is committed.
//! shard.handle(now, Input::Committed { append_id }, &mut effects);
//! let Some(Effect::Reply { request_id: 1, response }) = effects.pop() else { panic!("a reply") };
//! assert!(matches!(response, GroupResponse::OffsetCommit(_)));
//!
//! // Another broker takes over with what the log says.
//! let mut heir = GroupCoordinator::new(now, Config::default(), LeaderEpoch::new(1));
//! for record in &records {
//!     heir.replay(ProducerId::NONE, record);
//! }
//! assert_eq!(heir.records(), shard.records());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod assignor;
pub mod group;
