//! The APIs of group coordinators. Each asks the shard that has the group; what concerns many groups is split by shard.

pub(super) mod consumer_group_describe;
pub(super) mod consumer_group_heartbeat;
pub(super) mod delete_groups;
pub(super) mod describe_groups;
pub(super) mod find_coordinator;
pub(super) mod list_groups;
pub(super) mod offset_commit;
pub(super) mod offset_delete;
pub(super) mod offset_fetch;

use tidelog_coordinator::group::{ClientInfo, GroupRequest, GroupResponse};
use tidelog_metadata::bootstrap::GROUP_VERSION;
use tidelog_types::GroupId;

use super::{Answer, Context};

impl Context {
    /// Who asks, as the members of a group are remembered.
    fn client_info(&self) -> ClientInfo {
        ClientInfo {
            client_id: self
                .header
                .client_id
                .as_ref()
                .map(|id| id.detach())
                .unwrap_or_default(),
            client_host: format!("/{}", self.peer.address.ip()).into(),
        }
    }

    /// Whether groups whose partitions the broker divides are served (KIP-848): the cluster has switched them on, and nobody
    /// has switched them off for this broker.
    fn serves_consumer_groups(&self) -> bool {
        let config = self.node.broker_config.load();
        let mut protocols = config.group_coordinator_rebalance_protocols().iter();
        self.node.image.load().feature(GROUP_VERSION) >= 1
            && protocols.any(|protocol| protocol.eq_ignore_ascii_case("consumer"))
    }

    /// Has the coordinator of a group answer.
    async fn ask_group(&self, group_id: &GroupId, request: GroupRequest) -> GroupResponse {
        let version = self.header.api_version;
        self.node
            .groups
            .request(group_id, version, self.client_info(), request)
            .await
    }
}

/// Declares the handlers of APIs that pass request and response through unchanged.
macro_rules! pass_through {
    ($($module:ident: $api:ident($request:ident);)*) => {$(
        pub(super) mod $module {
            use tidelog_coordinator::group::{GroupRequest, GroupResponse};
            use tidelog_protocol::messages::$module::$request;

            use super::{Answer, Context};

            #[doc = concat!("Answers a ", stringify!($api), " request.")]
            pub(in crate::handlers) async fn handle(context: Context, request: $request) -> Answer {
                let group_id = request.group_id.clone();
                match context.ask_group(&group_id, GroupRequest::$api(request)).await {
                    GroupResponse::$api(response) => context.answer(&response),
                    other => context.mismatch(&other),
                }
            }
        }
    )*};
}

pass_through! {
    join_group: JoinGroup(JoinGroupRequest);
    sync_group: SyncGroup(SyncGroupRequest);
    heartbeat: Heartbeat(HeartbeatRequest);
    leave_group: LeaveGroup(LeaveGroupRequest);
}
