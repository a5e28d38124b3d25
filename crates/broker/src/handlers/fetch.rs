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
use tidelog_replication::partition::{FollowerFetch, Leadership, UNKNOWN_BROKER_EPOCH};
use tidelog_types::{ErrorCode, NodeId, Offset, Str};

use super::wait::Watch;
use super::{Answer, Context, leader_hints};
use crate::clock::real;
use crate::fetch_session::{FetchContext, Topic, Wanted};
use crate::store::partition::Partition;

/// From this version on topics go by their id (KIP-516).
const TOPIC_ID_FROM_VERSION: i16 = 13;
/// From this version on clients know the error of a failed disk.
const STORAGE_ERROR_FROM_VERSION: i16 = 6;
/// From this version on a consumer may read from a follower (KIP-392).
const FOLLOWERS_FROM_VERSION: i16 = 11;
/// From this version on a client is told who leads instead (KIP-951).
const LEADER_HINT_FROM_VERSION: i16 = 16;
/// How long a follower is not told that the high watermark or the log start has moved, where there are no records for it.
/// It hears of them soon, and under load there are not two answers for every record.
const NEWS_WAIT: Duration = Duration::from_millis(20);
/// The `replica.selector.class` that sends consumers to a replica in their rack.
const RACK_AWARE_SELECTOR: &str = "RackAwareReplicaSelector";
/// `isolation_level` of a consumer that wants committed transactions only.
const READ_COMMITTED: i8 = 1;

pub(super) async fn handle(context: Context, request: FetchRequest) -> Answer {
    let (response, files) = fetch(&context, request).await;
    context.answer_with_files(&response, files)
}

/// Reads what a request asks for, as soon as there is enough. What is in files comes beside the answer, by token.
pub(crate) async fn fetch(
    context: &Context,
    request: FetchRequest,
) -> (FetchResponse, Vec<FileSlice>) {
    let node = &context.node;
    let version = context.header.api_version;
    let refuse = |error_code| {
        let response = FetchResponse {
            error_code,
            ..Default::default()
        };
        (response, Vec::new())
    };
    let is_other_cluster = |id: &Str| *id != node.cluster_id;
    if request.cluster_id.as_ref().is_some_and(is_other_cluster) {
        return refuse(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    let now = node.clock.now().instant;
    let fetch = match node.fetch_sessions.begin(now, version, &request) {
        Ok(fetch) => fetch,
        Err(error_code) => return refuse(error_code),
    };
    let reader = Reader::new(context, &request);
    let admitted = reader.admit(&fetch);
    let reads = reader.read_until_enough(&fetch, &admitted).await;
    if reads.throttled_bytes > 0 {
        let throttle = &node.store.throttles.leader;
        throttle.moved(reads.throttled_bytes, real::now());
    }
    let now = node.clock.now().instant;
    let mut response = node.fetch_sessions.finish(now, fetch, reads.partitions);
    if reads.hints {
        let answered = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions);
        let leaders = answered.map(|partition| partition.current_leader.leader_id);
        response.node_endpoints = leader_hints::endpoints(context, leaders);
    }
    (response, reads.files)
}

/// What one request wants, apart from its partitions.
struct Reader<'a> {
    context: &'a Context,
    version: i16,
    follower: Option<Follower>,
    /// Where the consumer is, if it wants a replica that is near.
    rack: Option<Str>,
    read_committed: bool,
    min_bytes: usize,
    max_bytes: usize,
    max_wait: Duration,
}

/// Another broker that copies partitions.
#[derive(Clone, Copy)]
struct Follower {
    id: NodeId,
    broker_epoch: i64,
}

/// What became of a follower's fetch of one partition: where its log parts from this one, if it does.
type Admitted = Result<Option<EpochEnd>, ErrorCode>;

/// What was read for one request.
#[derive(Default)]
struct Reads {
    partitions: Vec<PartitionData>,
    /// The pieces of files that the deferred payloads stand for, by token.
    files: Vec<FileSlice>,
    bytes: usize,
    /// Bytes of replicas whose traffic is bounded (KIP-73), whether they had to wait for their turn or not.
    throttled_bytes: usize,
    /// How long until there may be more for a follower that was left out because of that.
    throttled_for: Option<Duration>,
    /// Something that the client should hear at once, however little was read.
    urgent: bool,
    /// Somebody is named who leads instead.
    hints: bool,
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
        let replica = request.replica_id.max(request.replica_state.replica_id);
        let follower = (replica > NodeId::NONE).then_some(Follower {
            id: replica,
            broker_epoch: match request.replica_state.replica_id {
                NodeId::NONE => UNKNOWN_BROKER_EPOCH,
                _ => request.replica_state.replica_epoch,
            },
        });
        let config = context.node.broker_config.load();
        let selects = config
            .replica_selector_class()
            .is_some_and(|class| class.ends_with(RACK_AWARE_SELECTOR));
        let wants_near = selects && follower.is_none() && !request.rack_id.is_empty();
        Self {
            context,
            version: context.header.api_version,
            follower,
            rack: wants_near.then(|| request.rack_id.clone()),
            read_committed: request.isolation_level == READ_COMMITTED,
            min_bytes: bytes(request.min_bytes),
            max_bytes: bytes(request.max_bytes).min(context.node.config.fetch_max_bytes),
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        }
    }

    /// Takes note of how far a follower is in each of its partitions; nothing for consumers.
    fn admit(&self, fetch: &FetchContext) -> Vec<Admitted> {
        let Some(follower) = self.follower else {
            return Vec::new();
        };
        let partitions = fetch.partitions();
        partitions
            .map(|(topic, wanted)| {
                let partition = self.partition(topic, wanted)?;
                partition.follower_fetched(FollowerFetch {
                    replica: follower.id,
                    broker_epoch: follower.broker_epoch,
                    current_leader_epoch: wanted.current_leader_epoch,
                    fetch_offset: wanted.fetch_offset,
                    last_fetched_epoch: wanted.last_fetched_epoch,
                    epoch_end: EpochEnd::UNKNOWN,
                    log_start_offset: wanted.log_start_offset,
                })
            })
            .collect()
    }

    /// Reads, and reads again whenever one of the partitions has more, until it is enough or the wait is over.
    async fn read_until_enough(&self, fetch: &FetchContext, admitted: &[Admitted]) -> Reads {
        let reads = self.read(fetch, admitted);
        if self.is_enough(&reads) || fetch.is_empty() || self.max_wait.is_zero() {
            return reads;
        }
        let clock = &self.context.node.clock;
        let mut deadline = clock.moment() + self.max_wait;
        let watch = Watch::new(
            fetch
                .partitions()
                .filter_map(|(topic, wanted)| self.partition(topic, wanted).ok()),
        );
        loop {
            // What came between the last look and the watch is seen now, what comes later wakes the watch.
            let reads = self.read(fetch, admitted);
            if self.is_enough(&reads) {
                return reads;
            }
            if self.follower.is_some() && fetch.has_news(&reads.partitions) {
                deadline = deadline.earlier(clock.moment() + NEWS_WAIT);
            }
            let turn = reads.throttled_for.map(|wait| clock.moment() + wait);
            let until = turn.map_or(deadline, |turn| deadline.earlier(turn));
            let notified = clock.timeout_at(until, watch.notified());
            if notified.await.is_none() {
                return self.read(fetch, admitted);
            }
        }
    }

    fn is_enough(&self, reads: &Reads) -> bool {
        reads.urgent || reads.bytes >= self.min_bytes
    }

    fn read(&self, fetch: &FetchContext, admitted: &[Admitted]) -> Reads {
        let mut reads = Reads {
            partitions: Vec::with_capacity(fetch.len()),
            ..Default::default()
        };
        for (index, (topic, wanted)) in fetch.partitions().enumerate() {
            let data = self
                .partition(topic, wanted)
                .and_then(|partition| {
                    let admitted = admitted.get(index).copied().transpose()?;
                    self.read_partition(&partition, wanted, admitted.flatten(), &mut reads)
                })
                .unwrap_or_else(|error_code| {
                    reads.urgent = true;
                    let data = self.refuse(topic, wanted, error_code);
                    reads.hints |= data.current_leader.leader_id != NodeId::NONE;
                    data
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
        admitted: Option<EpochEnd>,
        reads: &mut Reads,
    ) -> Result<PartitionData, ErrorCode> {
        let published = partition.published();
        let leadership = published.leadership;
        if self.follower.is_some() || self.version < FOLLOWERS_FROM_VERSION {
            leadership.check_leader_epoch(wanted.current_leader_epoch)?;
        } else {
            leadership.check_replica_epoch(wanted.current_leader_epoch)?;
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
        let branch = match self.follower {
            Some(_) => admitted.map_or(Branch::Same, Branch::Diverging),
            None => branch(partition, wanted),
        };
        if branch == Branch::Unknown || from < marks.log_start_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if let Branch::Diverging(EpochEnd { epoch, end_offset }) = branch {
            reads.urgent = true;
            data.diverging_epoch = EpochEndOffset { epoch, end_offset };
            return Ok(data);
        }
        if from > marks.log_end_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if let Some(near) = self.near_replica(partition, leadership, from) {
            reads.urgent = true;
            data.preferred_read_replica = near;
            return Ok(data);
        }
        let until = if self.follower.is_some() {
            marks.log_end_offset
        } else if self.read_committed {
            marks.last_stable_offset
        } else {
            marks.high_watermark
        };
        if from >= until {
            return Ok(data);
        }
        let throttle = match self.follower {
            Some(follower) => {
                let throttle = self.context.node.store.leader_throttle(partition);
                if let Some(wait) = throttle.and_then(|throttle| throttle.wait(real::now()))
                    && !is_in_sync(partition, follower)
                {
                    let soonest = reads.throttled_for.map_or(wait, |other| other.min(wait));
                    reads.throttled_for = Some(soonest);
                    return Ok(data);
                }
                throttle
            }
            None => None,
        };
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
            if throttle.is_some() {
                reads.throttled_bytes += slice.len();
            }
            data.records = Some(reads.take(slice)?);
        }
        Ok(data)
    }

    /// The replica from which a consumer should rather read: one in its rack, where this leader is in another (KIP-392).
    fn near_replica(
        &self,
        partition: &Partition,
        leadership: Leadership,
        offset: Offset,
    ) -> Option<NodeId> {
        let rack = self.rack.as_ref()?;
        if !matches!(leadership, Leadership::Leader { .. }) {
            return None;
        }
        let node = &self.context.node;
        let image = node.image.load();
        let is_near = |id: NodeId| {
            let broker = image.broker(id).filter(|broker| !broker.fenced);
            broker.is_some_and(|broker| {
                broker.rack.as_ref() == Some(rack)
                    && broker.endpoint(&self.context.peer.listener).is_some()
            })
        };
        let replicas = partition.read_replicas().into_iter();
        let near: Vec<_> = replicas
            .filter(|replica| {
                let log = replica.log;
                (log.log_start_offset..=log.log_end_offset).contains(&offset) && is_near(replica.id)
            })
            .collect();
        if near.iter().any(|replica| replica.id == node.id) {
            return None;
        }
        let most = near.iter().max_by_key(|replica| replica.log.log_end_offset);
        most.map(|replica| replica.id)
    }

    fn refuse(&self, topic: &Topic, wanted: &Wanted, error_code: ErrorCode) -> PartitionData {
        let error_code = match error_code {
            ErrorCode::KAFKA_STORAGE_ERROR if self.version < STORAGE_ERROR_FROM_VERSION => {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            }
            other => other,
        };
        let is_elsewhere = matches!(
            error_code,
            ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH
        );
        let current_leader = match is_elsewhere && self.version >= LEADER_HINT_FROM_VERSION {
            true => leader_hints::current_leader(self.context, topic.id, wanted.partition),
            false => LeaderIdAndEpoch::default(),
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
            current_leader,
            records: Some(Payload::Bytes(Bytes::new())),
            ..Default::default()
        }
    }
}

/// Whether a follower is one of those that must not be held up, or it would not stay one (KIP-73).
fn is_in_sync(partition: &Partition, follower: Follower) -> bool {
    let mut replicas = partition.read_replicas().into_iter();
    replicas.any(|replica| replica.id == follower.id)
}

/// Whether what a consumer has is a beginning of our log (KIP-595).
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
