//! Compaction: the threads that do it, and which log is next.

use std::io;
use std::mem;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use tidelog_log::{
    CleanError, CleanTarget, Cleanable, Cleaned, CleanedSegment, Cleaner, CleanerConfig, LogError,
};
use tidelog_metadata::configs::BrokerConfig;

use crate::clock::{Clock, real};
use crate::random::random_bytes;
use crate::rate::{Debt, RATE_CHECK};
use crate::store::Store;
use crate::store::partition::Partition;
use crate::store::topics::LocalTopic;

/// After this time a log is compacted again whose disk has failed: it may have been full.
const RETRY: Duration = Duration::from_secs(5 * 60);
/// The priority of the threads, from -20 (high) to 19. With 10, one that competes with another thread gets about a tenth of a
/// processor.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// A cleaner takes at least this much memory for keys, whatever the configuration says.
const DEDUPE_BYTES_MIN: usize = 1 << 20;

/// The threads that compact logs (`log.cleaner.threads`). They end when this is stopped or dropped.
pub(crate) struct LogCleaner {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    config: Arc<ArcSwap<BrokerConfig>>,
    clock: Clock,
    seed: [u8; 16],
    state: Mutex<State>,
    /// Told when the threads are to end, and when the clock was moved.
    wake: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    threads: Vec<JoinHandle<()>>,
    /// How many threads are at work or wait for it.
    running: usize,
    /// What is compacted right now.
    busy: Vec<Arc<Partition>>,
    /// What could not be compacted, and when that is tried again.
    failed: Vec<(Arc<Partition>, Option<Instant>)>,
    debt: Debt,
}

/// A log that was chosen.
struct Chosen {
    topic: Arc<LocalTopic>,
    partition: Arc<Partition>,
    cleanable: Cleanable,
}

impl LogCleaner {
    pub(crate) fn start(
        store: Arc<Store>,
        config: Arc<ArcSwap<BrokerConfig>>,
        clock: Clock,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            store,
            config,
            clock,
            seed: random_bytes(),
            state: Mutex::default(),
            wake: Condvar::new(),
        });
        if shared.config.load().log_cleaner_enable() {
            shared.spawn(0)?;
        }
        Ok(Self { shared })
    }

    /// Ends the threads. What they are at is left as it is.
    pub(crate) fn stop(&self) {
        let threads = {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            mem::take(&mut state.threads)
        };
        self.shared.wake.notify_all();
        for thread in threads {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for LogCleaner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn spawn(self: &Arc<Self>, index: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.stopping {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let name = format!("tidelog-clean-{index}");
        let thread = Builder::new()
            .name(name)
            .spawn(move || shared.work(index))?;
        state.running += 1;
        state.threads.push(thread);
        Ok(())
    }

    /// What one thread does: compact one log after another, and wait when none needs it. The first one sees to it that
    /// there are as many as the configuration says.
    fn work(self: &Arc<Self>, index: usize) {
        give_way();
        let shared = Arc::downgrade(self);
        let follower = self.clock.follow(move || {
            if let Some(shared) = shared.upgrade() {
                // Whoever holds it has either seen the clock or is about to wait.
                let _state = shared.state.lock();
                shared.wake.notify_all();
            }
        });
        loop {
            let seen = follower.look();
            let config = self.config.load_full();
            let wanted = usize::try_from(config.log_cleaner_threads()).unwrap_or(1);
            let running = self.state.lock().running;
            if index > 0 && index >= wanted {
                self.state.lock().running -= 1;
                return;
            }
            if index == 0 && running < wanted {
                for index in running..wanted {
                    if let Err(error) = self.spawn(index) {
                        tracing::error!(%error, "cannot start a thread that compacts logs");
                    }
                }
            }
            let did_something = wanted > 0 && self.clean_filthiest(&config, wanted);
            let millis = config.log_cleaner_backoff_ms().unsigned_abs().max(1);
            let until = self.clock.now().instant + Duration::from_millis(millis);
            if !did_something {
                follower.caught_up(seen);
            }
            let mut state = self.state.lock();
            if !did_something && !state.stopping && follower.look() == seen {
                match self.clock.in_real_time(until) {
                    Some(until) => drop(self.wake.wait_until(&mut state, until)),
                    None => self.wake.wait(&mut state),
                }
            }
            if state.stopping {
                return;
            }
        }
    }

    /// Compacts the log of which the largest share needs it; answers whether there was one.
    fn clean_filthiest(&self, config: &BrokerConfig, threads: usize) -> bool {
        let Some(chosen) = self.choose() else {
            return false;
        };
        let share = |bytes: i64| usize::try_from(bytes).unwrap_or(0) / threads;
        let cleaner = Cleaner::new(CleanerConfig {
            dedupe_buffer_bytes: share(config.log_cleaner_dedupe_buffer_size())
                .max(DEDUPE_BYTES_MIN),
            dedupe_buffer_load_factor: config.log_cleaner_io_buffer_load_factor(),
            io_buffer_bytes: share(i64::from(config.log_cleaner_io_buffer_size())),
            seed: self.seed,
        });
        let began = real::now();
        let partition = &chosen.partition;
        let mut target = Target {
            shared: self,
            chosen: &chosen,
        };
        let result = cleaner.clean(&chosen.cleanable, &mut target, self.clock.now().timestamp);
        if let Ok(cleaned) = &result {
            partition.with_log(|log, _| log.finish_cleaning(cleaned));
            partition.note_changed();
            self.store.checkpoint_cleaned(partition.directory());
        }
        let mut state = self.state.lock();
        state.busy.retain(|busy| !Arc::ptr_eq(busy, partition));
        match result {
            Ok(cleaned) => report(&chosen, &cleaned, real::now() - began),
            Err(CleanError::Aborted) => {
                tracing::info!(partition = %partition.name, "a compaction was ended before it was done");
            }
            Err(error) => {
                // A full disk may get room again, but what is damaged stays so.
                let again = matches!(error, CleanError::Log(LogError::Io { .. })).then_some(RETRY);
                tracing::error!(partition = %partition.name, %error, retry = ?again,
                    "a log cannot be compacted; without a retry it is left alone until the next start");
                let until = again.map(|again| self.clock.now().instant + again);
                state.failed.push((Arc::clone(partition), until));
            }
        }
        true
    }

    /// Finds the log of which the largest share needs compaction, and notes that it is taken.
    fn choose(&self) -> Option<Chosen> {
        let now = self.clock.now();
        {
            let mut state = self.state.lock();
            let is_over = |until: &Option<Instant>| until.is_some_and(|until| until <= now.instant);
            state
                .failed
                .retain(|(partition, until)| !is_over(until) && !partition.is_deleted());
        }
        let mut filthiest: Option<Chosen> = None;
        for topic in self.store.topics.all() {
            if !topic.config().compact {
                continue;
            }
            for partition in topic.partitions() {
                if self.state.lock().is_taken(&partition)
                    || self.store.moves.is_moving(&partition.name)
                {
                    continue;
                }
                let Some(cleanable) = self.assess(&partition) else {
                    continue;
                };
                let ratio = |chosen: &Chosen| chosen.cleanable.ratio();
                if filthiest
                    .as_ref()
                    .is_none_or(|other| cleanable.ratio() > ratio(other))
                {
                    filthiest = Some(Chosen {
                        topic: Arc::clone(&topic),
                        partition,
                        cleanable,
                    });
                }
            }
        }
        let chosen = filthiest?;
        let mut state = self.state.lock();
        // Another thread may have been faster.
        if state.stopping || state.is_taken(&chosen.partition) {
            return None;
        }
        state.busy.push(Arc::clone(&chosen.partition));
        Some(chosen)
    }

    /// What of a log can be compacted, if enough.
    fn assess(&self, partition: &Arc<Partition>) -> Option<Cleanable> {
        let to_clean = partition.with_log(|log, marks| log.to_clean(marks.last_stable_offset));
        let now = self.clock.now().timestamp;
        let cleanable =
            to_clean.and_then(|to_clean| to_clean.map(|log| log.assess(now)).transpose());
        match cleanable {
            Ok(Some(cleanable)) if cleanable.is_due() => Some(cleanable),
            Ok(Some(cleanable)) => {
                partition.with_log(|log, _| log.not_due(&cleanable));
                None
            }
            Ok(None) => None,
            Err(error) => {
                // Its readers and writers are told, too.
                tracing::debug!(partition = %partition.name, %error, "cannot look into a log");
                None
            }
        }
    }

    /// Waits until so many bytes more may be moved; false if the threads are to end.
    fn pay(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        let mut moved = bytes;
        while !state.stopping {
            let per_second = self.config.load().log_cleaner_io_max_bytes_per_second();
            let wait = state
                .debt
                .wait(mem::take(&mut moved), per_second, real::now());
            let Some(wait) = wait else {
                break;
            };
            // The rate may be raised meanwhile.
            self.wake
                .wait_until(&mut state, real::now() + wait.min(RATE_CHECK));
        }
        !state.stopping
    }
}

impl State {
    fn is_taken(&self, partition: &Arc<Partition>) -> bool {
        let busy = self.busy.iter();
        let failed = self.failed.iter().map(|(partition, _)| partition);
        busy.chain(failed)
            .any(|other| Arc::ptr_eq(other, partition))
    }
}

/// The partition that is compacted, as the log sees it.
struct Target<'a> {
    shared: &'a Shared,
    chosen: &'a Chosen,
}

impl CleanTarget for Target<'_> {
    fn moved(&mut self, bytes: u64) -> bool {
        let name = &self.chosen.partition.name;
        self.shared.pay(bytes)
            && self.chosen.topic.config().compact
            && !self.shared.store.moves.is_moving(name)
    }

    fn replace(&mut self, segment: CleanedSegment) -> Result<(), CleanError> {
        let Chosen {
            topic, partition, ..
        } = self.chosen;
        let replaced = partition.with_log(|log, _| log.replace_segments(segment))?;
        self.shared.store.doom_segments(topic, replaced);
        Ok(())
    }
}

/// Gives this thread a lower priority. It would take whole processors for itself as long as there is something to compact,
/// and what clients wait for would have to wait for their turn.
fn give_way() {
    // Elsewhere it would hold for the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "compaction cannot be given a lower priority");
    }
}

fn report(chosen: &Chosen, cleaned: &Cleaned, took: Duration) {
    let stats = &cleaned.stats;
    let partition = &chosen.partition.name;
    tracing::info!(
        %partition,
        from = %chosen.cleanable.first_dirty_offset,
        until = %cleaned.first_dirty_offset,
        bytes_before = stats.bytes_read,
        bytes_after = stats.bytes_written,
        records_before = stats.records_read,
        records_after = stats.records_kept,
        seconds = took.as_secs_f64(),
        "compacted a log"
    );
    if stats.invalid_records > 0 {
        tracing::warn!(%partition, records = stats.invalid_records,
            "a compacted log had records without key, which are gone now");
    }
}
