use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::Upkeep;

/// Something that can be flushed to its disk, in practice a partition.
pub trait FlushTarget: Send + Sync {
    /// Makes durable all that was written before the call, and tells whoever waits for it. Runs on a thread of the
    /// flusher, or where [`Flusher::flush_here`] is called. Answers the work that nobody waits for, which a thread of the
    /// flusher does before the next flush of this target.
    fn flush(&self) -> Option<Upkeep>;
}

/// If flushes have taken longer on the average, the disk is a slow one, for which only the flusher's threads wait.
const SLOW_FLUSH: Duration = Duration::from_millis(1);
/// How many flushes the average looks back on.
const FLUSHES_LOOKED_AT: u32 = 8;

/// The threads that do every fsync of a log directory.
///
/// Requests group by themselves: all requests for a target that arrive before its flush begins are served by that one,
/// and all that arrive while it runs by one more. So the slower the disk, the larger the groups.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tidelog_log::{FlushTarget, Flusher, Upkeep};
///
/// struct Counter(AtomicU32);
/// impl FlushTarget for Counter {
///     fn flush(&self) -> Option<Upkeep> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         None
///     }
/// }
///
/// let counter = Arc::new(Counter(AtomicU32::new(0)));
/// let flusher = Flusher::start("flusher-0")?;
/// flusher.request(counter.clone());
/// drop(flusher); // what was requested is still done
/// assert_eq!(counter.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Flusher {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    /// Targets known by address: the value tells whether the target waits in the queue, runs, or both.
    known: HashMap<usize, Known>,
    /// How many flushes were made.
    flushes: u64,
    /// How long flushes have taken, the latest counting most.
    flush_time: Duration,
    stopping: bool,
}

enum Work {
    Flush(Arc<dyn FlushTarget>),
    /// What a flush outside of the flusher's threads left to do. Its target counts as running.
    Upkeep(Arc<dyn FlushTarget>, Upkeep),
}

#[derive(Clone, Copy, Default)]
struct Known {
    waiting: bool,
    running: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("waiting", &self.queue.lock().waiting.len())
            .finish()
    }
}

fn address(target: &Arc<dyn FlushTarget>) -> usize {
    Arc::as_ptr(target).cast::<()>() as usize
}

impl Flusher {
    /// Starts one thread of this name.
    pub fn start(name: &str) -> io::Result<Self> {
        Self::start_threads(name, 1)
    }

    /// Starts `threads` threads, which flush that many targets at the same time. A disk answers eight flushes at a time
    /// about three times faster than one after the other; a single target gains nothing.
    pub fn start_threads(name: &str, threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        let mut flusher = Self {
            shared,
            threads: Vec::new(),
        };
        for i in 0..threads.max(1) {
            let shared = flusher.shared.clone();
            let name = if threads > 1 {
                format!("{name}-{i}")
            } else {
                name.to_owned()
            };
            flusher.threads.push(
                thread::Builder::new()
                    .name(name)
                    .spawn(move || shared.work())?,
            );
        }
        Ok(flusher)
    }

    /// How many flushes it has made since it was started.
    pub fn flushes(&self) -> u64 {
        self.shared.queue.lock().flushes
    }

    /// Asks for one flush of `target` that begins after this call.
    pub fn request(&self, target: Arc<dyn FlushTarget>) {
        let mut queue = self.shared.queue.lock();
        let known = queue.known.entry(address(&target)).or_default();
        if known.waiting {
            return;
        }
        known.waiting = true;
        // Of a target that runs, the thread that runs it takes care.
        if known.running {
            return;
        }
        queue.waiting.push_back(Work::Flush(target));
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Flushes `target` on the calling thread, which saves two changes of threads, if nothing else is to be flushed and
    /// the disk has been quick of late. Otherwise answers `false`, and nothing was done or requested.
    ///
    /// For a thread that has nothing else to do than to wait for this flush.
    pub fn flush_here(&self, target: &Arc<dyn FlushTarget>) -> bool {
        let key = address(target);
        let mut queue = self.shared.queue.lock();
        if !queue.known.is_empty() || queue.flush_time > SLOW_FLUSH {
            return false;
        }
        queue.known.insert(key, Known::RUNNING);
        match Queue::flush(&mut queue, target) {
            Some(upkeep) => queue
                .waiting
                .push_back(Work::Upkeep(target.clone(), upkeep)),
            None if !queue.ran(target) => return true,
            None => {}
        }
        drop(queue);
        self.shared.wake.notify_one();
        true
    }
}

impl Known {
    const WAITING: Self = Self {
        waiting: true,
        running: false,
    };
    const RUNNING: Self = Self {
        waiting: false,
        running: true,
    };
}

impl Queue {
    /// Flushes with the queue unlocked.
    fn flush(queue: &mut MutexGuard<'_, Self>, target: &Arc<dyn FlushTarget>) -> Option<Upkeep> {
        let began = Instant::now();
        let upkeep = MutexGuard::unlocked(queue, || target.flush());
        queue.flushes += 1;
        let before = queue.flush_time * (FLUSHES_LOOKED_AT - 1);
        queue.flush_time = (before + began.elapsed()) / FLUSHES_LOOKED_AT;
        upkeep
    }

    /// A target does not run any more: if it was requested meanwhile it waits now, which is answered.
    fn ran(&mut self, target: &Arc<dyn FlushTarget>) -> bool {
        let key = address(target);
        let requested = self.known.remove(&key).is_some_and(|known| known.waiting);
        if requested {
            self.known.insert(key, Known::WAITING);
            self.waiting.push_back(Work::Flush(target.clone()));
        }
        requested
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            let Some(work) = queue.waiting.pop_front() else {
                if queue.stopping {
                    return;
                }
                self.wake.wait(&mut queue);
                continue;
            };
            let target = match work {
                Work::Flush(target) => {
                    queue.known.insert(address(&target), Known::RUNNING);
                    if let Some(upkeep) = Queue::flush(&mut queue, &target) {
                        MutexGuard::unlocked(&mut queue, || upkeep.run());
                    }
                    target
                }
                Work::Upkeep(target, upkeep) => {
                    MutexGuard::unlocked(&mut queue, || upkeep.run());
                    target
                }
            };
            queue.ran(&target);
            // This may be the last reference, and what it refers to may call the flusher as it goes.
            MutexGuard::unlocked(&mut queue, || drop(target));
        }
    }
}

impl Drop for Flusher {
    /// Serves what was requested, then ends the threads.
    fn drop(&mut self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // The last reference to a flusher may be dropped by a target, on the flusher's own thread.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Reports every flush, then waits until it is told to go on.
    struct Target {
        began: mpsc::Sender<()>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl FlushTarget for Target {
        fn flush(&self) -> Option<Upkeep> {
            self.began.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
            None
        }
    }

    fn target() -> (Arc<Target>, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (began, has_begun) = mpsc::channel();
        let (tell, go_on) = mpsc::channel();
        (
            Arc::new(Target {
                began,
                go_on: Mutex::new(go_on),
            }),
            has_begun,
            tell,
        )
    }

    #[test]
    fn requests_during_a_flush_are_one_more_flush() {
        for threads in [1, 3] {
            let (target, has_begun, tell) = target();
            let flusher = Flusher::start_threads("test", threads).unwrap();
            flusher.request(target.clone());
            has_begun.recv().unwrap();
            for _ in 0..10 {
                flusher.request(target.clone());
            }
            tell.send(()).unwrap();
            has_begun.recv().unwrap();
            tell.send(()).unwrap();
            drop(flusher);
            assert!(has_begun.try_recv().is_err(), "a third flush");
        }
    }

    #[test]
    fn a_slow_target_does_not_hold_up_another_thread() {
        let (slow, slow_has_begun, tell_slow) = target();
        let (quick, quick_has_begun, tell_quick) = target();
        let flusher = Flusher::start_threads("test", 2).unwrap();
        flusher.request(slow);
        slow_has_begun.recv().unwrap();
        flusher.request(quick);
        quick_has_begun.recv().unwrap();
        tell_quick.send(()).unwrap();
        tell_slow.send(()).unwrap();
    }

    #[test]
    fn a_flush_on_the_calling_thread_gives_way_to_others_and_leaves_requests_to_the_threads() {
        let (busy, busy_has_begun, tell_busy) = target();
        let (here, here_has_begun, tell_here) = target();
        let here: Arc<dyn FlushTarget> = here;
        let flusher = Flusher::start("test").unwrap();
        flusher.request(busy);
        busy_has_begun.recv().unwrap();
        assert!(!flusher.flush_here(&here), "while another target runs");
        tell_busy.send(()).unwrap();
        drop(flusher);

        let flusher = Flusher::start("test").unwrap();
        thread::scope(|scope| {
            let caller = scope.spawn(|| flusher.flush_here(&here));
            here_has_begun.recv().unwrap();
            // What is written from now on is not covered by the flush that runs.
            flusher.request(here.clone());
            assert!(!flusher.flush_here(&here), "while it runs");
            tell_here.send(()).unwrap();
            assert!(caller.join().unwrap());
        });
        here_has_begun.recv().unwrap();
        tell_here.send(()).unwrap();
        drop(flusher);
        assert!(here_has_begun.try_recv().is_err(), "a third flush");
    }

    #[test]
    fn a_slow_disk_is_left_to_the_threads() {
        struct Slow;
        impl FlushTarget for Slow {
            fn flush(&self) -> Option<Upkeep> {
                let began = Instant::now();
                while began.elapsed() <= SLOW_FLUSH * FLUSHES_LOOKED_AT {
                    thread::yield_now();
                }
                None
            }
        }
        let flusher = Flusher::start("test").unwrap();
        let slow: Arc<dyn FlushTarget> = Arc::new(Slow);
        assert!(flusher.flush_here(&slow));
        assert!(!flusher.flush_here(&slow));
        flusher.shared.queue.lock().flush_time = SLOW_FLUSH;
        assert!(flusher.flush_here(&slow), "it is quick again");
    }
}
