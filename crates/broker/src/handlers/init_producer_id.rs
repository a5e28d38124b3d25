//! InitProducerId: an id for an idempotent producer (KIP-98).

use tidelog_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use tidelog_types::{ErrorCode, ProducerEpoch, ProducerId};

use super::{Answer, Context};

pub(super) async fn handle(context: Context, request: InitProducerIdRequest) -> Answer {
    let node = &context.node;
    let refuse = |error_code| InitProducerIdResponse {
        error_code,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        ..Default::default()
    };
    let has_id = request.producer_id != ProducerId::NONE;
    let has_epoch = request.producer_epoch != ProducerEpoch::NONE;
    let is_empty = request
        .transactional_id
        .as_ref()
        .is_some_and(|id| id.is_empty());
    if is_empty || has_id != has_epoch {
        return context.answer(&refuse(ErrorCode::INVALID_REQUEST));
    }
    // Transactions need a coordinator, which this broker does not have.
    if let Some(id) = &request.transactional_id {
        return context.answer(&refuse(node.no_coordinator_of(id)));
    }
    // A producer without transactions that asks for its next epoch gets a new id: nobody else knows the old one.
    let response = match node
        .producer_ids
        .next(&node.controller, node.registration())
        .await
    {
        Ok(producer_id) => InitProducerIdResponse {
            producer_id,
            producer_epoch: ProducerEpoch::new(0),
            ..Default::default()
        },
        Err(code) => refuse(code),
    };
    context.answer(&response)
}
