//! How much replicas are copied in a second: among brokers (KIP-73), and among the directories of one (KIP-113).

use std::time::Duration;

use tidelog_metadata::configs::{BrokerConfig, ThrottledReplicas, TopicConfig};

use super::Store;
use super::partition::Partition;
use crate::rate::Throttle;

/// The bounds of this node.
#[derive(Default)]
pub(crate) struct Throttles {
    /// What it sends to followers.
    pub(crate) leader: Throttle,
    /// What it fetches from leaders.
    pub(crate) follower: Throttle,
    /// What it copies between its log directories.
    pub(crate) log_dirs: Throttle,
}

impl Throttles {
    pub(super) fn configure(&self, config: &BrokerConfig) {
        let window = |samples: i32, seconds: i32| {
            let seconds = i64::from(samples) * i64::from(seconds);
            Duration::from_secs(seconds.unsigned_abs())
        };
        let among_brokers = window(
            config.replication_quota_window_num(),
            config.replication_quota_window_size_seconds(),
        );
        let here = window(
            config.alter_log_dirs_replication_quota_window_num(),
            config.alter_log_dirs_replication_quota_window_size_seconds(),
        );
        let leader = config.leader_replication_throttled_rate();
        let follower = config.follower_replication_throttled_rate();
        let log_dirs = config.replica_alter_log_dirs_io_max_bytes_per_second();
        self.leader.configure(leader, among_brokers);
        self.follower.configure(follower, among_brokers);
        self.log_dirs.configure(log_dirs, here);
    }
}

impl Store {
    /// The bound on what is sent of a partition to its followers, if it has one.
    pub(crate) fn leader_throttle(&self, partition: &Partition) -> Option<&Throttle> {
        let throttle = &self.throttles.leader;
        self.applies(throttle, partition, |topic| {
            &topic.leader_throttled_replicas
        })
    }

    /// The bound on what is fetched of a partition from its leader, if it has one.
    pub(crate) fn follower_throttle(&self, partition: &Partition) -> Option<&Throttle> {
        let throttle = &self.throttles.follower;
        self.applies(throttle, partition, |topic| {
            &topic.follower_throttled_replicas
        })
    }

    fn applies<'a>(
        &self,
        throttle: &'a Throttle,
        partition: &Partition,
        throttled: impl FnOnce(&TopicConfig) -> &ThrottledReplicas,
    ) -> Option<&'a Throttle> {
        // Topics are looked at only while there is a rate.
        if !throttle.is_bounded() {
            return None;
        }
        let topic = self.topics.by_id(partition.topic_id)?;
        let is_throttled = throttled(&topic.config())
            .contains(partition.name.partition, self.replica_config.node_id);
        is_throttled.then_some(throttle)
    }
}
