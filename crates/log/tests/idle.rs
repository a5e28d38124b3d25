//! What an idle log costs. Alone in its process, since it looks at the memory of all of it.
#![cfg(target_os = "linux")]

mod support;

use std::sync::Arc;

use support::*;
use tidelog_log::testing::FaultDir;
use tidelog_log::{Dir, FsDir, Log, LogConfig, Start};

/// The promise of `docs/performance.md`, of which a broker's partition takes the rest.
#[test]
fn an_idle_log_takes_little_more_than_half_a_kib() {
    const LOGS: usize = 20_000;
    let root = tempfile::tempdir().unwrap();
    let dir: Arc<dyn Dir> = Arc::new(FsDir::new(root.path()));
    let (mut closed, _) = open(&FaultDir::new(), &LogConfig::default(), Start::NEW);
    closed
        .append_as_leader(&batch(&[1], 10), epoch(3), now().timestamp)
        .unwrap();
    let summary = closed.close().unwrap();
    let config = Arc::new(LogConfig::default());
    let before = resident_bytes();
    let logs: Vec<_> = (0..LOGS)
        .map(|i| {
            let mut log = Log::resume(
                dir.clone(),
                format!("some-topic-{i}"),
                config.clone(),
                summary.clone(),
            );
            log.begin_leader_epoch(epoch(9));
            (log.reader(), log)
        })
        .collect();
    let each = (resident_bytes() - before) / LOGS;
    assert!(each <= 640, "{each} bytes for a log");
    assert!(logs.iter().all(|(_, log)| log.is_resting()));
}

/// What the process has in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
