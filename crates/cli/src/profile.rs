//! Where the cluster is: flags, a profile or a file in the keys of Kafka's clients, the environment.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tidelog_client::Config;
use tidelog_types::Str;
use tidelog_types::properties::parse_properties;

use crate::security::{self, Security};

/// Where the brokers are unless somebody says.
const DEFAULT_SERVERS: &str = "localhost:9092";
/// The profile that holds unless another is named.
const DEFAULT_PROFILE: &str = "default";
/// How the files of profiles end.
const PROFILE_ENDING: &str = "properties";

const SERVERS: &str = "bootstrap.servers";
/// The same in librdkafka's words.
const SERVERS_OF_LIBRDKAFKA: &str = "metadata.broker.list";
const CLIENT_ID: &str = "client.id";
const CONNECT_TIMEOUT: &str = "socket.connection.setup.timeout.ms";
const REQUEST_TIMEOUT: &str = "request.timeout.ms";
const RETRY_TIMEOUT: &str = "default.api.timeout.ms";
const RETRY_BACKOFF: &str = "retry.backoff.ms";

/// The keys that mean something to us, beside those of [`security`].
const KNOWN: [&str; 7] = [
    SERVERS,
    SERVERS_OF_LIBRDKAFKA,
    CLIENT_ID,
    CONNECT_TIMEOUT,
    REQUEST_TIMEOUT,
    RETRY_TIMEOUT,
    RETRY_BACKOFF,
];

/// How to reach the cluster.
#[derive(Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The brokers to begin with, HOST:PORT with commas between them [env: TIDELOG_BOOTSTRAP_SERVER] [default: localhost:9092].
    #[arg(long, short, global = true, value_name = "LIST")]
    bootstrap_server: Option<String>,
    /// A profile: the file NAME.properties in ~/.config/tidelog, in the keys of Kafka's clients [env: TIDELOG_PROFILE]
    /// [default: default].
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// A file in the keys of Kafka's clients, such as client.properties, in the place of a profile.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "profile")]
    command_config: Option<PathBuf>,
    /// One property in the keys of Kafka's clients; may be given several times.
    #[arg(
        long = "command-property",
        short = 'X',
        global = true,
        value_name = "KEY=VALUE"
    )]
    properties: Vec<String>,
}

/// Whom to ask, and how.
pub(crate) struct Settings {
    pub(crate) servers: String,
    pub(crate) config: Config,
    /// Who has named the servers; nobody, if it is the default.
    pub(crate) named_by: Option<String>,
}

/// Properties and where they stand.
struct Source {
    name: String,
    properties: BTreeMap<String, String>,
}

impl Connection {
    /// Whether one of the flags was given.
    pub(crate) fn is_given(&self) -> bool {
        self.bootstrap_server.is_some()
            || self.profile.is_some()
            || self.command_config.is_some()
            || !self.properties.is_empty()
    }

    /// All of it put together. What is said more closely holds: flags before files, files that are named before the
    /// environment.
    pub(crate) fn settings(&self) -> Result<Settings, Box<dyn Error>> {
        let flags = Source {
            name: "-X".to_owned(),
            properties: self.flags()?,
        };
        let (file, is_named) = self.file()?;
        let mut settings = Settings {
            servers: DEFAULT_SERVERS.to_owned(),
            config: Config::default(),
            named_by: None,
        };
        let environment = variable("TIDELOG_BOOTSTRAP_SERVER");
        let mut security = Security::default();
        // Weakest first.
        if let Some(file) = &file {
            settings.apply(file, &mut security)?;
        }
        if let Some(servers) = environment.filter(|_| !is_named) {
            settings.servers = servers;
            settings.named_by = Some("TIDELOG_BOOTSTRAP_SERVER".to_owned());
        }
        settings.apply(&flags, &mut security)?;
        if let Some(servers) = &self.bootstrap_server {
            settings.servers.clone_from(servers);
            settings.named_by = Some("--bootstrap-server".to_owned());
        }
        security.apply(&mut settings.config)?;
        Ok(settings)
    }

    fn flags(&self) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
        let mut all = BTreeMap::new();
        for property in &self.properties {
            let (key, value) = property
                .split_once('=')
                .ok_or_else(|| format!("-X {property}: expected KEY=VALUE"))?;
            let key = key.trim();
            // The value may be a secret.
            if !is_known(key) {
                let known = KNOWN.join(", ");
                return Err(format!(
                    "-X {key}: there is no such key; there are {known}, security.protocol, and those that begin with sasl. and ssl."
                )
                .into());
            }
            all.insert(key.to_owned(), value.trim().to_owned());
        }
        Ok(all)
    }

    /// The file that holds, and whether a flag has named it. That there is no default profile is the usual case.
    fn file(&self) -> Result<(Option<Source>, bool), Box<dyn Error>> {
        if let Some(path) = &self.command_config {
            let source = read(path, path.display().to_string())?;
            return Ok((Some(source), true));
        }
        let is_named = self.profile.is_some();
        let wanted = self.profile.clone().or_else(|| variable("TIDELOG_PROFILE"));
        let name = wanted.as_deref().unwrap_or(DEFAULT_PROFILE);
        let folder = folder();
        let path = folder.join(name).with_added_extension(PROFILE_ENDING);
        if !path.is_file() {
            return match wanted {
                None => Ok((None, false)),
                Some(name) => Err(unknown(&name, &folder).into()),
            };
        }
        let source = read(&path, format!("profile {name}, {}", path.display()))?;
        Ok((Some(source), is_named))
    }
}

impl Settings {
    fn apply(&mut self, source: &Source, security: &mut Security) -> Result<(), Box<dyn Error>> {
        for (key, value) in &source.properties {
            if let Some(key) = security::known(key) {
                security.take(key, value);
                continue;
            }
            let millis = || {
                let millis = value.parse().map(Duration::from_millis);
                millis.map_err(|_| format!("{}: {key}={value}: expected milliseconds", source.name))
            };
            match key.as_str() {
                SERVERS | SERVERS_OF_LIBRDKAFKA => {
                    self.servers.clone_from(value);
                    self.named_by = Some(source.name.clone());
                }
                CLIENT_ID => self.config.client_id = Str::from(value.as_str()),
                CONNECT_TIMEOUT => self.config.connect_timeout = millis()?,
                REQUEST_TIMEOUT => self.config.request_timeout = millis()?,
                RETRY_TIMEOUT => self.config.retry_timeout = millis()?,
                RETRY_BACKOFF => self.config.retry_backoff = millis()?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_known(key: &str) -> bool {
    KNOWN.contains(&key) || security::known(key).is_some()
}

/// A variable of the environment, unless it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where the profiles are.
fn folder() -> PathBuf {
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.unwrap_or_else(|| {
        let home = variable("HOME").map(PathBuf::from).unwrap_or_default();
        home.join(".config")
    });
    config.join("tidelog")
}

fn read(path: &Path, name: String) -> Result<Source, Box<dyn Error>> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let properties =
        parse_properties(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let (known, unknown): (Vec<_>, Vec<_>) = properties
        .into_iter()
        .map(|property| (property.key, property.value))
        .partition(|(key, _)| is_known(key));
    if !unknown.is_empty() {
        let keys: Vec<_> = unknown.into_iter().map(|(key, _)| key).collect();
        let path = path.display();
        crate::complain(&format!(
            "warning: {path}: without effect: {}",
            keys.join(", ")
        ));
    }
    Ok(Source {
        name,
        properties: known.into_iter().collect(),
    })
}

fn unknown(name: &str, folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut there: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.path();
            let is_profile = path
                .extension()
                .is_some_and(|ending| ending == PROFILE_ENDING);
            is_profile.then(|| path.file_stem()?.to_str().map(str::to_owned))?
        })
        .collect();
    there.sort();
    let there = match there.is_empty() {
        true => "none".to_owned(),
        false => there.join(", "),
    };
    let folder = folder.display();
    format!(
        "there is no profile {name}: profiles are files such as {folder}/{name}.{PROFILE_ENDING}; there: {there}"
    )
}
