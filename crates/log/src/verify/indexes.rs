//! The indexes of a segment against its batches.

use std::path::{Path, PathBuf};

use tidelog_record::AnyHeader;
use tidelog_types::{Offset, Timestamp};

use super::{Severity, Verifier, is_absent};
use crate::inspect::{Content, Index, OffsetIndexEntry, TimeIndexEntry, read};
use crate::names;
use crate::transactions::AbortedTransaction;

/// The indexes of one segment, and how far its batches have confirmed them.
pub(super) struct Indexes {
    offsets: Checked<OffsetIndexEntry>,
    times: Checked<TimeIndexEntry>,
    aborted: Checked<AbortedTransaction>,
    /// The largest timestamp so far.
    max_timestamp: Timestamp,
    /// How bad it is if they are wrong.
    severity: Severity,
}

struct Checked<E> {
    path: PathBuf,
    /// `None` if there is no such file, or it cannot be read.
    entries: Option<Vec<E>>,
    next: usize,
    /// Whether something was wrong already; one finding for a file is enough.
    is_wrong: bool,
}

impl<E: Copy> Checked<E> {
    fn peek(&self) -> Option<E> {
        match self.is_wrong {
            true => None,
            false => self.entries.as_ref()?.get(self.next).copied(),
        }
    }
}

impl Indexes {
    /// Reads the indexes of a segment.
    pub(super) fn read(
        verifier: &mut Verifier<'_>,
        folder: &Path,
        base: Offset,
        severity: Severity,
    ) -> Self {
        let mut indexes = Self {
            offsets: Checked::at(folder.join(names::of_segment(base, names::OFFSET_INDEX))),
            times: Checked::at(folder.join(names::of_segment(base, names::TIME_INDEX))),
            aborted: Checked::at(folder.join(names::of_segment(base, names::TXN_INDEX))),
            max_timestamp: Timestamp::NONE,
            severity,
        };
        let rises = |a: &OffsetIndexEntry, b: &OffsetIndexEntry| {
            a.last_offset < b.last_offset && a.position < b.position
        };
        let content = indexes.offsets.open(verifier, severity, true);
        if let Some(Content::OffsetIndex(index)) = content {
            indexes.offsets.take(verifier, severity, index, rises);
        }
        let rises = |a: &TimeIndexEntry, b: &TimeIndexEntry| {
            a.timestamp < b.timestamp && a.last_offset <= b.last_offset
        };
        let content = indexes.times.open(verifier, severity, true);
        if let Some(Content::TimeIndex(index)) = content {
            indexes.times.take(verifier, severity, index, rises);
        }
        let rises = |a: &AbortedTransaction, b: &AbortedTransaction| a.last_offset < b.last_offset;
        let content = indexes.aborted.open(verifier, severity, false);
        if let Some(Content::TransactionIndex(index)) = content {
            indexes.aborted.take(verifier, severity, index, rises);
        }
        indexes
    }

    /// Compares the entries for a batch with it.
    pub(super) fn batch(&mut self, verifier: &mut Verifier<'_>, position: u64, header: &AnyHeader) {
        let last = header.last_offset();
        while let Some(entry) = self.offsets.peek()
            && u64::from(entry.position) <= position
        {
            // Before Kafka 0.11 the entry had the first offset, which of a wrapper is not known.
            let is_right = u64::from(entry.position) == position
                && (entry.last_offset == last || (header.magic() < 2 && entry.last_offset < last));
            if !is_right {
                let text = format!(
                    "the entry {} has offset {} at position {}, but the batch at {position} ends with offset {last}",
                    self.offsets.next, entry.last_offset, entry.position
                );
                self.offsets.wrong(verifier, self.severity, text);
            }
            self.offsets.next += 1;
        }
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp());
        while let Some(entry) = self.times.peek()
            && entry.last_offset <= last
        {
            if entry.timestamp != self.max_timestamp {
                let text = format!(
                    "the entry {} has timestamp {} for offset {}, but the largest up to there is {}",
                    self.times.next,
                    entry.timestamp.as_millis(),
                    entry.last_offset,
                    self.max_timestamp.as_millis()
                );
                self.times.wrong(verifier, self.severity, text);
            }
            self.times.next += 1;
        }
    }

    /// Compares the next entry with an aborted transaction whose marker was found.
    pub(super) fn aborted(&mut self, verifier: &mut Verifier<'_>, found: AbortedTransaction) {
        while let Some(entry) = self.aborted.peek()
            && entry.last_offset < found.last_offset
        {
            // Compaction may have removed the marker of an entry, and the records with it.
            self.aborted.next += 1;
        }
        let entry = self.aborted.peek();
        // Where the transaction begins may have been compacted away.
        if entry.is_some_and(|entry| {
            (entry.producer_id, entry.last_offset) == (found.producer_id, found.last_offset)
        }) {
            self.aborted.next += 1;
        } else {
            let text = format!(
                "the transaction of producer {} that was aborted at offset {} is not in it",
                found.producer_id, found.last_offset
            );
            self.aborted.wrong(verifier, self.severity, text);
        }
    }

    /// Looks at what is left when the batches have ended, at `end`.
    pub(super) fn finish(mut self, verifier: &mut Verifier<'_>, end: Offset, is_closed: bool) {
        let severity = self.severity;
        if let Some(entry) = self.offsets.peek() {
            let text = format!(
                "the entry {} points to position {}, where no batch begins",
                self.offsets.next, entry.position
            );
            self.offsets.wrong(verifier, severity, text);
        }
        if let Some(entry) = self.times.peek() {
            let text = format!(
                "the entry {} is for offset {}, but the segment ends at {end}",
                self.times.next, entry.last_offset
            );
            self.times.wrong(verifier, severity, text);
        }
        if let Some(entry) = self.aborted.peek()
            && entry.last_offset >= end
        {
            let text = format!(
                "the entry {} is for offset {}, but the segment ends at {end}",
                self.aborted.next, entry.last_offset
            );
            self.aborted.wrong(verifier, severity, text);
        }
        let last = self.times.entries.as_ref().map(|entries| {
            entries
                .last()
                .map_or(Timestamp::NONE, |entry| entry.timestamp)
        });
        if is_closed && last.is_some_and(|last| last < self.max_timestamp) {
            let text = "it ends before the largest timestamp of its segment, and will be rebuilt";
            self.times.wrong(verifier, Severity::Note, text.to_owned());
        }
    }
}

impl<E> Checked<E> {
    const fn at(path: PathBuf) -> Self {
        Self {
            path,
            entries: None,
            next: 0,
            is_wrong: false,
        }
    }

    fn open(
        &self,
        verifier: &mut Verifier<'_>,
        severity: Severity,
        is_needed: bool,
    ) -> Option<Content> {
        match read(verifier.dir, &self.path) {
            Ok(content) => Some(content),
            Err(error) if is_absent(&error) => {
                if is_needed {
                    verifier.note(&self.path, "it is missing, and will be rebuilt");
                }
                None
            }
            Err(error) => {
                verifier.unreadable(severity, &self.path, error);
                None
            }
        }
    }

    /// Takes over the entries, which must rise.
    fn take(
        &mut self,
        verifier: &mut Verifier<'_>,
        severity: Severity,
        index: Index<E>,
        rises: impl Fn(&E, &E) -> bool,
    ) {
        if index.stray_bytes > 0 {
            let text = format!("it ends with {} bytes of an entry", index.stray_bytes);
            self.wrong(verifier, severity, text);
        }
        let mut pairs = index.entries.windows(2);
        if let Some(i) = pairs.position(|pair| !rises(&pair[0], &pair[1])) {
            let text = format!("the entry {} does not rise above the one before", i + 1);
            self.wrong(verifier, severity, text);
        }
        self.entries = Some(index.entries);
    }

    fn wrong(&mut self, verifier: &mut Verifier<'_>, severity: Severity, text: String) {
        if !self.is_wrong {
            verifier.find(severity, &self.path, None, text);
        }
        self.is_wrong = true;
    }
}
