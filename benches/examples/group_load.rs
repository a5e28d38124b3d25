//! Load for the group coordinator of any broker that speaks the protocol, ours or Kafka: `group_load BROKER COMMAND ...`.
//!
//! It is started by `benches/groups.py`, which says what each figure means and starts the brokers. The client is as small as can
//! be: frames over TCP, every member a connection and a task of its own, all on one thread. Each command prints its figures as
//! `name value` lines.
#![allow(clippy::print_stdout, reason = "the report")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidelog_benches::wire::{Client, current_thread, encoded};
use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use tidelog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidelog_protocol::messages::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use tidelog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember,
};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use tidelog_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidelog_types::{ErrorCode, Offset, Str, TopicName};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::{Instant as Time, sleep, sleep_until};

const CREATE_TOPICS_VERSION: i16 = 7;
const FIND_COORDINATOR_VERSION: i16 = 4;
const JOIN_GROUP_VERSION: i16 = 7;
const SYNC_GROUP_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;
const OFFSET_COMMIT_VERSION: i16 = 9;
const OFFSET_FETCH_VERSION: i16 = 9;
const CONSUMER_GROUP_HEARTBEAT_VERSION: i16 = 1;

const TOPIC: &str = "group-load";
const PARTITIONS: i32 = 1000;
/// How many partitions one OffsetCommit is about, where its size is not the point.
const COMMITTED_AT_ONCE: i32 = 10;
const ROUNDS: usize = 5;
/// How many idle groups are made at a time.
const IDLE_CONNECTIONS: u32 = 64;
/// A group that was given partitions waits so long until it is given others (`group.consumer.assignment.interval.ms`).
const ASSIGNMENT_INTERVAL: Duration = Duration::from_millis(1000);
const ROUND_SECONDS_MAX: u64 = 60;

/// What a client does here besides asking.
trait Groups {
    async fn prepare(&mut self);
    async fn await_coordinator(&mut self, group: &str);
    async fn answers(&mut self, group: &str) -> bool;
}

impl Groups for Client {
    /// Creates the topic, if it is not there, and waits until commits for it are taken.
    async fn prepare(&mut self) {
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: PARTITIONS,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        self.ask(&request, CREATE_TOPICS_VERSION).await;
        self.await_coordinator("probe").await;
    }

    /// Waits until the coordinator of a group answers.
    async fn await_coordinator(&mut self, group: &str) {
        let find = FindCoordinatorRequest {
            coordinator_keys: vec![group.into()],
            ..Default::default()
        };
        loop {
            let found = self.ask(&find, FIND_COORDINATOR_VERSION).await;
            if found.coordinators[0].error_code.is_ok() && self.answers(group).await {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn answers(&mut self, group: &str) -> bool {
        let topic = OffsetFetchRequestTopics {
            name: TOPIC.into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let request = OffsetFetchRequest {
            groups: vec![group],
            ..Default::default()
        };
        let fetched = self.ask(&request, OFFSET_FETCH_VERSION).await;
        fetched.groups[0].error_code.is_ok()
    }
}

/// A commit from outside of a group's generations, as of a consumer that assigns itself.
fn commit(group: &str, partitions: std::ops::Range<i32>, offset: i64) -> OffsetCommitRequest {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: Offset::new(offset),
        committed_metadata: Some(Str::EMPTY),
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: partitions.map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn expect_committed(response: &OffsetCommitResponse) {
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        assert!(partition.error_code.is_ok(), "{}", partition.error_code);
    }
}

fn report(name: &str, value: impl std::fmt::Display) {
    println!("{name} {value}");
}

fn in_milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// `connections` groups with a connection each commit ten offsets a request, together `rate` requests a second; with a rate of 0
/// each sends the next one when the last one was answered. How long a request took is counted from when it was due.
async fn commits(broker: String, connections: u32, seconds: u64, rate: f64) {
    Client::connect(&broker).await.prepare().await;
    let times = Rc::new(RefCell::new(Vec::new()));
    let (began, lasting) = (Time::now(), Duration::from_secs(seconds));
    let tasks = (0..connections).map(|number| {
        let (broker, times) = (broker.clone(), Rc::clone(&times));
        tokio::task::spawn_local(async move {
            let mut client = Client::connect(&broker).await;
            let group = format!("commits-{number}");
            let mut sent = 0_u32;
            let share = rate / f64::from(connections);
            loop {
                let due = if rate > 0.0 {
                    let turn = f64::from(sent) + f64::from(number) / f64::from(connections);
                    began + Duration::from_secs_f64(turn / share)
                } else {
                    Time::now()
                };
                if due - began >= lasting {
                    return;
                }
                sleep_until(due).await;
                let request = commit(&group, 0..COMMITTED_AT_ONCE, i64::from(sent));
                expect_committed(&client.ask(&request, OFFSET_COMMIT_VERSION).await);
                times.borrow_mut().push(due.elapsed());
                sent += 1;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no commit fails");
    }
    let took = began.elapsed().as_secs_f64();
    let mut times = times.take();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let offsets = times.len() as f64 * f64::from(COMMITTED_AT_ONCE);
    report("offsets_per_s", format!("{:.0}", offsets / took));
    report("p50_ms", in_milliseconds(at(0.5)));
    report("p99_ms", in_milliseconds(at(0.99)));
    report("max_ms", in_milliseconds(at(1.0)));
}

/// Each of `groups` groups commits an offset for every partition.
async fn offsets(broker: String, groups: u32) {
    let mut client = Client::connect(&broker).await;
    client.prepare().await;
    for number in 0..groups {
        let request = commit(&format!("offsets-{number}"), 0..PARTITIONS, 7);
        expect_committed(&client.ask(&request, OFFSET_COMMIT_VERSION).await);
    }
    report("offsets", i64::from(groups) * i64::from(PARTITIONS));
}

/// How long it takes from now on until a group is answered.
async fn ready(broker: String, group: String) {
    let began = Instant::now();
    let mut client = Client::connect(&broker).await;
    client.await_coordinator(&group).await;
    report("until_answered_ms", in_milliseconds(began.elapsed()));
}

/// `groups` classic groups with a member each, which has its partition and has committed ten offsets; some at a time.
async fn idle(broker: String, groups: u32) {
    Client::connect(&broker).await.prepare().await;
    let connections = IDLE_CONNECTIONS.min(groups);
    let tasks = (0..connections).map(|first| {
        let broker = broker.clone();
        tokio::task::spawn_local(async move {
            let mut client = Client::connect(&broker).await;
            for number in (first..groups).step_by(connections as usize) {
                idle_group(&mut client, &format!("idle-{number}")).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no group fails");
    }
    report("groups", groups);
}

async fn idle_group(client: &mut Client, group: &str) {
    let mut member = ClassicMember::new(group, 0);
    let joined = member.join(client).await;
    let synced = member.sync(client, &joined, 1).await;
    assert!(synced.is_ok(), "{synced}");
    let request = OffsetCommitRequest {
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id,
        ..commit(group, 0..COMMITTED_AT_ONCE, 7)
    };
    expect_committed(&client.ask(&request, OFFSET_COMMIT_VERSION).await);
}

/// What the members of a group have come to, for who measures.
#[derive(Default)]
struct Progress {
    /// By generation, how many have joined, when the last one did so, how many were told their partitions, and the last one when.
    generations: RefCell<BTreeMap<i32, Generation>>,
    /// By member of the new protocol: its epoch and its partitions.
    owned: RefCell<HashMap<usize, (i32, Vec<i32>)>>,
    changed: Notify,
}

#[derive(Default)]
struct Generation {
    last_join: Option<Instant>,
    synced: usize,
    last_sync: Option<Instant>,
}

/// A member of a classic group.
struct ClassicMember {
    group: Str,
    member_id: Str,
    /// Part of its subscription: when it changes, the group rebalances.
    version: u8,
    joined_at: Instant,
}

impl ClassicMember {
    fn new(group: &str, version: u8) -> Self {
        Self {
            group: group.into(),
            member_id: Str::EMPTY,
            version,
            joined_at: Instant::now(),
        }
    }

    async fn join(&mut self, client: &mut Client) -> JoinGroupResponse {
        loop {
            let mut metadata = vec![0, 0, 0, 0, 0, 1, 0, TOPIC.len() as u8];
            metadata.extend(TOPIC.bytes());
            metadata.extend([0, 0, 0, 1, self.version]);
            let request = JoinGroupRequest {
                group_id: self.group.clone().into(),
                session_timeout_ms: 300_000,
                rebalance_timeout_ms: 300_000,
                member_id: self.member_id.clone(),
                protocol_type: "consumer".into(),
                protocols: vec![JoinGroupRequestProtocol {
                    name: "load".into(),
                    metadata: metadata.into(),
                }],
                ..Default::default()
            };
            self.joined_at = Instant::now();
            let joined = client.ask(&request, JOIN_GROUP_VERSION).await;
            match joined.error_code {
                ErrorCode::NONE => {
                    self.member_id = joined.member_id.clone();
                    return joined;
                }
                ErrorCode::MEMBER_ID_REQUIRED => self.member_id = joined.member_id,
                ErrorCode::REBALANCE_IN_PROGRESS => {}
                ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                    sleep(Duration::from_millis(5)).await;
                }
                other => panic!("JoinGroup: {other}"),
            }
        }
    }

    /// The leader deals the partitions out in the order of the members.
    async fn sync(
        &self,
        client: &mut Client,
        joined: &JoinGroupResponse,
        partitions: usize,
    ) -> ErrorCode {
        let members = joined.members.len().max(1);
        let deal = |(n, member): (usize, &JoinGroupResponseMember)| {
            let own = (n..partitions).step_by(members).map(|p| p as i32);
            let own: Vec<u8> = own.flat_map(i32::to_be_bytes).collect();
            let mut assignment = vec![0, 0, 0, 0, 0, 1, 0, TOPIC.len() as u8];
            assignment.extend(TOPIC.bytes());
            assignment.extend((own.len() as i32 / 4).to_be_bytes());
            assignment.extend(own);
            assignment.extend([255; 4]);
            SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: assignment.into(),
            }
        };
        let request = SyncGroupRequest {
            group_id: self.group.clone().into(),
            generation_id: joined.generation_id,
            member_id: self.member_id.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("load".into()),
            assignments: joined.members.iter().enumerate().map(deal).collect(),
            ..Default::default()
        };
        let synced = client.ask(&request, SYNC_GROUP_VERSION).await;
        assert!(
            synced.error_code.is_err() || !synced.assignment.is_empty() || partitions == 0,
            "an assignment"
        );
        synced.error_code
    }

    /// Lives until the program ends. When `change` says so, its subscription changes.
    async fn live(
        mut self,
        broker: String,
        progress: Rc<Progress>,
        change: Option<Rc<Notify>>,
        pace: Duration,
    ) {
        let mut client = Client::connect(&broker).await;
        loop {
            let joined = self.join(&mut client).await;
            let note = |what: &dyn Fn(&mut Generation)| {
                let mut generations = progress.generations.borrow_mut();
                what(generations.entry(joined.generation_id).or_default());
            };
            note(&|g| g.last_join = g.last_join.max(Some(self.joined_at)));
            if self
                .sync(&mut client, &joined, PARTITIONS as usize)
                .await
                .is_err()
            {
                continue;
            }
            note(&|g| {
                g.synced += 1;
                g.last_sync = Some(Instant::now());
            });
            progress.changed.notify_one();
            let beat = encoded(
                &HeartbeatRequest {
                    group_id: self.group.clone().into(),
                    generation_id: joined.generation_id,
                    member_id: self.member_id.clone(),
                    ..Default::default()
                },
                HEARTBEAT_VERSION,
            );
            loop {
                match &change {
                    Some(change) => {
                        tokio::select! {
                            () = sleep(pace) => {}
                            () = change.notified() => {
                                self.version += 1;
                                break;
                            }
                        }
                    }
                    None => sleep(pace).await,
                }
                client.send(&beat).await;
                let beaten = client.receive::<HeartbeatResponse>(HEARTBEAT_VERSION).await;
                if beaten.error_code.is_err() {
                    break;
                }
            }
        }
    }
}

/// Waits until `done` gives something.
async fn eventually<T>(progress: &Progress, what: &str, done: impl Fn() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(done) = done() {
                return done;
            }
            progress.changed.notified().await;
        }
    };
    let most = Duration::from_secs(ROUND_SECONDS_MAX);
    let waited = tokio::time::timeout(most, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {ROUND_SECONDS_MAX} s"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A classic group rebalances with all its members, again and again, because one of them changes its subscription.
async fn classic(broker: String, members: usize, pace: Duration) {
    let mut client = Client::connect(&broker).await;
    client.prepare().await;
    client.await_coordinator("classic").await;
    let progress = Rc::new(Progress::default());
    let change = Rc::new(Notify::new());
    for number in 0..members {
        let change = (number == members / 2).then(|| Rc::clone(&change));
        let member = ClassicMember::new("classic", 0);
        tokio::task::spawn_local(member.live(broker.clone(), Rc::clone(&progress), change, pace));
    }
    let stable = |after: i32| {
        let generations = progress.generations.borrow();
        let mut later = generations.range(after + 1..);
        later.find_map(|(id, g)| (g.synced == members).then_some((*id, g.last_join, g.last_sync)))
    };
    let (mut generation, ..) = eventually(&progress, "all members at first", || stable(0)).await;
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        change.notify_one();
        let (id, joined, synced) =
            eventually(&progress, "a rebalance", || stable(generation)).await;
        generation = id;
        let (joined, synced) = (joined.expect("all joined"), synced.expect("all synced"));
        whole.push(synced - began);
        own.push(synced - joined);
    }
    report("last_join_to_all_stable_ms", in_milliseconds(median(own)));
    report("first_to_all_stable_ms", in_milliseconds(median(whole)));
}

/// A member of a group whose partitions the broker divides, with `pace` between its heartbeats. It gives up and takes over partitions the moment it is told to.
async fn consumer_member(
    broker: String,
    number: usize,
    progress: Rc<Progress>,
    present: Rc<Cell<bool>>,
    turn: Option<Rc<Notify>>,
    pace: Duration,
) {
    let mut client = Client::connect(&broker).await;
    let base = ConsumerGroupHeartbeatRequest {
        group_id: "consumer".into(),
        member_id: format!("member-{number:04}").into(),
        ..Default::default()
    };
    let (mut epoch, mut owned, mut tell) = (0, Vec::<TopicPartitions>::new(), true);
    loop {
        let mut request = ConsumerGroupHeartbeatRequest {
            member_epoch: epoch,
            ..base.clone()
        };
        if epoch == 0 {
            request.rebalance_timeout_ms = 300_000;
            request.subscribed_topic_names = Some(vec![TopicName::from(TOPIC)]);
            owned.clear();
        }
        if tell {
            request.topic_partitions = Some(owned.clone());
        }
        if !present.get() {
            request.member_epoch = -1;
        }
        let answer = client.ask(&request, CONSUMER_GROUP_HEARTBEAT_VERSION).await;
        let mut pause = pace;
        match answer.error_code {
            ErrorCode::NONE => {}
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => {
                (epoch, tell) = (0, true);
                continue;
            }
            other => panic!("ConsumerGroupHeartbeat: {other} {:?}", answer.error_message),
        }
        if !present.get() {
            progress.owned.borrow_mut().remove(&number);
            progress.changed.notify_one();
            turn.as_ref()
                .expect("it was told to leave")
                .notified()
                .await;
            (epoch, tell) = (0, true);
            continue;
        }
        epoch = answer.member_epoch;
        tell = false;
        if let Some(assignment) = answer.assignment {
            owned = assignment.topic_partitions;
            (tell, pause) = (true, Duration::ZERO);
        }
        let all = owned
            .iter()
            .flat_map(|topic| topic.partitions.iter().copied());
        progress
            .owned
            .borrow_mut()
            .insert(number, (epoch, all.collect()));
        progress.changed.notify_one();
        match &turn {
            Some(turn) => {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = turn.notified() => {}
                }
            }
            None if pause.is_zero() => {}
            None => sleep(pause).await,
        }
    }
}

/// All join a group of the new protocol at once; then one leaves and joins again, a few times.
async fn consumer(broker: String, members: usize, pace: Duration) {
    let mut client = Client::connect(&broker).await;
    client.prepare().await;
    client.await_coordinator("consumer").await;
    let progress = Rc::new(Progress::default());
    let (turn, present) = (Rc::new(Notify::new()), Rc::new(Cell::new(true)));
    let began = Instant::now();
    for number in 0..members {
        let is_last = number + 1 == members;
        let (present, turn) = if is_last {
            (Rc::clone(&present), Some(Rc::clone(&turn)))
        } else {
            (Rc::new(Cell::new(true)), None)
        };
        let progress = Rc::clone(&progress);
        let member = consumer_member(broker.clone(), number, progress, present, turn, pace);
        tokio::task::spawn_local(member);
    }
    // Whether `count` members of one epoch own all partitions, each partition by one and each member its share: right after a
    // member has come, the others may still have everything in an epoch that it is told too.
    let stable = |count: usize| {
        let owned = progress.owned.borrow();
        let epoch = owned.values().next()?.0;
        let mut seen = vec![false; PARTITIONS as usize];
        let once = owned.values().all(|(own, partitions)| {
            let new = |p: &i32| !std::mem::replace(&mut seen[*p as usize], true);
            let is_share = partitions.len() >= PARTITIONS as usize / count;
            *own == epoch && epoch > 0 && is_share && partitions.iter().all(new)
        });
        (owned.len() == count && once && seen.into_iter().all(|seen| seen)).then(Instant::now)
    };
    let at = eventually(&progress, "all members at first", || stable(members)).await;
    report("all_join_to_all_stable_ms", in_milliseconds(at - began));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        present.set(false);
        turn.notify_one();
        eventually(&progress, "one has left", || stable(members - 1)).await;
        sleep(ASSIGNMENT_INTERVAL * 6 / 5).await;
        present.set(true);
        let began = Instant::now();
        turn.notify_one();
        let at = eventually(&progress, "one has joined", || stable(members)).await;
        times.push(at - began);
    }
    report("last_join_to_all_stable_ms", in_milliseconds(median(times)));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| {
        arguments
            .get(index)
            .and_then(|text| text.parse::<u32>().ok())
    };
    let milliseconds = |number| Duration::from_millis(u64::from(number));
    let run = |load: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        LocalSet::new().block_on(&current_thread(), load);
        ExitCode::SUCCESS
    };
    let broker = arguments.first().cloned().unwrap_or_default();
    match (
        arguments.get(1).map(String::as_str),
        number(2),
        number(3),
        number(4),
    ) {
        (Some("commits"), Some(connections), Some(seconds), Some(rate)) => run(Box::pin(commits(
            broker,
            connections,
            u64::from(seconds),
            f64::from(rate),
        ))),
        (Some("offsets"), Some(groups), ..) => run(Box::pin(offsets(broker, groups))),
        (Some("ready"), ..) => run(Box::pin(ready(broker, "offsets-0".to_owned()))),
        (Some("idle"), Some(groups), ..) => run(Box::pin(idle(broker, groups))),
        (Some("classic"), Some(members), Some(pace), _) => run(Box::pin(classic(
            broker,
            members as usize,
            milliseconds(pace),
        ))),
        (Some("consumer"), Some(members), Some(pace), _) => run(Box::pin(consumer(
            broker,
            members as usize,
            milliseconds(pace),
        ))),
        _ => {
            println!(
                "group_load BROKER commits CONNECTIONS SECONDS REQUESTS_PER_S | offsets GROUPS | ready | idle GROUPS | classic MEMBERS PACE_MS | consumer MEMBERS PACE_MS"
            );
            ExitCode::FAILURE
        }
    }
}
