//! Compaction told as scenarios: `testdata/compaction/*.txt`.

#[path = "support/scenario.rs"]
mod scenario;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use support::*;
use tidelog_log::testing::{Crash, FaultDir};
use tidelog_log::{Cleaner, CleanerConfig, Log, LogConfig, Start};
use tidelog_record::control::{EndTxnMarker, TransactionResult};
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_types::{Now, Offset, ProducerEpoch, ProducerId, Timestamp};

#[test]
fn scenarios() {
    scenario::play_all("compaction", World::new, World::step);
}

struct World {
    dir: FaultDir,
    config: LogConfig,
    cleaner: CleanerConfig,
    log: Option<Log>,
    now: Now,
    /// The next batch begins a segment.
    roll: bool,
    /// The next sequence number of each producer.
    sequences: BTreeMap<i64, i32>,
}

/// `key=value` arguments of a command, and the others.
struct Arguments<'a> {
    named: BTreeMap<&'a str, &'a str>,
    records: Vec<(&'a str, Option<&'a str>)>,
    flags: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    /// Names of one letter and more are arguments in front of `:`, and keys of records behind it.
    fn parse(text: &'a str) -> Self {
        let (front, records) = text.split_once(':').unwrap_or((text, ""));
        let pair = |word: &'a str| word.split_once('=');
        Self {
            named: front.split_whitespace().filter_map(pair).collect(),
            flags: front
                .split_whitespace()
                .filter(|w| !w.contains('='))
                .collect(),
            records: records
                .split_whitespace()
                .map(|word| match pair(word) {
                    Some((key, value)) => (key, Some(value)),
                    None => (word, None),
                })
                .collect(),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let text = self.named.get(name)?;
        Some(text.parse().ok().unwrap_or_else(|| panic!("{name}={text}")))
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

impl World {
    fn new() -> Self {
        let dir = FaultDir::new();
        let config = LogConfig {
            compact: true,
            delete: false,
            delete_retention_ms: 100,
            min_cleanable_dirty_ratio: 0.0,
            retention_ms: -1,
            producer_id_expiration_ms: i64::MAX,
            ..LogConfig::default()
        };
        let (log, _) = open(&dir, &config, Start::NEW);
        Self {
            dir,
            config,
            cleaner: CleanerConfig::default(),
            log: Some(log),
            now: Now {
                timestamp: millis(1000),
                ..now()
            },
            roll: false,
            sequences: BTreeMap::new(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn step(&mut self, command: &str) -> String {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let arguments = Arguments::parse(rest);
        match name {
            "config" => self.configure(&arguments),
            "roll" => {
                self.roll = true;
                String::new()
            }
            "time" => {
                self.now.timestamp = millis(rest.parse().unwrap());
                String::new()
            }
            "append" => self.append(&arguments),
            "commit" => self.end_transaction(TransactionResult::Commit, &arguments),
            "abort" => self.end_transaction(TransactionResult::Abort, &arguments),
            "clean" => self.clean(),
            "show" => self.show(),
            "files" => self.files(),
            "producers" => self.producers(),
            "aborted" => self.aborted(),
            "delete-records" => {
                let until = Offset::new(rest.parse().unwrap());
                self.log().advance_log_start(until).unwrap();
                String::new()
            }
            "retain" => self.retain(),
            "truncate" => {
                let (until, now) = (Offset::new(rest.parse().unwrap()), self.now);
                let end = self.log().truncate_to(until, now).unwrap();
                format!(
                    "ends at {end}, dirty from {:?}",
                    self.log().first_dirty_offset()
                )
            }
            "reopen" => self.reopen(&arguments),
            other => panic!("no such command: {other}"),
        }
    }

    fn configure(&mut self, arguments: &Arguments<'_>) -> String {
        for (name, value) in &arguments.named {
            let number = || value.parse().unwrap();
            match *name {
                "min.compaction.lag.ms" => self.config.min_compaction_lag_ms = number(),
                "max.compaction.lag.ms" => self.config.max_compaction_lag_ms = number(),
                "min.cleanable.dirty.ratio" => {
                    self.config.min_cleanable_dirty_ratio = value.parse().unwrap();
                }
                "delete.retention.ms" => self.config.delete_retention_ms = number(),
                "retention.ms" => self.config.retention_ms = number(),
                "cleanup.policy" => {
                    self.config.compact = value.contains("compact");
                    self.config.delete = value.contains("delete");
                }
                "segment.bytes" => self.config.segment_bytes = value.parse().unwrap(),
                "keys" => {
                    // What a map has room for; the least is two.
                    let keys: usize = value.parse().unwrap();
                    self.cleaner.dedupe_buffer_bytes = 48 * keys;
                    self.cleaner.dedupe_buffer_load_factor = 0.95;
                }
                other => panic!("no such config: {other}"),
            }
        }
        let config = self.config.clone();
        self.log().update_config(config);
        String::new()
    }

    fn builder(&mut self, arguments: &Arguments<'_>, records: i32) -> BatchBuilder {
        let codec = arguments.named.get("codec").copied().unwrap_or("none");
        let codec = Codec::from_name(codec).unwrap();
        let mut builder = BatchBuilder::new(codec.into());
        if let Some(producer) = arguments.number("producer") {
            let next = self.sequences.entry(producer).or_default();
            let epoch = ProducerEpoch::new(arguments.number("epoch").unwrap_or(0));
            builder = builder
                .producer(ProducerId::new(producer), epoch, *next)
                .transactional(arguments.has("txn"));
            *next += records;
        }
        builder
    }

    fn append(&mut self, arguments: &Arguments<'_>) -> String {
        let mut builder = self.builder(arguments, arguments.records.len() as i32);
        let first: i64 = arguments.number("at").unwrap_or(1000);
        for (i, (key, value)) in arguments.records.iter().enumerate() {
            // `-` is a record without key, and a key without value a tombstone.
            let key = Some(key.as_bytes()).filter(|key| *key != b"-");
            builder.push(millis(first + i as i64), key, value.map(str::as_bytes), &[]);
        }
        self.append_batch(&builder.build().unwrap(), arguments.number("offset"))
    }

    fn end_transaction(&mut self, result: TransactionResult, arguments: &Arguments<'_>) -> String {
        let producer = ProducerId::new(arguments.number("producer").unwrap());
        let epoch = ProducerEpoch::new(arguments.number("epoch").unwrap_or(0));
        if epoch.value() > 0 {
            self.sequences.insert(producer.value(), 0);
        }
        let marker = EndTxnMarker {
            result,
            coordinator_epoch: 0,
        };
        let at = millis(arguments.number("at").unwrap_or(1000));
        self.append_batch(&marker.batch(producer, epoch, at), None)
    }

    /// At the end of the log, or at an offset behind it, as a follower that has missed what is gone.
    fn append_batch(&mut self, batch: &Batch, offset: Option<i64>) -> String {
        let now = self.now.timestamp;
        let config = self.config.clone();
        if std::mem::take(&mut self.roll) {
            let mut config = config.clone();
            config.segment_bytes = 1;
            self.log().update_config(config);
        }
        let at = offset.map_or_else(|| self.log().log_end_offset(), Offset::new);
        let batch = batch.clone().with_leader_fields(at, epoch(0));
        self.log().append_as_follower(&batch, now).unwrap();
        self.log().update_config(config);
        flush(self.log());
        String::new()
    }

    fn clean(&mut self) -> String {
        let now = self.now.timestamp;
        let end = self.log().log_end_offset();
        let stable = self.log().last_stable_offset(end);
        let Some(to_clean) = self.log().to_clean(stable).unwrap() else {
            return "nothing to clean".to_owned();
        };
        let cleanable = to_clean.assess(now).unwrap();
        let (from, until) = (
            cleanable.first_dirty_offset,
            cleanable.first_uncleanable_offset,
        );
        if !cleanable.is_due() {
            self.log().not_due(&cleanable);
            return format!("[{from}, {until}) not due, ratio {:.2}", cleanable.ratio());
        }
        let cleaner = Cleaner::new(self.cleaner);
        let cleaned = cleaner.clean(&cleanable, self.log(), now).unwrap();
        self.log().finish_cleaning(&cleaned);
        let stats = cleaned.stats;
        let mut told = format!(
            "[{from}, {until}) clean up to {}, {} of {} records kept",
            cleaned.first_dirty_offset, stats.records_kept, stats.records_read
        );
        if stats.invalid_records > 0 {
            write!(told, ", {} without key", stats.invalid_records).unwrap();
        }
        told
    }

    /// Every batch, as `[first-last] offset:key=value ...`.
    fn show(&mut self) -> String {
        let log = self.log.as_ref().unwrap();
        let reader = log.reader();
        let mut told = String::new();
        let mut segment = None;
        for bytes in contents(log) {
            let batch = Batch::parse(bytes).unwrap();
            batch.verify_crc().unwrap();
            let header = batch.header();
            let place = reader.read(header.last_offset(), 1, log.log_end_offset(), true);
            let base = place.unwrap().segment_base_offset;
            if segment != Some(base) {
                writeln!(told, "segment {base}").unwrap();
                segment = Some(base);
            }
            writeln!(told, "{}", describe(&batch)).unwrap();
        }
        told
    }

    /// The files of the segments but for the active one, those without content in brackets.
    fn files(&mut self) -> String {
        let files = self.dir.files().into_iter().filter_map(|file| {
            let name = file
                .file_name()?
                .to_str()?
                .trim_start_matches('0')
                .to_owned();
            let is_empty = self.dir.content(&file)?.is_empty();
            let of_segment = name.contains("log") || name.contains("index");
            of_segment.then(|| if is_empty { format!("({name})") } else { name })
        });
        files.collect::<Vec<_>>().join(" ")
    }

    fn producers(&mut self) -> String {
        let mut producers: Vec<_> = self
            .log()
            .producers()
            .unwrap()
            .map(|(id, state)| {
                let (epoch, last) = (state.producer_epoch, state.last_sequence());
                format!("{id} epoch={epoch} last_sequence={last}")
            })
            .collect();
        producers.sort();
        producers.join("\n")
    }

    fn aborted(&mut self) -> String {
        let end = self.log().log_end_offset();
        let reader = self.log().reader();
        let aborted = reader.aborted_between(Offset::ZERO, end).unwrap();
        let lines = aborted.iter().map(|aborted| {
            let (id, first, last) = (
                aborted.producer_id,
                aborted.first_offset,
                aborted.last_offset,
            );
            format!("{id} [{first}, {last}]")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn retain(&mut self) -> String {
        let (now, end) = (self.now, self.log().log_end_offset());
        let deleted = self.log().delete_old_segments(now, end).unwrap();
        let lines: Vec<_> = deleted
            .into_iter()
            .map(|segment| {
                let told = format!(
                    "deleted segment {}: {:?}",
                    segment.base_offset(),
                    segment.reason()
                );
                segment.remove().unwrap();
                told
            })
            .collect();
        lines.join("\n")
    }

    /// Opens the log again, after a crash, and with `without-snapshots` as if nobody had written any.
    fn reopen(&mut self, arguments: &Arguments<'_>) -> String {
        let log = self.log.take().unwrap();
        let start = Start {
            log_start_offset: log.log_start_offset(),
            recovery_point: log.recovery_point(),
            ..Start::NEW
        };
        let dirty = log.first_dirty_offset();
        drop(log);
        self.dir.crash(Crash::LoseUnsynced);
        if arguments.has("without-snapshots") {
            let dir: Arc<dyn tidelog_log::Dir> = Arc::new(self.dir.clone());
            for file in self.dir.files() {
                if file.extension() == Some("snapshot".as_ref()) {
                    dir.remove_file(&file).unwrap();
                }
            }
        }
        let (mut log, recovery) = open(&self.dir, &self.config, start);
        assert_eq!(recovery.cut_bytes, 0);
        if let Some(dirty) = dirty {
            log.set_first_dirty_offset(dirty);
        }
        let told = format!("[{}, {})", log.log_start_offset(), log.log_end_offset());
        self.log = Some(log);
        told
    }
}

fn describe(batch: &Batch) -> String {
    let header = batch.header();
    let mut told = format!("[{}-{}]", header.base_offset, header.last_offset());
    if header.has_producer_id() {
        write!(told, " producer={}", header.producer_id).unwrap();
        if header.base_sequence >= 0 {
            write!(
                told,
                " sequence={}-{}",
                header.base_sequence,
                header.last_sequence()
            )
            .unwrap();
        }
    }
    let attributes = header.attributes;
    if attributes.is_transactional() && !attributes.is_control() {
        told.push_str(" txn");
    }
    let codec = attributes.codec().unwrap();
    if codec != Codec::None {
        write!(told, " {}", codec.name()).unwrap();
    }
    if let Some(horizon) = header.delete_horizon() {
        write!(told, " horizon={}", Timestamp::as_millis(horizon)).unwrap();
    }
    for record in batch.records().unwrap().map(Result::unwrap) {
        let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        if attributes.is_control() {
            let is_commit = record.key.as_deref() == Some(&[0, 0, 0, 1]);
            told.push_str(if is_commit { " COMMIT" } else { " ABORT" });
            continue;
        }
        let key = record.key.as_ref().map_or_else(|| "-".to_owned(), text);
        write!(told, " {}:{key}", record.offset).unwrap();
        if let Some(value) = &record.value {
            write!(told, "={}", text(value)).unwrap();
        }
        if record.timestamp != millis(1000) {
            write!(told, "@{}", record.timestamp.as_millis()).unwrap();
        }
    }
    told
}
