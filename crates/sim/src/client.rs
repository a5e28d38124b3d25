//! Producers: idempotent, `acks=all`, several batches under way, and never tired of trying again.

use std::collections::BTreeMap;

use tidelog_node::partition::Acks;
use tidelog_record::{Batch, BatchBuilder, Compression};
use tidelog_types::{ErrorCode, NodeId, Offset, ProducerEpoch, ProducerId, Timestamp, TopicName};

use crate::clock::{MS, SECOND, Time};
use crate::event::Event;
use crate::io::Io;
use crate::message::{Message, Partition, Request, Response};
use crate::network::{CLIENTS, Place};

/// How many batches may be under way, from the first one on whose answer is open: as many as a log remembers of a producer
/// (KIP-98).
const FOLLOWING_MAX: u64 = 5;
const PATIENCE: Time = 2 * SECOND;

/// A producer of one partition.
pub(crate) struct Producer {
    index: usize,
    topic: TopicName,
    pub(crate) partition_index: i32,
    nodes: i32,
    interval: Time,
    pub(crate) partition: Option<Partition>,
    leader: Option<NodeId>,
    asks_metadata: bool,
    next_number: u64,
    next_sequence: i32,
    in_flight: BTreeMap<u64, InFlight>,
    requests: BTreeMap<u64, u64>,
    next_id: u64,
    next_record_at: Time,
    refused_with: Option<ErrorCode>,
    pub(crate) acknowledged: u64,
}

struct InFlight {
    batch: Batch,
    try_at: Time,
}

impl Producer {
    pub(crate) fn new(
        index: usize,
        topic: TopicName,
        partition_index: i32,
        nodes: i32,
        interval: Time,
    ) -> Self {
        Self {
            index,
            topic,
            partition_index,
            nodes,
            interval,
            partition: None,
            leader: None,
            asks_metadata: false,
            next_number: 0,
            next_sequence: 0,
            in_flight: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_id: 0,
            next_record_at: 0,
            refused_with: None,
            acknowledged: 0,
        }
    }

    const fn place(&self) -> Place {
        CLIENTS + self.index as Place
    }

    /// Whether everything that was sent is acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// How many batches there are from the first on whose answer is open.
    fn following(&self) -> u64 {
        let first = self.in_flight.keys().next();
        first.map_or(0, |first| self.next_number - first)
    }

    /// How many batches there are in all.
    pub(crate) const fn sent(&self) -> u64 {
        self.next_number
    }

    /// Sends what is due; new batches only while there is load.
    pub(crate) fn tick(&mut self, io: &mut Io<'_>, is_loaded: bool) {
        // A log takes whatever comes first of a producer that it does not know: that must be the first batch.
        let following_max = if self.acknowledged == 0 {
            1
        } else {
            FOLLOWING_MAX
        };
        if is_loaded && io.now >= self.next_record_at && self.following() < following_max {
            self.next_record_at = io.now + io.random.between(self.interval / 2, self.interval * 2);
            let batch = self.batch(io);
            let try_at = io.now;
            self.in_flight
                .insert(self.next_number, InFlight { batch, try_at });
            self.next_number += 1;
        }
        match (self.leader, self.partition) {
            (Some(leader), Some(partition)) => self.send_due(io, leader, partition),
            _ if !self.asks_metadata || io.random.one_in(20) => self.ask_metadata(io),
            _ => {}
        }
        let next = io.now + self.interval.clamp(5 * MS, 50 * MS);
        io.queue.push(next, Event::Client(self.index));
    }

    fn send_due(&mut self, io: &mut Io<'_>, leader: NodeId, partition: Partition) {
        let place = self.place();
        for (number, in_flight) in &mut self.in_flight {
            if in_flight.try_at > io.now {
                continue;
            }
            in_flight.try_at = io.now + PATIENCE;
            self.next_id += 1;
            self.requests.insert(self.next_id, *number);
            let request = Request::Produce(partition, in_flight.batch.clone(), Acks::All);
            let id = self.next_id;
            io.send(place, leader.value(), Message::Request { id, request });
        }
    }

    fn ask_metadata(&mut self, io: &mut Io<'_>) {
        self.asks_metadata = true;
        self.next_id += 1;
        let id = self.next_id;
        let node = io.random.between(1, self.nodes as u64 + 1) as Place;
        let request = Request::Metadata;
        io.send(self.place(), node, Message::Request { id, request });
    }

    fn batch(&mut self, io: &mut Io<'_>) -> Batch {
        let records = io.random.between(1, 4);
        let producer_id = ProducerId::new(1 + self.index as i64);
        let mut builder = BatchBuilder::new(Compression::NONE).producer(
            producer_id,
            ProducerEpoch::new(0),
            self.next_sequence,
        );
        for _ in 0..records {
            let mut value = [0; 40];
            value[..8].copy_from_slice(&self.next_number.to_le_bytes());
            builder.push(
                Timestamp::from_millis(1_700_000_000_000),
                None,
                Some(&value),
                &[],
            );
        }
        self.next_sequence += records as i32;
        builder.build().expect("a batch of a few records")
    }

    pub(crate) fn message(&mut self, io: &mut Io<'_>, message: Message) {
        match message {
            Message::Response {
                response: Response::Metadata(partitions),
                ..
            } => {
                self.asks_metadata = false;
                let found = partitions.into_iter().find(|(topic, (_, index), _)| {
                    *topic == self.topic && *index == self.partition_index
                });
                if let Some((_, partition, leader)) = found {
                    self.partition = Some(partition);
                    self.leader = leader;
                }
            }
            Message::Response {
                id,
                response: Response::Produce(result),
            } => self.produced(io, id, result),
            // A connection that breaks shows when patience ends.
            _ => {}
        }
    }

    fn produced(&mut self, io: &mut Io<'_>, id: u64, result: Result<Offset, ErrorCode>) {
        let Some(number) = self.requests.remove(&id) else {
            return;
        };
        match result {
            Ok(offset) => {
                if let (Some(_), Some(partition)) = (self.in_flight.remove(&number), self.partition)
                {
                    self.acknowledged += 1;
                    io.oracle.acknowledged(partition, number, offset);
                }
            }
            Err(code) => {
                self.refused_with = Some(code);
                self.leader = None;
                let wait = io.random.between(20 * MS, 100 * MS);
                if let Some(in_flight) = self.in_flight.get_mut(&number) {
                    in_flight.try_at = io.now + wait;
                }
            }
        }
    }

    /// What a producer waits for that is not done, in words.
    pub(crate) fn waits_for(&self) -> String {
        let first = self.in_flight.keys().next();
        format!(
            "the producer of partition {} has no answer for batch {first:?}, which it sends to {:?}, and was refused with {:?}",
            self.partition_index, self.leader, self.refused_with
        )
    }

    /// Somebody who was asked is gone.
    pub(crate) fn look_again(&mut self, io: &mut Io<'_>) {
        self.leader = None;
        self.asks_metadata = false;
        for in_flight in self.in_flight.values_mut() {
            in_flight.try_at = in_flight.try_at.min(io.now + 20 * MS);
        }
    }
}
