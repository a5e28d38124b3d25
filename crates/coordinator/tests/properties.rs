//! Random clients, a log that commits when it likes, and a coordinator that moves. After every input `check()` asserts the
//! invariants; the rest is asserted here and in `world`.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use tidelog_coordinator::group::{
    Config, DeletedTopic, Effect, GroupRecord, GroupRequest, GroupResponse, Input,
};
use tidelog_protocol::messages::delete_groups::DeleteGroupsRequest;
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidelog_types::{ErrorCode, Offset, Str, TopicId};

use world::{World, subscription};

#[derive(Clone, Debug)]
enum Step {
    Join {
        group: usize,
        member: Option<Index>,
        instance: usize,
        version: i16,
        protocols: usize,
    },
    Sync {
        group: usize,
        member: Index,
        with_instance: bool,
        stale: bool,
    },
    /// Everybody who has ever been a member joins and asks for an assignment.
    Settle {
        group: usize,
        commits: bool,
    },
    Heartbeat {
        group: usize,
        member: Index,
    },
    Leave {
        group: usize,
        member: Index,
        instance: usize,
    },
    Commit {
        group: usize,
        member: Option<Index>,
        partition: i32,
    },
    Fetch {
        group: usize,
        require_stable: bool,
    },
    DeleteOffsets {
        group: usize,
    },
    DeleteGroups,
    DeleteTopic,
    Commits {
        how_many: Index,
    },
    Advance {
        millis: u64,
    },
    Reload,
}

const GROUPS: [&str; 2] = ["g", "h"];
const INSTANCES: [Option<&str>; 4] = [None, None, Some("x"), Some("y")];
const PROTOCOLS: [&[&str]; 4] = [
    &["range"],
    &["range", "sticky"],
    &["sticky", "range"],
    &["sticky"],
];

fn step() -> impl Strategy<Value = Step> {
    let group = 0..GROUPS.len();
    let member = any::<Index>();
    prop_oneof![
        8 => (group.clone(), prop::option::of(member.clone()), 0..INSTANCES.len(), 3..=9_i16, 0..PROTOCOLS.len())
            .prop_map(|(group, member, instance, version, protocols)| {
                Step::Join { group, member, instance, version, protocols }
            }),
        8 => (group.clone(), member.clone(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(group, member, with_instance, stale)| Step::Sync { group, member, with_instance, stale }
        ),
        4 => (group.clone(), any::<bool>())
            .prop_map(|(group, commits)| Step::Settle { group, commits }),
        2 => (group.clone(), member.clone())
            .prop_map(|(group, member)| Step::Heartbeat { group, member }),
        1 => (group.clone(), member.clone(), 0..INSTANCES.len())
            .prop_map(|(group, member, instance)| Step::Leave { group, member, instance }),
        4 => (group.clone(), prop::option::of(member), 0..3)
            .prop_map(|(group, member, partition)| Step::Commit { group, member, partition }),
        2 => (group.clone(), any::<bool>())
            .prop_map(|(group, require_stable)| Step::Fetch { group, require_stable }),
        1 => group.prop_map(|group| Step::DeleteOffsets { group }),
        1 => Just(Step::DeleteGroups),
        1 => Just(Step::DeleteTopic),
        6 => any::<Index>().prop_map(|how_many| Step::Commits { how_many }),
        6 => prop_oneof![Just(0), 1..4_000_u64, 4_000..40_000_u64]
            .prop_map(|millis| Step::Advance { millis }),
        1 => Just(Step::Reload),
    ]
}

/// What the clients know.
struct Clients {
    world: World,
    /// The member ids that were ever given out, by group.
    members: BTreeMap<&'static str, Vec<Str>>,
    /// The newest generation that was told, by group.
    generations: BTreeMap<&'static str, i32>,
    /// Of every request for a group, which one.
    groups: BTreeMap<u64, &'static str>,
    /// The offset of every commit; no two are alike.
    offsets: BTreeMap<u64, i64>,
}

impl Clients {
    fn new() -> Self {
        let config = Config {
            group_initial_rebalance_delay_ms: 1_000,
            group_max_size: 4,
            offsets_retention_ms: 60_000,
            offsets_retention_check_interval_ms: 20_000,
            append_bytes_max: 700,
            ..Config::default()
        };
        let mut world = World::new(config);
        world.commits_at_once = false;
        Self {
            world,
            members: BTreeMap::new(),
            generations: BTreeMap::new(),
            groups: BTreeMap::new(),
            offsets: BTreeMap::new(),
        }
    }

    fn member(&self, group: &str, index: Index) -> Str {
        match self.members.get(group) {
            Some(members) if !members.is_empty() => index.get(members).clone(),
            _ => "nobody".into(),
        }
    }

    fn generation(&self, group: &str) -> i32 {
        self.generations.get(group).copied().unwrap_or(1)
    }

    fn send(&mut self, group: &'static str, version: i16, request: GroupRequest) -> Vec<Effect> {
        self.groups.insert(self.world.last_request + 1, group);
        self.world.request("c", version, request)
    }

    fn join(
        &mut self,
        group: &'static str,
        member_id: Str,
        instance: Option<&str>,
        version: i16,
        protocols: &[&str],
    ) -> Vec<Effect> {
        let protocols = protocols.iter().map(|name| JoinGroupRequestProtocol {
            name: (*name).into(),
            metadata: subscription(["t"]),
        });
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 15_000,
            member_id,
            group_instance_id: instance.map(Str::from),
            protocol_type: "consumer".into(),
            protocols: protocols.collect(),
            reason: None,
        };
        self.send(group, version, GroupRequest::JoinGroup(request))
    }

    fn sync(
        &mut self,
        group: &'static str,
        member_id: Str,
        with_instance: bool,
        generation_id: i32,
    ) -> Vec<Effect> {
        let members = self.members.get(group).cloned().unwrap_or_default();
        let instance = member_id.split('-').next().filter(|name| *name != "c");
        let request = SyncGroupRequest {
            group_id: group.into(),
            generation_id,
            group_instance_id: instance.filter(|_| with_instance).map(Str::from),
            assignments: members
                .into_iter()
                .map(|member_id| SyncGroupRequestAssignment {
                    assignment: Bytes::copy_from_slice(member_id.as_bytes()),
                    member_id,
                })
                .collect(),
            member_id,
            ..Default::default()
        };
        self.send(group, 4, GroupRequest::SyncGroup(request))
    }

    fn take(&mut self, step: &Step) {
        let effects = match step {
            Step::Join {
                group,
                member,
                instance,
                version,
                protocols,
            } => {
                let group = GROUPS[*group];
                let member_id = member
                    .map(|index| self.member(group, index))
                    .unwrap_or_default();
                self.join(
                    group,
                    member_id,
                    INSTANCES[*instance],
                    *version,
                    PROTOCOLS[*protocols],
                )
            }
            Step::Sync {
                group,
                member,
                with_instance,
                stale,
            } => {
                let group = GROUPS[*group];
                let member_id = self.member(group, *member);
                let generation_id = self.generation(group) - i32::from(*stale);
                self.sync(group, member_id, *with_instance, generation_id)
            }
            Step::Settle { group, commits } => {
                let group = GROUPS[*group];
                let member_ids = self.members.get(group).cloned().unwrap_or_default();
                for member_id in &member_ids {
                    let effects = self.join(group, member_id.clone(), None, 9, PROTOCOLS[1]);
                    self.learn(&effects);
                }
                self.take(&Step::Advance { millis: 2_000 });
                for member_id in &member_ids {
                    let generation_id = self.generation(group);
                    let effects = self.sync(group, member_id.clone(), false, generation_id);
                    self.learn(&effects);
                }
                if *commits {
                    self.world.commit(self.world.appended)
                } else {
                    Vec::new()
                }
            }
            Step::Heartbeat { group, member } => {
                let group = GROUPS[*group];
                let request = HeartbeatRequest {
                    group_id: group.into(),
                    generation_id: self.generation(group),
                    member_id: self.member(group, *member),
                    group_instance_id: None,
                };
                self.send(group, 4, GroupRequest::Heartbeat(request))
            }
            Step::Leave {
                group,
                member,
                instance,
            } => {
                let group = GROUPS[*group];
                let members = vec![
                    MemberIdentity {
                        member_id: self.member(group, *member),
                        ..Default::default()
                    },
                    MemberIdentity {
                        group_instance_id: INSTANCES[*instance].map(Str::from),
                        ..Default::default()
                    },
                ];
                let request = LeaveGroupRequest {
                    group_id: group.into(),
                    members,
                    ..Default::default()
                };
                self.send(group, 5, GroupRequest::LeaveGroup(request))
            }
            Step::Commit {
                group,
                member,
                partition,
            } => {
                let group = GROUPS[*group];
                let offset = i64::try_from(self.world.last_request).expect("few requests");
                self.offsets.insert(self.world.last_request + 1, offset);
                let member_id = member.map(|index| self.member(group, index));
                let generation_id = member_id.as_ref().map_or(-1, |_| self.generation(group));
                let request = OffsetCommitRequest {
                    group_id: group.into(),
                    generation_id_or_member_epoch: generation_id,
                    member_id: member_id.unwrap_or_default(),
                    topics: vec![OffsetCommitRequestTopic {
                        name: "t".into(),
                        partitions: vec![OffsetCommitRequestPartition {
                            partition_index: *partition,
                            committed_offset: Offset::new(offset),
                            ..Default::default()
                        }],
                        ..Default::default()
                    }],
                    ..Default::default()
                };
                self.send(group, 9, GroupRequest::OffsetCommit(request))
            }
            Step::Fetch {
                group,
                require_stable,
            } => {
                let group = GROUPS[*group];
                let request = OffsetFetchRequestGroup {
                    group_id: group.into(),
                    ..Default::default()
                };
                let require_stable = *require_stable;
                self.send(
                    group,
                    9,
                    GroupRequest::OffsetFetch {
                        group: request,
                        require_stable,
                    },
                )
            }
            Step::DeleteOffsets { group } => {
                let group = GROUPS[*group];
                let partitions =
                    (0..3).map(|partition_index| OffsetDeleteRequestPartition { partition_index });
                let topic = OffsetDeleteRequestTopic {
                    name: "t".into(),
                    partitions: partitions.collect(),
                };
                let request = OffsetDeleteRequest {
                    group_id: group.into(),
                    topics: vec![topic],
                };
                self.send(group, 0, GroupRequest::OffsetDelete(request))
            }
            Step::DeleteGroups => {
                let groups_names = GROUPS.iter().map(|&group| group.into()).collect();
                let request = DeleteGroupsRequest { groups_names };
                self.world
                    .request("admin", 2, GroupRequest::DeleteGroups(request))
            }
            Step::DeleteTopic => {
                let topics = vec![DeletedTopic {
                    name: "t".into(),
                    topic_id: TopicId::ZERO,
                }];
                self.world.handle(Input::TopicsDeleted { topics })
            }
            Step::Commits { how_many } => {
                let appended = usize::try_from(self.world.appended).expect("few appends");
                let append_id = how_many.index(appended + 1) as u64;
                self.world.commit(append_id)
            }
            Step::Advance { millis } => {
                let happened = self.world.advance(Duration::from_millis(*millis));
                happened.into_iter().map(|(_, effect)| effect).collect()
            }
            Step::Reload => {
                self.generations.clear();
                self.world.reload()
            }
        };
        self.learn(&effects);
    }

    fn learn(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Append { records, .. } => {
                    for record in records {
                        if let GroupRecord::GroupMetadata {
                            group_id,
                            value: None,
                        } = record
                        {
                            self.generations.remove(&**group_id);
                        }
                    }
                }
                Effect::ResolveRegexes { .. } | Effect::Report { .. } => {}
                Effect::Reply {
                    request_id,
                    response,
                } => {
                    self.learn_response(*request_id, response);
                }
            }
        }
    }

    fn learn_response(&mut self, request_id: u64, response: &GroupResponse) {
        match response {
            GroupResponse::JoinGroup(response) => {
                let group = self.groups[&request_id];
                if response.error_code == ErrorCode::NONE {
                    let known = self.generations.entry(group).or_insert(1);
                    assert!(
                        response.generation_id >= *known,
                        "the generation of {group} falls"
                    );
                    *known = response.generation_id;
                    assert!(response.protocol_name.is_some());
                    if !response.members.is_empty() && response.leader == response.member_id {
                        let mut ids = response.members.iter().map(|member| &member.member_id);
                        assert!(
                            ids.any(|id| *id == response.leader),
                            "the leader is a member"
                        );
                    }
                }
                let has_id = matches!(
                    response.error_code,
                    ErrorCode::NONE | ErrorCode::MEMBER_ID_REQUIRED
                );
                let members = self.members.entry(group).or_default();
                if has_id && !members.contains(&response.member_id) {
                    members.push(response.member_id.clone());
                }
            }
            GroupResponse::SyncGroup(response) if response.error_code == ErrorCode::NONE => {
                // Hard corner 34: whoever knows an assignment knows a committed one.
                let group = self.groups[&request_id];
                let is_committed = response.assignment.is_empty()
                    || self.committed().any(|record| match record {
                        GroupRecord::GroupMetadata {
                            group_id,
                            value: Some(value),
                        } => {
                            let mut members = value.members.iter();
                            group_id == *group
                                && members.any(|member| member.assignment == response.assignment)
                        }
                        _ => false,
                    });
                assert!(is_committed, "an assignment is told before it is committed");
            }
            GroupResponse::OffsetCommit(response) => {
                let offset = self.offsets[&request_id];
                if response.topics[0].partitions[0].error_code == ErrorCode::NONE {
                    self.assert_committed(offset);
                }
            }
            GroupResponse::OffsetFetch(response) => {
                for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                    self.assert_committed(partition.committed_offset.value());
                }
            }
            _ => {}
        }
    }

    fn assert_committed(&self, offset: i64) {
        let is_committed = self.committed().any(|record| match record {
            GroupRecord::OffsetCommit {
                value: Some(value), ..
            } => value.offset.value() == offset,
            _ => false,
        });
        assert!(
            is_committed,
            "offset {offset} is told before it is committed"
        );
    }

    fn committed(&self) -> impl Iterator<Item = GroupRecord> + '_ {
        self.world.log[..self.world.committed]
            .iter()
            .map(|(key, value)| {
                let record = GroupRecord::decode(key, value.as_ref()).expect("it was written so");
                record.expect("it is of a known kind")
            })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Hard corners 30 to 34 in one: whatever clients and the log do, every request is answered once, nothing is told before it
    /// is committed, generations rise, and the log says the same as the shard.
    #[test]
    fn invariants_hold(steps in prop::collection::vec(step(), 1..120)) {
        let mut clients = Clients::new();
        for step in &steps {
            clients.take(step);
            let loaded = clients.world.loaded_anew();
            prop_assert_eq!(loaded.records(), clients.world.shard.records());
        }
        // The end: whatever is parked is answered.
        clients.take(&Step::Reload);
        prop_assert!(clients.world.open.is_empty());
    }
}
