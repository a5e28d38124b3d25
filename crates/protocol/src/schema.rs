use crate::{DecodeError, DecodeErrorKind, Reader, Version, VersionRange};

/// What a struct looks like on the wire, as `#[derive(Wire)]` read it off the Rust struct.
#[derive(Debug)]
pub struct Schema {
    /// Kafka's name of the struct.
    pub name: &'static str,
    /// The fields, in the order of the wire; tagged fields stand where they were declared.
    pub fields: &'static [Field],
}

/// One field of a [`Schema`].
#[derive(Debug)]
pub struct Field {
    /// Kafka's name of the field, in snake case.
    pub name: &'static str,
    /// The name of the field in Kafka's JSON.
    pub json: &'static str,
    /// The versions that have the field.
    pub versions: VersionRange,
    /// The versions in which the field may be null, if its kind is [`Kind::Nullable`].
    pub nullable: VersionRange,
    /// The tag, if this is a tagged field.
    pub tag: Option<u32>,
    /// Whether a version without the field may lose what it says.
    pub ignorable: bool,
    /// Whether the field must not be shown: a password, a key, a token.
    pub secret: bool,
    /// The type of the field.
    pub kind: Kind,
}

/// A type on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool,
    /// A signed byte.
    Int8,
    /// Two bytes, signed.
    Int16,
    /// Two bytes, unsigned.
    Uint16,
    /// Four bytes, signed.
    Int32,
    /// Four bytes, unsigned.
    Uint32,
    /// Eight bytes, signed.
    Int64,
    /// Eight bytes, IEEE 754.
    Float64,
    /// Sixteen bytes.
    Uuid,
    /// A length and UTF-8.
    String,
    /// A length and bytes.
    Bytes,
    /// A length and record batches.
    Records,
    /// A number of elements and the elements.
    Array(&'static Self),
    /// The fields of another struct.
    Struct(&'static Schema),
    /// One of the above, or null.
    Nullable(&'static Self),
}

impl Schema {
    /// Which field has `tag` in `version`.
    pub fn tagged(&self, tag: u32, version: Version) -> Option<usize> {
        let has = |field: &Field| field.tag == Some(tag) && field.versions.contains(version.number);
        self.fields.iter().position(has)
    }
}

impl Field {
    /// The type of the field without [`Kind::Nullable`], and whether it may be null in `version`.
    pub const fn kind_in(&self, version: Version) -> (Kind, bool) {
        match self.kind {
            Kind::Nullable(kind) => (*kind, self.nullable.contains(version.number)),
            kind => (kind, false),
        }
    }
}

impl Kind {
    /// Record batches instead of bytes.
    pub const fn holding_records(self) -> Self {
        match self {
            Self::Bytes => Self::Records,
            Self::Nullable(Self::Bytes) => Self::Nullable(&Self::Records),
            _ => panic!("records are bytes"),
        }
    }
}

impl Schema {
    /// The same error, told by the field in which it is. Structs are read without a word about
    /// where that is, so the bytes are read a second time, by the schema.
    #[cold]
    pub(crate) fn locate(
        &self,
        error: DecodeError,
        mut reader: Reader,
        version: Version,
    ) -> DecodeError {
        match self.skip(&mut reader, version) {
            Err(located) => located,
            // More memory than there may be: only the struct knows how much it takes.
            Ok(()) => error.in_field(self.name, "arrays"),
        }
    }

    /// Passes over a struct.
    fn skip(&self, reader: &mut Reader, version: Version) -> Result<(), DecodeError> {
        for field in self.fields {
            if field.tag.is_none() && field.versions.contains(version.number) {
                self.skip_field(field, reader, version)?;
            }
        }
        if !version.flexible {
            return Ok(());
        }
        let in_tags = |error: DecodeError| error.in_field(self.name, "tagged fields");
        let mut tags = reader.begin_tags().map_err(in_tags)?;
        while let Some(tag) = reader.next_tag(&mut tags).map_err(in_tags)? {
            match self.tagged(tag, version) {
                Some(i) => self.skip_field(&self.fields[i], reader, version)?,
                None => reader.unknown_tag(&tags),
            }
            reader.end_tag(&tags).map_err(in_tags)?;
        }
        Ok(())
    }

    fn skip_field(
        &self,
        field: &Field,
        reader: &mut Reader,
        version: Version,
    ) -> Result<(), DecodeError> {
        let (kind, nullable) = field.kind_in(version);
        kind.skip(nullable, reader, version)
            .map_err(|error| error.in_field(self.name, field.name))
    }
}

impl Kind {
    /// Passes over a value.
    fn skip(
        self,
        nullable: bool,
        reader: &mut Reader,
        version: Version,
    ) -> Result<(), DecodeError> {
        let len = match self {
            Self::Bool | Self::Int8 => 1,
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 => 4,
            Self::Int64 | Self::Float64 => 8,
            Self::Uuid => 16,
            Self::String => match reader.str_len(version)? {
                Some(len) => return reader.str(len).map(drop),
                None => return reader.null(nullable),
            },
            Self::Bytes | Self::Records => match reader.bytes_len(version)? {
                Some(len) => len,
                None => return reader.null(nullable),
            },
            Self::Array(element) => match reader.array_len(version)? {
                Some(len) => {
                    return (0..len).try_for_each(|_| element.skip(false, reader, version));
                }
                None => return reader.null(nullable),
            },
            Self::Struct(_) if nullable && reader.i8()? <= 0 => return Ok(()),
            Self::Struct(schema) => return schema.skip(reader, version),
            Self::Nullable(kind) => return kind.skip(true, reader, version),
        };
        reader.slice(len).map(drop)
    }
}

impl Reader {
    fn null(&self, nullable: bool) -> Result<(), DecodeError> {
        match nullable {
            true => Ok(()),
            false => Err(self.error(DecodeErrorKind::Null)),
        }
    }
}
