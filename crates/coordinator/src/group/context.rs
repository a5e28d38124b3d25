use std::time::{Duration, Instant};

use tidelog_protocol::messages::join_group::JoinGroupResponse;
use tidelog_protocol::messages::sync_group::SyncGroupResponse;
use tidelog_types::{ErrorCode, GroupId, Now, Str};

use super::appends::Appends;
use super::consumer::TopicHashes;
use super::history::History;
use super::member::Parked;
use super::member_ids::MemberIds;
use super::request::protocol_name_for;
use super::timers::Timers;
use super::{ClusterView, Config, Effect, GroupResponse};

/// What a group needs of its shard while it handles one input.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) config: &'a Config,
    pub(super) timers: &'a mut Timers,
    pub(super) appends: &'a mut Appends,
    pub(super) member_ids: &'a mut MemberIds,
    pub(super) view: &'a dyn ClusterView,
    pub(super) topic_hashes: &'a mut TopicHashes,
    /// The version of the view in which topics were last created.
    pub(super) new_topics_version: i64,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    /// The time on the clock of timers, `millis` from now.
    pub(super) fn after(&self, millis: i32) -> Instant {
        self.now.instant + Duration::from_millis(millis.max(0).unsigned_abs().into())
    }

    /// Tells how the newest rebalance of a group goes.
    pub(super) fn report(&mut self, group_id: &GroupId, history: &History) {
        if let Some(rebalance) = history.last() {
            self.effects.push(Effect::Report {
                group_id: group_id.clone(),
                rebalance: Box::new(rebalance.clone()),
            });
        }
    }

    pub(super) fn reply(&mut self, request_id: u64, response: GroupResponse) {
        self.effects.push(Effect::Reply {
            request_id,
            response,
        });
    }

    /// Replies once everything up to `append_id` is committed, which may be at once.
    pub(super) fn reply_after(&mut self, append_id: u64, request_id: u64, response: GroupResponse) {
        if self.appends.is_committed(append_id) {
            return self.reply(request_id, response);
        }
        let deadline = self.after(self.config.offset_commit_timeout_ms);
        self.appends
            .answer(append_id, deadline, request_id, response);
    }

    pub(super) fn reply_join(&mut self, parked: Parked, response: JoinGroupResponse) {
        let response = JoinGroupResponse {
            protocol_name: protocol_name_for(parked.version, response.protocol_name),
            ..response
        };
        self.reply(parked.request_id, GroupResponse::JoinGroup(response));
    }

    pub(super) fn refuse_join(&mut self, parked: Parked, error_code: ErrorCode, member_id: Str) {
        let response = JoinGroupResponse {
            error_code,
            member_id,
            ..Default::default()
        };
        self.reply_join(parked, response);
    }

    pub(super) fn refuse_sync(&mut self, parked: Parked, error_code: ErrorCode) {
        let response = SyncGroupResponse {
            error_code,
            ..Default::default()
        };
        self.reply(parked.request_id, GroupResponse::SyncGroup(response));
    }
}
