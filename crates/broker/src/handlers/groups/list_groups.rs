//! ListGroups: the groups of all shards on this broker.

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};

use crate::handlers::{Answer, Context};

pub(in crate::handlers) async fn handle(context: Context, request: ListGroupsRequest) -> Answer {
    let mut response = ListGroupsResponse::default();
    let version = context.header.api_version;
    let client = context.client_info();
    let request = GroupRequest::ListGroups(request);
    for answer in context
        .node
        .groups
        .request_all(version, &client, &request)
        .await
    {
        let GroupResponse::ListGroups(answer) = answer else {
            return context.mismatch(&answer);
        };
        // A shard that is still loading makes the whole list incomplete, and the client is told so.
        if answer.error_code.is_err() {
            response.error_code = answer.error_code;
        }
        response.groups.extend(answer.groups);
    }
    context.answer(&response)
}
