//! The controller: decides what changes in the cluster, and writes it down as records.
//!
//! It keeps an image of its own that runs ahead of what is committed. A request is decided on that image; the records of
//! the decision are applied to it through the same replay that loads a log, and go out as one [`Effect::Append`]. The
//! answer waits until they are committed, and an answer without records waits for whatever it was based on. So there
//! is nothing to roll back: if an append fails the machine is dropped and built again from the log.
//!
//! Who is alive is not in the log: brokers say so in heartbeats, and a controller that takes over gives each a fresh
//! session. What follows from it is: a broker that was not heard of for too long is fenced by a record, as is one whose
//! process is known to be gone. So the same broker is alive or not for every node, in the same order of events.
//!
//! Partitions follow: whoever leads is alive and in sync, and a leader asks for every change of its ISR. Whatever changes
//! a partition, the record is made in one place, so that one record may do what belongs together: let the last new replica
//! in, end the reassignment, and elect a leader among those that stay. Elections that nobody asks for are held in rounds
//! of bounded size, and only while there is something to elect.
//!
//! The controller is the only writer of the metadata log while it leads, apart from the control batch at the beginning
//! of its epoch. It counts offsets itself, and every append names the offset where it must begin; a broker's epoch is
//! the offset at which the batch of its registration begins, as in Kafka.
//!
//! ```
//! use std::time::Instant;
//!
//! use tidelog_metadata::bootstrap::{MetadataVersion, bootstrap_records};
//! use tidelog_metadata::configs::BrokerConfig;
//! use tidelog_metadata::controller::{
//!     Config, Controller, ControllerRequest, ControllerResponse, Effect, Input, Restored,
//! };
//! use tidelog_metadata::image::Image;
//! use tidelog_types::{Now, Offset, Timestamp};
//!
//! let now = Now { instant: Instant::now(), timestamp: Timestamp::from_millis(0) };
//! let config = Config::new(BrokerConfig::default(), "c-AbLy9bQzOKZv7u3G1tXg".into(), [7; 32]);
//! // The log holds the control batch of the new leader, at offset 0, and nothing else.
//! let restored = Restored { image: Image::default(), end_offset: Offset::new(1) };
//! let mut controller = Controller::new(now, config, restored);
//!
//! let mut effects = Vec::new();
//! let request = ControllerRequest::Bootstrap(bootstrap_records(MetadataVersion::LATEST));
//! controller.handle(now, Input::Request { request_id: 1, request }, &mut effects);
//! assert!(matches!(&effects[..], [Effect::Append { base_offset, .. }] if *base_offset == Offset::new(1)));
//!
//! effects.clear();
//! controller.handle(now, Input::Committed { offset: controller.end_offset() }, &mut effects);
//! let response = ControllerResponse::Bootstrap(Ok(()));
//! assert_eq!(effects, [Effect::Reply { request_id: 1, response }]);
//! assert_eq!(controller.image().metadata_version(), MetadataVersion::LATEST);
//! ```

mod alter_configs;
mod alter_partition;
mod brokers;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod directories;
mod elect_leaders;
mod election;
mod event;
mod features;
mod heartbeats;
mod lifecycle;
mod metrics;
mod partition_change;
mod placement;
mod producer_ids;
mod random;
mod reassignments;
mod rounds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tidelog_protocol::records::metadata::{
    AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord, MetadataRecord,
    NoOpRecord,
};
use tidelog_types::{ErrorCode, NodeId, Now, Offset, Str, TopicName};

use crate::ApiError;
use crate::bootstrap::{ELIGIBLE_LEADER_REPLICAS_VERSION, METADATA_VERSION, MetadataVersion};
use crate::configs::{BrokerConfig, ConfigMap, ResourceKind, Rules};
use crate::delta::Delta;
use crate::image::Image;

pub use self::alter_configs::{incremental_changes, whole_changes};
pub use self::event::{
    BrokerEpoch, ControllerRequest, ControllerResponse, Effect, Input, ProducerIdBlock,
};
use self::heartbeats::Heartbeats;
pub use self::metrics::ClusterMetrics;
use self::random::Random;
pub use self::reassignments::list_partition_reassignments;
use self::rounds::Rounds;

/// What a controller goes by.
#[derive(Clone, Debug)]
pub struct Config {
    /// `server.properties` of this node: defaults of topics, and what requests may set.
    pub broker: BrokerConfig,
    /// The id of the cluster: brokers of another one are refused.
    pub cluster_id: Str,
    /// The nodes of the metadata quorum. All of them must have registered before a feature changes.
    pub controllers: Vec<NodeId>,
    /// The bounds.
    pub limits: Limits,
    /// A broker that was not heard of for this long is fenced (`broker.session.timeout.ms`).
    pub session_timeout: Duration,
    /// How often partitions without a leader get one that is not in sync, where that is allowed.
    pub unclean_election_interval: Duration,
    /// An idle controller writes an empty record this often, so that it shows how far each node is (KIP-835); `None` for
    /// never (`metadata.max.idle.interval.ms`).
    pub idle_interval: Option<Duration>,
    /// Random bytes, for topic ids and for where replicas go. Different for each new machine.
    pub seed: [u8; 32],
}

impl Config {
    /// A controller with that `server.properties` and that seed, Kafka's bounds and intervals, and a quorum of this node
    /// alone.
    pub fn new(broker: BrokerConfig, cluster_id: Str, seed: [u8; 32]) -> Self {
        let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let idle_interval = millis(broker.metadata_max_idle_interval_ms());
        Self {
            cluster_id,
            controllers: vec![broker.node_id()],
            limits: Limits::default(),
            session_timeout: millis(broker.broker_session_timeout_ms()),
            unclean_election_interval: Duration::from_secs(300),
            idle_interval: (!idle_interval.is_zero()).then_some(idle_interval),
            seed,
            broker,
        }
    }
}

/// How much is done at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many partitions one request may create.
    pub partitions_per_request_max: usize,
    /// How many records one batch may have. Decisions that may be written in parts are; others are refused.
    pub records_per_batch_max: usize,
    /// How many elections that nobody asked for are held at a time.
    pub elections_per_round_max: usize,
    /// How many answers may wait for their records to be committed.
    pub waiting_requests_max: usize,
}

impl Default for Limits {
    /// 10,000 of each, and 1,000 elections; all but the last as in Kafka.
    fn default() -> Self {
        Self {
            partitions_per_request_max: 10_000,
            records_per_batch_max: 10_000,
            elections_per_round_max: 1_000,
            waiting_requests_max: 10_000,
        }
    }
}

/// What the log says when this node becomes its leader.
#[derive(Clone, Debug)]
pub struct Restored {
    /// All records of the log, applied. They are committed, since the leader's control batch after them is.
    pub image: Image,
    /// Where the next record goes: after the control batch that began this leader's epoch.
    pub end_offset: Offset,
}

/// The controller of a cluster. See the [module](self).
#[derive(Clone, Debug)]
pub struct Controller {
    config: Config,
    /// `config.broker` and what was changed above it.
    broker: BrokerConfig,
    image: Image,
    random: Random,
    /// Topic names that differ only in `.` and `_`, by the name with all `_`. Metrics cannot tell them apart.
    similar_names: BTreeMap<String, BTreeSet<TopicName>>,
    rounds: Rounds,
    heartbeats: Heartbeats,
    /// The finalized level of kraft.version, which the quorum knows.
    kraft_version: i16,
    /// Where the next record goes.
    end_offset: Offset,
    /// When the last record was written.
    last_append: Instant,
    /// Everything below is committed.
    high_watermark: Offset,
    waiting: VecDeque<Waiting>,
    resigned: bool,
}

/// An answer that may not be given yet.
#[derive(Clone, Debug)]
struct Waiting {
    request_id: u64,
    response: ControllerResponse,
    /// The answer is true once everything below is committed.
    until: Offset,
    /// When the sender stops waiting.
    deadline: Option<Instant>,
}

/// What a request comes to.
struct Decision {
    records: Vec<MetadataRecord>,
    response: ControllerResponse,
    /// Whether the records may become visible in parts.
    divisible: bool,
}

impl Decision {
    const fn atomic(records: Vec<MetadataRecord>, response: ControllerResponse) -> Self {
        Self {
            records,
            response,
            divisible: false,
        }
    }

    const fn divisible(records: Vec<MetadataRecord>, response: ControllerResponse) -> Self {
        Self {
            records,
            response,
            divisible: true,
        }
    }
}

impl Controller {
    /// The controller of a node that has just become the leader of the metadata quorum.
    pub fn new(now: Now, config: Config, restored: Restored) -> Self {
        let Restored { image, end_offset } = restored;
        let mut controller = Self {
            broker: config.broker.clone(),
            random: Random::new(config.seed),
            rounds: Rounds::of(&image),
            similar_names: BTreeMap::new(),
            heartbeats: Heartbeats::new(now.instant, config.session_timeout, &image, end_offset),
            image,
            kraft_version: 0,
            end_offset,
            last_append: now.instant,
            high_watermark: end_offset,
            waiting: VecDeque::new(),
            resigned: false,
            config,
        };
        controller.similar_names = similar_names(&controller.image);
        controller.reconfigure();
        controller.schedule_rounds(now);
        controller
    }

    /// Takes in what happened, and adds to `effects` what to do about it.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let end_offset = self.end_offset;
        let resigns = self.resigned || matches!(input, Input::Resign);
        if self.image.in_transaction() && !resigns {
            // The controller before this one has not ended it, and nobody else will.
            let reason = Some(Str::from_static("Controller failover"));
            self.append(vec![AbortTransactionRecord { reason }.into()], effects);
        }
        match input {
            Input::Request {
                request_id,
                request,
            } => {
                self.on_request(now, request_id, request, effects);
            }
            Input::Committed { offset } => self.on_committed(offset, effects),
            Input::ControlRecordsAppended { end } => {
                assert!(end >= self.end_offset, "a log does not shrink");
                self.end_offset = end;
            }
            Input::KRaftVersion { level } => self.kraft_version = level,
            Input::Timeout => self.on_timeout(now, effects),
            Input::Resign => self.on_resign(effects),
        }
        self.schedule_rounds(now);
        if self.end_offset != end_offset {
            self.last_append = now.instant;
        }
    }

    /// When [`Input::Timeout`] is due: when the first of the waiting senders loses patience, when a broker's session is over,
    /// when there are elections to hold, or when nothing was written for long.
    pub fn deadline(&self) -> Option<Instant> {
        if self.resigned {
            return None;
        }
        let patience = self.waiting.iter().filter_map(|waiting| waiting.deadline);
        let abort = self.image.in_transaction().then_some(self.last_append);
        patience
            .chain(abort)
            .chain(self.heartbeats.deadline(&self.image))
            .chain(self.rounds.deadline())
            .chain(self.idle_deadline())
            .min()
    }

    /// The metadata as it will be when all that was appended is committed.
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// Where the next record goes.
    pub const fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// Asserts what must hold between two inputs.
    pub fn check(&self) {
        self.image.check();
        assert_eq!(
            self.similar_names,
            similar_names(&self.image),
            "similar names are up to date"
        );
        self.rounds.check(&self.image);
        assert!(
            self.high_watermark <= self.end_offset,
            "only what was appended is committed"
        );
        assert!(self.waiting.len() <= self.config.limits.waiting_requests_max);
        self.heartbeats.check(&self.image);
        for topic in self.image.topics() {
            for (index, partition) in &topic.partitions {
                assert!(
                    partition.leader == NodeId::NONE || self.can_lead(partition.leader, partition),
                    "{}-{index} is led by {}, which cannot lead",
                    topic.name,
                    partition.leader
                );
            }
        }
        let mut last = self.high_watermark;
        for waiting in &self.waiting {
            assert!(
                waiting.until > self.high_watermark,
                "answers are given once they are true"
            );
            assert!(last <= waiting.until && waiting.until <= self.end_offset);
            last = waiting.until;
        }
    }

    fn on_request(
        &mut self,
        now: Now,
        request_id: u64,
        request: ControllerRequest,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = if self.resigned {
            Some(ErrorCode::NOT_CONTROLLER)
        } else if self.waiting.len() >= self.config.limits.waiting_requests_max {
            // The sender tries again when there may be room.
            Some(ErrorCode::REQUEST_TIMED_OUT)
        } else {
            None
        };
        if let Some(code) = refusal {
            if let ControllerRequest::BrokerHeartbeat(request) = &request {
                self.note_heartbeat(now.instant, request);
            }
            let response = request.refused(&code.into());
            effects.push(Effect::Reply {
                request_id,
                response,
            });
            return;
        }
        let patience = request.timeout_ms();
        let mut decision = self.decide(now, request, effects);
        let records_max = self.config.limits.records_per_batch_max;
        if !decision.divisible && decision.records.len() > records_max {
            let message = format!("the request needs more than {records_max} records");
            decision
                .response
                .refuse(&ApiError::new(ErrorCode::POLICY_VIOLATION, message));
            decision.records.clear();
        }
        self.append(decision.records, effects);
        if self.end_offset <= self.high_watermark {
            effects.push(Effect::Reply {
                request_id,
                response: decision.response,
            });
            return;
        }
        let deadline = patience.and_then(|ms| {
            now.instant
                .checked_add(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
        });
        self.waiting.push_back(Waiting {
            request_id,
            response: decision.response,
            until: self.end_offset,
            deadline,
        });
    }

    fn decide(
        &mut self,
        now: Now,
        request: ControllerRequest,
        effects: &mut Vec<Effect>,
    ) -> Decision {
        match request {
            ControllerRequest::CreateTopics(request) => self.create_topics(&request),
            ControllerRequest::DeleteTopics {
                api_version,
                request,
            } => self.delete_topics(api_version, &request),
            ControllerRequest::CreatePartitions(request) => self.create_partitions(&request),
            ControllerRequest::IncrementalAlterConfigs(request) => {
                self.incremental_alter_configs(&request)
            }
            ControllerRequest::AlterConfigs(request) => self.alter_configs(&request),
            ControllerRequest::AlterPartition(request) => self.alter_partition(&request),
            ControllerRequest::ElectLeaders(request) => self.elect_leaders(&request),
            ControllerRequest::AlterPartitionReassignments(request) => {
                self.alter_partition_reassignments(&request)
            }
            ControllerRequest::BrokerRegistration(request) => {
                self.register_broker(now.instant, request)
            }
            ControllerRequest::BrokerHeartbeat(request) => {
                self.broker_heartbeat(now.instant, &request, effects)
            }
            ControllerRequest::BrokerUnreachable {
                broker_id,
                broker_epoch,
            } => self.broker_unreachable(BrokerEpoch {
                broker_id,
                broker_epoch,
            }),
            ControllerRequest::UnregisterBroker(request) => self.unregister_broker(&request),
            ControllerRequest::ControllerRegistration(request) => self.register_controller(request),
            ControllerRequest::AssignReplicasToDirs(request) => {
                self.assign_replicas_to_dirs(&request)
            }
            ControllerRequest::UpdateFeatures(request) => self.update_features(&request),
            ControllerRequest::AllocateProducerIds(broker) => self.allocate_producer_ids(broker),
            ControllerRequest::Bootstrap(records) => self.bootstrap(records),
        }
    }

    /// KIP-868: what a cluster begins with is a transaction, so that a controller that fails amidst of it leaves nothing.
    fn bootstrap(&self, records: Vec<MetadataRecord>) -> Decision {
        if !self.image.is_empty() {
            let message = "the cluster has records already";
            let error = ApiError::new(ErrorCode::INVALID_REQUEST, message);
            return Decision::atomic(Vec::new(), ControllerResponse::Bootstrap(Err(error)));
        }
        let level = |name: &str| {
            let mut levels = records.iter().filter_map(|record| match record {
                MetadataRecord::FeatureLevel(feature) if feature.name == *name => {
                    Some(feature.feature_level)
                }
                _ => None,
            });
            levels.next().unwrap_or(0)
        };
        let version = MetadataVersion::from_level(level(METADATA_VERSION));
        let has_elr = level(ELIGIBLE_LEADER_REPLICAS_VERSION) > 0;
        let mut all = Vec::new();
        let in_transaction = version.is_some_and(MetadataVersion::has_transactions);
        if in_transaction {
            let name = Some(Str::from_static("Bootstrap records"));
            all.push(BeginTransactionRecord { name }.into());
        }
        all.extend(records);
        if has_elr {
            all.extend(self.elr_safety_records());
        }
        let response = ControllerResponse::Bootstrap(Ok(()));
        if in_transaction {
            all.push(EndTransactionRecord {}.into());
            Decision::divisible(all, response)
        } else {
            Decision::atomic(all, response)
        }
    }

    fn append(&mut self, mut records: Vec<MetadataRecord>, effects: &mut Vec<Effect>) {
        let mut delta = Delta::default();
        for record in &records {
            self.image
                .apply_to(record, &mut delta)
                .expect("the controller writes records that follow on its own image");
        }
        self.follow(&delta, self.end_offset + records.len() as i64);
        while !records.is_empty() {
            let rest =
                records.split_off(records.len().min(self.config.limits.records_per_batch_max));
            let base_offset = self.end_offset;
            self.end_offset += records.len() as i64;
            effects.push(Effect::Append {
                base_offset,
                records,
            });
            records = rest;
        }
    }

    /// Brings what is derived from the image up to date.
    fn follow(&mut self, delta: &Delta, end_offset: Offset) {
        for id in &delta.brokers {
            let broker = self.image.broker(*id).map(|broker| &**broker);
            self.heartbeats.follow(*id, broker, end_offset);
        }
        for topic in delta.topics_deleted.values() {
            if let Some(key) = similarity(&topic.name)
                && let Some(names) = self.similar_names.get_mut(&key)
            {
                names.remove(&topic.name);
                if names.is_empty() {
                    self.similar_names.remove(&key);
                }
            }
        }
        for id in &delta.topics_created {
            if let Some(topic) = self.image.topic_by_id(*id)
                && let Some(key) = similarity(&topic.name)
            {
                self.similar_names
                    .entry(key)
                    .or_default()
                    .insert(topic.name.clone());
            }
        }
        if delta
            .configs
            .iter()
            .any(|resource| resource.kind == ResourceKind::Broker)
        {
            self.reconfigure();
        }
        self.rounds.follow(delta, &self.image);
        self.expedite_unclean_elections(delta);
    }

    fn reconfigure(&mut self) {
        let none = ConfigMap::new();
        let node_id = self.config.broker.node_id().to_string();
        let configs = |name: &str| self.image.configs(ResourceKind::Broker, name);
        let (cluster, node) = (configs(""), configs(&node_id));
        let layer = |configs: Option<&'_ std::sync::Arc<ConfigMap>>| configs.map(|c| (**c).clone());
        let cluster = layer(cluster).unwrap_or_else(|| none.clone());
        let node = layer(node).unwrap_or(none);
        self.broker = self.config.broker.with_dynamic(&cluster, &node);
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            broker: &self.broker,
            is_own: false,
            elr_enabled: self.elr_enabled(),
        }
    }

    fn elr_enabled(&self) -> bool {
        self.image.feature(ELIGIBLE_LEADER_REPLICAS_VERSION) > 0
    }

    fn on_committed(&mut self, offset: Offset, effects: &mut Vec<Effect>) {
        assert!(
            offset <= self.end_offset,
            "only what was appended is committed"
        );
        self.high_watermark = self.high_watermark.max(offset);
        while let Some(waiting) = self.waiting.front()
            && waiting.until <= self.high_watermark
        {
            let Waiting {
                request_id,
                response,
                ..
            } = self.waiting.pop_front().expect("there is a front");
            effects.push(Effect::Reply {
                request_id,
                response,
            });
        }
    }

    fn on_timeout(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.resigned {
            return;
        }
        self.refuse_late(now.instant, effects);
        self.fence_stale_brokers(now.instant, effects);
        self.hold_rounds(now, effects);
        if self
            .idle_deadline()
            .is_some_and(|deadline| deadline <= now.instant)
        {
            self.append(vec![NoOpRecord {}.into()], effects);
        }
    }

    /// The records are written all the same; only the sender does not learn of it.
    fn refuse_late(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (late, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.deadline.is_some_and(|at| at <= now));
        self.waiting = waiting;
        refuse_all(late, ErrorCode::REQUEST_TIMED_OUT, effects);
    }

    /// When an empty record is due. A node that is alone has nobody to show how far it is, and rests.
    fn idle_deadline(&self) -> Option<Instant> {
        let this = self.config.broker.node_id();
        let brokers = self.image.brokers().map(|broker| broker.id);
        let controllers = self
            .image
            .controllers()
            .map(|controller| controller.controller_id);
        let mut nodes = brokers
            .chain(controllers)
            .chain(self.config.controllers.iter().copied());
        if nodes.all(|id| id == this) {
            return None;
        }
        self.last_append.checked_add(self.config.idle_interval?)
    }

    fn on_resign(&mut self, effects: &mut Vec<Effect>) {
        self.resigned = true;
        refuse_all(
            std::mem::take(&mut self.waiting),
            ErrorCode::NOT_CONTROLLER,
            effects,
        );
    }
}

fn refuse_all(waiting: VecDeque<Waiting>, code: ErrorCode, effects: &mut Vec<Effect>) {
    for Waiting {
        request_id,
        mut response,
        ..
    } in waiting
    {
        response.refuse(&code.into());
        effects.push(Effect::Reply {
            request_id,
            response,
        });
    }
}

/// What similar names have in common; `None` for names that are similar to no other.
fn similarity(name: &TopicName) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

fn similar_names(image: &Image) -> BTreeMap<String, BTreeSet<TopicName>> {
    let mut similar: BTreeMap<String, BTreeSet<TopicName>> = BTreeMap::new();
    for topic in image.topics() {
        if let Some(key) = similarity(&topic.name) {
            similar.entry(key).or_default().insert(topic.name.clone());
        }
    }
    similar
}
