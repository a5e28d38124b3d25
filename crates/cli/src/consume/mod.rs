//! `tidelog consume`: records out of a topic.

mod format;
mod place;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tidelog_client::{
    Client, Consumer, ConsumerConfig, ConsumerRecord, GroupProtocol, IsolationLevel, OffsetReset,
};
use tidelog_types::{Offset, TopicPartition};
use tokio::time::timeout;

use self::format::{Layout, Parts};
use self::place::Place;
use crate::connect::Common;
use crate::output::{Format, Outcome};
use crate::partitions;

/// How long nothing may come before what was printed is shown, and it is looked whether the end is reached.
const LULL: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The topic, or some of its partitions as TOPIC:0,1,2.
    #[arg(value_name = "TOPIC[:PARTITIONS]")]
    topic: String,
    /// Where to begin: `beginning`, `end`, an offset, -N for the last N records of each partition, a time such as
    /// 2026-11-23T15:00:00Z, or for how long back, such as 2h.
    #[arg(
        long,
        short = 'o',
        value_name = "PLACE",
        allow_hyphen_values = true,
        default_value = "beginning"
    )]
    from: Place,
    /// In front of what to end, said likewise [default: the end as it is now].
    #[arg(
        long,
        value_name = "PLACE",
        allow_hyphen_values = true,
        conflicts_with = "follow"
    )]
    to: Option<Place>,
    /// Go on when the end is reached, and print what comes.
    #[arg(long, short = 'F')]
    follow: bool,
    /// End after so many records.
    #[arg(long, short, value_name = "N")]
    count: Option<u64>,
    /// What to print of a record: %s value, %k key, %h headers, %t topic, %p partition, %o offset, %T timestamp in milliseconds,
    /// %S and %K the lengths of value and key, \n and \t. By default, the value and the end of the line.
    #[arg(long, short, value_name = "FORMAT", conflicts_with = "key_separator")]
    format: Option<Parts>,
    /// Print the key, this, and the value.
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// Read as a member of this group, from where it is, and commit how far it came.
    #[arg(long, short, value_name = "GROUP", conflicts_with_all = ["from", "to"])]
    group: Option<String>,
    /// Meet the group by the classic protocol, also where the broker serves the one in which it divides the partitions itself.
    #[arg(long, requires = "group")]
    classic: bool,
    /// Pass over records of transactions that are not committed.
    #[arg(long)]
    read_committed: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments
        .common
        .run(async |client, format| arguments.consume(client, format).await)
}

/// Where the records go.
struct Printer {
    layout: Layout,
    out: BufWriter<io::Stdout>,
    left: u64,
}

impl Printer {
    /// Prints a record; true if there may be more.
    fn print(&mut self, record: &ConsumerRecord) -> Result<bool, Box<dyn Error>> {
        let printed = self.layout.print(record, &mut self.out);
        self.left -= 1;
        Ok(is_heard(printed)? && self.left > 0)
    }

    /// Shows what was printed; true if somebody reads on.
    fn flush(&mut self) -> Result<bool, Box<dyn Error>> {
        is_heard(self.out.flush())
    }
}

/// Whoever reads it may have seen enough.
fn is_heard(done: io::Result<()>) -> Result<bool, Box<dyn Error>> {
    match done {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => Ok(done.map(|()| true)?),
    }
}

impl Arguments {
    async fn consume(&self, client: &Client, format: Format) -> Result<Outcome, Box<dyn Error>> {
        let mut printer = Printer {
            layout: self.layout(format)?,
            out: BufWriter::new(io::stdout()),
            left: self.count.unwrap_or(u64::MAX),
        };
        let names = std::slice::from_ref(&self.topic);
        let partitions: Vec<_> = partitions::named(client, names)
            .await?
            .into_iter()
            .collect();
        let mut consumer = Consumer::new(client, self.config())?;
        let mut ends = BTreeMap::new();
        if !self.follow {
            let to = self.to.as_ref().unwrap_or(&Place::End);
            ends = to.find(&consumer, &partitions).await?;
        }
        if self.group.is_some() {
            let topic = self.topic.as_str();
            if topic.contains(':') {
                return Err(
                    "a group divides all partitions of a topic; name the topic alone".into(),
                );
            }
            consumer.subscribe(&[topic])?;
        } else {
            let starts = self.from.find(&consumer, &partitions).await?;
            consumer.assign(&partitions)?;
            for (partition, start) in starts {
                consumer.seek(&partition, start)?;
            }
        }
        if printer.left > 0 {
            let interrupted = tokio::signal::ctrl_c();
            tokio::select! {
                done = self.read(&mut consumer, &ends, &mut printer) => done?,
                _ = interrupted => {}
            }
        }
        printer.flush()?;
        consumer.close().await?;
        Ok(Outcome::from(String::new()))
    }

    fn layout(&self, format: Format) -> Result<Layout, String> {
        Ok(match (&self.format, &self.key_separator, format) {
            (_, _, Format::Json) => Layout::Json,
            (Some(parts), ..) => Layout::Parts(parts.clone()),
            (None, Some(separator), _) => {
                let separator = separator.replace('%', "%%");
                Layout::Parts(format!("%k{separator}%s\\n").parse()?)
            }
            (None, None, _) => Layout::Parts("%s\\n".parse()?),
        })
    }

    fn config(&self) -> ConsumerConfig {
        let mut config = ConsumerConfig::default();
        config.group_id = self.group.as_deref().map(Into::into);
        config.offset_reset = OffsetReset::Earliest;
        config.group_protocol = match self.classic {
            true => GroupProtocol::Classic,
            false => GroupProtocol::Auto,
        };
        if self.read_committed {
            config.isolation_level = IsolationLevel::ReadCommitted;
        }
        config
    }

    /// Prints until the end, or until nobody wants more.
    async fn read(
        &self,
        consumer: &mut Consumer,
        ends: &BTreeMap<TopicPartition, Offset>,
        printer: &mut Printer,
    ) -> Result<(), Box<dyn Error>> {
        loop {
            let Ok(record) = timeout(LULL, consumer.recv()).await else {
                if !printer.flush()? || (!self.follow && is_over(consumer, ends)) {
                    return Ok(());
                }
                continue;
            };
            let record = record?;
            let partition = TopicPartition::new(record.topic.clone(), record.partition);
            let end = ends.get(&partition);
            if end.is_some_and(|end| record.offset >= *end) {
                // What is behind the end is for who comes later.
                consumer.seek(&partition, record.offset)?;
                consumer.pause(&partition)?;
            } else if !printer.print(&record)? {
                return Ok(());
            }
            let is_last = end.is_some_and(|end| record.offset.next() >= *end);
            if is_last && is_over(consumer, ends) {
                return Ok(());
            }
        }
    }
}

/// Whether everything up to the ends was read.
fn is_over(consumer: &Consumer, ends: &BTreeMap<TopicPartition, Offset>) -> bool {
    let assigned = consumer.assignment();
    let is_read = |partition: &TopicPartition| {
        let end = ends.get(partition).copied().unwrap_or(Offset::ZERO);
        consumer.position(partition).is_some_and(|at| at >= end)
    };
    !assigned.is_empty() && assigned.iter().all(is_read)
}
