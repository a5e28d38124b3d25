//! `tidelog bench`: how fast a cluster is, and how soon, seen from a client; also of two clusters in turns.

mod consume;
mod latency;
mod load;
mod measure;
mod outcomes;
mod produce;
mod report;
mod round;
mod target;
mod timer;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use tidelog_client::Client;

use self::report::Report;
use self::round::{Job, Stop};
use self::target::{Side, Target};
use crate::connect::Common;
use crate::output::{Format, Outcome};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Send records, as fast as they are taken or at a rate.
    Produce(produce::Produce),
    /// Read the records of a topic as fast as they come. A topic that is not there is made and filled first.
    Consume(consume::Consume),
    /// Send records at a rate, read them again, and measure how long each is on its way.
    Latency(latency::Latency),
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments
        .common
        .run(async |client, format| match &arguments.command {
            Command::Produce(job) => bench(job, client, format).await,
            Command::Consume(job) => bench(job, client, format).await,
            Command::Latency(job) => bench(job, client, format).await,
        })
}

/// Runs the rounds of all clusters in turns, and tells what they gave.
async fn bench<J: Job>(
    job: &J,
    client: &Client,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    job.check()?;
    let target = job.target();
    let mut clients = vec![client.clone()];
    for address in &target.compare {
        clients.push(Client::connect(address, client.config().clone()).await?);
    }
    let mut sides = Vec::new();
    for client in clients {
        sides.push(Side::prepare(client, target).await?);
    }
    let done = all_rounds(job, &mut sides).await;
    for side in &sides {
        side.clean_up(target).await?;
    }
    done?;
    Ok(Report::new(job, sides).tell(format))
}

async fn all_rounds<J: Job>(job: &J, sides: &mut [Side]) -> Result<(), Box<dyn Error>> {
    let stop = Stop::on_interrupt();
    for side in &mut *sides {
        job.prepare(side, &stop).await?;
    }
    let rounds = job.target().rounds(sides.len());
    for number in 1..=rounds {
        for side in &mut *sides {
            if stop.is_set() {
                return Ok(());
            }
            let round = round::run(job, side, (number, rounds), &stop).await?;
            side.rounds.push(round);
        }
    }
    Ok(())
}

impl Target {
    /// How many rounds each of so many clusters has.
    fn rounds(&self, clusters: usize) -> u32 {
        const OF_SEVERAL: u32 = 3;
        self.rounds.unwrap_or(match clusters {
            1 => 1,
            _ => OF_SEVERAL,
        })
    }
}
