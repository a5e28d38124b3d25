//! Scenarios: files of commands and what came of them.
//!
//! A scenario is a list of paragraphs. A paragraph is a command line, `---`, and what the command printed; lines that
//! begin with `#` tell the story. With `TIDELOG_BLESS=1` the files are written anew with what came out.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// A command line: a name and `key=value` pairs.
pub(crate) struct Command<'a> {
    pub(crate) name: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a command has a name");
        let pairs = words
            .map(|word| word.split_once('=').expect("key=value"))
            .collect();
        Self { name, pairs }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| *value)
    }

    pub(crate) fn maybe<T: FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> Option<T> {
        self.text(key).map(|value| {
            value
                .parse()
                .unwrap_or_else(|error| panic!("{}: {key}={value}: {error:?}", self.name))
        })
    }

    pub(crate) fn value<T: FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> T {
        self.maybe(key)
            .unwrap_or_else(|| panic!("{} needs {key}=", self.name))
    }

    pub(crate) fn list<T: FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> Vec<T> {
        let text = self.text(key).unwrap_or_default();
        text.split(',')
            .filter(|item| !item.is_empty())
            .map(|item| item.parse().expect("a number"))
            .collect()
    }
}

/// Runs every scenario of `testdata/<folder>`, each with a world of its own.
pub(crate) fn run<W>(
    folder: &str,
    new: impl Fn() -> W,
    step: impl Fn(&mut W, &Command<'_>) -> String,
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(folder);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("scenarios")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scenarios in {}", folder.display());
    for path in paths {
        let expected = fs::read_to_string(&path).expect("a scenario");
        let mut world = new();
        let actual = play(&expected, |command| step(&mut world, command));
        if std::env::var_os("TIDELOG_BLESS").is_some() {
            fs::write(&path, actual).expect("the scenario can be written");
        } else {
            assert!(
                actual == expected,
                "{} came out otherwise:\n{actual}",
                path.display()
            );
        }
    }
}

fn play(scenario: &str, mut step: impl FnMut(&Command<'_>) -> String) -> String {
    let mut actual = String::new();
    for paragraph in scenario.trim_end().split("\n\n") {
        for line in paragraph.lines().take_while(|line| *line != "---") {
            actual.push_str(line);
            actual.push('\n');
            if !line.starts_with('#') {
                let output = step(&Command::parse(line));
                write!(actual, "---\n{output}").expect("writing to a string");
            }
        }
        actual.push('\n');
    }
    actual.truncate(actual.trim_end().len());
    actual.push('\n');
    actual
}
