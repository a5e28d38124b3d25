//! What a node does from time to time: delete old segments, forget idle producers, write checkpoints.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidelog_metadata::configs::BrokerConfig;

use crate::clock::{Clock, real};
use crate::store::Store;

/// How often checkpoints are written that differ from the last ones: so much of a log is read again after a crash.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// A thread that ends when this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    told: Sender<Told>,
    thread: Option<JoinHandle<()>>,
}

/// What wakes the thread before its time.
#[derive(Clone, Copy, Debug)]
enum Told {
    ClockMoved,
    Stop,
}

impl Housekeeping {
    pub(crate) fn start(
        store: Arc<Store>,
        config: Arc<ArcSwap<BrokerConfig>>,
        clock: Clock,
    ) -> io::Result<Self> {
        let (told, messages) = mpsc::channel();
        let wake = told.clone();
        let follower = clock.follow(move || {
            // A thread that has ended need not know.
            let _ = wake.send(Told::ClockMoved);
        });
        let thread = Builder::new()
            .name("tidelog-upkeep".into())
            .spawn(move || {
                let after = |wait| clock.now().instant + wait;
                let mut next_checkpoint = after(CHECKPOINT_INTERVAL);
                let mut next_retention = after(retention_interval(&config));
                loop {
                    let seen = follower.look();
                    let now = clock.now().instant;
                    if now >= next_retention {
                        store.delete_old_segments();
                        next_retention = after(retention_interval(&config));
                    }
                    if now >= next_checkpoint {
                        store.remove_deleted_files();
                        store.checkpoint();
                        next_checkpoint = after(CHECKPOINT_INTERVAL);
                    }
                    follower.caught_up(seen);
                    let next = clock.in_real_time(next_checkpoint.min(next_retention));
                    match real::receive(&messages, next) {
                        Ok(Told::ClockMoved) | Err(RecvTimeoutError::Timeout) => {}
                        Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            })?;
        Ok(Self {
            told,
            thread: Some(thread),
        })
    }

    /// Ends the thread, after what it is doing just now.
    pub(crate) fn stop(&mut self) {
        let _ = self.told.send(Told::Stop);
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
