//! Kafka record batches: view, builder, validation, compression, control records

mod batch;
mod codec;
pub mod crc;
mod error;
mod header;
pub mod varint;

pub use batch::{Batch, LEADER_FIELDS_LEN};
pub use codec::{Codec, Compression, InvalidLevel};
pub use error::{BatchError, RecordError};
pub use header::{Attributes, BatchHeader, HEADER_LEN, TimestampType};
