//! Compaction against the list of everything that was ever written, with crashes at every boundary between two writes: what a
//! consumer makes of the log stays the same, offsets do not change, and what was there when a reader came stays readable.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use proptest::prelude::*;
use support::*;
use tidelog_log::testing::{Crash, FaultDir, Op};
use tidelog_log::{CleanError, Cleaned, Cleaner, CleanerConfig, Dir, Log, LogConfig, Start};
use tidelog_record::control::{EndTxnMarker, TransactionResult};
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_types::{Now, Offset, ProducerEpoch, ProducerId, Timestamp};

const RETENTION_MS: i64 = 100;

/// A key, or none, with a value, or a tombstone.
type Pair = (Option<u8>, Option<u8>);

#[derive(Clone, Debug)]
enum Step {
    Append {
        pairs: Vec<Pair>,
        codec: Codec,
    },
    /// A batch of a producer; inside of a transaction it ends one day.
    Produce {
        producer: i64,
        pairs: Vec<Pair>,
        transactional: bool,
    },
    End {
        producer: i64,
        result: TransactionResult,
    },
    Roll,
    Clean {
        keys: usize,
    },
    Wait {
        ms: i64,
    },
    Crash {
        how: Crash,
        without_snapshots: bool,
    },
    FailWhileCleaning {
        nth: usize,
        how: Crash,
    },
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        Just(Crash::KeepAll),
        Just(Crash::LoseUnsynced),
        any::<u64>().prop_map(Crash::Tear),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![12 => (0..5_u8).prop_map(Some), 1 => Just(None)];
    let pair = (key, proptest::option::weighted(0.8, any::<u8>()));
    let pairs = proptest::collection::vec(pair, 1..6);
    let codec = proptest::sample::select(vec![Codec::None, Codec::None, Codec::Lz4]);
    let result = prop_oneof![
        Just(TransactionResult::Commit),
        Just(TransactionResult::Abort)
    ];
    let step = prop_oneof![
        6 => (pairs.clone(), codec).prop_map(|(pairs, codec)| Step::Append { pairs, codec }),
        6 => (0..3_i64, pairs, any::<bool>()).prop_map(|(producer, pairs, transactional)| {
            Step::Produce { producer, pairs, transactional }
        }),
        4 => (0..3_i64, result).prop_map(|(producer, result)| Step::End { producer, result }),
        5 => Just(Step::Roll),
        4 => (2..40_usize).prop_map(|keys| Step::Clean { keys }),
        2 => (1..150_i64).prop_map(|ms| Step::Wait { ms }),
        1 => (crash(), any::<bool>())
            .prop_map(|(how, without_snapshots)| Step::Crash { how, without_snapshots }),
        2 => (0..60_usize, crash()).prop_map(|(nth, how)| Step::FailWhileCleaning { nth, how }),
    ];
    proptest::collection::vec(step, 1..50)
}

/// A record as it was written.
#[derive(Clone, Debug)]
struct Written {
    key: Option<u8>,
    value: Option<u8>,
    timestamp: i64,
    transaction: Option<usize>,
    /// When a cleaning has looked at it first.
    first_seen: Option<i64>,
}

struct Model {
    dir: FaultDir,
    config: LogConfig,
    log: Option<Log>,
    now: i64,
    roll: bool,
    /// Everything that was ever written, but for markers.
    written: BTreeMap<i64, Written>,
    end: i64,
    /// Whether each transaction was committed; `None` while it is open.
    outcomes: Vec<Option<bool>>,
    open: BTreeMap<i64, usize>,
    sequences: BTreeMap<i64, i32>,
    /// What `cleaner-offset-checkpoint` says.
    first_dirty: Option<Offset>,
}

impl Model {
    fn new() -> Self {
        let dir = FaultDir::new().with_open_files_max(3);
        let config = LogConfig {
            segment_bytes: 1500,
            index_interval_bytes: 100,
            compact: true,
            delete: false,
            delete_retention_ms: RETENTION_MS,
            min_cleanable_dirty_ratio: 0.0,
            producer_id_expiration_ms: i64::MAX,
            write_ahead_bytes_max: 0,
            ..LogConfig::default()
        };
        let (log, _) = open(&dir, &config, Start::NEW);
        Self {
            dir,
            config,
            log: Some(log),
            now: 1000,
            roll: false,
            written: BTreeMap::new(),
            end: 0,
            outcomes: Vec::new(),
            open: BTreeMap::new(),
            sequences: BTreeMap::new(),
            first_dirty: None,
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn now(&self) -> Now {
        Now {
            timestamp: millis(self.now),
            ..now()
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { pairs, codec } => {
                self.append(BatchBuilder::new(codec.into()), &pairs, None)
            }
            Step::Produce {
                producer,
                pairs,
                transactional,
            } => self.produce(producer, &pairs, transactional),
            Step::End { producer, result } => self.end_transaction(producer, result),
            Step::Roll => self.roll = true,
            Step::Clean { keys } => {
                // Who has read before the cleaning can still read after it.
                let reader = self.log().reader();
                let (start, end) = (self.log().log_start_offset(), self.log().log_end_offset());
                let slice = reader.read(start, 1 << 20, end, true).unwrap();
                let before = slice.data.read_all().unwrap();
                self.clean(keys).unwrap();
                assert_eq!(slice.data.read_all().unwrap(), before);
                reader.aborted_transactions(start, &slice).unwrap();
            }
            Step::Wait { ms } => self.now += ms,
            Step::Crash {
                how,
                without_snapshots,
            } => self.crash(how, without_snapshots),
            Step::FailWhileCleaning { nth, how } => {
                self.dir.fail(Op::Mutation, nth, std::io::ErrorKind::Other);
                let _ = self.clean(30);
                if self.log().check().is_ok() {
                    // It failed before it changed anything that others see.
                    self.check();
                }
                self.crash(how, false);
            }
        }
    }

    fn produce(&mut self, producer: i64, pairs: &[Pair], transactional: bool) {
        // A producer is either in a transaction or not.
        let transactional = transactional || self.open.contains_key(&producer);
        let next = self.sequences.entry(producer).or_default();
        let builder = BatchBuilder::new(Codec::None.into())
            .producer(ProducerId::new(producer), ProducerEpoch::new(0), *next)
            .transactional(transactional);
        *next += pairs.len() as i32;
        let transaction = transactional.then(|| {
            *self.open.entry(producer).or_insert_with(|| {
                self.outcomes.push(None);
                self.outcomes.len() - 1
            })
        });
        self.append(builder, pairs, transaction);
    }

    fn append(&mut self, mut builder: BatchBuilder, pairs: &[Pair], transaction: Option<usize>) {
        for (i, (key, value)) in pairs.iter().enumerate() {
            let timestamp = self.now + i as i64;
            let (key_bytes, value_bytes) = (key.map(|k| [k]), value.map(|v| [v; 20]));
            builder.push(
                millis(timestamp),
                key_bytes.as_ref().map(|key| &key[..]),
                value_bytes.as_ref().map(|value| &value[..]),
                &[],
            );
            let written = Written {
                key: *key,
                value: *value,
                timestamp,
                transaction,
                first_seen: None,
            };
            self.written.insert(self.end + i as i64, written);
        }
        self.append_batch(&builder.build().unwrap());
    }

    fn end_transaction(&mut self, producer: i64, result: TransactionResult) {
        let Some(transaction) = self.open.remove(&producer) else {
            return;
        };
        self.outcomes[transaction] = Some(result == TransactionResult::Commit);
        let marker = EndTxnMarker {
            result,
            coordinator_epoch: 0,
        };
        let (id, epoch) = (ProducerId::new(producer), ProducerEpoch::new(0));
        let at = millis(self.now);
        self.append_batch(&marker.batch(id, epoch, at));
    }

    fn append_batch(&mut self, batch: &Batch) {
        let (config, end, now) = (self.config.clone(), self.end, self.now());
        if std::mem::take(&mut self.roll) {
            let mut config = config.clone();
            config.segment_bytes = 1;
            self.log().update_config(config);
        }
        let batch = batch.clone().with_leader_fields(offset(end), epoch(0));
        self.log()
            .append_as_follower(&batch, now.timestamp)
            .unwrap();
        self.log().update_config(config);
        flush(self.log());
        self.end = batch.header().next_offset().value();
    }

    fn clean(&mut self, keys: usize) -> Result<(), CleanError> {
        let now = millis(self.now);
        let end = self.log().log_end_offset();
        let stable = self.log().last_stable_offset(end);
        let Some(to_clean) = self.log().to_clean(stable)? else {
            return Ok(());
        };
        let cleanable = to_clean.assess(now)?;
        if !cleanable.is_due() {
            return Ok(());
        }
        let cleaner = Cleaner::new(CleanerConfig {
            dedupe_buffer_bytes: 48 * keys,
            io_buffer_bytes: 1,
            ..CleanerConfig::default()
        });
        let seen = cleanable.first_uncleanable_offset.value();
        let result = cleaner.clean(&cleanable, self.log.as_mut().unwrap(), now);
        // As far as it came it has looked at the tombstones.
        let horizon = self.now;
        let upto = result
            .as_ref()
            .map_or(seen, |c: &Cleaned| c.first_dirty_offset.value());
        for written in self.written.range_mut(..upto).map(|(_, written)| written) {
            written.first_seen.get_or_insert(horizon);
        }
        let cleaned = result?;
        assert!(
            cleaned.first_dirty_offset > cleanable.first_dirty_offset,
            "no progress"
        );
        self.log().finish_cleaning(&cleaned);
        self.first_dirty = self.log().first_dirty_offset();
        self.check();
        self.check_clean();
        Ok(())
    }

    fn crash(&mut self, how: Crash, without_snapshots: bool) {
        let log = self.log.take().unwrap();
        let start = Start {
            recovery_point: log.recovery_point(),
            ..Start::NEW
        };
        drop(log);
        self.dir.crash(how);
        if without_snapshots {
            self.remove_snapshots();
        }
        let (mut log, recovery) = open(&self.dir, &self.config, start);
        assert_eq!(recovery.cut_bytes, 0, "{recovery:?}");
        assert_eq!(recovery.dropped_segments, 0, "{recovery:?}");
        if let Some(first_dirty) = self.first_dirty {
            log.set_first_dirty_offset(first_dirty);
        }
        for file in self.dir.files() {
            let name = file.to_string_lossy().into_owned();
            let left_over = [".cleaned", ".swap", ".deleted"];
            assert!(
                !left_over.iter().any(|suffix| name.ends_with(suffix)),
                "{name}"
            );
        }
        let known: BTreeMap<_, _> = log
            .producers()
            .unwrap()
            .map(|(id, state)| (id.value(), state.last_sequence() + 1))
            .collect();
        assert_eq!(known, self.sequences);
        self.log = Some(log);
    }

    fn remove_snapshots(&self) {
        let dir: &dyn Dir = &self.dir;
        for file in self.dir.files() {
            if file.extension() == Some("snapshot".as_ref()) {
                dir.remove_file(&file).unwrap();
                dir.sync_dir(file.parent().unwrap()).unwrap();
            }
        }
    }

    fn is_committed(&self, written: &Written) -> bool {
        written
            .transaction
            .is_none_or(|transaction| self.outcomes[transaction] == Some(true))
    }

    fn is_aborted(&self, written: &Written) -> bool {
        written
            .transaction
            .is_some_and(|transaction| self.outcomes[transaction] == Some(false))
    }

    /// What must hold at any time, also of a log that failed in the middle of a cleaning.
    fn check(&self) {
        let log = self.log.as_ref().unwrap();
        assert_eq!(log.log_start_offset(), Offset::ZERO);
        assert_eq!(log.log_end_offset(), offset(self.end));
        let found = self.found();
        for (at, (key, value, timestamp)) in &found {
            let written = &self.written[at];
            let expected = (written.key, written.value, written.timestamp);
            assert_eq!((*key, *value, *timestamp), expected, "at {at}");
        }
        self.check_committed(&found);
        let present = |at: i64| found.contains_key(&at);
        for (at, written) in self.written.iter().filter(|(_, w)| self.is_committed(w)) {
            let Some(key) = written.key else { continue };
            let mut later = self.written.range(at + 1..);
            let is_newest = !later.any(|(_, w)| w.key == Some(key) && self.is_committed(w));
            if !is_newest {
                continue;
            }
            let is_due = |seen: i64| self.now >= seen + RETENTION_MS;
            if written.value.is_some() || !written.first_seen.is_some_and(is_due) {
                assert!(present(*at), "the newest record of {key} at {at} is gone");
            } else if !present(*at) {
                // Nothing that the tombstone had covered may come to light.
                let older = self.written.range(..at);
                let mut older = older.filter(|(_, w)| w.key == Some(key) && self.is_committed(w));
                let found = older.find(|(at, _)| present(**at));
                assert!(found.is_none(), "{found:?} of {key} came back after {at}");
            }
        }
    }

    /// All records of data in the log, by offset, as a reader finds them.
    fn found(&self) -> BTreeMap<i64, (Option<u8>, Option<u8>, i64)> {
        let mut found = BTreeMap::new();
        for batch in self.batches() {
            if batch.header().attributes.is_control() {
                continue;
            }
            for record in batch.records().unwrap().map(Result::unwrap) {
                let byte = |bytes: &Bytes| bytes[0];
                let pair = (
                    record.key.as_ref().map(byte),
                    record.value.as_ref().map(byte),
                );
                let timestamp = record.timestamp.as_millis();
                found.insert(record.offset.value(), (pair.0, pair.1, timestamp));
            }
        }
        found
    }

    fn batches(&self) -> Vec<Batch> {
        let batches = contents(self.log.as_ref().unwrap());
        let batches: Vec<_> = batches
            .into_iter()
            .map(|b| Batch::parse(b).unwrap())
            .collect();
        assert!(batches.iter().all(|batch| batch.verify_crc().is_ok()));
        let rises = |pair: &[Batch]| pair[0].header().last_offset() < pair[1].header().base_offset;
        assert!(batches.windows(2).all(rises));
        batches
    }

    /// A consumer of committed records, with the aborted transactions that a broker tells it, sees all of them that are
    /// there and no other (KIP-98).
    fn check_committed(&self, found: &BTreeMap<i64, (Option<u8>, Option<u8>, i64)>) {
        let log = self.log.as_ref().unwrap();
        let end = log.log_end_offset();
        let aborted = log.reader().aborted_between(Offset::ZERO, end).unwrap();
        let mut ahead = aborted.iter().peekable();
        let mut aborting = HashSet::new();
        let mut seen = HashSet::new();
        for batch in self.batches() {
            let header = batch.header();
            while let Some(next) = ahead.next_if(|a| a.first_offset <= header.last_offset()) {
                aborting.insert(next.producer_id);
            }
            if header.attributes.is_control() {
                // An emptied marker is skipped, as a consumer does.
                let mut records = batch.records().unwrap();
                if records
                    .next()
                    .is_some_and(|r| r.unwrap().key.as_deref() == Some(&[0, 0, 0, 0]))
                {
                    aborting.remove(&header.producer_id);
                }
            } else if !(header.attributes.is_transactional()
                && aborting.contains(&header.producer_id))
            {
                seen.extend(
                    batch
                        .records()
                        .unwrap()
                        .map(|record| record.unwrap().offset.value()),
                );
            }
        }
        for at in found.keys() {
            let written = &self.written[at];
            if self.is_aborted(written) {
                assert!(!seen.contains(at), "the aborted record at {at} is consumed");
            } else if self.is_committed(written) {
                assert!(
                    seen.contains(at),
                    "the committed record at {at} is not consumed"
                );
            }
        }
    }

    /// What a finished cleaning has to achieve.
    fn check_clean(&self) {
        let Some(first_dirty) = self.first_dirty else {
            return;
        };
        let mut keys = HashMap::new();
        for (at, (key, ..)) in self.found().range(..first_dirty.value()) {
            let written = &self.written[at];
            assert!(
                self.is_committed(written),
                "the aborted record at {at} is kept"
            );
            let key = key.unwrap_or_else(|| panic!("the record without key at {at} is kept"));
            let earlier = keys.insert(key, *at);
            assert_eq!(earlier, None, "two records of {key}, the second at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_a_consumer_makes_of_the_log_stays(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}

/// A log with everything in it: several groups, tombstones, transactions of both kinds over several segments, producers.
fn everything() -> Model {
    let mut model = Model::new();
    let pair = |key: u8, value: u8| (Some(key), (value > 0).then_some(value));
    for round in 0..6_u8 {
        let codec = if round % 2 == 0 {
            Codec::None
        } else {
            Codec::Zstd
        };
        let pairs: Vec<_> = (0..8).map(|key| pair(key, round * (key % 3))).collect();
        model.append(BatchBuilder::new(codec.into()), &pairs, None);
        model.produce(1, &[pair(1, 50 + round), pair(9, 1)], true);
        model.roll = round % 2 == 0;
        model.produce(2, &[pair(2, 60 + round)], round == 4);
        model.produce(1, &[pair(3, 70 + round)], true);
        let commits = round % 3 == 0;
        let result = if commits {
            TransactionResult::Commit
        } else {
            TransactionResult::Abort
        };
        model.end_transaction(1, result);
        if round == 5 {
            model.end_transaction(2, result);
        }
        if round == 2 {
            model.clean(40).unwrap();
            model.now += 2 * RETENTION_MS;
        }
    }
    model.roll = true;
    model.append(BatchBuilder::new(Codec::None.into()), &[pair(0, 99)], None);
    model
}

#[test]
fn a_crash_between_any_two_writes_loses_nothing() {
    let crashes = [Crash::KeepAll, Crash::LoseUnsynced]
        .into_iter()
        .chain((0..6).map(Crash::Tear));
    for how in crashes {
        let mut nth = 0;
        loop {
            let mut model = everything();
            model.dir.fail(Op::Mutation, nth, std::io::ErrorKind::Other);
            let failed = model.clean(40).is_err();
            if model.log().check().is_ok() {
                model.check();
            }
            model.crash(how, false);
            model.check();
            model.clean(40).unwrap();
            model.check();
            if !failed {
                assert!(nth > 20, "only {nth} writes");
                break;
            }
            nth += 1;
        }
    }
}

/// Who has a batch of an aborted transaction from before a cleaning is told of the abortion after it.
#[test]
fn a_reader_of_old_segments_gets_their_aborted_transactions() {
    let mut model = everything();
    let log = model.log();
    let (reader, end) = (log.reader(), log.log_end_offset());
    let slice = reader.read(Offset::ZERO, 1 << 20, end, true).unwrap();
    let before = reader.aborted_transactions(Offset::ZERO, &slice).unwrap();
    assert!(!before.is_empty());
    model.clean(40).unwrap();
    model.now += 2 * RETENTION_MS;
    model.clean(40).unwrap();
    let after = reader.aborted_transactions(Offset::ZERO, &slice).unwrap();
    assert!(
        before.iter().all(|aborted| after.contains(aborted)),
        "{after:?}"
    );
}

#[test]
fn a_log_that_changes_meanwhile_is_not_compacted() {
    let now: Timestamp = millis(5000);
    for truncate in [false, true] {
        let mut model = everything();
        let end = model.log().log_end_offset();
        let cleanable = model
            .log()
            .to_clean(end)
            .unwrap()
            .unwrap()
            .assess(now)
            .unwrap();
        let log = model.log();
        if truncate {
            log.truncate_to(end + -1, support::now()).unwrap();
        } else {
            let second = cleanable.first_uncleanable_offset;
            log.advance_log_start(second).unwrap();
            for segment in log.delete_old_segments(support::now(), end).unwrap() {
                segment.remove().unwrap();
            }
        }
        let before = contents(log);
        let result = Cleaner::new(CleanerConfig::default()).clean(&cleanable, log, now);
        let ended = match &result {
            // The segments were closed, and cannot be opened any more.
            Err(CleanError::Log(_)) => !truncate,
            Err(error) => matches!(error, CleanError::Aborted),
            Ok(_) => false,
        };
        assert!(ended, "{result:?}");
        log.check().unwrap();
        assert_eq!(contents(log), before);
        let files = model.dir.files();
        let unfinished = files
            .iter()
            .find(|file| file.extension() == Some("cleaned".as_ref()));
        assert_eq!(unfinished, None);
    }
}
