use std::collections::{BTreeMap, BTreeSet};

use tidelog_types::{Str, TopicId, TopicName};

use super::{ConsumerGroup, Member, target_value};
use crate::assignor::{Assignor, MemberSpec, Partitions};
use crate::group::context::Context;
use crate::group::history::{Move, Phase};
use crate::group::{ClusterView, GroupRecord};

impl ConsumerGroup {
    /// Works out who is to have what, if that is due: the group has a new epoch, and the last time was not just now.
    pub(super) fn maybe_update_target(
        &mut self,
        cx: &mut Context<'_>,
        records: &mut Vec<GroupRecord>,
    ) {
        if self.group_epoch() <= self.assignment_epoch || !self.may_assign(cx) {
            return;
        }
        let assigned = self.assign(cx);
        let old_owners = target_owners(&self.targets);
        for (member_id, target) in assigned {
            let is_same = match self.targets.get(&member_id) {
                Some(former) => *former == target,
                None => target.is_empty(),
            };
            if !is_same {
                let record = GroupRecord::ConsumerGroupTargetMember {
                    group_id: self.id.clone(),
                    member_id,
                    value: Some(target_value(&target)),
                };
                self.push(records, record);
            }
        }
        self.push_assignment_epoch(self.group_epoch(), cx.now.timestamp, records);
        self.note_target(cx, &old_owners);
    }

    /// KIP-1263: not more often than the interval allows, so that members that come one by one make one assignment.
    fn may_assign(&self, cx: &Context<'_>) -> bool {
        let settings = cx.view.group_settings(&self.id);
        let interval_ms = settings
            .consumer_assignment_interval_ms
            .unwrap_or(cx.config.consumer_group_assignment_interval_ms);
        let last = self.assignment_timestamp;
        let passed = cx.now.timestamp.millis_since(last);
        // What lies ahead was written by a broker with another clock, and must hold nobody up.
        last.as_millis() == 0 || interval_ms == 0 || passed < 0 || passed >= i64::from(interval_ms)
    }

    fn assign(&self, cx: &Context<'_>) -> Vec<(Str, Partitions)> {
        // Most members of a group subscribe to the same topics, which are looked up once.
        let mut by_subscription: BTreeMap<(&[TopicName], Option<&Str>), usize> = BTreeMap::new();
        let mut wanted: Vec<BTreeSet<TopicId>> = Vec::new();
        let mut partitions = BTreeMap::new();
        let mut chosen = Vec::with_capacity(self.members.len());
        for member in self.members.values() {
            let names = &member.metadata.subscribed_topic_names[..];
            let next = wanted.len();
            let index = *by_subscription
                .entry((names, member.regex()))
                .or_insert(next);
            if index == next {
                wanted.push(self.topics_of(cx.view, member, &mut partitions));
            }
            chosen.push(index);
        }
        let nothing = Partitions::new();
        let specs: Vec<MemberSpec<'_>> = self
            .members
            .values()
            .zip(chosen)
            .map(|(member, index)| MemberSpec {
                member_id: &member.member_id,
                instance_id: member.instance_id().map(|id| &**id),
                topics: &wanted[index],
                assigned: self.targets.get(&member.member_id).unwrap_or(&nothing),
            })
            .collect();
        let assigned = self.assignor(cx).assign(&specs, &partitions);
        self.members.keys().cloned().zip(assigned).collect()
    }

    /// The topics that a member wants, as far as they exist, also by its expression; `partitions` says how many each has.
    fn topics_of(
        &self,
        view: &dyn ClusterView,
        member: &Member,
        partitions: &mut BTreeMap<TopicId, i32>,
    ) -> BTreeSet<TopicId> {
        let mut ids = BTreeSet::new();
        for name in self.subscription_of(member) {
            if let Some(topic) = view.topic(name) {
                partitions.insert(topic.id, topic.partitions);
                ids.insert(topic.id);
            }
        }
        ids
    }

    /// The names of the topics that a member wants.
    pub(super) fn subscription_of<'a>(
        &'a self,
        member: &'a Member,
    ) -> impl Iterator<Item = &'a TopicName> {
        let resolved = member.regex().and_then(|regex| self.regexes.get(regex));
        let resolved = resolved.into_iter().flat_map(|resolved| &resolved.topics);
        member
            .metadata
            .subscribed_topic_names
            .iter()
            .chain(resolved)
    }

    /// The assignor that most members ask for; the first in the alphabet of several.
    pub(super) fn assignor(&self, cx: &Context<'_>) -> Assignor {
        let votes = self.assignors.iter().rev();
        votes
            .max_by_key(|(_, votes)| **votes)
            .and_then(|(name, _)| Assignor::from_name(name))
            .unwrap_or_else(|| cx.config.default_assignor())
    }

    /// Notes what moves, and that the members go for it now.
    fn note_target(&mut self, cx: &mut Context<'_>, old_owners: &BTreeMap<(TopicId, i32), Str>) {
        if !self.history.is_under_way() {
            return;
        }
        self.history.enter(cx.now, Phase::Reconciling);
        let new_owners = target_owners(&self.targets);
        let places: BTreeSet<_> = old_owners.keys().chain(new_owners.keys()).collect();
        let view = cx.view;
        let mut names: BTreeMap<TopicId, TopicName> = BTreeMap::new();
        let moves = places.into_iter().filter_map(|place| {
            let (from, to) = (old_owners.get(place), new_owners.get(place));
            if from == to {
                return None;
            }
            let topic = names.entry(place.0).or_insert_with(|| {
                view.topic_by_id(place.0)
                    .map_or_else(|| TopicName::from(place.0.to_string()), |topic| topic.name)
            });
            Some(Move {
                topic: topic.clone(),
                partition: place.1,
                from: from.cloned(),
                to: to.cloned(),
            })
        });
        self.history.moved(cx.config.history_moves_max, moves);
    }
}

fn target_owners(targets: &BTreeMap<Str, Partitions>) -> BTreeMap<(TopicId, i32), Str> {
    let mut owners = BTreeMap::new();
    for (member_id, target) in targets {
        for (id, partitions) in target {
            for partition in partitions {
                owners.insert((*id, *partition), member_id.clone());
            }
        }
    }
    owners
}
