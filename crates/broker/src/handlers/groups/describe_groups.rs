//! DescribeGroups: members and assignments of classic groups.

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};

use crate::handlers::{Answer, Context, authorized_operations};

pub(in crate::handlers) async fn handle(
    context: Context,
    request: DescribeGroupsRequest,
) -> Answer {
    let mut response = DescribeGroupsResponse::default();
    for group_id in &request.groups {
        let one = DescribeGroupsRequest {
            groups: vec![group_id.clone()],
            ..request.clone()
        };
        match context
            .ask_group(group_id, GroupRequest::DescribeGroups(one))
            .await
        {
            GroupResponse::DescribeGroups(answer) => response.groups.extend(answer.groups),
            other => return context.mismatch(&other),
        }
    }
    if request.include_authorized_operations {
        for group in response
            .groups
            .iter_mut()
            .filter(|group| group.error_code.is_ok())
        {
            group.authorized_operations = authorized_operations::GROUP;
        }
    }
    context.answer(&response)
}
