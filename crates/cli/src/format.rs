//! `tidelog format`: what `kafka-storage format` does.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use tidelog_broker::format::{FormatOptions, Formatted, InitialControllers, format};
use tidelog_metadata::configs::BrokerConfig;

use crate::say;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The cluster: the same word on all its nodes, usually a uuid.
    #[arg(long, short = 't', value_name = "ID")]
    cluster_id: String,
    /// The configuration of the node, in the keys of Kafka's server.properties.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// The controller of this node begins the metadata quorum alone.
    #[arg(long, short, conflicts_with_all = ["no_initial_controllers", "initial_controllers"])]
    standalone: bool,
    /// Other nodes begin the metadata quorum.
    #[arg(long, short = 'N', conflicts_with = "initial_controllers")]
    no_initial_controllers: bool,
    /// Who begins the metadata quorum: id@host:port:directory-id, separated by commas, the same on all of them.
    #[arg(long, short = 'I', value_name = "LIST")]
    initial_controllers: Option<String>,
    /// Begin with the record formats of this release, such as 4.1 or 4.0-IV2 [default: the latest].
    #[arg(long, short, value_name = "RELEASE")]
    release_version: Option<String>,
    /// The level of a feature, such as kraft.version=1; may be given several times.
    #[arg(long, short, value_name = "NAME=LEVEL")]
    feature: Vec<String>,
    /// Leave directories alone that are formatted already.
    #[arg(long, short = 'g')]
    ignore_formatted: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let formatted = format(&options(arguments)?)?;
    for directory in &formatted {
        say(&line(directory));
    }
    if formatted
        .iter()
        .all(|directory| directory.already_formatted)
    {
        say("all log directories were formatted already");
    }
    Ok(())
}

fn options(arguments: &Arguments) -> Result<FormatOptions, Box<dyn Error>> {
    let path = arguments.config.display();
    let text = std::fs::read_to_string(&arguments.config)
        .map_err(|error| format!("cannot read the configuration {path}: {error}"))?;
    let (config, warnings) = BrokerConfig::parse(&text)
        .map_err(|error| format!("the configuration {path} is damaged: {error}"))?;
    for warning in warnings {
        crate::complain(&format!("warning: {}: {}", warning.key, warning.message));
    }
    let initial_controllers = match &arguments.initial_controllers {
        Some(list) => InitialControllers::parse_list(list)?,
        None if arguments.standalone => InitialControllers::Standalone,
        None if arguments.no_initial_controllers => InitialControllers::Others,
        None => InitialControllers::Unsaid,
    };
    let features = arguments
        .feature
        .iter()
        .map(|feature| parse_feature(feature));
    let release_version = arguments.release_version.as_deref().map(str::parse);
    let mut options = FormatOptions::new(&arguments.cluster_id, config);
    options.initial_controllers = initial_controllers;
    options.release_version = release_version.transpose()?;
    options.features = features.collect::<Result<_, _>>()?;
    options.ignore_formatted = arguments.ignore_formatted;
    Ok(options)
}

fn parse_feature(text: &str) -> Result<(String, i16), String> {
    let wrong = || format!("--feature {text}: expected NAME=LEVEL, the level a number");
    let (name, level) = text.split_once('=').ok_or_else(wrong)?;
    Ok((
        name.trim().to_owned(),
        level.trim().parse().map_err(|_| wrong())?,
    ))
}

fn line(formatted: &Formatted) -> String {
    let directory = formatted.directory.display();
    if formatted.already_formatted {
        return format!("{directory} was formatted already");
    }
    let (kind, version) = (formatted.kind, formatted.metadata_version);
    let id = formatted.directory_id.unwrap_or_default();
    format!("formatted {kind} {directory}, directory.id {id}, metadata.version {version}")
}
