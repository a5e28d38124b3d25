//! What is printed: tables for people, JSON for programs.

use std::fmt::Display;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use tidelog_client::ClientError;
use tidelog_types::{ErrorCode, NodeId};

/// For whom it is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// What stands in a table where there is nothing.
const NOTHING: &str = "-";

/// What came of a command: what was done, and what could not be.
pub(crate) struct Outcome {
    said: String,
    failures: Vec<String>,
}

impl From<String> for Outcome {
    fn from(said: String) -> Self {
        Self {
            said,
            failures: Vec::new(),
        }
    }
}

impl Outcome {
    /// Lines of what was done, and the errors of the rest.
    pub(crate) fn new(said: String, failures: Vec<ClientError>) -> Self {
        Self::with_complaints(said, failures.iter().map(ToString::to_string).collect())
    }

    /// Lines of what was done, and what is to be said of the rest.
    pub(crate) const fn with_complaints(said: String, failures: Vec<String>) -> Self {
        Self { said, failures }
    }

    /// Prints it. The exit code says whether all of it was done.
    pub(crate) fn tell(self) -> ExitCode {
        if !self.said.is_empty() {
            crate::say(&self.said);
        }
        for failure in &self.failures {
            crate::complain(failure);
        }
        match self.failures.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(crate::CANNOT),
        }
    }
}

/// What could not be done, for programs: what it is about, the error's name if the broker gave one, and its text.
pub(crate) fn failure(kind: &str, name: &str, error: &ClientError) -> Value {
    let mut object = Map::new();
    object.insert(kind.to_owned(), json!(name));
    let code = error.code().map(code_name);
    object.insert("error".to_owned(), json!(code));
    object.insert("message".to_owned(), json!(error.to_string()));
    Value::Object(object)
}

/// What was done, and what was not: for programs, and as errors.
pub(crate) struct Settled<K, T> {
    pub(crate) done: Vec<(K, T)>,
    pub(crate) failed: Vec<Value>,
    pub(crate) failures: Vec<ClientError>,
}

/// Tells apart what has become of each item of a call.
pub(crate) fn settled<K: Display, T>(
    kind: &str,
    results: impl IntoIterator<Item = (K, Result<T, ClientError>)>,
) -> Settled<K, T> {
    let mut settled = Settled {
        done: Vec::new(),
        failed: Vec::new(),
        failures: Vec::new(),
    };
    for (item, result) in results {
        match result {
            Ok(done) => settled.done.push((item, done)),
            Err(error) => {
                settled
                    .failed
                    .push(failure(kind, &item.to_string(), &error));
                settled.failures.push(error);
            }
        }
    }
    settled
}

/// Kafka's name of an error, or its number if it has no name that we know.
pub(crate) fn code_name(code: ErrorCode) -> String {
    code.name()
        .map_or_else(|| code.code().to_string(), str::to_owned)
}

pub(crate) fn nothing() -> String {
    NOTHING.to_owned()
}

pub(crate) fn or_nothing(word: &str) -> String {
    match word.is_empty() {
        true => nothing(),
        false => word.to_owned(),
    }
}

pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// Columns as wide as their longest word, two spaces apart.
pub(crate) fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heads = heads.iter().map(ToString::to_string).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let lines = rows.iter().map(|row| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Ids with commas between them.
pub(crate) fn ids(ids: &[NodeId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    or_nothing(&ids.join(","))
}

/// `1 partition`, `2 partitions`.
pub(crate) fn count(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
