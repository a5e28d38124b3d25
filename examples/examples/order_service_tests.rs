//! The tests of a small service, with a broker that does what no real one would do for a test: it loses answers, loses its
//! power, and has its time moved.
//!
//! The service reads orders, writes an invoice for each, and puts what is no order aside. In a project of its own each of the
//! functions below would be a `#[tokio::test]`; here they run one after the other and say what they saw.
//!
//! `cargo run -p tidelog-examples --example order_service_tests`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use tidelog_broker::testing::{ApiKey, Crash, TestBroker};
use tidelog_client::{
    Client, Config, Consumer, ConsumerConfig, GroupProtocol, NewTopic, OffsetReset, Producer,
    ProducerConfig, ProducerRecord,
};
use tokio::task::JoinHandle;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const GROUP: &str = "invoicing";
const SESSION: Duration = Duration::from_secs(45);

/// The service: what is under test.
mod service {
    use super::*;

    /// One worker of the service, until it is aborted.
    pub(super) async fn run(bootstrap: String, name: &'static str) -> Outcome {
        let client = connect(&bootstrap, name).await?;
        let producer = Producer::new(&client, ProducerConfig::default())?;
        let mut config = ConsumerConfig::group(GROUP);
        config.group_protocol = GroupProtocol::Classic;
        config.session_timeout = SESSION;
        config.heartbeat_interval = Duration::from_millis(20);
        config.offset_reset = OffsetReset::Earliest;
        config.auto_commit_interval = None;
        let mut orders = Consumer::new(&client, config)?;
        orders.subscribe(&["orders"])?;
        loop {
            // What is about a connection that is gone is tried again.
            let Ok(order) = orders.recv().await else {
                continue;
            };
            let text = String::from_utf8_lossy(order.value.as_deref().unwrap_or_default());
            let (topic, text) = match text.parse::<u64>() {
                Ok(number) => ("invoices", format!("invoice {number}")),
                Err(_) => ("orders-rejected", text.into_owned()),
            };
            let record = ProducerRecord::to(topic).value(&text);
            producer.send(record).await?.await?;
            // A commit that is lost is made up for by the next one.
            let _ = orders.commit().await;
        }
    }

    pub(super) async fn connect(
        bootstrap: &str,
        name: &'static str,
    ) -> Result<Client, Box<dyn Error + Send + Sync>> {
        let mut config = Config::default();
        config.client_id = name.into();
        config.reconnect_backoff = Duration::from_millis(10);
        config.reconnect_backoff_max = Duration::from_millis(50);
        Ok(Client::connect(bootstrap, config).await?)
    }
}

/// A broker with the topics of the service, and a shop that sends orders.
async fn start() -> Result<(TestBroker, Producer), Box<dyn Error + Send + Sync>> {
    let broker = TestBroker::start().await?;
    let client = service::connect(&broker.bootstrap_servers(), "shop").await?;
    let topics = [
        NewTopic::new("orders").partitions(2),
        NewTopic::new("invoices").partitions(1),
        NewTopic::new("orders-rejected").partitions(1),
    ];
    for (_, created) in client.create_topics(&topics, false).await? {
        created?;
    }
    let shop = Producer::new(&client, ProducerConfig::default())?;
    Ok((broker, shop))
}

fn worker(broker: &TestBroker, name: &'static str) -> JoinHandle<Outcome> {
    tokio::spawn(service::run(broker.bootstrap_servers(), name))
}

async fn order(shop: &Producer, text: &str, partition: i32) -> Outcome {
    let record = ProducerRecord::to("orders")
        .value(text)
        .partition(partition);
    shop.send(record).await?.await?;
    Ok(())
}

fn texts(broker: &TestBroker, topic: &str) -> Vec<String> {
    let stored = broker.stored_records(topic);
    stored.iter().map(|record| record.text()).collect()
}

async fn a_broker_that_loses_its_power_costs_no_order() -> Outcome {
    let (mut broker, shop) = start().await?;
    let worker = worker(&broker, "worker");
    for round in 0..3 {
        for n in 0..10 {
            order(&shop, &(round * 10 + n).to_string(), n % 2).await?;
        }
        broker = broker.crash(Crash::LoseUnsynced).await?;
    }
    let committed = broker.wait_for_commit(GROUP, "orders", 0, 15);
    committed.await?;
    broker.wait_for_commit(GROUP, "orders", 1, 15).await?;
    // Who loses the answer to a commit handles an order again; none is left out.
    let invoices: BTreeSet<_> = texts(&broker, "invoices").into_iter().collect();
    assert_eq!(invoices.len(), 30);
    worker.abort();
    println!("kill: the power failed 3 times, 30 orders have 30 invoices");
    Ok(())
}

async fn an_answer_that_is_lost_causes_no_second_order() -> Outcome {
    let (broker, shop) = start().await?;
    let lost = broker
        .faults()
        .on(ApiKey::Produce)
        .topic("orders")
        .times(1)
        .drop_after();
    order(&shop, "1", 0).await?;
    assert_eq!(lost.fired(), 1);
    assert_eq!(texts(&broker, "orders"), ["1"]);
    println!("duplicate: the answer was lost, the order is there once");
    Ok(())
}

async fn the_work_of_one_that_died_goes_to_the_other() -> Outcome {
    let (broker, shop) = start().await?;
    broker.clock().pause();
    let workers = [worker(&broker, "one"), worker(&broker, "two")];
    broker.wait_for_group(GROUP, 2).await?;
    broker.faults().on_any().client("two").drop_before();
    broker
        .clock()
        .advance(SESSION - Duration::from_secs(1))
        .await;
    let heartbeats = broker
        .requests()
        .of(ApiKey::Heartbeat)
        .from("one")
        .since_now();
    heartbeats.at_least(2).await?;
    assert_eq!(broker.group(GROUP).await.members.len(), 2, "not yet");
    broker.clock().advance(Duration::from_secs(1)).await;
    let group = broker.wait_for_group(GROUP, 1).await?;
    assert_eq!(group.assigned().len(), 2);
    for partition in 0..2 {
        order(&shop, "7", partition).await?;
        broker
            .wait_for_commit(GROUP, "orders", partition, 1)
            .await?;
    }
    workers.iter().for_each(JoinHandle::abort);
    println!("rebalance: after 45 s of the broker's time the other has both partitions");
    Ok(())
}

async fn what_is_no_order_is_put_aside() -> Outcome {
    let (broker, shop) = start().await?;
    for text in ["1", "{", "2"] {
        order(&shop, text, 0).await?;
    }
    let worker = worker(&broker, "worker");
    broker.wait_for_commit(GROUP, "orders", 0, 3).await?;
    assert_eq!(texts(&broker, "invoices"), ["invoice 1", "invoice 2"]);
    assert_eq!(texts(&broker, "orders-rejected"), ["{"]);
    worker.abort();
    println!("poison: two orders have invoices, one record was put aside");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    a_broker_that_loses_its_power_costs_no_order().await?;
    an_answer_that_is_lost_causes_no_second_order().await?;
    the_work_of_one_that_died_goes_to_the_other().await?;
    what_is_no_order_is_put_aside().await
}
