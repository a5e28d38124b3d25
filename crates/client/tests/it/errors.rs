//! What goes wrong reads clearly, soon, and says whether trying again helps.

use std::time::{Duration, Instant};

use tidelog_client::{Client, ClientError, Config, ProduceError, ProducerConfig, ProducerRecord};
use tidelog_types::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::server::{Server, record};

#[tokio::test]
async fn nothing_listens() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let begun = Instant::now();
    let error = Client::connect(&address, Config::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.to_string().ends_with("is a broker listening there?"));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// What something says that is no broker.
async fn speaks(said: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = [0; 8];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(said).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let mut config = Config::default();
    config.connect_timeout = Duration::from_millis(300);
    let error = Client::connect(&address, config).await.unwrap_err();
    error.to_string().replace(&address, "it")
}

#[tokio::test]
async fn something_else_listens() {
    let tls = speaks(&[21, 3, 3, 0, 2, 2, 70]).await;
    assert!(tls.starts_with("it expects TLS"), "{tls}");
    let web = speaks(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert!(web.contains("answers like a web server"), "{web}");
    let other = speaks(b"SSH-2.0-OpenSSH_9.6\r\n").await;
    assert!(
        other.contains("does not speak the Kafka protocol"),
        "{other}"
    );
    let silent = speaks(b"").await;
    assert!(
        silent.contains("has not answered the first request"),
        "{silent}"
    );
}

#[tokio::test]
async fn a_topic_is_missing() {
    let server = Server::start().await;
    let mut config = ProducerConfig::default();
    config.may_create_topics = false;
    config.topic_timeout = Duration::from_millis(300);
    let producer = server.producer(config).await;
    let error = producer.send(record("no-such-topic", "v")).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(error.to_string().contains("create it first"), "{error}");
    // Before Kafka 2.3 the broker does not say why.
    if !server.divides().await {
        return;
    }
    let error = producer.send(record("not a name", "v")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::INVALID_TOPIC_EXCEPTION));
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn a_partition_is_missing() {
    let server = Server::start().await;
    let topic = server.topic(2, &[]).await;
    let producer = server.producer(ProducerConfig::default()).await;
    let error = producer.send(record(&topic, "v").partition(2)).await;
    let text = error.unwrap_err().to_string();
    assert_eq!(text, format!("topic {topic} has no partition 2, it has 2"));
}

#[tokio::test]
async fn a_record_is_too_large() {
    let server = Server::start().await;
    let topic = server.topic(1, &[("max.message.bytes", "3000")]).await;
    let producer = server.producer(ProducerConfig::default()).await;
    let (small, large) = ("s".repeat(1000), "l".repeat(5000));
    let huge = "h".repeat(2_000_000);
    let error = producer.send(record(&topic, &huge)).await.unwrap_err();
    assert!(matches!(error, ProduceError::TooLarge { .. }), "{error}");
    // One batch, which the broker finds too large: everything arrives but the one record that is.
    let mut deliveries = Vec::new();
    for n in 0..30 {
        let value = if n == 17 { &large } else { &small };
        deliveries.push(producer.send(record(&topic, value)).await.unwrap());
    }
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(metadata) => {
                let before = n - usize::from(n > 17);
                assert_eq!(metadata.offset.value(), before as i64);
            }
            Err(error) => {
                assert_eq!((n, error.code()), (17, Some(ErrorCode::MESSAGE_TOO_LARGE)));
                assert!(error.to_string().contains("max.message.bytes"), "{error}");
            }
        }
    }
    assert_eq!(server.records(&topic, 0).await.len(), 29);
}

#[tokio::test]
async fn a_record_breaks_a_rule() {
    let server = Server::start().await;
    // Before Kafka 2.4 the broker calls that corrupt.
    if !server.divides_or_passed_over().await {
        return;
    }
    let topic = server.topic(1, &[("cleanup.policy", "compact")]).await;
    let producer = server.producer(ProducerConfig::default()).await;
    let keyed = ProducerRecord::to(&topic).key(b"k").value(b"v");
    let good = producer.send(keyed).await.unwrap();
    let bad = producer.send(record(&topic, "no key").partition(0)).await;
    let bad = bad.unwrap().await.unwrap_err();
    assert_eq!(bad.code(), Some(ErrorCode::INVALID_RECORD));
    assert!(!bad.is_retriable());
    let good = good.await.unwrap_err();
    assert!(matches!(good, ProduceError::BesideRefused { .. }), "{good}");
    assert!(good.is_retriable());
    // The producer goes on, under the next epoch.
    let keyed = ProducerRecord::to(&topic).key(b"k").value(b"v");
    let again = producer.send(keyed).await.unwrap().await;
    assert_eq!(again.unwrap().offset.value(), 0);
}

#[tokio::test]
async fn settings_contradict_each_other() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut config = ProducerConfig::default();
    config.acks = tidelog_client::Acks::Leader;
    let error = tidelog_client::Producer::new(&client, config).unwrap_err();
    assert!(error.to_string().contains("idempotent = false"), "{error}");
}
