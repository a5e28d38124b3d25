//! `tidelog log` on directories that Apache Kafka 4.3.1 has left.

#[path = "../../log/tests/support/fixture.rs"]
mod fixture;

use std::path::Path;
use std::process::Command;

use fixture::unpack;
use serde_json::Value;
use tempfile::TempDir;

fn directory(which: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    unpack(which, |path, content| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    });
    dir
}

/// Exit code and standard output of `tidelog log` with these arguments, run in a folder.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_tidelog"))
        .arg("log")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    (done.status.code().unwrap(), out)
}

#[test]
fn verify_tells_by_its_exit_code() {
    let dir = directory("clean");
    let (code, out) = run(dir.path(), &["verify", "--records", "."]);
    assert_eq!(code, 0, "{out}");
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("partitions: 31 segments: 33"), "{last}");
    let log = dir.path().join("codec-zstd-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let (code, out) = run(dir.path(), &["verify", "--json", "--quiet", "."]);
    assert_eq!(code, 1);
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(first["severity"], "damage");
    assert_eq!(first["path"], "codec-zstd-0/00000000000000000000.log");
    assert_eq!(first["position"], 0);
    assert_eq!(run(dir.path(), &["verify", "absent"]).0, 2);
}

/// Every record of the topics that Kafka keeps for itself is understood.
#[test]
fn dump_decodes_kafkas_own_records() {
    for which in ["clean", "killed"] {
        let dir = directory(which);
        let folders = [
            "__cluster_metadata-0",
            "__consumer_offsets-0",
            "__consumer_offsets-1",
        ];
        let others = [
            "__transaction_state-0",
            "__share_group_state-1",
            "bootstrap.checkpoint",
        ];
        let arguments = ["dump", "--records", "--json"];
        let arguments: Vec<_> = arguments.into_iter().chain(folders).chain(others).collect();
        let (code, out) = run(dir.path(), &arguments);
        assert_eq!(code, 0);
        let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        let records = lines.iter().filter_map(|line| line["records"].as_array());
        let records: Vec<&Value> = records.flatten().collect();
        assert!(records.len() > 300, "{}", records.len());
        for record in &records {
            assert!(record["value"]["undecoded"].is_null(), "{record}");
            let is_raw = record["value"].is_string() || record["key"].is_string();
            assert!(!is_raw, "{record}");
        }
        let find = |wanted: &str| {
            records
                .iter()
                .find(|record| record["value"]["type"] == wanted)
        };
        assert_eq!(find("TopicRecord").unwrap()["value"]["version"], 0);
        assert!(find("PartitionRecord").unwrap()["value"]["data"]["leader"].is_i64());
        let open = records
            .iter()
            .rfind(|r| r["key"]["data"]["transactionalId"] == "tx-open");
        if let Some(open) = open {
            assert_eq!(
                open["value"]["data"]["transactionStatus"], 1,
                "it is ongoing"
            );
        }
    }
}

#[test]
fn dump_shows_every_kind_of_file() {
    let dir = directory("clean");
    let (code, out) = run(
        dir.path(),
        &["dump", "--records", "txn-0", "meta.properties"],
    );
    assert_eq!(code, 0);
    for line in [
        "txn-0/00000000000000000000.log (batches)",
        "| offset: 5 timestamp: 1795386376985 control: Commit value: {\"coordinatorEpoch\":0}",
        "| offset: 20 timestamp: 1700000000000 key: k0 value: reef moon headers: [[\"trace\",\"0\"],[\"empty\",null]]",
        "timestamp: 1795386377710 offset: 19",
        "producerId: 4 firstOffset: 14 lastOffset: 15 lastStableOffset: 16",
        "epoch: 0 startOffset: 0",
        "topicId: 3WtX8vhARQyp24yYbY89Dw",
        "clusterId: dGlkZWxvZy1maXh0dXJlMQ nodeId: 1 directoryId: 6vs2e6t7Q1axMtaBRNKoDg",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}\n{out}");
    }
    let open = "producerId: 5 producerEpoch: 0 coordinatorEpoch: -1";
    assert!(
        out.lines()
            .any(|line| line.starts_with(open) && line.contains("currentTxnFirstOffset: 16"))
    );
    // What is damaged is shown as far as it goes, and told by the exit code.
    let log = dir.path().join("txn-0/00000000000000000000.log");
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let (code, out) = run(dir.path(), &["dump", "txn-0/00000000000000000000.log"]);
    assert_eq!(code, 1);
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("position: 892 damage: "), "{last}");
}
