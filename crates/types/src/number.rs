use std::fmt;

/// Declares a newtype over an integer: ordered, hashable, printable, with `new`, `value` and `From` both ways.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a plain number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The plain number.
            pub const fn value(self) -> $inner {
                self.0
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The place of a record in its partition. Record offsets start at 0 and never change.
    ///
    /// Adding may not overflow: offsets grow one record at a time from 0, and a hostile one is refused where it is read.
    Offset(i64)
}

number! {
    /// How often the leadership of a partition (or of the metadata quorum) has changed hands.
    LeaderEpoch(i32)
}

number! {
    /// A broker or controller of a cluster (`node.id`).
    NodeId(i32)
}

number! {
    /// Which producer wrote a batch, for idempotence and transactions (KIP-98).
    ProducerId(i64)
}

number! {
    /// The incarnation of a producer: a higher one fences the lower ones (KIP-98).
    ProducerEpoch(i16)
}

/// The number of a partition within its topic, from 0.
pub type PartitionIndex = i32;

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);
    /// "No offset" in answers (-1).
    pub const NONE: Self = Self(-1);

    /// The following offset.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LeaderEpoch {
    /// "Unknown" or "do not check" (-1).
    pub const NONE: Self = Self(-1);

    /// The following epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl NodeId {
    /// "No node" (-1): a partition without leader, a fetch by a consumer.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// A batch without producer id (-1): neither idempotent nor transactional.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// A batch without producer epoch (-1).
    pub const NONE: Self = Self(-1);
}

impl std::ops::Add<i64> for Offset {
    type Output = Self;

    fn add(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

impl std::ops::AddAssign<i64> for Offset {
    fn add_assign(&mut self, records: i64) {
        self.0 += records;
    }
}

impl std::ops::Sub for Offset {
    type Output = i64;

    fn sub(self, other: Self) -> i64 {
        self.0 - other.0
    }
}
