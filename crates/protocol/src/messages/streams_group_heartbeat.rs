//! StreamsGroupHeartbeat, key 88.

use super::*;

/// Joins a streams group, stays in it, and leaves it (KIP-1071).
///
/// What has not changed since the last heartbeat is null.
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupHeartbeatRequest {
    /// The group.
    pub group_id: GroupId,
    /// The member; the same for as long as the client lives.
    pub member_id: Str,
    /// The epoch of the member; 0 to join, -1 to leave, -2 to leave as a static member that will be
    /// back.
    pub member_epoch: i32,
    /// The epoch of the endpoints that the member knows.
    pub endpoint_information_epoch: i32,
    /// The name under which a static member survives restarts, or null.
    pub instance_id: Option<Str>,
    /// The rack of the client, or null.
    pub rack_id: Option<Str>,
    /// How many milliseconds the member may take to give up tasks, or -1 for no change.
    #[wire(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The application's topology, or null for no change.
    pub topology: Option<Topology>,
    /// The active tasks, or null for no change.
    pub active_tasks: Option<Vec<TaskIds>>,
    /// The standby tasks, or null for no change.
    pub standby_tasks: Option<Vec<TaskIds>>,
    /// The warm-up tasks, or null for no change.
    pub warmup_tasks: Option<Vec<TaskIds>>,
    /// The process in which the member runs, or null for no change.
    pub process_id: Option<Str>,
    /// Where the application answers queries, or null.
    pub user_endpoint: Option<Endpoint>,
    /// Tags for placing standby tasks, or null for no change.
    pub client_tags: Option<Vec<KeyValue>>,
    /// How far the tasks have restored their state, or null for no change.
    pub task_offsets: Option<Vec<TaskOffset>>,
    /// Up to where the changelogs of the tasks go, or null for no change.
    pub task_end_offsets: Option<Vec<TaskOffset>>,
    /// Whether all members of the group should shut down.
    pub shutdown_application: bool,
}

/// The topology of an application.
#[derive(Clone, PartialEq, Wire)]
pub struct Topology {
    /// The topology epoch.
    pub epoch: i32,
    /// The parts of the topology.
    pub subtopologies: Vec<Subtopology>,
}

/// A part of a topology whose tasks run independently.
#[derive(Clone, PartialEq, Wire)]
pub struct Subtopology {
    /// The subtopology.
    pub subtopology_id: Str,
    /// The topics that are read.
    pub source_topics: Vec<TopicName>,
    /// The expressions by which topics are read.
    pub source_topic_regex: Vec<Str>,
    /// The topics that back up the state.
    pub state_changelog_topics: Vec<TopicInfo>,
    /// The internal topics that are written.
    pub repartition_sink_topics: Vec<TopicName>,
    /// The internal topics that are read.
    pub repartition_source_topics: Vec<TopicInfo>,
    /// Which topics must have equally many partitions.
    pub copartition_groups: Vec<CopartitionGroup>,
}

/// An internal topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicInfo {
    /// The topic.
    pub name: TopicName,
    /// The number of partitions; 0 if it follows the source topics.
    pub partitions: i32,
    /// The number of replicas of each partition; 0 for the broker's rule.
    pub replication_factor: i16,
    /// The configs of the topic.
    pub topic_configs: Vec<KeyValue>,
}

/// A key and its value.
#[derive(Clone, PartialEq, Wire)]
pub struct KeyValue {
    /// The key.
    pub key: Str,
    /// The value.
    pub value: Str,
}

/// Topics that must have equally many partitions.
#[derive(Clone, PartialEq, Wire)]
pub struct CopartitionGroup {
    /// The source topics, as indexes into the list of the subtopology.
    pub source_topics: Vec<i16>,
    /// The expressions, as indexes into the list of the subtopology.
    pub source_topic_regex: Vec<i16>,
    /// The internal topics, as indexes into the list of the subtopology.
    pub repartition_source_topics: Vec<i16>,
}

/// Tasks of one subtopology.
#[derive(Clone, PartialEq, Wire)]
pub struct TaskIds {
    /// The subtopology.
    pub subtopology_id: Str,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Where an application listens.
#[derive(Clone, PartialEq, Wire)]
pub struct Endpoint {
    /// The host name or address.
    pub host: Str,
    /// The port.
    pub port: u16,
}

/// An offset of a task.
#[derive(Clone, PartialEq, Wire)]
pub struct TaskOffset {
    /// The subtopology.
    pub subtopology_id: Str,
    /// The partition.
    pub partition: i32,
    /// The offset, summed over the changelogs of the task.
    pub offset: Offset,
}

/// Tells a member its epoch, and which tasks it should run.
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupHeartbeatResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The member.
    pub member_id: Str,
    /// The epoch of the member.
    pub member_epoch: i32,
    /// After how many milliseconds the next heartbeat is due.
    pub heartbeat_interval_ms: i32,
    /// How many offsets a warm-up task may lag behind and still count as caught up.
    pub acceptable_recovery_lag: i32,
    /// After how many milliseconds task offsets are to be told again.
    pub task_offset_interval_ms: i32,
    /// What is to be told about the group; null for nothing.
    pub status: Option<Vec<Status>>,
    /// The active tasks, or null for no change.
    pub active_tasks: Option<Vec<TaskIds>>,
    /// The standby tasks, or null for no change.
    pub standby_tasks: Option<Vec<TaskIds>>,
    /// The warm-up tasks, or null for no change.
    pub warmup_tasks: Option<Vec<TaskIds>>,
    /// The epoch of the endpoints below.
    pub endpoint_information_epoch: i32,
    /// Where which partitions can be queried, or null for no change.
    pub partitions_by_user_endpoint: Option<Vec<EndpointToPartitions>>,
}

/// Something to be told about the group.
#[derive(Clone, PartialEq, Wire)]
pub struct Status {
    /// 0 the topology is an older one, 1 source topics are missing, 2 topics do not have the right
    /// number of partitions, 3 internal topics are missing, 4 the application shuts down, 5 the
    /// assignment comes later.
    pub status_code: i8,
    /// The same in words.
    pub status_detail: Str,
}

/// What can be queried at one place.
#[derive(Clone, PartialEq, Wire)]
pub struct EndpointToPartitions {
    /// Where the application answers queries.
    pub user_endpoint: Endpoint,
    /// The partitions whose active tasks run there.
    pub active_partitions: Vec<TopicPartition>,
    /// The partitions whose standby tasks run there.
    pub standby_partitions: Vec<TopicPartition>,
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Wire)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partitions.
    pub partitions: Vec<i32>,
}
