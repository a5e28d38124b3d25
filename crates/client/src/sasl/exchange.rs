//! One exchange of tokens with a broker, whatever the mechanism.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::scram::{Proven, Scram};
use super::{Mechanism, Sasl, TokenError, oauth};

/// How many random bytes make a nonce.
const NONCE_BYTES: usize = 24;
/// What a client says to a broker that has not taken its token, so that the broker may refuse it in order (RFC 7628, 3.2.3).
const OAUTH_UNDERSTOOD: &[u8] = b"\x01";

/// What comes next.
pub(crate) enum Step {
    /// A token for the broker.
    Send(Bytes),
    /// The broker has said all that this side waits for.
    Done,
}

/// Where an exchange stands after what this side has said last.
pub(crate) enum Exchange {
    /// PLAIN: there is no more to say.
    Plain,
    /// SCRAM: the server is to send its salt.
    Begun(Scram),
    /// SCRAM: the server is to prove itself.
    Proven(Proven),
    /// OAUTHBEARER: the server takes the token, or says why not.
    Token,
    /// OAUTHBEARER: the server refuses, for this reason.
    Refused(String),
}

/// Why an exchange does not even begin.
pub(crate) enum Unable {
    /// The provider has no token just now.
    Token(TokenError),
    /// What the client was given cannot be said.
    Settings(String),
}

impl Exchange {
    /// The first token.
    pub(crate) async fn begin(sasl: &Sasl) -> Result<(Self, Bytes), Unable> {
        match sasl.inner() {
            Mechanism::Plain { username, password } => {
                let password = password.reveal();
                if username.contains('\0') || password.contains('\0') {
                    let what = "a name or password with a NUL cannot be sent by PLAIN";
                    return Err(Unable::Settings(what.to_owned()));
                }
                let token = format!("\0{username}\0{password}");
                Ok((Self::Plain, token.into()))
            }
            Mechanism::Scram {
                mechanism,
                username,
                password,
            } => {
                let mut nonce = [0; NONCE_BYTES];
                getrandom::fill(&mut nonce).map_err(|error| {
                    Unable::Settings(format!("the system has no random bytes: {error}"))
                })?;
                let nonce = STANDARD.encode(nonce);
                let (scram, first) = Scram::begin(*mechanism, username, password, nonce);
                Ok((Self::Begun(scram), first.into()))
            }
            Mechanism::OauthBearer(provider) => {
                let token = provider.token().await.map_err(Unable::Token)?;
                let first = oauth::initial_response(&token).map_err(Unable::Settings)?;
                Ok((Self::Token, first.into()))
            }
        }
    }

    /// What the broker says, and what comes next; or why it is not to be believed.
    pub(crate) fn hear(self, token: &[u8]) -> Result<(Self, Step), String> {
        match self {
            Self::Plain => Ok((Self::Plain, Step::Done)),
            Self::Begun(scram) => {
                let (proven, answer) = scram.prove(token)?;
                Ok((Self::Proven(proven), Step::Send(answer.into())))
            }
            Self::Proven(proven) => {
                proven.verify(token)?;
                Ok((Self::Proven(proven), Step::Done))
            }
            Self::Token if token.is_empty() => Ok((Self::Token, Step::Done)),
            Self::Token => {
                let why = String::from_utf8_lossy(token).into_owned();
                let understood = Bytes::from_static(OAUTH_UNDERSTOOD);
                Ok((Self::Refused(why), Step::Send(understood)))
            }
            Self::Refused(why) => Err(why),
        }
    }

    /// What the broker has said of a refusal besides.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(why) => Some(why),
            _ => None,
        }
    }
}
