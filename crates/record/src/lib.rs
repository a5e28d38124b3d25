//! Kafka record batches: view, builder, validation, compression, control records

mod batch;
mod builder;
mod codec;
mod compression;
pub mod control;
pub mod crc;
mod error;
mod header;
mod record;
mod records;
pub mod varint;

pub use batch::{Batch, LEADER_FIELDS_LEN};
pub use builder::BatchBuilder;
pub use codec::{Codec, Compression, InvalidLevel};
pub use error::{BatchError, RecordError};
pub use header::{Attributes, BatchHeader, HEADER_LEN, TimestampType};
pub use record::{HeaderRef, Headers, Record, RecordHeader, RecordRef};
pub use records::{Limits, Records, Walk};
