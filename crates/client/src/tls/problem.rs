//! What goes wrong with TLS, and what the user can do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Why there is no protected connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// What listens there does not speak TLS.
    #[error(
        "it does not answer in TLS ({what}); use the port of a listener with TLS, or set security.protocol to PLAINTEXT or SASL_PLAINTEXT"
    )]
    NotSpoken {
        /// What came instead.
        what: String,
    },
    /// Nobody whom the client trusts has signed the broker's certificate.
    #[error(
        "its certificate is signed by none of those whom this client trusts ({trusted}); if the broker is the right one, name the authority that signed it with ssl.ca.location"
    )]
    UnknownAuthority {
        /// Whom the client trusts.
        trusted: String,
    },
    /// The certificate is good for another name.
    #[error(
        "its certificate is for {presented}, not for the name in the address; use a name that it is for, or set ssl.endpoint.identification.algorithm to nothing if the name does not matter"
    )]
    WrongName {
        /// The names in it.
        presented: String,
    },
    /// The certificate is valid no more, or not yet.
    #[error(
        "its certificate {what}; the broker needs a new one, unless this machine's clock is wrong"
    )]
    Expired {
        /// Since or until when.
        what: String,
    },
    /// Something else is wrong with the broker's certificate.
    #[error("its certificate cannot be accepted: {what}")]
    Certificate {
        /// What is wrong with it.
        what: String,
    },
    /// The broker wants to see a certificate of the client's, which it has none of.
    #[error(
        "it wants a certificate of the client ({what}); set ssl.certificate.location and ssl.key.location"
    )]
    IdentityRequired {
        /// What the broker said.
        what: String,
    },
    /// The broker does not accept the certificate of the client.
    #[error(
        "it does not accept this client's certificate ({what}); the broker has to trust whoever signed it, and it has to be valid"
    )]
    IdentityRefused {
        /// What the broker said.
        what: String,
    },
    /// Client and broker do not come to an agreement.
    #[error("no agreement on TLS: {what}")]
    Other {
        /// Why not.
        what: String,
    },
}

/// The error of TLS within one of the system.
fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

pub(super) fn of_handshake(error: &io::Error, trusted: &str, has_identity: bool) -> TlsProblem {
    let Some(error) = inner(error) else {
        // A broker without TLS takes the first bytes for the length of a request that is too long, and closes.
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection at once".to_owned(),
            _ => error.to_string(),
        };
        return TlsProblem::NotSpoken { what };
    };
    match error {
        Error::InvalidMessage(what) => TlsProblem::NotSpoken {
            what: format!("what it sent is {what:?}"),
        },
        Error::InvalidCertificate(error) => of_certificate(error, trusted),
        Error::AlertReceived(alert) => {
            of_alert(*alert, has_identity).unwrap_or_else(|| TlsProblem::Other {
                what: match alert {
                    AlertDescription::HandshakeFailure => "the broker says HandshakeFailure: there is no version or cipher that both have, or it wants a certificate of the client (ssl.certificate.location)".to_owned(),
                    alert => format!("the broker says {alert:?}"),
                },
            })
        }
        error => TlsProblem::Other {
            what: error.to_string(),
        },
    }
}

pub(super) fn about_identity(error: &io::Error, has_identity: bool) -> Option<TlsProblem> {
    match inner(error)? {
        Error::AlertReceived(alert) => of_alert(*alert, has_identity),
        _ => None,
    }
}

/// What an alert says of the client's certificate, if it does.
fn of_alert(alert: AlertDescription, has_identity: bool) -> Option<TlsProblem> {
    let what = format!("{alert:?}");
    match alert {
        AlertDescription::CertificateRequired => Some(TlsProblem::IdentityRequired { what }),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => match has_identity {
            true => Some(TlsProblem::IdentityRefused { what }),
            // TLS 1.2 has no alert of its own for a certificate that is missing.
            false => Some(TlsProblem::IdentityRequired { what }),
        },
        _ => None,
    }
}

fn of_certificate(error: &CertificateError, trusted: &str) -> TlsProblem {
    match error {
        CertificateError::UnknownIssuer => TlsProblem::UnknownAuthority {
            trusted: trusted.to_owned(),
        },
        CertificateError::NotValidForName => TlsProblem::WrongName {
            presented: "another name".to_owned(),
        },
        CertificateError::NotValidForNameContext { presented, .. } => TlsProblem::WrongName {
            presented: match presented.is_empty() {
                // Names in the subject alone have not counted since RFC 6125.
                true => "no name at all (it has no subject alternative names)".to_owned(),
                false => presented.join(", "),
            },
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TlsProblem::Expired {
                what: "has expired".to_owned(),
            }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsProblem::Expired {
                what: "is not valid yet".to_owned(),
            }
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            TlsProblem::Certificate {
                what: "it is not made for servers (extended key usage)".to_owned(),
            }
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            TlsProblem::Certificate {
                what: "it is that of an authority (CA:TRUE), which no server may show; the broker needs one of its own"
                    .to_owned(),
            }
        }
        error => TlsProblem::Certificate {
            what: error.to_string(),
        },
    }
}
