use bytes::Bytes;
use tidelog_types::{Str, Uuid};

use crate::{DecodeError, DecodeErrorKind, Schema, UnknownTags, Version};

/// No array of a message has more elements; Kafka's reader draws the same line.
const ARRAY_LEN_MAX: u32 = 1_000_000;
/// Compact lengths could be larger, but what is read from them also goes where lengths have 16 bits, such as into records.
const TEXT_LEN_MAX: u32 = 0x7fff;
/// No struct has more tagged fields; Kafka's reader draws the same line.
const TAGS_MAX: u32 = 10_000;
/// How many bytes of memory the arrays of a message may take for each byte of the message. Real
/// messages stay far below; the worst is an array of empty texts.
const MEMORY_FACTOR_MAX: usize = 32;
/// How many bytes of memory the arrays of even the shortest message may take.
const MEMORY_MIN: usize = 64 * 1024;
/// How many bytes an array may reserve before its first element was read, if less has arrived.
const RESERVED_BYTES_MIN: usize = 4 * 1024;

/// Reads primitives off a buffer, front to back.
///
/// Texts and byte strings are slices of the buffer. Nothing is allocated for what has only been
/// promised.
///
/// There are two ways to read. The methods named after types return a `Result`. Those named `take`
/// return a value in any case: the reader remembers the first failure, has no bytes left from then
/// on, and whoever began to read asks it in the end. That is how messages are read, field after
/// field without a question.
///
/// ```
/// use tidelog_protocol::Reader;
///
/// let mut reader = Reader::new(bytes::Bytes::from_static(&[0, 0, 0, 5, 1]));
/// assert_eq!(reader.i32()?, 5);
/// assert_eq!(reader.remaining(), 1);
/// assert!(reader.i32().is_err(), "three bytes are missing");
/// # Ok::<(), tidelog_protocol::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    buf: Bytes,
    position: usize,
    /// Where reading must stop: the end of the buffer, or of the tagged field that is being read.
    end: usize,
    /// How many bytes of memory arrays may still take.
    memory: usize,
    failure: Option<DecodeError>,
    /// Whether the next message must be all that is left.
    to_the_end: bool,
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

/// Where a message begins in a reader.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Start {
    position: usize,
    end: usize,
    memory: usize,
    to_the_end: bool,
}

macro_rules! read_number {
    ($($name:ident $type:ty),*) => {
        $(
            #[doc = concat!("Reads a big-endian `", stringify!($type), "`.")]
            #[inline]
            pub fn $name(&mut self) -> Result<$type, DecodeError> {
                let value = <$type>::from_be_bytes(self.take());
                self.checked(value)
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
            failure: None,
            to_the_end: false,
            unknown: None,
        }
    }

    /// Fails if bytes are left behind the message that is read next.
    #[must_use]
    pub const fn to_the_end(mut self) -> Self {
        self.to_the_end = true;
        self
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
        let value = Uuid::from_bytes(self.take());
        self.checked(value)
    }

    /// Reads an unsigned number of up to 32 bits, seven bits a byte, least significant first.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let value = self.take_uvarint();
        self.checked(value)
    }

    /// Reads `len` bytes, not copied.
    #[inline]
    pub fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let value = self.take_slice(len);
        self.checked(value)
    }

    /// Reads the length of a text; `None` is null.
    #[inline]
    pub fn str_len(&mut self, version: Version) -> Result<Option<usize>, DecodeError> {
        let value = self.take_str_len(version);
        self.checked(value)
    }

    /// Reads the length of a byte string; `None` is null.
    #[inline]
    pub fn bytes_len(&mut self, version: Version) -> Result<Option<usize>, DecodeError> {
        let value = self.take_bytes_len(version);
        self.checked(value)
    }

    /// Reads the number of elements of an array; `None` is null.
    ///
    /// A number that cannot be true is refused: every element takes a byte at least.
    #[inline]
    pub fn array_len(&mut self, version: Version) -> Result<Option<usize>, DecodeError> {
        let value = self.take_array_len(version);
        self.checked(value)
    }

    /// Reads `len` bytes of text, not copied.
    #[inline]
    pub fn str(&mut self, len: usize) -> Result<Str, DecodeError> {
        let value = self.take_str(len);
        self.checked(value)
    }

    /// Reads the elements of an array.
    pub fn elements<T>(
        &mut self,
        len: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut elements = self.take_room(len);
        self.checked(())?;
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Begins to read the tagged fields of a struct.
    pub fn begin_tags(&mut self) -> Result<TagsRead, DecodeError> {
        let tags = self.take_tags();
        self.checked(tags)
    }

    /// The tag of the next tagged field. Until [`end_tag`](Self::end_tag), reading stops where the
    /// field ends.
    pub fn next_tag(&mut self, tags: &mut TagsRead) -> Result<Option<u32>, DecodeError> {
        let tag = self.take_tag(tags);
        self.checked(tag)
    }

    /// Ends the current tagged field.
    pub fn end_tag(&mut self, tags: &TagsRead) -> Result<(), DecodeError> {
        self.leave_tag(tags);
        self.checked(())
    }

    /// Passes over the tagged fields of a struct that has none of its own.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.take_no_tags();
        self.checked(())
    }

    /// Passes over the current tagged field, which is not known.
    pub fn unknown_tag(&mut self, tags: &TagsRead) {
        let value = self.take_slice(self.remaining());
        if let Some(unknown) = &mut self.unknown {
            unknown.structs[tags.slot].push((tags.tag, value));
        }
    }

    /// Takes `N` bytes.
    #[inline]
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let rest = self.buf.get(self.position..self.end);
        match rest.and_then(<[u8]>::first_chunk) {
            Some(bytes) => {
                self.position += N;
                *bytes
            }
            None => {
                self.ends_early(N);
                [0; N]
            }
        }
    }

    /// Takes `len` bytes without a share of the buffer.
    #[inline]
    pub fn take_bytes(&mut self, len: usize) -> &[u8] {
        if len > self.remaining() {
            self.ends_early(len);
            return &[];
        }
        let start = self.position;
        self.position += len;
        &self.buf[start..self.position]
    }

    /// Takes `len` bytes, not copied.
    #[inline]
    pub fn take_slice(&mut self, len: usize) -> Bytes {
        if len > self.remaining() {
            self.ends_early(len);
            return Bytes::new();
        }
        let start = self.position;
        self.position += len;
        self.buf.slice(start..self.position)
    }

    /// Takes `len` bytes of text, not copied.
    #[inline]
    pub fn take_str(&mut self, len: usize) -> Str {
        if len == 0 {
            return Str::EMPTY;
        }
        let bytes = self.take_slice(len);
        Str::from_utf8(bytes).unwrap_or_else(|_| {
            self.fail(DecodeErrorKind::NotUtf8);
            Str::EMPTY
        })
    }

    /// Takes an unsigned number of up to 32 bits, seven bits a byte, least significant first.
    #[inline]
    pub fn take_uvarint(&mut self) -> u32 {
        let [byte] = self.take();
        if byte & 0x80 == 0 {
            return u32::from(byte);
        }
        self.take_long_uvarint(byte)
    }

    fn take_long_uvarint(&mut self, first: u8) -> u32 {
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let [byte] = self.take();
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        self.fail(DecodeErrorKind::LongVarint);
        0
    }

    /// Takes the length of a text; `None` is null.
    #[inline]
    pub fn take_str_len(&mut self, version: Version) -> Option<usize> {
        if !version.flexible {
            return usize::try_from(i16::from_be_bytes(self.take())).ok();
        }
        let len = self.take_uvarint().checked_sub(1)?;
        if len > TEXT_LEN_MAX {
            self.fail(DecodeErrorKind::LongText { length: len });
            return Some(0);
        }
        Some(len as usize)
    }

    /// Takes the length of a byte string; `None` is null.
    #[inline]
    pub fn take_bytes_len(&mut self, version: Version) -> Option<usize> {
        if version.flexible {
            (self.take_uvarint() as usize).checked_sub(1)
        } else {
            usize::try_from(i32::from_be_bytes(self.take())).ok()
        }
    }

    /// Takes the number of elements of an array; `None` is null. See [`array_len`](Self::array_len).
    #[inline]
    pub fn take_array_len(&mut self, version: Version) -> Option<usize> {
        let len = self.take_bytes_len(version)?;
        if len > self.remaining() || len > ARRAY_LEN_MAX as usize {
            self.fail(DecodeErrorKind::LongArray {
                count: u32::try_from(len).unwrap_or(u32::MAX),
            });
            return Some(0);
        }
        Some(len)
    }

    /// Room for the `len` elements of an array. An element in memory may be many times larger than
    /// on the wire, so that no more is reserved in advance than has arrived.
    #[inline]
    pub fn take_room<T>(&mut self, len: usize) -> Vec<T> {
        Vec::with_capacity(self.room(len, size_of::<T>().max(1)))
    }

    /// For how many of `len` elements of `size` bytes room is reserved.
    fn room(&mut self, len: usize, size: usize) -> usize {
        let Some(memory) = self.memory.checked_sub(len.saturating_mul(size)) else {
            self.fail(DecodeErrorKind::LongArray {
                count: u32::try_from(len).unwrap_or(u32::MAX),
            });
            return 0;
        };
        self.memory = memory;
        let room = self.remaining().max(RESERVED_BYTES_MIN) / size;
        len.min(room.max(1))
    }

    /// Passes over the tagged fields of a struct that has none of its own.
    #[inline]
    pub fn take_no_tags(&mut self) {
        if self.has_tags() {
            self.take_unknown_tags_only();
        }
    }

    /// Whether a struct ends with tagged fields that must be looked at. If not, the number of them,
    /// which is none, has been read.
    #[inline]
    pub fn has_tags(&mut self) -> bool {
        if self.unknown.is_some() || self.buf.get(self.position) != Some(&0) {
            return true;
        }
        let [_] = self.take();
        false
    }

    #[cold]
    fn take_unknown_tags_only(&mut self) {
        let mut tags = self.take_tags();
        while self.take_tag(&mut tags).is_some() {
            self.unknown_tag(&tags);
            self.leave_tag(&tags);
        }
    }

    /// Begins to take the tagged fields of a struct.
    pub fn take_tags(&mut self) -> TagsRead {
        let mut left = self.take_uvarint();
        if left > TAGS_MAX {
            self.fail(DecodeErrorKind::ManyTags { count: left });
            left = 0;
        }
        let mut slot = 0;
        if let Some(unknown) = &mut self.unknown {
            slot = unknown.structs.len();
            unknown.structs.push_back(Vec::new());
        }
        TagsRead {
            left,
            tag: 0,
            outer_end: self.end,
            slot,
        }
    }

    /// The tag of the next tagged field. Until [`leave_tag`](Self::leave_tag), reading stops where
    /// the field ends.
    pub fn take_tag(&mut self, tags: &mut TagsRead) -> Option<u32> {
        if tags.left == 0 || self.failure.is_some() {
            return None;
        }
        tags.left -= 1;
        tags.tag = self.take_uvarint();
        let len = self.take_uvarint() as usize;
        if len > self.remaining() {
            self.ends_early(len);
        }
        if self.failure.is_some() {
            return None;
        }
        self.end = self.position + len;
        Some(tags.tag)
    }

    /// Ends the current tagged field.
    pub fn leave_tag(&mut self, tags: &TagsRead) {
        if self.position != self.end {
            self.fail(DecodeErrorKind::TagLength);
        } else if self.failure.is_none() {
            self.end = tags.outer_end;
        }
    }

    /// A message that has no such version.
    #[cold]
    pub(crate) fn unsupported(&self, message: &'static str, version: i16) -> DecodeError {
        self.error(DecodeErrorKind::UnsupportedVersion { version })
            .in_field(message, "version")
    }

    /// Remembers a failure at the current position, unless there has been one. Nothing is left to
    /// be read.
    #[cold]
    pub fn fail(&mut self, kind: DecodeErrorKind) {
        if self.failure.is_none() {
            self.failure = Some(self.error(kind));
        }
        self.end = self.position;
    }

    /// Remembers a failure that was already told.
    #[doc(hidden)]
    #[cold]
    pub fn fail_again(&mut self, error: DecodeError) {
        self.failure = Some(error);
    }

    /// Fails if reading has failed.
    #[inline]
    pub fn check(&mut self) -> Result<(), DecodeError> {
        match self.failure.take() {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    /// The value, if reading has not failed.
    #[inline]
    pub fn checked<T>(&mut self, value: T) -> Result<T, DecodeError> {
        self.check().map(|()| value)
    }

    /// Begins a message, for the derive.
    #[doc(hidden)]
    #[inline]
    pub const fn start(&mut self) -> Start {
        let start = Start {
            position: self.position,
            end: self.end,
            memory: self.memory,
            to_the_end: self.to_the_end,
        };
        self.to_the_end = false;
        start
    }

    /// Ends the message that began at `start`, and fails if reading has failed; for the derive.
    #[doc(hidden)]
    pub fn check_message(
        &mut self,
        start: Start,
        version: Version,
        schema: &Schema,
    ) -> Result<(), DecodeError> {
        if start.to_the_end && self.position != self.end {
            let count = self.remaining();
            self.fail(DecodeErrorKind::TrailingBytes { count });
            return self.check();
        }
        match self.failure.take() {
            None => Ok(()),
            Some(failure) => Err(schema.locate(failure, self.again(start), version)),
        }
    }

    /// A second reader from `start` on.
    fn again(&self, start: Start) -> Self {
        Self {
            position: start.position,
            end: start.end,
            memory: start.memory,
            ..Self::new(self.buf.clone())
        }
    }

    #[cold]
    fn ends_early(&mut self, needed: usize) {
        let missing = needed - self.remaining();
        self.fail(DecodeErrorKind::EndsEarly { missing });
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
    fn a_text_is_no_longer_with_a_compact_length() {
        for (length, refused) in [(0x7fff_u32, false), (0x8000, true)] {
            let mut writer = crate::Writer::contiguous();
            writer.put_uvarint(length + 1);
            let mut reader = Reader::new(writer.finish_contiguous().unwrap());
            let read = reader.str_len(Version {
                number: 9,
                flexible: true,
            });
            match read {
                Ok(read) => assert_eq!((read, refused), (Some(length as usize), false)),
                Err(error) => {
                    assert_eq!(error.kind(), DecodeErrorKind::LongText { length });
                    assert!(refused);
                }
            }
        }
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
