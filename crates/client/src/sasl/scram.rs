//! SCRAM (RFC 5802, RFC 7677) as the client has it, without channel binding.
//!
//! Names and passwords are taken as they are, in UTF-8. RFC 5802 asks for SASLprep; Kafka does not do it, neither where credentials
//! are made nor where they are checked, so a client that did it could not log in with some passwords.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use tidelog_types::Str;

use super::Secret;

/// Fewer iterations make a password too easy to guess; Kafka has no fewer, either.
const ITERATIONS_MIN: u32 = 4096;
/// More would keep the client busy for whoever answers in the broker's place. Kafka has 16384 at most.
const ITERATIONS_MAX: u32 = 100_000;
/// The header that says that there is no channel binding, and on whose behalf the client acts: its own.
const GS2_HEADER: &str = "n,,";

/// The hash of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramMechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl ScramMechanism {
    /// Kafka's name of it, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    pub(crate) const fn number(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    pub(crate) const fn from_number(number: i8) -> Option<Self> {
        match number {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn mac<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> M {
        let mac = <M as KeyInit>::new_from_slice(key);
        let mut mac = mac.expect("a key of HMAC may have any length");
        mac.update(bytes);
        mac
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Self::mac::<Hmac<Sha256>>(key, bytes)
                .finalize()
                .into_bytes()
                .to_vec(),
            Self::Sha512 => Self::mac::<Hmac<Sha512>>(key, bytes)
                .finalize()
                .into_bytes()
                .to_vec(),
        }
    }

    /// Whether this is the code of these bytes; takes equally long whatever it is.
    fn is_hmac(self, key: &[u8], bytes: &[u8], code: &[u8]) -> bool {
        match self {
            Self::Sha256 => Self::mac::<Hmac<Sha256>>(key, bytes).verify_slice(code),
            Self::Sha512 => Self::mac::<Hmac<Sha512>>(key, bytes).verify_slice(code),
        }
        .is_ok()
    }
}

/// `Hi` of RFC 5802: what stands for a password, and cannot be turned back.
pub(crate) fn salted_password(
    mechanism: ScramMechanism,
    password: &Secret,
    salt: &[u8],
    iterations: u32,
) -> Vec<u8> {
    let password = password.reveal().as_bytes();
    match mechanism {
        ScramMechanism::Sha256 => {
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations).to_vec()
        }
        ScramMechanism::Sha512 => {
            pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, iterations).to_vec()
        }
    }
}

/// An exchange that has begun.
pub(crate) struct Scram {
    mechanism: ScramMechanism,
    password: Secret,
    nonce: String,
    first_bare: String,
}

/// An exchange in which the server has still to prove itself.
pub(crate) struct Proven {
    mechanism: ScramMechanism,
    server_key: Vec<u8>,
    auth_message: String,
}

impl Scram {
    /// Begins, with what is to be sent. `nonce` is random text without commas.
    pub(super) fn begin(
        mechanism: ScramMechanism,
        username: &Str,
        password: &Secret,
        nonce: String,
    ) -> (Self, String) {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={username},r={nonce}");
        let first = format!("{GS2_HEADER}{first_bare}");
        let scram = Self {
            mechanism,
            password: password.clone(),
            nonce,
            first_bare,
        };
        (scram, first)
    }

    /// What the server says first, and the answer to it.
    pub(super) fn prove(self, challenge: &[u8]) -> Result<(Proven, String), String> {
        let challenge = text(challenge)?;
        let ServerFirst {
            nonce,
            salt,
            iterations,
        } = ServerFirst::parse(challenge)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the broker's nonce does not go on from the client's".to_owned());
        }
        if iterations < ITERATIONS_MIN {
            return Err(format!(
                "the broker asks for {iterations} iterations; fewer than {ITERATIONS_MIN} give the password away"
            ));
        }
        if iterations > ITERATIONS_MAX {
            return Err(format!(
                "the broker asks for {iterations} iterations; this client does {ITERATIONS_MAX} at most"
            ));
        }
        let mechanism = self.mechanism;
        let salted = salted_password(mechanism, &self.password, &salt, iterations);
        let client_key = mechanism.hmac(&salted, b"Client Key");
        let stored_key = mechanism.hash(&client_key);
        let binding = STANDARD.encode(GS2_HEADER);
        let without_proof = format!("c={binding},r={nonce}");
        let auth_message = format!("{},{challenge},{without_proof}", self.first_bare);
        let signature = mechanism.hmac(&stored_key, auth_message.as_bytes());
        let proof = client_key.iter().zip(&signature);
        let proof: Vec<u8> = proof.map(|(key, signed)| key ^ signed).collect();
        let answer = format!("{without_proof},p={}", STANDARD.encode(proof));
        let proven = Proven {
            mechanism,
            server_key: mechanism.hmac(&salted, b"Server Key"),
            auth_message,
        };
        Ok((proven, answer))
    }
}

impl Proven {
    /// What the server says last: that it knows the password, too.
    pub(super) fn verify(&self, last: &[u8]) -> Result<(), String> {
        let last = text(last)?;
        let first = last.split(',').next().unwrap_or_default();
        if let Some(error) = first.strip_prefix("e=") {
            return Err(error.to_owned());
        }
        let signature = first.strip_prefix("v=");
        let signature = signature.and_then(|text| STANDARD.decode(text).ok());
        let signature = signature.ok_or("the broker's last message has no signature")?;
        let message = self.auth_message.as_bytes();
        match self
            .mechanism
            .is_hmac(&self.server_key, message, &signature)
        {
            true => Ok(()),
            false => Err(
                "the broker's signature is wrong: it does not know the password, and may not be whom it claims to be"
                    .to_owned(),
            ),
        }
    }
}

#[derive(Debug, PartialEq)]
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// `r=NONCE,s=SALT,i=ITERATIONS`, then extensions, which may be passed over.
    fn parse(message: &'a str) -> Result<Self, String> {
        let mut attributes = message.split(',');
        let mut next = |name: &str| {
            let attribute = attributes.next().unwrap_or_default();
            if let Some(error) = attribute.strip_prefix("e=") {
                return Err(error.to_owned());
            }
            let value = attribute.strip_prefix(name);
            let value = value.and_then(|value| value.strip_prefix('='));
            value.ok_or_else(|| format!("the broker's first message has no {name}= in its place"))
        };
        let nonce = next("r")?;
        let salt = next("s")?;
        let iterations = next("i")?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty());
        let is_number = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|_| is_number);
        Ok(Self {
            nonce,
            salt: salt.ok_or("the broker's salt is not in base64")?,
            iterations: iterations.ok_or("the broker's number of iterations is none")?,
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "the broker's message is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An exchange up to the client's proof, with what the server says first.
    fn until_proof(
        mechanism: ScramMechanism,
        nonce: &str,
        challenge: &str,
    ) -> Result<(Proven, String), String> {
        let user = Str::from_static("user");
        let (scram, first) = Scram::begin(mechanism, &user, &"pencil".into(), nonce.to_owned());
        assert_eq!(first, format!("n,,n=user,r={nonce}"));
        scram.prove(challenge.as_bytes())
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        let (proven, answer) = until_proof(
            ScramMechanism::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        .unwrap();
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let last = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        proven.verify(last.as_bytes()).unwrap();
        let other = last.replace("v=6", "v=7");
        let error = proven.verify(other.as_bytes()).unwrap_err();
        assert!(error.contains("does not know the password"), "{error}");
        assert_eq!(proven.verify(b"e=other-error").unwrap_err(), "other-error");
        assert!(proven.verify(b"").is_err());
    }

    /// No RFC has an exchange with SHA-512, so the server's half is written out here.
    #[test]
    fn a_server_that_knows_the_password_is_believed_with_sha_512() {
        let mechanism = ScramMechanism::Sha512;
        let challenge = "r=abcdef,s=c2FsdA==,i=4096";
        let (proven, answer) = until_proof(mechanism, "abc", challenge).unwrap();
        let salted = salted_password(mechanism, &"pencil".into(), b"salt", 4096);
        let (without, proof) = answer.split_once(",p=").unwrap();
        let message = format!("n=user,r=abc,{challenge},{without}");
        // What a server does that has only the stored key.
        let client_key = mechanism.hmac(&salted, b"Client Key");
        let stored = mechanism.hash(&client_key);
        let signature = mechanism.hmac(&stored, message.as_bytes());
        let proof = STANDARD.decode(proof).unwrap();
        let shown: Vec<_> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        assert_eq!(mechanism.hash(&shown), stored);
        let key = mechanism.hmac(&salted, b"Server Key");
        let signature = mechanism.hmac(&key, message.as_bytes());
        let last = format!("v={}", STANDARD.encode(signature));
        proven.verify(last.as_bytes()).unwrap();
    }

    #[test]
    fn a_server_that_may_not_be_believed() {
        let cases = [
            ("r=ab,s=c2FsdA==,i=4096", "does not go on"),
            ("r=abc,s=c2FsdA==,i=4096", "does not go on"),
            ("r=xyzabc,s=c2FsdA==,i=4096", "does not go on"),
            ("r=abcdef,s=c2FsdA==,i=4095", "give the password away"),
            ("r=abcdef,s=c2FsdA==,i=100001", "at most"),
            ("r=abcdef,s=c2FsdA==,i=4294967296", "iterations is none"),
            ("r=abcdef,s=c2FsdA==,i=+4096", "iterations is none"),
            ("r=abcdef,s=,i=4096", "salt is not"),
            ("m=x,r=abcdef,s=c2FsdA==,i=4096", "no r="),
            ("r=abcdef,i=4096", "no s="),
            ("e=unknown-user", "unknown-user"),
            ("", "no r="),
        ];
        for (challenge, expected) in cases {
            let error = until_proof(ScramMechanism::Sha256, "abc", challenge).err();
            let error = error.unwrap_or_else(|| panic!("{challenge} is believed"));
            assert!(error.contains(expected), "{challenge}: {error}");
        }
        assert!(
            Proven {
                mechanism: ScramMechanism::Sha256,
                server_key: vec![],
                auth_message: String::new(),
            }
            .verify(b"\xff")
            .is_err()
        );
    }

    #[test]
    fn names_with_letters_that_mean_something() {
        let user = Str::from_static("a=b,c");
        let (_, first) = Scram::begin(ScramMechanism::Sha256, &user, &"x".into(), "r".into());
        assert_eq!(first, "n,,n=a=3Db=2Cc,r=r");
    }

    proptest! {
        #[test]
        fn what_a_server_says_is_found_again(
            nonce in "[!-+\\--~]{1,40}",
            salt in prop::collection::vec(any::<u8>(), 1..40),
            iterations in any::<u32>(),
            extensions in prop::collection::vec("[a-z]=[a-z]{0,5}", 0..3),
        ) {
            let mut message = format!("r={nonce},s={},i={iterations}", STANDARD.encode(&salt));
            for extension in extensions {
                message = format!("{message},{extension}");
            }
            let parsed = ServerFirst::parse(&message).unwrap();
            prop_assert_eq!(parsed, ServerFirst { nonce: &nonce, salt, iterations });
        }

        #[test]
        fn no_message_brings_the_client_down(
            first in prop::collection::vec(any::<u8>(), 0..80),
            like in "[resimv=,0-9a-zA-Z+/]{0,60}",
        ) {
            for message in [&first[..], like.as_bytes()] {
                let user = Str::from_static("user");
                let (scram, _) = Scram::begin(ScramMechanism::Sha256, &user, &"p".into(), "n".into());
                prop_assert!(scram.prove(message).is_err());
                let proven = Proven {
                    mechanism: ScramMechanism::Sha256,
                    server_key: vec![7],
                    auth_message: String::new(),
                };
                prop_assert!(proven.verify(message).is_err());
            }
        }
    }
}
