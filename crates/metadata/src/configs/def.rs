use std::fmt;

use tidelog_types::properties::InvalidProperties;

use crate::configs::value::Value;

/// The values of `tidelog.durability`.
pub(crate) const DURABILITIES: &[&str] = &["fsync", "page-cache", "memory"];

/// What kind of value a config takes. The numbers are those of DescribeConfigs (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigType {
    /// A key that no table knows.
    Unknown = 0,
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// A number of 32 bits.
    Int = 3,
    /// A number of 16 bits.
    Short = 4,
    /// A number of 64 bits.
    Long = 5,
    /// A floating point number.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// A secret: stored as given, never shown.
    Password = 9,
}

impl ConfigType {
    /// The number of the type in DescribeConfigs.
    pub const fn id(self) -> i8 {
        self as i8
    }

    /// Whether values of this type are never shown. What is not known may be a secret.
    pub const fn is_sensitive(self) -> bool {
        matches!(self, Self::Password | Self::Unknown)
    }
}

impl fmt::Display for ConfigType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "UNKNOWN",
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        })
    }
}

/// Which values of its type a config takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Valid {
    /// All.
    Any,
    /// Numbers from here on.
    AtLeast(i64),
    /// Numbers between the two, both included.
    Between(i64, i64),
    /// One of these texts; for a list, each element.
    OneOf(&'static [&'static str]),
    /// One of these texts, upper or lower case.
    OneOfAnyCase(&'static [&'static str]),
    /// 1 to 9, or -1.
    GzipLevel,
    /// `*`, or pairs `partition:broker`.
    ThrottledReplicas,
    /// `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration (KIP-1106).
    ShareOffsetReset,
}

/// How a broker config may be changed while the broker runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateMode {
    /// Only in `server.properties`.
    ReadOnly,
    /// For one broker at a time.
    PerBroker,
    /// For all brokers, or for one.
    ClusterWide,
}

/// One config: a row of a table.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    /// The key.
    pub name: &'static str,
    /// The type of the value.
    pub kind: ConfigType,
    /// The value when nobody sets one; `None` for keys that are then unset.
    pub default: Option<&'static str>,
    /// The values that are accepted.
    pub valid: Valid,
    /// How it may be changed. Topic and group configs may always be.
    pub update_mode: UpdateMode,
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// The broker config that gives the default, for topic and group configs.
    pub synonym: Option<&'static str>,
}

macro_rules! constructors {
    ($($fn:ident $kind:ident)*) => {
        $(pub(crate) const fn $fn(name: &'static str) -> ConfigDef {
            ConfigDef::new(name, ConfigType::$kind)
        })*
    };
}

constructors! {
    boolean Boolean
    string String
    int Int
    short Short
    long Long
    double Double
    list List
    class Class
    password Password
}

impl ConfigDef {
    const fn new(name: &'static str, kind: ConfigType) -> Self {
        Self {
            name,
            kind,
            default: None,
            valid: Valid::Any,
            update_mode: UpdateMode::ReadOnly,
            doc: "",
            synonym: None,
        }
    }

    pub(crate) const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(crate) const fn valid(mut self, valid: Valid) -> Self {
        self.valid = valid;
        self
    }

    pub(crate) const fn at_least(self, min: i64) -> Self {
        self.valid(Valid::AtLeast(min))
    }

    pub(crate) const fn between(self, min: i64, max: i64) -> Self {
        self.valid(Valid::Between(min, max))
    }

    pub(crate) const fn one_of(self, values: &'static [&'static str]) -> Self {
        self.valid(Valid::OneOf(values))
    }

    pub(crate) const fn one_of_any_case(self, values: &'static [&'static str]) -> Self {
        self.valid(Valid::OneOfAnyCase(values))
    }

    pub(crate) const fn gzip_level(self) -> Self {
        self.valid(Valid::GzipLevel)
    }

    pub(crate) const fn per_broker(mut self) -> Self {
        self.update_mode = UpdateMode::PerBroker;
        self
    }

    pub(crate) const fn cluster_wide(mut self) -> Self {
        self.update_mode = UpdateMode::ClusterWide;
        self
    }

    pub(crate) const fn defaults_to(mut self, synonym: &'static str) -> Self {
        self.synonym = Some(synonym);
        self
    }

    pub(crate) const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// The value that `text` stands for, if it has the right type and lies in the right range.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let invalid = |value: &str, reason: String| ConfigError::Invalid {
            key: self.name.into(),
            value: if self.kind.is_sensitive() {
                "[hidden]".into()
            } else {
                value.into()
            },
            reason,
        };
        let value = Value::parse(self.kind, text).map_err(|reason| invalid(text, reason))?;
        match self.valid.check(self.name, &value) {
            Ok(()) => Ok(value),
            Err(reason) => Err(invalid(&value.blamed(self.valid), reason)),
        }
    }

    /// The default as a value.
    pub(crate) fn default_value(&self) -> Value {
        self.default.map_or(Value::Unset, |text| {
            Value::parse(self.kind, text)
                .expect("defaults of the tables have the type of their row")
        })
    }
}

impl Valid {
    /// `Err` is the reason, in the words that Kafka's tools show.
    fn check(self, name: &str, value: &Value) -> Result<(), String> {
        let at_least = |min: i64| format!("Value must be at least {min}");
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(min) if value.is_below(min) => Err(at_least(min)),
            Self::Between(min, _) if value.is_below(min) => Err(at_least(min)),
            Self::Between(_, max) if value.is_above(max) => {
                Err(format!("Value must be no more than {max}"))
            }
            Self::GzipLevel if !matches!(value, Value::Int(-1 | 1..=9)) => {
                Err("Value must be between 1 and 9 or equal to -1".into())
            }
            Self::AtLeast(_) | Self::Between(..) | Self::GzipLevel => Ok(()),
            Self::OneOf(allowed) => {
                if value.texts().all(|text| allowed.contains(&text)) {
                    return Ok(());
                }
                Err(format!("String must be one of: {}", allowed.join(", ")))
            }
            Self::OneOfAnyCase(allowed) => {
                let known = |text: &str| allowed.iter().any(|a| a.eq_ignore_ascii_case(text));
                if value.texts().all(known) {
                    return Ok(());
                }
                let names = allowed.join(", ").to_uppercase();
                Err(format!("String must be one of (case insensitive): {names}"))
            }
            Self::ThrottledReplicas => {
                let pairs = value.texts().all(|text| {
                    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
                    text.split_once(':')
                        .is_some_and(|(p, b)| number(p) && number(b))
                });
                if pairs || value.texts().eq(["*"]) {
                    return Ok(());
                }
                Err(format!(
                    "{name} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                ))
            }
            Self::ShareOffsetReset => {
                let known = |text: &str| {
                    matches!(text, "earliest" | "latest")
                        || text
                            .strip_prefix("by_duration:")
                            .is_some_and(is_iso_duration)
                };
                if value.texts().all(known) {
                    return Ok(());
                }
                Err("Must be earliest, latest, or by_duration:PnDTnHnMn.nS with a duration that is not negative".into())
            }
        }
    }
}

/// `PnDTnHnMn.nS`, at least one part, none negative.
fn is_iso_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else {
        return false;
    };
    let (days, time) = match rest.split_once('T') {
        Some((_, "")) => return false,
        Some((days, time)) => (days, time),
        None => (rest, ""),
    };
    let mut units = "DHMS".chars();
    let mut number = String::new();
    for c in days
        .chars()
        .map(|c| (c, true))
        .chain(time.chars().map(|c| (c, false)))
    {
        match c {
            ('0'..='9', _) | ('.', false) => number.push(c.0),
            (unit @ ('D' | 'H' | 'M' | 'S'), in_days) if (unit == 'D') == in_days => {
                let whole = number.parse::<u32>().is_ok();
                let fraction = unit == 'S' && number.parse::<f64>().is_ok();
                if !(whole || fraction) || !units.any(|u| u == unit) {
                    return false;
                }
                number.clear();
            }
            _ => return false,
        }
    }
    number.is_empty() && !rest.is_empty()
}

/// A configuration that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value has the wrong type or lies outside its range.
    #[error("Invalid value {value} for configuration {key}: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// The value, unless it is a secret.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// Values that are fine alone contradict each other, or a key is not known where it must be.
    #[error("{0}")]
    Conflict(String),
    /// The text of a `.properties` file is malformed.
    #[error(transparent)]
    Syntax(#[from] InvalidProperties),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_those_that_kafka_gives() {
        let refused = |def: ConfigDef, text: &str| def.parse(text).unwrap_err().to_string();
        let cases = [
            (
                long("retention.ms").at_least(-1),
                "abc",
                "Not a number of type LONG",
            ),
            (
                long("retention.ms").at_least(-1),
                "-2",
                "Value must be at least -1",
            ),
            (
                int("segment.bytes"),
                "99999999999",
                "Not a number of type INT",
            ),
            (
                double("ratio").between(0, 1),
                "1.5",
                "Value must be no more than 1",
            ),
            (
                boolean("flag"),
                "maybe",
                "Expected value to be either true or false",
            ),
            (
                int("level").gzip_level(),
                "0",
                "Value must be between 1 and 9 or equal to -1",
            ),
            (
                list("policy").one_of(&["a", "b"]),
                "c",
                "String must be one of: a, b",
            ),
        ];
        for (def, text, reason) in cases {
            let expected = format!(
                "Invalid value {text} for configuration {}: {reason}",
                def.name
            );
            assert_eq!(refused(def, text), expected);
        }
        assert!(refused(password("secret").one_of(&[]), "hush").contains("[hidden]"));
    }

    #[test]
    fn only_the_element_at_fault_is_blamed() {
        let error = list("policy").one_of(&["a", "b"]).parse("a,c").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Invalid value c for configuration policy: String must be one of: a, b"
        );
    }

    #[test]
    fn durations_of_share_groups() {
        for good in ["PT1H", "P1D", "P1DT2H3M4.5S", "PT0S"] {
            assert!(is_iso_duration(good), "{good}");
        }
        for bad in [
            "", "P", "PT", "1H", "PT-1H", "PT1D", "P1H", "PT1H2D", "PT1S2M", "PT1", "PT1.5H",
        ] {
            assert!(!is_iso_duration(bad), "{bad}");
        }
    }
}
