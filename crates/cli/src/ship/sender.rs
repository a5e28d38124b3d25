//! The side that sends what was read, and writes down what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tidelog_client::{
    Client, ClientError, Delivery, HeaderRef, NewTopic, ProduceError, Producer, ProducerRecord,
    RecordMetadata,
};
use tidelog_types::{ErrorCode, TopicName};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Arguments;
use super::reader::{Looked, Reading, Told};
use super::state::State;
use super::tails::{Line, Source, Sources};
use crate::output::{Format, Outcome, count};

/// How often the state is written, if there is something new.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// How long to wait before a topic is asked for again, where nobody answered.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A record that was sent.
struct Sent {
    source: Arc<Source>,
    end: u64,
    bytes: u64,
    delivery: Delivery,
}

pub(super) struct Sender<'a> {
    arguments: &'a Arguments,
    client: &'a Client,
    producer: Producer,
    state: State,
    host: String,
    sources: Sources,
    format: Format,
    /// What cannot be sent just now.
    held: Option<Line>,
    held_until: Option<Instant>,
    topics: BTreeSet<String>,
    /// In the order in which it was read, so that what is acknowledged at the front is all there is in front of it.
    under_way: VecDeque<Sent>,
    records: u64,
    bytes: u64,
    looked: Looked,
    told: BTreeMap<String, String>,
    is_shown: bool,
}

/// Why sending ends.
enum End {
    /// All was read.
    Read,
    /// By a signal.
    Stopped,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        arguments: &'a Arguments,
        client: &'a Client,
        state: State,
        host: String,
        sources: Sources,
        format: Format,
    ) -> Result<Self, ProduceError> {
        Ok(Self {
            arguments,
            client,
            producer: Producer::new(client, arguments.producer())?,
            state,
            host,
            sources,
            format,
            held: None,
            held_until: None,
            topics: BTreeSet::new(),
            under_way: VecDeque::new(),
            records: 0,
            bytes: 0,
            looked: Looked {
                news: Vec::new(),
                troubles: Vec::new(),
                ignored: 0,
                shortened: 0,
                unfinished: 0,
                earlier: Vec::new(),
            },
            told: BTreeMap::new(),
            is_shown: io::stderr().is_terminal(),
        })
    }

    pub(super) async fn run(&mut self, mut reading: Reading) -> Result<Outcome, Box<dyn Error>> {
        let done = match self.send_all(&mut reading).await {
            Ok(end) => {
                if matches!(end, End::Stopped) {
                    reading.told.close();
                }
                drop(reading.stop);
                self.settle().await
            }
            Err(error) => Err(error),
        };
        if self.is_shown {
            // Who cannot see it misses nothing.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let written = self.write();
        done?;
        written?;
        Ok(self.outcome())
    }

    /// Sends until everything is read, or somebody wants an end.
    async fn send_all(&mut self, reading: &mut Reading) -> Result<End, Box<dyn Error>> {
        let mut stop = std::pin::pin!(signal()?);
        let mut writes = interval(WRITE_EVERY);
        let mut shows = interval(SHOW_EVERY);
        let mut tells = interval(self.arguments.status.max(SHOW_EVERY));
        for ticks in [&mut writes, &mut shows, &mut tells] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        tells.tick().await;
        loop {
            let (is_free, held_until) = (self.held.is_none(), self.held_until);
            tokio::select! {
                biased;
                () = &mut stop => return Ok(End::Stopped),
                _ = writes.tick() => self.write()?,
                _ = shows.tick(), if self.is_shown => self.show(),
                _ = tells.tick(), if self.format == Format::Json && !self.arguments.once => {
                    crate::say(&self.status().to_string());
                }
                outcome = first_outcome(&mut self.under_way), if !self.under_way.is_empty() => {
                    self.acknowledged(outcome)?;
                    self.send_held().await?;
                }
                () = sleep_until(held_until.unwrap_or_else(Instant::now)), if held_until.is_some() => {
                    self.held_until = None;
                    self.send_held().await?;
                }
                told = reading.told.recv(), if is_free => match told {
                    Some(Told::Line(line)) => {
                        self.held = Some(line);
                        self.send_held().await?;
                    }
                    Some(Told::Looked(looked)) => self.looked(looked),
                    None => return Ok(End::Read),
                }
            }
        }
    }

    /// Waits for what is under way, as long as something is acknowledged.
    async fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        while !self.under_way.is_empty() {
            let until = Instant::now() + self.arguments.grace;
            tokio::select! {
                outcome = first_outcome(&mut self.under_way) => self.acknowledged(outcome)?,
                () = sleep_until(until) => {
                    let left = count(self.under_way.len(), "record");
                    let grace = self.arguments.grace;
                    return Err(format!("{left} not acknowledged within {grace:?}; the next run ships them").into());
                }
            }
        }
        Ok(())
    }

    fn acknowledged(
        &mut self,
        outcome: Result<RecordMetadata, ProduceError>,
    ) -> Result<(), Box<dyn Error>> {
        let Some(sent) = self.under_way.pop_front() else {
            return Ok(());
        };
        if let Err(error) = outcome {
            let path = sent.source.path.display();
            let text = format!(
                "{path}: what ends at byte {} was not taken: {error}",
                sent.end
            );
            return Err(text.into());
        }
        sent.source.shipped.store(sent.end, Ordering::Relaxed);
        self.records += 1;
        self.bytes += sent.bytes;
        Ok(())
    }

    /// Sends what was held, if there is room and its topic is known.
    async fn send_held(&mut self) -> Result<(), Box<dyn Error>> {
        let Some(line) = self.held.take() else {
            return Ok(());
        };
        if !self.topics.contains(&line.source.topic) && !self.prepare(&line).await? {
            self.held = Some(line);
            self.held_until = Some(Instant::now() + ASK_AGAIN);
            return Ok(());
        }
        match self.send(&line) {
            Ok(delivery) => {
                self.under_way.push_back(Sent {
                    source: line.source,
                    end: line.piece.end,
                    bytes: line.piece.value.len() as u64,
                    delivery,
                });
                Ok(())
            }
            // The next acknowledgement makes room.
            Err(ProduceError::Full) => {
                self.held = Some(line);
                Ok(())
            }
            Err(ProduceError::TopicNotPrepared { .. }) => {
                self.topics.remove(&line.source.topic);
                self.held = Some(line);
                self.held_until = Some(Instant::now());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn send(&self, line: &Line) -> Result<Delivery, ProduceError> {
        let mut record = ProducerRecord::to(&line.source.topic).value(&line.piece.value);
        record.key = line.source.key.as_deref().map(str::as_bytes);
        let path = line.source.path.to_string_lossy();
        let offset = line.piece.start.to_string();
        let origin = [
            ("file", path.as_ref()),
            ("host", &self.host),
            ("offset", &offset),
        ];
        let origin = origin.into_iter().filter(|_| !self.arguments.no_origin);
        let own = self.arguments.header.iter();
        let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
        let headers = origin.chain(own).map(|(name, value)| HeaderRef {
            key: name.as_bytes(),
            value: Some(value.as_bytes()),
        });
        record.headers = headers.collect();
        self.producer.try_send(&record)
    }

    /// Whether the topic of a file is there; false, if nobody can say just now.
    async fn prepare(&mut self, line: &Line) -> Result<bool, Box<dyn Error>> {
        let topic = &line.source.topic;
        let of_file = |error: &dyn Error| format!("{}: {error}", line.source.path.display());
        let created = match self.arguments.create {
            true => self.create(topic).await,
            false => Ok(()),
        };
        let prepared = match created {
            Ok(()) => self.producer.prepare(topic).await,
            Err(error) => Err(ProduceError::Client(Arc::new(error))),
        };
        match prepared {
            Ok(()) => {}
            Err(ProduceError::Client(error)) if error.is_retriable() => {
                crate::complain(&format!("{error}; going on when somebody answers"));
                return Ok(false);
            }
            Err(error) if is_missing(&error) => {
                let hint = "--create lets this command do that";
                return Err(format!("{}; {hint}", of_file(&error)).into());
            }
            Err(error) => return Err(of_file(&error).into()),
        }
        self.topics.insert(topic.clone());
        Ok(true)
    }

    async fn create(&self, topic: &str) -> Result<(), ClientError> {
        let mut new = NewTopic::new(TopicName::from(topic));
        new.partitions = self.arguments.partitions;
        for (_, created) in self.client.create_topics(&[new], false).await? {
            match created {
                Ok(_) => crate::complain(&format!("created: {topic}")),
                Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says what is new.
    fn looked(&mut self, looked: Looked) {
        for text in &looked.news {
            crate::complain(text);
        }
        let troubles: BTreeMap<_, _> = looked.troubles.iter().cloned().collect();
        for (path, why) in &troubles {
            if self.told.get(path) != Some(why) {
                crate::complain(&format!("cannot read {path}: {why}"));
            }
        }
        self.told = troubles;
        self.looked = looked;
    }

    /// Writes down how far it is.
    fn write(&mut self) -> Result<(), String> {
        let sources = self.sources.lock();
        let sources = sources.iter().filter(|source| !source.is_over());
        let mut entries: Vec<_> = sources.map(|source| source.entry()).collect();
        let known: BTreeSet<_> = entries.iter().map(|entry| entry.identity).collect();
        let earlier = self.looked.earlier.iter();
        entries.extend(earlier.filter(|it| !known.contains(&it.identity)).cloned());
        entries.sort_by_key(|entry| entry.identity);
        self.state.write(entries)
    }

    fn files(&self) -> Vec<Arc<Source>> {
        let sources = self.sources.lock();
        let there = sources.iter().filter(|source| !source.is_over());
        there.cloned().collect()
    }

    /// How far it is, for people who wait.
    fn show(&self) {
        let files = self.files();
        let behind: u64 = files.iter().map(|source| source.behind()).sum();
        let (records, files) = (
            count(self.records as usize, "record"),
            count(files.len(), "file"),
        );
        // Who cannot see it misses nothing.
        let _ = write!(
            io::stderr(),
            "\r{records} of {files}, {behind} bytes behind\x1b[K"
        );
    }

    /// The same for programs.
    fn status(&self) -> Value {
        let files = self.files();
        let files = files.iter().map(|source| {
            json!({
                "path": source.path,
                "topic": source.topic,
                "position": source.shipped.load(Ordering::Relaxed),
                "behind": source.behind(),
            })
        });
        let unreadable = self.told.iter();
        let unreadable = unreadable.map(|(path, why)| json!({"path": path, "why": why}));
        json!({
            "records": self.records,
            "bytes": self.bytes,
            "shortened": self.looked.shortened,
            "unfinished": self.looked.unfinished,
            "ignored": self.looked.ignored,
            "unreadable": unreadable.collect::<Vec<_>>(),
            "files": files.collect::<Vec<_>>(),
        })
    }

    fn outcome(&self) -> Outcome {
        let said = match self.format {
            Format::Json => self.status().to_string(),
            Format::Text => {
                let records = count(self.records as usize, "record");
                let mut said = format!(
                    "shipped: {records} of {}",
                    count(self.files().len(), "file")
                );
                for (number, what, how) in [
                    (self.looked.unfinished, "unfinished line", "waiting"),
                    (self.looked.shortened as usize, "line", "too long"),
                    (self.looked.ignored, "compressed file", "passed over"),
                ] {
                    if number > 0 {
                        said += &format!("; {} {how}", count(number, what));
                    }
                }
                said
            }
        };
        // What cannot be read was said when that was found; a program hears of it by the exit code.
        let unread = self.told.keys().map(|path| format!("not shipped: {path}"));
        Outcome::with_complaints(said, unread.collect())
    }
}

/// What becomes of what is longest under way.
async fn first_outcome(under_way: &mut VecDeque<Sent>) -> Result<RecordMetadata, ProduceError> {
    match under_way.front_mut() {
        Some(first) => (&mut first.delivery).await,
        None => std::future::pending().await,
    }
}

/// Whether a topic does not exist.
fn is_missing(error: &ProduceError) -> bool {
    error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// SIGINT or SIGTERM.
fn signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
