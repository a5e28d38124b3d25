//! Saying who the client is, before anything else is asked and again before a session is over (KIP-43, KIP-152, KIP-368).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::ApiRequest;
use tidelog_protocol::messages::sasl_authenticate::SaslAuthenticateRequest;
use tidelog_protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use tidelog_types::{ErrorCode, Str};
use tokio::time::{Instant, sleep};

use super::{Channel, Ended};
use crate::backoff::Random;
use crate::sasl::{Exchange, Step, Unable};
use crate::{ClientError, Sasl};

/// From this version on tokens go in requests of their own (KIP-152).
const HANDSHAKE_VERSION: i16 = 1;
/// When a session is renewed, as a share of its lifetime in percent: somewhere in between, so that not all clients do it at once.
const RENEWED_AFTER_PERCENT: std::ops::Range<u64> = 85..95;
/// Brokers do not renew a session sooner.
const RENEWED_AFTER_MIN: Duration = Duration::from_secs(1);

/// The broker has no SASL at all.
const NOT_SERVED: &str =
    "the broker does not serve SASL; set security.protocol to PLAINTEXT or SSL";
/// The broker has it on other listeners.
const NOT_ASKED: &str =
    "the listener asks nobody who they are; set security.protocol to PLAINTEXT or SSL";

impl Channel {
    /// Says who the client is, if it is to, and for how long the broker believes it, if it says.
    pub(super) async fn authenticate(&self) -> Result<Option<Duration>, ClientError> {
        let Some(sasl) = &self.config.sasl else {
            return Ok(None);
        };
        let within = self.config.connect_timeout;
        let begun = match tokio::time::timeout(within, Exchange::begin(sasl)).await {
            Ok(begun) => begun.map_err(|unable| self.unable(sasl, unable))?,
            Err(_) => {
                return Err(ClientError::NoToken {
                    address: self.address().to_owned(),
                    source: format!("the provider has had none within {within:?}").into(),
                });
            }
        };
        self.converse(sasl, begun, within).await
    }

    /// One exchange, during which nobody else asks anything. `within` is the time that each answer may take.
    async fn converse(
        &self,
        sasl: &Sasl,
        (mut exchange, mut token): (Exchange, Bytes),
        within: Duration,
    ) -> Result<Option<Duration>, ClientError> {
        let mechanism = sasl.mechanism();
        let failed = |what| self.distrust(mechanism, what);
        self.agree_on(mechanism, within).await?;
        let version = self.version::<SaslAuthenticateRequest>(i16::MAX);
        let version = version.ok_or_else(|| failed(NOT_SERVED.to_owned()))?;
        loop {
            let request = SaslAuthenticateRequest { auth_bytes: token };
            let pending = self.exchange(&request, version, true, within);
            let answer: <SaslAuthenticateRequest as ApiRequest>::Response =
                pending.await?.answer().await?;
            if !answer.error_code.is_ok() {
                let message = answer.error_message.filter(|text| !text.is_empty());
                let words = message.map_or_else(|| answer.error_code.text().into(), Str::from);
                return Err(failed(match exchange.reason() {
                    Some(reason) if reason != words.as_str() => format!("{words}: {reason}"),
                    _ => words.to_string(),
                }));
            }
            let (next, step) = exchange.hear(&answer.auth_bytes).map_err(failed)?;
            exchange = next;
            match step {
                Step::Send(next) => token = next,
                Step::Done => {
                    let lifetime = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
                    let lifetime = (lifetime > 0).then(|| Duration::from_millis(lifetime));
                    tracing::debug!(
                        address = self.address(),
                        mechanism,
                        ?lifetime,
                        "authenticated"
                    );
                    return Ok(lifetime);
                }
            }
        }
    }

    /// Names the mechanism, which the listener has to have.
    async fn agree_on(&self, mechanism: &'static str, within: Duration) -> Result<(), ClientError> {
        let failed = |what| Err(self.distrust(mechanism, what));
        let version = self.version::<SaslHandshakeRequest>(HANDSHAKE_VERSION);
        if version != Some(HANDSHAKE_VERSION) {
            return failed(NOT_SERVED.to_owned());
        }
        let answer = self.shake_hands(mechanism, within).await?;
        match answer.error_code {
            ErrorCode::NONE => Ok(()),
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let names: Vec<_> = answer.mechanisms.iter().map(Str::as_str).collect();
                failed(format!(
                    "the listener does not have this mechanism; set sasl.mechanism to one that it has: {}",
                    names.join(", ")
                ))
            }
            ErrorCode::ILLEGAL_SASL_STATE => failed(NOT_ASKED.to_owned()),
            code => failed(format!("{} ({code})", code.text())),
        }
    }

    fn distrust(&self, mechanism: &'static str, what: String) -> ClientError {
        ClientError::Authentication {
            address: self.address().to_owned(),
            mechanism,
            what,
        }
    }

    /// Asks a broker that has closed the last connection whether it wants to know who the client is.
    pub(super) async fn probe(&self) -> Result<(), ClientError> {
        let version = self.version::<SaslHandshakeRequest>(HANDSHAKE_VERSION);
        if version != Some(HANDSHAKE_VERSION) {
            return Ok(());
        }
        // No mechanism has this name, so a listener with SASL says which it has, and one without that it has none.
        let answer = self.shake_hands("", self.config.connect_timeout).await?;
        if answer.error_code != ErrorCode::UNSUPPORTED_SASL_MECHANISM {
            return Ok(());
        }
        Err(ClientError::SaslExpected {
            address: self.address().to_owned(),
            mechanisms: answer.mechanisms,
            has_tls: self.has_tls(),
        })
    }

    async fn shake_hands(
        &self,
        mechanism: &'static str,
        within: Duration,
    ) -> Result<SaslHandshakeResponse, ClientError> {
        let request = SaslHandshakeRequest {
            mechanism: Str::from_static(mechanism),
        };
        let pending = self.exchange(&request, HANDSHAKE_VERSION, true, within);
        pending.await?.answer().await
    }

    fn unable(&self, sasl: &Sasl, unable: Unable) -> ClientError {
        match unable {
            Unable::Token(source) => ClientError::NoToken {
                address: self.address().to_owned(),
                source,
            },
            Unable::Settings(what) => self.distrust(sasl.mechanism(), what),
        }
    }

    /// Says again who the client is. What is under way goes on; what is asked meanwhile waits.
    async fn authenticate_again(&self, sasl: &Sasl) -> Result<Option<Duration>, ClientError> {
        // Before the gate is closed: a token may take its time. The broker puts up with the old session for a while, so that there
        // is room to ask for a token once more.
        let begun = loop {
            match Exchange::begin(sasl).await {
                Ok(begun) => break begun,
                Err(unable) => {
                    let error = self.unable(sasl, unable);
                    if !error.is_retriable() {
                        return Err(error);
                    }
                    tracing::warn!(%error, "a session cannot be renewed yet");
                    sleep(self.config.retry_backoff_max).await;
                }
            }
        };
        let _alone = self.gate.write().await;
        // The broker comes to this only after what was asked before, such as to join a group, which may take minutes.
        let busy = self.busy_until.lock().duration_since(Instant::now());
        let within = busy + self.config.request_timeout;
        self.converse(sasl, begun, within).await
    }
}

/// Renews the session in time, for as long as there is a connection.
pub(super) async fn renew(channel: Arc<Channel>, mut lifetime: Duration) {
    let Some(sasl) = channel.config.sasl.clone() else {
        return;
    };
    let mut random = Random::seeded();
    loop {
        let range = RENEWED_AFTER_PERCENT;
        let percent = range.start + random.next() % (range.end - range.start);
        let wait = lifetime.mul_f64(percent as f64 / 100.0);
        sleep(wait.max(RENEWED_AFTER_MIN)).await;
        match channel.authenticate_again(&sasl).await {
            Ok(Some(next)) => lifetime = next,
            Ok(None) => return,
            Err(error) => {
                let address = channel.address();
                tracing::warn!(address, %error, "a session cannot be renewed");
                if let ClientError::Authentication {
                    mechanism, what, ..
                } = error
                {
                    channel.shared.end(Ended::Distrusted(mechanism, what));
                }
                return channel.task.abort();
            }
        }
    }
}
