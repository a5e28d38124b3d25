//! What happens to the groups without a request: time, commits of their records, changes of the cluster, and the end of the
//! shard.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{ErrorCode, GroupId, Now, ProducerId, Str, TopicName};

use super::super::appends::{Completion, batches};
use super::super::group::Kind;
use super::super::timers::Timer;
use super::super::{
    ClusterView, Config, DeletedTopic, Effect, GroupRecord, TopicChange, TopicChangeKind,
};
use super::{GroupCoordinator, Phase, classic};

impl GroupCoordinator {
    pub(super) fn topics_deleted(
        &mut self,
        now: Now,
        topics: &[DeletedTopic],
        effects: &mut Vec<Effect>,
    ) {
        if self.phase != Phase::Active {
            return;
        }
        let mut records = Vec::new();
        for group in self.groups.values() {
            for topic in topics {
                group.topic_tombstones(topic, &mut records);
            }
        }
        self.append_removals(now, records, effects);
    }

    pub(super) fn cluster_changed(&mut self, view: Arc<dyn ClusterView>, changes: &[TopicChange]) {
        let version = view.version();
        self.view = view;
        if changes.is_empty() {
            return;
        }
        for change in changes {
            self.topic_hashes.forget(&change.name);
            if change.kind == TopicChangeKind::Created {
                self.new_topics_version = version;
            }
        }
        for group in self.groups.values_mut() {
            if let Kind::Consumer(consumer) = &mut group.kind {
                consumer.topics_changed(changes);
            }
        }
    }

    pub(super) fn regexes_resolved(
        &mut self,
        now: Now,
        group_id: &GroupId,
        version: i64,
        resolved: Vec<(Str, BTreeSet<TopicName>)>,
        effects: &mut Vec<Effect>,
    ) {
        let (groups, mut cx) = self.split(now, effects);
        if let Some(Kind::Consumer(consumer)) = groups.get_mut(group_id).map(|g| &mut g.kind) {
            consumer.regexes_resolved(&mut cx, version, resolved);
        }
    }

    /// KIP-211: offsets that nobody has used for long, and groups that have nothing left, go.
    fn remove_expired(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut records = Vec::new();
        for group in self.groups.values() {
            let retention_ms = self.config.offsets_retention_ms;
            let nothing_left = group.expired_offsets(now, retention_ms, &mut records);
            if nothing_left && group.is_abandoned() {
                records.extend(group.tombstones());
            }
        }
        self.append_removals(now, records, effects);
        let next = now.instant + retention_check_interval(&self.config);
        self.timers.arm(next, Timer::Retention);
    }

    pub(super) fn committed(&mut self, now: Now, append_id: u64, effects: &mut Vec<Effect>) {
        let (groups, mut cx) = self.split(now, effects);
        while let Some(append) = cx.appends.pop_committed(append_id) {
            for completion in append.completions {
                match completion {
                    Completion::Reply {
                        request_id,
                        response,
                    } => cx.reply(request_id, response),
                    Completion::Assignment { group_id } => {
                        if let Some(group) = classic(groups, &group_id) {
                            group.assignment_committed(&mut cx, append.append_id);
                        }
                    }
                    Completion::StaticMember {
                        group_id,
                        member_id,
                        request_id,
                        skip_assignment,
                    } => {
                        if let Some(group) = classic(groups, &group_id) {
                            group.static_member_committed(
                                &mut cx,
                                &member_id,
                                request_id,
                                skip_assignment,
                            );
                        }
                    }
                }
            }
        }
        for (request_id, response) in cx.appends.take_late(append_id) {
            cx.reply(request_id, response);
        }
    }

    pub(super) fn timeout(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Active {
            return;
        }
        self.answer_overdue(now, effects);
        while let Some(timer) = self.timers.pop_due(now.instant) {
            let (groups, mut cx) = self.split(now, effects);
            match timer {
                Timer::Session {
                    group_id,
                    member_id,
                } => {
                    if let Some(group) = classic(groups, &group_id) {
                        group.session_timed_out(&mut cx, &member_id);
                    }
                }
                Timer::PendingMember {
                    group_id,
                    member_id,
                } => {
                    if let Some(group) = classic(groups, &group_id) {
                        group.pending_member_timed_out(&mut cx, &member_id);
                    }
                }
                Timer::Join { group_id } => {
                    if let Some(group) = classic(groups, &group_id) {
                        group.join_timed_out(&mut cx);
                    }
                }
                Timer::Sync { group_id } => {
                    if let Some(group) = classic(groups, &group_id) {
                        group.sync_timed_out(&mut cx);
                    }
                }
                Timer::Member {
                    group_id,
                    member_id,
                    timer,
                } => {
                    if let Some(group) = groups.get_mut(&group_id) {
                        group.member_timer_fired(&mut cx, &member_id, timer);
                    }
                }
                Timer::Retention => self.remove_expired(now, effects),
            }
        }
    }

    /// Requests whose records are not committed in time are answered; the records may be committed later.
    fn answer_overdue(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (groups, mut cx) = self.split(now, effects);
        while let Some((request_id, response)) = cx.appends.next_late_overdue(now.instant) {
            let response = response.into_error(ErrorCode::COORDINATOR_NOT_AVAILABLE);
            cx.reply(request_id, response);
        }
        while let Some((append_id, completions)) = cx.appends.next_overdue(now.instant) {
            for completion in completions {
                match completion {
                    Completion::Reply {
                        request_id,
                        response,
                    } => {
                        let response = response.into_error(ErrorCode::COORDINATOR_NOT_AVAILABLE);
                        cx.reply(request_id, response);
                    }
                    // The group becomes stable all the same, should the assignment be committed later.
                    Completion::Assignment { group_id } => {
                        if let Some(group) = classic(groups, &group_id) {
                            group.assignment_overdue(&mut cx, append_id);
                            cx.appends
                                .follow(append_id, Completion::Assignment { group_id });
                        }
                    }
                    Completion::StaticMember {
                        group_id,
                        member_id,
                        request_id,
                        ..
                    } => {
                        if let Some(group) = classic(groups, &group_id) {
                            group.static_member_overdue(&mut cx, &member_id, request_id);
                        }
                    }
                }
            }
        }
    }

    /// Gives every parked request its answer. Nothing is left to be done after that.
    pub(super) fn unload(&mut self, now: Now, error_code: ErrorCode, effects: &mut Vec<Effect>) {
        let (groups, mut cx) = self.split(now, effects);
        for group in groups.values_mut() {
            group.refuse_parked(&mut cx, error_code);
        }
        for (request_id, response) in self.appends.drain() {
            let response = response.into_error(error_code);
            effects.push(Effect::Reply {
                request_id,
                response,
            });
        }
        self.phase = Phase::Unloaded;
        self.groups.clear();
        self.transactions.clear();
        self.topic_hashes.clear();
        self.timers.clear();
    }

    /// Appends tombstones, in as many batches as it takes.
    pub(super) fn append_removals(
        &mut self,
        now: Now,
        records: Vec<GroupRecord>,
        effects: &mut Vec<Effect>,
    ) {
        for records in batches(records, self.config.append_bytes_max) {
            let append_id = self.push_append(now);
            self.last_removal = append_id;
            for record in &records {
                self.replay(ProducerId::NONE, record);
                if let Some(group) = self.groups.get_mut(record.group_id()) {
                    group.last_append = append_id;
                }
            }
            effects.push(Effect::Append { append_id, records });
        }
    }
}

pub(super) fn retention_check_interval(config: &Config) -> Duration {
    // An interval of nothing would never let the shard rest, and one of ages is beyond what a clock can count.
    const YEAR_MS: i64 = 365 * 24 * 60 * 60 * 1_000;
    let millis = config.offsets_retention_check_interval_ms.clamp(1, YEAR_MS);
    Duration::from_millis(millis.unsigned_abs())
}
