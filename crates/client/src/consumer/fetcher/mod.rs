//! What a consumer asks of whom: where it begins, what it fetches next, and what happens when something fails.
//!
//! A machine without I/O: partitions, leaders and answers come in as [`Input`]s, requests go out as [`Effect`]s. It sees sizes
//! and positions, not bytes. The rules:
//!
//! - A partition is fetched from when its position is settled: the application's, the group's, or one that was looked up. One
//!   with a leader epoch is held against the leader's log first, and again whenever the leader changes (KIP-320).
//! - Each broker has at most one fetch at a time, with a session (KIP-227). It asks for everything that is wanted from there, so
//!   that a session rarely changes. Where the last answer ended, the next fetch goes on: fetching does not wait for the
//!   application, only for room.
//! - There is room for a fetch if what is kept, what is on its way, and what the fetch may bring stay within
//!   `buffer_bytes_max`. A fetch may bring half of it, shared among the brokers, so that one half arrives while the other one is taken.
//!   (A single batch that is larger comes nevertheless: KIP-74.)
//! - Where answers are smaller than that, no more is kept ahead than one from each broker brings, or `ahead_bytes_min`: one is
//!   taken while the next one arrives. More would take memory, and make nothing faster. What is paused does not count here.
//! - An answer counts for a partition only if nothing has moved the partition since it was asked.
//! - Whatever failed is asked again after a time that doubles; a new leader ends the wait.

mod event;
mod partition;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Instant;

use rustc_hash::FxHashMap;
use tidelog_types::{ErrorCode, NodeId, Now, Timestamp};

pub(super) use self::event::{
    Effect, EpochEnd, FetchAnswer, FetchAnswers, Input, Position, RequestId, Slot, Start, Wanted,
};
pub(super) use self::partition::Config;
use self::partition::{InFlight, Leadership, Node, Partition, State};
use crate::backoff::{Random, backoff};
use crate::{OffsetReset, OffsetSpec};

/// Into how many parts the room is divided among brokers: one arrives while another is taken.
const PARTS: usize = 2;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Fetcher {
    config: Config,
    partitions: BTreeMap<Slot, Partition>,
    leaders: FxHashMap<Slot, Leadership>,
    nodes: BTreeMap<NodeId, Node>,
    /// Requests other than fetches, and as of which version of each partition.
    asked: FxHashMap<RequestId, Vec<(Slot, u64)>>,
    buffered_bytes: usize,
    next_id: u64,
    random: Random,
    now: Now,
}

impl Fetcher {
    pub(super) fn new(now: Now, config: Config) -> Self {
        Self {
            random: Random::new(config.seed),
            config,
            partitions: BTreeMap::new(),
            leaders: FxHashMap::default(),
            nodes: BTreeMap::new(),
            asked: FxHashMap::default(),
            buffered_bytes: 0,
            next_id: 0,
            now,
        }
    }

    /// Takes in what has happened, and adds what is to be done to `effects`.
    pub(super) fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        self.now = now;
        match input {
            Input::Assign { starts } => {
                for (slot, start) in starts {
                    self.assign(slot, start, effects);
                }
            }
            Input::Unassign { slot } => self.unassign(slot),
            Input::Pause { slot } => self.set_paused(slot, true),
            Input::Resume { slot } => self.set_paused(slot, false),
            Input::Leader {
                slot,
                topic_id,
                leader: node,
                leader_epoch: epoch,
            } => {
                let said = Leadership {
                    topic_id,
                    node,
                    epoch,
                };
                self.lead(slot, said);
            }
            Input::Committed { request, answers } => {
                for (slot, answer) in self.answers(request, answers) {
                    self.committed(slot, answer, effects);
                }
            }
            Input::Found { request, answers } => {
                for (slot, answer) in self.answers(request, answers) {
                    self.found(slot, answer, effects);
                }
            }
            Input::EpochEnds { request, answers } => {
                for (slot, answer) in self.answers(request, answers) {
                    self.epoch_ends(slot, answer, effects);
                }
            }
            Input::Fetched { request, answers } => self.fetched(request, &answers, effects),
            Input::Lost { request } => self.lost(request, effects),
            Input::Taken { slot, bytes } => self.taken(slot, bytes),
            Input::Stop { slot } => self.stop(slot),
            Input::Timeout => {}
        }
        self.forget_past_waits();
        self.ask(effects);
        self.fetch(effects);
    }

    /// When something is due though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let partitions = self.partitions.values();
        let partitions = partitions.filter(|it| it.has_wish() && it.asked.is_none());
        let partitions = partitions.filter_map(|it| it.retry_at);
        let nodes = self.nodes.values().filter(|it| it.in_flight.is_none());
        partitions.chain(nodes.filter_map(|it| it.retry_at)).min()
    }

    /// How many bytes are kept.
    pub(super) const fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn leader(&self, slot: Slot) -> Leadership {
        let known = self.leaders.get(&slot);
        known.copied().unwrap_or(Leadership::UNKNOWN)
    }

    // ---- what is the consumer's

    fn assign(&mut self, slot: Slot, start: Start, effects: &mut Vec<Effect>) {
        let mut partition = Partition::new(State::Stopped, self.new_id());
        if let Some(before) = self.partitions.get(&slot) {
            partition.is_paused = before.is_paused;
            partition.preferred = before.preferred;
            partition.served = before.served;
        }
        self.unassign(slot);
        self.partitions.insert(slot, partition);
        match start {
            Start::Committed => self.go_on(slot, State::Committed),
            Start::At(position) => self.settle(slot, position, effects),
            Start::Lookup(spec) => self.go_on(slot, State::Lookup(spec)),
            Start::Reset => self.reset(slot, Effect::NoOffset { slot }, effects),
        }
    }

    fn unassign(&mut self, slot: Slot) {
        if let Some(before) = self.partitions.remove(&slot) {
            self.buffered_bytes -= before.buffered_bytes;
        }
    }

    fn set_paused(&mut self, slot: Slot, is_paused: bool) {
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.is_paused = is_paused;
        }
    }

    fn stop(&mut self, slot: Slot) {
        let version = self.new_id();
        if let Some(partition) = self.partitions.get_mut(&slot) {
            self.buffered_bytes -= std::mem::take(&mut partition.buffered_bytes);
            partition.version = version;
            partition.asked = None;
            partition.state = State::Stopped;
        }
    }

    fn taken(&mut self, slot: Slot, bytes: usize) {
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.buffered_bytes -= bytes;
            self.buffered_bytes -= bytes;
        }
    }

    fn go_on(&mut self, slot: Slot, state: State) {
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.state = state;
            partition.failures = 0;
            partition.retry_at = None;
        }
    }

    fn settle(&mut self, slot: Slot, position: Position, effects: &mut Vec<Effect>) {
        let leader = self.leader(slot);
        self.go_on(slot, State::Fetch);
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.position = position;
            partition.validate(leader);
            effects.push(Effect::Begin { slot, position });
        }
    }

    /// Where the policy says. `otherwise` is said if there is none.
    fn reset(&mut self, slot: Slot, otherwise: Effect, effects: &mut Vec<Effect>) {
        let spec = match self.config.reset {
            OffsetReset::Earliest => OffsetSpec::Earliest,
            OffsetReset::Latest => OffsetSpec::Latest,
            OffsetReset::ByDuration(ago) => {
                let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                let time = self.now.timestamp.saturating_add_millis(-ago);
                OffsetSpec::At(time.max(Timestamp::from_millis(0)))
            }
            OffsetReset::None => {
                effects.push(otherwise);
                return self.go_on(slot, State::Stopped);
            }
        };
        self.go_on(slot, State::Lookup(spec));
    }

    /// A new leader ends waits, and has to be asked whether its log goes through the position.
    fn lead(&mut self, slot: Slot, said: Leadership) {
        let known = self.leaders.insert(slot, said);
        let known = known.unwrap_or(Leadership::UNKNOWN);
        let version = self.new_id();
        if !known.topic_id.is_zero() && known.topic_id != said.topic_id {
            // Brokers remember the former topic of this name.
            for node in self.nodes.values_mut() {
                node.session.restart();
            }
        }
        let has_moved = known.node != said.node || known.epoch != said.epoch;
        let Some(partition) = self.partitions.get_mut(&slot).filter(|_| has_moved) else {
            return;
        };
        partition.preferred = None;
        partition.retry_at = None;
        partition.failures = 0;
        if matches!(partition.state, State::Fetch | State::Validate) && known.epoch != said.epoch {
            partition.asked = None;
            partition.version = version;
            partition.validate(said);
        }
    }

    // ---- what is asked beside records

    /// What the answers to a request say of partitions that still wait for it; `None` for those it says nothing of.
    fn answers<T>(
        &mut self,
        request: RequestId,
        mut answers: Vec<(Slot, T)>,
    ) -> Vec<(Slot, Option<T>)> {
        let asked = self.asked.remove(&request).unwrap_or_default();
        let mut valid = Vec::with_capacity(asked.len());
        for (slot, version) in asked {
            let Some(partition) = self.partitions.get_mut(&slot) else {
                continue;
            };
            if partition.version != version || partition.asked != Some(request) {
                continue;
            }
            partition.asked = None;
            let index = answers.iter().position(|(it, _)| *it == slot);
            valid.push((slot, index.map(|index| answers.swap_remove(index).1)));
        }
        valid
    }

    fn committed(
        &mut self,
        slot: Slot,
        answer: Option<Result<Option<Position>, ErrorCode>>,
        effects: &mut Vec<Effect>,
    ) {
        match answer {
            Some(Ok(Some(position))) => self.settle(slot, position, effects),
            Some(Ok(None)) => self.reset(slot, Effect::NoOffset { slot }, effects),
            Some(Err(code)) => self.failed(slot, code, effects),
            None => self.later(slot),
        }
    }

    fn found(
        &mut self,
        slot: Slot,
        answer: Option<Result<Option<Position>, ErrorCode>>,
        effects: &mut Vec<Effect>,
    ) {
        let state = self.partitions.get(&slot).map(|it| it.state);
        match answer {
            // Its epoch says nothing of the record before.
            Some(Ok(Some(found))) => self.settle(slot, Position::at(found.offset), effects),
            Some(Ok(None)) if matches!(state, Some(State::Lookup(OffsetSpec::At(_)))) => {
                self.go_on(slot, State::Lookup(OffsetSpec::Latest));
            }
            Some(Err(code)) => self.failed(slot, code, effects),
            Some(Ok(None)) | None => self.later(slot),
        }
    }

    fn epoch_ends(
        &mut self,
        slot: Slot,
        answer: Option<Result<EpochEnd, ErrorCode>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(partition) = self.partitions.get(&slot) else {
            return;
        };
        let position = partition.position;
        match answer {
            Some(Ok(end)) if end.offset.value() < 0 || end.leader_epoch.value() < 0 => {
                let offset = position.offset;
                self.reset(slot, Effect::OutOfRange { slot, offset }, effects);
            }
            Some(Ok(end)) if end.offset < position.offset => {
                self.stop(slot);
                effects.push(Effect::Truncated { slot, to: end });
            }
            // A broker before KIP-320 cannot say: nothing to hold the position against.
            Some(Ok(_) | Err(ErrorCode::UNSUPPORTED_VERSION)) => self.go_on(slot, State::Fetch),
            Some(Err(code)) => self.failed(slot, code, effects),
            None => self.later(slot),
        }
    }

    /// Something was refused for a partition: asked again later.
    fn failed(&mut self, slot: Slot, error_code: ErrorCode, effects: &mut Vec<Effect>) {
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.preferred = None;
            if error_code.is_retriable() {
                effects.push(Effect::Refresh);
            } else if partition.failures == 0 {
                effects.push(Effect::Refused { slot, error_code });
            }
        }
        self.later(slot);
    }

    fn later(&mut self, slot: Slot) {
        let (first, max) = (self.config.retry_backoff, self.config.retry_backoff_max);
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.failures += 1;
            let wait = backoff(first, max, partition.failures, &mut self.random);
            partition.retry_at = Some(self.now.instant + wait);
        }
    }

    fn forget_past_waits(&mut self) {
        let now = self.now.instant;
        for partition in self.partitions.values_mut() {
            partition.retry_at.take_if(|at| *at <= now);
        }
        for node in self.nodes.values_mut() {
            node.retry_at.take_if(|at| *at <= now);
        }
    }

    /// Asks what has to be known before records can be fetched.
    fn ask(&mut self, effects: &mut Vec<Effect>) {
        let mut committed = Vec::new();
        let mut lookups = BTreeMap::<NodeId, Vec<_>>::new();
        let mut epochs = BTreeMap::<NodeId, Vec<_>>::new();
        let mut lost = Vec::new();
        for (&slot, partition) in &self.partitions {
            if !partition.has_wish() || !partition.is_due(self.now.instant) {
                continue;
            }
            let leader = self.leader(slot);
            match (partition.state, leader.node) {
                (State::Committed, _) => committed.push(slot),
                (_, None) => lost.push(slot),
                (State::Lookup(spec), Some(node)) => {
                    let lookup = (slot, spec, leader.epoch);
                    lookups.entry(node).or_default().push(lookup);
                }
                (State::Validate, Some(node)) => {
                    let ask = (slot, leader.epoch, partition.position.leader_epoch);
                    epochs.entry(node).or_default().push(ask);
                }
                (State::Fetch | State::Stopped, Some(_)) => {}
            }
        }
        if !lost.is_empty() {
            effects.push(Effect::Refresh);
        }
        for slot in lost {
            self.later(slot);
        }
        if !committed.is_empty() {
            let request = self.begin(committed.iter().copied());
            let slots = committed;
            effects.push(Effect::FetchCommitted { request, slots });
        }
        for (node, partitions) in lookups {
            let request = self.begin(partitions.iter().map(|it| it.0));
            effects.push(Effect::Lookup {
                request,
                node,
                partitions,
            });
        }
        for (node, partitions) in epochs {
            let request = self.begin(partitions.iter().map(|it| it.0));
            effects.push(Effect::AskEpochEnds {
                request,
                node,
                partitions,
            });
        }
    }

    /// A new request about these partitions.
    fn begin(&mut self, slots: impl Iterator<Item = Slot>) -> RequestId {
        let request = self.new_id();
        let mut versions = Vec::new();
        for slot in slots {
            if let Some(partition) = self.partitions.get_mut(&slot) {
                partition.asked = Some(request);
                versions.push((slot, partition.version));
            }
        }
        self.asked.insert(request, versions);
        request
    }

    // ---- records

    /// Sends every fetch for which there is room.
    fn fetch(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now.instant;
        let mut wanted = BTreeMap::<NodeId, Vec<(u64, Wanted)>>::new();
        for (&slot, partition) in &self.partitions {
            if partition.state != State::Fetch || !partition.has_wish() || !partition.is_due(now) {
                continue;
            }
            let leader = self.leader(slot);
            let Some(node) = partition.replica(leader, now) else {
                continue;
            };
            let it = Wanted {
                slot,
                fetch_offset: partition.position.offset,
                leader_epoch: leader.epoch,
            };
            wanted.entry(node).or_default().push((partition.served, it));
        }
        let part = self.config.buffer_bytes_max / (PARTS * wanted.len().max(1));
        let bytes_max = part.clamp(1, self.config.fetch_bytes_max);
        let answers: usize = self.nodes.values().map(|node| node.answer_bytes).sum();
        // What is paused may be kept for long, and must not hold up the others.
        let kept = self.partitions.values().filter(|it| !it.is_paused);
        let ahead: usize = kept.map(|it| it.buffered_bytes).sum();
        if ahead > answers.max(self.config.ahead_bytes_min) {
            return;
        }
        for (node, mut partitions) in wanted {
            let has_room =
                self.buffered_bytes + self.reserved() + bytes_max <= self.config.buffer_bytes_max;
            let known = self.nodes.entry(node).or_default();
            if !has_room || known.in_flight.is_some() || known.retry_at.is_some() {
                continue;
            }
            // Who was served longest ago comes first.
            partitions.sort_unstable_by_key(|(served, it)| (*served, it.slot));
            let partitions: Vec<Wanted> = partitions.into_iter().map(|(_, it)| it).collect();
            let versions = partitions.iter();
            let versions = versions.map(|it| (it.slot, self.partitions[&it.slot].version));
            let versions = versions.collect();
            let plan = known.session.plan(partitions);
            self.next_id += 1;
            let request = self.next_id;
            known.in_flight = Some(InFlight {
                request,
                bytes_max,
                versions,
            });
            effects.push(Effect::Fetch {
                request,
                node,
                session_id: plan.session_id,
                session_epoch: plan.session_epoch,
                bytes_max,
                partitions: plan.partitions,
                forgotten: plan.forgotten,
            });
        }
    }

    /// What is on its way, at most.
    fn reserved(&self) -> usize {
        let in_flight = self.nodes.values();
        let in_flight = in_flight.filter_map(|node| node.in_flight.as_ref());
        in_flight.map(|it| it.bytes_max).sum()
    }

    fn fetched(&mut self, request: RequestId, answers: &FetchAnswers, effects: &mut Vec<Effect>) {
        let is_asked = |node: &Node| node.in_flight.as_ref().map(|it| it.request) == Some(request);
        let Some((&id, node)) = self.nodes.iter_mut().find(|(_, node)| is_asked(node)) else {
            return;
        };
        let in_flight = node.in_flight.take();
        match answers.error_code {
            ErrorCode::NONE => {}
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => return node.session.forget(),
            _ => return self.node_failed(id, effects),
        }
        node.session.answered(answers.session_id);
        node.failures = 0;
        if answers.throttle_ms > 0 {
            let pause = std::time::Duration::from_millis(answers.throttle_ms.into());
            node.retry_at = Some(self.now.instant + pause);
        }
        let brought = answers.partitions.iter();
        let brought = brought.filter_map(|(_, answer)| answer.records);
        let brought = brought.map(|(bytes, _)| bytes).sum();
        if brought > 0 {
            node.answer_bytes = brought;
        }
        let versions = in_flight.map(|it| it.versions).unwrap_or_default();
        for (slot, answer) in &answers.partitions {
            let version = versions.get(slot);
            let partition = self.partitions.get(slot);
            let is_valid =
                |it: &&Partition| Some(&it.version) == version && it.state == State::Fetch;
            if partition.filter(is_valid).is_some() {
                self.fetched_of(id, *slot, answer, effects);
            }
        }
    }

    fn fetched_of(
        &mut self,
        node: NodeId,
        slot: Slot,
        answer: &FetchAnswer,
        effects: &mut Vec<Effect>,
    ) {
        let served = self.new_id();
        let is_leader = self.leader(slot).node == Some(node);
        let Some(partition) = self.partitions.get_mut(&slot) else {
            return;
        };
        match answer.error_code {
            ErrorCode::NONE => {
                partition.failures = 0;
                if let Some(replica) = answer.preferred_replica {
                    let until = self.now.instant + self.config.preferred_for;
                    partition.preferred = Some((replica, until));
                }
                if let Some((bytes, position)) = answer.records {
                    let from = std::mem::replace(&mut partition.position, position).offset;
                    partition.buffered_bytes += bytes;
                    partition.served = served;
                    self.buffered_bytes += bytes;
                    effects.push(Effect::Keep { slot, from });
                }
            }
            // A follower may lack what the leader has (KIP-392).
            ErrorCode::OFFSET_OUT_OF_RANGE if !is_leader => partition.preferred = None,
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let offset = partition.position.offset;
                self.reset(slot, Effect::OutOfRange { slot, offset }, effects);
            }
            code => self.failed(slot, code, effects),
        }
    }

    fn lost(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        if self.asked.contains_key(&request) {
            effects.push(Effect::Refresh);
            for (slot, _) in self.answers::<()>(request, Vec::new()) {
                self.later(slot);
            }
            return;
        }
        let is_asked = |node: &Node| node.in_flight.as_ref().map(|it| it.request) == Some(request);
        let mut nodes = self.nodes.iter();
        if let Some(id) = nodes.find(|(_, node)| is_asked(node)).map(|(id, _)| *id) {
            self.node_failed(id, effects);
        }
    }

    /// A broker cannot be fetched from now.
    fn node_failed(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        let (first, max) = (self.config.retry_backoff, self.config.retry_backoff_max);
        let node = self.nodes.entry(id).or_default();
        node.in_flight = None;
        node.session.restart();
        node.failures += 1;
        let wait = backoff(first, max, node.failures, &mut self.random);
        node.retry_at = Some(self.now.instant + wait);
        for partition in self.partitions.values_mut() {
            partition.preferred.take_if(|(node, _)| *node == id);
        }
        effects.push(Effect::Refresh);
    }

    /// What must always be so.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let kept: usize = self.partitions.values().map(|it| it.buffered_bytes).sum();
        assert_eq!(kept, self.buffered_bytes, "the sum is kept up");
        for (slot, partition) in &self.partitions {
            if let Some(request) = partition.asked {
                let asked = self.asked.get(&request);
                let is_there = asked.is_some_and(|it| it.iter().any(|(it, _)| it == slot));
                assert!(is_there, "what is waited for was asked");
            }
            if partition.state == State::Fetch {
                assert!(
                    partition.position.offset.value() >= 0,
                    "a position to fetch from"
                );
                assert_eq!(partition.asked, None, "what is fetched is settled");
            }
        }
        for node in self.nodes.values() {
            let Some(in_flight) = &node.in_flight else {
                continue;
            };
            for slot in in_flight.versions.keys() {
                assert!(node.session.has(*slot), "the session covers the fetch");
            }
        }
    }
}
