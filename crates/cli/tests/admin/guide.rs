//! `docs/guides/cli.md` shows what the commands print. `TIDELOG_BLESS=1` writes it anew.
//!
//! Blocks of `console` are run from the first to the last, against one broker; what differs each time stands in blocks of
//! `text`. A comment `<!-- records TOPIC PARTITION COUNT -->` writes records.

use std::path::Path;

use tidelog_client::{Client, Config};
use tidelog_types::TopicName;

use crate::support::{Server, produce, tidelog};

/// What stands in the guide for what is new each time.
const ADDRESS: &str = "localhost:9092";
const ID: &str = "q7l9fi65RfGgXpVIYGS_pw";

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_shows_what_the_commands_print() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_in(data.path()).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/cli.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let client = Client::connect(server.address(), Config::default());
    let client = client.await.unwrap();
    let mut written = String::new();
    let mut lines = guide.lines();
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
        if line != "```console" {
            continue;
        }
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let Some(command) = line.strip_prefix("$ tidelog ") else {
                continue;
            };
            written.push_str(&format!("{line}\n{}", run(&server, command)));
        }
        written.push_str("```\n");
    }
    if std::env::var_os("TIDELOG_BLESS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let different = guide.lines().zip(written.lines()).find(|(a, b)| a != b);
    assert_eq!(different, None, "TIDELOG_BLESS=1 writes it anew");
    assert_eq!(guide.len(), written.len(), "TIDELOG_BLESS=1 writes it anew");
    server.stop().await;
}

/// What a command prints, with the same ids and addresses each time.
fn run(server: &Server, command: &str) -> String {
    let arguments: Vec<_> = command.split_whitespace().collect();
    let output = tidelog(server.address(), &arguments);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    let mut said = said.replace(server.address(), ADDRESS);
    for (at, head) in said.clone().match_indices("id ") {
        let id = at + head.len()..at + head.len() + ID.len();
        let is_id = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if said
            .get(id.clone())
            .is_some_and(|text| text.chars().all(is_id))
        {
            said.replace_range(id, ID);
        }
    }
    said
}
