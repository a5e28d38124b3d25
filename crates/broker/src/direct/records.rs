use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use tidelog_record::{Batch, BatchError, Record};
use tidelog_types::Offset;

use super::RequestError;
use super::topic::Topic;

/// How much is read at a time: several batches as clients make them.
const READ_BYTES: i32 = 1 << 20;
/// How long one look at the partition goes on.
const WAIT: Duration = Duration::from_secs(30);

/// The records of a partition, one after the other, as they come: by [`next`](Self::next), or as a [`Stream`] that ends only
/// with the broker.
///
/// It reads what consumers may read: what is replicated and as durable as the topic says. It remembers nothing but the offset
/// at which it is, and costs nothing while it waits. Made by [`Topic::records`].
///
/// After an error the next call tries again at the same place. `OFFSET_OUT_OF_RANGE` says that what comes next is not there: it
/// was deleted, or is not written yet; [`Topic::offsets`] says what is there.
pub struct Records {
    topic: Topic,
    partition: i32,
    /// The offset of the record to come.
    position: Offset,
    /// What was read from the log already.
    batches: Bytes,
    /// Those of the batch under way.
    records: Option<tidelog_record::Records>,
    /// The look at the partition in which the stream waits. It is for the position at which it began.
    waiting: Option<(Offset, Look)>,
    /// The stream has said that the broker has stopped.
    has_ended: bool,
}

type Look = Pin<Box<dyn Future<Output = Result<Bytes, RequestError>> + Send>>;

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Records {
    pub(super) const fn new(topic: Topic, partition: i32, position: Offset) -> Self {
        Self {
            topic,
            partition,
            position,
            batches: Bytes::new(),
            records: None,
            waiting: None,
            has_ended: false,
        }
    }

    /// The offset of the next record, or the first that may have one.
    pub const fn position(&self) -> Offset {
        self.position
    }

    /// The next record, as soon as there is one. May be dropped while it waits; nothing is skipped.
    pub async fn next(&mut self) -> Result<Record, RequestError> {
        loop {
            if let Some(record) = self.next_read()? {
                return Ok(record);
            }
            self.batches = self.look(WAIT).await?;
        }
    }

    /// The next record, if there is one already.
    pub async fn try_next(&mut self) -> Result<Option<Record>, RequestError> {
        if let Some(record) = self.next_read()? {
            return Ok(Some(record));
        }
        self.batches = self.look(Duration::ZERO).await?;
        self.next_read()
    }

    /// Reads from the log, waiting so long for something to come.
    fn look(
        &self,
        max_wait: Duration,
    ) -> impl Future<Output = Result<Bytes, RequestError>> + Send + use<> {
        let (topic, partition, position) = (self.topic.clone(), self.partition, self.position);
        async move {
            let fetched = topic.fetch(partition, position, READ_BYTES, max_wait);
            Ok(fetched.await?.batches)
        }
    }

    /// The next record of what was read.
    fn next_read(&mut self) -> Result<Option<Record>, RequestError> {
        let damaged = |error: &dyn fmt::Display| RequestError::Records(error.to_string());
        loop {
            for record in self.records.iter_mut().flatten() {
                let record = record.map_err(|error| damaged(&error))?;
                // A batch is read whole though only its end may be wanted.
                if record.offset >= self.position {
                    self.position = record.offset.next();
                    return Ok(Some(record));
                }
            }
            self.records = None;
            let batch = match Batch::split_from(&mut self.batches) {
                Ok(Some(batch)) => batch,
                // The last one of an answer may be cut off.
                Ok(None) | Err(BatchError::Truncated { .. }) => {
                    self.batches = Bytes::new();
                    return Ok(None);
                }
                Err(error) => return Err(damaged(&error)),
            };
            let header = batch.header();
            if header.attributes.is_control() {
                self.position = header.next_offset();
            } else {
                self.records = Some(batch.records().map_err(|error| damaged(&error))?);
            }
        }
    }
}

impl Stream for Records {
    type Item = Result<Record, RequestError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let records = self.get_mut();
        while !records.has_ended {
            if let Some(record) = records.next_read().transpose() {
                return Poll::Ready(Some(record));
            }
            let look = match records.waiting.take() {
                Some((position, look)) if position == records.position => look,
                _ => Box::pin(records.look(WAIT)),
            };
            let (_, look) = records.waiting.insert((records.position, look));
            let looked = ready!(look.as_mut().poll(cx));
            records.waiting = None;
            match looked {
                Ok(batches) => records.batches = batches,
                Err(error) => {
                    records.has_ended = error == RequestError::Stopped;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }
}
