//! Produce: append the batches, wait as `acks` says, answer.

mod transactional;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use tidelog_record::{Batch, BatchError, Codec, Rejection};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, Str, Timestamp};

use self::transactional::Admission;
use super::wait::AppendWait;
use super::{Answer, Closed, Context, leader_hints};
use crate::store::partition::{Accepted, Acks, AppendRefused, Partition};
use crate::store::topics::LocalTopic;

/// The client id that may write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";
/// From this version on clients say that they understand zstd (KIP-110).
const ZSTD_FROM_VERSION: i16 = 7;
/// From this version on topics go by their id (KIP-516).
const TOPIC_ID_FROM_VERSION: i16 = 13;

/// From this version on a client is told who leads instead (KIP-951).
const LEADER_HINT_FROM_VERSION: i16 = 10;

/// Answers a Produce request. With `acks=0` there is no answer: if anything went wrong the connection is closed, so that
/// the client looks for the leaders anew.
pub(super) async fn handle(context: Context, request: ProduceRequest) -> Answer {
    let is_answered = request.acks != 0;
    let mut response = produce(&context, request).await;
    let has_failed = partitions(&mut response).any(|partition| partition.error_code.is_err());
    match (is_answered, has_failed) {
        (true, _) => context.answer(&response),
        (false, false) => Answer::Silent,
        (false, true) => Answer::Close(Closed::BadRequest(
            "a produce request with acks=0 failed".into(),
        )),
    }
}

/// Appends what a request brings, and waits as it says. What is to be flushed is left with the
/// [peer](crate::handlers::Peer::due_flushes) before the wait.
pub(crate) async fn produce(context: &Context, request: ProduceRequest) -> ProduceResponse {
    let version = context.header.api_version;
    let checked = transactional::producer_of(&request)
        .and_then(|producer| Ok((producer, acks(request.acks)?)));
    let (producer, acks) = match checked {
        Ok(checked) => checked,
        Err(code) => return refuse_all(&request, code),
    };
    let admission = match producer {
        // On the heap, since few requests have one.
        Some(producer) => Some(Box::pin(transactional::admit(context, &request, producer)).await),
        None => None,
    };
    let wait = AppendWait::new();
    let mut response = ProduceResponse::default();
    let mut index = 0;
    for topic in &request.topic_data {
        let local = local_topic(context, topic);
        let mut answer = TopicProduceResponse {
            // Not a slice of the frame, which would keep its memory until the answer has left.
            name: local
                .as_ref()
                .map_or_else(|_| topic.name.detach(), |local| local.name.clone()),
            topic_id: topic.topic_id,
            partition_responses: Vec::with_capacity(topic.partition_data.len()),
        };
        for data in &topic.partition_data {
            let append = Append {
                context,
                version,
                acks,
                wait: &wait,
                admission: admission.as_ref(),
                index,
            };
            answer.partition_responses.push(append.run(&local, data));
            index += 1;
        }
        response.responses.push(answer);
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    drop((request, admission));
    let clock = &context.node.clock;
    settle(&mut response, wait.wait(clock, timeout).await);
    let has_failed = partitions(&mut response).any(|partition| partition.error_code.is_err());
    if has_failed && version >= LEADER_HINT_FROM_VERSION {
        name_leaders(context, &mut response);
    }
    response
}

/// Says who leads the partitions that this node does not lead.
fn name_leaders(context: &Context, response: &mut ProduceResponse) {
    let mut leaders = Vec::new();
    for topic in &mut response.responses {
        let topic_id = match topic.topic_id.is_zero() {
            false => topic.topic_id,
            true => context
                .node
                .image
                .load()
                .topic_id(&topic.name)
                .unwrap_or_default(),
        };
        let elsewhere = topic.partition_responses.iter_mut();
        for partition in elsewhere.filter(|p| p.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER) {
            partition.current_leader =
                leader_hints::current_leader(context, topic_id, partition.index);
            leaders.push(partition.current_leader.leader_id);
        }
    }
    response.node_endpoints = leader_hints::endpoints(context, leaders.into_iter());
}

fn acks(acks: i16) -> Result<Acks, ErrorCode> {
    match acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(ErrorCode::INVALID_REQUIRED_ACKS),
    }
}

/// The topic that a request means, by id or by name, if clients may write to it.
fn local_topic(context: &Context, topic: &TopicProduceData) -> Result<Arc<LocalTopic>, ErrorCode> {
    let topics = &context.node.store.topics;
    let local = if context.header.api_version >= TOPIC_ID_FROM_VERSION {
        topics
            .by_id(topic.topic_id)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?
    } else {
        topics
            .by_name(&topic.name)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
    };
    let is_admin = context.header.client_id.as_deref() == Some(ADMIN_CLIENT_ID);
    if local.name.is_internal() && !is_admin {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    Ok(local)
}

/// The append of one batch.
struct Append<'a> {
    context: &'a Context,
    version: i16,
    acks: Acks,
    wait: &'a Arc<AppendWait>,
    admission: Option<&'a Admission<'a>>,
    index: usize,
}

impl Append<'_> {
    fn run(
        &self,
        topic: &Result<Arc<LocalTopic>, ErrorCode>,
        data: &PartitionProduceData,
    ) -> PartitionProduceResponse {
        let result = match topic {
            Ok(topic) => self.append(topic, data),
            Err(code) => Err(Refused::from(*code)),
        };
        let answer = PartitionProduceResponse {
            index: data.index,
            ..Default::default()
        };
        match result {
            Ok(answered) => PartitionProduceResponse {
                index: data.index,
                ..answered
            },
            Err(refused) => PartitionProduceResponse {
                error_code: refused.code,
                base_offset: Offset::NONE,
                log_append_time_ms: Timestamp::NONE,
                log_start_offset: refused.log_start_offset,
                record_errors: refused.records,
                error_message: refused.message,
                ..answer
            },
        }
    }

    fn append(
        &self,
        topic: &LocalTopic,
        data: &PartitionProduceData,
    ) -> Result<PartitionProduceResponse, Refused> {
        let partition = topic
            .partition(data.index)?
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let batch = self.only_batch(data.records.as_ref())?;
        self.append_batch(topic, &partition, &batch)
            .map_err(|refused| {
                // What is wrong with the batch, or with its place in the log, is answered along with where the log begins.
                let log_start_offset = match refused.code {
                    ErrorCode::CORRUPT_MESSAGE
                    | ErrorCode::NOT_LEADER_OR_FOLLOWER
                    | ErrorCode::MESSAGE_TOO_LARGE
                    | ErrorCode::RECORD_LIST_TOO_LARGE
                    | ErrorCode::KAFKA_STORAGE_ERROR => Offset::NONE,
                    _ => partition.published().marks.log_start_offset,
                };
                Refused {
                    log_start_offset,
                    ..refused
                }
            })
    }

    fn append_batch(
        &self,
        topic: &LocalTopic,
        partition: &Arc<Partition>,
        batch: &Batch,
    ) -> Result<PartitionProduceResponse, Refused> {
        let rules = topic.rules();
        let now = self.context.node.clock.now().timestamp;
        let validated = tidelog_record::validate(batch, &rules, now)?;
        let beginning = match batch.header().attributes.is_transactional() {
            true => {
                let admission = self.admission.ok_or(ErrorCode::INVALID_TXN_STATE)?;
                Some(admission.of(self.index)?)
            }
            false => None,
        };
        let waiter = self.wait.expect(self.index);
        let (batch, acks) = (&validated.batch, self.acks);
        let appended = match beginning {
            Some(beginning) => partition.append_in_transaction(batch, beginning, acks, waiter),
            None => partition.append(batch, LeaderEpoch::NONE, acks, waiter),
        };
        match appended {
            Ok(Accepted {
                appended,
                done,
                flush,
            }) => {
                match (flush, self.admission) {
                    (false, _) => {}
                    (true, None) => self.context.peer.due_flushes.add(partition),
                    // The connection has seen to its flushes while the coordinator was asked.
                    (true, Some(_)) => partition.request_flush(),
                }
                if done {
                    self.wait.settled();
                }
                let records = validated.batch.header().records_count;
                let records = u64::try_from(records).unwrap_or(0);
                self.context.node.traffic.appended(records);
                Ok(PartitionProduceResponse {
                    error_code: ErrorCode::NONE,
                    base_offset: appended.base_offset,
                    log_append_time_ms: appended.log_append_time,
                    log_start_offset: appended.log_start_offset,
                    ..Default::default()
                })
            }
            Err(refused) => {
                self.wait.settled();
                Err(refused.into())
            }
        }
    }

    /// The batch of a partition: since version 3 there is exactly one, in message format v2.
    fn only_batch(&self, records: Option<&Bytes>) -> Result<Batch, Refused> {
        let records = records.filter(|records| !records.is_empty());
        let records = records.ok_or(ErrorCode::INVALID_RECORD)?;
        let batch = Batch::parse(records.clone()).map_err(|error| match error {
            // What is not whole does not count as a batch, and would not be whole the next time either.
            BatchError::Truncated { .. } => Refused {
                code: ErrorCode::INVALID_RECORD,
                ..error.into()
            },
            error => error.into(),
        })?;
        let is_zstd = matches!(batch.header().attributes.codec(), Ok(Codec::Zstd));
        if is_zstd && self.version < ZSTD_FROM_VERSION {
            return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE.into());
        }
        Ok(batch)
    }
}

/// Why the batch of one partition was not appended.
struct Refused {
    code: ErrorCode,
    message: Option<Str>,
    records: Vec<BatchIndexAndErrorMessage>,
    log_start_offset: Offset,
}

impl Refused {
    const fn new(code: ErrorCode, message: Option<Str>) -> Self {
        Self {
            code,
            message,
            records: Vec::new(),
            log_start_offset: Offset::NONE,
        }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, None)
    }
}

impl From<BatchError> for Refused {
    fn from(error: BatchError) -> Self {
        // Bytes that end early do not hold the one batch that was due.
        let code = match &error {
            BatchError::Truncated { .. } => ErrorCode::INVALID_RECORD,
            error => error.error_code(),
        };
        Self::new(code, Some(error.to_string().into()))
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        let records = rejection.records.into_iter();
        let records = records.map(|record| BatchIndexAndErrorMessage {
            batch_index: record.batch_index,
            batch_index_error_message: Some(record.message.into()),
        });
        Self {
            records: records.collect(),
            ..Self::new(rejection.error_code, Some(rejection.message.into()))
        }
    }
}

impl From<AppendRefused> for Refused {
    fn from(refused: AppendRefused) -> Self {
        let code = refused.error_code();
        match refused {
            AppendRefused::Replica(_) => Self::new(code, None),
            AppendRefused::Log(error) => Self::new(code, Some(error.to_string().into())),
        }
    }
}

fn partitions(
    response: &mut ProduceResponse,
) -> impl Iterator<Item = &mut PartitionProduceResponse> {
    response
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partition_responses)
}

/// Enters what became of the appends: those that failed after they were written, or all that have not failed yet if the
/// wait took too long.
fn settle(response: &mut ProduceResponse, failed: Option<Vec<(usize, ErrorCode)>>) {
    let refuse = |partition: &mut PartitionProduceResponse, code| {
        partition.error_code = code;
        partition.base_offset = Offset::NONE;
        partition.log_append_time_ms = Timestamp::NONE;
        partition.log_start_offset = Offset::NONE;
    };
    match failed {
        Some(failed) if failed.is_empty() => {}
        Some(failed) => {
            for (index, partition) in partitions(response).enumerate() {
                if let Some((_, code)) = failed.iter().find(|(failed, _)| *failed == index) {
                    refuse(partition, *code);
                }
            }
        }
        None => partitions(response)
            .filter(|partition| partition.error_code.is_ok())
            .for_each(|partition| refuse(partition, ErrorCode::REQUEST_TIMED_OUT)),
    }
}

/// The same error for every partition of a request.
fn refuse_all(request: &ProduceRequest, code: ErrorCode) -> ProduceResponse {
    let topics = request.topic_data.iter();
    ProduceResponse {
        responses: topics
            .map(|topic| TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: topic
                    .partition_data
                    .iter()
                    .map(|data| PartitionProduceResponse {
                        index: data.index,
                        error_code: code,
                        base_offset: Offset::NONE,
                        log_start_offset: Offset::NONE,
                        ..Default::default()
                    })
                    .collect(),
            })
            .collect(),
        ..Default::default()
    }
}
