//! SASL, with a server in front of the broker that speaks it and then hands the connection on: a transport, without a port.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::{Digest, Sha256, Sha512};
use tidelog_client::{
    Client, ClientError, Config, Connecting, ConsumeError, ConsumerConfig, GroupProtocol,
    OauthToken, OffsetReset, ProduceError, Producer, ProducerConfig, Sasl, Stream, Transport,
};
use tidelog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use tidelog_protocol::messages::sasl_authenticate::SaslAuthenticateResponse;
use tidelog_protocol::messages::sasl_handshake::SaslHandshakeResponse;
use tidelog_protocol::{
    ApiKey, ApiResponse, Message, Reader, Request, RequestHeader, ResponseHeader, Writer,
    encode_response, frame,
};
use tidelog_types::{ErrorCode, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

use crate::server::{Server, record};

const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
const SALT: &[u8] = b"salt of the test";
const ITERATIONS: u32 = 4096;
/// What the server says to whom it does not believe.
const REFUSAL: &str = "the doorman says no";

/// Who is let in, and how often somebody was or was not.
#[derive(Debug, Default)]
struct Doorman {
    passwords: Mutex<HashMap<String, String>>,
    /// A server that does not know the password, and lets everybody in.
    is_impostor: bool,
    let_in: AtomicU32,
    refused: AtomicU32,
}

#[derive(Debug)]
struct InFront(Arc<Doorman>);

impl Transport for InFront {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let broker = TcpStream::connect(address).await?;
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let door = Door {
                doorman: self.0.clone(),
                client: theirs,
                broker,
                input: BytesMut::new(),
            };
            tokio::spawn(door.keep());
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// One connection through the door.
struct Door {
    doorman: Arc<Doorman>,
    client: DuplexStream,
    broker: TcpStream,
    input: BytesMut,
}

impl Door {
    async fn keep(mut self) -> io::Result<()> {
        // As Kafka's: the greeting, then who it is, then the rest.
        loop {
            let frame = self.frame().await?;
            let (header, _) = Request::read_frame(frame.clone()).unwrap();
            assert_eq!(header.api_key, ApiKey::ApiVersions);
            let (version, answer) = self.versions(&header, frame).await?;
            self.answer(&header, version, &answer).await?;
            if answer.error_code.is_ok() {
                break;
            }
        }
        let (header, request) = Request::read_frame(self.frame().await?).unwrap();
        let Request::SaslHandshake(request) = request else {
            return Ok(());
        };
        let is_known = MECHANISMS.contains(&request.mechanism.as_str());
        let answer = SaslHandshakeResponse {
            error_code: match is_known {
                true => ErrorCode::NONE,
                false => ErrorCode::UNSUPPORTED_SASL_MECHANISM,
            },
            mechanisms: MECHANISMS.map(Str::from_static).to_vec(),
        };
        self.answer(&header, 1, &answer).await?;
        if !is_known {
            return Ok(());
        }
        let believed = match request.mechanism.as_str() {
            "PLAIN" => self.plain().await?,
            "SCRAM-SHA-256" => self.scram(false).await?,
            "SCRAM-SHA-512" => self.scram(true).await?,
            _ => self.bearer().await?,
        };
        match believed {
            true => self.doorman.let_in.fetch_add(1, Ordering::Relaxed),
            false => self.doorman.refused.fetch_add(1, Ordering::Relaxed),
        };
        if believed {
            self.broker.write_all(&self.input).await?;
            tokio::io::copy_bidirectional(&mut self.client, &mut self.broker).await?;
        }
        Ok(())
    }

    async fn frame(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(frame) = frame::next_frame(&mut self.input, 1 << 20).unwrap() {
                return Ok(frame);
            }
            if self.client.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn answer<M: ApiResponse>(
        &mut self,
        header: &RequestHeader,
        version: i16,
        message: &M,
    ) -> io::Result<()> {
        let mut writer = Writer::contiguous();
        encode_response(&mut writer, version, header.correlation_id, message).unwrap();
        let bytes = writer.finish_contiguous().unwrap();
        self.client.write_all(&bytes).await
    }

    /// What the broker has, and SASL; in version 0 if it does not know that of the question.
    async fn versions(
        &mut self,
        header: &RequestHeader,
        frame: Bytes,
    ) -> io::Result<(i16, ApiVersionsResponse)> {
        self.broker
            .write_all(&(frame.len() as u32).to_be_bytes())
            .await?;
        self.broker.write_all(&frame).await?;
        let length = self.broker.read_u32().await?;
        let mut answer = vec![0; length as usize];
        self.broker.read_exact(&mut answer).await?;
        let refusal = ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes();
        let version = match answer[4..6] == refusal {
            true => 0,
            false => header.api_version,
        };
        let mut reader = Reader::new(answer.into());
        ResponseHeader::read(&mut reader, ApiKey::ApiVersions, version).unwrap();
        let mut answer = ApiVersionsResponse::read(&mut reader, version).unwrap();
        for (api_key, max_version) in [(ApiKey::SaslHandshake, 1), (ApiKey::SaslAuthenticate, 2)] {
            answer.api_keys.retain(|api| api.api_key != api_key);
            answer.api_keys.push(ApiVersion {
                api_key,
                min_version: 0,
                max_version,
            });
        }
        Ok((version, answer))
    }

    /// The next token of the client.
    async fn token(&mut self) -> io::Result<(RequestHeader, Bytes)> {
        match Request::read_frame(self.frame().await?).unwrap() {
            (header, Request::SaslAuthenticate(request)) => Ok((header, request.auth_bytes)),
            (_, other) => panic!("{other:?} in the middle of an exchange"),
        }
    }

    async fn say(&mut self, header: &RequestHeader, token: impl Into<Bytes>) -> io::Result<()> {
        let answer = SaslAuthenticateResponse {
            auth_bytes: token.into(),
            ..Default::default()
        };
        self.answer(header, header.api_version, &answer).await
    }

    async fn refuse(&mut self, header: &RequestHeader) -> io::Result<bool> {
        let answer = SaslAuthenticateResponse {
            error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
            error_message: Some(REFUSAL.into()),
            ..Default::default()
        };
        self.answer(header, header.api_version, &answer).await?;
        Ok(false)
    }

    fn password(&self, user: &str) -> String {
        let known = self.doorman.passwords.lock().get(user).cloned();
        known.unwrap_or_default()
    }

    async fn plain(&mut self) -> io::Result<bool> {
        let (header, token) = self.token().await?;
        let parts: Vec<_> = token.split(|byte| *byte == 0).collect();
        let [b"", user, password] = parts[..] else {
            panic!("{token:?} is no token of PLAIN");
        };
        let user = std::str::from_utf8(user).unwrap();
        if self.password(user).as_bytes() != password {
            return self.refuse(&header).await;
        }
        self.say(&header, Bytes::new()).await?;
        Ok(true)
    }

    /// The server's half of RFC 5802.
    async fn scram(&mut self, is_sha_512: bool) -> io::Result<bool> {
        let hmac = |key: &[u8], bytes: &[u8]| match is_sha_512 {
            true => hmac::<Hmac<Sha512>>(key, bytes),
            false => hmac::<Hmac<Sha256>>(key, bytes),
        };
        let (header, first) = self.token().await?;
        let first = std::str::from_utf8(&first).unwrap();
        let bare = first.strip_prefix("n,,").unwrap().to_owned();
        let (user, nonce) = bare.strip_prefix("n=").unwrap().split_once(",r=").unwrap();
        let salt = STANDARD.encode(SALT);
        let challenge = format!("r={nonce}server,s={salt},i={ITERATIONS}");
        let password = self.password(user);
        self.say(&header, challenge.clone()).await?;
        let salted = match is_sha_512 {
            true => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), SALT, ITERATIONS)
                .to_vec(),
            false => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), SALT, ITERATIONS)
                .to_vec(),
        };
        let client_key = hmac(&salted, b"Client Key");
        let stored = match is_sha_512 {
            true => Sha512::digest(&client_key).to_vec(),
            false => Sha256::digest(&client_key).to_vec(),
        };
        let (header, last) = self.token().await?;
        let last = std::str::from_utf8(&last).unwrap();
        let (without, proof) = last.split_once(",p=").unwrap();
        let message = format!("{bare},{challenge},{without}");
        let signature = hmac(&stored, message.as_bytes());
        let proof = STANDARD.decode(proof).unwrap();
        let shown: Vec<_> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if shown != client_key && !self.doorman.is_impostor {
            return self.refuse(&header).await;
        }
        let server_key = hmac(&salted, b"Server Key");
        let signature = STANDARD.encode(hmac(&server_key, message.as_bytes()));
        self.say(&header, format!("v={signature}")).await?;
        Ok(true)
    }

    async fn bearer(&mut self) -> io::Result<bool> {
        let (header, token) = self.token().await?;
        if &token[..] == b"n,,\x01auth=Bearer good\x01team=red\x01\x01" {
            self.say(&header, Bytes::new()).await?;
            return Ok(true);
        }
        self.say(&header, &b"{\"status\":\"invalid_token\"}"[..])
            .await?;
        let (header, understood) = self.token().await?;
        assert_eq!(&understood[..], b"\x01");
        self.refuse(&header).await
    }
}

fn hmac<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

/// A doorman who knows alice.
fn doorman() -> Arc<Doorman> {
    let doorman = Doorman::default();
    doorman
        .passwords
        .lock()
        .insert("alice".into(), "pencil".into());
    Arc::new(doorman)
}

fn config(doorman: &Arc<Doorman>, sasl: Option<Sasl>) -> Config {
    let mut config = Config::default();
    config.transport = Arc::new(InFront(doorman.clone()));
    config.sasl = sasl;
    config
}

fn bearer(token: &'static str) -> Sasl {
    Sasl::oauth_bearer(move || async move { Ok(OauthToken::new(token).extension("team", "red")) })
}

#[tokio::test]
async fn whoever_proves_who_he_is_is_served() {
    let broker = Server::start().await;
    let ways = [
        Sasl::plain("alice", "pencil"),
        Sasl::scram_sha_256("alice", "pencil"),
        Sasl::scram_sha_512("alice", "pencil"),
        bearer("good"),
    ];
    for sasl in ways {
        let doorman = doorman();
        let topic = broker.topic(1, &[]).await;
        let client = Client::connect(broker.address(), config(&doorman, Some(sasl))).await;
        let client = client.unwrap();
        let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
        let sent = producer.send(record(&topic, "v")).await.unwrap();
        sent.await.unwrap();
        let mut config = ConsumerConfig::default();
        config.group_id = Some(format!("group-of-{topic}").as_str().into());
        config.offset_reset = OffsetReset::Earliest;
        config.group_protocol = GroupProtocol::Auto;
        let mut consumer = tidelog_client::Consumer::new(&client, config).unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        let record = consumer.recv().await.unwrap();
        assert_eq!(record.value.as_deref(), Some(&b"v"[..]));
        consumer.close().await.unwrap();
        assert!(doorman.let_in.load(Ordering::Relaxed) >= 2);
        assert_eq!(doorman.refused.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn whoever_does_not_hears_why_and_does_not_try_again() {
    let broker = Server::start().await;
    let ways = [
        Sasl::plain("alice", "pen"),
        Sasl::plain("bob", "pencil"),
        Sasl::scram_sha_256("alice", "pen"),
        Sasl::scram_sha_512("alice", "pen"),
        bearer("bad"),
    ];
    for sasl in ways {
        let doorman = doorman();
        let mechanism = sasl.mechanism();
        let bootstrap = format!("{0},{0}", broker.address());
        let begun = Instant::now();
        let error = Client::connect(&bootstrap, config(&doorman, Some(sasl))).await;
        let error = error.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5), "{error}");
        assert!(
            matches!(error, ClientError::Authentication { .. }),
            "{error}"
        );
        assert!(!error.is_retriable());
        let said = error.to_string();
        assert!(
            said.contains(&format!("{mechanism} has failed: {REFUSAL}")),
            "{said}"
        );
        assert!(!said.contains("pen"), "{said}");
        assert_eq!(doorman.refused.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_server_has_to_prove_itself_too() {
    let broker = Server::start().await;
    let impostor = Arc::new(Doorman {
        is_impostor: true,
        ..Doorman::default()
    });
    let sasl = Sasl::scram_sha_512("alice", "pencil");
    let error = Client::connect(broker.address(), config(&impostor, Some(sasl))).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("signature is wrong"), "{error}");
}

#[tokio::test]
async fn whoever_says_nothing_hears_that_he_should() {
    let broker = Server::start().await;
    let doorman = doorman();
    let client = Client::connect(broker.address(), config(&doorman, None)).await;
    let client = client.unwrap();
    let error = client.brokers().await.unwrap_err();
    let ClientError::SaslExpected { mechanisms, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(mechanisms.len(), MECHANISMS.len());
    assert!(error.to_string().contains("SCRAM-SHA-512"), "{error}");
    assert!(!error.is_retriable());

    // A producer and consumers with clients of their own hear the same, and soon.
    let begun = Instant::now();
    let anew = async || Client::connect(broker.address(), config(&doorman, None)).await;
    let producer = Producer::new(&anew().await.unwrap(), ProducerConfig::default()).unwrap();
    let error = match producer.send(record("topic", "v")).await {
        Ok(delivery) => delivery.await.unwrap_err(),
        Err(error) => error,
    };
    let mut errors = vec![error.to_string()];
    for protocol in [
        None,
        Some(GroupProtocol::Consumer),
        Some(GroupProtocol::Classic),
    ] {
        let mut config = ConsumerConfig::default();
        config.group_id = protocol.map(|_| "group".into());
        config.group_protocol = protocol.unwrap_or_default();
        let client = anew().await.unwrap();
        let mut consumer = tidelog_client::Consumer::new(&client, config).unwrap();
        match protocol {
            Some(_) => consumer.subscribe(&["topic"]).unwrap(),
            None => {
                let partition = tidelog_types::TopicPartition::new("topic", 0);
                consumer.assign(&[partition]).unwrap();
            }
        }
        errors.push(consumer.recv().await.unwrap_err().to_string());
    }
    for error in errors {
        assert!(error.contains("wants to know who the client is"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_listener_that_asks_nobody() {
    let broker = Server::start().await;
    let mut config = Config::default();
    config.sasl = Some(Sasl::plain("alice", "pencil"));
    let error = Client::connect(broker.address(), config).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Authentication { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("set security.protocol"),
        "{error}"
    );
}

/// Somebody loses the right to come in while he is at work.
#[tokio::test]
async fn whoever_is_no_longer_let_in_hears_it_at_once() {
    let Some(mut broker) = Server::own(&[]).await else {
        return;
    };
    let doorman = doorman();
    let topic = broker.topic(1, &[]).await;
    let sasl = Sasl::scram_sha_256("alice", "pencil");
    let client = Client::connect(broker.address(), config(&doorman, Some(sasl))).await;
    let client = client.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
    producer
        .send(record(&topic, "v"))
        .await
        .unwrap()
        .await
        .unwrap();
    let mut consumer = tidelog_client::Consumer::new(&client, ConsumerConfig::default()).unwrap();
    let partition = tidelog_types::TopicPartition::new(topic.as_str(), 0);
    consumer.assign(&[partition]).unwrap();
    doorman.passwords.lock().clear();
    broker.stop().await;
    broker.run(&[]).await;
    let begun = Instant::now();
    let sent = producer.send(record(&topic, "w")).await.unwrap();
    let error = sent.await.unwrap_err();
    assert!(matches!(error, ProduceError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(REFUSAL), "{error}");
    let error = consumer.recv().await.unwrap_err();
    assert!(matches!(error, ConsumeError::Client(_)), "{error}");
    assert!(error.to_string().contains(REFUSAL), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}
