//! Brokers for tests: a directory of their own, a port that the system chooses.

use tempfile::TempDir;
use tidelog_broker::{Broker, Builder};

use crate::client::Client;

/// A broker on a directory that goes with it.
///
/// With `TIDELOG_TEST_BOOTSTRAP=host:port` the tests talk to that broker instead. So it can be found out what Kafka
/// does, as far as a test neither restarts the broker nor sets its properties.
pub(crate) struct Server {
    pub(crate) broker: Option<Broker>,
    pub(crate) dir: TempDir,
    properties: Vec<(String, String)>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A broker with these properties on top of the defaults.
    pub(crate) async fn with(properties: &[(&str, &str)]) -> Self {
        let mut server = Self {
            broker: None,
            dir: tempfile::tempdir().unwrap(),
            properties: properties
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        if !is_elsewhere() {
            server.run().await;
        }
        server
    }

    /// A directory that holds something, on which no broker runs yet.
    pub(crate) fn on(dir: TempDir) -> Self {
        Self {
            broker: None,
            dir,
            properties: Vec::new(),
        }
    }

    /// Starts a broker on the directory, which must not have one.
    pub(crate) async fn run(&mut self) {
        self.broker = Some(self.builder().start().await.unwrap());
    }

    pub(crate) fn builder(&self) -> Builder {
        self.properties
            .iter()
            .fold(builder().data_dir(self.dir.path()), |builder, (k, v)| {
                builder.property(k, v)
            })
    }

    /// Stops the broker in order.
    pub(crate) async fn stop(&mut self) {
        let broker = self.broker.take().unwrap();
        broker.shutdown().await.unwrap();
    }

    /// Stops the broker in order, and starts another one on its directory.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    pub(crate) fn address(&self) -> String {
        match &self.broker {
            Some(broker) => broker.bootstrap_servers(),
            None => std::env::var("TIDELOG_TEST_BOOTSTRAP").unwrap(),
        }
    }

    /// A client of the broker, by TCP unless `TIDELOG_TEST_TRANSPORT=memory` says otherwise.
    pub(crate) async fn client(&self) -> Client {
        match &self.broker {
            Some(broker) if is_in_memory() => Client::over(broker.connect().await.unwrap()),
            _ => Client::connect(&self.address()).await,
        }
    }
}

/// What the brokers of all tests have in common.
pub(crate) fn builder() -> Builder {
    Broker::builder()
        .listener("PLAINTEXT://localhost:0")
        .property("offsets.topic.num.partitions", "4")
}

/// Whether the tests talk to a broker that they have not started.
pub(crate) fn is_elsewhere() -> bool {
    std::env::var_os("TIDELOG_TEST_BOOTSTRAP").is_some()
}

fn is_in_memory() -> bool {
    std::env::var_os("TIDELOG_TEST_TRANSPORT").is_some_and(|transport| transport == "memory")
}
