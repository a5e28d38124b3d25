//! `tidelog config set` and `unset`.

use std::collections::BTreeMap;
use std::error::Error;

use clap::Args;
use serde_json::json;
use tidelog_client::{Client, ConfigChange, ConfigEntry, ConfigResource};
use tidelog_types::Str;

use super::{Target, entries, show};
use crate::output::{Format, Outcome, nothing, pretty, table};

#[derive(Args)]
pub(super) struct Set {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    values: Values,
    /// Only say whether it would succeed, and show what would change.
    #[arg(long)]
    dry_run: bool,
}

/// What is set.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct Values {
    /// The configs.
    #[arg(value_name = "KEY=VALUE", value_parser = crate::topic::key_value)]
    set: Vec<(Str, Str)>,
    /// Add elements to a list; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::topic::key_value)]
    append: Vec<(Str, Str)>,
    /// Take elements out of a list; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::topic::key_value)]
    subtract: Vec<(Str, Str)>,
}

#[derive(Args)]
pub(super) struct Unset {
    #[command(flatten)]
    target: Target,
    /// The names.
    #[arg(value_name = "KEY", required = true)]
    names: Vec<String>,
    /// Only say whether it would succeed, and show what would change.
    #[arg(long)]
    dry_run: bool,
}

impl Set {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let values = &self.values;
        let set = values.set.iter().cloned();
        let set = set.map(|(name, value)| (name, ConfigChange::Set(value)));
        let append = values.append.iter().cloned();
        let append = append.map(|(name, value)| (name, ConfigChange::Append(value)));
        let subtract = values.subtract.iter().cloned();
        let subtract = subtract.map(|(name, value)| (name, ConfigChange::Subtract(value)));
        let mut changes = BTreeMap::new();
        for (name, change) in set.chain(append).chain(subtract) {
            if changes.insert(name.clone(), change).is_some() {
                return Err(format!("{name} is given twice").into());
            }
        }
        make(client, &self.target, changes, self.dry_run, format).await
    }
}

impl Unset {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let names = self.names.iter();
        let changes = names.map(|name| (Str::from(name.as_str()), ConfigChange::Unset));
        make(
            client,
            &self.target,
            changes.collect(),
            self.dry_run,
            format,
        )
        .await
    }
}

async fn make(
    client: &Client,
    target: &Target,
    changes: BTreeMap<Str, ConfigChange>,
    dry_run: bool,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let resource = target.resource()?;
    let names: Vec<_> = changes.keys().cloned().collect();
    let before = entries(client, &resource, Some(&names), false).await?;
    let wanted = [(resource.clone(), changes.clone())].into();
    for (_, result) in client.alter_configs(&wanted, dry_run).await? {
        result?;
    }
    Ok(tell(&resource, &changes, &before, dry_run, format).into())
}

fn tell(
    resource: &ConfigResource,
    changes: &BTreeMap<Str, ConfigChange>,
    before: &[ConfigEntry],
    dry_run: bool,
    format: Format,
) -> String {
    let rows = changes.iter().map(|(name, change)| {
        let entry = before.iter().find(|entry| entry.name == *name);
        let is_secret = entry.is_some_and(|entry| entry.is_sensitive);
        let after = match change {
            ConfigChange::Set(_) if is_secret => "(secret)".to_owned(),
            ConfigChange::Set(value) => value.to_string(),
            ConfigChange::Append(value) => format!("with {value}"),
            ConfigChange::Subtract(value) => format!("without {value}"),
            ConfigChange::Unset => {
                let inherited = entry.map_or_else(nothing, |e| show::inherited(resource, e));
                match inherited == nothing() {
                    true => "the default".to_owned(),
                    false => inherited,
                }
            }
        };
        let before = entry.map_or_else(nothing, show::value);
        vec![name.to_string(), before, after]
    });
    if format == Format::Json {
        let changes = changes.iter().map(|(name, change)| {
            let (operation, value) = match change {
                ConfigChange::Set(value) => ("SET", Some(value)),
                ConfigChange::Unset => ("DELETE", None),
                ConfigChange::Append(value) => ("APPEND", Some(value)),
                ConfigChange::Subtract(value) => ("SUBTRACT", Some(value)),
            };
            let entry = before.iter().find(|entry| entry.name == *name);
            let value = value.filter(|_| entry.is_none_or(|entry| !entry.is_sensitive));
            json!({
                "name": name.as_str(),
                "operation": operation,
                "value": value.map(|value| value.as_str()),
                "before": entry.and_then(|entry| entry.value.as_deref()),
            })
        });
        return pretty(&json!({
            "resource": resource.to_string(),
            "executed": !dry_run,
            "changes": changes.collect::<Vec<_>>(),
        }));
    }
    let table = table(&["NAME", "BEFORE", "AFTER"], rows);
    match dry_run {
        true => format!("{table}\n\nnothing was changed; without --dry-run it will be"),
        false => table,
    }
}
