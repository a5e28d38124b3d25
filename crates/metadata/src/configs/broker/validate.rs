//! What is checked across keys.

use super::{BrokerConfig, CORDONED};
use crate::configs::def::ConfigError;
use crate::configs::value::Value;

/// What stands there for all directories.
const ALL_DIRECTORIES: &str = "*";
/// Numbers of threads, or of what stands for them. While a broker runs each may at most be doubled or halved at a time.
const THREADS: [&str; 6] = [
    "background.threads",
    "log.cleaner.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
];

impl BrokerConfig {
    /// What Kafka checks across keys.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let check = |holds: bool, text: &str| {
            if holds {
                Ok(())
            } else {
                Err(ConfigError::Conflict(text.into()))
            }
        };
        let roles = self.roles();
        check(
            roles.broker || roles.controller,
            "process.roles must contain broker, controller, or both",
        )?;
        check(
            self.log_retention_ms() != 0,
            "log.retention.ms must be unlimited (-1) or, equal or greater than 1",
        )?;
        check(
            self.log_roll_ms() >= 1,
            "log.roll.ms must be equal or greater than 1",
        )?;
        check(
            self.log_roll_jitter_ms() >= 0,
            "log.roll.jitter.ms must be equal or greater than 0",
        )?;
        check(
            !self.log_dirs().is_empty(),
            "At least one log directory must be defined via log.dirs or log.dir.",
        )?;
        check(
            self.log_cleaner_min_compaction_lag_ms() <= self.log_cleaner_max_compaction_lag_ms(),
            "log.cleaner.min.compaction.lag.ms must not be larger than log.cleaner.max.compaction.lag.ms",
        )?;
        check(
            self.replica_fetch_wait_max_ms() <= self.replica_socket_timeout_ms(),
            "replica.socket.timeout.ms must be equal or greater than replica.fetch.wait.max.ms",
        )?;
        check(
            i64::from(self.replica_fetch_wait_max_ms()) <= self.replica_lag_time_max_ms(),
            "replica.lag.time.max.ms must be equal or greater than replica.fetch.wait.max.ms",
        )?;
        check(
            !(self.is_set("inter.broker.listener.name")
                && self.is_set("security.inter.broker.protocol")),
            "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.",
        )?;
        check(
            self.group_min_session_timeout_ms() <= self.group_max_session_timeout_ms(),
            "group.min.session.timeout.ms must not be larger than group.max.session.timeout.ms",
        )?;
        // Those of listeners are known later.
        self.connection_limits().map(drop)
    }

    /// What a broker checks that is to have another configuration while it runs.
    pub(crate) fn validate_change(&self, to: &Self) -> Result<(), ConfigError> {
        for name in THREADS {
            let (Value::Int(now), Value::Int(then)) = (self.read(name), to.read(name)) else {
                continue;
            };
            let bound = match (*now, *then) {
                (now, then) if then < now / 2 => "be at least half",
                (now, then) if then > now * 2 => "not be greater than double",
                _ => continue,
            };
            return Err(ConfigError::Conflict(format!(
                "Dynamic thread count update validation failed for {name}={then}, value should {bound} the current value {now}"
            )));
        }
        to.validate_cordoned()
    }

    fn validate_cordoned(&self) -> Result<(), ConfigError> {
        let cordoned = self.cordoned_log_dirs();
        if cordoned.iter().any(|path| path == ALL_DIRECTORIES) {
            return match cordoned.len() {
                1 => Ok(()),
                _ => Err(ConfigError::Conflict(format!(
                    "When {CORDONED} is set to {ALL_DIRECTORIES}, it must not contain other values"
                ))),
            };
        }
        let missing: Vec<&str> = cordoned
            .iter()
            .filter(|path| !self.log_dirs().contains(path))
            .map(String::as_str)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "All entries in {CORDONED} must be present in log.dirs or log.dir. Missing entries : {}",
            missing.join(", ")
        )))
    }
}
