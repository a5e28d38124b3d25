//! The controller under random requests: whatever they are, the log tells all of it, and each is answered once.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use tidelog_metadata::bootstrap::MetadataVersion;
use tidelog_metadata::controller::{
    BrokerEpoch, ControllerRequest, ControllerResponse, Effect, Input, Limits,
};
use tidelog_metadata::image::Image;
use tidelog_protocol::messages::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, DirectoryData, PartitionData, TopicData,
};
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use tidelog_protocol::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use tidelog_protocol::messages::{alter_configs, incremental_alter_configs};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{NodeId, Uuid};

use crate::world::{World, registration, response};

const NAMES: [&str; 8] = [
    "a",
    "b",
    "c.d",
    "c_d",
    "c.e",
    "",
    "bad name",
    "__consumer_offsets",
];
const CONFIGS: [(&str, &str); 6] = [
    ("retention.ms", "1000"),
    ("retention.ms", "-5"),
    ("cleanup.policy", "compact"),
    ("unclean.leader.election.enable", "true"),
    ("log.retention.ms", "2000"),
    ("no.such.thing", "1"),
];
const PROPERTIES: &str = "num.partitions=2\ndefault.replication.factor=2";

#[derive(Clone, Debug)]
enum Step {
    CreateTopics {
        names: Vec<usize>,
        partitions: i32,
        factor: i16,
        config: Option<usize>,
        validate_only: bool,
    },
    Assign {
        name: usize,
        assignments: Vec<Vec<i32>>,
    },
    DeleteTopics {
        names: Vec<usize>,
        by_id: bool,
    },
    CreatePartitions {
        name: usize,
        count: i32,
        validate_only: bool,
    },
    Alter {
        kind: i8,
        name: usize,
        op: i8,
        config: usize,
    },
    Replace {
        name: usize,
        configs: Vec<usize>,
    },
    Register {
        id: i32,
        incarnation: u8,
        clean: bool,
    },
    Beat {
        id: i32,
        /// How far the broker is behind.
        lag: i64,
        want_fence: bool,
        want_shut_down: bool,
        /// Which of its directories have failed.
        offline: Vec<u8>,
    },
    Unreachable {
        id: i32,
    },
    Unregister {
        id: i32,
    },
    AssignDirs {
        id: i32,
        name: usize,
        index: i32,
        directory: u8,
    },
    Feature {
        level: i16,
        upgrade_type: i8,
    },
    Allocate {
        id: i32,
    },
    Commit,
    Pass {
        ms: u64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let names = proptest::collection::vec(name.clone(), 1..4);
    let config = 0..CONFIGS.len();
    let id = 1..=4_i32;
    let replicas = proptest::collection::vec(1..=5_i32, 0..4);
    prop_oneof![
        6 => (names.clone(), -2..5_i32, -2..4_i16, proptest::option::of(config.clone()), any::<bool>()).prop_map(
            |(names, partitions, factor, config, validate_only)| Step::CreateTopics { names, partitions, factor, config, validate_only }
        ),
        2 => (name.clone(), proptest::collection::vec(replicas, 1..3)).prop_map(|(name, assignments)| Step::Assign { name, assignments }),
        2 => (names, any::<bool>()).prop_map(|(names, by_id)| Step::DeleteTopics { names, by_id }),
        2 => (name.clone(), 0..8_i32, any::<bool>()).prop_map(|(name, count, validate_only)| Step::CreatePartitions { name, count, validate_only }),
        3 => (prop_oneof![Just(2_i8), Just(4), Just(32), Just(9)], name.clone(), 0..5_i8, config.clone()).prop_map(
            |(kind, name, op, config)| Step::Alter { kind, name, op, config }
        ),
        1 => (name, proptest::collection::vec(config, 0..3)).prop_map(|(name, configs)| Step::Replace { name, configs }),
        3 => (id.clone(), 1..4_u8, any::<bool>()).prop_map(|(id, incarnation, clean)| Step::Register { id, incarnation, clean }),
        8 => beat(),
        1 => id.clone().prop_map(|id| Step::Unreachable { id }),
        1 => id.clone().prop_map(|id| Step::Unregister { id }),
        2 => (id.clone(), 0..NAMES.len(), 0..3_i32, 0..4_u8).prop_map(
            |(id, name, index, directory)| Step::AssignDirs { id, name, index, directory }
        ),
        1 => (-1..3_i16, 0..4_i8).prop_map(|(level, upgrade_type)| Step::Feature { level, upgrade_type }),
        1 => id.prop_map(|id| Step::Allocate { id }),
        4 => Just(Step::Commit),
        2 => (0..5000_u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
    ]
}

fn beat() -> impl Strategy<Value = Step> {
    let offline = prop_oneof![
        6 => Just(Vec::new()),
        1 => Just(vec![1_u8]),
        1 => Just(vec![0, 1]),
    ];
    let seldom = || prop::bool::weighted(0.1);
    let lag = prop_oneof![4 => Just(0_i64), 1 => 0..20_i64];
    (1..=4_i32, lag, seldom(), seldom(), offline).prop_map(
        |(id, lag, want_fence, want_shut_down, offline)| Step::Beat {
            id,
            lag,
            want_fence,
            want_shut_down,
            offline,
        },
    )
}

/// The directories of broker `id`, each has two.
fn directory(id: i32, number: u8) -> Uuid {
    match number {
        0 | 1 => Uuid::from_bytes([0x80 | id as u8 | number << 4; 16]),
        2 => Uuid::from_bytes(1_u128.to_be_bytes()),
        _ => Uuid::from_bytes(2_u128.to_be_bytes()),
    }
}

fn limits() -> Limits {
    Limits {
        partitions_per_request_max: 9,
        records_per_batch_max: 8,
        elections_per_round_max: 3,
        waiting_requests_max: 6,
    }
}

fn request(world: &World, step: Step) -> Option<ControllerRequest> {
    Some(match step {
        Step::CreateTopics {
            names,
            partitions,
            factor,
            config,
            validate_only,
        } => {
            let topic = |name: usize| CreatableTopic {
                name: NAMES[name].into(),
                num_partitions: partitions,
                replication_factor: factor,
                configs: config.iter().map(|config| new_config(*config)).collect(),
                ..Default::default()
            };
            create_topics(names.into_iter().map(topic).collect(), validate_only)
        }
        Step::Assign { name, assignments } => {
            let assignment =
                |(partition_index, replicas): (i32, Vec<i32>)| CreatableReplicaAssignment {
                    partition_index,
                    broker_ids: replicas.into_iter().map(NodeId::new).collect(),
                };
            let topic = CreatableTopic {
                name: NAMES[name].into(),
                num_partitions: -1,
                replication_factor: -1,
                assignments: (0..).zip(assignments).map(assignment).collect(),
                configs: Vec::new(),
            };
            create_topics(vec![topic], false)
        }
        Step::DeleteTopics { names, by_id } => {
            let topic = |name: usize| match world.controller.image().topic_id(NAMES[name]) {
                Some(topic_id) if by_id => DeleteTopicState {
                    name: None,
                    topic_id,
                },
                _ => DeleteTopicState {
                    name: Some(NAMES[name].into()),
                    topic_id: Uuid::ZERO,
                },
            };
            let topics = names.into_iter().map(topic).collect();
            let request = DeleteTopicsRequest {
                topics,
                timeout_ms: 1000,
                ..Default::default()
            };
            ControllerRequest::DeleteTopics {
                api_version: 6,
                request,
            }
        }
        Step::CreatePartitions {
            name,
            count,
            validate_only,
        } => {
            let topic = CreatePartitionsTopic {
                name: NAMES[name].into(),
                count,
                assignments: None,
            };
            ControllerRequest::CreatePartitions(CreatePartitionsRequest {
                topics: vec![topic],
                timeout_ms: 1000,
                validate_only,
            })
        }
        Step::Alter {
            kind,
            name,
            op,
            config,
        } => alter(kind, name, op, config),
        Step::Replace { name, configs } => replace(name, &configs),
        Step::Register {
            id,
            incarnation,
            clean,
        } => {
            let rack = ["x", "y"][id as usize % 2];
            let mut request = registration(id, incarnation, Some(rack));
            request.log_dirs = vec![directory(id, 0), directory(id, 1)];
            if clean {
                request.previous_broker_epoch = world.epoch(id).broker_epoch;
            }
            ControllerRequest::BrokerRegistration(request)
        }
        Step::Beat {
            id,
            lag,
            want_fence,
            want_shut_down,
            offline,
        } => {
            let mut request = world.heartbeat(id);
            request.current_metadata_offset += -lag;
            request.want_fence = want_fence;
            request.want_shut_down = want_shut_down;
            request.offline_log_dirs = offline.iter().map(|n| directory(id, *n)).collect();
            request.cordoned_log_dirs = offline.first().map(|n| vec![directory(id, *n)]);
            ControllerRequest::BrokerHeartbeat(request)
        }
        Step::Unreachable { id } => {
            let BrokerEpoch {
                broker_id,
                broker_epoch,
            } = world.epoch(id);
            ControllerRequest::BrokerUnreachable {
                broker_id,
                broker_epoch,
            }
        }
        Step::Unregister { id } => ControllerRequest::UnregisterBroker(UnregisterBrokerRequest {
            broker_id: NodeId::new(id),
        }),
        Step::AssignDirs {
            id,
            name,
            index,
            directory: number,
        } => {
            let sender = world.epoch(id);
            let topic_id = world.controller.image().topic_id(NAMES[name]);
            let topic = TopicData {
                topic_id: topic_id.unwrap_or_default(),
                partitions: vec![PartitionData {
                    partition_index: index,
                }],
            };
            let directory = DirectoryData {
                id: directory(id, number),
                topics: vec![topic],
            };
            ControllerRequest::AssignReplicasToDirs(AssignReplicasToDirsRequest {
                broker_id: sender.broker_id,
                broker_epoch: sender.broker_epoch,
                directories: vec![directory],
            })
        }
        Step::Feature {
            level,
            upgrade_type,
        } => {
            let update = FeatureUpdateKey {
                feature: "group.version".into(),
                max_version_level: level,
                upgrade_type,
                ..Default::default()
            };
            ControllerRequest::UpdateFeatures(UpdateFeaturesRequest {
                timeout_ms: 1000,
                feature_updates: vec![update],
                ..Default::default()
            })
        }
        Step::Allocate { id } => ControllerRequest::AllocateProducerIds(world.epoch(id)),
        Step::Commit | Step::Pass { .. } | Step::Restart => return None,
    })
}

fn create_topics(topics: Vec<CreatableTopic>, validate_only: bool) -> ControllerRequest {
    ControllerRequest::CreateTopics(CreateTopicsRequest {
        topics,
        timeout_ms: 1000,
        validate_only,
    })
}

fn new_config(config: usize) -> CreatableTopicConfig {
    let (name, value) = CONFIGS[config];
    CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    }
}

fn alter(kind: i8, name: usize, op: i8, config: usize) -> ControllerRequest {
    use incremental_alter_configs as api;
    let (key, value) = CONFIGS[config];
    let config = api::AlterableConfig {
        name: key.into(),
        config_operation: op,
        value: Some(value.into()),
    };
    let resource_name = if kind == 4 {
        ["", "1", "2", "x"][name % 4]
    } else {
        NAMES[name]
    };
    let resource = api::AlterConfigsResource {
        resource_type: kind,
        resource_name: resource_name.into(),
        configs: vec![config],
    };
    ControllerRequest::IncrementalAlterConfigs(api::IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    })
}

fn replace(name: usize, configs: &[usize]) -> ControllerRequest {
    use alter_configs as api;
    let config = |config: &usize| api::AlterableConfig {
        name: CONFIGS[*config].0.into(),
        value: Some(CONFIGS[*config].1.into()),
    };
    let resource = api::AlterConfigsResource {
        resource_type: 2,
        resource_name: NAMES[name].into(),
        configs: configs.iter().map(config).collect(),
    };
    ControllerRequest::AlterConfigs(api::AlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    })
}

/// A new partition is on distinct registered brokers, and led by one that is active.
fn check_placements(before: &Image, effects: &[Effect]) {
    let batches = effects.iter().filter_map(|effect| match effect {
        Effect::Append { records, .. } => Some(records),
        _ => None,
    });
    for record in batches.flatten() {
        let MetadataRecord::Partition(partition) = record else {
            continue;
        };
        let distinct: BTreeSet<NodeId> = partition.replicas.iter().copied().collect();
        assert_eq!(distinct.len(), partition.replicas.len());
        assert!(distinct.iter().all(|id| before.broker(*id).is_some()));
        let is_active = |id: &NodeId| before.broker(*id).is_some_and(|broker| broker.is_active());
        assert!(partition.isr.iter().all(is_active));
        assert_eq!(partition.isr.first(), Some(&partition.leader));
        assert_eq!(partition.directories.len(), partition.replicas.len());
    }
}

/// When nothing happens any more but heartbeats, every broker serves whose shutdown has not begun, and whatever somebody
/// has all records of is led.
fn settle(world: &mut World) {
    drop(world.commit_all());
    let ids: Vec<i32> = world
        .controller
        .image()
        .brokers()
        .map(|broker| broker.id.value())
        .collect();
    for id in ids {
        let heartbeat = world.heartbeat(id);
        world.ask(ControllerRequest::BrokerHeartbeat(heartbeat));
        drop(world.commit_all());
    }
    let image = world.controller.image();
    for broker in image.brokers() {
        assert!(
            !broker.fenced || broker.in_controlled_shutdown,
            "broker {} serves",
            broker.id
        );
    }
    for topic in image.topics() {
        for (index, partition) in &topic.partitions {
            let is_usable = |id: &NodeId| {
                let directory = partition.directory(*id).unwrap_or_default();
                let broker = image.broker(*id);
                broker.is_some_and(|b| b.is_active() && b.has_online_directory(directory))
            };
            let has_everything = partition.isr.iter().any(is_usable);
            assert!(
                partition.leader != NodeId::NONE || !has_everything,
                "{}-{index} is not led: {partition:?}",
                topic.name
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_log_tells_everything(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new(PROPERTIES, limits());
        world.begin(MetadataVersion::LATEST, &[(1, Some("y")), (2, Some("x")), (3, None)]);
        for step in steps {
            match step {
                Step::Commit => drop(world.commit_all()),
                Step::Pass { ms } => {
                    world.pass(Duration::from_millis(ms));
                    world.handle(Input::Timeout);
                    let due = world.controller.deadline().is_some_and(|at| at <= world.now.instant);
                    prop_assert!(!due, "what was due is done");
                }
                Step::Restart => drop(world.restart()),
                step => {
                    let before = world.controller.image().clone();
                    let request = request(&world, step).expect("other steps are requests");
                    let effects = world.ask(request);
                    check_placements(&before, &effects);
                }
            }
        }
        settle(&mut world);
        world.handle(Input::Resign);
        prop_assert!(world.unanswered.is_empty(), "everything is answered");

        let mut snapshot = Image::default();
        let records: Vec<MetadataRecord> = world.follower.records().collect();
        snapshot.apply_batch(&records).expect("a snapshot is sound");
        prop_assert_eq!(&snapshot, &world.follower);
    }

    /// In every metadata.version the records can be written, and a broker's restart raises the leader epochs.
    #[test]
    fn every_metadata_version_carries_its_records(level in 7..=30_i16, partitions in 1..6_i32) {
        let mut world = World::new("", Limits::default());
        world.begin(MetadataVersion::from_level(level).expect("a known level"), &[(1, None), (2, None)]);
        let step = Step::CreateTopics { names: vec![0], partitions, factor: 2, config: Some(0), validate_only: false };
        let asked = request(&world, step).expect("a request");
        world.ask(asked);
        let effects = world.commit_all();
        let Some(ControllerResponse::CreateTopics(created)) = response(&effects) else {
            panic!("{effects:?}");
        };
        prop_assert!(created.topics[0].error_code.is_ok(), "{:?}", created.topics[0].error_message);
        let leads_of = |world: &World| -> i64 {
            let topic = world.follower.topic("a").expect("it was created");
            topic.partitions.values().map(|p| i64::from(p.leader_epoch.value())).sum()
        };
        for id in [1, 2] {
            let before = leads_of(&world);
            for last in [false, false, true] {
                // The other broker has heard of the move.
                let others = world.heartbeat(3 - id);
                world.ask(ControllerRequest::BrokerHeartbeat(others));
                let mut heartbeat = world.heartbeat(id);
                heartbeat.want_shut_down = true;
                let mut effects = world.ask(ControllerRequest::BrokerHeartbeat(heartbeat));
                effects.extend(world.commit_all());
                let Some(Effect::Reply { response: ControllerResponse::BrokerHeartbeat(Ok(answer)), .. }) = effects.last() else {
                    panic!("{effects:?}");
                };
                prop_assert!(answer.should_shut_down || !last);
            }
            let mut registration = registration(id, 2, None);
            registration.previous_broker_epoch = world.epoch(id).broker_epoch;
            world.ask(ControllerRequest::BrokerRegistration(registration));
            let heartbeat = world.heartbeat(id);
            world.ask(ControllerRequest::BrokerHeartbeat(heartbeat));
            prop_assert!(leads_of(&world) >= before);
        }
        // Broker 2 was the last one in sync, so it leads everything again.
        let topic = world.follower.topic("a").expect("it was created");
        prop_assert!(topic.partitions.values().all(|p| p.leader == NodeId::new(2) && p.leader_epoch.value() >= 2));
    }
}
