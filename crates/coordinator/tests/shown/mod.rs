//! How the stories show what the coordinator answers.

use std::time::Duration;

use bytes::Bytes;
use tidelog_coordinator::group::GroupResponse;
use tidelog_protocol::records::consumer_protocol::ConsumerProtocolAssignment;
use tidelog_types::ErrorCode;

/// An assignment in the words of consumers; in most stories it is plain text.
pub(crate) fn consumer_assignment(bytes: &Bytes) -> Option<String> {
    let assignment = ConsumerProtocolAssignment::decode_versioned(bytes).ok()?;
    let topics = assignment.assigned_partitions.iter().map(|topic| {
        let numbers: Vec<_> = topic.partitions.iter().map(i32::to_string).collect();
        format!("{}:{}", topic.topic, numbers.join(","))
    });
    Some(topics.collect::<Vec<_>>().join(" "))
}

pub(crate) fn show_response(response: &GroupResponse) -> String {
    match response {
        GroupResponse::ConsumerGroupHeartbeat(_) | GroupResponse::ConsumerGroupDescribe(_) => {
            unreachable!("shown with the names of the topics")
        }
        GroupResponse::JoinGroup(r) if r.error_code != ErrorCode::NONE => {
            format!("join {} member={}", show_error(r.error_code), r.member_id)
        }
        GroupResponse::JoinGroup(r) => {
            let skip = if r.skip_assignment {
                " skip-assignment"
            } else {
                ""
            };
            let members: Vec<_> = r.members.iter().map(|m| m.member_id.to_string()).collect();
            let protocol = r.protocol_name.as_deref().unwrap_or("-");
            format!(
                "join generation={} protocol={protocol} leader={} member={} members=[{}]{skip}",
                r.generation_id,
                r.leader,
                r.member_id,
                members.join(" "),
            )
        }
        GroupResponse::SyncGroup(r) if r.error_code == ErrorCode::NONE => {
            format!("sync assignment={}", show_bytes(&r.assignment))
        }
        GroupResponse::SyncGroup(r) => format!("sync {}", show_error(r.error_code)),
        GroupResponse::Heartbeat(r) => format!("heartbeat {}", show_error(r.error_code)),
        GroupResponse::LeaveGroup(r) => {
            let members = r.members.iter().map(|member| {
                let instance = member.group_instance_id.as_ref();
                let instance = instance.map(|id| format!("({id})")).unwrap_or_default();
                format!(
                    " {}{instance}={}",
                    member.member_id,
                    show_error(member.error_code)
                )
            });
            format!(
                "leave {}{}",
                show_error(r.error_code),
                members.collect::<String>()
            )
        }
        GroupResponse::OffsetCommit(r) => {
            let partitions = r.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |p| {
                    format!(
                        " {}:{}={}",
                        topic.name,
                        p.partition_index,
                        show_error(p.error_code)
                    )
                })
            });
            format!("commit{}", partitions.collect::<String>())
        }
        GroupResponse::OffsetFetch(r) => {
            let partitions = r.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |p| {
                    let place = format!(" {}:{}", topic.name, p.partition_index);
                    let metadata = p.metadata.as_deref().unwrap_or("null");
                    if p.error_code != ErrorCode::NONE {
                        return format!("{place}={}", show_error(p.error_code));
                    }
                    let epoch = p.committed_leader_epoch;
                    format!("{place}@{}/{epoch} {metadata:?}", p.committed_offset)
                })
            });
            format!(
                "fetch {}{}",
                show_error(r.error_code),
                partitions.collect::<String>()
            )
        }
        GroupResponse::OffsetDelete(r) => {
            let partitions = r.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |p| {
                    format!(
                        " {}:{}={}",
                        topic.name,
                        p.partition_index,
                        show_error(p.error_code)
                    )
                })
            });
            format!(
                "delete-offsets {}{}",
                show_error(r.error_code),
                partitions.collect::<String>()
            )
        }
        GroupResponse::ListGroups(r) => {
            let groups = r.groups.iter().map(|group| {
                let kind = &group.protocol_type;
                format!(
                    " {}={}/{}/{kind:?}",
                    group.group_id, group.group_state, group.group_type
                )
            });
            format!(
                "list {}{}",
                show_error(r.error_code),
                groups.collect::<String>()
            )
        }
        GroupResponse::DescribeGroups(r) => {
            let groups = r.groups.iter().map(|group| {
                let members = group.members.iter().map(|member| {
                    format!(
                        "{}={}",
                        member.member_id,
                        consumer_assignment(&member.member_assignment)
                            .unwrap_or_else(|| show_bytes(&member.member_assignment))
                    )
                });
                format!(
                    " {}={} {} {:?} {:?} [{}]",
                    group.group_id,
                    show_error(group.error_code),
                    group.group_state,
                    group.protocol_type,
                    group.protocol_data,
                    members.collect::<Vec<_>>().join(" "),
                )
            });
            format!("describe{}", groups.collect::<String>())
        }
        GroupResponse::DeleteGroups(r) => {
            let results = r.results.iter();
            let results = results.map(|r| format!(" {}={}", r.group_id, show_error(r.error_code)));
            format!("delete{}", results.collect::<String>())
        }
    }
}

pub(crate) fn show_error(code: ErrorCode) -> String {
    if code == ErrorCode::NONE {
        "ok".to_owned()
    } else {
        code.name().unwrap_or("?").to_owned()
    }
}

pub(crate) fn show_bytes(bytes: &Bytes) -> String {
    if bytes.is_empty() {
        "-".to_owned()
    } else {
        bytes.escape_ascii().to_string()
    }
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}
