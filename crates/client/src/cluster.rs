//! The cluster: its nodes, its features, the quorum that keeps its metadata, and what its disks hold.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::api_versions::ApiVersionsRequest;
use tidelog_protocol::messages::describe_cluster::DescribeClusterRequest;
use tidelog_protocol::messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
};
use tidelog_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, PartitionData, ReplicaState, TopicData,
};
use tidelog_protocol::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use tidelog_types::{
    ErrorCode, LeaderEpoch, NodeId, Offset, Str, Timestamp, TopicName, TopicPartition, Uuid,
};

use crate::groups::missing;
use crate::{Broker, Client, ClientError, Connection};

/// From this version on DescribeCluster can be asked about controllers (KIP-919).
const ENDPOINTS_FROM_VERSION: i16 = 1;
/// From this version on DescribeCluster tells fenced brokers, too (KIP-1073).
const FENCED_FROM_VERSION: i16 = 2;
/// From this version on UpdateFeatures can only check (KIP-778).
const UPDATE_TYPES_FROM_VERSION: i16 = 1;

/// Which nodes DescribeCluster is asked about (KIP-919).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointType {
    /// The brokers; to be asked on their listeners.
    Brokers,
    /// The controllers; to be asked on theirs.
    Controllers,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Its id, if it has one.
    pub cluster_id: Option<Str>,
    /// The node to which changes are sent. Controllers name the active controller; brokers without ZooKeeper name one of
    /// themselves, which passes changes on.
    pub controller: Option<NodeId>,
    /// The nodes, by id.
    pub nodes: Vec<ClusterNode>,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterNode {
    /// Its id and where it listens.
    pub broker: Broker,
    /// Its rack.
    pub rack: Option<Str>,
    /// Whether it is registered and out of service. Brokers before Kafka 4.0 only tell of those in service.
    pub is_fenced: bool,
}

/// The features of a cluster (KIP-584).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// What the node that was asked can do, by name: its lowest and highest level.
    pub supported: BTreeMap<Str, (i16, i16)>,
    /// The levels in use in the cluster, by name.
    pub finalized: BTreeMap<Str, i16>,
    /// As of which offset of the metadata log the levels are told, if the node knows.
    pub finalized_epoch: Option<i64>,
}

/// How the level of a feature may change (KIP-778).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeatureUpgrade {
    /// It may only become higher.
    Upgrade,
    /// It may become lower if nothing is lost.
    SafeDowngrade,
    /// It may become lower even if something is lost.
    UnsafeDowngrade,
}

/// The quorum that keeps the cluster's metadata (KIP-595).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumDescription {
    /// The active controller, if there is one.
    pub leader: Option<NodeId>,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that is not yet committed.
    pub high_watermark: Offset,
    /// The nodes that vote.
    pub voters: Vec<QuorumReplica>,
    /// The nodes that follow without a vote, brokers among them.
    pub observers: Vec<QuorumReplica>,
    /// Where voters listen: name of the listener, host and port (KIP-853).
    pub listeners: BTreeMap<NodeId, Vec<(Str, Str, u16)>>,
}

/// A node of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuorumReplica {
    /// The node.
    pub id: NodeId,
    /// The directory of its metadata log, if the cluster knows (KIP-853).
    pub directory_id: Option<Uuid>,
    /// The end of its log; `None` if the leader has not heard of it.
    pub log_end_offset: Option<Offset>,
    /// When it fetched last; `None` for the leader, and if unknown (KIP-836).
    pub last_fetch: Option<Timestamp>,
    /// When it last had all that the leader had; `None` if unknown (KIP-836).
    pub last_caught_up: Option<Timestamp>,
}

/// A log directory of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDir {
    /// The path, on the broker's machine.
    pub path: Str,
    /// What is wrong with it, such as KAFKA_STORAGE_ERROR; [`ErrorCode::NONE`] if nothing is.
    pub error: ErrorCode,
    /// The size of the volume in bytes, if the broker says (KIP-827).
    pub total_bytes: Option<i64>,
    /// The free space of the volume in bytes, if the broker says (KIP-827).
    pub usable_bytes: Option<i64>,
    /// Whether it takes no new replicas (KIP-1066).
    pub is_cordoned: bool,
    /// The replicas in it.
    pub replicas: Vec<LogDirReplica>,
}

/// A replica in a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDirReplica {
    /// The partition.
    pub partition: TopicPartition,
    /// The size of its segments, in bytes.
    pub size_bytes: i64,
    /// How many offsets it is behind: a copy that is under way behind the original, the original behind the high watermark.
    pub offset_lag: i64,
    /// Whether it is a copy that is under way into this directory (KIP-113).
    pub is_future: bool,
}

impl Client {
    /// The nodes of the cluster. Before Kafka 2.8 it is read off the metadata.
    pub async fn describe_cluster(
        &self,
        endpoint_type: EndpointType,
    ) -> Result<ClusterDescription, ClientError> {
        let connection = self.any().await?;
        let version = connection.version::<DescribeClusterRequest>(i16::MAX);
        let brokers_only = version.is_none_or(|version| version < ENDPOINTS_FROM_VERSION);
        if endpoint_type == EndpointType::Controllers && brokers_only {
            return Err(ClientError::Unsupported {
                address: connection.address().to_owned(),
                api: "DescribeCluster for controllers (KIP-919)".into(),
            });
        }
        let Some(version) = version else {
            return self.describe_cluster_by_metadata().await;
        };
        let request = DescribeClusterRequest {
            endpoint_type: match endpoint_type {
                EndpointType::Brokers => 1,
                EndpointType::Controllers => 2,
            },
            include_fenced_brokers: version >= FENCED_FROM_VERSION
                && endpoint_type == EndpointType::Brokers,
            ..Default::default()
        };
        let answer = connection.send(&request).await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || "the cluster".to_owned())?;
        let nodes = answer.brokers.into_iter().map(|node| ClusterNode {
            broker: Broker {
                id: node.broker_id,
                host: node.host,
                port: node.port,
            },
            rack: node.rack,
            is_fenced: node.is_fenced,
        });
        Ok(cluster(
            Some(answer.cluster_id),
            answer.controller_id,
            nodes.collect(),
        ))
    }

    async fn describe_cluster_by_metadata(&self) -> Result<ClusterDescription, ClientError> {
        let metadata = self.metadata(Some(&[])).await?;
        let nodes = metadata.brokers.into_iter().map(|node| ClusterNode {
            broker: Broker {
                id: node.node_id,
                host: node.host,
                port: node.port,
            },
            rack: node.rack,
            is_fenced: false,
        });
        Ok(cluster(
            metadata.cluster_id,
            metadata.controller_id,
            nodes.collect(),
        ))
    }

    /// The features of the cluster, as any of its nodes knows them. Before Kafka 2.7 there are none.
    pub async fn features(&self) -> Result<Features, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("tidelog"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
        };
        let answer = self.ask_any(&request).await?;
        ClientError::check(answer.error_code, None, || "the features".to_owned())?;
        let supported = answer.supported_features.into_iter();
        let finalized = answer.finalized_features.into_iter();
        let epoch = answer.finalized_features_epoch;
        Ok(Features {
            supported: supported
                .map(|feature| (feature.name, (feature.min_version, feature.max_version)))
                .collect(),
            finalized: finalized
                .map(|feature| (feature.name, feature.max_version_level))
                .collect(),
            finalized_epoch: (epoch >= 0).then_some(epoch),
        })
    }

    /// Changes the levels of features, 0 for none, or with `validate_only` says whether that would succeed. All of them
    /// change, or none.
    pub async fn update_features(
        &self,
        levels: &BTreeMap<Str, i16>,
        upgrade: FeatureUpgrade,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let connection = self.any().await?;
        let version = connection.version::<UpdateFeaturesRequest>(i16::MAX);
        if validate_only && version.is_some_and(|version| version < UPDATE_TYPES_FROM_VERSION) {
            return Err(ClientError::Unsupported {
                address: connection.address().to_owned(),
                api: "UpdateFeatures that only checks (KIP-778)".into(),
            });
        }
        let has_types = version.is_none_or(|version| version >= UPDATE_TYPES_FROM_VERSION);
        let updates = levels.iter().map(|(feature, level)| FeatureUpdateKey {
            feature: feature.clone(),
            max_version_level: *level,
            allow_downgrade: !has_types && upgrade != FeatureUpgrade::Upgrade,
            upgrade_type: match upgrade {
                FeatureUpgrade::SafeDowngrade if has_types => 2,
                FeatureUpgrade::UnsafeDowngrade if has_types => 3,
                _ => 1,
            },
        });
        let request = UpdateFeaturesRequest {
            timeout_ms: self.timeout_ms(),
            feature_updates: updates.collect(),
            validate_only,
        };
        let answer = self.ask_controller(&request, |answer| answer.error_code);
        let answer = answer.await?;
        for result in &answer.results {
            let message = result.error_message.as_ref();
            let subject = || format!("feature {}", result.feature);
            ClientError::check(result.error_code, message, subject)?;
        }
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || "the features".to_owned())
    }

    /// The quorum that keeps the cluster's metadata. There is none in a cluster with ZooKeeper.
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, ClientError> {
        let request = DescribeQuorumRequest {
            topics: vec![TopicData {
                topic_name: TopicName::CLUSTER_METADATA,
                partitions: vec![PartitionData { partition_index: 0 }],
            }],
        };
        let connection = self.any().await?;
        let subject = || "the metadata quorum".to_owned();
        let answer = connection.send(&request).await?;
        ClientError::check(answer.error_code, answer.error_message.as_ref(), subject)?;
        let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let quorum = partitions.next().ok_or_else(|| missing(&connection))?;
        ClientError::check(quorum.error_code, quorum.error_message.as_ref(), subject)?;
        let replicas = |replicas: Vec<ReplicaState>| replicas.into_iter().map(replica).collect();
        let nodes = answer.nodes.into_iter().map(|node| {
            let listeners = node.listeners.into_iter();
            let listeners = listeners.map(|listener| (listener.name, listener.host, listener.port));
            (node.node_id, listeners.collect())
        });
        Ok(QuorumDescription {
            leader: (quorum.leader_id != NodeId::NONE).then_some(quorum.leader_id),
            leader_epoch: quorum.leader_epoch,
            high_watermark: quorum.high_watermark,
            voters: replicas(quorum.current_voters),
            observers: replicas(quorum.observers),
            listeners: nodes.collect(),
        })
    }

    /// What lies in the log directories of these brokers.
    pub async fn describe_log_dirs(
        &self,
        brokers: &[NodeId],
    ) -> Result<BTreeMap<NodeId, Result<Vec<LogDir>, ClientError>>, ClientError> {
        let mut described = BTreeMap::new();
        let brokers: BTreeSet<_> = brokers.iter().copied().collect();
        for id in brokers {
            let dirs = match self.broker(id).await {
                Ok(connection) => log_dirs(id, &connection).await,
                Err(error) => Err(error),
            };
            described.insert(id, dirs);
        }
        Ok(described)
    }
}

fn cluster(
    cluster_id: Option<Str>,
    controller: NodeId,
    mut nodes: Vec<ClusterNode>,
) -> ClusterDescription {
    nodes.sort_by_key(|node| node.broker.id);
    ClusterDescription {
        cluster_id: cluster_id.filter(|id| !id.is_empty()),
        controller: (controller != NodeId::NONE).then_some(controller),
        nodes,
    }
}

fn replica(state: ReplicaState) -> QuorumReplica {
    let known = |time: Timestamp| (time != Timestamp::NONE).then_some(time);
    let directory_id = state.replica_directory_id;
    let end = state.log_end_offset;
    QuorumReplica {
        id: state.replica_id,
        directory_id: (!directory_id.is_zero()).then_some(directory_id),
        log_end_offset: (end.value() >= 0).then_some(end),
        last_fetch: known(state.last_fetch_timestamp),
        last_caught_up: known(state.last_caught_up_timestamp),
    }
}

async fn log_dirs(id: NodeId, connection: &Connection) -> Result<Vec<LogDir>, ClientError> {
    let request = DescribeLogDirsRequest { topics: None };
    let answer: DescribeLogDirsResponse = connection.send(&request).await?;
    let subject = || format!("the log directories of broker {id}");
    ClientError::check(answer.error_code, None, subject)?;
    Ok(answer.results.into_iter().map(log_dir).collect())
}

fn log_dir(result: DescribeLogDirsResult) -> LogDir {
    let known = |bytes: i64| (bytes >= 0).then_some(bytes);
    let topics = result.topics.into_iter();
    let replicas = topics.flat_map(|topic| {
        let name = topic.name;
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| LogDirReplica {
            partition: TopicPartition::new(name.clone(), partition.partition_index),
            size_bytes: partition.partition_size,
            offset_lag: partition.offset_lag,
            is_future: partition.is_future_key,
        })
    });
    LogDir {
        path: result.log_dir,
        error: result.error_code,
        total_bytes: known(result.total_bytes),
        usable_bytes: known(result.usable_bytes),
        is_cordoned: result.is_cordoned,
        replicas: replicas.collect(),
    }
}
