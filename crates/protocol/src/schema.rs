use crate::{Version, VersionRange};

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
