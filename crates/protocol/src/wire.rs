use bytes::Bytes;
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Str, Timestamp,
    TopicName, TransactionalId, Uuid,
};

use crate::{DecodeError, DecodeErrorKind, EncodeError, Kind, Reader, Version, Writer};

/// A type that knows its bytes in every version.
///
/// Structs get it from `#[derive(Wire)]`. How null is spelled belongs to the type: `Option<T>` asks
/// `T`. The default is a struct's: a byte before it, -1 for null; in a tagged field that byte is 0.
pub trait Wire: Sized {
    /// The type on the wire.
    const KIND: Kind;

    /// Writes the value.
    fn encode(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError>;

    /// Reads a value.
    fn decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError>;

    /// Writes the value of a tagged field, where null is a byte 0 whatever the type is.
    fn encode_tagged(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
        self.encode(writer, version)
    }

    /// Writes a value that may be null.
    fn encode_nullable(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        match value {
            None => {
                writer.put_i8(-1);
                Ok(())
            }
            Some(value) => {
                writer.put_i8(1);
                value.encode(writer, version)
            }
        }
    }

    /// Reads a value that may be null.
    fn decode_nullable(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        if reader.i8()? <= 0 {
            Ok(None)
        } else {
            Self::decode(reader, version).map(Some)
        }
    }
}

/// Record batches in a message that is written: at hand, or still in a file.
///
/// What is read is always [`Payload::Bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The batches.
    Bytes(Bytes),
    /// Batches that the transport will copy from a file (`sendfile`); becomes a
    /// [`Chunk::Deferred`](crate::Chunk::Deferred).
    Deferred {
        /// How many bytes.
        len: u32,
        /// What the transport finds the bytes by; means nothing to this crate.
        token: u64,
    },
}

impl Payload {
    /// How many bytes of batches.
    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Deferred { len, .. } => *len as usize,
        }
    }

    /// Whether there is no batch.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

macro_rules! number {
    ($($type:ty, $kind:ident, $put:ident, $read:ident;)*) => {
        $(impl Wire for $type {
            const KIND: Kind = Kind::$kind;

            #[inline]
            fn encode(&self, writer: &mut Writer, _: Version) -> Result<(), EncodeError> {
                writer.$put(*self);
                Ok(())
            }

            #[inline]
            fn decode(reader: &mut Reader, _: Version) -> Result<Self, DecodeError> {
                reader.$read()
            }
        })*
    };
}

number! {
    bool, Bool, put_bool, bool;
    i8, Int8, put_i8, i8;
    i16, Int16, put_i16, i16;
    u16, Uint16, put_u16, u16;
    i32, Int32, put_i32, i32;
    u32, Uint32, put_u32, u32;
    i64, Int64, put_i64, i64;
    f64, Float64, put_f64, f64;
    Uuid, Uuid, put_uuid, uuid;
}

/// Newtypes travel as the number or the text inside them.
macro_rules! newtype {
    ($($type:ty, $inner:ty, $new:path, $value:path;)*) => {
        $(impl Wire for $type {
            const KIND: Kind = <$inner>::KIND;

            #[inline]
            fn encode(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
                $value(*self).encode(writer, version)
            }

            #[inline]
            fn decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
                <$inner>::decode(reader, version).map($new)
            }
        })*
    };
}

newtype! {
    ErrorCode, i16, ErrorCode::new, ErrorCode::code;
    LeaderEpoch, i32, LeaderEpoch::new, LeaderEpoch::value;
    NodeId, i32, NodeId::new, NodeId::value;
    Offset, i64, Offset::new, Offset::value;
    ProducerEpoch, i16, ProducerEpoch::new, ProducerEpoch::value;
    ProducerId, i64, ProducerId::new, ProducerId::value;
    Timestamp, i64, Timestamp::from_millis, Timestamp::as_millis;
}

/// Types with a length before them. Null is a length of its own: -1, or 0 if lengths are compact.
macro_rules! lengthy {
    (<$($t:ident)?> $type:ty, $kind:expr, $encode:expr, $decode:expr) => {
        impl<$($t: Wire)?> Wire for $type {
            const KIND: Kind = $kind;

            #[inline]
            fn encode(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
                Self::encode_nullable(Some(self), writer, version)
            }

            #[inline]
            fn decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
                match Self::decode_nullable(reader, version)? {
                    Some(value) => Ok(value),
                    None => Err(reader.error(DecodeErrorKind::Null)),
                }
            }

            #[inline]
            fn encode_nullable(
                value: Option<&Self>,
                writer: &mut Writer,
                version: Version,
            ) -> Result<(), EncodeError> {
                let encode = $encode;
                encode(value, writer, version)
            }

            #[inline]
            fn decode_nullable(
                reader: &mut Reader,
                version: Version,
            ) -> Result<Option<Self>, DecodeError> {
                let decode = $decode;
                decode(reader, version)
            }
        }
    };
}

lengthy!(
    <> Str,
    Kind::String,
    |value: Option<&Self>, writer: &mut Writer, version| {
        writer.put_str_len(value.map(|v| v.as_bytes().len()), version)?;
        writer.put_slice(value.map_or(&[], |v| v.as_bytes()));
        Ok(())
    },
    |reader: &mut Reader, version| match reader.str_len(version)? {
        Some(len) => reader.str(len).map(Some),
        None => Ok(None),
    }
);

lengthy!(
    <> Bytes,
    Kind::Bytes,
    |value: Option<&Self>, writer: &mut Writer, version| {
        writer.put_len(value.map(Self::len), version)?;
        if let Some(bytes) = value {
            writer.put_bytes(bytes);
        }
        Ok(())
    },
    |reader: &mut Reader, version| match reader.bytes_len(version)? {
        Some(len) => reader.slice(len).map(Some),
        None => Ok(None),
    }
);

lengthy!(
    <> Payload,
    Kind::Records,
    |value: Option<&Self>, writer: &mut Writer, version| {
        writer.put_len(value.map(Self::len), version)?;
        match value {
            None => {}
            Some(Self::Bytes(bytes)) => writer.put_bytes(bytes),
            Some(Self::Deferred { len, token }) => writer.put_deferred(*len, *token),
        }
        Ok(())
    },
    |reader: &mut Reader, version| Ok(Bytes::decode_nullable(reader, version)?.map(Self::Bytes))
);

lengthy!(
    <T> Vec<T>,
    Kind::Array(&T::KIND),
    |value: Option<&Self>, writer: &mut Writer, version| {
        writer.put_len(value.map(Self::len), version)?;
        value.into_iter().flatten().try_for_each(|element| element.encode(writer, version))
    },
    |reader: &mut Reader, version| match reader.array_len(version)? {
        Some(len) => reader.elements(len, |reader| T::decode(reader, version)).map(Some),
        None => Ok(None),
    }
);

macro_rules! name {
    ($($type:ty),*) => {
        $(lengthy!(
            <> $type,
            Kind::String,
            |value: Option<&Self>, writer, version| {
                Str::encode_nullable(value.map(Self::as_inner), writer, version)
            },
            |reader, version| Ok(Str::decode_nullable(reader, version)?.map(Self::from))
        );)*
    };
}

name!(TopicName, GroupId, TransactionalId);

impl<T: Wire> Wire for Option<T> {
    const KIND: Kind = Kind::Nullable(&T::KIND);

    #[inline]
    fn encode(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
        T::encode_nullable(self.as_ref(), writer, version)
    }

    fn encode_tagged(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
        if self.is_none() {
            writer.put_i8(0);
            return Ok(());
        }
        self.encode(writer, version)
    }

    #[inline]
    fn decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        T::decode_nullable(reader, version)
    }
}
