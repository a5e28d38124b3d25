//! What happens when: one queue for the whole cluster.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tidelog_replication::quorum::QuorumState;
use tidelog_types::NodeId;

use crate::clock::Time;
use crate::message::{Message, Partition};
use crate::network::Place;

#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: Place,
        to: Place,
        /// Over which of the connections that there were between the two.
        breaks: u32,
        message: Message,
    },
    Timer {
        node: NodeId,
        /// Which start of the node.
        life: u32,
        timer: Timer,
    },
    /// The node's disk has done its work.
    Disk {
        node: NodeId,
        life: u32,
        work: DiskWork,
    },
    /// The node's disk has come to a halt until now.
    DiskGoesOn {
        node: NodeId,
        life: u32,
    },
    Client(usize),
    Writer(usize),
    Consumer {
        index: usize,
        /// Which start of the consumer.
        life: u32,
    },
    Fault(usize),
    /// A node is to stop, in order.
    ShutDown(NodeId),
    /// A fault is over.
    Relief(usize),
    Restart(NodeId),
    /// A process that ran on a node is gone, as another node can tell.
    Gone {
        node: NodeId,
        gone: NodeId,
    },
    /// A look at the whole cluster.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Quorum,
    Controller,
    Member,
    Partition(Partition),
    /// What waits for records goes out as it is.
    Parked(u64),
    /// A request is given up.
    Patience(u64),
    Changes,
    Checkpoint,
    Kick(NodeId),
    /// The process ends.
    Stop,
    /// The groups of a partition are loaded.
    LoadGroups(i32),
    /// Something is due in the groups of a partition.
    Groups(i32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum DiskWork {
    Flush(Partition),
    FlushMetadata,
    QuorumState(QuorumState),
}

#[derive(Debug)]
struct Due {
    at: Time,
    /// Of what is due at the same time, the first to come is the first to go.
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    due: BinaryHeap<Reverse<Due>>,
    number: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Time, event: Event) {
        self.number += 1;
        let number = self.number;
        self.due.push(Reverse(Due { at, number, event }));
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, Event)> {
        self.due.pop().map(|Reverse(due)| (due.at, due.event))
    }
}
