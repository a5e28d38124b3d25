//! `tidelog feature`: the levels of a cluster's features, over the wire, so that it serves every Kafka cluster.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, json};
use tidelog_client::{Client, FeatureUpgrade, Features};
use tidelog_types::Str;

use crate::connect::Common;
use crate::output::{Format, Outcome, nothing, pretty, table};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// List the features: the level in use, and what the broker that was asked can do.
    List,
    /// Raise levels: all of them, or none.
    Upgrade {
        #[command(flatten)]
        levels: Levels,
    },
    /// Lower levels, 0 for none: all of them, or none.
    Downgrade {
        #[command(flatten)]
        levels: Levels,
        /// Even if the cluster loses metadata that the lower level does not know.
        #[arg(long = "unsafe")]
        is_unsafe: bool,
    },
}

#[derive(Args)]
struct Levels {
    /// The levels, such as group.version=1.
    #[arg(value_name = "NAME=LEVEL", required = true, value_parser = level)]
    levels: Vec<(Str, i16)>,
    /// Only say whether it would succeed.
    #[arg(long)]
    dry_run: bool,
}

fn level(text: &str) -> Result<(Str, i16), String> {
    let expected = || "expected NAME=LEVEL, the level a number from 0 on".to_owned();
    let (name, level) = text.split_once('=').ok_or_else(expected)?;
    let level = level.parse().ok().filter(|level| *level >= 0);
    Ok((name.into(), level.ok_or_else(expected)?))
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let run = async |client: &Client, format| match &arguments.command {
        Command::List => Ok(list(&client.features().await?, format).into()),
        Command::Upgrade { levels } => {
            update(client, levels, FeatureUpgrade::Upgrade, format).await
        }
        Command::Downgrade { levels, is_unsafe } => {
            let upgrade = match is_unsafe {
                true => FeatureUpgrade::UnsafeDowngrade,
                false => FeatureUpgrade::SafeDowngrade,
            };
            update(client, levels, upgrade, format).await
        }
    };
    arguments.common.run(run)
}

async fn update(
    client: &Client,
    wanted: &Levels,
    upgrade: FeatureUpgrade,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let before = client.features().await?.finalized;
    let levels: BTreeMap<_, _> = wanted.levels.iter().cloned().collect();
    let done = client.update_features(&levels, upgrade, wanted.dry_run);
    done.await?;
    let before = |name: &Str| before.get(name).copied().unwrap_or(0);
    if format == Format::Json {
        let changes = levels.iter().map(|(name, level)| {
            json!({ "feature": name.as_str(), "before": before(name), "level": level })
        });
        return Ok(pretty(&json!({
            "executed": !wanted.dry_run,
            "changes": changes.collect::<Vec<_>>(),
        }))
        .into());
    }
    let what = match wanted.dry_run {
        true => "would be altered",
        false => "altered",
    };
    let lines = levels
        .iter()
        .map(|(name, level)| format!("{what}: {name} from {} to {level}", before(name)));
    Ok(lines.collect::<Vec<_>>().join("\n").into())
}

fn list(features: &Features, format: Format) -> String {
    let level = |name: &Str| features.finalized.get(name).copied();
    if format == Format::Json {
        let features = features.supported.iter().map(|(name, (lowest, highest))| {
            let feature = json!({ "level": level(name), "lowest": lowest, "highest": highest });
            (name.to_string(), feature)
        });
        return pretty(&json!({ "features": features.collect::<Map<_, _>>() }));
    }
    if features.supported.is_empty() {
        return "there are no features".to_owned();
    }
    let rows = features.supported.iter().map(|(name, (lowest, highest))| {
        let level = level(name).map_or_else(nothing, |level| level.to_string());
        vec![
            name.to_string(),
            level,
            lowest.to_string(),
            highest.to_string(),
        ]
    });
    table(&["FEATURE", "LEVEL", "LOWEST", "HIGHEST"], rows)
}
