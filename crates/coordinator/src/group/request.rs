use tidelog_protocol::messages::consumer_group_describe as describe;
use tidelog_protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use tidelog_protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use tidelog_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup,
};
use tidelog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use tidelog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use tidelog_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use tidelog_protocol::messages::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use tidelog_protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use tidelog_types::{ErrorCode, GroupId};

use super::consumer::refuse_heartbeat;

/// What a client may ask of a shard. Requests that name several groups are split by the shell: each shard sees only
/// groups of its own partition.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    /// Become a member, or take part in the rebalance.
    JoinGroup(JoinGroupRequest),
    /// Hand in (the leader) and take home an assignment.
    SyncGroup(SyncGroupRequest),
    /// Keep a member alive.
    Heartbeat(HeartbeatRequest),
    /// Stop being a member.
    LeaveGroup(LeaveGroupRequest),
    /// Remember positions. Topics that do not exist are the shell's to refuse.
    OffsetCommit(OffsetCommitRequest),
    /// Look up positions of one group; versions below 8, which ask for one group, are translated by the shell.
    OffsetFetch {
        /// The group and its partitions, or all of them.
        group: OffsetFetchRequestGroup,
        /// Refuse partitions whose offset an open transaction may still change (KIP-447).
        require_stable: bool,
    },
    /// Forget positions.
    OffsetDelete(OffsetDeleteRequest),
    /// Join, keep up, or leave a group whose partitions the broker divides (KIP-848).
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    /// Show the members of such groups.
    ConsumerGroupDescribe(ConsumerGroupDescribeRequest),
    /// Name the groups of this shard.
    ListGroups(ListGroupsRequest),
    /// Show the members of groups.
    DescribeGroups(DescribeGroupsRequest),
    /// Remove groups without members, with their offsets.
    DeleteGroups(DeleteGroupsRequest),
}

/// The answer to the [`GroupRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupResponse {
    /// See [`GroupRequest::JoinGroup`].
    JoinGroup(JoinGroupResponse),
    /// See [`GroupRequest::SyncGroup`].
    SyncGroup(SyncGroupResponse),
    /// See [`GroupRequest::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// See [`GroupRequest::LeaveGroup`].
    LeaveGroup(LeaveGroupResponse),
    /// See [`GroupRequest::OffsetCommit`].
    OffsetCommit(OffsetCommitResponse),
    /// See [`GroupRequest::OffsetFetch`].
    OffsetFetch(OffsetFetchResponseGroup),
    /// See [`GroupRequest::OffsetDelete`].
    OffsetDelete(OffsetDeleteResponse),
    /// See [`GroupRequest::ConsumerGroupHeartbeat`].
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    /// See [`GroupRequest::ConsumerGroupDescribe`].
    ConsumerGroupDescribe(ConsumerGroupDescribeResponse),
    /// See [`GroupRequest::ListGroups`].
    ListGroups(ListGroupsResponse),
    /// See [`GroupRequest::DescribeGroups`].
    DescribeGroups(DescribeGroupsResponse),
    /// See [`GroupRequest::DeleteGroups`].
    DeleteGroups(DeleteGroupsResponse),
}

impl GroupRequest {
    /// The group that decides which shard gets the request; `None` for requests about several groups.
    pub const fn group_id(&self) -> Option<&GroupId> {
        match self {
            Self::JoinGroup(request) => Some(&request.group_id),
            Self::SyncGroup(request) => Some(&request.group_id),
            Self::Heartbeat(request) => Some(&request.group_id),
            Self::LeaveGroup(request) => Some(&request.group_id),
            Self::OffsetCommit(request) => Some(&request.group_id),
            Self::OffsetFetch { group, .. } => Some(&group.group_id),
            Self::OffsetDelete(request) => Some(&request.group_id),
            Self::ConsumerGroupHeartbeat(request) => Some(&request.group_id),
            Self::ConsumerGroupDescribe(_)
            | Self::ListGroups(_)
            | Self::DescribeGroups(_)
            | Self::DeleteGroups(_) => None,
        }
    }

    /// The answer when the shard cannot serve: `COORDINATOR_LOAD_IN_PROGRESS` while it is loaded, `NOT_COORDINATOR` when it
    /// lives elsewhere, `COORDINATOR_NOT_AVAILABLE`, `GROUP_AUTHORIZATION_FAILED` and the like.
    pub fn error_response(&self, error_code: ErrorCode, version: i16) -> GroupResponse {
        match self {
            Self::JoinGroup(request) => GroupResponse::JoinGroup(JoinGroupResponse {
                error_code,
                member_id: request.member_id.clone(),
                protocol_name: protocol_name_for(version, None),
                ..Default::default()
            }),
            Self::SyncGroup(_) => GroupResponse::SyncGroup(SyncGroupResponse {
                error_code,
                ..Default::default()
            }),
            // A member that keeps its heartbeats up while the coordinator moves is left in peace.
            Self::Heartbeat(_) => GroupResponse::Heartbeat(HeartbeatResponse {
                error_code: match error_code {
                    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => ErrorCode::NONE,
                    other => other,
                },
                ..Default::default()
            }),
            Self::LeaveGroup(_) => GroupResponse::LeaveGroup(LeaveGroupResponse {
                error_code,
                ..Default::default()
            }),
            Self::OffsetCommit(request) => {
                GroupResponse::OffsetCommit(refuse_commit(request, error_code))
            }
            Self::OffsetFetch { group, .. } => {
                GroupResponse::OffsetFetch(OffsetFetchResponseGroup {
                    group_id: group.group_id.clone(),
                    error_code,
                    ..Default::default()
                })
            }
            Self::OffsetDelete(_) => GroupResponse::OffsetDelete(OffsetDeleteResponse {
                error_code,
                ..Default::default()
            }),
            Self::ConsumerGroupHeartbeat(_) => GroupResponse::ConsumerGroupHeartbeat(
                refuse_heartbeat(error_code, error_code.text()),
            ),
            Self::ConsumerGroupDescribe(request) => {
                let groups = request
                    .group_ids
                    .iter()
                    .map(|group_id| describe::DescribedGroup {
                        group_id: group_id.clone(),
                        error_code,
                        ..Default::default()
                    });
                GroupResponse::ConsumerGroupDescribe(ConsumerGroupDescribeResponse {
                    groups: groups.collect(),
                    ..Default::default()
                })
            }
            Self::ListGroups(_) => GroupResponse::ListGroups(ListGroupsResponse {
                error_code,
                ..Default::default()
            }),
            Self::DescribeGroups(request) => {
                GroupResponse::DescribeGroups(DescribeGroupsResponse {
                    groups: request
                        .groups
                        .iter()
                        .map(|group_id| DescribedGroup {
                            group_id: group_id.clone(),
                            error_code,
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                })
            }
            Self::DeleteGroups(request) => GroupResponse::DeleteGroups(DeleteGroupsResponse {
                results: request
                    .groups_names
                    .iter()
                    .map(|group_id| DeletableGroupResult {
                        group_id: group_id.clone(),
                        error_code,
                    })
                    .collect(),
                ..Default::default()
            }),
        }
    }
}

impl GroupResponse {
    /// Turns an answer that may not leave any more, since its records were not committed, into a refusal.
    pub(super) fn into_error(mut self, error_code: ErrorCode) -> Self {
        match &mut self {
            Self::JoinGroup(response) => response.error_code = error_code,
            Self::SyncGroup(response) => {
                *response = SyncGroupResponse {
                    error_code,
                    ..Default::default()
                };
            }
            Self::Heartbeat(response) => response.error_code = error_code,
            Self::LeaveGroup(response) => {
                *response = LeaveGroupResponse {
                    error_code,
                    ..Default::default()
                };
            }
            Self::OffsetCommit(response) => {
                let partitions = response
                    .topics
                    .iter_mut()
                    .flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|partition| partition.error_code = error_code);
            }
            Self::OffsetFetch(response) => {
                response.topics.clear();
                response.error_code = error_code;
            }
            Self::OffsetDelete(response) => {
                *response = OffsetDeleteResponse {
                    error_code,
                    ..Default::default()
                };
            }
            Self::ConsumerGroupHeartbeat(response) => {
                *response = refuse_heartbeat(error_code, error_code.text());
            }
            Self::ConsumerGroupDescribe(response) => {
                for group in &mut response.groups {
                    *group = describe::DescribedGroup {
                        group_id: group.group_id.clone(),
                        error_code,
                        ..Default::default()
                    };
                }
            }
            Self::ListGroups(response) => {
                *response = ListGroupsResponse {
                    error_code,
                    ..Default::default()
                };
            }
            Self::DescribeGroups(response) => {
                for group in &mut response.groups {
                    *group = DescribedGroup {
                        group_id: group.group_id.clone(),
                        error_code,
                        ..Default::default()
                    };
                }
            }
            Self::DeleteGroups(response) => {
                response
                    .results
                    .iter_mut()
                    .for_each(|result| result.error_code = error_code);
            }
        }
        self
    }
}

/// The same error for every partition of an OffsetCommit, which has no field for an error of the whole.
pub(super) fn refuse_commit(
    request: &OffsetCommitRequest,
    error_code: ErrorCode,
) -> OffsetCommitResponse {
    OffsetCommitResponse {
        topics: request
            .topics
            .iter()
            .map(|topic| OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| OffsetCommitResponsePartition {
                        partition_index: partition.partition_index,
                        error_code,
                    })
                    .collect(),
            })
            .collect(),
        ..Default::default()
    }
}

/// "No protocol" in a JoinGroup answer is null since version 7, and an empty name before.
pub(super) fn protocol_name_for(
    version: i16,
    protocol_name: Option<tidelog_types::Str>,
) -> Option<tidelog_types::Str> {
    if version < 7 {
        Some(protocol_name.unwrap_or_default())
    } else {
        protocol_name
    }
}

/// What clients are told when the partition of `__consumer_offsets` refuses a write.
pub(super) const fn client_error(append_error: ErrorCode) -> ErrorCode {
    match append_error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => {
            ErrorCode::NOT_COORDINATOR
        }
        ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_FETCH_SIZE => ErrorCode::UNKNOWN_SERVER_ERROR,
        other => other,
    }
}
