//! Metadata: brokers, topics and leaders, and topics that come into being because somebody asked for them.

use std::collections::HashSet;

use tidelog_metadata::image::{Image, PartitionImage, TopicImage};
use tidelog_protocol::messages::create_topics::CreatableTopic;
use tidelog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use tidelog_types::{ErrorCode, NodeId, TopicName};

use super::{Answer, Context, authorized_operations};
use crate::clock::real;
use crate::node::Node;

/// Before this version an empty list of topics means all, since there is no null.
const NULL_TOPICS_FROM_VERSION: i16 = 1;
/// From this version on a client may ask for a topic by its id.
const TOPIC_ID_FROM_VERSION: i16 = 12;
/// From this version on a leader without the listener of the client has an error of its own.
const LISTENER_ERROR_FROM_VERSION: i16 = 6;

pub(super) async fn handle(context: Context, request: MetadataRequest) -> Answer {
    let version = context.header.api_version;
    let node = &context.node;
    let topics = match &request.topics {
        Some(topics) if topics.is_empty() && version < NULL_TOPICS_FROM_VERSION => None,
        topics => topics.as_ref(),
    };
    await_leaders(node, topics).await;
    let mut answered = Vec::new();
    match topics {
        None => {
            let image = node.image.load_full();
            let describe = |topic: &TopicImage| describe(&context, &image, topic);
            answered.extend(image.topics().map(|topic| describe(topic)));
        }
        Some(topics) => {
            let mut named = HashSet::new();
            for topic in topics {
                if named.insert((topic.topic_id, &topic.name)) {
                    answered.push(one(&context, &request, topic).await);
                }
            }
        }
    }
    if request.include_topic_authorized_operations {
        for topic in answered.iter_mut().filter(|topic| topic.error_code.is_ok()) {
            topic.topic_authorized_operations = authorized_operations::TOPIC;
        }
    }
    let mut response = MetadataResponse {
        brokers: brokers(&context),
        cluster_id: Some(node.cluster_id.clone()),
        controller_id: node.any_live_broker(),
        topics: answered,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized_operations::CLUSTER;
    }
    context.answer(&response)
}

/// Waits, but not for long, while it is being decided who leads in place of a broker that has just gone.
async fn await_leaders(node: &Node, topics: Option<&Vec<MetadataRequestTopic>>) {
    loop {
        let changed = node.image_changed.notified();
        let image = node.image.load_full();
        let leads = |broker: NodeId| match topics {
            None => image.topics().any(|topic| is_led_by(topic, broker)),
            Some(wanted) => wanted.iter().any(|wanted| {
                let named = wanted.name.as_ref().and_then(|name| image.topic(name));
                let topic = named.or_else(|| image.topic_by_id(wanted.topic_id));
                topic.is_some_and(|topic| is_led_by(topic, broker))
            }),
        };
        let Some(deadline) = node.missing.awaited(&image, leads, real::now()) else {
            return;
        };
        // One that comes too late finds nobody awaited any more.
        let _ = real::timeout_at(deadline, changed).await;
    }
}

fn is_led_by(topic: &TopicImage, broker: NodeId) -> bool {
    let mut partitions = topic.partitions.values();
    partitions.any(|partition| partition.leader == broker)
}

fn brokers(context: &Context) -> Vec<MetadataResponseBroker> {
    let (node, now) = (&context.node, real::now());
    let image = node.image.load();
    let named = image
        .brokers()
        .filter(|broker| !broker.fenced || node.missing.is_named(broker, now));
    named
        .filter_map(|broker| {
            let endpoint = broker.endpoint(&context.peer.listener)?;
            Some(MetadataResponseBroker {
                node_id: broker.id,
                host: endpoint.host.clone(),
                port: i32::from(endpoint.port),
                rack: broker.rack.clone(),
            })
        })
        .collect()
}

/// One topic that was asked for by name or id; created if it does not exist, and both client and broker allow it.
async fn one(
    context: &Context,
    request: &MetadataRequest,
    wanted: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let node = &context.node;
    let refuse = |error_code| MetadataResponseTopic {
        error_code,
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        is_internal: wanted.name.as_ref().is_some_and(TopicName::is_internal),
        ..Default::default()
    };
    let image = node.image.load_full();
    let by_id = context.header.api_version >= TOPIC_ID_FROM_VERSION && !wanted.topic_id.is_zero();
    if by_id {
        return match image.topic_by_id(wanted.topic_id) {
            Some(topic) => describe(context, &image, topic),
            None => refuse(ErrorCode::UNKNOWN_TOPIC_ID),
        };
    }
    let Some(name) = &wanted.name else {
        return refuse(ErrorCode::INVALID_REQUEST);
    };
    if let Some(topic) = image.topic(name) {
        return describe(context, &image, topic);
    }
    if name.validate().is_err() {
        return refuse(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if !request.allow_auto_topic_creation || !node.broker_config.load().auto_create_topics_enable()
    {
        return refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    if let Err(code) = create(node, name).await {
        return refuse(code);
    }
    let image = node.image.load_full();
    match image.topic(name) {
        Some(topic) => describe(context, &image, topic),
        // Created, but another request has deleted it already.
        None => refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

async fn create(node: &Node, name: &TopicName) -> Result<(), ErrorCode> {
    if *name == TopicName::CONSUMER_OFFSETS {
        return node.internal_topic(name).await.map(drop);
    }
    let topic = CreatableTopic {
        name: name.clone(),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    };
    match node.create_topic(topic).await {
        // Too few brokers are alive, which the client can only wait out.
        Err(ErrorCode::INVALID_REPLICATION_FACTOR) => Err(ErrorCode::INVALID_REPLICATION_FACTOR),
        Err(ErrorCode::NOT_CONTROLLER) => Err(ErrorCode::LEADER_NOT_AVAILABLE),
        created => created,
    }
}

fn describe(context: &Context, image: &Image, topic: &TopicImage) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.name.is_internal(),
        partitions: topic
            .partitions
            .iter()
            .map(|(index, partition)| {
                let (leader_id, error_code) = leader(context, image, partition);
                MetadataResponsePartition {
                    error_code,
                    partition_index: *index,
                    leader_id,
                    leader_epoch: partition.leader_epoch,
                    replica_nodes: partition.replicas.clone(),
                    isr_nodes: partition.isr.clone(),
                    offline_replicas: offline_replicas(image, partition),
                }
            })
            .collect(),
        ..Default::default()
    }
}

/// The leader as this client can reach it.
fn leader(context: &Context, image: &Image, partition: &PartitionImage) -> (NodeId, ErrorCode) {
    let live = image
        .broker(partition.leader)
        .filter(|broker| !broker.fenced);
    match live {
        None => (NodeId::NONE, ErrorCode::LEADER_NOT_AVAILABLE),
        Some(broker) if broker.endpoint(&context.peer.listener).is_some() => {
            (partition.leader, ErrorCode::NONE)
        }
        Some(_) if context.header.api_version >= LISTENER_ERROR_FROM_VERSION => {
            (NodeId::NONE, ErrorCode::LISTENER_NOT_FOUND)
        }
        Some(_) => (NodeId::NONE, ErrorCode::LEADER_NOT_AVAILABLE),
    }
}

/// The replicas on brokers that are not alive, or on directories that are gone.
pub(super) fn offline_replicas(image: &Image, partition: &PartitionImage) -> Vec<NodeId> {
    let offline = partition.replicas.iter().copied().filter(|replica| {
        let directory = partition.directory(*replica);
        image.broker(*replica).is_none_or(|broker| {
            broker.fenced || directory.is_some_and(|id| !broker.has_online_directory(id))
        })
    });
    offline.collect()
}
