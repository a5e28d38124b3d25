use std::io;
use std::time::Duration;

use tidelog_protocol::{ApiKey, DecodeError, EncodeError};
use tidelog_types::{ErrorCode, NodeId, Str};

#[cfg(feature = "tls")]
use crate::TlsProblem;
use crate::TokenError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The list of brokers to begin with is no list of `host:port`.
    #[error("{text:?} is not an address; a broker's address looks like localhost:9092")]
    Address {
        /// What was given.
        text: String,
    },
    /// No connection came about.
    #[error("cannot connect to {address}: {source}; is a broker listening there?")]
    Connect {
        /// The address of the broker.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The connection has ended.
    #[error("{address} has closed the connection{}", why(.source.as_ref()))]
    Closed {
        /// The address of the broker.
        address: String,
        /// What the system says, unless the broker closed it in order.
        source: Option<io::Error>,
    },
    /// There was no answer in time.
    #[error("{address} has not answered {what} within {timeout:?}")]
    Timeout {
        /// The address of the broker.
        address: String,
        /// What was asked.
        what: String,
        /// How long the client waited.
        timeout: Duration,
    },
    /// What came back is nothing that a Kafka broker says.
    #[error(
        "{address} does not speak the Kafka protocol: {what}; is this the port of something else, or one with TLS (security.protocol SSL or SASL_SSL)?"
    )]
    NotKafka {
        /// The address.
        address: String,
        /// What is wrong with it.
        what: String,
    },
    /// The broker answered in TLS.
    #[error(
        "{address} expects TLS, and this client speaks without; set security.protocol to SSL or SASL_SSL, or use the port of a listener without TLS"
    )]
    TlsExpected {
        /// The address.
        address: String,
    },
    /// No protected connection came about.
    #[cfg(feature = "tls")]
    #[error("{address}: {problem}")]
    Tls {
        /// The address.
        address: String,
        /// What is wrong, and what can be done.
        problem: TlsProblem,
    },
    /// The broker wants to know who the client is, and the client has not been told to say so.
    #[error(
        "{address} wants to know who the client is ({}); set security.protocol to {}, with sasl.mechanism, sasl.username and sasl.password", offered(.mechanisms), match .has_tls { true => "SASL_SSL", false => "SASL_PLAINTEXT" }
    )]
    SaslExpected {
        /// The address.
        address: String,
        /// By what mechanisms the broker lets clients say it.
        mechanisms: Vec<Str>,
        /// Whether the connection is protected by TLS.
        has_tls: bool,
    },
    /// The broker and the client do not convince each other of who the client is. Trying again does not help.
    #[error("{address}: {mechanism} has failed: {what}")]
    Authentication {
        /// The address of the broker.
        address: String,
        /// The SASL mechanism.
        mechanism: &'static str,
        /// What the broker says, or what is wrong with what it says.
        what: String,
    },
    /// There is no token for OAUTHBEARER just now.
    #[error("{address}: OAUTHBEARER has failed: there is no token: {source}")]
    NoToken {
        /// The address of the broker.
        address: String,
        /// What the provider says.
        source: TokenError,
    },
    /// Settings that cannot be used.
    #[error("{what}")]
    Settings {
        /// What is wrong with them.
        what: String,
    },
    /// The cluster has no such broker, as far as this client has heard.
    #[error("the cluster has no broker {id} just now")]
    UnknownBroker {
        /// Its id.
        id: NodeId,
    },
    /// The broker lacks the API, or every version of it that this client knows.
    #[error("{address} does not serve {api}, or in no version that this client knows")]
    Unsupported {
        /// The address of the broker.
        address: String,
        /// The API.
        api: String,
    },
    /// A request cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An answer cannot be read.
    #[error("an answer of {address} cannot be read: {source}")]
    Decode {
        /// The address of the broker.
        address: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The broker has refused.
    #[error("{subject}: {}", answer(*.code, .message.as_ref()))]
    Refused {
        /// What the answer is about.
        subject: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker says of it.
        message: Option<Str>,
    },
}

impl ClientError {
    /// The error code, if the broker has refused.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed a little later.
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Closed { .. }
            | Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::NoToken { .. }
            | Self::UnknownBroker { .. } => true,
            _ => false,
        }
    }

    /// Whether the broker is there, and client and broker do not agree about who they are or how to speak. Every request fails for the
    /// same reason until somebody changes the settings.
    pub(crate) const fn is_distrust(&self) -> bool {
        #[cfg(feature = "tls")]
        if matches!(self, Self::Tls { .. }) {
            return true;
        }
        matches!(
            self,
            Self::Authentication { .. } | Self::SaslExpected { .. } | Self::TlsExpected { .. }
        )
    }

    /// `Ok` for no error.
    pub(crate) fn check(
        code: ErrorCode,
        message: Option<&Str>,
        subject: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        if code.is_ok() {
            return Ok(());
        }
        Err(Self::Refused {
            subject: subject(),
            code,
            message: message.filter(|text| !text.is_empty()).cloned(),
        })
    }
}

fn offered(mechanisms: &[Str]) -> String {
    let names: Vec<_> = mechanisms.iter().map(Str::as_str).collect();
    match names.is_empty() {
        true => "by SASL".to_owned(),
        false => format!("by {}", names.join(", ")),
    }
}

fn why(source: Option<&io::Error>) -> String {
    source.map_or_else(String::new, |source| format!(": {source}"))
}

fn answer(code: ErrorCode, message: Option<&Str>) -> String {
    let text = message.map_or_else(|| code.text(), Str::as_str);
    let text = text.trim_end_matches('.');
    match code.name() {
        Some(name) => format!("{text} ({name})"),
        None => format!("{text} (error {})", code.code()),
    }
}

/// The name of an API for people.
pub(crate) fn api_name(key: ApiKey) -> String {
    key.name().map_or_else(|| format!("{key:?}"), str::to_owned)
}
