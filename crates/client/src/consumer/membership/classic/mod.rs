//! The member of a classic group: the members meet, one of them divides the partitions, and all begin a generation.
//!
//! A machine without I/O, with the same inputs and effects as the other protocol's. The rules:
//!
//! - A rebalance is joining, and asking for one's part. The leader divides in between, when it knows how many partitions there are.
//! - An eager member gives everything up before it joins. A cooperative one (KIP-429) keeps what it has, gives up what it finds to be
//!   another one's after that, and joins once more, so that the other one can have it.
//! - Heartbeats go on while the application finishes. One of them says that the others are joining.
//! - A member that subscribes by an expression joins when it has been told what that matches, and again whenever it matches something else.
//! - Whoever leaves says so at once, also in the middle of a rebalance that waits for others. No answer to what it has asked before counts any more.
//! - A member whose generation is over has lost everything; one that the coordinator does not know also has no id any more.
//! - A static member does not leave (KIP-345): the session ends, or it is back.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, Now, Str, TopicName, TopicPartition};

use super::{Assignor, Effect, Generation, Input, Join, Peer, RequestId, Subscription};
use crate::backoff::{Random, backoff};

/// The generation of a member that is in none.
const NO_GENERATION: i32 = -1;
/// How often a member that leaves says so if nothing comes back.
const LEAVE_ATTEMPTS: u32 = 2;

/// How a member behaves.
#[derive(Clone, Debug)]
pub struct ClassicConfig {
    pub is_static: bool,
    /// Whether only what changes hands is given up.
    pub is_cooperative: bool,
    pub heartbeat_interval: Duration,
    /// How long the application may take until it asks again.
    pub poll_interval_max: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    pub seed: u64,
}

/// Where the member stands.
///
/// ```text
/// Out ──> Unjoined ──> Leading ──> Synced
///            ^ └─────────────────────^ │       Leaving ──> Out,  any ──> Failed
///            └─────────────────────────┘       Asleep ──> Unjoined
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Out,
    /// To join, or joining.
    Unjoined,
    /// The leader of a generation that waits to know how many partitions there are.
    Leading(Generation),
    /// In a generation; its part is asked for, or known.
    Synced,
    Leaving,
    Asleep {
        is_told: bool,
    },
    Failed,
}

/// What a request that is under way was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Join,
    Sync,
    Beat,
    Leave,
}

/// One member of a group, as a machine without I/O.
#[derive(Debug)]
pub struct ClassicMember {
    config: ClassicConfig,
    state: State,
    member_id: Str,
    generation_id: i32,
    subscription: Subscription,
    /// The topics that the expression matches, once that is known.
    matched: Option<BTreeSet<TopicName>>,
    owned: BTreeSet<TopicPartition>,
    /// What it had last, and when.
    last: (i32, Vec<TopicPartition>),
    /// What it is to own, once the rest is given up.
    target: Option<BTreeSet<TopicPartition>>,
    revoking: Option<(u64, Vec<TopicPartition>)>,
    /// Another rebalance is wanted.
    rejoins: bool,
    comes_back: bool,
    /// The leader's: what it has divided by.
    divided: Option<BTreeMap<TopicName, i32>>,
    counts: BTreeMap<TopicName, i32>,
    in_flight: Option<(RequestId, Purpose)>,
    beat_at: Option<Instant>,
    retry_at: Option<Instant>,
    failures: u32,
    polled_at: Instant,
    next_id: RequestId,
    random: Random,
    now: Instant,
}

impl ClassicMember {
    pub fn new(now: Now, config: ClassicConfig) -> Self {
        Self {
            state: State::Out,
            member_id: Str::EMPTY,
            generation_id: NO_GENERATION,
            subscription: Subscription::default(),
            matched: None,
            owned: BTreeSet::new(),
            last: (NO_GENERATION, Vec::new()),
            target: None,
            revoking: None,
            rejoins: false,
            comes_back: false,
            divided: None,
            counts: BTreeMap::new(),
            in_flight: None,
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
            Input::Counted { counts } => self.counts.extend(counts),
            Input::Matched { topics } => self.matched(topics),
            Input::Joined { request, answer } => {
                if self.is_answer(request) {
                    self.joined(answer, effects);
                }
            }
            Input::Synced { request, answer } => {
                if self.is_answer(request) {
                    self.synced(answer, effects);
                }
            }
            Input::Acknowledged {
                request,
                error_code,
            } => self.acknowledged(request, error_code, effects),
            Input::Lost { request } => self.lost(request, effects),
            Input::Timeout => self.sleep(effects),
            Input::Named { .. } | Input::Heartbeat { .. } => {
                unreachable!("said to members whose partitions the broker divides")
            }
        }
        self.retry_at.take_if(|at| *at <= self.now);
        self.watch_counts();
        self.reconcile(effects);
        self.go_on(effects);
    }

    /// When something is due though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let is_in = match self.state {
            State::Out | State::Failed | State::Asleep { is_told: true } => return None,
            State::Unjoined | State::Leading(_) | State::Synced => true,
            State::Leaving | State::Asleep { .. } => false,
        };
        let has_generation = self.generation_id != NO_GENERATION;
        let beat = self.beat_at.filter(|_| has_generation);
        let beat = self.retry_at.map_or(beat, Some);
        let beat = beat.filter(|_| self.in_flight.is_none());
        let asleep = self.polled_at + self.config.poll_interval_max;
        beat.into_iter().chain(is_in.then_some(asleep)).min()
    }

    /// The member's id and generation, if it is in one.
    pub fn identity(&self) -> Option<(Str, i32)> {
        let is_in = self.generation_id != NO_GENERATION;
        is_in.then(|| (self.member_id.clone(), self.generation_id))
    }

    /// Whether it asks for another generation, or is about to; it may have begun, though the answer did not come.
    pub const fn is_joining(&self) -> bool {
        let waits = matches!(self.in_flight, Some((_, Purpose::Join | Purpose::Sync)));
        waits || self.rejoins || matches!(self.state, State::Unjoined | State::Leading(_))
    }

    /// What the application is to give up, and the number of the demand.
    pub fn demand(&self) -> Option<(u64, Vec<TopicPartition>)> {
        self.revoking.clone()
    }

    const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn is_answer(&mut self, request: RequestId) -> bool {
        self.in_flight.take_if(|(it, _)| *it == request).is_some()
    }

    // ---- the application

    fn subscribe(&mut self, subscription: Subscription) {
        if subscription.regex != self.subscription.regex {
            self.matched = None;
        }
        self.subscription = subscription;
        self.polled_at = self.now;
        match self.state {
            State::Out | State::Failed => self.state = State::Unjoined,
            State::Leaving => self.comes_back = true,
            _ => self.rejoins = true,
        }
    }

    fn matched(&mut self, topics: BTreeSet<TopicName>) {
        let before = self.matched.replace(topics);
        self.rejoins |= before.is_some() && before != self.matched;
    }

    /// What to join with, unless that is still to be found out.
    fn topics(&self) -> Option<Vec<TopicName>> {
        let mut topics = self.subscription.topics.clone();
        if self.subscription.regex.is_some() {
            topics.extend(self.matched.iter().flatten().cloned());
            return self.matched.is_some().then_some(topics);
        }
        Some(topics)
    }

    fn leave(&mut self, effects: &mut Vec<Effect>) {
        match self.state {
            State::Out | State::Failed => effects.push(Effect::Left),
            State::Leaving => self.comes_back = false,
            State::Asleep { is_told: true } => {
                self.state = State::Out;
                effects.push(Effect::Left);
            }
            _ => {
                self.state = State::Leaving;
                self.failures = 0;
                self.retry_at = None;
                self.target = Some(BTreeSet::new());
            }
        }
    }

    fn polled(&mut self) {
        self.polled_at = self.now;
        if matches!(self.state, State::Asleep { .. }) {
            self.state = State::Unjoined;
        }
    }

    fn sleep(&mut self, effects: &mut Vec<Effect>) {
        let is_in = matches!(
            self.state,
            State::Unjoined | State::Leading(_) | State::Synced
        );
        if is_in && self.now >= self.polled_at + self.config.poll_interval_max {
            self.lose(effects);
            self.state = State::Asleep { is_told: false };
        }
    }

    // ---- what is owned

    fn revoked(&mut self, demand: u64) {
        let revoked = self.revoking.take_if(|(it, _)| *it == demand);
        for partition in revoked.map(|(_, it)| it).unwrap_or_default() {
            self.owned.remove(&partition);
            // Who is to have it gets it in the next generation.
            self.rejoins |= self.state == State::Synced && self.config.is_cooperative;
        }
    }

    fn lose(&mut self, effects: &mut Vec<Effect>) {
        self.revoking = None;
        self.target = None;
        self.generation_id = NO_GENERATION;
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
        let excess: Vec<_> = self.owned.difference(target).cloned().collect();
        if !excess.is_empty() {
            return self.demand_back(excess, effects);
        }
        let lacking: Vec<_> = target.difference(&self.owned).cloned().collect();
        self.target = None;
        if !lacking.is_empty() {
            self.owned.extend(lacking.iter().cloned());
            effects.push(Effect::Assign {
                partitions: lacking,
            });
        }
    }

    fn demand_back(&mut self, partitions: Vec<TopicPartition>, effects: &mut Vec<Effect>) {
        let demand = self.new_id();
        self.revoking = Some((demand, partitions.clone()));
        effects.push(Effect::Revoke { demand, partitions });
    }

    /// A leader whose topics have other partitions than it has divided wants to divide again.
    fn watch_counts(&mut self) {
        let divided = self.divided.as_ref();
        let has_changed = divided.is_some_and(|divided| {
            let mut topics = divided.iter();
            topics.any(|(topic, count)| self.counts.get(topic).unwrap_or(&0) != count)
        });
        if has_changed && self.state == State::Synced {
            self.divided = None;
            self.rejoins = true;
        }
    }

    // ---- the coordinator

    /// Does what is next.
    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        if let State::Leading(generation) = &self.state {
            let topics = generation.peers.iter().flatten();
            let topics: BTreeSet<_> = topics.flat_map(|it| it.topics.iter().cloned()).collect();
            if topics.iter().all(|topic| self.counts.contains_key(topic)) {
                let generation = generation.clone();
                self.divide(&generation, &topics, effects);
            }
        }
        let has_to_go = match self.state {
            State::Leaving | State::Asleep { is_told: false } => self.owned.is_empty(),
            _ => false,
        };
        // What was asked before may wait for other members for long.
        self.in_flight
            .take_if(|(_, purpose)| has_to_go && *purpose != Purpose::Leave);
        if self.in_flight.is_some() || self.retry_at.is_some() {
            return;
        }
        let wants_to_join = self.state == State::Unjoined
            || (self.state == State::Synced && self.rejoins && self.target.is_none());
        match self.topics().filter(|_| wants_to_join) {
            Some(topics) if self.revoking.is_none() => {
                if !self.config.is_cooperative && !self.owned.is_empty() {
                    let all = self.owned.iter().cloned().collect();
                    self.demand_back(all, effects);
                    return self.beat(effects);
                }
                self.join(topics, effects);
            }
            _ if has_to_go => self.say_farewell(effects),
            _ => self.beat(effects),
        }
    }

    fn join(&mut self, topics: Vec<TopicName>, effects: &mut Vec<Effect>) {
        self.rejoins = false;
        self.divided = None;
        self.state = State::Unjoined;
        let request = self.send(Purpose::Join);
        effects.push(Effect::Join {
            request,
            join: Join {
                member_id: self.member_id.clone(),
                topics,
                owned: self.owned.iter().cloned().collect(),
                last: self.last.1.clone(),
                generation_id: self.last.0,
            },
        });
    }

    fn send(&mut self, purpose: Purpose) -> RequestId {
        let request = self.new_id();
        self.in_flight = Some((request, purpose));
        self.beat_at = Some(self.now + self.config.heartbeat_interval);
        request
    }

    fn beat(&mut self, effects: &mut Vec<Effect>) {
        let is_due = self.beat_at.is_some_and(|at| at <= self.now);
        if !is_due || self.generation_id == NO_GENERATION {
            return;
        }
        let request = self.send(Purpose::Beat);
        effects.push(Effect::Beat {
            request,
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
        });
    }

    fn say_farewell(&mut self, effects: &mut Vec<Effect>) {
        // A static member comes back, and one without an id is none.
        if self.config.is_static || self.member_id.is_empty() {
            return self.has_left(effects);
        }
        let request = self.send(Purpose::Leave);
        let member_id = self.member_id.clone();
        effects.push(Effect::Leave { request, member_id });
    }

    fn joined(&mut self, answer: Result<Generation, (ErrorCode, Str)>, effects: &mut Vec<Effect>) {
        let generation = match answer {
            Ok(generation) => generation,
            Err((ErrorCode::MEMBER_ID_REQUIRED, member_id)) => {
                self.member_id = member_id;
                return;
            }
            Err((code, _)) => return self.refused(code, effects),
        };
        self.failures = 0;
        self.member_id = generation.member_id.clone();
        if self.state != State::Unjoined {
            return;
        }
        self.generation_id = generation.generation_id;
        match &generation.peers {
            Some(peers) if !generation.skips_assignment => {
                let topics = peers.iter().flat_map(|it| it.topics.iter().cloned());
                let topics = topics.collect();
                // What was known of them may be old.
                self.counts.clear();
                self.state = State::Leading(generation);
                effects.push(Effect::Count { topics });
            }
            _ => self.sync(generation.assignor, Vec::new(), effects),
        }
    }

    fn divide(
        &mut self,
        generation: &Generation,
        topics: &BTreeSet<TopicName>,
        effects: &mut Vec<Effect>,
    ) {
        let mut counts = self.counts.clone();
        counts.retain(|topic, _| topics.contains(topic));
        let peers: &[Peer] = generation.peers.as_deref().unwrap_or_default();
        let assignor = generation.assignor.unwrap_or(Assignor::Range);
        let assignments = assignor.assign(peers, &counts);
        self.divided = Some(counts);
        self.sync(generation.assignor, assignments, effects);
    }

    fn sync(
        &mut self,
        assignor: Option<Assignor>,
        assignments: Vec<(Str, Vec<TopicPartition>)>,
        effects: &mut Vec<Effect>,
    ) {
        self.state = State::Synced;
        let request = self.send(Purpose::Sync);
        effects.push(Effect::Sync {
            request,
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            assignor,
            assignments,
        });
    }

    fn synced(
        &mut self,
        answer: Result<Vec<TopicPartition>, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        match answer {
            Ok(_) if self.state != State::Synced => {}
            Ok(partitions) => {
                self.failures = 0;
                self.last = (self.generation_id, partitions.clone());
                self.target = Some(partitions.into_iter().collect());
            }
            Err(code) => self.refused(code, effects),
        }
    }

    fn acknowledged(
        &mut self,
        request: RequestId,
        error_code: ErrorCode,
        effects: &mut Vec<Effect>,
    ) {
        let Some((_, purpose)) = self.in_flight.take_if(|(it, _)| *it == request) else {
            return;
        };
        match error_code {
            _ if purpose == Purpose::Leave => self.has_left(effects),
            ErrorCode::NONE => self.failures = 0,
            code => self.refused(code, effects),
        }
    }

    fn refused(&mut self, code: ErrorCode, effects: &mut Vec<Effect>) {
        match code {
            _ if matches!(
                self.state,
                State::Out | State::Failed | State::Asleep { .. }
            ) => {}
            // The others are joining; what it has it keeps until it joins, too.
            ErrorCode::REBALANCE_IN_PROGRESS => match self.state {
                State::Leaving => {}
                State::Unjoined => self.later(),
                _ => {
                    self.state = State::Synced;
                    self.rejoins = true;
                }
            },
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID => {
                if code == ErrorCode::UNKNOWN_MEMBER_ID {
                    self.member_id = Str::EMPTY;
                }
                self.lose(effects);
                if self.state != State::Leaving {
                    self.state = State::Unjoined;
                }
            }
            code if code.is_retriable() => {
                // An answer that did not come leaves nobody knows what: the next round is for all.
                if matches!(self.state, State::Synced) && self.target.is_none() {
                    self.rejoins |= self.last.0 != self.generation_id;
                }
                self.later();
            }
            error_code => {
                self.lose(effects);
                self.state = State::Failed;
                let message = None;
                effects.push(Effect::Fail {
                    error_code,
                    message,
                });
            }
        }
    }

    fn has_left(&mut self, effects: &mut Vec<Effect>) {
        self.generation_id = NO_GENERATION;
        self.failures = 0;
        if !self.config.is_static {
            self.member_id = Str::EMPTY;
        }
        match self.state {
            State::Asleep { .. } => self.state = State::Asleep { is_told: true },
            State::Leaving => {
                self.state = match std::mem::take(&mut self.comes_back) {
                    true => State::Unjoined,
                    false => State::Out,
                };
                effects.push(Effect::Left);
            }
            _ => {}
        }
    }

    fn lost(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some((_, purpose)) = self.in_flight.take_if(|(it, _)| *it == request) else {
            return;
        };
        self.later();
        match purpose {
            Purpose::Leave if self.failures >= LEAVE_ATTEMPTS => {
                self.retry_at = None;
                self.has_left(effects);
            }
            Purpose::Sync => self.rejoins = true,
            _ => {}
        }
    }

    fn later(&mut self) {
        let (first, max) = (self.config.retry_backoff, self.config.retry_backoff_max);
        self.failures += 1;
        let wait = backoff(first, max, self.failures, &mut self.random);
        self.retry_at = Some(self.now + wait);
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
        if matches!(
            self.state,
            State::Out | State::Failed | State::Asleep { .. }
        ) {
            assert!(self.owned.is_empty(), "who is out owns nothing");
        }
    }
}
