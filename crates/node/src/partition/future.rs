//! A copy of a partition's log that is made in another directory, and takes its place when it has everything (KIP-113).

use std::path::PathBuf;
use std::sync::Arc;

use tidelog_log::{Log, LogError, LogReader};
use tidelog_record::Batch;
use tidelog_replication::divergence::{Branch, EpochEnd, compare, truncation_offset};
use tidelog_replication::partition::Input;
use tidelog_types::{LeaderEpoch, Now, Offset, Uuid};

use super::{After, PartitionCore, last_epoch};

/// How much is read at a time of what a log has and its copy has not, when the copy takes its place.
const REST_BYTES: usize = 1 << 20;

/// The copy, which grows in a folder of its own, called `topic-partition.<id>-future`.
#[derive(Debug)]
pub struct FutureLog {
    log: Log,
}

/// How a copy goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How many bytes were copied.
    pub bytes: usize,
    /// How many offsets the copy is behind.
    pub behind: i64,
}

/// What has become of a log whose place was taken.
#[derive(Debug)]
pub struct Retired {
    /// Its folder, which can be removed when nobody reads it any more; `None` if there never was one.
    pub folder: Result<Option<PathBuf>, LogError>,
}

/// Why a copy has not taken the place of the log.
#[derive(Debug)]
pub struct NotTaken {
    /// What went wrong.
    pub error: LogError,
    /// The disk of the copy has failed; else the log could not be read.
    pub copy_has_failed: bool,
}

impl FutureLog {
    /// The copy as far as it came; an empty log to begin with.
    pub const fn new(log: Log) -> Self {
        Self { log }
    }

    /// The copy itself.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Copies what follows the end of the copy, about `max_bytes` of it. Where the logs part, since the current one was cut, the
    /// copy is cut first. The owner of the current log may go on meanwhile.
    pub fn copy(
        &mut self,
        now: Now,
        current: &LogReader,
        max_bytes: usize,
    ) -> Result<Copied, LogError> {
        let truncations = current.truncations();
        self.align(now, current)?;
        let (from, end) = (self.log.log_end_offset(), current.log_end_offset());
        let mut copied = 0;
        if from < end {
            let slice = current.read(from, max_bytes, end, true)?;
            let mut records = match slice.is_old_format() {
                true => slice.read_converted()?,
                false => slice.data.read_all().map_err(|source| LogError::Io {
                    action: "read",
                    path: self.log.path().to_owned(),
                    source: Arc::new(source),
                })?,
            };
            if current.truncations() != truncations {
                // What was read may be what came after the cut. The next call finds out.
                return Ok(self.state(0, current));
            }
            while let Some(batch) = Batch::split_from(&mut records)? {
                copied += batch.bytes().len();
                self.append(now, &batch)?;
            }
        }
        let start = current.log_start_offset();
        if start <= self.log.log_end_offset() {
            self.log.advance_log_start(start)?;
        }
        Ok(self.state(copied, current))
    }

    fn state(&self, bytes: usize, current: &LogReader) -> Copied {
        let behind = current.log_end_offset().value() - self.log.log_end_offset().value();
        Copied { bytes, behind }
    }

    /// Cuts the copy to what it has in common with the current log.
    fn align(&mut self, now: Now, current: &LogReader) -> Result<(), LogError> {
        loop {
            let end = self.log.log_end_offset();
            let last = last_epoch(&self.log);
            let theirs = epoch_end(current.end_offset_for_epoch(last));
            match compare(last, end, theirs) {
                Branch::Same => break,
                Branch::Diverging(theirs) => {
                    let own = epoch_end(self.log.end_offset_for(theirs.epoch));
                    let cut = truncation_offset(theirs, own, end);
                    self.log.truncate_to(cut, now)?;
                }
                Branch::Unknown => self.begin_anew(now, current)?,
            }
        }
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        let has_gap = end < current.log_start_offset() || start > current.log_start_offset();
        if has_gap || end > current.log_end_offset() {
            self.begin_anew(now, current)?;
        }
        Ok(())
    }

    fn begin_anew(&mut self, now: Now, current: &LogReader) -> Result<(), LogError> {
        let start = current.log_start_offset();
        self.log.truncate_fully_and_start_at(start, now)
    }

    fn append(&mut self, now: Now, batch: &Batch) -> Result<(), LogError> {
        let (header, end) = (batch.header(), self.log.log_end_offset());
        let is_empty = self.log.log_start_offset() == end;
        if is_empty && header.base_offset < end && header.last_offset() >= end {
            // The current log begins in the middle of this batch.
            self.log
                .truncate_fully_and_start_at(header.base_offset, now)?;
        }
        self.log.append_as_follower(batch, now.timestamp)?;
        Ok(())
    }
}

impl<W> PartitionCore<W> {
    /// Has a copy take the place of the log, after copying the rest: its folder gets the log's name, and then the log's folder
    /// one that says that it is deleted, with `unique` in it. A crash in between leaves two folders, each with everything.
    ///
    /// The copy is flushed first, so that this call takes as long as a disk takes: it is made once in the life of a copy that
    /// has almost everything. An error leaves the partition as it was.
    pub fn take_future(
        &mut self,
        now: Now,
        mut future: FutureLog,
        unique: Uuid,
        after: &mut After<W>,
    ) -> Result<Retired, NotTaken> {
        let current = self.log.reader();
        loop {
            let copied = future.copy(now, &current, REST_BYTES);
            let copied = copied.map_err(|error| NotTaken {
                error,
                copy_has_failed: future.log.disk_has_failed(),
            })?;
            if copied.behind == 0 {
                break;
            }
            if copied.bytes == 0 {
                let error = LogError::Corrupt {
                    path: self.log.path().to_owned(),
                    position: 0,
                    reason: format!("nothing can be read of the last {} offsets", copied.behind),
                };
                return Err(NotTaken {
                    error,
                    copy_has_failed: false,
                });
            }
        }
        let renamed = future.log.renamed(self.log.path());
        let mut log = renamed.map_err(|error| NotTaken {
            error,
            copy_has_failed: true,
        })?;
        log.succeed(&self.log);
        let mut retired = std::mem::replace(&mut self.log, log);
        let end = self.log.recovery_point();
        self.step(now, Input::Flushed { end }, after);
        Ok(Retired {
            folder: retired.delete(unique),
        })
    }
}

const fn epoch_end((epoch, end_offset): (LeaderEpoch, Offset)) -> EpochEnd {
    EpochEnd { epoch, end_offset }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tidelog_log::testing::FaultDir;
    use tidelog_log::{LogConfig, Start};
    use tidelog_record::{BatchBuilder, Compression};
    use tidelog_types::Timestamp;

    use super::*;

    fn now() -> Now {
        Now {
            instant: Instant::now(),
            timestamp: Timestamp::from_millis(1_700_000_000_000),
        }
    }

    fn log(dir: &FaultDir, folder: &str) -> Log {
        let config = LogConfig {
            segment_bytes: 300,
            ..LogConfig::default()
        };
        let opened = Log::open(Arc::new(dir.clone()), folder, config, Start::NEW, now());
        opened.unwrap().0
    }

    fn append(log: &mut Log, epoch: i32, count: usize) {
        log.begin_leader_epoch(LeaderEpoch::new(epoch));
        for _ in 0..count {
            let mut batch = BatchBuilder::new(Compression::NONE);
            let value = format!("{} of epoch {epoch}", log.log_end_offset());
            batch.push(now().timestamp, None, Some(value.as_bytes()), &[]);
            let epoch = LeaderEpoch::new(epoch);
            log.append_as_leader(&batch.build().unwrap(), epoch, now().timestamp)
                .unwrap();
        }
    }

    fn content(log: &Log) -> Vec<(Offset, Vec<u8>)> {
        let reader = log.reader();
        let batches = reader.batches(log.log_start_offset(), log.log_end_offset());
        batches
            .map(|batch| {
                let batch = batch.unwrap();
                (batch.header().base_offset, batch.bytes().to_vec())
            })
            .collect()
    }

    /// Copies in small pieces until everything is there.
    fn catch_up(future: &mut FutureLog, current: &Log) {
        for _ in 0..1000 {
            if future.copy(now(), &current.reader(), 150).unwrap().behind == 0 {
                assert_eq!(content(&future.log), content(current));
                assert_eq!(future.log.log_start_offset(), current.log_start_offset());
                return;
            }
        }
        panic!("it does not get on");
    }

    #[test]
    fn a_copy_follows_whatever_becomes_of_the_log() {
        let (here, there) = (FaultDir::new(), FaultDir::new());
        let mut current = log(&here, "t-0");
        let mut future = FutureLog::new(log(&there, "t-0.1-future"));
        catch_up(&mut future, &current);
        append(&mut current, 1, 20);
        catch_up(&mut future, &current);
        append(&mut current, 2, 5);
        catch_up(&mut future, &current);
        // Another leader had less, and went on differently, to beyond where the copy ends.
        current.truncate_to(Offset::new(12), now()).unwrap();
        append(&mut current, 3, 30);
        catch_up(&mut future, &current);
        // And less than the copy has.
        current.truncate_to(Offset::new(7), now()).unwrap();
        catch_up(&mut future, &current);
        append(&mut current, 4, 3);
        current.advance_log_start(Offset::new(8)).unwrap();
        catch_up(&mut future, &current);
        // All that the copy has is gone.
        let anew = Offset::new(100);
        current.truncate_fully_and_start_at(anew, now()).unwrap();
        append(&mut current, 5, 3);
        catch_up(&mut future, &current);
        assert_eq!(future.log.log_start_offset(), anew);
    }

    #[test]
    fn a_copy_whose_beginning_is_lost_begins_anew() {
        let (here, there) = (FaultDir::new(), FaultDir::new());
        let mut current = log(&here, "t-0");
        append(&mut current, 1, 20);
        let mut future = FutureLog::new(log(&there, "t-0.1-future"));
        catch_up(&mut future, &current);
        future.log.advance_log_start(Offset::new(9)).unwrap();
        catch_up(&mut future, &current);
    }
}
