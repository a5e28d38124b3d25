//! Log files into topics, one for each: followed while they grow, through rotation, and with no line lost or doubled when
//! the program that follows them is stopped in the middle.
//!
//! How far a file was read is kept where the lines are: each record carries the place at which its line ends, in the same
//! write. What is in the topic is therefore what was shipped, and whoever starts again looks at the last record. A file is known by
//! its inode, which it keeps when it is renamed.
//!
//! `cargo run -p tidelog-examples --example log_aggregation`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidelog_broker::{Broker, NewRecord, Offset, Topic};
use tokio::task::JoinHandle;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The header in which a record says up to where its file was read.
const PLACE: &str = "place";
/// How many lines one write takes at most.
const LINES_MAX: usize = 500;
/// How often to look whether a file has grown.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Up to where was read.
#[derive(Clone, Copy)]
struct Place {
    inode: u64,
    bytes: u64,
}

/// Follows one log file, and those that it was before it was rotated: `web.log`, `web.log.1` and so on.
struct Shipper {
    path: PathBuf,
    topic: Topic,
    place: Option<Place>,
}

impl Shipper {
    /// Goes on where the last record says.
    async fn resume(path: PathBuf, topic: Topic) -> Outcome<Self> {
        let offsets = topic.offsets(0).await?;
        let mut place = None;
        if offsets.latest > offsets.earliest {
            let last = topic.records(0, offsets.latest + -1).next().await?;
            let text = String::from_utf8_lossy(last.header(PLACE).ok_or("a place")?).into_owned();
            let (inode, bytes) = text.split_once(':').ok_or("inode:bytes")?;
            place = Some(Place {
                inode: inode.parse()?,
                bytes: bytes.parse()?,
            });
        }
        Ok(Self { path, topic, place })
    }

    async fn follow(mut self) -> Outcome<()> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            while self.ship_some().await? {}
            looks.tick().await;
        }
    }

    /// Ships what there is of one file; tells whether there may be more.
    async fn ship_some(&mut self) -> Outcome<bool> {
        let files = self.files()?;
        let known = self
            .place
            .and_then(|place| files.iter().position(|(inode, _)| *inode == place.inode));
        // A file that is gone took with it what was not shipped; the oldest that there is comes next.
        let index = known.unwrap_or(0);
        let Some((inode, file)) = files.get(index) else {
            return Ok(false);
        };
        let start = known.and(self.place).map_or(0, |place| place.bytes);
        let is_rotated = index + 1 < files.len();
        let (lines, end) = read_lines(file, start, is_rotated)?;
        if lines.is_empty() {
            if let (true, Some((next, _))) = (is_rotated, files.get(index + 1)) {
                self.place = Some(Place {
                    inode: *next,
                    bytes: 0,
                });
            }
            return Ok(is_rotated);
        }
        let places: Vec<_> = lines
            .iter()
            .map(|(_, end)| format!("{inode}:{end}"))
            .collect();
        let records = lines.iter().zip(&places);
        let records = records.map(|((line, _), place)| NewRecord::value(line).header(PLACE, place));
        self.topic.produce(0, records).await?;
        self.place = Some(Place {
            inode: *inode,
            bytes: end,
        });
        Ok(true)
    }

    /// The file and its predecessors, oldest first. They are opened newest first: when they are renamed meanwhile, one is seen
    /// twice, but none is missed.
    fn files(&self) -> io::Result<Vec<(u64, File)>> {
        let mut files: Vec<(u64, File)> = Vec::new();
        for generation in 0.. {
            let file = match File::open(rotated(&self.path, generation)) {
                Ok(file) => file,
                // Between a rename and the next line there is no file without a number.
                Err(error) if error.kind() == io::ErrorKind::NotFound && generation == 0 => {
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let inode = file.metadata()?.ino();
            if files.iter().all(|(known, _)| *known != inode) {
                files.push((inode, file));
            }
        }
        files.reverse();
        Ok(files)
    }
}

/// What a file is called after so many rotations.
fn rotated(path: &Path, generations: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if generations > 0 {
        name.push(format!(".{generations}"));
    }
    name.into()
}

/// The lines from a place on, each with the place behind it, and where they end. A last line without an end is left for later,
/// unless nobody writes to the file any more.
fn read_lines(file: &File, start: u64, is_rotated: bool) -> io::Result<(Vec<(String, u64)>, u64)> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(start))?;
    let mut end = start;
    let mut lines = Vec::new();
    while lines.len() < LINES_MAX {
        let mut line = Vec::new();
        let length = reader.read_until(b'\n', &mut line)?;
        let is_whole = line.pop_if(|last| *last == b'\n').is_some();
        if length == 0 || !(is_whole || is_rotated) {
            break;
        }
        end += length as u64;
        lines.push((String::from_utf8_lossy(&line).into_owned(), end));
    }
    Ok((lines, end))
}

/// A program that logs, and rotates its file.
struct Logger {
    path: PathBuf,
    written: usize,
}

impl Logger {
    fn new(path: PathBuf) -> Self {
        Self { path, written: 0 }
    }

    fn write(&mut self, lines: usize) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        for n in self.written..self.written + lines {
            writeln!(file, "line {n}")?;
        }
        self.written += lines;
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        let generations = (0..)
            .take_while(|n| rotated(&self.path, *n).exists())
            .count();
        for generation in (0..generations).rev() {
            fs::rename(
                rotated(&self.path, generation),
                rotated(&self.path, generation + 1),
            )?;
        }
        Ok(())
    }
}

/// The broker and those who ship into it: one program.
struct Program {
    broker: Broker,
    shippers: Vec<JoinHandle<Outcome<()>>>,
}

impl Program {
    async fn start(data: &Path, logs: &[&Logger]) -> Outcome<Self> {
        let broker = Broker::builder().data_dir(data).no_ports().start().await?;
        let mut shippers = Vec::new();
        for log in logs {
            let name = log
                .path
                .file_stem()
                .ok_or("a name")?
                .to_string_lossy()
                .into_owned();
            let topic = match broker.topic_names().contains(&name) {
                true => broker.topic(&name),
                false => broker.create_topic(&*name).await?,
            };
            let shipper = Shipper::resume(log.path.clone(), topic).await?;
            shippers.push(tokio::spawn(shipper.follow()));
        }
        Ok(Self { broker, shippers })
    }

    /// The first so many lines of a topic, as soon as they are there.
    async fn lines(&self, topic: &str, count: usize) -> Outcome<Vec<String>> {
        let mut records = self.broker.topic(topic).records(0, Offset::ZERO);
        let mut lines = Vec::new();
        while lines.len() < count {
            let value = records.next().await?.value.unwrap_or_default();
            lines.push(String::from_utf8_lossy(&value).into_owned());
        }
        Ok(lines)
    }

    /// Whoever ships is stopped wherever it is, without being told.
    async fn stop(self) -> Outcome<()> {
        for shipper in self.shippers {
            shipper.abort();
        }
        Ok(self.broker.shutdown().await?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let mut web = Logger::new(directory.path().join("web.log"));
    let mut db = Logger::new(directory.path().join("db.log"));

    web.write(1000)?;
    let program = Program::start(&data, &[&web, &db]).await?;
    db.write(10)?;
    program.lines("db", 10).await?;
    println!("db: followed from before its file was there");
    // Under way; how far it has come nobody knows.
    program.lines("web", 1).await?;
    web.rotate()?;
    web.write(700)?;
    program.stop().await?;
    println!("stopped in the middle");

    web.rotate()?;
    web.write(300)?;
    db.rotate()?;
    web.rotate()?;
    web.write(5)?;
    println!("meanwhile web.log was rotated twice and db.log once");

    let program = Program::start(&data, &[&web, &db]).await?;
    db.write(10)?;
    for (name, log) in [("web", &web), ("db", &db)] {
        let lines = program.lines(name, log.written).await?;
        let expected: Vec<_> = (0..log.written).map(|n| format!("line {n}")).collect();
        assert_eq!(lines, expected);
        println!("{name}: {} lines, each once and in order", lines.len());
    }
    program.stop().await
}
