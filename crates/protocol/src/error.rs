use std::fmt;

use crate::Version;

/// Bytes that are not the message they should be.
///
/// Names the field and the position at which reading failed.
#[derive(Clone, PartialEq, Eq)]
pub struct DecodeError(Box<Failure<DecodeErrorKind>>);

/// A message that cannot be written in the wanted version.
///
/// Names the field that cannot.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodeError(Box<Failure<EncodeErrorKind>>);

/// Boxed, so that the results of the hot path stay as small as a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure<K> {
    kind: K,
    struct_name: &'static str,
    field: &'static str,
    position: usize,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The bytes end within a field that needs `missing` more of them.
    EndsEarly {
        /// How many bytes are missing.
        missing: usize,
    },
    /// A field that cannot be null is null.
    Null,
    /// Text is not UTF-8.
    NotUtf8,
    /// A varint has more than five bytes.
    LongVarint,
    /// A text is longer than any may be; Kafka takes 32,767 bytes at most in every version.
    LongText {
        /// The length that was claimed, in bytes.
        length: u32,
    },
    /// An array claims more elements than there are bytes left, or than any message may have.
    LongArray {
        /// The number of elements that was claimed.
        count: u32,
    },
    /// A struct claims more tagged fields than any may have.
    ManyTags {
        /// The number of tagged fields that was claimed.
        count: u32,
    },
    /// A tagged field is shorter than its stated length.
    TagLength,
    /// The message does not exist in this version.
    UnsupportedVersion {
        /// The version that was asked for.
        version: i16,
    },
    /// There is no message or record of this number.
    UnknownKey {
        /// The API key, or the type of a record.
        key: i32,
    },
    /// Bytes are left where none may be.
    TrailingBytes {
        /// How many bytes are left.
        count: usize,
    },
}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// The message does not exist in this version.
    UnsupportedVersion {
        /// The version that was asked for.
        version: i16,
    },
    /// The field says something that this version has no place for, and that must not be lost.
    NotCarried {
        /// The version that was asked for.
        version: i16,
    },
    /// The field is null, which it may not be in this version.
    Null {
        /// The version that was asked for.
        version: i16,
    },
    /// A text, an array or the message is longer than its length field can say.
    TooLong {
        /// The length that does not fit.
        length: usize,
    },
    /// The content of the field lies in a file, but the message is wanted in one piece.
    Deferred,
}

impl DecodeError {
    /// An error at `position` bytes after the start, in no field yet.
    #[cold]
    pub fn new(kind: DecodeErrorKind, position: usize) -> Self {
        Self(Box::new(Failure {
            kind,
            struct_name: "",
            field: "",
            position,
        }))
    }

    /// The same error, in `field` of `struct_name`, unless a field within has been named already.
    #[cold]
    #[must_use]
    pub fn in_field(mut self, struct_name: &'static str, field: &'static str) -> Self {
        self.0.name(struct_name, field);
        self
    }

    /// What is wrong.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.0.kind
    }

    /// The struct and the field that could not be read; empty outside of any struct.
    pub const fn field(&self) -> (&'static str, &'static str) {
        (self.0.struct_name, self.0.field)
    }

    /// How many bytes after the start the trouble begins.
    pub const fn position(&self) -> usize {
        self.0.position
    }
}

impl EncodeError {
    /// An error in no field yet.
    #[cold]
    pub fn new(kind: EncodeErrorKind) -> Self {
        Self(Box::new(Failure {
            kind,
            struct_name: "",
            field: "",
            position: 0,
        }))
    }

    /// A message that has no such version.
    #[cold]
    pub(crate) fn unsupported(message: &'static str, version: i16) -> Self {
        Self::new(EncodeErrorKind::UnsupportedVersion { version }).in_field(message, "version")
    }

    /// A field with content that `version` has no place for.
    #[cold]
    pub fn not_carried(version: Version) -> Self {
        Self::new(EncodeErrorKind::NotCarried {
            version: version.number,
        })
    }

    /// A field that is null and may not be in `version`.
    #[cold]
    pub fn null(version: Version) -> Self {
        Self::new(EncodeErrorKind::Null {
            version: version.number,
        })
    }

    /// The same error, in `field` of `struct_name`, unless a field within has been named already.
    #[cold]
    #[must_use]
    pub fn in_field(mut self, struct_name: &'static str, field: &'static str) -> Self {
        self.0.name(struct_name, field);
        self
    }

    /// What is wrong.
    pub const fn kind(&self) -> EncodeErrorKind {
        self.0.kind
    }

    /// The struct and the field that could not be written; empty outside of any struct.
    pub const fn field(&self) -> (&'static str, &'static str) {
        (self.0.struct_name, self.0.field)
    }
}

impl<K> Failure<K> {
    fn name(&mut self, struct_name: &'static str, field: &'static str) {
        if self.field.is_empty() {
            self.struct_name = struct_name;
            self.field = field;
        }
    }

    fn place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            Ok(())
        } else {
            write!(f, "{}.{}: ", self.struct_name, self.field)
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.place(f)?;
        match self.0.kind {
            DecodeErrorKind::EndsEarly { missing } => {
                write!(f, "the bytes end {missing} too early")
            }
            DecodeErrorKind::Null => f.write_str("null where a value is needed"),
            DecodeErrorKind::NotUtf8 => f.write_str("text that is not UTF-8"),
            DecodeErrorKind::LongVarint => f.write_str("a varint of more than five bytes"),
            DecodeErrorKind::LongText { length } => {
                write!(f, "a text that claims {length} bytes")
            }
            DecodeErrorKind::LongArray { count } => {
                write!(f, "an array that claims {count} elements")
            }
            DecodeErrorKind::ManyTags { count } => {
                write!(f, "a struct that claims {count} tagged fields")
            }
            DecodeErrorKind::TagLength => {
                f.write_str("a tagged field that is shorter than its length")
            }
            DecodeErrorKind::UnsupportedVersion { version } => {
                write!(f, "version {version} does not exist")
            }
            DecodeErrorKind::UnknownKey { key } => write!(f, "key {key} is not known"),
            DecodeErrorKind::TrailingBytes { count } => {
                write!(f, "{count} bytes after the end")
            }
        }?;
        write!(f, " (at byte {})", self.0.position)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.place(f)?;
        match self.0.kind {
            EncodeErrorKind::UnsupportedVersion { version } => {
                write!(f, "version {version} does not exist")
            }
            EncodeErrorKind::NotCarried { version } => {
                write!(f, "version {version} has no place for it")
            }
            EncodeErrorKind::Null { version } => write!(f, "may not be null in version {version}"),
            EncodeErrorKind::TooLong { length } => write!(f, "{length} is too long"),
            EncodeErrorKind::Deferred => f.write_str("the content still lies in a file"),
        }
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({self})")
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodeError({self})")
    }
}

impl std::error::Error for DecodeError {}
impl std::error::Error for EncodeError {}
