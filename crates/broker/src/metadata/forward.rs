//! Requests to the active controller on another node: as they are sent, and as they are answered.

use bytes::Bytes;
use tidelog_metadata::ApiError;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse, ProducerIdBlock};
use tidelog_protocol::messages::allocate_producer_ids::AllocateProducerIdsRequest;
use tidelog_protocol::records::principal::DefaultPrincipal;
use tidelog_protocol::{Request, Response};
use tidelog_types::ErrorCode;

/// A request as it goes to the controller.
pub(super) enum Forwarded {
    /// In the name of this broker.
    Own(Request),
    /// In the name of a client, in an envelope (KIP-590).
    Clients(Request),
}

/// The request as it is sent; `None` if only the controller of this node can be asked for that.
pub(super) fn ask(request: &ControllerRequest) -> Option<Forwarded> {
    use Forwarded::{Clients, Own};
    Some(match request.clone() {
        ControllerRequest::CreateTopics(request) => Clients(request.into()),
        ControllerRequest::DeleteTopics { request, .. } => Clients(request.into()),
        ControllerRequest::CreatePartitions(request) => Clients(request.into()),
        ControllerRequest::IncrementalAlterConfigs(request) => Clients(request.into()),
        ControllerRequest::AlterConfigs(request) => Clients(request.into()),
        ControllerRequest::ElectLeaders(request) => Clients(request.into()),
        ControllerRequest::AlterPartitionReassignments(request) => Clients(request.into()),
        ControllerRequest::UnregisterBroker(request) => Clients(request.into()),
        ControllerRequest::UpdateFeatures(request) => Clients(request.into()),
        ControllerRequest::AlterPartition(request) => Own(request.into()),
        ControllerRequest::BrokerRegistration(request) => Own(request.into()),
        ControllerRequest::BrokerHeartbeat(request) => Own(request.into()),
        ControllerRequest::ControllerRegistration(request) => Own(request.into()),
        ControllerRequest::AssignReplicasToDirs(request) => Own(request.into()),
        ControllerRequest::AllocateProducerIds(broker) => {
            let request = AllocateProducerIdsRequest {
                broker_id: broker.broker_id,
                broker_epoch: broker.broker_epoch,
            };
            Own(request.into())
        }
        // New kinds of requests are forwarded when there is a message for them.
        _ => return None,
    })
}

/// The answer as the controller gave it. The error is `NOT_CONTROLLER` if the other node is not the active controller.
pub(super) fn answer(response: Response) -> Result<ControllerResponse, ErrorCode> {
    Ok(match response {
        Response::CreateTopics(response) => ControllerResponse::CreateTopics(response),
        Response::DeleteTopics(response) => ControllerResponse::DeleteTopics(response),
        Response::CreatePartitions(response) => ControllerResponse::CreatePartitions(response),
        Response::IncrementalAlterConfigs(response) => {
            ControllerResponse::IncrementalAlterConfigs(response)
        }
        Response::AlterConfigs(response) => ControllerResponse::AlterConfigs(response),
        Response::ElectLeaders(response) => ControllerResponse::ElectLeaders(response),
        Response::AlterPartitionReassignments(response) => {
            ControllerResponse::AlterPartitionReassignments(response)
        }
        Response::UpdateFeatures(response) => ControllerResponse::UpdateFeatures(response),
        Response::UnregisterBroker(response) => {
            let result = decided(response.error_code, ())?;
            ControllerResponse::UnregisterBroker(result.map_err(|mut error: ApiError| {
                error.message = response.error_message;
                error
            }))
        }
        Response::AlterPartition(response) => {
            is_controllers(response.error_code)?;
            ControllerResponse::AlterPartition(response)
        }
        Response::AssignReplicasToDirs(response) => {
            is_controllers(response.error_code)?;
            ControllerResponse::AssignReplicasToDirs(response)
        }
        Response::BrokerRegistration(response) => ControllerResponse::BrokerRegistration(decided(
            response.error_code,
            response.broker_epoch,
        )?),
        Response::BrokerHeartbeat(response) => {
            ControllerResponse::BrokerHeartbeat(decided(response.error_code, response)?)
        }
        Response::ControllerRegistration(response) => {
            ControllerResponse::ControllerRegistration(decided(response.error_code, ())?)
        }
        Response::AllocateProducerIds(response) => {
            let block = ProducerIdBlock {
                first: response.producer_id_start,
                len: response.producer_id_len,
            };
            ControllerResponse::AllocateProducerIds(decided(response.error_code, block)?)
        }
        Response::Envelope(response) => return Err(response.error_code),
        _ => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
    })
}

fn is_controllers(code: ErrorCode) -> Result<(), ErrorCode> {
    match code {
        ErrorCode::NOT_CONTROLLER => Err(code),
        _ => Ok(()),
    }
}

fn decided<T>(code: ErrorCode, granted: T) -> Result<Result<T, ApiError>, ErrorCode> {
    is_controllers(code)?;
    Ok(match code.is_ok() {
        true => Ok(granted),
        false => Err(code.into()),
    })
}

/// Who a client is that nobody has authenticated.
pub(super) fn anonymous() -> Bytes {
    let principal = DefaultPrincipal {
        r#type: "User".into(),
        name: "ANONYMOUS".into(),
        token_authenticated: false,
    };
    principal
        .encode_versioned(0)
        .expect("a short name can be written")
}
