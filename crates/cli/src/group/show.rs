//! What is printed: tables for people, JSON for programs.

use serde_json::{Value, json};
use tidelog_client::{GroupDescription, GroupListing, GroupMember};
use tidelog_types::{GroupId, Str, TopicPartition};

use super::offsets::{Change, Lag};
use crate::output::{Format, nothing, or_nothing, pretty, table};

pub(super) fn groups(groups: &[GroupListing], format: Format) -> String {
    if format == Format::Json {
        let groups = groups.iter().map(|group| {
            json!({
                "group": group.group_id.as_str(),
                "type": group.group_type.as_str(),
                "state": group.state.as_str(),
                "protocolType": group.protocol_type.as_str(),
            })
        });
        return pretty(&groups.collect());
    }
    if groups.is_empty() {
        return "there are no groups".to_owned();
    }
    let rows = groups.iter().map(|group| {
        let word = |word: &Str| or_nothing(word.as_str());
        vec![
            group.group_id.to_string(),
            word(&group.group_type),
            word(&group.state),
            word(&group.protocol_type),
        ]
    });
    table(&["GROUP", "TYPE", "STATE", "PROTOCOL"], rows)
}

pub(super) fn group(group: &GroupDescription, lags: &[Lag], format: Format) -> String {
    if format == Format::Json {
        return pretty(&group_json(group, lags));
    }
    let mut text = format!(
        "group {}: {}, {}, assignor {}, coordinator {} ({})",
        group.group_id,
        group.group_type.name(),
        group.state,
        or_nothing(&group.assignor),
        group.coordinator.address(),
        group.coordinator.id,
    );
    if let (Some(epoch), Some(assignment_epoch)) = (group.epoch, group.assignment_epoch) {
        text.push_str(&format!(
            ", epoch {epoch}, assignment epoch {assignment_epoch}"
        ));
    }
    if !group.members.is_empty() {
        let rows = group.members.iter().map(|member| {
            vec![
                member.member_id.to_string(),
                member
                    .instance_id
                    .as_ref()
                    .map_or_else(nothing, Str::to_string),
                member.client_id.to_string(),
                member.client_host.to_string(),
                member.epoch.map_or_else(nothing, |epoch| epoch.to_string()),
                member.assignment.len().to_string(),
                member
                    .target_assignment
                    .as_ref()
                    .map_or_else(nothing, |target| target.len().to_string()),
            ]
        });
        let heads = [
            "MEMBER",
            "INSTANCE",
            "CLIENT",
            "HOST",
            "EPOCH",
            "PARTITIONS",
            "TO BE",
        ];
        text.push_str("\n\n");
        text.push_str(&table(&heads, rows));
    }
    if !lags.is_empty() {
        let rows = lags.iter().map(|lag| {
            let committed = lag.committed.as_ref();
            vec![
                lag.partition.topic.to_string(),
                lag.partition.partition.to_string(),
                committed.map_or_else(nothing, |committed| committed.offset.to_string()),
                lag.end
                    .as_ref()
                    .map_or_else(ToString::to_string, ToString::to_string),
                lag.lag().map_or_else(nothing, |lag| lag.to_string()),
                lag.owner
                    .as_ref()
                    .map_or_else(nothing, |owner| owner.member_id.to_string()),
            ]
        });
        let heads = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
        text.push_str("\n\n");
        text.push_str(&table(&heads, rows));
    }
    text
}

fn group_json(group: &GroupDescription, lags: &[Lag]) -> Value {
    let member = |member: &GroupMember| {
        json!({
            "member": member.member_id.as_str(),
            "instance": member.instance_id.as_ref().map(Str::as_str),
            "client": member.client_id.as_str(),
            "host": member.client_host.as_str(),
            "epoch": member.epoch,
            "assignment": names(&member.assignment),
            "targetAssignment": names(member.target_assignment.as_ref().unwrap_or(&member.assignment)),
        })
    };
    let lags = lags.iter().map(|lag| {
        json!({
            "topic": lag.partition.topic.as_str(),
            "partition": lag.partition.partition,
            "committed": lag.committed.as_ref().map(|committed| committed.offset.value()),
            "leaderEpoch": lag.committed.as_ref().map(|committed| committed.leader_epoch.value()),
            "metadata": lag.committed.as_ref().map(|committed| committed.metadata.as_str()),
            "end": lag.end.as_ref().ok().map(|end| end.value()),
            "error": lag.end.as_ref().err().map(ToString::to_string),
            "lag": lag.lag(),
            "member": lag.owner.as_ref().map(|owner| owner.member_id.as_str()),
        })
    });
    json!({
        "group": group.group_id.as_str(),
        "type": group.group_type.name(),
        "state": group.state.as_str(),
        "protocolType": group.protocol_type.as_str(),
        "assignor": group.assignor.as_str(),
        "epoch": group.epoch,
        "assignmentEpoch": group.assignment_epoch,
        "coordinator": { "id": group.coordinator.id.value(), "address": group.coordinator.address() },
        "members": group.members.iter().map(member).collect::<Vec<_>>(),
        "partitions": lags.collect::<Vec<_>>(),
    })
}

pub(super) fn changes(
    group: &GroupId,
    changes: &[Change],
    executed: bool,
    format: Format,
) -> String {
    if format == Format::Json {
        let offsets = changes.iter().map(|change| {
            json!({
                "topic": change.partition.topic.as_str(),
                "partition": change.partition.partition,
                "from": change.from.map(|offset| offset.value()),
                "to": change.to.value(),
            })
        });
        let offsets: Vec<_> = offsets.collect();
        return pretty(
            &json!({ "group": group.as_str(), "executed": executed, "offsets": offsets }),
        );
    }
    let rows = changes.iter().map(|change| {
        vec![
            change.partition.topic.to_string(),
            change.partition.partition.to_string(),
            change
                .from
                .map_or_else(nothing, |offset| offset.to_string()),
            change.to.to_string(),
        ]
    });
    let table = table(&["TOPIC", "PARTITION", "FROM", "TO"], rows);
    match executed {
        true => table,
        false => format!("{table}\n\nnothing was changed; with --execute it will be"),
    }
}

pub(super) fn deleted(groups: &[GroupId], format: Format) -> String {
    let names: Vec<_> = groups.iter().map(GroupId::as_str).collect();
    match format {
        Format::Json => pretty(&json!({ "deleted": names })),
        Format::Text => format!("deleted: {}", names.join(", ")),
    }
}

pub(super) fn deleted_offsets(
    group: &GroupId,
    partitions: &[TopicPartition],
    format: Format,
) -> String {
    match format {
        Format::Json => pretty(&json!({ "group": group.as_str(), "deleted": names(partitions) })),
        Format::Text => format!(
            "group {group}, offsets deleted of: {}",
            names(partitions).join(", ")
        ),
    }
}

fn names(partitions: &[TopicPartition]) -> Vec<String> {
    partitions.iter().map(ToString::to_string).collect()
}
