//! The text format of `java.util.Properties`, in which `server.properties` and `meta.properties` are written.

use std::fmt;

/// One `key=value` of a `.properties` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The key, escapes resolved.
    pub key: String,
    /// The value, escapes resolved.
    pub value: String,
}

/// The text of a `.properties` file is malformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProperties {
    /// The line, from 1.
    pub line: usize,
    reason: &'static str,
}

impl fmt::Display for InvalidProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for InvalidProperties {}

/// Reads a `.properties` file: comments begin with `#` or `!`, a key ends at `=`, `:` or white space, a backslash at the
/// end of a line continues it, and `\n`, `\t`, `\r`, `\f`, `\uXXXX` stand for what they do in Java.
///
/// ```
/// use tidelog_types::properties::parse_properties;
///
/// let text = "# where the data is\nlog.dirs = /var/a,\\\n           /var/b\nbroker.rack: r\\u0031\n";
/// let properties = parse_properties(text).unwrap();
/// assert_eq!(properties[0].key, "log.dirs");
/// assert_eq!(properties[0].value, "/var/a,/var/b");
/// assert_eq!(properties[1].value, "r1");
/// ```
pub fn parse_properties(text: &str) -> Result<Vec<Property>, InvalidProperties> {
    logical_lines(text)
        .map(|(line, text)| parse_line(line, &text))
        .collect()
}

/// `key=value` such that [`parse_properties`], and Java whatever charset it assumes, reads the same key and value back.
pub fn format_property(key: &str, value: &str) -> String {
    let mut line = String::with_capacity(key.len() + value.len() + 1);
    escape_into(&mut line, key, true);
    line.push('=');
    escape_into(&mut line, value, false);
    line
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Lines without comments and blank ones, continuations joined, each with the number of its first natural line.
fn logical_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut natural = natural_lines(text).enumerate();
    std::iter::from_fn(move || {
        loop {
            let (index, line) = natural.next()?;
            let mut line = line.trim_start_matches(is_blank);
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let mut joined = String::new();
            while let Some(continued) = without_continuation(line) {
                joined.push_str(continued);
                line = natural
                    .next()
                    .map_or("", |(_, next)| next.trim_start_matches(is_blank));
            }
            joined.push_str(line);
            // A line that is only a continuation of nothing is blank.
            if !joined.is_empty() {
                return Some((index + 1, joined));
            }
        }
    })
}

/// Lines end at LF, CR, or both together.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let skip = if text[end..].starts_with("\r\n") {
            2
        } else {
            1
        };
        rest = Some(&text[end + skip..]);
        Some(&text[..end])
    })
}

/// The line without its last backslash, if that one is not itself escaped.
fn without_continuation(line: &str) -> Option<&str> {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    (backslashes % 2 == 1).then(|| &line[..line.len() - 1])
}

fn parse_line(line: usize, text: &str) -> Result<Property, InvalidProperties> {
    let mut escaped = false;
    let key_end = text
        .find(|c: char| {
            let ends = !escaped && (is_blank(c) || matches!(c, '=' | ':'));
            escaped = c == '\\' && !escaped;
            ends
        })
        .unwrap_or(text.len());
    let (key, rest) = text.split_at(key_end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest
        .strip_prefix(['=', ':'])
        .unwrap_or(rest)
        .trim_start_matches(is_blank);
    let unescape = |text| unescape(text).map_err(|reason| InvalidProperties { line, reason });
    Ok(Property {
        line,
        key: unescape(key)?,
        value: unescape(value)?,
    })
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut surrogate: Option<u16> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let unit = match c {
            '\\' => match chars.next() {
                Some('u') => Some(code_unit(&mut chars)?),
                Some('t') => Some(u16::from(b'\t')),
                Some('n') => Some(u16::from(b'\n')),
                Some('r') => Some(u16::from(b'\r')),
                Some('f') => Some(0x0c),
                Some(other) => {
                    out.push(other);
                    None
                }
                None => None,
            },
            plain => {
                out.push(plain);
                None
            }
        };
        // Characters beyond the first plane are written as two escapes, one directly after the other.
        match (surrogate.take(), unit) {
            (Some(high), Some(low)) => match char::decode_utf16([high, low]).next() {
                Some(Ok(c)) if (0xdc00..0xe000).contains(&low) => out.push(c),
                _ => return Err(LONE_SURROGATE),
            },
            (Some(_), None) => return Err(LONE_SURROGATE),
            (None, Some(high @ 0xd800..0xdc00)) => surrogate = Some(high),
            (None, Some(unit)) => {
                out.push(char::from_u32(unit.into()).ok_or(LONE_SURROGATE)?);
            }
            (None, None) => {}
        }
    }
    if surrogate.is_some() {
        Err(LONE_SURROGATE)
    } else {
        Ok(out)
    }
}

const LONE_SURROGATE: &str = "a \\u escape is half of a surrogate pair";

fn code_unit(chars: &mut std::str::Chars<'_>) -> Result<u16, &'static str> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        unit = unit * 16 + digit.ok_or("\\u must be followed by four hexadecimal digits")?;
    }
    Ok(unit as u16)
}

fn escape_into(out: &mut String, text: &str, is_key: bool) {
    for (i, c) in text.char_indices() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\x0c' => out.push_str("\\f"),
            ' ' if is_key || i == 0 => out.push_str("\\ "),
            '=' | ':' | '#' | '!' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04X}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let properties = parse_properties(text).unwrap();
        properties.into_iter().map(|p| (p.key, p.value)).collect()
    }

    #[test]
    fn java_reads_these_the_same_way() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("a=b", &[("a", "b")]),
            ("  a \t = b ", &[("a", "b ")]),
            (
                "a:b\na b\ra   : b\r\na",
                &[("a", "b"), ("a", "b"), ("a", "b"), ("a", "")],
            ),
            ("# c \\\na=b\n! c\n\n   \n", &[("a", "b")]),
            ("a=b\\\n   c\\\r\n d", &[("a", "bcd")]),
            ("a=b\\\\\nc=d", &[("a", "b\\"), ("c", "d")]),
            ("a\\=b\\:c\\ d=e", &[("a=b:c d", "e")]),
            ("a==b", &[("a", "=b")]),
            ("a=\\u0041\\uD83D\\ude00\\q\\t", &[("a", "A😀q\t")]),
            ("a=b\\", &[("a", "b")]),
            ("\\\n  a=b", &[("a", "b")]),
            ("=b", &[("", "b")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn java_writes_these_the_same_way() {
        for (key, value, line) in [
            ("node.id", "1", "node.id=1"),
            (" a b", "  c d", "\\ a\\ b=\\  c d"),
            ("a:=", "#!\\", "a\\:\\==\\#\\!\\\\"),
            ("\t", "\n\r\x0c\0\x7f", "\\t=\\n\\r\\f\\u0000\\u007F"),
            ("é", "😀", "\\u00E9=\\uD83D\\uDE00"),
        ] {
            assert_eq!(format_property(key, value), line);
        }
    }

    #[test]
    fn damage_is_reported_with_its_line() {
        for text in [
            "a=b\n\nc=\\u12x4",
            "# x\n\na=\\uD83D",
            "\n\na=\\uD83D\\n",
            "\n\na=\\uDE00",
        ] {
            let Err(InvalidProperties { line: 3, .. }) = parse_properties(text) else {
                panic!("{text:?} was accepted")
            };
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(pairs in proptest::collection::vec((".*", ".*"), 0..5)) {
            let lines: Vec<String> = pairs.iter().map(|(k, v)| format_property(k, v)).collect();
            prop_assert_eq!(read(&lines.join("\n")), pairs);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a=: #!\\\\u0041\n\r\t]*") {
            let _ = parse_properties(&text);
        }
    }
}
