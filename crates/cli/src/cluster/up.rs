//! `tidelog cluster up`: a whole cluster in this process, to try things out on.

use std::error::Error;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use tidelog_broker::{Cluster, ClusterBuilder, ClusterError};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::control::{Control, Told};
use crate::{broker, complain, say};

/// What is logged unless TIDELOG_LOG says otherwise: that a node is gone is what was asked for.
const DIAGNOSTICS: &str = "error";
const HELP: &str = "\
kill N     end node N at once, as kill -9 does
stop N     stop node N in order
start N    start node N again
pause N    hold up node N: the other nodes hear nothing of it
resume N   let it go on
cut A B    cut the network between two nodes
heal       end every cut and pause
status     show the nodes
quit       stop the cluster";

#[derive(Args)]
pub(super) struct Up {
    /// How many nodes, each of them a broker and a controller.
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Where the data is, in a folder for each node; what is there is gone on with [default: a temporary directory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The first port: clients come to it and those that follow, one for each node, and controllers to the next ones. With 0
    /// the system chooses.
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    base_port: u16,
    /// One property for all nodes, as in Kafka's server.properties; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    properties: Vec<String>,
}

/// What is typed at the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Kill(i32),
    Stop(i32),
    Start(i32),
    Pause(i32),
    Resume(i32),
    Cut(i32, i32),
    Heal,
    Status,
    Help,
    Quit,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let node = |word: &str| {
            let number = word.parse::<i32>();
            number.map_err(|_| format!("{word} is not the number of a node"))
        };
        Ok(match words[..] {
            ["kill", n] => Self::Kill(node(n)?),
            ["stop", n] => Self::Stop(node(n)?),
            ["start", n] => Self::Start(node(n)?),
            ["pause", n] => Self::Pause(node(n)?),
            ["resume", n] => Self::Resume(node(n)?),
            ["cut", a, b] => Self::Cut(node(a)?, node(b)?),
            ["heal"] => Self::Heal,
            ["status"] => Self::Status,
            ["help"] => Self::Help,
            ["quit" | "exit"] => Self::Quit,
            _ => {
                return Err(format!(
                    "{}: not understood; `help` shows what is",
                    line.trim()
                ));
            }
        })
    }
}

impl Up {
    pub(super) fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        broker::log_to_stderr(DIAGNOSTICS);
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.serve())?;
        Ok(ExitCode::SUCCESS)
    }

    fn builder(&self) -> Result<ClusterBuilder, Box<dyn Error>> {
        let builder = Cluster::builder().nodes(self.nodes);
        let builder = match &self.data {
            Some(data) => builder.data_dir(data),
            None => builder.temporary_in(std::env::temp_dir()),
        };
        let mut builder = match self.base_port {
            0 => builder.free_ports(),
            port => builder.ports_from(port),
        };
        for property in &self.properties {
            let (key, value) = property
                .split_once('=')
                .ok_or_else(|| format!("--set {property}: expected KEY=VALUE"))?;
            builder = builder.property(key.trim(), value.trim());
        }
        Ok(builder)
    }

    async fn serve(&self) -> Result<(), Box<dyn Error>> {
        let mut cluster = self.builder()?.start().await?;
        let mut control = match Control::listen(self.data.as_deref()) {
            Ok(control) => Some(control),
            Err(error) => {
                complain(&format!("`tidelog cluster ctl` cannot be used: {error}"));
                None
            }
        };
        say(&status(&cluster));
        let is_terminal = std::io::stdin().is_terminal();
        say(&format!(
            "point clients at {}; `help` shows what can be done, here or as `tidelog cluster ctl{}`",
            cluster.bootstrap_servers(),
            self.data
                .as_ref()
                .map_or_else(String::new, |data| format!(" --data {}", data.display()))
        ));
        let mut lines = lines();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            prompt(is_terminal);
            let told = async {
                match &mut control {
                    Some(control) => control.next().await,
                    None => None,
                }
            };
            let line = tokio::select! {
                Some(Told { line, reply }) = told => {
                    let order = line.parse();
                    let quits = order == Ok(Order::Quit);
                    let done = match order {
                        Ok(Order::Quit) => Ok("the cluster stops".to_owned()),
                        Ok(order) => obey(&mut cluster, order).await.map_err(|error| error.to_string()),
                        Err(error) => Err(error),
                    };
                    // Whoever has hung up does not want to know.
                    let _ = reply.send(done);
                    if quits {
                        break;
                    }
                    continue;
                }
                // Where nobody types, the cluster runs until a signal comes.
                line = lines.recv(), if !lines.is_closed() || !lines.is_empty() => line,
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            };
            let Some(line) = line else {
                if is_terminal {
                    break;
                }
                continue;
            };
            if line.trim().is_empty() {
                continue;
            }
            match line.parse() {
                Ok(Order::Quit) => break,
                Ok(order) => match obey(&mut cluster, order).await {
                    Ok(done) => say(&done),
                    Err(error) => complain(&error.to_string()),
                },
                Err(error) => complain(&error),
            }
        }
        cluster.shutdown().await?;
        say("stopped");
        Ok(())
    }
}

fn prompt(is_terminal: bool) {
    if is_terminal {
        let mut out = std::io::stdout();
        // Without a prompt it works as well.
        let _ = out.write_all(b"> ").and_then(|()| out.flush());
    }
}

/// What comes on the standard input. A thread of its own waits for it, which ends with the process.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

async fn obey(cluster: &mut Cluster, order: Order) -> Result<String, ClusterError> {
    Ok(match order {
        Order::Kill(node) => {
            cluster.kill(node).await?;
            format!("node {node} is dead")
        }
        Order::Stop(node) => {
            cluster.stop(node).await?;
            format!("node {node} has stopped")
        }
        Order::Start(node) => {
            cluster.restart(node).await?;
            format!("node {node} runs")
        }
        Order::Pause(node) => {
            cluster.pause(node)?;
            format!("node {node} is held up")
        }
        Order::Resume(node) => {
            cluster.resume(node)?;
            format!("node {node} goes on")
        }
        Order::Cut(a, b) => {
            cluster.cut(a, b)?;
            format!("nodes {a} and {b} do not hear each other")
        }
        Order::Heal => {
            cluster.heal();
            "the network is whole".to_owned()
        }
        Order::Status => format!(
            "{}\n{} of {} run",
            status(cluster),
            cluster.running().count(),
            cluster.nodes().count()
        ),
        Order::Help | Order::Quit => HELP.to_owned(),
    })
}

/// A line for each node.
fn status(cluster: &Cluster) -> String {
    let nodes = cluster.nodes().map(|node| {
        let data = cluster.data_dir(node).map(|dir| dir.display().to_string());
        let data = data.unwrap_or_else(|| "memory".to_owned());
        let state = match cluster.node(node) {
            None => "does not run".to_owned(),
            Some(broker) => {
                let listeners = broker.listeners().iter();
                let listeners = listeners.map(|listener| format!("{} {listener}", listener.name));
                listeners.collect::<Vec<_>>().join(", ")
            }
        };
        format!("node {node}: {state}; data in {data}")
    });
    nodes.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_words_and_numbers() {
        assert_eq!(" kill 2 ".parse(), Ok(Order::Kill(2)));
        assert_eq!("cut 1  3".parse(), Ok(Order::Cut(1, 3)));
        assert_eq!("heal".parse(), Ok(Order::Heal));
        for line in ["kill", "kill two", "cut 1", "heal 1", "dance"] {
            assert!(line.parse::<Order>().is_err(), "{line}");
        }
    }
}
