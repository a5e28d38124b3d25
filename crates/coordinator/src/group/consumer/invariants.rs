use std::collections::BTreeMap;

use super::{ConsumerGroup, MemberState};
use crate::group::timers::Timers;

impl ConsumerGroup {
    /// Asserts everything that must hold between two inputs.
    pub(in crate::group) fn check(&self, timers: &Timers) {
        let id = &self.id;
        assert!(self.assignment_epoch <= self.group_epoch(), "{id}");
        let mut owners: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (member_id, assigned) in self.holdings() {
            for (topic, partitions) in assigned {
                for partition in partitions.keys() {
                    let owners = owners.entry(*topic).or_default();
                    let other = owners.insert(*partition, member_id.clone());
                    assert_eq!(other, None, "{id}: {topic}-{partition} has two owners");
                }
            }
        }
        assert_eq!(self.owners, owners, "{id}");

        let mut targets: BTreeMap<_, _> = BTreeMap::new();
        for (member_id, target) in &self.targets {
            assert!(
                self.members.contains_key(member_id),
                "{id}: {member_id} is to have something"
            );
            for (topic, partitions) in target {
                for partition in partitions {
                    let other = targets.insert((topic, partition), member_id);
                    assert_eq!(other, None, "{id}: two are to have {topic}-{partition}");
                }
            }
        }
        self.check_counts();
        for member in self.members.values() {
            let name = &member.member_id;
            let session = member.session.expect("every member has a session");
            let timer = session.timer.expect("a session ends");
            assert!(timers.is_armed(timer), "{id} {name}");
            let others = [
                member.rebalance_timer.map(|(timer, _)| timer),
                member.join_timer,
                member.sync_timer,
            ];
            assert!(
                others
                    .into_iter()
                    .flatten()
                    .all(|timer| timers.is_armed(timer)),
                "{id} {name}"
            );
            if member.state == MemberState::UnrevokedPartitions && !member.is_classic() {
                let has_left = member.epoch == super::LEAVE_STATIC_EPOCH;
                assert!(
                    member.rebalance_timer.is_some() || has_left,
                    "{id} {name}: giving up partitions has an end"
                );
            }
            assert!(
                member.epoch <= self.assignment_epoch,
                "{id} {name}: nobody is ahead"
            );
        }
    }

    /// What follows from the members is what is counted from scratch.
    fn check_counts(&self) {
        let id = &self.id;
        let mut topics = BTreeMap::new();
        let (mut regexes, mut assignors) = (BTreeMap::new(), BTreeMap::new());
        let (mut protocols, mut instances) = (BTreeMap::new(), BTreeMap::new());
        for member in self.members.values() {
            for topic in &member.metadata.subscribed_topic_names {
                *topics.entry(topic.clone()).or_insert(0) += 1;
            }
            if let Some(regex) = member.regex() {
                *regexes.entry(regex.clone()).or_insert(0) += 1;
            }
            if let Some(assignor) = &member.metadata.server_assignor {
                *assignors.entry(assignor.clone()).or_insert(0) += 1;
            }
            for protocol in member.classic_protocols() {
                *protocols.entry(protocol.name.clone()).or_insert(0) += 1;
            }
            if let Some(instance_id) = member.instance_id() {
                let other = instances.insert(instance_id.clone(), member.member_id.clone());
                assert_eq!(other, None, "{id}: {instance_id} is two members");
            }
        }
        for (regex, resolved) in &self.regexes {
            assert!(
                regexes.contains_key(regex),
                "{id}: nobody subscribes by {regex}"
            );
            for topic in &resolved.topics {
                *topics.entry(topic.clone()).or_insert(0) += 1;
            }
        }
        assert_eq!(self.topics, topics, "{id}");
        assert_eq!(self.regex_members, regexes, "{id}");
        assert_eq!(self.assignors, assignors, "{id}");
        assert_eq!(self.classic_protocols, protocols, "{id}");
        assert_eq!(self.static_members, instances, "{id}");
        let members = self.members.values();
        assert_eq!(
            self.classic_members,
            members.clone().filter(|m| m.is_classic()).count(),
            "{id}"
        );
        let reconciled = members.filter(|m| m.is_reconciled_to(self.assignment_epoch));
        assert_eq!(self.reconciled, reconciled.count(), "{id}");
    }
}
