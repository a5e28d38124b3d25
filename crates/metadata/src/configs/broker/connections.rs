//! How many connections a node takes.

use std::collections::BTreeMap;

use super::BrokerConfig;
use crate::configs::def::ConfigError;

/// How many connections there may be (KIP-402).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `max.connections`: of all listeners together. Beyond it nobody is accepted but on the listener of the brokers.
    pub all: usize,
    /// `listener.name.<listener>.max.connections`: of one listener, by its name in small letters.
    pub per_listener: BTreeMap<String, usize>,
    /// `max.connections.per.ip`: from one address. Beyond it a connection is closed at once.
    pub per_ip: usize,
    /// `max.connections.per.ip.overrides`: from this host instead, a name or an address.
    pub per_ip_overrides: BTreeMap<String, usize>,
}

impl BrokerConfig {
    /// How many connections there may be.
    ///
    /// # Errors
    /// Where the exceptions are no pairs of a host and a number. A configuration that was accepted has no such.
    pub fn connection_limits(&self) -> Result<ConnectionLimits, ConfigError> {
        let per_ip = self.max_connections_per_ip();
        let overrides = parse_overrides(self.max_connections_per_ip_overrides())?;
        if per_ip == 0 && overrides.is_empty() {
            return Err(ConfigError::Conflict(
                "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set."
                    .into(),
            ));
        }
        Ok(ConnectionLimits {
            all: usize::try_from(self.max_connections()).unwrap_or(0),
            per_listener: self.listener_limits()?,
            per_ip: usize::try_from(per_ip).unwrap_or(0),
            per_ip_overrides: overrides,
        })
    }

    fn listener_limits(&self) -> Result<BTreeMap<String, usize>, ConfigError> {
        let mut limits = BTreeMap::new();
        for listener in self.listeners() {
            let name = listener.name.to_lowercase();
            let key = format!("listener.name.{name}.max.connections");
            if let Some(text) = self.static_configs.get(key.as_str()) {
                let limit = text.parse().ok().filter(|limit| *limit > 0);
                let limit = limit.ok_or_else(|| {
                    ConfigError::Conflict(format!(
                        "{key} must be a number of at least 1, not {text}"
                    ))
                })?;
                limits.insert(name, limit);
            }
        }
        Ok(limits)
    }
}

/// `host:count`, separated by commas. An IPv6 address has colons itself: the last one counts.
fn parse_overrides(text: &str) -> Result<BTreeMap<String, usize>, ConfigError> {
    let entries = text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    let parse = |entry: &str| {
        let (host, count) = entry.rsplit_once(':')?;
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let count: usize = count.trim().parse().ok()?;
        (!host.is_empty()).then(|| (host.to_owned(), count))
    };
    entries
        .map(|entry| {
            parse(entry).ok_or_else(|| {
                ConfigError::Conflict(format!(
                    "max.connections.per.ip.overrides has {entry:?}, expected host:count"
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_file() {
        let (config, warnings) = BrokerConfig::parse(
            "max.connections=9\nmax.connections.per.ip=0\nlisteners=INSIDE://:1,OUTSIDE://:2\n\
             listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT\n\
             inter.broker.listener.name=INSIDE\nlistener.name.outside.max.connections=4\n\
             max.connections.per.ip.overrides=10.0.0.1:5, [fe80::1]:6,host:7,::1:8",
        )
        .unwrap();
        assert_eq!(warnings, []);
        let limits = config.connection_limits().unwrap();
        assert_eq!((limits.all, limits.per_ip), (9, 0));
        assert_eq!(limits.per_listener, [("outside".to_owned(), 4)].into());
        let overrides = [("10.0.0.1", 5), ("fe80::1", 6), ("host", 7), ("::1", 8)];
        let overrides = overrides.map(|(host, count)| (host.to_owned(), count));
        assert_eq!(limits.per_ip_overrides, overrides.into());
    }
}
