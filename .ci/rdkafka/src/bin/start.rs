//! How long it takes until there is an address to connect to, and until the first record is acknowledged, for what can be
//! started within a program. `benches/start_compare.py` runs it: `start KIND RUNS` prints the two times of each run in milliseconds;
//! `start record ADDRESS` has one record acknowledged by a broker that is there.
//!
//! The client is the same in all of them, with settings by which it does not wait for anything.

use std::error::Error;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tidelog_broker::Broker;

type Outcome<T> = Result<T, Box<dyn Error>>;

async fn first_record(address: &str) -> Outcome<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("linger.ms", "0")
        .set("acks", "all");
    config.set("allow.auto.create.topics", "true");
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let producer: FutureProducer = config.create()?;
    let record = FutureRecord::<(), _>::to("first").payload("record");
    let sent = producer.send(record, Duration::from_secs(30)).await;
    sent.map_err(|(error, _)| error)?;
    // It ends in the background; waiting for that is no part of a start.
    std::mem::forget(producer);
    Ok(())
}

async fn once(kind: &str) -> Outcome<(Duration, Duration)> {
    let directory = tempfile::tempdir_in(".")?;
    let started = Instant::now();
    let builder = Broker::builder();
    let builder = match kind {
        "mock" => {
            let mock = MockCluster::new(1)?;
            let ready = started.elapsed();
            first_record(&mock.bootstrap_servers()).await?;
            return Ok((ready, started.elapsed()));
        }
        "memory" | "direct" => builder,
        "directory" => builder.data_dir(directory.path().join("data")),
        _ => return Err("memory, direct, directory or mock".into()),
    };
    let broker = builder.start().await?;
    let ready = started.elapsed();
    if kind == "direct" {
        broker
            .create_topic("first")
            .await?
            .produce(0, ["record"])
            .await?;
    } else {
        first_record(&broker.bootstrap_servers()).await?;
    }
    let acknowledged = started.elapsed();
    broker.shutdown().await?;
    Ok((ready, acknowledged))
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, kind, what] = &arguments[..] else {
        return Err("start KIND RUNS, or start record ADDRESS".into());
    };
    if kind == "record" {
        return first_record(what).await;
    }
    for _ in 0..what.parse()? {
        let (ready, acknowledged) = once(kind).await?;
        println!(
            "{:.2} {:.2}",
            ready.as_secs_f64() * 1e3,
            acknowledged.as_secs_f64() * 1e3
        );
    }
    Ok(())
}
