//! What the controller does, told as scenarios.

use std::fmt::Write as _;
use std::time::Duration;

use tidelog_metadata::bootstrap::MetadataVersion;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse, Effect, Input, Limits};
use tidelog_metadata::image::{Image, NO_LEADER_CHANGE};
use tidelog_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use tidelog_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use tidelog_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidelog_protocol::messages::{alter_configs, incremental_alter_configs};
use tidelog_protocol::records::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, PartitionChangeRecord,
};
use tidelog_types::{ErrorCode, NodeId, Str, TopicName, Uuid};

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
        "show" => return image(world.controller.image(), command.words[0]),
        _ => {
            let request = request(world, command);
            world.ask(request)
        }
    };
    let mut output = String::new();
    print(world, &effects, &mut output);
    // Unless the story is about what happens in between, everything is committed at once.
    let asked = !matches!(command.name, "commit" | "resign" | "pass");
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
    world.begin(version, &brokers);
    world
}

fn numbers(text: &str) -> impl Iterator<Item = i32> {
    text.split(',')
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().expect("a number"))
}

fn nodes(text: &str) -> Vec<NodeId> {
    numbers(text).map(NodeId::new).collect()
}

fn request(world: &World, command: &Command<'_>) -> ControllerRequest {
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
        "register" => {
            let incarnation = command.number("incarnation").unwrap_or(1);
            let id = command.words[0].parse().expect("a broker");
            let mut registration = registration(id, incarnation, command.text("rack"));
            if let Some(dirs) = command.text("dirs") {
                let dir = |n: i32| Uuid::from_bytes([n as u8; 16]);
                registration.log_dirs = numbers(dirs).map(dir).collect();
            }
            if command.has("without-features") {
                registration.features.clear();
            }
            ControllerRequest::RegisterBroker(registration)
        }
        "unfence" => ControllerRequest::UnfenceBroker(broker()),
        "fence" => ControllerRequest::FenceBroker(broker()),
        "shut-down" => ControllerRequest::BeginControlledShutdown(broker()),
        "allocate" => {
            let mut broker = broker();
            broker.broker_epoch = command.number("epoch").unwrap_or(broker.broker_epoch);
            ControllerRequest::AllocateProducerIds(broker)
        }
        "bootstrap" => ControllerRequest::Bootstrap(
            tidelog_metadata::bootstrap::bootstrap_records(MetadataVersion::LATEST),
        ),
        other => panic!("no such command: {other}"),
    }
}

/// Words that are not switches: names. `""` is the empty one.
fn plain_words<'a>(command: &Command<'a>) -> impl Iterator<Item = &'a str> {
    const SWITCHES: [&str; 2] = ["validate-only", "hold"];
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
    let id = |name: &str| {
        let found = world.names.iter().rev().find(|(_, known)| *known == name);
        found.map_or(Uuid::from_bytes([0xee; 16]), |(id, _)| *id)
    };
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
    text
}

fn registration_change(record: &BrokerRegistrationChangeRecord) -> String {
    let what = match (record.fenced, record.in_controlled_shutdown) {
        (-1, 0) => "unfenced",
        (1, 0) => "fenced",
        (0, 1) => "is shutting down",
        other => panic!("no words for {other:?}"),
    };
    format!("broker {} {what}", record.broker_id)
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
        ControllerResponse::RegisterBroker(Ok(epoch)) => {
            line(format!("epoch={epoch}"), ErrorCode::NONE, &None);
        }
        ControllerResponse::AllocateProducerIds(Ok(block)) => {
            line(
                format!("{} ids from {}", block.len, block.first),
                ErrorCode::NONE,
                &None,
            );
        }
        ControllerResponse::UnfenceBroker(Ok(()))
        | ControllerResponse::FenceBroker(Ok(()))
        | ControllerResponse::BeginControlledShutdown(Ok(()))
        | ControllerResponse::Bootstrap(Ok(())) => line("done".into(), ErrorCode::NONE, &None),
        ControllerResponse::RegisterBroker(Err(e))
        | ControllerResponse::UnfenceBroker(Err(e))
        | ControllerResponse::FenceBroker(Err(e))
        | ControllerResponse::BeginControlledShutdown(Err(e))
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
            writeln!(output, "broker {} epoch={} {state}", b.id, b.epoch).expect("text");
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
            "{what}-{index} leader={} isr={:?} replicas={:?} leader-epoch={} partition-epoch={}",
            p.leader, p.isr, p.replicas, p.leader_epoch, p.partition_epoch
        )
        .expect("text");
    }
    for (key, value) in image.topic_configs(what).iter() {
        writeln!(output, "{key}={value}").expect("text");
    }
    output
}
