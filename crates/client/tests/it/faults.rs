//! Connections die, brokers go: nothing is lost, doubled or reordered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_client::{
    Client, Config, Connecting, ProduceError, Producer, ProducerConfig, ProducerRecord, Tcp,
    Transport,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::{Server, record, text};

/// TCP whose connections break after some bytes, in either direction, while there are breaks left.
#[derive(Debug)]
struct Breaking {
    breaks: AtomicI64,
    seed: AtomicU64,
}

struct Brittle {
    stream: Box<dyn tidelog_client::Stream>,
    reads: i64,
    writes: i64,
}

impl Breaking {
    fn chance(&self, below: u64) -> i64 {
        let number = self
            .seed
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        ((number ^ (number >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20) as i64 % below as i64
    }
}

impl Transport for Breaking {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let stream = Tcp.connect(address).await?;
            let is_good = self.breaks.fetch_sub(1, Ordering::Relaxed) <= 0;
            let (reads, writes) = match is_good {
                true => (i64::MAX, i64::MAX),
                // Enough for the greeting.
                false => (600 + self.chance(2000), 500 + self.chance(60_000)),
            };
            let brittle = Brittle {
                stream,
                reads,
                writes,
            };
            Ok(Box::new(brittle) as Box<dyn tidelog_client::Stream>)
        })
    }
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Brittle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.reads = self
            .reads
            .saturating_sub((buffer.filled().len() - before) as i64);
        match self.reads < 0 {
            true => Poll::Ready(Err(broken())),
            false => read,
        }
    }
}

impl AsyncWrite for Brittle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = usize::try_from(self.writes).unwrap_or(0).min(bytes.len());
        if room == 0 {
            return Poll::Ready(Err(broken()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..room]);
        if let Poll::Ready(Ok(count)) = written {
            self.writes = self.writes.saturating_sub(count as i64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A client that waits only briefly before it tries again.
fn hasty() -> Config {
    let mut config = Config::default();
    config.retry_backoff = Duration::from_millis(5);
    config.retry_backoff_max = Duration::from_millis(50);
    config.reconnect_backoff = Duration::from_millis(5);
    config.reconnect_backoff_max = Duration::from_millis(50);
    config
}

/// Sends numbers to every partition of a topic, and checks that they are all there, once, in order, where the outcome says.
async fn send_numbers(server: &Server, producer: &Producer, topic: &str, numbers: u32) {
    const PARTITIONS: i32 = 3;
    let mut deliveries = Vec::new();
    for n in 0..numbers {
        let value = format!("{n:0100}");
        let record = record(topic, &value).partition(n as i32 % PARTITIONS);
        deliveries.push(producer.send(record).await.unwrap());
    }
    let mut offsets = Vec::new();
    for delivery in deliveries {
        let metadata = delivery.await.unwrap();
        offsets.push((metadata.partition, metadata.offset));
    }
    for partition in 0..PARTITIONS {
        let records = server.records(topic, partition).await;
        let found = records.iter().map(|record| {
            let number: u32 = text(record.value.as_ref()).parse().unwrap();
            (number, record.offset)
        });
        let sent = offsets.iter().enumerate();
        let sent = sent.filter(|(_, (at, _))| *at == partition);
        let sent: Vec<_> = sent.map(|(n, (_, offset))| (n as u32, *offset)).collect();
        assert_eq!(found.collect::<Vec<_>>(), sent);
    }
}

#[tokio::test]
async fn connections_that_break_cost_nothing() {
    let server = Server::start().await;
    for seed in 1..4 {
        let mut config = hasty();
        let breaking = Arc::new(Breaking {
            breaks: AtomicI64::new(40),
            seed: AtomicU64::new(seed * 7919),
        });
        config.transport = breaking.clone();
        let topic = server.topic(3, &[]).await;
        let client = loop {
            if let Ok(client) = Client::connect(server.address(), config.clone()).await {
                break client;
            }
        };
        let mut config = ProducerConfig::default();
        config.batch_bytes_max = 4000;
        let producer = Producer::new(&client, config).unwrap();
        send_numbers(&server, &producer, &topic, 6000).await;
        assert!(breaking.breaks.load(Ordering::Relaxed) < 30, "some broke");
        assert!(producer.statistics().retries > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_gets_everything() {
    let Some(mut server) = Server::own(&[]).await else {
        return;
    };
    let topic = server.topic(1, &[]).await;
    let client = Client::connect(server.address(), hasty()).await.unwrap();
    let mut config = ProducerConfig::default();
    config.batch_bytes_max = 4000;
    config.buffer_bytes_max = 50_000;
    let producer = Producer::new(&client, config).unwrap();
    const NUMBERS: u32 = 20_000;
    let sender = {
        let (producer, topic) = (producer.clone(), topic.clone());
        tokio::spawn(async move {
            let mut last = None;
            for n in 0..NUMBERS {
                let value = n.to_string();
                last = Some(producer.send(record(&topic, &value)).await.unwrap());
            }
            last.unwrap().await.unwrap()
        })
    };
    for _ in 0..3 {
        let before = producer.statistics().batches_delivered;
        while producer.statistics().batches_delivered < before + 5 && !sender.is_finished() {
            tokio::task::yield_now().await;
        }
        server.stop().await;
        server.run(&[]).await;
    }
    sender.await.unwrap();
    producer.close().await;
    assert_eq!(producer.statistics().batches_failed, 0);
    let records = server.records(&topic, 0).await;
    let values = records
        .iter()
        .map(|record| text(record.value.as_ref()).parse::<u32>());
    let values: Vec<u32> = values.map(Result::unwrap).collect();
    assert_eq!(values, (0..NUMBERS).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_broker_that_stays_away_is_given_up_in_time() {
    let Some(mut server) = Server::own(&[]).await else {
        return;
    };
    let topic = server.topic(1, &[]).await;
    let client = Client::connect(server.address(), hasty()).await.unwrap();
    let mut config = ProducerConfig::default();
    config.delivery_timeout = Duration::from_millis(500);
    let producer = Producer::new(&client, config).unwrap();
    producer
        .send(record(&topic, "1"))
        .await
        .unwrap()
        .await
        .unwrap();
    server.stop().await;
    let late = producer.send(ProducerRecord::to(&topic).value(b"2")).await;
    let error = late.unwrap().await.unwrap_err();
    assert!(matches!(error, ProduceError::TimedOut { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("not acknowledged within 500ms"), "{text}");
    assert!(text.contains("the last failure: "), "{text}");
    // When the broker is back, the same producer goes on.
    server.run(&[]).await;
    let again = loop {
        match producer.send(record(&topic, "3")).await.unwrap().await {
            Ok(metadata) => break metadata,
            Err(error) => assert!(error.is_retriable(), "{error}"),
        }
    };
    assert!(again.offset.value() >= 1);
}
