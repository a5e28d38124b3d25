//! What the controller does, told as scenarios.

use std::fmt::Write as _;
use std::time::Duration;

use tidelog_metadata::bootstrap::{ELIGIBLE_LEADER_REPLICAS_VERSION, bootstrap_records};
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse, Effect, Input, Limits};
use tidelog_metadata::image::{Image, NO_LEADER_CHANGE};
use tidelog_protocol::messages::assign_replicas_to_dirs::{
    AssignReplicasToDirsRequest, DirectoryData, PartitionData, TopicData,
};
use tidelog_protocol::messages::broker_registration::Feature;
use tidelog_protocol::messages::controller_registration::ControllerRegistrationRequest;
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::unregister_broker::UnregisterBrokerRequest;
use tidelog_protocol::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use tidelog_protocol::messages::{alter_configs, incremental_alter_configs};
use tidelog_protocol::records::metadata::{
    BrokerRegistrationChangeRecord, FeatureLevelRecord, MetadataRecord, PartitionChangeRecord,
};
use tidelog_types::{ErrorCode, NodeId, Offset, Str, TopicName, Uuid};

use crate::partitions;
use crate::scenario::{self, Command};
use crate::world::{World, registration};

#[test]
fn scenarios() {
    scenario::run(step);
}

fn step(world: &mut Option<World>, command: &Command<'_>) -> String {
    if command.name == "new" {
        *world = Some(new_world(command));
        return image(
            world.as_ref().expect("just made").controller.image(),
            "brokers",
        );
    }
    let world = world.as_mut().expect("a scenario begins with 'new'");
    let effects = match command.name {
        "commit" => world.commit_all(),
        "resign" => world.handle(Input::Resign),
        "takeover" => world.restart(),
        "fail-in-transaction" => {
            world.fail_in_transaction();
            Vec::new()
        }
        "pass" => {
            world.pass(Duration::from_millis(command.number("ms").expect("ms=")));
            let due = world
                .controller
                .deadline()
                .is_some_and(|at| at <= world.now.instant);
            if due {
                world.handle(Input::Timeout)
            } else {
                Vec::new()
            }
        }
        "wait" => {
            let time = Duration::from_millis(command.number("ms").expect("ms="));
            partitions::wait(world, time)
        }
        "show" => return image(world.controller.image(), command.words[0]),
        "show-dirs" => return directories_of(world.controller.image(), command.words[0]),
        "reassignments" => return partitions::reassignments(world.controller.image(), command),
        _ => {
            let request = request(world, command);
            world.ask(request)
        }
    };
    let mut output = String::new();
    print(world, &effects, &mut output);
    // Unless the story is about what happens in between, everything is committed at once.
    let asked = !matches!(command.name, "commit" | "resign" | "fail-in-transaction");
    if asked && !command.has("hold") {
        let effects = world.commit_all();
        print(world, &effects, &mut output);
    }
    if output.is_empty() {
        "nothing\n".into()
    } else {
        output
    }
}

/// `new brokers=1,2,3 racks=a,b,a version=20 waiting=2 records=100 some.property=value`
fn new_world(command: &Command<'_>) -> World {
    let mut limits = Limits::default();
    limits.waiting_requests_max = command
        .number("waiting")
        .unwrap_or(limits.waiting_requests_max);
    limits.records_per_batch_max = command
        .number("records")
        .unwrap_or(limits.records_per_batch_max);
    limits.elections_per_round_max = command
        .number("elections")
        .unwrap_or(limits.elections_per_round_max);
    let properties = command.pairs.iter().filter(|(key, _)| key.contains('.'));
    let properties: Vec<String> = properties
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let racks: Vec<&str> = command
        .text("racks")
        .map(|r| r.split(',').collect())
        .unwrap_or_default();
    let brokers: Vec<(i32, Option<&str>)> = numbers(command.text("brokers").unwrap_or_default())
        .enumerate()
        .map(|(i, id)| (id, racks.get(i).copied()))
        .collect();
    let version = command
        .text("version")
        .unwrap_or("30")
        .parse()
        .expect("a metadata.version");
    let mut world = World::new(&properties.join("\n"), limits);
    if let Some(controllers) = command.text("controllers") {
        world = world.with_controllers(nodes(controllers));
    }
    if !brokers.is_empty() {
        let mut records = bootstrap_records(version);
        if command.has("elr") {
            let name = Str::from_static(ELIGIBLE_LEADER_REPLICAS_VERSION);
            let feature_level = 1;
            records.push(
                FeatureLevelRecord {
                    name,
                    feature_level,
                }
                .into(),
            );
        }
        world.begin_with(records, &brokers);
    }
    world
}

pub(crate) fn numbers(text: &str) -> impl Iterator<Item = i32> {
    text.split(',')
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().expect("a number"))
}

pub(crate) fn nodes(text: &str) -> Vec<NodeId> {
    numbers(text).map(NodeId::new).collect()
}

fn request(world: &World, command: &Command<'_>) -> ControllerRequest {
    if let Some(request) = partitions::request(world, command) {
        return request;
    }
    let timeout_ms = command.number("timeout").unwrap_or(60_000);
    let validate_only = command.has("validate-only");
    let broker = || world.epoch(command.words[0].parse().expect("a broker"));
    match command.name {
        "create-topics" => ControllerRequest::CreateTopics(CreateTopicsRequest {
            topics: topics(command),
            timeout_ms,
            validate_only,
        }),
        "delete-topics" => ControllerRequest::DeleteTopics {
            api_version: command.number("api-version").unwrap_or(6),
            request: DeleteTopicsRequest {
                topics: deleted(world, command),
                timeout_ms,
                ..Default::default()
            },
        },
        "create-partitions" => ControllerRequest::CreatePartitions(CreatePartitionsRequest {
            topics: plain_words(command)
                .map(|name| more_partitions(name, command))
                .collect(),
            timeout_ms,
            validate_only,
        }),
        "alter" => incremental(command, validate_only),
        "replace" => replace(command, validate_only),
        "register" => register(world, command),
        "beat" => beat(world, command),
        "unreachable" => {
            let broker = broker();
            ControllerRequest::BrokerUnreachable {
                broker_id: broker.broker_id,
                broker_epoch: command.number("epoch").unwrap_or(broker.broker_epoch),
            }
        }
        "unregister" => ControllerRequest::UnregisterBroker(UnregisterBrokerRequest {
            broker_id: broker().broker_id,
        }),
        "register-controller" => register_controller(command),
        "assign-dirs" => assign_dirs(world, command),
        "features" => features(command, validate_only),
        "allocate" => {
            let mut broker = broker();
            broker.broker_epoch = command.number("epoch").unwrap_or(broker.broker_epoch);
            ControllerRequest::AllocateProducerIds(broker)
        }
        "bootstrap" => {
            let version = command.text("version").unwrap_or("30");
            let version = version.parse().expect("a metadata.version");
            ControllerRequest::Bootstrap(bootstrap_records(version))
        }
        other => panic!("no such command: {other}"),
    }
}

/// `register 1 incarnation=2 rack=a dirs=7,8 previous=5 cluster=x features=group.version:0-1`
fn register(world: &World, command: &Command<'_>) -> ControllerRequest {
    let id = command.words[0].parse().expect("a broker");
    let incarnation = command.number("incarnation").unwrap_or(1);
    let mut registration = registration(id, incarnation, command.text("rack"));
    if let Some(dirs) = command.text("dirs") {
        registration.log_dirs = directories(dirs);
    }
    if let Some(cluster) = command.text("cluster") {
        registration.cluster_id = cluster.into();
    }
    if command.has("after-clean-shutdown") {
        registration.previous_broker_epoch = world.epoch(id).broker_epoch;
    }
    registration.is_migrating_zk_broker = command.has("from-zookeeper");
    if let Some(features) = command.text("features") {
        registration.features = supported(features);
    }
    ControllerRequest::BrokerRegistration(registration)
}

/// `beat 1 offset=5 epoch=2 want-fence want-shut-down offline=7 cordoned=8`
fn beat(world: &World, command: &Command<'_>) -> ControllerRequest {
    let mut heartbeat = world.heartbeat(command.words[0].parse().expect("a broker"));
    heartbeat.want_fence = command.has("want-fence");
    heartbeat.want_shut_down = command.has("want-shut-down");
    if let Some(offset) = command.number("offset") {
        heartbeat.current_metadata_offset = Offset::new(offset);
    }
    if let Some(epoch) = command.number("epoch") {
        heartbeat.broker_epoch = epoch;
    }
    if let Some(dirs) = command.text("offline") {
        heartbeat.offline_log_dirs = directories(dirs);
    }
    heartbeat.cordoned_log_dirs = command.text("cordoned").map(directories);
    ControllerRequest::BrokerHeartbeat(heartbeat)
}

/// `register-controller 3 incarnation=1 features=group.version:0-1`
fn register_controller(command: &Command<'_>) -> ControllerRequest {
    let id = command.words[0].parse().expect("a controller");
    let registration = registration(id, command.number("incarnation").unwrap_or(1), None);
    ControllerRequest::ControllerRegistration(ControllerRegistrationRequest {
        controller_id: registration.broker_id,
        incarnation_id: registration.incarnation_id,
        listeners: registration.listeners,
        features: command
            .text("features")
            .map_or(registration.features, supported),
        ..Default::default()
    })
}

/// `metadata.version:7-30,group.version:0-1`
fn supported(text: &str) -> Vec<Feature> {
    let feature = |text: &str| {
        let (name, levels) = text.split_once(':')?;
        let (min, max) = levels.split_once('-')?;
        Some(Feature {
            name: name.into(),
            min_supported_version: min.parse().ok()?,
            max_supported_version: max.parse().ok()?,
        })
    };
    let features = text.split(',').filter(|text| !text.is_empty());
    features
        .map(|text| feature(text).expect("name:min-max"))
        .collect()
}

/// `assign-dirs 1 epoch=5 7=orders:0,orders:1 8=other:0`
fn assign_dirs(world: &World, command: &Command<'_>) -> ControllerRequest {
    let sender = world.epoch(command.words[0].parse().expect("a broker"));
    let topic = |text: &str| {
        let (name, index) = text.split_once(':').expect("topic:partition");
        TopicData {
            topic_id: topic_id(world, name),
            partitions: vec![PartitionData {
                partition_index: index.parse().expect("a partition"),
            }],
        }
    };
    let assigned = command.pairs.iter().filter(|(key, _)| *key != "epoch");
    let directories = assigned.map(|(dir, topics)| DirectoryData {
        id: directories(dir)[0],
        topics: topics.split(',').map(topic).collect(),
    });
    ControllerRequest::AssignReplicasToDirs(AssignReplicasToDirsRequest {
        broker_id: sender.broker_id,
        broker_epoch: command.number("epoch").unwrap_or(sender.broker_epoch),
        directories: directories.collect(),
    })
}

/// Directory ids by number; those below 100 are reserved.
fn directories(text: &str) -> Vec<Uuid> {
    let id = |number: i32| match number {
        0..100 => Uuid::from_bytes((number as u128).to_be_bytes()),
        _ => Uuid::from_bytes([number as u8; 16]),
    };
    numbers(text).map(id).collect()
}

/// `features group.version=0 type=2`
fn features(command: &Command<'_>, validate_only: bool) -> ControllerRequest {
    let update = |(name, level): &(&str, &str)| FeatureUpdateKey {
        feature: (*name).into(),
        max_version_level: level.parse().expect("a level"),
        upgrade_type: command.number("type").unwrap_or(1),
        allow_downgrade: command.has("allow-downgrade"),
    };
    let updates = command.pairs.iter().filter(|(key, _)| key.contains('.'));
    ControllerRequest::UpdateFeatures(UpdateFeaturesRequest {
        timeout_ms: 60_000,
        feature_updates: updates.map(update).collect(),
        validate_only,
    })
}

/// Words that are not switches: names. `""` is the empty one.
pub(crate) fn plain_words<'a>(command: &Command<'a>) -> impl Iterator<Item = &'a str> {
    const SWITCHES: [&str; 5] = ["validate-only", "hold", "all", "unchecked", "same-factor"];
    let words: Vec<&str> = command.words.clone();
    words
        .into_iter()
        .filter(|w| !SWITCHES.contains(w))
        .map(|w| if w == "\"\"" { "" } else { w })
}

/// `orders other partitions=3 factor=2 assign=1,2;2,1 index=0,2 retention.ms=5`
fn topics(command: &Command<'_>) -> Vec<CreatableTopic> {
    let assigned = command
        .text("assign")
        .map(|text| text.split(';').map(nodes).collect());
    let assigned: Vec<Vec<NodeId>> = assigned.unwrap_or_default();
    let indexes: Vec<i32> = match command.text("index") {
        Some(text) => numbers(text).collect(),
        None => (0..assigned.len() as i32).collect(),
    };
    let assignments: Vec<CreatableReplicaAssignment> = indexes
        .into_iter()
        .zip(assigned)
        .map(|(partition_index, broker_ids)| CreatableReplicaAssignment {
            partition_index,
            broker_ids,
        })
        .collect();
    let configs = command.pairs.iter().filter(|(key, _)| key.contains('.'));
    let configs: Vec<CreatableTopicConfig> = configs
        .map(|(name, value)| CreatableTopicConfig {
            name: (*name).into(),
            value: (*value != "null").then(|| (*value).into()),
        })
        .collect();
    plain_words(command)
        .map(|name| CreatableTopic {
            name: name.into(),
            num_partitions: command.number("partitions").unwrap_or(-1),
            replication_factor: command.number("factor").unwrap_or(-1),
            assignments: assignments.clone(),
            configs: configs.clone(),
        })
        .collect()
}

/// `orders id:orders` names a topic, and another one by its id.
fn deleted(world: &World, command: &Command<'_>) -> Vec<DeleteTopicState> {
    let id = |name: &str| topic_id(world, name);
    plain_words(command)
        .map(|word| match word.split_once("id:") {
            None => DeleteTopicState {
                name: Some(word.into()),
                ..Default::default()
            },
            Some(("", "")) => DeleteTopicState::default(),
            Some(("", name)) => DeleteTopicState {
                name: None,
                topic_id: id(name),
            },
            Some((_, name)) => DeleteTopicState {
                name: Some(name.into()),
                topic_id: id(name),
            },
        })
        .collect()
}

/// The id of a topic that is or was there, or one that never was.
pub(crate) fn topic_id(world: &World, name: &str) -> Uuid {
    let found = world.names.iter().rev().find(|(_, known)| *known == name);
    found.map_or(Uuid::from_bytes([0xee; 16]), |(id, _)| *id)
}

fn more_partitions(name: &str, command: &Command<'_>) -> CreatePartitionsTopic {
    let assignment = |text| CreatePartitionsAssignment {
        broker_ids: nodes(text),
    };
    CreatePartitionsTopic {
        name: name.into(),
        count: command.number("count").expect("count="),
        assignments: command
            .text("assign")
            .map(|text| text.split(';').map(assignment).collect()),
    }
}

/// `topic:orders` or `broker:1` or `type-9:x`
fn resource(text: &str) -> (i8, Str) {
    let (kind, name) = text.split_once(':').expect("type:name");
    let kind = match kind {
        "topic" => 2,
        "broker" => 4,
        "group" => 32,
        other => other
            .strip_prefix("type-")
            .and_then(|n| n.parse().ok())
            .expect("a type"),
    };
    (kind, name.into())
}

/// `alter topic:orders set:retention.ms=5 append:cleanup.policy=compact delete:segment.ms=`
fn incremental(command: &Command<'_>, validate_only: bool) -> ControllerRequest {
    use incremental_alter_configs as api;
    let config = |(key, value): &(&str, &str)| {
        let (op, name) = key.split_once(':').expect("op:key=value");
        let ops = ["set", "delete", "append", "subtract"];
        let op = ops.iter().position(|o| *o == op).map_or(9, |op| op as i8);
        let value = (op != 1).then(|| Str::from(*value));
        api::AlterableConfig {
            name: name.into(),
            config_operation: op,
            value,
        }
    };
    let resources = plain_words(command).map(|word| {
        let (resource_type, resource_name) = resource(word);
        let configs = command.pairs.iter().map(config).collect();
        api::AlterConfigsResource {
            resource_type,
            resource_name,
            configs,
        }
    });
    let resources = resources.collect();
    ControllerRequest::IncrementalAlterConfigs(api::IncrementalAlterConfigsRequest {
        resources,
        validate_only,
    })
}

/// `replace topic:orders retention.ms=5`
fn replace(command: &Command<'_>, validate_only: bool) -> ControllerRequest {
    use alter_configs as api;
    let config = |(name, value): &(&str, &str)| {
        let value = Some((*value).into());
        api::AlterableConfig {
            name: (*name).into(),
            value,
        }
    };
    let resources = plain_words(command).map(|word| {
        let (resource_type, resource_name) = resource(word);
        let configs = command.pairs.iter().map(config).collect();
        api::AlterConfigsResource {
            resource_type,
            resource_name,
            configs,
        }
    });
    let resources = resources.collect();
    ControllerRequest::AlterConfigs(api::AlterConfigsRequest {
        resources,
        validate_only,
    })
}

fn print(world: &World, effects: &[Effect], output: &mut String) {
    for effect in effects {
        match effect {
            Effect::Append {
                base_offset,
                records,
            } => {
                writeln!(output, "append at {base_offset}").expect("text");
                for record in records {
                    writeln!(output, "  {}", describe(world, record)).expect("text");
                }
            }
            Effect::Reply {
                request_id,
                response,
            } => {
                writeln!(output, "reply to {request_id}").expect("text");
                reply(world, response, output);
            }
            other => panic!("unknown effect {other:?}"),
        }
    }
}

fn describe(world: &World, record: &MetadataRecord) -> String {
    let name = |id: &Uuid| world.names.get(id).map_or("?", String::as_str);
    match record {
        MetadataRecord::Topic(r) => format!("topic {}", r.name),
        MetadataRecord::Partition(r) => format!(
            "partition {}-{} replicas={:?} isr={:?} leader={}",
            name(&r.topic_id),
            r.partition_id,
            r.replicas,
            r.isr,
            r.leader
        ),
        MetadataRecord::PartitionChange(r) => change(name(&r.topic_id), r),
        MetadataRecord::RemoveTopic(r) => format!("remove topic {}", name(&r.topic_id)),
        MetadataRecord::Config(r) => {
            let value = r.value.as_ref().map_or("(removed)", |value| value.as_str());
            format!(
                "config {}:{} {}={value}",
                r.resource_type, r.resource_name, r.name
            )
        }
        MetadataRecord::RegisterBroker(r) => format!(
            "register broker {} epoch={} fenced={} rack={:?}",
            r.broker_id, r.broker_epoch, r.fenced, r.rack
        ),
        MetadataRecord::BrokerRegistrationChange(r) => registration_change(r),
        MetadataRecord::UnregisterBroker(r) => {
            format!("unregister broker {} epoch={}", r.broker_id, r.broker_epoch)
        }
        MetadataRecord::RegisterController(r) => {
            format!("register controller {}", r.controller_id)
        }
        MetadataRecord::NoOp(_) => "nothing".into(),
        MetadataRecord::BeginTransaction(_) => "begin transaction".into(),
        MetadataRecord::EndTransaction(_) => "end transaction".into(),
        MetadataRecord::AbortTransaction(_) => "abort transaction".into(),
        MetadataRecord::ClearElr(r) => format!("clear elr {:?}", r.topic_name.as_str()),
        MetadataRecord::ProducerIds(r) => format!("next producer id {}", r.next_producer_id),
        MetadataRecord::FeatureLevel(r) => format!("feature {}={}", r.name, r.feature_level),
        other => panic!("no words for {other:?}"),
    }
}

fn change(topic: &str, record: &PartitionChangeRecord) -> String {
    let mut text = format!("change {topic}-{}", record.partition_id);
    if record.leader != NO_LEADER_CHANGE {
        write!(text, " leader={}", record.leader).expect("text");
    }
    if let Some(isr) = &record.isr {
        write!(text, " isr={isr:?}").expect("text");
    }
    if record.leader_recovery_state == 1 {
        text.push_str(" recovering");
    }
    if let Some(directories) = &record.directories {
        write!(text, " directories={}", dir_numbers(directories)).expect("text");
    }
    partitions::change(record, &mut text);
    text
}

fn registration_change(record: &BrokerRegistrationChangeRecord) -> String {
    let mut text = format!("broker {}", record.broker_id);
    match record.fenced {
        -1 => text.push_str(" unfenced"),
        1 => text.push_str(" fenced"),
        _ => {}
    }
    if record.in_controlled_shutdown == 1 {
        text.push_str(" is shutting down");
    }
    if !record.log_dirs.is_empty() {
        write!(text, " directories={}", dir_numbers(&record.log_dirs)).expect("text");
    }
    if let Some(cordoned) = &record.cordoned_log_dirs {
        write!(text, " cordoned={}", dir_numbers(cordoned)).expect("text");
    }
    text
}

/// Directory ids as [`directories`] takes them.
fn dir_numbers(ids: &[Uuid]) -> String {
    let number = |id: &Uuid| id.as_bytes()[15].to_string();
    ids.iter().map(number).collect::<Vec<_>>().join(",")
}

fn reply(world: &World, response: &ControllerResponse, output: &mut String) {
    let mut line = |what: String, code: ErrorCode, message: &Option<Str>| {
        let message = message
            .as_ref()
            .map_or(String::new(), |message| format!(": {message}"));
        let code = if code.is_ok() {
            "ok".into()
        } else {
            code.to_string()
        };
        writeln!(output, "  {what} {code}{message}").expect("text");
    };
    if partitions::reply(world, response, &mut line) {
        return;
    }
    match response {
        ControllerResponse::CreateTopics(r) => {
            r.topics
                .iter()
                .for_each(|t| line(created(t), t.error_code, &t.error_message));
        }
        ControllerResponse::DeleteTopics(r) => {
            for t in &r.responses {
                let id = world.names.get(&t.topic_id).map_or("?", String::as_str);
                let id = if t.topic_id.is_zero() { "-" } else { id };
                let name = t.name.as_ref().map_or("-", TopicName::as_str);
                line(
                    format!("name={name} id={id}"),
                    t.error_code,
                    &t.error_message,
                );
            }
        }
        ControllerResponse::CreatePartitions(r) => {
            r.results
                .iter()
                .for_each(|t| line(t.name.to_string(), t.error_code, &t.error_message));
        }
        ControllerResponse::IncrementalAlterConfigs(r) => {
            for r in &r.responses {
                let what = format!("{}:{}", r.resource_type, r.resource_name);
                line(what, r.error_code, &r.error_message);
            }
        }
        ControllerResponse::AlterConfigs(r) => {
            for r in &r.responses {
                let what = format!("{}:{}", r.resource_type, r.resource_name);
                line(what, r.error_code, &r.error_message);
            }
        }
        ControllerResponse::BrokerRegistration(Ok(epoch)) => {
            line(format!("epoch={epoch}"), ErrorCode::NONE, &None);
        }
        ControllerResponse::BrokerHeartbeat(Ok(r)) => {
            let words = [
                (r.is_caught_up, "caught up"),
                (r.is_fenced, "fenced"),
                (r.should_shut_down, "should shut down"),
            ];
            let words = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
            line(words.collect::<Vec<_>>().join(", "), ErrorCode::NONE, &None);
        }
        ControllerResponse::AssignReplicasToDirs(r) => {
            if r.error_code.is_err() {
                line("refused".into(), r.error_code, &None);
            }
            for directory in &r.directories {
                for topic in &directory.topics {
                    let name = world.names.get(&topic.topic_id).map_or("?", String::as_str);
                    let dir = dir_numbers(&[directory.id]);
                    for p in &topic.partitions {
                        let what = format!("{name}-{} in {dir}", p.partition_index);
                        line(what, p.error_code, &None);
                    }
                }
            }
        }
        ControllerResponse::UpdateFeatures(r) => {
            line("all".into(), r.error_code, &r.error_message);
            for r in &r.results {
                line(r.feature.to_string(), r.error_code, &r.error_message);
            }
        }
        ControllerResponse::AllocateProducerIds(Ok(block)) => {
            line(
                format!("{} ids from {}", block.len, block.first),
                ErrorCode::NONE,
                &None,
            );
        }
        ControllerResponse::BrokerUnreachable(Ok(()))
        | ControllerResponse::UnregisterBroker(Ok(()))
        | ControllerResponse::ControllerRegistration(Ok(()))
        | ControllerResponse::Bootstrap(Ok(())) => line("done".into(), ErrorCode::NONE, &None),
        ControllerResponse::BrokerRegistration(Err(e))
        | ControllerResponse::BrokerHeartbeat(Err(e))
        | ControllerResponse::BrokerUnreachable(Err(e))
        | ControllerResponse::UnregisterBroker(Err(e))
        | ControllerResponse::ControllerRegistration(Err(e))
        | ControllerResponse::Bootstrap(Err(e))
        | ControllerResponse::AllocateProducerIds(Err(e)) => {
            line("refused".into(), e.code, &e.message);
        }
        other => panic!("no words for {other:?}"),
    }
}

fn created(topic: &CreatableTopicResult) -> String {
    if topic.error_code.is_err() {
        return topic.name.to_string();
    }
    assert!(
        topic
            .configs
            .as_ref()
            .is_some_and(|configs| configs.len() > 20)
    );
    let (partitions, factor) = (topic.num_partitions, topic.replication_factor);
    format!("{} partitions={partitions} factor={factor}", topic.name)
}

/// Where the replicas of a topic are.
fn directories_of(image: &Image, topic: &str) -> String {
    let mut output = String::new();
    for (index, p) in &image.topic(topic).expect("a topic").partitions {
        let replicas = p.replicas.iter().zip(&p.directories);
        let replicas = replicas.map(|(node, id)| format!("{node} in {}", dir_numbers(&[*id])));
        let replicas = replicas.collect::<Vec<_>>().join(", ");
        writeln!(output, "{topic}-{index} {replicas}").expect("text");
    }
    output
}

/// The brokers of an image, or the partitions of one topic.
fn image(image: &Image, what: &str) -> String {
    let mut output = String::new();
    if what == "brokers" {
        for b in image.brokers() {
            let state = match (b.fenced, b.in_controlled_shutdown) {
                (true, _) => "fenced",
                (false, true) => "shutting down",
                (false, false) => "active",
            };
            write!(output, "broker {} epoch={} {state}", b.id, b.epoch).expect("text");
            if b.log_dirs.len() > 1 {
                write!(output, " directories={}", dir_numbers(&b.log_dirs)).expect("text");
            }
            output.push('\n');
        }
        return if output.is_empty() {
            "no brokers\n".into()
        } else {
            output
        };
    }
    let Some(topic) = image.topic(what) else {
        return format!("no topic {what}\n");
    };
    for (index, p) in &topic.partitions {
        writeln!(
            output,
            "{what}-{index} leader={} isr={:?} replicas={:?} leader-epoch={} partition-epoch={}{}",
            p.leader,
            p.isr,
            p.replicas,
            p.leader_epoch,
            p.partition_epoch,
            partitions::rest(p)
        )
        .expect("text");
    }
    for (key, value) in image.topic_configs(what).iter() {
        writeln!(output, "{key}={value}").expect("text");
    }
    output
}
