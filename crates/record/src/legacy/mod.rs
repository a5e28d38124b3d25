//! Message formats v0 and v1, which Kafka wrote before 0.11: read, written, checked.
//!
//! In these formats a log is a row of *messages*, each with its own offset and checksum. Compressed
//! records stand together in the value of one message, the wrapper:
//!
//! ```text
//!  0  offset i64                         12  crc u32, CRC-32 of all that follows
//!  8  message_size i32, of what follows  16  magic i8 = 0 or 1
//!                                        17  attributes i8: bits 0-2 codec, 3 timestamp type (v1)
//!                                        18  timestamp i64 (v1 only)
//!                                            key: length i32, -1 for null, and the bytes
//!                                            value: the same; in a wrapper, messages, compressed
//! ```
//!
//! The offset of a wrapper is that of its last record. The messages in it have their own offsets in
//! v0, and in v1 (KIP-31) count up to the wrapper's, so that a broker can assign offsets without
//! compressing anew; whoever reads them must know the last one first. v1 added the timestamp
//! (KIP-32): with LogAppendTime that of the wrapper holds for all. There are neither headers nor
//! producers, and no zstd (KIP-110).
//!
//! A [`LegacyBatch`] is, like a [`Batch`](crate::Batch), a view of shared bytes.
//!
//! ```
//! use tidelog_record::Codec;
//! use tidelog_record::legacy::{LegacyBatch, LegacyBuilder, LegacyMagic};
//! use tidelog_types::{Offset, Timestamp};
//!
//! # fn main() -> Result<(), tidelog_record::BatchError> {
//! let mut builder = LegacyBuilder::new(LegacyMagic::V1, Codec::Gzip.into())?
//!     .base_offset(Offset::new(40));
//! let now = Timestamp::from_millis(1_700_000_000_000);
//! builder.push(now, Some(b"user-1"), Some(b"logged in"));
//! builder.push(now, Some(b"user-2"), None);
//! let mut record_set = builder.build()?;
//!
//! let wrapper = LegacyBatch::split_from(&mut record_set)?.expect("a whole message");
//! wrapper.verify_crc()?;
//! assert_eq!(wrapper.header().last_offset(), Offset::new(41));
//! let records = wrapper.records()?.collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(records[0].offset, Offset::new(40));
//! assert_eq!(records[1].key.as_deref(), Some(&b"user-2"[..]));
//! # Ok(())
//! # }
//! ```

mod batch;
mod builder;
mod records;

pub use batch::{LegacyBatch, LegacyHeader, LegacyMagic};
pub use builder::LegacyBuilder;
pub use records::{LegacyRecords, LegacyWalk};
