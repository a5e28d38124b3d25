use std::fmt;

use tidelog_types::Str;

/// A text that nobody may see: printed, it is `(secret)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Str);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        self.0.as_str()
    }
}

impl From<Str> for Secret {
    fn from(text: Str) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
