//! What every command does that talks to a cluster.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use tidelog_client::{Client, ClientError};
use tokio::runtime;

use crate::output::{Format, Outcome};
use crate::profile::{Connection, Settings};

/// The flags of these commands.
#[derive(Args)]
pub(crate) struct Common {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON.
    #[arg(long, short = 'J', global = true)]
    json: bool,
}

impl Common {
    /// Connects, runs a command, and prints what came of it.
    pub(crate) fn run(
        &self,
        command: impl AsyncFnOnce(&Client, Format) -> Result<Outcome, Box<dyn Error>>,
    ) -> Result<ExitCode, Box<dyn Error>> {
        let settings = self.connection.settings()?;
        let format = self.format();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(async {
            let client = Client::connect(&settings.servers, settings.config.clone()).await;
            let client = client.map_err(|error| unreached(&error, &settings))?;
            command(&client, format).await
        });
        Ok(outcome?.tell())
    }

    /// How to print.
    pub(crate) const fn format(&self) -> Format {
        match self.json {
            true => Format::Json,
            false => Format::Text,
        }
    }

    /// Whether a flag says where the cluster is.
    pub(crate) fn names_a_cluster(&self) -> bool {
        self.connection.is_given()
    }
}

/// Why nobody was reached, and what may be done about it.
fn unreached(error: &ClientError, settings: &Settings) -> String {
    match (&settings.named_by, error) {
        (None, ClientError::Connect { .. }) => format!(
            "{error} `tidelog broker` starts one; --bootstrap-server, TIDELOG_BOOTSTRAP_SERVER or a profile name another"
        ),
        (None, _) => error.to_string(),
        (Some(who), _) => format!("{error} (the address is from {who})"),
    }
}
