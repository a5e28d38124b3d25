//! How a client says who it is (SASL, RFC 4422): the mechanisms, as exchanges of tokens without any I/O.

mod exchange;
mod oauth;
mod scram;
mod secret;

use std::fmt;
use std::sync::Arc;

use tidelog_types::Str;

pub(crate) use self::exchange::{Exchange, Step, Unable};
pub use self::oauth::{OauthToken, TokenError, TokenProvider};
pub use self::scram::ScramMechanism;
pub(crate) use self::scram::salted_password;
pub use self::secret::Secret;

/// Who the client is, and how it proves that: [`Config::sasl`](crate::Config::sasl).
///
/// It is the same over plain connections and over TLS. PLAIN and OAUTHBEARER tell the broker, and whoever listens, the secret itself;
/// they belong on connections with TLS. Passwords and tokens are never printed, not even by `Debug`.
///
/// ```
/// use tidelog_client::{Config, Sasl};
///
/// let mut config = Config::default();
/// config.sasl = Some(Sasl::scram_sha_512("alice", "correct horse"));
/// assert!(!format!("{config:?}").contains("horse"));
/// ```
#[derive(Clone, Debug)]
pub struct Sasl(Arc<Mechanism>);

/// A mechanism with what it needs to know.
pub(crate) enum Mechanism {
    Plain {
        username: Str,
        password: Secret,
    },
    Scram {
        mechanism: ScramMechanism,
        username: Str,
        password: Secret,
    },
    OauthBearer(Arc<dyn TokenProvider>),
}

impl Sasl {
    /// PLAIN (RFC 4616): name and password go to the broker as they are.
    pub fn plain(username: impl Into<Str>, password: impl Into<Secret>) -> Self {
        Self(Arc::new(Mechanism::Plain {
            username: username.into(),
            password: password.into(),
        }))
    }

    /// SCRAM (RFC 5802): the password is proven without being sent, and the broker has to prove that it knows it, too.
    pub fn scram(
        mechanism: ScramMechanism,
        username: impl Into<Str>,
        password: impl Into<Secret>,
    ) -> Self {
        Self(Arc::new(Mechanism::Scram {
            mechanism,
            username: username.into(),
            password: password.into(),
        }))
    }

    /// SCRAM with SHA-256.
    pub fn scram_sha_256(username: impl Into<Str>, password: impl Into<Secret>) -> Self {
        Self::scram(ScramMechanism::Sha256, username, password)
    }

    /// SCRAM with SHA-512.
    pub fn scram_sha_512(username: impl Into<Str>, password: impl Into<Secret>) -> Self {
        Self::scram(ScramMechanism::Sha512, username, password)
    }

    /// OAUTHBEARER (RFC 7628, KIP-255): a token that somebody else has issued. The provider is asked for one each time a connection
    /// authenticates, and again before a session is over (KIP-368).
    ///
    /// ```
    /// use tidelog_client::{OauthToken, Sasl};
    ///
    /// let sasl = Sasl::oauth_bearer(|| async {
    ///     // Ask an issuer, or read a file that something else keeps fresh.
    ///     Ok(OauthToken::new("mF_9.B5f-4.1JqM").extension("logicalCluster", "lkc-1"))
    /// });
    /// ```
    pub fn oauth_bearer(provider: impl TokenProvider + 'static) -> Self {
        Self(Arc::new(Mechanism::OauthBearer(Arc::new(provider))))
    }

    /// Kafka's name of the mechanism, such as `SCRAM-SHA-512`.
    pub fn mechanism(&self) -> &'static str {
        match self.inner() {
            Mechanism::Plain { .. } => "PLAIN",
            Mechanism::Scram { mechanism, .. } => mechanism.name(),
            Mechanism::OauthBearer(_) => "OAUTHBEARER",
        }
    }

    pub(crate) fn inner(&self) -> &Mechanism {
        &self.0
    }
}

impl fmt::Debug for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain { username, .. } => f.debug_tuple("Plain").field(username).finish(),
            Self::Scram {
                mechanism,
                username,
                ..
            } => f.debug_tuple(mechanism.name()).field(username).finish(),
            Self::OauthBearer(_) => f.write_str("OauthBearer"),
        }
    }
}
