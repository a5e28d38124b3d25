//! `tidelog topic`.

use serde_json::json;
use tidelog_client::{Client, Config};
use tidelog_types::TopicName;

use crate::support::{Server, eventually, fresh, produce, tidelog};

/// A line in words.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_life() {
    let server = Server::start().await;
    let (orders, bills) = (fresh("orders"), fresh("bills"));
    let (orders, bills) = (orders.as_str(), bills.as_str());
    let create = ["topic", "create", orders, "-t", bills, "-p", "3"];
    let create = [&create[..], &["-c", "retention.ms=86400000"]].concat();
    let checked = server.says(&[&create[..], &["--dry-run"]].concat());
    let line = format!("would be created: {bills}, 3 partitions, replication factor 1");
    assert_eq!(checked.lines().next(), Some(line.as_str()));
    assert!(!server.says(&["topic", "list"]).contains(orders));

    let created = server.json(&create);
    assert_eq!(created["executed"], true);
    assert_eq!(created["created"][1]["topic"], orders);
    assert_eq!(created["created"][1]["partitions"], 3);
    assert_eq!(created["failed"], json!([]));
    let again = server.json(&["topic", "create", orders, "--if-not-exists"]);
    assert_eq!(again["existing"], json!([orders]));

    let list = eventually(
        async || server.says(&["topic", "list"]),
        |list| list.contains(orders),
    );
    let list = list.await;
    let mut lines = list.lines().map(words);
    let heads = ["TOPIC", "PARTITIONS", "REPLICATION", "FACTOR"];
    assert_eq!(lines.next().unwrap(), heads);
    assert!(lines.any(|line| line == [orders, "3", "1"]), "{list}");

    let described = server.json(&["topic", "describe", orders]);
    assert_eq!(
        described[0]["configs"],
        json!({ "retention.ms": "86400000" })
    );
    let partition = &described[0]["partitions"][2];
    assert_eq!(partition["partition"], 2);
    assert_eq!(partition["isr"], partition["replicas"]);
    assert_eq!(described[0]["topicId"], created["created"][1]["topicId"]);

    let alter = [
        "topic",
        "alter",
        orders,
        "-p",
        "5",
        "-c",
        "cleanup.policy=compact",
    ];
    let alter = [&alter[..], &["--delete-config", "retention.ms"]].concat();
    let what = "partitions 5, cleanup.policy=compact, retention.ms unset";
    let checked = server.says(&[&alter[..], &["--dry-run"]].concat());
    assert_eq!(checked, format!("would be altered: {orders}, {what}\n"));
    assert_eq!(server.says(&alter), format!("altered: {orders}, {what}\n"));
    let described = eventually(
        async || server.json(&["topic", "describe", orders]),
        |all| all[0]["partitions"].as_array().unwrap().len() == 5,
    );
    let configs = described.await[0]["configs"].clone();
    assert_eq!(configs, json!({ "cleanup.policy": "compact" }));

    let enough = server.json(&["topic", "alter", orders, "-r", "1"]);
    assert_eq!(enough["altered"], json!([orders]));
    assert_eq!(enough["replicas"], json!([]));

    let delete = ["topic", "delete", orders, bills, "nowhere", "--if-exists"];
    let checked = server.says(&[&delete[..], &["--dry-run"]].concat());
    let line = format!("would be deleted: {orders}, 5 partitions");
    assert!(checked.lines().any(|l| l == line), "{checked}");
    let deleted = server.json(&delete);
    assert_eq!(deleted["deleted"], json!([bills, orders]));
    assert_eq!(deleted["missing"], json!(["nowhere"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_in_trouble_are_found() {
    let server = Server::start().await;
    let topic = fresh("healthy");
    server.creates(&topic, &[]).await;
    let describe = |filter| server.says(&["topic", "describe", &topic, filter]);
    let filters = ["--under-replicated", "--unavailable", "--under-min-isr"];
    // Kafka's own names of the same.
    let names = filters.map(|filter| format!("{filter}-partitions"));
    for filter in filters.into_iter().chain(names.iter().map(String::as_str)) {
        let none = "there are no such partitions\n";
        assert_eq!(describe(filter), none, "{filter}");
    }
    assert!(describe("--at-min-isr").contains("1 partition, id "));
    assert_eq!(describe("--with-overrides"), "there are no such topics\n");
    server.says(&["topic", "delete", &topic]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_by_offset_and_by_time() {
    let server = Server::start().await;
    let topic = fresh("records");
    server.creates(&topic, &["--partitions", "2"]).await;
    let client = Client::connect(server.address(), Config::default());
    let (client, name) = (client.await.unwrap(), TopicName::from(topic.as_str()));
    produce(&client, &name, 0, 5, 1_000_000_000_000).await;
    produce(&client, &name, 0, 5, 1_700_000_000_000).await;
    let delete = |more: &[&str]| {
        let all = ["topic", "delete-records", topic.as_str()];
        let done = server.json(&[&all[..], more].concat());
        let done = done["deleted"].as_array().unwrap().clone();
        done.iter()
            .map(|cut| (cut["from"].as_i64().unwrap(), cut["to"].as_i64().unwrap()))
            .collect::<Vec<_>>()
    };
    let offset = ["--before-offset", "3"];
    let plan = delete(&[&offset[..], &["--dry-run"]].concat());
    assert_eq!(plan, [(0, 3), (0, 0)]);
    assert_eq!(delete(&offset), [(0, 3), (0, 0)]);
    // In between nobody has written; the second half is younger.
    let time = ["--before-datetime", "2005-01-01T00:00:00Z"];
    assert_eq!(delete(&time), [(3, 5), (0, 0)]);
    assert_eq!(delete(&["--all"]), [(5, 10), (0, 0)]);
    let described = server.json(&["topic", "describe", &topic, "--offsets"]);
    let partition = &described[0]["partitions"][0];
    assert_eq!(
        (&partition["start"], &partition["end"]),
        (&json!(10), &json!(10))
    );
    server.says(&["topic", "delete", &topic]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_for_each_topic() {
    let server = Server::start().await;
    let topic = fresh("present");
    server.creates(&topic, &[]).await;
    let unknown = "topic nowhere: This broker does not know the topic or partition \
                   (UNKNOWN_TOPIC_OR_PARTITION)";
    let cases: [(&[&str], &[&str]); 10] = [
        (&["describe", "nowhere"], &[unknown]),
        (&["delete", "nowhere", "--dry-run"], &[unknown]),
        (
            &["delete-records", "nowhere", "--all"],
            &["topic nowhere: "],
        ),
        (
            &["delete", "__consumer_offsets"],
            &["topic __consumer_offsets: "],
        ),
        (
            &["create", &topic, "a/b", "-r", "9"],
            &["(TOPIC_ALREADY_EXISTS)", "(INVALID_TOPIC_EXCEPTION)"],
        ),
        (
            &["create", "new", "-r", "9"],
            &["(INVALID_REPLICATION_FACTOR)"],
        ),
        (
            &["create", "new", "-c", "retention.ms=soon"],
            &["retention.ms: Not a number of type LONG (INVALID_CONFIG)"],
        ),
        (&["alter", &topic, "-p", "1"], &["(INVALID_PARTITIONS)"]),
        (&["alter", "nowhere", "-r", "1"], &[unknown]),
        (
            &["alter", &topic, "-r", "2"],
            &["no room for 2 replicas of each partition: 1 broker in service"],
        ),
    ];
    for (arguments, expected) in cases {
        let arguments = [&["topic"], arguments].concat();
        let lines = server.refuses(&arguments);
        assert_eq!(lines.len(), expected.len(), "{arguments:?}: {lines:?}");
        for expected in expected {
            let is_said = lines.iter().any(|line| line.contains(expected));
            assert!(is_said, "{arguments:?}: {lines:?}");
        }
    }
    // Programs learn the same, and what has succeeded beside it.
    let arguments = ["topic", "delete", &topic, "nowhere", "--json"];
    let output = tidelog(server.address(), &arguments);
    assert_eq!(output.status.code(), Some(2));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["deleted"], json!([topic]));
    assert_eq!(said["failed"][0]["topic"], "nowhere");
    assert_eq!(said["failed"][0]["error"], "UNKNOWN_TOPIC_OR_PARTITION");
    server.stop().await;
}
