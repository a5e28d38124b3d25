use bytes::{BufMut, Bytes, BytesMut};
use tidelog_types::Uuid;

use crate::{EncodeError, EncodeErrorKind, UnknownTags, Version};

/// Byte strings from this length on are handed to the socket as they are; shorter ones are cheaper
/// to copy.
const SPLICED_LEN_MIN: usize = 1024;
/// A compact length of one byte.
const SHORT_LEN_MAX: usize = 126;

/// A piece of an encoded message. The pieces, one after the other, are the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes that still lie in a file.
    Deferred {
        /// How many bytes.
        len: u32,
        /// What the transport finds the bytes by; means nothing to this crate.
        token: u64,
    },
}

impl Chunk {
    /// How many bytes the chunk stands for.
    pub const fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Deferred { len, .. } => *len as usize,
        }
    }

    /// Whether the chunk stands for no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Collects encoded messages as a list of chunks, so that large byte strings are never copied.
///
/// Writing does not fail on the way: the writer remembers the first failure, and whoever began to
/// write asks for it with [`check`](Self::check).
///
/// Everything small goes into one buffer. A writer may be kept and used again after
/// [`finish`](Self::finish): the buffer is reclaimed as soon as the chunks are gone.
///
/// ```
/// use tidelog_protocol::{Chunk, Writer};
///
/// let records = bytes::Bytes::from(vec![7; 100_000]);
/// let mut writer = Writer::new();
/// writer.put_i32(100_000);
/// writer.put_bytes(&records);
/// let chunks = writer.finish();
/// assert_eq!(chunks.iter().map(Chunk::len).sum::<usize>(), 100_004);
/// assert_eq!(chunks[1], Chunk::Bytes(records), "not a copy");
/// ```
#[derive(Debug)]
pub struct Writer {
    buf: BytesMut,
    /// In order of place.
    splices: Vec<Splice>,
    /// The length of all splices together.
    spliced: usize,
    spliced_len_min: usize,
    failure: Option<EncodeError>,
    unknown: UnknownTags,
}

/// A chunk that belongs before byte `at` of the buffer.
#[derive(Debug)]
struct Splice {
    at: usize,
    chunk: Chunk,
}

/// A place in a writer, to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    at: usize,
    splices: usize,
    spliced: usize,
}

/// The tagged fields of one struct while they are written.
#[derive(Debug)]
pub struct TagsWritten {
    unknown: Option<std::iter::Peekable<std::vec::IntoIter<(u32, Bytes)>>>,
}

macro_rules! put_number {
    ($($name:ident $type:ty),*) => {
        $(
            #[doc = concat!("Writes a big-endian `", stringify!($type), "`.")]
            #[inline]
            pub fn $name(&mut self, value: $type) {
                self.buf.$name(value);
            }
        )*
    };
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A writer whose large byte strings become chunks of their own.
    pub fn new() -> Self {
        Self {
            buf: BytesMut::new(),
            splices: Vec::new(),
            spliced: 0,
            spliced_len_min: SPLICED_LEN_MIN,
            failure: None,
            unknown: UnknownTags::default(),
        }
    }

    /// A writer that copies everything, for messages wanted in one piece.
    pub fn contiguous() -> Self {
        Self {
            spliced_len_min: usize::MAX,
            ..Self::new()
        }
    }

    /// Writes `tags` again at the places they were read from, see [`UnknownTags`].
    #[must_use]
    pub fn emit_unknown_tags(mut self, tags: UnknownTags) -> Self {
        self.unknown = tags;
        self
    }

    /// How many bytes the chunks will have together.
    pub fn len(&self) -> usize {
        self.buf.len() + self.spliced
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `additional` bytes.
    pub fn reserve(&mut self, additional: usize) {
        self.buf.reserve(additional);
    }

    put_number!(put_i8 i8, put_i16 i16, put_u16 u16, put_i32 i32, put_u32 u32);
    put_number!(put_i64 i64, put_f64 f64);

    /// Writes a bool as 0 or 1.
    #[inline]
    pub fn put_bool(&mut self, value: bool) {
        self.buf.put_u8(u8::from(value));
    }

    /// Writes 16 bytes.
    #[inline]
    pub fn put_uuid(&mut self, value: Uuid) {
        self.buf.put_slice(value.as_bytes());
    }

    /// Writes `N` bytes.
    #[inline]
    pub fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.buf.put_slice(&bytes);
    }

    /// Writes an unsigned number, seven bits a byte, least significant first.
    #[inline]
    pub fn put_uvarint(&mut self, value: u32) {
        if value < 0x80 {
            self.buf.put_u8(value as u8);
        } else {
            self.put_long_uvarint(value);
        }
    }

    fn put_long_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(value as u8);
    }

    /// Copies `bytes`.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buf.put_slice(bytes);
    }

    /// Writes `bytes`, not copied if they are many.
    #[inline]
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() >= self.spliced_len_min {
            self.splice(Chunk::Bytes(bytes.clone()));
        } else {
            self.buf.put_slice(bytes);
        }
    }

    /// Leaves a place for `len` bytes of a file.
    pub fn put_deferred(&mut self, len: u32, token: u64) {
        self.splice(Chunk::Deferred { len, token });
    }

    /// Writes a text with its length.
    #[inline]
    pub fn put_str(&mut self, text: &[u8], version: Version) {
        let room = self.buf.capacity() - self.buf.len();
        if version.flexible && text.len() <= SHORT_LEN_MAX && room > text.len() {
            self.buf.put_u8(text.len() as u8 + 1);
            self.buf.put_slice(text);
        } else {
            self.put_long_str(text, version);
        }
    }

    fn put_long_str(&mut self, text: &[u8], version: Version) {
        self.put_str_len(Some(text.len()), version);
        self.buf.put_slice(text);
    }

    /// Writes the length of a text; `None` is null.
    #[inline]
    pub fn put_str_len(&mut self, len: Option<usize>, version: Version) {
        if version.flexible {
            return self.put_compact_len(len);
        }
        let len = len.map_or(-1, |len| match i16::try_from(len) {
            Ok(len) => len,
            Err(_) => self.too_long(len),
        });
        self.put_i16(len);
    }

    /// Writes the length of a byte string or an array; `None` is null.
    #[inline]
    pub fn put_len(&mut self, len: Option<usize>, version: Version) {
        if version.flexible {
            return self.put_compact_len(len);
        }
        let len = len.map_or(-1, |len| match i32::try_from(len) {
            Ok(len) => len,
            Err(_) => self.too_long(len),
        });
        self.put_i32(len);
    }

    /// Writes that a struct ends without tagged fields.
    #[inline]
    pub fn put_no_tags(&mut self) {
        if self.unknown.structs.is_empty() {
            self.buf.put_u8(0);
        } else {
            self.put_unknown_tags();
        }
    }

    #[cold]
    fn put_unknown_tags(&mut self) {
        let tags = self.begin_tags(0);
        self.end_tags(tags);
    }

    /// Begins the tagged fields of a struct, of which `count` [begin](Self::begin_tag) next.
    #[inline]
    pub fn begin_tags(&mut self, count: u32) -> TagsWritten {
        if self.unknown.structs.is_empty() {
            self.put_uvarint(count);
            return TagsWritten { unknown: None };
        }
        let unknown = self.unknown.structs.pop_front().unwrap_or_default();
        self.put_uvarint(count + unknown.len() as u32);
        TagsWritten {
            unknown: Some(unknown.into_iter().peekable()),
        }
    }

    /// Begins a tagged field, whose value is written next. Tags must come in ascending order.
    pub fn begin_tag(&mut self, tags: &mut TagsWritten, tag: u32) -> Mark {
        let unknown = tags.unknown.iter_mut();
        for unknown in unknown {
            while let Some((tag, value)) = unknown.next_if(|(unknown, _)| *unknown < tag) {
                self.put_unknown_tag(tag, &value);
            }
        }
        self.put_uvarint(tag);
        self.mark()
    }

    /// Ends the tagged field that began there.
    pub fn end_tag(&mut self, begin: Mark) {
        self.insert_len(begin);
    }

    /// Ends the tagged fields of a struct.
    #[inline]
    pub fn end_tags(&mut self, tags: TagsWritten) {
        for (tag, value) in tags.unknown.into_iter().flatten() {
            self.put_unknown_tag(tag, &value);
        }
    }

    /// Remembers a failure, unless there has been one.
    #[cold]
    pub fn fail(&mut self, error: EncodeError) {
        self.failure.get_or_insert(error);
    }

    /// Fails if something that was written could not be.
    #[inline]
    pub fn check(&mut self) -> Result<(), EncodeError> {
        match self.failure.take() {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    /// The current place.
    pub fn mark(&self) -> Mark {
        Mark {
            at: self.buf.len(),
            splices: self.splices.len(),
            spliced: self.spliced,
        }
    }

    /// How many bytes have been written since `mark`.
    pub fn len_since(&self, mark: Mark) -> usize {
        self.buf.len() - mark.at + self.spliced - mark.spliced
    }

    /// Forgets what has been written since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.buf.truncate(mark.at);
        self.splices.truncate(mark.splices);
        self.spliced = mark.spliced;
    }

    /// Replaces the four bytes written right after `mark`.
    pub fn set_u32_at(&mut self, mark: Mark, value: u32) {
        self.buf[mark.at..mark.at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Takes everything that was written.
    pub fn finish(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::with_capacity(2 * self.splices.len() + 1);
        self.finish_into(&mut chunks);
        chunks
    }

    /// Takes everything that was written, as chunks behind those in `chunks`.
    pub fn finish_into(&mut self, chunks: &mut impl Extend<Chunk>) {
        let mut rest = self.buf.split().freeze();
        let mut taken = 0;
        for Splice { at, chunk } in self.splices.drain(..) {
            let before = rest.split_to(at - taken);
            taken = at;
            let before = (!before.is_empty()).then_some(Chunk::Bytes(before));
            chunks.extend(before.into_iter().chain([chunk]));
        }
        chunks.extend((!rest.is_empty()).then_some(Chunk::Bytes(rest)));
        self.spliced = 0;
    }

    /// Takes everything that was written, in one piece.
    pub fn finish_contiguous(&mut self) -> Result<Bytes, EncodeError> {
        self.check()?;
        if self.splices.is_empty() {
            return Ok(self.buf.split().freeze());
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for chunk in self.finish() {
            match chunk {
                Chunk::Bytes(bytes) => whole.put_slice(&bytes),
                Chunk::Deferred { .. } => return Err(EncodeError::new(EncodeErrorKind::Deferred)),
            }
        }
        Ok(whole.freeze())
    }

    #[inline]
    fn put_compact_len(&mut self, len: Option<usize>) {
        match len {
            None => self.buf.put_u8(0),
            Some(len @ ..=SHORT_LEN_MAX) => self.buf.put_u8(len as u8 + 1),
            Some(len) => self.put_long_compact_len(len),
        }
    }

    #[inline(never)]
    fn put_long_compact_len(&mut self, len: usize) {
        // The other side reads lengths into an i32.
        match i32::try_from(len + 1) {
            Ok(compact) => self.put_uvarint(compact as u32),
            Err(_) => self.too_long(len),
        }
    }

    fn put_unknown_tag(&mut self, tag: u32, value: &Bytes) {
        self.put_uvarint(tag);
        self.put_uvarint(value.len() as u32);
        self.put_bytes(value);
    }

    fn splice(&mut self, chunk: Chunk) {
        self.spliced += chunk.len();
        self.splices.push(Splice {
            at: self.buf.len(),
            chunk,
        });
    }

    /// Puts the length of what was written since `mark` before it. What moves is a tagged field,
    /// which is short.
    fn insert_len(&mut self, mark: Mark) {
        let len = self.len_since(mark);
        let end = self.buf.len();
        match u32::try_from(len) {
            Ok(len) => self.put_uvarint(len),
            Err(_) => self.too_long(len),
        }
        let inserted = self.buf.len() - end;
        self.buf[mark.at..].rotate_right(inserted);
        for splice in &mut self.splices[mark.splices..] {
            splice.at += inserted;
        }
    }

    /// Remembers that `length` does not fit where it belongs.
    #[cold]
    fn too_long<T: Default>(&mut self, length: usize) -> T {
        self.fail(EncodeError::new(EncodeErrorKind::TooLong { length }));
        T::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEXIBLE: Version = Version {
        number: 0,
        flexible: true,
    };

    #[test]
    fn large_byte_strings_are_not_copied() {
        let large = Bytes::from(vec![7; SPLICED_LEN_MIN]);
        let mut writer = Writer::new();
        writer.put_i16(1);
        writer.put_bytes(&large);
        writer.put_deferred(9, 42);
        writer.put_i16(2);
        assert_eq!(writer.len(), 2 + SPLICED_LEN_MIN + 9 + 2);
        let chunks = writer.finish();
        assert_eq!(
            chunks,
            [
                Chunk::Bytes(Bytes::from_static(&[0, 1])),
                Chunk::Bytes(large.clone()),
                Chunk::Deferred { len: 9, token: 42 },
                Chunk::Bytes(Bytes::from_static(&[0, 2])),
            ]
        );
        let Chunk::Bytes(spliced) = &chunks[1] else {
            unreachable!("compared above")
        };
        assert_eq!(spliced.as_ptr(), large.as_ptr());
        assert!(writer.is_empty());
    }

    #[test]
    fn the_length_of_a_tagged_field_counts_its_chunks() {
        let large = Bytes::from(vec![7; SPLICED_LEN_MIN]);
        let mut writer = Writer::new();
        let mut tags = writer.begin_tags(1);
        let mark = writer.begin_tag(&mut tags, 3);
        writer.put_i8(5);
        writer.put_bytes(&large);
        writer.end_tag(mark);
        writer.end_tags(tags);
        let whole = writer.finish_contiguous().unwrap();
        assert_eq!(whole[..5], [1, 3, 0x81, 0x08, 5]);
        assert_eq!(whole[5..], large);
    }

    #[test]
    fn rewinding_forgets_chunks_as_well() {
        let mut writer = Writer::new();
        writer.put_i8(1);
        let mark = writer.mark();
        writer.put_i8(2);
        writer.put_deferred(100, 0);
        assert_eq!(writer.len_since(mark), 101);
        writer.rewind(mark);
        assert_eq!(writer.finish(), [Chunk::Bytes(Bytes::from_static(&[1]))]);
    }

    #[test]
    fn a_length_that_does_not_fit_is_an_error() {
        let mut writer = Writer::new();
        let classic = Version {
            number: 0,
            flexible: false,
        };
        writer.put_str_len(Some(40_000), classic);
        let error = writer.check().unwrap_err();
        assert_eq!(error.kind(), EncodeErrorKind::TooLong { length: 40_000 });
        writer.put_str_len(Some(40_000), FLEXIBLE);
        assert_eq!(writer.check(), Ok(()));
    }

    #[test]
    fn a_deferred_payload_cannot_be_had_in_one_piece() {
        let mut writer = Writer::contiguous();
        writer.put_deferred(1, 0);
        assert_eq!(
            writer.finish_contiguous().unwrap_err().kind(),
            EncodeErrorKind::Deferred
        );
    }
}
