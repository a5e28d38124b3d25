//! What a log needs in memory while it is written.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_record::{Batch, BatchHeader, TimestampType};
use tidelog_types::{LeaderEpoch, Offset, Timestamp, TopicId};

use crate::config::LogConfig;
use crate::error::{Context, LogError};
use crate::files::Place;
use crate::flush::{Dirty, UpkeepState};
use crate::index::{Entry, OffsetEntry, TimeEntry};
use crate::log::{Appended, LogEnd, SegmentList, Shared};
use crate::producers::{ProducerBatch, Producers, marker_of};
use crate::reader::LogReader;
use crate::segment::Segment;

/// How much of the log is read for the earlier batches of a producer, of which a snapshot remembers the last one: this much
/// may other producers have written while five batches of this one were under way.
const LOOK_BACK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The writer of a log that is awake: the active segment with its index in memory, the producers, and what the disk lacks.
#[derive(Debug)]
pub(crate) struct Writer {
    pub place: Arc<Place>,
    pub config: Arc<LogConfig>,
    pub shared: Arc<Shared>,
    /// The list that readers see; the last one is appended to.
    pub segments: Arc<Vec<Arc<Segment>>>,
    pub producers: Producers,
    pub topic_id: Option<TopicId>,
    /// Up to where the log is durable.
    pub flushed: Offset,
    pub active: Active,
    pub dirty: Dirty,
    pub upkeep: UpkeepState,
}

/// What the writer knows about the segment that it appends to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active {
    /// Whether its file exists; the file of a new log is created by the first append.
    pub exists: bool,
    /// The largest timestamp of its first batch, [`Timestamp::NONE`] while it is empty.
    pub first_timestamp: Timestamp,
    pub created: Timestamp,
}

impl Writer {
    pub(crate) fn log_start_offset(&self) -> Offset {
        self.shared.log_start()
    }

    pub(crate) fn log_end_offset(&self) -> Offset {
        self.shared.log_end()
    }

    pub(crate) fn first_segment_base_offset(&self) -> Offset {
        self.segments[0].base_offset()
    }

    /// The end of the log with its place in the last segment.
    pub(crate) fn end(&self) -> LogEnd {
        let active = self.active();
        LogEnd {
            offset: self.log_end_offset(),
            segment_base_offset: active.base_offset(),
            position: active.len(),
        }
    }

    /// Bytes of all segments.
    pub(crate) fn size(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| u64::from(segment.len()))
            .sum()
    }

    pub(crate) fn active(&self) -> &Arc<Segment> {
        self.segments.last().expect("a log always has a segment")
    }

    // Epochs

    /// Notes that a leader of this epoch begins at the end of the log (KIP-101).
    pub(crate) fn begin_leader_epoch(&mut self, epoch: LeaderEpoch) {
        self.assign_epoch(epoch, self.log_end_offset());
    }

    fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        // Batches of KRaft's bootstrap and of old Kafka versions carry no epoch.
        if epoch < LeaderEpoch::new(0) {
            return;
        }
        if self
            .shared
            .epochs
            .read()
            .latest()
            .is_some_and(|latest| latest.epoch == epoch)
        {
            return;
        }
        if self.shared.epochs.write().assign(epoch, start_offset) {
            self.dirty.epochs = self.dirty.mark();
        }
    }

    // Appending

    /// Appends a batch as the leader of the partition: it gets the next offsets, the leader's epoch, and the time of the
    /// append if the topic wants that.
    ///
    /// Checks what depends on the log: the size, and the sequence of an idempotent or transactional producer. Everything
    /// that the batch alone can tell, the CRC first of all, is the caller's to check (`tidelog_record::validate`).
    pub(crate) fn append_as_leader(
        &mut self,
        batch: &Batch,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Appended, LogError> {
        self.shared.check()?;
        let size = batch.size();
        if size > self.config.segment_bytes as usize {
            let segment_bytes = self.config.segment_bytes;
            return Err(LogError::BatchTooLarge {
                size,
                segment_bytes,
            });
        }
        let latest = self.shared.latest_epoch().unwrap_or(LeaderEpoch::NONE);
        if leader_epoch < latest {
            return Err(LogError::OldLeaderEpoch {
                epoch: leader_epoch,
                latest,
            });
        }
        if batch.header().has_producer_id() {
            if batch.header().attributes.is_control() {
                if let Some((marker, _)) = marker_of(batch)? {
                    self.producers.check_marker(batch.header(), marker)?;
                }
            } else if let Some(earlier) = self.repeated(batch.header())? {
                return Ok(Appended {
                    base_offset: earlier.base_offset(),
                    last_offset: earlier.last_offset,
                    log_append_time: earlier.timestamp,
                    duplicate: true,
                    rolled: false,
                    log_start_offset: self.log_start_offset(),
                    end: self.end(),
                });
            }
        }
        let is_log_append_time = !batch.header().attributes.is_control()
            && self.config.message_timestamp_type == TimestampType::LogAppendTime;
        let stamped;
        let batch = if is_log_append_time {
            stamped = batch.clone().with_log_append_time(now);
            &stamped
        } else {
            batch
        };
        let base_offset = self.log_end_offset();
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: leader_epoch,
            ..*batch.header()
        };
        header.check_offsets()?;
        let rolled = self.append(&header, batch, now)?;
        Ok(Appended {
            base_offset,
            last_offset: header.last_offset(),
            log_append_time: if is_log_append_time {
                now
            } else {
                Timestamp::NONE
            },
            duplicate: false,
            rolled,
            log_start_offset: self.log_start_offset(),
            end: self.end(),
        })
    }

    /// The batch that a producer's batch repeats, if it does; an error if it may not be appended.
    fn repeated(&mut self, header: &BatchHeader) -> Result<Option<ProducerBatch>, LogError> {
        let checked = self.producers.check(header);
        if !matches!(checked, Err(LogError::OutOfOrderSequence { .. })) {
            return checked;
        }
        let Some(before) = self.producers.look_back(header) else {
            return checked;
        };
        let reader = LogReader::new(self.shared.clone());
        let from = reader.start_of_bytes_before(before, LOOK_BACK_BYTES_MAX);
        let is_earlier = |other: &BatchHeader| {
            other.producer_id == header.producer_id
                && other.producer_epoch == header.producer_epoch
                && !other.attributes.is_control()
                && other.next_offset() <= before
        };
        // What cannot be read any more is not found.
        let earlier: Vec<_> = reader
            .batches(from, before)
            .filter_map(Result::ok)
            .map(|batch| *batch.header())
            .filter(is_earlier)
            .collect();
        self.producers.recall(header.producer_id, &earlier);
        self.producers.check(header)
    }

    /// Appends a batch that a leader has written: it keeps its offsets and its epoch. Checks the CRC, and that the batch
    /// does not begin before the end of the log.
    pub(crate) fn append_as_follower(
        &mut self,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Appended, LogError> {
        self.shared.check()?;
        batch.verify_crc()?;
        let header = *batch.header();
        header.check_offsets()?;
        let log_end_offset = self.log_end_offset();
        if header.base_offset < log_end_offset {
            let base_offset = header.base_offset;
            return Err(LogError::OffsetsOverlap {
                base_offset,
                log_end_offset,
            });
        }
        let size = header.size();
        if size > i32::MAX as usize {
            return Err(LogError::BatchTooLarge {
                size,
                segment_bytes: i32::MAX as u32,
            });
        }
        let rolled = self.append(&header, batch, now)?;
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: Timestamp::NONE,
            duplicate: false,
            rolled,
            log_start_offset: self.log_start_offset(),
            end: self.end(),
        })
    }

    /// Writes a batch whose header is as it is to be stored. Answers whether a new segment was begun.
    fn append(
        &mut self,
        header: &BatchHeader,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<bool, LogError> {
        let marker = marker_of(batch)?;
        let rolled = self
            .write(header, batch, now)
            .inspect_err(|error| self.shared.poison(error))?;
        self.assign_epoch(header.partition_leader_epoch, header.base_offset);
        if let Some(aborted) = self.producers.apply(header, marker) {
            self.active()
                .add_aborted(aborted)
                .inspect_err(|error| self.shared.poison(error))?;
            self.dirty.aborted = self.dirty.mark();
            self.dirty.names = self.dirty.mark();
        }
        self.upkeep.appended += header.size() as u64;
        self.shared
            .log_end
            .store(header.next_offset().value(), Ordering::Release);
        Ok(rolled)
    }

    fn write(
        &mut self,
        header: &BatchHeader,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<bool, LogError> {
        let rolled = self.roll_if_due(header, now)?;
        if !self.active.exists {
            self.create(now)?;
        }
        if self.active().len() == 0 {
            self.active.first_timestamp = header.max_timestamp;
        }
        let fields = batch.leader_fields(header.base_offset, header.partition_leader_epoch);
        let mut parts = [
            IoSlice::new(&fields),
            IoSlice::new(batch.after_leader_fields()),
        ];
        self.active()
            .append(&mut parts, header, self.config.index_interval_bytes)?;
        Ok(rolled)
    }

    /// Makes the folder and the first file of a new log.
    fn create(&mut self, now: Timestamp) -> Result<(), LogError> {
        let place = &self.place;
        place
            .dir
            .create_dir(&place.path)
            .context("create", &place.path)?;
        self.active().create()?;
        self.active = Active {
            exists: true,
            first_timestamp: Timestamp::NONE,
            created: now,
        };
        let mark = self.dirty.mark();
        self.dirty.folder = mark;
        self.dirty.names = mark;
        if self.topic_id.is_some() {
            self.dirty.topic_id = mark;
        }
        Ok(())
    }

    fn roll_if_due(&mut self, header: &BatchHeader, now: Timestamp) -> Result<bool, LogError> {
        let active = self.active();
        let (base, len) = (active.base_offset(), active.len());
        let too_far = header.last_offset() - base > i64::from(i32::MAX);
        if len == 0 {
            // An empty segment takes a batch of any size and age, but its name must be near.
            if too_far {
                self.replace_empty(header.base_offset, now)?;
            }
            return Ok(false);
        }
        let config = &self.config;
        let bytes_max = u64::from(config.segment_bytes.min(i32::MAX as u32));
        let too_large = u64::from(len) + header.size() as u64 > bytes_max;
        // The time is that of the records, so that a log which is filled anew gets the same segments.
        let waited_ms = if self.active.first_timestamp >= Timestamp::from_millis(0) {
            header
                .max_timestamp
                .millis_since(self.active.first_timestamp)
        } else {
            now.millis_since(self.active.created)
        };
        let too_old = waited_ms > config.roll_ms() - self.jitter_ms(base);
        let index_full = active.is_index_full(
            config.index_entries_max(OffsetEntry::SIZE),
            config.index_entries_max(TimeEntry::SIZE),
        );
        if too_large || too_old || index_full || too_far {
            self.roll(header.base_offset.max(self.log_end_offset()), now)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// A number that looks random, but is the same each time for one segment.
    fn jitter_ms(&self, base: Offset) -> i64 {
        if self.config.segment_jitter_ms <= 0 {
            return 0;
        }
        let path = self.place.path.as_os_str().as_encoded_bytes();
        let bytes = path.iter().copied().chain(base.value().to_be_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash % self.config.segment_jitter_ms.cast_unsigned()) as i64
    }

    /// Closes the active segment and begins the next one.
    pub(crate) fn roll(&mut self, base_offset: Offset, now: Timestamp) -> Result<(), LogError> {
        let old = self.active().clone();
        old.seal()?;
        self.dirty.segments.push(old.clone());
        self.upkeep.sealed.push(old);
        self.take_snapshot(base_offset);
        let new = Arc::new(Segment::new(self.place.clone(), base_offset));
        new.create()?;
        self.dirty.names = self.dirty.mark();
        self.active = Active {
            exists: true,
            first_timestamp: Timestamp::NONE,
            created: now,
        };
        Arc::make_mut(&mut self.segments).push(new);
        self.publish_segments();
        Ok(())
    }

    /// Puts an empty segment of another base offset in place of the empty active one.
    fn replace_empty(&mut self, base_offset: Offset, now: Timestamp) -> Result<(), LogError> {
        let old = self.active().clone();
        let existed = self.active.exists;
        let new = Arc::new(Segment::new(self.place.clone(), base_offset));
        if existed {
            new.create()?;
        }
        let segments = Arc::make_mut(&mut self.segments);
        segments.pop();
        segments.push(new);
        self.publish_segments();
        self.active.created = now;
        if existed {
            self.dirty.names = self.dirty.mark();
            crate::retention::remove_segment_files(&self.place, old.base_offset(), "")?;
        }
        Ok(())
    }

    pub(crate) fn publish_segments(&self) {
        *self.shared.segments.write() = SegmentList::Loaded(self.segments.clone());
    }

    /// Remembers the state of the producers at `offset`, to be written by the next upkeep.
    pub(crate) fn take_snapshot(&mut self, offset: Offset) {
        if offset > self.upkeep.last_snapshot {
            self.upkeep.last_snapshot = offset;
            self.upkeep
                .snapshots
                .push((offset, self.producers.encode()));
        }
    }
}
