//! Stories of machines, told in text: commands, and what they must lead to.
//!
//! A line is a command, `new` the one that begins. Behind `---` stands what it led to, up to a line that begins with `=`. Blank
//! lines and remarks stay. `TIDELOG_BLESS=1` writes what is so.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use tidelog_types::{ErrorCode, Now};

/// A machine that stories are told of.
pub(crate) trait Story {
    /// The machine that a line with `new` describes.
    fn new(line: &str) -> Self;

    /// Does what a line says; gives what came of it, with a last line that begins with `=`.
    fn step(&mut self, line: &str) -> String;
}

/// What stands behind `name=`.
pub(crate) fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = line.split_whitespace();
    fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

/// The number behind `name=`.
pub(crate) fn number(line: &str, name: &str) -> Option<i64> {
    word(line, name).map(|value| value.parse().expect("a number"))
}

/// The error of this name.
pub(crate) fn code(name: &str) -> ErrorCode {
    let mut all = ErrorCode::ALL.iter().copied();
    all.find(|code| code.name() == Some(name))
        .unwrap_or_else(|| panic!("no error is called {name}"))
}

/// When a machine wants to be woken, counted from the beginning of the story.
pub(crate) fn due(deadline: Option<Instant>, start: Now) -> String {
    let ms = deadline.map(|at| at.saturating_duration_since(start.instant).as_millis());
    ms.map_or_else(
        || "nothing is due".to_owned(),
        |ms| format!("due at {ms} ms"),
    )
}

/// The story as it goes now.
fn told<S: Story>(text: &str) -> String {
    let mut out = String::new();
    let mut story = None;
    let mut is_effect = false;
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            is_effect = false;
            writeln!(out, "{line}").expect("a string takes everything");
        } else if line == "---" {
            is_effect = true;
        } else if line.starts_with('=') {
            is_effect = false;
        } else if !is_effect {
            writeln!(out, "{line}").expect("likewise");
            if line.starts_with("new") {
                story = Some(S::new(line));
                continue;
            }
            let story: &mut S = story.as_mut().expect("a story begins with new");
            write!(out, "---\n{}", story.step(line)).expect("likewise");
        }
    }
    out
}

/// Tells the stories in a folder of `testdata`, of which there are at least so many.
pub(crate) fn go_as_they_are_told<S: Story>(folder: &str, at_least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(folder);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(&path).unwrap();
        let told = told::<S>(&expected);
        if std::env::var_os("TIDELOG_BLESS").is_some() {
            std::fs::write(&path, told).unwrap();
        } else {
            assert_eq!(told, expected, "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= at_least, "the stories were found");
}
