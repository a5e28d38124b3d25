use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// Something that can be flushed to its disk, in practice a partition.
pub trait FlushTarget: Send + Sync {
    /// Makes durable all that was written before the call. Runs on a thread of the flusher.
    fn flush(&self);
}

/// The threads that do every fsync of a log directory.
///
/// Requests group by themselves: all requests for a target that arrive before its flush begins are served by that one,
/// and all that arrive while it runs by one more. So the slower the disk, the larger the groups.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tidelog_log::{FlushTarget, Flusher};
///
/// struct Counter(AtomicU32);
/// impl FlushTarget for Counter {
///     fn flush(&self) {
///         self.0.fetch_add(1, Ordering::Relaxed);
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
    waiting: VecDeque<Arc<dyn FlushTarget>>,
    /// Targets known by address: the value tells whether the target waits in the queue, runs, or both.
    known: HashMap<usize, Known>,
    stopping: bool,
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
        queue.waiting.push_back(target);
        drop(queue);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            let Some(target) = queue.waiting.pop_front() else {
                if queue.stopping {
                    return;
                }
                self.wake.wait(&mut queue);
                continue;
            };
            let key = address(&target);
            queue.known.insert(
                key,
                Known {
                    waiting: false,
                    running: true,
                },
            );
            parking_lot::MutexGuard::unlocked(&mut queue, || target.flush());
            match queue.known.remove(&key) {
                Some(Known { waiting: true, .. }) => {
                    queue.known.insert(
                        key,
                        Known {
                            waiting: true,
                            running: false,
                        },
                    );
                    queue.waiting.push_back(target);
                }
                _ => parking_lot::MutexGuard::unlocked(&mut queue, || drop(target)),
            }
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
        fn flush(&self) {
            self.began.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
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
}
