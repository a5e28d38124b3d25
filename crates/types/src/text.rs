use std::borrow::Borrow;
use std::fmt;

use crate::Str;

/// Declares a newtype over [`Str`] for one kind of name.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(Str);

        impl $name {
            /// A name of the program itself.
            pub const fn from_static(text: &'static str) -> Self {
                Self(Str::from_static(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The text inside.
            pub const fn as_inner(&self) -> &Str {
                &self.0
            }

            /// The text inside.
            pub fn into_inner(self) -> Str {
                self.0
            }

            /// A copy that shares no buffer with anything else, for storing.
            #[must_use]
            pub fn detach(&self) -> Self {
                Self(self.0.detach())
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl From<Str> for $name {
            fn from(text: Str) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Str::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Str::from(text))
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == *other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == **other
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

text! {
    /// The name of a topic. As read from a request it may be any text; [`TopicName::validate`] tells whether a topic may
    /// be created with it.
    TopicName
}

text! {
    /// The name of a group of consumers (`group.id`).
    GroupId
}

text! {
    /// The name under which a producer's transactions survive its restarts (`transactional.id`).
    TransactionalId
}

/// Why a topic may not have this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidTopicName {
    /// The name is empty.
    Empty,
    /// The name is `.` or `..`.
    Dots,
    /// The name is longer than [`TopicName::LEN_MAX`].
    TooLong,
    /// The name has a character outside `[A-Za-z0-9._-]`.
    Character(char),
}

impl TopicName {
    /// The longest name of a topic, in bytes.
    pub const LEN_MAX: usize = 249;
    /// The topic in which groups keep their offsets and members.
    pub const CONSUMER_OFFSETS: Self = Self::from_static("__consumer_offsets");
    /// The topic in which transactions keep their state.
    pub const TRANSACTION_STATE: Self = Self::from_static("__transaction_state");
    /// The topic in which share groups keep their state.
    pub const SHARE_GROUP_STATE: Self = Self::from_static("__share_group_state");
    /// The log of the cluster's metadata.
    pub const CLUSTER_METADATA: Self = Self::from_static("__cluster_metadata");

    /// Whether a topic of this name may be created.
    pub fn validate(&self) -> Result<(), InvalidTopicName> {
        match self.as_str() {
            "" => Err(InvalidTopicName::Empty),
            "." | ".." => Err(InvalidTopicName::Dots),
            name if name.len() > Self::LEN_MAX => Err(InvalidTopicName::TooLong),
            name => {
                let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                name.chars()
                    .find(|c| !legal(*c))
                    .map_or(Ok(()), |c| Err(InvalidTopicName::Character(c)))
            }
        }
    }

    /// Whether the brokers keep their own records in this topic, so that clients may not write to it.
    pub fn is_internal(&self) -> bool {
        *self == Self::CONSUMER_OFFSETS
            || *self == Self::TRANSACTION_STATE
            || *self == Self::SHARE_GROUP_STATE
    }
}

impl fmt::Display for InvalidTopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the topic name is empty"),
            Self::Dots => f.write_str("the topic name may not be '.' or '..'"),
            Self::TooLong => {
                write!(
                    f,
                    "the topic name is longer than {} characters",
                    TopicName::LEN_MAX
                )
            }
            Self::Character(c) => write!(
                f,
                "the topic name has the character {c:?}; allowed are ASCII letters, digits, '.', '_' and '-'"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked_as_kafka_does() {
        let check = |name: &str| TopicName::from(name).validate();
        assert_eq!(check("a.B_c-9"), Ok(()));
        assert_eq!(check(&"x".repeat(249)), Ok(()));
        assert_eq!(check(&"x".repeat(250)), Err(InvalidTopicName::TooLong));
        assert_eq!(check(""), Err(InvalidTopicName::Empty));
        assert_eq!(check(".."), Err(InvalidTopicName::Dots));
        assert_eq!(check("..."), Ok(()));
        assert_eq!(check("a b"), Err(InvalidTopicName::Character(' ')));
        assert_eq!(check("ä"), Err(InvalidTopicName::Character('ä')));
    }
}
