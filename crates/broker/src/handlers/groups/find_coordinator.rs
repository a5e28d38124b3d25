//! FindCoordinator: which broker leads the partition in which a group lives.

use tidelog_coordinator::group::partition_for;
use tidelog_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use tidelog_types::{ErrorCode, NodeId, Str, TopicName};

use crate::handlers::{Answer, Context};

/// From this version on several keys are asked for at once (KIP-699).
const BATCHED_FROM_VERSION: i16 = 4;
/// The kinds of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(in crate::handlers) async fn handle(
    context: Context,
    request: FindCoordinatorRequest,
) -> Answer {
    if context.header.api_version >= BATCHED_FROM_VERSION {
        let mut response = FindCoordinatorResponse::default();
        for key in &request.coordinator_keys {
            response
                .coordinators
                .push(find(&context, request.key_type, key).await);
        }
        return context.answer(&response);
    }
    let found = find(&context, request.key_type, &request.key).await;
    context.answer(&FindCoordinatorResponse {
        error_code: found.error_code,
        // The older versions have a text for success, too.
        error_message: found.error_message.or(Some(Str::from_static("NONE"))),
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    })
}

async fn find(context: &Context, key_type: i8, key: &Str) -> Coordinator {
    let refuse = |error_code: ErrorCode, message: &str| Coordinator {
        key: key.clone(),
        node_id: NodeId::NONE,
        host: Str::EMPTY,
        port: -1,
        error_code,
        error_message: Some(message.into()),
    };
    let node = &context.node;
    let topic = match key_type {
        GROUP => match node.internal_topic(&TopicName::CONSUMER_OFFSETS).await {
            Ok(topic) => topic,
            Err(code) => return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, code.text()),
        },
        TRANSACTION => match node.transaction_state() {
            Ok(topic) => topic,
            Err(code) => return refuse(code, "this broker has no coordinator for transactions"),
        },
        SHARE => {
            let text = "this broker has no coordinator for share groups";
            return refuse(ErrorCode::INVALID_REQUEST, text);
        }
        _ => return refuse(ErrorCode::INVALID_REQUEST, "there is no such kind of key"),
    };
    let index = partition_for(
        key,
        i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    );
    let partition = topic.partition(index);
    let leader = partition.map_or(NodeId::NONE, |partition| partition.leader);
    if key_type == TRANSACTION
        && leader == node.id
        && let Some(partition) = partition
    {
        let text = "this broker leads the partition of the coordinator, and has no coordinator for transactions";
        return refuse(node.no_transactions(partition), text);
    }
    match context.node.endpoint(leader, &context.peer.listener) {
        Some(endpoint) => Coordinator {
            key: key.clone(),
            node_id: leader,
            host: endpoint.host,
            port: i32::from(endpoint.port),
            ..Default::default()
        },
        None => {
            let text = "the partition of the coordinator has no leader";
            refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, text)
        }
    }
}
