use std::fmt;
use std::future::{Future, poll_fn};
use std::time::Duration;

use bytes::Bytes;
use tidelog_log::FileSlice;
use tidelog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use tidelog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use tidelog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidelog_protocol::{ApiKey, Payload};
use tidelog_record::{BatchBuilder, Compression, HeaderRef};
use tidelog_types::{NodeId, Offset, Str, Timestamp};

use super::records::Records;
use super::{Caller, RequestError};
use crate::handlers::{fetch, list_offsets, produce};

/// The last versions in which topics go by their name: a topic that was deleted and made anew is the same to the caller.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 9;
/// The `acks` that waits for all in-sync replicas.
const ALL: i16 = -1;
/// The epoch of a fetch without a session.
const NO_SESSION: i32 = -1;
/// `timestamp` of a ListOffsets request for the end and the beginning of a log.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// A topic of a broker in this process, to which a program appends and from which it reads without a client.
///
/// Made by [`Broker::topic`](crate::Broker::topic) and [`Broker::create_topic`](crate::Broker::create_topic). It does not
/// keep the broker from stopping; afterwards every call fails with [`RequestError::Stopped`]. In a cluster it takes and
/// gives what the broker leads, and refuses the rest with `NOT_LEADER_OR_FOLLOWER`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidelog_broker::{Broker, NewTopic, Offset};
///
/// let broker = Broker::builder().memory().no_ports().start().await?;
/// let orders = broker.create_topic(NewTopic::new("orders").partitions(2)).await?;
///
/// let appended = orders.produce(1, ["two apples", "a pear"]).await?;
/// assert_eq!(appended.base_offset, Offset::ZERO);
///
/// let mut records = orders.records(1, Offset::ZERO);
/// let first = records.next().await?;
/// assert_eq!(first.value.as_deref(), Some(&b"two apples"[..]));
/// # broker.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Topic {
    caller: Caller,
    name: Str,
    acks: i16,
    compression: Compression,
}

/// A record that is to be appended. It borrows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewRecord<'a> {
    /// What compaction goes by.
    pub key: Option<&'a [u8]>,
    /// The content; `None` is a tombstone for compaction.
    pub value: Option<&'a [u8]>,
    /// Further pairs, in their order; a key may come twice.
    pub headers: Vec<HeaderRef<'a>>,
    /// When it happened; `None` for now.
    pub timestamp: Option<Timestamp>,
}

impl<'a> NewRecord<'a> {
    /// A record without a key.
    pub fn value(value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            value: Some(value.as_ref()),
            ..Self::default()
        }
    }

    /// With a key.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, key: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push(HeaderRef {
            key: key.as_bytes(),
            value: Some(value.as_ref()),
        });
        self
    }

    /// With a timestamp of its own.
    #[must_use]
    pub const fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

impl<'a> From<&'a str> for NewRecord<'a> {
    fn from(value: &'a str) -> Self {
        Self::value(value)
    }
}

impl<'a> From<&'a String> for NewRecord<'a> {
    fn from(value: &'a String) -> Self {
        Self::value(value)
    }
}

impl<'a> From<&'a [u8]> for NewRecord<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::value(value)
    }
}

/// A key and a value.
impl<'a> From<(&'a str, &'a str)> for NewRecord<'a> {
    fn from((key, value): (&'a str, &'a str)) -> Self {
        Self::value(value).key(key)
    }
}

/// Where records have been appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The offset of the first; the others follow without a gap.
    pub base_offset: Offset,
    /// When they were appended, if the topic says that this is their time.
    pub log_append_time: Option<Timestamp>,
    /// Where the log begins.
    pub log_start_offset: Offset,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offsets {
    /// The first offset.
    pub earliest: Offset,
    /// The offset after the last record that consumers may read.
    pub latest: Offset,
}

/// What came of a fetch: batches as they are in the log, and the marks of the partition.
pub(super) struct Fetched {
    pub(super) batches: Bytes,
}

impl Topic {
    pub(crate) fn new(caller: Caller, name: Str) -> Self {
        Self {
            caller,
            name,
            acks: ALL,
            compression: Compression::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many partitions it has; an error if there is no such topic.
    pub fn partitions(&self) -> Result<usize, RequestError> {
        self.caller.partitions(&self.name)
    }

    /// Has appends wait for this replica only (`acks=1`) in place of all that are in sync.
    #[must_use]
    pub const fn acks_leader(mut self) -> Self {
        self.acks = 1;
        self
    }

    /// Has appends compressed so. By default they are not.
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Appends records to a partition, as one batch: all of them or none. When this returns they are acknowledged, with
    /// everything that the durability of the topic promises.
    pub async fn produce<'a, R: Into<NewRecord<'a>>>(
        &self,
        partition: i32,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Appended, RequestError> {
        let context = self.caller.context(ApiKey::Produce, PRODUCE_VERSION)?;
        let now = context.node.clock.now().timestamp;
        let mut builder = BatchBuilder::new(self.compression);
        for record in records {
            let record = record.into();
            let timestamp = record.timestamp.unwrap_or(now);
            builder.push(timestamp, record.key, record.value, &record.headers);
        }
        let batch = builder.build();
        let batch = batch.map_err(|error| RequestError::Records(error.to_string()))?;
        let request = ProduceRequest {
            acks: self.acks,
            timeout_ms: context.node.broker_config.load().request_timeout_ms(),
            topic_data: vec![TopicProduceData {
                name: self.name.clone().into(),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(batch.bytes().clone()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        // As on a connection: what a request has appended is seen to when it has been started.
        let mut answer = std::pin::pin!(produce(&context, request));
        let answer = poll_fn(|cx| {
            let polled = answer.as_mut().poll(cx);
            context.peer.due_flushes.start(|| false);
            polled
        });
        let mut answer = self.caller.unless_stopped(answer).await?;
        let mut answers = answer.responses.drain(..);
        let answer = answers.next().and_then(|mut t| t.partition_responses.pop());
        let answer = answer.ok_or(RequestError::Stopped)?;
        RequestError::check(answer.error_code, answer.error_message.as_ref())?;
        Ok(Appended {
            base_offset: answer.base_offset,
            log_append_time: Some(answer.log_append_time_ms)
                .filter(|timestamp| *timestamp != Timestamp::NONE),
            log_start_offset: answer.log_start_offset,
        })
    }

    /// The records of a partition from an offset on, as they come, without end.
    pub fn records(&self, partition: i32, from: Offset) -> Records {
        Records::new(self.clone(), partition, from)
    }

    /// Where a partition begins and ends.
    pub async fn offsets(&self, partition: i32) -> Result<Offsets, RequestError> {
        Ok(Offsets {
            earliest: self.offset(partition, EARLIEST)?,
            latest: self.offset(partition, LATEST)?,
        })
    }

    /// The offset of the first record with this timestamp or a later one; `None` if there is none.
    pub async fn offset_for_timestamp(
        &self,
        partition: i32,
        timestamp: Timestamp,
    ) -> Result<Option<Offset>, RequestError> {
        let found = self.offset(partition, timestamp.as_millis().max(0))?;
        Ok(Some(found).filter(|offset| *offset != Offset::NONE))
    }

    fn offset(&self, partition: i32, timestamp: i64) -> Result<Offset, RequestError> {
        let context = self
            .caller
            .context(ApiKey::ListOffsets, LIST_OFFSETS_VERSION)?;
        let request = ListOffsetsRequest {
            replica_id: NodeId::NONE,
            topics: vec![ListOffsetsTopic {
                name: self.name.clone().into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    timestamp: Timestamp::from_millis(timestamp),
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let mut answer = list_offsets(&context, &request);
        let mut answers = answer.topics.drain(..);
        let answer = answers.next().and_then(|mut topic| topic.partitions.pop());
        let answer = answer.ok_or(RequestError::Stopped)?;
        RequestError::check(answer.error_code, None)?;
        Ok(answer.offset)
    }

    /// Reads from an offset on, as soon as there is something; nothing if for `max_wait` there is not.
    pub(super) async fn fetch(
        &self,
        partition: i32,
        from: Offset,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<Fetched, RequestError> {
        let context = self.caller.context(ApiKey::Fetch, FETCH_VERSION)?;
        let request = FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes,
            session_epoch: NO_SESSION,
            topics: vec![FetchTopic {
                topic: self.name.clone().into(),
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: from,
                    partition_max_bytes: max_bytes,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.caller.unless_stopped(fetch(&context, request));
        let (mut answer, files) = answer.await?;
        self.caller.check(answer.error_code)?;
        let mut answers = answer.responses.drain(..);
        let answer = answers.next().and_then(|mut topic| topic.partitions.pop());
        let PartitionData {
            error_code,
            records,
            ..
        } = answer.ok_or(RequestError::Stopped)?;
        self.caller.check(error_code)?;
        Ok(Fetched {
            batches: content(records, &files)?,
        })
    }
}

/// The bytes of the records in an answer.
fn content(records: Option<Payload>, files: &[FileSlice]) -> Result<Bytes, RequestError> {
    let file = match records {
        None => return Ok(Bytes::new()),
        Some(Payload::Bytes(bytes)) => return Ok(bytes),
        Some(Payload::Deferred { token, .. }) => usize::try_from(token)
            .ok()
            .and_then(|token| files.get(token)),
    };
    let file = file.ok_or(RequestError::Stopped)?;
    let bytes = file.read_all();
    bytes.map_err(|error| RequestError::Records(error.to_string()))
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
