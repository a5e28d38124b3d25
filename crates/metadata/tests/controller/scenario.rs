//! Scenarios: files of commands and what came of them.
//!
//! A scenario is a list of paragraphs. A paragraph is a command line, `---`, and what the command printed; lines that
//! begin with `#` tell the story. With `TIDELOG_BLESS=1` the files are written anew with what came out.

use std::fs;
use std::path::Path;
use std::str::FromStr;

/// A command line: a name, then words and `key=value` pairs.
pub(crate) struct Command<'a> {
    pub(crate) name: &'a str,
    pub(crate) words: Vec<&'a str>,
    pub(crate) pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Self {
        let mut all = line.split_whitespace();
        let name = all.next().expect("a command has a name");
        let (pairs, words): (Vec<_>, Vec<_>) = all.partition(|word| word.contains('='));
        let pairs = pairs
            .into_iter()
            .filter_map(|word| word.split_once('='))
            .collect();
        Self { name, words, pairs }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| *value)
    }

    pub(crate) fn number<T: FromStr<Err: std::fmt::Debug>>(&self, key: &str) -> Option<T> {
        self.text(key).map(|value| value.parse().expect("a number"))
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}

/// Runs every scenario of `testdata/controller`, each with a world of its own.
pub(crate) fn run<W: Default>(step: impl Fn(&mut W, &Command<'_>) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/controller");
    let files = fs::read_dir(&folder).expect("scenarios");
    let mut paths: Vec<_> = files.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scenarios in {}", folder.display());
    for path in paths {
        let expected = fs::read_to_string(&path).expect("a scenario");
        let mut world = W::default();
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
                actual.push_str("---\n");
                actual.push_str(&step(&Command::parse(line)));
            }
        }
        actual.push('\n');
    }
    actual.truncate(actual.trim_end().len());
    actual.push('\n');
    actual
}
