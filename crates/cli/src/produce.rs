//! `tidelog produce`: records into a topic.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tidelog_client::{
    Acks, Client, Codec, Compression, Delivery, HeaderRef, ProduceError, Producer, ProducerConfig,
    ProducerRecord,
};
use tidelog_types::Timestamp;
use tokio::sync::mpsc;

use crate::bytes::from_json;
use crate::connect::Common;
use crate::output::{Format, Outcome, count, pretty};

/// How many records may wait for their outcome.
const UNDER_WAY_MAX: usize = 10_000;
/// How many lines are read ahead.
const LINES_AHEAD: usize = 1_000;
/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The topic.
    topic: String,
    /// Files with a record on each line; - or none for standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What stands between key and value on a line.
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// The key of all records.
    #[arg(long, short, value_name = "TEXT", conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of all records; may be given several times.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Each line is a JSON object with key, value, headers, partition and timestamp, as `consume --json` prints it.
    #[arg(long, conflicts_with_all = ["key_separator", "key"])]
    json_lines: bool,
    /// An empty value is none at all, which deletes the key in a compacted topic; so is an empty key.
    #[arg(long, short = 'Z')]
    null: bool,
    /// The partition [default: by the key, as Java's client chooses].
    #[arg(long, short, value_name = "N")]
    partition: Option<i32>,
    /// How to compress: none, gzip, snappy, lz4 or zstd, with a level as in gzip:9.
    #[arg(long, short = 'z', value_name = "CODEC", value_parser = compression, default_value = "none")]
    compression: Compression,
    /// Who has to have a record before it counts: 0, 1 or all.
    #[arg(long, value_name = "ACKS", value_parser = acks, default_value = "all")]
    acks: Acks,
    /// So many records a second at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments
        .common
        .run(async |client, format| arguments.produce(client, format).await)
}

pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn compression(text: &str) -> Result<Compression, String> {
    let (name, level) = text
        .split_once(':')
        .map_or((text, None), |(name, level)| (name, Some(level)));
    let codec = Codec::from_name(name).ok_or("there are none, gzip, snappy, lz4 and zstd")?;
    match level {
        None => Ok(codec.into()),
        Some(level) => {
            let level = level
                .parse()
                .map_err(|_| format!("{level:?} is no level"))?;
            Compression::with_level(codec, level).map_err(|error| error.to_string())
        }
    }
}

pub(crate) fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("there are 0, 1 and all".into()),
    }
}

/// What a line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

/// What has become of the records.
struct Progress {
    topic: String,
    under_way: VecDeque<Delivery>,
    delivered: u64,
    first_error: Option<ProduceError>,
    failed: u64,
    is_shown: bool,
    shown_at: Instant,
}

impl Progress {
    fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            under_way: VecDeque::new(),
            delivered: 0,
            first_error: None,
            failed: 0,
            is_shown: io::stderr().is_terminal(),
            shown_at: Instant::now(),
        }
    }

    /// Waits until no more than so many records are under way.
    async fn settle(&mut self, left: usize) {
        while self.under_way.len() > left {
            let Some(delivery) = self.under_way.pop_front() else {
                return;
            };
            match delivery.await {
                Ok(_) => self.delivered += 1,
                Err(error) => {
                    self.failed += 1;
                    self.first_error.get_or_insert(error);
                }
            }
        }
        self.show();
    }

    /// How far it is, for people who wait.
    fn show(&mut self) {
        if self.is_shown && self.shown_at.elapsed() >= PROGRESS {
            self.shown_at = Instant::now();
            let records = count(self.delivered as usize, "record");
            // Who cannot see it misses nothing.
            let _ = write!(io::stderr(), "\r{records} into {}\x1b[K", self.topic);
        }
    }

    fn end(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Arguments {
    async fn produce(&self, client: &Client, format: Format) -> Result<Outcome, Box<dyn Error>> {
        let mut config = ProducerConfig::default();
        config.acks = self.acks;
        config.idempotent = self.acks == Acks::All;
        config.compression = self.compression;
        let producer = Producer::new(client, config)?;
        // A wrong name is told before anything is read.
        producer.prepare(&self.topic).await?;
        let mut progress = Progress::new(&self.topic);
        let done = self.send_all(&producer, &mut progress).await;
        progress.settle(0).await;
        progress.end();
        producer.close().await;
        done?;
        if let Some(error) = progress.first_error {
            let failed = count(progress.failed as usize, "record");
            let delivered = progress.delivered;
            return Err(format!("{error}; {failed} not delivered, {delivered} delivered").into());
        }
        let said = match format {
            Format::Text => {
                let records = count(progress.delivered as usize, "record");
                format!("produced: {records} into {}", self.topic)
            }
            Format::Json => pretty(&json!({
                "topic": self.topic,
                "produced": progress.delivered,
            })),
        };
        Ok(Outcome::from(said))
    }

    async fn send_all(
        &self,
        producer: &Producer,
        progress: &mut Progress,
    ) -> Result<(), Box<dyn Error>> {
        let mut lines = self.lines();
        let started = Instant::now();
        let mut sent = 0_u32;
        while let Some(line) = lines.recv().await {
            let line = line?;
            if let Some(rate) = self.rate {
                let due = Duration::from_secs(1) * sent / rate;
                tokio::time::sleep_until((started + due).into()).await;
            }
            let delivery = self.send(producer, &line).await?;
            sent = sent.saturating_add(1);
            progress.under_way.push_back(delivery);
            progress.settle(UNDER_WAY_MAX).await;
            if progress.first_error.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send(&self, producer: &Producer, line: &Line) -> Result<Delivery, ProduceError> {
        let mut record = ProducerRecord::to(&self.topic);
        record.key = line.key.as_deref();
        record.value = line.value.as_deref();
        record.partition = line.partition.or(self.partition);
        record.timestamp = line.timestamp.map(Timestamp::from_millis);
        let own = line.headers.iter();
        let own = own.map(|(name, value)| HeaderRef {
            key: name,
            value: value.as_deref(),
        });
        let all = self.header.iter().map(|(name, value)| HeaderRef {
            key: name.as_bytes(),
            value: Some(value.as_bytes()),
        });
        record.headers = own.chain(all).collect();
        producer.send(record).await
    }

    /// The records of the files, which a thread of its own reads: reading a terminal takes as long as it takes.
    fn lines(&self) -> mpsc::Receiver<Result<Line, String>> {
        let (sender, receiver) = mpsc::channel(LINES_AHEAD);
        let mut files = self.files.clone();
        if files.is_empty() {
            files.push("-".into());
        }
        let parser = Parser {
            key: self.key.clone(),
            key_separator: self.key_separator.clone(),
            is_json: self.json_lines,
            is_null: self.null,
        };
        std::thread::spawn(move || {
            for file in &files {
                if !parser.read(file, &sender) {
                    return;
                }
            }
        });
        receiver
    }
}

/// How lines become records.
struct Parser {
    key: Option<String>,
    key_separator: Option<String>,
    is_json: bool,
    is_null: bool,
}

impl Parser {
    /// Reads a file to its end; false if there is no sense in going on.
    fn read(&self, file: &PathBuf, sender: &mpsc::Sender<Result<Line, String>>) -> bool {
        let name = file.display();
        let mut input: Box<dyn BufRead> = match file.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => match File::open(file) {
                Ok(file) => Box::new(BufReader::new(file)),
                Err(error) => {
                    // Nobody to tell is nobody to go on for.
                    let _ = sender.blocking_send(Err(format!("cannot read {name}: {error}")));
                    return false;
                }
            },
        };
        let mut text = Vec::new();
        for number in 1_u64.. {
            text.clear();
            let read = input.read_until(b'\n', &mut text);
            let line = match read {
                Ok(0) => return true,
                Ok(_) => {
                    if text.last() == Some(&b'\n') {
                        text.pop();
                    }
                    self.line(&text)
                        .map_err(|why| format!("line {number} of {name}: {why}"))
                }
                Err(error) => Err(format!("cannot read {name}: {error}")),
            };
            let is_wrong = line.is_err();
            if sender.blocking_send(line).is_err() || is_wrong {
                return false;
            }
        }
        true
    }

    fn line(&self, text: &[u8]) -> Result<Line, String> {
        let mut line = match self.is_json {
            true => json_line(text)?,
            false => Line {
                key: self.key.as_ref().map(|key| key.clone().into_bytes()),
                value: Some(text.to_vec()),
                ..Line::default()
            },
        };
        if let Some(separator) = self.key_separator.as_deref().filter(|it| !it.is_empty()) {
            let separator = separator.as_bytes();
            let at = text.windows(separator.len()).position(|it| it == separator);
            let at = at.ok_or("there is no key separator")?;
            line.key = Some(text[..at].to_vec());
            line.value = Some(text[at + separator.len()..].to_vec());
        }
        if self.is_null {
            line.key.take_if(|it| it.is_empty());
            line.value.take_if(|it| it.is_empty());
        }
        Ok(line)
    }
}

fn json_line(text: &[u8]) -> Result<Line, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let object = value.as_object().ok_or("expected an object")?;
    let field = |name: &str| object.get(name).unwrap_or(&Value::Null);
    let number = |name: &str| match field(name) {
        Value::Null => Ok(None),
        value => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("{name} is no number")),
    };
    let headers = match field("headers") {
        Value::Null => Vec::new(),
        Value::Array(pairs) => pairs.iter().map(json_header).collect::<Result<_, _>>()?,
        Value::Object(pairs) => pairs
            .iter()
            .map(|(name, value)| Ok((name.clone().into_bytes(), from_json(value)?)))
            .collect::<Result<_, String>>()?,
        _ => return Err("headers are pairs".into()),
    };
    let partition = number("partition")?.map(i32::try_from).transpose();
    Ok(Line {
        key: from_json(field("key"))?,
        value: from_json(field("value"))?,
        headers,
        partition: partition.map_err(|error| format!("partition: {error}"))?,
        timestamp: number("timestamp")?,
    })
}

fn json_header(pair: &Value) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    match pair.as_array().map(Vec::as_slice) {
        Some([Value::String(name), value]) => Ok((name.clone().into_bytes(), from_json(value)?)),
        _ => Err("a header is a pair of a name and a value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let parser = |separator: Option<&str>, is_json, is_null| Parser {
            key: None,
            key_separator: separator.map(str::to_owned),
            is_json,
            is_null,
        };
        let line = parser(Some("::"), false, true).line(b"k::a::b").unwrap();
        assert_eq!(line.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(line.value.as_deref(), Some(&b"a::b"[..]));
        let line = parser(Some(":"), false, true).line(b"k:").unwrap();
        assert_eq!(line.value, None);
        assert!(parser(Some(":"), false, false).line(b"k").is_err());
        let text = br#"{"key":null,"value":{"hex":"ff"},"headers":[["h","1"]],"partition":2,"timestamp":7}"#;
        let line = parser(None, true, false).line(text).unwrap();
        let expected = Line {
            key: None,
            value: Some(vec![0xff]),
            headers: vec![(b"h".to_vec(), Some(b"1".to_vec()))],
            partition: Some(2),
            timestamp: Some(7),
        };
        assert_eq!(line, expected);
        let error = parser(None, true, false).line(b"[]").unwrap_err();
        assert_eq!(error, "expected an object");
    }
}
