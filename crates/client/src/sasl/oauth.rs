use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidelog_types::Str;

use super::Secret;

/// Why there is no token.
pub type TokenError = Box<dyn Error + Send + Sync>;

/// Where tokens of OAUTHBEARER come from. A closure that returns a future is one.
pub trait TokenProvider: Send + Sync {
    /// A token that is valid now, and for a while.
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<OauthToken, TokenError>> + Send + '_>>;
}

impl<F, T> TokenProvider for F
where
    F: Fn() -> T + Send + Sync,
    T: Future<Output = Result<OauthToken, TokenError>> + Send + 'static,
{
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<OauthToken, TokenError>> + Send + '_>> {
        Box::pin(self())
    }
}

/// A token of OAUTHBEARER, with what the client says besides (KIP-342).
#[derive(Clone, Debug)]
pub struct OauthToken {
    pub(super) value: Secret,
    pub(super) extensions: BTreeMap<Str, Str>,
}

impl OauthToken {
    /// A token in the form in which it goes to the broker, such as a JWT.
    pub fn new(value: impl Into<Secret>) -> Self {
        Self {
            value: value.into(),
            extensions: BTreeMap::new(),
        }
    }

    /// Something that the client says besides; names are letters only.
    pub fn extension(mut self, name: impl Into<Str>, value: impl Into<Str>) -> Self {
        self.extensions.insert(name.into(), value.into());
        self
    }

    /// A token that nobody has signed, for brokers that are set up for tests: anybody can make one for any principal.
    pub fn unsecured(principal: &str, lifetime: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let issued = now.unwrap_or_default().as_secs();
        let mut name = String::new();
        for letter in principal.chars() {
            match letter {
                '"' | '\\' => name.extend(['\\', letter]),
                _ if letter.is_control() => name += &format!("\\u{:04x}", u32::from(letter)),
                _ => name.push(letter),
            }
        }
        let expires = issued + lifetime.as_secs();
        let claims = format!(r#"{{"sub":"{name}","iat":{issued},"exp":{expires}}}"#);
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let header = part(r#"{"alg":"none"}"#);
        Self::new(format!("{header}.{}.", part(&claims)))
    }
}

/// What the client sends first (RFC 7628, 3.1), or what is wrong with the token.
pub(super) fn initial_response(token: &OauthToken) -> Result<Vec<u8>, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    let value = token.value.reveal();
    if value.is_empty() || !value.bytes().all(is_token) {
        return Err("the token is empty, or has characters that no bearer token has".to_owned());
    }
    let mut response = format!("n,,\u{1}auth=Bearer {value}");
    for (name, value) in &token.extensions {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_name || name.as_str() == "auth" {
            return Err(format!("an extension cannot be called {name:?}"));
        }
        let is_value = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        if !value.bytes().all(is_value) {
            return Err(format!(
                "the extension {name} has a value that is not ASCII"
            ));
        }
        response += &format!("\u{1}{name}={value}");
    }
    response += "\u{1}\u{1}";
    Ok(response.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first() {
        let token = OauthToken::new("abc.def=");
        let said = initial_response(&token).unwrap();
        assert_eq!(said, b"n,,\x01auth=Bearer abc.def=\x01\x01");
        let token = token.extension("traceId", "1 2").extension("b", "");
        let said = initial_response(&token).unwrap();
        assert_eq!(
            said,
            b"n,,\x01auth=Bearer abc.def=\x01b=\x01traceId=1 2\x01\x01"
        );
    }

    #[test]
    fn what_cannot_be_said() {
        let good = OauthToken::new("abc");
        for token in [
            OauthToken::new(""),
            OauthToken::new("a\u{1}b"),
            good.clone().extension("auth", "x"),
            good.clone().extension("a-b", "x"),
            good.clone().extension("a", "\u{1}"),
        ] {
            assert!(initial_response(&token).is_err(), "{:?}", token.extensions);
        }
        assert_eq!(format!("{:?}", good.value), "(secret)");
    }
}
