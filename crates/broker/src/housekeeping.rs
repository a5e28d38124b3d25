//! What a node does from time to time: delete old segments, forget idle producers, write checkpoints.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tidelog_metadata::configs::BrokerConfig;

use crate::store::Store;

/// How often checkpoints are written that differ from the last ones: so much of a log is read again after a crash.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// A thread that ends when this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeping {
    pub(crate) fn start(store: Arc<Store>, config: Arc<ArcSwap<BrokerConfig>>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = Builder::new()
            .name("tidelog-upkeep".into())
            .spawn(move || {
                let mut next_retention = Instant::now() + retention_interval(&config);
                while stopped.recv_timeout(CHECKPOINT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    if Instant::now() >= next_retention {
                        store.delete_old_segments();
                        next_retention = Instant::now() + retention_interval(&config);
                    }
                    store.remove_deleted_files();
                    store.checkpoint();
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the thread, after what it is doing just now.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.stop();
    }
}

fn retention_interval(config: &ArcSwap<BrokerConfig>) -> Duration {
    let millis = config.load().log_retention_check_interval_ms();
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).max(Duration::from_millis(1))
}
