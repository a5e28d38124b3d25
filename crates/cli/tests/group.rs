//! `tidelog group` against a broker in this process.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tidelog_broker::{Broker, Durability};
use tidelog_client::{Client, Config, Connection};
use tidelog_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use tidelog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidelog_types::{GroupId, Offset, TopicPartition};

/// A broker with the topic `orders` of three partitions, and a group that has committed offsets for two of them.
async fn broker() -> Broker {
    let broker = Broker::builder()
        .durability(Durability::Memory)
        .listener("PLAINTEXT://127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let address = broker.bootstrap_servers();
    let connection = Connection::connect(&address, Config::default())
        .await
        .unwrap();
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "orders".into(),
            num_partitions: 3,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let created = connection.send(&request).await.unwrap();
    assert!(created.topics[0].error_code.is_ok(), "{created:?}");
    let client = Client::connect(&address, Config::default()).await.unwrap();
    let offsets = [("orders", 0), ("orders", 2)]
        .map(|(topic, partition)| (TopicPartition::new(topic, partition), Offset::new(0)));
    let billing = GroupId::from("billing");
    client
        .commit_offsets(&billing, &offsets.into())
        .await
        .unwrap();
    broker
}

fn group(broker: &Broker, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidelog"))
        .arg("group")
        .args(arguments)
        .args(["--bootstrap-server", &broker.bootstrap_servers()])
        .output()
        .unwrap()
}

fn text(broker: &Broker, arguments: &[&str]) -> String {
    let output = group(broker, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(broker: &Broker, arguments: &[&str]) -> String {
    let output = group(broker, arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert_eq!(output.stdout, b"");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_day() {
    let broker = broker().await;
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let list = text(&broker, &["list"]);
    let lines: Vec<_> = list.lines().map(words).collect();
    assert_eq!(lines[0], ["GROUP", "TYPE", "STATE", "PROTOCOL"]);
    assert_eq!(lines[1], ["billing", "classic", "Empty", "-"]);
    assert_eq!(
        text(&broker, &["list", "--state", "Stable"]),
        "there are no groups\n"
    );

    let described: Value =
        serde_json::from_str(&text(&broker, &["describe", "billing", "--json"])).unwrap();
    assert_eq!(described["state"], "Empty");
    assert_eq!(described["partitions"][1]["partition"], 2);
    assert_eq!(described["partitions"][1]["lag"], 0);

    let reset = [
        "reset-offsets",
        "billing",
        "--all-topics",
        "--to-offset",
        "7",
    ];
    let plan = text(&broker, &reset);
    assert!(
        plan.ends_with("nothing was changed; with --execute it will be\n"),
        "{plan}"
    );

    let partial = [
        "reset-offsets",
        "billing",
        "--topic",
        "orders:1",
        "--to-latest",
        "--execute",
        "--json",
    ];
    let done: Value = serde_json::from_str(&text(&broker, &partial)).unwrap();
    let expected = json!({
        "group": "billing",
        "executed": true,
        "offsets": [{ "topic": "orders", "partition": 1, "from": null, "to": 0 }],
    });
    assert_eq!(done, expected);

    let deleted = text(
        &broker,
        &["delete-offsets", "billing", "--topic", "orders:0,1"],
    );
    assert_eq!(
        deleted,
        "group billing, offsets deleted of: orders-0, orders-1\n"
    );
    assert_eq!(
        text(&broker, &["delete", "billing", "billing"]),
        "deleted: billing\n"
    );
    assert_eq!(text(&broker, &["list"]), "there are no groups\n");
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_a_member_is_shown_explained_and_left_alone() {
    let broker = broker().await;
    let address = broker.bootstrap_servers();
    let connection = Connection::connect(&address, Config::default())
        .await
        .unwrap();
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "fleet".into(),
        member_id: "truck".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["orders".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let joined = connection.send(&request).await.unwrap();
    assert!(joined.error_code.is_ok(), "{joined:?}");

    let described = text(&broker, &["describe", "fleet", "--json"]);
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["type"], "consumer");
    assert_eq!(described["members"][0]["member"], "truck");
    let owned = json!(["orders-0", "orders-1", "orders-2"]);
    assert_eq!(described["members"][0]["targetAssignment"], owned);

    let explained = text(&broker, &["explain", "fleet"]);
    let lines: Vec<_> = explained.lines().collect();
    assert!(lines[0].contains(" epoch 2 (consumer): "), "{explained}");
    assert_eq!(lines[1], "  because truck joined");
    let explained = text(&broker, &["explain", "fleet", "--json"]);
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained[0]["causes"][0]["memberId"], "truck");

    let busy = [
        "reset-offsets",
        "fleet",
        "--topic",
        "orders",
        "--to-latest",
        "--execute",
    ];
    let said = refusal(&broker, &busy);
    assert!(said.contains("have to stop first"), "{said}");
    let said = refusal(&broker, &["delete", "fleet"]);
    assert!(said.contains("NON_EMPTY_GROUP"), "{said}");
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_in_a_line() {
    let broker = broker().await;
    let cases = [
        (vec!["describe", "nobody"], "there is no group nobody"),
        (vec!["explain", "nobody"], "there is no group nobody"),
        (vec!["delete", "nobody"], "group nobody: "),
        (
            vec!["reset-offsets", "billing", "--topic", "lost", "--to-latest"],
            "topic lost: ",
        ),
        (
            vec![
                "reset-offsets",
                "billing",
                "--topic",
                "orders:9",
                "--to-latest",
            ],
            "topic orders has no partition 9",
        ),
        (
            vec![
                "reset-offsets",
                "billing",
                "--topic",
                "orders:1",
                "--shift-by",
                "-1",
            ],
            "nothing is committed for orders-1",
        ),
        (
            vec!["reset-offsets", "nobody", "--all-topics", "--to-latest"],
            "group nobody has committed no offset",
        ),
        (
            vec!["delete-offsets", "billing", "--topic", "orders:1"],
            "group billing has committed no such offset",
        ),
    ];
    for (arguments, expected) in cases {
        let said = refusal(&broker, &arguments);
        assert!(
            said.starts_with(&format!("tidelog: {expected}")),
            "{arguments:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    broker.shutdown().await.unwrap();
}
