use bytes::Bytes;

use crate::{DecodeError, EncodeError, Reader, Schema, Version, VersionRange, Wire, Writer};

/// A whole message or record: a struct with versions of its own.
///
/// ```
/// use tidelog_protocol::Message;
/// use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
///
/// let beat = HeartbeatRequest { group_id: "billing".into(), generation_id: 7, ..Default::default() };
/// let bytes = beat.to_bytes(3)?;
/// assert_eq!(bytes.len(), beat.encoded_len(3)?);
/// assert_eq!(HeartbeatRequest::from_bytes(bytes.clone(), 3)?, beat);
///
/// // A byte is missing: the error says where.
/// let error = HeartbeatRequest::from_bytes(bytes.slice(..bytes.len() - 1), 3).unwrap_err();
/// assert!(error.to_string().starts_with("HeartbeatRequest.group_instance_id: "), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Message: Wire + Default {
    /// Kafka's name of the message.
    const NAME: &'static str;
    /// The versions that exist.
    const VERSIONS: VersionRange;
    /// The versions that are flexible (KIP-482).
    const FLEXIBLE: VersionRange;
    /// What the message looks like on the wire.
    const SCHEMA: &'static Schema;

    /// The version of this number, if it exists.
    fn version(number: i16) -> Option<Version> {
        Version::of(Self::VERSIONS, Self::FLEXIBLE, number)
    }

    /// Reads the message in `version`; what follows it is left in the reader.
    fn read(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        match Self::version(version) {
            Some(version) => Self::try_decode(reader, version),
            None => Err(reader.unsupported(Self::NAME, version)),
        }
    }

    /// Writes the message in `version`.
    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        match Self::version(version) {
            Some(version) => {
                self.encode(writer, version);
                writer.check()
            }
            None => Err(EncodeError::unsupported(Self::NAME, version)),
        }
    }

    /// How many bytes the message has in `version`. Finding out writes it, without copying its
    /// records.
    fn encoded_len(&self, version: i16) -> Result<usize, EncodeError> {
        let mut writer = Writer::new();
        self.write(&mut writer, version)?;
        Ok(writer.len())
    }

    /// Reads a message that is all of `bytes`.
    fn from_bytes(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes).to_the_end(), version)
    }

    /// The bytes of the message, in one piece.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::contiguous();
        self.write(&mut writer, version)?;
        writer.finish_contiguous()
    }
}
