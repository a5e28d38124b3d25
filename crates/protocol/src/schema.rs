use crate::VersionRange;

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
    /// The versions that have the field.
    pub versions: VersionRange,
    /// The versions in which the field may be null, if its kind is [`Kind::Nullable`].
    pub nullable: VersionRange,
    /// The tag, if this is a tagged field.
    pub tag: Option<u32>,
    /// Whether a version without the field may lose what it says.
    pub ignorable: bool,
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
