//! The records that brokers write for themselves: keys and values of internal topics, control
//! records, and what consumers hand to each other through their group.

pub mod consumer_protocol;
pub mod control;
pub mod group;
pub mod metadata;

use bytes::Bytes;

use crate::{DecodeError, DecodeErrorKind, EncodeError, Message, Reader, Writer};

/// Reads two bytes of version and a message of that version; one of a later version is read as the
/// latest one known, and what is left is ignored.
fn read_versioned<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16().map_err(|e| e.in_field(M::NAME, "version"))?;
    M::read(&mut reader, version.min(M::VERSIONS.max))
}

/// Writes two bytes of version and the message in that version.
fn write_versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::contiguous();
    writer.put_i16(version);
    message.write(&mut writer, version)?;
    writer.finish_contiguous()
}

/// Fails with the unknown `version` unless it is `known`.
fn require_known(reader: &Reader, known: bool, version: u32) -> Result<(), DecodeError> {
    let version = i16::try_from(version).unwrap_or(i16::MAX);
    if known {
        Ok(())
    } else {
        Err(reader.error(DecodeErrorKind::UnsupportedVersion { version }))
    }
}
