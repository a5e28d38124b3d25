//! `tidelog user`: users who come in by SCRAM, over the wire, so that it serves every Kafka cluster.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tidelog_client::{Client, PerUser, ScramChange, ScramMechanism, Secret};
use tidelog_types::Str;

use crate::connect::Common;
use crate::output::{Format, Outcome, pretty, settled, table};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// List users with their mechanisms.
    List {
        /// Only these.
        users: Vec<String>,
    },
    /// Give a user a password, which is read from standard input or from a file.
    Set {
        /// The user, without User:.
        user: String,
        /// The mechanism; may be given twice.
        #[arg(
            long,
            short,
            value_enum,
            ignore_case = true,
            default_value = "scram-sha-512"
        )]
        mechanism: Vec<Mechanism>,
        /// How often the password is hashed: the more, the longer it takes to guess it, and to log in.
        #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(4096..=16384))]
        iterations: u32,
        /// A file whose first line is the password.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Take the passwords away from users.
    Delete {
        /// The users.
        #[arg(required = true)]
        users: Vec<String>,
        /// Only that for this mechanism.
        #[arg(long, short, value_enum, ignore_case = true)]
        mechanism: Option<Mechanism>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Mechanism {
    #[value(name = "scram-sha-256")]
    Sha256,
    #[value(name = "scram-sha-512")]
    Sha512,
}

impl From<Mechanism> for ScramMechanism {
    fn from(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Sha256 => Self::Sha256,
            Mechanism::Sha512 => Self::Sha512,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let run = async |client: &Client, format| match &arguments.command {
        Command::List { users } => list(client, users, format).await,
        Command::Set {
            user,
            mechanism,
            iterations,
            password_file,
        } => {
            let password = password(password_file.as_ref())?;
            let changes = mechanism.iter().map(|mechanism| {
                let change = ScramChange::Set {
                    password: password.clone(),
                    iterations: *iterations,
                };
                ((Str::from(user.as_str()), (*mechanism).into()), change)
            });
            let done = client.alter_scram_users(&changes.collect()).await?;
            Ok(changed(done, "set", format))
        }
        Command::Delete { users, mechanism } => delete(client, users, *mechanism, format).await,
    };
    arguments.common.run(run)
}

/// The first line of a file or of standard input. Never an argument, which other users of the machine could see.
fn password(file: Option<&PathBuf>) -> Result<Secret, Box<dyn Error>> {
    let text = match file {
        Some(path) => fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        None => {
            let mut input = std::io::stdin();
            if input.is_terminal() {
                return Err(
                    "the password would be seen; pipe it in, or name a file with --password-file"
                        .into(),
                );
            }
            let mut text = String::new();
            input.read_to_string(&mut text)?;
            text
        }
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.into()),
        _ => Err("the password is empty".into()),
    }
}

async fn list(
    client: &Client,
    users: &[String],
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let names: Vec<_> = users.iter().map(|name| Str::from(name.as_str())).collect();
    let wanted = (!names.is_empty()).then_some(&names[..]);
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    let settled = settled("user", client.describe_scram_users(wanted).await?);
    for (user, credentials) in settled.done {
        for (mechanism, iterations) in credentials {
            rows.push(vec![
                user.to_string(),
                mechanism.name().to_owned(),
                iterations.to_string(),
            ]);
            objects.push(json!({
                "user": user.as_str(),
                "mechanism": mechanism.name(),
                "iterations": iterations,
            }));
        }
    }
    let said = match format {
        Format::Json => pretty(&json!({ "credentials": objects, "failed": settled.failed })),
        Format::Text if rows.is_empty() && settled.failures.is_empty() => {
            "there are no users with SCRAM credentials".to_owned()
        }
        Format::Text if rows.is_empty() => String::new(),
        Format::Text => table(&["USER", "MECHANISM", "ITERATIONS"], rows.into_iter()),
    };
    Ok(Outcome::new(said, settled.failures))
}

async fn delete(
    client: &Client,
    users: &[String],
    mechanism: Option<Mechanism>,
    format: Format,
) -> Result<Outcome, Box<dyn Error>> {
    let names: Vec<_> = users.iter().map(|name| Str::from(name.as_str())).collect();
    let mut changes = BTreeMap::new();
    let mut missing = PerUser::new();
    match mechanism {
        Some(mechanism) => {
            for name in names {
                changes.insert((name, mechanism.into()), ScramChange::Delete);
            }
        }
        // What there is, since to delete what there is not is an error.
        None => {
            for (user, credentials) in client.describe_scram_users(Some(&names)).await? {
                match credentials {
                    Ok(credentials) => {
                        for mechanism in credentials.into_keys() {
                            changes.insert((user.clone(), mechanism), ScramChange::Delete);
                        }
                    }
                    Err(error) => {
                        missing.insert(user, Err(error));
                    }
                }
            }
        }
    }
    let mut done = client.alter_scram_users(&changes).await?;
    done.extend(missing);
    Ok(changed(done, "deleted", format))
}

fn changed(results: PerUser<()>, what: &str, format: Format) -> Outcome {
    let settled = settled("user", results);
    let done = settled.done.iter().map(|(user, ())| user.as_str());
    let said = match format {
        Format::Text => {
            let lines: Vec<_> = done.map(|user| format!("{what}: user {user}")).collect();
            lines.join("\n")
        }
        Format::Json => {
            let done: Vec<_> = done.collect();
            pretty(&json!({ what: done, "failed": settled.failed }))
        }
    };
    Outcome::new(said, settled.failures)
}
