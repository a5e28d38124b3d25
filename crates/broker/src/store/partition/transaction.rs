//! Batches of transactions and the markers that end them, at the leader (KIP-98, KIP-890).
//!
//! A producer's first batch is let in when the coordinator says that the partition is part of the transaction: only then
//! will a marker come that ends it. A marker that comes in between says that the transaction is over before it began here,
//! and the batch is late.

use std::collections::HashMap;

use tidelog_log::EPOCH_PER_TRANSACTION_VERSION;
use tidelog_record::control::EndTxnMarker;
use tidelog_record::{Batch, BatchHeader};
use tidelog_types::{ErrorCode, LeaderEpoch, ProducerEpoch, ProducerId};

use super::{Accepted, Acks, AppendRefused, Partition, Waiter};

/// How a transaction of a producer ended, as its coordinator says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransactionEnd {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) marker: EndTxnMarker,
    /// The level of transaction.version by which the transaction went.
    pub(crate) transaction_version: i8,
}

/// A transaction of which the first batch is not in the partition yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    producer_id: ProducerId,
    number: u64,
    leader_epoch: LeaderEpoch,
}

/// What is about to begin in a partition: the newest of each producer.
#[derive(Default)]
pub(super) struct Beginnings {
    last: u64,
    /// The number, and the epoch of the producer.
    by_producer: HashMap<ProducerId, (u64, ProducerEpoch)>,
}

impl Beginnings {
    fn contains(&self, beginning: &Beginning) -> bool {
        let newest = self.by_producer.get(&beginning.producer_id);
        newest.is_some_and(|(number, _)| *number == beginning.number)
    }

    /// Forgets what is over before it began. A marker may also be that of the transaction before, which the coordinator ends
    /// while it is asked about the next one; where each has an epoch of its own, that can be told.
    fn ended(&mut self, end: &TransactionEnd) {
        let Some((_, epoch)) = self.by_producer.get(&end.producer_id) else {
            return;
        };
        let is_of_one_before = end.transaction_version >= EPOCH_PER_TRANSACTION_VERSION
            && end.producer_epoch <= *epoch;
        if !is_of_one_before {
            self.by_producer.remove(&end.producer_id);
        }
    }
}

impl Partition {
    /// Notes that a transaction is about to begin with a batch of this header. `None` if it is open already.
    pub(crate) fn transaction_begins(
        &self,
        header: &BatchHeader,
    ) -> Result<Option<Beginning>, ErrorCode> {
        let mut beginnings = self.beginnings.lock();
        let beginnings = beginnings.get_or_insert_default();
        let leadership = self.published().leadership;
        leadership.check_leader_epoch(LeaderEpoch::NONE)?;
        if self
            .is_open(header)
            .map_err(|refused| refused.error_code())?
        {
            return Ok(None);
        }
        beginnings.last += 1;
        let number = beginnings.last;
        let newest = (number, header.producer_epoch);
        beginnings.by_producer.insert(header.producer_id, newest);
        Ok(Some(Beginning {
            producer_id: header.producer_id,
            number,
            leader_epoch: leadership.leader_epoch(),
        }))
    }

    /// What was about to begin does not.
    pub(crate) fn transaction_refused(&self, beginning: &Beginning) {
        let mut beginnings = self.beginnings.lock();
        let beginnings = beginnings.get_or_insert_default();
        if beginnings.contains(beginning) {
            beginnings.by_producer.remove(&beginning.producer_id);
        }
    }

    /// Appends a batch of a transaction as leader: of one that is open, or that `beginning` was given for and the coordinator
    /// has agreed to.
    pub(crate) fn append_in_transaction(
        &self,
        batch: &Batch,
        beginning: Option<&Beginning>,
        acks: Acks,
        waiter: Waiter,
    ) -> Result<Accepted, AppendRefused> {
        let mut beginnings = self.beginnings.lock();
        let beginnings = beginnings.get_or_insert_default();
        let begins_now = beginning.filter(|beginning| beginnings.contains(beginning));
        if begins_now.is_none() && !self.is_open(batch.header())? {
            return Err(AppendRefused::Replica(ErrorCode::INVALID_TXN_STATE));
        }
        let leader_epoch = beginning.map_or(LeaderEpoch::NONE, |beginning| beginning.leader_epoch);
        let accepted = self.append(batch, leader_epoch, acks, waiter)?;
        beginnings.by_producer.remove(&batch.header().producer_id);
        Ok(accepted)
    }

    /// Appends the marker that ends a transaction, as leader.
    pub(crate) fn end_transaction(
        &self,
        end: &TransactionEnd,
        waiter: Waiter,
    ) -> Result<Accepted, AppendRefused> {
        let mut beginnings = self.beginnings.lock();
        let beginnings = beginnings.get_or_insert_default();
        let takes = self.with_log(|log, _| {
            let state = log.producer(end.producer_id).map_err(AppendRefused::Log)?;
            Ok(state.is_none_or(|state| {
                state.takes_marker(end.producer_epoch, end.transaction_version)
            }))
        })?;
        if !takes {
            return Err(AppendRefused::Replica(ErrorCode::INVALID_PRODUCER_EPOCH));
        }
        let now = self.clock.now().timestamp;
        let batch = end.marker.batch(end.producer_id, end.producer_epoch, now);
        beginnings.ended(end);
        self.append(&batch, LeaderEpoch::NONE, Acks::All, waiter)
    }

    /// Whether a transaction of that producer and epoch is open.
    fn is_open(&self, header: &BatchHeader) -> Result<bool, AppendRefused> {
        self.with_log(|log, _| {
            let state = log
                .producer(header.producer_id)
                .map_err(AppendRefused::Log)?;
            Ok(state.is_some_and(|state| {
                state.producer_epoch == header.producer_epoch
                    && state.current_txn_first_offset.is_some()
            }))
        })
    }
}
