//! The end of a broker as by power failure.

use std::io;

pub use tidelog_log::testing::Crash;

use super::Disk;
use crate::{Broker, Builder, ListenerAddress, StartError};

/// What a crash has left of a broker.
#[derive(Debug)]
pub struct Crashed {
    builder: Builder,
}

impl Crashed {
    /// Starts the broker again, on what is left and on the same ports. Rules for [faults](Broker::faults) still hold, the
    /// clock shows what it did, and the requests seen before are remembered.
    pub async fn start(self) -> Result<Broker, StartError> {
        self.builder.start().await
    }
}

impl Builder {
    /// Keeps the data on these disks, each of which is a log directory.
    #[must_use]
    pub fn disks<'a>(mut self, disks: impl IntoIterator<Item = &'a Disk>) -> Self {
        self.test_disks = disks.into_iter().cloned().collect();
        let paths: Vec<_> = self.test_disks.iter().map(Disk::path).collect();
        let paths: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
        let paths = paths.join(",");
        self.property("log.dirs", paths)
    }

    /// The same, to be started on the ports that the system has chosen.
    fn on_ports_of(self, addresses: &[ListenerAddress]) -> Self {
        let Some(listeners) = self.properties.get("listeners") else {
            return self;
        };
        let port = |listener: &str| {
            let (name, _) = listener.split_once("://")?;
            let unnumbered = listener.strip_suffix(":0")?;
            let is_it = |address: &&ListenerAddress| address.name.eq_ignore_ascii_case(name.trim());
            let address = addresses.iter().find(is_it)?;
            Some(format!("{unnumbered}:{}", address.port))
        };
        let listeners: Vec<_> = listeners
            .split(',')
            .map(|listener| port(listener.trim()).unwrap_or_else(|| listener.to_owned()))
            .collect();
        self.property("listeners", listeners.join(","))
    }
}

impl Broker {
    /// Stops the broker as a power failure would: its clients hear nothing more, and what was not flushed is gone from its
    /// [disks](Builder::disks), in part or in whole as `crash` says. What it leaves can be started again.
    ///
    /// A log directory that is on no [`Disk`] keeps what the operating system has been given, as if only the process had been
    /// killed; one in memory is lost.
    pub async fn crash(mut self, crash: Crash) -> io::Result<Crashed> {
        let builder = self.kept.take().unwrap_or_else(Builder::single_node);
        let builder = builder.on_ports_of(self.listeners());
        self.cut_off().await;
        for disk in &builder.test_disks {
            disk.crash(crash)?;
        }
        Ok(Crashed { builder })
    }
}
