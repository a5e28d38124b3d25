//! Groups of both protocols: the classic one, in which a member assigns, and KIP-848, in which the broker does.
//!
//! A [`GroupCoordinator`] is one *shard*: every group whose id [falls](partition_for) on one partition of
//! `__consumer_offsets`. The leader of the partition runs it.
//!
//! # What is durable, and when
//!
//! A shard decides on its newest state, and writes down what must survive: [`Effect::Append`]. The records take effect in the
//! shard's own books at once, through [`GroupCoordinator::replay`], the same way as when they are loaded. Whatever tells
//! somebody about them waits for [`Input::Committed`]. So nobody ever sees what could still be lost, and there is nothing to
//! roll back: if an append fails, the shard is dropped and another one is loaded from the log.
//!
//! The same goes for what a shard was loaded with and is not committed yet ([`GroupCoordinator::replay_uncommitted`]): the leader of
//! a partition has everything that was ever committed, but does not know at first how far that goes, and what lies at the end of
//! its log may be lost with it. A group that has nothing there is answered at once.
//!
//! Who is in the middle of joining, and when a session ends, is not written down. A new coordinator starts with the newest
//! generation whose assignment was written, and gives every member a whole session to show up.

mod admin;
mod appends;
mod classic;
mod config;
mod consumer;
mod context;
mod coordinator;
mod effect;
#[expect(clippy::module_inception, reason = "a group is a group")]
mod group;
pub mod history;
mod input;
mod invariants;
mod join;
mod member;
mod member_ids;
mod migrate;
mod offsets;
mod partition;
mod record;
mod regex;
mod request;
mod state;
mod sync;
mod timers;
mod view;

use std::collections::BTreeMap;

pub use config::Config;
pub use coordinator::GroupCoordinator;
pub use effect::Effect;
pub use history::Rebalance;
pub use input::{ClientInfo, DeletedTopic, Input};
pub use migrate::MigrationPolicy;
pub use partition::partition_for;
pub use record::GroupRecord;
pub use regex::resolve_regexes;
pub use request::{GroupRequest, GroupResponse};
pub use view::{ClusterView, GroupSettings, TopicChange, TopicChangeKind, TopicView};

/// A map that was emptied keeps what it had set aside, and groups that nobody is in are many.
fn release_if_empty<K, V>(map: &mut BTreeMap<K, V>) {
    if map.is_empty() {
        *map = BTreeMap::new();
    }
}
