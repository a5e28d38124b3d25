use bytes::Bytes;
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Str, Timestamp,
    TopicName, TransactionalId, Uuid,
};

use crate::{ApiKey, DecodeError, DecodeErrorKind, Kind, Reader, Version, Writer};

/// A type that knows its bytes in every version.
///
/// Structs get it from `#[derive(Wire)]`. Neither direction stops at a failure: the [`Writer`] and
/// the [`Reader`] remember the first, and [`Message`](crate::Message) asks them in the end.
///
/// How null is spelled belongs to the type: `Option<T>` asks `T`. The default is a struct's: a byte
/// before it, -1 for null; in a tagged field that byte is 0.
pub trait Wire: Sized {
    /// The type on the wire.
    const KIND: Kind;

    /// Writes the value.
    fn encode(&self, writer: &mut Writer, version: Version);

    /// Reads a value.
    fn decode(reader: &mut Reader, version: Version) -> Self;

    /// Reads a value, and fails if reading has failed.
    ///
    /// Structs are made here, and only if all of their fields are there.
    fn try_decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let value = Self::decode(reader, version);
        reader.check()?;
        Ok(value)
    }

    /// Whether the value is the one that a field has if nothing else was said.
    fn is_default(&self) -> bool;

    /// Writes the value of a tagged field, where null is a byte 0 whatever the type is.
    fn encode_tagged(&self, writer: &mut Writer, version: Version) {
        self.encode(writer, version);
    }

    /// Writes a value that may be null.
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        match value {
            None => writer.put_i8(-1),
            Some(value) => {
                writer.put_i8(1);
                value.encode(writer, version);
            }
        }
    }

    /// Reads a value that may be null.
    fn decode_nullable(reader: &mut Reader, version: Version) -> Option<Self> {
        let [sign] = reader.take();
        match sign {
            0 | 0x80.. => None,
            _ => Some(Self::decode(reader, version)),
        }
    }

    /// Writes the elements of an array.
    fn encode_elements(elements: &[Self], writer: &mut Writer, version: Version) {
        for element in elements {
            element.encode(writer, version);
        }
    }

    /// Reads the elements of an array.
    fn decode_elements(reader: &mut Reader, len: usize, version: Version) -> Vec<Self> {
        let mut elements = reader.take_room(len);
        for _ in 0..len {
            match Self::try_decode(reader, version) {
                Ok(element) => elements.push(element),
                Err(error) => {
                    reader.fail_again(error);
                    break;
                }
            }
        }
        elements
    }
}

/// A type that always has `N` bytes. Fields of such types that stand in a row are written and read
/// at once.
pub trait Fixed<const N: usize>: Copy {
    /// The bytes of the value.
    fn to_wire(self) -> [u8; N];

    /// The value of the bytes.
    fn from_wire(bytes: [u8; N]) -> Self;
}

/// The `N` bytes of a row from `at` on.
#[inline]
pub fn part<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&row[at..at + N]);
    part
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

/// Types of a fixed length, by way of those that know their bytes.
macro_rules! fixed {
    ($($type:ty, $len:literal, $kind:ident, $to:expr, $from:expr;)*) => {
        $(
            impl Fixed<$len> for $type {
                #[inline]
                fn to_wire(self) -> [u8; $len] {
                    let to = $to;
                    to(self)
                }

                #[inline]
                fn from_wire(bytes: [u8; $len]) -> Self {
                    let from = $from;
                    from(bytes)
                }
            }

            impl Wire for $type {
                const KIND: Kind = Kind::$kind;

                #[inline]
                fn encode(&self, writer: &mut Writer, _: Version) {
                    writer.put(self.to_wire());
                }

                #[inline]
                fn decode(reader: &mut Reader, _: Version) -> Self {
                    Self::from_wire(reader.take())
                }

                #[inline]
                fn is_default(&self) -> bool {
                    self.to_wire() == [0; $len]
                }

                #[inline]
                fn encode_elements(elements: &[Self], writer: &mut Writer, _: Version) {
                    // Replicas often are three.
                    let (threes, rest) = elements.as_chunks();
                    for [a, b, c] in threes {
                        let mut row = [0; 3 * $len];
                        row[..$len].copy_from_slice(&a.to_wire());
                        row[$len..2 * $len].copy_from_slice(&b.to_wire());
                        row[2 * $len..].copy_from_slice(&c.to_wire());
                        writer.put(row);
                    }
                    for element in rest {
                        writer.put(element.to_wire());
                    }
                }

                fn decode_elements(reader: &mut Reader, len: usize, _: Version) -> Vec<Self> {
                    let bytes = reader.take_bytes(len * $len);
                    let (elements, _) = bytes.as_chunks();
                    elements.iter().map(|bytes| Self::from_wire(*bytes)).collect()
                }
            }
        )*
    };
}

fixed! {
    bool, 1, Bool, |value| [u8::from(value)], |[byte]: [u8; 1]| byte != 0;
    i8, 1, Int8, Self::to_be_bytes, Self::from_be_bytes;
    i16, 2, Int16, Self::to_be_bytes, Self::from_be_bytes;
    u16, 2, Uint16, Self::to_be_bytes, Self::from_be_bytes;
    i32, 4, Int32, Self::to_be_bytes, Self::from_be_bytes;
    u32, 4, Uint32, Self::to_be_bytes, Self::from_be_bytes;
    i64, 8, Int64, Self::to_be_bytes, Self::from_be_bytes;
    f64, 8, Float64, Self::to_be_bytes, Self::from_be_bytes;
    Uuid, 16, Uuid, |uuid: Self| *uuid.as_bytes(), Self::from_bytes;
}

/// Newtypes travel as the number inside them.
macro_rules! newtype {
    ($($type:ty, $len:literal, $kind:ident, $inner:ty, $new:path, $value:path;)*) => {
        fixed! {
            $(
                $type, $len, $kind,
                |value| $value(value).to_be_bytes(), |bytes| $new(<$inner>::from_be_bytes(bytes));
            )*
        }
    };
}

newtype! {
    ApiKey, 2, Int16, i16, ApiKey::new, ApiKey::code;
    ErrorCode, 2, Int16, i16, ErrorCode::new, ErrorCode::code;
    LeaderEpoch, 4, Int32, i32, LeaderEpoch::new, LeaderEpoch::value;
    NodeId, 4, Int32, i32, NodeId::new, NodeId::value;
    Offset, 8, Int64, i64, Offset::new, Offset::value;
    ProducerEpoch, 2, Int16, i16, ProducerEpoch::new, ProducerEpoch::value;
    ProducerId, 8, Int64, i64, ProducerId::new, ProducerId::value;
    Timestamp, 8, Int64, i64, Timestamp::from_millis, Timestamp::as_millis;
}

/// Types with a length before them. Null is a length of its own: -1, or 0 if lengths are compact.
macro_rules! lengthy {
    ($type:ty, $kind:expr, $encode:expr, $take_len:ident, $take:expr) => {
        impl Wire for $type {
            const KIND: Kind = $kind;

            #[inline]
            fn encode(&self, writer: &mut Writer, version: Version) {
                Self::encode_nullable(Some(self), writer, version);
            }

            // Without an `Option` on the way: values are made where they stay.
            #[inline]
            fn decode(reader: &mut Reader, version: Version) -> Self {
                let take: fn(&mut Reader, usize, Version) -> Self = $take;
                match reader.$take_len(version) {
                    Some(len) => take(reader, len, version),
                    None => {
                        reader.fail(DecodeErrorKind::Null);
                        Self::default()
                    }
                }
            }

            #[inline]
            fn is_default(&self) -> bool {
                self.is_empty()
            }

            #[inline]
            fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
                let encode = $encode;
                encode(value, writer, version)
            }

            #[inline]
            fn decode_nullable(reader: &mut Reader, version: Version) -> Option<Self> {
                let take: fn(&mut Reader, usize, Version) -> Self = $take;
                let len = reader.$take_len(version)?;
                Some(take(reader, len, version))
            }
        }
    };
}

lengthy!(
    Str,
    Kind::String,
    |value: Option<&Self>, writer: &mut Writer, version| {
        match value {
            None => writer.put_str_len(None, version),
            Some(text) => writer.put_str(text.as_bytes(), version),
        }
    },
    take_str_len,
    |reader, len, _| reader.take_str(len)
);

lengthy!(
    Bytes,
    Kind::Bytes,
    |value: Option<&Self>, writer: &mut Writer, version| {
        writer.put_len(value.map(Self::len), version);
        if let Some(bytes) = value {
            writer.put_bytes(bytes);
        }
    },
    take_bytes_len,
    |reader, len, _| reader.take_slice(len)
);

lengthy!(
    Payload,
    Kind::Records,
    |value: Option<&Self>, writer: &mut Writer, version| {
        writer.put_len(value.map(Self::len), version);
        match value {
            None => {}
            Some(Self::Bytes(bytes)) => writer.put_bytes(bytes),
            Some(Self::Deferred { len, token }) => writer.put_deferred(*len, *token),
        }
    },
    take_bytes_len,
    |reader, len, _| Self::Bytes(reader.take_slice(len))
);

impl<T: Wire> Wire for Vec<T> {
    const KIND: Kind = Kind::Array(&T::KIND);

    #[inline]
    fn encode(&self, writer: &mut Writer, version: Version) {
        writer.put_len(Some(self.len()), version);
        T::encode_elements(self, writer, version);
    }

    #[inline]
    fn decode(reader: &mut Reader, version: Version) -> Self {
        match reader.take_array_len(version) {
            Some(len) => T::decode_elements(reader, len, version),
            None => {
                reader.fail(DecodeErrorKind::Null);
                Self::new()
            }
        }
    }

    #[inline]
    fn is_default(&self) -> bool {
        self.is_empty()
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        match value {
            Some(value) => value.encode(writer, version),
            None => writer.put_len(None, version),
        }
    }

    #[inline]
    fn decode_nullable(reader: &mut Reader, version: Version) -> Option<Self> {
        let len = reader.take_array_len(version)?;
        Some(T::decode_elements(reader, len, version))
    }
}

macro_rules! name {
    ($($type:ty),*) => {
        $(lengthy!(
            $type,
            Kind::String,
            |value: Option<&Self>, writer, version| {
                Str::encode_nullable(value.map(Self::as_inner), writer, version)
            },
            take_str_len,
            |reader, len, _| Self::from(reader.take_str(len))
        );)*
    };
}

name!(TopicName, GroupId, TransactionalId);

impl<T: Wire> Wire for Option<T> {
    const KIND: Kind = Kind::Nullable(&T::KIND);

    #[inline]
    fn encode(&self, writer: &mut Writer, version: Version) {
        T::encode_nullable(self.as_ref(), writer, version);
    }

    fn encode_tagged(&self, writer: &mut Writer, version: Version) {
        match self {
            None => writer.put_i8(0),
            some => some.encode(writer, version),
        }
    }

    #[inline]
    fn decode(reader: &mut Reader, version: Version) -> Self {
        T::decode_nullable(reader, version)
    }

    #[inline]
    fn is_default(&self) -> bool {
        self.is_none()
    }
}
