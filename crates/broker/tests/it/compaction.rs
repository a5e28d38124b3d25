//! Topics whose `cleanup.policy` is `compact`, as consumers find them.

use bytes::Bytes;
use tidelog_record::{BatchBuilder, Codec};
use tidelog_types::{ErrorCode, Timestamp};

use crate::client::{Client, soon};
use crate::ops::{Topic, now};
use crate::restart::files_ending;
use crate::server::Server;
use crate::topics::{alter, alter_resource};

const EAGER: &[(&str, &str)] = &[("log.cleaner.backoff.ms", "5")];
const COMPACT: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("segment.ms", "1000"),
    ("file.delete.delay.ms", "0"),
];

/// A batch of records with keys, at a time of its own; so much later than the one before, that it begins a segment.
fn keyed(round: i64, records: &[(&str, Option<&str>)]) -> Bytes {
    let at = Timestamp::from_millis(now().as_millis() - 1_000_000 + round * 10_000);
    let mut builder = BatchBuilder::new(Codec::None.into());
    for (key, value) in records {
        builder.push(at, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    builder.build().unwrap().bytes().clone()
}

async fn put(client: &mut Client, topic: &Topic, round: i64, records: &[(&str, Option<&str>)]) {
    let answer = client.produce(topic, 0, keyed(round, records)).await;
    assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
}

async fn set(client: &mut Client, topic: &str, name: &str, value: &str) {
    const SET: i8 = 0;
    let code = alter(client, topic, (name, SET, Some(value))).await;
    assert_eq!(code, ErrorCode::NONE);
}

/// What the topic holds; an answer has the records of one segment.
async fn read(client: &mut Client, topic: &Topic) -> Vec<(i64, String)> {
    let start = client.list_offset(topic, 0, -2).await.offset.value();
    let mut found = Vec::new();
    loop {
        let from = found.last().map_or(start, |(at, _)| at + 1);
        let mut more = client.read(topic, 0, from).await;
        if more.is_empty() {
            return found;
        }
        found.append(&mut more);
    }
}

/// Reads again and again until the topic holds just these records.
async fn until(client: &mut Client, topic: &Topic, expected: &[(i64, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(at, value)| (*at, (*value).to_owned()))
        .collect();
    soon(async { while read(client, topic).await != expected {} }).await;
}

#[tokio::test]
async fn of_each_key_the_newest_record_stays_also_over_a_restart() {
    let mut server = Server::with(EAGER).await;
    let mut client = server.client().await;
    let topic = client.create_topic("users", 1, COMPACT).await;
    put(
        &mut client,
        &topic,
        0,
        &[("a", Some("1")), ("b", Some("1"))],
    )
    .await;
    put(&mut client, &topic, 1, &[("a", Some("2")), ("c", None)]).await;
    put(&mut client, &topic, 2, &[("a", Some("3"))]).await;
    until(
        &mut client,
        &topic,
        &[(1, "1"), (2, "2"), (3, ""), (4, "3")],
    )
    .await;
    // An offset that is gone leads to the next one that is there.
    assert_eq!(client.read(&topic, 0, 0).await[0].0, 1);
    assert_eq!(client.list_offset(&topic, 0, -2).await.offset.value(), 0);

    server.restart().await;
    let checkpoint = server.dir.path().join("cleaner-offset-checkpoint");
    assert_eq!(
        std::fs::read_to_string(checkpoint).unwrap(),
        "0\n1\nusers 0 4\n"
    );
    let mut client = server.client().await;
    until(
        &mut client,
        &topic,
        &[(1, "1"), (2, "2"), (3, ""), (4, "3")],
    )
    .await;
    put(&mut client, &topic, 3, &[("b", Some("2"))]).await;
    until(
        &mut client,
        &topic,
        &[(1, "1"), (3, ""), (4, "3"), (5, "2")],
    )
    .await;
}

#[tokio::test]
async fn a_policy_takes_effect_at_run_time() {
    let server = Server::with(EAGER).await;
    let mut client = server.client().await;
    let configs = [
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "1000"),
    ];
    let topic = client.create_topic("changing", 1, &configs).await;
    for round in 0..4 {
        let value = round.to_string();
        put(&mut client, &topic, round, &[("k", Some(&value))]).await;
    }
    assert_eq!(read(&mut client, &topic).await.len(), 4);
    set(&mut client, "changing", "cleanup.policy", "compact,delete").await;
    until(&mut client, &topic, &[(2, "2"), (3, "3")]).await;
    set(&mut client, "changing", "cleanup.policy", "delete").await;
    put(&mut client, &topic, 4, &[("k", Some("4"))]).await;
    until(&mut client, &topic, &[(2, "2"), (3, "3"), (4, "4")]).await;
}

/// Compaction moves no more bytes than it may, and more as soon as it may.
#[tokio::test]
async fn compaction_keeps_to_its_rate() {
    const SET: i8 = 0;
    const BROKERS: (i8, &str) = (4, "");
    let rate = "log.cleaner.io.max.bytes.per.second";
    let server = Server::with(&[EAGER, &[(rate, "1")]].concat()).await;
    let mut client = server.client().await;
    let topic = client.create_topic("slow", 1, COMPACT).await;
    for round in 0..3 {
        put(&mut client, &topic, round, &[("k", Some("v"))]).await;
    }
    // It has begun, and what it has read so far takes it minutes.
    let begun = || files_ending(server.dir.path(), ".cleaned").len();
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_millis(300) {
        assert_eq!((read(&mut client, &topic).await.len(), begun()), (3, 0));
    }
    let code = alter_resource(&mut client, BROKERS, (rate, SET, Some("1e9"))).await;
    assert_eq!(code, ErrorCode::NONE);
    until(&mut client, &topic, &[(1, "v"), (2, "v")]).await;
}

/// Hard corner 42, with `compact` and `delete` together: what is old goes as a whole, of the rest the newest of each key stays.
#[tokio::test]
async fn corner_42_old_segments_of_a_compacted_topic_are_deleted() {
    let often = [("log.retention.check.interval.ms", "5")];
    let server = Server::with(&[EAGER, &often].concat()).await;
    let mut client = server.client().await;
    let topic = client.create_topic("both", 1, COMPACT).await;
    // Of these, three are about 1,000 seconds old, and one 200.
    for (round, key, value) in [(0, "a", "1"), (1, "b", "2"), (2, "a", "3"), (80, "a", "4")] {
        put(&mut client, &topic, round, &[(key, Some(value))]).await;
    }
    until(&mut client, &topic, &[(1, "2"), (2, "3"), (3, "4")]).await;
    set(&mut client, "both", "retention.ms", "500000").await;
    set(&mut client, "both", "cleanup.policy", "compact,delete").await;
    soon(async { while client.list_offset(&topic, 0, -2).await.offset.value() < 3 {} }).await;
    until(&mut client, &topic, &[(3, "4")]).await;
}

/// The topic in which groups keep their offsets is compacted, so that it does not grow for ever.
#[tokio::test]
async fn the_offsets_of_groups_are_compacted() {
    let mut server = Server::with(EAGER).await;
    let mut client = server.client().await;
    let topic = client.create_topic("read", 1, &[]).await;
    crate::groups::find_coordinator(&mut client, "g").await;
    set(&mut client, "__consumer_offsets", "segment.ms", "1").await;
    // Each commit begins a segment.
    let segments = |server: &Server| {
        let logs = files_ending(server.dir.path(), ".log");
        let offsets = logs
            .iter()
            .filter(|log| log.starts_with("__consumer_offsets-"));
        offsets.count()
    };
    for offset in 0..200 {
        let committed = crate::groups::commit(&mut client, "g", &topic, (0, offset, 0)).await;
        assert_eq!(committed, ErrorCode::NONE);
    }
    soon(async {
        while segments(&server) > 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.restart().await;
    let mut client = server.client().await;
    crate::groups::find_coordinator(&mut client, "g").await;
    crate::groups::is_loaded(&mut client, "g").await;
    let committed = crate::groups::committed(&mut client, "g", &topic, &[0]).await;
    assert_eq!(committed[0].committed_offset.value(), 199);
}
