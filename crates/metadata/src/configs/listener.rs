use std::collections::BTreeMap;
use std::fmt;

use crate::configs::def::ConfigError;

/// How bytes on a listener are protected. The numbers are those of the metadata records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither encryption nor authentication.
    Plaintext = 0,
    /// TLS.
    Ssl = 1,
    /// SASL without encryption.
    SaslPlaintext = 2,
    /// SASL over TLS.
    SaslSsl = 3,
}

impl SecurityProtocol {
    const ALL: [Self; 4] = [
        Self::Plaintext,
        Self::Ssl,
        Self::SaslPlaintext,
        Self::SaslSsl,
    ];

    /// The number in metadata records.
    pub const fn id(self) -> i16 {
        self as i16
    }

    /// The protocol of that number.
    pub fn from_id(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.id() == id)
    }

    /// The protocol of that name, upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// The name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address to listen on, or one that clients are told: an element of `listeners` or `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name, in upper case.
    pub name: String,
    /// The host, without the brackets of an IPv6 address. Empty means all interfaces.
    pub host: String,
    /// The port; 0 lets the operating system choose.
    pub port: u16,
    /// What `listener.security.protocol.map` says about the name.
    pub protocol: SecurityProtocol,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.name, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.name, self.host, self.port)
        }
    }
}

/// What `listener.security.protocol.map` says.
///
/// Without an explicit map, the listeners of the controller role speak PLAINTEXT, whatever their names.
pub(crate) struct ProtocolMap(BTreeMap<String, SecurityProtocol>);

impl ProtocolMap {
    pub(crate) fn parse(
        text: &str,
        explicit: bool,
        controller_listeners: &[String],
    ) -> Result<Self, ConfigError> {
        const KEY: &str = "listener.security.protocol.map";
        let mut map = BTreeMap::new();
        for element in text
            .split(',')
            .map(str::trim)
            .filter(|element| !element.is_empty())
        {
            let (name, protocol) = element.split_once(':').ok_or_else(|| {
                invalid(
                    KEY,
                    element,
                    "expected NAME:PROTOCOL, elements separated by commas",
                )
            })?;
            let protocol = SecurityProtocol::from_name(protocol.trim()).ok_or_else(|| {
                let names = SecurityProtocol::ALL.map(SecurityProtocol::name).join(", ");
                invalid(
                    KEY,
                    element,
                    &format!("the protocol must be one of {names}"),
                )
            })?;
            if map.insert(name.trim().to_uppercase(), protocol).is_some() {
                return Err(invalid(
                    KEY,
                    element,
                    "each listener name may appear only once",
                ));
            }
        }
        if !explicit {
            for name in controller_listeners {
                map.entry(name.to_uppercase())
                    .or_insert(SecurityProtocol::Plaintext);
            }
        }
        Ok(Self(map))
    }
}

/// Reads `listeners` or `advertised.listeners`, named by `key`.
pub(crate) fn parse_listeners(
    key: &str,
    elements: &[String],
    protocols: &ProtocolMap,
) -> Result<Vec<Listener>, ConfigError> {
    let mut listeners: Vec<Listener> = Vec::with_capacity(elements.len());
    for element in elements.iter().filter(|element| !element.is_empty()) {
        let listener = parse_listener(key, element, protocols)?;
        for other in &listeners {
            if other.name == listener.name {
                return Err(invalid(
                    key,
                    element,
                    "each listener must have a different name",
                ));
            }
            // Two addresses may share a port, as with one listener for IPv4 and one for IPv6.
            if key == "listeners"
                && other.port == listener.port
                && listener.port != 0
                && (other.host == listener.host
                    || other.host.is_empty()
                    || listener.host.is_empty())
            {
                return Err(invalid(
                    key,
                    element,
                    "each listener must have a different port",
                ));
            }
        }
        if key == "advertised.listeners" && matches!(&*listener.host, "0.0.0.0" | "::") {
            return Err(invalid(
                key,
                element,
                "clients cannot connect to the address of all interfaces",
            ));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

fn parse_listener(
    key: &str,
    element: &str,
    protocols: &ProtocolMap,
) -> Result<Listener, ConfigError> {
    let malformed = || invalid(key, element, "expected NAME://host:port");
    let (name, address) = element.split_once("://").ok_or_else(malformed)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').ok_or_else(malformed)?,
        None => host,
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
    if name.is_empty() || !host.chars().all(legal) {
        return Err(malformed());
    }
    let port = port
        .parse()
        .map_err(|_| invalid(key, element, "the port must be 0 to 65535"))?;
    let name = name.to_uppercase();
    let protocol = *protocols.0.get(&name).ok_or_else(|| {
        let reason = format!("listener.security.protocol.map says nothing about listener {name}");
        invalid(key, element, &reason)
    })?;
    Ok(Listener {
        name,
        host: host.into(),
        port,
        protocol,
    })
}

fn invalid(key: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError::Invalid {
        key: key.into(),
        value: value.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(listeners: &str, map: Option<&str>) -> Result<String, String> {
        let default = "PLAINTEXT:PLAINTEXT,SSL:SSL";
        let controller = ["CONTROLLER".to_string()];
        let protocols =
            ProtocolMap::parse(map.unwrap_or(default), map.is_some(), &controller).unwrap();
        let elements: Vec<String> = listeners.split(',').map(Into::into).collect();
        let listeners =
            parse_listeners("listeners", &elements, &protocols).map_err(|e| e.to_string())?;
        let texts: Vec<String> = listeners
            .iter()
            .map(|l| format!("{l} {}", l.protocol))
            .collect();
        Ok(texts.join("; "))
    }

    #[test]
    fn names_are_free_when_the_map_knows_them() {
        assert_eq!(
            parse("plaintext://:9092", None).unwrap(),
            "PLAINTEXT://:9092 PLAINTEXT"
        );
        assert_eq!(
            parse(
                "External://h.example:0,CONTROLLER://[::1]:9093",
                Some("EXTERNAL:SSL,controller:PLAINTEXT")
            )
            .unwrap(),
            "EXTERNAL://h.example:0 SSL; CONTROLLER://[::1]:9093 PLAINTEXT"
        );
        assert_eq!(
            parse("CONTROLLER://:1", None).unwrap(),
            "CONTROLLER://:1 PLAINTEXT"
        );
    }

    #[test]
    fn an_error_names_key_value_and_what_is_allowed() {
        for (listeners, reason) in [
            ("PLAINTEXT:9092", "expected NAME://host:port"),
            ("PLAINTEXT://[::1:9092", "expected NAME://host:port"),
            ("PLAINTEXT://a b:9092", "expected NAME://host:port"),
            ("PLAINTEXT://h:70000", "the port must be 0 to 65535"),
            (
                "X://h:1",
                "listener.security.protocol.map says nothing about listener X",
            ),
            (
                "PLAINTEXT://h:1,PLAINTEXT://h:2",
                "each listener must have a different name",
            ),
            (
                "PLAINTEXT://h:1,SSL://h:1",
                "each listener must have a different port",
            ),
        ] {
            let error = parse(listeners, None).unwrap_err();
            let value = listeners.split(',').next_back().unwrap();
            assert_eq!(
                error,
                format!("Invalid value {value} for configuration listeners: {reason}")
            );
        }
    }
}
