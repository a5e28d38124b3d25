//! What is printed of configs.

use serde_json::{Value, json};
use tidelog_client::{ConfigEntry, ConfigResource, ConfigSource, ConfigSynonym};

use crate::output::{Format, nothing, pretty, table};

/// Whether somebody has set it.
pub(super) fn is_set(entry: &ConfigEntry) -> bool {
    entry.source != ConfigSource::Default
}

/// Where a value comes from, in words.
const fn source(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::Broker => "broker",
        ConfigSource::AllBrokers => "all brokers",
        ConfigSource::File => "file",
        ConfigSource::Default => "default",
        ConfigSource::BrokerLogger => "logger",
        ConfigSource::ClientMetrics => "client metrics",
        ConfigSource::Group => "group",
        _ => "unknown",
    }
}

/// The value in force.
pub(super) fn value(entry: &ConfigEntry) -> String {
    match &entry.value {
        Some(value) if value.is_empty() => "\"\"".to_owned(),
        Some(value) => value.to_string(),
        None if entry.is_sensitive => "(secret)".to_owned(),
        None => nothing(),
    }
}

/// What holds if nothing is set for the resource itself. Brokers do not tell it of every config.
pub(super) fn inherited(resource: &ConfigResource, entry: &ConfigEntry) -> String {
    if entry.source != resource.own_source() {
        return value(entry);
    }
    entry.inherited(resource).map_or_else(nothing, |synonym| {
        let value = synonym.value.as_deref().unwrap_or("(secret)");
        match is_namesake(entry, synonym) {
            true => value.to_owned(),
            // Such as log.retention.hours, whose value is of another unit.
            false => format!("{}={value}", synonym.name),
        }
    })
}

/// Whether two names mean the same, as `segment.bytes` of a topic and `log.segment.bytes` of a broker do.
fn is_namesake(entry: &ConfigEntry, synonym: &ConfigSynonym) -> bool {
    let bare = |name: &str| {
        let bare = ["log.", "group."].iter().find_map(|p| name.strip_prefix(p));
        bare.unwrap_or(name).to_owned()
    };
    bare(&entry.name) == bare(&synonym.name)
}

pub(super) fn list(resource: &ConfigResource, entries: &[ConfigEntry], format: Format) -> String {
    if format == Format::Json {
        let entries = entries.iter().map(|entry| in_json(resource, entry));
        return pretty(&entries.collect());
    }
    if entries.is_empty() {
        return format!("nothing is set for {resource}; --all shows what holds by default");
    }
    let rows = entries.iter().map(|entry| {
        vec![
            entry.name.to_string(),
            value(entry),
            source(entry.source).to_owned(),
            inherited(resource, entry),
        ]
    });
    table(&["NAME", "VALUE", "SET BY", "OTHERWISE"], rows)
}

pub(super) fn values(entries: &[&ConfigEntry]) -> String {
    let values = entries
        .iter()
        .map(|entry| entry.value.as_deref().unwrap_or_default());
    values.collect::<Vec<_>>().join("\n")
}

pub(super) fn details(
    resource: &ConfigResource,
    entries: &[&ConfigEntry],
    format: Format,
) -> String {
    if format == Format::Json {
        let entries = entries.iter().map(|entry| in_json(resource, entry));
        return pretty(&entries.collect());
    }
    let details = entries.iter().map(|entry| {
        let mut text = format!("{} = {}", entry.name, value(entry));
        let mut line = |head: &str, what: &str| text.push_str(&format!("\n  {head:<10} {what}"));
        line("set by", source(entry.source));
        line("otherwise", &inherited(resource, entry));
        if let Some(config_type) = entry.config_type {
            line("type", &config_type.to_lowercase());
        }
        if entry.is_read_only {
            line("read-only", "it can only be changed in the file");
        }
        if let Some(documentation) = &entry.documentation {
            line("what", documentation);
        }
        text
    });
    details.collect::<Vec<_>>().join("\n\n")
}

fn in_json(resource: &ConfigResource, entry: &ConfigEntry) -> Value {
    let synonym = |synonym: &ConfigSynonym| {
        json!({
            "name": synonym.name.as_str(),
            "value": synonym.value.as_deref(),
            "source": synonym.source.name(),
        })
    };
    json!({
        "name": entry.name.as_str(),
        "value": entry.value.as_deref(),
        "source": entry.source.name(),
        "inherited": entry.inherited(resource).map(synonym),
        "synonyms": entry.synonyms.iter().map(synonym).collect::<Vec<_>>(),
        "type": entry.config_type,
        "sensitive": entry.is_sensitive,
        "readOnly": entry.is_read_only,
        "documentation": entry.documentation.as_deref(),
    })
}
