use std::collections::BTreeMap;

use tidelog_types::TopicId;

use super::{MemberSpec, Partitions};

/// How far a topic has been divided.
struct Topic {
    partitions: i32,
    members: i32,
    /// How many members get one partition more than the others.
    extra: i32,
    next: i32,
}

/// Gives each subscriber of a topic a range of it. The order of the members is the same for all topics: static members come
/// first, by the name that they keep.
pub(super) fn assign(
    members: &[MemberSpec<'_>],
    partitions: &BTreeMap<TopicId, i32>,
) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&index| {
        let member = &members[index];
        (
            member.instance_id.is_none(),
            member.instance_id.unwrap_or(member.member_id),
        )
    });
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    for member in members {
        for id in member.topics {
            if let Some(&partitions) = partitions.get(id) {
                let topic = topics.entry(*id).or_insert(Topic {
                    partitions,
                    members: 0,
                    extra: 0,
                    next: 0,
                });
                topic.members += 1;
                topic.extra = partitions % topic.members;
            }
        }
    }
    let mut assigned = vec![Partitions::new(); members.len()];
    for index in order {
        for id in members[index].topics {
            let Some(topic) = topics.get_mut(id) else {
                continue;
            };
            let mut length = topic.partitions / topic.members;
            if topic.extra > 0 {
                topic.extra -= 1;
                length += 1;
            }
            let range = topic.next..topic.next + length;
            topic.next = range.end;
            if !range.is_empty() {
                assigned[index].insert(*id, range.collect());
            }
        }
    }
    assigned
}
