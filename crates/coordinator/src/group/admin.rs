use std::collections::BTreeMap;

use tidelog_protocol::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use tidelog_protocol::messages::list_groups::{ListGroupsRequest, ListedGroup};
use tidelog_types::{ErrorCode, GroupId, Str};

use super::classic::CONSUMER;
use super::group::{Group, Kind};
use super::state::State;

/// The state that DescribeGroups shows for a group that does not exist.
const DEAD: Str = Str::from_static("Dead");
/// From this version of DescribeGroups on, a group that does not exist is an error (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

/// The groups that pass the filters; an empty filter lets everything pass.
pub(super) fn list_groups(
    groups: &BTreeMap<GroupId, Group>,
    request: &ListGroupsRequest,
) -> Vec<ListedGroup> {
    let passes = |filter: &[Str], text: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|name| name.trim().eq_ignore_ascii_case(text))
    };
    groups
        .values()
        .filter(|group| {
            passes(&request.types_filter, group.protocol().name())
                && passes(&request.states_filter, group.state_name())
        })
        .map(|group| ListedGroup {
            group_id: group.id.clone(),
            protocol_type: match &group.kind {
                Kind::Classic(classic) => classic.protocol_type.clone().unwrap_or_default(),
                Kind::Consumer(_) => Str::from_static(CONSUMER),
            },
            group_state: Str::from_static(group.state_name()),
            group_type: Str::from_static(group.protocol().name()),
        })
        .collect()
}

/// One group with its members.
pub(super) fn describe_group(
    groups: &BTreeMap<GroupId, Group>,
    group_id: &GroupId,
    version: i16,
) -> DescribedGroup {
    let group = match groups.get(group_id).map(|group| &group.kind) {
        Some(Kind::Classic(classic)) => classic,
        Some(Kind::Consumer(_)) => {
            return describe_nobody(group_id, version, "is not a classic group");
        }
        None => return describe_nobody(group_id, version, "not found"),
    };
    // Before the group is stable there is no one protocol whose metadata could be shown.
    let protocol_name = group
        .protocol_name
        .clone()
        .filter(|_| group.state == State::Stable);
    let members = group.members.values();
    DescribedGroup {
        group_id: group_id.clone(),
        group_state: Str::from_static(group.state.name()),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        members: members
            .map(|member| DescribedGroupMember {
                member_id: member.member_id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                member_metadata: protocol_name
                    .as_ref()
                    .map(|name| member.metadata(name))
                    .unwrap_or_default(),
                member_assignment: member.assignment.clone(),
            })
            .collect(),
        protocol_data: protocol_name.unwrap_or_default(),
        ..Default::default()
    }
}

fn describe_nobody(group_id: &GroupId, version: i16, why: &str) -> DescribedGroup {
    let (error_code, error_message) = if version >= NOT_FOUND_FROM {
        let message = Str::from(format!("Group {group_id} {why}."));
        (ErrorCode::GROUP_ID_NOT_FOUND, Some(message))
    } else {
        (ErrorCode::NONE, None)
    };
    DescribedGroup {
        error_code,
        error_message,
        group_id: group_id.clone(),
        group_state: DEAD,
        ..Default::default()
    }
}
