//! Every example runs to its end and prints what it promises.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn write_ahead_log() {
    assert_eq!(
        run("write_ahead_log"),
        "4 records in the log\nada: 70\nbank: -100\ngrace: 30\n"
    );
}

#[test]
fn event_store() {
    let printed = run("event_store");
    let lines: Vec<_> = printed.lines().collect();
    let expected = [
        "96 events are durable",
        "orders: order-0, order-1, order-2",
        "since hour 40: from offset 80",
        "the newest event is at offset 94",
        "order-1 was returned",
        "2 segments deleted, the store begins at offset 40",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn embedded_broker() {
    let printed = run("embedded_broker");
    let lines: Vec<_> = printed.lines().skip(1).collect();
    let expected = [
        "produced from offset 0 on",
        "offset 0: good morning",
        "offset 1: good night",
    ];
    assert_eq!(lines, expected, "{printed}");
}

#[test]
fn order_service_tests() {
    let expected = [
        "kill: the power failed 3 times, 30 orders have 30 invoices",
        "duplicate: the answer was lost, the order is there once",
        "rebalance: after 45 s of the broker's time the other has both partitions",
        "poison: two orders have invoices, one record was put aside",
    ];
    let printed = run("order_service_tests");
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn test_broker() {
    // Without input it ends at once.
    assert!(run("test_broker").starts_with("listening localhost:"));
}

#[test]
fn embed() {
    let printed = run("embed");
    let lines: Vec<_> = printed.lines().collect();
    let expected = [
        "flushed to the disk at offset 0",
        "read back: two apples",
        "1 record, 0 connections",
        "a client has produced to offset 0",
        "nodes [1, 2] go on",
        "node 3 is back and knows [\"payments\"]",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn web_service() {
    let expected = [
        "posted: offsets 0 and 1",
        r#"ada reads from the beginning: ["0 hello", "1 is anybody there?"]"#,
        r#"grace waits, and hears at once: "2 yes, I am""#,
        r#"ada comes back after offset 1: ["2 yes, I am", "3 so am I"]"#,
        "stopped, and nobody waits any more",
    ];
    let printed = run("web_service");
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn log_aggregation() {
    let expected = [
        "db: followed from before its file was there",
        "stopped in the middle",
        "meanwhile web.log was rotated twice and db.log once",
        "web: 2005 lines, each once and in order",
        "db: 20 lines, each once and in order",
    ];
    let printed = run("log_aggregation");
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn work_queue() {
    let expected = [
        "12 jobs for 3 workers",
        "one was killed in the middle of a job",
        "its job was taken over",
        "11 jobs are done, one of them at the second attempt",
        "put aside after 3 attempts: poison: this is no job at all",
    ];
    let printed = run("work_queue");
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn windowed_count() {
    let printed = run("windowed_count");
    let lines: Vec<_> = printed.lines().collect();
    let expected = [
        "stopped after three minutes were counted, or more",
        r#"minute 0: {"/": 118, "/cart": 90, "/help": 118}"#,
        r#"minute 1: {"/": 99, "/cart": 99, "/help": 100}"#,
        r#"minute 2: {"/": 96, "/cart": 97, "/help": 105}"#,
        "10 minutes, 2995 views, 5 that came too late: exact",
    ];
    assert_eq!(lines, expected);
}

/// What the example prints. Cargo builds the examples of a package before its tests, next to them.
fn run(name: &str) -> String {
    let mut path = PathBuf::from(std::env::current_exe().unwrap().parent().unwrap());
    path.set_file_name("examples");
    let output = Command::new(path.join(name)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
