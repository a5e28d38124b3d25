//! The group coordinators of this node: one shard for each partition of `__consumer_offsets` that it leads.
//!
//! A shard is a [`GroupCoordinator`] behind a mutex; what it wants written goes into its partition like any producer's
//! batch, and an answer leaves when the records behind it are committed.

mod explain;
mod json;
mod shard;

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tidelog_coordinator::assignor::Assignor;
use tidelog_coordinator::group::{
    ClientInfo, ClusterView, Config, DeletedTopic, GroupRequest, GroupResponse, MigrationPolicy,
    partition_for,
};
use tidelog_metadata::Delta;
use tidelog_metadata::configs::{BrokerConfig, ResourceKind};
use tidelog_metadata::image::Image;
use tidelog_node::groups::{View, topic_changes};
use tidelog_types::{ErrorCode, GroupId, PartitionIndex};
use tokio::sync::Notify;

use self::shard::Shard;
use crate::clock::{Clock, real};
use crate::store::partition::{Accepted, AppendRefused, Partition, TransactionEnd, Waiter};

/// The settings of the coordinators out of the broker's.
pub(crate) fn config(broker: &BrokerConfig) -> Config {
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    Config {
        group_min_session_timeout_ms: broker.group_min_session_timeout_ms(),
        group_max_session_timeout_ms: broker.group_max_session_timeout_ms(),
        group_initial_rebalance_delay_ms: broker.group_initial_rebalance_delay_ms(),
        group_max_size: count(broker.group_max_size()),
        consumer_group_max_size: count(broker.group_consumer_max_size()),
        consumer_group_session_timeout_ms: broker.group_consumer_session_timeout_ms(),
        consumer_group_heartbeat_interval_ms: broker.group_consumer_heartbeat_interval_ms(),
        consumer_group_assignment_interval_ms: broker.group_consumer_assignment_interval_ms(),
        consumer_group_assignors: assignors(broker.group_consumer_assignors()),
        consumer_group_migration_policy: MigrationPolicy::from_name(
            broker.group_consumer_migration_policy(),
        )
        .unwrap_or_default(),
        offset_metadata_max_bytes: count(broker.offset_metadata_max_bytes()),
        offsets_retention_ms: i64::from(broker.offsets_retention_minutes()) * 60_000,
        offsets_retention_check_interval_ms: broker.offsets_retention_check_interval_ms(),
        offset_commit_timeout_ms: broker.offsets_commit_timeout_ms(),
        append_bytes_max: count(broker.message_max_bytes()),
        ..Config::default()
    }
}

/// The assignors that consumer groups may use. A class of Kafka goes by its last name; what is not known here is left out.
fn assignors(names: &[String]) -> Vec<Assignor> {
    let known = names.iter().filter_map(|name| {
        let class = name.rsplit('.').next().unwrap_or(name);
        let short = class.trim_end_matches("Assignor").to_ascii_lowercase();
        let assignor = Assignor::from_name(&short);
        if assignor.is_none() {
            tracing::warn!(%name, "there is no such assignor for consumer groups");
        }
        assignor
    });
    known.collect()
}

/// All shards of this node.
pub(crate) struct Groups {
    /// By partition of `__consumer_offsets`; as long as the topic has partitions.
    shards: RwLock<Vec<Option<Arc<Shard>>>>,
    config: Config,
    clock: Clock,
    /// What the shards see of the cluster; `None` before the first metadata.
    view: RwLock<Option<Arc<dyn ClusterView>>>,
    /// When the timer task means to wake up next, and how to wake it earlier.
    next_wake: Mutex<Option<Instant>>,
    wake: Arc<Notify>,
}

impl Groups {
    pub(crate) fn new(config: Config, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            shards: RwLock::new(Vec::new()),
            config,
            clock,
            view: RwLock::new(None),
            next_wake: Mutex::new(None),
            wake: Arc::default(),
        })
    }

    /// Takes over the groups of a partition that this node leads now: they are loaded on a thread of their own, and
    /// requests are refused with `COORDINATOR_LOAD_IN_PROGRESS` until they are there.
    pub(crate) fn elected(self: &Arc<Self>, partition: &Arc<Partition>, partitions: usize) {
        let index = partition.name.partition as usize;
        let shard = Shard::new(Arc::clone(partition), Arc::downgrade(self));
        {
            let mut shards = self.shards.write();
            let partitions = partitions.max(index + 1).max(shards.len());
            shards.resize(partitions, None);
            if shards[index].is_some() {
                return;
            }
            shards[index] = Some(Arc::clone(&shard));
        }
        // An empty partition, which is what a first start finds fifty times, needs no thread.
        if shard.is_quick_to_load() {
            shard.load();
        } else {
            shard.reload();
        }
    }

    /// Lets go of the groups of a partition that this node leads no longer.
    pub(crate) fn resigned(&self, partition: PartitionIndex) {
        let shard = self
            .shards
            .write()
            .get_mut(partition as usize)
            .and_then(Option::take);
        if let Some(shard) = shard {
            shard.unload();
        }
    }

    /// Has the coordinator of `group_id` answer a request.
    pub(crate) async fn request(
        &self,
        group_id: &GroupId,
        version: i16,
        client: ClientInfo,
        request: GroupRequest,
    ) -> GroupResponse {
        match self.shard_of(group_id) {
            Some(shard) => shard.request(version, client, request).await,
            None => request.error_response(ErrorCode::NOT_COORDINATOR, version),
        }
    }

    /// Has every shard answer a request about all groups.
    pub(crate) async fn request_all(
        &self,
        version: i16,
        client: &ClientInfo,
        request: &GroupRequest,
    ) -> Vec<GroupResponse> {
        let shards: Vec<_> = self.shards.read().iter().flatten().cloned().collect();
        let mut responses = Vec::with_capacity(shards.len());
        for shard in shards {
            responses.push(
                shard
                    .request(version, client.clone(), request.clone())
                    .await,
            );
        }
        responses
    }

    /// Writes the end of a transaction into a partition that this node leads: what was committed in it counts, or does not.
    pub(crate) fn end_transaction(
        &self,
        partition: PartitionIndex,
        end: &TransactionEnd,
        waiter: Waiter,
    ) -> Result<Accepted, AppendRefused> {
        let index = usize::try_from(partition).ok();
        let shard = index.and_then(|index| self.shards.read().get(index).cloned().flatten());
        match shard {
            Some(shard) => shard.end_transaction(end, waiter),
            None => Err(AppendRefused::Replica(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        }
    }

    /// Why a group rebalanced, as JSON; `None` if this node does not have it.
    pub(crate) fn explain(&self, group_id: &GroupId) -> Option<String> {
        self.shard_of(group_id)?.explain(group_id)
    }

    /// The metadata has changed.
    pub(crate) fn cluster_changed(
        &self,
        image: Arc<Image>,
        config: Arc<BrokerConfig>,
        version: i64,
        delta: &Delta,
    ) {
        let changes = topic_changes(&image, delta);
        let is_set = delta
            .configs
            .iter()
            .any(|resource| matches!(resource.kind, ResourceKind::Group | ResourceKind::Broker));
        let view: Arc<dyn ClusterView> = Arc::new(View::new(image, config, version));
        *self.view.write() = Some(Arc::clone(&view));
        if changes.is_empty() && !is_set {
            return;
        }
        for shard in self.all() {
            shard.cluster_changed(Arc::clone(&view), changes.clone());
        }
    }

    fn view(&self) -> Option<Arc<dyn ClusterView>> {
        self.view.read().clone()
    }

    /// Forgets the offsets of deleted topics.
    pub(crate) fn topics_deleted(&self, topics: &[DeletedTopic]) {
        for shard in self.all() {
            shard.topics_deleted(topics.to_vec());
        }
    }

    /// Wakes the shards whose timers have run out, until the broker stops.
    pub(crate) async fn run_timers(this: Weak<Self>) {
        let Some(follower) = this.upgrade().map(|groups| {
            let wake = Arc::clone(&groups.wake);
            groups.clock.follow(move || wake.notify_one())
        }) else {
            return;
        };
        loop {
            let Some(groups) = this.upgrade() else { return };
            let seen = follower.look();
            let earliest = groups.fire_timers();
            *groups.next_wake.lock() = earliest;
            // A deadline that was set before `next_wake` was stored may be earlier than it.
            let is_earlier = |at| earliest.is_none_or(|earliest| at < earliest);
            if groups.earliest().is_some_and(is_earlier) {
                continue;
            }
            follower.caught_up(seen);
            let wake = groups.wake.notified();
            match earliest.and_then(|earliest| groups.clock.in_real_time(earliest)) {
                Some(earliest) => {
                    tokio::select! {
                        () = real::sleep_until(earliest) => {}
                        () = wake => {}
                    }
                }
                None => wake.await,
            }
        }
    }

    /// Hands in every deadline that has passed; gives the earliest one that is left.
    fn fire_timers(&self) -> Option<Instant> {
        let now = self.clock.now().instant;
        for shard in self.all() {
            if shard.deadline().is_some_and(|deadline| deadline <= now) {
                shard.timeout();
            }
        }
        self.earliest()
    }

    fn earliest(&self) -> Option<Instant> {
        self.shards
            .read()
            .iter()
            .flatten()
            .filter_map(|shard| shard.deadline())
            .min()
    }

    /// Makes sure that the timer task wakes up for `deadline`.
    fn schedule(&self, deadline: Instant) {
        if self.next_wake.lock().is_none_or(|next| deadline < next) {
            self.wake.notify_one();
        }
    }

    fn all(&self) -> Vec<Arc<Shard>> {
        self.shards.read().iter().flatten().cloned().collect()
    }

    fn shard_of(&self, group_id: &GroupId) -> Option<Arc<Shard>> {
        let shards = self.shards.read();
        let index = partition_for(group_id, i32::try_from(shards.len()).ok()?);
        shards.get(index as usize).cloned().flatten()
    }
}
