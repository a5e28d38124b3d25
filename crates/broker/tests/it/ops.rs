//! What tests do all the time, in the last version of each API.

use bytes::Bytes;
use tidelog_protocol::Payload;
use tidelog_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use tidelog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use tidelog_protocol::messages::init_producer_id::InitProducerIdRequest;
use tidelog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use tidelog_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponseTopic,
};
use tidelog_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_types::{
    ErrorCode, NodeId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicName, Uuid,
};

use crate::client::{Client, soon};

/// A topic that was created.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) id: Uuid,
}

/// `acks` that waits for all in-sync replicas.
pub(crate) const ALL: i16 = -1;

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(i64::try_from(since.unwrap().as_millis()).unwrap())
}

/// A batch with these values, without keys.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    filled(BatchBuilder::new(Codec::None.into()), values)
}

/// A batch of an idempotent producer.
pub(crate) fn sequenced(producer: (ProducerId, i16), sequence: i32, values: &[&str]) -> Bytes {
    let (id, epoch) = producer;
    let builder = BatchBuilder::new(Codec::None.into());
    filled(
        builder.producer(id, ProducerEpoch::new(epoch), sequence),
        values,
    )
}

pub(crate) fn filled(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for value in values {
        builder.push(now(), None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap().bytes().clone()
}

/// A value of so many bytes.
pub(crate) fn long(len: usize) -> String {
    "x".repeat(len)
}

/// Offsets and values of the records in an answer. A batch that is cut off at the end is left out.
pub(crate) fn values(data: &PartitionData) -> Vec<(i64, String)> {
    let Some(Payload::Bytes(bytes)) = &data.records else {
        panic!("records are null");
    };
    let mut bytes = bytes.clone();
    let mut values = Vec::new();
    while let Ok(Some(batch)) = Batch::split_from(&mut bytes) {
        batch.verify_crc().unwrap();
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            let value = record.value.map_or_else(String::new, |value| {
                String::from_utf8(value.to_vec()).unwrap()
            });
            values.push((record.offset.value(), value));
        }
    }
    values
}

/// The headers' offsets and epochs of the batches in an answer.
pub(crate) fn batches(data: &PartitionData) -> Vec<Batch> {
    let Some(Payload::Bytes(bytes)) = &data.records else {
        panic!("records are null");
    };
    let mut bytes = bytes.clone();
    let mut batches = Vec::new();
    while let Ok(Some(batch)) = Batch::split_from(&mut bytes) {
        batches.push(batch);
    }
    batches
}

/// A produce request for one topic, by name and by id.
pub(crate) fn produce_request(
    topic: &Topic,
    acks: i16,
    partitions: &[(i32, Bytes)],
) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.clone(),
            topic_id: topic.id,
            partition_data: partitions
                .iter()
                .map(|(index, records)| PartitionProduceData {
                    index: *index,
                    records: Some(records.clone()),
                })
                .collect(),
        }],
        ..Default::default()
    }
}

/// A fetch of these partitions from these offsets, that does not wait and has no session.
pub(crate) fn fetch_request(topic: &Topic, partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partitions: partitions
                .iter()
                .map(|(partition, offset)| FetchPartition {
                    partition: *partition,
                    fetch_offset: Offset::new(*offset),
                    partition_max_bytes: 1 << 20,
                    ..Default::default()
                })
                .collect(),
        }],
        ..Default::default()
    }
}

pub(crate) fn list_offsets_request(
    topic: &Topic,
    partition: i32,
    timestamp: i64,
) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: NodeId::NONE,
        topics: vec![ListOffsetsTopic {
            name: topic.name.clone(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                timestamp: Timestamp::from_millis(timestamp),
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

pub(crate) fn create_topic_request(
    name: &str,
    partitions: i32,
    replication_factor: i16,
    configs: &[(&str, &str)],
) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor,
            configs: configs
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: (*name).into(),
                    value: Some((*value).into()),
                })
                .collect(),
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    }
}

impl Client {
    pub(crate) async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Topic {
        let request = create_topic_request(name, partitions, 1, configs);
        let created = self.ask(&request).await.topics.remove(0);
        assert_eq!(created.error_code, ErrorCode::NONE, "{created:?}");
        let topic = Topic {
            name: created.name,
            id: created.topic_id,
        };
        // Kafka answers before its broker leads the partitions.
        for partition in 0..partitions {
            let leads = async {
                while self
                    .list_offset(&topic, partition, -1)
                    .await
                    .error_code
                    .is_err()
                {}
            };
            soon(leads).await;
        }
        topic
    }

    /// Produces with `acks=all`; the answer for the one partition.
    pub(crate) async fn produce(
        &mut self,
        topic: &Topic,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, ALL, &[(partition, records)]);
        let response = self.ask(&request).await;
        let [topic] = &response.responses[..] else {
            panic!("{response:?}");
        };
        topic.partition_responses[0].clone()
    }

    /// The same, where it must succeed; the base offset.
    pub(crate) async fn put(&mut self, topic: &Topic, partition: i32, values: &[&str]) -> i64 {
        let answer = self.produce(topic, partition, batch(values)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        answer.base_offset.value()
    }

    /// Fetches once; the answers for all partitions of the topic.
    pub(crate) async fn fetch(&mut self, request: &FetchRequest) -> Vec<PartitionData> {
        let response = self.ask(request).await;
        assert_eq!(response.error_code, ErrorCode::NONE);
        response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .collect()
    }

    /// What one partition holds from `offset` on, as far as one answer reaches.
    pub(crate) async fn read(
        &mut self,
        topic: &Topic,
        partition: i32,
        offset: i64,
    ) -> Vec<(i64, String)> {
        let data = self
            .fetch(&fetch_request(topic, &[(partition, offset)]))
            .await;
        assert_eq!(data[0].error_code, ErrorCode::NONE, "{:?}", data[0]);
        values(&data[0])
    }

    pub(crate) async fn list_offset(
        &mut self,
        topic: &Topic,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let request = list_offsets_request(topic, partition, timestamp);
        let response = self.ask(&request).await;
        response.topics[0].partitions[0].clone()
    }

    /// An id for an idempotent producer, with its epoch.
    pub(crate) async fn producer(&mut self) -> (ProducerId, i16) {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            ..Default::default()
        };
        let response = soon(async {
            loop {
                let response = self.ask(&request).await;
                // Kafka has to fetch a block of ids first.
                if response.error_code != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS {
                    return response;
                }
            }
        })
        .await;
        assert_eq!(response.error_code, ErrorCode::NONE);
        (response.producer_id, response.producer_epoch.value())
    }

    /// What Metadata says of one topic, without creating it.
    pub(crate) async fn describe(&mut self, name: &str) -> MetadataResponseTopic {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(name.into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.ask(&request).await.topics.remove(0)
    }
}
