//! TLS, with a server in front of the broker that speaks it: no port of its own, since it is a transport.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tidelog_client::{
    Client, ClientError, Config, Connecting, Pem, Producer, ProducerConfig, Stream, Tls,
    TlsBuilder, TlsProblem, Transport,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::server::{Server, record};

/// Whom tests trust.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn pem(&self) -> Pem {
        Pem::bytes(self.issuer.pem())
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn for_broker(&self) -> Identity {
        self.sign("127.0.0.1", |_| {})
    }
}

/// A server that shows this certificate, and wants to see one of the client's that `clients` has signed.
fn server(
    identity: &Identity,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// Connects to a server that speaks TLS and hands on what it hears to the broker.
#[derive(Debug)]
struct InFront(Arc<ServerConfig>);

impl Transport for InFront {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let mut broker = TcpStream::connect(address).await?;
            let (ours, theirs) = tokio::io::duplex(1 << 14);
            let acceptor = TlsAcceptor::from(self.0.clone());
            tokio::spawn(async move {
                let mut heard = acceptor.accept(theirs).await?;
                tokio::io::copy_bidirectional(&mut heard, &mut broker).await?;
                io::Result::Ok(())
            });
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

fn config(server: Arc<ServerConfig>, tls: Option<TlsBuilder>) -> Config {
    let mut config = Config::default();
    config.transport = Arc::new(InFront(server));
    config.tls = tls.map(|tls| tls.build().unwrap());
    config
}

/// Why nobody is reached, which has to be known soon.
async fn refused(broker: &Server, config: Config) -> ClientError {
    let begun = Instant::now();
    let error = Client::connect(broker.address(), config).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{error}");
    assert!(!error.is_retriable(), "{error}");
    error
}

async fn problem(broker: &Server, config: Config) -> TlsProblem {
    match refused(broker, config).await {
        ClientError::Tls { problem, .. } => problem,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn records_go_over_every_version() {
    let broker = Server::start().await;
    let authority = Authority::new("one");
    let identity = authority.for_broker();
    for version in BOTH {
        let topic = broker.topic(1, &[]).await;
        let server = server(&identity, None, &[version]);
        let tls = Tls::builder().authorities(authority.pem());
        let client = Client::connect(broker.address(), config(server, Some(tls))).await;
        let producer = Producer::new(&client.unwrap(), ProducerConfig::default()).unwrap();
        // More than one record of TLS, and more than the pipe holds.
        let value = "v".repeat(100_000);
        let mut sent = Vec::new();
        for _ in 0..20 {
            sent.push(producer.send(record(&topic, &value)).await.unwrap());
        }
        for sent in sent {
            sent.await.unwrap();
        }
        let records = broker.records(&topic, 0).await;
        assert_eq!(records.len(), 20);
        assert!(
            records
                .iter()
                .all(|it| it.value.as_deref() == Some(value.as_bytes()))
        );
    }
}

#[tokio::test]
async fn a_certificate_has_to_be_good() {
    let broker = Server::start().await;
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let good = server(&authority.for_broker(), None, BOTH);
    let trusting = |authority: &Authority| Tls::builder().authorities(authority.pem());

    let unknown = problem(&broker, config(good.clone(), Some(trusting(&other)))).await;
    assert!(
        matches!(unknown, TlsProblem::UnknownAuthority { .. }),
        "{unknown}"
    );
    assert!(unknown.to_string().contains("ssl.ca.location"), "{unknown}");

    let elsewhere = authority.sign("kafka.example.com", |_| {});
    let elsewhere = server(&elsewhere, None, BOTH);
    let wrong = problem(
        &broker,
        config(elsewhere.clone(), Some(trusting(&authority))),
    )
    .await;
    assert!(matches!(wrong, TlsProblem::WrongName { .. }), "{wrong}");
    assert!(wrong.to_string().contains("kafka.example.com"), "{wrong}");
    // Unless the name does not matter, or is said to be another.
    for tls in [
        trusting(&authority).verify_name(false),
        trusting(&authority).server_name("kafka.example.com"),
    ] {
        let client = Client::connect(broker.address(), config(elsewhere.clone(), Some(tls)));
        client.await.unwrap();
    }
    // Which is all that does not matter then.
    let anybody = trusting(&other).verify_name(false);
    let unknown = problem(&broker, config(elsewhere, Some(anybody))).await;
    assert!(
        matches!(unknown, TlsProblem::UnknownAuthority { .. }),
        "{unknown}"
    );

    let expired = authority.sign("127.0.0.1", |it| it.not_after = date_time_ymd(2020, 1, 1));
    let expired = server(&expired, None, BOTH);
    for tls in [
        trusting(&authority),
        trusting(&authority).verify_name(false),
    ] {
        let expired = problem(&broker, config(expired.clone(), Some(tls))).await;
        assert!(expired.to_string().contains("has expired"), "{expired}");
    }
    let early = authority.sign("127.0.0.1", |it| it.not_before = date_time_ymd(2900, 1, 1));
    let early = server(&early, None, BOTH);
    let early = problem(&broker, config(early, Some(trusting(&authority)))).await;
    assert!(early.to_string().contains("is not valid yet"), "{early}");

    let ca = authority.sign("127.0.0.1", |it| {
        it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let ca = problem(
        &broker,
        config(server(&ca, None, BOTH), Some(trusting(&authority))),
    )
    .await;
    assert!(ca.to_string().contains("CA:TRUE"), "{ca}");
    let client = authority.sign("127.0.0.1", |it| {
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let client = server(&client, None, BOTH);
    let client = problem(&broker, config(client, Some(trusting(&authority)))).await;
    assert!(
        client.to_string().contains("not made for servers"),
        "{client}"
    );
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate() {
    let broker = Server::start().await;
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let identity = authority.for_broker();
    let as_client = |authority: &Authority| authority.sign("alice", |_| {});
    let with = |alice: &Identity| {
        let (certificate, key) = (alice.certificate.as_str(), alice.key.as_str());
        Tls::builder()
            .authorities(authority.pem())
            .identity(Pem::bytes(certificate), Pem::bytes(key))
    };
    for version in BOTH {
        let server = server(&identity, Some(&authority), &[version]);
        let none = Tls::builder().authorities(authority.pem());
        let required = problem(&broker, config(server.clone(), Some(none))).await;
        let is_required = matches!(required, TlsProblem::IdentityRequired { .. });
        assert!(is_required, "{version:?}: {required}");
        assert!(
            required.to_string().contains("ssl.key.location"),
            "{required}"
        );

        let stranger = with(&as_client(&other));
        let stranger = problem(&broker, config(server.clone(), Some(stranger))).await;
        let is_refused = matches!(stranger, TlsProblem::IdentityRefused { .. });
        assert!(is_refused, "{version:?}: {stranger}");

        let alice = with(&as_client(&authority));
        let client = Client::connect(broker.address(), config(server, Some(alice)));
        client.await.unwrap().brokers().await.unwrap();
    }
    // A key that is another's.
    let mut mixed = as_client(&authority);
    mixed.key = as_client(&authority).key;
    let error = with(&mixed).build().unwrap_err();
    assert!(
        error.to_string().contains("do not make an identity"),
        "{error}"
    );
    let error = Tls::builder().authorities(Pem::bytes(mixed.key)).build();
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("no certificate in PEM"),
        "{error}"
    );
}

#[tokio::test]
async fn one_side_speaks_tls_and_the_other_does_not() {
    let broker = Server::start().await;
    let authority = Authority::new("one");
    let server = server(&authority.for_broker(), None, BOTH);
    let plain = refused(&broker, config(server.clone(), None)).await;
    assert!(matches!(plain, ClientError::TlsExpected { .. }), "{plain}");
    let mut reverse = config(server, Some(Tls::builder().authorities(authority.pem())));
    reverse.transport = Config::default().transport;
    let spoken = problem(&broker, reverse).await;
    assert!(matches!(spoken, TlsProblem::NotSpoken { .. }), "{spoken}");
}
