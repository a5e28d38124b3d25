//! Messages as text for people: in full, and short enough for a log line. Neither shows a secret.

use std::fmt::{self, Write};

use bytes::Bytes;
use tidelog_types::{
    ErrorCode, GroupId, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Str, Timestamp,
    TopicName, TransactionalId, Uuid,
};

use crate::{ApiKey, Payload};

/// How many elements of an array a line shows.
const ELEMENTS_MAX: usize = 3;
/// How many bytes of a text a line shows.
const TEXT_LEN_MAX: usize = 80;
/// How many bytes a line has at most, about.
const LINE_LEN_MAX: usize = 500;

/// A value that can be shown in a line.
pub trait Show {
    /// Shows the value.
    fn show(&self, line: &mut Line<'_>) -> fmt::Result;

    /// Shows the value in full, as `{:?}` does.
    fn show_all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Whether the value says nothing, so that a line leaves it out.
    fn is_blank(&self) -> bool {
        false
    }
}

/// A struct whose fields can be shown one by one. `#[derive(Wire)]` writes it.
pub trait Fields {
    /// Visits every field with its name.
    fn fields(&self, visit: &mut dyn FnMut(&'static str, &dyn Show));
}

/// A line that ends with dots when it gets too long.
pub struct Line<'a> {
    out: &'a mut dyn Write,
    left: usize,
}

/// What stands for a field that must not be shown.
pub struct Secret;

/// The elements of an array of any type. With them what shows an array is compiled once, and not for each of some
/// 270 types.
trait Elements {
    fn len(&self) -> usize;
    fn element(&self, index: usize) -> &dyn Show;
}

impl<T: Show> Elements for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn element(&self, index: usize) -> &dyn Show {
        &self[index]
    }
}

/// What is shown in full.
struct All<'a>(&'a dyn Show);

impl fmt::Debug for All<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show_all(f)
    }
}

/// The struct with all its fields, as `#[derive(Debug)]` would show it, without the secrets.
pub fn debug(name: &str, fields: &dyn Fields, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut shown = f.debug_struct(name);
    fields.fields(&mut |name, value| {
        shown.field(name, &All(value));
    });
    shown.finish()
}

fn all_elements(elements: &dyn Elements, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut list = f.debug_list();
    for index in 0..elements.len() {
        list.entry(&All(elements.element(index)));
    }
    list.finish()
}

/// The value in a line.
pub(crate) fn brief(value: &dyn Show, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    value.show(&mut Line {
        out: f,
        left: LINE_LEN_MAX,
    })
}

impl Line<'_> {
    /// Shows the fields that say something.
    pub fn fields(&mut self, fields: &dyn Fields) -> fmt::Result {
        let (mut shown, mut between) = (self.write_char('{'), "");
        fields.fields(&mut |name, value| {
            if shown.is_ok() && !value.is_blank() && self.left > 0 {
                shown = write!(self, "{between}{name}: ").and_then(|()| value.show(self));
                between = ", ";
            }
        });
        shown?;
        self.write_char('}')
    }

    fn elements(&mut self, elements: &dyn Elements) -> fmt::Result {
        self.write_char('[')?;
        let mut between = "";
        for index in 0..elements.len().min(ELEMENTS_MAX) {
            self.write_str(between)?;
            elements.element(index).show(self)?;
            between = ", ";
        }
        match elements.len().checked_sub(ELEMENTS_MAX) {
            Some(more @ 1..) => write!(self, " and {more} more]"),
            _ => self.write_char(']'),
        }
    }

    fn text(&mut self, text: &str) -> fmt::Result {
        let end = text.floor_char_boundary(TEXT_LEN_MAX);
        let dots = if end < text.len() { "..." } else { "" };
        write!(self, "{:?}{dots}", &text[..end])
    }
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.left == 0 {
            return Ok(());
        }
        match self.left.checked_sub(text.len()) {
            Some(left @ 1..) => {
                self.left = left;
                self.out.write_str(text)
            }
            _ => {
                self.left = 0;
                self.out.write_str("...")
            }
        }
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Show for Secret {
    fn show(&self, line: &mut Line<'_>) -> fmt::Result {
        line.write_str("***")
    }

    fn show_all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Show for $type {
            fn show(&self, line: &mut Line<'_>) -> fmt::Result {
                write!(line, "{self}")
            }

            fn show_all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        })*
    };
}

plain!(bool, i8, i16, u16, i32, u32, i64, f64);
plain!(
    Uuid,
    ApiKey,
    ErrorCode,
    LeaderEpoch,
    NodeId,
    Offset,
    ProducerEpoch,
    ProducerId,
    Timestamp
);

macro_rules! text {
    ($($type:ty),*) => {
        $(impl Show for $type {
            fn show(&self, line: &mut Line<'_>) -> fmt::Result {
                line.text(self)
            }

            fn show_all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }

            fn is_blank(&self) -> bool {
                self.is_empty()
            }
        })*
    };
}

text!(Str, TopicName, GroupId, TransactionalId);

macro_rules! bytes {
    ($($type:ty),*) => {
        $(impl Show for $type {
            fn show(&self, line: &mut Line<'_>) -> fmt::Result {
                write!(line, "{} bytes", self.len())
            }

            fn show_all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }

            fn is_blank(&self) -> bool {
                self.is_empty()
            }
        })*
    };
}

bytes!(Bytes, Payload);

impl<T: Show> Show for Vec<T> {
    fn show(&self, line: &mut Line<'_>) -> fmt::Result {
        line.elements(self)
    }

    fn show_all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        all_elements(self, f)
    }

    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self, line: &mut Line<'_>) -> fmt::Result {
        match self {
            None => line.write_str("null"),
            Some(value) => value.show(line),
        }
    }

    fn show_all(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            None => f.write_str("None"),
            Some(value) => f.debug_tuple("Some").field(&All(value)).finish(),
        }
    }

    fn is_blank(&self) -> bool {
        self.is_none()
    }
}

#[cfg(test)]
mod tests {
    use crate::Request;
    use crate::messages::metadata::{MetadataRequest, MetadataRequestTopic};
    use crate::messages::sasl_authenticate::SaslAuthenticateRequest;

    #[test]
    fn a_line_is_short() {
        let topic = |i: i32| MetadataRequestTopic {
            name: Some(format!("topic-{i}").into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some((0..500).map(topic).collect()),
            ..Default::default()
        };
        let line = Request::from(request.clone()).to_string();
        assert!(line.starts_with("Metadata request {topics: [{"), "{line}");
        assert!(line.contains(r#"name: "topic-2"} and 497 more]"#), "{line}");
        let long = MetadataRequestTopic {
            name: Some("t".repeat(10_000).into()),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![long; 10]),
            ..request
        };
        let line = Request::from(request).to_string();
        assert!(line.len() < 600, "{} bytes", line.len());
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let request = SaslAuthenticateRequest {
            auth_bytes: b"\0alice\0hunter2"[..].into(),
        };
        let full = format!("{request:?}");
        assert_eq!(full, "SaslAuthenticateRequest { auth_bytes: *** }");
        let line = Request::from(request).to_string();
        assert_eq!(line, "SaslAuthenticate request {auth_bytes: ***}");
    }
}
