//! A commit log in Kafka's file formats: segments, indexes, recovery, retention, compaction, group commit.
//!
//! A [`Log`] has one writer, who owns it, and any number of [`LogReader`]s, who never wait for it. The key decision: an
//! append writes to the page cache and returns, and a flush is a thing of its own ([`PendingFlush`]) that runs on another
//! thread without the owner's lock. While one flush runs, more appends gather for the next, so a single fsync serves all
//! of them; who needs durability waits for [`Log::flush_finished`].
//!
//! The files are those of Apache Kafka, byte for byte (`docs/formats.md`), and either can open what the other closed.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//!
//! use tidelog_log::{Log, LogConfig, Start, testing::FaultDir};
//! use tidelog_record::{BatchBuilder, Compression};
//! use tidelog_types::{LeaderEpoch, Now, Offset, Timestamp};
//!
//! let now = Now { instant: Instant::now(), timestamp: Timestamp::from_millis(1_700_000_000_000) };
//! let dir = Arc::new(FaultDir::new()); // or FsDir::new("/var/lib/orders")
//! let (mut log, _) = Log::open(dir, "orders-0", LogConfig::default(), Start::NEW, now)?;
//!
//! let mut batch = BatchBuilder::new(Compression::NONE);
//! batch.push(now.timestamp, Some(b"key"), Some(b"value"), &[]);
//! let appended = log.append_as_leader(&batch.build()?, LeaderEpoch::new(0), now.timestamp)?;
//! assert_eq!(appended.base_offset, Offset::new(0));
//!
//! let flush = log.begin_flush().expect("something was appended");
//! let result = flush.run(); // on another thread, without the lock around the log
//! assert_eq!(log.flush_finished(flush, result)?, Offset::new(1));
//!
//! let slice = log.reader().read(Offset::ZERO, 1 << 20, log.recovery_point(), true)?;
//! assert_eq!(slice.len(), appended.end.position as usize);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod cleaner;
mod config;
mod dir;
mod directory;
mod epochs;
mod error;
mod files;
mod flush;
mod flusher;
mod fs;
mod index;
pub mod inspect;
mod json;
mod log;
mod meta_properties;
mod names;
mod producers;
mod quorum_files;
mod reader;
mod recovery;
mod rest;
mod retention;
mod scan;
mod segment;
pub mod testing;
mod transactions;
pub mod verify;
mod writer;

pub use cleaner::{
    CleanTarget, Cleanable, Cleaned, CleanedSegment, Cleaner, CleanerConfig, CleanerStats,
    LogToClean,
};
pub use config::LogConfig;
pub use dir::{Access, Dir, DirEntry, File, FileIdentity, Lock, Space};
pub use directory::{
    Checkpoint, CleanShutdown, DirectoryError, FolderKind, LogDirectory, PartitionFolder,
    future_name,
};
pub use epochs::{EpochEntry, LeaderEpochs};
pub use error::{CleanError, LogError};
pub use files::OpenFiles;
pub use flush::{PendingFlush, Upkeep};
pub use flusher::{FlushTarget, Flusher};
pub use fs::FsDir;
pub use log::{Appended, Log, LogEnd};
pub use meta_properties::MetaProperties;
pub use producers::{EPOCH_PER_TRANSACTION_VERSION, ProducerBatch, ProducerState};
pub use quorum_files::{LostLog, QuorumState, SnapshotId};
pub use reader::{Batches, FileSlice, LogReader, Slice, TimestampAndOffset};
pub use recovery::{Recovery, Start};
pub use rest::{LogSummary, PendingRest};
pub use retention::{DeleteReason, DeletedSegment};
pub use transactions::AbortedTransaction;
