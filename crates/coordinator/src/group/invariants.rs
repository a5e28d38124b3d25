use std::collections::HashMap;

use super::classic::Classic;
use super::state::State;
use super::timers::Timers;

impl Classic {
    /// Asserts everything that must hold between two inputs.
    pub(super) fn check(&self, timers: &Timers) {
        let id = &self.id;
        let members = || self.members.values();
        let count =
            |holds: fn(&super::member::Member) -> bool| members().filter(|m| holds(m)).count();

        assert_eq!(
            self.awaiting_join,
            count(|m| m.awaiting_join.is_some()),
            "{id}"
        );
        assert_eq!(self.owing_sync, count(|m| m.owes_sync), "{id}");
        assert_eq!(
            self.static_members.len(),
            count(|m| m.instance_id.is_some()),
            "{id}"
        );
        for (instance_id, member_id) in &self.static_members {
            let member = self
                .members
                .get(member_id)
                .expect("a static member is a member");
            assert_eq!(member.instance_id.as_ref(), Some(instance_id), "{id}");
        }
        let mut supporters = HashMap::new();
        for protocol in members().flat_map(|member| &member.protocols) {
            *supporters.entry(protocol.name.clone()).or_insert(0) += 1;
        }
        assert_eq!(self.supporters, supporters, "{id}");

        let leader = self.leader.as_ref().map(|leader| self.members.get(leader));
        assert!(
            leader.is_none_or(|leader| leader.is_some()),
            "{id}: the leader is a member"
        );
        let written = self
            .metadata
            .as_ref()
            .map_or(0, |metadata| metadata.generation);
        assert!(
            self.generation_id >= written,
            "{id}: the log is never ahead"
        );

        match self.state {
            State::Empty => {
                assert!(self.members.is_empty() && self.leader.is_none(), "{id}");
                assert!(self.sync_timer.is_none(), "{id}");
            }
            State::PreparingRebalance { timer, .. } => {
                assert!(timers.is_armed(timer), "{id}: the join phase has an end");
                assert_eq!(count(|m| m.awaiting_sync.is_some()), 0, "{id}");
                assert_eq!(self.owing_sync, 0, "{id}");
            }
            State::CompletingRebalance { .. } => {
                assert!(
                    self.leader.is_some() && self.protocol_name.is_some(),
                    "{id}"
                );
                assert_eq!(
                    self.awaiting_join, 0,
                    "{id}: everybody knows the generation"
                );
            }
            State::Stable => {
                assert!(
                    self.leader.is_some() && self.protocol_name.is_some(),
                    "{id}"
                );
                assert_eq!(count(|m| m.awaiting_sync.is_some()), 0, "{id}");
                let others = count(|m| m.awaiting_join.is_some() && !m.is_static());
                assert_eq!(
                    others, 0,
                    "{id}: only returning static members wait, for their record"
                );
            }
        }
        if self.owing_sync > 0 {
            let timer = self.sync_timer.expect("a sync phase has an end");
            assert!(timers.is_armed(timer), "{id}");
        }
        for member in members() {
            match member.session.timer {
                Some(timer) => assert!(timers.is_armed(timer), "{id}"),
                None => assert!(member.is_excused_from_heartbeats(), "{id}: a session ends"),
            }
        }
        for (member_id, timer) in &self.pending_members {
            assert!(
                timers.is_armed(*timer),
                "{id}: a pending member is forgotten"
            );
            assert!(!self.members.contains_key(member_id), "{id}");
        }
    }

    /// How many timers the group has armed.
    pub(super) fn timers_count(&self) -> usize {
        let sessions = self
            .members
            .values()
            .filter(|member| member.session.timer.is_some());
        sessions.count()
            + self.pending_members.len()
            + usize::from(self.sync_timer.is_some())
            + usize::from(matches!(self.state, State::PreparingRebalance { .. }))
    }
}
