//! One method for each key that is read.

use super::BrokerConfig;
use crate::configs::value::Value;

/// How an accessor reads a value.
trait Read<'a>: Sized {
    fn read(value: &'a Value) -> Option<Self>;
}

macro_rules! read_numbers {
    ($($number:ty)*) => {
        $(impl Read<'_> for $number {
            fn read(value: &Value) -> Option<Self> {
                let Value::Int(n) = value else { return None };
                (*n).try_into().ok()
            }
        })*
    };
}

read_numbers!(i16 i32 i64);

impl Read<'_> for bool {
    fn read(value: &Value) -> Option<Self> {
        let Value::Boolean(b) = value else {
            return None;
        };
        Some(*b)
    }
}

impl Read<'_> for f64 {
    fn read(value: &Value) -> Option<Self> {
        let Value::Double(number) = value else {
            return None;
        };
        Some(*number)
    }
}

impl<'a> Read<'a> for &'a str {
    fn read(value: &'a Value) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        Some(text)
    }
}

impl<'a> Read<'a> for &'a [String] {
    fn read(value: &'a Value) -> Option<Self> {
        let Value::List(texts) = value else {
            return None;
        };
        Some(texts)
    }
}

impl<'a, T: Read<'a>> Read<'a> for Option<T> {
    fn read(value: &'a Value) -> Option<Self> {
        match value {
            Value::Unset => Some(None),
            _ => T::read(value).map(Some),
        }
    }
}

/// One method per key that the server reads.
macro_rules! accessors {
    ($($vis:vis $name:ident: $type:ty = $key:literal;)*) => {
        impl BrokerConfig {
            $(
                #[doc = concat!("The value of `", $key, "`.")]
                $vis fn $name(&self) -> $type {
                    Read::read(self.read($key)).expect("an accessor has the type of its row")
                }
            )*
        }

        #[cfg(test)]
        pub(super) fn read_all(config: &BrokerConfig) {
            $(let _ = config.$name();)*
        }
    };
}

accessors! {
    pub(super) node_id_number: i32 = "node.id";
    pub(super) process_roles: &[String] = "process.roles";
    pub(super) log_dir: &[String] = "log.dir";
    pub(super) metadata_log_dir_own: Option<&str> = "metadata.log.dir";
    pub(super) log_retention_ms_own: Option<i64> = "log.retention.ms";
    pub(super) log_retention_minutes: Option<i64> = "log.retention.minutes";
    pub(super) log_retention_hours: i32 = "log.retention.hours";
    pub(super) log_roll_ms_own: Option<i64> = "log.roll.ms";
    pub(super) log_roll_hours: i32 = "log.roll.hours";
    pub(super) log_roll_jitter_ms_own: Option<i64> = "log.roll.jitter.ms";
    pub(super) log_roll_jitter_hours: i32 = "log.roll.jitter.hours";
    pub(super) log_flush_interval_ms_own: Option<i64> = "log.flush.interval.ms";
    pub(super) log_flush_scheduler_interval_ms: i64 = "log.flush.scheduler.interval.ms";
    pub(super) log_cleaner_min_compaction_lag_ms: i64 = "log.cleaner.min.compaction.lag.ms";
    pub(super) log_cleaner_max_compaction_lag_ms: i64 = "log.cleaner.max.compaction.lag.ms";
    pub(crate) remote_log_storage_system_enable: bool = "remote.log.storage.system.enable";

    pub broker_rack: Option<&str> = "broker.rack";
    pub controller_listener_names: &[String] = "controller.listener.names";
    pub inter_broker_listener_name: Option<&str> = "inter.broker.listener.name";
    pub security_inter_broker_protocol: &str = "security.inter.broker.protocol";
    pub controller_quorum_voters: &[String] = "controller.quorum.voters";
    pub controller_quorum_bootstrap_servers: &[String] = "controller.quorum.bootstrap.servers";
    pub controller_quorum_election_timeout_ms: i32 = "controller.quorum.election.timeout.ms";
    pub controller_quorum_fetch_timeout_ms: i32 = "controller.quorum.fetch.timeout.ms";
    pub controller_quorum_election_backoff_max_ms: i32 = "controller.quorum.election.backoff.max.ms";
    pub controller_quorum_request_timeout_ms: i32 = "controller.quorum.request.timeout.ms";
    pub controller_quorum_retry_backoff_ms: i32 = "controller.quorum.retry.backoff.ms";
    pub controller_quorum_fetch_max_bytes: i32 = "controller.quorum.fetch.max.bytes";
    pub controller_quorum_fetch_snapshot_max_bytes: i32 = "controller.quorum.fetch.snapshot.max.bytes";
    pub controller_quorum_auto_join_enable: bool = "controller.quorum.auto.join.enable";
    pub controller_socket_timeout_ms: i32 = "controller.socket.timeout.ms";
    pub initial_broker_registration_timeout_ms: i32 = "initial.broker.registration.timeout.ms";
    pub socket_connection_setup_timeout_ms: i64 = "socket.connection.setup.timeout.ms";
    pub broker_heartbeat_interval_ms: i32 = "broker.heartbeat.interval.ms";
    pub broker_session_timeout_ms: i32 = "broker.session.timeout.ms";
    pub controlled_shutdown_enable: bool = "controlled.shutdown.enable";
    pub cordoned_log_dirs: &[String] = "cordoned.log.dirs";
    pub log_dir_failure_timeout_ms: i64 = "log.dir.failure.timeout.ms";
    pub socket_send_buffer_bytes: i32 = "socket.send.buffer.bytes";
    pub socket_receive_buffer_bytes: i32 = "socket.receive.buffer.bytes";
    pub socket_request_max_bytes: i32 = "socket.request.max.bytes";
    pub socket_listen_backlog_size: i32 = "socket.listen.backlog.size";
    pub queued_max_requests: i32 = "queued.max.requests";
    pub queued_max_request_bytes: i64 = "queued.max.request.bytes";
    pub max_connections: i32 = "max.connections";
    pub max_connections_per_ip: i32 = "max.connections.per.ip";
    pub(super) max_connections_per_ip_overrides: &str = "max.connections.per.ip.overrides";
    pub max_connection_creation_rate: i32 = "max.connection.creation.rate";
    pub connections_max_idle_ms: i64 = "connections.max.idle.ms";
    pub request_timeout_ms: i32 = "request.timeout.ms";
    pub fetch_max_bytes: i32 = "fetch.max.bytes";
    pub max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots";
    pub max_request_partition_size_limit: i32 = "max.request.partition.size.limit";
    pub auto_create_topics_enable: bool = "auto.create.topics.enable";
    pub delete_topic_enable: bool = "delete.topic.enable";
    pub num_partitions: i32 = "num.partitions";
    pub default_replication_factor: i32 = "default.replication.factor";
    pub min_insync_replicas: i32 = "min.insync.replicas";
    pub unclean_leader_election_enable: bool = "unclean.leader.election.enable";
    pub auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable";
    pub leader_imbalance_check_interval_seconds: i64 = "leader.imbalance.check.interval.seconds";
    pub message_max_bytes: i32 = "message.max.bytes";
    pub replica_lag_time_max_ms: i64 = "replica.lag.time.max.ms";
    pub replica_socket_timeout_ms: i32 = "replica.socket.timeout.ms";
    pub replica_fetch_backoff_ms: i32 = "replica.fetch.backoff.ms";
    pub replica_selector_class: Option<&str> = "replica.selector.class";
    pub replication_quota_window_num: i32 = "replication.quota.window.num";
    pub replication_quota_window_size_seconds: i32 = "replication.quota.window.size.seconds";
    pub alter_log_dirs_replication_quota_window_num: i32 = "alter.log.dirs.replication.quota.window.num";
    pub alter_log_dirs_replication_quota_window_size_seconds: i32 = "alter.log.dirs.replication.quota.window.size.seconds";
    pub num_replica_fetchers: i32 = "num.replica.fetchers";
    pub replica_fetch_max_bytes: i32 = "replica.fetch.max.bytes";
    pub replica_fetch_min_bytes: i32 = "replica.fetch.min.bytes";
    pub replica_fetch_response_max_bytes: i32 = "replica.fetch.response.max.bytes";
    pub replica_fetch_wait_max_ms: i32 = "replica.fetch.wait.max.ms";
    pub replica_high_watermark_checkpoint_interval_ms: i64 = "replica.high.watermark.checkpoint.interval.ms";
    pub metadata_log_segment_bytes: i32 = "metadata.log.segment.bytes";
    pub metadata_log_segment_ms: i64 = "metadata.log.segment.ms";
    pub metadata_max_retention_bytes: i64 = "metadata.max.retention.bytes";
    pub metadata_max_retention_ms: i64 = "metadata.max.retention.ms";
    pub metadata_max_idle_interval_ms: i32 = "metadata.max.idle.interval.ms";
    pub metadata_log_max_record_bytes_between_snapshots: i64 = "metadata.log.max.record.bytes.between.snapshots";
    pub metadata_log_max_snapshot_interval_ms: i64 = "metadata.log.max.snapshot.interval.ms";
    pub log_cleaner_enable: bool = "log.cleaner.enable";
    pub log_cleaner_threads: i32 = "log.cleaner.threads";
    pub log_cleaner_dedupe_buffer_size: i64 = "log.cleaner.dedupe.buffer.size";
    pub log_cleaner_io_buffer_size: i32 = "log.cleaner.io.buffer.size";
    pub log_cleaner_io_buffer_load_factor: f64 = "log.cleaner.io.buffer.load.factor";
    pub log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second";
    pub log_cleaner_backoff_ms: i64 = "log.cleaner.backoff.ms";
    pub num_recovery_threads_per_data_dir: i32 = "num.recovery.threads.per.data.dir";
    pub log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms";
    pub log_segment_delete_delay_ms: i64 = "log.segment.delete.delay.ms";
    pub log_flush_offset_checkpoint_interval_ms: i32 = "log.flush.offset.checkpoint.interval.ms";
    pub log_flush_start_offset_checkpoint_interval_ms: i32 = "log.flush.start.offset.checkpoint.interval.ms";
    pub producer_id_expiration_ms: i32 = "producer.id.expiration.ms";
    pub offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions";
    pub offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor";
    pub offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes";
    pub offsets_topic_compression_codec: i32 = "offsets.topic.compression.codec";
    pub offsets_retention_minutes: i32 = "offsets.retention.minutes";
    pub offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms";
    pub offsets_commit_timeout_ms: i32 = "offsets.commit.timeout.ms";
    pub offset_metadata_max_bytes: i32 = "offset.metadata.max.bytes";
    pub group_initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms";
    pub group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms";
    pub group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms";
    pub group_max_size: i32 = "group.max.size";
    pub group_coordinator_rebalance_protocols: &[String] = "group.coordinator.rebalance.protocols";
    pub group_consumer_assignors: &[String] = "group.consumer.assignors";
    pub group_consumer_migration_policy: &str = "group.consumer.migration.policy";
    pub group_consumer_max_size: i32 = "group.consumer.max.size";
    pub group_consumer_session_timeout_ms: i32 = "group.consumer.session.timeout.ms";
    pub group_consumer_heartbeat_interval_ms: i32 = "group.consumer.heartbeat.interval.ms";
    pub group_consumer_assignment_interval_ms: i32 = "group.consumer.assignment.interval.ms";
    pub transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms";
    pub transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions";
    pub transaction_state_log_replication_factor: i16 = "transaction.state.log.replication.factor";
    pub transaction_state_log_segment_bytes: i32 = "transaction.state.log.segment.bytes";
    pub transaction_state_log_min_isr: i32 = "transaction.state.log.min.isr";
    pub share_coordinator_state_topic_num_partitions: i32 = "share.coordinator.state.topic.num.partitions";
    pub share_coordinator_state_topic_replication_factor: i16 = "share.coordinator.state.topic.replication.factor";
    pub share_coordinator_state_topic_segment_bytes: i32 = "share.coordinator.state.topic.segment.bytes";
    pub share_coordinator_state_topic_min_isr: i16 = "share.coordinator.state.topic.min.isr";
}
