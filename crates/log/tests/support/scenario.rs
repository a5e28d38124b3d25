//! Scenarios told in text files: a command stands behind `>`, what came of it is indented below.

use std::fmt::Write as _;
use std::path::Path;

/// Plays every file of a folder of `testdata`, each in a world of its own. `TIDELOG_BLESS=1` writes down what comes of the
/// commands now.
pub(crate) fn play_all<W>(
    folder: &str,
    world: impl Fn() -> W,
    step: impl Fn(&mut W, &str) -> String,
) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(folder);
    let mut files: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let told = play(&text, &mut world(), &step);
        if std::env::var_os("TIDELOG_BLESS").is_some() {
            std::fs::write(&file, told).unwrap();
        } else {
            assert_eq!(told, text, "{}", file.display());
        }
    }
}

/// The same text with the results that the commands have now.
fn play<W>(text: &str, world: &mut W, step: &impl Fn(&mut W, &str) -> String) -> String {
    let mut told = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        writeln!(told, "{line}").unwrap();
        if let Some(command) = line.strip_prefix("> ") {
            for line in step(world, command).lines() {
                writeln!(told, "  {line}").unwrap();
            }
        }
    }
    told
}
