use super::MigrationPolicy;
use crate::assignor::Assignor;

/// Bounds and times of a group coordinator. The defaults are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The shortest session a member may ask for (`group.min.session.timeout.ms`).
    pub group_min_session_timeout_ms: i32,
    /// The longest session a member may ask for (`group.max.session.timeout.ms`).
    pub group_max_session_timeout_ms: i32,
    /// How long the first rebalance of an empty group waits for more members (`group.initial.rebalance.delay.ms`).
    pub group_initial_rebalance_delay_ms: i32,
    /// How many members a group may have (`group.max.size`).
    pub group_max_size: usize,
    /// How many members a consumer group may have (`group.consumer.max.size`).
    pub consumer_group_max_size: usize,
    /// After how long without a heartbeat a member of a consumer group is gone (`group.consumer.session.timeout.ms`).
    pub consumer_group_session_timeout_ms: i32,
    /// How often members of consumer groups are to send heartbeats (`group.consumer.heartbeat.interval.ms`).
    pub consumer_group_heartbeat_interval_ms: i32,
    /// How long it takes at least from one assignment to the next (`group.consumer.assignment.interval.ms`, KIP-1263).
    pub consumer_group_assignment_interval_ms: i32,
    /// After how long expressions are looked up again though nothing has happened
    /// (`group.consumer.regex.refresh.interval.ms`).
    pub consumer_group_regex_refresh_interval_ms: i64,
    /// The assignors that members may ask for; the first one is used if nobody asks (`group.consumer.assignors`).
    pub consumer_group_assignors: Vec<Assignor>,
    /// Whether groups with members change their protocol (`group.consumer.migration.policy`).
    pub consumer_group_migration_policy: MigrationPolicy,
    /// How many rebalances of a group are remembered.
    pub history_max: usize,
    /// How many partitions are remembered that a rebalance has moved.
    pub history_moves_max: usize,
    /// How long the parked JoinGroup of a new member is kept: it cannot send heartbeats, since it may not know its
    /// member id yet. Kafka has five minutes, not configurable.
    pub group_new_member_join_timeout_ms: i32,
    /// How many members of a group may have been given an id with which they have not joined yet (KIP-394).
    pub group_pending_members_max: usize,
    /// How many partitions a group may have committed offsets for.
    pub group_offsets_max: usize,
    /// How many groups one shard holds.
    pub groups_max: usize,
    /// The longest metadata that may be committed with an offset, in UTF-16 units (`offset.metadata.max.bytes`).
    pub offset_metadata_max_bytes: usize,
    /// How long offsets live in a group without members (`offsets.retention.minutes`, KIP-211).
    pub offsets_retention_ms: i64,
    /// How often expired offsets are looked for (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval_ms: i64,
    /// How long a request waits for its records to be committed (`offsets.commit.timeout.ms`).
    pub offset_commit_timeout_ms: i32,
    /// The largest batch of records that is asked for in one append: not above `max.message.bytes` of the topic. It bounds
    /// what members may say of themselves, assignments, and OffsetCommit requests.
    pub append_bytes_max: usize,
    /// From where the random part of member ids comes. A fresh number for every shard.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: i32::MAX as usize,
            consumer_group_max_size: i32::MAX as usize,
            consumer_group_session_timeout_ms: 45_000,
            consumer_group_heartbeat_interval_ms: 5_000,
            consumer_group_assignment_interval_ms: 1_000,
            consumer_group_regex_refresh_interval_ms: 600_000,
            consumer_group_assignors: Assignor::ALL.to_vec(),
            consumer_group_migration_policy: MigrationPolicy::default(),
            history_max: 16,
            history_moves_max: 1_000,
            group_new_member_join_timeout_ms: 300_000,
            group_pending_members_max: 10_000,
            group_offsets_max: 1_000_000,
            groups_max: 1_000_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_commit_timeout_ms: 5_000,
            append_bytes_max: 1_048_588,
            seed: 0,
        }
    }
}

impl Config {
    /// The assignor for groups whose members ask for none.
    pub(super) fn default_assignor(&self) -> Assignor {
        let first = self.consumer_group_assignors.first();
        first.copied().unwrap_or(Assignor::Uniform)
    }
}
