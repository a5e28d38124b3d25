use std::fmt;
use std::ops::RangeInclusive;

use crate::BatchError;

/// How the records of a batch are compressed: bits 0-2 of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not compressed.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in the block framing of snappy-java; a single raw block is read too.
    Snappy,
    /// The standard LZ4 frame with independent blocks.
    Lz4,
    /// The standard Zstandard frame (KIP-110).
    Zstd,
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number of the codec in the attributes of a batch.
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec of this number. Numbers 5 to 7 are not in use.
    pub fn from_id(id: u8) -> Result<Self, BatchError> {
        Self::ALL
            .get(usize::from(id))
            .copied()
            .ok_or(BatchError::UnknownCodec { id })
    }

    /// The name of the codec in `compression.type`.
    ///
    /// Topics and brokers also know `producer` (keep what the producer chose), and `uncompressed`
    /// for none.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec that `compression.type` names; `none` and `uncompressed` are the same.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "uncompressed" => Some(Self::None),
            _ => Self::ALL.into_iter().find(|codec| codec.name() == name),
        }
    }

    /// The level at which Kafka compresses unless told otherwise (KIP-390). -1 is gzip's own word
    /// for its default.
    pub const fn default_level(self) -> Option<i32> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(-1),
            Self::Lz4 => Some(9),
            Self::Zstd => Some(3),
        }
    }

    /// The levels that `compression.<codec>.level` allows, besides the default; none where there is
    /// nothing to choose.
    pub const fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=17),
            Self::Zstd => Some(-131_072..=22),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A codec and how hard it should try.
///
/// LZ4 has one level here, the fast one: the slow levels of Kafka's library produce the same
/// format, only smaller.
///
/// ```
/// use tidelog_record::{Codec, Compression};
///
/// let codec = Codec::from_name("gzip").expect("one of Kafka's");
/// assert_eq!(Compression::with_level(codec, 9)?.level(), 9);
/// assert_eq!(Compression::from(codec).level(), -1);
/// assert!(Compression::with_level(Codec::Snappy, 1).is_err());
/// # Ok::<(), tidelog_record::InvalidLevel>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Compression {
    codec: Codec,
    level: i32,
}

/// The codec has no such level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec} has no level {level}")]
pub struct InvalidLevel {
    /// The codec.
    pub codec: Codec,
    /// What was asked for.
    pub level: i32,
}

impl Compression {
    /// No compression.
    pub const NONE: Self = Self::new(Codec::None);

    /// `codec` at its default level.
    pub const fn new(codec: Codec) -> Self {
        let level = match codec.default_level() {
            Some(level) => level,
            None => 0,
        };
        Self { codec, level }
    }

    /// `codec` at `level`, if it has that level.
    pub fn with_level(codec: Codec, level: i32) -> Result<Self, InvalidLevel> {
        let allowed = codec.levels().is_some_and(|levels| levels.contains(&level))
            || codec.default_level() == Some(level);
        if allowed {
            Ok(Self { codec, level })
        } else {
            Err(InvalidLevel { codec, level })
        }
    }

    /// The codec.
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// The level; 0 for codecs without levels.
    pub const fn level(self) -> i32 {
        self.level
    }
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        Self::new(codec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_and_back() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_id(codec.id()).ok(), Some(codec));
            assert_eq!(Codec::from_name(codec.name()), Some(codec));
        }
        assert!(Codec::from_id(5).is_err());
        assert_eq!(Codec::from_name("uncompressed"), Some(Codec::None));
        assert_eq!(Codec::from_name("producer"), None);
    }

    #[test]
    fn levels_are_those_of_the_configuration() {
        assert!(Compression::with_level(Codec::Gzip, -1).is_ok());
        assert!(Compression::with_level(Codec::Gzip, 0).is_err());
        assert!(Compression::with_level(Codec::Gzip, 9).is_ok());
        assert!(Compression::with_level(Codec::Lz4, 18).is_err());
        assert!(Compression::with_level(Codec::Zstd, -5).is_ok());
        assert!(Compression::with_level(Codec::Snappy, 0).is_err());
    }
}
