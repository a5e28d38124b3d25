use bytes::Bytes;
use tidelog_types::{Str, Uuid};

use crate::{DecodeError, DecodeErrorKind, UnknownTags, Version};

/// No array of a message has more elements; Kafka's reader draws the same line.
const ARRAY_LEN_MAX: u32 = 1_000_000;
/// No struct has more tagged fields; Kafka's reader draws the same line.
const TAGS_MAX: u32 = 10_000;
/// How many bytes of memory the arrays of a message may take for each byte of the message. Real
/// messages stay far below: a short topic name takes nine times its bytes.
const MEMORY_FACTOR_MAX: usize = 16;
/// How many bytes of memory the arrays of even the shortest message may take.
const MEMORY_MIN: usize = 1024 * 1024;
/// How many bytes an array may reserve before its first element was read.
const RESERVED_BYTES_MAX: usize = 16 * 1024;

/// Reads primitives off a buffer, front to back.
///
/// Texts and byte strings are slices of the buffer. Nothing is allocated for what has only been
/// promised.
#[derive(Debug)]
pub struct Reader {
    buf: Bytes,
    position: usize,
    /// Where reading must stop: the end of the buffer, or of the tagged field that is being read.
    end: usize,
    /// How many bytes of memory arrays may still take.
    memory: usize,
    unknown: Option<UnknownTags>,
}

/// The tagged fields of one struct while they are read.
#[derive(Debug)]
pub struct TagsRead {
    left: u32,
    tag: u32,
    outer_end: usize,
    slot: usize,
}

macro_rules! read_number {
    ($($name:ident $type:ty),*) => {
        $(
            #[doc = concat!("Reads a big-endian `", stringify!($type), "`.")]
            #[inline]
            pub fn $name(&mut self) -> Result<$type, DecodeError> {
                Ok(<$type>::from_be_bytes(self.array()?))
            }
        )*
    };
}

impl Reader {
    /// Reads from the front of `buf`.
    pub const fn new(buf: Bytes) -> Self {
        let end = buf.len();
        let memory = MEMORY_MIN + MEMORY_FACTOR_MAX * end;
        Self {
            buf,
            position: 0,
            end,
            memory,
            unknown: None,
        }
    }

    /// Keeps tagged fields that are not known, see [`UnknownTags`].
    #[must_use]
    pub fn keep_unknown_tags(mut self) -> Self {
        self.unknown = Some(UnknownTags::default());
        self
    }

    /// The unknown tagged fields kept so far.
    pub fn take_unknown_tags(&mut self) -> UnknownTags {
        self.unknown
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// How many bytes have been read.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub const fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Fails unless everything has been read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(self.error(DecodeErrorKind::TrailingBytes { count })),
        }
    }

    /// An error at the current position.
    #[cold]
    pub fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(kind, self.position)
    }

    read_number!(i8 i8, i16 i16, u16 u16, i32 i32, u32 u32, i64 i64, f64 f64);

    /// Reads a bool: any byte but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// Reads 16 bytes.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// Reads an unsigned number of up to 32 bits, seven bits a byte, least significant first.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error(DecodeErrorKind::LongVarint))
    }

    /// Reads `len` bytes, not copied.
    #[inline]
    pub fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        self.need(len)?;
        let start = self.position;
        self.position += len;
        Ok(self.buf.slice(start..self.position))
    }

    /// Reads the length of a text; `None` is null.
    #[inline]
    pub fn str_len(&mut self, version: Version) -> Result<Option<usize>, DecodeError> {
        if version.flexible {
            self.compact_len()
        } else {
            Ok(usize::try_from(self.i16()?).ok())
        }
    }

    /// Reads the length of a byte string; `None` is null.
    #[inline]
    pub fn bytes_len(&mut self, version: Version) -> Result<Option<usize>, DecodeError> {
        if version.flexible {
            self.compact_len()
        } else {
            Ok(usize::try_from(self.i32()?).ok())
        }
    }

    /// Reads the number of elements of an array; `None` is null.
    ///
    /// A number that cannot be true is refused: every element takes a byte at least.
    #[inline]
    pub fn array_len(&mut self, version: Version) -> Result<Option<usize>, DecodeError> {
        let Some(len) = self.bytes_len(version)? else {
            return Ok(None);
        };
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        if len > self.remaining() || count > ARRAY_LEN_MAX {
            return Err(self.error(DecodeErrorKind::LongArray { count }));
        }
        Ok(Some(len))
    }

    /// Reads `len` bytes of text, not copied.
    #[inline]
    pub fn str(&mut self, len: usize) -> Result<Str, DecodeError> {
        let bytes = self.slice(len)?;
        Str::from_utf8(bytes).map_err(|_| self.error(DecodeErrorKind::NotUtf8))
    }

    /// Reads the elements of an array.
    #[inline]
    pub fn elements<T>(
        &mut self,
        len: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let memory = len.saturating_mul(size_of::<T>());
        let Some(memory_left) = self.memory.checked_sub(memory) else {
            let count = u32::try_from(len).unwrap_or(u32::MAX);
            return Err(self.error(DecodeErrorKind::LongArray { count }));
        };
        self.memory = memory_left;
        // An element in memory may be a hundred times larger than on the wire, so only a little is
        // reserved in advance.
        let reserved = RESERVED_BYTES_MAX / size_of::<T>().max(1);
        let mut elements = Vec::with_capacity(len.min(reserved.max(1)));
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Begins to read the tagged fields of a struct.
    pub fn begin_tags(&mut self) -> Result<TagsRead, DecodeError> {
        let left = self.uvarint()?;
        if left > TAGS_MAX {
            return Err(self.error(DecodeErrorKind::ManyTags { count: left }));
        }
        let mut slot = 0;
        if let Some(unknown) = &mut self.unknown {
            slot = unknown.structs.len();
            unknown.structs.push_back(Vec::new());
        }
        Ok(TagsRead {
            left,
            tag: 0,
            outer_end: self.end,
            slot,
        })
    }

    /// The tag of the next tagged field. Until [`end_tag`](Self::end_tag), reading stops where the
    /// field ends.
    pub fn next_tag(&mut self, tags: &mut TagsRead) -> Result<Option<u32>, DecodeError> {
        if tags.left == 0 {
            return Ok(None);
        }
        tags.left -= 1;
        tags.tag = self.uvarint()?;
        let len = self.uvarint()? as usize;
        self.need(len)?;
        self.end = self.position + len;
        Ok(Some(tags.tag))
    }

    /// Passes over the current tagged field, which is not known.
    pub fn unknown_tag(&mut self, tags: &TagsRead) -> Result<(), DecodeError> {
        let value = self.slice(self.remaining())?;
        if let Some(unknown) = &mut self.unknown {
            unknown.structs[tags.slot].push((tags.tag, value));
        }
        Ok(())
    }

    /// Ends the current tagged field.
    pub fn end_tag(&mut self, tags: &TagsRead) -> Result<(), DecodeError> {
        if self.position != self.end {
            return Err(self.error(DecodeErrorKind::TagLength));
        }
        self.end = tags.outer_end;
        Ok(())
    }

    /// Passes over the tagged fields of a struct that has none of its own.
    #[inline]
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        let mut tags = self.begin_tags()?;
        while self.next_tag(&mut tags)?.is_some() {
            self.unknown_tag(&tags)?;
            self.end_tag(&tags)?;
        }
        Ok(())
    }

    #[inline]
    fn compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.uvarint()? as usize).checked_sub(1))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.buf[self.position..self.end].first_chunk();
        let Some(bytes) = bytes else {
            return Err(self.ends_early(N));
        };
        self.position += N;
        Ok(*bytes)
    }

    #[inline]
    fn need(&self, len: usize) -> Result<(), DecodeError> {
        if len > self.remaining() {
            Err(self.ends_early(len))
        } else {
            Ok(())
        }
    }

    #[cold]
    fn ends_early(&self, needed: usize) -> DecodeError {
        self.error(DecodeErrorKind::EndsEarly {
            missing: needed - self.remaining(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_ends_after_five_bytes() {
        let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).uvarint();
        assert_eq!(read(&[0x7f]), Ok(127));
        assert_eq!(read(&[0xac, 0x02]), Ok(300));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01])
                .unwrap_err()
                .kind(),
            DecodeErrorKind::LongVarint
        );
        assert_eq!(
            read(&[0x80]).unwrap_err().kind(),
            DecodeErrorKind::EndsEarly { missing: 1 }
        );
    }

    #[test]
    fn a_tagged_field_cannot_reach_into_the_next() {
        // One tagged field, tag 0, of one byte, and more bytes behind it.
        let mut reader = Reader::new(Bytes::from_static(&[1, 0, 1, 7, 8, 9, 10]));
        let mut tags = reader.begin_tags().unwrap();
        assert_eq!(reader.next_tag(&mut tags), Ok(Some(0)));
        assert_eq!(
            reader.i32().unwrap_err().kind(),
            DecodeErrorKind::EndsEarly { missing: 3 }
        );
    }

    #[test]
    fn an_array_of_more_elements_than_bytes_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0, 0, 0, 5, 1, 1, 1, 1]));
        let error = reader
            .array_len(Version {
                number: 0,
                flexible: false,
            })
            .unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::LongArray { count: 5 });
        assert_eq!(error.position(), 4);
    }

    #[test]
    fn arrays_take_a_bounded_multiple_of_their_bytes() {
        // Elements of a byte that take a kibibyte in memory.
        let len = 100_000;
        let mut reader = Reader::new(Bytes::from(vec![0; len]));
        let mut read = 0;
        let error = reader
            .elements(len, |reader| {
                read += 1;
                reader.i8().map(|_| [0_u8; 1024])
            })
            .unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::LongArray { count: 100_000 });
        assert_eq!(read, 0);
    }
}
