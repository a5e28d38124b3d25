//! The APIs that change the cluster: the controller answers, and every node passes on.

use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};

use super::{Context, Controlled};

impl<R: Controlled> Context<R> {
    /// Has the controller answer; where there is none, all that was asked for is refused.
    pub(crate) async fn ask_controller(&self, request: ControllerRequest) -> ControllerResponse {
        let client = self.peer.address.ip();
        match self.node.decide(client, request.clone()).await {
            Ok(response) => response,
            Err(code) => request.refused(&code.into()),
        }
    }
}

/// Declares handlers that pass a request to the controller and its response back.
macro_rules! forward {
    ($($module:ident: $api:ident($request:ident);)*) => {$(
        pub(super) mod $module {
            use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
            use tidelog_protocol::messages::$module::$request;

            use crate::handlers::{Answer, Context, Controlled};

            #[doc = concat!("Answers a ", stringify!($api), " request.")]
            pub(in crate::handlers) async fn handle<R: Controlled>(
                context: Context<R>,
                request: $request,
            ) -> Answer {
                match context.ask_controller(ControllerRequest::$api(request)).await {
                    ControllerResponse::$api(response) => context.answer(&response),
                    other => context.mismatch(&other),
                }
            }
        }
    )*};
}

forward! {
    create_topics: CreateTopics(CreateTopicsRequest);
    create_partitions: CreatePartitions(CreatePartitionsRequest);
    elect_leaders: ElectLeaders(ElectLeadersRequest);
    alter_partition_reassignments: AlterPartitionReassignments(AlterPartitionReassignmentsRequest);
    update_features: UpdateFeatures(UpdateFeaturesRequest);
}

pub(super) mod delete_topics {
    use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
    use tidelog_protocol::messages::delete_topics::DeleteTopicsRequest;

    use crate::handlers::{Answer, Context, Controlled};

    /// Answers a DeleteTopics request. The controller must know its version, since the older ones lack an error code.
    pub(in crate::handlers) async fn handle<R: Controlled>(
        context: Context<R>,
        request: DeleteTopicsRequest,
    ) -> Answer {
        let api_version = context.header.api_version;
        let request = ControllerRequest::DeleteTopics {
            api_version,
            request,
        };
        match context.ask_controller(request).await {
            ControllerResponse::DeleteTopics(response) => context.answer(&response),
            other => context.mismatch(&other),
        }
    }
}

pub(super) mod unregister_broker {
    use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
    use tidelog_protocol::messages::unregister_broker::{
        UnregisterBrokerRequest, UnregisterBrokerResponse,
    };

    use crate::handlers::{Answer, Context, Controlled};

    /// Answers an UnregisterBroker request.
    pub(in crate::handlers) async fn handle<R: Controlled>(
        context: Context<R>,
        request: UnregisterBrokerRequest,
    ) -> Answer {
        let request = ControllerRequest::UnregisterBroker(request);
        match context.ask_controller(request).await {
            ControllerResponse::UnregisterBroker(Ok(())) => {
                context.answer(&UnregisterBrokerResponse::default())
            }
            ControllerResponse::UnregisterBroker(Err(error)) => {
                context.answer(&UnregisterBrokerResponse {
                    error_code: error.code,
                    error_message: error.message,
                    ..Default::default()
                })
            }
            other => context.mismatch(&other),
        }
    }
}

pub(super) mod list_partition_reassignments {
    use tidelog_metadata::controller::list_partition_reassignments;
    use tidelog_protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;

    use crate::handlers::{Answer, Context, Role};

    /// Answers a ListPartitionReassignments request, from what this node knows: the metadata says it all.
    pub(in crate::handlers) async fn handle<R: Role>(
        context: Context<R>,
        request: ListPartitionReassignmentsRequest,
    ) -> Answer {
        let image = context.node.image();
        context.answer(&list_partition_reassignments(&image, &request))
    }
}
