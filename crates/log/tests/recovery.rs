//! Recovery told as scenarios (`testdata/recovery/*.txt`), and a crash at every step of a log's life.

#[path = "support/scenario.rs"]
mod scenario;
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use support::*;
use tidelog_log::testing::{Crash, FaultDir, Op};
use tidelog_log::verify::{Depth, Severity, verify};
use tidelog_log::{Dir as _, Log, LogConfig, LogError, Start};
use tidelog_record::Batch;
use tidelog_types::Offset;

#[test]
fn scenarios() {
    scenario::play_all("recovery", World::new, World::step);
}

struct World {
    dir: FaultDir,
    config: LogConfig,
    log: Option<Log>,
    /// What the checkpoints of the directory say.
    start: Start,
    epoch: i32,
    /// The next sequence number of each producer.
    sequences: BTreeMap<i64, i32>,
}

impl World {
    fn new() -> Self {
        let dir = FaultDir::new();
        let config = LogConfig {
            index_interval_bytes: 200,
            checkpoint_interval_bytes: 1000,
            producer_id_expiration_ms: i64::MAX,
            write_ahead_bytes_max: 0,
            retention_ms: -1,
            ..LogConfig::default()
        };
        let (log, _) = open(&dir, &config, Start::NEW);
        Self {
            dir,
            config,
            log: Some(log),
            start: Start::NEW,
            epoch: 0,
            sequences: BTreeMap::new(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn step(&mut self, command: &str) -> String {
        let words: Vec<_> = command.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<i64>().unwrap();
        match words[..] {
            ["segment.bytes", bytes] => {
                self.config.segment_bytes = bytes.parse().unwrap();
                let config = self.config.clone();
                self.log().update_config(config);
                String::new()
            }
            ["epoch", epoch] => {
                self.epoch = epoch.parse().unwrap();
                String::new()
            }
            ["append", ..] => self.append(&words[1..]),
            ["flush"] => format!("flushed up to {}", flush(self.log())),
            ["checkpoint"] => {
                let log = self.log.as_ref().unwrap();
                self.start.recovery_point = log.recovery_point();
                self.start.log_start_offset = log.log_start_offset();
                let (recovery_point, start) = (log.recovery_point(), log.log_start_offset());
                format!("recovery point {recovery_point}, log start {start}")
            }
            ["truncate", _] => {
                let end = self.log().truncate_to(offset(number(1)), now()).unwrap();
                self.start.recovery_point = self.start.recovery_point.min(end);
                format!("ends at {end}")
            }
            ["delete-records", _] => {
                self.log().advance_log_start(offset(number(1))).unwrap();
                String::new()
            }
            ["close"] => {
                self.log.take().unwrap().close().unwrap();
                self.dir.crash(Crash::LoseUnsynced);
                String::new()
            }
            ["kill"] => self.crash(Crash::KeepAll),
            ["power-failure"] => self.crash(Crash::LoseUnsynced),
            ["flip", name, _] => self.change(name, |content| {
                content[usize::try_from(number(2)).unwrap()] ^= 1;
            }),
            ["cut", name, _] => self.change(name, |content| {
                content.truncate(content.len() - usize::try_from(number(2)).unwrap());
            }),
            ["zeros", name, _] => self.change(name, |content| {
                content.resize(content.len() + usize::try_from(number(2)).unwrap(), 0);
            }),
            ["noise", name, _] => self.change(name, |content| {
                let noise = (0..number(2)).map(|i| (i * 37 + 11) as u8);
                content.extend(noise);
            }),
            ["copy", from, to] => {
                let content = self.dir.content(path(from)).unwrap();
                self.dir.put(path(to), &content);
                String::new()
            }
            ["remove", name] => {
                self.dir.remove_file(&path(name)).unwrap();
                self.dir.sync_dir(Path::new("t-0")).unwrap();
                String::new()
            }
            ["open"] => self.open(false),
            ["open", "clean"] => self.open(true),
            ["show"] => self.show(),
            ["files"] => self.files(),
            ["epochs"] => {
                let epochs = self.log().leader_epochs();
                let epochs = epochs.iter().map(|entry| {
                    let (epoch, start) = (entry.epoch, entry.start_offset);
                    format!("{epoch} from {start}")
                });
                epochs.collect::<Vec<_>>().join(", ")
            }
            ["producers"] => {
                let producers = self.log().producers().unwrap();
                let mut producers: Vec<_> = producers
                    .map(|(id, state)| format!("{id} last_sequence={}", state.last_sequence()))
                    .collect();
                producers.sort();
                producers.join("\n")
            }
            ["find", _] => {
                let log = self.log.as_ref().unwrap();
                let (time, end) = (millis(number(1)), log.log_end_offset());
                let found = log.reader().offset_for_timestamp(time, end).unwrap();
                found.map_or_else(
                    || "none".to_owned(),
                    |found| format!("{} at {}", found.offset, found.timestamp.as_millis()),
                )
            }
            _ => panic!("no such command: {command}"),
        }
    }

    /// `append [records=1] [size=40] [time=1000] [producer=N] [times=1]`: batches of so many records of so many bytes.
    fn append(&mut self, words: &[&str]) -> String {
        let named: BTreeMap<_, _> = words.iter().map(|w| w.split_once('=').unwrap()).collect();
        let number = |name: &str, default: i64| {
            let value = named.get(name);
            value.map_or(default, |value| value.parse().unwrap())
        };
        let mut told = Vec::new();
        for _ in 0..number("times", 1) {
            let records = number("records", 1);
            let timestamps: Vec<_> = (0..records).map(|i| number("time", 1000) + i).collect();
            let size = usize::try_from(number("size", 40)).unwrap();
            let batch = match named.get("producer") {
                None => batch(&timestamps, size),
                Some(id) => {
                    let id: i64 = id.parse().unwrap();
                    let next = self.sequences.entry(id).or_default();
                    let mut builder = producer_builder(id, 0, *next);
                    *next += records as i32;
                    push(&mut builder, &timestamps, size);
                    builder.build().unwrap()
                }
            };
            let leader_epoch = epoch(self.epoch);
            let appended = self
                .log()
                .append_as_leader(&batch, leader_epoch, now().timestamp)
                .unwrap();
            told.push(format!("{}", appended.base_offset));
        }
        format!("at {}", told.join(", "))
    }

    fn crash(&mut self, how: Crash) -> String {
        self.log = None;
        self.dir.crash(how);
        String::new()
    }

    /// Changes a file behind the log's back.
    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let content = self.dir.content(path(name));
        let mut content = content.unwrap_or_else(|| panic!("{name} is not there"));
        change(&mut content);
        self.dir.put(path(name), &content);
        String::new()
    }

    fn open(&mut self, clean: bool) -> String {
        let start = Start {
            clean,
            ..self.start
        };
        let (log, recovery) = open(&self.dir, &self.config, start);
        let mut told = format!(
            "[{}, {}), {} bytes checked",
            log.log_start_offset(),
            log.log_end_offset(),
            recovery.scanned_bytes
        );
        if let Some(reason) = &recovery.cut_reason {
            write!(told, "\ncut off {} bytes: {reason}", recovery.cut_bytes).unwrap();
        }
        if recovery.dropped_segments > 0 {
            write!(told, "\ndropped segments: {}", recovery.dropped_segments).unwrap();
        }
        if recovery.was_reset {
            told.push_str("\nbegun anew");
        }
        self.log = Some(log);
        told
    }

    /// The batches of each segment.
    fn show(&self) -> String {
        let log = self.log.as_ref().unwrap();
        let reader = log.reader();
        let mut segments: BTreeMap<Offset, Vec<String>> = BTreeMap::new();
        let mut damages = String::new();
        for batch in reader.batches(log.log_start_offset(), log.log_end_offset()) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    writeln!(damages, "{error}").unwrap();
                    continue;
                }
            };
            let (first, last) = (batch.header().base_offset, batch.header().last_offset());
            let place = reader.read(last, 1, log.log_end_offset(), true).unwrap();
            let segment = segments.entry(place.segment_base_offset).or_default();
            segment.push(if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            });
        }
        let lines = segments
            .iter()
            .map(|(base, batches)| format!("segment {base}: {}", batches.join(" ")));
        damages + &lines.collect::<Vec<_>>().join("\n")
    }

    /// The files with their lengths.
    fn files(&self) -> String {
        let files = self.dir.files().into_iter().map(|file| {
            let len = self.dir.content(&file).unwrap().len();
            let name = file.file_name().unwrap().to_str().unwrap();
            let short = match name.split_once('.') {
                Some((digits, rest)) if digits.len() == 20 => {
                    format!("{}.{rest}", digits.parse::<i64>().unwrap())
                }
                _ => name.to_owned(),
            };
            format!("{short} {len}")
        });
        files.collect::<Vec<_>>().join("\n")
    }
}

/// `7.index` is the offset index of the segment that begins at 7.
fn path(name: &str) -> PathBuf {
    let name = match name.split_once('.') {
        Some((base, rest)) if base.parse::<i64>().is_ok() => format!("{base:0>20}.{rest}"),
        _ => name.to_owned(),
    };
    Path::new("t-0").join(name)
}

/// What a log was told, and what it has promised.
struct Life {
    dir: FaultDir,
    config: LogConfig,
    start: Start,
    /// Whatever was ever handed to the log.
    written: Vec<(Offset, Bytes)>,
    /// What has to be there, and until which offset.
    kept: BTreeMap<Offset, Bytes>,
    log_start: Offset,
    flushed: Offset,
    /// What was flushed when the process ended.
    crashed_at: Offset,
}

impl Life {
    fn new(write_ahead_bytes_max: u32) -> Self {
        Self {
            dir: FaultDir::new(),
            config: LogConfig {
                segment_bytes: 1000,
                index_interval_bytes: 100,
                checkpoint_interval_bytes: 600,
                write_ahead_bytes_max,
                retention_ms: -1,
                ..LogConfig::default()
            },
            start: Start::NEW,
            written: Vec::new(),
            kept: BTreeMap::new(),
            log_start: Offset::ZERO,
            flushed: Offset::ZERO,
            crashed_at: Offset::ZERO,
        }
    }

    fn append(&mut self, log: &mut Log, size: usize, leader_epoch: i32) -> Result<(), LogError> {
        let leader_epoch = epoch(leader_epoch);
        let batch = batch(&[1000, 1001], size);
        let end = log.log_end_offset();
        let stored = batch.clone().with_leader_fields(end, leader_epoch);
        // A write that fails may be there all the same.
        self.written.push((end, stored.bytes().clone()));
        log.append_as_leader(&batch, leader_epoch, now().timestamp)?;
        self.kept.insert(end, stored.bytes().clone());
        Ok(())
    }

    fn flush(&mut self, log: &mut Log) -> Result<(), LogError> {
        if let Some(pending) = log.begin_flush() {
            let result = pending.run();
            self.flushed = log.flush_finished(pending, result)?;
        }
        if let Some(upkeep) = log.begin_upkeep() {
            upkeep.run();
        }
        log.check()
    }

    /// Everything that a log does to its files, once or twice.
    fn live(&mut self, log: &mut Log) -> Result<(), LogError> {
        for i in 0..8 {
            self.append(log, 150, 0)?;
            if i % 3 == 0 {
                self.flush(log)?;
            }
        }
        self.flush(log)?;
        self.start.recovery_point = log.recovery_point();
        for _ in 0..4 {
            self.append(log, 100, 1)?;
        }
        self.flush(log)?;
        // What is cut off is not promised any more, from the moment on that it is asked for.
        let (to, end) = (offset(19), offset(18));
        self.flushed = self.flushed.min(end);
        self.start.recovery_point = self.start.recovery_point.min(end);
        assert_eq!(log.truncate_to(to, now())?, end);
        self.kept.split_off(&end);
        for _ in 0..5 {
            self.append(log, 200, 2)?;
        }
        self.flush(log)?;
        self.log_start = offset(7);
        log.advance_log_start(self.log_start)?;
        let high_watermark = log.log_end_offset();
        for segment in log.delete_old_segments(now(), high_watermark)? {
            segment.remove()?;
        }
        self.start.log_start_offset = log.log_start_offset();
        self.append(log, 300, 2)?;
        self.flush(log)?;
        if let Some(rest) = log.begin_rest(log.log_end_offset()) {
            let result = rest.run();
            log.rest_finished(rest, result)?;
        }
        self.append(log, 100, 3)?;
        self.flush(log)?;
        log.close()?;
        Ok(())
    }

    /// What is promised is there, and what is there was written. From now on that is what is kept.
    fn check(&mut self, log: &Log, crash: Crash, told: &str) {
        let end = log.log_end_offset();
        assert!(
            end >= self.flushed,
            "{told}: ends at {end}, {} were flushed",
            self.flushed
        );
        let found: BTreeMap<_, _> = contents(log)
            .into_iter()
            .map(|bytes| {
                (
                    Batch::parse(bytes.clone()).unwrap().header().base_offset,
                    bytes,
                )
            })
            .collect();
        for (base, bytes) in &found {
            let was_written = self.written.contains(&(*base, bytes.clone()));
            assert!(was_written, "{told}: nobody wrote what is at {base}");
        }
        let follows = |base: Offset, next: Offset| {
            // After a power failure the end of a segment that nobody has flushed may be missing, and the next one be there.
            let may_be_hole = matches!(crash, Crash::Tear(_)) && next >= self.crashed_at;
            assert!(base == next || may_be_hole, "{told}: a hole at {next}");
        };
        let mut next = *found.first_key_value().map_or(&end, |(base, _)| base);
        for (base, bytes) in &found {
            follows(*base, next);
            next = Batch::parse(bytes.clone()).unwrap().header().next_offset();
        }
        follows(end, next);
        let from = self.log_start.max(log.log_start_offset());
        for (base, bytes) in self.kept.range(from..self.flushed.max(from)) {
            assert_eq!(found.get(base), Some(bytes), "{told}: at {base}");
        }
        self.kept = found;
    }
}

/// The n-th write, sync, or change of a name fails, and the process ends there, for every n and every way to crash.
#[test]
fn a_crash_at_every_write_boundary() {
    let crashes = [
        Crash::KeepAll,
        Crash::LoseUnsynced,
        Crash::Tear(1),
        Crash::Tear(2),
        Crash::Tear(3),
    ];
    for write_ahead_bytes_max in [0, 4096] {
        for crash in crashes {
            let mut nth = 0;
            while dies(write_ahead_bytes_max, nth, crash) {
                nth += 1;
            }
            assert!(nth > 100, "{nth} is few for such a life");
        }
    }
}

/// Whether the life came to the n-th change.
fn dies(write_ahead_bytes_max: u32, nth: usize, crash: Crash) -> bool {
    let told = format!("write ahead {write_ahead_bytes_max}, change {nth}, {crash:?}");
    let mut life = Life::new(write_ahead_bytes_max);
    let (mut log, _) = open(&life.dir, &life.config, Start::NEW);
    life.dir.fail(Op::Mutation, nth, io::ErrorKind::Other);
    let ended = life.live(&mut log);
    drop(log);
    life.dir.crash(crash);
    if ended.is_ok() {
        return false;
    }
    life.crashed_at = life.flushed;
    let (mut log, _) = open(&life.dir, &life.config, life.start);
    life.check(&log, crash, &told);
    // It is whole, and goes on.
    let end = log.log_end_offset();
    for _ in 0..3 {
        life.append(&mut log, 150, 9).unwrap();
    }
    life.flush(&mut log).unwrap();
    log.close().unwrap();
    life.dir.crash(Crash::LoseUnsynced);
    let mut damages = Vec::new();
    let depth = Depth { records: true };
    let found = verify(&life.dir, &depth, &mut |finding| {
        if finding.severity == Severity::Damage {
            damages.push(finding.to_string());
        }
    });
    found.unwrap();
    assert_eq!(damages, [""; 0], "{told}");
    let start = Start {
        clean: true,
        ..life.start
    };
    let (log, _) = open(&life.dir, &life.config, start);
    assert_eq!(log.log_end_offset(), Offset::new(end.value() + 6), "{told}");
    life.check(&log, crash, &told);
    true
}
