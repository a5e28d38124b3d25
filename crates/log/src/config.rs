use tidelog_record::TimestampType;

/// How one log is kept; Kafka's topic settings of the same names.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A segment is not grown beyond this many bytes (`segment.bytes`).
    pub segment_bytes: u32,
    /// After this time a segment is closed even if it is not full (`segment.ms`).
    pub segment_ms: i64,
    /// How much sooner than `segment_ms` that may happen, so that not all logs do it at once (`segment.jitter.ms`).
    pub segment_jitter_ms: i64,
    /// The most bytes of an index (`segment.index.bytes`).
    pub segment_index_bytes: u32,
    /// An index entry is added after more than this many bytes (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Segments whose newest record is older are deleted, -1 for never (`retention.ms`).
    pub retention_ms: i64,
    /// The oldest segments are deleted while the log is larger, -1 for never (`retention.bytes`).
    pub retention_bytes: i64,
    /// Whether `cleanup.policy` contains `delete`, so that the two bounds above hold.
    pub delete: bool,
    /// Whether `cleanup.policy` contains `compact`: of the records with one key only the newest is kept in the end.
    pub compact: bool,
    /// A log is compacted when more than this share of it was not compacted yet (`min.cleanable.dirty.ratio`).
    pub min_cleanable_dirty_ratio: f64,
    /// Segments with younger records are not compacted (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// A log with older records that were not compacted is, whatever their share; `i64::MAX` for never
    /// (`max.compaction.lag.ms`).
    pub max_compaction_lag_ms: i64,
    /// Tombstones and transaction markers stay this long after a compaction has first seen them (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Whose clock the timestamps of records are from (`message.timestamp.type`).
    pub message_timestamp_type: TimestampType,
    /// An idle producer without an open transaction is forgotten after this time (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
    /// A producer snapshot and the index so far are written each time this many bytes were appended, so that recovery
    /// starts near the end of a large segment.
    pub checkpoint_interval_bytes: u32,
    /// The most zero bytes written ahead of a log that is flushed often with little data: flushing into blocks that are
    /// written already is half as slow. 0 turns it off.
    pub write_ahead_bytes_max: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_bytes: -1,
            delete: true,
            compact: false,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 60 * 60 * 1000,
            message_timestamp_type: TimestampType::CreateTime,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            checkpoint_interval_bytes: 64 << 20,
            write_ahead_bytes_max: 1 << 20,
        }
    }
}

impl LogConfig {
    /// After which time a segment is closed: with compaction in time for that (KIP-354).
    pub(crate) fn roll_ms(&self) -> i64 {
        match self.compact {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }

    /// How many entries an index of `entry_size` bytes may have.
    pub(crate) const fn index_entries_max(&self, entry_size: usize) -> usize {
        self.segment_index_bytes as usize / entry_size
    }
}
