//! `tidelog config`.

use serde_json::{Value, json};

use crate::support::{Server, eventually, fresh};

#[tokio::test(flavor = "multi_thread")]
async fn a_config_is_set_shown_with_its_source_and_taken_back() {
    let server = Server::start().await;
    let topic = fresh("configured");
    server.creates(&topic, &[]).await;
    let config = |verb: &'static str| ["config", verb, "--topic", topic.as_str()];
    let named = |list: &Value, name: &str| {
        let list = list.as_array().unwrap().iter();
        list.clone().find(|entry| entry["name"] == name).cloned()
    };

    let set = [&config("set")[..], &["segment.bytes=2000000", "--append"]].concat();
    let set = [&set[..], &["cleanup.policy=compact"]].concat();
    let plan = server.json(&[&set[..], &["--dry-run"]].concat());
    assert_eq!(plan["executed"], false);
    let append = json!({
        "name": "cleanup.policy",
        "operation": "APPEND",
        "value": "compact",
        "before": "delete",
    });
    assert_eq!(plan["changes"][0], append);
    assert!(named(&server.json(&config("list")), "cleanup.policy").is_none());

    let said = server.says(&set);
    assert!(
        said.starts_with("NAME            BEFORE      AFTER\n"),
        "{said}"
    );
    let list = eventually(
        async || server.json(&config("list")),
        |list| named(list, "segment.bytes").is_some(),
    );
    let entry = named(&list.await, "segment.bytes").unwrap();
    assert_eq!(entry["value"], "2000000");
    assert_eq!(entry["source"], "DYNAMIC_TOPIC_CONFIG");
    assert_eq!(entry["inherited"]["name"], "log.segment.bytes");
    assert_eq!(entry["inherited"]["value"], "1073741824");

    let get = [&config("get")[..], &["segment.bytes", "cleanup.policy"]].concat();
    let values = server.says(&[&get[..], &["--value-only"]].concat());
    assert_eq!(values, "2000000\ndelete,compact\n");
    let said = server.says(&get);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "segment.bytes = 2000000");
    assert_eq!(lines[1], "  set by     topic");
    assert_eq!(lines[2], "  otherwise  1073741824");

    let unset = [&config("unset")[..], &["segment.bytes", "cleanup.policy"]].concat();
    server.says(&unset);
    let list = eventually(
        async || server.json(&config("list")),
        |list| named(list, "segment.bytes").is_none(),
    );
    assert!(named(&list.await, "cleanup.policy").is_none());
    let all = server.json(&[&config("list")[..], &["--all"]].concat());
    let entry = named(&all, "segment.bytes").unwrap();
    assert_eq!(entry["source"], "DEFAULT_CONFIG");
    server.says(&["topic", "delete", &topic]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_and_groups_have_configs_too() {
    let server = Server::start().await;
    let all = server.json(&["config", "list", "--broker", "1", "--all"]);
    let all = all.as_array().unwrap();
    assert!(
        all.iter()
            .any(|entry| entry["name"] == "log.cleaner.threads")
    );

    let group = fresh("readers");
    let set = [
        "config",
        "set",
        "-g",
        &group,
        "consumer.session.timeout.ms=50000",
    ];
    server.says(&set);
    let list = eventually(
        async || server.says(&["config", "list", "-g", &group]),
        |list| list.contains("consumer.session.timeout.ms"),
    );
    let list = list.await;
    let line = list.lines().nth(1).unwrap_or_default();
    let line: Vec<_> = line.split_whitespace().collect();
    let expected = ["consumer.session.timeout.ms", "50000", "group", "45000"];
    assert_eq!(line, expected, "{list}");
    server.says(&[
        "config",
        "unset",
        "-g",
        &group,
        "consumer.session.timeout.ms",
    ]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_in_a_line() {
    let server = Server::start().await;
    let topic = fresh("stubborn");
    server.creates(&topic, &[]).await;
    let of_topic = ["-t", topic.as_str()];
    let wrong = "retention.ms: Not a number of type LONG (INVALID_CONFIG)";
    let cases: [(&[&str], &[&str], &str); 6] = [
        (&["set", "retention.ms=soon"], &of_topic, wrong),
        (
            &["set", "retention=1"],
            &of_topic,
            "retention (INVALID_CONFIG)",
        ),
        (&["get", "retention"], &of_topic, "has no config retention"),
        (
            &["list"],
            &["-t", "nowhere"],
            "(UNKNOWN_TOPIC_OR_PARTITION)",
        ),
        (
            &["list"],
            &["--broker", "77"],
            "broker 77: the cluster has no such broker",
        ),
        (
            &["set", "retention.ms=1", "--append", "retention.ms=2"],
            &of_topic,
            "retention.ms is given twice",
        ),
    ];
    for (verb, target, expected) in cases {
        let lines = server.refuses(&[&["config"], verb, target].concat());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(expected), "{lines:?}");
    }
    server.says(&["topic", "delete", &topic]);
    server.stop().await;
}
