//! `tidelog quota`: how much clients may ask of a cluster, over the wire, so that it serves every Kafka cluster.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tidelog_client::{Client, QuotaEntity, QuotaFilter, QuotaMatch, Quotas};
use tidelog_types::Str;

use crate::connect::Common;
use crate::output::{Format, Outcome, pretty, table};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// List quotas.
    List {
        #[command(flatten)]
        entity: Entity,
    },
    /// Set quotas: producer_byte_rate and consumer_byte_rate in bytes a second for each broker, request_percentage of its threads,
    /// controller_mutation_rate in partitions a second, connection_creation_rate of an address.
    Set {
        #[command(flatten)]
        entity: Entity,
        /// The quotas.
        #[arg(value_name = "KEY=NUMBER", required = true, value_parser = quota)]
        quotas: Vec<(Str, f64)>,
        /// Only say whether it would succeed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take quotas back, so that the default holds again.
    Unset {
        #[command(flatten)]
        entity: Entity,
        /// The quotas.
        #[arg(value_name = "KEY", required = true)]
        quotas: Vec<String>,
        /// Only say whether it would succeed.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Whose quotas: a user, a client id, or both together; or an address.
#[derive(Args)]
struct Entity {
    /// A user, without User:.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All users that have none of their own.
    #[arg(long, conflicts_with = "user")]
    user_default: bool,
    /// Clients with this client.id.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// All client ids that have none of their own.
    #[arg(long, conflicts_with = "client_id")]
    client_id_default: bool,
    /// An address.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// All addresses that have none of their own.
    #[arg(long, conflicts_with = "ip")]
    ip_default: bool,
}

impl Entity {
    fn entity(&self) -> QuotaEntity {
        /// The name, or none for the default, if one of them is wanted.
        fn part(name: Option<&str>, default: bool) -> Option<Option<Str>> {
            let named = name.map(|name| Some(Str::from(name)));
            named.or_else(|| default.then_some(None))
        }
        let mut entity = QuotaEntity::default();
        if let Some(user) = part(self.user.as_deref(), self.user_default) {
            entity = entity.user(user);
        }
        if let Some(client) = part(self.client_id.as_deref(), self.client_id_default) {
            entity = entity.client_id(client);
        }
        if let Some(ip) = part(self.ip.as_deref(), self.ip_default) {
            entity = entity.ip(ip);
        }
        entity
    }

    fn named(&self) -> Result<QuotaEntity, &'static str> {
        let entity = self.entity();
        match entity.parts.is_empty() {
            true => Err("whose? --user, --client-id, --ip, or one of them with -default"),
            false => Ok(entity),
        }
    }
}

fn quota(text: &str) -> Result<(Str, f64), String> {
    let expected = || "expected KEY=NUMBER".to_owned();
    let (key, value) = text.split_once('=').ok_or_else(expected)?;
    let value: f64 = value.parse().map_err(|_| expected())?;
    match value.is_finite() {
        true => Ok((key.into(), value)),
        false => Err(expected()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let run = async |client: &Client, format| match &arguments.command {
        Command::List { entity } => {
            let parts = entity.entity().parts.into_iter().map(|(kind, name)| {
                let wanted = name.map_or(QuotaMatch::Default, QuotaMatch::Name);
                (kind, wanted)
            });
            let filter = QuotaFilter {
                parts: parts.collect(),
                strict: false,
            };
            let quotas = client.describe_client_quotas(&filter).await?;
            Ok(list(&quotas, format).into())
        }
        Command::Set {
            entity,
            quotas,
            dry_run,
        } => {
            let quotas = quotas.iter().cloned();
            let quotas = quotas.map(|(key, value)| (key, Some(value))).collect();
            alter(client, entity, quotas, *dry_run, format).await
        }
        Command::Unset {
            entity,
            quotas,
            dry_run,
        } => {
            let quotas = quotas.iter().map(|key| (Str::from(key.as_str()), None));
            alter(client, entity, quotas.collect(), *dry_run, format).await
        }
    };
    arguments.common.run(run)
}

async fn alter(
    client: &Client,
    entity: &Entity,
    quotas: BTreeMap<Str, Option<f64>>,
    dry_run: bool,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let entity = entity.named()?;
    let changes = [(entity.clone(), quotas.clone())].into();
    for (_, result) in client.alter_client_quotas(&changes, dry_run).await? {
        result?;
    }
    if format == Format::Json {
        let quotas = quotas
            .iter()
            .map(|(key, value)| (key.to_string(), json!(value)));
        return Ok(pretty(&json!({
            "executed": !dry_run,
            "entity": in_json(&entity),
            "quotas": quotas.collect::<Map<_, _>>(),
        }))
        .into());
    }
    let what = match dry_run {
        true => "would be altered",
        false => "altered",
    };
    let quotas = quotas.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key} unset"),
    });
    let quotas: Vec<_> = quotas.collect();
    Ok(format!("{what}: {entity}, {}", quotas.join(", ")).into())
}

fn list(quotas: &BTreeMap<QuotaEntity, Quotas>, format: Format) -> String {
    if format == Format::Json {
        let entries = quotas.iter().map(|(entity, quotas)| {
            let quotas = quotas
                .iter()
                .map(|(key, value)| (key.to_string(), json!(value)));
            json!({ "entity": in_json(entity), "quotas": quotas.collect::<Map<_, _>>() })
        });
        return pretty(&json!({ "quotas": entries.collect::<Vec<_>>() }));
    }
    if quotas.is_empty() {
        return "there are no such quotas".to_owned();
    }
    let rows = quotas.iter().flat_map(|(entity, quotas)| {
        let quotas = quotas.iter();
        quotas.map(move |(key, value)| vec![entity.to_string(), key.to_string(), value.to_string()])
    });
    table(&["ENTITY", "QUOTA", "VALUE"], rows)
}

fn in_json(entity: &QuotaEntity) -> Value {
    let parts = entity.parts.iter();
    let parts = parts.map(|(kind, name)| (kind.to_string(), json!(name.as_deref())));
    Value::Object(parts.collect())
}
