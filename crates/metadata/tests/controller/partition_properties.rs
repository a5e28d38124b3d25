//! Partitions while brokers die and return, leaders change ISRs, and people create, delete, move and elect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tidelog_metadata::bootstrap::{
    ELIGIBLE_LEADER_REPLICAS_VERSION, MetadataVersion, bootstrap_records,
};
use tidelog_metadata::controller::{ControllerRequest, Limits, list_partition_reassignments};
use tidelog_metadata::image::{Image, LeaderRecoveryState, PartitionImage};
use tidelog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::{alter_partition, elect_leaders, incremental_alter_configs};
use tidelog_protocol::records::metadata::FeatureLevelRecord;
use tidelog_types::{NodeId, PartitionIndex, Str, TopicId};

use crate::partitions::wait;
use crate::world::{World, registration};

const PROPERTIES: &str = "min.insync.replicas=2\nleader.imbalance.check.interval.seconds=10";
const NAMES: [&str; 3] = ["a", "b", "c"];
const BROKERS: [i32; 4] = [1, 2, 3, 4];

#[derive(Clone, Debug)]
enum Step {
    Create {
        name: usize,
        partitions: i32,
        factor: i16,
    },
    Delete {
        name: usize,
    },
    Grow {
        name: usize,
        count: i32,
    },
    Kill {
        id: i32,
    },
    Return {
        id: i32,
        clean: bool,
    },
    ShutDown {
        id: i32,
    },
    /// The leader of the partition at `at` wants the live replicas that `keep` names, with an epoch that is off by `off`.
    Isr {
        at: usize,
        keep: u8,
        off: i32,
    },
    /// What is alive catches up, and leaders recover.
    CatchUp,
    Reassign {
        at: usize,
        target: Vec<i32>,
    },
    Cancel {
        at: usize,
    },
    Elect {
        unclean: bool,
        at: Option<usize>,
    },
    Configure {
        name: usize,
        config: usize,
    },
    Wait {
        ms: u64,
    },
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let id = 1..=4_i32;
    let at = 0..12_usize;
    let target = Just(BROKERS.to_vec())
        .prop_shuffle()
        .prop_flat_map(|ids| (1..=3_usize).prop_map(move |count| ids[..count].to_vec()));
    prop_oneof![
        3 => (name.clone(), 1..=3_i32, 1..=3_i16)
            .prop_map(|(name, partitions, factor)| Step::Create { name, partitions, factor }),
        1 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => (name.clone(), 1..=5_i32).prop_map(|(name, count)| Step::Grow { name, count }),
        4 => id.clone().prop_map(|id| Step::Kill { id }),
        4 => (id.clone(), any::<bool>()).prop_map(|(id, clean)| Step::Return { id, clean }),
        1 => id.prop_map(|id| Step::ShutDown { id }),
        6 => (at.clone(), any::<u8>(), prop_oneof![8 => Just(0), 1 => Just(-1), 1 => Just(1)])
            .prop_map(|(at, keep, off)| Step::Isr { at, keep, off }),
        3 => Just(Step::CatchUp),
        4 => (at.clone(), target).prop_map(|(at, target)| Step::Reassign { at, target }),
        1 => at.clone().prop_map(|at| Step::Cancel { at }),
        1 => (any::<bool>(), proptest::option::of(at))
            .prop_map(|(unclean, at)| Step::Elect { unclean, at }),
        2 => (name, 0..4_usize).prop_map(|(name, config)| Step::Configure { name, config }),
        1 => prop_oneof![Just(1_000_u64), Just(12_000)].prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::FailOver),
    ]
}

/// The controller, and what its brokers have to remember.
struct Cluster {
    world: World,
    incarnations: BTreeMap<i32, u8>,
    elr: bool,
    /// Whether a reassignment was cancelled.
    cancelled: bool,
}

impl Cluster {
    fn new(elr: bool) -> Self {
        let limits = Limits {
            records_per_batch_max: 7,
            elections_per_round_max: 2,
            ..Limits::default()
        };
        let mut world = World::new(PROPERTIES, limits);
        let mut records = bootstrap_records(MetadataVersion::LATEST);
        if elr {
            let record = FeatureLevelRecord {
                name: Str::from_static(ELIGIBLE_LEADER_REPLICAS_VERSION),
                feature_level: 1,
            };
            records.push(record.into());
        }
        world.begin_with(records, &BROKERS.map(|id| (id, None)));
        Self {
            world,
            incarnations: BROKERS.map(|id| (id, 1)).into(),
            elr,
            cancelled: false,
        }
    }

    fn image(&self) -> &Image {
        self.world.controller.image()
    }

    fn ask(&mut self, request: ControllerRequest) {
        self.world.ask(request);
        self.world.commit_all();
    }

    /// The partition that `at` stands for, if there are any.
    fn pick(&self, at: usize) -> Option<(TopicId, PartitionIndex)> {
        let all = partitions(self.image());
        let keys: Vec<_> = all.keys().copied().collect();
        (!keys.is_empty()).then(|| keys[at % keys.len()])
    }

    fn name(&self, topic: TopicId) -> Str {
        self.image()
            .topic_by_id(topic)
            .expect("it was picked")
            .name
            .as_inner()
            .clone()
    }

    fn is_active(&self, id: NodeId) -> bool {
        self.image()
            .broker(id)
            .is_some_and(|broker| broker.is_active())
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Create {
                name,
                partitions,
                factor,
            } => self.create(NAMES[name], partitions, factor),
            Step::Delete { name } => self.delete(NAMES[name]),
            Step::Grow { name, count } => {
                let topic = CreatePartitionsTopic {
                    name: NAMES[name].into(),
                    count,
                    assignments: None,
                };
                self.ask(ControllerRequest::CreatePartitions(
                    CreatePartitionsRequest {
                        topics: vec![topic],
                        timeout_ms: 1000,
                        validate_only: false,
                    },
                ));
            }
            Step::Kill { id } => self.kill(id),
            Step::Return { id, clean } => self.come_back(id, clean),
            Step::ShutDown { id } => {
                let mut heartbeat = self.world.heartbeat(id);
                heartbeat.want_shut_down = true;
                self.ask(ControllerRequest::BrokerHeartbeat(heartbeat));
            }
            Step::Isr { at, keep, off } => {
                if let Some((topic, index)) = self.pick(at) {
                    self.alter(topic, index, keep, off);
                }
            }
            Step::CatchUp => self.catch_up(),
            Step::Reassign { at, target } => self.reassign(at, Some(target)),
            Step::Cancel { at } => {
                self.cancelled = true;
                self.reassign(at, None);
            }
            Step::Elect { unclean, at } => self.elect(unclean, at),
            Step::Configure { name, config } => self.configure(NAMES[name], config),
            Step::Wait { ms } => drop(wait(&mut self.world, Duration::from_millis(ms))),
            Step::FailOver => drop(self.world.restart()),
        }
    }

    fn create(&mut self, name: &str, num_partitions: i32, replication_factor: i16) {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor,
            ..Default::default()
        };
        self.ask(ControllerRequest::CreateTopics(CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 1000,
            validate_only: false,
        }));
    }

    fn delete(&mut self, name: &str) {
        let topic = DeleteTopicState {
            name: Some(name.into()),
            ..Default::default()
        };
        let request = DeleteTopicsRequest {
            topics: vec![topic],
            timeout_ms: 1000,
            ..Default::default()
        };
        self.ask(ControllerRequest::DeleteTopics {
            api_version: 6,
            request,
        });
    }

    fn kill(&mut self, id: i32) {
        let broker = self.world.epoch(id);
        self.ask(ControllerRequest::BrokerUnreachable {
            broker_id: broker.broker_id,
            broker_epoch: broker.broker_epoch,
        });
    }

    fn come_back(&mut self, id: i32, clean: bool) {
        if self.is_active(NodeId::new(id)) {
            return;
        }
        self.kill(id);
        let incarnation = self.incarnations.entry(id).or_default();
        *incarnation += 1;
        let mut registration = registration(id, *incarnation, None);
        if clean {
            registration.previous_broker_epoch = self.world.epoch(id).broker_epoch;
        }
        self.ask(ControllerRequest::BrokerRegistration(registration));
        let heartbeat = self.world.heartbeat(id);
        self.ask(ControllerRequest::BrokerHeartbeat(heartbeat));
    }

    /// The leader asks for an ISR: itself, and those live replicas whose bit is set in `keep`.
    fn alter(&mut self, topic: TopicId, index: PartitionIndex, keep: u8, off: i32) {
        use alter_partition as api;
        let Some(partition) = self.image().partition(topic, index).cloned() else {
            return;
        };
        if !partition.has_leader() {
            return;
        }
        let recovering = partition.leader_recovery_state == LeaderRecoveryState::Recovering;
        let joins = |node: &&NodeId| {
            let wanted =
                keep & (1 << node.value()) != 0 && !(recovering && off == 0 && keep % 2 == 1);
            **node == partition.leader || (wanted && self.is_active(**node))
        };
        let member = |node: &NodeId| api::BrokerState {
            broker_id: *node,
            broker_epoch: self.world.epoch(node.value()).broker_epoch,
        };
        let wanted = api::PartitionData {
            partition_index: index,
            leader_epoch: partition.leader_epoch,
            new_isr_with_epochs: partition
                .replicas
                .iter()
                .filter(joins)
                .map(member)
                .collect(),
            partition_epoch: partition.partition_epoch + off,
            ..Default::default()
        };
        let leader = self.world.epoch(partition.leader.value());
        let topic = api::TopicData {
            topic_id: topic,
            partitions: vec![wanted],
            ..Default::default()
        };
        self.ask(ControllerRequest::AlterPartition(
            api::AlterPartitionRequest {
                broker_id: leader.broker_id,
                broker_epoch: leader.broker_epoch,
                topics: vec![topic],
            },
        ));
    }

    fn catch_up(&mut self) {
        let keys: Vec<_> = partitions(self.image()).into_keys().collect();
        for (topic, index) in keys {
            self.alter(topic, index, u8::MAX, 0);
            // The first one may only have said that the leader has recovered.
            self.alter(topic, index, u8::MAX - 1, 0);
        }
    }

    fn reassign(&mut self, at: usize, target: Option<Vec<i32>>) {
        let Some((topic, partition_index)) = self.pick(at) else {
            return;
        };
        let partition = ReassignablePartition {
            partition_index,
            replicas: target.map(|ids| ids.into_iter().map(NodeId::new).collect()),
        };
        let topic = ReassignableTopic {
            name: self.name(topic).into(),
            partitions: vec![partition],
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        self.ask(ControllerRequest::AlterPartitionReassignments(request));
    }

    fn elect(&mut self, unclean: bool, at: Option<usize>) {
        use elect_leaders as api;
        let named = at.and_then(|at| self.pick(at)).map(|(topic, index)| {
            vec![api::TopicPartitions {
                topic: self.name(topic).into(),
                partitions: vec![index],
            }]
        });
        self.ask(ControllerRequest::ElectLeaders(api::ElectLeadersRequest {
            election_type: unclean.into(),
            topic_partitions: named,
            timeout_ms: 1000,
        }));
    }

    fn configure(&mut self, name: &str, config: usize) {
        use incremental_alter_configs as api;
        let (key, value) = [
            ("unclean.leader.election.enable", "true"),
            ("unclean.leader.election.enable", "false"),
            ("min.insync.replicas", "1"),
            ("min.insync.replicas", "3"),
        ][config];
        let config = api::AlterableConfig {
            name: key.into(),
            config_operation: 0,
            value: Some(value.into()),
        };
        let resource = api::AlterConfigsResource {
            resource_type: 2,
            resource_name: name.into(),
            configs: vec![config],
        };
        self.ask(ControllerRequest::IncrementalAlterConfigs(
            api::IncrementalAlterConfigsRequest {
                resources: vec![resource],
                validate_only: false,
            },
        ));
    }

    fn check(&self, before: &Image) {
        let earlier = partitions(before);
        for (key, partition) in partitions(self.image()) {
            self.check_state(partition);
            let Some(earlier) = earlier.get(&key) else {
                continue;
            };
            check_change(earlier, partition);
            // The number of replicas counts as it was when the record was made.
            let (topic, _) = key;
            let factor =
                |image: &Image| image.partition(topic, 0).map(|first| first.replicas.len());
            if *earlier != partition && factor(before) == factor(self.image()) {
                let enough = partition.isr.len() >= self.effective_min_isr(topic);
                let nobody_eligible = partition.eligible_leader_replicas.is_empty();
                assert!(nobody_eligible || !enough, "{partition:?}");
            }
        }
    }

    fn effective_min_isr(&self, topic: TopicId) -> usize {
        let topic = self.image().topic_by_id(topic).expect("a topic");
        let configs = self.image().topic_configs(&topic.name);
        let set = configs
            .get("min.insync.replicas")
            .map(|value| value.parse().expect("a number"));
        let replicas = topic.partition(0).map_or(0, |first| first.replicas.len());
        replicas.min(set.unwrap_or(2))
    }

    fn check_state(&self, partition: &PartitionImage) {
        let isr: BTreeSet<NodeId> = partition.isr.iter().copied().collect();
        let all_active = isr.iter().all(|node| self.is_active(*node));
        assert_eq!(isr.len(), partition.isr.len(), "{partition:?}");
        let last = isr.len() == 1 && !partition.has_leader();
        if self.elr {
            // As in Kafka, a reassignment that is cancelled uncleanly leaves the first replica in sync, be it gone.
            let nobody_is_gone = all_active || (self.cancelled && last);
            assert!(nobody_is_gone, "nobody in the ISR is gone: {partition:?}");
            assert!(
                !isr.is_empty() || !partition.has_leader(),
                "who leads is in sync: {partition:?}"
            );
        } else {
            assert!(
                all_active || last,
                "only the last in sync may be gone: {partition:?}"
            );
            assert!(!isr.is_empty(), "{partition:?}");
            assert!(partition.eligible_leader_replicas.is_empty());
            assert!(partition.last_known_elr.is_empty());
        }
        if partition.has_leader() {
            assert!(partition.last_known_elr.is_empty(), "{partition:?}");
            let recovering = partition.leader_recovery_state == LeaderRecoveryState::Recovering;
            assert!(!recovering || isr.len() == 1, "{partition:?}");
        }
    }
}

fn check_change(before: &PartitionImage, after: &PartitionImage) {
    let (then, now) = (before.leader_epoch, after.leader_epoch);
    assert!(before.partition_epoch <= after.partition_epoch && then <= now);
    if before != after {
        assert!(
            before.partition_epoch < after.partition_epoch,
            "{before:?} {after:?}"
        );
    }
    let lost_replica = before
        .replicas
        .iter()
        .any(|node| !after.replicas.contains(node));
    if before.leader != after.leader || lost_replica {
        assert!(
            then < now,
            "who led or was led before is fenced off: {before:?} {after:?}"
        );
    }
}

fn partitions(image: &Image) -> BTreeMap<(TopicId, PartitionIndex), &PartitionImage> {
    let of = |topic: &TopicId| *topic;
    let all = image.topics().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(move |(index, partition)| ((of(&topic.id), *index), &**partition))
    });
    all.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn partitions_survive_what_happens(
        elr: bool,
        steps in proptest::collection::vec(step(), 1..50),
    ) {
        let mut cluster = Cluster::new(elr);
        for step in steps {
            let before = cluster.image().clone();
            cluster.apply(step);
            cluster.check(&before);
        }

        // When everybody is back and has caught up, everything is led, and nothing is on its way any more.
        for id in BROKERS {
            cluster.come_back(id, true);
        }
        cluster.elect(true, None);
        for _ in 0..2 {
            cluster.catch_up();
        }
        let image = cluster.image();
        for partition in partitions(image).values() {
            prop_assert!(partition.has_leader(), "{partition:?}");
            prop_assert_eq!(partition.isr.len(), partition.replicas.len(), "{:?}", partition);
            prop_assert!(partition.eligible_leader_replicas.is_empty());
        }
        let reassignments = list_partition_reassignments(image, &Default::default());
        prop_assert_eq!(reassignments.topics, vec![]);
        drop(wait(&mut cluster.world, Duration::from_secs(12)));
        for partition in partitions(cluster.image()).values() {
            prop_assert!(partition.has_preferred_leader(), "{:?}", partition);
        }
    }
}
