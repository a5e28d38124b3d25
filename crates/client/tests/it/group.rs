//! Consumers that share topics in a group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_client::{
    Assignor, Client, Config, ConsumeError, Consumer, ConsumerConfig, ConsumerEvent, GroupProtocol,
    GroupType, OffsetReset, ProducerConfig, Rebalance,
};
use tidelog_protocol::ApiKey;
use tidelog_types::{ErrorCode, GroupId, Offset, TopicPartition};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::{Server, record, text, unique};

const SOON: Duration = Duration::from_secs(60);

fn config(group: &str) -> ConsumerConfig {
    let mut config = ConsumerConfig::group(group);
    config.offset_reset = OffsetReset::Earliest;
    config.auto_commit_interval = Some(Duration::from_secs(1));
    // The tests run against brokers from before Kafka 4.0, too.
    config.group_protocol = GroupProtocol::Auto;
    config.heartbeat_interval = Duration::from_millis(200);
    config
}

/// The ways in which members of a group may meet at this broker.
async fn protocols(server: &Server) -> Vec<(&'static str, ConsumerConfig)> {
    let classic = |assignors: &[Assignor]| {
        let mut config = config("");
        config.group_protocol = GroupProtocol::Classic;
        config.assignors = assignors.to_vec();
        config
    };
    let mut protocols = vec![
        ("consumer", config("")),
        ("range", classic(&[Assignor::Range])),
        ("roundrobin", classic(&[Assignor::RoundRobin])),
        ("sticky", classic(&[Assignor::Sticky])),
        ("cooperative", classic(&[Assignor::CooperativeSticky])),
    ];
    if !server.divides().await {
        protocols.remove(0);
    }
    protocols
}

/// Sends numbers to the partitions by turns.
async fn number(server: &Server, topic: &str, partitions: i32, numbers: std::ops::Range<i32>) {
    let producer = server.producer(ProducerConfig::default()).await;
    for n in numbers {
        let value = n.to_string();
        let record = record(topic, &value).partition(n % partitions);
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await;
}

async fn next(consumer: &mut Consumer) -> ConsumerEvent {
    let event = timeout(SOON, consumer.next_event()).await;
    event.expect("an event in time").unwrap()
}

fn all(topic: &str, partitions: i32) -> Vec<TopicPartition> {
    (0..partitions)
        .map(|index| TopicPartition::new(topic, index))
        .collect()
}

/// A member that consumes by itself.
struct Worker {
    seen: Arc<Mutex<Vec<i32>>>,
    assigned: Arc<Mutex<BTreeSet<TopicPartition>>>,
    stop: Arc<tokio::sync::Notify>,
    task: JoinHandle<()>,
}

impl Worker {
    async fn start(server: &Server, config: ConsumerConfig, topic: &str) -> Self {
        let mut consumer = server.consumer(config).await;
        consumer.subscribe(&[topic]).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let assigned = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = Arc::new(tokio::sync::Notify::new());
        let (sees, owns, stops) = (seen.clone(), assigned.clone(), stop.clone());
        let task = tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = stops.notified() => break,
                    event = consumer.next_event() => event.unwrap(),
                };
                match event {
                    ConsumerEvent::Record(record) => {
                        let partition = TopicPartition::new(record.topic, record.partition);
                        assert!(owns.lock().contains(&partition), "{partition} is ours");
                        sees.lock()
                            .push(text(record.value.as_ref()).parse().unwrap());
                    }
                    ConsumerEvent::Rebalance(Rebalance::Assigned(partitions)) => {
                        owns.lock().extend(partitions);
                    }
                    ConsumerEvent::Rebalance(
                        Rebalance::Revoked(partitions) | Rebalance::Lost(partitions),
                    ) => {
                        owns.lock().retain(|it| !partitions.contains(it));
                    }
                    other => panic!("{other:?}"),
                }
            }
            consumer.close().await.unwrap();
        });
        Self {
            seen,
            assigned,
            stop,
            task,
        }
    }

    fn owns(&self) -> usize {
        self.assigned.lock().len()
    }

    async fn stop(self) -> Vec<i32> {
        self.stop.notify_one();
        timeout(SOON, self.task).await.unwrap().unwrap();
        Arc::into_inner(self.seen).unwrap().into_inner()
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waits = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(SOON, waits).await.is_ok(), "{what}");
}

#[tokio::test]
async fn one_member_reads_everything_and_the_next_goes_on() {
    let server = Server::start().await;
    let topic = server.topic(3, &[]).await;
    number(&server, &topic, 3, 0..300).await;
    let group = format!("one-{}", unique());
    let mut consumer = server.consumer(config(&group)).await;
    consumer.subscribe(&[&topic]).unwrap();
    let first = next(&mut consumer).await;
    let assigned = Rebalance::Assigned(all(&topic, 3));
    assert_eq!(first, ConsumerEvent::Rebalance(assigned));
    let mut seen = BTreeSet::new();
    while seen.len() < 200 {
        let record = timeout(SOON, consumer.recv()).await.unwrap().unwrap();
        assert!(seen.insert(text(record.value.as_ref()).parse::<i32>().unwrap()));
    }
    let error = consumer.assign(&[]).unwrap_err();
    assert!(matches!(error, ConsumeError::Config { .. }));
    consumer.close().await.unwrap();

    // It has left, and what it read is not read again.
    let described = server.client().await;
    let described = described
        .describe_group(&GroupId::from(group.as_str()))
        .await;
    assert!(
        described
            .unwrap()
            .is_none_or(|group| group.members.is_empty())
    );
    let mut consumer = server.consumer(config(&group)).await;
    consumer.subscribe(&[&topic]).unwrap();
    while seen.len() < 300 {
        let record = timeout(SOON, consumer.recv()).await.unwrap().unwrap();
        assert!(seen.insert(text(record.value.as_ref()).parse::<i32>().unwrap()));
    }
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn members_come_and_go_and_nothing_is_read_twice_or_left_out() {
    let server = Server::start().await;
    for (name, config) in protocols(&server).await {
        come_and_go(&server, name, config).await;
    }
}

async fn come_and_go(server: &Server, name: &str, mut config: ConsumerConfig) {
    let topic = server.topic(6, &[]).await;
    let group = format!("share-{name}-{}", unique());
    config.group_id = Some(group.as_str().into());
    let config = |_: &str| config.clone();
    let first = Worker::start(server, config(&group), &topic).await;
    until("the first has everything", || first.owns() == 6).await;
    number(server, &topic, 6, 0..600).await;
    let second = Worker::start(server, config(&group), &topic).await;
    until(&format!("they share {group}"), || {
        first.owns() == 3 && second.owns() == 3
    })
    .await;
    number(server, &topic, 6, 600..1200).await;
    until("all is read", || {
        first.seen.lock().len() + second.seen.lock().len() >= 1200
    })
    .await;
    let mut seen = first.stop().await;
    until("the second has everything", || second.owns() == 6).await;
    number(server, &topic, 6, 1200..1800).await;
    until("the rest is read", || {
        seen.len() + second.seen.lock().len() >= 1800
    })
    .await;
    seen.extend(second.stop().await);
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..1800));
}

#[tokio::test]
async fn what_is_revoked_is_given_up_when_the_application_says_so() {
    let server = Server::start().await;
    for (name, config) in protocols(&server).await {
        give_up(&server, name, config).await;
    }
}

async fn give_up(server: &Server, name: &str, mut config: ConsumerConfig) {
    let topic = server.topic(2, &[]).await;
    let group = format!("revoke-{name}-{}", unique());
    config.group_id = Some(group.as_str().into());
    let revokes_all = config.group_protocol == GroupProtocol::Classic
        && config.assignors != [Assignor::CooperativeSticky];
    let config = |_: &str| config.clone();
    let mut manual = config(&group);
    manual.auto_commit_interval = None;
    let mut first = server.consumer(manual).await;
    first.subscribe(&[&topic]).unwrap();
    next(&mut first).await;
    number(server, &topic, 2, 0..20).await;
    for _ in 0..20 {
        assert!(matches!(next(&mut first).await, ConsumerEvent::Record(_)));
    }
    let second = Worker::start(server, config(&group), &topic).await;
    let event = next(&mut first).await;
    let ConsumerEvent::Rebalance(Rebalance::Revoked(revoked)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(revoked.len(), if revokes_all { 2 } else { 1 });
    // Not asked for more yet: the partition is still this one's, and may be committed.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(second.owns(), 0);
    first.commit().await.unwrap();
    let waits = tokio::spawn(async move {
        loop {
            let event = next(&mut first).await;
            let is_record = matches!(event, ConsumerEvent::Record(_));
            assert!(!is_record, "everything was read: {event:?}");
        }
    });
    until(&format!("the other has {group}"), || second.owns() >= 1).await;
    assert!(!waits.is_finished());
    waits.abort();
    // It goes on behind what was committed.
    number(server, &topic, 2, 20..40).await;
    until("it reads", || second.seen.lock().len() >= 10).await;
    assert!(second.stop().await.into_iter().all(|n| n >= 20));
}

/// A generation may have begun of which the member has not heard. What it still owns is committed nevertheless.
#[tokio::test]
async fn a_commit_outlives_a_generation() {
    let Some(server) = Server::own(&[]).await else {
        return;
    };
    let topics = [server.topic(1, &[]).await, server.topic(1, &[]).await];
    number(&server, &topics[0], 1, 0..1).await;
    let mut config = config("generations");
    config.group_protocol = GroupProtocol::Classic;
    config.assignors = vec![Assignor::CooperativeSticky];
    config.auto_commit_interval = None;
    let mut client = Config::default();
    client.retry_backoff = Duration::from_millis(300);
    let client = Client::connect(server.address(), client).await.unwrap();
    let mut consumer = Consumer::new(&client, config).unwrap();
    consumer.subscribe(&[&topics[0]]).unwrap();
    while !matches!(next(&mut consumer).await, ConsumerEvent::Record(_)) {}
    let lost = server.faults().on(ApiKey::JoinGroup).times(1).drop_after();
    consumer.subscribe(&[&topics[0], &topics[1]]).unwrap();
    until("the answer is lost", || lost.fired() == 1).await;
    consumer.commit().await.unwrap();
    let mine = [TopicPartition::new(topics[0].as_str(), 0)];
    let committed = consumer.committed(&mine).await.unwrap();
    assert_eq!(committed[0].offset, Offset::new(1));
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn an_expression_takes_topics_as_they_come() {
    let server = Server::start().await;
    for (name, config) in protocols(&server).await {
        match_topics(&server, name, config).await;
    }
}

async fn match_topics(server: &Server, name: &str, mut config: ConsumerConfig) {
    let topics = format!("m{}", unique());
    let group = format!("regex-{name}-{}", unique());
    config.group_id = Some(group.as_str().into());
    let is_classic = config.group_protocol == GroupProtocol::Classic;
    // Where the consumer itself looks for what matches, this is how often it does.
    let mut client = Config::default();
    client.metadata_age_max = Duration::from_millis(300);
    let client = Client::connect(server.address(), client).await.unwrap();
    let [first, second] = ["one", "two"].map(|which| format!("{topics}-{which}"));
    // The beginning of a name is no match.
    for name in [&first, &format!("{first}-more")] {
        server.create(name, 1, &[]).await;
        number(server, name, 1, 0..3).await;
    }
    let mut consumer = Consumer::new(&client, config).unwrap();
    // A consumer that looks for itself leaves out what is internal; brokers do not.
    let internal = match is_classic {
        true => "|__.*",
        false => "",
    };
    let regex = format!("{topics}-(one|two){internal}");
    consumer.subscribe_matching(&regex).unwrap();
    let record = timeout(SOON, consumer.recv()).await.unwrap().unwrap();
    assert_eq!(
        (record.topic.as_str(), record.offset),
        (&*first, Offset::ZERO)
    );
    server.create(&second, 1, &[]).await;
    number(server, &second, 1, 0..3).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 5 {
        let record = timeout(SOON, consumer.recv()).await;
        let record = record.expect(name).unwrap();
        seen.insert((record.topic, record.offset));
    }
    let assigned = [&first, &second].map(|topic| TopicPartition::new(topic.as_str(), 0));
    assert_eq!(consumer.assignment(), assigned, "{name}");
    // From an expression to a name.
    consumer.subscribe(&[&second]).unwrap();
    let waits = async {
        while consumer.assignment() != assigned[1..] {
            let _ = timeout(Duration::from_millis(20), consumer.recv()).await;
        }
    };
    timeout(SOON, waits).await.expect(name);
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn an_expression_that_is_none_is_refused() {
    let server = Server::start().await;
    let mut config = config(&format!("wrong-{}", unique()));
    config.group_protocol = GroupProtocol::Classic;
    let consumer = server.consumer(config).await;
    let error = consumer.subscribe_matching("t(").unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::INVALID_REGULAR_EXPRESSION));
    assert!(error.to_string().contains("unclosed group"), "{error}");
}

/// In the middle of a rebalance that waits for a member that is not done.
#[tokio::test]
async fn whoever_closes_does_not_wait_for_the_others() {
    let server = Server::start().await;
    // Before Kafka 2.2 a member does not learn its id while it waits, so that it cannot say who leaves.
    if !server.divides_or_passed_over().await {
        return;
    }
    let topic = server.topic(2, &[]).await;
    let mut config = config(&format!("hasty-{}", unique()));
    config.group_protocol = GroupProtocol::Classic;
    let mut first = server.consumer(config.clone()).await;
    first.subscribe(&[&topic]).unwrap();
    let assigned = ConsumerEvent::Rebalance(Rebalance::Assigned(all(&topic, 2)));
    assert_eq!(next(&mut first).await, assigned);
    let second = server.consumer(config).await;
    second.subscribe(&[&topic]).unwrap();
    // This one does not ask for more, so that it has not given up anything.
    let event = next(&mut first).await;
    let revoked = ConsumerEvent::Rebalance(Rebalance::Revoked(all(&topic, 2)));
    assert_eq!(event, revoked);
    let closed = timeout(Duration::from_secs(5), second.close()).await;
    closed.expect("at once").unwrap();
    assert_eq!(next(&mut first).await, assigned);
    first.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_without_a_group_cannot_subscribe() {
    let server = Server::start().await;
    let consumer = server.consumer(ConsumerConfig::default()).await;
    let error = consumer.subscribe(&["topic"]).unwrap_err();
    assert!(matches!(error, ConsumeError::NoGroup));
}

#[tokio::test]
async fn what_the_group_refuses_is_said() {
    let server = Server::start().await;
    if !server.divides_or_passed_over().await {
        return;
    }
    let mut config = config(&format!("refused-{}", unique()));
    config.remote_assignor = Some("nobody-knows-it".into());
    let mut consumer = server.consumer(config).await;
    consumer.subscribe(&["topic"]).unwrap();
    let error = timeout(SOON, consumer.recv()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("assignor"), "{error}");
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn an_application_that_hangs_makes_room_for_others() {
    let server = Server::start().await;
    let topic = server.topic(1, &[]).await;
    let group = format!("hang-{}", unique());
    let mut hasty = config(&group);
    hasty.poll_interval_max = Duration::from_secs(1);
    let mut first = server.consumer(hasty).await;
    first.subscribe(&[&topic]).unwrap();
    next(&mut first).await;
    // Nobody asks for longer than it may take.
    let second = Worker::start(&server, config(&group), &topic).await;
    until("the other has it", || second.owns() == 1).await;
    let event = next(&mut first).await;
    assert_eq!(
        event,
        ConsumerEvent::Rebalance(Rebalance::Lost(all(&topic, 1)))
    );
    let back = tokio::spawn(async move { next(&mut first).await });
    second.stop().await;
    let event = timeout(SOON, back).await.unwrap().unwrap();
    assert_eq!(
        event,
        ConsumerEvent::Rebalance(Rebalance::Assigned(all(&topic, 1)))
    );
}

#[tokio::test]
async fn members_of_both_protocols_share_a_group() {
    let server = Server::start().await;
    if !server.divides_or_passed_over().await {
        return;
    }
    let topic = server.topic(4, &[]).await;
    let group = format!("mixed-{}", unique());
    let mut workers = Vec::new();
    for (name, mut config) in protocols(&server).await {
        // What the broker divides fits every way of meeting that all classic members know.
        if matches!(name, "consumer" | "cooperative") {
            config.group_id = Some(group.as_str().into());
            workers.push(Worker::start(&server, config, &topic).await);
        }
    }
    until("they share", || workers.iter().all(|it| it.owns() == 2)).await;
    number(&server, &topic, 4, 0..400).await;
    until("all is read", || {
        workers.iter().map(|it| it.seen.lock().len()).sum::<usize>() >= 400
    })
    .await;
    let mut seen = Vec::new();
    for worker in workers {
        seen.extend(worker.stop().await);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..400));
}

/// A broker that does not divide partitions, as all did before Kafka 4.0.
#[tokio::test]
async fn where_the_broker_does_not_divide_partitions_a_member_does() {
    let only_classic = [("group.coordinator.rebalance.protocols", "classic")];
    let Some(server) = Server::own(&only_classic).await else {
        return;
    };
    let topic = server.topic(2, &[]).await;
    number(&server, &topic, 2, 0..4).await;
    let mut config = config("falls-back");
    let mut consumer = server.consumer(config.clone()).await;
    consumer.subscribe(&[&topic]).unwrap();
    let assigned = ConsumerEvent::Rebalance(Rebalance::Assigned(all(&topic, 2)));
    assert_eq!(next(&mut consumer).await, assigned);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let record = timeout(SOON, consumer.recv()).await.unwrap().unwrap();
        seen.insert(text(record.value.as_ref()).to_owned());
    }
    assert_eq!(seen.len(), 4);
    consumer.close().await.unwrap();
    // The consumer resolves an expression itself, if it is one.
    let mut matching = server.consumer(config.clone()).await;
    matching.subscribe_matching("t.*").unwrap();
    assert_eq!(next(&mut matching).await, assigned);
    matching.close().await.unwrap();
    let wrong = server.consumer(config.clone()).await;
    wrong.subscribe_matching("t(").unwrap();
    // Who insists on the other protocol is told.
    config.group_protocol = GroupProtocol::Consumer;
    let insisting = server.consumer(config).await;
    insisting.subscribe(&[&topic]).unwrap();
    let expected = [
        (wrong, ErrorCode::INVALID_REGULAR_EXPRESSION),
        (insisting, ErrorCode::UNSUPPORTED_VERSION),
    ];
    for (mut consumer, code) in expected {
        let error = timeout(SOON, consumer.recv()).await.unwrap().unwrap_err();
        assert!(matches!(error, ConsumeError::Group { .. }), "{error}");
        assert_eq!(error.code(), Some(code), "{error}");
        consumer.close().await.unwrap();
    }
}

/// A broker that divides them does so.
#[tokio::test]
async fn where_the_broker_divides_partitions_it_is_let() {
    let server = Server::start().await;
    if !server.divides_or_passed_over().await {
        return;
    }
    let topic = server.topic(1, &[]).await;
    let group = format!("auto-{}", unique());
    let mut consumer = server.consumer(config(&group)).await;
    consumer.subscribe(&[&topic]).unwrap();
    let assigned = ConsumerEvent::Rebalance(Rebalance::Assigned(all(&topic, 1)));
    assert_eq!(next(&mut consumer).await, assigned);
    let group = GroupId::from(group.as_str());
    let client = server.client().await;
    let described = client.describe_group(&group).await.unwrap().unwrap();
    assert_eq!(described.group_type, GroupType::Consumer);
    consumer.close().await.unwrap();
}
