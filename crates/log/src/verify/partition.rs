//! The folder of one partition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tidelog_record::{AnyBatch, AnyHeader, BatchError, Limits};
use tidelog_types::{LeaderEpoch, Offset, ProducerId, TopicName};

use super::indexes::Indexes;
use super::{Checkpointed, Severity, Verifier, left_over};
use crate::directory::PartitionFolder;
use crate::epochs::EpochEntry;
use crate::error::Context;
use crate::inspect::{Content, FileKind, InspectError, StoredBatch, StoredBatches};
use crate::names;
use crate::producers::{ProducerState, Producers, marker_of};
use crate::quorum_files::{DAMAGED, LOST_LOG};

/// A walk over the log of a partition.
struct Walk {
    folder: PathBuf,
    found: Checkpointed,
    was_clean: bool,
    /// What the leader epoch checkpoint says; dropped when something is wrong with it.
    epochs: Option<Vec<EpochEntry>>,
    /// Those that were not compared yet.
    snapshots: BTreeMap<Offset, PathBuf>,
    producers: Producers,
    /// Where the first segment begins.
    start: Offset,
    /// The offset behind the last batch.
    end: Offset,
}

impl Walk {
    /// How bad it is if something that ends at `end` is wrong: what was not flushed may be torn, and is recovered.
    fn severity(&self, end: Offset) -> Severity {
        let flushed = self.found.recovery_point.unwrap_or(Offset::ZERO);
        match self.was_clean || end <= flushed {
            true => Severity::Damage,
            false => Severity::Note,
        }
    }
}

impl Verifier<'_> {
    pub(super) fn partition(
        &mut self,
        folder: &PartitionFolder,
        found: Checkpointed,
        was_clean: bool,
    ) {
        self.summary.partitions += 1;
        let path = Path::new(&folder.name);
        let mut entries = match self.dir.list(path).context("list", path) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(Severity::Damage, path, error.into()),
        };
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut names: Vec<String> = Vec::new();
        for entry in entries {
            match left_over(&entry.name) {
                Some(text) => self.note(path.join(entry.name), text),
                None => names.push(entry.name),
            }
        }
        let is_metadata = folder.partition.topic == TopicName::CLUSTER_METADATA;
        let segments = self.names(path, &names, is_metadata);
        self.optional(&path.join(names::PARTITION_METADATA), &names);
        let epochs = self.epochs(path, &names);
        let start = segments.first().copied();
        let start = start.or(found.log_start).unwrap_or(Offset::ZERO);
        let mut walk = Walk {
            folder: path.to_owned(),
            found,
            was_clean,
            epochs,
            snapshots: snapshots(path, &names),
            producers: Producers::starting_at(start),
            start,
            end: start,
        };
        for (i, base) in segments.iter().enumerate() {
            self.segment(&mut walk, *base, segments.get(i + 1).copied());
        }
        self.finish(walk);
        if is_metadata {
            self.metadata_folder(path, &names, start);
        }
    }

    /// Looks at the names in a folder; gives the base offsets of the segments.
    fn names(&mut self, path: &Path, names: &[String], is_metadata: bool) -> Vec<Offset> {
        let segments: Vec<Offset> = names
            .iter()
            .filter_map(|name| match FileKind::of(name) {
                Some(FileKind::Segment(base)) => Some(base),
                _ => None,
            })
            .collect();
        for name in names {
            if is_metadata && let Some(text) = left_of_a_loss(name) {
                self.note(path.join(name), text);
                continue;
            }
            let belongs = match FileKind::of(name) {
                Some(
                    FileKind::OffsetIndex(base)
                    | FileKind::TimeIndex(base)
                    | FileKind::TransactionIndex(base),
                ) if !segments.contains(&base) => {
                    self.note(path.join(name), "it has no segment, and will be removed");
                    true
                }
                Some(FileKind::QuorumState | FileKind::MetadataSnapshot(_)) => is_metadata,
                Some(
                    FileKind::Checkpoint(_)
                    | FileKind::MetaProperties
                    | FileKind::CleanShutdown
                    | FileKind::Bootstrap,
                )
                | None => false,
                Some(_) => true,
            };
            if !belongs {
                self.note(path.join(name), "it is no file of a partition");
            }
        }
        segments
    }

    fn epochs(&mut self, path: &Path, names: &[String]) -> Option<Vec<EpochEntry>> {
        let path = path.join(names::EPOCHS);
        let Some(Content::LeaderEpochs(epochs)) = self.optional(&path, names) else {
            return None;
        };
        let rises = |pair: &[EpochEntry]| {
            pair[0].epoch < pair[1].epoch && pair[0].start_offset <= pair[1].start_offset
        };
        if epochs.windows(2).all(rises) {
            return Some(epochs);
        }
        let text = "the epochs do not rise".to_owned();
        self.find(Severity::Damage, &path, None, text);
        None
    }

    /// Reads all batches of a segment. `following` is where the next one begins.
    fn segment(&mut self, walk: &mut Walk, base: Offset, following: Option<Offset>) {
        self.summary.segments += 1;
        let path = walk.folder.join(names::segment(base));
        let batches = match StoredBatches::open(self.dir, &path) {
            Ok(batches) => batches,
            Err(error) => return self.unreadable(Severity::Damage, &path, error.into()),
        };
        if base < walk.end {
            let text = format!(
                "it begins at offset {base}, but the segment before ends at {}",
                walk.end
            );
            let severity = walk.severity(base);
            self.find(severity, &path, None, text);
        }
        walk.end = base;
        let severity = walk.severity(following.unwrap_or(Offset::new(i64::MAX)));
        let mut indexes = Indexes::read(self, &walk.folder, base, severity);
        let mut batches = batches;
        while let Some(stored) = batches.next() {
            match stored {
                Ok(stored) => {
                    if !self.batch(walk, &path, base, &stored, &mut indexes) {
                        return;
                    }
                }
                Err(error) => {
                    self.torn(walk, &path, &batches, error, following.is_some());
                    break;
                }
            }
        }
        indexes.finish(self, walk.end, following.is_some());
    }

    /// Compares a batch with everything that tells of it. False if nothing behind it makes sense.
    fn batch(
        &mut self,
        walk: &mut Walk,
        path: &Path,
        base: Offset,
        stored: &StoredBatch,
        indexes: &mut Indexes,
    ) -> bool {
        let header = stored.batch.header();
        let first = header.base_offset().unwrap_or_else(|| header.last_offset());
        let position = Some(stored.position);
        let wrong = stored
            .checksum
            .clone()
            .and_then(|()| match &stored.batch {
                AnyBatch::V2(batch) => batch.header().check_offsets(),
                AnyBatch::Legacy(_) => Ok(()),
            })
            .and_then(|()| match self.depth.records {
                true => read_records(&stored.batch),
                false => Ok(()),
            });
        if let Err(error) = wrong {
            let text = format!("the batch of offset {first} is damaged: {error}");
            self.find(walk.severity(header.next_offset()), path, position, text);
            return false;
        }
        if first < walk.end || header.last_offset() - base > i64::from(i32::MAX) {
            let text = format!(
                "the batch has offsets {first} to {}, but {} was due",
                header.last_offset(),
                walk.end
            );
            self.find(walk.severity(header.next_offset()), path, position, text);
            return false;
        }
        self.summary.batches += 1;
        self.summary.bytes += header.size() as u64;
        self.epoch(walk, path, stored.position, &header, first);
        self.snapshots_up_to(walk, first);
        indexes.batch(self, stored.position, &header);
        if let AnyBatch::V2(batch) = &stored.batch {
            match marker_of(batch) {
                Ok(marker) => {
                    if let Some(aborted) = walk.producers.apply(batch.header(), marker) {
                        indexes.aborted(self, aborted);
                    }
                }
                Err(error) => {
                    let text = format!("the transaction marker cannot be read: {error}");
                    self.find(Severity::Damage, path, position, text);
                }
            }
        }
        walk.end = header.next_offset();
        true
    }

    /// The batches end before the file does.
    fn torn(
        &mut self,
        walk: &Walk,
        path: &Path,
        batches: &StoredBatches,
        error: InspectError,
        is_closed: bool,
    ) {
        let (at, len) = (batches.position(), batches.len());
        if batches.rest_is_zero().is_ok_and(|zero| zero) {
            let text = format!("the last {} bytes are zero, and not used", len - at);
            self.find(Severity::Note, path, Some(at), text);
            return;
        }
        let reason = match error {
            InspectError::Damaged { reason, .. } => reason,
            other => other.to_string(),
        };
        let text = format!(
            "no whole batch begins here ({reason}); offset {} and what follows, {} bytes, would be cut off",
            walk.end,
            len - at
        );
        // Before a later segment there has to be everything.
        let severity = match is_closed {
            true => Severity::Damage,
            false => walk.severity(walk.end.next()),
        };
        self.find(severity, path, Some(at), text);
    }

    fn epoch(
        &mut self,
        walk: &mut Walk,
        path: &Path,
        position: u64,
        header: &AnyHeader,
        first: Offset,
    ) {
        let epoch = header.partition_leader_epoch();
        let Some(epochs) = &walk.epochs else { return };
        if epoch == LeaderEpoch::NONE {
            return;
        }
        let after = epochs.partition_point(|entry| entry.start_offset <= first);
        // What lies before the log start is not noted any more.
        let Some(known) = after.checked_sub(1).map(|i| epochs[i].epoch) else {
            return;
        };
        if known != epoch {
            let text = format!(
                "the batch of offset {first} has leader epoch {epoch}, but the checkpoint says {known}"
            );
            self.find(walk.severity(first), path, Some(position), text);
            walk.epochs = None;
        }
    }

    /// Compares the producer snapshots at `offset` and before with the batches up to there.
    fn snapshots_up_to(&mut self, walk: &mut Walk, offset: Offset) {
        while let Some(entry) = walk.snapshots.first_entry()
            && *entry.key() <= offset
        {
            let (at, path) = entry.remove_entry();
            let Some(Content::Producers(snapshot)) = self.read(&path) else {
                continue;
            };
            if let Some(text) = compare(&snapshot, &walk.producers, walk.start, at) {
                self.find(walk.severity(at), &path, None, text);
            }
        }
    }

    /// Compares what tells of the whole log with where it ends.
    fn finish(&mut self, mut walk: Walk) {
        let end = walk.end;
        self.snapshots_up_to(&mut walk, end);
        let severity = match walk.was_clean {
            true => Severity::Damage,
            false => Severity::Note,
        };
        for path in std::mem::take(&mut walk.snapshots).into_values() {
            self.read(&path);
            let text = format!("it is for an offset beyond the end of the log, {end}");
            self.find(severity, &path, None, text);
        }
        let newest = walk.epochs.as_ref().and_then(|epochs| epochs.last());
        if let Some(newest) = newest.filter(|newest| newest.start_offset > end) {
            let text = format!(
                "epoch {} begins at offset {}, but the log ends at {end}",
                newest.epoch, newest.start_offset
            );
            self.find(severity, &walk.folder.join(names::EPOCHS), None, text);
        }
        let found = walk.found;
        for (name, offset, severity) in [
            ("recovery point", found.recovery_point, Severity::Damage),
            ("log start offset", found.log_start, Severity::Damage),
            ("high watermark", found.high_watermark, severity),
            ("cleaner offset", found.cleaned, Severity::Note),
        ] {
            if let Some(offset) = offset.filter(|offset| *offset > end) {
                let text = format!("the {name} is {offset}, but the log ends at {end}");
                self.find(severity, &walk.folder, None, text);
            }
        }
    }
}

fn snapshots(path: &Path, names: &[String]) -> BTreeMap<Offset, PathBuf> {
    let snapshots = names.iter().filter_map(|name| match FileKind::of(name) {
        Some(FileKind::ProducerSnapshot(offset)) => Some((offset, path.join(name))),
        _ => None,
    });
    snapshots.collect()
}

/// Reads every record of a batch.
fn read_records(batch: &AnyBatch) -> Result<(), BatchError> {
    let mut records = batch.walk_within(Limits::DEFAULT)?;
    while records.next_record()?.is_some() {}
    Ok(())
}

/// What a snapshot at `at` says that the log, which begins at `start`, does not. Producers that were idle for long are
/// missing in a snapshot, and those whose batches are gone in the log.
fn compare(
    snapshot: &BTreeMap<ProducerId, ProducerState>,
    log: &Producers,
    start: Offset,
    at: Offset,
) -> Option<String> {
    let written: BTreeMap<ProducerId, &ProducerState> = log.states().collect();
    for (id, state) in snapshot {
        let last = |state: &ProducerState| {
            let last = state.batches.back();
            last.map(|batch| (batch.last_offset, batch.last_sequence))
        };
        let said = last(state);
        if said.is_none_or(|(last_offset, _)| last_offset < start) {
            continue;
        }
        let said = (said, state.producer_epoch, state.current_txn_first_offset);
        let found = written.get(id).map(|state| {
            (
                last(state),
                state.producer_epoch,
                state.current_txn_first_offset,
            )
        });
        if found != Some(said) {
            return Some(format!(
                "it says of producer {id} at offset {at}: {}, but the log says {}",
                describe(Some(said)),
                describe(found)
            ));
        }
    }
    None
}

type Said = (
    Option<(Offset, i32)>,
    tidelog_types::ProducerEpoch,
    Option<Offset>,
);

fn describe(said: Option<Said>) -> String {
    let Some((last, epoch, open)) = said else {
        return "nothing".to_owned();
    };
    let mut text = format!("epoch {epoch}");
    if let Some((offset, sequence)) = last {
        text.push_str(&format!(", sequence {sequence} at offset {offset}"));
    }
    if let Some(first) = open {
        text.push_str(&format!(", transaction since offset {first}"));
    }
    text
}

/// What a node keeps that has lost a part of its metadata.
fn left_of_a_loss(name: &str) -> Option<&'static str> {
    if name == LOST_LOG {
        Some("the log lacks what this node once had, and will fetch from the leader")
    } else if name.ends_with(DAMAGED) {
        Some("a snapshot that could not be read; nobody needs it")
    } else {
        None
    }
}
