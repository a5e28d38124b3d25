//! What stays of a batch.

use std::collections::HashMap;

use tidelog_record::legacy::{LegacyBatch, LegacyBuilder};
use tidelog_record::{AnyBatch, Batch, BatchError, Codec, RecordRef, TimestampType};
use tidelog_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::CleanerStats;
use super::offset_map::{KeyHash, OffsetMap};
use super::transactions::Transactions;
use crate::producers::Producers;

/// The newest batch of a producer that is remembered: its sequence and epoch are known after a restart only as long as the
/// batch is there.
#[derive(Clone, Copy, Debug)]
pub(super) enum LastBatch {
    /// The data batch that ends at this offset.
    Data(Offset),
    /// It wrote nothing in this epoch but has a marker.
    Marker(ProducerEpoch),
}

/// The newest batches of all producers that are remembered.
pub(super) fn last_batches(producers: &Producers) -> HashMap<ProducerId, LastBatch> {
    let last = |(id, state): (ProducerId, &crate::ProducerState)| {
        let batch = state.batches.back();
        let last = batch.map_or(LastBatch::Marker(state.producer_epoch), |batch| {
            LastBatch::Data(batch.last_offset)
        });
        (id, last)
    };
    producers.states().map(last).collect()
}

/// What stays of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing.
    Nothing,
    /// All of it, byte for byte.
    Whole,
    /// This instead.
    Part(AnyBatch),
}

/// Decides what stays of the batches of a log, in their order.
pub(super) struct Filter<'a> {
    pub map: &'a OffsetMap,
    pub transactions: Transactions,
    pub last_batches: &'a HashMap<ProducerId, LastBatch>,
    /// Where this cleaning ends: the batch that ends there stays, or else nobody knew that the offsets were given out.
    pub first_uncleanable_offset: Offset,
    pub now: Timestamp,
    pub delete_retention_ms: i64,
    /// Whether tombstones in message formats 0 and 1 stay, which have no room for a horizon.
    pub keep_old_tombstones: bool,
    /// The records of the batch at hand.
    pub records: Vec<Seen>,
    /// For each of them, whether it stays.
    pub kept: Vec<bool>,
}

/// What counts of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// `None` for a record without key.
    key: Option<KeyHash>,
    offset: Offset,
    is_tombstone: bool,
}

impl Filter<'_> {
    pub(super) fn apply(
        &mut self,
        batch: &AnyBatch,
        stats: &mut CleanerStats,
    ) -> Result<Kept, BatchError> {
        match batch {
            AnyBatch::V2(batch) => self.apply_v2(batch, stats),
            AnyBatch::Legacy(batch) => self.apply_legacy(batch, stats),
        }
    }

    fn apply_v2(&mut self, batch: &Batch, stats: &mut CleanerStats) -> Result<Kept, BatchError> {
        let header = batch.header();
        let is_control = header.attributes.is_control();
        let is_needless = if is_control {
            self.transactions.is_needless(batch)?
        } else {
            self.transactions.is_aborted(header)
        };
        let horizon = header.delete_horizon();
        let horizon_passed = horizon.is_some_and(|horizon| horizon <= self.now);
        // A marker whose transaction is gone stays as long as tombstones do, for consumers that are in between.
        let discard = is_needless && (!is_control || horizon_passed);
        let keep_if_empty = self.is_last_of_producer(batch)
            || header.next_offset() == self.first_uncleanable_offset;
        stats.records_read += u64::from(header.records_count.unsigned_abs());
        if discard && !keep_if_empty {
            return Ok(Kept::Nothing);
        }
        self.records.clear();
        self.kept.clear();
        if is_control && !discard {
            let records = usize::try_from(header.records_count).unwrap_or(0);
            self.kept.resize(records, true);
        } else if !discard {
            let mut walk = batch.walk()?;
            while let Some(record) = walk.next_record()? {
                self.records.push(Seen::of(&record, self.map));
            }
            self.decide(horizon_passed, stats);
        }
        let mut records = self.records.iter().zip(&self.kept);
        let tombstones = records.any(|(record, kept)| *kept && record.is_tombstone);
        let kept = self.kept.iter().filter(|kept| **kept).count();
        stats.records_kept += kept as u64;
        if kept == 0 {
            let empty = keep_if_empty.then(|| batch.emptied());
            return Ok(match empty {
                Some(empty) if empty.bytes() == batch.bytes() => Kept::Whole,
                Some(empty) => Kept::Part(AnyBatch::V2(empty)),
                None => Kept::Nothing,
            });
        }
        // KIP-534: the time counts from when compaction has first seen the tombstone and removed what it covers. Of a batch
        // that the map covers only in part, that is the next time; Kafka does not wait.
        let counts = tombstones && header.last_offset() <= self.map.latest();
        let begins_horizon = horizon.is_none() && (counts || (is_control && is_needless));
        if kept == self.kept.len() && !begins_horizon {
            return Ok(Kept::Whole);
        }
        let horizon = if begins_horizon {
            let millis = self.now.as_millis();
            Some(Timestamp::from_millis(
                millis.saturating_add(self.delete_retention_ms),
            ))
        } else {
            horizon
        };
        let mut kept = self.kept.iter();
        let rest = batch.retain(horizon, |_| kept.next().is_some_and(|kept| *kept))?;
        Ok(Kept::Part(AnyBatch::V2(rest)))
    }

    /// A message stays or goes; of a wrapper with several, those that stay are wrapped again, in the same format.
    fn apply_legacy(
        &mut self,
        batch: &LegacyBatch,
        stats: &mut CleanerStats,
    ) -> Result<Kept, BatchError> {
        self.records.clear();
        self.kept.clear();
        let mut walk = batch.walk()?;
        while let Some(record) = walk.next_record()? {
            self.records.push(Seen::of(&record, self.map));
        }
        self.decide(!self.keep_old_tombstones, stats);
        let kept = self.kept.iter().filter(|kept| **kept).count();
        stats.records_read += self.kept.len() as u64;
        stats.records_kept += kept as u64;
        let header = batch.header();
        if kept == self.kept.len() {
            return Ok(Kept::Whole);
        }
        if kept == 0 {
            // These formats have no empty batches, so the last one of all stays as it is.
            return Ok(
                match header.next_offset() == self.first_uncleanable_offset {
                    true => Kept::Whole,
                    false => Kept::Nothing,
                },
            );
        }
        let codec: Codec = header.codec()?;
        let mut builder = LegacyBuilder::new(header.magic, codec.into())?;
        if header.timestamp_type() == Some(TimestampType::LogAppendTime) {
            builder = builder.log_append_time(header.timestamp);
        }
        let mut kept = self.kept.iter();
        let mut walk = batch.walk()?;
        while let Some(record) = walk.next_record()? {
            if kept.next().is_some_and(|kept| *kept) {
                let timestamp = record.create_timestamp;
                builder.push_at(record.offset, timestamp, record.key, record.value)?;
            }
        }
        let rest = LegacyBatch::parse(builder.build()?)?;
        Ok(Kept::Part(AnyBatch::Legacy(rest)))
    }

    /// Decides for each record of the batch whether it stays.
    fn decide(&mut self, drop_tombstones: bool, stats: &mut CleanerStats) {
        let map = self.map;
        map.fetch(self.records.iter().filter_map(|record| record.key));
        let is_kept = |record: &Seen| {
            if record.offset > map.latest() {
                return true;
            }
            let Some(key) = record.key else {
                // From before the topic was compacted.
                stats.invalid_records += 1;
                return false;
            };
            let is_newest = |newest| record.offset >= newest;
            !(record.is_tombstone && drop_tombstones) && map.newest(key).is_none_or(is_newest)
        };
        self.kept.extend(self.records.iter().map(is_kept));
    }

    fn is_last_of_producer(&self, batch: &Batch) -> bool {
        let header = batch.header();
        if !header.has_producer_id() {
            return false;
        }
        match self.last_batches.get(&header.producer_id) {
            None => false,
            Some(LastBatch::Data(offset)) => header.last_offset() == *offset,
            Some(LastBatch::Marker(epoch)) => {
                header.attributes.is_control() && header.producer_epoch == *epoch
            }
        }
    }
}

impl Seen {
    fn of(record: &RecordRef<'_>, map: &OffsetMap) -> Self {
        Self {
            key: record.key.map(|key| map.hash(key)),
            offset: record.offset,
            is_tombstone: record.value.is_none(),
        }
    }
}
