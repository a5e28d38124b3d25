//! What a producer sends when: batches, their order, their sequence numbers, and what happens when something fails.
//!
//! A machine without I/O: records, answers and leaders come in as [`Input`]s, what is to be done goes out as [`Effect`]s. It sees
//! sizes, not bytes. The rules:
//!
//! - A record joins the youngest batch of its partition. That batch can be sent when it is full, has waited for `linger`, or
//!   something else calls for it.
//! - The batches of a partition are in flight together only in order, to the same broker, and only those that are sent for the
//!   first time. One that has to be sent again waits until it is the first. So the order stays.
//! - Behind a batch about which the broker has not spoken at most `in_flight_max` - 1 others are stamped, answered or not: with
//!   it, as many as brokers remember, so that it is known again when it is sent again.
//! - A batch that was sent keeps its stamp until it is over, or until the broker has said that it lacks what came before it
//!   (KIP-360): then the producer's epoch is raised, and everything left is stamped anew. Both happen one partition at a time;
//!   the others take over the raised epoch when nothing of theirs is under way.
//! - Whatever has not ended after `delivery_timeout` ends then.

mod batch;
mod event;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rustc_hash::FxHashMap;
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, ProducerEpoch};

pub(super) use self::batch::Config;
use self::batch::{Batch, Node, Partition, State, Verdict, sequence_after};
pub(super) use self::event::{
    Answer, BatchId, Dispatch, Effect, Identity, Input, Outcome, RequestId, Slot, Stamp,
};
use crate::backoff::{Random, backoff};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Accumulator {
    config: Config,
    partitions: Vec<Partition>,
    batches: FxHashMap<BatchId, Batch>,
    /// The batches of each request in flight, and to whom it went.
    requests: FxHashMap<RequestId, (NodeId, Vec<BatchId>)>,
    nodes: BTreeMap<NodeId, Node>,
    /// One entry per partition at most: when something of it is due.
    timers: BTreeSet<(Instant, Slot)>,
    identity: Option<Identity>,
    /// Whether an identity was asked for and has not come.
    is_identifying: bool,
    /// Why there will be no identity.
    unidentified: Option<ErrorCode>,
    buffered_bytes: usize,
    /// A record found no room: whatever is there should go.
    is_starved: bool,
    next_id: u64,
    random: Random,
    /// When it was last called, for work that is due at once.
    now: Instant,
}

impl Accumulator {
    pub(super) fn new(now: Now, config: Config) -> Self {
        Self {
            random: Random::new(config.seed),
            config,
            partitions: Vec::new(),
            batches: FxHashMap::default(),
            requests: FxHashMap::default(),
            nodes: BTreeMap::new(),
            timers: BTreeSet::new(),
            identity: None,
            is_identifying: false,
            unidentified: None,
            buffered_bytes: 0,
            is_starved: false,
            next_id: 0,
            now: now.instant,
        }
    }

    /// A place for a further partition, whose leader is not known yet.
    pub(super) fn add_partition(&mut self) -> Slot {
        self.partitions.push(Partition {
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            batches: Default::default(),
            identity: None,
            next_sequence: 0,
            stamped: 0,
            is_known: false,
            is_broken: false,
            is_restarting: false,
            batch_bytes_max: self.config.batch_bytes_max,
            timer: None,
            ready_on: None,
        });
        self.partitions.len() - 1
    }

    /// Takes in what has happened, and adds what is to be done to `effects`.
    pub(super) fn handle(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        self.now = now.instant;
        match input {
            // The one input that comes for every record: it sends nothing, what it makes ready is due at once.
            Input::Record { partition, bytes } => {
                return self.record(partition, bytes, effects);
            }
            Input::Leader {
                partition,
                leader,
                leader_epoch,
            } => {
                let known = &mut self.partitions[partition];
                known.leader = leader;
                known.leader_epoch = leader_epoch;
                self.hurry_moved(partition);
                self.touch(partition, effects);
            }
            Input::Identified { identity } => {
                self.identity = Some(identity);
                self.is_identifying = false;
                self.touch_all(effects);
            }
            Input::Unidentified { error_code } => {
                self.is_identifying = false;
                self.unidentified = Some(error_code);
                self.complete_all(Outcome::Unidentified { error_code }, effects);
            }
            Input::Answered { request, answers } => self.answered(request, &answers, effects),
            Input::Lost { request } => self.answered(request, &[], effects),
            Input::Flush => self.seal_all(effects),
            Input::Abort => self.complete_all(Outcome::Aborted, effects),
            Input::Timeout => self.fire_timers(effects),
        }
        self.send_ready(effects);
    }

    /// When something is due though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let can_send = |node: &Node| self.has_room(node) && !node.ready.is_empty();
        if self.nodes.values().any(can_send) {
            return Some(self.now);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many batches of the partition wait to be sent.
    pub(super) fn queued(&self, partition: Slot) -> usize {
        let batches = self.partitions[partition].batches.iter();
        batches
            .filter(|id| !self.batches[id].is_in_flight())
            .count()
    }

    /// Whether the partition has an open batch with room for so much more.
    pub(super) fn has_room_in_open(&self, slot: Slot, bytes: usize) -> bool {
        let partition = &self.partitions[slot];
        let last = partition.batches.back().map(|id| &self.batches[id]);
        last.is_some_and(|batch| {
            batch.state == State::Open && batch.bytes + bytes <= partition.batch_bytes_max
        })
    }

    /// Whether somebody leads the partition.
    pub(super) fn has_leader(&self, slot: Slot) -> bool {
        self.partitions[slot].leader.is_some()
    }

    /// How many bytes of records are held.
    pub(super) const fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// How many requests wait for an answer.
    pub(super) fn requests_in_flight(&self) -> usize {
        self.requests.len()
    }

    fn has_room(&self, node: &Node) -> bool {
        node.in_flight < self.config.in_flight_max
    }

    const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// What [`Input::Record`] comes to for most records: one more in the open batch of its partition, and nothing to do. `None` if
    /// it has to be that input.
    pub(super) fn join(&mut self, slot: Slot, bytes: usize) -> Option<BatchId> {
        if self.buffered_bytes + bytes > self.config.buffer_bytes_max {
            return None;
        }
        let partition = &self.partitions[slot];
        let id = *partition.batches.back()?;
        let batch = self.batches.get_mut(&id)?;
        if batch.state != State::Open || batch.bytes + bytes > partition.batch_bytes_max {
            return None;
        }
        batch.bytes += bytes;
        batch.records += 1;
        self.buffered_bytes += bytes;
        Some(id)
    }

    fn record(&mut self, slot: Slot, bytes: usize, effects: &mut Vec<Effect>) {
        if let Some(batch) = self.join(slot, bytes) {
            return effects.push(Effect::Put { batch });
        }
        let has_room = self.buffered_bytes + bytes <= self.config.buffer_bytes_max;
        if !has_room && self.buffered_bytes > 0 {
            if !self.is_starved {
                self.is_starved = true;
                self.seal_all(effects);
            }
            return effects.push(Effect::Full);
        }
        self.buffered_bytes += bytes;
        let last = self.partitions[slot].batches.back();
        if let Some(full) = last.and_then(|id| self.batches.get_mut(id))
            && full.state == State::Open
        {
            full.state = State::Waiting {
                not_before: self.now,
            };
        }
        let id = self.new_id();
        let batch = Batch {
            partition: slot,
            records: 1,
            bytes,
            opened: self.now,
            state: State::Open,
            attempts: 0,
            stamp: None,
            stamped_before: 0,
            sent_to: None,
        };
        self.batches.insert(id, batch);
        self.partitions[slot].batches.push_back(id);
        effects.push(Effect::Put { batch: id });
        match self.unidentified {
            Some(error_code) => {
                let outcome = Outcome::Unidentified { error_code };
                self.complete(id, outcome, effects);
            }
            None => self.touch(slot, effects),
        }
        // Asked for with the first record, not when its batch could go.
        if self.config.is_idempotent && self.identity.is_none() && self.unidentified.is_none() {
            self.identify(effects);
        }
    }

    /// What open batches there are take no further records.
    fn seal_all(&mut self, effects: &mut Vec<Effect>) {
        for slot in 0..self.partitions.len() {
            let last = self.partitions[slot].batches.back();
            let Some(batch) = last.and_then(|id| self.batches.get_mut(id)) else {
                continue;
            };
            if batch.state == State::Open {
                batch.state = State::Waiting {
                    not_before: self.now,
                };
                self.touch(slot, effects);
            }
        }
    }

    fn touch_all(&mut self, effects: &mut Vec<Effect>) {
        for slot in 0..self.partitions.len() {
            self.touch(slot, effects);
        }
    }

    fn complete_all(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        for slot in 0..self.partitions.len() {
            while let Some(id) = self.partitions[slot].batches.front().copied() {
                self.complete(id, outcome, effects);
            }
            self.touch(slot, effects);
        }
    }

    fn fire_timers(&mut self, effects: &mut Vec<Effect>) {
        while let Some((at, slot)) = self.timers.first().copied()
            && at <= self.now
        {
            self.timers.pop_first();
            self.partitions[slot].timer = None;
            while let Some(id) = self.partitions[slot].batches.front().copied()
                && self.batches[&id].opened + self.config.delivery_timeout <= self.now
            {
                self.complete(id, Outcome::TimedOut, effects);
            }
            self.touch(slot, effects);
        }
    }

    /// The batch is over.
    fn complete(&mut self, id: BatchId, outcome: Outcome, effects: &mut Vec<Effect>) {
        let batch = self.batches.remove(&id).expect("a batch that is not over");
        let partition = &mut self.partitions[batch.partition];
        partition.batches.retain(|other| *other != id);
        let is_delivered = matches!(outcome, Outcome::Delivered { .. });
        partition.is_broken |= !is_delivered && batch.stamp.is_some();
        self.buffered_bytes -= batch.bytes;
        self.is_starved = false;
        effects.push(Effect::Complete { batch: id, outcome });
    }

    /// A batch that waits only because its former leader failed need not wait for the new one (KIP-951).
    fn hurry_moved(&mut self, slot: Slot) {
        let partition = &self.partitions[slot];
        let Some(id) = partition.batches.front() else {
            return;
        };
        let Some(batch) = self.batches.get_mut(id) else {
            return;
        };
        if let State::Waiting { not_before } = &mut batch.state
            && batch.sent_to.is_some_and(|(node, epoch)| {
                partition.leader.is_some_and(|leader| leader != node)
                    || partition.leader_epoch > epoch
            })
        {
            *not_before = (*not_before).min(self.now);
        }
    }

    /// Finds out anew what the partition waits for.
    fn touch(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        self.settle(slot, effects);
        let verdict = self.verdict(slot);
        let expiry = self.partitions[slot].batches.front();
        let expiry = expiry.map(|id| self.batches[id].opened + self.config.delivery_timeout);
        let due = match verdict {
            Verdict::At(at) => expiry.map(|expiry| expiry.min(at)),
            _ => expiry,
        };
        self.set_timer(slot, due);
        let node = match verdict {
            Verdict::Ready { node, .. } => Some(node),
            _ => None,
        };
        self.set_ready(slot, node);
        match verdict {
            Verdict::NoLeader => effects.push(Effect::Refresh),
            Verdict::NoIdentity => self.identify(effects),
            _ => {}
        }
    }

    fn set_timer(&mut self, slot: Slot, due: Option<Instant>) {
        let timer = std::mem::replace(&mut self.partitions[slot].timer, due);
        if timer != due {
            if let Some(at) = timer {
                self.timers.remove(&(at, slot));
            }
            if let Some(at) = due {
                self.timers.insert((at, slot));
            }
        }
    }

    fn set_ready(&mut self, slot: Slot, node: Option<NodeId>) {
        let before = std::mem::replace(&mut self.partitions[slot].ready_on, node);
        if before == node {
            return;
        }
        if let Some(before) = before.and_then(|id| self.nodes.get_mut(&id)) {
            before.ready.retain(|other| *other != slot);
        }
        if let Some(id) = node {
            self.nodes.entry(id).or_default().ready.push_back(slot);
        }
    }

    fn identify(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_identifying {
            self.is_identifying = true;
            effects.push(Effect::Identify);
        }
    }
}
