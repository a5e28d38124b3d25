//! The controls of a broker for tests, as the crate `rdkafka` feels them: every check is a test that a user could have.
//!
//! Prints a line for each check; `.ci/run` builds and runs it.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use tidelog_broker::testing::{ApiKey, Crash, ErrorCode, TestBroker};

type Outcome = Result<(), Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(30);

fn config(broker: &TestBroker, client: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers());
    config.set("client.id", client);
    config.set("retry.backoff.ms", "10");
    config
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "50");
    // That connections break is what is wanted here.
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config
}

fn producer(broker: &TestBroker, idempotent: bool) -> Result<FutureProducer, KafkaError> {
    let mut config = config(broker, "producer");
    config
        .set("enable.idempotence", idempotent.to_string())
        .set("linger.ms", "0");
    config.create()
}

/// One record, and its offset when it is acknowledged.
async fn send(producer: &FutureProducer, topic: &str, text: &str) -> Result<i64, KafkaError> {
    let record = FutureRecord::<(), _>::to(topic).payload(text);
    let sent = producer.send(record, PATIENCE).await;
    sent.map(|delivery| delivery.offset)
        .map_err(|(error, _)| error)
}

fn texts(broker: &TestBroker, topic: &str) -> Vec<String> {
    broker
        .stored_records(topic)
        .iter()
        .map(|record| record.text())
        .collect()
}

async fn a_retriable_error_is_retried() -> Outcome {
    let broker = TestBroker::start().await?;
    let producer = producer(&broker, false)?;
    assert_eq!(send(&producer, "orders", "0").await?, 0);
    let on = || broker.faults().on(ApiKey::Produce).topic("orders");
    let refused = on().times(2).answer(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(send(&producer, "orders", "1").await?, 1);
    assert_eq!(refused.fired(), 2);
    // One that is not is told at once.
    let refused = on().times(1).answer(ErrorCode::MESSAGE_TOO_LARGE);
    let error = send(&producer, "orders", "2").await.unwrap_err();
    assert_eq!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge)
    );
    assert_eq!(refused.fired(), 1);
    assert_eq!(texts(&broker, "orders"), ["0", "1"]);
    Ok(())
}

/// The answer is lost after the records were appended: entirely, or after its first bytes.
async fn a_dropped_connection_causes_no_duplicate() -> Outcome {
    for (idempotent, times) in [(true, 1), (false, 2)] {
        let broker = TestBroker::start().await?;
        let producer = producer(&broker, idempotent)?;
        send(&producer, "orders", "first").await?;
        let on = |after| {
            broker
                .faults()
                .on(ApiKey::Produce)
                .topic("orders")
                .after(after)
                .times(1)
        };
        let faults = [on(2).drop_after(), on(5).partial(7), on(8).drop_before()];
        for n in 0..10 {
            send(&producer, "orders", &n.to_string()).await?;
        }
        assert_eq!(faults.map(|fault| fault.fired()), [1, 1, 1]);
        let stored = texts(&broker, "orders");
        for n in 0..10 {
            let count = stored.iter().filter(|text| **text == n.to_string()).count();
            // The two whose answers were lost (a fault does not count what the one before it took). Without idempotence they
            // are there twice, which shows that they were lost.
            let expected = if matches!(n, 2 | 5) { times } else { 1 };
            assert_eq!(
                count, expected,
                "record {n}, idempotence {idempotent}: {stored:?}"
            );
        }
    }
    Ok(())
}

async fn a_cut_off_answer_costs_a_consumer_nothing() -> Outcome {
    let broker = TestBroker::start().await?;
    let orders = broker.create_topic("orders").await?;
    let values: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    orders.produce(0, &values).await?;
    let cut = broker.faults().on(ApiKey::Fetch).times(2).partial(300);
    let consumer = consumer(&broker, "reader")?;
    consumer.subscribe(&["orders"])?;
    let mut read = Vec::new();
    while read.len() < values.len() {
        // What it says about the connection is no record.
        if let Ok(message) = consumer.recv().await {
            read.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
    }
    assert_eq!(read, values);
    assert_eq!(cut.fired(), 2);
    Ok(())
}

async fn a_delayed_answer_comes_late_and_once() -> Outcome {
    let broker = TestBroker::start().await?;
    let producer = producer(&broker, true)?;
    send(&producer, "orders", "0").await?;
    let delay = Duration::from_millis(300);
    let delayed = broker.faults().on(ApiKey::Produce).times(1).delay(delay);
    let started = Instant::now();
    send(&producer, "orders", "1").await?;
    assert!(started.elapsed() >= delay);
    assert_eq!(delayed.fired(), 1);
    assert_eq!(texts(&broker, "orders"), ["0", "1"]);
    Ok(())
}

fn consumer(broker: &TestBroker, group: &str) -> Result<StreamConsumer, KafkaError> {
    let mut config = config(broker, group);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest");
    config.set("session.timeout.ms", "45000");
    config.create()
}

async fn a_paused_clock_ends_a_session_exactly() -> Outcome {
    let broker = TestBroker::start().await?;
    broker
        .create_topic("orders")
        .await?
        .produce(0, ["apples"])
        .await?;
    // From here on every heartbeat is of the same moment.
    broker.clock().pause();
    let consumer = consumer(&broker, "billing")?;
    consumer.subscribe(&["orders"])?;
    consumer.recv().await?;
    broker.wait_for_group("billing", 1).await?;
    // The client can say no more that it is alive, nor that it goes.
    broker
        .faults()
        .on(ApiKey::Heartbeat)
        .client("billing")
        .drop_before();
    broker
        .faults()
        .on(ApiKey::LeaveGroup)
        .client("billing")
        .drop_before();
    broker.clock().advance(Duration::from_millis(44_999)).await;
    assert_eq!(
        broker.group("billing").await.members.len(),
        1,
        "a millisecond too early"
    );
    broker.clock().advance(Duration::from_millis(1)).await;
    assert_eq!(
        broker.group("billing").await.members.len(),
        0,
        "the session has ended"
    );
    Ok(())
}

async fn a_power_failure_costs_nothing_that_was_acknowledged() -> Outcome {
    let mut broker = TestBroker::start().await?;
    let producer = producer(&broker, true)?;
    let mut values = Vec::new();
    for n in 0..20 {
        values.push(n.to_string());
        send(&producer, "orders", &values[n]).await?;
        if n % 5 == 4 {
            broker = broker.crash(Crash::LoseUnsynced).await?;
        }
    }
    assert_eq!(texts(&broker, "orders"), values);
    Ok(())
}

macro_rules! run {
    ($passed:ident: $($check:ident),* $(,)?) => {$(
        let started = Instant::now();
        tokio::time::timeout(4 * PATIENCE, $check()).await.map_err(|_| concat!(stringify!($check), " takes too long"))??;
        $passed += 1;
        println!("ok   {} ({:.1} s)", stringify!($check), started.elapsed().as_secs_f64());
    )*};
}

#[tokio::main]
async fn main() -> Outcome {
    let mut passed = 0;
    run!(passed:
        a_retriable_error_is_retried,
        a_dropped_connection_causes_no_duplicate,
        a_cut_off_answer_costs_a_consumer_nothing,
        a_delayed_answer_comes_late_and_once,
        a_paused_clock_ends_a_session_exactly,
        a_power_failure_costs_nothing_that_was_acknowledged,
    );
    println!(
        "{passed} passed, 0 failed, with librdkafka {}",
        rdkafka::util::get_rdkafka_version().1
    );
    if let Some(counts) = std::env::var_os("CHECKS_PASSED") {
        let mut counts = std::fs::OpenOptions::new().append(true).open(counts)?;
        writeln!(counts, "{passed}")?;
    }
    Ok(())
}
