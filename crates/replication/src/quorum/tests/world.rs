//! A few nodes, their disks and the network between them, in simulated time and from one seed.
//!
//! Messages are lost, late, doubled, out of order; links are cut in one direction or both; nodes crash and lose what was not
//! flushed or stored, lose their disks, run by clocks of their own, and are told wrongly that others are gone. Voters come
//! and go, snapshots are made and logs shortened. After every step the checkers look at all of it.

mod checks;
mod mishaps;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_types::{LeaderEpoch, NodeId, Now, Offset, Str, Timestamp, Uuid};

use super::super::message::{ApiVersionsResponse, Fetched, Request, Response};
use super::super::random::Random;
use super::super::{
    Appended, Config, Destination, Effect, Endpoint, EpochStart, Input, Quorum, ReplicaKey,
    SnapshotId, VersionRange, Voter, VoterSet,
};
use super::Planted;
use super::disk::{Body, Disk, Record, SnapshotFile, control_record};

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    /// The first so many vote.
    pub(super) voters: usize,
    /// `kraft.version` 1: voters come and go.
    pub(super) dynamic: bool,
    /// For how many simulated seconds things go wrong.
    pub(super) faults_s: u64,
    /// Things go wrong with the voters above all, and more often.
    pub(super) churns: bool,
    pub(super) planted: Option<Planted>,
}

pub(super) struct Node {
    pub(super) quorum: Option<Quorum>,
    pub(super) disk: Disk,
    key: ReplicaKey,
    /// How often it has started.
    incarnation: u32,
    /// How often its log was cut: a flush from before says nothing.
    cuts: u32,
    /// How fast its clock goes, in thousandths.
    clock: u64,
    /// Until then it gets no time to do anything, as a process that is stopped.
    paused_until: u64,
    /// Everything below it was published in this incarnation.
    applied: i64,
    /// The epoch for which its controller works.
    leads: Option<LeaderEpoch>,
    /// A snapshot that is being fetched, as far as it has come.
    fetching: Option<(SnapshotFile, i64)>,
}

/// Something on its way.
#[derive(Clone, Debug)]
enum Event {
    Wake {
        node: usize,
    },
    Request {
        from: usize,
        incarnation: u32,
        to: usize,
        request_id: u64,
        request: Request,
    },
    Response {
        to: usize,
        incarnation: u32,
        request_id: u64,
        response: Response,
        payload: Payload,
    },
    Failed {
        to: usize,
        incarnation: u32,
        request_id: u64,
    },
    Gone {
        to: usize,
        node: usize,
    },
    Stored {
        node: usize,
        incarnation: u32,
    },
    Flushed {
        node: usize,
        incarnation: u32,
        cuts: u32,
        end: i64,
    },
    Start {
        node: usize,
    },
    Crash {
        node: usize,
        incarnation: u32,
    },
    Mishap,
    Work,
}

impl Event {
    /// Whom it concerns.
    fn node(&self) -> Option<usize> {
        match self {
            Self::Wake { node }
            | Self::Stored { node, .. }
            | Self::Flushed { node, .. }
            | Self::Start { node }
            | Self::Crash { node, .. } => Some(*node),
            Self::Request { to, .. }
            | Self::Response { to, .. }
            | Self::Failed { to, .. }
            | Self::Gone { to, .. } => Some(*to),
            Self::Mishap | Self::Work => None,
        }
    }
}

/// What an answer carries that the machine does not see.
#[derive(Clone, Debug)]
enum Payload {
    Nothing,
    Records(Vec<Record>),
    Snapshot(SnapshotFile),
}

pub(super) struct World {
    options: Options,
    random: Random,
    began: Instant,
    /// Microseconds since then.
    pub(super) time: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    bodies: BTreeMap<u64, Event>,
    events_count: u64,
    pub(super) nodes: Vec<Node>,
    formatted: VoterSet,
    /// Who waits for the answers to requests: node, incarnation, its own request id. Nobody for the world's own requests.
    asked: BTreeMap<u64, Option<(usize, u32, u64)>>,
    asked_count: u64,
    written: u64,
    /// Which links, from and to, carry nothing.
    pub(super) cut: Vec<Vec<bool>>,
    /// Of a thousand messages so many are lost.
    pub(super) loss: usize,
    is_calm: bool,
    has_lost_a_disk: bool,
    /// The node whose snapshots were damaged.
    damaged: Option<usize>,
    /// All that any node has ever held for committed.
    pub(super) committed: Vec<Record>,
    /// In which epoch each of them was known to be.
    committed_in: Vec<LeaderEpoch>,
    leaders: BTreeMap<LeaderEpoch, (usize, u32)>,
    /// How often what went wrong.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant can only be had from the clock"
        )]
        let began = Instant::now();
        let voters = (0..options.voters).map(|node| voter(key(node, 0, options.dynamic)));
        let mut world = Self {
            options,
            random: Random::new(options.seed),
            began,
            time: 0,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            events_count: 0,
            nodes: Vec::new(),
            formatted: VoterSet::new(voters.collect()),
            asked: BTreeMap::new(),
            asked_count: 0,
            written: 0,
            cut: vec![vec![false; options.nodes]; options.nodes],
            loss: 0,
            is_calm: true,
            has_lost_a_disk: false,
            damaged: None,
            committed: Vec::new(),
            committed_in: Vec::new(),
            leaders: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        for node in 0..options.nodes {
            let mut disk = Disk::default();
            if options.dynamic && node < options.voters {
                disk.snapshots.push(SnapshotFile {
                    id: SnapshotId::BOOTSTRAP,
                    records: Arc::default(),
                    formatted: Some(world.formatted.clone()),
                });
            }
            let clock = 900 + world.below(200);
            world.nodes.push(Node {
                quorum: None,
                disk,
                key: key(node, 0, true),
                incarnation: 0,
                cuts: 0,
                clock,
                paused_until: 0,
                applied: 0,
                leads: None,
                fetching: None,
            });
            world.at(0, Event::Start { node });
        }
        world.at(50_000, Event::Work);
        world
    }

    /// Bad times, then good ones, in which everything has to come right.
    pub(super) fn live(&mut self) {
        self.is_calm = false;
        self.loss = self.random.below(100);
        self.at(self.time + 1000, Event::Mishap);
        self.run_for(self.options.faults_s * 1000);
        self.calm_down();
        self.run_for(20_000);
        self.check_all_is_well();
    }

    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        self.loss = 0;
        self.cut = vec![vec![false; self.nodes.len()]; self.nodes.len()];
    }

    pub(super) fn run_for(&mut self, millis: u64) {
        let until = self.time + millis * 1000;
        while let Some(Reverse((time, id))) = self.events.peek().copied() {
            if time > until {
                break;
            }
            self.events.pop();
            self.time = self.time.max(time);
            let event = self.bodies.remove(&id).expect("an event has a body");
            match event.node().map(|node| self.nodes[node].paused_until) {
                Some(resumed) if resumed > time => self.at(resumed, event),
                _ => self.happens(event),
            }
        }
        self.time = until;
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound as usize) as u64
    }

    fn happens_in(&mut self, thousandths: usize) -> bool {
        self.random.below(1000) < thousandths
    }

    fn at(&mut self, time: u64, event: Event) {
        self.events_count += 1;
        self.events.push(Reverse((time, self.events_count)));
        self.bodies.insert(self.events_count, event);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What the clocks of a node show.
    pub(super) fn now(&self, node: usize) -> Now {
        let local = self.time * self.nodes[node].clock / 1000;
        Now {
            instant: self.began + Duration::from_micros(local),
            timestamp: Timestamp::from_millis(1_000_000 * node as i64 + (local / 1000) as i64),
        }
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &Quorum)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(id, node)| Some((id, node.quorum.as_ref()?)))
    }

    fn is_current(&self, node: usize, incarnation: u32) -> bool {
        self.nodes[node].quorum.is_some() && self.nodes[node].incarnation == incarnation
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake { node } => {
                let deadline = self.nodes[node].quorum.as_ref().and_then(Quorum::deadline);
                if deadline.is_some_and(|deadline| deadline <= self.now(node).instant) {
                    self.handle(node, Input::Timeout, Payload::Nothing);
                }
            }
            Event::Request {
                from,
                incarnation,
                to,
                request_id,
                request,
            } => {
                self.request_arrives(from, incarnation, to, request_id, request);
            }
            Event::Response {
                to,
                incarnation,
                request_id,
                response,
                payload,
            } => {
                if self.is_current(to, incarnation) {
                    self.handle(
                        to,
                        Input::Response {
                            request_id,
                            response,
                        },
                        payload,
                    );
                }
            }
            Event::Failed {
                to,
                incarnation,
                request_id,
            } => {
                if self.is_current(to, incarnation) {
                    self.handle(to, Input::RequestFailed { request_id }, Payload::Nothing);
                }
            }
            Event::Gone { to, node } => {
                if self.nodes[to].quorum.is_some() {
                    let node = NodeId::new(node as i32);
                    self.handle(to, Input::Unreachable { node }, Payload::Nothing);
                }
            }
            Event::Stored { node, incarnation } => {
                if self.is_current(node, incarnation) {
                    let state = self.nodes[node].disk.storing.remove(0);
                    self.nodes[node].disk.stored = Some(state);
                    self.handle(node, Input::QuorumStateStored(state), Payload::Nothing);
                }
            }
            Event::Flushed {
                node,
                incarnation,
                cuts,
                end,
            } => {
                if self.is_current(node, incarnation) && self.nodes[node].cuts == cuts {
                    let disk = &mut self.nodes[node].disk;
                    disk.flushed = disk.flushed.max(end);
                    let end = Offset::new(end);
                    self.handle(node, Input::Flushed { end }, Payload::Nothing);
                }
            }
            Event::Start { node } => self.start(node),
            Event::Crash { node, incarnation } => {
                if self.is_current(node, incarnation) {
                    self.crash(node);
                }
            }
            Event::Mishap => self.mishap(),
            Event::Work => self.work(),
        }
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].quorum.is_some() {
            return;
        }
        let configured = if self.options.dynamic {
            VoterSet::default()
        } else {
            self.formatted.clone()
        };
        let seed = self.random.below(usize::MAX) as u64;
        let config = Config {
            endpoints: vec![endpoint(node)],
            bootstrap_servers: (0..self.nodes.len()).map(endpoint).collect(),
            auto_join: self.options.dynamic && self.has_lost_a_disk,
            ..Config::new(self.nodes[node].key, configured, seed)
        };
        let restored = self.nodes[node].disk.restored();
        let now = self.now(node);
        let n = &mut self.nodes[node];
        n.applied = restored.high_watermark.value();
        n.leads = None;
        n.fetching = None;
        n.incarnation += 1;
        let mut quorum = Quorum::new(now, config, restored);
        quorum.planted = self.options.planted;
        n.quorum = Some(quorum);
        self.handle(node, Input::Timeout, Payload::Nothing);
    }

    fn request_arrives(
        &mut self,
        from: usize,
        incarnation: u32,
        to: usize,
        id: u64,
        request: Request,
    ) {
        if self.nodes[to].quorum.is_none() {
            // Refused: the sender notices, and may conclude that the process is gone.
            let at = self.time + 1000;
            self.at(
                at,
                Event::Failed {
                    to: from,
                    incarnation,
                    request_id: id,
                },
            );
            if self.happens_in(500) {
                self.at(at, Event::Gone { to: from, node: to });
            }
            return;
        }
        if matches!(request, Request::ApiVersions) {
            let response = Response::ApiVersions(ApiVersionsResponse {
                error: tidelog_types::ErrorCode::NONE,
                kraft_versions: Some(VersionRange { min: 0, max: 1 }),
            });
            return self.respond(to, from, incarnation, id, response, Payload::Nothing);
        }
        let asked = self.ask(Some((from, incarnation, id)));
        let input = Input::Request {
            request_id: asked,
            request,
        };
        self.handle(to, input, Payload::Nothing);
    }

    fn ask(&mut self, by: Option<(usize, u32, u64)>) -> u64 {
        self.asked_count += 1;
        self.asked.insert(self.asked_count, by);
        self.asked_count
    }

    /// How long a message takes; nothing if it is lost.
    fn delay(&mut self, from: usize, to: usize) -> Option<u64> {
        let is_late = !self.is_calm && self.happens_in(30);
        let delay = 200 + self.below(if is_late { 1_500_000 } else { 5_000 });
        let is_lost = self.cut[from][to] || self.random.below(1000) < self.loss;
        if is_lost {
            self.count("lost message");
        }
        (!is_lost).then_some(delay)
    }

    fn respond(
        &mut self,
        from: usize,
        to: usize,
        incarnation: u32,
        request_id: u64,
        response: Response,
        payload: Payload,
    ) {
        if let Some(delay) = self.delay(from, to) {
            let event = Event::Response {
                to,
                incarnation,
                request_id,
                response,
                payload,
            };
            self.twice_at_times(delay, event);
        }
    }

    fn twice_at_times(&mut self, delay: u64, event: Event) {
        if !self.is_calm && self.happens_in(20) {
            self.count("doubled message");
            let later = delay + self.below(2_000_000);
            self.at(self.time + later, event.clone());
        }
        self.at(self.time + delay, event);
    }

    /// Gives a node an input, and all that follows from it at once.
    fn handle(&mut self, node: usize, input: Input, payload: Payload) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.now(node);
            let mut effects = Vec::new();
            let Some(quorum) = &mut self.nodes[node].quorum else {
                return;
            };
            quorum.handle(now, input, &mut effects);
            for effect in effects {
                if let Some(input) = self.carry_out(node, effect, &payload) {
                    inputs.push_front(input);
                }
            }
        }
        self.check(node);
        let deadline = self.nodes[node].quorum.as_ref().and_then(Quorum::deadline);
        if let Some(deadline) = deadline {
            let local = deadline.saturating_duration_since(self.began).as_micros() as u64;
            let at = local * 1000 / self.nodes[node].clock + 1;
            self.at(at.max(self.time + 1), Event::Wake { node });
        }
    }

    /// Does what a node wants; gives what it is to hear of its log.
    fn carry_out(&mut self, node: usize, effect: Effect, payload: &Payload) -> Option<Input> {
        let incarnation = self.nodes[node].incarnation;
        match effect {
            Effect::Send {
                request_id,
                to,
                request,
            } => {
                let to = listener(&to)?;
                if let Some(delay) = self.delay(node, to) {
                    let event = Event::Request {
                        from: node,
                        incarnation,
                        to,
                        request_id,
                        request,
                    };
                    self.twice_at_times(delay, event);
                }
            }
            Effect::Answer {
                request_id,
                response,
            } => self.answer(node, request_id, response),
            Effect::StoreQuorumState(state) => {
                let last = self.nodes[node].disk.storing.len() as u64;
                self.nodes[node].disk.storing.push(state);
                // One after the other.
                let at = self.time + 20_000 * last + 500 + self.below(15_000);
                self.at(at, Event::Stored { node, incarnation });
            }
            Effect::AppendLeaderChange(change) => {
                let mut bodies = vec![Body::LeaderChange];
                if let Some((version, voters)) = change.first_voters {
                    bodies.extend([Body::KRaftVersion(version), Body::Voters(voters)]);
                }
                self.count("election");
                self.check_leader_has_all(node, change.leader_epoch);
                return Some(self.append(node, change.leader_epoch, bodies));
            }
            Effect::AppendVoters {
                leader_epoch,
                kraft_version,
                voters,
            } => {
                self.count("change of voters");
                let version = kraft_version.map(Body::KRaftVersion).into_iter();
                let bodies = version.chain([Body::Voters(voters)]).collect();
                return Some(self.append(node, leader_epoch, bodies));
            }
            Effect::AppendFetched { .. } => {
                let Payload::Records(records) = payload else {
                    panic!("there are no records");
                };
                return Some(self.append_records(node, records.clone()));
            }
            Effect::Truncate { end } => {
                self.count("truncation");
                let n = &mut self.nodes[node];
                n.disk.truncate(end.value());
                n.cuts += 1;
                return Some(Input::Truncated { end });
            }
            Effect::WriteSnapshotChunk {
                snapshot_id,
                position,
                ..
            } => {
                return Some(self.write_chunk(node, snapshot_id, position, payload));
            }
            Effect::InstallSnapshot { snapshot_id } => {
                return Some(self.install(node, snapshot_id));
            }
            Effect::PublishHighWatermark(offset) => self.publish(node, offset.value()),
            Effect::Lead { leader_epoch } => self.nodes[node].leads = Some(leader_epoch),
            Effect::StopLeading { .. } => self.nodes[node].leads = None,
            Effect::AnnounceLeader(_) => {}
            Effect::Report(anomaly) => self.check_anomaly(&anomaly),
        }
        None
    }

    fn append(&mut self, node: usize, epoch: LeaderEpoch, bodies: Vec<Body>) -> Input {
        let records = bodies.into_iter().map(|body| Record { epoch, body });
        self.append_records(node, records.collect())
    }

    fn append_records(&mut self, node: usize, records: Vec<Record>) -> Input {
        let n = &mut self.nodes[node];
        let first = n.disk.end();
        let mut control_records = Vec::new();
        let mut epochs = Vec::new();
        for (offset, record) in (first..).map(Offset::new).zip(&records) {
            control_records.extend(control_record(offset, record));
            epochs.push(EpochStart {
                leader_epoch: record.epoch,
                start_offset: offset,
            });
        }
        n.disk.records.extend(records);
        let (end, incarnation, cuts) = (n.disk.end(), n.incarnation, n.cuts);
        let is_slow = !self.is_calm && self.happens_in(50);
        let at = self.time + 300 + self.below(if is_slow { 700_000 } else { 8_000 });
        self.at(
            at,
            Event::Flushed {
                node,
                incarnation,
                cuts,
                end,
            },
        );
        Input::Appended(Appended {
            end: Offset::new(end),
            epochs,
            control_records,
        })
    }

    /// Sends an answer, with what the machine left out.
    fn answer(&mut self, node: usize, asked: u64, mut response: Response) {
        let Some(Some((to, incarnation, request_id))) = self.asked.remove(&asked) else {
            return;
        };
        let records_max = 1 + self.below(8) as i64;
        let disk = &self.nodes[node].disk;
        let mut payload = Payload::Nothing;
        match &mut response {
            Response::Fetch(fetch) => {
                if let Fetched::Records { from, to } = &mut fetch.fetched {
                    let records =
                        disk.read(from.value(), to.value().min(from.value() + records_max));
                    *to = *from + records.len() as i64;
                    payload = Payload::Records(records);
                }
            }
            Response::FetchSnapshot(piece) if piece.error.is_ok() => {
                let snapshot = disk.snapshots.iter().find(|s| s.id == piece.snapshot_id);
                let snapshot = snapshot.expect("a snapshot that the machine knows").clone();
                piece.bytes = 40.min(snapshot.size() - piece.position);
                payload = Payload::Snapshot(snapshot);
            }
            _ => {}
        }
        self.respond(node, to, incarnation, request_id, response, payload);
    }

    fn write_chunk(&mut self, node: usize, id: SnapshotId, at: i64, payload: &Payload) -> Input {
        let Payload::Snapshot(snapshot) = payload else {
            panic!("there is no snapshot");
        };
        assert_eq!(snapshot.id, id, "another snapshot");
        let position = (at + 40).min(snapshot.size());
        self.nodes[node].fetching = Some((snapshot.clone(), position));
        Input::SnapshotChunkWritten {
            snapshot_id: id,
            position,
        }
    }

    fn install(&mut self, node: usize, id: SnapshotId) -> Input {
        self.count("snapshot fetched");
        let n = &mut self.nodes[node];
        let (snapshot, position) = n.fetching.take().expect("a fetched snapshot");
        assert_eq!((snapshot.id, position), (id, snapshot.size()), "all of it");
        n.disk.begin_at(&snapshot);
        n.cuts += 1;
        Input::SnapshotInstalled {
            snapshot: snapshot.snapshot(),
            control_records: snapshot.control_records(),
        }
    }
}

fn key(node: usize, disk: u8, has_directory: bool) -> ReplicaKey {
    let directory_id = if has_directory {
        Uuid::from_bytes([1 + node as u8 + 16 * disk; 16])
    } else {
        Uuid::ZERO
    };
    ReplicaKey {
        id: NodeId::new(node as i32),
        directory_id,
    }
}

fn endpoint(node: usize) -> Endpoint {
    Endpoint {
        listener: Str::from("CONTROLLER"),
        host: Str::from("host"),
        port: node as u16,
    }
}

fn voter(key: ReplicaKey) -> Voter {
    Voter {
        key,
        endpoints: vec![endpoint(key.id.value() as usize)],
        kraft_versions: VersionRange { min: 0, max: 1 },
    }
}

/// The node that listens where a request goes.
fn listener(to: &Destination) -> Option<usize> {
    to.endpoints
        .first()
        .map(|endpoint| usize::from(endpoint.port))
}
