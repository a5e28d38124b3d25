//! `tidelog cluster`, and the commands that need no cluster.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Server, fresh, tidelog};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_described() {
    let server = Server::start().await;
    let cluster = server.json(&["cluster", "describe"]);
    assert_eq!(cluster["nodeType"], "broker");
    assert_eq!(cluster["controller"], cluster["nodes"][0]["id"]);
    assert!(cluster["features"]["finalized"]["metadata.version"].is_i64());
    let said = server.says(&["cluster", "describe"]);
    assert!(
        said.contains(&format!("  {}  ", server.address())),
        "{said}"
    );
    // A broker that does not tell of its quorum is described all the same.
    match cluster["quorum"]["leader"].as_i64() {
        Some(leader) => assert!(said.contains(&format!("metadata quorum: leader {leader}"))),
        None => {
            assert!(server.is_ours());
            let why = "does not serve DescribeQuorum";
            assert!(cluster["quorumError"].as_str().unwrap().contains(why));
            assert!(said.contains(why), "{said}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_a_cluster_of_one_has_an_answer() {
    let server = Server::start().await;
    let name = fresh("one");
    server.creates(&name, &[]).await;
    let dirs = server.json(&["cluster", "log-dirs", "-t", &name]);
    let replica = &dirs["logDirs"][0]["replicas"][0];
    assert_eq!(
        (&replica["partition"], &replica["coming"]),
        (&0.into(), &false.into())
    );
    let broker = dirs["logDirs"][0]["broker"].to_string();
    let said = server.says(&["cluster", "log-dirs", &broker]);
    assert!(said.contains("in service"), "{said}");
    let quorum = server.json(&["cluster", "quorum"]);
    assert_eq!(quorum["leader"].to_string(), broker);
    let said = server.says(&["cluster", "reassign", "--status"]);
    assert_eq!(said, "nothing is under way\n");
    let said = server.says(&["cluster", "reassign", "--cancel", "--all"]);
    assert_eq!(said, "nothing is under way\n");
    let said = server.says(&["cluster", "reassign", "-t", &name, "--brokers", &broker]);
    assert_eq!(said, "nothing to be moved\n");
    let said = server.says(&["cluster", "elect", &name]);
    assert_eq!(said, "no election needed: 1 partition\n");
    let said = server.refuses(&["cluster", "drain", &broker]);
    let is_of_it = |line: &&String| line.contains(&format!("{name}-0"));
    assert!(
        said.iter()
            .find(is_of_it)
            .unwrap()
            .contains("no other broker has room")
    );
    let said = server.refuses(&["cluster", "quorum", "--remove", "77"]);
    assert_eq!(said, ["controller 77 has no vote"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_kafka_reassign_partitions_is_read() {
    let server = Server::start().await;
    let name = fresh("planned");
    server.creates(&name, &["--partitions", "2"]).await;
    let broker = &server.json(&["cluster", "describe"])["nodes"][0]["id"];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    let plan = |partition: i32, broker: &str| {
        let row = format!(
            r#"{{"topic":"{name}","partition":{partition},"replicas":[{broker}],"log_dirs":["any"]}}"#
        );
        std::fs::write(&file, format!(r#"{{"version":1,"partitions":[{row}]}}"#)).unwrap();
    };
    let command = [
        "cluster",
        "reassign",
        "-f",
        file.to_str().unwrap(),
        "--dry-run",
    ];
    plan(1, &broker.to_string());
    assert_eq!(server.says(&command), "nothing to be moved\n");
    plan(1, "77");
    let moves = server.json(&command);
    assert_eq!(moves["replicas"][0]["to"], serde_json::json!([77]));
    let said = server.refuses(&command[..4]);
    assert!(said[0].contains("INVALID_REPLICA_ASSIGNMENT"), "{said:?}");
    plan(2, "77");
    let said = server.refuses(&command);
    assert_eq!(said, [format!("there is no partition {name}-2")]);
    std::fs::write(&file, "{}").unwrap();
    let said = server.refuses(&command);
    assert!(said[0].contains("is no reassignment of kafka-reassign-partitions"));
    server.stop().await;
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = tidelog("", &["completions", shell]);
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("delete-records"), "{shell}");
    }
    // The shell that is always there takes it; it is too long for an argument.
    let script = tidelog("", &["completions", "bash"]).stdout;
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let output = tidelog("", &["man", pages.to_str().unwrap()]);
    assert!(output.status.success());
    let page = std::fs::read_to_string(pages.join("tidelog-topic-create.1")).unwrap();
    assert!(page.contains("replication"), "{page}");
    assert!(pages.join("tidelog.1").exists());

    let file = pages.join("tidelog.1");
    let output = tidelog("", &["man", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
}
