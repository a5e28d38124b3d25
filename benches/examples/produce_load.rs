//! Sends records with `tidelog-client`, as fast as they are taken: `produce_load BROKER TOPIC RECORDS BYTES`.
//!
//! It is started by `benches/produce.py`, beside the same load by librdkafka (`benches/rdkafka`): one thread that sends and now and
//! then looks at what was delivered, one that does the rest. Prints its figures as `name value` lines.
#![allow(clippy::print_stdout, reason = "the report")]

use std::collections::VecDeque;
use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tidelog_client::{Client, Config, Delivery, Producer, ProducerConfig, ProducerRecord};

/// After how many records the sender looks at deliveries.
const LOOK_EACH: usize = 1000;

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
        let begun = Instant::now();
        let (mut sent, mut delivered) = (VecDeque::new(), 0);
        let value = vec![b'x'; bytes];
        for n in 1..=records {
            let record = ProducerRecord::to(topic).value(&value);
            sent.push_back(producer.send(record).await?);
            if n % LOOK_EACH == 0 {
                delivered += take_delivered(&mut sent)?;
            }
        }
        producer.flush().await;
        delivered += take_delivered(&mut sent)?;
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(delivered, records, "everything was delivered");
        println!("records_per_second {:.0}", records as f64 / seconds);
        let statistics = producer.statistics();
        println!("batches {}", statistics.batches);
        println!("retries {}", statistics.retries);
        Ok(())
    })
}

/// How many of the first ones have been delivered.
fn take_delivered(sent: &mut VecDeque<Delivery>) -> Result<usize, Box<dyn Error>> {
    let mut count = 0;
    let mut cx = Context::from_waker(Waker::noop());
    while let Some(first) = sent.front_mut()
        && let Poll::Ready(outcome) = Pin::new(first).poll(&mut cx)
    {
        outcome?;
        sent.pop_front();
        count += 1;
    }
    Ok(count)
}
