//! The records that brokers write for themselves: keys and values of internal topics, control
//! records, what lies beside the logs, and what clients and brokers hand to each other inside
//! messages.
//!
//! Every topic has an enum of its keys and values, which are read by the type and the version that
//! stand before them.

/// The keys and values of a coordinator's topic, an enum of each:
/// `Name = type: Key, Value;`, and before them `legacy Name = type: Key, Value as Other` for an older
/// type of key whose values are those of another.
///
/// ```text
/// key:   type i16    | fields, never flexible
/// value: version i16 | fields; null is a tombstone
/// ```
macro_rules! coordinator_records {
    (
        $keys:ident, $values:ident
        $(, legacy $alias:ident = $alias_type:literal:
            $alias_key:ident, $alias_value:ident as $alias_of:ident)*;
        $($name:ident = $type:literal: $key:ident, $value:ident;)*
    ) => {
        /// The key of a record; says which kind of record it is.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $keys {
            $(
                #[doc = concat!(
                    "An older key of [`", stringify!($alias_value),
                    "`]; type ", stringify!($alias_type), ".",
                )]
                $alias($alias_key),
            )*
            $(
                #[doc = concat!("See [`", stringify!($value), "`]; type ", stringify!($type), ".")]
                $name($key),
            )*
            /// A kind of record that this version does not know.
            Unknown {
                /// The type.
                key_type: i16,
                /// What follows the type.
                fields: bytes::Bytes,
            },
        }

        /// The value of a record.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $values {
            $(
                #[doc = concat!("See [`", stringify!($value), "`].")]
                $name($value),
            )*
            /// The value of a record of a kind that this version does not know, with its version.
            Unknown(bytes::Bytes),
        }

        impl $keys {
            /// The type of the record.
            pub const fn key_type(&self) -> i16 {
                match self {
                    $(Self::$alias(_) => $alias_type,)*
                    $(Self::$name(_) => $type,)*
                    Self::Unknown { key_type, .. } => *key_type,
                }
            }

            /// Reads a key. One of a kind that is not known becomes [`Unknown`](Self::Unknown), to
            /// be passed over.
            pub fn decode(bytes: &bytes::Bytes) -> Result<Self, $crate::DecodeError> {
                let mut reader = $crate::Reader::new(bytes.clone());
                let key_type = reader.i16().map_err(|e| e.in_field(stringify!($keys), "type"))?;
                match key_type {
                    $($alias_type => {
                        <$alias_key as $crate::Message>::read(&mut reader, 0).map(Self::$alias)
                    })*
                    $($type => <$key as $crate::Message>::read(&mut reader, 0).map(Self::$name),)*
                    _ => {
                        let fields = reader.slice(reader.remaining())?;
                        Ok(Self::Unknown { key_type, fields })
                    }
                }
            }

            /// Writes the key.
            pub fn encode(&self) -> Result<bytes::Bytes, $crate::EncodeError> {
                let mut writer = $crate::Writer::contiguous();
                writer.put_i16(self.key_type());
                match self {
                    $(Self::$alias(key) => $crate::Message::write(key, &mut writer, 0)?,)*
                    $(Self::$name(key) => $crate::Message::write(key, &mut writer, 0)?,)*
                    Self::Unknown { fields, .. } => writer.put_slice(fields),
                }
                writer.finish_contiguous()
            }

            /// The fields of the key as JSON; null if the kind is not known.
            #[cfg(feature = "json")]
            pub fn to_json(&self) -> Result<serde_json::Value, $crate::EncodeError> {
                match self {
                    $(Self::$alias(key) => $crate::records::to_json(key, 0),)*
                    $(Self::$name(key) => $crate::records::to_json(key, 0),)*
                    Self::Unknown { .. } => Ok(serde_json::Value::Null),
                }
            }

            /// Reads the value that belongs to this key.
            ///
            /// A value in a version that is not known is an error.
            pub fn decode_value(
                &self,
                bytes: &bytes::Bytes,
            ) -> Result<$values, $crate::DecodeError> {
                match self {
                    $(Self::$alias(_) => {
                        $crate::records::read_exactly(bytes).map($values::$alias_of)
                    })*
                    $(Self::$name(_) => $crate::records::read_exactly(bytes).map($values::$name),)*
                    Self::Unknown { .. } => Ok($values::Unknown(bytes.clone())),
                }
            }
        }

        impl $values {
            /// Writes the value in `version`. A value of a kind that is not known keeps its own.
            pub fn encode(&self, version: i16) -> Result<bytes::Bytes, $crate::EncodeError> {
                match self {
                    $(Self::$name(value) => $crate::records::write_versioned(value, version),)*
                    Self::Unknown(bytes) => Ok(bytes.clone()),
                }
            }
        }

        #[cfg(feature = "json")]
        impl $values {
            /// The value in `version` as JSON; null if the kind is not known.
            pub fn to_json(&self, version: i16) -> Result<serde_json::Value, $crate::EncodeError> {
                match self {
                    $(Self::$name(v) => $crate::records::to_json(v, version),)*
                    Self::Unknown(_) => Ok(serde_json::Value::Null),
                }
            }
        }

        $(
            impl From<$key> for $keys {
                fn from(key: $key) -> Self {
                    Self::$name(key)
                }
            }

            impl From<$value> for $values {
                fn from(value: $value) -> Self {
                    Self::$name(value)
                }
            }
        )*
    };
}

/// The records of a log that say themselves what they are: `Name(Struct) = type;`.
///
/// ```text
/// frame version, 1 | type of the record | version of the record | fields
/// (the first three are uvarints)
/// ```
macro_rules! framed_records {
    ($(#[$doc:meta])* $records:ident; $($name:ident($record:ident) = $id:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $records {
            $(
                #[doc = concat!("See [`", stringify!($record), "`]; type ", stringify!($id), ".")]
                $name($record),
            )*
        }

        impl $records {
            /// The type of the record.
            pub const fn id(&self) -> i16 {
                match self {
                    $(Self::$name(_) => $id,)*
                }
            }

            /// Kafka's name of the record.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => <$record as $crate::Message>::NAME,)*
                }
            }

            /// The versions in which the record can be written.
            pub const fn versions(&self) -> $crate::VersionRange {
                match self {
                    $(Self::$name(_) => <$record as $crate::Message>::VERSIONS,)*
                }
            }

            /// Reads a record: the value of a record of the log.
            ///
            /// A type or a version that is not known is an error, since nobody must go on without a
            /// record that it does not understand.
            pub fn decode(bytes: &bytes::Bytes) -> Result<Self, $crate::DecodeError> {
                $crate::records::read_frame(bytes, stringify!($records), |reader, id, version| {
                    Some(match id {
                        $($id => <$record as $crate::Message>::read(reader, version)
                            .map(Self::$name),)*
                        _ => return None,
                    })
                })
            }

            /// Writes the record in `version`, as the value of a record of the log.
            pub fn encode(&self, version: i16) -> Result<bytes::Bytes, $crate::EncodeError> {
                match self {
                    $(Self::$name(record) => {
                        $crate::records::write_frame($id, record, version)
                    })*
                }
            }
        }

        #[cfg(feature = "json")]
        impl $records {
            /// The record in `version` as JSON.
            pub fn to_json(&self, version: i16) -> Result<serde_json::Value, $crate::EncodeError> {
                match self {
                    $(Self::$name(r) => $crate::records::to_json(r, version),)*
                }
            }
        }

        $(
            impl From<$record> for $records {
                fn from(record: $record) -> Self {
                    Self::$name(record)
                }
            }
        )*
    };
}

/// Structs with their version before them.
macro_rules! versioned {
    ($($name:ident),*) => {
        $(impl $name {
            /// Reads two bytes of version and the struct. One of a later version is read as far as
            /// this version knows it.
            pub fn decode_versioned(bytes: &bytes::Bytes) -> Result<Self, $crate::DecodeError> {
                $crate::records::read_versioned(bytes)
            }

            /// Writes the version and the struct.
            pub fn encode_versioned(
                &self,
                version: i16,
            ) -> Result<bytes::Bytes, $crate::EncodeError> {
                $crate::records::write_versioned(self, version)
            }
        })*
    };
}

pub mod consumer_protocol;
pub mod control;
pub mod group;
pub mod metadata;
pub mod principal;
pub mod raft;
pub mod share;
pub mod storage;
pub mod transaction;

use bytes::Bytes;

use crate::{DecodeError, DecodeErrorKind, EncodeError, Message, Reader, Writer};

/// Reads two bytes of version and a message of that version; one of a later version is read as the
/// latest one known, and what is left is ignored.
fn read_versioned<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16().map_err(|e| e.in_field(M::NAME, "version"))?;
    M::read(&mut reader, version.min(M::VERSIONS.max))
}

/// Reads two bytes of version and a message of that version, which must be known.
fn read_exactly<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16().map_err(|e| e.in_field(M::NAME, "version"))?;
    M::read(&mut reader, version)
}

/// Writes two bytes of version and the message in that version.
fn write_versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::contiguous();
    writer.put_i16(version);
    message.write(&mut writer, version)?;
    writer.finish_contiguous()
}

/// The fields of a record as JSON. Records of the brokers hold no record batches.
#[cfg(feature = "json")]
fn to_json<M: Message>(record: &M, version: i16) -> Result<serde_json::Value, EncodeError> {
    crate::json::to_json(record, version, crate::json::RecordsAs::Empty)
}

/// The only frame there is. Version 0 was a preview.
const FRAME_VERSION: u32 = 1;

/// Reads the frame of a record of `log`, and by `read` the record of a type in a version; `None`
/// from it means that the type is not known.
fn read_frame<T>(
    bytes: &Bytes,
    log: &'static str,
    read: impl FnOnce(&mut Reader, u32, i16) -> Option<Result<T, DecodeError>>,
) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let in_field = |field| move |e: DecodeError| e.in_field(log, field);
    let frame = reader.uvarint().map_err(in_field("frame version"))?;
    require_known(&reader, frame == FRAME_VERSION, frame).map_err(in_field("frame version"))?;
    let id = reader.uvarint().map_err(in_field("type"))?;
    let version = reader.uvarint().map_err(in_field("version"))?;
    require_known(&reader, version <= i16::MAX as u32, version).map_err(in_field("version"))?;
    let record = read(&mut reader, id, version as i16).unwrap_or_else(|| {
        let key = i32::try_from(id).unwrap_or(i32::MAX);
        Err(in_field("type")(
            reader.error(DecodeErrorKind::UnknownKey { key }),
        ))
    })?;
    reader.finish().map_err(in_field("end"))?;
    Ok(record)
}

/// Writes a record of type `id` with its frame.
fn write_frame<M: Message>(id: u32, record: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::contiguous();
    writer.put_uvarint(FRAME_VERSION);
    writer.put_uvarint(id);
    // A negative version is refused below, before anything is handed out.
    writer.put_uvarint(version as u32);
    record.write(&mut writer, version)?;
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
