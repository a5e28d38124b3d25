//! Connections that nobody else can read or change (TLS 1.2 and 1.3, by rustls).

mod pem;
mod problem;
mod verifier;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub use self::pem::Pem;
pub use self::problem::TlsProblem;
use self::verifier::AnyName;
use crate::{ClientError, Stream};

/// How connections are protected: [`Config::tls`](crate::Config::tls).
///
/// The broker's certificate has to be good for the name in its address, and signed by an authority that the system trusts, or by
/// one that was [named](TlsBuilder::authorities). Files are read once, by [`build`](TlsBuilder::build).
///
/// ```no_run
/// use tidelog_client::{Config, Pem, Tls};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::builder()
///     .authorities(Pem::file("/etc/kafka/ca.pem"))
///     // Only where the broker asks for it.
///     .identity(Pem::file("/etc/kafka/alice.pem"), Pem::file("/etc/kafka/alice.key"));
/// let mut config = Config::default();
/// config.tls = Some(tls.build()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    known: Arc<Known>,
}

/// What errors need to tell of the settings.
#[derive(Debug)]
struct Known {
    /// Whom the client trusts, in words.
    trusted: String,
    has_identity: bool,
}

/// Makes a [`Tls`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TlsBuilder {
    authorities: Vec<Pem>,
    identity: Option<(Pem, Pem)>,
    verifies_name: bool,
    server_name: Option<String>,
}

impl Tls {
    /// Settings, of which each may be left out.
    pub const fn builder() -> TlsBuilder {
        TlsBuilder {
            authorities: Vec::new(),
            identity: None,
            verifies_name: true,
            server_name: None,
        }
    }

    /// Agrees with the server about how to go on, and who it is.
    pub(crate) async fn protect(
        &self,
        stream: Box<dyn Stream>,
        address: &str,
        within: Duration,
    ) -> Result<Box<dyn Stream>, ClientError> {
        let failed = |problem| ClientError::Tls {
            address: address.to_owned(),
            problem,
        };
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => name_in(address).map_err(failed)?,
        };
        let connector = TlsConnector::from(self.config.clone());
        match timeout(within, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(failed(self.explain(&error))),
            Err(_) => Err(failed(TlsProblem::NotSpoken {
                what: format!("nothing came within {within:?}"),
            })),
        }
    }

    fn explain(&self, error: &std::io::Error) -> TlsProblem {
        problem::of_handshake(error, &self.known.trusted, self.known.has_identity)
    }

    /// What an error of an established connection says of certificates, if it does: a server of TLS 1.3 looks at the client's only
    /// when the client believes that all is well.
    pub(crate) fn explain_later(&self, error: &std::io::Error) -> Option<TlsProblem> {
        problem::about_identity(error, self.known.has_identity)
    }

    /// Whether the client has a certificate.
    pub(crate) fn has_identity(&self) -> bool {
        self.known.has_identity
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl TlsBuilder {
    /// Trusts the authorities with these certificates (`ssl.ca.location`), in the place of those that the system trusts. May be called
    /// several times.
    pub fn authorities(mut self, certificates: Pem) -> Self {
        self.authorities.push(certificates);
        self
    }

    /// The client's certificate, with those between it and an authority behind it (`ssl.certificate.location`), and its private key
    /// (`ssl.key.location`). Both may be in one file.
    pub fn identity(mut self, certificates: Pem, key: Pem) -> Self {
        self.identity = Some((certificates, key));
        self
    }

    /// Whether the certificate has to be good for the broker's name; it has to, unless this says otherwise
    /// (`ssl.endpoint.identification.algorithm`). Without it, whoever has any certificate of the same authority can pose as the broker.
    pub const fn verify_name(mut self, verify: bool) -> Self {
        self.verifies_name = verify;
        self
    }

    /// The name that the broker's certificate is for, if it is not the one in its address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads the files, and puts all of it together.
    pub fn build(self) -> Result<Tls, ClientError> {
        let what = |what| ClientError::Settings { what };
        let (roots, trusted) = self.roots().map_err(what)?;
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| what(format!("TLS cannot be set up: {error}")))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider);
        let verifier = verifier
            .build()
            .map_err(|error| what(format!("TLS cannot be set up: {error}")))?;
        let builder = match self.verifies_name {
            true => builder.with_webpki_verifier(verifier),
            false => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName { roots, verifier })),
        };
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                let chain = certificates.certificates().map_err(what)?;
                let secret = key.private_key().map_err(what)?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| {
                        what(format!(
                            "the key in {key} and the certificate in {certificates} do not make an identity: {error}"
                        ))
                    })?
            }
        };
        let server_name = self.server_name.map(|name| {
            let parsed = ServerName::try_from(name.clone());
            parsed.map_err(|_| what(format!("{name:?} is no name that a certificate can be for")))
        });
        Ok(Tls {
            config: Arc::new(config),
            server_name: server_name.transpose()?,
            known: Arc::new(Known {
                trusted,
                has_identity: self.identity.is_some(),
            }),
        })
    }

    /// Whom to trust, and who that is in words.
    fn roots(&self) -> Result<(RootCertStore, String), String> {
        let mut roots = RootCertStore::empty();
        if self.authorities.is_empty() {
            let native = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(native.certs);
            if added == 0 {
                let why = native.errors.first();
                let why = why.map_or_else(String::new, |why| format!(" ({why})"));
                return Err(format!(
                    "the system has no certificates of authorities that it trusts{why}; name them with ssl.ca.location"
                ));
            }
            return Ok((roots, "the authorities that the system trusts".to_owned()));
        }
        let mut names = Vec::new();
        for pem in &self.authorities {
            for certificate in pem.certificates()? {
                roots.add(certificate).map_err(|error| {
                    format!("{pem} has a certificate that cannot be read: {error}")
                })?;
            }
            names.push(pem.to_string());
        }
        Ok((roots, names.join(", ")))
    }
}

/// The host of a `host:port`, as certificates name it.
fn name_in(address: &str) -> Result<ServerName<'static>, TlsProblem> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    // A name that ends with a dot is the same name.
    let host = bare.unwrap_or(host).trim_end_matches('.').to_owned();
    ServerName::try_from(host.clone()).map_err(|_| TlsProblem::Other {
        what: format!("{host:?} is no name that a certificate can be for"),
    })
}
