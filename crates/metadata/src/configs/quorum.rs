//! Who votes on the metadata, and where the voters are found.

use std::fmt;

use tidelog_types::NodeId;

use crate::configs::broker::BrokerConfig;
use crate::configs::def::ConfigError;
use crate::configs::listener::Listener;

/// Where a node of the quorum listens: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host, without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A fixed voter: an element of `controller.quorum.voters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVoter {
    /// The node.
    pub id: NodeId,
    /// Where its controller listener is.
    pub address: HostPort,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads `controller.quorum.voters`.
pub(crate) fn voters(config: &BrokerConfig) -> Result<Vec<QuorumVoter>, ConfigError> {
    parse_voters(&present(config.controller_quorum_voters()))
}

/// Reads `controller.quorum.bootstrap.servers`.
pub(crate) fn bootstrap_servers(config: &BrokerConfig) -> Result<Vec<HostPort>, ConfigError> {
    parse_bootstrap_servers(&present(config.controller_quorum_bootstrap_servers()))
}

/// An empty list may come as one empty element.
fn present(elements: &[String]) -> Vec<String> {
    let present = elements.iter().filter(|element| !element.is_empty());
    present.cloned().collect()
}

/// Checks that voters, listeners and roles fit each other, as Kafka does.
pub(crate) fn check_roles(config: &BrokerConfig) -> Result<(), ConfigError> {
    if config.is_alone() {
        return Ok(());
    }
    let refuse = |text: String| Err(ConfigError::Conflict(text));
    let (roles, id) = (config.roles(), config.node_id());
    let voters = config.quorum_voters();
    let votes = voters.iter().any(|voter| voter.id == id);
    if voters.is_empty() && config.quorum_bootstrap_servers().is_empty() {
        return refuse(
            "controller.quorum.bootstrap.servers or controller.quorum.voters must say where the controllers are; a cluster \
             of one has process.roles=broker,controller"
                .into(),
        );
    }
    if roles.controller && !voters.is_empty() && !votes {
        return refuse(format!(
            "process.roles contains controller, so the node id {id} must be one of controller.quorum.voters"
        ));
    }
    if !roles.controller && votes {
        return refuse(format!(
            "process.roles does not contain controller, so the node id {id} must not be one of controller.quorum.voters"
        ));
    }
    check_controller_listeners(config)
}

fn check_controller_listeners(config: &BrokerConfig) -> Result<(), ConfigError> {
    let refuse = |text: &str| Err(ConfigError::Conflict(text.into()));
    let (roles, listeners) = (config.roles(), config.listeners());
    let names = config.controller_listener_names();
    if names.iter().all(String::is_empty) {
        return refuse("controller.listener.names must contain at least one name");
    }
    let is_controllers = |listener: &Listener| config.is_controller_listener(listener);
    if !roles.controller {
        return match listeners.iter().any(is_controllers) {
            true => refuse(
                "listeners must not contain what controller.listener.names names, where process.roles is broker",
            ),
            false => Ok(()),
        };
    }
    let is_listener = |name: &String| {
        let mut listeners = listeners.iter();
        listeners.any(|listener| listener.name.eq_ignore_ascii_case(name))
    };
    if !names.iter().all(is_listener) {
        return refuse(
            "controller.listener.names must only contain names of listeners, where process.roles contains controller",
        );
    }
    if !roles.broker && !listeners.iter().all(is_controllers) {
        return refuse(
            "listeners must only contain what controller.listener.names names, where process.roles is controller",
        );
    }
    Ok(())
}

fn parse_voters(elements: &[String]) -> Result<Vec<QuorumVoter>, ConfigError> {
    const KEY: &str = "controller.quorum.voters";
    let mut voters: Vec<QuorumVoter> = Vec::with_capacity(elements.len());
    for element in elements {
        let refuse = |reason: &str| invalid(KEY, element, reason);
        let malformed = || refuse("expected id@host:port");
        let (id, address) = element.split_once('@').ok_or_else(malformed)?;
        let id: i32 = id.parse().map_err(|_| malformed())?;
        if id < 0 {
            return Err(refuse("the id must be at least 0"));
        }
        let id = NodeId::new(id);
        let address = parse_address(address).ok_or_else(malformed)?;
        if matches!(&*address.host, "0.0.0.0" | "::") {
            return Err(refuse(
                "nobody can connect to the address of all interfaces",
            ));
        }
        if voters.iter().any(|voter| voter.id == id) {
            return Err(refuse("two voters have this id"));
        }
        voters.push(QuorumVoter { id, address });
    }
    Ok(voters)
}

fn parse_bootstrap_servers(elements: &[String]) -> Result<Vec<HostPort>, ConfigError> {
    const KEY: &str = "controller.quorum.bootstrap.servers";
    let server = |element: &String| {
        parse_address(element).ok_or_else(|| invalid(KEY, element, "expected host:port"))
    };
    elements.iter().map(server).collect()
}

fn parse_address(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && host.chars().all(legal)).then(|| HostPort {
        host: host.to_owned(),
        port,
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

    fn elements(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn voters_have_an_id_and_an_address() {
        let voters = parse_voters(&elements("1@a.example:9093,22@[::1]:1")).unwrap();
        let texts = voters
            .iter()
            .map(|voter| format!("{} {}", voter.id, voter.address));
        assert_eq!(
            texts.collect::<Vec<_>>(),
            ["1 a.example:9093", "22 [::1]:1"]
        );
        for (text, reason) in [
            ("a:1", "expected id@host:port"),
            ("1@a", "expected id@host:port"),
            ("1@a:0", "expected id@host:port"),
            ("1@:9", "expected id@host:port"),
            ("1@::1:9", "expected id@host:port"),
            ("-1@a:1", "the id must be at least 0"),
            (
                "1@0.0.0.0:1",
                "nobody can connect to the address of all interfaces",
            ),
            ("1@a:1,1@b:1", "two voters have this id"),
        ] {
            let error = parse_voters(&elements(text)).unwrap_err().to_string();
            let value = text.split(',').next_back().unwrap();
            let key = "controller.quorum.voters";
            assert_eq!(
                error,
                format!("Invalid value {value} for configuration {key}: {reason}")
            );
        }
    }

    #[test]
    fn bootstrap_servers_are_addresses() {
        let servers = parse_bootstrap_servers(&elements("a:1,b:2")).unwrap();
        assert_eq!(servers[1].to_string(), "b:2");
        assert!(parse_bootstrap_servers(&elements("1@a:1")).is_err());
    }

    #[test]
    fn roles_and_voters_must_fit_each_other() {
        let both = "listeners=PLAINTEXT://:1,CONTROLLER://:2\n";
        let voters = "controller.quorum.voters=1@a:1,2@b:1,3@c:1\n";
        for (text, words) in [
            ("process.roles=broker".to_owned(), "cluster of one"),
            (
                "process.roles=controller\nlisteners=CONTROLLER://:1".to_owned(),
                "cluster of one",
            ),
            (
                format!("process.roles=broker\nnode.id=2\n{voters}"),
                "the node id 2 must not be one of",
            ),
            (
                format!("node.id=4\n{both}{voters}"),
                "the node id 4 must be one of",
            ),
            (voters.to_owned(), "must only contain names of listeners"),
            (
                format!("process.roles=controller\n{both}{voters}"),
                "listeners must only contain",
            ),
            (
                format!("process.roles=broker\nnode.id=9\n{both}{voters}"),
                "listeners must not contain",
            ),
            (
                format!("process.roles=broker\nnode.id=9\ncontroller.listener.names=\n{voters}"),
                "at least one name",
            ),
            (
                "controller.quorum.voters=2@b:1".to_owned(),
                "the node id 1 must be one of",
            ),
        ] {
            let error = BrokerConfig::parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        const KAFKAS: &str = "process.roles=broker,controller\nlisteners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
            controller.listener.names=CONTROLLER\ncontroller.quorum.bootstrap.servers=";
        for (text, alone) in [
            (format!("{both}{voters}"), false),
            (format!("process.roles=broker\nnode.id=9\n{voters}"), false),
            (
                format!("process.roles=controller\nlisteners=CONTROLLER://:1\n{voters}"),
                false,
            ),
            (
                format!("{both}controller.quorum.bootstrap.servers=a:1"),
                false,
            ),
            ("controller.quorum.voters=1@a:1".to_owned(), true),
            (both.to_owned(), true),
            // As in the file that comes with Kafka.
            (format!("{KAFKAS}localhost:9093"), true),
            (format!("{KAFKAS}localhost:9094"), false),
            (format!("{KAFKAS}a:9093"), false),
            (format!("{KAFKAS}localhost:9093,a:9093"), false),
        ] {
            let (config, _) = BrokerConfig::parse(&text).unwrap();
            assert_eq!(config.is_alone(), alone, "{text}");
        }
    }
}
