//! Records in and out, as people send and print them.

use std::path::Path;

use crate::support::{Server, fresh};

/// A file with these lines.
fn file(folder: &Path, name: &str, lines: &[&str]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_consumed() {
    let server = Server::start().await;
    let topic = fresh("printed");
    server.creates(&topic, &["--partitions", "2"]).await;
    let folder = tempfile::tempdir().unwrap();
    let lines = file(folder.path(), "lines", &["a:one", "b:two", "c:"]);
    let arguments = [
        "produce", &topic, &lines, "-K", ":", "-Z", "-p", "0", "-H", "h=1", "-z", "gzip",
    ];
    let said = server.says(&arguments);
    assert_eq!(said, format!("produced: 3 records into {topic}\n"));
    let object = r#"{"key":"k","value":{"hex":"00ff"},"headers":[["n",null]],"partition":1,"timestamp":7000}"#;
    let objects = file(folder.path(), "objects", &[object]);
    let said = server.json(&["produce", &topic, &objects, "--json-lines"]);
    assert_eq!(said["produced"], 1);

    let printed = server.says(&[
        "consume",
        &format!("{topic}:0"),
        "-f",
        r"%p:%o %k=%s (%S) %h\n",
    ]);
    assert_eq!(
        printed,
        "0:0 a=one (3) h=1\n0:1 b=two (3) h=1\n0:2 c= (-1) h=1\n"
    );
    assert_eq!(
        server.says(&[
            "consume",
            &format!("{topic}:0"),
            "--from",
            "-2",
            "-c",
            "1",
            "-K",
            "/"
        ]),
        "b/two\n"
    );
    assert_eq!(
        server.says(&["consume", &format!("{topic}:0"), "--from", "1", "--to", "2"]),
        "two\n"
    );
    assert_eq!(server.says(&["consume", &topic, "--from", "end"]), "");
    let printed = server.says(&["consume", &format!("{topic}:1"), "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["value"]["hex"], "00ff");
    assert_eq!(printed["timestamp"], 7000);
    assert_eq!(printed["headers"][0][1], serde_json::Value::Null);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_was() {
    let server = Server::start().await;
    let topic = fresh("grouped");
    server.creates(&topic, &["--partitions", "1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let lines = file(folder.path(), "lines", &["1", "2", "3", "4"]);
    server.says(&["produce", &topic, &lines]);
    let group = fresh("listeners");
    assert_eq!(
        server.says(&["consume", &topic, "-g", &group, "-c", "2"]),
        "1\n2\n"
    );
    assert_eq!(
        server.says(&["consume", &topic, "-g", &group, "--classic"]),
        "3\n4\n"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_explained() {
    let server = Server::start().await;
    let topic = fresh("refused");
    server.creates(&topic, &["--partitions", "1"]).await;
    let missing = server.refuses(&["produce", &topic, "/there/is/none"]);
    assert!(
        missing[0].starts_with("cannot read /there/is/none: "),
        "{missing:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let lines = file(folder.path(), "lines", &["x"]);
    let missing = server.refuses(&["produce", &topic, &lines, "-p", "7"]);
    assert_eq!(
        missing,
        [format!("topic {topic} has no partition 7, it has 1")]
    );
    let wrong = server.refuses(&["produce", &topic, &lines, "--json-lines"]);
    assert!(
        wrong[0].starts_with(&format!("line 1 of {lines}: ")),
        "{wrong:?}"
    );
    let missing = server.refuses(&["consume", &fresh("nowhere")]);
    assert!(
        missing[0].contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{missing:?}"
    );
    server.stop().await;
}
