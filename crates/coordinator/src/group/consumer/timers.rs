use tidelog_types::Str;

use super::{ConsumerGroup, MemberState};
use crate::group::context::Context;
use crate::group::history::Cause;
use crate::group::member::Session;
use crate::group::timers::{MemberTimer, Timer};

impl ConsumerGroup {
    /// Members get a whole session to show up after the group was loaded, and as long as ever for giving up partitions.
    pub(in crate::group) fn restore(&mut self, cx: &mut Context<'_>) {
        let members: Vec<Str> = self.members.keys().cloned().collect();
        let timeout_ms = self.session_timeout_ms(cx);
        for member_id in members {
            let Some(member) = self.members.get(&member_id) else {
                continue;
            };
            let own_ms = member.classic_session_timeout_ms();
            let must_give_up =
                member.state == MemberState::UnrevokedPartitions && !member.is_classic();
            self.renew_session(cx, &member_id, own_ms.unwrap_or(timeout_ms));
            if must_give_up {
                self.arm_rebalance_timer(cx, &member_id);
            }
        }
    }

    fn timer(&self, member_id: &Str, timer: MemberTimer) -> Timer {
        Timer::Member {
            group_id: self.id.clone(),
            member_id: member_id.clone(),
            timer,
        }
    }

    /// The session of a member starts anew, and lasts for `timeout_ms`.
    pub(super) fn renew_session(&mut self, cx: &mut Context<'_>, member_id: &Str, timeout_ms: i32) {
        let deadline = cx.after(timeout_ms);
        let timer = self.timer(member_id, MemberTimer::Session);
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let armed = member.session.and_then(|session| session.timer);
        // A timer that fires earlier than needed is armed again then.
        let timer = match armed {
            Some(armed) if armed.deadline <= deadline => armed,
            former => {
                if let Some(former) = former {
                    cx.timers.disarm(former);
                }
                cx.timers.arm(deadline, timer)
            }
        };
        member.session = Some(Session {
            deadline,
            timer: Some(timer),
        });
    }

    pub(super) fn arm_rebalance_timer(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        self.disarm_rebalance_timer(cx, member_id);
        let timer = self.timer(member_id, MemberTimer::Rebalance);
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline = cx.after(member.metadata.rebalance_timeout_ms);
            member.rebalance_timer = Some((cx.timers.arm(deadline, timer), member.epoch));
        }
    }

    pub(super) fn disarm_rebalance_timer(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        let member = self.members.get_mut(member_id);
        if let Some((timer, _)) = member.and_then(|member| member.rebalance_timer.take()) {
            cx.timers.disarm(timer);
        }
    }

    /// A member with the classic protocol has been told to join again.
    pub(super) fn arm_join_timer(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        let timer = self.timer(member_id, MemberTimer::Join);
        if let Some(member) = self.members.get_mut(member_id)
            && member.join_timer.is_none()
        {
            let deadline = cx.after(member.metadata.rebalance_timeout_ms);
            member.join_timer = Some(cx.timers.arm(deadline, timer));
        }
    }

    /// A member with the classic protocol has joined, and is to ask for its assignment.
    pub(super) fn arm_sync_timer(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        let timer = self.timer(member_id, MemberTimer::Sync);
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline = cx.after(member.metadata.rebalance_timeout_ms);
            let joined = member.join_timer.take();
            let former = member.sync_timer.replace(cx.timers.arm(deadline, timer));
            joined
                .into_iter()
                .chain(former)
                .for_each(|timer| cx.timers.disarm(timer));
        }
    }

    pub(super) fn disarm_sync_timer(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        let member = self.members.get_mut(member_id);
        if let Some(timer) = member.and_then(|member| member.sync_timer.take()) {
            cx.timers.disarm(timer);
        }
    }

    /// Nothing is waited for any more of this member.
    pub(super) fn disarm_timers(&mut self, cx: &mut Context<'_>, member_id: &Str) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let session = member.session.take().and_then(|session| session.timer);
        let rebalance = member.rebalance_timer.take().map(|(timer, _)| timer);
        let timers = [
            session,
            rebalance,
            member.join_timer.take(),
            member.sync_timer.take(),
        ];
        timers
            .into_iter()
            .flatten()
            .for_each(|timer| cx.timers.disarm(timer));
    }

    /// Nothing is waited for any more of anybody.
    pub(in crate::group) fn disarm_all(&mut self, cx: &mut Context<'_>) {
        let members: Vec<Str> = self.members.keys().cloned().collect();
        members
            .iter()
            .for_each(|member_id| self.disarm_timers(cx, member_id));
    }

    /// A timer has fired. If the member has to go, this is why.
    pub(in crate::group) fn timer_fired(
        &mut self,
        cx: &mut Context<'_>,
        member_id: &Str,
        timer: MemberTimer,
    ) -> Option<Cause> {
        let timeout_ms = self.session_timeout_ms(cx);
        let again = self.timer(member_id, MemberTimer::Session);
        let member = self.members.get_mut(member_id)?;
        let rebalance_timed_out = |who| Cause::RebalanceTimedOut {
            who,
            after_ms: member.metadata.rebalance_timeout_ms,
        };
        match timer {
            MemberTimer::Session => {
                let session = member.session.as_mut()?;
                session.timer = None;
                if session.deadline > cx.now.instant {
                    // There were signs of life since the timer was armed.
                    session.timer = Some(cx.timers.arm(session.deadline, again));
                    return None;
                }
                Some(Cause::SessionTimedOut {
                    who: member.who(),
                    after_ms: member.classic_session_timeout_ms().unwrap_or(timeout_ms),
                })
            }
            MemberTimer::Rebalance => {
                let cause = rebalance_timed_out(member.who());
                let (_, epoch) = member.rebalance_timer.take()?;
                (member.epoch == epoch).then_some(cause)
            }
            MemberTimer::Join => {
                let cause = rebalance_timed_out(member.who());
                member.join_timer = None;
                Some(cause)
            }
            MemberTimer::Sync => {
                let cause = rebalance_timed_out(member.who());
                member.sync_timer = None;
                Some(cause)
            }
        }
    }

    /// How many timers the group has armed.
    pub(in crate::group) fn timers_count(&self) -> usize {
        let members = self.members.values();
        members
            .map(|member| {
                usize::from(
                    member
                        .session
                        .is_some_and(|session| session.timer.is_some()),
                ) + usize::from(member.rebalance_timer.is_some())
                    + usize::from(member.join_timer.is_some())
                    + usize::from(member.sync_timer.is_some())
            })
            .sum()
    }
}
