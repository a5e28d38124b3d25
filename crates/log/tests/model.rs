//! The log against a list of batches: whatever happens, what was flushed is there, and what is there was once written.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use support::*;
use tidelog_log::testing::{Crash, FaultDir, Op};
use tidelog_log::{Log, LogConfig, LogError, Start};
use tidelog_record::Batch;
use tidelog_types::{Offset, Timestamp};

#[derive(Clone, Debug)]
enum Step {
    Append {
        timestamps: Vec<i64>,
        value_size: usize,
    },
    AppendIdempotent {
        producer: i64,
        records: usize,
    },
    /// A batch that a leader with a compacted log sends: offsets are missing in front of it.
    AppendWithGap {
        gap: i64,
        records: usize,
    },
    SendAgain {
        producer: i64,
    },
    Flush,
    /// A flush that ends only after the next step.
    BeginFlush,
    Checkpoint,
    Truncate {
        share: f64,
    },
    AdvanceStart {
        share: f64,
    },
    Delete {
        keep_bytes: i64,
    },
    NewEpoch,
    Close {
        resume: bool,
    },
    /// The log is put to rest, and wakes with the next append.
    Rest,
    Crash {
        how: Crash,
    },
    FailThenCrash {
        op: Op,
        nth: usize,
        how: Crash,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let crash = prop_oneof![
        Just(Crash::KeepAll),
        Just(Crash::LoseUnsynced),
        any::<u64>().prop_map(Crash::Tear),
    ];
    let op = prop_oneof![
        Just(Op::Write),
        Just(Op::Sync),
        Just(Op::Change),
        Just(Op::Mutation)
    ];
    let step = prop_oneof![
        10 => (proptest::collection::vec(0..1000_i64, 1..5), 0..200_usize)
            .prop_map(|(timestamps, value_size)| Step::Append { timestamps, value_size }),
        4 => (0..3_i64, 1..4_usize)
            .prop_map(|(producer, records)| Step::AppendIdempotent { producer, records }),
        1 => (1..50_i64, 1..4_usize)
            .prop_map(|(gap, records)| Step::AppendWithGap { gap, records }),
        2 => (0..3_i64).prop_map(|producer| Step::SendAgain { producer }),
        5 => Just(Step::Flush),
        2 => Just(Step::BeginFlush),
        2 => Just(Step::Checkpoint),
        1 => (0.0..1.0).prop_map(|share| Step::Truncate { share }),
        1 => (0.0..1.0).prop_map(|share| Step::AdvanceStart { share }),
        1 => (0..3000_i64).prop_map(|keep_bytes| Step::Delete { keep_bytes }),
        1 => Just(Step::NewEpoch),
        1 => any::<bool>().prop_map(|resume| Step::Close { resume }),
        2 => Just(Step::Rest),
        2 => crash.clone().prop_map(|how| Step::Crash { how }),
        1 => (op, 0..12_usize, crash)
            .prop_map(|(op, nth, how)| Step::FailThenCrash { op, nth, how }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What a producer sent last and where it is.
#[derive(Clone, Debug)]
struct Sent {
    batch: Batch,
    base_offset: Offset,
}

struct Model {
    dir: FaultDir,
    config: LogConfig,
    log: Option<Log>,
    /// Stored batches by base offset.
    batches: BTreeMap<Offset, Bytes>,
    /// Everything ever stored, since an unflushed truncation may be undone by a crash.
    ever: Vec<(Offset, Bytes)>,
    start: Offset,
    end: Offset,
    flushed: Offset,
    /// What the checkpoint files say.
    recovery_point: Offset,
    checkpointed_start: Offset,
    epoch: i32,
    producers: BTreeMap<i64, (i32, Option<Sent>)>,
}

impl Model {
    fn new(config: LogConfig) -> Self {
        let dir = FaultDir::new().with_open_files_max(3);
        dir.shorten_reads();
        let (log, _) = open(&dir, &config, Start::NEW);
        Self {
            dir,
            config,
            log: Some(log),
            batches: BTreeMap::new(),
            ever: Vec::new(),
            start: Offset::ZERO,
            end: Offset::ZERO,
            flushed: Offset::ZERO,
            recovery_point: Offset::ZERO,
            checkpointed_start: Offset::ZERO,
            epoch: 0,
            producers: BTreeMap::new(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn stored(&mut self, batch: &Batch) {
        self.batches
            .insert(batch.header().base_offset, batch.bytes().clone());
        self.ever
            .push((batch.header().base_offset, batch.bytes().clone()));
        self.end = batch.header().next_offset();
    }

    fn append(&mut self, batch: &Batch) {
        let leader_epoch = epoch(self.epoch);
        let appended = self
            .log()
            .append_as_leader(batch, leader_epoch, now().timestamp)
            .unwrap();
        assert!(!appended.duplicate);
        assert_eq!(appended.base_offset, self.end);
        self.stored(
            &batch
                .clone()
                .with_leader_fields(appended.base_offset, leader_epoch),
        );
        assert_eq!(appended.last_offset.next(), self.end);
        assert_eq!(appended.end.offset, self.end);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append {
                timestamps,
                value_size,
            } => self.append(&batch(&timestamps, value_size)),
            Step::AppendIdempotent { producer, records } => {
                let next = self.producers.get(&producer).map_or(0, |(next, _)| *next);
                let batch = idempotent(producer, 0, next, records);
                let base_offset = self.end;
                self.append(&batch);
                let sent = Sent { batch, base_offset };
                self.producers
                    .insert(producer, (next + records as i32, Some(sent)));
            }
            Step::AppendWithGap { gap, records } => {
                let base_offset = self.end + gap;
                let batch = batch(&vec![500; records], 20);
                let batch = batch.with_leader_fields(base_offset, epoch(self.epoch));
                self.log()
                    .append_as_follower(&batch, now().timestamp)
                    .unwrap();
                self.stored(&batch);
            }
            Step::SendAgain { producer } => {
                if let Some((_, Some(sent))) = self.producers.get(&producer).cloned() {
                    let leader_epoch = epoch(self.epoch);
                    let again =
                        self.log()
                            .append_as_leader(&sent.batch, leader_epoch, now().timestamp);
                    let again = again.unwrap();
                    assert!(again.duplicate);
                    assert_eq!(again.base_offset, sent.base_offset);
                }
            }
            Step::Flush => {
                self.flushed = flush(self.log());
                assert_eq!(self.flushed, self.end);
            }
            Step::BeginFlush => {
                if let Some(pending) = self.log().begin_flush() {
                    let end = self.end;
                    self.append(&batch(&[1, 2], 30));
                    let result = pending.run();
                    self.flushed = self.log().flush_finished(pending, result).unwrap();
                    assert_eq!(self.flushed, end);
                }
            }
            Step::Checkpoint => self.recovery_point = self.log().recovery_point(),
            Step::Truncate { share } => self.truncate(share),
            Step::AdvanceStart { share } => {
                let to = self.start + ((self.end - self.start) as f64 * share) as i64;
                self.log().advance_log_start(to).unwrap();
                self.start = to;
                self.checkpointed_start = to;
            }
            Step::Delete { keep_bytes } => {
                let mut config = self.config.clone();
                config.retention_bytes = keep_bytes;
                self.log().update_config(config);
                let end = self.end;
                let deleted = self.log().delete_old_segments(now(), end).unwrap();
                for segment in deleted {
                    segment.remove().unwrap();
                }
                let config = self.config.clone();
                self.log().update_config(config);
                self.start = self.log().log_start_offset();
                let first = self.log().first_segment_base_offset();
                self.batches = self.batches.split_off(&first);
            }
            Step::NewEpoch => {
                self.epoch += 1;
                let leader_epoch = epoch(self.epoch);
                self.log().begin_leader_epoch(leader_epoch);
            }
            Step::Rest => {
                let end = self.end;
                if let Some(pending) = self.log().begin_rest(end) {
                    let result = pending.run();
                    assert!(self.log().rest_finished(pending, result).unwrap());
                }
                assert!(self.log().is_resting());
                self.flushed = end;
                assert_eq!(self.log().recovery_point(), end);
            }
            Step::Close { resume } => {
                let summary = self.log.take().unwrap().close().unwrap();
                let end = summary.log_end_offset();
                assert_eq!(end, self.end);
                (self.recovery_point, self.flushed) = (end, end);
                let snapshot = format!("t-0/{end:020}.snapshot");
                let written = self.dir.content(snapshot).is_some();
                assert!(written || self.batches.is_empty(), "no snapshot at {end}");
                let logs = self
                    .dir
                    .files()
                    .into_iter()
                    .filter(|f| f.extension() == Some("log".as_ref()));
                let bytes: usize = logs.map(|file| self.dir.content(file).unwrap().len()).sum();
                if resume {
                    let dir = std::sync::Arc::new(self.dir.clone());
                    self.log = Some(Log::resume(dir, "t-0", self.config.clone(), summary));
                } else {
                    self.reopen(true);
                }
                assert_eq!(bytes as u64, self.log().size(), "prepared space is cut off");
            }
            Step::Crash { how } => self.crash(how),
            Step::FailThenCrash { op, nth, how } => {
                self.dir.fail(op, nth, std::io::ErrorKind::Other);
                self.write_until_it_fails();
                self.crash(how);
            }
        }
    }

    /// Appends and flushes until the disk fails; from then on nothing may be taken.
    fn write_until_it_fails(&mut self) {
        let leader_epoch = epoch(self.epoch);
        for _ in 0..20 {
            let batch = batch(&[7, 8], 50);
            let appended = self
                .log()
                .append_as_leader(&batch, leader_epoch, now().timestamp);
            if let Ok(appended) = appended {
                self.stored(&batch.with_leader_fields(appended.base_offset, leader_epoch));
            } else {
                // It may be in the file all the same.
                let stored = batch.with_leader_fields(self.end, leader_epoch);
                self.ever.push((self.end, stored.bytes().clone()));
                assert!(
                    self.log()
                        .append_as_leader(&stored, leader_epoch, now().timestamp)
                        .is_err()
                );
                assert!(self.log().begin_flush().is_none());
                return;
            }
            if let Some(pending) = self.log().begin_flush() {
                let result = pending.run();
                match self.log().flush_finished(pending, result) {
                    Ok(flushed) => self.flushed = flushed,
                    Err(_) => {
                        assert!(self.log().check().is_err());
                        return;
                    }
                }
            }
            if let Some(upkeep) = self.log().begin_upkeep() {
                upkeep.run();
            }
        }
    }

    fn truncate(&mut self, share: f64) {
        let to = self.start + ((self.end - self.start) as f64 * share) as i64;
        let end = self.log().truncate_to(to, now()).unwrap();
        let removed = self.batches.split_off(&end);
        let still_within = self.batches.last_key_value().is_some_and(|(base, bytes)| {
            let batch = Batch::parse(bytes.clone()).unwrap();
            *base < end && batch.header().next_offset() > end
        });
        assert!(!still_within, "the end lies within a batch");
        assert!(end <= to || removed.is_empty());
        self.end = end;
        self.flushed = self.flushed.min(end);
        self.recovery_point = self.recovery_point.min(end);
        self.start = self.start.min(end);
        self.checkpointed_start = self.checkpointed_start.min(end);
        // What a producer sent and what was cut off does not count; the log knows less of it after a reload.
        self.forget_producers();
    }

    fn crash(&mut self, how: Crash) {
        self.log = None;
        self.dir.crash(how);
        self.dir.shorten_reads();
        self.reopen(false);
        self.forget_producers();
    }

    /// Takes over what the log knows of producers, which must cover what it holds of them.
    fn forget_producers(&mut self) {
        let log = self.log.as_mut().unwrap();
        self.producers = log
            .producers()
            .unwrap()
            .map(|(id, p)| (id.value(), (p.last_sequence() + 1, None)))
            .collect();
        for bytes in self.batches.values() {
            let batch = Batch::parse(bytes.clone()).unwrap();
            let header = *batch.header();
            if header.has_producer_id() {
                let known = self.producers.get_mut(&header.producer_id.value()).unwrap();
                let is_last = known.0 == header.last_sequence() + 1;
                known.1 = is_last.then_some(Sent {
                    base_offset: header.base_offset,
                    batch,
                });
            }
        }
        let start = self.start;
        assert!(
            self.producers
                .values()
                .all(|(_, sent)| sent.is_some() || start > Offset::ZERO)
        );
    }

    fn reopen(&mut self, clean: bool) {
        let start = Start {
            log_start_offset: self.checkpointed_start,
            recovery_point: self.recovery_point,
            clean,
            topic_id: None,
        };
        let (log, _) = open(&self.dir, &self.config, start);
        let (log_start, end) = (log.log_start_offset(), log.log_end_offset());
        assert!(
            end >= self.flushed,
            "lost what was flushed: {end} < {}",
            self.flushed
        );
        let found = contents(&log);
        let mut recovered = BTreeMap::new();
        for bytes in found {
            let base = Batch::parse(bytes.clone()).unwrap().header().base_offset;
            assert!(
                self.ever.contains(&(base, bytes.clone())),
                "never written: {base}"
            );
            recovered.insert(base, bytes);
        }
        for (base, bytes) in self.batches.range(log_start..self.flushed.max(log_start)) {
            assert_eq!(recovered.get(base), Some(bytes), "lost the batch at {base}");
        }
        if clean {
            assert_eq!((log_start, end), (self.start, self.end));
        }
        // The batch that holds the log start may begin before it.
        self.batches = recovered;
        (self.start, self.end) = (log_start, end);
        self.flushed = log.recovery_point();
        self.recovery_point = self.recovery_point.min(end);
        self.log = Some(log);
    }

    fn check(&mut self) {
        let (start, end) = (self.start, self.end);
        let log = self.log.as_ref().unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, end));
        let reader = log.reader();
        let whole: Vec<_> = self
            .batches
            .values()
            .map(|bytes| Batch::parse(bytes.clone()).unwrap())
            .filter(|batch| batch.header().last_offset() >= start)
            .collect();
        let found = contents(log);
        let expected: Vec<_> = whole.iter().map(|batch| batch.bytes().clone()).collect();
        if found != expected {
            // Bytes would fill pages.
            let bases = |batches: &[Bytes]| -> Vec<_> {
                let bases = batches.iter().map(|b| Batch::parse(b.clone()).unwrap());
                bases.map(|batch| batch.header().base_offset).collect()
            };
            panic!("found {:?}, expected {:?}", bases(&found), bases(&expected));
        }
        for from in [
            start,
            start + (end - start) / 3,
            start + (end - start) * 2 / 3,
            end,
        ] {
            for until in [from, start + (end - start) / 2, end] {
                check_read(&reader, &whole, from, until);
            }
        }
        for outside in [start + -1, end + 1] {
            let error = reader.read(outside, 100, end, true).unwrap_err();
            assert!(matches!(error, LogError::OutOfRange { .. }));
        }
        for target in [0, 250, 700, 999, 1001] {
            check_timestamp(&reader, &whole, start, millis(target), end);
        }
        let largest = records(&whole, start).map(|(timestamp, _)| timestamp).max();
        let first = largest.and_then(|l| records(&whole, start).find(|(t, _)| *t == l));
        let found = reader.max_timestamp(end).unwrap();
        assert_eq!(found.map(|found| (found.timestamp, found.offset)), first);
    }
}

fn records(batches: &[Batch], start: Offset) -> impl Iterator<Item = (Timestamp, Offset)> {
    let records = batches.iter().flat_map(|batch| batch.records().unwrap());
    records
        .map(Result::unwrap)
        .map(|r| (r.timestamp, r.offset))
        .filter(move |r| r.1 >= start)
}

fn check_read(reader: &tidelog_log::LogReader, batches: &[Batch], from: Offset, until: Offset) {
    let wanted: Vec<_> = batches
        .iter()
        .filter(|b| b.header().last_offset() >= from && b.header().last_offset() < until)
        .collect();
    let wanted = if from < until { wanted } else { Vec::new() };
    let expected: Vec<u8> = wanted
        .iter()
        .flat_map(|batch| batch.bytes().to_vec())
        .collect();
    for max_bytes in [0, 150, 1 << 20] {
        for at_least_one_batch in [false, true] {
            let slice = reader
                .read(from, max_bytes, until, at_least_one_batch)
                .unwrap();
            let bytes = slice.data.read_all().unwrap();
            assert!(
                expected.starts_with(&bytes),
                "other bytes than were written"
            );
            let first = wanted.first().map_or(0, |batch| batch.size());
            let least = match first {
                0 => 0,
                first if first <= max_bytes => first,
                first if at_least_one_batch => first,
                _ => 0,
            };
            assert!(
                bytes.len() >= least,
                "{} of {least} from {from} until {until}",
                bytes.len()
            );
            assert!(bytes.len() <= max_bytes.max(least));
            if let Some(first) = wanted.first().filter(|_| !bytes.is_empty()) {
                assert_eq!(slice.base_offset, first.header().base_offset);
            }
            assert!(reader.bytes_available(from, until) >= bytes.len() as u64);
        }
    }
}

fn check_timestamp(
    reader: &tidelog_log::LogReader,
    batches: &[Batch],
    start: Offset,
    target: Timestamp,
    until: Offset,
) {
    let expected = records(batches, start).find(|(timestamp, _)| *timestamp >= target);
    let found = reader.offset_for_timestamp(target, until).unwrap();
    assert_eq!(
        found.map(|found| (found.timestamp, found.offset)),
        expected,
        "for {target}"
    );
}

proptest! {
    #[test]
    fn the_log_holds_what_was_written(steps in steps(), write_ahead in any::<bool>()) {
        let mut model = Model::new(LogConfig {
            segment_bytes: 2000,
            index_interval_bytes: 200,
            checkpoint_interval_bytes: 700,
            write_ahead_bytes_max: if write_ahead { 64 << 10 } else { 0 },
            segment_index_bytes: 96,
            retention_ms: -1,
            producer_id_expiration_ms: i64::MAX,
            ..LogConfig::default()
        });
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}
