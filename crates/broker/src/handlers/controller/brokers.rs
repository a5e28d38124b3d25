//! What brokers and other controllers ask of the active controller.

use tidelog_metadata::controller::{BrokerEpoch, ControllerRequest, ControllerResponse};
use tidelog_types::ErrorCode;

use super::ControllerNode;
use super::presence::unreachable;
use crate::handlers::{Answer, Context};

impl Context<ControllerNode> {
    async fn decide(&self, request: ControllerRequest) -> Result<ControllerResponse, ErrorCode> {
        self.node.controller.request(request).await
    }
}

pub(super) mod broker_registration {
    use tidelog_protocol::messages::broker_registration::{
        BrokerRegistrationRequest, BrokerRegistrationResponse,
    };

    use super::*;

    pub(in crate::handlers) async fn handle(
        context: Context<ControllerNode>,
        request: BrokerRegistrationRequest,
    ) -> Answer {
        let refuse = |error_code| BrokerRegistrationResponse {
            error_code,
            ..Default::default()
        };
        let broker_id = request.broker_id;
        let asked = ControllerRequest::BrokerRegistration(request.clone());
        let mut decided = context.decide(asked.clone()).await;
        if is_duplicate(&decided)
            && let Some(former) = context.node.presence.former(&request)
        {
            // The former process of this broker is gone: its session need not end before its successor begins.
            let _ = context.decide(unreachable(former)).await;
            decided = context.decide(asked).await;
        }
        if is_duplicate(&decided)
            && context
                .node
                .presence
                .is_another_rival(request.incarnation_id)
        {
            let peer = context.peer.address;
            tracing::warn!(%broker_id, %peer, "a second process wants to be this broker, which is alive; if it is another node, give it a node.id of its own");
        }
        match decided {
            Ok(ControllerResponse::BrokerRegistration(Ok(broker_epoch))) => {
                context.answer(&BrokerRegistrationResponse {
                    broker_epoch,
                    ..Default::default()
                })
            }
            Ok(ControllerResponse::BrokerRegistration(Err(error))) => {
                // It says so itself, and asks again if that may help.
                tracing::debug!(%broker_id, %error, "a broker is not registered");
                context.answer(&refuse(error.code))
            }
            Ok(other) => context.mismatch(&other),
            Err(code) => context.answer(&refuse(code)),
        }
    }

    fn is_duplicate(decided: &Result<ControllerResponse, ErrorCode>) -> bool {
        let Ok(ControllerResponse::BrokerRegistration(Err(error))) = decided else {
            return false;
        };
        error.code == ErrorCode::DUPLICATE_BROKER_REGISTRATION
    }
}

pub(super) mod broker_heartbeat {
    use tidelog_protocol::messages::broker_heartbeat::{
        BrokerHeartbeatRequest, BrokerHeartbeatResponse,
    };

    use super::*;

    pub(in crate::handlers) async fn handle(
        context: Context<ControllerNode>,
        request: BrokerHeartbeatRequest,
    ) -> Answer {
        let refuse = |error_code| BrokerHeartbeatResponse {
            error_code,
            ..Default::default()
        };
        let broker = BrokerEpoch {
            broker_id: request.broker_id,
            broker_epoch: request.broker_epoch,
        };
        let _hearing = context.node.presence.hears(broker);
        match context
            .decide(ControllerRequest::BrokerHeartbeat(request))
            .await
        {
            Ok(ControllerResponse::BrokerHeartbeat(Ok(response))) => {
                context.node.presence.reported(broker, &context.peer);
                context.answer(&response)
            }
            Ok(ControllerResponse::BrokerHeartbeat(Err(error))) => {
                context.answer(&refuse(error.code))
            }
            Ok(other) => context.mismatch(&other),
            Err(code) => context.answer(&refuse(code)),
        }
    }
}

pub(super) mod allocate_producer_ids {
    use tidelog_protocol::messages::allocate_producer_ids::{
        AllocateProducerIdsRequest, AllocateProducerIdsResponse,
    };

    use super::*;

    pub(in crate::handlers) async fn handle(
        context: Context<ControllerNode>,
        request: AllocateProducerIdsRequest,
    ) -> Answer {
        let refuse = |error_code| AllocateProducerIdsResponse {
            error_code,
            ..Default::default()
        };
        let request = ControllerRequest::AllocateProducerIds(BrokerEpoch {
            broker_id: request.broker_id,
            broker_epoch: request.broker_epoch,
        });
        match context.decide(request).await {
            Ok(ControllerResponse::AllocateProducerIds(Ok(block))) => {
                context.answer(&AllocateProducerIdsResponse {
                    producer_id_start: block.first,
                    producer_id_len: block.len,
                    ..Default::default()
                })
            }
            Ok(ControllerResponse::AllocateProducerIds(Err(error))) => {
                context.answer(&refuse(error.code))
            }
            Ok(other) => context.mismatch(&other),
            Err(code) => context.answer(&refuse(code)),
        }
    }
}

pub(super) mod controller_registration {
    use tidelog_protocol::messages::controller_registration::{
        ControllerRegistrationRequest, ControllerRegistrationResponse,
    };

    use super::*;

    pub(in crate::handlers) async fn handle(
        context: Context<ControllerNode>,
        request: ControllerRegistrationRequest,
    ) -> Answer {
        let request = ControllerRequest::ControllerRegistration(request);
        match context.decide(request).await {
            Ok(ControllerResponse::ControllerRegistration(Ok(()))) => {
                context.answer(&ControllerRegistrationResponse::default())
            }
            Ok(ControllerResponse::ControllerRegistration(Err(error))) => {
                context.answer(&ControllerRegistrationResponse {
                    error_code: error.code,
                    error_message: error.message,
                    ..Default::default()
                })
            }
            Ok(other) => context.mismatch(&other),
            Err(error_code) => context.answer(&ControllerRegistrationResponse {
                error_code,
                ..Default::default()
            }),
        }
    }
}

/// Declares handlers whose messages the controller knows as they are; where it is not the active one, a code says so.
macro_rules! decided {
    ($($module:ident: $api:ident($request:ident, $response:ident);)*) => {$(
        pub(super) mod $module {
            use tidelog_protocol::messages::$module::{$request, $response};

            use super::*;

            #[doc = concat!("Answers an ", stringify!($api), " request.")]
            pub(in crate::handlers) async fn handle(
                context: Context<ControllerNode>,
                request: $request,
            ) -> Answer {
                match context.decide(ControllerRequest::$api(request)).await {
                    Ok(ControllerResponse::$api(response)) => context.answer(&response),
                    Ok(other) => context.mismatch(&other),
                    Err(error_code) => context.answer(&$response {
                        error_code,
                        ..Default::default()
                    }),
                }
            }
        }
    )*};
}

decided! {
    alter_partition: AlterPartition(AlterPartitionRequest, AlterPartitionResponse);
    assign_replicas_to_dirs: AssignReplicasToDirs(AssignReplicasToDirsRequest, AssignReplicasToDirsResponse);
}
