use std::fmt;
use std::path::PathBuf;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Certificates or a private key in PEM: lines of base64 between `-----BEGIN` and `-----END`.
#[derive(Clone)]
pub struct Pem(Place);

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Pem {
    /// What is in this file when it is needed.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// This text itself.
    pub fn bytes(text: impl Into<Vec<u8>>) -> Self {
        Self(Place::Bytes(text.into()))
    }

    fn read(&self) -> Result<Vec<u8>, String> {
        match &self.0 {
            Place::File(path) => std::fs::read(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display())),
            Place::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    /// All certificates; there is at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let bytes = self.read()?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match all {
            Ok(all) if all.is_empty() => Err(format!(
                "{self} has no certificate in PEM{}",
                instead(&bytes)
            )),
            Ok(all) => Ok(all),
            Err(error) => Err(format!("{self} is damaged: {error}")),
        }
    }

    /// The first private key.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound if contains(&bytes, b"ENCRYPTED") => format!(
                "the private key in {self} is encrypted, which this version cannot read; `openssl pkcs8 -in KEY -out PLAIN_KEY` decrypts it"
            ),
            rustls::pki_types::pem::Error::NoItemsFound => {
                format!("{self} has no private key in PEM{}", instead(&bytes))
            }
            error => format!("{self} is damaged: {error}"),
        })
    }
}

/// What a file may be that is not PEM.
fn instead(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xfe, 0xed, 0xfe, 0xed, ..] => {
            ", it is a key store of Java (JKS); `keytool -importkeystore -deststoretype pkcs12` and `openssl pkcs12 -nodes` make PEM of it"
        }
        [0x30, 0x80..=0x84, ..] => {
            ", but something in DER, such as PKCS #12; `openssl pkcs12 -nodes` or `openssl x509 -inform der` makes PEM of it"
        }
        _ => "",
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => path.display().fmt(f),
            Place::Bytes(_) => f.write_str("the text that was given"),
        }
    }
}

/// Never the text, which may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({self})")
    }
}
