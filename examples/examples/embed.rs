//! A broker inside a program, in the three ways there are: called directly, by a client in the same process without a port,
//! and several brokers as a cluster of which one dies.
//!
//! `cargo run --example embed`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;

use tidelog_broker::{Broker, Cluster, MemoryNetwork, NewRecord, NewTopic, Offset};
use tidelog_client::{
    Client, Config, Connecting, Producer, ProducerConfig, ProducerRecord, Stream, Transport,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    directly().await?;
    by_a_client().await?;
    as_a_cluster().await
}

/// Records in, offsets out, records back: no client, no connection.
async fn directly() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let builder = Broker::builder().data_dir(directory.path()).no_ports();
    let broker = builder.start().await?;
    let orders = broker
        .create_topic(NewTopic::new("orders").partitions(2))
        .await?;
    let order = NewRecord::value("two apples").key("user-7");
    let appended = orders.produce(1, [order]).await?;
    println!("flushed to the disk at offset {}", appended.base_offset);
    let mut records = orders.records(1, Offset::ZERO);
    let value = records.next().await?.value.unwrap_or_default();
    println!("read back: {}", String::from_utf8_lossy(&value));
    let metrics = broker.metrics();
    println!(
        "{} record, {} connections",
        metrics.records_appended, metrics.connections_accepted
    );
    broker.shutdown().await?;
    Ok(())
}

/// How a client reaches brokers of this process: the network knows them by the addresses that clients are told.
#[derive(Debug)]
struct InProcess(MemoryNetwork);

impl Transport for InProcess {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move {
            let stream = self.0.connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

async fn by_a_client() -> Result<(), Box<dyn Error>> {
    let broker = Broker::builder().no_ports().start().await?;
    let mut config = Config::default();
    config.transport = Arc::new(InProcess(broker.network().clone()));
    let client = Client::connect(&broker.bootstrap_servers(), config).await?;
    broker.create_topic("logins").await?;
    let producer = Producer::new(&client, ProducerConfig::default())?;
    let record = ProducerRecord::to("logins").value("user-7 logged in");
    let metadata = producer.send(record).await?.await?;
    println!("a client has produced to offset {}", metadata.offset);
    broker.shutdown().await?;
    Ok(())
}

async fn as_a_cluster() -> Result<(), Box<dyn Error>> {
    let mut cluster = Cluster::builder().nodes(3).start().await?;
    let first = cluster.node(1).ok_or("it runs")?;
    first.create_topic("payments").await?;
    cluster.kill(3).await?;
    let running: Vec<_> = cluster.running().collect();
    println!("nodes {running:?} go on");
    cluster.restart(3).await?;
    let third = cluster.node(3).ok_or("it runs")?;
    println!("node 3 is back and knows {:?}", third.topic_names());
    cluster.shutdown().await?;
    Ok(())
}
