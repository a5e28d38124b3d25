//! DeleteTopics: by name, or by id from version 6 on.

use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use tidelog_types::ErrorCode;

use super::{Answer, Context};

pub(super) async fn handle(context: Context, request: DeleteTopicsRequest) -> Answer {
    let api_version = context.header.api_version;
    let asked = request.clone();
    let request = ControllerRequest::DeleteTopics {
        api_version,
        request,
    };
    let refused = match context.node.controller.request(request).await {
        Ok(ControllerResponse::DeleteTopics(response)) => return context.answer(&response),
        Ok(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
        Err(code) => code,
    };
    let named = asked
        .topic_names
        .iter()
        .map(|name| (Some(name.clone()), Default::default()));
    let listed = asked
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), topic.topic_id));
    let responses = named
        .chain(listed)
        .map(|(name, topic_id)| DeletableTopicResult {
            name,
            topic_id,
            error_code: refused,
            ..Default::default()
        });
    context.answer(&DeleteTopicsResponse {
        responses: responses.collect(),
        ..Default::default()
    })
}
