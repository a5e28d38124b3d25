use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// Text that may be a slice of the buffer it was read from.
///
/// Cloning never copies. A `Str` read from a request keeps the whole request alive, so what is stored for long is
/// stored [detached](Str::detach).
#[derive(Clone, Default)]
pub struct Str(Bytes);

/// Bytes that were expected to be UTF-8 are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8 {
    /// How many leading bytes are valid.
    pub valid_up_to: usize,
}

impl Str {
    /// Empty text.
    pub const EMPTY: Self = Self::from_static("");

    /// Text of the program itself.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The text in `bytes`, not copied.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, InvalidUtf8> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(e) => Err(InvalidUtf8 {
                valid_up_to: e.valid_up_to(),
            }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Every constructor has checked the bytes. Checking again costs a few nanoseconds on names, and keeps the
        // workspace free of `unsafe`.
        std::str::from_utf8(&self.0).expect("a Str holds UTF-8")
    }

    /// The bytes of the text.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// A copy that shares no buffer with anything else.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl std::ops::Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

// A `Str` must hash like the text it is equal to, since `Borrow` lets maps look it up by `&str`.
impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let error = Str::from_utf8(Bytes::from_static(b"ab\xff")).unwrap_err();
        assert_eq!(error, InvalidUtf8 { valid_up_to: 2 });
    }

    #[test]
    fn a_map_of_str_is_searched_by_plain_text() {
        let map = std::collections::HashMap::from([(Str::from("a"), 1)]);
        assert_eq!(map.get("a"), Some(&1));
    }

    #[test]
    fn a_detached_copy_is_equal_and_elsewhere() {
        let text = Str::from("orders");
        let copy = text.detach();
        assert_eq!(text, copy);
        assert_ne!(text.as_bytes().as_ptr(), copy.as_bytes().as_ptr());
    }
}
