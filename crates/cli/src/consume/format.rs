//! How a record is printed.

use std::io::{self, Write};

use serde_json::json;
use tidelog_client::ConsumerRecord;

use crate::bytes::to_json;

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Value,
    ValueLength,
    Key,
    KeyLength,
    Timestamp,
    Headers,
    Topic,
    Partition,
    Offset,
}

/// What is printed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Parts, one after another, as kcat's `-f` has them.
    Parts(Parts),
    /// An object on a line.
    Json,
}

/// The parts of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts(Vec<Part>);

impl std::str::FromStr for Parts {
    type Err = String;

    /// `%s` and so on, and `\n`, `\t`, `\r`, `\\`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter == '\\' {
                plain.push(match letters.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('\\') => '\\',
                    other => return Err(unknown('\\', other)),
                });
                continue;
            }
            if letter != '%' {
                plain.push(letter);
                continue;
            }
            let part = match letters.next() {
                Some('s') => Part::Value,
                Some('S') => Part::ValueLength,
                Some('k') => Part::Key,
                Some('K') => Part::KeyLength,
                Some('T') => Part::Timestamp,
                Some('h') => Part::Headers,
                Some('t') => Part::Topic,
                Some('p') => Part::Partition,
                Some('o') => Part::Offset,
                Some('%') => {
                    plain.push('%');
                    continue;
                }
                other => return Err(unknown('%', other)),
            };
            parts.push(Part::Text(std::mem::take(&mut plain).into_bytes()));
            parts.push(part);
        }
        parts.push(Part::Text(plain.into_bytes()));
        Ok(Self(parts))
    }
}

fn unknown(sign: char, letter: Option<char>) -> String {
    let letter = letter.map_or_else(String::new, String::from);
    format!(
        "{sign}{letter} means nothing here; there are %s %S %k %K %T %h %t %p %o %% \\n \\t \\r \\\\"
    )
}

impl Layout {
    pub(super) fn print(&self, record: &ConsumerRecord, out: &mut impl Write) -> io::Result<()> {
        let parts = match self {
            Self::Parts(parts) => &parts.0,
            Self::Json => return writeln!(out, "{}", as_json(record)),
        };
        for part in parts {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Value => out.write_all(record.value.as_deref().unwrap_or_default())?,
                Part::Key => out.write_all(record.key.as_deref().unwrap_or_default())?,
                // As kcat has it, -1 is nothing at all.
                Part::ValueLength => write!(out, "{}", length(record.value.as_deref()))?,
                Part::KeyLength => write!(out, "{}", length(record.key.as_deref()))?,
                Part::Timestamp => write!(out, "{}", record.timestamp)?,
                Part::Topic => write!(out, "{}", record.topic)?,
                Part::Partition => write!(out, "{}", record.partition)?,
                Part::Offset => write!(out, "{}", record.offset)?,
                Part::Headers => {
                    for (index, header) in record.headers.iter().enumerate() {
                        let comma = if index > 0 { "," } else { "" };
                        write!(out, "{comma}{}=", header.key_text())?;
                        out.write_all(header.value.as_deref().unwrap_or(b"NULL"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

fn as_json(record: &ConsumerRecord) -> serde_json::Value {
    let headers = record.headers.iter();
    let headers: Vec<_> = headers
        .map(|header| json!([header.key_text(), to_json(header.value.as_ref())]))
        .collect();
    json!({
        "topic": record.topic.as_str(),
        "partition": record.partition,
        "offset": record.offset.value(),
        "timestamp": record.timestamp.as_millis(),
        "key": to_json(record.key.as_ref()),
        "value": to_json(record.value.as_ref()),
        "headers": headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_understood_or_explained() {
        let parts: Parts = r"%p:%o\t%%".parse().unwrap();
        let text = |text: &str| Part::Text(text.into());
        let expected = [
            text(""),
            Part::Partition,
            text(":"),
            Part::Offset,
            text("\t%"),
        ];
        assert_eq!(parts.0, expected);
        let error = "%x".parse::<Parts>().unwrap_err();
        assert!(error.starts_with("%x means nothing here"), "{error}");
    }
}
