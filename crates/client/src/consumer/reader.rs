//! From the bytes of an answer to records: lazily, and without a copy.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};

use bytes::Bytes;
use tidelog_protocol::messages::fetch::AbortedTransaction;
use tidelog_record::control::ControlType;
use tidelog_record::{AnyBatch, AnyHeader, AnyRecords, Batch, BatchError};
use tidelog_types::{LeaderEpoch, Offset, ProducerId, TopicPartition};

use super::fetcher::{Position, Slot};
use super::record::{ConsumerBatch, ConsumerRecord};

/// How far the application is in a partition. One reader writes it, anybody looks.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) partition: TopicPartition,
    offset: AtomicI64,
    leader_epoch: AtomicI32,
    /// The partition was taken away, or moved: nothing more of what was kept is handed out.
    is_void: AtomicBool,
}

impl Progress {
    pub(super) fn new(partition: TopicPartition, at: Position) -> Arc<Self> {
        Arc::new(Self {
            partition,
            offset: AtomicI64::new(at.offset.value()),
            leader_epoch: AtomicI32::new(at.leader_epoch.value()),
            is_void: AtomicBool::new(false),
        })
    }

    /// The position; `None` if it is not settled yet.
    ///
    /// Who reads the offset first may see a younger epoch than that of the record before it, never an older one. So a position that
    /// is committed is never taken for one of a truncated log.
    pub(super) fn position(&self) -> Option<Position> {
        let offset = Offset::new(self.offset.load(Ordering::Acquire));
        let leader_epoch = LeaderEpoch::new(self.leader_epoch.load(Ordering::Acquire));
        (offset != Offset::NONE).then_some(Position {
            offset,
            leader_epoch,
        })
    }

    pub(super) fn set(&self, position: Position) {
        self.set_epoch(position.leader_epoch);
        self.set_offset(position.offset);
    }

    fn set_epoch(&self, leader_epoch: LeaderEpoch) {
        self.leader_epoch
            .store(leader_epoch.value(), Ordering::Release);
    }

    fn set_offset(&self, offset: Offset) {
        self.offset.store(offset.value(), Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.is_void.store(true, Ordering::Release);
    }

    pub(super) fn is_void(&self) -> bool {
        self.is_void.load(Ordering::Acquire)
    }
}

/// What an answer brought for a partition.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) slot: Slot,
    pub(super) progress: Arc<Progress>,
    /// Whole batches.
    pub(super) batches: Bytes,
    /// How many bytes they are.
    pub(super) bytes: usize,
    /// Records in front of it are not wanted.
    pub(super) from: Offset,
    /// The transactions among them that were aborted, by their first offset; none unless only committed records are wanted.
    pub(super) aborted: Vec<AbortedTransaction>,
}

/// Where whole batches end, and the position behind them; what follows is a part of one. The error, if any, is in what follows.
pub(super) fn whole_batches(bytes: &[u8]) -> (usize, Option<Position>, Option<BatchError>) {
    let mut end = 0;
    let mut next = None;
    while end < bytes.len() {
        match AnyHeader::decode(&bytes[end..]) {
            Ok(header) if header.size() <= bytes.len() - end => {
                end += header.size();
                next = Some(Position {
                    offset: header.next_offset(),
                    leader_epoch: header.partition_leader_epoch(),
                });
            }
            Ok(_) => break,
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return (end, next, Some(error)),
        }
    }
    (end, next, None)
}

/// The chunk from which the application takes records.
pub(super) struct Reader {
    pub(super) chunk: Chunk,
    check_crcs: bool,
    /// Producers whose transaction at this place was aborted.
    aborting: HashSet<ProducerId>,
    /// How many of the aborted transactions have begun.
    begun: usize,
    batch: Option<(AnyBatch, AnyHeader, AnyRecords)>,
}

impl Reader {
    pub(super) fn new(mut chunk: Chunk, check_crcs: bool) -> Self {
        chunk.aborted.sort_unstable_by_key(|it| it.first_offset);
        // After a reset the position is somewhere else from here on.
        chunk.progress.set_offset(chunk.from);
        Self {
            chunk,
            check_crcs,
            aborting: HashSet::new(),
            begun: 0,
            batch: None,
        }
    }

    /// The next record, which the position then is behind; `None` after the last one.
    pub(super) fn next_record(&mut self) -> Result<Option<ConsumerRecord>, BatchError> {
        loop {
            let Some((_, header, records)) = &mut self.batch else {
                if !self.next_batch()? {
                    return Ok(None);
                }
                continue;
            };
            let Some(record) = records.next() else {
                let next = header.next_offset();
                self.batch = None;
                self.reach(next);
                continue;
            };
            let record = record?;
            if record.offset < self.chunk.from {
                continue;
            }
            let progress = &self.chunk.progress;
            progress.set_offset(record.offset.next());
            let TopicPartition { topic, partition } = &progress.partition;
            let record = ConsumerRecord::new(topic.clone(), *partition, header, record);
            return Ok(Some(record));
        }
    }

    /// What is left of the batch that was begun, or the next one. The position then is behind it.
    pub(super) fn next_whole(&mut self) -> Result<Option<ConsumerBatch>, BatchError> {
        if self.batch.is_none() && !self.next_batch()? {
            return Ok(None);
        }
        let Some((batch, header, _)) = self.batch.take() else {
            return Ok(None);
        };
        let progress = &self.chunk.progress;
        let read = progress.position().map(|position| position.offset);
        let TopicPartition { topic, partition } = progress.partition.clone();
        let from = self.chunk.from.max(read.unwrap_or(self.chunk.from));
        self.reach(header.next_offset());
        Ok(Some(ConsumerBatch {
            topic,
            partition,
            from,
            batch,
        }))
    }

    /// Goes on to the next batch with records for the application; false if there is none.
    fn next_batch(&mut self) -> Result<bool, BatchError> {
        while let Some(batch) = AnyBatch::split_from(&mut self.chunk.batches)? {
            let header = batch.header();
            if self.check_crcs {
                batch.verify_crc()?;
            }
            let is_hidden = match &batch {
                AnyBatch::V2(batch) => self.is_hidden(batch)?,
                AnyBatch::Legacy(_) => false,
            };
            self.chunk
                .progress
                .set_epoch(header.partition_leader_epoch());
            if is_hidden || header.next_offset() <= self.chunk.from {
                self.reach(header.next_offset());
                continue;
            }
            let records = batch.records()?;
            self.batch = Some((batch, header, records));
            return Ok(true);
        }
        Ok(false)
    }

    /// The application is past everything before this offset.
    fn reach(&mut self, next: Offset) {
        if next > self.chunk.from {
            self.chunk.progress.set_offset(next);
            self.chunk.from = next;
        }
    }

    /// Whether the batch has control records, or records of an aborted transaction.
    fn is_hidden(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        let header = batch.header();
        let aborted = &self.chunk.aborted[self.begun..];
        let begun = aborted
            .iter()
            .take_while(|it| it.first_offset <= header.last_offset());
        for transaction in begun {
            self.aborting.insert(transaction.producer_id);
            self.begun += 1;
        }
        if header.attributes.is_control() {
            if !self.aborting.is_empty() && is_abort(batch)? {
                self.aborting.remove(&header.producer_id);
            }
            return Ok(true);
        }
        Ok(header.attributes.is_transactional() && self.aborting.contains(&header.producer_id))
    }
}

/// Whether the control batch is the marker of an abort. What is of no known type ends nothing.
fn is_abort(batch: &Batch) -> Result<bool, BatchError> {
    let mut walk = batch.walk()?;
    let record = walk.next_record()?;
    let key = record.and_then(|record| record.key);
    let control_type = key.and_then(|key| ControlType::decode_key(key).ok());
    Ok(control_type == Some(ControlType::Abort))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tidelog_record::control::{EndTxnMarker, TransactionResult};
    use tidelog_record::{BatchBuilder, Codec};
    use tidelog_types::{ProducerEpoch, Timestamp};

    use super::*;

    /// What is appended, one batch each.
    #[derive(Clone, Debug)]
    enum Append {
        /// So many records, of a transaction of this producer or of none; and how many at the end compaction has removed.
        Records(Option<i64>, usize, usize),
        /// The end of the producer's transaction.
        Marker(i64, bool),
    }

    fn append() -> impl Strategy<Value = Append> {
        prop_oneof![
            3 => (prop::option::of(1..4_i64), 1..5_usize, 0..3_usize)
                .prop_map(|(producer, count, gap)| Append::Records(producer, count, gap)),
            1 => (1..4_i64, any::<bool>())
                .prop_map(|(producer, commits)| Append::Marker(producer, commits)),
        ]
    }

    /// A log of these, with every transaction ended, and what an index of its aborted ones has.
    struct Log {
        bytes: Vec<u8>,
        end: i64,
        aborted: Vec<AbortedTransaction>,
        /// Offsets of records, and whether they count.
        records: BTreeMap<i64, bool>,
    }

    fn log(appends: &[Append]) -> Log {
        let mut log = Log {
            bytes: Vec::new(),
            end: 0,
            aborted: Vec::new(),
            records: BTreeMap::new(),
        };
        let mut open = BTreeMap::<i64, Vec<i64>>::new();
        let ends = (1..4).map(|producer| Append::Marker(producer, producer % 2 == 0));
        for append in appends.iter().cloned().chain(ends) {
            let base = Offset::new(log.end);
            let codec = Codec::ALL[log.end as usize % 4];
            let batch = match append {
                Append::Records(producer, count, gap) => {
                    let mut builder = BatchBuilder::new(codec.into()).base_offset(base);
                    if let Some(id) = producer {
                        let (id, epoch) = (ProducerId::new(id), ProducerEpoch::new(0));
                        builder = builder.producer(id, epoch, 0).transactional(true);
                    }
                    for n in 0..count {
                        let value = (log.end + n as i64).to_string();
                        let time = Timestamp::from_millis(0);
                        builder.push(time, None, Some(value.as_bytes()), &[]);
                        log.records.insert(log.end + n as i64, true);
                        if let Some(id) = producer {
                            open.entry(id).or_default().push(log.end + n as i64);
                        }
                    }
                    log.end += (count + gap) as i64;
                    builder.build().unwrap()
                }
                Append::Marker(id, commits) => {
                    let records = open.remove(&id).unwrap_or_default();
                    if let (Some(first), false) = (records.first(), commits) {
                        log.aborted.push(AbortedTransaction {
                            producer_id: ProducerId::new(id),
                            first_offset: Offset::new(*first),
                        });
                        for offset in records {
                            log.records.insert(offset, false);
                        }
                    }
                    let marker = EndTxnMarker {
                        result: match commits {
                            true => TransactionResult::Commit,
                            false => TransactionResult::Abort,
                        },
                        coordinator_epoch: 0,
                    };
                    log.end += 1;
                    let time = Timestamp::from_millis(0);
                    marker.batch(ProducerId::new(id), ProducerEpoch::new(0), time)
                }
            };
            let batch = batch.with_leader_fields(base, LeaderEpoch::new(7));
            log.bytes.extend_from_slice(batch.bytes());
        }
        log
    }

    fn reader(log: &Log, from: i64, cut: usize, aborted: Vec<AbortedTransaction>) -> Reader {
        let mut batches = Bytes::from(log.bytes.clone());
        batches.truncate(log.bytes.len() - cut);
        let (bytes, _, error) = whole_batches(&batches);
        assert_eq!(error, None);
        batches.truncate(bytes);
        let progress = Progress::new(TopicPartition::new("t", 0), Position::at(Offset::NONE));
        let chunk = Chunk {
            slot: 0,
            progress,
            batches,
            bytes,
            from: Offset::new(from),
            aborted,
        };
        Reader::new(chunk, true)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_counts_is_read(
            appends in prop::collection::vec(append(), 0..20),
            from in 0..20_i64,
            only_committed: bool,
            by_batch: bool,
        ) {
            let log = log(&appends);
            let from = from.min(log.end);
            let aborted = if only_committed { log.aborted.clone() } else { Vec::new() };
            let mut reader = reader(&log, from, 0, aborted);
            let counts = |(offset, counts): &(&i64, &bool)| **offset >= from && (!only_committed || **counts);
            let expected: Vec<i64> = log.records.iter().filter(counts).map(|(it, _)| *it).collect();
            let mut read = Vec::new();
            loop {
                if by_batch && read.len() % 3 == 2 {
                    let Some(batch) = reader.next_whole().unwrap() else { break };
                    read.extend(batch.records().unwrap().map(|it| it.unwrap().offset.value()));
                    continue;
                }
                let Some(record) = reader.next_record().unwrap() else { break };
                let value = record.value.unwrap();
                let expected = record.offset.to_string();
                prop_assert_eq!(&value[..], expected.as_bytes());
                prop_assert_eq!(record.leader_epoch, LeaderEpoch::new(7));
                let position = reader.chunk.progress.position().unwrap();
                prop_assert_eq!(position.offset, record.offset.next());
                read.push(record.offset.value());
            }
            prop_assert_eq!(read, expected);
            // Markers, gaps and hidden records are behind the application, too.
            let position = reader.chunk.progress.position().unwrap();
            let reached = position.offset.value();
            let gap = log.end - reached;
            prop_assert!((0..3).contains(&gap), "{} of {}", reached, log.end);
        }

        #[test]
        fn a_batch_that_is_cut_is_left_for_the_next_fetch(
            appends in prop::collection::vec(append(), 1..10),
            cut in 1..60_usize,
        ) {
            let log = log(&appends);
            let mut reader = reader(&log, 0, cut, Vec::new());
            let mut last = None;
            while let Some(record) = reader.next_record().unwrap() {
                last = Some(record.offset.value());
            }
            prop_assert_eq!(last, log.records.keys().next_back().copied());
        }
    }

    #[test]
    fn damage_is_found() {
        let mut log = log(&[Append::Records(None, 3, 0), Append::Records(None, 3, 0)]);
        let len = log.bytes.len();
        log.bytes[70] ^= 1;
        let mut reader = reader(&log, 0, 0, Vec::new());
        assert!(reader.next_record().is_err());
        log.bytes[16] = 9;
        let (end, next, error) = whole_batches(&log.bytes);
        assert!(end < len && next.is_none() && error.is_some());
    }
}
