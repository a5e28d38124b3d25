//! DescribeTopicPartitions: topics page by page, with what elections go by (KIP-966).

use std::collections::BTreeSet;

use tidelog_metadata::image::{Image, TopicImage};
use tidelog_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use tidelog_types::{ErrorCode, NodeId, PartitionIndex, TopicName};

use super::metadata::offline_replicas;
use super::{Answer, Context, authorized_operations};

pub(super) async fn handle(context: Context, request: DescribeTopicPartitionsRequest) -> Answer {
    let node = &context.node;
    let image = node.image.load_full();
    let limit = node.broker_config.load().max_request_partition_size_limit();
    let limit = usize::try_from(limit.min(request.response_partition_limit))
        .unwrap_or(0)
        .max(1);
    let cursor = request.cursor.as_ref();
    if cursor.is_some_and(|cursor| cursor.partition_index < 0) {
        return context.answer(&refuse_cursor(&request));
    }
    let names: BTreeSet<TopicName> = if request.topics.is_empty() {
        image.topics().map(|topic| topic.name.clone()).collect()
    } else {
        request
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect()
    };
    let from = cursor.map_or_else(TopicName::default, |cursor| cursor.topic_name.clone());
    let mut page = Page {
        left: limit,
        response: DescribeTopicPartitionsResponse::default(),
    };
    for name in names.range(from..) {
        let first = cursor
            .filter(|cursor| cursor.topic_name == *name)
            .map_or(0, |cursor| cursor.partition_index);
        if !page.add(&image, name, first) {
            break;
        }
    }
    context.answer(&page.response)
}

fn refuse_cursor(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::INVALID_REQUEST,
            name: Some(topic.name.clone()),
            ..Default::default()
        });
    DescribeTopicPartitionsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

struct Page {
    /// How many more partitions fit.
    left: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Page {
    /// Adds a topic from partition `first` on; false if the page is full, and a cursor says where to go on.
    fn add(&mut self, image: &Image, name: &TopicName, first: PartitionIndex) -> bool {
        if self.left == 0 {
            self.response.next_cursor = Some(Cursor {
                topic_name: name.clone(),
                partition_index: first,
            });
            return false;
        }
        let Some(topic) = image.topic(name) else {
            self.response.topics.push(unknown(name));
            return true;
        };
        let partitions: Vec<_> = topic.partitions.range(first..).take(self.left).collect();
        self.left -= partitions.len();
        let next = partitions.last().map(|(index, _)| **index + 1);
        let next = next.filter(|next| topic.partitions.range(*next..).next().is_some());
        let partitions = partitions
            .into_iter()
            .map(|(index, _)| partition(image, topic, *index))
            .collect();
        self.response
            .topics
            .push(DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::NONE,
                name: Some(topic.name.clone()),
                topic_id: topic.id,
                is_internal: topic.name.is_internal(),
                partitions,
                topic_authorized_operations: authorized_operations::TOPIC,
            });
        self.response.next_cursor = next.map(|partition_index| Cursor {
            topic_name: name.clone(),
            partition_index,
        });
        next.is_none()
    }
}

fn unknown(name: &TopicName) -> DescribeTopicPartitionsResponseTopic {
    let error_code = match name.validate() {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name.clone()),
        topic_authorized_operations: authorized_operations::TOPIC,
        ..Default::default()
    }
}

fn partition(
    image: &Image,
    topic: &TopicImage,
    index: PartitionIndex,
) -> DescribeTopicPartitionsResponsePartition {
    let Some(partition) = topic.partition(index) else {
        return Default::default();
    };
    let live = image
        .broker(partition.leader)
        .is_some_and(|broker| !broker.fenced);
    DescribeTopicPartitionsResponsePartition {
        error_code: if live {
            ErrorCode::NONE
        } else {
            ErrorCode::LEADER_NOT_AVAILABLE
        },
        partition_index: index,
        leader_id: if live { partition.leader } else { NodeId::NONE },
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        eligible_leader_replicas: Some(partition.eligible_leader_replicas.clone()),
        last_known_elr: Some(partition.last_known_elr.clone()),
        offline_replicas: offline_replicas(image, partition),
    }
}
