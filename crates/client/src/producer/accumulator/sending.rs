//! What is sent, and what becomes of it.

use super::*;

impl Accumulator {
    /// What may happen to the partition next.
    pub(super) fn verdict(&self, slot: Slot) -> Verdict {
        let partition = &self.partitions[slot];
        let batches = partition.batches.iter();
        let Some((index, id, batch)) = batches
            .enumerate()
            .map(|(index, id)| (index, *id, &self.batches[id]))
            .find(|(_, _, batch)| !batch.is_in_flight())
        else {
            return Verdict::Wait;
        };
        let is_first = index == 0;
        if !is_first && (batch.attempts > 0 || batch.stamp.is_some()) {
            return Verdict::Wait;
        }
        let has_successor = index + 1 < partition.batches.len();
        let due = match batch.state {
            State::Open if !has_successor => batch.opened + self.config.linger,
            State::Waiting { not_before } => not_before,
            State::Open | State::InFlight { .. } => self.now,
        };
        if due > self.now {
            return Verdict::At(due);
        }
        let Some(node) = partition.leader else {
            return Verdict::NoLeader;
        };
        if self.config.is_idempotent {
            let Some(identity) = self.identity else {
                return Verdict::NoIdentity;
            };
            let begins_anew = batch.stamp.is_none() && partition.identity != Some(identity);
            let is_unclear = batch.stamp.is_none() && partition.is_broken;
            let is_early = begins_anew || !partition.is_known;
            let is_too_far = batch.stamp.is_none() && self.is_far_ahead(partition);
            if partition.is_restarting || is_unclear || is_too_far || (is_early && !is_first) {
                return Verdict::Wait;
            }
        }
        // In flight with others: only where they are, so that they arrive in order.
        let is_alone = self.config.in_flight_max == 1;
        if !is_first && (is_alone || !self.is_in_flight_to(partition, node)) {
            return Verdict::Wait;
        }
        Verdict::Ready { batch: id, node }
    }

    /// Whether another batch would make the broker forget the oldest one that has a stamp, should it have that one.
    fn is_far_ahead(&self, partition: &Partition) -> bool {
        let oldest = partition.batches.front().map(|id| &self.batches[id]);
        oldest.is_some_and(|oldest| {
            let since = partition.stamped - oldest.stamped_before;
            oldest.stamp.is_some() && since >= self.config.in_flight_max as u64
        })
    }

    /// Whether all that is in flight of the partition is on its way to its leader.
    fn is_in_flight_to(&self, partition: &Partition, leader: NodeId) -> bool {
        let states = partition.batches.iter().map(|id| self.batches[id].state);
        let mut nodes = states.filter_map(|state| match state {
            State::InFlight { node, .. } => Some(node),
            State::Open | State::Waiting { .. } => None,
        });
        nodes.all(|node| node == leader)
    }

    /// Sends whatever can be sent, to every broker that takes another request.
    pub(super) fn send_ready(&mut self, effects: &mut Vec<Effect>) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in nodes {
            while let Some(node) = self.nodes.get(&id)
                && self.has_room(node)
                && !node.ready.is_empty()
            {
                self.send_request(id, effects);
            }
        }
        self.nodes
            .retain(|_, node| node.in_flight > 0 || !node.ready.is_empty());
    }

    fn send_request(&mut self, id: NodeId, effects: &mut Vec<Effect>) {
        let request = self.new_id();
        let mut batches = Vec::new();
        let mut slots = Vec::new();
        let mut bytes = 0;
        while let Some(slot) = self.nodes.get(&id).and_then(|node| node.ready.front()) {
            let slot = *slot;
            let Verdict::Ready { batch, node } = self.verdict(slot) else {
                // Another partition has raised the epoch in the meantime.
                self.set_ready(slot, None);
                slots.push(slot);
                continue;
            };
            assert_eq!(node, id, "a partition is on the list of its leader");
            let size = self.batches[&batch].bytes;
            if bytes > 0 && bytes + size > self.config.request_bytes_max {
                break;
            }
            bytes += size;
            self.set_ready(slot, None);
            batches.push(self.dispatch(slot, batch, request, node));
            slots.push(slot);
        }
        if !batches.is_empty() {
            let ids = batches.iter().map(|dispatch| dispatch.batch).collect();
            self.requests.insert(request, (id, ids));
            self.nodes.entry(id).or_default().in_flight += 1;
            effects.push(Effect::Send {
                request,
                node: id,
                batches,
            });
        }
        for slot in slots {
            self.touch(slot, effects);
        }
    }

    fn dispatch(&mut self, slot: Slot, id: BatchId, request: RequestId, node: NodeId) -> Dispatch {
        let partition = &mut self.partitions[slot];
        let batch = self.batches.get_mut(&id).expect("a batch that is ready");
        batch.attempts += 1;
        batch.sent_to = Some((node, partition.leader_epoch));
        batch.state = State::InFlight { request, node };
        if let (true, None, Some(identity)) =
            (self.config.is_idempotent, batch.stamp, self.identity)
        {
            if partition.identity != Some(identity) {
                partition.identity = Some(identity);
                partition.next_sequence = 0;
                partition.is_known = false;
            }
            batch.stamp = Some(Stamp {
                identity,
                base_sequence: partition.next_sequence,
            });
            partition.next_sequence = sequence_after(partition.next_sequence, batch.records);
            batch.stamped_before = partition.stamped;
            partition.stamped += 1;
        }
        Dispatch {
            batch: id,
            stamp: batch.stamp,
        }
    }

    /// A request is over, with an answer for some of its batches.
    pub(super) fn answered(
        &mut self,
        request: RequestId,
        answers: &[(BatchId, Answer)],
        effects: &mut Vec<Effect>,
    ) {
        let Some((node, batches)) = self.requests.remove(&request) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&node) {
            node.in_flight -= 1;
        }
        let mut slots = BTreeSet::new();
        let mut is_stale = false;
        for id in batches {
            // A batch whose time was up is over already.
            let Some(batch) = self.batches.get(&id) else {
                continue;
            };
            slots.insert(batch.partition);
            match answers.iter().find(|(answered, _)| *answered == id) {
                Some((_, answer)) => is_stale |= self.judge(id, *answer, effects),
                None => {
                    self.retry(id);
                    is_stale = true;
                }
            }
        }
        if is_stale {
            effects.push(Effect::Refresh);
        }
        for slot in slots {
            self.touch(slot, effects);
        }
    }

    /// What an answer means for a batch; true if the leader should be looked up.
    fn judge(&mut self, id: BatchId, answer: Answer, effects: &mut Vec<Effect>) -> bool {
        let code = answer.error_code;
        let batch = &self.batches[&id];
        let is_first = self.partitions[batch.partition].batches.front() == Some(&id);
        match code {
            ErrorCode::NONE => {
                let slot = batch.partition;
                self.partitions[slot].is_known = true;
                let outcome = Outcome::Delivered {
                    base_offset: answer.base_offset,
                    log_append_time: answer.log_append_time,
                };
                self.complete(id, outcome, effects);
            }
            // The broker has the batch, but no longer knows where.
            ErrorCode::DUPLICATE_SEQUENCE_NUMBER if batch.stamp.is_some() => {
                let outcome = Outcome::Delivered {
                    base_offset: Offset::NONE,
                    log_append_time: answer.log_append_time,
                };
                self.complete(id, outcome, effects);
            }
            ErrorCode::MESSAGE_TOO_LARGE if batch.records > 1 => self.split(id, effects),
            // KIP-360: something before this batch is not in the log. For the first one that is a gap that stays; the others
            // had to be refused because of it, and wait for their turn.
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH
                if batch.stamp.is_some() =>
            {
                self.partitions[batch.partition].is_restarting |= is_first;
                self.retry(id);
            }
            _ if code.is_retriable() => {
                self.retry(id);
                return is_about_leader(code);
            }
            _ => self.complete(id, Outcome::Refused { error_code: code }, effects),
        }
        false
    }

    /// The batch is sent again after a while, at once if its leader is another one by now.
    fn retry(&mut self, id: BatchId) {
        let batch = self.batches.get_mut(&id).expect("a batch that is not over");
        let wait = backoff(
            self.config.retry_backoff,
            self.config.retry_backoff_max,
            batch.attempts,
            &mut self.random,
        );
        batch.state = State::Waiting {
            not_before: self.now + wait,
        };
        let slot = batch.partition;
        self.hurry_moved(slot);
    }

    /// The broker finds a batch of several records too large: it becomes two, and no batch of the partition gets so large again.
    /// The broker has looked at nothing else, so the sequence numbers stay.
    fn split(&mut self, id: BatchId, effects: &mut Vec<Effect>) {
        let (first, second) = (self.new_id(), self.new_id());
        let batch = self.batches.remove(&id).expect("a batch that is not over");
        let records = batch.records / 2;
        let bytes = batch.bytes / 2;
        let half = |records, bytes, skipped| Batch {
            partition: batch.partition,
            records,
            bytes,
            opened: batch.opened,
            state: State::Waiting {
                not_before: self.now,
            },
            attempts: batch.attempts,
            stamp: batch.stamp.map(|stamp| Stamp {
                base_sequence: sequence_after(stamp.base_sequence, skipped),
                ..stamp
            }),
            stamped_before: batch.stamped_before,
            sent_to: batch.sent_to,
        };
        let halves = [
            (first, half(records, bytes, 0)),
            (
                second,
                half(batch.records - records, batch.bytes - bytes, records),
            ),
        ];
        self.batches.extend(halves);
        let partition = &mut self.partitions[batch.partition];
        partition.batch_bytes_max = bytes.max(1);
        let index = partition.batches.iter().position(|other| *other == id);
        let index = index.expect("a batch is in the list of its partition");
        partition.batches[index] = first;
        partition.batches.insert(index + 1, second);
        effects.push(Effect::Split {
            batch: id,
            records,
            first,
            second,
        });
    }

    /// Raises the epoch where a sequence of the partition cannot go on (KIP-360), once nothing of it is under way.
    pub(super) fn settle(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        let partition = &self.partitions[slot];
        if !partition.is_broken && !partition.is_restarting {
            return;
        }
        let of_partition = || partition.batches.iter().map(|id| &self.batches[id]);
        let is_over = match partition.is_restarting {
            true => !of_partition().any(Batch::is_in_flight),
            false => !of_partition().any(|batch| batch.stamp.is_some()),
        };
        if !is_over {
            return;
        }
        if self.identity.is_some() && self.identity == partition.identity {
            self.raise_epoch(effects);
        }
        let partition = &mut self.partitions[slot];
        partition.is_broken = false;
        partition.is_restarting = false;
        for id in &partition.batches {
            if let Some(batch) = self.batches.get_mut(id) {
                batch.stamp = None;
            }
        }
    }

    fn raise_epoch(&mut self, effects: &mut Vec<Effect>) {
        self.identity = self.identity.and_then(|identity| {
            let producer_epoch = identity.producer_epoch.value().checked_add(1)?;
            Some(Identity {
                producer_epoch: ProducerEpoch::new(producer_epoch),
                ..identity
            })
        });
        tracing::debug!(identity = ?self.identity, "a sequence has a gap: the producer's epoch is raised");
        if self.identity.is_none() {
            self.identify(effects);
        }
    }

    /// Asserts what always holds.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let bytes: usize = self.batches.values().map(|batch| batch.bytes).sum();
        assert_eq!(bytes, self.buffered_bytes, "bytes are counted");
        let listed: usize = self.partitions.iter().map(|it| it.batches.len()).sum();
        assert_eq!(listed, self.batches.len(), "every batch is in one list");
        for (slot, partition) in self.partitions.iter().enumerate() {
            self.check_partition(slot, partition);
        }
        for (id, node) in &self.nodes {
            let requests = self.requests.values().filter(|(to, _)| to == id);
            assert_eq!(node.in_flight, requests.count());
            assert!(node.in_flight <= self.config.in_flight_max);
        }
    }

    #[cfg(test)]
    fn check_partition(&self, slot: Slot, partition: &Partition) {
        let batches: Vec<_> = partition
            .batches
            .iter()
            .map(|id| &self.batches[id])
            .collect();
        for (index, batch) in batches.iter().enumerate() {
            assert_eq!(batch.partition, slot);
            let is_last = index + 1 == batches.len();
            assert!(is_last || batch.state != State::Open, "only one is open");
            if let State::InFlight { request, node } = batch.state {
                assert_eq!(self.requests[&request].0, node);
                let again = batch.attempts > 1;
                assert!(index == 0 || !again, "what is sent again is the first");
            }
        }
        let in_flight = batches.iter().filter(|it| it.is_in_flight()).count();
        assert!(in_flight <= self.config.in_flight_max);
        if let Some(oldest) = batches.first().filter(|batch| batch.stamp.is_some()) {
            let since = partition.stamped - oldest.stamped_before;
            assert!(since <= self.config.in_flight_max as u64, "it is known");
        }
        let stamped: Vec<_> = batches.iter().filter_map(|batch| batch.stamp).collect();
        let first_without = batches.iter().position(|batch| batch.stamp.is_none());
        let last_with = batches.iter().rposition(|batch| batch.stamp.is_some());
        assert!(
            first_without.is_none() || last_with.is_none() || last_with < first_without,
            "what is stamped comes before what is not"
        );
        for pair in stamped.windows(2) {
            assert_eq!(pair[0].identity, pair[1].identity);
        }
        assert_eq!(
            partition.timer.is_some(),
            !batches.is_empty(),
            "what is not over has a time when it is"
        );
    }
}

/// Whether a refusal says that the partition is to be looked for elsewhere.
fn is_about_leader(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::NETWORK_EXCEPTION
    )
}
