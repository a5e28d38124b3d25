//! `tidelog topic delete`.

use std::error::Error;

use clap::Args;
use serde_json::json;
use tidelog_client::Client;
use tidelog_types::ErrorCode;

use super::Topics;
use crate::output::{Format, Outcome, count, failure, pretty};

#[derive(Args)]
pub(super) struct Delete {
    #[command(flatten)]
    topics: Topics,
    /// Pass over topics that do not exist.
    #[arg(long)]
    if_exists: bool,
    /// Delete topics, too, in which brokers keep their own records.
    #[arg(long)]
    internal: bool,
    /// Only show what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

impl Delete {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let names = self.topics.names();
        if let Some(name) = names
            .iter()
            .find(|name| name.is_internal() && !self.internal)
        {
            let why = "brokers keep their own records in it; --internal deletes it all the same";
            return Err(format!("topic {name}: {why}").into());
        }
        // For each topic a note on it.
        let results: Vec<_> = match self.dry_run {
            true => {
                let described = client.describe_topics(Some(&names)).await?.into_iter();
                let described = described.map(|(name, topic)| {
                    let note = |partitions| format!(", {}", count(partitions, "partition"));
                    (name, topic.map(|topic| note(topic.partitions.len())))
                });
                described.collect()
            }
            false => {
                let deleted = client.delete_topics(&names).await?.into_iter();
                deleted
                    .map(|(name, done)| (name, done.map(|()| String::new())))
                    .collect()
            }
        };
        let what = match self.dry_run {
            true => "would be deleted",
            false => "deleted",
        };
        let (mut lines, mut failures) = (Vec::new(), Vec::new());
        let (mut deleted, mut missing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (name, result) in results {
            match result {
                Ok(note) => {
                    lines.push(format!("{what}: {name}{note}"));
                    deleted.push(json!(name.as_str()));
                }
                Err(error)
                    if self.if_exists
                        && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) =>
                {
                    lines.push(format!("does not exist: {name}"));
                    missing.push(json!(name.as_str()));
                }
                Err(error) => {
                    failed.push(failure("topic", &name, &error));
                    failures.push(error);
                }
            }
        }
        let said = match format {
            Format::Text => lines.join("\n"),
            Format::Json => pretty(&json!({
                "executed": !self.dry_run,
                "deleted": deleted,
                "missing": missing,
                "failed": failed,
            })),
        };
        Ok(Outcome::new(said, failures))
    }
}
