//! The APIs that change the cluster: the controller answers, this broker passes on.

/// Declares handlers that pass a request to the controller and its response back.
macro_rules! forward {
    ($($(#[$doc:meta])* $module:ident: $api:ident($request:ident => $refuse:expr);)*) => {$(
        $(#[$doc])*
        pub(super) mod $module {
            use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
            use tidelog_protocol::messages::$module::*;
            #[allow(unused_imports, reason = "not every refusal names the type")]
            use tidelog_types::ErrorCode;

            use crate::handlers::{Answer, Context};

            pub(in crate::handlers) async fn handle(context: Context, request: $request) -> Answer {
                let refuse: fn(&$request, ErrorCode) -> _ = $refuse;
                let asked = request.clone();
                let controller = &context.node.controller;
                match controller.request(ControllerRequest::$api(request)).await {
                    Ok(ControllerResponse::$api(response)) => context.answer(&response),
                    Ok(_) => context.answer(&refuse(&asked, ErrorCode::UNKNOWN_SERVER_ERROR)),
                    Err(code) => context.answer(&refuse(&asked, code)),
                }
            }
        }
    )*};
}

forward! {
    /// CreateTopics.
    create_topics: CreateTopics(CreateTopicsRequest => |request, error_code| {
        let topics = request.topics.iter().map(|topic| CreatableTopicResult {
            name: topic.name.clone(),
            error_code,
            ..Default::default()
        });
        CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
    });
    /// CreatePartitions.
    create_partitions: CreatePartitions(CreatePartitionsRequest => |request, error_code| {
        let results = request.topics.iter().map(|topic| CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code,
            ..Default::default()
        });
        CreatePartitionsResponse { results: results.collect(), ..Default::default() }
    });
    /// AlterConfigs, which replaces all overrides of a resource.
    alter_configs: AlterConfigs(AlterConfigsRequest => |request, error_code| {
        let responses = request.resources.iter().map(|resource| AlterConfigsResourceResponse {
            error_code,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        });
        AlterConfigsResponse { responses: responses.collect(), ..Default::default() }
    });
    /// IncrementalAlterConfigs (KIP-339).
    incremental_alter_configs: IncrementalAlterConfigs(IncrementalAlterConfigsRequest => |request, error_code| {
        let responses = request.resources.iter().map(|resource| AlterConfigsResourceResponse {
            error_code,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        });
        IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() }
    });
}
