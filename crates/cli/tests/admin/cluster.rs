//! `tidelog cluster`, and the commands that need no cluster.

use std::process::Command;

use crate::support::{Server, tidelog};

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

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = tidelog("", &["completions", shell]);
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("delete-records"), "{shell}");
    }
    // The shell that is always there takes it.
    let script = tidelog("", &["completions", "bash"]).stdout;
    let script = String::from_utf8(script).unwrap();
    let checked = Command::new("bash").args(["-n", "-c", &script]).status();
    assert!(checked.unwrap().success());
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
