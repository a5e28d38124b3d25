//! How the connection is protected and who the user is, in the keys of Kafka's clients and of librdkafka.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidelog_client::{Config, OauthToken, Pem, Sasl, ScramMechanism, Tls, TokenError};

const PROTOCOL: &str = "security.protocol";
const MECHANISM: &str = "sasl.mechanism";
const USERNAME: &str = "sasl.username";
const PASSWORD: &str = "sasl.password";
const JAAS: &str = "sasl.jaas.config";
const TOKEN_URL: &str = "sasl.oauthbearer.token.endpoint.url";
const UNSECURE: &str = "enable.sasl.oauthbearer.unsecure.jwt";
const UNSECURE_CONFIG: &str = "sasl.oauthbearer.config";
const NAME_CHECK: &str = "ssl.endpoint.identification.algorithm";
const CA_FILE: &str = "ssl.ca.location";
const CA_TEXT: &str = "ssl.ca.pem";
const CERTIFICATE_FILE: &str = "ssl.certificate.location";
const CERTIFICATE_TEXT: &str = "ssl.certificate.pem";
const KEY_FILE: &str = "ssl.key.location";
const KEY_TEXT: &str = "ssl.key.pem";
const KEY_PASSWORD: &str = "ssl.key.password";
const TRUST_TYPE: &str = "ssl.truststore.type";
const TRUST_FILE: &str = "ssl.truststore.location";
const STORE_TYPE: &str = "ssl.keystore.type";
const STORE_FILE: &str = "ssl.keystore.location";

/// The keys that mean something to us.
const KNOWN: [&str; 20] = [
    PROTOCOL,
    MECHANISM,
    USERNAME,
    PASSWORD,
    JAAS,
    TOKEN_URL,
    UNSECURE,
    UNSECURE_CONFIG,
    NAME_CHECK,
    CA_FILE,
    CA_TEXT,
    CERTIFICATE_FILE,
    CERTIFICATE_TEXT,
    KEY_FILE,
    KEY_TEXT,
    KEY_PASSWORD,
    TRUST_TYPE,
    TRUST_FILE,
    STORE_TYPE,
    STORE_FILE,
];

/// Other words for the same.
const ALSO: [(&str, &str); 4] = [
    ("sasl.mechanisms", MECHANISM),
    ("ssl.truststore.certificates", CA_TEXT),
    ("ssl.keystore.certificate.chain", CERTIFICATE_TEXT),
    ("ssl.keystore.key", KEY_TEXT),
];

/// For how long a token is good that the user makes for himself.
const UNSECURED_LIFETIME: Duration = Duration::from_secs(3600);

/// Our word for a key, if it is one of these.
pub(crate) fn known(key: &str) -> Option<&'static str> {
    let also = ALSO.iter().find(|(other, _)| *other == key);
    let ours = also.map(|(_, ours)| *ours);
    ours.or_else(|| KNOWN.iter().find(|known| **known == key).copied())
}

/// What was said about it, the strongest word for each key.
#[derive(Default)]
pub(crate) struct Security {
    said: BTreeMap<&'static str, String>,
}

impl Security {
    /// Takes a property; a later one for the same key holds.
    pub(crate) fn take(&mut self, key: &'static str, value: &str) {
        self.said.insert(key, value.to_owned());
    }

    fn word(&self, key: &str) -> Option<&str> {
        let word = self.said.get(key).map(String::as_str);
        word.filter(|word| !word.is_empty())
    }

    /// Puts all of it together.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), Box<dyn Error>> {
        let protocol = self.word(PROTOCOL).unwrap_or("PLAINTEXT");
        let (has_tls, has_sasl) = match protocol.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (true, false),
            "SASL_PLAINTEXT" => (false, true),
            "SASL_SSL" => (true, true),
            _ => {
                return Err(format!(
                    "{PROTOCOL}={protocol}: expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
                )
                .into());
            }
        };
        let idle = self.said.keys().filter(|key| {
            key.starts_with("ssl.") && !has_tls || key.contains("sasl.") && !has_sasl
        });
        let idle: Vec<_> = idle.copied().collect();
        if !idle.is_empty() {
            crate::complain(&format!(
                "warning: without effect, since {PROTOCOL} is {protocol}: {}",
                idle.join(", ")
            ));
        }
        if has_tls {
            config.tls = Some(self.tls()?);
        }
        if has_sasl {
            config.sasl = Some(self.sasl()?);
        }
        Ok(())
    }

    fn tls(&self) -> Result<Tls, Box<dyn Error>> {
        for (kind, file) in [(TRUST_TYPE, TRUST_FILE), (STORE_TYPE, STORE_FILE)] {
            if let Some(other) = self.word(kind).filter(|it| !it.eq_ignore_ascii_case("PEM")) {
                return Err(format!(
                    "{kind}={other}: this version reads PEM only; `openssl pkcs12 -nodes` makes PEM of a store, for {file} with {kind}=PEM"
                )
                .into());
            }
        }
        let either = |file: &str, text: &str| {
            let text = self.word(text).map(Pem::bytes);
            text.or_else(|| self.word(file).map(Pem::file))
        };
        let mut builder = Tls::builder();
        if let Some(pem) = either(CA_FILE, CA_TEXT).or_else(|| self.word(TRUST_FILE).map(Pem::file))
        {
            builder = builder.authorities(pem);
        }
        let store = || self.word(STORE_FILE).map(Pem::file);
        let certificate = either(CERTIFICATE_FILE, CERTIFICATE_TEXT).or_else(store);
        let key = either(KEY_FILE, KEY_TEXT).or_else(store);
        builder = match (certificate, key) {
            (Some(certificate), Some(key)) => builder.identity(certificate, key),
            (None, None) => builder,
            (Some(_), None) => {
                return Err(format!("{CERTIFICATE_FILE} needs {KEY_FILE}, its private key").into());
            }
            (None, Some(_)) => {
                return Err(format!("{KEY_FILE} needs {CERTIFICATE_FILE}, its certificate").into());
            }
        };
        if self.word(KEY_PASSWORD).is_some() {
            return Err(format!(
                "{KEY_PASSWORD}: this version reads no encrypted keys; `openssl pkcs8 -in KEY -out PLAIN_KEY` decrypts one"
            )
            .into());
        }
        // Kafka says that names do not count by an empty word, librdkafka by `none`.
        let checked = self.said.get(NAME_CHECK).map_or("https", String::as_str);
        let verify = match checked.to_ascii_lowercase().as_str() {
            "https" => true,
            "" | "none" => false,
            _ => {
                return Err(format!("{NAME_CHECK}={checked}: expected https, or nothing").into());
            }
        };
        Ok(builder.verify_name(verify).build()?)
    }

    fn sasl(&self) -> Result<Sasl, Box<dyn Error>> {
        let mechanism = self.word(MECHANISM).ok_or_else(|| {
            format!(
                "{PROTOCOL} wants SASL; set {MECHANISM} to SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER"
            )
        })?;
        let jaas = self.word(JAAS).map(options).transpose();
        let jaas = jaas.map_err(|what| format!("{JAAS}: {what}"))?;
        let jaas = jaas.unwrap_or_default();
        let scram = match mechanism {
            "OAUTHBEARER" => return self.oauth(&jaas),
            "PLAIN" => None,
            "SCRAM-SHA-256" => Some(ScramMechanism::Sha256),
            "SCRAM-SHA-512" => Some(ScramMechanism::Sha512),
            _ => {
                return Err(format!(
                    "{MECHANISM}={mechanism}: this version has SCRAM-SHA-512, SCRAM-SHA-256, PLAIN and OAUTHBEARER"
                )
                .into());
            }
        };
        let word = |key: &str, option: &str| {
            let own = self.word(key);
            let own = own.or_else(|| jaas.get(option).map(String::as_str));
            own.ok_or_else(|| format!("{mechanism} needs {key}"))
        };
        let username = word(USERNAME, "username")?;
        let password = word(PASSWORD, "password")?;
        Ok(match scram {
            Some(mechanism) => Sasl::scram(mechanism, username, password),
            None => Sasl::plain(username, password),
        })
    }

    fn oauth(&self, jaas: &BTreeMap<String, String>) -> Result<Sasl, Box<dyn Error>> {
        if let Some(url) = self.word(TOKEN_URL) {
            let path = url.strip_prefix("file://").filter(|it| it.starts_with('/'));
            let path = path.map(PathBuf::from).ok_or_else(|| {
                format!(
                    "{TOKEN_URL}={url}: this version reads tokens from files only: file:///PATH, which something else keeps fresh"
                )
            })?;
            return Ok(Sasl::oauth_bearer(move || {
                let token = token_in(&path);
                async { token }
            }));
        }
        let unsecure = self.word(UNSECURE_CONFIG).unwrap_or_default();
        let unsecure: BTreeMap<_, _> = unsecure
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .collect();
        let allowed = self.word(UNSECURE).is_some_and(|it| it == "true");
        let principal = jaas.get("unsecuredLoginStringClaim_sub").cloned();
        let principal = principal.or_else(|| {
            let principal = unsecure.get("principal").filter(|_| allowed);
            principal.map(ToString::to_string)
        });
        let principal = principal.ok_or_else(|| {
            format!(
                "OAUTHBEARER needs {TOKEN_URL}=file:///PATH, a file with a token; or, for tests, {UNSECURE}=true with {UNSECURE_CONFIG}=principal=NAME"
            )
        })?;
        let lifetime = match unsecure.get("lifeSeconds") {
            None => UNSECURED_LIFETIME,
            Some(seconds) => seconds.parse().map(Duration::from_secs).map_err(|_| {
                format!("{UNSECURE_CONFIG}: lifeSeconds={seconds}: expected seconds")
            })?,
        };
        let extensions = unsecure.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix("extension_")?;
            Some((name.to_owned(), (*value).to_owned()))
        });
        let extensions: Vec<_> = extensions.collect();
        Ok(Sasl::oauth_bearer(move || {
            let mut token = OauthToken::unsecured(&principal, lifetime);
            for (name, value) in &extensions {
                token = token.extension(name.as_str(), value.as_str());
            }
            async { Ok(token) }
        }))
    }
}

fn token_in(path: &Path) -> Result<OauthToken, TokenError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(OauthToken::new(text.trim()))
}

/// The options of a login module as JAAS writes it: `some.Module required key="value" ... ;`. Errors do not repeat it, since there is
/// a password in it.
fn options(text: &str) -> Result<BTreeMap<String, String>, &'static str> {
    const EXPECTED: &str = "expected MODULE required KEY=\"VALUE\" ... ;";
    let body = text.trim().strip_suffix(';').ok_or(EXPECTED)?;
    let (_module, rest) = body
        .trim_start()
        .split_once(char::is_whitespace)
        .ok_or(EXPECTED)?;
    let rest = rest.trim_start();
    let (_flag, mut rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let mut options = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(options);
        }
        let (key, value) = rest.split_once('=').ok_or(EXPECTED)?;
        let value = value.trim_start();
        let (value, behind) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&value[1..], quote).ok_or(EXPECTED)?,
            _ => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        options.insert(key.trim().to_owned(), value);
        rest = behind;
    }
}

/// What stands before the closing quote, and what behind it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.push(letters.next()?.1),
            _ if letter == quote => return Some((value, &text[at + letter.len_utf8()..])),
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_together(words: &[(&str, &str)]) -> Result<Config, String> {
        let mut security = Security::default();
        for (key, value) in words {
            security.take(known(key).expect("a key that is known"), value);
        }
        let mut config = Config::default();
        let done = security.apply(&mut config);
        done.map(|()| config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_jaas_says() {
        let text = r#"org.apache.kafka.common.security.scram.ScramLoginModule required
            username="al\"ice" password='a b;c' serviceName=kafka;"#;
        let options = options(text).unwrap();
        let expected = [
            ("password", "a b;c"),
            ("serviceName", "kafka"),
            ("username", "al\"ice"),
        ];
        let options: Vec<_> = options
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(options, expected);
        for wrong in [
            "",
            "x",
            "M required a=\"b",
            "M required a=\"b\"",
            "M required ab;",
        ] {
            let error = super::options(wrong).unwrap_err();
            assert!(error.starts_with("expected"), "{wrong}");
        }
        assert!(super::options("Module required;").unwrap().is_empty());
    }

    #[test]
    fn files_of_both_kinds_of_clients_say_the_same() {
        let jaas = r#"x.ScramLoginModule required username="alice" password="secret";"#;
        let java = [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.jaas.config", jaas),
        ];
        let librdkafka = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanisms", "SCRAM-SHA-256"),
            ("sasl.username", "alice"),
            ("sasl.password", "secret"),
        ];
        for words in [&java[..], &librdkafka] {
            let config = put_together(words).unwrap();
            let debug = format!("{config:?}");
            assert!(debug.contains("SCRAM-SHA-256(\"alice\")"), "{debug}");
            assert!(!debug.contains("secret"), "{debug}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let sasl = ("security.protocol", "SASL_PLAINTEXT");
        let tls = ("security.protocol", "SSL");
        let cases: [(&[(&str, &str)], &str); 11] = [
            (&[("security.protocol", "TLS")], "expected PLAINTEXT, SSL"),
            (&[sasl], "set sasl.mechanism to"),
            (
                &[sasl, ("sasl.mechanism", "GSSAPI")],
                "this version has SCRAM-SHA-512",
            ),
            (
                &[sasl, ("sasl.mechanism", "PLAIN")],
                "PLAIN needs sasl.username",
            ),
            (
                &[sasl, ("sasl.mechanism", "OAUTHBEARER")],
                "needs sasl.oauthbearer.token",
            ),
            (
                &[tls, ("ssl.ca.location", "/nowhere")],
                "cannot read /nowhere",
            ),
            (
                &[tls, ("ssl.truststore.type", "JKS")],
                "makes PEM of a store",
            ),
            (&[tls, ("ssl.ca.pem", "x")], "has no certificate in PEM"),
            (
                &[tls, ("ssl.key.location", "k")],
                "ssl.key.location needs ssl.certificate.location",
            ),
            (&[tls, ("ssl.key.password", "k")], "no encrypted keys"),
            (
                &[tls, ("ssl.endpoint.identification.algorithm", "x")],
                "expected https, or nothing",
            ),
        ];
        for (words, expected) in cases {
            let error = put_together(words).expect_err(expected);
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }
}
