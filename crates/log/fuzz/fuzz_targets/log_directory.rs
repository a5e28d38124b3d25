//! Damage anywhere in the folder of a partition. After a crash the log holds everything that lies before the first byte of a
//! segment that was changed, and it opens again as it was.

#![no_main]

mod common;

use std::path::PathBuf;

use common::{CRASHED, WHOLE, ask, contents, directory, open};
use tidelog_log::testing::FaultDir;
use tidelog_log::verify::{Depth, verify};
use tidelog_log::{Dir, Start};
use tidelog_types::Offset;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = directory();
    let files = dir.files();
    let mut intact = WHOLE.len();
    for change in bytes.as_chunks::<5>().0.iter().take(8) {
        let path = &files[usize::from(change[0]) % files.len()];
        let at = u16::from_be_bytes([change[2], change[3]]);
        if let Some(from) = damage(&dir, path, change[1], usize::from(at), change[4])
            && path.extension().is_some_and(|e| e == "log")
        {
            intact = intact.min(batches_before(path, from));
        }
    }
    let _ = verify(&dir, &Depth { records: true }, &mut |_| {});
    let starts = [
        CRASHED,
        Start {
            recovery_point: Offset::new(40),
            ..CRASHED
        },
    ];
    for start in starts {
        let dir = copy(&dir);
        let Some((mut log, _)) = open(&dir, start) else {
            continue;
        };
        if start == CRASHED {
            let found = contents(&log);
            assert!(found.len() >= intact, "{} of {intact} batches", found.len());
            assert_eq!(found[..intact], WHOLE[..intact]);
        }
        ask(&mut log);
        let before = contents(&log);
        let end = log.log_end_offset();
        if log.close().is_ok() && start == CRASHED {
            let (log, _) = open(&dir, common::closed(end)).expect("it was closed right now");
            assert_eq!(contents(&log), before);
        }
    }
});

/// Changes a file in one way or another; gives the first byte that is not as it was.
fn damage(dir: &FaultDir, path: &PathBuf, how: u8, at: usize, value: u8) -> Option<usize> {
    let mut content = dir.content(path)?;
    let at = at % (content.len() + 1);
    match how % 4 {
        0 => *content.get_mut(at)? ^= value.max(1),
        1 => content.truncate(at),
        2 => content.insert(at, value),
        _ => {
            dir.remove_file(path).ok()?;
            return Some(0);
        }
    }
    dir.put(path, &content);
    Some(at)
}

/// How many batches of the whole log lie before that byte of that segment.
fn batches_before(segment: &PathBuf, from: usize) -> usize {
    let name = segment.file_stem().and_then(|name| name.to_str()).unwrap();
    let base = Offset::new(name.parse().unwrap());
    let before = WHOLE
        .iter()
        .filter(|batch| batch.header().base_offset < base);
    let mut position = 0;
    let inside = WHOLE
        .iter()
        .filter(|batch| batch.header().base_offset >= base)
        .take_while(|batch| {
            position += batch.size();
            position <= from
        });
    before.count() + inside.count()
}

fn copy(dir: &FaultDir) -> FaultDir {
    let copy = FaultDir::new();
    for path in dir.files() {
        copy.put(&path, &dir.content(&path).unwrap());
    }
    copy
}
