//! What the files of a log directory say, one by one: for tools.
//!
//! Nothing is changed, locked or repaired, and what is damaged is told instead of cut. The files may be those of a running
//! broker, or of Apache Kafka. Whether they go together is for [`verify`](crate::verify) to say.
//!
//! ```
//! use std::path::Path;
//!
//! use tidelog_log::inspect::{Content, read};
//! use tidelog_log::testing::FaultDir;
//!
//! let dir = FaultDir::new(); // or FsDir::new("/var/lib/kafka")
//! dir.put("orders-0/leader-epoch-checkpoint", b"0\n2\n0 0\n3 40\n");
//! let content = read(&dir, Path::new("orders-0/leader-epoch-checkpoint"))?;
//! assert!(matches!(content, Content::LeaderEpochs(epochs) if epochs[1].start_offset.value() == 40));
//! # Ok::<(), tidelog_log::inspect::InspectError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidelog_record::{AnyBatch, AnyHeader, BatchError};
use tidelog_types::{Offset, ProducerId, Timestamp, TopicId, TopicPartition};

use crate::checkpoint;
use crate::dir::{Access, Dir, File, read_file};
use crate::directory::{Checkpoint, broker_epoch_in};
use crate::epochs::EpochEntry;
use crate::error::{Context, LogError};
use crate::index::{Entry, OffsetEntry, TimeEntry};
use crate::meta_properties::MetaProperties;
use crate::names;
use crate::producers::{ProducerState, Producers};
use crate::quorum_files::{QuorumState, SnapshotId};
use crate::scan::WHOLE_CHUNK;
use crate::transactions::AbortedTransaction;

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// `.log`: batches from this offset on.
    Segment(Offset),
    /// `.index` of the segment with this base offset.
    OffsetIndex(Offset),
    /// `.timeindex` of the segment with this base offset.
    TimeIndex(Offset),
    /// `.txnindex` of the segment with this base offset.
    TransactionIndex(Offset),
    /// `.snapshot`: the producers at this offset.
    ProducerSnapshot(Offset),
    /// `leader-epoch-checkpoint`.
    LeaderEpochs,
    /// `partition.metadata`.
    PartitionMetadata,
    /// One of the files with an offset for each partition.
    Checkpoint(Checkpoint),
    /// `meta.properties`.
    MetaProperties,
    /// `quorum-state`.
    QuorumState,
    /// `.kafka_cleanshutdown`.
    CleanShutdown,
    /// `.checkpoint` with offset and epoch: a snapshot of the metadata.
    MetadataSnapshot(SnapshotId),
    /// `bootstrap.checkpoint`.
    Bootstrap,
}

/// What is appended to the name of a file that was, or will be, one of a log.
const SUFFIXES: [&str; 4] = [".deleted", ".cleaned", ".swap", ".tmp"];

impl FileKind {
    /// What a file of this name is, also if it is on its way out or in (`.deleted`, `.cleaned`, `.swap`, `.tmp`).
    pub fn of(name: &str) -> Option<Self> {
        let (name, _) = split_suffix(name);
        if let Some((offset, kind)) = names::parse(name) {
            return Some(match kind {
                names::LOG => Self::Segment(offset),
                names::OFFSET_INDEX => Self::OffsetIndex(offset),
                names::TIME_INDEX => Self::TimeIndex(offset),
                names::TXN_INDEX => Self::TransactionIndex(offset),
                names::SNAPSHOT => Self::ProducerSnapshot(offset),
                _ => return None,
            });
        }
        if let Some(checkpoint) = Checkpoint::ALL.iter().find(|c| c.file_name() == name) {
            return Some(Self::Checkpoint(*checkpoint));
        }
        match name {
            names::EPOCHS => Some(Self::LeaderEpochs),
            names::PARTITION_METADATA => Some(Self::PartitionMetadata),
            "meta.properties" => Some(Self::MetaProperties),
            "quorum-state" => Some(Self::QuorumState),
            ".kafka_cleanshutdown" => Some(Self::CleanShutdown),
            "bootstrap.checkpoint" => Some(Self::Bootstrap),
            name => SnapshotId::parse(name).map(Self::MetadataSnapshot),
        }
    }
}

/// A name, and the suffix that says that the file is on its way out or in.
pub(crate) fn split_suffix(name: &str) -> (&str, Option<&'static str>) {
    for suffix in SUFFIXES {
        if let Some(rest) = name.strip_suffix(suffix) {
            return (rest, Some(suffix));
        }
    }
    (name, None)
}

/// What a file says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content {
    /// Of a segment, a metadata snapshot, or `bootstrap.checkpoint`.
    Batches(StoredBatches),
    /// Of an `.index`.
    OffsetIndex(Index<OffsetIndexEntry>),
    /// Of a `.timeindex`.
    TimeIndex(Index<TimeIndexEntry>),
    /// Of a `.txnindex`.
    TransactionIndex(Index<AbortedTransaction>),
    /// Of a `.snapshot`, by producer.
    Producers(BTreeMap<ProducerId, ProducerState>),
    /// Of `leader-epoch-checkpoint`, as they stand there.
    LeaderEpochs(Vec<EpochEntry>),
    /// Of `partition.metadata`.
    PartitionMetadata(TopicId),
    /// Of a file with an offset for each partition.
    Offsets(BTreeMap<TopicPartition, Offset>),
    /// Of `meta.properties`.
    MetaProperties(MetaProperties),
    /// Of `quorum-state`.
    QuorumState(QuorumState),
    /// Of `.kafka_cleanshutdown`.
    CleanShutdown {
        /// The epoch with which the broker was registered, -1 if the file does not say.
        broker_epoch: i64,
    },
}

/// The entries of an index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index<E> {
    /// The entries, as they stand there.
    pub entries: Vec<E>,
    /// How many entries of zeros follow: space that was set aside and not used.
    pub unused_entries: usize,
    /// How many bytes follow that are no whole entry; 0 unless the file is damaged.
    pub stray_bytes: usize,
}

/// A batch and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetIndexEntry {
    /// The last offset of the batch.
    pub last_offset: Offset,
    /// Bytes from the beginning of the segment.
    pub position: u32,
}

/// The largest timestamp of a segment up to some point, and the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeIndexEntry {
    /// The timestamp.
    pub timestamp: Timestamp,
    /// The last offset of the batch.
    pub last_offset: Offset,
}

/// Why a file does not say anything.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The name is none that a log directory has.
    #[error("{} is not a file of a log directory", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// The content is not what it should be.
    #[error("{} is damaged{}: {reason}", path.display(), At(*position))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From which byte on, if it can be said.
        position: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Log(#[from] LogError),
}

struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |position| write!(f, " at position {position}"))
    }
}

/// Reads a file, of batches only the first piece. What it is stands in its name.
pub fn read(dir: &dyn Dir, path: &Path) -> Result<Content, InspectError> {
    let unknown = || InspectError::Unknown {
        path: path.to_owned(),
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let kind = name.and_then(FileKind::of).ok_or_else(unknown)?;
    if matches!(
        kind,
        FileKind::Segment(_) | FileKind::MetadataSnapshot(_) | FileKind::Bootstrap
    ) {
        return Ok(Content::Batches(StoredBatches::open(dir, path)?));
    }
    let bytes = read_file(dir, path).context("read", path)?;
    let bytes = bytes.ok_or_else(|| std::io::ErrorKind::NotFound.into());
    let bytes = bytes.context("open", path)?;
    parse(kind, &bytes).map_err(|reason| InspectError::Damaged {
        path: path.to_owned(),
        position: None,
        reason,
    })
}

/// Reads the content of a small file.
fn parse(kind: FileKind, bytes: &[u8]) -> Result<Content, String> {
    Ok(match kind {
        FileKind::OffsetIndex(base) => {
            let entry = |bytes: &[u8; OffsetEntry::SIZE]| {
                let entry = OffsetEntry::decode(bytes);
                OffsetIndexEntry {
                    last_offset: base + i64::from(entry.offset),
                    position: entry.position,
                }
            };
            Content::OffsetIndex(Index::parse(bytes, entry))
        }
        FileKind::TimeIndex(base) => {
            let entry = |bytes: &[u8; TimeEntry::SIZE]| {
                let entry = TimeEntry::decode(bytes);
                TimeIndexEntry {
                    timestamp: Timestamp::from_millis(entry.timestamp),
                    last_offset: base + i64::from(entry.offset),
                }
            };
            Content::TimeIndex(Index::parse(bytes, entry))
        }
        FileKind::TransactionIndex(_) => {
            Content::TransactionIndex(Index::parse(bytes, AbortedTransaction::decode))
        }
        FileKind::ProducerSnapshot(offset) => {
            let producers = Producers::decode(bytes, offset)?;
            let states = producers.states().map(|(id, state)| (id, state.clone()));
            Content::Producers(states.collect())
        }
        FileKind::LeaderEpochs => Content::LeaderEpochs(checkpoint::read_epochs(bytes)?),
        FileKind::PartitionMetadata => {
            Content::PartitionMetadata(checkpoint::read_partition_metadata(bytes)?)
        }
        FileKind::Checkpoint(_) => Content::Offsets(checkpoint::read_offsets(bytes)?),
        FileKind::MetaProperties => Content::MetaProperties(MetaProperties::parse(bytes)?),
        FileKind::QuorumState => {
            Content::QuorumState(QuorumState::parse(&String::from_utf8_lossy(bytes))?)
        }
        FileKind::CleanShutdown => Content::CleanShutdown {
            broker_epoch: broker_epoch_in(bytes),
        },
        FileKind::Segment(_) | FileKind::MetadataSnapshot(_) | FileKind::Bootstrap => {
            return Err("it holds batches".to_owned());
        }
    })
}

impl<E> Index<E> {
    /// Takes the file apart into entries.
    fn parse<const N: usize>(bytes: &[u8], entry: impl Fn(&[u8; N]) -> E) -> Self {
        let (chunks, rest) = bytes.as_chunks();
        let is_unused = |chunk: &&[u8; N]| **chunk == [0; N];
        let unused_entries = chunks.iter().rev().take_while(is_unused).count();
        let used = &chunks[..chunks.len() - unused_entries];
        Self {
            entries: used.iter().map(entry).collect(),
            unused_entries,
            stray_bytes: rest.len(),
        }
    }
}

/// The batches of a file, one after another; ends behind the first one that is damaged.
#[derive(Debug)]
pub struct StoredBatches {
    file: Arc<dyn File>,
    path: PathBuf,
    /// Where the next batch begins, which is where the buffer does.
    position: u64,
    len: u64,
    buffer: Bytes,
    ended: bool,
}

/// A batch, as it was found in a file.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Where it begins.
    pub position: u64,
    /// The batch.
    pub batch: AnyBatch,
    /// Whether its checksum is right.
    pub checksum: Result<(), BatchError>,
}

impl StoredBatches {
    pub(crate) fn open(dir: &dyn Dir, path: &Path) -> Result<Self, LogError> {
        let file = dir.open(path, Access::Read).context("open", path)?;
        let len = file.len().context("read", path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            position: 0,
            len,
            buffer: Bytes::new(),
            ended: false,
        })
    }

    /// Bytes of the file.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the next batch begins, or what is damaged does.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Whether all bytes from the position on are zero: space that was prepared and not used.
    pub fn rest_is_zero(&self) -> Result<bool, InspectError> {
        let mut chunk = vec![0; WHOLE_CHUNK];
        let mut at = self.position;
        while at < self.len {
            let n = (self.len - at).min(WHOLE_CHUNK as u64) as usize;
            let chunk = &mut chunk[..n];
            self.file
                .read_exact_at(chunk, at)
                .context("read", &self.path)?;
            if chunk.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    fn advance(&mut self) -> Result<Option<StoredBatch>, InspectError> {
        if self.position == self.len {
            return Ok(None);
        }
        let left = self.len - self.position;
        let header_len = (AnyHeader::LEN_MAX as u64).min(left) as usize;
        self.fill(header_len)?;
        let header = AnyHeader::decode(&self.buffer).map_err(|error| self.damaged(&error))?;
        if header.size() as u64 > left {
            let available = usize::try_from(left).unwrap_or(usize::MAX);
            let needed = header.size();
            return Err(self.damaged(&BatchError::Truncated { needed, available }));
        }
        self.fill(header.size())?;
        let split = AnyBatch::split_from(&mut self.buffer).map_err(|error| self.damaged(&error))?;
        let Some(batch) = split else {
            return Err(self.damaged(&"no batch begins here"));
        };
        let position = self.position;
        self.position += header.size() as u64;
        let checksum = batch.verify_crc();
        Ok(Some(StoredBatch {
            position,
            batch,
            checksum,
        }))
    }

    /// Sees to it that `needed` bytes are in the buffer; the file has them.
    fn fill(&mut self, needed: usize) -> Result<(), InspectError> {
        if self.buffer.len() < needed {
            let left = self.len - self.position;
            let mut bytes = BytesMut::zeroed(needed.max(left.min(WHOLE_CHUNK as u64) as usize));
            self.file
                .read_exact_at(&mut bytes, self.position)
                .context("read", &self.path)?;
            self.buffer = bytes.freeze();
        }
        Ok(())
    }

    fn damaged(&self, reason: &dyn fmt::Display) -> InspectError {
        InspectError::Damaged {
            path: self.path.clone(),
            position: Some(self.position),
            reason: reason.to_string(),
        }
    }
}

impl Iterator for StoredBatches {
    type Item = Result<StoredBatch, InspectError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        let kind = FileKind::of;
        let base = Offset::new(7);
        assert_eq!(
            kind("00000000000000000007.log"),
            Some(FileKind::Segment(base))
        );
        assert_eq!(
            kind("00000000000000000007.timeindex.deleted"),
            Some(FileKind::TimeIndex(base))
        );
        let snapshot = SnapshotId {
            end_offset: base,
            epoch: 2,
        };
        assert_eq!(
            kind(&snapshot.file_name()),
            Some(FileKind::MetadataSnapshot(snapshot))
        );
        assert_eq!(kind("bootstrap.checkpoint"), Some(FileKind::Bootstrap));
        assert_eq!(
            kind("cleaner-offset-checkpoint"),
            Some(FileKind::Checkpoint(Checkpoint::Cleaner))
        );
        for name in ["", ".lock", "7.log", "00000000000000000007.txt", "notes"] {
            assert_eq!(kind(name), None, "{name}");
        }
    }

    #[test]
    fn what_follows_the_entries_of_an_index_is_counted() {
        let mut bytes = [0, 0, 0, 3, 0, 0, 0, 100].to_vec();
        bytes.extend_from_slice(&[0; 17]);
        let content = parse(FileKind::OffsetIndex(Offset::new(40)), &bytes).unwrap();
        let Content::OffsetIndex(index) = content else {
            panic!("{content:?}");
        };
        let entry = OffsetIndexEntry {
            last_offset: Offset::new(43),
            position: 100,
        };
        assert_eq!(index.entries, [entry]);
        assert_eq!((index.unused_entries, index.stray_bytes), (2, 1));
    }
}
