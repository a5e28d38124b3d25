//! `docs/guides/cli.md` shows what the commands print. `TIDELOG_BLESS=1` writes it anew.
//!
//! Blocks of `console` are run from the first to the last, by a shell, against one broker; what differs each time stands in blocks of
//! `text`. A comment `<!-- records TOPIC PARTITION COUNT -->` writes records, `<!-- run COMMAND -->` runs what nobody is to see, and below
//! `<!-- the figures are others each time -->` only what stands around the figures has to be the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use tidelog_client::{Client, Config};
use tidelog_types::TopicName;

use crate::support::{Server, produce};

/// What stands in the guide for what is new each time.
const ADDRESS: &str = "localhost:9092";
const ID: &str = "q7l9fi65RfGgXpVIYGS_pw";
const TIMESTAMP: &str = "\"timestamp\":1795461148381";
const HOST: &str = "web-1";
/// Where the files of the guide lie, which lie elsewhere in the test.
const FOLDER: &str = "/var/log";

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_shows_what_the_commands_print() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_in(data.path()).await;
    let shell = Shell {
        address: server.address().to_owned(),
        files: tempfile::tempdir().unwrap(),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/cli.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let client = Client::connect(server.address(), Config::default());
    let client = client.await.unwrap();
    let mut written = String::new();
    let mut lines = guide.lines();
    let mut has_figures = false;
    while let Some(line) = lines.next() {
        written.push_str(line);
        written.push('\n');
        if let Some(records) = line.strip_prefix("<!-- records ") {
            let records: Vec<_> = records.split_whitespace().collect();
            let (topic, numbers) = (records[0], [records[1], records[2]]);
            let [partition, count] = numbers.map(|number| number.parse::<u16>().unwrap());
            let topic = TopicName::from(topic);
            produce(&client, &topic, partition.into(), count.into(), 1).await;
        }
        if let Some(command) = line.strip_prefix("<!-- run ") {
            shell.run(command.trim_end_matches(" -->"));
        }
        has_figures |= line == "<!-- the figures are others each time -->";
        if line != "```console" {
            continue;
        }
        let shown: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let mut block = String::new();
        for line in &shown {
            if let Some(command) = line.strip_prefix("$ ") {
                block.push_str(&format!("{line}\n{}", shell.run(command)));
            }
        }
        let shown = shown.join("\n") + "\n";
        let is_same = has_figures && without_figures(&shown) == without_figures(&block);
        written.push_str(if is_same { &shown } else { &block });
        written.push_str("```\n");
        has_figures = false;
    }
    if std::env::var_os("TIDELOG_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let different = guide.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert_eq!(different, None, "TIDELOG_BLESS=1 writes it anew");
    assert_eq!(guide.len(), written.len(), "TIDELOG_BLESS=1 writes it anew");
    server.stop().await;
}

/// The text with a mark for each figure and its unit, and one space where there are several.
fn without_figures(text: &str) -> String {
    let figures = Regex::new(r"[0-9][0-9.,]*( (us|ms|s)\b)?").unwrap();
    let spaces = Regex::new(" +").unwrap();
    let text = figures.replace_all(text, "#");
    spaces.replace_all(&text, " ").into_owned()
}

/// Where commands are run.
struct Shell {
    address: String,
    files: tempfile::TempDir,
}

impl Shell {
    /// What a command prints, with the same ids, times, names and addresses each time.
    fn run(&self, command: &str) -> String {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_tidelog"));
        let files = self.files.path().to_str().unwrap();
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("{{ {}; }} 2>&1", command.replace(FOLDER, files)))
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", binary.parent().unwrap().display()),
            )
            .env("TIDELOG_BOOTSTRAP_SERVER", &self.address)
            .env("XDG_STATE_HOME", files)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let said = said.replace(&self.address, ADDRESS).replace(files, FOLDER);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let said = said.replace(&format!("{}:/", host.trim()), &format!("{HOST}:/"));
        let said = said.replace(&format!("host={}", host.trim()), &format!("host={HOST}"));
        let times = Regex::new(r#""timestamp":[0-9]{13}"#).unwrap();
        let said = times.replace_all(&said, TIMESTAMP);
        let ids = Regex::new(r"\bid [A-Za-z0-9_-]{22}").unwrap();
        ids.replace_all(&said, format!("id {ID}")).into_owned()
    }
}
