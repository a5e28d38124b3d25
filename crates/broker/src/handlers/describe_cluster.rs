//! DescribeCluster: who is in the cluster (KIP-700).

use tidelog_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use tidelog_types::ErrorCode;

use super::{Answer, Context, authorized_operations};

/// What `endpoint_type` may be.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(context: Context, request: DescribeClusterRequest) -> Answer {
    let refuse = |error_code: ErrorCode, message: &str| DescribeClusterResponse {
        error_code,
        error_message: Some(message.into()),
        // Version 0 has only brokers, and what is not known is answered as if it were.
        endpoint_type: if request.endpoint_type == CONTROLLERS {
            CONTROLLERS
        } else {
            BROKERS
        },
        ..Default::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let text = "ask a controller listener about controllers";
            return context.answer(&refuse(ErrorCode::MISMATCHED_ENDPOINT_TYPE, text));
        }
        _ => {
            let text = "there is no such type of endpoint";
            return context.answer(&refuse(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, text));
        }
    }
    let image = context.node.image.load();
    let brokers = image
        .brokers()
        .filter(|broker| !broker.fenced || request.include_fenced_brokers)
        .filter_map(|broker| {
            let endpoint = broker.endpoint(&context.peer.listener)?;
            Some(DescribeClusterBroker {
                broker_id: broker.id,
                host: endpoint.host.clone(),
                port: i32::from(endpoint.port),
                rack: broker.rack.clone(),
                is_fenced: broker.fenced,
            })
        })
        .collect();
    let mut response = DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: context.node.cluster_id.clone(),
        controller_id: context.node.any_live_broker(),
        brokers,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized_operations::CLUSTER;
    }
    context.answer(&response)
}
