//! Logs that nobody uses: what is remembered of them, how they fall asleep and wake, and the summary of a whole directory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tidelog_record::crc::crc32c;
use tidelog_types::{LeaderEpoch, Offset, Timestamp, TopicId, Uuid};

use crate::config::LogConfig;
use crate::dir::FileIdentity;
use crate::epochs::{EpochEntry, LeaderEpochs};
use crate::error::{Context, LogError};
use crate::files::Place;
use crate::flush::{Dirty, PendingFlush, Upkeep, UpkeepState};
use crate::log::{LastSegment, Shared};
use crate::names;
use crate::producers::Producers;
use crate::retention::load_producers;
use crate::segment::Segment;
use crate::writer::{Active, Writer};

/// What is remembered of a log that rests, besides its offsets and epochs: what can be asked without opening a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Whether the log has files.
    pub exists: bool,
    pub topic_id: Option<TopicId>,
    /// When the active segment was begun, as far as known.
    pub created: Timestamp,
    pub first_segment: FirstSegment,
    pub segments_count: u32,
    /// Bytes of all segments.
    pub size: u64,
    pub last_segment_len: u32,
    pub first_unstable_offset: Option<Offset>,
    pub has_producers: bool,
    /// Whether a leader epoch has begun that the file does not have. Nothing was written in it.
    pub epochs_unsaved: bool,
}

/// What retention has to know of the oldest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstSegment {
    pub base_offset: Offset,
    /// The base offset of the segment behind it, if there is one.
    pub next_base_offset: Option<Offset>,
    pub len: u32,
    /// Its largest timestamp, if that is known.
    pub max_timestamp: Option<Timestamp>,
}

impl Rest {
    /// A log without files.
    pub(crate) const fn new(base: Offset, topic_id: Option<TopicId>, now: Timestamp) -> Self {
        Self {
            exists: false,
            topic_id,
            created: now,
            first_segment: FirstSegment {
                base_offset: base,
                next_base_offset: None,
                len: 0,
                max_timestamp: Some(Timestamp::NONE),
            },
            segments_count: 1,
            size: 0,
            last_segment_len: 0,
            first_unstable_offset: None,
            has_producers: false,
            epochs_unsaved: false,
        }
    }

    pub(crate) const fn last_segment_len(&self) -> u32 {
        self.last_segment_len
    }

    pub(crate) fn last_segment(&self, shared: &Shared) -> LastSegment {
        LastSegment {
            base_offset: shared.last_segment_base_offset(),
            len: self.exists.then_some(self.last_segment_len),
        }
    }

    /// Whether retention, or the log start offset, might want the oldest segment gone.
    pub(crate) fn may_lose_segments(
        &self,
        config: &LogConfig,
        now: Timestamp,
        log_start: Offset,
        log_end: Offset,
        high_watermark: Offset,
    ) -> bool {
        let first = &self.first_segment;
        let is_deletable = first.next_base_offset.unwrap_or(log_end) <= high_watermark;
        if !is_deletable || (first.next_base_offset.is_none() && first.len == 0) {
            return false;
        }
        if first.next_base_offset.is_some_and(|next| next <= log_start) {
            return true;
        }
        let excess = self.size.cast_signed() - config.retention_bytes;
        let too_large = config.retention_bytes >= 0 && excess > 0 && excess >= i64::from(first.len);
        // A timestamp that is not known, or not there, has to be looked for.
        let newest = first.max_timestamp.filter(|t| *t != Timestamp::NONE);
        let too_old = config.retention_ms >= 0
            && newest.is_none_or(|newest| now.millis_since(newest) > config.retention_ms);
        config.delete && (too_large || too_old)
    }
}

/// What the next start has to know of a log that was closed, so that it need not open its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSummary {
    pub(crate) log_start_offset: Offset,
    pub(crate) log_end_offset: Offset,
    pub(crate) last_segment: LastSegment,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) rest: Rest,
}

impl LogSummary {
    pub(crate) fn of(shared: &Shared, rest: &Rest) -> Self {
        Self {
            log_start_offset: shared.log_start(),
            log_end_offset: shared.log_end(),
            last_segment: rest.last_segment(shared),
            epochs: shared.epochs.read().clone(),
            rest: rest.clone(),
        }
    }

    /// The first offset that may be read.
    pub const fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    /// The end of the log, up to which it is durable.
    pub const fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// Which incarnation of its topic the log belongs to.
    pub const fn topic_id(&self) -> Option<TopicId> {
        self.rest.topic_id
    }

    /// Whether the log has files; one that was never appended to has none.
    pub const fn has_files(&self) -> bool {
        self.rest.exists
    }
}

/// Finds the segments of a log that rests. Nothing is opened.
pub(crate) fn load_segments(
    place: &Arc<Place>,
    last: LastSegment,
    log_end: Offset,
) -> Result<Vec<Arc<Segment>>, LogError> {
    let Some(last_len) = last.len else {
        return Ok(vec![Arc::new(Segment::new(
            place.clone(),
            last.base_offset,
        ))]);
    };
    let entries = place.dir.list(&place.path).context("list", &place.path)?;
    let mut found: Vec<_> = entries
        .iter()
        .filter_map(|entry| match names::parse(&entry.name) {
            Some((base, names::LOG)) => Some((base, entry.len)),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    if found.last() != Some(&(last.base_offset, u64::from(last_len))) {
        return Err(changed(place, last.base_offset));
    }
    let next = found.iter().skip(1).map(|(base, _)| *base);
    let ends: Vec<_> = next.chain([log_end]).collect();
    found
        .iter()
        .zip(ends)
        .map(|((base, len), end)| {
            let len = u32::try_from(*len).map_err(|_| changed(place, *base))?;
            Ok(Arc::new(Segment::existing(place.clone(), *base, len, end)))
        })
        .collect()
}

fn changed(place: &Place, base: Offset) -> LogError {
    LogError::Corrupt {
        path: place.file(&names::segment(base)),
        position: 0,
        reason: "the folder is not as it was left; somebody changed it while the log was closed"
            .to_owned(),
    }
}

/// A log on its way to rest: its files are to be completed. See [`Log::begin_rest`](crate::Log::begin_rest).
#[derive(Debug)]
#[must_use = "nothing is durable before it was run"]
pub struct PendingRest {
    shared: Arc<Shared>,
    flush: Option<PendingFlush>,
    upkeep: Option<Upkeep>,
    end: Offset,
}

impl PendingRest {
    /// Whether it was begun on that log.
    pub(crate) fn is_of(&self, log: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, log)
    }

    /// Makes the log durable, and writes its indexes and the state of its producers. Takes as long as the disk takes, so
    /// the owner's lock is not held meanwhile.
    pub fn run(&self) -> Result<(), LogError> {
        if let Some(flush) = &self.flush {
            flush.run()?;
        }
        self.upkeep.as_ref().map_or(Ok(()), Upkeep::run_whole)
    }
}

impl Writer {
    /// Brings back into memory what it takes to append.
    pub(crate) fn wake(
        shared: Arc<Shared>,
        config: Arc<LogConfig>,
        rest: &Rest,
    ) -> Result<Self, LogError> {
        let segments = shared.segments()?;
        let end = shared.log_end();
        let active = &segments[segments.len() - 1];
        if rest.exists && active.reopen()? != end {
            let error = changed(&shared.place, active.base_offset());
            shared.poison(&error);
            return Err(error);
        }
        let first = active.first_header()?;
        let active = Active {
            exists: rest.exists,
            first_timestamp: first.map_or(Timestamp::NONE, |header| header.max_timestamp),
            created: rest.created,
        };
        let producers = if rest.has_producers {
            load_producers(&shared.place, &segments, end)?.0
        } else {
            Producers::starting_at(end)
        };
        let mut dirty = Dirty::default();
        if rest.epochs_unsaved {
            dirty.epochs = dirty.mark();
        }
        Ok(Self {
            place: shared.place.clone(),
            topic_id: rest.topic_id,
            flushed: end,
            upkeep: UpkeepState::at(end),
            shared,
            config,
            segments,
            producers,
            active,
            dirty,
        })
    }

    /// Whether somebody holds on to segments, to read or to compact them.
    pub(crate) fn is_looked_at(&self) -> bool {
        let own = |segment: &Arc<Segment>| {
            let waiting = self.dirty.segments.iter().chain(&self.upkeep.sealed);
            1 + waiting.filter(|other| Arc::ptr_eq(other, segment)).count()
        };
        // One list is the writer's and one is shown to readers.
        Arc::strong_count(&self.segments) > 2
            || self.segments.iter().any(|s| Arc::strong_count(s) > own(s))
    }

    /// Collects what the files of the log lack, see [`Log::begin_rest`](crate::Log::begin_rest).
    pub(crate) fn begin_rest(&mut self) -> Result<PendingRest, LogError> {
        let end = self.log_end_offset();
        if !self.active.exists {
            return Ok(PendingRest {
                shared: self.shared.clone(),
                flush: None,
                upkeep: None,
                end,
            });
        }
        let cut = self.active().seal();
        if cut.inspect_err(|error| self.shared.poison(error))? {
            self.dirty.cut = self.dirty.mark();
        }
        self.take_snapshot(end);
        let flush = self.begin_flush();
        let upkeep = Some(self.whole_upkeep());
        Ok(PendingRest {
            shared: self.shared.clone(),
            flush,
            upkeep,
            end,
        })
    }

    /// What is left of the writer when it rests; `None` if there is more to do first.
    pub(crate) fn rest_finished(&mut self, pending: PendingRest) -> Option<Rest> {
        if let Some(flush) = pending.flush {
            self.flushed(flush);
        }
        let end = self.log_end_offset();
        let is_done = !self.active.exists || (self.flushed == end && self.is_complete());
        (end == pending.end && is_done).then(|| self.rest())
    }

    /// What is to be remembered of the log.
    pub(crate) fn rest(&self) -> Rest {
        let (first, last) = (&self.segments[0], self.active());
        Rest {
            exists: self.active.exists,
            topic_id: self.topic_id,
            created: self.active.created,
            first_segment: FirstSegment {
                base_offset: first.base_offset(),
                next_base_offset: self.segments.get(1).map(|next| next.base_offset()),
                len: first.len(),
                max_timestamp: first.known_max_timestamp(),
            },
            segments_count: self.segments.len() as u32,
            size: self.size(),
            last_segment_len: last.len(),
            first_unstable_offset: self.producers.first_ongoing(),
            has_producers: self.producers.len() > 0,
            // The file of a log that does not exist has nothing at all.
            epochs_unsaved: self.dirty.epochs > 0,
        }
    }
}

/// The summary of a directory, `docs/formats.md`: what all its logs were like when it was closed.
const MAGIC: [u8; 8] = *b"tidelog\0";
const VERSION: u16 = 1;

pub(crate) type Summaries = HashMap<String, LogSummary>;

/// Writes the summary of the logs in these folders, which is valid together with the mark of that identity.
pub(crate) fn encode<'a>(
    mark: FileIdentity,
    logs: impl IntoIterator<Item = (&'a Path, &'a LogSummary)>,
) -> Vec<u8> {
    let mut body = Vec::new();
    mark.0
        .iter()
        .for_each(|part| body.extend(part.to_be_bytes()));
    let count_at = body.len();
    body.extend([0; 4]);
    let mut count = 0_u32;
    for (path, summary) in logs {
        let Some(name) = path.to_str() else { continue };
        body.extend((name.len() as u16).to_be_bytes());
        body.extend(name.as_bytes());
        encode_log(summary, &mut body);
        count += 1;
    }
    body[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_be_bytes());
    out.extend(crc32c(&body).to_be_bytes());
    out.extend(body);
    out
}

fn encode_log(summary: &LogSummary, out: &mut Vec<u8>) {
    let LogSummary {
        log_start_offset,
        log_end_offset,
        last_segment,
        epochs,
        rest,
    } = summary;
    let flags = u8::from(rest.exists)
        | u8::from(rest.topic_id.is_some()) << 1
        | u8::from(rest.has_producers) << 2
        | u8::from(rest.epochs_unsaved) << 3
        | u8::from(rest.first_segment.max_timestamp.is_some()) << 4;
    out.push(flags);
    out.extend(rest.topic_id.unwrap_or(Uuid::ZERO).as_bytes());
    let first = &rest.first_segment;
    for offset in [
        *log_start_offset,
        *log_end_offset,
        last_segment.base_offset,
        first.base_offset,
        first.next_base_offset.unwrap_or(Offset::NONE),
        rest.first_unstable_offset.unwrap_or(Offset::NONE),
    ] {
        out.extend(offset.value().to_be_bytes());
    }
    let max = first.max_timestamp.unwrap_or(Timestamp::NONE);
    out.extend(max.as_millis().to_be_bytes());
    out.extend(rest.created.as_millis().to_be_bytes());
    out.extend(rest.size.to_be_bytes());
    for number in [first.len, rest.last_segment_len, rest.segments_count] {
        out.extend(number.to_be_bytes());
    }
    out.extend((epochs.entries().len() as u32).to_be_bytes());
    for entry in epochs.entries() {
        out.extend(entry.epoch.value().to_be_bytes());
        out.extend(entry.start_offset.value().to_be_bytes());
    }
}

/// Reads a summary. `None` if it is damaged, of another version, or belongs to another mark.
pub(crate) fn decode(bytes: &[u8], mark: FileIdentity) -> Option<Summaries> {
    let mut rest = bytes.strip_prefix(&MAGIC)?;
    let rest = &mut rest;
    if u16::from_be_bytes(take(rest)?) != VERSION || u32::from_be_bytes(take(rest)?) != crc32c(rest)
    {
        return None;
    }
    for part in mark.0 {
        if u64::from_be_bytes(take(rest)?) != part {
            return None;
        }
    }
    let count = u32::from_be_bytes(take(rest)?) as usize;
    let mut logs = Summaries::with_capacity(count.min(rest.len() / LOG_BYTES_MIN));
    for _ in 0..count {
        let len = usize::from(u16::from_be_bytes(take(rest)?));
        let (name, behind) = rest.split_at_checked(len)?;
        *rest = behind;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        logs.insert(name, decode_log(rest)?);
    }
    rest.is_empty().then_some(logs)
}

/// The least that a log takes in a summary.
const LOG_BYTES_MIN: usize = 107;

fn decode_log(rest: &mut &[u8]) -> Option<LogSummary> {
    let [flags] = take(rest)?;
    let flag = |bit: u8| flags & (1 << bit) != 0;
    let topic_id = Uuid::from_bytes(take(rest)?);
    let mut offset = || Some(Offset::new(i64::from_be_bytes(take(rest)?)));
    let (log_start_offset, log_end_offset) = (offset()?, offset()?);
    let (last_base, first_base) = (offset()?, offset()?);
    let is_some = |offset: &Offset| *offset != Offset::NONE;
    let next_base_offset = Some(offset()?).filter(is_some);
    let first_unstable_offset = Some(offset()?).filter(is_some);
    let max_timestamp = Timestamp::from_millis(i64::from_be_bytes(take(rest)?));
    let created = Timestamp::from_millis(i64::from_be_bytes(take(rest)?));
    let size = u64::from_be_bytes(take(rest)?);
    let (len, last_segment_len) = (
        u32::from_be_bytes(take(rest)?),
        u32::from_be_bytes(take(rest)?),
    );
    let segments_count = u32::from_be_bytes(take(rest)?);
    let epochs_count = u32::from_be_bytes(take(rest)?);
    let mut entries = Vec::new();
    for _ in 0..epochs_count {
        entries.push(EpochEntry {
            epoch: LeaderEpoch::new(i32::from_be_bytes(take(rest)?)),
            start_offset: Offset::new(i64::from_be_bytes(take(rest)?)),
        });
    }
    let exists = flag(0);
    Some(LogSummary {
        log_start_offset,
        log_end_offset,
        last_segment: LastSegment {
            base_offset: last_base,
            len: exists.then_some(last_segment_len),
        },
        epochs: LeaderEpochs::from_entries(entries),
        rest: Rest {
            exists,
            topic_id: flag(1).then_some(topic_id),
            created,
            first_segment: FirstSegment {
                base_offset: first_base,
                next_base_offset,
                len,
                max_timestamp: flag(4).then_some(max_timestamp),
            },
            segments_count,
            size,
            last_segment_len,
            first_unstable_offset,
            has_producers: flag(2),
            epochs_unsaved: flag(3),
        },
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}
