//! What `verify` finds in directories of Kafka's, whole and damaged.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::path::Path;

use fixture::unpack;
use support::*;
use tidelog_log::testing::FaultDir;
use tidelog_log::verify::{Depth, Severity, verify};
use tidelog_log::{Dir, Start};

fn load(which: &str) -> FaultDir {
    load_some(which, |_| true)
}

/// The files that concern the whole directory, and some folders.
fn load_some(which: &str, is_wanted: impl Fn(&Path) -> bool) -> FaultDir {
    let dir = FaultDir::new();
    unpack(which, |path, content| {
        let folder = path.parent().unwrap();
        if folder.as_os_str().is_empty() || is_wanted(folder) {
            dir.put(path, content);
        }
    });
    dir
}

/// The findings of a severity, one a line.
fn findings(dir: &FaultDir, severity: Severity) -> Vec<String> {
    let mut found = Vec::new();
    let files = dir.files();
    let contents: Vec<_> = files.iter().map(|file| dir.content(file)).collect();
    let depth = Depth { records: true };
    let summary = verify(dir, &depth, &mut |finding| {
        if finding.severity == severity {
            found.push(finding.to_string());
        }
    })
    .unwrap();
    let count = match severity {
        Severity::Note => summary.notes,
        Severity::Damage => summary.damages,
    };
    assert_eq!(count, found.len());
    assert_eq!(dir.files(), files, "nothing is written");
    let after: Vec<_> = files.iter().map(|file| dir.content(file)).collect();
    assert_eq!(after, contents, "nothing is changed");
    found
}

#[test]
fn kafkas_directories_are_sound() {
    let clean = load("clean");
    assert_eq!(findings(&clean, Severity::Damage), [""; 0]);
    let notes = findings(&clean, Severity::Note);
    let deleted = "note: codec-none-0/00000000000000000000.log.deleted: it is deleted, and waits for being removed";
    assert!(notes.iter().any(|note| note == deleted), "{notes:#?}");
    let killed = load("killed");
    assert_eq!(findings(&killed, Severity::Damage), [""; 0]);
    let notes = findings(&killed, Severity::Note);
    assert!(
        notes[0].contains("it was not closed in order"),
        "{notes:#?}"
    );
    // Indexes in use are as large as they were allocated when it was killed; of an empty segment there is none.
    let missing = notes.iter().filter(|note| note.contains("it is missing"));
    assert_eq!(missing.count(), 2, "{notes:#?}");
    let summary = verify(&killed, &Depth::default(), &mut |_| {}).unwrap();
    assert_eq!((summary.partitions, summary.segments), (31, 33));
    assert!(summary.batches > 400, "{summary:?}");
}

/// Changes a file of the directory that Kafka closed, and gives what is found to be wrong.
fn after(path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let dir = load_some("clean", |folder| Path::new(path).parent() == Some(folder));
    let mut content = dir.content(path).unwrap_or_default();
    change(&mut content);
    dir.put(path, &content);
    findings(&dir, Severity::Damage)
}

const TXN: &str = "txn-0/00000000000000000000";

#[test]
fn damage_is_found_where_it_is() {
    let log = |change: fn(&mut Vec<u8>)| after(&format!("{TXN}.log"), change);
    assert!(log(|bytes| bytes[70] ^= 1)[0].contains(
        "txn-0/00000000000000000000.log at position 0: the batch of offset 0 is damaged"
    ));
    let found = log(|bytes| bytes.truncate(bytes.len() - 5));
    assert!(found[0].contains("would be cut off"), "{found:?}");
    let found = log(|bytes| bytes.clear());
    assert!(
        found
            .iter()
            .any(|line| line.contains("the recovery point is 23, but the log ends at 0")),
        "{found:?}"
    );
    // The leader epoch lies outside of the checksum's reach.
    let found = log(|bytes| bytes[15] = 9);
    assert!(
        found[0].contains("has leader epoch 9, but the checkpoint says 0"),
        "{found:?}"
    );
    let found = after("segmented-0/00000000000000000000.index", |bytes| {
        bytes[3] ^= 1
    });
    assert!(found[0].contains("the entry 0 has offset"), "{found:?}");
    let found = after("segmented-0/00000000000000000000.timeindex", |bytes| {
        bytes[7] ^= 1
    });
    assert!(found[0].contains("the entry 0 has timestamp"), "{found:?}");
    let found = after("segmented-0/00000000000000000000.timeindex", |bytes| {
        bytes.push(1)
    });
    assert!(
        found[0].contains("ends with 1 bytes of an entry"),
        "{found:?}"
    );
    let found = after(&format!("{TXN}.txnindex"), |bytes| bytes.truncate(34));
    assert!(
        found[0].contains("producer 4 that was aborted at offset 15 is not in it"),
        "{found:?}"
    );
    let found = after("txn-0/00000000000000000023.snapshot", |bytes| {
        bytes[20] ^= 1
    });
    assert!(found[0].contains("the CRC is"), "{found:?}");
    let found = after("txn-0/leader-epoch-checkpoint", |bytes| {
        *bytes = b"0\n1\nx\n".to_vec()
    });
    assert!(
        found[0].contains("line 3: expected `epoch offset`"),
        "{found:?}"
    );
    let found = after("meta.properties", |bytes| bytes.clear());
    assert!(found[0].contains("version is missing"), "{found:?}");
    let found = after("__cluster_metadata-0/quorum-state", |bytes| bytes.clear());
    assert!(found[0].contains("data_version is missing"), "{found:?}");
    let snapshot = "__cluster_metadata-0/00000000000000000291-0000000001.checkpoint";
    let found = after(snapshot, |bytes| bytes.truncate(bytes.len() - 75));
    assert!(found[0].contains("the footer is missing"), "{found:?}");
    let found = after("recovery-point-offset-checkpoint", |bytes| {
        bytes.truncate(9)
    });
    assert!(found[0].contains("promises 30 entries"), "{found:?}");
}

/// A state of a producer that no batch has led to.
#[test]
fn a_snapshot_that_contradicts_the_batches_is_found() {
    let dir = load_some("clean", |folder| folder.ends_with("idempotent-0"));
    // As if the last batches had never been there; everything else is right without them.
    let log = dir
        .content("idempotent-0/00000000000000000000.log")
        .unwrap();
    let half: Vec<u8> = log[..log.len() / 2].to_vec();
    for name in ["index", "timeindex"] {
        let _ = dir.remove_file(format!("idempotent-0/00000000000000000000.{name}").as_ref());
    }
    dir.put("idempotent-0/00000000000000000000.log", &half);
    let found = findings(&dir, Severity::Damage);
    assert!(
        found.iter().any(|line| line
            .contains("00000000000000000150.snapshot: it is for an offset beyond the end")),
        "{found:#?}"
    );
}

#[test]
fn what_a_broker_puts_right_is_only_noted() {
    let dir = load_some("killed", |folder| folder.ends_with("partitions-3"));
    let log = "partitions-3/00000000000000000000.log";
    let mut bytes = dir.content(log).unwrap();
    bytes.extend_from_slice(&[7; 100]);
    dir.put(log, &bytes);
    dir.put("partitions-3/00000000000000000000.log.swap", b"");
    dir.put("partitions-3/notes.txt", b"");
    dir.put("lost+found/x", b"");
    assert_eq!(findings(&dir, Severity::Damage), [""; 0]);
    let notes = findings(&dir, Severity::Note);
    for expected in [
        "100 bytes, would be cut off",
        "log.swap: compaction did not put it in its place",
        "notes.txt: it is no file of a partition",
        "lost+found: it is no folder of a partition",
    ] {
        assert!(
            notes.iter().any(|note| note.contains(expected)),
            "{expected}: {notes:#?}"
        );
    }
}

/// What this crate writes itself has no faults, through rolls, truncation and deletion.
#[test]
fn our_own_logs_are_sound() {
    let dir = FaultDir::new();
    let config = tidelog_log::LogConfig {
        segment_bytes: 500,
        index_interval_bytes: 100,
        ..Default::default()
    };
    let (mut log, _) = open(&dir, &config, Start::NEW);
    for i in 0..40 {
        let batch = idempotent(7, 0, i, 1);
        log.append_as_leader(&batch, epoch(i / 10), millis(0))
            .unwrap();
        flush(&mut log);
    }
    log.truncate_to(offset(33), now()).unwrap();
    log.append_as_leader(&idempotent(8, 0, 0, 3), epoch(5), millis(0))
        .unwrap();
    log.advance_log_start(offset(6)).unwrap();
    log.close().unwrap();
    dir.put(".kafka_cleanshutdown", b"");
    dir.put("recovery-point-offset-checkpoint", b"0\n1\nt 0 36\n");
    assert_eq!(findings(&dir, Severity::Damage), [""; 0]);
    assert_eq!(
        findings(&dir, Severity::Note).len(),
        1,
        "meta.properties is missing"
    );
}
