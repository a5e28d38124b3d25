//! What this node does so that partitions have the same records on several brokers.
//!
//! The rules are the replicas' ([`tidelog_replication::partition`]). They leave what they want in the
//! [outbox](crate::store::outbox); the tasks here see to it: a [fetcher] for each leader (or a few), which copies
//! everything that this node follows there; one for what leaders ask of the controller; one that wakes replicas whose time
//! has come; and one that tells the controller in which directories new replicas are.

mod changes;
mod directories;
mod fetcher;
mod session;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::image::Image;
use tidelog_types::{NodeId, Str};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use self::directories::Assignments;
use self::fetcher::Fetcher;
use crate::metadata::ActiveController;
use crate::missing::Missing;
use crate::peers::{Address, Network};
use crate::store::Store;

/// What the tasks share.
pub(crate) struct Replication {
    pub(crate) node_id: NodeId,
    pub(crate) broker_epoch: i64,
    pub(crate) cluster_id: Str,
    pub(crate) store: Arc<Store>,
    pub(crate) image: Arc<ArcSwap<Image>>,
    pub(crate) config: Arc<ArcSwap<BrokerConfig>>,
    pub(crate) controller: Arc<ActiveController>,
    pub(crate) network: Arc<dyn Network>,
    /// The leaders that cannot be reached.
    pub(crate) missing: Arc<Missing>,
}

impl Replication {
    /// Replicates until `stopped`. Nothing is appended to a follower any more when this returns.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(changes::run(Arc::clone(&self)));
        tasks.spawn(directories::run(Arc::clone(&self)));
        let outbox = Arc::clone(&self.store.outbox);
        tasks.spawn(async move { outbox.run_wakes().await });
        let outbox = &self.store.outbox;
        loop {
            tokio::select! {
                mailbox = outbox.unserved() => {
                    tasks.spawn(Fetcher::new(Arc::clone(&self), mailbox).run());
                }
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        tasks.shutdown().await;
    }

    /// Where a broker listens for other brokers.
    fn address_of(&self, broker: NodeId) -> Option<Address> {
        let config = self.config.load();
        let listener = config.inter_broker_listener()?;
        let image = self.image.load();
        let endpoint = image.broker(broker)?.endpoint(&listener.name)?;
        Some(Address {
            host: endpoint.host.clone(),
            port: endpoint.port,
        })
    }

    fn fetch_version(&self) -> i16 {
        self.image.load().metadata_version().fetch_version()
    }

    fn list_offsets_version(&self) -> i16 {
        self.image.load().metadata_version().list_offsets_version()
    }

    /// Has the checkpoints of directories written in which logs were cut.
    async fn checkpoint_cut(&self, mut directories: Vec<usize>) {
        if directories.is_empty() {
            return;
        }
        directories.sort_unstable();
        directories.dedup();
        let store = Arc::clone(&self.store);
        let written = tokio::task::spawn_blocking(move || {
            directories
                .into_iter()
                .for_each(|directory| store.checkpoint_cut(directory));
        });
        // One that panicked has said so.
        let _ = written.await;
    }
}
