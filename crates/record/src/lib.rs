//! Record batches in Kafka's message formats: read, built, checked, compressed, converted.
//!
//! Producers, logs, replicas and consumers all pass records along in batches. A [`Batch`] is
//! therefore a *view*: the bytes as they came, shared and never copied, with the header decoded. A
//! broker checks the header and the CRC, patches the two fields in front of the CRC's reach that
//! are the leader's to assign, and writes the rest as it is; records are only looked at where a
//! rule demands it. That is why three things are kept apart here that could be one: the view, the
//! walk over records ([`Batch::walk`], borrowed, no allocation per record), and records to keep
//! ([`Batch::records`], shared).
//!
//! Compressed records are decompressed piece by piece as they are asked for, within [`Limits`],
//! since a few bytes can promise gigabytes. Bytes from the network or a disk never make this crate
//! panic.
//!
//! Each codec is a feature: `gzip`, `snappy` and `lz4` by default, and `zstd`, which brings a library
//! in C. Rust 1.95 is the oldest compiler.
//!
//! ```
//! use tidelog_record::{Batch, BatchBuilder, Codec, HeaderRef};
//! use tidelog_types::{LeaderEpoch, Offset, Timestamp};
//!
//! # fn main() -> Result<(), tidelog_record::BatchError> {
//! // A producer builds a batch.
//! let mut builder = BatchBuilder::new(Codec::Lz4.into());
//! let now = Timestamp::from_millis(1_700_000_000_000);
//! let trace = HeaderRef { key: b"trace", value: Some(b"17") };
//! builder.push(now, Some(b"user-1"), Some(b"logged in"), &[trace]);
//! builder.push(now, Some(b"user-2"), None, &[]);
//! let produced = builder.build()?;
//!
//! // A leader takes it from the wire and gives it a place in its log.
//! let batch = Batch::parse(produced.bytes().clone())?;
//! batch.verify_crc()?;
//! let appended = batch.with_leader_fields(Offset::new(40), LeaderEpoch::new(3));
//! assert_eq!(appended.header().next_offset(), Offset::new(42));
//!
//! // A consumer reads the records.
//! let records = appended.records()?.collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(records[0].offset, Offset::new(40));
//! assert_eq!(records[0].value.as_deref(), Some(&b"logged in"[..]));
//! assert_eq!(records[0].headers[0].key_text(), "trace");
//! assert_eq!(records[1].value, None);
//! # Ok(())
//! # }
//! ```
//!
//! What Kafka wrote before 0.11, message formats v0 and v1, is in [`legacy`]; [`AnyBatch`] reads all
//! three, [`upconvert`] and [`downconvert`] lead from one to another.
//!
//! Each codec is a feature: `gzip`, `snappy` and `lz4` are on by default, and `zstd`, which is a C
//! library and takes longer to build than all the rest, has to be asked for. A codec that is left out
//! is still recognized; using it is an error that says so.

mod any;
mod batch;
mod builder;
mod codec;
mod compression;
pub mod control;
mod convert;
pub mod crc;
mod error;
mod header;
pub mod legacy;
mod record;
mod records;
mod unpack;
mod validate;
pub mod varint;

pub use any::{AnyBatch, AnyHeader, AnyRecords, AnyWalk};
pub use batch::{Batch, LEADER_FIELDS_LEN};
pub use builder::BatchBuilder;
pub use codec::{Codec, Compression, InvalidLevel};
pub use convert::{downconvert, upconvert};
pub use error::{BatchError, RecordError};
pub use header::{Attributes, BatchHeader, HEADER_LEN, TimestampType};
pub use record::{HeaderRef, Headers, Record, RecordHeader, RecordRef};
pub use records::{Limits, Records, Walk};
pub use validate::{REJECTED_RECORDS_MAX, RejectedRecord, Rejection, Rules, Validated, validate};
