//! AlterConfigs and IncrementalAlterConfigs. The controller decides; configs that a broker is to have itself it looks at first.

use tidelog_metadata::ApiError;
use tidelog_metadata::bootstrap::ELIGIBLE_LEADER_REPLICAS_VERSION;
use tidelog_metadata::configs::{
    ConfigMap, ConfigResource, ResourceKind, Rules, check_broker_resource,
};
use tidelog_types::Str;

use crate::node::Node;

/// What a broker refuses by itself: the resource, where it stood in the request, and why.
type Refused<T> = Vec<(usize, T, ApiError)>;

/// Takes out of a request what is refused.
fn take_refused<T>(
    resources: &mut Vec<T>,
    check: impl Fn(&T) -> Result<(), ApiError>,
) -> Refused<T> {
    let mut refused = Vec::new();
    for (index, resource) in std::mem::take(resources).into_iter().enumerate() {
        match check(&resource) {
            Ok(()) => resources.push(resource),
            Err(error) => refused.push((index, resource, error)),
        }
    }
    refused
}

impl Node {
    /// Whether this broker could have the configs that are meant for it, or for all brokers.
    fn check_configs(
        &self,
        (kind, name): (i8, &Str),
        change: impl FnOnce(&ConfigResource, &ConfigMap, Rules<'_>) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let Some(kind @ ResourceKind::Broker) = ResourceKind::from_id(kind) else {
            return Ok(());
        };
        if let Some(error) = check_broker_resource(name, self.id) {
            return Err(error);
        }
        let (image, config) = (self.image.load(), self.broker_config.load());
        let before = image.configs(kind, name).cloned().unwrap_or_default();
        let target = ConfigResource {
            kind,
            name: name.clone(),
        };
        let rules = Rules {
            broker: &config,
            is_own: true,
            elr_enabled: image.feature(ELIGIBLE_LEADER_REPLICAS_VERSION) > 0,
        };
        change(&target, &before, rules)
    }
}

/// Declares the handler of one of the two; what the request changes is found with the function behind it.
macro_rules! handler {
    ($module:ident: $api:ident($request:ident, $response:ident), $changes:path) => {
        pub(super) mod $module {
            use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
            use tidelog_protocol::messages::$module as api;

            use super::{Refused, take_refused};
            use crate::handlers::{Answer, Context, Controlled};

            #[doc = concat!("Answers a ", stringify!($api), " request.")]
            pub(in crate::handlers) async fn handle<R: Controlled>(
                context: Context<R>,
                mut request: api::$request,
            ) -> Answer {
                let mut refused: Refused<api::AlterConfigsResource> = Vec::new();
                if let Some(node) = context.node.as_broker() {
                    refused = take_refused(&mut request.resources, |resource| {
                        let id = (resource.resource_type, &resource.resource_name);
                        node.check_configs(id, |target, before, rules| {
                            $changes(&resource.configs, target, before, rules).map(drop)
                        })
                    });
                }
                let mut response = api::$response::default();
                if refused.is_empty() || !request.resources.is_empty() {
                    match context
                        .ask_controller(ControllerRequest::$api(request))
                        .await
                    {
                        ControllerResponse::$api(answer) => response = answer,
                        other => return context.mismatch(&other),
                    }
                }
                for (index, resource, error) in refused {
                    let answer = api::AlterConfigsResourceResponse {
                        error_code: error.code,
                        error_message: error.message,
                        resource_type: resource.resource_type,
                        resource_name: resource.resource_name,
                    };
                    let index = index.min(response.responses.len());
                    response.responses.insert(index, answer);
                }
                context.answer(&response)
            }
        }
    };
}

handler!(
    incremental_alter_configs: IncrementalAlterConfigs(IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse),
    tidelog_metadata::controller::incremental_changes
);
handler!(
    alter_configs: AlterConfigs(AlterConfigsRequest, AlterConfigsResponse),
    tidelog_metadata::controller::whole_changes
);
