//! The task that sends a producer's requests to one broker, in order, and takes the answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tidelog_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, NodeId, PartitionIndex, TopicName, Uuid};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::accumulator::{Answer, BatchId, Stamp};
use super::core::{Content, Details, Order, Ordered, without_offset};
use crate::ClientError;
use crate::connection::Pending;
use crate::metadata::endpoint;

/// The last version of Produce that names topics.
const NAMES_UP_TO_VERSION: i16 = 12;

/// A request whose answer is waited for.
struct InFlight {
    order: Order,
    /// What stands for each topic in the answer, if it has ids.
    topics: Vec<(Uuid, TopicName)>,
    pending: Pending,
}

/// Sends what is ordered, until nobody can order any more.
pub(super) async fn serve(
    shared: Arc<Shared>,
    node: NodeId,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut in_flight: VecDeque<InFlight> = VecDeque::new();
    let mut paused_until: Option<Instant> = None;
    loop {
        let answer = async {
            match in_flight.front_mut() {
                Some(first) => shared.await_answer(&mut first.pending).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => {
                if let Some(first) = in_flight.pop_front() {
                    let pause = shared.take_answer(first, answer);
                    if !pause.is_zero() {
                        paused_until = Some(Instant::now() + pause).max(paused_until);
                    }
                }
            }
            order = orders.recv() => {
                let Some(order) = order else { return };
                // A broker whose quota is used up says for how long (KIP-219).
                if let Some(until) = paused_until.take() {
                    tokio::time::sleep_until(until).await;
                }
                match shared.begin(node, order).await {
                    Ok(begun) => in_flight.push_back(begun),
                    Err((order, error)) => shared.lost(order, &error),
                }
            }
        }
    }
}

impl Shared {
    /// Builds what has not been built, and sends the order.
    async fn begin(
        &self,
        node: NodeId,
        mut order: Order,
    ) -> Result<InFlight, (Order, ClientError)> {
        for ordered in &mut order.batches {
            ordered.build();
        }
        let connection = match self.client.at_node(node).await {
            Ok(connection) => connection,
            Err(error) => return Err((order, error)),
        };
        let (request, topics) = self.request(&order);
        let has_ids = topics.iter().all(|(id, _)| !id.is_zero());
        let limit = if has_ids {
            i16::MAX
        } else {
            NAMES_UP_TO_VERSION
        };
        let has_answer = request.acks != 0;
        match connection.submit(&request, limit, has_answer).await {
            Ok(pending) => Ok(InFlight {
                order,
                topics,
                pending,
            }),
            Err(error) => Err((order, error)),
        }
    }

    fn request(&self, order: &Order) -> (ProduceRequest, Vec<(Uuid, TopicName)>) {
        let mut by_topic: FxHashMap<&TopicName, Vec<PartitionProduceData>> = FxHashMap::default();
        for ordered in &order.batches {
            let Content::Built(batch) = &ordered.content else {
                continue;
            };
            by_topic
                .entry(&ordered.topic)
                .or_default()
                .push(PartitionProduceData {
                    index: ordered.partition,
                    records: Some(batch.bytes().clone()),
                });
        }
        let (topics, topic_data) = self.client.read_cluster(|cluster| {
            let topics = by_topic.into_iter().map(|(name, partition_data)| {
                let known = cluster.topics.get(name);
                let topic_id = known.map_or(Uuid::ZERO, |topic| topic.id);
                let data = TopicProduceData {
                    name: name.clone(),
                    topic_id,
                    partition_data,
                };
                ((topic_id, name.clone()), data)
            });
            topics.unzip()
        });
        let timeout = self.client.config().request_timeout;
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.config.acks.code(),
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data,
        };
        (request, topics)
    }

    async fn await_answer(
        &self,
        pending: &mut Pending,
    ) -> Result<Option<ProduceResponse>, ClientError> {
        match self.config.acks.code() {
            0 => pending.written().await.map(|()| None),
            _ => pending.answer().await.map(Some),
        }
    }

    /// What an answer means; and for how long the broker wants to be left alone.
    fn take_answer(
        self: &Arc<Self>,
        in_flight: InFlight,
        answer: Result<Option<ProduceResponse>, ClientError>,
    ) -> Duration {
        let InFlight { order, topics, .. } = in_flight;
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                self.written(order);
                return Duration::ZERO;
            }
            Err(error) => {
                self.lost(order, &error);
                return Duration::ZERO;
            }
        };
        let ids: HashMap<Uuid, TopicName> = topics.into_iter().collect();
        let mut batches: FxHashMap<(&str, PartitionIndex), BatchId> = FxHashMap::default();
        for ordered in &order.batches {
            batches.insert((&ordered.topic, ordered.partition), ordered.batch);
        }
        let mut answers = Vec::with_capacity(batches.len());
        let mut details = Vec::new();
        let mut moved = Vec::new();
        for topic in &answer.responses {
            let by_id = ids.get(&topic.topic_id).filter(|_| topic.name.is_empty());
            let name = by_id.unwrap_or(&topic.name);
            for partition in &topic.partition_responses {
                if let Some(batch) = batches.get(&(name.as_str(), partition.index)) {
                    answers.push((*batch, plain(partition)));
                    details.extend(detailed(partition).map(|it| (*batch, it)));
                }
                if self.note_leader(name, partition, &answer) {
                    moved.push(name.clone());
                }
            }
        }
        self.with_core(|core| {
            self.client.read_cluster(|cluster| {
                for topic in &moved {
                    core.learn(topic, cluster);
                }
            });
            core.answered(order, answers, details);
        });
        Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap_or(0))
    }

    /// KIP-951: a broker that does not lead the partition says who does. True if that was news.
    fn note_leader(
        &self,
        topic: &str,
        partition: &PartitionProduceResponse,
        answer: &ProduceResponse,
    ) -> bool {
        let leader = &partition.current_leader;
        if leader.leader_id.value() < 0 {
            return false;
        }
        let mut endpoints = answer.node_endpoints.iter();
        let node = endpoints.find(|node| node.node_id == leader.leader_id);
        let node = node.map(|node| endpoint(node.node_id, &node.host, node.port));
        self.client.note(|cluster| {
            cluster.hint(
                topic,
                partition.index,
                leader.leader_id,
                leader.leader_epoch,
                node,
            )
        })
    }

    /// Without acknowledgements, what has been written is done.
    fn written(self: &Arc<Self>, order: Order) {
        let batches = order.batches.iter();
        let answers = batches.map(|it| (it.batch, without_offset(ErrorCode::NONE)));
        let answers = answers.collect();
        self.with_core(|core| core.answered(order, answers, Vec::new()));
    }

    pub(super) fn lost(self: &Arc<Self>, order: Order, error: &ClientError) {
        tracing::debug!(request = order.request, %error, "a request is lost");
        if !error.is_distrust() {
            return self.with_core(|core| core.lost(order, &error.to_string()));
        }
        // Trying again would not help, so that this is an answer.
        let batches = order.batches.iter().map(|it| it.batch);
        let (mut answers, mut details) = (Vec::new(), Vec::new());
        let message: Arc<str> = error.to_string().into();
        for batch in batches {
            answers.push((batch, without_offset(ErrorCode::SASL_AUTHENTICATION_FAILED)));
            let message = Some(message.clone());
            details.push((
                batch,
                Details {
                    message,
                    ..Default::default()
                },
            ));
        }
        self.with_core(|core| core.answered(order, answers, details));
    }
}

impl Ordered {
    /// Compresses and stamps the batch; or only stamps it, if it was sent under another stamp before.
    fn build(&mut self) {
        let content = std::mem::replace(&mut self.content, Content::Away);
        self.content = match (content, self.stamp) {
            (Content::Open(builder), stamp) => {
                let builder = match stamp {
                    Some(stamp) => builder.producer(
                        stamp.identity.producer_id,
                        stamp.identity.producer_epoch,
                        stamp.base_sequence,
                    ),
                    None => builder,
                };
                // The codec was tried when the producer was made, and the size is bounded by far less than 2 GiB.
                Content::Built(builder.build().expect("a batch that can be built"))
            }
            (Content::Built(batch), Some(stamp)) if !is_stamped(&batch, stamp) => {
                Content::Built(batch.with_producer(
                    stamp.identity.producer_id,
                    stamp.identity.producer_epoch,
                    stamp.base_sequence,
                ))
            }
            (content, _) => content,
        };
    }
}

fn is_stamped(batch: &Batch, stamp: Stamp) -> bool {
    let header = batch.header();
    let identity = (header.producer_id, header.producer_epoch);
    identity == (stamp.identity.producer_id, stamp.identity.producer_epoch)
        && header.base_sequence == stamp.base_sequence
}

fn plain(partition: &PartitionProduceResponse) -> Answer {
    Answer {
        error_code: partition.error_code,
        base_offset: partition.base_offset,
        log_append_time: partition.log_append_time_ms,
    }
}

/// What stands beside the code, if anything.
fn detailed(partition: &PartitionProduceResponse) -> Option<Details> {
    let text = |text: &tidelog_types::Str| Arc::from(text.as_str());
    let records = partition.record_errors.iter().map(|record| {
        let index = record.batch_index as u32;
        (index, record.batch_index_error_message.as_ref().map(text))
    });
    let details = Details {
        message: partition.error_message.as_ref().map(text),
        records: records.collect(),
    };
    let is_there = details.message.is_some() || !details.records.is_empty();
    is_there.then_some(details)
}
