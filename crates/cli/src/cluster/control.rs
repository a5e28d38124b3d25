//! `tidelog cluster ctl`: what can be typed at the prompt of `tidelog cluster up`, from another terminal.
//!
//! The cluster listens on a local socket in its folder, or for data in temporary directories beside those. A line goes in, and
//! what came of it comes back: the word `done` or `failed`, and text to the end of the connection.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::output::{Format, pretty};
use crate::say;

/// The name of the socket in the folder of a cluster, and how names end of those beside temporary directories.
const SOCKET: &str = "control";
const PREFIX: &str = "tidelog-";
/// No order is longer.
const LINE_BYTES_MAX: u64 = 1024;

#[derive(Args)]
pub(super) struct Ctl {
    /// The folder that `tidelog cluster up --data` was given [default: the cluster with temporary directories that runs].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What is to be done: `kill 2`, `pause 2`, `cut 1 3`, `status`, ...; `help` shows all of it.
    #[arg(value_name = "ORDER", required = true)]
    order: Vec<String>,
}

/// An order from another terminal, and who waits for what comes of it.
pub(super) struct Told {
    pub(super) line: String,
    pub(super) reply: oneshot::Sender<Result<String, String>>,
}

/// Where a cluster listens for orders. The socket goes with it.
pub(super) struct Control {
    path: PathBuf,
    orders: mpsc::UnboundedReceiver<Told>,
}

impl Control {
    /// Listens in a folder, or for a cluster with temporary directories beside those.
    pub(super) fn listen(data: Option<&Path>) -> io::Result<Self> {
        let path = match data {
            Some(folder) => folder.join(SOCKET),
            None => temporary(std::process::id()),
        };
        // One that nobody listens at is left from a process that was killed.
        if BlockingStream::connect(&path).is_err() {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let (sender, orders) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                // Whoever hangs up does not want to know.
                tokio::spawn(async move { converse(stream, &sender).await.ok() });
            }
        });
        Ok(Self { path, orders })
    }

    /// The next order.
    pub(super) async fn next(&mut self) -> Option<Told> {
        self.orders.recv().await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that stays does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(mut stream: UnixStream, orders: &mpsc::UnboundedSender<Told>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(reader.take(LINE_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    let (reply, answer) = oneshot::channel();
    let told = orders.send(Told { line, reply });
    let answer = match told {
        Ok(()) => answer.await,
        Err(_) => Ok(Err("the cluster is stopping".into())),
    };
    let (word, text) = match answer {
        Ok(Ok(text)) => ("done", text),
        Ok(Err(text)) => ("failed", text),
        Err(_) => ("failed", "the cluster has stopped".into()),
    };
    writer.write_all(format!("{word}\n{text}").as_bytes()).await
}

impl Ctl {
    pub(super) fn run(&self, format: Format) -> Result<ExitCode, Box<dyn Error>> {
        let mut stream = self.connect()?;
        writeln!(stream, "{}", self.order.join(" "))?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (word, text) = answer.split_once('\n').unwrap_or(("failed", &answer));
        if word != "done" {
            let text = match text {
                "" => "the cluster went away over it",
                text => text,
            };
            return Err(text.into());
        }
        match format {
            Format::Text => say(text),
            Format::Json => say(&pretty(&json!({ "said": text }))),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn connect(&self) -> Result<BlockingStream, String> {
        if let Some(folder) = &self.data {
            let shown = folder.display();
            return BlockingStream::connect(folder.join(SOCKET))
                .map_err(|error| format!("no `tidelog cluster up` listens in {shown}: {error}"));
        }
        let mut found: Vec<_> = temporary_sockets()
            .into_iter()
            .filter_map(|path| Some((BlockingStream::connect(&path).ok()?, path)))
            .collect();
        match found.len() {
            1 => Ok(found.remove(0).0),
            0 => Err(
                "no `tidelog cluster up` with temporary directories runs here; --data names the folder of another".into(),
            ),
            count => Err(format!(
                "{count} clusters with temporary directories run here; `tidelog cluster up --data` makes one known by its folder"
            )),
        }
    }
}

fn temporary(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{process}.{SOCKET}"))
}

fn temporary_sockets() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(std::env::temp_dir());
    let entries = entries.into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(PREFIX))
                && path.extension().is_some_and(|ending| ending == SOCKET)
        })
        .collect()
}
