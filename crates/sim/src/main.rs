//! Lets simulated clusters live, and says what went wrong.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use tidelog_sim::{Bug, Outcome, Plan, run, shrink};

/// Whole clusters in one thread from one seed: network, disks and clocks fail as the seed says, and an oracle looks on.
#[derive(Parser)]
#[command(name = "tidelog-sim")]
struct Args {
    /// One seed: everything that happens is printed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Many seeds, FROM..TO: what went wrong is printed, and what was done.
    #[arg(long, value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Leave out whatever a failing seed fails without, and print what is left.
    #[arg(long)]
    shrink: bool,
    /// Plant a defect, to see it found.
    #[arg(long, value_parser = bug)]
    plant: Option<Bug>,
    /// How many clusters live at a time; as many as there are processors if not given.
    #[arg(long)]
    threads: Option<usize>,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("FROM..TO is expected")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..number(to)?)
}

fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| format!("{bug:?}")).collect();
        format!("one of {} is expected", names.join(", "))
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut out = io::stdout().lock();
    let done = match args.seed {
        Some(seed) => one(&mut out, seed, &args),
        None => many(&mut out, args.seeds.clone().unwrap_or(0..100), &args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody reads what could be said of that.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what happens with one seed; tells whether all was well.
fn one(out: &mut impl Write, seed: u64, args: &Args) -> io::Result<bool> {
    let mut plan = Plan::new(seed);
    if args.shrink {
        plan = shrink(&plan, args.plant);
    }
    for line in plan.describe() {
        writeln!(out, "{line}")?;
    }
    let outcome = run(&plan, args.plant, true);
    for line in &outcome.lines {
        writeln!(out, "{line}")?;
    }
    let Outcome {
        simulated_ns,
        events_count,
        acknowledged_count,
        hash,
        ..
    } = outcome;
    let simulated_s = simulated_ns / 1_000_000_000;
    writeln!(
        out,
        "{simulated_s} simulated seconds, {events_count} events, {acknowledged_count} batches acknowledged, trace {hash:016x}"
    )?;
    Ok(outcome.wrong.is_none())
}

/// What many clusters came to.
#[derive(Default)]
struct Sum {
    clusters: u64,
    simulated_ns: u64,
    events: u64,
    acknowledged: u64,
    faults: BTreeMap<&'static str, u64>,
    wrong: BTreeMap<u64, String>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Result<Outcome, String>) {
        self.clusters += 1;
        match outcome {
            Ok(outcome) => {
                self.simulated_ns += outcome.simulated_ns;
                self.events += outcome.events_count;
                self.acknowledged += outcome.acknowledged_count;
                for (fault, count) in outcome.faults {
                    *self.faults.entry(fault).or_default() += count;
                }
                self.wrong.extend(outcome.wrong.map(|wrong| (seed, wrong)));
            }
            Err(panic) => drop(self.wrong.insert(seed, panic)),
        }
    }
}

/// Lets a cluster live for each seed; tells whether all was well.
fn many(out: &mut impl Write, seeds: Range<u64>, args: &Args) -> io::Result<bool> {
    let begun = Instant::now();
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let next = AtomicU64::new(seeds.start);
    let has_failed = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Ten failures are enough to look at.
                    if seed >= seeds.end || has_failed.load(Ordering::Relaxed) {
                        break;
                    }
                    let outcome = lived(seed, args.plant);
                    let mut sum = sum.lock().expect("nobody panics with the sum");
                    sum.add(seed, outcome);
                    has_failed.store(sum.wrong.len() >= 10, Ordering::Relaxed);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("nobody panics with the sum");
    let took = begun.elapsed().as_secs_f64();
    for (seed, wrong) in &sum.wrong {
        writeln!(out, "seed {seed}: {wrong}")?;
        if args.shrink {
            let plan = shrink(&Plan::new(*seed), args.plant);
            for line in plan.describe() {
                writeln!(out, "    {line}")?;
            }
        }
    }
    let simulated = sum.simulated_ns as f64 / 1e9;
    writeln!(
        out,
        "{} clusters in {took:.1} s: {simulated:.0} simulated seconds ({:.0} a second), {} events, {} batches acknowledged",
        sum.clusters,
        simulated / took,
        sum.events,
        sum.acknowledged
    )?;
    for (fault, count) in &sum.faults {
        writeln!(out, "{count:>8} {fault}")?;
    }
    writeln!(out, "{} went wrong", sum.wrong.len())?;
    Ok(sum.wrong.is_empty())
}

/// A machine that finds itself in an impossible state panics, which is a finding too.
fn lived(seed: u64, bug: Option<Bug>) -> Result<Outcome, String> {
    let run = AssertUnwindSafe(|| run(&Plan::new(seed), bug, false));
    catch_unwind(run).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panicked: {}", text.unwrap_or("no reason given"))
    })
}
