//! DeleteGroups: empty groups and their offsets (KIP-229).

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::handlers::{Answer, Context};

pub(in crate::handlers) async fn handle(context: Context, request: DeleteGroupsRequest) -> Answer {
    let mut response = DeleteGroupsResponse::default();
    for group_id in &request.groups_names {
        let one = DeleteGroupsRequest {
            groups_names: vec![group_id.clone()],
        };
        match context
            .ask_group(group_id, GroupRequest::DeleteGroups(one))
            .await
        {
            GroupResponse::DeleteGroups(answer) => response.results.extend(answer.results),
            other => return context.mismatch(&other),
        }
    }
    context.answer(&response)
}
