//! Fetch: read what is there, and if it is too little wait for more until the client's patience ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_log::{FileSlice, Slice};
use tidelog_protocol::Payload;
use tidelog_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, LeaderIdAndEpoch,
    PartitionData,
};
use tidelog_replication::divergence::{Branch, EpochEnd, compare};
use tidelog_types::{ErrorCode, NodeId, Offset};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Context};
use crate::fetch_session::{FetchContext, Topic, Wanted};
use crate::store::partition::Partition;

/// From this version on topics go by their id (KIP-516).
const TOPIC_ID_FROM_VERSION: i16 = 13;
/// From this version on clients know the error of a failed disk.
const STORAGE_ERROR_FROM_VERSION: i16 = 6;
/// `isolation_level` of a consumer that wants committed transactions only.
const READ_COMMITTED: i8 = 1;

pub(super) async fn handle(context: Context, request: FetchRequest) -> Answer {
    let node = &context.node;
    let version = context.header.api_version;
    let now = node.clock.now().instant;
    let fetch = match node.fetch_sessions.begin(now, version, &request) {
        Ok(fetch) => fetch,
        Err(error_code) => {
            return context.answer(&FetchResponse {
                error_code,
                ..Default::default()
            });
        }
    };
    let reader = Reader::new(&context, &request);
    let reads = reader.read_until_enough(&fetch).await;
    let now = node.clock.now().instant;
    let response = node.fetch_sessions.finish(now, fetch, reads.partitions);
    context.answer_with_files(&response, reads.files)
}

/// What one request wants, apart from its partitions.
struct Reader<'a> {
    context: &'a Context,
    version: i16,
    replica_id: NodeId,
    read_committed: bool,
    min_bytes: usize,
    max_bytes: usize,
    max_wait: Duration,
}

/// What was read for one request.
#[derive(Default)]
struct Reads {
    partitions: Vec<PartitionData>,
    /// The pieces of files that the deferred payloads stand for, by token.
    files: Vec<FileSlice>,
    bytes: usize,
    /// Something that the client should hear at once, however little was read.
    urgent: bool,
}

impl Reads {
    /// What stands in the answer for a slice: a piece of a file, or, of message formats 0 and 1, the batches made of it.
    fn take(&mut self, slice: Slice) -> Result<Payload, ErrorCode> {
        if slice.is_old_format() {
            let converted = slice.read_converted().map_err(|error| error.error_code())?;
            self.bytes += converted.len();
            return Ok(Payload::Bytes(converted));
        }
        let len = u32::try_from(slice.len()).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        self.bytes += slice.len();
        let token = self.files.len() as u64;
        self.files.push(slice.data);
        Ok(Payload::Deferred { len, token })
    }
}

impl<'a> Reader<'a> {
    fn new(context: &'a Context, request: &FetchRequest) -> Self {
        let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        Self {
            context,
            version: context.header.api_version,
            replica_id: request.replica_id.max(request.replica_state.replica_id),
            read_committed: request.isolation_level == READ_COMMITTED,
            min_bytes: bytes(request.min_bytes),
            max_bytes: bytes(request.max_bytes).min(context.node.config.fetch_max_bytes),
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        }
    }

    /// Reads, and reads again whenever one of the partitions has more, until it is enough or the wait is over.
    async fn read_until_enough(&self, fetch: &FetchContext) -> Reads {
        let reads = self.read(fetch);
        if self.is_enough(&reads) || fetch.is_empty() || self.max_wait.is_zero() {
            return reads;
        }
        let deadline = Instant::now() + self.max_wait;
        let watch = Watch::new(
            fetch
                .partitions()
                .filter_map(|(topic, wanted)| self.partition(topic, wanted).ok()),
        );
        loop {
            // What came between the last look and the watch is seen now, what comes later wakes the watch.
            let reads = self.read(fetch);
            if self.is_enough(&reads) {
                return reads;
            }
            if timeout_at(deadline, watch.notify.notified()).await.is_err() {
                return self.read(fetch);
            }
        }
    }

    fn is_enough(&self, reads: &Reads) -> bool {
        reads.urgent || reads.bytes >= self.min_bytes
    }

    fn read(&self, fetch: &FetchContext) -> Reads {
        let mut reads = Reads {
            partitions: Vec::with_capacity(fetch.len()),
            ..Default::default()
        };
        for (topic, wanted) in fetch.partitions() {
            let data = self
                .partition(topic, wanted)
                .and_then(|partition| self.read_partition(&partition, wanted, &mut reads))
                .unwrap_or_else(|error_code| {
                    reads.urgent = true;
                    self.refuse(wanted, error_code)
                });
            reads.partitions.push(data);
        }
        reads
    }

    fn partition(&self, topic: &Topic, wanted: &Wanted) -> Result<Arc<Partition>, ErrorCode> {
        let node = &self.context.node;
        let by_id = self.version >= TOPIC_ID_FROM_VERSION;
        node.partition(by_id, topic.id, &topic.name, wanted.partition)
    }

    fn read_partition(
        &self,
        partition: &Partition,
        wanted: &Wanted,
        reads: &mut Reads,
    ) -> Result<PartitionData, ErrorCode> {
        let published = partition.published();
        published
            .leadership
            .check_leader_epoch(wanted.current_leader_epoch)?;
        if self.replica_id > NodeId::NONE {
            partition.check_follower(self.replica_id, wanted.current_leader_epoch)?;
        }
        let marks = published.marks;
        let mut data = PartitionData {
            partition_index: wanted.partition,
            high_watermark: marks.high_watermark,
            last_stable_offset: marks.last_stable_offset,
            log_start_offset: marks.log_start_offset,
            aborted_transactions: self.read_committed.then(Vec::new),
            records: Some(Payload::Bytes(Bytes::new())),
            ..Default::default()
        };
        let from = wanted.fetch_offset;
        let branch = branch(partition, wanted);
        if branch == Branch::Unknown || from < marks.log_start_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if let Branch::Diverging(end) = branch {
            reads.urgent = true;
            data.diverging_epoch = EpochEndOffset {
                epoch: end.epoch,
                end_offset: end.end_offset,
            };
            return Ok(data);
        }
        if from > marks.log_end_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let until = if self.read_committed {
            marks.last_stable_offset
        } else {
            marks.high_watermark
        };
        if from >= until {
            return Ok(data);
        }
        let reader = partition.reader();
        let left = self.max_bytes.saturating_sub(reads.bytes);
        let max_bytes = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
        let at_least_one_batch = reads.bytes == 0;
        let slice = reader
            .read(from, max_bytes, until, at_least_one_batch)
            .map_err(|error| error.error_code())?;
        // More lies behind the segment in which the offset is: who reads old records is not made to wait for new ones.
        reads.urgent |= reader.is_in_older_segment(from, until);
        if !slice.is_empty() {
            if let Some(aborted) = &mut data.aborted_transactions {
                *aborted = aborted_transactions(partition, from, &slice)?;
            }
            data.records = Some(reads.take(slice)?);
        }
        Ok(data)
    }

    fn refuse(&self, wanted: &Wanted, error_code: ErrorCode) -> PartitionData {
        let error_code = match error_code {
            ErrorCode::KAFKA_STORAGE_ERROR if self.version < STORAGE_ERROR_FROM_VERSION => {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            }
            other => other,
        };
        PartitionData {
            partition_index: wanted.partition,
            error_code,
            // Kafka has no list for a partition that it could not read, and an empty one for one that it does not know.
            aborted_transactions: match error_code {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => {
                    Some(Vec::new())
                }
                _ => None,
            },
            high_watermark: Offset::NONE,
            last_stable_offset: Offset::NONE,
            log_start_offset: Offset::NONE,
            current_leader: LeaderIdAndEpoch::default(),
            records: Some(Payload::Bytes(Bytes::new())),
            ..Default::default()
        }
    }
}

/// Whether what the fetcher has is a beginning of our log (KIP-595).
fn branch(partition: &Partition, wanted: &Wanted) -> Branch {
    let last_fetched_epoch = wanted.last_fetched_epoch;
    let (epoch, end_offset) = partition.reader().end_offset_for_epoch(last_fetched_epoch);
    let ours = EpochEnd { epoch, end_offset };
    compare(last_fetched_epoch, wanted.fetch_offset, ours)
}

/// The transactions whose records a reader of committed data must drop from what lies in this range.
fn aborted_transactions(
    partition: &Partition,
    from: Offset,
    slice: &Slice,
) -> Result<Vec<AbortedTransaction>, ErrorCode> {
    let aborted = partition.reader().aborted_transactions(from, slice);
    let aborted = aborted.map_err(|error| error.error_code())?;
    Ok(aborted
        .into_iter()
        .map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
        })
        .collect())
}

/// A place among those who are woken by the partitions of a fetch, given up when dropped.
struct Watch {
    notify: Arc<Notify>,
    partitions: Vec<Arc<Partition>>,
}

impl Watch {
    fn new(partitions: impl Iterator<Item = Arc<Partition>>) -> Self {
        let notify = Arc::new(Notify::new());
        let partitions: Vec<_> = partitions.collect();
        for partition in &partitions {
            partition.watch(&notify);
        }
        Self { notify, partitions }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.unwatch(&self.notify);
        }
    }
}
