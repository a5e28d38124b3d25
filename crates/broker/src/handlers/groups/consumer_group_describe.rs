//! ConsumerGroupDescribe: members, epochs and assignments of consumer groups (KIP-848).

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};
use tidelog_types::ErrorCode;

use crate::handlers::{Answer, Context, authorized_operations};

pub(in crate::handlers) async fn handle(
    context: Context,
    request: ConsumerGroupDescribeRequest,
) -> Answer {
    let mut response = ConsumerGroupDescribeResponse::default();
    if !context.serves_consumer_groups() {
        let groups = request
            .group_ids
            .into_iter()
            .map(|group_id| DescribedGroup {
                error_code: ErrorCode::UNSUPPORTED_VERSION,
                group_id,
                ..Default::default()
            });
        response.groups = groups.collect();
        return context.answer(&response);
    }
    for group_id in &request.group_ids {
        if group_id.is_empty() {
            response.groups.push(DescribedGroup {
                error_code: ErrorCode::INVALID_GROUP_ID,
                ..Default::default()
            });
            continue;
        }
        let one = ConsumerGroupDescribeRequest {
            group_ids: vec![group_id.clone()],
            ..request.clone()
        };
        match context
            .ask_group(group_id, GroupRequest::ConsumerGroupDescribe(one))
            .await
        {
            GroupResponse::ConsumerGroupDescribe(answer) => response.groups.extend(answer.groups),
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
