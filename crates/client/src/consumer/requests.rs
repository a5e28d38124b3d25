//! The tasks that send a consumer's requests and take the answers.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};
use tidelog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidelog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidelog_protocol::{ApiRequest, Payload};
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, NodeId, Offset, Str, TopicName, TopicPartition, Uuid,
};

use super::core::{Arrival, FetchOrder, Order, Target, Watermarks};
use super::fetcher::{FetchAnswer, FetchAnswers, Input, Position, RequestId, Slot};
use super::reader::whole_batches;
use super::{ConsumeError, IsolationLevel, Shared};
use crate::metadata::endpoint;
use crate::offsets::{
    NO_GENERATION, OFFSET_COMMIT_BY_NAME, OFFSET_FETCH_BY_NAME, SEVERAL_GROUPS_FROM_VERSION,
    by_topic, committed, offset_at,
};
use crate::{Client, ClientError, CommittedOffset, Connection, OffsetSpec};

/// The last version of Fetch that names topics.
const FETCH_BY_NAME: i16 = 12;
/// From this version on consumers may ask where epochs end (KIP-320).
const EPOCH_ENDS_FROM_VERSION: i16 = 3;

type Answers<T> = Vec<(Slot, Result<T, ErrorCode>)>;

/// Carries an order out.
pub(super) async fn serve(shared: Arc<Shared>, order: Order) {
    match order {
        Order::Fetch(order) => shared.fetch(order).await,
        Order::Committed {
            request,
            partitions,
        } => {
            let answers = shared.committed(&partitions).await;
            shared.with_core(|core| core.handle(Input::Committed { request, answers }));
        }
        Order::Lookup {
            request,
            node,
            partitions,
        } => {
            let answers = shared.look_up(node, &partitions).await;
            shared.settle(request, answers, |answers| Input::Found {
                request,
                answers,
            });
        }
        Order::EpochEnds {
            request,
            node,
            partitions,
        } => {
            let answers = shared.epoch_ends(node, &partitions).await;
            shared.settle(request, answers, |answers| Input::EpochEnds {
                request,
                answers,
            });
        }
    }
}

impl Shared {
    fn settle<T>(
        self: &Arc<Self>,
        request: RequestId,
        answers: Result<Answers<T>, ClientError>,
        input: impl FnOnce(Answers<T>) -> Input,
    ) {
        let input = match answers {
            Ok(answers) => input(answers),
            Err(error) => {
                tracing::debug!(request, %error, "a request is lost");
                self.with_core(|core| core.failed(error));
                Input::Lost { request }
            }
        };
        self.with_core(|core| core.handle(input));
    }

    // ---- records

    async fn fetch(self: Arc<Self>, order: FetchOrder) {
        let (request, node) = (order.request, order.node);
        let answer = self.send_fetch(order).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%node, %error, "a fetch is lost");
                return self.with_core(|core| {
                    core.failed(error);
                    core.handle(Input::Lost { request });
                });
            }
        };
        let moved = self.note_leaders(&answer);
        let answers = FetchAnswers {
            error_code: answer.error_code,
            session_id: answer.session_id,
            throttle_ms: u32::try_from(answer.throttle_time_ms).unwrap_or(0),
            partitions: Vec::new(),
        };
        let arrivals = self.arrivals(answer);
        self.with_core(|core| {
            core.fetched(request, answers, arrivals);
            for topic in &moved {
                core.learn(topic);
            }
        });
    }

    async fn send_fetch(&self, order: FetchOrder) -> Result<FetchResponse, ClientError> {
        let config = &self.config;
        let bytes = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let all = order.partitions.iter().map(|(target, _)| target);
        let mut all = all.chain(&order.forgotten);
        let limit = match all.all(|target| !target.topic_id.is_zero()) {
            true => i16::MAX,
            false => FETCH_BY_NAME,
        };
        let partitions = order.partitions.iter().map(|(target, wanted)| {
            let partition = FetchPartition {
                partition: target.partition.partition,
                current_leader_epoch: wanted.leader_epoch,
                fetch_offset: wanted.fetch_offset,
                partition_max_bytes: bytes(config.partition_bytes_max),
                ..Default::default()
            };
            (target, partition)
        });
        let forgotten = order.forgotten.iter();
        let forgotten = forgotten.map(|target| (target, target.partition.partition));
        let request = FetchRequest {
            max_wait_ms: i32::try_from(config.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
            min_bytes: bytes(config.fetch_bytes_min),
            max_bytes: bytes(order.bytes_max),
            isolation_level: config.isolation_level.code(),
            session_id: order.session_id,
            session_epoch: order.session_epoch,
            topics: grouped(partitions, |target, partitions| FetchTopic {
                topic: target.partition.topic.clone(),
                topic_id: target.topic_id,
                partitions,
            }),
            forgotten_topics_data: grouped(forgotten, |target, partitions| ForgottenTopic {
                topic: target.partition.topic.clone(),
                topic_id: target.topic_id,
                partitions,
            }),
            rack_id: config.rack.clone().unwrap_or_default(),
            ..Default::default()
        };
        let connection = self.fetching.at_node(order.node).await?;
        connection.send_up_to(&request, limit).await
    }

    /// What an answer brought, by partition.
    fn arrivals(&self, answer: FetchResponse) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let names: HashMap<Uuid, TopicName> = self.client.read_cluster(|cluster| {
            let topics = cluster.topics.iter();
            topics
                .map(|(name, topic)| (topic.id, name.clone()))
                .collect()
        });
        for topic in answer.responses {
            let by_id = names
                .get(&topic.topic_id)
                .filter(|_| topic.topic.is_empty());
            let name = by_id.unwrap_or(&topic.topic);
            for partition in topic.partitions {
                let named = TopicPartition::new(name.clone(), partition.partition_index);
                arrivals.push(self.arrival(named, partition));
            }
        }
        arrivals
    }

    fn arrival(&self, partition: TopicPartition, data: PartitionData) -> Arrival {
        let mut batches = match data.records {
            Some(Payload::Bytes(bytes)) => bytes,
            _ => Bytes::new(),
        };
        let (len, next, error) = whole_batches(&batches);
        // Without anything to read, somebody has to say so.
        let damage = error.filter(|_| next.is_none());
        let records = match (next, &damage) {
            (Some(next), _) => Some((len, next)),
            (None, Some(_)) => Some((0, Position::at(Offset::ZERO))),
            (None, None) => None,
        };
        batches.truncate(len);
        let only_committed = self.config.isolation_level == IsolationLevel::ReadCommitted;
        let aborted = data.aborted_transactions.filter(|_| only_committed);
        let replica = data.preferred_read_replica;
        Arrival {
            partition,
            answer: FetchAnswer {
                error_code: data.error_code,
                preferred_replica: (replica.value() >= 0).then_some(replica),
                records,
            },
            batches,
            aborted: aborted.unwrap_or_default(),
            watermarks: Watermarks {
                log_start_offset: data.log_start_offset,
                high_watermark: data.high_watermark,
                last_stable_offset: data.last_stable_offset,
            },
            damage: damage.map(Arc::new),
        }
    }

    /// KIP-951: a broker that does not lead a partition says who does. The topics of which that was news.
    fn note_leaders(&self, answer: &FetchResponse) -> Vec<TopicName> {
        let mut moved = Vec::new();
        for topic in &answer.responses {
            for partition in &topic.partitions {
                let leader = &partition.current_leader;
                if leader.leader_id.value() < 0 || partition.error_code.is_ok() {
                    continue;
                }
                let mut endpoints = answer.node_endpoints.iter();
                let node = endpoints.find(|node| node.node_id == leader.leader_id);
                let node = node.map(|node| endpoint(node.node_id, &node.host, node.port));
                let news = self.client.note(|cluster| {
                    let mut topics = cluster.topics.iter();
                    let named = topics.find(|(name, known)| match topic.topic.is_empty() {
                        true => known.id == topic.topic_id,
                        false => **name == topic.topic,
                    });
                    let name = named.map(|(name, _)| name.clone())?;
                    let index = partition.partition_index;
                    let (id, epoch) = (leader.leader_id, leader.leader_epoch);
                    cluster.hint(&name, index, id, epoch, node).then_some(name)
                });
                moved.extend(news);
            }
        }
        moved
    }

    // ---- positions

    async fn look_up(
        &self,
        node: NodeId,
        partitions: &[(Target, OffsetSpec, LeaderEpoch)],
    ) -> Result<Answers<Option<Position>>, ClientError> {
        let request = ListOffsetsRequest {
            replica_id: NodeId::NONE,
            isolation_level: self.config.isolation_level.code(),
            topics: grouped(
                partitions.iter().map(|(target, spec, epoch)| {
                    let partition = ListOffsetsPartition {
                        partition_index: target.partition.partition,
                        current_leader_epoch: *epoch,
                        timestamp: spec.timestamp(),
                        ..Default::default()
                    };
                    (target, partition)
                }),
                |target, partitions| ListOffsetsTopic {
                    name: target.partition.topic.clone(),
                    partitions,
                },
            ),
            timeout_ms: self.client.timeout_ms(),
        };
        let answer = self.client.at_node(node).await?.send(&request).await?;
        let mut answers = Vec::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let found = offset_at(partition);
                let found = found.map(|found| found.offset.map(Position::at));
                let index = partition.partition_index;
                let targets = partitions.iter().map(|(target, ..)| target);
                answers.extend(slot_of(targets, &topic.name, index).map(|slot| (slot, found)));
            }
        }
        Ok(answers)
    }

    async fn epoch_ends(
        &self,
        node: NodeId,
        partitions: &[(Target, LeaderEpoch, LeaderEpoch)],
    ) -> Result<Answers<Position>, ClientError> {
        let connection = self.client.at_node(node).await?;
        let version = connection.version::<OffsetForLeaderEpochRequest>(i16::MAX);
        if version.is_none_or(|version| version < EPOCH_ENDS_FROM_VERSION) {
            let refused = Err(ErrorCode::UNSUPPORTED_VERSION);
            return Ok(partitions.iter().map(|it| (it.0.slot, refused)).collect());
        }
        let request = OffsetForLeaderEpochRequest {
            replica_id: NodeId::NONE,
            topics: grouped(
                partitions.iter().map(|(target, known, of)| {
                    let partition = OffsetForLeaderPartition {
                        partition: target.partition.partition,
                        current_leader_epoch: *known,
                        leader_epoch: *of,
                    };
                    (target, partition)
                }),
                |target, partitions| OffsetForLeaderTopic {
                    topic: target.partition.topic.clone(),
                    partitions,
                },
            ),
        };
        let mut answers = Vec::new();
        for topic in connection.send(&request).await?.topics {
            for partition in topic.partitions {
                let end = match partition.error_code.is_ok() {
                    true => Ok(Position {
                        offset: partition.end_offset,
                        leader_epoch: partition.leader_epoch,
                    }),
                    false => Err(partition.error_code),
                };
                let targets = partitions.iter().map(|(target, ..)| target);
                let slot = slot_of(targets, &topic.topic, partition.partition);
                answers.extend(slot.map(|slot| (slot, end)));
            }
        }
        Ok(answers)
    }

    // ---- the group's offsets

    /// What the group has committed for these partitions.
    async fn committed(&self, partitions: &[Target]) -> Answers<Option<Position>> {
        let wanted: Vec<_> = partitions.iter().map(|it| it.partition.clone()).collect();
        match self.committed_offsets(&wanted).await {
            Ok(known) => {
                let answers = partitions.iter();
                let answers = answers.map(|target| {
                    let known = known.get(&target.partition);
                    let position = known.map(|known| Position {
                        offset: known.offset,
                        leader_epoch: known.leader_epoch,
                    });
                    (target.slot, Ok(position))
                });
                answers.collect()
            }
            Err(error) => {
                tracing::debug!(%error, "nobody says what was committed");
                let code = error.code().unwrap_or_else(|| match error.is_retriable() {
                    true => ErrorCode::NETWORK_EXCEPTION,
                    false => ErrorCode::UNKNOWN_SERVER_ERROR,
                });
                partitions.iter().map(|it| (it.slot, Err(code))).collect()
            }
        }
    }

    pub(super) async fn committed_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ConsumeError> {
        let group = self.group()?;
        let names: Vec<_> = by_topic(partitions, |it| it.partition).collect();
        let request = |connection: &Connection| {
            let version = connection.version::<OffsetFetchRequest>(OFFSET_FETCH_BY_NAME);
            let mut request = OffsetFetchRequest {
                require_stable: self.config.isolation_level == IsolationLevel::ReadCommitted,
                ..Default::default()
            };
            if version.is_some_and(|version| version >= SEVERAL_GROUPS_FROM_VERSION) {
                let topics = names.iter();
                let topics = topics.map(|(name, partitions)| OffsetFetchRequestTopics {
                    name: name.clone(),
                    partition_indexes: partitions.clone(),
                    ..Default::default()
                });
                request.groups.push(OffsetFetchRequestGroup {
                    group_id: group.clone(),
                    topics: Some(topics.collect()),
                    ..Default::default()
                });
                request.topics = None;
            } else {
                let topics = names.iter();
                let topics = topics.map(|(name, partitions)| OffsetFetchRequestTopic {
                    name: name.clone(),
                    partition_indexes: partitions.clone(),
                });
                request.group_id = group.clone();
                request.topics = Some(topics.collect());
            }
            // Brokers before KIP-447 cannot tell.
            request.require_stable &= version.is_some_and(|version| version >= STABLE_FROM_VERSION);
            request
        };
        let answer = self.insisting(|| async {
            let connection = self.coordinator().await?;
            let request = request(&connection);
            let answer = connection.send_up_to(&request, OFFSET_FETCH_BY_NAME).await;
            let answer = self.heed(answer).await?;
            let offsets = committed(group, answer);
            self.heed(offsets).await
        });
        let offsets = answer.await?.into_iter();
        Ok(offsets.map(|it| (it.partition.clone(), it)).collect())
    }

    pub(super) fn group(&self) -> Result<&GroupId, ConsumeError> {
        self.config.group_id.as_ref().ok_or(ConsumeError::NoGroup)
    }

    /// A connection to the group's coordinator, which is found first if it is not known.
    pub(super) async fn coordinator(&self) -> Result<Arc<Connection>, ClientError> {
        self.coordinator_over(&self.coordinating).await
    }

    /// The same by a connection of this client.
    pub(super) async fn coordinator_over(
        &self,
        client: &Client,
    ) -> Result<Arc<Connection>, ClientError> {
        let Some(group) = &self.config.group_id else {
            return client.any().await;
        };
        let mut known = self.coordinator.lock().await;
        let broker = match &*known {
            Some(broker) => broker.clone(),
            None => known.insert(self.client.coordinator(group).await?).clone(),
        };
        drop(known);
        let connection = client.at(&broker.address()).await;
        self.heed(connection).await
    }

    /// Looks for the coordinator anew if an answer says that it is another one, or if there is none.
    pub(super) async fn heed<T>(&self, answer: Result<T, ClientError>) -> Result<T, ClientError> {
        if let Err(error) = &answer {
            let is_there = error.code().is_some_and(|code| !has_moved(code));
            if !is_there {
                *self.coordinator.lock().await = None;
            }
        }
        answer
    }

    /// Commits these offsets, and again while that may help: also when the group has rebalanced meanwhile, unless a partition is
    /// another one's now, who may have committed what comes later.
    pub(super) async fn commit(
        &self,
        offsets: &BTreeMap<TopicPartition, Position>,
    ) -> Result<(), ConsumeError> {
        let group = self.group()?;
        if offsets.is_empty() {
            return Ok(());
        }
        let topics = by_topic(offsets.keys(), |partition| OffsetCommitRequestPartition {
            partition_index: partition.partition,
            committed_offset: offsets[partition].offset,
            committed_leader_epoch: offsets[partition].leader_epoch,
            committed_metadata: Some(Str::default()),
            ..Default::default()
        });
        let topics = topics.map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions,
            ..Default::default()
        });
        let topics: Vec<_> = topics.collect();
        let owned = self.core.lock().owned_of(offsets.keys());
        let done = self.insisting(|| async {
            let (lost, identity) = {
                let core = self.core.lock();
                let lost = owned.iter().find(|it| !core.still_owns(it));
                (lost.map(|it| it.partition.clone()), core.identity())
            };
            if let Some(lost) = lost {
                let subject = || format!("partition {lost}");
                ClientError::check(ErrorCode::ILLEGAL_GENERATION, None, subject)?;
            }
            let instance_id = self.config.group_instance_id.clone();
            let instance_id = instance_id.filter(|_| identity.is_some());
            let (member_id, epoch) = identity.unwrap_or((Str::EMPTY, NO_GENERATION));
            let request = OffsetCommitRequest {
                group_id: group.clone(),
                generation_id_or_member_epoch: epoch,
                group_instance_id: instance_id,
                member_id,
                topics: topics.clone(),
                ..Default::default()
            };
            let answer = self
                .ask_coordinator(&request, OFFSET_COMMIT_BY_NAME)
                .await?;
            for topic in &answer.topics {
                for it in &topic.partitions {
                    let subject = || format!("partition {}-{}", topic.name, it.partition_index);
                    let code = match it.error_code {
                        ErrorCode::ILLEGAL_GENERATION if self.core.lock().may_have_left(epoch) => {
                            ErrorCode::REBALANCE_IN_PROGRESS
                        }
                        code => code,
                    };
                    let checked = ClientError::check(code, None, subject);
                    self.heed(checked).await?;
                }
            }
            Ok(())
        });
        done.await.map_err(|error| match error.code() {
            Some(code) => ConsumeError::NotCommitted {
                group: group.clone(),
                code,
            },
            None => error.into(),
        })
    }

    /// Calls again while that may help, also if a broker cannot be reached.
    async fn insisting<T, F>(&self, call: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let may = |error: &ClientError| {
            // The next heartbeat brings the epoch that the coordinator has in mind, and the end of the rebalance another generation.
            let passes = [
                ErrorCode::STALE_MEMBER_EPOCH,
                ErrorCode::REBALANCE_IN_PROGRESS,
            ];
            error.is_retriable() || error.code().is_some_and(|code| passes.contains(&code))
        };
        self.client.with_retries_if(call, may).await
    }

    pub(super) async fn ask_coordinator<R: ApiRequest>(
        &self,
        request: &R,
        limit: i16,
    ) -> Result<R::Response, ClientError> {
        let connection = self.coordinator().await?;
        let answer = connection.send_up_to(request, limit).await;
        self.heed(answer).await
    }
}

/// From this version on OffsetFetch may insist on decided offsets (KIP-447).
const STABLE_FROM_VERSION: i16 = 7;

/// Whether the coordinator of the group is another broker, or none for now.
const fn has_moved(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE
    )
}

/// The slot of a partition that was asked about.
fn slot_of<'a>(
    mut targets: impl Iterator<Item = &'a Target>,
    topic: &TopicName,
    partition: i32,
) -> Option<Slot> {
    let is_meant =
        |it: &&Target| it.partition.partition == partition && it.partition.topic == *topic;
    targets.find(is_meant).map(|it| it.slot)
}

/// One element for each topic, in the order of the partitions.
fn grouped<'a, P, T>(
    partitions: impl Iterator<Item = (&'a Target, P)>,
    element: impl Fn(&Target, Vec<P>) -> T,
) -> Vec<T> {
    let mut topics: Vec<(&Target, Vec<P>)> = Vec::new();
    for (target, partition) in partitions {
        let known = topics.iter_mut().find(|(it, _)| {
            it.partition.topic == target.partition.topic && it.topic_id == target.topic_id
        });
        match known {
            Some((_, partitions)) => partitions.push(partition),
            None => topics.push((target, vec![partition])),
        }
    }
    let topics = topics.into_iter();
    topics
        .map(|(target, partitions)| element(target, partitions))
        .collect()
}
