//! `tidelog ship`: what is written into files, into topics.
//!
//! A thread reads the files; this side sends what it reads, and writes down how far each file was shipped: only what was
//! acknowledged, and everything in front of it. So nothing is lost, whatever happens, and what was acknowledged and not written down
//! yet when the process was killed is shipped twice. That it was is seen by the headers of the records.

mod lines;
mod reader;
mod sender;
mod state;
mod tails;
mod template;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use regex::bytes::Regex;
use tidelog_client::{Acks, Client, Compression, ProducerConfig};

use self::lines::{Rules, TooLong};
use self::sender::Sender;
use self::state::State;
use self::tails::{Settings, Tails};
use self::template::Template;
use crate::connect::Common;
use crate::output::{Format, Outcome};
use crate::produce::{acks, compression, header};

/// Where a file begins of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// With its first line.
    Beginning,
    /// With what comes from now on.
    End,
}

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Files, folders (with all that is in them) and patterns such as '/var/log/*.log'. They may come into being later; compressed
    /// ones are passed over.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// The topic, also made of {path}, {file}, {stem} (the name without its ending), {folder} and {host}, as in logs-{folder}.
    #[arg(long, short, value_name = "TOPIC")]
    topic: Template,
    /// The key of all records of a file, made likewise: what has the same key stays in order. Empty for none.
    #[arg(long, short, value_name = "KEY", default_value = "{host}:{path}")]
    key: Template,
    /// A header of all records; may be given several times.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Leave out the headers file, host and offset, which say where a record is from.
    #[arg(long)]
    no_origin: bool,
    /// Create topics that do not exist; otherwise the command ends there.
    #[arg(long)]
    create: bool,
    /// How many partitions topics get that are created [default: the broker's].
    #[arg(long, short, value_name = "COUNT", requires = "create")]
    partitions: Option<i32>,
    /// Read to the end as it is now, ship that, and end.
    #[arg(long)]
    once: bool,
    /// With --once: a last line that has no end is a line, too; otherwise it waits for the next time.
    #[arg(long, requires = "once")]
    unfinished: bool,
    /// Where files begin that are there at the start, and of which nothing is known.
    #[arg(long, value_enum, default_value = "beginning")]
    from: From,
    /// Where it is kept how far each file was shipped [default: ~/.local/state/tidelog/ship.json].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// A line that matches begins a record; others belong to the one before.
    #[arg(long, value_name = "REGEX")]
    first_line: Option<Regex>,
    /// How long lines wait for others that belong to them.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    join_wait: Duration,
    /// How many bytes a record may have.
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    line_max: u64,
    /// What becomes of longer ones.
    #[arg(long, value_enum, default_value = "split")]
    too_long: TooLong,
    /// How to compress: none, gzip, snappy, lz4 or zstd, with a level as in gzip:9.
    #[arg(long, short = 'z', value_name = "CODEC", value_parser = compression, default_value = "lz4")]
    compression: Compression,
    /// Who has to have a record before it counts: 1 or all.
    #[arg(long, value_name = "ACKS", value_parser = acks, default_value = "all")]
    acks: Acks,
    /// How often to look for what has been written.
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    poll: Duration,
    /// After how long a file that does not grow is closed, until it does.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    close_after: Duration,
    /// How often to tell how far it is, with --json.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    status: Duration,
    /// For how long nothing may be acknowledged at the end until what is left is left for the next run.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    grace: Duration,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments
        .common
        .run(async |client, format| arguments.ship(client, format).await)
}

impl Arguments {
    async fn ship(&self, client: &Client, format: Format) -> Result<Outcome, Box<dyn Error>> {
        if self.acks == Acks::None {
            return Err("--acks 0: nobody would know what has arrived; there are 1 and all".into());
        }
        let (state, earlier) = State::open(&self.state_path())?;
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        let tails = Tails::new(self.settings(&host)?, earlier);
        let mut sender = Sender::new(self, client, state, host, tails.sources(), format)?;
        let reading = reader::spawn(tails, self.once.then_some(self.unfinished), self.poll)?;
        sender.run(reading).await
    }

    fn state_path(&self) -> PathBuf {
        if let Some(path) = &self.state {
            return path.clone();
        }
        let folder = |name| {
            std::env::var_os(name)
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
        };
        let state = folder("XDG_STATE_HOME");
        let state = state.or_else(|| folder("HOME").map(|home| home.join(".local/state")));
        state.unwrap_or_default().join("tidelog/ship.json")
    }

    fn settings(&self, host: &str) -> io::Result<Settings> {
        // What is written down has to hold wherever the next one is started.
        let paths = self.paths.iter().map(std::path::absolute);
        let paths = paths.map(|path| Ok(path?.to_string_lossy().into_owned()));
        Ok(Settings {
            paths: paths.collect::<io::Result<_>>()?,
            rules: Rules {
                bytes_max: self.line_max as usize,
                too_long: self.too_long,
                first_line: self.first_line.clone(),
            },
            from_end: self.from == From::End,
            join_wait: self.join_wait,
            close_after: self.close_after,
            topic: self.topic.clone(),
            key: Some(self.key.clone()),
            host: host.to_owned(),
        })
    }

    fn producer(&self) -> ProducerConfig {
        /// A broker may be away for as long as it likes: the files keep what is not shipped.
        const PATIENCE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let mut config = ProducerConfig::default();
        config.acks = self.acks;
        config.idempotent = self.acks == Acks::All;
        config.compression = self.compression;
        config.delivery_timeout = PATIENCE;
        config.may_create_topics = false;
        config.request_bytes_max = config.request_bytes_max.max(2 * self.line_max as usize);
        config
    }
}
