//! `tidelog cluster elect`.

use std::error::Error;

use clap::Args;
use serde_json::json;
use tidelog_client::{Client, ElectionType};
use tidelog_types::ErrorCode;

use crate::output::{Format, Outcome, count, failure, pretty};
use crate::partitions;

#[derive(Args)]
pub(super) struct Elect {
    /// The partitions, as TOPIC or TOPIC:0,1,2; all that need it, if none is named.
    #[arg(value_name = "PARTITIONS")]
    partitions: Vec<String>,
    /// Where no replica is in sync, elect one that is not. What it lacks is lost.
    #[arg(long)]
    unclean: bool,
}

impl Elect {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let named = match self.partitions.is_empty() {
            true => None,
            false => Some(partitions::named(client, &self.partitions).await?),
        };
        let named: Option<Vec<_>> = named.map(|named| named.into_iter().collect());
        let election_type = match self.unclean {
            true => ElectionType::Unclean,
            false => ElectionType::Preferred,
        };
        let results = client
            .elect_leaders(election_type, named.as_deref())
            .await?;
        let (mut elected, mut needless, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (partition, result) in results {
            match result {
                Ok(()) => elected.push(partition.to_string()),
                Err(error) if error.code() == Some(ErrorCode::ELECTION_NOT_NEEDED) => {
                    needless.push(partition.to_string());
                }
                Err(error) => failed.push((partition.to_string(), error)),
            }
        }
        let said = match format {
            Format::Text => {
                let lines = elected.iter().map(|name| format!("elected: {name}"));
                let mut lines: Vec<_> = lines.collect();
                match (elected.is_empty(), needless.len()) {
                    (_, 1..) => {
                        let partitions = count(needless.len(), "partition");
                        lines.push(format!("no election needed: {partitions}"));
                    }
                    (true, 0) if failed.is_empty() => lines.push("no election needed".to_owned()),
                    _ => {}
                }
                lines.join("\n")
            }
            Format::Json => {
                let failed = failed.iter();
                let failed = failed.map(|(name, error)| failure("partition", name, error));
                pretty(&json!({
                    "elected": elected,
                    "notNeeded": needless,
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        let failures = failed.into_iter().map(|(_, error)| error);
        Ok(Outcome::new(said, failures.collect()))
    }
}
