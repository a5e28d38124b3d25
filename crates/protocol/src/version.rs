use std::fmt;

/// The version in which a message is read or written.
///
/// It is handed down to every field. Whether the version is flexible (KIP-482: compact lengths and
/// tagged fields) is decided once, by the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number of the version, as in the request header.
    pub number: i16,
    /// Whether lengths are compact and structs end with tagged fields.
    pub flexible: bool,
}

impl Version {
    /// The version of this number, if it is one of `versions`.
    pub(crate) fn of(versions: VersionRange, flexible: VersionRange, number: i16) -> Option<Self> {
        versions.contains(number).then(|| Self {
            number,
            flexible: flexible.contains(number),
        })
    }
}

/// Versions from `min` to `max`, both included; empty if `min` is larger than `max`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The first version.
    pub min: i16,
    /// The last version.
    pub max: i16,
}

impl VersionRange {
    /// Every version.
    pub const ALL: Self = Self {
        min: 0,
        max: i16::MAX,
    };
    /// No version.
    pub const NONE: Self = Self { min: 0, max: -1 };

    /// The versions from `min` to `max`.
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// Whether `version` is one of them.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether there is no version in the range.
    pub const fn is_empty(self) -> bool {
        self.min > self.max
    }

    /// The versions that are in both ranges.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        let min = if self.min > other.min {
            self.min
        } else {
            other.min
        };
        let max = if self.max < other.max {
            self.max
        } else {
            other.max
        };
        Self { min, max }
    }

    /// Every version, in order.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_empty(), self.max) {
            (true, _) => f.write_str("none"),
            (false, i16::MAX) => write!(f, "{}+", self.min),
            (false, _) if self.min == self.max => write!(f, "{}", self.min),
            (false, _) => write!(f, "{}-{}", self.min, self.max),
        }
    }
}

impl fmt::Debug for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet() {
        let meet = |a: (i16, i16), b: (i16, i16)| {
            VersionRange::new(a.0, a.1).intersection(VersionRange::new(b.0, b.1))
        };
        assert_eq!(meet((0, 4), (2, 9)), VersionRange::new(2, 4));
        assert!(meet((0, 4), (5, 9)).is_empty());
        assert_eq!(meet((0, 4), (5, 9)).iter().count(), 0);
    }

    #[test]
    fn ranges_are_written_as_kafka_writes_them() {
        assert_eq!(VersionRange::new(3, 13).to_string(), "3-13");
        assert_eq!(VersionRange::new(0, 0).to_string(), "0");
        assert_eq!(VersionRange::new(4, i16::MAX).to_string(), "4+");
        assert_eq!(VersionRange::NONE.to_string(), "none");
    }
}
