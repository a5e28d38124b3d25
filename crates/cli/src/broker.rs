//! `tidelog broker`: runs a broker in the foreground.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::JoinHandle;

use clap::{Args, ValueEnum};
use tidelog_broker::{Broker, Builder, Durability};
use tidelog_metadata::configs::SecurityProtocol;
use tidelog_types::properties::parse_properties;
use tokio::runtime::{self, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::{complain, say, service};

/// What the process says when it has stopped by itself, since a disk has failed: the same as Kafka.
const STOPPED_BY_ITSELF: u8 = 1;
/// The key that says which listener speaks what.
const PROTOCOLS: &str = "listener.security.protocol.map";
/// What is logged unless TIDELOG_LOG says otherwise. Keys of the configuration that have no effect are told below, in a line
/// each.
const DIAGNOSTICS: &str = "warn,tidelog_broker::builder=error";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to listen: HOST:PORT or NAME://HOST:PORT, may be given several times [default: localhost:9092].
    #[arg(long, value_name = "ADDRESS")]
    listener: Vec<String>,
    /// The data directory; created and formatted if it does not exist [default: tidelog-data].
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// What an acknowledgement promises [default: fsync].
    #[arg(long)]
    durability: Option<DurabilityArgument>,
    /// A configuration in the keys of Kafka's server.properties; the other flags override it.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One property, as in the configuration; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    properties: Vec<String>,
    /// How connections are spread over the cores.
    #[arg(long, value_enum, default_value_t = Threads::PerCore)]
    threads: Threads,
}

#[derive(Clone, Copy, ValueEnum)]
enum DurabilityArgument {
    /// Acknowledged records are flushed to the disk, many with one flush.
    Fsync,
    /// Acknowledged records are in the system's cache, as in Kafka: a power failure loses the last ones.
    PageCache,
    /// Nothing is written: for tests.
    Memory,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Threads {
    /// One runtime for each core, connections handed out in turn: the least CPU for each request.
    PerCore,
    /// One runtime that moves connections between the cores.
    Shared,
}

impl From<DurabilityArgument> for Durability {
    fn from(argument: DurabilityArgument) -> Self {
        match argument {
            DurabilityArgument::Fsync => Self::Fsync,
            DurabilityArgument::PageCache => Self::PageCache,
            DurabilityArgument::Memory => Self::Memory,
        }
    }
}

/// Has everything logged that TIDELOG_LOG, or else `diagnostics`, names.
pub(crate) fn log_to_stderr(diagnostics: &str) {
    let filter = EnvFilter::try_from_env("TIDELOG_LOG");
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new(diagnostics)))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    log_to_stderr(DIAGNOSTICS);
    let builder = builder(arguments)?;
    for warning in builder.check()? {
        complain(&format!("warning: {}: {}", warning.key, warning.message));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match arguments.threads {
        Threads::Shared => {
            let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
            let runtimes = vec![runtime.handle().clone()];
            runtime.block_on(serve(builder, arguments, runtimes))
        }
        Threads::PerCore => {
            let runtime = current_thread()?;
            let others = (1..cores)
                .map(Worker::start)
                .collect::<Result<Vec<_>, _>>()?;
            let workers = std::iter::once(runtime.handle().clone());
            let workers = workers.chain(others.iter().map(|worker| worker.handle.clone()));
            let workers: Vec<_> = workers.collect();
            let builder = builder.workers(workers.clone());
            let served = runtime.block_on(serve(builder, arguments, workers));
            others.into_iter().for_each(Worker::stop);
            served
        }
    }
}

fn builder(arguments: &Arguments) -> Result<Builder, Box<dyn Error>> {
    let mut builder = Broker::builder()
        .listener("PLAINTEXT://localhost:9092")
        .data_dir("tidelog-data");
    let mut names_protocols = false;
    if let Some(path) = &arguments.config {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("cannot read the configuration {}: {error}", path.display())
        })?;
        let properties = parse_properties(&text)
            .map_err(|error| format!("the configuration {} is damaged: {error}", path.display()))?;
        names_protocols = properties.iter().any(|property| property.key == PROTOCOLS);
        builder = builder.properties(properties.into_iter().map(|p| (p.key, p.value)).collect());
    }
    let listeners = listeners(&arguments.listener);
    if !listeners.is_empty() && !names_protocols {
        builder = builder.property(PROTOCOLS, protocols(&listeners));
    }
    for property in &arguments.properties {
        let (key, value) = property
            .split_once('=')
            .ok_or_else(|| format!("--set {property}: expected KEY=VALUE"))?;
        builder = builder.property(key.trim(), value.trim());
    }
    if !listeners.is_empty() {
        builder = builder.listener(&listeners.join(","));
    }
    if !arguments.data.is_empty() {
        let data: Vec<_> = arguments
            .data
            .iter()
            .map(|path| path.to_string_lossy())
            .collect();
        builder = builder.property("log.dirs", data.join(","));
    }
    if let Some(durability) = arguments.durability {
        builder = builder.durability(durability.into());
    }
    Ok(builder)
}

/// The elements of `listeners`: addresses without a name get one each.
fn listeners(addresses: &[String]) -> Vec<String> {
    let named = addresses
        .iter()
        .enumerate()
        .map(|(i, address)| match address.contains("://") {
            true => address.clone(),
            false if i == 0 => format!("PLAINTEXT://{address}"),
            false => format!("PLAINTEXT_{i}://{address}"),
        });
    named.collect()
}

/// What listeners speak that a flag names: what their name says, or else plain text.
fn protocols(listeners: &[String]) -> String {
    let names = listeners
        .iter()
        .filter_map(|listener| Some(listener.split_once("://")?.0));
    let names: BTreeSet<_> = names.collect();
    let protocols = names.into_iter().map(|name| {
        let protocol = SecurityProtocol::from_name(name).unwrap_or(SecurityProtocol::Plaintext);
        format!("{name}:{protocol}")
    });
    protocols.collect::<Vec<_>>().join(",")
}

async fn serve(
    builder: Builder,
    arguments: &Arguments,
    runtimes: Vec<Handle>,
) -> Result<ExitCode, Box<dyn Error>> {
    // Before anything else, so that a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A node of several may wait for the others.
    let broker = tokio::select! {
        broker = builder.start() => broker?,
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    if arguments.config.is_some() {
        // Harnesses made for Kafka wait for this line.
        say(&format!(
            "[KafkaRaftServer nodeId={}] Kafka Server started",
            broker.node_id()
        ));
    }
    let ready = format!(
        "tidelog ready on {}, data in {}, durability {}",
        broker.bootstrap_servers(),
        broker
            .data_dirs()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
        broker.durability().name(),
    );
    say(&ready);
    service::ready(&ready);
    tokio::spawn(service::keep_alive(runtimes));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        failure = broker.failure() => {
            complain(&format!("stopped: {failure}"));
            return Ok(ExitCode::from(STOPPED_BY_ITSELF));
        }
    }
    service::stopping();
    broker.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}

fn current_thread() -> std::io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// A thread with a runtime of its own.
struct Worker {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(index: usize) -> std::io::Result<Self> {
        let runtime = current_thread()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("tidelog-net-{index}"));
        let thread = thread.spawn(move || {
            // An error says that the sender is gone, which means the same.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self {
            handle,
            stop,
            thread,
        })
    }

    fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}
