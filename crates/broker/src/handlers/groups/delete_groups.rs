//! DeleteGroups: empty groups and their offsets (KIP-229).

use std::collections::HashSet;

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::handlers::{Answer, Context};

pub(in crate::handlers) async fn handle(context: Context, request: DeleteGroupsRequest) -> Answer {
    let mut response = DeleteGroupsResponse::default();
    let mut asked = HashSet::new();
    for group_id in &request.groups_names {
        if !asked.insert(group_id) {
            continue;
        }
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
