//! Clients of both protocols in one group, with everything that can go wrong: they join, leave, fall silent, lose answers and
//! ask again; the coordinator is lost with what it had not committed; topics change. No partition is ever held by two clients
//! that both know of the newest epoch, and when the noise ends every client has its share. Hard corners 35 and 36.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tidelog_coordinator::group::{Config, Effect, GroupRequest, GroupResponse};
use tidelog_protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, DescribedGroup,
};
use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidelog_protocol::records::consumer_protocol::{ConsumerProtocolAssignment, TopicPartition};
use tidelog_types::{ErrorCode, Str};
use world::{World, subscription};

const GROUP: &str = "g";
const TOPICS: [&str; 2] = ["orders", "users"];
const CLIENTS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A client does the next thing that it has to do.
    Go {
        client: usize,
    },
    /// The same, and the answer is lost.
    GoInVain {
        client: usize,
    },
    Leave {
        client: usize,
    },
    /// A client is gone without a word, and another process takes its place.
    Replace {
        client: usize,
        classic: bool,
    },
    Advance {
        millis: u64,
    },
    /// From now on nothing is committed.
    Hold,
    Commit,
    Reload,
    Topics {
        orders: i32,
        users: i32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    prop_oneof![
        12 => client().prop_map(|client| Step::Go { client }),
        2 => client().prop_map(|client| Step::GoInVain { client }),
        1 => client().prop_map(|client| Step::Leave { client }),
        1 => (client(), any::<bool>()).prop_map(|(client, classic)| Step::Replace { client, classic }),
        2 => (0..4_000_u64).prop_map(|millis| Step::Advance { millis }),
        1 => (10_000..50_000_u64).prop_map(|millis| Step::Advance { millis }),
        1 => Just(Step::Hold),
        2 => Just(Step::Commit),
        1 => Just(Step::Reload),
        1 => (0..5, 0..3).prop_map(|(orders, users)| Step::Topics { orders, users }),
    ]
}

/// What a client with the classic protocol does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Join,
    Sync,
    Heartbeat,
}

#[derive(Debug)]
struct Client {
    classic: bool,
    member_id: Str,
    instance_id: Option<Str>,
    topics: Vec<&'static str>,
    /// The member epoch or the generation; 0 before it has joined.
    epoch: i32,
    stage: Stage,
    /// What the leader of a classic group hands out.
    assignments: Vec<SyncGroupRequestAssignment>,
    owned: BTreeSet<(String, i32)>,
    /// An answer was lost, or was an error.
    missed: bool,
    /// The only request whose answer the client still listens to.
    awaited: Option<u64>,
}

struct Clients {
    world: World,
    clients: Vec<Client>,
    started: usize,
}

impl Clients {
    fn new() -> Self {
        let mut world = World::new(Config {
            group_initial_rebalance_delay_ms: 100,
            ..Config::default()
        });
        world.set_topics(&[("orders", 3), ("users", 1)]);
        let mut all = Self {
            world,
            clients: Vec::new(),
            started: 0,
        };
        for index in 0..CLIENTS {
            let client = all.new_client(index, index % 2 == 1);
            all.clients.push(client);
        }
        all
    }

    fn new_client(&mut self, index: usize, classic: bool) -> Client {
        self.started += 1;
        Client {
            classic,
            // Members with the consumer protocol bring their id.
            member_id: if classic {
                Str::EMPTY
            } else {
                format!("m{}", self.started).into()
            },
            instance_id: (index == 0).then(|| "i0".into()),
            topics: if index == 2 {
                TOPICS[..1].to_vec()
            } else {
                TOPICS.to_vec()
            },
            epoch: 0,
            stage: Stage::Join,
            assignments: Vec::new(),
            owned: BTreeSet::new(),
            missed: false,
            awaited: None,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Go { client } => self.go(*client),
            Step::GoInVain { client } => {
                self.go_unheard(*client);
            }
            Step::Leave { client } => self.leave(*client),
            Step::Replace { client, classic } => {
                self.clients[*client] = self.new_client(*client, *classic);
            }
            Step::Advance { millis } => {
                let happened = self.world.advance(Duration::from_millis(*millis));
                self.learn(happened.into_iter().map(|(_, effect)| effect).collect());
            }
            Step::Hold => self.world.commits_at_once = false,
            Step::Commit => {
                self.world.commits_at_once = true;
                let effects = self.world.commit(self.world.appended);
                self.learn(effects);
            }
            Step::Reload => {
                self.world.commits_at_once = true;
                let effects = self.world.reload();
                self.learn(effects);
            }
            Step::Topics { orders, users } => {
                let topics = [("orders", *orders), ("users", *users)];
                // Topics grow, or go; they never shrink.
                let known = &self.world.cluster.topics;
                let topics: Vec<_> = topics
                    .into_iter()
                    .filter(|(_, n)| *n > 0)
                    .map(|(name, n)| (name, known.get(name).map_or(n, |(_, old)| n.max(*old))))
                    .collect();
                let effects = self.world.set_topics(&topics);
                self.learn(effects);
                self.forget_topics();
            }
        }
        self.check();
    }

    /// Partitions of a topic that is gone are nobody's, and those of the next one of its name are others.
    fn forget_topics(&mut self) {
        let topics = &self.world.cluster.topics;
        for client in &mut self.clients {
            client.owned.retain(|(topic, partition)| {
                topics
                    .get(topic)
                    .is_some_and(|(_, count)| partition < count)
            });
        }
    }

    fn go(&mut self, index: usize) {
        // An answer that has not come is not waited for any longer.
        self.clients[index].missed |= self.clients[index].awaited.is_some();
        let (request_id, effects) = self.send(index);
        self.clients[index].awaited = Some(request_id);
        self.learn(effects);
    }

    fn go_unheard(&mut self, index: usize) {
        let (_, effects) = self.send(index);
        self.clients[index].awaited = None;
        self.clients[index].missed = true;
        self.learn(effects);
    }

    fn send(&mut self, index: usize) -> (u64, Vec<Effect>) {
        if self.clients[index].stage == Stage::Join && self.clients[index].classic {
            // An eager member gives up everything before it joins.
            self.clients[index].owned.clear();
        }
        let (version, request) = self.request(index);
        let effects = self.world.request("client", version, request);
        (self.world.last_request, effects)
    }

    fn request(&self, index: usize) -> (i16, GroupRequest) {
        let client = &self.clients[index];
        let (group_id, member_id) = (GROUP.into(), client.member_id.clone());
        let group_instance_id = client.instance_id.clone();
        if !client.classic {
            // Whoever has missed an answer says everything again, and is told everything again.
            let joins = client.epoch == 0 || client.missed;
            let names = client.topics.iter().map(|name| (*name).into()).collect();
            let request = ConsumerGroupHeartbeatRequest {
                group_id,
                member_id,
                member_epoch: client.epoch,
                instance_id: group_instance_id,
                rebalance_timeout_ms: if joins { 20_000 } else { -1 },
                subscribed_topic_names: joins.then_some(names),
                topic_partitions: Some(self.topic_partitions(&client.owned)),
                ..Default::default()
            };
            return (1, GroupRequest::ConsumerGroupHeartbeat(request));
        }
        match client.stage {
            Stage::Join => (
                9,
                GroupRequest::JoinGroup(JoinGroupRequest {
                    group_id,
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 20_000,
                    member_id,
                    group_instance_id,
                    protocol_type: "consumer".into(),
                    protocols: vec![JoinGroupRequestProtocol {
                        name: "range".into(),
                        metadata: subscription(client.topics.iter().copied()),
                    }],
                    reason: None,
                }),
            ),
            Stage::Sync => (
                5,
                GroupRequest::SyncGroup(SyncGroupRequest {
                    group_id,
                    generation_id: client.epoch,
                    member_id,
                    group_instance_id,
                    protocol_type: Some("consumer".into()),
                    protocol_name: Some("range".into()),
                    assignments: client.assignments.clone(),
                }),
            ),
            Stage::Heartbeat => (
                4,
                GroupRequest::Heartbeat(HeartbeatRequest {
                    group_id,
                    generation_id: client.epoch,
                    member_id,
                    group_instance_id,
                }),
            ),
        }
    }

    fn leave(&mut self, index: usize) {
        let client = &self.clients[index];
        let (version, request) = if client.classic {
            let request = LeaveGroupRequest {
                group_id: GROUP.into(),
                members: vec![MemberIdentity {
                    member_id: client.member_id.clone(),
                    group_instance_id: client.instance_id.clone(),
                    reason: None,
                }],
                ..Default::default()
            };
            (5, GroupRequest::LeaveGroup(request))
        } else {
            let request = ConsumerGroupHeartbeatRequest {
                group_id: GROUP.into(),
                member_id: client.member_id.clone(),
                member_epoch: if client.instance_id.is_some() { -2 } else { -1 },
                instance_id: client.instance_id.clone(),
                ..Default::default()
            };
            (1, GroupRequest::ConsumerGroupHeartbeat(request))
        };
        self.clients[index] = self.new_client(index, self.clients[index].classic);
        let effects = self.world.request("client", version, request);
        self.learn(effects);
    }

    fn topic_partitions(&self, owned: &BTreeSet<(String, i32)>) -> Vec<TopicPartitions> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in owned {
            topics.entry(topic).or_default().push(*partition);
        }
        let topics = topics.into_iter();
        topics
            .map(|(topic, partitions)| TopicPartitions {
                topic_id: self.world.topic_id(topic),
                partitions,
            })
            .collect()
    }

    fn learn(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Reply {
                request_id,
                response,
            } = effect
            else {
                continue;
            };
            let listens = |client: &Client| client.awaited == Some(request_id);
            if let Some(index) = self.clients.iter().position(listens) {
                self.clients[index].awaited = None;
                self.hear(index, &response);
            }
        }
    }

    fn hear(&mut self, index: usize, response: &GroupResponse) {
        match response {
            GroupResponse::ConsumerGroupHeartbeat(response) => self.hear_heartbeat(index, response),
            GroupResponse::JoinGroup(response) => self.hear_join(index, response),
            GroupResponse::SyncGroup(response) if response.error_code == ErrorCode::NONE => {
                let assignment = ConsumerProtocolAssignment::decode_versioned(&response.assignment);
                let topics = assignment
                    .map(|a| a.assigned_partitions)
                    .unwrap_or_default();
                let client = &mut self.clients[index];
                client.stage = Stage::Heartbeat;
                client.owned = topics
                    .iter()
                    .flat_map(|t| t.partitions.iter().map(|p| (t.topic.to_string(), *p)))
                    .collect();
                self.forget_topics();
            }
            GroupResponse::SyncGroup(response) => self.hear_error(index, response.error_code),
            GroupResponse::Heartbeat(response) => self.hear_error(index, response.error_code),
            _ => {}
        }
    }

    fn hear_heartbeat(&mut self, index: usize, response: &ConsumerGroupHeartbeatResponse) {
        let named: Vec<(String, i32)> = response
            .assignment
            .iter()
            .flat_map(|assignment| &assignment.topic_partitions)
            .flat_map(|t| {
                t.partitions
                    .iter()
                    .map(|p| (self.world.topic_name(t.topic_id), *p))
            })
            .collect();
        let client = &mut self.clients[index];
        client.missed = response.error_code != ErrorCode::NONE;
        match response.error_code {
            ErrorCode::NONE => {
                client.epoch = response.member_epoch;
                if response.assignment.is_some() {
                    client.owned = named.into_iter().collect();
                    self.forget_topics();
                }
            }
            code if code.is_retriable() || code == ErrorCode::NOT_COORDINATOR => {}
            _ => {
                client.epoch = 0;
                client.owned.clear();
            }
        }
    }

    fn hear_join(&mut self, index: usize, response: &JoinGroupResponse) {
        let assignments = self.lead(response);
        let client = &mut self.clients[index];
        match response.error_code {
            ErrorCode::NONE => {
                client.member_id = response.member_id.clone();
                client.epoch = response.generation_id;
                client.stage = Stage::Sync;
                client.assignments = assignments;
            }
            ErrorCode::MEMBER_ID_REQUIRED => client.member_id = response.member_id.clone(),
            code => self.hear_error(index, code),
        }
    }

    fn hear_error(&mut self, index: usize, code: ErrorCode) {
        let client = &mut self.clients[index];
        match code {
            ErrorCode::NONE => {}
            ErrorCode::REBALANCE_IN_PROGRESS => client.stage = Stage::Join,
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => {
                client.member_id = Str::EMPTY;
                client.stage = Stage::Join;
                client.owned.clear();
            }
            ErrorCode::ILLEGAL_GENERATION => {
                client.stage = Stage::Join;
                client.owned.clear();
            }
            _ => {}
        }
    }

    /// The leader of a classic group deals out all partitions in turn.
    fn lead(&self, response: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
        let members = &response.members;
        if members.is_empty() || response.skip_assignment {
            return Vec::new();
        }
        let mut dealt: BTreeMap<usize, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        let all = self.world.cluster.topics.iter();
        let all = all.flat_map(|(name, (_, count))| (0..*count).map(move |p| (name.as_str(), p)));
        for (turn, (topic, partition)) in all.enumerate() {
            let to = dealt.entry(turn % members.len()).or_default();
            to.entry(topic).or_default().push(partition);
        }
        let assignment = |index: usize| {
            let topics = dealt.get(&index).cloned().unwrap_or_default().into_iter();
            let assignment = ConsumerProtocolAssignment {
                assigned_partitions: topics
                    .map(|(topic, partitions)| TopicPartition {
                        topic: topic.into(),
                        partitions,
                    })
                    .collect(),
                user_data: None,
            };
            assignment.encode_versioned(0).expect("it can be written")
        };
        let members = members.iter().enumerate();
        members
            .map(|(index, member)| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: assignment(index),
            })
            .collect()
    }

    fn describe(&mut self) -> DescribedGroup {
        let request = GroupRequest::ConsumerGroupDescribe(ConsumerGroupDescribeRequest {
            group_ids: vec![GROUP.into()],
            include_authorized_operations: false,
        });
        let effects = self.world.request("admin", 1, request);
        let request_id = self.world.last_request;
        let mut effects = effects.into_iter();
        effects
            .find_map(|effect| match effect {
                Effect::Reply {
                    request_id: id,
                    response: GroupResponse::ConsumerGroupDescribe(response),
                } if id == request_id => response.groups.into_iter().next(),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// No partition is held by two clients that are both up to date.
    fn check(&mut self) {
        let loaded = self.world.loaded_anew();
        assert_eq!(
            loaded.records(),
            self.world.shard.records(),
            "the log says the same"
        );
        let group = self.describe();
        let newest = self
            .clients
            .iter()
            .filter(|c| c.classic)
            .map(|c| c.epoch)
            .max();
        let mut owners: BTreeMap<&(String, i32), &str> = BTreeMap::new();
        for client in &self.clients {
            let mut members = group.members.iter();
            let is_member = if group.error_code == ErrorCode::NONE {
                members.any(|m| m.member_id == client.member_id && m.member_epoch == client.epoch)
            } else {
                client.classic && Some(client.epoch) == newest
            };
            for partition in client.owned.iter().filter(|_| is_member) {
                let other = owners.insert(partition, &client.member_id);
                assert_eq!(
                    other, None,
                    "{partition:?} is also held by {}",
                    client.member_id
                );
            }
        }
    }

    /// The noise ends: everybody goes on as a client does, and all is well in the end.
    fn settle(&mut self) {
        self.take(&Step::Commit);
        self.take(&Step::Topics {
            orders: 4,
            users: 2,
        });
        for _ in 0..120 {
            for index in 0..CLIENTS {
                // Whoever waits for an answer that takes its time is left waiting.
                if self.clients[index].awaited.is_none() {
                    self.go(index);
                }
            }
            self.take(&Step::Advance { millis: 1_100 });
        }
        let group = self.describe();
        let held: BTreeSet<_> = self
            .clients
            .iter()
            .flat_map(|client| &client.owned)
            .collect();
        assert_eq!(
            held.len(),
            6,
            "everything is held: {:?} {group:?}",
            self.clients
        );
        if group.error_code != ErrorCode::NONE {
            // All of them speak the classic protocol by now.
            return assert!(self.clients.iter().all(|client| client.classic));
        }
        assert_eq!(&*group.group_state, "Stable", "{group:?}");
        let is_in = |client: &Client| client.epoch == group.group_epoch;
        assert!(
            self.clients.iter().all(is_in),
            "{:?} {group:?}",
            self.clients
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_shares_a_partition_and_every_group_settles(steps in prop::collection::vec(step(), 1..120)) {
        let mut clients = Clients::new();
        for step in &steps {
            clients.take(step);
        }
        clients.settle();
        clients.take(&Step::Reload);
        prop_assert!(clients.world.open.is_empty());
    }
}
