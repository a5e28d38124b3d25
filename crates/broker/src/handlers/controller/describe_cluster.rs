//! DescribeCluster on a controller: which controllers there are (KIP-919).

use tidelog_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use tidelog_types::{ErrorCode, NodeId};

use super::ControllerNode;
use crate::handlers::{Answer, Context, Role, authorized_operations};

/// What `endpoint_type` may be.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(
    context: Context<ControllerNode>,
    request: DescribeClusterRequest,
) -> Answer {
    let refuse = |error_code: ErrorCode, message: &str| DescribeClusterResponse {
        error_code,
        error_message: Some(message.into()),
        endpoint_type: CONTROLLERS,
        ..Default::default()
    };
    match request.endpoint_type {
        CONTROLLERS => {}
        BROKERS => {
            let text = "ask a listener of a broker about brokers";
            return context.answer(&refuse(ErrorCode::MISMATCHED_ENDPOINT_TYPE, text));
        }
        _ => {
            let text = "there is no such type of endpoint";
            return context.answer(&refuse(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, text));
        }
    }
    let image = context.node.image();
    let controllers = image.controllers().filter_map(|controller| {
        let mut endpoints = controller.end_points.iter();
        let endpoint = endpoints
            .find(|endpoint| endpoint.name.eq_ignore_ascii_case(&context.peer.listener))?;
        Some(DescribeClusterBroker {
            broker_id: controller.controller_id,
            host: endpoint.host.clone(),
            port: i32::from(endpoint.port),
            ..Default::default()
        })
    });
    let leader_id = context.node.controller.leadership().borrow().leader_id;
    let mut response = DescribeClusterResponse {
        endpoint_type: CONTROLLERS,
        cluster_id: context.node.cluster_id.clone(),
        controller_id: leader_id.unwrap_or(NodeId::NONE),
        brokers: controllers.collect(),
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized_operations::CLUSTER;
    }
    context.answer(&response)
}
