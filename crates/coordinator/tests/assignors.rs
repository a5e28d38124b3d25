//! What holds for every assignment, whoever subscribes to whatever.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidelog_coordinator::assignor::{Assignor, MemberSpec, Partitions};
use tidelog_types::{TopicId, Uuid};

/// A group: how many partitions each topic has, and which topics each member wants.
#[derive(Clone, Debug)]
struct Group {
    topics: BTreeMap<TopicId, i32>,
    members: Vec<(String, Option<String>, BTreeSet<TopicId>)>,
}

fn topic(number: u8) -> TopicId {
    Uuid::from_bytes([number; 16])
}

fn load(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

impl Group {
    fn assign(
        &self,
        assignor: Assignor,
        before: &BTreeMap<String, Partitions>,
    ) -> BTreeMap<String, Partitions> {
        let nothing = Partitions::new();
        let specs: Vec<_> = self
            .members
            .iter()
            .map(|(member_id, instance_id, topics)| MemberSpec {
                member_id,
                instance_id: instance_id.as_deref(),
                topics,
                assigned: before.get(member_id).unwrap_or(&nothing),
            })
            .collect();
        let assigned = assignor.assign(&specs, &self.topics);
        assert_eq!(assigned.len(), specs.len());
        self.members
            .iter()
            .map(|(id, ..)| id.clone())
            .zip(assigned)
            .collect()
    }

    /// Every partition that somebody wants has one owner, who wants it.
    fn check(&self, assigned: &BTreeMap<String, Partitions>) {
        let mut owned = BTreeSet::new();
        for (member_id, _, topics) in &self.members {
            for (id, partitions) in &assigned[member_id] {
                assert!(topics.contains(id) && !partitions.is_empty());
                for partition in partitions {
                    assert!((0..self.topics[id]).contains(partition));
                    assert!(
                        owned.insert((*id, *partition)),
                        "{partition} has two owners"
                    );
                }
            }
        }
        let wanted: BTreeSet<_> = self
            .members
            .iter()
            .flat_map(|(_, _, topics)| topics)
            .collect();
        let all: usize = wanted
            .into_iter()
            .filter_map(|id| self.topics.get(id))
            .map(|n| *n as usize)
            .sum();
        assert_eq!(owned.len(), all, "nothing that somebody wants is left over");
    }

    fn is_homogeneous(&self) -> bool {
        self.members
            .iter()
            .all(|(_, _, topics)| *topics == self.members[0].2)
    }
}

fn groups() -> impl Strategy<Value = Group> {
    let topics = prop::collection::vec(0..12_i32, 1..6);
    let wants = prop_oneof![
        Just(None),
        Just(Some(prop::collection::btree_set(0..6_u8, 0..6)))
    ];
    (topics, wants).prop_flat_map(|(counts, wants)| {
        let each = match wants {
            // Everybody wants everything, which may name a topic that does not exist.
            None => Just(BTreeSet::from([0, 1, 2, 3, 4, 5])).boxed(),
            Some(wants) => wants.boxed(),
        };
        let members =
            prop::collection::btree_map("[a-f]{1,2}", (prop::option::of("[x-z]{3}"), each), 1..9);
        members.prop_map(move |members| Group {
            topics: counts
                .iter()
                .enumerate()
                .map(|(i, n)| (topic(i as u8), *n))
                .collect(),
            members: members
                .into_iter()
                .map(|(id, (instance, topics))| {
                    (id, instance, topics.into_iter().map(topic).collect())
                })
                .collect(),
        })
    })
}

fn moves(before: &BTreeMap<String, Partitions>, after: &BTreeMap<String, Partitions>) -> usize {
    let owners = |assigned: &BTreeMap<String, Partitions>| -> BTreeMap<(TopicId, i32), String> {
        assigned
            .iter()
            .flat_map(|(member, topics)| {
                topics
                    .iter()
                    .flat_map(move |(id, ps)| ps.iter().map(move |p| ((*id, *p), member.clone())))
            })
            .collect()
    };
    let (before, after) = (owners(before), owners(after));
    before
        .iter()
        .filter(|(p, owner)| after.get(p).is_some_and(|new| new != *owner))
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn uniform_is_whole_balanced_and_settles(group in groups(), other in groups()) {
        let fresh = group.assign(Assignor::Uniform, &BTreeMap::new());
        group.check(&fresh);
        // What a quite different group had is no reason to be unfair.
        let before = other.assign(Assignor::Uniform, &BTreeMap::new());
        let assigned = group.assign(Assignor::Uniform, &before);
        group.check(&assigned);
        for assigned in [&fresh, &assigned] {
            for (giver, _, _) in &group.members {
                for (taker, _, topics) in &group.members {
                    let could = assigned[giver].keys().any(|id| topics.contains(id));
                    prop_assert!(!could || load(&assigned[giver]) <= load(&assigned[taker]) + 1);
                }
            }
            // Nothing moves unless something has changed.
            prop_assert_eq!(&group.assign(Assignor::Uniform, assigned), assigned);
        }
    }

    #[test]
    fn uniform_moves_no_more_than_it_must(group in groups(), leaver in any::<prop::sample::Index>()) {
        prop_assume!(group.is_homogeneous() && group.members.len() > 1);
        let before = group.assign(Assignor::Uniform, &BTreeMap::new());
        let mut rest = group.clone();
        let (gone, ..) = rest.members.remove(leaver.index(rest.members.len()));
        let after = rest.assign(Assignor::Uniform, &before);
        rest.check(&after);
        prop_assert_eq!(moves(&before, &after), load(&before[&gone]), "what the others had stays with them");
        // And back: the newcomer gets its share, and nobody else gets anything from anybody.
        let back = group.assign(Assignor::Uniform, &after);
        group.check(&back);
        prop_assert_eq!(moves(&after, &back), load(&back[&gone]));
    }

    #[test]
    fn range_is_whole_and_the_same_for_topics_of_the_same_size(group in groups()) {
        let assigned = group.assign(Assignor::Range, &BTreeMap::new());
        group.check(&assigned);
        for partitions in assigned.values().flat_map(BTreeMap::values) {
            let (first, last) = (partitions.first().unwrap(), partitions.last().unwrap());
            prop_assert_eq!((last - first + 1) as usize, partitions.len(), "neighbours");
        }
        for (a, b) in group.topics.keys().flat_map(|a| group.topics.keys().map(move |b| (a, b))) {
            let both = group.members.iter().all(|(_, _, topics)| topics.contains(a) == topics.contains(b));
            if both && group.topics[a] == group.topics[b] {
                for member in assigned.values() {
                    prop_assert_eq!(member.get(a), member.get(b));
                }
            }
        }
    }
}

#[test]
fn static_members_keep_their_place_in_a_range() {
    let (topics, nothing) = (BTreeSet::from([topic(1)]), Partitions::new());
    let member = |member_id, instance_id| MemberSpec {
        member_id,
        instance_id,
        topics: &topics,
        assigned: &nothing,
    };
    let partitions = BTreeMap::from([(topic(1), 5)]);
    let members = [
        member("a", None),
        member("z", Some("i1")),
        member("b", Some("i2")),
    ];
    let assigned = Assignor::Range.assign(&members, &partitions);
    let of = |index: usize| {
        assigned[index][&topic(1)]
            .iter()
            .copied()
            .collect::<Vec<_>>()
    };
    assert_eq!((of(0), of(1), of(2)), (vec![4], vec![0, 1], vec![2, 3]));
}
