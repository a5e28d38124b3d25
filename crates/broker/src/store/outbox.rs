//! What replicas want of other nodes, and when they want to be woken: left here by partitions, on whatever thread that
//! happens, and fetched by the tasks that see to it.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering as Atomic};
use std::time::Instant;

use parking_lot::Mutex;
use rustc_hash::FxHasher;
use tidelog_replication::partition::AlterPartition;
use tidelog_types::NodeId;
use tokio::sync::Notify;

use super::partition::Partition;
use crate::clock::real;

/// What the replicas of this node want of others.
pub(crate) struct Outbox {
    /// How many fetchers there are for each leader (`num.replica.fetchers`).
    fetchers_per_source: AtomicU32,
    mailboxes: Mutex<Mailboxes>,
    /// Told when there is a mailbox without a fetcher.
    mailbox_added: Notify,
    changes: Mutex<Vec<(Arc<Partition>, AlterPartition)>>,
    change_added: Notify,
    wakes: Mutex<BinaryHeap<Reverse<Wake>>>,
    wake_is_earlier: Notify,
    failed: Mutex<Vec<FailedLog>>,
    log_failed: Notify,
}

/// A partition whose log takes no more.
pub(crate) struct FailedLog {
    pub(crate) partition: Arc<Partition>,
    /// The disk has refused something; else what is in the files is wrong.
    pub(crate) by_disk: bool,
}

#[derive(Default)]
struct Mailboxes {
    by_source: HashMap<(NodeId, u32), Arc<Mailbox>>,
    unserved: Vec<Arc<Mailbox>>,
}

/// Partitions whose wishes of one leader have changed, until a fetcher looks at them.
pub(crate) struct Mailbox {
    /// The leader.
    pub(crate) source: NodeId,
    /// Which of the fetchers of the leader looks here.
    pub(crate) index: u32,
    changed: Mutex<Vec<Arc<Partition>>>,
    notify: Notify,
}

/// A replica that wants to be woken. It may have changed its mind by then.
struct Wake {
    at: Instant,
    partition: Arc<Partition>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            fetchers_per_source: AtomicU32::new(1),
            mailboxes: Mutex::default(),
            mailbox_added: Notify::new(),
            changes: Mutex::default(),
            change_added: Notify::new(),
            wakes: Mutex::default(),
            wake_is_earlier: Notify::new(),
            failed: Mutex::default(),
            log_failed: Notify::new(),
        }
    }

    /// Forgets everything: nobody will look any more, and what is in it holds on to the outbox.
    pub(super) fn clear(&self) {
        *self.mailboxes.lock() = Mailboxes::default();
        self.changes.lock().clear();
        self.wakes.lock().clear();
        self.failed.lock().clear();
    }

    /// Partitions are spread over so many fetchers for each leader. Tells whether that is another number than before: then
    /// partitions are to [change over](Self::change_fetcher).
    pub(super) fn set_fetchers_per_source(&self, count: u32) -> bool {
        let count = count.max(1);
        self.fetchers_per_source.swap(count, Atomic::Relaxed) != count
    }

    /// Has all fetchers of a leader look which of them a partition belongs to.
    pub(super) fn change_fetcher(&self, leader: NodeId, partition: &Arc<Partition>) {
        let mailboxes = self.mailboxes.lock();
        let of_leader: Vec<_> = mailboxes
            .by_source
            .values()
            .filter(|mailbox| mailbox.source == leader)
            .cloned()
            .collect();
        drop(mailboxes);
        for mailbox in of_leader {
            mailbox.changed.lock().push(Arc::clone(partition));
            mailbox.notify.notify_one();
        }
        let fetcher = (leader, self.fetcher_of(partition));
        self.asks_changed(fetcher, Arc::clone(partition));
    }

    /// Which of the fetchers of a leader a partition belongs to.
    pub(crate) fn fetcher_of(&self, partition: &Partition) -> u32 {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(&partition.name);
        let count = u64::from(self.fetchers_per_source.load(Atomic::Relaxed));
        u32::try_from(hash % count).unwrap_or(0)
    }

    /// A replica wants something else than before of this leader.
    pub(super) fn asks_changed(&self, fetcher: (NodeId, u32), partition: Arc<Partition>) {
        let mailbox = {
            let mut mailboxes = self.mailboxes.lock();
            if let Some(mailbox) = mailboxes.by_source.get(&fetcher) {
                Arc::clone(mailbox)
            } else {
                let mailbox = Arc::new(Mailbox {
                    source: fetcher.0,
                    index: fetcher.1,
                    changed: Mutex::default(),
                    notify: Notify::new(),
                });
                mailboxes.by_source.insert(fetcher, Arc::clone(&mailbox));
                mailboxes.unserved.push(Arc::clone(&mailbox));
                self.mailbox_added.notify_one();
                mailbox
            }
        };
        mailbox.changed.lock().push(partition);
        mailbox.notify.notify_one();
    }

    /// The next mailbox that has no fetcher yet.
    pub(crate) async fn unserved(&self) -> Arc<Mailbox> {
        loop {
            if let Some(mailbox) = self.mailboxes.lock().unserved.pop() {
                return mailbox;
            }
            self.mailbox_added.notified().await;
        }
    }

    /// A leader wants another ISR.
    pub(super) fn alter_partition(&self, partition: Arc<Partition>, change: AlterPartition) {
        self.changes.lock().push((partition, change));
        self.change_added.notify_one();
    }

    /// What leaders ask of the controller: at least one change, at most `max`.
    pub(crate) async fn changes(&self, max: usize) -> Vec<(Arc<Partition>, AlterPartition)> {
        loop {
            {
                let mut changes = self.changes.lock();
                if !changes.is_empty() {
                    let count = changes.len().min(max);
                    return changes.drain(..count).collect();
                }
            }
            self.change_added.notified().await;
        }
    }

    /// A log has failed.
    pub(super) fn failed(&self, log: FailedLog) {
        self.failed.lock().push(log);
        self.log_failed.notify_one();
    }

    /// The logs that have failed since the last call; waits for the first one.
    pub(crate) async fn failures(&self) -> Vec<FailedLog> {
        loop {
            let failed = std::mem::take(&mut *self.failed.lock());
            if !failed.is_empty() {
                return failed;
            }
            self.log_failed.notified().await;
        }
    }

    /// A replica wants to be woken at `at`.
    pub(super) fn wake_at(&self, at: Instant, partition: Arc<Partition>) {
        let mut wakes = self.wakes.lock();
        let is_earlier = wakes.peek().is_none_or(|Reverse(first)| at < first.at);
        wakes.push(Reverse(Wake { at, partition }));
        drop(wakes);
        if is_earlier {
            self.wake_is_earlier.notify_one();
        }
    }

    /// Wakes replicas when it is time, for ever.
    pub(crate) async fn run_wakes(&self) {
        loop {
            let now = real::now();
            let due = {
                let mut wakes = self.wakes.lock();
                let mut due = Vec::new();
                while wakes.peek().is_some_and(|Reverse(first)| first.at <= now) {
                    due.extend(wakes.pop().map(|Reverse(wake)| wake.partition));
                }
                due
            };
            due.iter().for_each(|partition| partition.wake());
            let next = self.wakes.lock().peek().map(|Reverse(first)| first.at);
            let earlier = self.wake_is_earlier.notified();
            match next {
                Some(at) => {
                    tokio::select! {
                        () = real::sleep_until(at) => {}
                        () = earlier => {}
                    }
                }
                None => earlier.await,
            }
        }
    }
}

impl Mailbox {
    /// The partitions whose wishes have changed since the last call; one may be named more than once.
    pub(crate) fn take(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// Returns when there may be something in it that was not there at the last call.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl PartialEq for Wake {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Wake {}

impl PartialOrd for Wake {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wake {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
