use std::fmt;

use tidelog_types::{ErrorCode, Str};

/// The answer to a request, or to a part of one, that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The code.
    pub code: ErrorCode,
    /// What is wrong, if there is more to say than the code does.
    pub message: Option<Str>,
}

impl ApiError {
    /// A code and a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(Str::from(message.into())),
        }
    }
}

/// A code that says it all: its own text is the message.
impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: Some(Str::from_static(code.text())),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.code),
            None => self.code.fmt(f),
        }
    }
}

impl std::error::Error for ApiError {}
