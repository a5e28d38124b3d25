//! The words of the stories about consumer groups (KIP-848).
#![allow(unreachable_pub, reason = "part of a test")]

use std::time::Duration;

use tidelog_coordinator::group::history::Rebalance;
use tidelog_coordinator::group::{GroupRecord, GroupRequest, GroupSettings};
use tidelog_protocol::messages::consumer_group_describe::{
    Assignment as DescribedAssignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use tidelog_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use tidelog_types::{ErrorCode, Str, TopicId};

use crate::Words;
use crate::shown::{seconds, show_error};
use crate::world::{START, World};

/// Makes up the request of a command.
pub fn request(world: &World, words: &Words<'_>) -> Option<(i16, GroupRequest)> {
    let group_id = words.group().into();
    match words.plain[0] {
        "beat" => {
            let epoch = words.number("epoch", 0);
            let owned = match words.get("owned") {
                None if epoch == 0 => Some(Vec::new()),
                None => None,
                Some("-") => Some(Vec::new()),
                Some(owned) => Some(partitions(world, owned)),
            };
            let topics = words.get("topics").map(|topics| {
                let names = topics
                    .split(',')
                    .filter(|name| !name.is_empty() && *name != "-");
                names.map(Into::into).collect()
            });
            let request = ConsumerGroupHeartbeatRequest {
                group_id,
                member_id: words.text("member", ""),
                member_epoch: epoch,
                instance_id: words.get("instance").map(Str::from),
                rack_id: words.get("rack").map(Str::from),
                rebalance_timeout_ms: words
                    .number("rebalance", if epoch == 0 { 60_000 } else { -1 }),
                subscribed_topic_names: topics,
                subscribed_topic_regex: words.get("regex").map(Str::from),
                server_assignor: words.get("assignor").map(Str::from),
                topic_partitions: owned,
            };
            let version = words.number("version", 1);
            Some((version, GroupRequest::ConsumerGroupHeartbeat(request)))
        }
        "show" => {
            let request = ConsumerGroupDescribeRequest {
                group_ids: words.groups().map(Into::into).collect(),
                include_authorized_operations: false,
            };
            Some((1, GroupRequest::ConsumerGroupDescribe(request)))
        }
        _ => None,
    }
}

/// `orders:0,1|users:2`
fn partitions(world: &World, text: &str) -> Vec<TopicPartitions> {
    let topics = text.split('|').map(|topic| {
        let (name, partitions) = topic.split_once(':').expect("topic:partitions");
        TopicPartitions {
            topic_id: world.topic_id(name),
            partitions: partitions
                .split(',')
                .map(|p| p.parse().expect("a number"))
                .collect(),
        }
    });
    topics.collect()
}

pub fn settings(words: &Words<'_>) -> GroupSettings {
    let number = |key| words.get(key).map(|text| text.parse().expect("a number"));
    GroupSettings {
        consumer_session_timeout_ms: number("session"),
        consumer_heartbeat_interval_ms: number("heartbeat"),
        consumer_assignment_interval_ms: number("interval"),
    }
}

pub fn show_heartbeat(world: &World, r: &ConsumerGroupHeartbeatResponse) -> String {
    if r.error_code != ErrorCode::NONE {
        return format!("beat {}", show_error(r.error_code));
    }
    let assignment = r
        .assignment
        .as_ref()
        .map_or_else(String::new, |assignment| {
            let topics = assignment.topic_partitions.iter();
            let topics = topics.map(|t| show_topic(world, t.topic_id, &t.partitions));
            format!(" assignment=[{}]", topics.collect::<Vec<_>>().join(" "))
        });
    let member = r.member_id.as_deref().unwrap_or("-");
    let interval = match r.heartbeat_interval_ms {
        0 | 5_000 => String::new(),
        other => format!(" interval={other}"),
    };
    format!(
        "beat member={member} epoch={}{interval}{assignment}",
        r.member_epoch
    )
}

fn show_topic(world: &World, id: TopicId, partitions: &[i32]) -> String {
    let numbers: Vec<_> = partitions.iter().map(i32::to_string).collect();
    format!("{}:{}", world.topic_name(id), numbers.join(","))
}

pub fn show_described(world: &World, r: &ConsumerGroupDescribeResponse) -> String {
    let show = |assignment: &DescribedAssignment| {
        let topics = assignment.topic_partitions.iter();
        let topics = topics.map(|t| show_topic(world, t.topic_id, &t.partitions));
        topics.collect::<Vec<_>>().join(" ")
    };
    let groups = r.groups.iter().map(|group| {
        if group.error_code != ErrorCode::NONE {
            return format!(" {}={}", group.group_id, show_error(group.error_code));
        }
        let members = group.members.iter().map(|m| {
            let kind = if m.member_type == 0 { "classic " } else { "" };
            let assigned = show(&m.assignment);
            format!(
                "{kind}{}@{} [{assigned}]->[{}]",
                m.member_id,
                m.member_epoch,
                show(&m.target_assignment)
            )
        });
        format!(
            " {}={} epoch={} assignment-epoch={} assignor={} members=[{}]",
            group.group_id,
            group.group_state,
            group.group_epoch,
            group.assignment_epoch,
            group.assignor_name,
            members.collect::<Vec<_>>().join("; "),
        )
    });
    format!("show{}", groups.collect::<String>())
}

pub fn show_record(world: &World, record: &GroupRecord) -> Option<String> {
    let show = |topics: &[tidelog_protocol::records::group::consumer::TopicPartitions]| {
        let topics = topics.iter().map(|t| {
            let epochs = t.assignment_epochs.iter().flatten().map(i32::to_string);
            let epochs: Vec<_> = epochs.collect();
            format!(
                "{}/{}",
                show_topic(world, t.topic_id, &t.partitions),
                epochs.join(",")
            )
        });
        topics.collect::<Vec<_>>().join(" ")
    };
    Some(match record {
        GroupRecord::ConsumerGroupMetadata { group_id, value } => match value {
            Some(value) => format!("{group_id} epoch={}", value.epoch),
            None => format!("{group_id} consumer-group gone"),
        },
        GroupRecord::ConsumerGroupPartitionMetadata { group_id, value } => {
            format!(
                "{group_id} partition-metadata {}",
                if value.is_some() { "" } else { "gone" }
            )
        }
        GroupRecord::ConsumerGroupMember {
            group_id,
            member_id,
            value,
        } => match value {
            Some(value) => {
                let topics: Vec<_> = value
                    .subscribed_topic_names
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let option = |name: &str, text: &Option<Str>| match text {
                    Some(text) if !text.is_empty() => format!(" {name}={text}"),
                    _ => String::new(),
                };
                let classic = if value.classic_member_metadata.is_some() {
                    " classic"
                } else {
                    ""
                };
                format!(
                    "{group_id} member {member_id}{classic} topics=[{}]{}{}{}",
                    topics.join(","),
                    option("regex", &value.subscribed_topic_regex),
                    option("instance", &value.instance_id),
                    option("assignor", &value.server_assignor),
                )
            }
            None => format!("{group_id} member {member_id} gone"),
        },
        GroupRecord::ConsumerGroupTarget { group_id, value } => match value {
            Some(value) => format!("{group_id} assignment-epoch={}", value.assignment_epoch),
            None => format!("{group_id} assignment-epoch gone"),
        },
        GroupRecord::ConsumerGroupTargetMember {
            group_id,
            member_id,
            value,
        } => match value {
            Some(value) => {
                let topics = value.topic_partitions.iter();
                let topics = topics.map(|t| show_topic(world, t.topic_id, &t.partitions));
                format!(
                    "{group_id} target {member_id}=[{}]",
                    topics.collect::<Vec<_>>().join(" ")
                )
            }
            None => format!("{group_id} target {member_id} gone"),
        },
        GroupRecord::ConsumerGroupCurrentMember {
            group_id,
            member_id,
            value,
        } => match value {
            Some(value) => {
                let state = match value.state {
                    0 => "stable",
                    1 => "unrevoked",
                    2 => "unreleased",
                    _ => "?",
                };
                let revoking = show(&value.partitions_pending_revocation);
                let revoking = if revoking.is_empty() {
                    revoking
                } else {
                    format!(" revoking=[{revoking}]")
                };
                format!(
                    "{group_id} current {member_id} epoch={}({}) {state} [{}]{revoking}",
                    value.member_epoch,
                    value.previous_member_epoch,
                    show(&value.assigned_partitions),
                )
            }
            None => format!("{group_id} current {member_id} gone"),
        },
        GroupRecord::ConsumerGroupRegex {
            group_id,
            regex,
            value,
        } => match value {
            Some(value) => {
                let topics: Vec<_> = value.topics.iter().map(ToString::to_string).collect();
                format!("{group_id} regex {regex}=[{}]", topics.join(","))
            }
            None => format!("{group_id} regex {regex} gone"),
        },
        GroupRecord::OffsetCommit { .. } | GroupRecord::GroupMetadata { .. } => return None,
    })
}

/// A rebalance in a few lines.
pub fn show_rebalance(rebalance: &Rebalance) -> Vec<String> {
    let since = rebalance.started.millis_since(START).unsigned_abs();
    let phases = rebalance
        .phases
        .iter()
        .map(|p| format!(" {}={}ms", p.phase.name(), p.millis));
    let mut lines = vec![format!(
        "{} {} at {}: {} with {} members,{}",
        rebalance.protocol.name(),
        rebalance.epoch,
        seconds(Duration::from_millis(since)),
        rebalance.outcome.name(),
        rebalance.members,
        phases.collect::<String>(),
    )];
    lines.extend(
        rebalance
            .causes
            .iter()
            .map(|cause| format!("  because {cause}")),
    );
    lines.extend(
        rebalance
            .waited_for
            .iter()
            .filter(|wait| wait.millis > 0)
            .map(|wait| {
                let verb = if wait.gave_up {
                    "gave up on"
                } else {
                    "waited for"
                };
                format!(
                    "  {verb} {} {}ms {}",
                    wait.who,
                    wait.millis,
                    wait.phase.name()
                )
            }),
    );
    let moves = rebalance.moves.iter().map(|m| {
        let name = |who: &Option<Str>| {
            who.as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string)
        };
        format!(
            " {}:{} {}->{}",
            m.topic,
            m.partition,
            name(&m.from),
            name(&m.to)
        )
    });
    let moves: String = moves.collect();
    if !moves.is_empty() {
        lines.push(format!("  moved {}:{moves}", rebalance.moves_count));
    }
    lines
}
