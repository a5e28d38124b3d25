//! `tidelog cluster quorum`.

use std::error::Error;

use clap::Args;
use tidelog_client::Client;
use tidelog_types::{NodeId, Str, Uuid};

use super::describe::{quorum_in_json, quorum_in_text};
use crate::output::{Format, Outcome, pretty};

#[derive(Args)]
pub(super) struct Quorum {
    /// Give this controller a vote: ID@HOST:PORT:DIRECTORY-ID, as in `tidelog format --initial-controllers`. It has to run already, and
    /// to have caught up. Without a directory id, that of the observer with this id is taken.
    #[arg(long, value_name = "CONTROLLER", conflicts_with = "remove")]
    add: Option<String>,
    /// The name of its listener.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "CONTROLLER",
        requires = "add"
    )]
    listener: String,
    /// Take the vote from the controller with this id: ID, or ID:DIRECTORY-ID if there are two.
    #[arg(long, value_name = "CONTROLLER")]
    remove: Option<String>,
}

impl Quorum {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        if let Some(text) = &self.add {
            self.add(client, text).await?;
        }
        if let Some(text) = &self.remove {
            let (id, directory_id) = match text.split_once(':') {
                Some((id, directory)) => (node(id)?, Some(uuid(directory)?)),
                None => (node(text)?, None),
            };
            let quorum = client.describe_quorum().await?;
            let found = quorum.voters.iter().find(|voter| {
                let is_it = directory_id.is_none_or(|own| voter.directory_id == Some(own));
                voter.id == id && is_it
            });
            let voter = found.ok_or_else(|| format!("controller {text} has no vote"))?;
            let directory_id = voter.directory_id.unwrap_or(Uuid::ZERO);
            client.remove_voter(id, directory_id).await?;
        }
        let quorum = client.describe_quorum().await?;
        Ok(match format {
            Format::Text => quorum_in_text(&quorum),
            Format::Json => pretty(&quorum_in_json(&quorum)),
        }
        .into())
    }

    async fn add(&self, client: &Client, text: &str) -> Result<(), Box<dyn Error>> {
        let wrong = || format!("{text}: expected ID@HOST:PORT or ID@HOST:PORT:DIRECTORY-ID");
        let (id, rest) = text.split_once('@').ok_or_else(wrong)?;
        let id = node(id)?;
        let (address, directory) = match rest.rsplit_once(':') {
            Some((address, last)) if last.parse::<u16>().is_err() => (address, Some(last)),
            _ => (rest, None),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let directory_id = match directory {
            Some(directory) => uuid(directory)?,
            None => {
                let quorum = client.describe_quorum().await?;
                let mut observers = quorum.observers.iter();
                let found = observers.find(|observer| observer.id == id);
                let found = found.and_then(|observer| observer.directory_id);
                found.ok_or_else(|| {
                    format!("node {id} does not follow the quorum; is it running?")
                })?
            }
        };
        let listener = (Str::from(self.listener.as_str()), Str::from(host), port);
        Ok(client.add_voter(id, directory_id, &[listener]).await?)
    }
}

fn node(text: &str) -> Result<NodeId, String> {
    let id = text
        .parse()
        .map_err(|_| format!("{text}: expected the id of a node"));
    id.map(NodeId::new)
}

fn uuid(text: &str) -> Result<Uuid, String> {
    text.parse()
        .map_err(|_| format!("{text}: expected the id of a directory, as in its meta.properties"))
}
