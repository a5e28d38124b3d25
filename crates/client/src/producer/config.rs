use std::sync::Arc;
use std::time::Duration;

use tidelog_record::Compression;

use super::accumulator;
use super::error::ProduceError;
use super::partitioner::Partitioner;
use crate::backoff::Random;

/// When a record counts as delivered (`acks`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// As soon as it has been sent. Whether it arrived, and at which offset, nobody says.
    None,
    /// When the leader of the partition has it.
    Leader,
    /// When every replica in sync has it.
    #[default]
    All,
}

impl Acks {
    pub(super) const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer behaves. The words in parentheses are Kafka's names for the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// When a record counts as delivered (`acks`).
    pub acks: Acks,
    /// Whether the broker is enabled to recognize what it gets twice, so that trying again neither doubles nor reorders records
    /// (`enable.idempotence`). Wants [`Acks::All`] and at most 5 requests in flight.
    pub idempotent: bool,
    /// How batches are compressed (`compression.type`).
    pub compression: Compression,
    /// How many bytes of records a batch takes, before compression (`batch.size`). It grows with what is sent: a large number
    /// costs nothing while there is little to send.
    pub batch_bytes_max: usize,
    /// How long a record waits for others to share its batch, at most (`linger.ms`).
    pub linger: Duration,
    /// How many bytes of batches a request takes, and how large a record may be (`max.request.size`).
    pub request_bytes_max: usize,
    /// How many bytes of records may wait for their outcome (`buffer.memory`). Beyond it, [`send`](super::Producer::send) waits.
    pub buffer_bytes_max: usize,
    /// After how long a record that has no outcome yet has failed (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// How many requests a broker may have at a time (`max.in.flight.requests.per.connection`). Without idempotence, only 1 keeps the
    /// order when something is sent again.
    pub in_flight_max: usize,
    /// How long to wait for a topic that the cluster does not know yet. Kafka creates topics on the side, if it is set to.
    pub topic_timeout: Duration,
    /// Whether asking for an unknown topic may create it, if the cluster allows that.
    pub may_create_topics: bool,
    /// Where records go that name no partition; `None` for what Kafka's own client does.
    pub partitioner: Option<Arc<dyn Partitioner>>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::NONE,
            batch_bytes_max: 256 << 10,
            linger: Duration::from_millis(5),
            request_bytes_max: 1 << 20,
            buffer_bytes_max: 8 << 20,
            delivery_timeout: Duration::from_secs(120),
            in_flight_max: IN_FLIGHT_MAX,
            topic_timeout: Duration::from_secs(5),
            may_create_topics: true,
            partitioner: None,
        }
    }
}

/// How many batches a broker remembers of a producer.
const IN_FLIGHT_MAX: usize = 5;

/// How late timers of the runtime are at most, whose clock and whose waiting both go by whole milliseconds. They are set so much
/// earlier, so that nothing lingers for longer than it should.
const TIMER_LATE_MAX: Duration = Duration::from_millis(2);

/// Far more than any broker takes, and so little that every length fits.
const REQUEST_BYTES_MAX: usize = 1 << 30;

impl ProducerConfig {
    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), ProduceError> {
        let wrong = |what: &'static str| Err(ProduceError::Config { what });
        if self.idempotent && self.acks != Acks::All {
            return wrong("idempotence wants acks = All; set idempotent = false to do without");
        }
        if self.idempotent && self.in_flight_max > IN_FLIGHT_MAX {
            return wrong(
                "idempotence allows in_flight_max = 5 at most, as many batches as brokers remember",
            );
        }
        if self.in_flight_max == 0 {
            return wrong("in_flight_max = 0 would send nothing");
        }
        if self.batch_bytes_max == 0 || self.request_bytes_max == 0 || self.buffer_bytes_max == 0 {
            return wrong(
                "batch_bytes_max, request_bytes_max and buffer_bytes_max have to be more than 0",
            );
        }
        if self.request_bytes_max > REQUEST_BYTES_MAX {
            return wrong("request_bytes_max has to be 1 GiB at most");
        }
        if self.delivery_timeout <= self.linger {
            return wrong("delivery_timeout has to be longer than linger");
        }
        Ok(())
    }

    pub(super) fn accumulator(&self, client: &crate::Config) -> accumulator::Config {
        accumulator::Config {
            batch_bytes_max: self.batch_bytes_max.min(self.request_bytes_max),
            request_bytes_max: self.request_bytes_max,
            buffer_bytes_max: self.buffer_bytes_max,
            linger: self.linger - (self.linger * 2 / 5).min(TIMER_LATE_MAX),
            delivery_timeout: self.delivery_timeout,
            retry_backoff: client.retry_backoff,
            retry_backoff_max: client.retry_backoff_max,
            in_flight_max: self.in_flight_max,
            is_idempotent: self.idempotent,
            seed: Random::seeded().next(),
        }
    }
}
