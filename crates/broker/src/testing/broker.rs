//! A broker for one test.

use std::io;
use std::ops::Deref;

use tidelog_metadata::configs::Durability;

use super::{Crash, Crashed, Disk};
use crate::{Broker, Builder, StartError};

/// A broker for one test: in memory, gone when it is dropped, and as many as wanted side by side.
///
/// It is a [`Broker`] on a [`Disk`] in memory, and is used like one. Its records are flushed before they are acknowledged, so
/// that a [crash](Self::crash) takes nothing that was.
///
/// ```
/// use tidelog_broker::testing::TestBroker;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = TestBroker::start().await?;
/// // ... clients connect to `broker.bootstrap_servers()` ...
/// assert!(broker.stored_records("orders").is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestBroker {
    broker: Broker,
    disk: Disk,
}

impl TestBroker {
    /// A broker on a port of both loopbacks that the system chooses.
    pub async fn start() -> Result<Self, StartError> {
        Self::start_with(|builder| builder).await
    }

    /// The same with other settings. Where they name [disks](Builder::disks) or a directory, the data is there.
    pub async fn start_with(settings: impl FnOnce(Builder) -> Builder) -> Result<Self, StartError> {
        let disk = Disk::memory();
        let builder = Broker::builder()
            .listener("PLAINTEXT://localhost:0")
            .durability(Durability::Fsync)
            // Fifty are for thousands of groups, and each takes a while to open.
            .property("offsets.topic.num.partitions", "1")
            .disks([&disk]);
        let broker = settings(builder).start().await?;
        Ok(Self { broker, disk })
    }

    /// The disk on which the broker keeps its data.
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The broker stops as by power failure, and starts again on what is left: what was not flushed is gone.
    pub async fn crash(self, crash: Crash) -> Result<Self, RestartError> {
        let Self { broker, disk } = self;
        let crashed: Crashed = broker.crash(crash).await?;
        let broker = crashed.start().await?;
        Ok(Self { broker, disk })
    }

    /// The broker itself.
    pub fn into_broker(self) -> Broker {
        self.broker
    }
}

impl Deref for TestBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// Why a broker is not there again after a crash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The directory on the file system could not be made what the crash has left.
    #[error("what the crash has left cannot be written: {0}")]
    Disk(#[from] io::Error),
    /// The broker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}
