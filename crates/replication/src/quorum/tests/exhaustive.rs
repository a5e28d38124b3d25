//! Everything that can happen to three voters, in every order: elections, votes, fetches and answers that arrive or do not,
//! flushes, power failures. Breadth first, so that a way to something wrong is the shortest one.
//!
//! Time stands still, and an election begins whenever the model says so, with the question beforehand reaching one of the
//! others. What is stored is stored at once, unless the power fails before. A request arrives at any time later, or never; the
//! answer at once, or never. One record goes with a fetch.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidelog_types::{LeaderEpoch, NodeId, Now, Offset, Timestamp, Uuid};

use super::super::message::{Fetched, Request, Response};
use super::super::role::{Phase, Votes};
use super::super::{
    Appended, Config, Effect, EpochStart, Input, Quorum, QuorumState, ReplicaKey, Restored, Role,
    VersionRange, Voter, VoterSet,
};
use super::Planted;

/// A record: its epoch, and which one of the epoch's.
type Record = (i32, i64);

const VOTERS: usize = 3;

/// How much of what may happen.
#[derive(Clone, Copy)]
struct Bounds {
    elections: usize,
    crashes: usize,
    writes: usize,
}

#[derive(Clone)]
struct Node {
    quorum: Quorum,
    log: Vec<Record>,
    flushed: usize,
    stored: Option<QuorumState>,
}

#[derive(Clone)]
struct Message {
    from: usize,
    to: usize,
    request_id: u64,
    request: Request,
}

#[derive(Clone)]
struct State {
    nodes: Vec<Rc<Node>>,
    messages: Vec<Message>,
    /// That to the request which is being delivered, and the records that go with it.
    answer: Option<(Response, Vec<Record>)>,
    leaders: BTreeMap<i32, usize>,
    committed: Vec<Record>,
    elections: usize,
    crashes: usize,
    writes: usize,
    planted: Option<Planted>,
    violation: Option<String>,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// One voter asks another whether it would vote for it.
    Elect(usize, usize),
    /// A request, and whether its answer arrives.
    Deliver(usize, bool),
    /// The power fails when all is done but what takes the disk its time.
    DeliverAndCrash(usize),
    Flush(usize),
    Crash(usize),
    Write(usize),
}

fn key(node: usize) -> ReplicaKey {
    ReplicaKey {
        id: NodeId::new(node as i32),
        directory_id: Uuid::ZERO,
    }
}

fn config(node: usize) -> Config {
    let voter = |node| Voter {
        key: key(node),
        endpoints: Vec::new(),
        kraft_versions: VersionRange { min: 0, max: 1 },
    };
    let voters = VoterSet::new((0..VOTERS).map(voter).collect());
    let never = Duration::from_hours(24);
    Config {
        election_timeout: never,
        fetch_timeout: never,
        request_timeout: never,
        retry_backoff: Duration::ZERO,
        fetch_max_wait: Duration::ZERO,
        ..Config::new(key(node), voters, 1)
    }
}

fn restored(log: &[Record], stored: Option<QuorumState>) -> Restored {
    let epochs = (0..).zip(log).map(|(offset, (epoch, _))| EpochStart {
        leader_epoch: LeaderEpoch::new(*epoch),
        start_offset: Offset::new(offset),
    });
    Restored {
        quorum_state: stored,
        log_end_offset: Offset::new(log.len() as i64),
        durable_end_offset: Offset::new(log.len() as i64),
        epochs: epochs.collect(),
        ..Restored::default()
    }
}

struct Model {
    now: Now,
    bounds: Bounds,
}

impl Model {
    fn node(
        &self,
        id: usize,
        log: Vec<Record>,
        stored: Option<QuorumState>,
        planted: Option<Planted>,
    ) -> Node {
        let mut quorum = Quorum::new(self.now, config(id), restored(&log, stored));
        quorum.planted = planted;
        Node {
            quorum,
            flushed: log.len(),
            log,
            stored,
        }
    }

    /// The voters with these logs, all flushed.
    fn first(&self, logs: [&[Record]; VOTERS], epoch: i32, planted: Option<Planted>) -> State {
        let stored = QuorumState {
            leader_epoch: LeaderEpoch::new(epoch),
            ..QuorumState::NOTHING
        };
        let node = |id: usize| self.node(id, logs[id].to_vec(), Some(stored), planted);
        let nodes = (0..VOTERS).map(|id| Rc::new(node(id)));
        State {
            nodes: nodes.collect(),
            messages: Vec::new(),
            answer: None,
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            elections: 0,
            crashes: 0,
            writes: 0,
            planted,
            violation: None,
        }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        for message in 0..state.messages.len() {
            actions.push(Action::Deliver(message, true));
            if matches!(state.messages[message].request, Request::Vote(_)) {
                actions.push(Action::Deliver(message, false));
                if state.crashes < self.bounds.crashes {
                    actions.push(Action::DeliverAndCrash(message));
                }
            }
        }
        for (id, node) in state.nodes.iter().enumerate() {
            let role = node.quorum.role();
            let is_waiting = matches!(
                role,
                Role::Unattached(_) | Role::Follower(_) | Role::Resigned(_)
            );
            // Before anything has happened to them one voter is as good as another, and so is whom it asks; or else the
            // logs leave only this.
            if state.elections == 0 && id > 0 {
                continue;
            }
            if is_waiting && state.elections == 0 {
                actions.push(Action::Elect(0, VOTERS - 1));
            } else if is_waiting && state.elections < self.bounds.elections {
                actions.push(Action::Elect(id, (id + 1) % VOTERS));
                actions.push(Action::Elect(id, (id + 2) % VOTERS));
            }
            if node.flushed < node.log.len() {
                actions.push(Action::Flush(id));
            }
            if state.crashes < self.bounds.crashes && state.elections > 0 {
                actions.push(Action::Crash(id));
            }
            let is_leading = matches!(node.quorum.role(), Role::Leader(l) if l.is_leading());
            if is_leading && state.writes < self.bounds.writes {
                actions.push(Action::Write(id));
            }
        }
        actions
    }

    fn after(&self, state: &State, action: Action) -> State {
        let mut state = state.clone();
        match action {
            Action::Elect(node, asked) => {
                state.elections += 1;
                let now = self.now.instant;
                match &mut state.node(node).quorum.role {
                    Role::Unattached(unattached) => unattached.election_at = now,
                    Role::Follower(follower) => follower.fetch_until = now,
                    Role::Resigned(resigned) => resigned.election_at = now,
                    _ => {}
                }
                let before = state.messages.len();
                self.handle(&mut state, node, Input::Timeout, &[], true);
                for question in state.messages.split_off(before) {
                    if question.to == asked {
                        self.deliver(&mut state, question, true, true);
                    }
                }
            }
            Action::Deliver(message, answered) => {
                let message = state.messages.remove(message);
                self.deliver(&mut state, message, true, answered);
            }
            Action::DeliverAndCrash(message) => {
                let message = state.messages.remove(message);
                let node = message.to;
                self.deliver(&mut state, message, false, true);
                self.crash(&mut state, node);
            }
            Action::Flush(node) => self.flush(&mut state, node),
            Action::Crash(node) => self.crash(&mut state, node),
            Action::Write(node) => {
                state.writes += 1;
                let epoch = state.nodes[node].quorum.leader_epoch().value();
                let record = (epoch, state.writes as i64);
                let appended = append(state.node(node), &[record]);
                self.handle(&mut state, node, appended, &[], true);
            }
        }
        state
    }

    fn crash(&self, state: &mut State, node: usize) {
        state.crashes += 1;
        for message in &mut state.messages {
            if message.from == node {
                message.request_id = u64::MAX; // Nobody awaits the answer.
            }
        }
        let mut log = state.nodes[node].log.clone();
        log.truncate(state.nodes[node].flushed);
        let stored = state.nodes[node].stored;
        state.nodes[node] = Rc::new(self.node(node, log, stored, state.planted));
    }

    fn deliver(&self, state: &mut State, message: Message, stores: bool, answered: bool) {
        let Message {
            from,
            to,
            request_id,
            request,
        } = message;
        let input = Input::Request {
            request_id: 0,
            request,
        };
        state.answer = None;
        self.handle(state, to, input, &[], stores);
        if let Some((response, records)) = state.answer.take().filter(|_| answered) {
            let input = Input::Response {
                request_id,
                response,
            };
            self.handle(state, from, input, &records, true);
        }
    }

    fn handle(&self, state: &mut State, id: usize, input: Input, records: &[Record], stores: bool) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            state.node(id).quorum.handle(self.now, input, &mut effects);
            for effect in effects {
                let has_committed = state.nodes[id].log.starts_with(&state.committed);
                let node = Rc::make_mut(&mut state.nodes[id]);
                match effect {
                    Effect::StoreQuorumState(stored) if stores => {
                        node.stored = Some(stored);
                        inputs.push_back(Input::QuorumStateStored(stored));
                    }
                    Effect::AppendLeaderChange(change) => {
                        if !has_committed {
                            state.violation = Some(format!("leader {id} lacks committed records"));
                        }
                        let appended = append(node, &[(change.leader_epoch.value(), 0)]);
                        inputs.push_front(appended);
                    }
                    Effect::AppendFetched { .. } => inputs.push_front(append(node, records)),
                    Effect::Truncate { end } => {
                        node.log.truncate(end.value() as usize);
                        node.flushed = node.flushed.min(node.log.len());
                        inputs.push_front(Input::Truncated { end });
                    }
                    Effect::PublishHighWatermark(end) => state.publish(id, end.value() as usize),
                    Effect::Send {
                        request_id,
                        to,
                        request,
                    } => {
                        let to = to.node_id.expect("voters are known").value() as usize;
                        // Elections begin when the model says so, not when somebody resigns; and whoever has no leader
                        // learns nothing by asking anybody that a vote would not bring.
                        let follows = matches!(node.quorum.role(), Role::Follower(_));
                        let is_of_use = match request {
                            Request::Fetch(_) => follows,
                            Request::EndQuorumEpoch(_) => false,
                            _ => true,
                        };
                        if is_of_use {
                            let from = id;
                            let request = without_high_watermark(request);
                            state.messages.push(Message {
                                from,
                                to,
                                request_id,
                                request,
                            });
                        }
                    }
                    Effect::Answer { response, .. } => state.answered(id, response),
                    Effect::Report(anomaly) => state.violation = Some(format!("{anomaly:?}")),
                    _ => {}
                }
            }
        }
        state.check(id);
        let node = &state.nodes[id];
        if self.bounds.crashes == 0 && node.flushed < node.log.len() {
            // Without power failures it makes no difference when.
            self.flush(state, id);
        }
    }

    fn flush(&self, state: &mut State, id: usize) {
        let node = state.node(id);
        node.flushed = node.log.len();
        let end = Offset::new(node.flushed as i64);
        self.handle(state, id, Input::Flushed { end }, &[], true);
    }
}

/// Nobody waits for a high watermark here, so it makes no difference.
fn without_high_watermark(mut request: Request) -> Request {
    if let Request::Fetch(fetch) = &mut request {
        fetch.high_watermark = Offset::ZERO;
    }
    request
}

fn append(node: &mut Node, records: &[Record]) -> Input {
    let epochs = (node.log.len() as i64..)
        .zip(records)
        .map(|(offset, (epoch, _))| EpochStart {
            leader_epoch: LeaderEpoch::new(*epoch),
            start_offset: Offset::new(offset),
        });
    let epochs = epochs.collect();
    node.log.extend(records);
    Input::Appended(Appended {
        end: Offset::new(node.log.len() as i64),
        epochs,
        control_records: Vec::new(),
    })
}

impl State {
    fn node(&mut self, id: usize) -> &mut Node {
        Rc::make_mut(&mut self.nodes[id])
    }

    fn answered(&mut self, node: usize, mut response: Response) {
        let mut records = Vec::new();
        if let Response::Fetch(fetch) = &mut response
            && let Fetched::Records { from, to } = &mut fetch.fetched
            && from < to
        {
            records.push(self.nodes[node].log[from.value() as usize]);
            *to = from.next();
        }
        self.answer = Some((response, records));
    }

    fn publish(&mut self, node: usize, end: usize) {
        let committed = &self.nodes[node].log[..end.min(self.nodes[node].log.len())];
        let both = committed.len().min(self.committed.len());
        if committed[..both] != self.committed[..both] {
            self.violation = Some(format!("node {node} has other records for committed"));
        }
        self.committed.extend(&committed[both..]);
    }

    fn check(&mut self, node: usize) {
        let quorum = &self.nodes[node].quorum;
        quorum.check();
        if quorum.is_leader() {
            let epoch = quorum.leader_epoch().value();
            let first = *self.leaders.entry(epoch).or_insert(node);
            if first != node {
                self.violation = Some(format!("{first} and {node} lead in epoch {epoch}"));
            }
        }
    }

    /// All that matters, without times, and without the numbers of requests.
    fn key(&self) -> Vec<i32> {
        let mut key = Vec::with_capacity(128);
        for node in &self.nodes {
            node.key(&mut key);
        }
        let mut messages: Vec<Vec<i32>> =
            self.messages.iter().map(|m| self.message_key(m)).collect();
        messages.sort_unstable();
        key.extend(messages.into_iter().flatten());
        key.push(END);
        key.extend(
            self.leaders
                .iter()
                .flat_map(|(epoch, node)| [*epoch, *node as i32]),
        );
        key.push(END);
        key.extend(
            self.committed
                .iter()
                .flat_map(|(epoch, n)| [*epoch, *n as i32]),
        );
        key.extend([
            END,
            self.elections as i32,
            self.crashes as i32,
            self.writes as i32,
        ]);
        key
    }

    fn message_key(&self, message: &Message) -> Vec<i32> {
        let awaits = self.nodes[message.from]
            .quorum
            .connections
            .awaits(message.request_id);
        let mut key = vec![message.from as i32, message.to as i32, i32::from(awaits)];
        match &message.request {
            Request::Vote(vote) => key.extend([
                1,
                vote.replica_epoch.value(),
                vote.last_offset_epoch.value(),
                vote.last_offset.value() as i32,
            ]),
            Request::Fetch(fetch) => key.extend([
                2,
                fetch.current_leader_epoch.value(),
                fetch.last_fetched_epoch.value(),
                fetch.fetch_offset.value() as i32,
            ]),
            Request::BeginQuorumEpoch(begin) => key.extend([3, begin.leader_epoch.value()]),
            other => unreachable!("nobody sends {other:?}"),
        }
        key
    }

    /// Of requests whose answer nobody awaits, only votes are of interest.
    fn forget(&mut self) {
        let nodes = &self.nodes;
        self.messages.retain(|message| {
            let connections = &nodes[message.from].quorum.connections;
            matches!(message.request, Request::Vote(_)) || connections.awaits(message.request_id)
        });
    }
}

/// Parts two lists.
const END: i32 = i32::MIN;

impl Node {
    fn key(&self, key: &mut Vec<i32>) {
        fn state(key: &mut Vec<i32>, state: QuorumState) {
            let id = |id: Option<NodeId>| id.map_or(-1, NodeId::value);
            key.extend([
                state.leader_epoch.value(),
                id(state.leader_id),
                id(state.voted.map(|key| key.id)),
            ]);
        }
        key.extend(self.log.iter().flat_map(|(epoch, n)| [*epoch, *n as i32]));
        key.extend([END, self.flushed as i32]);
        state(key, self.stored.unwrap_or(QuorumState::NOTHING));
        state(key, self.quorum.quorum_state());
        key.push(self.quorum.high_watermark().value() as i32);
        let votes = |votes: &Votes| {
            let votes = (0..VOTERS as i32)
                .map(NodeId::new)
                .map(|id| i32::from(votes.has(id)) + i32::from(votes.granted.contains(&id)));
            votes.collect::<Vec<i32>>()
        };
        match self.quorum.role() {
            Role::Unattached(_) => key.push(1),
            Role::Prospective(prospective) => {
                let leader = prospective.leader.as_ref().map_or(-1, |(id, _)| id.value());
                key.extend([2, leader]);
                key.extend(votes(&prospective.votes));
            }
            Role::Candidate(candidate) => {
                key.push(3);
                key.extend(votes(&candidate.votes));
            }
            Role::Leader(leader) => {
                key.extend([4, i32::from(leader.is_leading())]);
                key.extend([i32::from(leader.phase != Phase::Storing)]);
                let end = |id| leader.progress(&self::key(id)).and_then(|p| p.end);
                let ends = (0..VOTERS).map(|id| end(id).map_or(-1, |end| end.value() as i32));
                key.extend(ends);
            }
            Role::Follower(follower) => {
                let high_watermark = follower.leader_high_watermark.unwrap_or(Offset::NONE);
                key.extend([
                    5,
                    i32::from(follower.has_fetched),
                    high_watermark.value() as i32,
                ]);
            }
            Role::Resigned(_) => key.push(6),
        }
    }
}

/// Looks at all that follows from `first`; gives how many states there are, and the shortest way to something wrong.
fn explore(model: &Model, first: State) -> (usize, Option<String>) {
    let mut seen = HashSet::from([first.key()]);
    // Each state, with the action that led there and the state before.
    let mut ways: Vec<(Option<Action>, usize)> = vec![(None, 0)];
    let mut next = VecDeque::from([(first, 0)]);
    while let Some((state, at)) = next.pop_front() {
        for action in model.actions(&state) {
            let mut after = model.after(&state, action);
            after.forget();
            if let Some(violation) = &after.violation {
                let mut way = vec![action];
                let mut from = at;
                while let (Some(action), before) = ways[from] {
                    way.push(action);
                    from = before;
                }
                way.reverse();
                return (seen.len(), Some(format!("{violation}, by {way:?}")));
            }
            if seen.insert(after.key()) {
                ways.push((Some(action), at));
                next.push_back((after, ways.len() - 1));
            }
        }
    }
    (seen.len(), None)
}

fn model(bounds: Bounds) -> Model {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can only be had from the clock"
    )]
    let instant = Instant::now();
    let timestamp = Timestamp::from_millis(0);
    Model {
        now: Now { instant, timestamp },
        bounds,
    }
}

/// The situation of figure 8 of the Raft paper: a record of epoch 1 on one voter, one of epoch 2 on another.
const FIGURE_8: [&[Record]; VOTERS] = [&[(1, 0)], &[(2, 0)], &[]];

const EMPTY: [&[Record]; VOTERS] = [&[]; VOTERS];

fn explore_from(
    logs: [&[Record]; VOTERS],
    epoch: i32,
    bounds: Bounds,
    planted: Option<Planted>,
) -> (usize, Option<String>) {
    let model = model(bounds);
    explore(&model, model.first(logs, epoch, planted))
}

const fn bounds(elections: usize, crashes: usize, writes: usize) -> Bounds {
    Bounds {
        elections,
        crashes,
        writes,
    }
}

#[test]
fn one_election_one_crash_one_record() {
    let (states, wrong) = explore_from(EMPTY, 0, bounds(1, 1, 1), None);
    assert_eq!(wrong, None);
    assert!(states > 1000, "all of {states} states");
}

#[test]
fn two_elections() {
    let (states, wrong) = explore_from(EMPTY, 0, bounds(2, 0, 0), None);
    assert_eq!(wrong, None);
    assert!(states > 1000, "all of {states} states");
}

#[test]
fn two_elections_after_two_that_left_records() {
    let (states, wrong) = explore_from(FIGURE_8, 2, bounds(2, 0, 0), None);
    assert_eq!(wrong, None);
    assert!(states > 1000, "all of {states} states");
}

#[test]
#[ignore = "takes minutes, in release"]
fn two_elections_one_crash() {
    for (logs, epoch) in [(EMPTY, 0), (FIGURE_8, 2)] {
        let (_, wrong) = explore_from(logs, epoch, bounds(2, 1, 0), None);
        assert_eq!(wrong, None);
    }
    for planted in [Planted::CountsUnflushed, Planted::FetchesUnflushed] {
        let (_, wrong) = explore_from(EMPTY, 0, bounds(2, 1, 0), Some(planted));
        assert!(wrong.is_some(), "{planted:?}");
    }
}

#[test]
fn planted_defects_are_found_by_the_shortest_way() {
    for (planted, logs, epoch, bounds) in [
        (Planted::AnswersBeforeStoring, EMPTY, 0, bounds(2, 1, 0)),
        (Planted::CommitsEarlierEpochs, FIGURE_8, 2, bounds(2, 1, 0)),
        (Planted::VotesForShorterLogs, EMPTY, 0, bounds(2, 0, 0)),
    ] {
        let (_, wrong) = explore_from(logs, epoch, bounds, Some(planted));
        assert!(wrong.is_some(), "{planted:?}");
    }
}
