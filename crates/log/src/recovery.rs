use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tidelog_record::{Batch, BatchHeader};
use tidelog_types::{Offset, Timestamp, TopicId};

use crate::checkpoint;
use crate::config::LogConfig;
use crate::dir::{Access, DirEntry, read_file, remove_if_exists};
use crate::epochs::LeaderEpochs;
use crate::error::{Context, LogError};
use crate::files::Place;
use crate::flush::{Dirty, UpkeepState};
use crate::log::{LastSegment, Log, SegmentList, Shared};
use crate::names;
use crate::producers::{Producers, marker_of};
use crate::rest::{LogSummary, Rest};
use crate::retention::remove_segment_files;
use crate::scan::{HEADERS_CHUNK, Scanned, Scanner, WHOLE_CHUNK};
use crate::segment::{Segment, SegmentRecovery};
use crate::transactions::AbortedTransaction;
use crate::writer::{Active, Writer};

/// What is known about a log before it is opened, from the checkpoints of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// From `log-start-offset-checkpoint`; 0 if it has no entry.
    pub log_start_offset: Offset,
    /// From `recovery-point-offset-checkpoint`; 0 if it has no entry. What lies before it was flushed.
    pub recovery_point: Offset,
    /// Whether the directory was closed cleanly (`.kafka_cleanshutdown`).
    pub clean: bool,
    /// Which incarnation of the topic the log belongs to, for `partition.metadata` of a new log.
    pub topic_id: Option<TopicId>,
}

impl Start {
    /// A log that does not exist yet.
    pub const NEW: Self = Self {
        log_start_offset: Offset::ZERO,
        recovery_point: Offset::ZERO,
        clean: false,
        topic_id: None,
    };
}

/// What opening a log took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many bytes were checked; 0 after a clean shutdown.
    pub scanned_bytes: u64,
    /// How many bytes were cut off behind the last whole batch.
    pub cut_bytes: u64,
    /// Why, if any were.
    pub cut_reason: Option<String>,
    /// How many segments behind the damage were dropped.
    pub dropped_segments: usize,
    /// Whether the log ended before its start offset, so that everything was dropped.
    pub was_reset: bool,
}

/// The files of a partition's folder.
struct Files {
    /// Base offsets and lengths.
    segments: BTreeMap<Offset, u64>,
    snapshots: BTreeSet<Offset>,
}

pub(crate) fn open(
    place: Arc<Place>,
    config: Arc<LogConfig>,
    start: Start,
    now: Timestamp,
) -> Result<(Log, Recovery), LogError> {
    let entries = match place.dir.list(&place.path) {
        Ok(entries) => Some(tidy(&place, entries)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context("list", &place.path),
    };
    let files = Files::of(entries.as_deref().unwrap_or_default());
    let opening = Opening {
        place,
        config,
        start,
        now,
        dirty: Dirty::default(),
        snapshots: Vec::new(),
    };
    if files.segments.is_empty() {
        return Ok((opening.new_log(), Recovery::default()));
    }
    opening.existing_log(files)
}

impl Files {
    fn of(entries: &[DirEntry]) -> Self {
        let mut files = Self {
            segments: BTreeMap::new(),
            snapshots: BTreeSet::new(),
        };
        for entry in entries {
            match names::parse(&entry.name) {
                Some((base, names::LOG)) => {
                    files.segments.insert(base, entry.len);
                }
                Some((offset, names::SNAPSHOT)) => {
                    files.snapshots.insert(offset);
                }
                _ => {}
            }
        }
        files
    }
}

struct Opening {
    place: Arc<Place>,
    config: Arc<LogConfig>,
    start: Start,
    now: Timestamp,
    dirty: Dirty,
    /// Producer snapshots where the recovered segments begin.
    snapshots: Vec<(Offset, Vec<u8>)>,
}

impl Opening {
    /// A log without files.
    fn new_log(self) -> Log {
        let base = self.start.log_start_offset;
        let summary = LogSummary {
            log_start_offset: base,
            log_end_offset: base,
            last_segment: LastSegment {
                base_offset: base,
                len: None,
            },
            epochs: LeaderEpochs::default(),
            rest: Rest::new(base, self.start.topic_id, self.now),
        };
        Log::resting(self.place, self.config, summary)
    }

    fn existing_log(mut self, files: Files) -> Result<(Log, Recovery), LogError> {
        let mut recovery = Recovery::default();
        let stored_epochs = self.read_epochs();
        let mut segments = self.segments(&files)?;
        let opened = if self.start.clean {
            self.open_clean(&mut segments)?
        } else {
            false
        };
        let (mut epochs, producers) = if opened {
            let end = last(&segments).next_offset();
            let mut epochs = match stored_epochs {
                Some(epochs) => epochs,
                None => rebuild_epochs(&segments, end)?,
            };
            epochs.truncate_from_end(end);
            let snapshot = self.newest_snapshot(&files, end)?;
            let first = segments[0].base_offset();
            let mut producers = snapshot.unwrap_or_else(|| Producers::starting_at(first));
            replay(&segments, producers.end(), end, &mut producers)?;
            (epochs, producers)
        } else {
            self.recover(&mut segments, stored_epochs, &files, &mut recovery)?
        };
        let end = last(&segments).next_offset();
        let newest = self.remove_snapshots(&files, &segments, end)?;
        let log_start = self.start.log_start_offset;
        if end < log_start {
            tracing::warn!(log = %self.place.path.display(), %end, %log_start,
                "the log ends before its start offset and is begun anew there");
            recovery.was_reset = true;
            let log = self.reset(&files, &segments)?;
            return Ok((log, recovery));
        }
        let log_start = log_start.max(segments[0].base_offset());
        if epochs.truncate_from_start(log_start) {
            self.dirty.epochs = self.dirty.mark();
        }
        let active = last(&segments);
        let first = active.first_header()?;
        let active = Active {
            exists: true,
            first_timestamp: first.map_or(Timestamp::NONE, |header| header.max_timestamp),
            created: self.now,
        };
        let flushed = if opened {
            end
        } else {
            self.start.recovery_point.min(end)
        };
        self.start.log_start_offset = log_start;
        let now = self.now;
        let snapshots = std::mem::take(&mut self.snapshots);
        let mut log = self.writer(segments, epochs, producers, active, flushed);
        log.producers
            .expire(now, log.config.producer_id_expiration_ms);
        log.upkeep.last_snapshot = if opened {
            newest.unwrap_or_default()
        } else {
            Offset::ZERO
        };
        log.upkeep.middle_snapshot = newest;
        if !opened {
            log.upkeep.snapshots = snapshots;
            log.take_snapshot(end);
            // Their indexes were built anew and are in memory only.
            log.upkeep.sealed = log.dirty.segments.clone();
        }
        // A clean start makes as little as can be of each log; those that are used wake.
        let may_rest = opened && newest == Some(end) && log.is_complete();
        Ok((Log::opened(log, may_rest), recovery))
    }

    fn writer(
        self,
        segments: Vec<Arc<Segment>>,
        epochs: LeaderEpochs,
        producers: Producers,
        active: Active,
        flushed: Offset,
    ) -> Writer {
        let segments = Arc::new(segments);
        let shared = Shared {
            place: self.place.clone(),
            log_start: AtomicI64::new(self.start.log_start_offset.value()),
            log_end: AtomicI64::new(last(&segments).next_offset().value()),
            segments: RwLock::new(SegmentList::Loaded(segments.clone())),
            epochs: RwLock::new(epochs),
            fault: OnceLock::new(),
            generation: AtomicU64::new(0),
            aside: Mutex::new(()),
            was_used: AtomicBool::new(false),
        };
        Writer {
            place: self.place,
            config: self.config,
            shared: Arc::new(shared),
            segments,
            producers,
            topic_id: self.start.topic_id,
            flushed,
            active,
            dirty: self.dirty,
            upkeep: UpkeepState::default(),
        }
    }

    /// The segments as their names and lengths tell; none is opened.
    fn segments(&self, files: &Files) -> Result<Vec<Arc<Segment>>, LogError> {
        let bases: Vec<_> = files.segments.keys().copied().collect();
        let mut segments = Vec::with_capacity(bases.len());
        for (i, (base, len)) in files.segments.iter().enumerate() {
            let len = u32::try_from(*len)
                .ok()
                .filter(|len| *len <= i32::MAX as u32);
            let len = len.ok_or_else(|| LogError::Corrupt {
                path: self.place.file(&names::segment(*base)),
                position: 0,
                reason: "a segment cannot be larger than 2 GiB".to_owned(),
            })?;
            let next = bases.get(i + 1).copied().unwrap_or(Offset::new(i64::MAX));
            segments.push(Arc::new(Segment::existing(
                self.place.clone(),
                *base,
                len,
                next,
            )));
        }
        Ok(segments)
    }

    /// Looks into the last segment, which alone tells where the log ends. False if it is not as a clean shutdown leaves
    /// it; then everything from it on is recovered.
    fn open_clean(&mut self, segments: &mut Vec<Arc<Segment>>) -> Result<bool, LogError> {
        let old = last(segments);
        let (base, len) = (old.base_offset(), old.len());
        let Some(opened) = Segment::open_clean(self.place.clone(), base, len)? else {
            tracing::warn!(segment = %old.log_path().display(),
                "the last segment is not as a clean shutdown leaves it, it is recovered");
            self.start.clean = false;
            self.start.recovery_point = self.start.recovery_point.min(base);
            return Ok(false);
        };
        segments.pop();
        segments.push(Arc::new(opened));
        Ok(true)
    }

    /// `None` if the file is missing or damaged; it is rebuilt from the batches then.
    fn read_epochs(&mut self) -> Option<LeaderEpochs> {
        let path = self.place.file(names::EPOCHS);
        let bytes = read_file(&*self.place.dir, &path).ok().flatten();
        match bytes.as_deref().map(checkpoint::read_epochs) {
            Some(Ok(entries)) => return Some(LeaderEpochs::from_entries(entries)),
            Some(Err(damage)) => {
                tracing::warn!(file = %path.display(), damage, "the leader epochs are rebuilt");
            }
            None => {}
        }
        self.dirty.epochs = self.dirty.mark();
        None
    }

    /// The newest snapshot that is whole and not beyond `until`.
    fn newest_snapshot(&self, files: &Files, until: Offset) -> Result<Option<Producers>, LogError> {
        for offset in files.snapshots.range(..=until).rev() {
            if let Some(producers) = read_snapshot(&self.place, *offset)? {
                return Ok(Some(producers));
            }
        }
        Ok(None)
    }

    /// Checks every byte from the recovery point on, or from the last producer snapshot before it; cuts the log at the
    /// first batch that is not whole.
    fn recover(
        &mut self,
        segments: &mut Vec<Arc<Segment>>,
        stored_epochs: Option<LeaderEpochs>,
        files: &Files,
        recovery: &mut Recovery,
    ) -> Result<(LeaderEpochs, Producers), LogError> {
        let first = segments[0].base_offset();
        let snapshot = self.newest_snapshot(files, self.start.recovery_point)?;
        let snapshot = snapshot.filter(|producers| producers.end() >= first);
        let mut producers = snapshot.unwrap_or_else(|| Producers::starting_at(first));
        let from = producers.end();
        let i = segments
            .partition_point(|segment| segment.base_offset() <= from)
            .max(1)
            - 1;
        let mut epochs = match stored_epochs {
            Some(epochs) => epochs,
            None => rebuild_epochs(&segments[..i], from)?,
        };
        epochs.truncate_from_end(from.max(segments[i].base_offset()));
        let mut next = i;
        let mut cut = false;
        while next < segments.len() && !cut {
            let segment = segments[next].clone();
            let mut aborted = Vec::new();
            let mut on_batch = |header: &BatchHeader, bytes: &[u8]| {
                let latest = epochs.latest().map(|entry| entry.epoch);
                let epoch = header.partition_leader_epoch;
                if epoch.value() >= 0 && latest.is_none_or(|latest| epoch > latest) {
                    epochs.assign(epoch, header.base_offset);
                }
                if header.base_offset >= from {
                    aborted.extend(apply(&mut producers, header, bytes));
                }
            };
            let from = from.max(segment.base_offset());
            let found = segment.recover(from, self.config.index_interval_bytes, &mut on_batch)?;
            for aborted in aborted {
                segment.add_aborted(aborted)?;
            }
            next += 1;
            let following = segments.get(next).map(|segment| segment.base_offset());
            cut = self.is_cut(&segment, &found, following, recovery);
            if let (false, Some(following)) = (cut, following) {
                segment.seal()?;
                self.snapshots.push((following, producers.encode()));
            }
            self.dirty.segments.push(segment);
        }
        recovery.dropped_segments = segments.len() - next;
        if let Some(reason) = &recovery.cut_reason {
            let cut = &segments[next - 1];
            let dropped = &segments[next..];
            let dropped_bytes: u64 = dropped.iter().map(|s| u64::from(s.len())).sum();
            let last_dropped = dropped.last().map(|s| s.base_offset().value());
            tracing::warn!(segment = %cut.log_path().display(), position = cut.len(),
                log_end_offset = %cut.next_offset(), cut_bytes = recovery.cut_bytes,
                dropped_segments = dropped.len(), dropped_bytes, last_dropped, reason,
                "the log is cut at the first batch that is not whole");
        }
        for segment in segments.drain(next..) {
            remove_segment_files(&self.place, segment.base_offset(), "")?;
        }
        // The active segment is flushed as such; like the others it may have been cut.
        self.dirty
            .segments
            .retain(|segment| !Arc::ptr_eq(segment, last(segments)));
        self.flush_all();
        let end = last(segments).next_offset();
        epochs.truncate_from_end(end);
        Ok((epochs, producers))
    }

    /// Whether the log ends with this segment, since the rest of it is damaged or what follows does not fit.
    fn is_cut(
        &self,
        segment: &Segment,
        found: &SegmentRecovery,
        following: Option<Offset>,
        recovery: &mut Recovery,
    ) -> bool {
        recovery.scanned_bytes += found.scanned;
        recovery.cut_bytes += found.cut;
        let end = segment.next_offset();
        // Prepared space behind a closed segment is no damage, but a hole in front of the next segment is. Without such
        // space a hole may be the work of compaction, here or on the leader. A segment that begins before this one ends was
        // cut off by a truncation, of which the disk has only a part.
        let fits = |next: Offset| next == end || (next > end && !found.changed);
        if found.cut == 0 && following.is_none_or(fits) {
            return false;
        }
        let reason = found.reason.as_ref().map_or_else(
            || "the next segment does not continue this one".to_owned(),
            |reason| reason.to_string(),
        );
        recovery.cut_reason = Some(reason);
        true
    }

    /// Removes snapshots that describe what is not there, or that nobody needs: in the middle of a segment only the
    /// newest one is kept. Answers the newest.
    fn remove_snapshots(
        &self,
        files: &Files,
        segments: &[Arc<Segment>],
        end: Offset,
    ) -> Result<Option<Offset>, LogError> {
        let bound = if self.start.clean {
            end
        } else {
            self.start.recovery_point.min(end)
        };
        let newest = files.snapshots.range(..=bound).next_back();
        for offset in &files.snapshots {
            let at_base = segments
                .iter()
                .any(|segment| segment.base_offset() == *offset);
            if *offset > bound || (!at_base && Some(offset) != newest) {
                let path = self
                    .place
                    .file(&names::of_segment(*offset, names::SNAPSHOT));
                remove_if_exists(&*self.place.dir, &path).context("remove", &path)?;
            }
        }
        Ok(newest.copied())
    }

    /// Drops everything and begins anew at the log start offset.
    fn reset(mut self, files: &Files, segments: &[Arc<Segment>]) -> Result<Log, LogError> {
        for segment in segments {
            remove_segment_files(&self.place, segment.base_offset(), "")?;
        }
        for offset in &files.snapshots {
            let path = self
                .place
                .file(&names::of_segment(*offset, names::SNAPSHOT));
            remove_if_exists(&*self.place.dir, &path).context("remove", &path)?;
        }
        self.dirty = Dirty::default();
        self.flush_all();
        let base = self.start.log_start_offset;
        let segment = Arc::new(Segment::new(self.place.clone(), base));
        segment.create()?;
        let active = Active {
            exists: true,
            first_timestamp: Timestamp::NONE,
            created: self.now,
        };
        let producers = Producers::starting_at(base);
        let writer = self.writer(
            vec![segment],
            LeaderEpochs::default(),
            producers,
            active,
            base,
        );
        Ok(Log::opened(writer, false))
    }

    /// Nothing is known of what the last process has made durable, not even the name of the folder.
    const fn flush_all(&mut self) {
        let mark = self.dirty.mark();
        self.dirty.cut = mark;
        self.dirty.aborted = mark;
        self.dirty.names = mark;
        self.dirty.folder = mark;
        self.dirty.epochs = mark;
        if self.start.topic_id.is_some() {
            self.dirty.topic_id = mark;
        }
    }
}

fn last(segments: &[Arc<Segment>]) -> &Arc<Segment> {
    segments.last().expect("a log always has a segment")
}

/// Reads the snapshot at `offset`; one that is damaged is removed.
pub(crate) fn read_snapshot(place: &Place, offset: Offset) -> Result<Option<Producers>, LogError> {
    let path = place.file(&names::of_segment(offset, names::SNAPSHOT));
    let bytes = read_file(&*place.dir, &path).context("read", &path)?;
    match bytes.map(|bytes| Producers::decode(&bytes, offset)) {
        Some(Ok(producers)) => Ok(Some(producers)),
        Some(Err(reason)) => {
            tracing::warn!(file = %path.display(), reason, "a damaged producer snapshot is removed");
            remove_if_exists(&*place.dir, &path).context("remove", &path)?;
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Brings `producers` from `from` up to `until` by reading the log. The transaction indexes are right already.
pub(crate) fn replay(
    segments: &[Arc<Segment>],
    from: Offset,
    until: Offset,
    producers: &mut Producers,
) -> Result<(), LogError> {
    let first = segments
        .partition_point(|segment| segment.base_offset() <= from)
        .max(1)
        - 1;
    for segment in &segments[first..] {
        let Some(found) = segment.find(from.max(segment.base_offset()))? else {
            continue;
        };
        let file = segment.file()?;
        let (start, end) = (u64::from(found.position), u64::from(segment.len()));
        let mut scanner = Scanner::new(&*file, start, end, WHOLE_CHUNK);
        while let Scanned::Batch(_, header) =
            scanner.next_batch().context("read", &segment.log_path())?
        {
            if header.base_offset >= until {
                break;
            }
            if header.base_offset >= from {
                apply(producers, &header, scanner.bytes());
            }
        }
    }
    Ok(())
}

fn apply(
    producers: &mut Producers,
    header: &BatchHeader,
    bytes: &[u8],
) -> Option<AbortedTransaction> {
    let marker = if header.attributes.is_control() {
        let batch = Batch::parse(Bytes::copy_from_slice(bytes));
        // A marker that cannot be read ends no transaction; Kafka would not open the log.
        batch.and_then(|batch| marker_of(&batch)).ok().flatten()
    } else {
        None
    };
    producers.apply(header, marker)
}

/// Finds the leader epochs in the batches before `until`.
fn rebuild_epochs(segments: &[Arc<Segment>], until: Offset) -> Result<LeaderEpochs, LogError> {
    let mut epochs = LeaderEpochs::default();
    for segment in segments {
        let file = segment.file()?;
        let mut scanner = Scanner::new(&*file, 0, u64::from(segment.len()), WHOLE_CHUNK);
        while let Scanned::Batch(_, header) =
            scanner.next_header().context("read", &segment.log_path())?
        {
            let latest = epochs.latest().map(|entry| entry.epoch);
            let epoch = header.partition_leader_epoch;
            if header.base_offset < until
                && epoch.value() >= 0
                && latest.is_none_or(|latest| epoch > latest)
            {
                epochs.assign(epoch, header.base_offset);
            }
        }
    }
    Ok(epochs)
}

/// Finishes or undoes what a crash has interrupted: files on their way out are removed, and segments that replace
/// others (`.swap`) do so. Files of an index without its segment are removed too.
fn tidy(place: &Place, entries: Vec<DirEntry>) -> Result<Vec<DirEntry>, LogError> {
    let dir = &*place.dir;
    let mut changed = false;
    let mut remove = |name: &str| {
        changed = true;
        let path = place.file(name);
        remove_if_exists(dir, &path).context("remove", &path)
    };
    let base_of = |name: &str| names::parse(name).map(|(base, _)| base);
    let with_suffix = |suffix: &'static str| {
        entries
            .iter()
            .filter(move |e| !e.is_dir && e.name.ends_with(suffix))
            .map(|e| &e.name)
    };
    for name in with_suffix(".deleted").chain(with_suffix(".tmp")) {
        remove(name)?;
    }
    let cleaned = with_suffix(".cleaned")
        .filter_map(|name| base_of(name))
        .min();
    for name in with_suffix(".cleaned") {
        remove(name)?;
    }
    // Segments ready to replace others, unless a part of their group was not ready yet.
    let is_ready = |name: &&String| cleaned.is_none_or(|c| base_of(name).is_some_and(|b| b < c));
    let (ready, unready): (Vec<_>, Vec<_>) = with_suffix(".swap").partition(is_ready);
    for name in unready {
        remove(name)?;
    }
    for name in replaced_by(place, &ready, &entries)? {
        remove(name)?;
    }
    for name in &ready {
        changed = true;
        let path = place.file(name);
        let target = place.file(name.trim_end_matches(".swap"));
        dir.rename(&path, &target).context("rename", &path)?;
    }
    let entries = if changed {
        dir.list(&place.path).context("list", &place.path)?
    } else {
        entries
    };
    let (kept, orphans): (Vec<_>, Vec<_>) =
        entries
            .iter()
            .cloned()
            .partition(|entry| match names::parse(&entry.name) {
                Some((base, names::OFFSET_INDEX | names::TIME_INDEX | names::TXN_INDEX)) => entries
                    .iter()
                    .any(|other| names::parse(&other.name) == Some((base, names::LOG))),
                _ => true,
            });
    for orphan in &orphans {
        let path = place.file(&orphan.name);
        remove_if_exists(dir, &path).context("remove", &path)?;
    }
    Ok(kept)
}

/// The names of the files that the segments in `ready` take the place of.
fn replaced_by<'a>(
    place: &Place,
    ready: &[&String],
    entries: &'a [DirEntry],
) -> Result<Vec<&'a str>, LogError> {
    let mut replaced: Option<(Offset, Offset)> = None;
    for name in ready.iter().filter(|name| name.ends_with(".log.swap")) {
        let Some((base, _)) = names::parse(name) else {
            continue;
        };
        // The files of the same name are replaced in any case.
        let end = end_of_segment(place, name)?.unwrap_or_else(|| base.next());
        let (low, high) = replaced.unwrap_or((base, end));
        replaced = Some((low.min(base), high.max(end)));
    }
    let Some((low, high)) = replaced else {
        return Ok(Vec::new());
    };
    let is_replaced = |name: &&str| {
        let base = names::parse(name).filter(|(base, _)| (low..high).contains(base));
        base.is_some() && !name.ends_with(".swap")
    };
    Ok(entries
        .iter()
        .map(|entry| entry.name.as_str())
        .filter(is_replaced)
        .collect())
}

/// The offset behind the last batch of a segment file of any name.
fn end_of_segment(place: &Place, name: &str) -> Result<Option<Offset>, LogError> {
    let path = place.file(name);
    let file = place.dir.open(&path, Access::Read).context("open", &path)?;
    let len = file.len().context("read", &path)?;
    let mut scanner = Scanner::new(&*file, 0, len, HEADERS_CHUNK);
    let mut end = None;
    while let Scanned::Batch(_, header) = scanner.next_header().context("read", &path)? {
        end = Some(header.next_offset());
    }
    Ok(end)
}
