//! The member of a group (KIP-848): what it owns, and what it tells the coordinator.
//!
//! A machine without I/O. The coordinator says what the member should own; the member gives up first, takes then, and says what it owns
//! now. The rules:
//!
//! - A heartbeat is sent when its interval has passed, and at once when there is something to say: what is owned has changed, or what is
//!   subscribed to. There is one at a time. It says what has changed; after a failure it says everything, since nobody knows what arrived.
//! - What is to be given up is given up when the application says so, and not before it is asked. Until then the member owns it. What comes meanwhile
//!   waits: what counts is the last thing the coordinator said.
//! - A partition whose topic has no known name waits until it has one; the others do not wait for it.
//! - A member that the coordinator does not know, or no longer, has lost everything, and joins anew.
//! - An application that asks for nothing for longer than `poll_interval_max` is taken for dead: the member leaves, and joins anew when
//!   the application is back.

mod any;
mod assignor;
mod classic;
mod event;
pub mod messages;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, Now, PartitionIndex, Str, TopicId, TopicName, TopicPartition};

pub use self::any::AnyMember;
pub use self::assignor::Assignor;
pub use self::classic::{ClassicConfig, ClassicMember};
pub use self::event::{
    Effect, Generation, Heartbeat, HeartbeatAnswer, Input, Join, Peer, RequestId, Subscription,
};
use crate::backoff::{Random, backoff};

/// The epoch by which a member joins.
const JOIN: i32 = 0;
/// The epoch by which a member leaves.
const LEAVE: i32 = -1;
/// The epoch by which a static member leaves that will be back.
const LEAVE_FOR_NOW: i32 = -2;
/// How often a member that leaves says so if nothing comes back. Its session ends without that, too.
const LEAVE_ATTEMPTS: u32 = 2;

/// How a member behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Under which the coordinator knows the member, for as long as it lives.
    pub member_id: Str,
    /// Whether the member has a name under which it survives restarts (KIP-345).
    pub is_static: bool,
    /// How long the application may take until it asks again; also how long it may take to give partitions up.
    pub poll_interval_max: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    pub seed: u64,
}

/// Where the member stands.
///
/// ```text
/// Out ──> Joining ──> In ──> Leaving ──> Out
///            ^─────────┤
///            └─ Asleep <        any ──> Failed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In no group.
    Out,
    /// Not known to the coordinator.
    Joining,
    /// A member.
    In,
    /// The application wants out: it gives everything up first.
    Leaving,
    /// The application does not ask for records; whether the coordinator has been told.
    Asleep { is_told: bool },
    /// The group does not take it.
    Failed,
}

/// What a request that is under way was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Stay,
    Leave,
}

/// One member of a group, as a machine without I/O.
#[derive(Debug)]
pub struct Member {
    config: Config,
    state: State,
    member_id: Str,
    member_epoch: i32,
    subscription: Subscription,
    /// What the coordinator knows of it.
    said: Option<Subscription>,
    /// The coordinator has been told an expression, once.
    has_said_regex: bool,
    /// It joins again when it has left.
    comes_back: bool,
    owned: BTreeSet<TopicPartition>,
    /// What the coordinator has said last, unless it is so already.
    target: Option<BTreeSet<(TopicId, PartitionIndex)>>,
    /// What the application is to give up, and the number of the demand.
    revoking: Option<(u64, Vec<TopicPartition>)>,
    names: BTreeMap<TopicId, TopicName>,
    ids: BTreeMap<TopicName, TopicId>,
    /// What is owned has to be said.
    has_news: bool,
    /// Everything has to be said.
    says_all: bool,
    in_flight: Option<(RequestId, Purpose)>,
    interval: Duration,
    beat_at: Option<Instant>,
    retry_at: Option<Instant>,
    failures: u32,
    polled_at: Instant,
    next_id: RequestId,
    random: Random,
    now: Instant,
}

impl Member {
    pub fn new(now: Now, config: Config) -> Self {
        Self {
            state: State::Out,
            member_id: config.member_id.clone(),
            member_epoch: JOIN,
            subscription: Subscription::default(),
            said: None,
            has_said_regex: false,
            comes_back: false,
            owned: BTreeSet::new(),
            target: None,
            revoking: None,
            names: BTreeMap::new(),
            ids: BTreeMap::new(),
            has_news: false,
            says_all: true,
            in_flight: None,
            interval: Duration::ZERO,
            beat_at: None,
            retry_at: None,
            failures: 0,
            polled_at: now.instant,
            next_id: 0,
            random: Random::new(config.seed),
            now: now.instant,
            config,
        }
    }

    /// Takes in what has happened, and adds what is to be done to `effects`.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        self.now = now.instant;
        match input {
            Input::Subscribe { subscription } => self.subscribe(subscription),
            Input::Leave => self.leave(effects),
            Input::Polled => self.polled(),
            Input::Revoked { demand } => self.revoked(demand),
            Input::Named { names } => {
                for (id, name) in names {
                    self.ids.insert(name.clone(), id);
                    self.names.insert(id, name);
                }
            }
            Input::Heartbeat { request, answer } => self.answered(request, answer, effects),
            Input::Lost { request } => self.lost(request, effects),
            Input::Timeout => self.sleep(effects),
            Input::Joined { .. }
            | Input::Synced { .. }
            | Input::Acknowledged { .. }
            | Input::Counted { .. }
            | Input::Matched { .. } => unreachable!("said to members of classic groups"),
        }
        self.retry_at.take_if(|at| *at <= self.now);
        self.reconcile(effects);
        self.beat(effects);
    }

    /// When something is due though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let wants_to_say = match self.state {
            State::Out | State::Failed | State::Asleep { is_told: true } => return None,
            _ => self.in_flight.is_none(),
        };
        let beat = match (self.retry_at, self.beat_at) {
            _ if !wants_to_say => None,
            (Some(retry_at), _) => Some(retry_at),
            (None, beat_at) => beat_at,
        };
        let asleep = self.polled_at + self.config.poll_interval_max;
        let asleep = matches!(self.state, State::Joining | State::In).then_some(asleep);
        beat.into_iter().chain(asleep).min()
    }

    /// The member's id and epoch, if it is one.
    pub fn identity(&self) -> Option<(Str, i32)> {
        let is_member = matches!(self.state, State::In | State::Leaving);
        let has_joined = is_member && self.member_epoch > JOIN;
        has_joined.then(|| (self.member_id.clone(), self.member_epoch))
    }

    /// What the application is to give up, and the number of the demand.
    pub fn demand(&self) -> Option<(u64, Vec<TopicPartition>)> {
        self.revoking.clone()
    }

    const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    // ---- the application

    fn subscribe(&mut self, subscription: Subscription) {
        self.subscription = subscription;
        self.polled_at = self.now;
        match self.state {
            State::Out | State::Failed => self.join(),
            State::Leaving => self.comes_back = true,
            _ => {}
        }
    }

    fn join(&mut self) {
        self.state = State::Joining;
        self.member_epoch = JOIN;
        self.says_all = true;
        self.target = None;
        self.beat_at = Some(self.now);
    }

    fn leave(&mut self, effects: &mut Vec<Effect>) {
        match self.state {
            State::Out | State::Failed => effects.push(Effect::Left),
            State::Leaving => self.comes_back = false,
            State::Asleep { is_told: true } => {
                self.state = State::Out;
                effects.push(Effect::Left);
            }
            State::Joining | State::In | State::Asleep { .. } => {
                self.state = State::Leaving;
                self.failures = 0;
                self.target = Some(BTreeSet::new());
                if self.owned.is_empty() {
                    self.beat_at = Some(self.now);
                }
            }
        }
    }

    fn polled(&mut self) {
        self.polled_at = self.now;
        if matches!(self.state, State::Asleep { .. }) {
            self.join();
        }
    }

    /// Leaves if the application has not asked for long.
    fn sleep(&mut self, effects: &mut Vec<Effect>) {
        let is_in = matches!(self.state, State::Joining | State::In);
        if is_in && self.now >= self.polled_at + self.config.poll_interval_max {
            self.lose(effects);
            self.state = State::Asleep { is_told: false };
            self.beat_at = Some(self.now);
        }
    }

    // ---- what is owned

    fn revoked(&mut self, demand: u64) {
        // What was lost meanwhile need not be given up.
        let revoked = self.revoking.take_if(|(it, _)| *it == demand);
        for partition in revoked.map(|(_, it)| it).unwrap_or_default() {
            self.owned.remove(&partition);
            self.has_news = true;
        }
    }

    /// Everything is gone.
    fn lose(&mut self, effects: &mut Vec<Effect>) {
        self.revoking = None;
        self.target = None;
        self.has_news = false;
        let partitions: Vec<_> = std::mem::take(&mut self.owned).into_iter().collect();
        if !partitions.is_empty() {
            effects.push(Effect::Lose { partitions });
        }
    }

    /// Goes towards what should be: gives up first, takes then.
    fn reconcile(&mut self, effects: &mut Vec<Effect>) {
        let Some(target) = self.target.as_ref().filter(|_| self.revoking.is_none()) else {
            return;
        };
        let named = target.iter().filter_map(|(id, index)| {
            let name = self.names.get(id)?;
            Some(TopicPartition::new(name.clone(), *index))
        });
        let named: BTreeSet<TopicPartition> = named.collect();
        let is_whole = named.len() == target.len();
        let excess: Vec<_> = self.owned.difference(&named).cloned().collect();
        if !excess.is_empty() {
            let demand = self.new_id();
            self.revoking = Some((demand, excess.clone()));
            let partitions = excess;
            return effects.push(Effect::Revoke { demand, partitions });
        }
        let lacking: Vec<_> = named.difference(&self.owned).cloned().collect();
        if is_whole {
            self.target = None;
        }
        if !lacking.is_empty() {
            self.owned.extend(lacking.iter().cloned());
            self.has_news = true;
            effects.push(Effect::Assign {
                partitions: lacking,
            });
        }
    }

    // ---- the coordinator

    /// Says what there is to say.
    fn beat(&mut self, effects: &mut Vec<Effect>) {
        let purpose = match self.state {
            State::Out | State::Failed | State::Asleep { is_told: true } => return,
            State::Joining | State::In => Purpose::Stay,
            // What is owned is given up first, and the member stays until then.
            State::Leaving if !self.owned.is_empty() => Purpose::Stay,
            State::Leaving | State::Asleep { .. } => Purpose::Leave,
        };
        if self.in_flight.is_some() || self.retry_at.is_some() {
            return;
        }
        let is_due = purpose == Purpose::Leave || self.beat_at.is_none_or(|at| at <= self.now);
        let has_changed = self.said.as_ref() != Some(&self.subscription);
        if !(is_due || has_changed || self.has_news || self.says_all) {
            return;
        }
        let heartbeat = match purpose {
            Purpose::Stay => self.heartbeat(),
            Purpose::Leave => self.farewell(),
        };
        let request = self.new_id();
        self.in_flight = Some((request, purpose));
        self.beat_at = Some(self.now + self.interval);
        effects.push(Effect::Heartbeat { request, heartbeat });
    }

    fn heartbeat(&mut self) -> Heartbeat {
        let says_all = std::mem::take(&mut self.says_all);
        let has_changed = self.said.as_ref() != Some(&self.subscription);
        let has_news = std::mem::take(&mut self.has_news);
        self.said = Some(self.subscription.clone());
        let mut subscription = self.subscription.clone();
        self.has_said_regex |= subscription.regex.is_some();
        // Nothing would mean that the last one stays.
        if self.has_said_regex {
            subscription.regex.get_or_insert(Str::EMPTY);
        }
        Heartbeat {
            member_id: self.member_id.clone(),
            member_epoch: self.member_epoch,
            rebalance_timeout: says_all.then_some(self.config.poll_interval_max),
            subscription: (says_all || has_changed).then_some(subscription),
            owned: (says_all || has_news).then(|| self.owned_by_id()),
        }
    }

    fn farewell(&self) -> Heartbeat {
        Heartbeat {
            member_id: self.member_id.clone(),
            member_epoch: match self.config.is_static {
                true => LEAVE_FOR_NOW,
                false => LEAVE,
            },
            rebalance_timeout: None,
            subscription: None,
            owned: None,
        }
    }

    fn owned_by_id(&self) -> Vec<(TopicId, Vec<PartitionIndex>)> {
        let mut topics = BTreeMap::<TopicId, Vec<PartitionIndex>>::new();
        for partition in &self.owned {
            // Whatever is owned was named.
            if let Some(id) = self.ids.get(&partition.topic) {
                topics.entry(*id).or_default().push(partition.partition);
            }
        }
        topics.into_iter().collect()
    }

    fn answered(&mut self, request: RequestId, answer: HeartbeatAnswer, effects: &mut Vec<Effect>) {
        let Some((_, purpose)) = self.in_flight.take_if(|(it, _)| *it == request) else {
            return;
        };
        if purpose == Purpose::Leave {
            return self.has_left(effects);
        }
        match answer.error_code {
            ErrorCode::NONE => self.is_in(answer, effects),
            // What was said was for a member that is none any more.
            _ if matches!(
                self.state,
                State::Out | State::Failed | State::Asleep { .. }
            ) => {}
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::GROUP_ID_NOT_FOUND
                if self.state == State::In =>
            {
                self.lose(effects);
                self.join();
            }
            // There is nothing to stay for.
            code if self.state == State::Leaving && !code.is_retriable() => self.lose(effects),
            code if code.is_retriable() => self.later(),
            error_code => {
                self.lose(effects);
                self.state = State::Failed;
                effects.push(Effect::Fail {
                    error_code,
                    message: answer.message,
                });
            }
        }
    }

    fn is_in(&mut self, answer: HeartbeatAnswer, effects: &mut Vec<Effect>) {
        self.failures = 0;
        self.interval = answer.interval;
        if let Some(id) = answer.member_id.filter(|id| !id.is_empty()) {
            self.member_id = id;
        }
        self.beat_at = Some(self.now + self.interval);
        match self.state {
            State::Joining | State::In => self.state = State::In,
            // What should be owned no longer matters.
            State::Leaving => {
                if self.member_epoch > JOIN {
                    self.member_epoch = answer.member_epoch;
                }
                return;
            }
            State::Out | State::Failed | State::Asleep { .. } => return,
        }
        self.member_epoch = answer.member_epoch;
        let Some(assignment) = answer.assignment else {
            return;
        };
        let nameless = assignment.iter().map(|(id, _)| *id);
        let nameless: BTreeSet<_> = nameless.filter(|id| !self.names.contains_key(id)).collect();
        if !nameless.is_empty() {
            effects.push(Effect::Name {
                topics: nameless.into_iter().collect(),
            });
        }
        self.target = Some(assignment.into_iter().collect());
    }

    fn has_left(&mut self, effects: &mut Vec<Effect>) {
        match self.state {
            State::Asleep { .. } => self.state = State::Asleep { is_told: true },
            State::Leaving => {
                self.state = State::Out;
                effects.push(Effect::Left);
                if std::mem::take(&mut self.comes_back) {
                    self.join();
                }
            }
            // The application was back before.
            _ => self.join(),
        }
        self.failures = 0;
    }

    fn lost(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some((_, purpose)) = self.in_flight.take_if(|(it, _)| *it == request) else {
            return;
        };
        self.later();
        if purpose == Purpose::Leave && self.failures >= LEAVE_ATTEMPTS {
            self.retry_at = None;
            self.has_left(effects);
        }
    }

    /// Says everything again in a while.
    fn later(&mut self) {
        let (first, max) = (self.config.retry_backoff, self.config.retry_backoff_max);
        self.failures += 1;
        self.says_all = true;
        let wait = backoff(first, max, self.failures, &mut self.random);
        self.retry_at = Some(self.now + wait);
        self.beat_at = self.retry_at;
    }

    /// What must always be so.
    #[cfg(test)]
    pub fn check(&self) {
        if let Some((_, revoking)) = &self.revoking {
            let is_owned = |it| self.owned.contains(it);
            assert!(
                revoking.iter().all(is_owned),
                "what is given up is owned until then"
            );
        }
        for partition in &self.owned {
            assert!(
                self.ids.contains_key(&partition.topic),
                "what is owned has an id"
            );
        }
        match self.state {
            State::Out | State::Failed | State::Asleep { .. } => {
                assert!(self.owned.is_empty(), "who is out owns nothing");
            }
            State::Joining => assert!(self.member_epoch == JOIN && self.owned.is_empty()),
            State::In => assert!(self.member_epoch > JOIN, "a member has an epoch"),
            State::Leaving => {}
        }
    }
}
