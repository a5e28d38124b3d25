use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 128 bits that name a topic, a directory, a cluster or an incarnation. Written in base64url without padding, 22
/// characters, as Kafka does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

/// The identity of one incarnation of a topic (KIP-516): a topic deleted and created again has another.
pub type TopicId = Uuid;

/// Text that was expected to be a uuid is not 22 characters of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUuid;

impl fmt::Display for InvalidUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a uuid as 22 characters of base64url")
    }
}

impl std::error::Error for InvalidUuid {}

impl Uuid {
    /// "Absent" on the wire.
    pub const ZERO: Self = Self([0; 16]);
    /// The topic id of the metadata log, the same in every cluster.
    pub const CLUSTER_METADATA: Self = Self(1_u128.to_be_bytes());

    /// Wraps 16 bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A random uuid (version 4) out of 16 random bytes.
    ///
    /// The caller brings the randomness. Kafka never hands out a uuid whose text begins with a dash, since tools would
    /// take it for an option; the bit that makes the first character a dash is cleared here.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        if bytes[0] >> 2 == 62 {
            bytes[0] &= 0x7f;
        }
        Self(bytes)
    }

    /// Whether this is the uuid that stands for "absent".
    pub const fn is_zero(&self) -> bool {
        u128::from_be_bytes(self.0) == 0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0_u8; 22];
        for (i, c) in text.iter_mut().enumerate() {
            // 21 characters of 6 bits, and the last one carries the remaining 2 bits on its left.
            let group = if i < 21 {
                bits >> (122 - 6 * i)
            } else {
                bits << 4
            };
            *c = ALPHABET[(group & 0x3f) as usize];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, InvalidUuid> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return Err(InvalidUuid);
        }
        let mut bits = 0_u128;
        for (i, c) in text.iter().enumerate() {
            let digit = ALPHABET.iter().position(|a| a == c).ok_or(InvalidUuid)? as u128;
            bits = if i < 21 {
                (bits << 6) | digit
            } else {
                (bits << 2) | (digit >> 4)
            };
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_metadata_topic_has_kafkas_text() {
        assert_eq!(Uuid::CLUSTER_METADATA.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAA+Q",
            "AAAAAAAAAAAAAAAAAAAAAQ==",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(InvalidUuid), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(bytes: [u8; 16]) {
            let uuid = Uuid::from_bytes(bytes);
            prop_assert_eq!(uuid.to_string().parse(), Ok(uuid));
        }

        #[test]
        fn a_random_uuid_never_begins_with_a_dash(bytes: [u8; 16]) {
            prop_assert!(!Uuid::from_random(bytes).to_string().starts_with('-'));
        }
    }
}
