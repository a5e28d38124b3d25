//! Writers: clients that are content with less than a [producer](crate::client) is. They write to topics that come and go, without
//! sequences and with `acks=1` or `acks=all`, and what is not answered they forget.

use std::collections::BTreeMap;

use tidelog_node::partition::Acks;
use tidelog_record::{Batch, BatchBuilder, Compression};
use tidelog_types::{NodeId, Timestamp, TopicId, TopicName, Uuid};

use crate::clock::{MS, SECOND, Time};
use crate::event::Event;
use crate::io::Io;
use crate::message::{Message, Partition, Request, Response};
use crate::network::{Place, WRITERS};

/// Topics with names that begin so are created, deleted and created anew.
pub(crate) const PASSING: &str = "passing-";
/// A topic whose leaders may be elected without what is committed.
pub(crate) const UNCLEAN: &str = "unclean";
/// How long an answer may take.
const PATIENCE: Time = 2 * SECOND;

/// A writer to all partitions of one topic.
pub(crate) struct Writer {
    index: usize,
    pub(crate) topic: TopicName,
    nodes: i32,
    leaders: Vec<(Partition, NodeId)>,
    asks_metadata_at: Time,
    next_number: u64,
    /// What was sent and not answered.
    sent: BTreeMap<u64, Sent>,
    next_id: u64,
}

struct Sent {
    partition: Partition,
    number: u64,
    acks: Acks,
    at: Time,
}

impl Writer {
    pub(crate) const fn new(index: usize, topic: TopicName, nodes: i32) -> Self {
        Self {
            index,
            topic,
            nodes,
            leaders: Vec::new(),
            asks_metadata_at: 0,
            next_number: 0,
            sent: BTreeMap::new(),
            next_id: 0,
        }
    }

    pub(crate) const fn place(&self) -> Place {
        WRITERS + self.index as Place
    }

    /// Writes a batch somewhere, while there is load.
    pub(crate) fn tick(&mut self, io: &mut Io<'_>, is_loaded: bool) {
        self.sent.retain(|_, sent| sent.at + PATIENCE > io.now);
        if io.now >= self.asks_metadata_at {
            self.asks_metadata_at = io.now + io.random.between(300 * MS, 900 * MS);
            let node = io.random.between(1, self.nodes as u64 + 1) as Place;
            self.ask(io, node, Request::Metadata);
        }
        if is_loaded && !self.leaders.is_empty() {
            let (partition, leader) = io.random.pick(&self.leaders);
            let acks = io.random.pick(&[Acks::Leader, Acks::All]);
            let number = self.next_number;
            self.next_number += 1;
            let request = Request::Produce(partition, batch(partition.0, number), acks);
            let id = self.ask(io, leader.value(), request);
            let sent = Sent {
                partition,
                number,
                acks,
                at: io.now,
            };
            self.sent.insert(id, sent);
        }
        let next = io.now + io.random.between(50 * MS, 250 * MS);
        io.queue.push(next, Event::Writer(self.index));
    }

    /// Has the leaders delete what is committed.
    pub(crate) fn delete_records(&mut self, io: &mut Io<'_>) {
        for (partition, leader) in self.leaders.clone() {
            self.ask(io, leader.value(), Request::DeleteRecords(partition));
        }
    }

    fn ask(&mut self, io: &mut Io<'_>, to: Place, request: Request) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        io.send(self.place(), to, Message::Request { id, request });
        id
    }

    pub(crate) fn message(&mut self, io: &mut Io<'_>, message: Message) {
        let Message::Response { id, response } = message else {
            return;
        };
        match response {
            Response::Metadata(partitions) => {
                let found = partitions.into_iter();
                let led = found.filter(|(topic, ..)| *topic == self.topic);
                let led = led.filter_map(|(_, partition, leader)| Some((partition, leader?)));
                self.leaders = led.collect();
            }
            Response::Produce(result) => {
                let sent = self.sent.remove(&id);
                match (sent, result) {
                    (Some(sent), Ok(offset)) if sent.acks == Acks::All => {
                        io.oracle.replicated(sent.partition, sent.number, offset);
                    }
                    (Some(_), Err(_)) => self.asks_metadata_at = io.now,
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// A batch that says for which topic it is meant, and its number.
fn batch(topic: TopicId, number: u64) -> Batch {
    let mut value = [0; 60];
    value[..16].copy_from_slice(topic.as_bytes());
    value[16..24].copy_from_slice(&number.to_le_bytes());
    let mut builder = BatchBuilder::new(Compression::NONE);
    let at = Timestamp::from_millis(1_700_000_000_000);
    builder.push(at, None, Some(&value), &[]);
    builder.build().expect("a batch of one record")
}

/// What a batch of a writer says.
pub(crate) fn wrote(batch: &Batch) -> Option<(TopicId, u64)> {
    let record = batch.records().ok()?.next()?.ok()?;
    let value = record.value?;
    let topic = Uuid::from_bytes(*value.first_chunk()?);
    let number = u64::from_le_bytes(*value.get(16..)?.first_chunk()?);
    Some((topic, number))
}
