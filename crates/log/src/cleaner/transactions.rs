//! What compaction knows of the transactions in a log while it reads through it.

use std::collections::{HashMap, HashSet, VecDeque};

use tidelog_record::{Batch, BatchError, BatchHeader};
use tidelog_types::{Offset, ProducerId};

use crate::producers::marker_of;
use crate::transactions::AbortedTransaction;

/// The transactions at the place that is read right now. Every batch must be shown to it, in order.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Those that were aborted and begin further on, by first offset.
    ahead: VecDeque<AbortedTransaction>,
    /// Those that are open here and will be aborted, and whether a batch of theirs is still in the log.
    aborted: HashMap<ProducerId, (AbortedTransaction, bool)>,
    /// The producers of those that are open here, will be committed, and have a batch in the log.
    committed: HashSet<ProducerId>,
    /// Those aborted ones whose marker was read, and which still had a batch: the next transaction index.
    ended: Vec<AbortedTransaction>,
}

impl Transactions {
    /// With all aborted transactions that touch what will be read, by first offset.
    pub(super) fn new(aborted: Vec<AbortedTransaction>) -> Self {
        Self {
            ahead: aborted.into(),
            ..Self::default()
        }
    }

    /// Whether a data batch belongs to an aborted transaction.
    pub(super) fn is_aborted(&mut self, header: &BatchHeader) -> bool {
        self.advance(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, has_batches)) => {
                *has_batches = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Whether a control batch has done its work: nothing is left in the log of the transaction that it ended.
    pub(super) fn is_needless(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        let header = batch.header();
        self.advance(header.last_offset());
        if header.records_count == 0 {
            return Ok(true);
        }
        let Some((marker, _)) = marker_of(batch)? else {
            return Ok(false);
        };
        Ok(match marker.result {
            tidelog_record::control::TransactionResult::Commit => {
                !self.committed.remove(&header.producer_id)
            }
            tidelog_record::control::TransactionResult::Abort => {
                match self.aborted.remove(&header.producer_id) {
                    Some((aborted, true)) => {
                        self.ended.push(aborted);
                        false
                    }
                    _ => true,
                }
            }
        })
    }

    /// The aborted transactions whose marker was read since the last call and which consumers still have to know of.
    pub(super) fn take_ended(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.ended)
    }

    fn advance(&mut self, offset: Offset) {
        while let Some(first) = self.ahead.pop_front_if(|next| next.first_offset <= offset) {
            // The index of a segment may name a transaction again.
            self.aborted
                .entry(first.producer_id)
                .or_insert((first, false));
        }
    }
}
