//! Copies partitions from one other broker: one task with one connection, however many partitions there are.
//!
//! What is asked for is what the replicas want. An answer is handed to the replicas one by one, which append what came with
//! it; where a topic is durable the next request waits for the flush, since what it asks for says what this node will not
//! lose.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_metadata::configs::BrokerConfig;
use tidelog_protocol::messages::fetch::{FetchRequest, FetchResponse, PartitionData, ReplicaState};
use tidelog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use tidelog_protocol::{Payload, Response};
use tidelog_replication::divergence::EpochEnd;
use tidelog_replication::partition::{Ask, LogRange};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicName};
use tokio::runtime::Handle;

use super::Replication;
use super::session::{Key, Session};
use crate::clock::real::{self, sleep, timeout, timeout_at};
use crate::peers::{self, Address, Peer, PeerError};
use crate::rate::RATE_CHECK;
use crate::store::outbox::Mailbox;
use crate::store::partition::{Fetched, Partition};

/// From this version on a follower names itself in a struct of its own (KIP-903).
const REPLICA_STATE_FROM_VERSION: i16 = 15;
/// How long a fetch that waits at the leader goes on when there is something new to ask for. Then the connection is given
/// up: the leader answers the requests of one connection in turn.
const POLL_GOES_ON: Duration = Duration::from_millis(20);
/// How long the next request waits for a flush. One that goes out without a partition that is still being flushed waits no
/// longer than that at the leader either.
const FLUSH_WAIT: Duration = Duration::from_millis(100);
const HURRIED_POLL_MS: i32 = 10;
/// How soon a leader is asked again that does not know yet that it is one, and how often before it counts as an error. The
/// time doubles with every refusal.
const EARLY_RETRY: Duration = Duration::from_millis(10);
const EARLY_RETRIES: u32 = 6;
/// How long to wait, at first, after a leader could not be reached.
const RECONNECT: Duration = Duration::from_millis(20);
/// After so long a connection that nobody needs is closed.
const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// What an answer may have beyond what was asked for: one batch, which is never cut, and what is said of the partitions.
const RESPONSE_BYTES_EXTRA: usize = 256 << 20;

/// `timestamp` of a ListOffsets request for the end and the beginning of a log.
const LATEST: Timestamp = Timestamp::from_millis(-1);
const EARLIEST: Timestamp = Timestamp::from_millis(-2);

pub(super) struct Fetcher {
    replication: Arc<Replication>,
    mailbox: Arc<Mailbox>,
    session: Session,
    /// Replicas that must know where the leader's log begins and ends.
    lost: HashMap<Key, (Arc<Partition>, LeaderEpoch)>,
    peer: Option<Peer>,
    backoff: Duration,
    /// A partition is missing in the next request that will soon be asked for.
    is_hurried: bool,
}

/// What has become of a request.
enum Outcome {
    Answered(Response),
    /// There is something new to ask for.
    GivenUp,
    Failed(PeerError),
}

impl Fetcher {
    pub(super) fn new(replication: Arc<Replication>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            replication,
            mailbox,
            session: Session::default(),
            lost: HashMap::new(),
            peer: None,
            backoff: RECONNECT,
            is_hurried: false,
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            self.collect();
            if !self.lost.is_empty() {
                self.ask_offsets().await;
                continue;
            }
            self.hold_back();
            let request = self.request();
            // Where everything is held back for a while, a last request closes the session.
            let closes = self.session.is_open() && self.session.held_until().is_some();
            if self.session.is_idle() && !closes {
                // Nothing that the leader remembers is of use any more.
                self.session.reset();
                self.rest().await;
                continue;
            }
            match self.exchange(request).await {
                Outcome::Answered(Response::Fetch(response)) => self.take(response).await,
                Outcome::GivenUp => {
                    self.peer = None;
                    self.session.reset();
                }
                Outcome::Answered(other) => {
                    self.failed(&format!("it answered {:?}", other.key())).await
                }
                Outcome::Failed(error) => self.failed(&error.to_string()).await,
            }
        }
    }

    /// Looks at what has changed; tells whether something is to be asked for that the leader was not asked for yet.
    fn collect(&mut self) -> bool {
        let mut is_new = false;
        let outbox = &self.replication.store.outbox;
        for partition in self.mailbox.take() {
            // It may have gone over to another fetcher of the same leader.
            let is_here = outbox.fetcher_of(&partition) == self.mailbox.index;
            let key = (partition.topic_id, partition.name.partition);
            let asks = partition.asks().filter(|_| is_here);
            self.lost.remove(&key);
            match asks {
                Some(Ask::Records(wanted)) if wanted.leader == self.mailbox.source => {
                    is_new |= self.session.want(key, partition, wanted);
                }
                Some(Ask::Offsets {
                    leader,
                    leader_epoch,
                }) if leader == self.mailbox.source => {
                    self.session.forget(key);
                    self.lost.insert(key, (partition, leader_epoch));
                    is_new = true;
                }
                _ => self.session.forget(key),
            }
        }
        is_new
    }

    /// Waits until there is something to ask for.
    async fn rest(&mut self) {
        let notified = self.mailbox.notified();
        match self.session.held_until() {
            Some(until) => drop(timeout_at(until, notified).await),
            None if timeout(CONNECTION_IDLE, notified).await.is_err() => {
                self.peer = None;
                self.mailbox.notified().await;
            }
            None => {}
        }
    }

    /// Leaves out what is throttled and not in sync until there may be more of it (KIP-73).
    fn hold_back(&mut self) {
        let store = &self.replication.store;
        let now = real::now();
        let Some(wait) = store.throttles.follower.wait(now) else {
            return;
        };
        let throttled = self.session.which(|entry| {
            !entry.is_in_sync() && store.follower_throttle(&entry.partition).is_some()
        });
        // The rate may be raised meanwhile.
        let until = now + wait.min(RATE_CHECK);
        for key in throttled {
            self.session.hold(key, until);
        }
    }

    /// How long the leader may wait for something to answer with.
    fn patience_ms(&mut self, config: &BrokerConfig) -> i32 {
        let longest = config.replica_fetch_wait_max_ms();
        if std::mem::take(&mut self.is_hurried) {
            return longest.min(HURRIED_POLL_MS);
        }
        match self.session.held_until() {
            Some(until) => {
                let held = until.saturating_duration_since(real::now());
                let held = i32::try_from(held.as_millis()).unwrap_or(i32::MAX);
                longest.min(held.max(HURRIED_POLL_MS))
            }
            None => longest,
        }
    }

    fn request(&mut self) -> FetchRequest {
        let config = self.replication.config.load_full();
        let max_wait_ms = self.patience_ms(&config);
        let mut request = FetchRequest {
            cluster_id: Some(self.replication.cluster_id.clone()),
            max_wait_ms,
            min_bytes: config.replica_fetch_min_bytes(),
            max_bytes: config.replica_fetch_response_max_bytes(),
            ..FetchRequest::default()
        };
        if self.replication.fetch_version() >= REPLICA_STATE_FROM_VERSION {
            request.replica_state = ReplicaState {
                replica_id: self.replication.node_id,
                replica_epoch: self.replication.broker_epoch,
            };
        } else {
            request.replica_id = self.replication.node_id;
        }
        let max_bytes = config.replica_fetch_max_bytes();
        self.session.fill(real::now(), max_bytes, &mut request);
        request
    }

    /// Sends a fetch. While it waits at the leader, something else may be wanted: then it goes on for a moment only.
    async fn exchange(&mut self, request: FetchRequest) -> Outcome {
        let version = self.replication.fetch_version();
        let Some(peer) = self.connection() else {
            return Outcome::Failed(PeerError::Unreachable(
                "it is not known where it listens".into(),
            ));
        };
        let answer = async move {
            let answer = peer.request_in(version, request.into()).await;
            (peer, answer)
        };
        let mut answer = std::pin::pin!(answer);
        let (peer, answer) = loop {
            tokio::select! {
                answered = &mut answer => break answered,
                () = self.mailbox.notified() => {
                    if self.collect() {
                        match timeout(POLL_GOES_ON, &mut answer).await {
                            Ok(answered) => break answered,
                            Err(_) => return Outcome::GivenUp,
                        }
                    }
                }
            }
        };
        self.peer = Some(peer);
        match answer {
            Ok(response) => Outcome::Answered(response),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// The connection to the leader, where the metadata says that it is now.
    fn connection(&mut self) -> Option<Peer> {
        let address = self.replication.address_of(self.mailbox.source)?;
        let kept = self.peer.take().filter(|peer| *peer.address() == address);
        Some(kept.unwrap_or_else(|| self.connect(address)))
    }

    fn connect(&self, address: Address) -> Peer {
        let replication = Arc::clone(&self.replication);
        let config = replication.config.load();
        let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let request_timeout = millis(config.replica_socket_timeout_ms().into());
        let bytes = usize::try_from(config.replica_fetch_response_max_bytes()).unwrap_or(0);
        let config = peers::Config {
            client_id: format!("broker-{}-fetcher", replication.node_id).into(),
            connect_timeout: millis(config.socket_connection_setup_timeout_ms())
                .min(request_timeout),
            request_timeout,
            reconnect_backoff: RECONNECT,
            reconnect_backoff_max: millis(config.replica_fetch_backoff_ms().into()).max(RECONNECT),
            response_bytes_max: bytes.saturating_add(RESPONSE_BYTES_EXTRA),
        };
        let network = Arc::clone(&replication.network);
        let source = self.mailbox.source;
        Peer::start(
            &Handle::current(),
            network,
            address,
            config,
            move |contact| replication.missing.note(source, contact, real::now()),
        )
    }

    /// Everything is asked for anew, after a while.
    async fn failed(&mut self, why: &str) {
        let source = self.mailbox.source;
        tracing::debug!(%source, why, "cannot fetch from another broker");
        self.session.reset();
        let longest = self.replication.config.load().replica_fetch_backoff_ms();
        let longest = Duration::from_millis(u64::try_from(longest).unwrap_or(0)).max(RECONNECT);
        sleep(self.backoff).await;
        self.backoff = longest.min(self.backoff * 2);
    }

    async fn take(&mut self, response: FetchResponse) {
        if response.error_code.is_err() {
            self.refused(response.error_code).await;
            return;
        }
        self.backoff = RECONNECT;
        self.session.answered(response.session_id);
        let store = Arc::clone(&self.replication.store);
        let mut flushing = Vec::new();
        let mut cut = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                let key = (topic.topic_id, data.partition_index);
                let Some((entry, asked)) = self.session.asked(key) else {
                    continue;
                };
                if knows_not_yet(data.error_code) && entry.refusals < EARLY_RETRIES {
                    let until = real::now() + EARLY_RETRY * 2_u32.pow(entry.refusals);
                    entry.refusals += 1;
                    self.session.hold(key, until);
                    continue;
                }
                entry.refusals = 0;
                if data.error_code.is_ok() {
                    entry.leader_high_watermark = Some(data.high_watermark);
                }
                // Those in sync count as well, though they are not held back.
                if let Some(throttle) = store.follower_throttle(&entry.partition) {
                    throttle.moved(data.records.as_ref().map_or(0, Payload::len), real::now());
                }
                let taken = entry.partition.fetch_answered(asked, fetched(data));
                if taken.is_flushing {
                    flushing.push(Arc::clone(&entry.partition));
                }
                if taken.was_cut {
                    cut.push(entry.partition.directory());
                }
            }
        }
        self.replication.checkpoint_cut(cut).await;
        self.await_flushes(flushing).await;
        if response.session_id == 0 {
            self.session.reset();
        }
    }

    /// The leader has lost the session, or does not take requests now.
    async fn refused(&mut self, code: ErrorCode) {
        let is_about_session = matches!(
            code,
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
                | ErrorCode::INVALID_FETCH_SESSION_EPOCH
                | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
        );
        if is_about_session && self.backoff == RECONNECT {
            self.session.reset();
            // The second time in a row it waits.
            self.backoff = RECONNECT * 2;
            return;
        }
        let source = self.mailbox.source;
        tracing::warn!(%source, %code, "another broker refuses a fetch");
        self.failed(code.text()).await;
    }

    /// Waits for the disk, but not for long.
    async fn await_flushes(&mut self, mut flushing: Vec<Arc<Partition>>) {
        let deadline = real::now() + FLUSH_WAIT;
        loop {
            flushing.retain(|partition| partition.is_flushing());
            if flushing.is_empty() {
                return;
            }
            if timeout_at(deadline, self.mailbox.notified()).await.is_err() {
                self.is_hurried = true;
                return;
            }
        }
    }

    /// Asks where the leader's logs begin and end.
    async fn ask_offsets(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        let answer = async {
            let ends = self.list_offsets(&lost, LATEST).await?;
            let starts = self.list_offsets(&lost, EARLIEST).await?;
            Ok::<_, PeerError>((starts, ends))
        };
        let (starts, ends) = match answer.await {
            Ok(answers) => answers,
            Err(error) => {
                self.lost = lost;
                return self.failed(&error.to_string()).await;
            }
        };
        let mut cut = Vec::new();
        for (partition, leader_epoch) in lost.into_values() {
            let name = (&partition.name.topic, partition.name.partition);
            let answer = offset_of(&starts, name).and_then(|log_start_offset| {
                let log_end_offset = offset_of(&ends, name)?;
                Ok(LogRange {
                    log_start_offset,
                    log_end_offset,
                })
            });
            if partition.offsets_answered(leader_epoch, answer).was_cut {
                cut.push(partition.directory());
            }
        }
        self.replication.checkpoint_cut(cut).await;
    }

    async fn list_offsets(
        &mut self,
        lost: &HashMap<Key, (Arc<Partition>, LeaderEpoch)>,
        timestamp: Timestamp,
    ) -> Result<ListOffsetsResponse, PeerError> {
        let mut topics: HashMap<&TopicName, Vec<ListOffsetsPartition>> = HashMap::new();
        for (partition, leader_epoch) in lost.values() {
            let wanted = ListOffsetsPartition {
                partition_index: partition.name.partition,
                current_leader_epoch: *leader_epoch,
                timestamp,
                ..ListOffsetsPartition::default()
            };
            topics
                .entry(&partition.name.topic)
                .or_default()
                .push(wanted);
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic {
                name: name.clone(),
                partitions,
            });
        let request = ListOffsetsRequest {
            replica_id: self.replication.node_id,
            topics: topics.collect(),
            ..ListOffsetsRequest::default()
        };
        let version = self.replication.list_offsets_version();
        let unknown = || PeerError::Unreachable("it is not known where it listens".into());
        let peer = self.connection().ok_or_else(unknown)?;
        let answer = peer.request_in(version, request.into()).await;
        self.peer = Some(peer);
        match answer? {
            Response::ListOffsets(response) => Ok(response),
            other => Err(PeerError::Lost(format!("it answered {:?}", other.key()))),
        }
    }
}

/// Whether an error may only mean that the leader has yet to read in the metadata that it is one.
fn knows_not_yet(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    )
}

fn fetched(data: PartitionData) -> Fetched {
    if data.error_code.is_err() {
        return Fetched::Error(data.error_code);
    }
    if data.diverging_epoch.epoch != LeaderEpoch::NONE
        || data.diverging_epoch.end_offset != Offset::NONE
    {
        return Fetched::Diverging(EpochEnd {
            epoch: data.diverging_epoch.epoch,
            end_offset: data.diverging_epoch.end_offset,
        });
    }
    let records = match data.records {
        Some(Payload::Bytes(bytes)) => bytes,
        _ => Bytes::new(),
    };
    Fetched::Records {
        records,
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
    }
}

fn offset_of(
    response: &ListOffsetsResponse,
    (topic, partition): (&TopicName, i32),
) -> Result<Offset, ErrorCode> {
    let mut topics = response.topics.iter().filter(|found| found.name == *topic);
    let found = topics.find_map(|topic| {
        let mut partitions = topic.partitions.iter();
        partitions.find(|found| found.partition_index == partition)
    });
    match found {
        None => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        Some(found) if found.error_code.is_err() => Err(found.error_code),
        Some(found) => Ok(found.offset),
    }
}
