//! Sends records with `tidelog-client`, as fast as they are taken: `produce_load BROKER TOPIC RECORDS BYTES`.
//!
//! It is started by `benches/produce.py`, beside librdkafka's `rdkafka_performance`, which is made alike: one thread that sends,
//! one that does the rest, every delivery looked at. Prints its figures as `name value` lines.
#![allow(clippy::print_stdout, reason = "the report")]

use std::error::Error;
use std::time::Instant;

use tidelog_client::{Client, Config, Producer, ProducerConfig, ProducerRecord};
use tokio::sync::mpsc;

/// How many deliveries may wait to be looked at.
const DELIVERIES_MAX: usize = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [broker, topic, records, bytes] = &arguments[..] else {
        return Err("usage: produce_load BROKER TOPIC RECORDS BYTES".into());
    };
    let (records, bytes): (usize, usize) = (records.parse()?, bytes.parse()?);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(broker, Config::default()).await?;
        let producer = Producer::new(&client, ProducerConfig::default())?;
        producer.prepare(topic).await?;
        let (deliveries, mut handed) = mpsc::channel(DELIVERIES_MAX);
        let begun = Instant::now();
        let looked_at = tokio::spawn(async move {
            let mut delivered = 0;
            while let Some(delivery) = handed.recv().await {
                let delivery: tidelog_client::Delivery = delivery;
                delivered += usize::from(delivery.await.is_ok());
            }
            delivered
        });
        let value = vec![b'x'; bytes];
        for _ in 0..records {
            let record = ProducerRecord::to(topic).value(&value);
            deliveries.send(producer.send(record).await?).await?;
        }
        drop(deliveries);
        producer.flush().await;
        let delivered = looked_at.await?;
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(delivered, records, "everything was delivered");
        println!("records_per_second {:.0}", records as f64 / seconds);
        let statistics = producer.statistics();
        println!("batches {}", statistics.batches);
        println!("retries {}", statistics.retries);
        Ok(())
    })
}
