//! Commands and answers about leaders, ISRs and reassignments.

use std::fmt::Write as _;
use std::time::Duration;

use tidelog_metadata::controller::{
    ControllerRequest, ControllerResponse, Effect, Input, list_partition_reassignments,
};
use tidelog_metadata::image::{Image, PartitionImage};
use tidelog_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use tidelog_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use tidelog_protocol::messages::{alter_partition, elect_leaders};
use tidelog_protocol::records::metadata::{MetadataRecord, PartitionChangeRecord};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Str};

use crate::scenario::Command;
use crate::scenarios::{nodes, numbers, plain_words, topic_id};
use crate::world::World;

/// The request of a command that is about partitions.
pub(crate) fn request(world: &World, command: &Command<'_>) -> Option<ControllerRequest> {
    match command.name {
        "alter-partition" => Some(alter_partition(world, command)),
        "elect" => Some(elect(command)),
        "reassign" => Some(reassign(command)),
        _ => None,
    }
}

/// Time passes, and the brokers that serve go on saying so. What comes of it beside that is returned.
pub(crate) fn wait(world: &mut World, time: Duration) -> Vec<Effect> {
    // Just often enough for the sessions.
    const BEAT: Duration = Duration::from_secs(8);
    let end = world.now.instant + time;
    let mut effects = Vec::new();
    loop {
        let left = end.saturating_duration_since(world.now.instant);
        world.pass(left.min(BEAT));
        let is_due = |world: &World| {
            let due = world.controller.deadline();
            due.is_some_and(|at| at <= world.now.instant)
        };
        while is_due(world) {
            effects.extend(world.handle(Input::Timeout));
        }
        let brokers = world.controller.image().brokers();
        let serving: Vec<i32> = brokers
            .filter(|b| b.is_active())
            .map(|b| b.id.value())
            .collect();
        for id in serving {
            let heartbeat = world.heartbeat(id);
            effects.extend(world.ask(ControllerRequest::BrokerHeartbeat(heartbeat)));
        }
        effects.extend(world.commit_all());
        if left <= BEAT {
            break;
        }
    }
    effects.retain(|effect| match effect {
        Effect::Append { records, .. } => !records
            .iter()
            .all(|record| matches!(record, MetadataRecord::NoOp(_))),
        Effect::Reply { response, .. } => {
            !matches!(response, ControllerResponse::BrokerHeartbeat(_))
        }
        _ => true,
    });
    effects
}

/// `orders-0` as name and number.
fn named(text: &str) -> (&str, i32) {
    let (topic, index) = text.rsplit_once('-').expect("topic-partition");
    (topic, index.parse().expect("a partition"))
}

fn partition<'a>(image: &'a Image, text: &str) -> Option<&'a PartitionImage> {
    let (topic, index) = named(text);
    image.topic(topic)?.partition(index)
}

/// `alter-partition orders-0 isr=1,2`: the leader asks, knowing everything. `leader=`, `broker-epoch=`, `epochs=` (of the
/// ISR; `-` for the registered one), `leader-epoch=`, `partition-epoch=` (`+1` and `-1` go by what they are) and `state=`
/// say otherwise, `unchecked` takes the shape before version 3, and further partitions are asked the same.
fn alter_partition(world: &World, command: &Command<'_>) -> ControllerRequest {
    use alter_partition as api;
    let image = world.controller.image();
    let words: Vec<&str> = plain_words(command)
        .filter(|word| *word != "unchecked")
        .collect();
    let first = partition(image, words[0]).cloned().unwrap_or_default();
    let leader = command
        .number("leader")
        .unwrap_or_else(|| first.leader.value());
    let relative = |key: &str, from: i32| match command.text(key) {
        Some("+1") => from + 1,
        Some("-1") => from - 1,
        Some(other) => other.parse().expect("an epoch"),
        None => from,
    };
    let isr = nodes(command.text("isr").expect("isr="));
    let epochs: Vec<&str> = command
        .text("epochs")
        .map_or(Vec::new(), |e| e.split(',').collect());
    let member = |(at, id): (usize, &NodeId)| api::BrokerState {
        broker_id: *id,
        broker_epoch: match epochs.get(at) {
            None | Some(&"-") => world.epoch(id.value()).broker_epoch,
            Some(epoch) => epoch.parse().expect("an epoch"),
        },
    };
    let topic = |word: &&str| {
        let (name, partition_index) = named(word);
        let known = partition(image, word).unwrap_or(&first);
        let mut wanted = api::PartitionData {
            partition_index,
            leader_epoch: LeaderEpoch::new(relative("leader-epoch", known.leader_epoch.value())),
            partition_epoch: relative("partition-epoch", known.partition_epoch),
            leader_recovery_state: command.number("state").unwrap_or(0),
            ..Default::default()
        };
        if command.has("unchecked") {
            wanted.new_isr.clone_from(&isr);
        } else {
            wanted.new_isr_with_epochs = isr.iter().enumerate().map(member).collect();
        }
        api::TopicData {
            topic_id: topic_id(world, name),
            partitions: vec![wanted],
            ..Default::default()
        }
    };
    let sender = world.epoch(leader);
    ControllerRequest::AlterPartition(api::AlterPartitionRequest {
        broker_id: sender.broker_id,
        broker_epoch: command
            .number("broker-epoch")
            .unwrap_or(sender.broker_epoch),
        topics: words.iter().map(topic).collect(),
    })
}

/// `elect preferred orders-0 other-1`, `elect unclean all`, `elect type-7 orders-0`
fn elect(command: &Command<'_>) -> ControllerRequest {
    use elect_leaders as api;
    let mut words = plain_words(command);
    let election_type = match words.next().expect("an election") {
        "preferred" => 0,
        "unclean" => 1,
        other => other
            .strip_prefix("type-")
            .and_then(|n| n.parse().ok())
            .expect("a type"),
    };
    let topic = |word: &str| {
        let (name, index) = named(word);
        api::TopicPartitions {
            topic: name.into(),
            partitions: vec![index],
        }
    };
    let topic_partitions = if command.has("all") {
        None
    } else {
        Some(words.map(topic).collect())
    };
    ControllerRequest::ElectLeaders(api::ElectLeadersRequest {
        election_type,
        topic_partitions,
        timeout_ms: command.number("timeout").unwrap_or(60_000),
    })
}

/// `reassign orders-0=1,2 other-0=cancel`; with `same-factor` the number of replicas must stay.
fn reassign(command: &Command<'_>) -> ControllerRequest {
    let wanted = command.pairs.iter().filter(|(key, _)| *key != "timeout");
    let topic = |(key, value): &(&str, &str)| {
        let (name, partition_index) = named(key);
        let replicas = (*value != "cancel").then(|| nodes(value));
        ReassignableTopic {
            name: name.into(),
            partitions: vec![ReassignablePartition {
                partition_index,
                replicas,
            }],
        }
    };
    ControllerRequest::AlterPartitionReassignments(AlterPartitionReassignmentsRequest {
        timeout_ms: command.number("timeout").unwrap_or(60_000),
        allow_replication_factor_change: !command.has("same-factor"),
        topics: wanted.map(topic).collect(),
    })
}

/// `reassignments` of all partitions, or `reassignments orders=0,1 other=0`
pub(crate) fn reassignments(image: &Image, command: &Command<'_>) -> String {
    let topic = |(name, indexes): &(&str, &str)| ListPartitionReassignmentsTopics {
        name: (*name).into(),
        partition_indexes: numbers(indexes).collect(),
    };
    let topics = (!command.pairs.is_empty()).then(|| command.pairs.iter().map(topic).collect());
    let request = ListPartitionReassignmentsRequest {
        topics,
        ..Default::default()
    };
    let response = list_partition_reassignments(image, &request);
    let mut output = String::new();
    for topic in &response.topics {
        for p in &topic.partitions {
            let (name, index) = (&topic.name, p.partition_index);
            let (replicas, adding, removing) =
                (&p.replicas, &p.adding_replicas, &p.removing_replicas);
            writeln!(
                output,
                "{name}-{index} replicas={replicas:?} adding={adding:?} removing={removing:?}"
            )
            .expect("text");
        }
    }
    if output.is_empty() {
        "nothing\n".into()
    } else {
        output
    }
}

/// Prints an answer about partitions with `line`; whether it was one.
pub(crate) fn reply(
    world: &World,
    response: &ControllerResponse,
    mut line: impl FnMut(String, ErrorCode, &Option<Str>),
) -> bool {
    match response {
        ControllerResponse::AlterPartition(r) => {
            if r.error_code.is_err() {
                line("refused".into(), r.error_code, &None);
            }
            for topic in &r.topics {
                let name = world.names.get(&topic.topic_id).map_or("?", String::as_str);
                for p in &topic.partitions {
                    let mut what = format!("{name}-{}", p.partition_index);
                    if p.error_code.is_ok() {
                        write!(
                            what,
                            " leader={} isr={:?} state={} leader-epoch={} partition-epoch={}",
                            p.leader_id,
                            p.isr,
                            p.leader_recovery_state,
                            p.leader_epoch,
                            p.partition_epoch
                        )
                        .expect("text");
                    }
                    line(what, p.error_code, &None);
                }
            }
        }
        ControllerResponse::ElectLeaders(r) => {
            if r.error_code.is_err() {
                line("refused".into(), r.error_code, &None);
            }
            for topic in &r.replica_election_results {
                for p in &topic.partition_result {
                    line(
                        format!("{}-{}", topic.topic, p.partition_id),
                        p.error_code,
                        &p.error_message,
                    );
                }
            }
        }
        ControllerResponse::AlterPartitionReassignments(r) => {
            if r.error_code.is_err() {
                line("refused".into(), r.error_code, &r.error_message);
            }
            for topic in &r.responses {
                for p in &topic.partitions {
                    line(
                        format!("{}-{}", topic.name, p.partition_index),
                        p.error_code,
                        &p.error_message,
                    );
                }
            }
        }
        _ => return false,
    }
    true
}

/// What a record changes beside leader and ISR.
pub(crate) fn change(record: &PartitionChangeRecord, text: &mut String) {
    let lists = [
        ("elr", &record.eligible_leader_replicas),
        ("last-known", &record.last_known_elr),
        ("replicas", &record.replicas),
        ("adding", &record.adding_replicas),
        ("removing", &record.removing_replicas),
    ];
    for (name, list) in lists {
        if let Some(list) = list {
            write!(text, " {name}={list:?}").expect("text");
        }
    }
    if record.leader_recovery_state == 0 {
        text.push_str(" recovered");
    }
}

/// What a partition has beside leader, ISR, replicas and epochs, if anything.
pub(crate) fn rest(partition: &PartitionImage) -> String {
    let lists = [
        ("elr", &partition.eligible_leader_replicas),
        ("last-known", &partition.last_known_elr),
        ("adding", &partition.adding_replicas),
        ("removing", &partition.removing_replicas),
    ];
    let mut text = String::new();
    for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        write!(text, " {name}={list:?}").expect("text");
    }
    if partition.leader_recovery_state as i8 == 1 {
        text.push_str(" recovering");
    }
    text
}
