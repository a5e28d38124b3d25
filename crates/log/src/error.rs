use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_record::BatchError;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Why a log cannot be opened, read, appended to, flushed or changed. What it means to clients is said by
/// [`error_code`](Self::error_code); where the disk is to blame, that is [`ErrorCode::KAFKA_STORAGE_ERROR`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory, relative to the log directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// An earlier write or flush failed. What of it reached the disk is unknown, so the log takes no more; opening it anew
    /// finds out.
    #[error("the log {} failed earlier and takes no more writes: {reason}", path.display())]
    Poisoned {
        /// The folder of the partition.
        path: PathBuf,
        /// The first failure.
        reason: String,
    },
    /// The log was deleted.
    #[error("the log {} was deleted", path.display())]
    Deleted {
        /// The folder of the partition.
        path: PathBuf,
    },
    /// A segment is damaged in a place that recovery does not cut.
    #[error("{} is damaged at position {position}: {reason}", path.display())]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in the segment.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A stored batch has a wrong checksum.
    #[error("the batch of offsets {base_offset} to {last_offset} is damaged: {source}")]
    DamagedBatch {
        /// Its first offset.
        base_offset: Offset,
        /// Its last offset, as it says itself.
        last_offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// An offset was named that lies beyond the end of the log.
    #[error("offset {offset} lies beyond the end of the log, {log_end_offset}")]
    BeyondEnd {
        /// The offset.
        offset: Offset,
        /// The end of the log.
        log_end_offset: Offset,
    },

    // Of appends
    /// The batch does not fit into a segment.
    #[error("the batch has {size} bytes, more than segment.bytes, {segment_bytes}")]
    BatchTooLarge {
        /// Bytes of the batch.
        size: usize,
        /// The bound.
        segment_bytes: u32,
    },
    /// A batch is damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A replicated batch does not begin at or after the end of the log.
    #[error(
        "the batch begins at offset {base_offset}, before the end of the log, {log_end_offset}"
    )]
    OffsetsOverlap {
        /// First offset of the batch.
        base_offset: Offset,
        /// The end of the log.
        log_end_offset: Offset,
    },
    /// A batch carries an older leader epoch than the log has.
    #[error("the batch has leader epoch {epoch}, but the log has reached {latest}")]
    OldLeaderEpoch {
        /// Of the batch.
        epoch: LeaderEpoch,
        /// Of the log.
        latest: LeaderEpoch,
    },
    /// The sequence does not follow the last one of the producer.
    #[error(
        "producer {producer_id} sent sequence {sequence} in epoch {epoch}, expected was {expected}"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        /// The first sequence of the batch.
        sequence: i32,
        /// The only sequence that would have done.
        expected: i32,
    },
    /// A newer incarnation of the producer has written already.
    #[error("producer {producer_id} has epoch {epoch}, but epoch {latest} has written already")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        /// The newest epoch.
        latest: ProducerEpoch,
    },
    /// A plain batch of a producer that has a transaction open.
    #[error(
        "producer {producer_id} has a transaction open since offset {first_offset}, but sent a batch outside of it"
    )]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
        /// Where its transaction begins.
        first_offset: Offset,
    },
    /// A transaction marker of a coordinator that was replaced.
    #[error(
        "a marker for producer {producer_id} comes from coordinator epoch {epoch}, but epoch {latest} has written already"
    )]
    CoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the marker.
        epoch: i32,
        /// The newest epoch.
        latest: i32,
    },

    // Of reads
    /// The offset lies before the start or beyond the end of the log.
    #[error(
        "offset {offset} lies outside the log, which has {log_start_offset} to {log_end_offset}"
    )]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset there is.
        log_start_offset: Offset,
        /// The offset that the next record will get.
        log_end_offset: Offset,
    },
}

impl LogError {
    /// What a client is told.
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::BeyondEnd { .. } | Self::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::BatchTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
            Self::Batch(_) => ErrorCode::CORRUPT_MESSAGE,
            Self::OffsetsOverlap { .. } => ErrorCode::UNKNOWN_SERVER_ERROR,
            Self::OldLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
            Self::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            Self::InvalidTxnState { .. } => ErrorCode::INVALID_TXN_STATE,
            Self::CoordinatorFenced { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
            _ => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }
}

/// Names what was tried when the disk refused.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, LogError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, LogError> {
        self.map_err(|source| LogError::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        })
    }
}

/// Why a log was not compacted, or not to the end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CleanError {
    /// The log was truncated or deleted meanwhile, or its owner has had enough.
    #[error("the compaction was ended before it was done")]
    Aborted,
    /// The batches that stay need more room than a segment has, since some of them became larger: the codec packed the
    /// records better when there were more of them.
    #[error("what stays of {} does not fit into a segment", path.display())]
    SegmentTooLarge {
        /// The segment.
        path: PathBuf,
    },
    /// The disk failed, or a batch is damaged.
    #[error(transparent)]
    Log(LogError),
}
