use tidelog_types::{LeaderEpoch, Offset};

use crate::divergence::EpochEnd;

/// A record: who led when it was written, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) value: u32,
}

/// A log as plain as can be: what is not flushed is gone after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct ModelLog {
    start: i64,
    records: Vec<Record>,
    flushed: i64,
    /// Where epochs begin, those without records too: what a leader noted at its election.
    epochs: Vec<(LeaderEpoch, i64)>,
    /// What a checkpoint says of the high watermark.
    pub(super) checkpoint: Offset,
}

impl ModelLog {
    pub(super) const fn start(&self) -> Offset {
        Offset::new(self.start)
    }

    pub(super) fn end(&self) -> Offset {
        Offset::new(self.start + self.records.len() as i64)
    }

    pub(super) const fn flushed(&self) -> Offset {
        Offset::new(self.flushed)
    }

    pub(super) fn get(&self, offset: Offset) -> Option<Record> {
        let index = usize::try_from(offset.value() - self.start).ok()?;
        self.records.get(index).copied()
    }

    /// Up to `count` records from `offset` on.
    pub(super) fn read(&self, offset: Offset, count: usize) -> Vec<Record> {
        let from = usize::try_from(offset.value() - self.start).expect("not below the start");
        self.records[from..].iter().copied().take(count).collect()
    }

    /// All records below `end`.
    pub(super) fn up_to(&self, end: Offset) -> impl Iterator<Item = (Offset, Record)> {
        let offsets = (self.start..end.value()).map(Offset::new);
        offsets.zip(self.records.iter().copied())
    }

    pub(super) fn append(&mut self, record: Record) {
        self.begin_epoch(record.leader_epoch);
        self.records.push(record);
    }

    pub(super) fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        let end = self.end().value();
        // An epoch in which nothing was written leaves no trace.
        self.epochs.retain(|(_, start)| *start < end);
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, end));
        }
    }

    pub(super) fn last_epoch(&self) -> LeaderEpoch {
        let last = self.records.last();
        last.map_or(LeaderEpoch::NONE, |record| record.leader_epoch)
    }

    /// Where an epoch ends, as Kafka answers it.
    pub(super) fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        let later = self.epochs.iter().position(|(known, _)| *known > epoch);
        let (epoch, end) = match later {
            None if self.epochs.last().is_some_and(|(last, _)| *last == epoch) => {
                (epoch, self.end().value())
            }
            None => return EpochEnd::UNKNOWN,
            Some(0) => (epoch, self.epochs[0].1),
            Some(later) => (self.epochs[later - 1].0, self.epochs[later].1),
        };
        EpochEnd {
            epoch,
            end_offset: Offset::new(end),
        }
    }

    pub(super) fn flush(&mut self) -> Offset {
        self.flushed = self.end().value();
        self.flushed()
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        let end = end.value();
        if end < self.start {
            self.restart(Offset::new(end));
            return;
        }
        self.records.truncate((end - self.start) as usize);
        self.flushed = self.flushed.min(end);
        self.epochs.retain(|(_, start)| *start < end);
        self.checkpoint = self.checkpoint.min(self.end());
    }

    pub(super) fn restart(&mut self, offset: Offset) {
        *self = Self {
            start: offset.value(),
            flushed: offset.value(),
            checkpoint: offset,
            ..Self::default()
        };
    }

    pub(super) fn advance_start(&mut self, offset: Offset) {
        let gone = offset.value() - self.start;
        self.records.drain(..gone as usize);
        self.start = offset.value();
        self.flushed = self.flushed.max(self.start);
        let covering = self
            .epochs
            .partition_point(|(_, start)| *start <= self.start)
            .saturating_sub(1);
        self.epochs.drain(..covering);
        if let Some((_, start)) = self.epochs.first_mut() {
            *start = (*start).max(self.start);
        }
    }

    /// What a power failure leaves.
    pub(super) fn crash(&mut self) {
        self.truncate(self.flushed());
    }
}
