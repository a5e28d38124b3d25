//! `tidelog protocol`: the tables of the protocol, as this program knows it.

use std::error::Error;
use std::io::{self, BufWriter, Write};

use clap::Args;
use serde_json::{Value, json};
use tidelog_protocol::{APIS, Api, Listener, RETIRED, VersionRange};
use tidelog_types::ErrorCode;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = match arguments.json {
        true => writeln!(out, "{}", tables()),
        false => print(&mut out),
    };
    match printed.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

fn print(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>3}  {:<32} {:<8} {:<11} {:<10} {:<8} {:<8} {:<7} LISTENERS",
        "KEY", "API", "VERSIONS", "KAFKA 4.3.1", "ADVERTISED", "UNSTABLE", "FLEXIBLE", "HEADERS"
    )?;
    for api in APIS {
        writeln!(
            out,
            "{:>3}  {:<32} {:<8} {:<11} {:<10} {:<8} {:<8} {:<7} {}",
            api.key.code(),
            api.name,
            api.versions.to_string(),
            api.supported.to_string(),
            api.advertised.to_string(),
            api.unstable().map(|v| v.to_string()).unwrap_or_default(),
            api.flexible.to_string(),
            api.headers(),
            listeners(api).join(", "),
        )?;
    }
    for (key, name) in RETIRED {
        writeln!(out, "{:>3}  {name:<32} retired", key.code())?;
    }
    writeln!(
        out,
        "\n{:>4}  {:<42} {:<9} TEXT",
        "CODE", "ERROR", "RETRIABLE"
    )?;
    for error in ErrorCode::ALL {
        writeln!(
            out,
            "{:>4}  {:<42} {:<9} {}",
            error.code(),
            error.name().unwrap_or_default(),
            if error.is_retriable() { "yes" } else { "no" },
            error.text(),
        )?;
    }
    Ok(())
}

fn listeners(api: &Api) -> Vec<String> {
    api.listeners.iter().map(Listener::to_string).collect()
}

/// For each version, from the first on.
fn headers(api: &Api) -> Value {
    let versions = api.versions.iter().map(|v| api.header_versions(v));
    versions
        .map(|(request, response)| json!([request, response]))
        .collect()
}

fn tables() -> Value {
    let range = |range: VersionRange| match range.is_empty() {
        true => Value::Null,
        false => json!([range.min, range.max]),
    };
    let apis = APIS.iter().map(|api| {
        let flexible = api.flexible.intersection(api.versions);
        json!({
            "key": api.key.code(),
            "name": api.name,
            "versions": range(api.versions),
            "supportedVersions": range(api.supported),
            "advertisedVersions": range(api.advertised),
            "flexibleVersions": range(flexible),
            "unstableVersion": api.unstable(),
            "headerVersions": headers(api),
            "listeners": listeners(api),
        })
    });
    let retired = RETIRED
        .iter()
        .map(|(key, name)| json!({"key": key.code(), "name": name}));
    let errors = ErrorCode::ALL.iter().map(|error| {
        json!({
            "code": error.code(),
            "name": error.name(),
            "retriable": error.is_retriable(),
            "text": error.text(),
        })
    });
    json!({
        "apis": apis.collect::<Value>(),
        "retired": retired.collect::<Value>(),
        "errors": errors.collect::<Value>(),
    })
}
