//! StreamsGroupDescribe, key 89.

pub use super::streams_group_heartbeat::{Endpoint, KeyValue, TaskIds, TaskOffset, TopicInfo};
use super::*;

/// Asks for the members and the topology of streams groups (KIP-1071).
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupDescribeRequest {
    /// The groups.
    pub group_ids: Vec<GroupId>,
    /// Whether to say what the client may do with each group (KIP-430).
    pub include_authorized_operations: bool,
}

/// Describes streams groups.
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupDescribeResponse {
    /// How long the client should pause because of a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// The groups.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Clone, PartialEq, Wire)]
pub struct DescribedGroup {
    /// What went wrong, if anything.
    pub error_code: ErrorCode,
    /// What went wrong in words, or null.
    pub error_message: Option<Str>,
    /// The group.
    pub group_id: GroupId,
    /// The state of the group, such as `Stable`.
    pub group_state: Str,
    /// The group epoch.
    pub group_epoch: i32,
    /// The group epoch for which the target assignment was computed.
    pub assignment_epoch: i32,
    /// The group's topology; null if there is none yet.
    pub topology: Option<Topology>,
    /// The members.
    pub members: Vec<Member>,
    /// What the client may do with the group, a bit each; the smallest number if not asked for.
    #[wire(default = i32::MIN)]
    pub authorized_operations: i32,
}

/// The topology of an application.
#[derive(Clone, PartialEq, Wire)]
pub struct Topology {
    /// The topology epoch.
    pub epoch: i32,
    /// The parts of the topology; null if the group has not resolved them.
    pub subtopologies: Option<Vec<Subtopology>>,
}

/// A part of a topology whose tasks run independently.
#[derive(Clone, PartialEq, Wire)]
pub struct Subtopology {
    /// The subtopology.
    pub subtopology_id: Str,
    /// The topics that are read.
    pub source_topics: Vec<TopicName>,
    /// The internal topics that are written.
    pub repartition_sink_topics: Vec<TopicName>,
    /// The topics that back up the state.
    pub state_changelog_topics: Vec<TopicInfo>,
    /// The internal topics that are read.
    pub repartition_source_topics: Vec<TopicInfo>,
}

/// One member.
#[derive(Clone, PartialEq, Wire)]
pub struct Member {
    /// The member.
    pub member_id: Str,
    /// The epoch of the member.
    pub member_epoch: i32,
    /// The name under which a static member survives restarts, or null.
    pub instance_id: Option<Str>,
    /// The rack of the client, or null.
    pub rack_id: Option<Str>,
    /// The client id of the member.
    pub client_id: Str,
    /// The address of the member.
    pub client_host: Str,
    /// The epoch of the member's topology.
    pub topology_epoch: i32,
    /// The process in which the member runs.
    pub process_id: Str,
    /// Where the application answers queries, or null.
    pub user_endpoint: Option<Endpoint>,
    /// Tags for placing standby tasks.
    pub client_tags: Vec<KeyValue>,
    /// How far the tasks have restored their state.
    pub task_offsets: Vec<TaskOffset>,
    /// Up to where the changelogs of the tasks go.
    pub task_end_offsets: Vec<TaskOffset>,
    /// What the member has now.
    pub assignment: Assignment,
    /// What the member should have.
    pub target_assignment: Assignment,
    /// Whether the member speaks the classic protocol.
    pub is_classic: bool,
}

/// The tasks of a member.
#[derive(Clone, PartialEq, Wire)]
pub struct Assignment {
    /// The active tasks.
    pub active_tasks: Vec<TaskIds>,
    /// The standby tasks.
    pub standby_tasks: Vec<TaskIds>,
    /// The warm-up tasks.
    pub warmup_tasks: Vec<TaskIds>,
}
