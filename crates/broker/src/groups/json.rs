//! JSON as it is written, and nothing more: a library that reads it as well would be a tenth of what the broker takes to build.

use std::fmt::{self, Write};

/// A value of JSON.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    Array(Vec<Self>),
    /// In the order in which it is written.
    Object(Vec<(&'static str, Self)>),
}

impl Value {
    /// An object of these fields.
    pub(super) fn object<const N: usize>(fields: [(&'static str, Self); N]) -> Self {
        Self::Object(fields.into())
    }

    /// An array of what each of the items becomes.
    pub(super) fn array<T>(items: impl IntoIterator<Item = T>, to: impl FnMut(T) -> Self) -> Self {
        Self::Array(items.into_iter().map(to).collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::Null, Self::from)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {
        $(impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Self::Number(number as i128)
            }
        })*
    };
}

numbers!(i32, u32, i64, u64, usize);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write_text(text, f),
            Self::Array(elements) => {
                let mut before = '[';
                for element in elements {
                    write!(f, "{before}{element}")?;
                    before = ',';
                }
                f.write_str(if elements.is_empty() { "[]" } else { "]" })
            }
            Self::Object(fields) => {
                let mut before = '{';
                for (name, value) in fields {
                    f.write_char(before)?;
                    write_text(name, f)?;
                    write!(f, ":{value}")?;
                    before = ',';
                }
                f.write_str(if fields.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

/// In quotes; what must not stand between them is escaped (RFC 8259, section 7).
fn write_text(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\0'..' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            _ => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<String>().prop_map(|text| Value::from(&*text)),
            "[\\x00-\\x30\"\\\\\\x7f\u{2028}]*".prop_map(|text| Value::from(&*text)),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            let name = prop_oneof![Just("one"), Just("two\t"), Just("\"")];
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::Array),
                vec((name, inner), 0..3).prop_map(Value::Object),
            ]
        })
    }

    /// What a library that reads JSON makes of it.
    fn read(value: &Value) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => match i64::try_from(*number) {
                Ok(number) => number.into(),
                Err(_) => u64::try_from(*number).unwrap().into(),
            },
            Value::Text(text) => text.as_str().into(),
            Value::Array(elements) => elements.iter().map(read).collect(),
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), read(value)));
                serde_json::Value::Object(fields.collect())
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_by_others(value in values()) {
            let text = value.to_string();
            let again: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(again, read(&value), "{}", text);
        }
    }
}
