//! Many brokers in one process. The only test of its program, since it counts what the process has.

#![allow(
    clippy::disallowed_methods,
    reason = "the test waits by the clock of its own process"
)]

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tidelog_broker::{Broker, Builder, Durability, MemoryStream, Offset};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

const BROKERS: usize = 100;

/// What leaks are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    tasks: usize,
    threads: usize,
    /// Files and sockets, so ports too.
    descriptors: usize,
    directories: usize,
}

impl Held {
    fn now(parent: &Path) -> Self {
        let count = |path: &Path| fs::read_dir(path).unwrap().count();
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            threads: count(Path::new("/proc/self/task")),
            descriptors: count(Path::new("/proc/self/fd")),
            directories: count(parent),
        }
    }

    /// Waits until no more is held than that.
    async fn again(before: Self, parent: &Path) {
        let settle = async {
            while Self::now(parent) != before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), settle)
            .await
            .is_err()
        {
            assert_eq!(Self::now(parent), before);
        }
    }
}

/// A broker that was used, with connections to it that are open.
struct Used {
    broker: Broker,
    inside: MemoryStream,
    outside: Option<TcpStream>,
}

impl Used {
    async fn start(number: usize, parent: &Path) -> Self {
        let builder: Builder = Broker::builder();
        let builder = match number % 2 {
            0 => builder.memory(),
            // Whose flushes would be most of the time.
            _ => builder
                .temporary_in(parent)
                .durability(Durability::PageCache),
        };
        let has_ports = number % 4 < 2;
        let builder = if has_ports {
            builder
        } else {
            builder.no_ports()
        };
        let broker = builder.start().await.unwrap();
        let topic = broker.create_topic("used").await.unwrap();
        topic.produce(0, ["one"]).await.unwrap();
        let record = topic.records(0, Offset::ZERO).next().await.unwrap();
        assert_eq!(record.value.unwrap(), "one");
        let outside = match has_ports {
            true => Some(
                TcpStream::connect(broker.bootstrap_servers())
                    .await
                    .unwrap(),
            ),
            false => None,
        };
        Self {
            inside: broker.connect().await.unwrap(),
            outside,
            broker,
        }
    }
}

/// Starts brokers, and stops half of them in order; the others are dropped.
async fn round(brokers: usize, parent: &Path) {
    let mut used = Vec::new();
    for number in 0..brokers {
        used.push(Used::start(number, parent).await);
    }
    for (number, used) in used.into_iter().enumerate() {
        let Used {
            broker,
            inside,
            outside,
        } = used;
        match number % 3 {
            0 => drop(broker),
            _ => broker.shutdown().await.unwrap(),
        }
        drop((inside, outside));
    }
}

fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Threads for what blocks are the runtime's; they go when they have had nothing to do for so long.
    runtime.thread_keep_alive(Duration::from_millis(10));
    runtime.enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_hundred_brokers_leave_nothing_behind() {
    run(async {
        let parent = tempfile::tempdir().unwrap();
        let before = Held::now(parent.path());
        round(BROKERS, parent.path()).await;
        Held::again(before, parent.path()).await;
    });
}
