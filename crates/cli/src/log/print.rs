//! The two ways of printing: objects as text for people, and as JSON.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::Value;

/// Writes to standard output.
pub(super) struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Printer {
    pub(super) fn stdout(json: bool) -> Self {
        Self {
            out: BufWriter::new(io::stdout().lock()),
            json,
        }
    }

    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    /// Writes an object as one line: in JSON, or as `name: value` and so on.
    pub(super) fn object(&mut self, object: &Value) -> io::Result<()> {
        self.line(object, || text(object))
    }

    /// Writes one line: the object in JSON, or the text.
    pub(super) fn line(&mut self, object: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "{object}")
        } else {
            writeln!(self.out, "{}", text())
        }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The fields of an object, `name: value` and so on; what is nested stays JSON, and what is null is left out.
pub(super) fn text(object: &Value) -> String {
    let fields = object.as_object().into_iter().flatten();
    let fields = fields.filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::String(text) => Some(format!("{name}: {text}")),
        other => Some(format!("{name}: {other}")),
    });
    fields.collect::<Vec<_>>().join(" ")
}
