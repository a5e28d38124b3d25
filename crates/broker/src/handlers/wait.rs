//! Waiting for the appends of one request, and for what becomes of partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_types::ErrorCode;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::store::partition::{Acknowledge, Partition, Waiter};

/// The appends of one request that are not acknowledged yet. The token of each is its index in the request.
#[derive(Default)]
pub(crate) struct AppendWait {
    /// One for each append, and one for the request itself until it has started them all.
    outstanding: AtomicUsize,
    failed: Mutex<Vec<(usize, ErrorCode)>>,
    all_done: Notify,
}

impl AppendWait {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            outstanding: AtomicUsize::new(1),
            ..Self::default()
        })
    }

    /// The waiter for the append with this index in the request.
    pub(crate) fn expect(self: &Arc<Self>, index: usize) -> Waiter {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Waiter {
            target: Arc::clone(self) as Arc<dyn Acknowledge>,
            token: index as u64,
        }
    }

    /// An append that was [expected](Self::expect) has failed, or needs no waiting.
    pub(crate) fn settled(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_done.notify_one();
        }
    }

    /// Waits until every append is settled; gives those that failed, by index. `None` if it took too long.
    pub(crate) async fn wait(
        &self,
        clock: &Clock,
        timeout: Duration,
    ) -> Option<Vec<(usize, ErrorCode)>> {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) != 1 {
            let until = clock.moment() + timeout;
            clock.timeout_at(until, self.all_done.notified()).await?;
        }
        Some(std::mem::take(&mut *self.failed.lock()))
    }
}

impl Acknowledge for AppendWait {
    fn acknowledged(&self, token: u64, result: Result<(), ErrorCode>) {
        if let Err(code) = result {
            self.failed.lock().push((token as usize, code));
        }
        self.settled();
    }
}

/// A place among those who are woken when partitions change, given up when dropped.
pub(super) struct Watch {
    notify: Arc<Notify>,
    partitions: Vec<Arc<Partition>>,
}

impl Watch {
    pub(super) fn new(partitions: impl Iterator<Item = Arc<Partition>>) -> Self {
        let notify = Arc::new(Notify::new());
        let partitions: Vec<_> = partitions.collect();
        for partition in &partitions {
            partition.watch(&notify);
        }
        Self { notify, partitions }
    }

    /// Returns when one of the partitions may have changed since the last call.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.unwatch(&self.notify);
        }
    }
}
