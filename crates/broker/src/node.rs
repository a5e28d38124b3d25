//! What all parts of a broker share.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidelog_coordinator::group::partition_for;
use tidelog_metadata::bootstrap::TRANSACTION_VERSION;
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::{BrokerEpoch, ControllerRequest, ControllerResponse};
use tidelog_metadata::image::{Endpoint, Image, PartitionImage, TopicImage};
use tidelog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use tidelog_types::{ErrorCode, NodeId, PartitionIndex, Str, TopicId, TopicName};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::fetch_session::FetchSessions;
use crate::groups::Groups;
use crate::metadata::ActiveController;
use crate::metrics::Traffic;
use crate::missing::Missing;
use crate::producer_ids::ProducerIds;
use crate::store::Store;
use crate::store::partition::Partition;
#[cfg(feature = "testing")]
use crate::testing::Probe;
use crate::transactions::Transactions;

/// Said to who wants transactions where there are none: clients take it for final, and ask again and again for others.
const NO_TRANSACTIONS: ErrorCode = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;

/// A running node.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) cluster_id: Str,
    /// The epoch of this node's registration.
    pub(crate) broker_epoch: i64,
    pub(crate) config: Settings,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) clock: Clock,
    /// The configuration of this broker, with what was changed while it runs.
    pub(crate) broker_config: Arc<ArcSwap<BrokerConfig>>,
    /// The metadata of the cluster, as far as it is committed and applied here.
    pub(crate) image: Arc<ArcSwap<Image>>,
    /// The offset of the metadata log up to which it is applied.
    pub(crate) metadata_offset: Arc<AtomicI64>,
    /// Told when there is another image.
    pub(crate) image_changed: Arc<Notify>,
    /// The brokers with which this one has lost contact.
    pub(crate) missing: Arc<Missing>,
    pub(crate) store: Arc<Store>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) controller: Arc<ActiveController>,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) transactions: Transactions,
    pub(crate) fetch_sessions: FetchSessions,
    #[cfg(feature = "testing")]
    pub(crate) probe: Probe,
}

/// Settings that every request needs, read once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) connections_max_idle: Duration,
    pub(crate) socket_request_max_bytes: usize,
    pub(crate) fetch_max_bytes: usize,
}

impl Settings {
    pub(crate) fn new(config: &BrokerConfig) -> Self {
        // The table of configs has no negative value for these.
        let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX));
        let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        Self {
            connections_max_idle: millis(config.connections_max_idle_ms()),
            socket_request_max_bytes: bytes(config.socket_request_max_bytes()),
            fetch_max_bytes: bytes(config.fetch_max_bytes()),
        }
    }
}

impl Node {
    /// By what the controller knows this start of the node.
    pub(crate) fn registration(&self) -> BrokerEpoch {
        BrokerEpoch {
            broker_id: self.id,
            broker_epoch: self.broker_epoch,
        }
    }

    /// A partition of which this node has a replica, by the id or the name of its topic.
    pub(crate) fn partition(
        &self,
        by_id: bool,
        id: TopicId,
        name: &str,
        index: PartitionIndex,
    ) -> Result<Arc<Partition>, ErrorCode> {
        let topics = &self.store.topics;
        let topic = if by_id {
            topics.by_id(id)
        } else {
            topics.by_name(name)
        };
        let Some(topic) = topic else {
            return Err(self.why_not_here(by_id, id, name, index));
        };
        topic
            .partition(index)?
            .ok_or_else(|| self.why_not_here(by_id, id, name, index))
    }

    /// What to say of a partition that is not on this node: it may be on another, or nowhere.
    fn why_not_here(
        &self,
        by_id: bool,
        id: TopicId,
        name: &str,
        index: PartitionIndex,
    ) -> ErrorCode {
        let image = self.image.load();
        let topic = if by_id {
            image.topic_by_id(id)
        } else {
            image.topic(name)
        };
        match topic {
            None if by_id => ErrorCode::UNKNOWN_TOPIC_ID,
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Some(topic) if topic.partition(index).is_some() => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Some(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        }
    }

    /// Where a broker is to be reached by those who came over `listener`; `None` if it is fenced, unknown, or has no such
    /// listener.
    pub(crate) fn endpoint(&self, broker: NodeId, listener: &str) -> Option<Endpoint> {
        let image = self.image.load();
        let broker = image.broker(broker).filter(|broker| !broker.fenced)?;
        broker.endpoint(listener).cloned()
    }

    /// A broker that clients may send admin requests to. It passes them on to the controller, which clients do not reach.
    pub(crate) fn any_live_broker(&self) -> NodeId {
        let image = self.image.load();
        let mut live = image
            .brokers()
            .filter(|broker| !broker.fenced)
            .map(|broker| broker.id);
        live.next().unwrap_or(NodeId::NONE)
    }

    /// An internal topic, which is created when it is first asked for.
    pub(crate) async fn internal_topic(
        &self,
        name: &TopicName,
    ) -> Result<Arc<TopicImage>, ErrorCode> {
        if let Some(topic) = self.image.load().topic(name) {
            return Ok(Arc::clone(topic));
        }
        let created = self.create_topic(self.internal_topic_request(name)).await;
        if let Some(topic) = self.image.load().topic(name) {
            return Ok(Arc::clone(topic));
        }
        created.and(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE))
    }

    /// The topic in which brokers of Apache Kafka keep transactions. Where it is not there the error says whether it may come.
    pub(crate) fn transaction_state(&self) -> Result<Arc<TopicImage>, ErrorCode> {
        let image = self.image.load();
        if let Some(topic) = image.topic(&TopicName::TRANSACTION_STATE) {
            return Ok(Arc::clone(topic));
        }
        // Kafka switches the feature on, and creates the topic when one of its brokers is asked.
        let mut others = image
            .brokers()
            .filter(|broker| broker.id != self.id && !broker.fenced);
        let may_come = image.feature(TRANSACTION_VERSION) > 0 && others.next().is_some();
        Err(match may_come {
            true => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            false => NO_TRANSACTIONS,
        })
    }

    /// What to say of a coordinator of transactions that would be in a partition which this node leads: another replica may
    /// become leader, and have one.
    pub(crate) fn no_transactions(&self, partition: &PartitionImage) -> ErrorCode {
        let image = self.image.load();
        let is_live =
            |id: &NodeId| *id != self.id && image.broker(*id).is_some_and(|found| !found.fenced);
        match partition.replicas.iter().any(is_live) {
            true => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            false => NO_TRANSACTIONS,
        }
    }

    /// What to say to who takes this node for the coordinator of a transactional id.
    pub(crate) fn no_coordinator_of(&self, transactional_id: &str) -> ErrorCode {
        let topic = match self.transaction_state() {
            Ok(topic) => topic,
            Err(code) => return code,
        };
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        match topic.partition(partition_for(transactional_id, count)) {
            Some(partition) if partition.leader == self.id => self.no_transactions(partition),
            _ => ErrorCode::NOT_COORDINATOR,
        }
    }

    /// What `__consumer_offsets` is like in Kafka.
    fn internal_topic_request(&self, name: &TopicName) -> CreatableTopic {
        let config = self.broker_config.load();
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            (
                "segment.bytes",
                config.offsets_topic_segment_bytes().to_string(),
            ),
        ];
        CreatableTopic {
            name: name.clone(),
            num_partitions: config.offsets_topic_num_partitions(),
            replication_factor: config.offsets_topic_replication_factor(),
            configs: configs
                .into_iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: Str::from_static(name),
                    value: Some(value.into()),
                })
                .collect(),
            ..Default::default()
        }
    }

    /// Has the controller create one topic. That it exists already is no error.
    pub(crate) async fn create_topic(&self, topic: CreatableTopic) -> Result<(), ErrorCode> {
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: self.broker_config.load().request_timeout_ms(),
            validate_only: false,
        };
        let request = ControllerRequest::CreateTopics(request);
        let ControllerResponse::CreateTopics(response) = self.controller.request(request).await?
        else {
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        };
        match response
            .topics
            .first()
            .map_or(ErrorCode::NONE, |topic| topic.error_code)
        {
            ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS => Ok(()),
            code => Err(code),
        }
    }
}
