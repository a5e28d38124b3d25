//! ConsumerGroupHeartbeat: joining, keeping up and leaving in groups whose partitions the broker divides (KIP-848).

use tidelog_coordinator::group::{GroupRequest, GroupResponse};
use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use tidelog_types::ErrorCode;

use crate::handlers::{Answer, Context};

pub(in crate::handlers) async fn handle(
    context: Context,
    request: ConsumerGroupHeartbeatRequest,
) -> Answer {
    if !context.serves_consumer_groups() {
        // The API is advertised all the same, as in Kafka.
        let error_code = ErrorCode::UNSUPPORTED_VERSION;
        return context.answer(&ConsumerGroupHeartbeatResponse {
            error_code,
            error_message: Some(error_code.text().into()),
            ..Default::default()
        });
    }
    let group_id = request.group_id.clone();
    let request = GroupRequest::ConsumerGroupHeartbeat(request);
    match context.ask_group(&group_id, request).await {
        GroupResponse::ConsumerGroupHeartbeat(response) => context.answer(&response),
        other => context.mismatch(&other),
    }
}
