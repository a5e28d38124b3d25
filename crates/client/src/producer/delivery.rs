//! How a record learns its outcome: one shared cell per batch, and the number of the record in it.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tidelog_types::{ErrorCode, Offset, PartitionIndex, Timestamp, TopicName};

use super::ProduceError;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset; [`Offset::NONE`] if the broker does not say, as with [`Acks::None`](super::Acks::None).
    pub offset: Offset,
    /// The timestamp: the record's own, or the broker's if the topic has `message.timestamp.type=LogAppendTime`.
    pub timestamp: Timestamp,
}

/// The outcome of a record, once there is one: exactly one for each record that was sent.
///
/// It may be awaited any time, anywhere, or dropped; the record is sent all the same.
#[derive(Debug)]
#[must_use = "whether the record was delivered is known only to who awaits this"]
pub struct Delivery {
    cell: Arc<Cell>,
    index: u32,
    timestamp: Timestamp,
}

/// How a batch ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Delivered {
        base_offset: Offset,
        log_append_time: Timestamp,
    },
    Failed(ProduceError),
    /// Some records broke a rule (KIP-467): what is said of them, by their number.
    Invalid {
        code: ErrorCode,
        records: HashMap<u32, Option<Arc<str>>>,
    },
}

/// The outcome of a batch, which all its records share.
#[derive(Debug)]
pub(super) struct Cell {
    topic: TopicName,
    partition: PartitionIndex,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Pending(Vec<Waker>),
    /// The batch became two, of which the first has so many records.
    Split(u32, [Arc<Cell>; 2]),
    Ended(Ended),
}

impl Cell {
    pub(super) fn new(topic: TopicName, partition: PartitionIndex) -> Arc<Self> {
        Arc::new(Self {
            topic,
            partition,
            state: Mutex::new(State::Pending(Vec::new())),
        })
    }

    /// Two cells in place of this one.
    pub(super) fn split(&self, records: u32) -> [Arc<Self>; 2] {
        let halves = [(); 2].map(|()| Self::new(self.topic.clone(), self.partition));
        self.set(State::Split(records, halves.clone()));
        halves
    }

    pub(super) fn end(&self, how: Ended) {
        self.set(State::Ended(how));
    }

    fn set(&self, state: State) {
        let before = std::mem::replace(&mut *self.state.lock(), state);
        let State::Pending(wakers) = before else {
            panic!("a batch ends once");
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until every record of the batch has its outcome.
    pub(super) async fn ended(self: Arc<Self>) {
        let mut open = vec![self];
        while let Some(cell) = open.pop() {
            let halves = poll_fn(|cx| match &mut *cell.state.lock() {
                State::Pending(wakers) => register(wakers, cx),
                State::Split(_, halves) => Poll::Ready(Some(halves.clone())),
                State::Ended(_) => Poll::Ready(None),
            });
            open.extend(halves.await.into_iter().flatten());
        }
    }

    fn outcome(
        &self,
        how: &Ended,
        index: u32,
        timestamp: Timestamp,
    ) -> Result<RecordMetadata, ProduceError> {
        let (topic, partition) = (self.topic.clone(), self.partition);
        match how {
            Ended::Delivered {
                base_offset,
                log_append_time,
            } => Ok(RecordMetadata {
                partition,
                offset: match *base_offset {
                    Offset::NONE => Offset::NONE,
                    base_offset => base_offset + i64::from(index),
                },
                timestamp: match *log_append_time {
                    Timestamp::NONE => timestamp,
                    appended => appended,
                },
            }),
            Ended::Failed(error) => Err(error.clone()),
            Ended::Invalid { code, records } => Err(match records.get(&index) {
                Some(message) => ProduceError::Refused {
                    topic,
                    partition,
                    code: *code,
                    message: message.clone(),
                },
                None => ProduceError::BesideRefused {
                    topic,
                    partition,
                    code: *code,
                },
            }),
        }
    }
}

/// Remembers whom to wake. Who waits for record after record is remembered once.
fn register<T>(wakers: &mut Vec<Waker>, cx: &Context<'_>) -> Poll<T> {
    if !wakers.last().is_some_and(|last| last.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
    Poll::Pending
}

impl Delivery {
    pub(super) const fn new(cell: Arc<Cell>, index: u32, timestamp: Timestamp) -> Self {
        Self {
            cell,
            index,
            timestamp,
        }
    }

    /// The partition that the record goes to.
    pub fn partition(&self) -> PartitionIndex {
        self.cell.partition
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let half = match &mut *this.cell.state.lock() {
                State::Pending(wakers) => return register(wakers, cx),
                State::Ended(how) => {
                    return Poll::Ready(this.cell.outcome(how, this.index, this.timestamp));
                }
                State::Split(records, halves) => match this.index.checked_sub(*records) {
                    Some(index) => (index, halves[1].clone()),
                    None => (this.index, halves[0].clone()),
                },
            };
            (this.index, this.cell) = half;
        }
    }
}
