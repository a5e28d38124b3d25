//! What a leader checks in a batch that a producer sent, and what it changes.

use std::fmt;
use std::ops::RangeInclusive;

use tidelog_types::{ErrorCode, Offset, Timestamp};

use crate::{
    Batch, BatchBuilder, BatchError, Codec, Compression, Limits, RecordRef, TimestampType,
};

/// The most records that a [`Rejection`] names. A client needs a few to find its mistake; a hostile
/// batch of a million bad records shall not be answered with a hundred megabytes.
pub const REJECTED_RECORDS_MAX: usize = 1000;

/// What a topic demands of the batches that producers send to it. The default is what Kafka's
/// topics have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `compression.type` with its level; `None` for `producer`, which keeps what the producer
    /// chose.
    pub compression: Option<Compression>,
    /// Whether `cleanup.policy` contains `compact`, so that every record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's time may lie back; `i64::MAX` for any
    /// time.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a record's time may lie ahead.
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`: the largest batch, as sent and as stored.
    pub max_message_bytes: usize,
    /// Look at each record also where nothing demands it. Uncompressed batches are always looked at
    /// as a whole; compressed ones only when it is needed to answer one of the rules above, since
    /// it means to decompress them.
    pub deep: bool,
    /// How far the records may unfold when they are decompressed. By default as far as a request
    /// could have carried them uncompressed. When a batch is compressed anew, it is held
    /// decompressed as a whole.
    pub limits: Limits,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            compression: None,
            compacted: false,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            max_message_bytes: 1_048_588,
            deep: false,
            limits: Limits {
                batch_bytes_max: 100 << 20,
                ..Limits::DEFAULT
            },
        }
    }
}

/// A batch that may be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The batch to be appended: what was sent, or that with other timestamps or another
    /// compression.
    pub batch: Batch,
    /// The time of the append, if the topic goes by it; the producer is told.
    pub log_append_time: Option<Timestamp>,
}

/// A batch that may not be appended, none of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What to answer.
    pub error_code: ErrorCode,
    /// Why, in a sentence.
    pub message: String,
    /// The records that are to blame, if it is not the batch as a whole; at most
    /// [`REJECTED_RECORDS_MAX`] (KIP-467).
    pub records: Vec<RejectedRecord>,
}

/// A record that is to blame for a [`Rejection`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The place of the record in the batch, from 0.
    pub batch_index: i32,
    /// Why.
    pub message: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_code, self.message)
    }
}

impl std::error::Error for Rejection {}

impl Rejection {
    fn new(error_code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            error_code,
            message: message.into(),
            records: Vec::new(),
        }
    }

    fn invalid_record(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_RECORD, message)
    }
}

impl From<BatchError> for Rejection {
    fn from(error: BatchError) -> Self {
        Self::new(error.error_code(), error.to_string())
    }
}

/// Checks a batch that a producer sent, in the order in which a broker does, and makes of it what
/// is to be appended.
///
/// `now` is the time of the append. The offsets of the result still count from 0; the log assigns
/// the real ones.
///
/// ```
/// use tidelog_record::{BatchBuilder, Codec, Rules, TimestampType, validate};
/// use tidelog_types::{ErrorCode, Timestamp};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// let mut builder = BatchBuilder::new(Codec::Zstd.into());
/// builder.push(now, None, Some(b"no key"), &[]);
/// let batch = builder.build()?;
/// assert_eq!(validate(&batch, &Rules::default(), now)?.batch, batch);
///
/// let compacted = Rules { compacted: true, ..Rules::default() };
/// let rejection = validate(&batch, &compacted, now).unwrap_err();
/// assert_eq!(rejection.error_code, ErrorCode::INVALID_RECORD);
/// assert_eq!(rejection.records[0].batch_index, 0);
/// # Ok(())
/// # }
/// ```
pub fn validate(batch: &Batch, rules: &Rules, now: Timestamp) -> Result<Validated, Rejection> {
    check_batch(batch, rules)?;
    let codec = batch.header().attributes.codec()?;
    check_timestamp_type(batch)?;

    let create_time = rules.timestamp_type == TimestampType::CreateTime;
    let stored = match rules.compression {
        Some(target) if target.codec() != codec => recompress(batch, rules, now, target)?,
        _ if codec == Codec::None || needs_records(batch, rules, now) => {
            let max_timestamp = check_records(batch, rules, now, rules.limits, |_| {})?;
            with_max_timestamp(batch, rules, max_timestamp)
        }
        _ if rules.deep => match check_records(batch, rules, now, looking_limits(rules), |_| {}) {
            Ok(max_timestamp) => with_max_timestamp(batch, rules, max_timestamp),
            // Nothing depends on it but that the records are well-formed, which is not worth the memory.
            Err(rejection) if rejection.error_code == ErrorCode::MESSAGE_TOO_LARGE => batch.clone(),
            Err(rejection) => return Err(rejection),
        },
        _ => batch.clone(),
    };
    Ok(if create_time {
        Validated {
            batch: stored,
            log_append_time: None,
        }
    } else {
        Validated {
            batch: stored.with_log_append_time(now),
            log_append_time: Some(now),
        }
    })
}

/// The largest record that is unfolded only to look at it.
const LOOKED_AT_RECORD_BYTES_MAX: usize = 8 << 20;

fn looking_limits(rules: &Rules) -> Limits {
    let record_bytes_max = rules
        .limits
        .record_bytes_max
        .min(LOOKED_AT_RECORD_BYTES_MAX);
    Limits {
        record_bytes_max,
        ..rules.limits
    }
}

/// The batch with the largest timestamp that its records really have: the index of the log by time goes by it, and a client
/// may have got it wrong.
fn with_max_timestamp(batch: &Batch, rules: &Rules, max_timestamp: Timestamp) -> Batch {
    let batch = batch.clone();
    if rules.timestamp_type == TimestampType::CreateTime {
        batch.with_timestamps(TimestampType::CreateTime, max_timestamp)
    } else {
        batch
    }
}

/// What can be said without looking at the records.
fn check_batch(batch: &Batch, rules: &Rules) -> Result<(), Rejection> {
    let header = batch.header();
    if header.base_offset != Offset::ZERO {
        return Err(Rejection::invalid_record(format!(
            "the base offset of a produced batch is 0, not {}",
            header.base_offset
        )));
    }
    check_size(batch, rules)?;
    batch.verify_crc()?;
    if header.last_offset_delta < 0 {
        return Err(Rejection::invalid_record(format!(
            "the last offset delta is {}",
            header.last_offset_delta
        )));
    }
    let count = header.records_count;
    if count <= 0 || i64::from(count) != i64::from(header.last_offset_delta) + 1 {
        return Err(Rejection::invalid_record(format!(
            "{count} records do not fit the last offset delta {}",
            header.last_offset_delta
        )));
    }
    if header.attributes.is_control() {
        return Err(Rejection::invalid_record(
            "only brokers write control records",
        ));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(Rejection::invalid_record(format!(
            "a batch of producer id {} needs a sequence number, not {}",
            header.producer_id, header.base_sequence
        )));
    }
    if header.attributes.is_transactional() && !header.has_producer_id() {
        return Err(Rejection::invalid_record(
            "a transactional batch needs a producer id",
        ));
    }
    Ok(())
}

fn check_size(batch: &Batch, rules: &Rules) -> Result<(), Rejection> {
    if batch.size() > rules.max_message_bytes {
        return Err(Rejection::new(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "the batch has {} bytes, max.message.bytes is {}",
                batch.size(),
                rules.max_message_bytes
            ),
        ));
    }
    Ok(())
}

/// The time of the append is the broker's to set.
fn check_timestamp_type(batch: &Batch) -> Result<(), Rejection> {
    if batch.header().attributes.timestamp_type() == TimestampType::CreateTime {
        return Ok(());
    }
    let mut faults = Faults::default();
    for index in 0..batch.header().records_count {
        let message = "a producer may not set the timestamp type LogAppendTime";
        if !faults.add(index, ErrorCode::INVALID_TIMESTAMP, message.into()) {
            break;
        }
    }
    faults.into_result()
}

/// Whether a rule can only be answered by looking at compressed records.
fn needs_records(batch: &Batch, rules: &Rules, now: Timestamp) -> bool {
    if rules.compacted {
        return true;
    }
    // Out of range by the header: then the records are to be named. A lower bound of the times is
    // not in the header.
    rules.timestamp_type == TimestampType::CreateTime
        && (rules.timestamp_before_max_ms < i64::MAX
            || !in_range(batch.header().max_timestamp, &accepted_times(rules, now)))
}

/// Checks each record, hands it to `keep` while all are right, and gives the largest timestamp.
fn check_records(
    batch: &Batch,
    rules: &Rules,
    now: Timestamp,
    limits: Limits,
    mut keep: impl FnMut(&RecordRef<'_>),
) -> Result<Timestamp, Rejection> {
    let checks = RecordChecks {
        compressed: batch.header().attributes.codec()? != Codec::None,
        compacted: rules.compacted,
        times: accepted_times(rules, now),
    };
    let mut max_timestamp = Timestamp::NONE;
    let mut faults = Faults::default();
    let mut walk = batch.walk_within(limits)?;
    let mut index = 0;
    while let Some(record) = walk.next_record()? {
        if !checks.accept(&record, index) {
            let (error_code, message) = checks.fault(&record, index);
            if !faults.add(index, error_code, message) {
                break;
            }
        } else if faults.records.is_empty() {
            max_timestamp = max_timestamp.max(record.timestamp);
            keep(&record);
        }
        index += 1;
    }
    faults.into_result().map(|()| max_timestamp)
}

/// What a record by itself has to fulfil.
struct RecordChecks {
    compressed: bool,
    compacted: bool,
    times: RangeInclusive<Timestamp>,
}

impl RecordChecks {
    #[inline]
    fn accept(&self, record: &RecordRef<'_>, index: i32) -> bool {
        record.offset_delta == index
            && !(self.compressed && record.attributes != 0)
            && !(self.compacted && record.key.is_none())
            && in_range(record.timestamp, &self.times)
    }

    /// Why a record was not accepted.
    #[cold]
    fn fault(&self, record: &RecordRef<'_>, index: i32) -> (ErrorCode, String) {
        if record.offset_delta != index {
            let message = format!("the offset delta is {}, not {index}", record.offset_delta);
            (ErrorCode::INVALID_RECORD, message)
        } else if self.compressed && record.attributes != 0 {
            let message = format!(
                "the attributes of a record are 0, not {}",
                record.attributes
            );
            (ErrorCode::INVALID_RECORD, message)
        } else if self.compacted && record.key.is_none() {
            (
                ErrorCode::INVALID_RECORD,
                "a record of a compacted topic needs a key".to_owned(),
            )
        } else {
            let message = format!(
                "the timestamp {} is not within {} and {}",
                record.timestamp,
                self.times.start(),
                self.times.end()
            );
            (ErrorCode::INVALID_TIMESTAMP, message)
        }
    }
}

/// The times that records may have; all, if the time of the append counts.
fn accepted_times(rules: &Rules, now: Timestamp) -> RangeInclusive<Timestamp> {
    let (before, after) = match rules.timestamp_type {
        TimestampType::CreateTime => (rules.timestamp_before_max_ms, rules.timestamp_after_max_ms),
        TimestampType::LogAppendTime => (i64::MAX, i64::MAX),
    };
    let oldest = match before {
        i64::MAX => Timestamp::from_millis(i64::MIN),
        before => now.saturating_add_millis(before.saturating_neg()),
    };
    oldest..=now.saturating_add_millis(after)
}

/// No time at all is always in range.
fn in_range(timestamp: Timestamp, times: &RangeInclusive<Timestamp>) -> bool {
    times.contains(&timestamp) || timestamp == Timestamp::NONE
}

/// The records of `batch` in a batch of another codec.
fn recompress(
    batch: &Batch,
    rules: &Rules,
    now: Timestamp,
    target: Compression,
) -> Result<Batch, Rejection> {
    let header = batch.header();
    let mut limits = rules.limits;
    if target.codec() == Codec::None {
        // What does not fit anyway need not be decompressed to the end.
        limits.batch_bytes_max = limits.batch_bytes_max.min(rules.max_message_bytes);
    }
    let mut builder = BatchBuilder::new(target)
        .capacity(batch.size())
        .producer(
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        )
        .transactional(header.attributes.is_transactional());
    check_records(batch, rules, now, limits, |record| {
        builder.push_record(record)
    })?;
    let recompressed = builder.build()?;
    check_size(&recompressed, rules)?;
    Ok(recompressed)
}

/// The records that are to blame so far.
#[derive(Default)]
struct Faults {
    records: Vec<RejectedRecord>,
    timestamp: bool,
}

impl Faults {
    /// Adds a record; `false` when there are enough.
    #[cold]
    fn add(&mut self, batch_index: i32, error_code: ErrorCode, message: String) -> bool {
        self.timestamp |= error_code == ErrorCode::INVALID_TIMESTAMP;
        self.records.push(RejectedRecord {
            batch_index,
            message,
        });
        self.records.len() < REJECTED_RECORDS_MAX
    }

    fn into_result(self) -> Result<(), Rejection> {
        let Some(first) = self.records.first() else {
            return Ok(());
        };
        // If records are wrong in different ways, the batch goes by the timestamps.
        let error_code = if self.timestamp {
            ErrorCode::INVALID_TIMESTAMP
        } else {
            ErrorCode::INVALID_RECORD
        };
        let message = format!(
            "{} of the records were rejected, the first is record {}: {}",
            self.records.len(),
            first.batch_index,
            first.message
        );
        Err(Rejection {
            error_code,
            message,
            records: self.records,
        })
    }
}
