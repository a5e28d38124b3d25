use std::fmt;

use crate::configs::def::{ConfigType, Valid};

/// The value of a config, parsed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// No value, and no default either.
    Unset,
    /// A truth value.
    Boolean(bool),
    /// A number of 16, 32 or 64 bits.
    Int(i64),
    /// A floating point number.
    Double(f64),
    /// Text, the name of a class, or a secret.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

impl Value {
    /// Reads `text` as a value of type `kind`; `Err` is the reason.
    pub(crate) fn parse(kind: ConfigType, text: &str) -> Result<Self, String> {
        let text = text.trim();
        let not_a_number = || format!("Not a number of type {kind}");
        let int = |min: i64, max: i64| match text.parse::<i64>() {
            Ok(n) if (min..=max).contains(&n) => Ok(Self::Int(n)),
            _ => Err(not_a_number()),
        };
        match kind {
            ConfigType::Boolean if text.eq_ignore_ascii_case("true") => Ok(Self::Boolean(true)),
            ConfigType::Boolean if text.eq_ignore_ascii_case("false") => Ok(Self::Boolean(false)),
            ConfigType::Boolean => Err("Expected value to be either true or false".into()),
            ConfigType::Short => int(i16::MIN.into(), i16::MAX.into()),
            ConfigType::Int => int(i32::MIN.into(), i32::MAX.into()),
            ConfigType::Long => int(i64::MIN, i64::MAX),
            ConfigType::Double => match text.parse::<f64>() {
                Ok(n) if n.is_finite() => Ok(Self::Double(n)),
                _ => Err(not_a_number()),
            },
            ConfigType::List if text.is_empty() => Ok(Self::List(Vec::new())),
            ConfigType::List => Ok(Self::List(
                text.split(',').map(|t| t.trim().into()).collect(),
            )),
            ConfigType::String | ConfigType::Class | ConfigType::Password | ConfigType::Unknown => {
                Ok(Self::Text(text.into()))
            }
        }
    }

    /// Whether there is no value.
    pub fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }

    /// The texts in it: one, several, or none if it is no text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::List(texts) => texts,
            _ => &[],
        };
        texts.iter().map(String::as_str)
    }

    pub(crate) fn is_below(&self, min: i64) -> bool {
        match self {
            Self::Int(n) => *n < min,
            Self::Double(n) => *n < min as f64,
            _ => false,
        }
    }

    pub(crate) fn is_above(&self, max: i64) -> bool {
        match self {
            Self::Int(n) => *n > max,
            Self::Double(n) => *n > max as f64,
            _ => false,
        }
    }

    /// The part of a refused value that an error shows: the element of the list that `valid` does not allow.
    pub(crate) fn blamed(&self, valid: Valid) -> String {
        match (self, valid) {
            (Self::List(texts), Valid::OneOf(allowed)) => {
                let bad = texts.iter().find(|text| !allowed.contains(&text.as_str()));
                bad.cloned().unwrap_or_default()
            }
            (Self::List(_), _) => format!("[{self}]"),
            _ => self.to_string(),
        }
    }
}

/// As Kafka writes values out.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Boolean(b) => b.fmt(f),
            Self::Int(n) => n.fmt(f),
            Self::Double(n) => double(*n, f),
            Self::Text(text) => f.write_str(text),
            Self::List(texts) => f.write_str(&texts.join(",")),
        }
    }
}

/// Java's spelling: plain between 10^-3 and 10^7, else with an exponent; always with a decimal point.
fn double(n: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if n == 0.0 || (1e-3..1e7).contains(&n.abs()) {
        return write!(f, "{n:?}");
    }
    let text = format!("{n:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => write!(f, "{digits}.0E{exponent}"),
        _ => f.write_str(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_spelt_as_in_java() {
        for (n, text) in [
            (0.5, "0.5"),
            (1.0, "1.0"),
            (f64::MAX, "1.7976931348623157E308"),
            (1e10, "1.0E10"),
            (0.0001, "1.0E-4"),
        ] {
            assert_eq!(Value::Double(n).to_string(), text);
        }
    }

    #[test]
    fn space_around_values_does_not_count() {
        assert_eq!(Value::parse(ConfigType::Long, " 5 "), Ok(Value::Int(5)));
        let list = Value::parse(ConfigType::List, "compact , delete").unwrap();
        assert_eq!(list.to_string(), "compact,delete");
    }
}
