//! Streams groups (KIP-1071), types 17 and 19 to 23.

use tidelog_types::{GroupId, Str, Timestamp};

pub use crate::messages::streams_group_heartbeat::{
    CopartitionGroup, Endpoint, KeyValue, Subtopology, TaskIds as TargetTaskIds, TopicInfo,
};
use crate::{Wire, message};

/// Key of a streams group.
#[message(versions = 0..=0)]
pub struct StreamsGroupMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// A streams group (KIP-1071).
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupMetadataValue {
    /// The group epoch.
    pub epoch: i32,
    /// A hash of the subscribed topics' metadata.
    pub metadata_hash: i64,
    /// The topology epoch that was checked against the topics, or -1.
    #[wire(tag = 0, default = -1)]
    pub validated_topology_epoch: i32,
    /// The configs of the assignor when it last ran.
    #[wire(tag = 1, default = Some(Default::default()))]
    pub last_assignment_configs: Option<Vec<KeyValue>>,
}

/// Key of a member of a streams group.
#[message(versions = 0..=0)]
pub struct StreamsGroupMemberMetadataKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// A member of a streams group (KIP-1071).
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupMemberMetadataValue {
    /// The name under which a static member survives restarts, or null.
    pub instance_id: Option<Str>,
    /// The rack of the client.
    pub rack_id: Option<Str>,
    /// The client id of the member.
    pub client_id: Str,
    /// The address of the member.
    pub client_host: Str,
    /// How many milliseconds the member may take to give up tasks.
    #[wire(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The epoch of the member's topology.
    pub topology_epoch: i32,
    /// The process in which the member runs.
    pub process_id: Str,
    /// Where the application answers queries, or null.
    pub user_endpoint: Option<Endpoint>,
    /// Tags for placing standby tasks.
    pub client_tags: Vec<KeyValue>,
}

/// Key of the epoch of a streams group's target assignment.
#[message(versions = 0..=0)]
pub struct StreamsGroupTargetAssignmentMetadataKey {
    /// The group.
    pub group_id: GroupId,
}

/// The epoch of a streams group's target assignment.
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupTargetAssignmentMetadataValue {
    /// The group epoch for which the target assignment was computed.
    pub assignment_epoch: i32,
    /// When the target assignment was computed; 0 if unknown.
    #[wire(tag = 0)]
    pub assignment_timestamp: Timestamp,
}

/// Key of what a member of a streams group should own.
#[message(versions = 0..=0)]
pub struct StreamsGroupTargetAssignmentMemberKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// What a member of a streams group should own.
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupTargetAssignmentMemberValue {
    /// The active tasks.
    pub active_tasks: Vec<TargetTaskIds>,
    /// The standby tasks.
    pub standby_tasks: Vec<TargetTaskIds>,
    /// The warm-up tasks.
    pub warmup_tasks: Vec<TargetTaskIds>,
}

/// Key of what a member of a streams group owns.
#[message(versions = 0..=0)]
pub struct StreamsGroupCurrentMemberAssignmentKey {
    /// The group.
    pub group_id: GroupId,
    /// The member.
    pub member_id: Str,
}

/// What a member of a streams group owns (KIP-1071).
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupCurrentMemberAssignmentValue {
    /// The member epoch.
    pub member_epoch: i32,
    /// The member epoch before, for a member whose answer was lost.
    pub previous_member_epoch: i32,
    /// The state of the member's reconciliation.
    pub state: i8,
    /// The active tasks.
    pub active_tasks: Vec<TaskIds>,
    /// The standby tasks.
    pub standby_tasks: Vec<TaskIds>,
    /// The warm-up tasks.
    pub warmup_tasks: Vec<TaskIds>,
    /// The active tasks that the member must still give up.
    pub active_tasks_pending_revocation: Vec<TaskIds>,
    /// The standby tasks that the member must still give up.
    pub standby_tasks_pending_revocation: Vec<TaskIds>,
    /// The warm-up tasks that the member must still give up.
    pub warmup_tasks_pending_revocation: Vec<TaskIds>,
}

/// Tasks of one subtopology that a member owns.
#[derive(Clone, PartialEq, Wire)]
pub struct TaskIds {
    /// The subtopology.
    pub subtopology_id: Str,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// For each partition the epoch in which it was assigned (KIP-1251), or null.
    #[wire(tag = 0, default = Some(Default::default()))]
    pub assignment_epochs: Option<Vec<i32>>,
}

/// Key of the topology of a streams group.
#[message(versions = 0..=0)]
pub struct StreamsGroupTopologyKey {
    /// The group.
    pub group_id: GroupId,
}

/// The topology of a streams group.
#[message(versions = 0..=0, flexible = 0..)]
pub struct StreamsGroupTopologyValue {
    /// The topology epoch.
    pub epoch: i32,
    /// The parts of the topology.
    pub subtopologies: Vec<Subtopology>,
}
