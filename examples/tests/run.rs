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

/// What the example prints. Cargo builds the examples of a package before its tests, next to them.
fn run(name: &str) -> String {
    let mut path = PathBuf::from(std::env::current_exe().unwrap().parent().unwrap());
    path.set_file_name("examples");
    let output = Command::new(path.join(name)).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
