//! Reads records of partition 0 with `tidelog-client` from the beginning: `consume_load BROKER TOPIC RECORDS [records|batches]`.
//!
//! It is started by `benches/consume.py`, beside the same load by librdkafka (`benches/rdkafka`): no group, every record looked at by
//! one thread, one more for the rest. Prints its figures as `name value` lines.
#![allow(clippy::print_stdout, reason = "the report")]

use std::error::Error;
use std::time::Instant;

use tidelog_client::{Client, Config, Consumer, ConsumerConfig, OffsetReset, TopicPartition};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [broker, topic, records, by] = &arguments[..] else {
        return Err("usage: consume_load BROKER TOPIC RECORDS records|batches".into());
    };
    let (records, by_batches): (usize, bool) = (records.parse()?, by == "batches");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(broker, Config::default()).await?;
        let mut config = ConsumerConfig::default();
        config.offset_reset = OffsetReset::Earliest;
        let mut consumer = Consumer::new(&client, config)?;
        consumer.assign(&[TopicPartition::new(topic.as_str(), 0)])?;
        let begun = Instant::now();
        let (mut seen, mut bytes) = (0, 0);
        while seen < records {
            if by_batches {
                consumer.recv_batch().await?.visit(|record| {
                    seen += 1;
                    bytes += record.value.map_or(0, <[u8]>::len);
                })?;
            } else {
                seen += 1;
                bytes += consumer.recv().await?.value.map_or(0, |value| value.len());
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!("records_per_second {:.0}", seen as f64 / seconds);
        println!("bytes {bytes}");
        let statistics = consumer.statistics();
        println!("fetches {}", statistics.fetches);
        Ok(())
    })
}
