//! `tidelog cluster up`, by what is typed and what is printed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

#[test]
fn nodes_are_killed_and_started_from_the_prompt() {
    let data = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidelog"))
        .args([
            "cluster",
            "up",
            "--nodes",
            "3",
            "--base-port",
            "0",
            "--data",
        ])
        .arg(data.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let orders = "kill 2\nstatus\nstart 2\ndance\ncut 1 3\nheal\nstop 9\nquit\n";
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(orders.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{out}{complaints}");
    let mut rest = &*out;
    for expected in [
        "node 1: PLAINTEXT 127.0.0.1:",
        "node-1",
        "point clients at 127.0.0.1:",
        "node 2 is dead",
        "node 2: does not run",
        "2 of 3 run",
        "node 2 runs",
        "nodes 1 and 3 do not hear each other",
        "the network is whole",
        "stopped",
    ] {
        let at = rest.find(expected);
        let at = at.unwrap_or_else(|| panic!("{expected} is missing in {out}{complaints}"));
        rest = &rest[at + expected.len()..];
    }
    assert!(complaints.contains("dance: not understood"), "{complaints}");
    assert!(complaints.contains("there is no node 9"), "{complaints}");
}

/// The cluster is done something to from another process, by its folder.
#[test]
fn nodes_are_killed_and_started_from_another_terminal() {
    let data = tempfile::tempdir().unwrap();
    let up = ["cluster", "up", "--nodes", "2", "--base-port", "0"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidelog"))
        .args(up)
        .arg("--data")
        .arg(data.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let hint = said
        .find(|line| line.as_ref().unwrap().contains("point clients at"))
        .unwrap()
        .unwrap();
    assert!(hint.contains("tidelog cluster ctl --data "), "{hint}");
    let ctl = |order: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidelog"))
            .args(["cluster", "ctl", "--data"])
            .arg(data.path())
            .args(order)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.success(),
            text(output.stdout) + &text(output.stderr),
        )
    };
    assert_eq!(ctl(&["kill", "2"]), (true, "node 2 is dead\n".to_owned()));
    let (_, shown) = ctl(&["status"]);
    assert!(
        shown.contains("node 2: does not run") && shown.contains("1 of 2 run"),
        "{shown}"
    );
    assert_eq!(
        ctl(&["start", "2", "--json"]),
        (true, "{\n  \"said\": \"node 2 runs\"\n}\n".to_owned())
    );
    for (order, complaint) in [
        (&["dance"][..], "dance: not understood"),
        (&["stop", "9"], "there is no node 9"),
        (
            &["status", "--bootstrap-server", "here:1"],
            "need no connection",
        ),
    ] {
        let (succeeded, complaints) = ctl(order);
        assert!(!succeeded && complaints.contains(complaint), "{complaints}");
    }
    assert!(ctl(&["quit"]).0);
    assert!(child.wait().unwrap().success());
    let (succeeded, complaints) = ctl(&["status"]);
    assert!(
        !succeeded && complaints.contains("no `tidelog cluster up` listens in"),
        "{complaints}"
    );
}
