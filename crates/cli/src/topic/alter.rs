//! `tidelog topic alter`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use clap::Args;
use serde_json::json;
use tidelog_client::{
    Client, ClientError, ConfigChange, ConfigChanges, ConfigResource, NewPartitions,
};
use tidelog_types::{ErrorCode, Str, TopicName};

use super::{Topics, key_value};
use crate::output::{Format, Outcome, failure, pretty};

#[derive(Args)]
pub(super) struct Alter {
    #[command(flatten)]
    topics: Topics,
    #[command(flatten)]
    changes: Changes,
    /// Pass over topics that do not exist.
    #[arg(long)]
    if_exists: bool,
    /// Only say whether it would succeed.
    #[arg(long)]
    dry_run: bool,
}

/// What is to be changed.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// How many partitions the topics shall have; records with a key go to other partitions from then on.
    #[arg(long, short, value_name = "COUNT")]
    partitions: Option<i32>,
    /// A config to be set; may be given several times.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_value)]
    config: Vec<(Str, Str)>,
    /// A config to be taken back; may be given several times.
    #[arg(long, value_name = "KEY")]
    delete_config: Vec<String>,
}

impl Changes {
    fn configs(&self) -> BTreeMap<Str, ConfigChange> {
        let set = self.config.iter().cloned();
        let set = set.map(|(name, value)| (name, ConfigChange::Set(value)));
        let unset = self.delete_config.iter();
        let unset = unset.map(|name| (Str::from(name.as_str()), ConfigChange::Unset));
        set.chain(unset).collect()
    }

    /// In words.
    fn tell(&self) -> String {
        let partitions = self.partitions.map(|count| format!("partitions {count}"));
        let set = self.config.iter();
        let set = set.map(|(name, value)| format!("{name}={value}"));
        let unset = self
            .delete_config
            .iter()
            .map(|name| format!("{name} unset"));
        let all: Vec<_> = partitions.into_iter().chain(set).chain(unset).collect();
        all.join(", ")
    }

    /// Makes the changes, or only has them checked; the topics at which a broker takes offence are left out of the rest.
    async fn make(
        &self,
        client: &Client,
        names: &mut BTreeSet<TopicName>,
        validate_only: bool,
    ) -> Result<Vec<(TopicName, ClientError)>, ClientError> {
        let mut refused = Vec::new();
        let configs = self.configs();
        if !configs.is_empty() {
            let changes = names.iter().map(|name| {
                let topic = ConfigResource::Topic(name.clone());
                (topic, configs.clone())
            });
            let changes: ConfigChanges = changes.collect();
            for (resource, result) in client.alter_configs(&changes, validate_only).await? {
                if let (ConfigResource::Topic(name), Err(error)) = (resource, result) {
                    names.remove(&name);
                    refused.push((name, error));
                }
            }
        }
        if let Some(count) = self.partitions {
            let grown = names.iter().map(|name| NewPartitions {
                topic: name.clone(),
                count,
                assignments: None,
            });
            let grown: Vec<_> = grown.collect();
            for (name, result) in client.create_partitions(&grown, validate_only).await? {
                if let Err(error) = result {
                    names.remove(&name);
                    refused.push((name, error));
                }
            }
        }
        Ok(refused)
    }
}

impl Alter {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let mut names: BTreeSet<_> = self.topics.names().into_iter().collect();
        // First all is checked, so that no topic gets the one change without the other.
        let mut refused = self.changes.make(client, &mut names, true).await?;
        if !self.dry_run && !names.is_empty() {
            refused.extend(self.changes.make(client, &mut names, false).await?);
        }
        let is_missing = |(_, error): &(TopicName, ClientError)| {
            self.if_exists && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let (missing, failed): (Vec<_>, Vec<_>) = refused.into_iter().partition(is_missing);
        let said = match format {
            Format::Text => {
                let what = match self.dry_run {
                    true => "would be altered",
                    false => "altered",
                };
                let changes = self.changes.tell();
                let altered = names
                    .iter()
                    .map(|name| format!("{what}: {name}, {changes}"));
                let missing = missing.iter();
                let missing = missing.map(|(name, _)| format!("does not exist: {name}"));
                altered.chain(missing).collect::<Vec<_>>().join("\n")
            }
            Format::Json => {
                let altered: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                let missing: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
                let failed = failed.iter();
                let failed = failed.map(|(name, error)| failure("topic", name, error));
                pretty(&json!({
                    "executed": !self.dry_run,
                    "altered": altered,
                    "missing": missing,
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        let failures = failed.into_iter().map(|(_, error)| error);
        Ok(Outcome::new(said, failures.collect()))
    }
}
