//! What is served on the listeners of controllers: the quorum, the brokers, and what brokers pass on for their clients.

mod brokers;
mod describe_cluster;
mod envelope;
pub(crate) mod presence;
pub(super) mod quorum;

use std::net::IpAddr;
use std::sync::Arc;

use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_metadata::image::Image;
use tidelog_protocol::{ApiKey, Request};
use tidelog_types::{ErrorCode, Offset, Str};

use self::brokers::{
    allocate_producer_ids, alter_partition, assign_replicas_to_dirs, broker_heartbeat,
    broker_registration, controller_registration,
};
use self::presence::Presence;
use self::quorum::{
    add_raft_voter, begin_quorum_epoch, describe_quorum, end_quorum_epoch, fetch, fetch_snapshot,
    remove_raft_voter, update_raft_voter, vote,
};
use super::admin::{
    alter_partition_reassignments, create_partitions, create_topics, delete_topics, elect_leaders,
    list_partition_reassignments, unregister_broker, update_features,
};
use super::own_configs::{alter_configs, incremental_alter_configs};
use super::{Answer, Closed, Context, Controlled, Role, Started, api_versions};
use crate::metadata::ControllerHandle;
use crate::metrics::Traffic;
use crate::node::Settings;

/// A node as a controller.
pub(crate) struct ControllerNode {
    pub(crate) cluster_id: Str,
    pub(crate) config: Settings,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) controller: ControllerHandle,
    pub(crate) presence: Arc<Presence>,
}

impl Role for ControllerNode {
    handlers! {
        Fetch => fetch,
        ApiVersions => api_versions,
        CreateTopics => create_topics,
        DeleteTopics => delete_topics,
        AlterConfigs => alter_configs,
        CreatePartitions => create_partitions,
        ElectLeaders => elect_leaders,
        IncrementalAlterConfigs => incremental_alter_configs,
        AlterPartitionReassignments => alter_partition_reassignments,
        ListPartitionReassignments => list_partition_reassignments,
        Vote => vote,
        BeginQuorumEpoch => begin_quorum_epoch,
        EndQuorumEpoch => end_quorum_epoch,
        DescribeQuorum => describe_quorum,
        AlterPartition => alter_partition,
        UpdateFeatures => update_features,
        Envelope => envelope,
        FetchSnapshot => fetch_snapshot,
        DescribeCluster => describe_cluster,
        BrokerRegistration => broker_registration,
        BrokerHeartbeat => broker_heartbeat,
        UnregisterBroker => unregister_broker,
        AllocateProducerIds => allocate_producer_ids,
        ControllerRegistration => controller_registration,
        AssignReplicasToDirs => assign_replicas_to_dirs,
        AddRaftVoter => add_raft_voter,
        RemoveRaftVoter => remove_raft_voter,
        UpdateRaftVoter => update_raft_voter,
    }

    fn settings(&self) -> &Settings {
        &self.config
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn image(&self) -> Arc<Image> {
        self.controller.published().image.load_full()
    }

    fn metadata_offset(&self) -> Offset {
        self.controller.published().offset()
    }

    fn kraft_version(&self) -> i16 {
        self.controller.leadership().borrow().kraft_version
    }
}

impl Controlled for ControllerNode {
    /// What comes to a controller is not passed on: whoever asks has to find the active one.
    async fn decide(
        &self,
        _client: IpAddr,
        request: ControllerRequest,
    ) -> Result<ControllerResponse, ErrorCode> {
        self.controller.request(request).await
    }
}
