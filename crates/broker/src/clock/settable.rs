//! The clock of a broker that may be under test.

use std::fmt;
use std::future::Future;
use std::ops::Add;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidelog_types::Now;
use tokio::sync::{Notify, watch};

use super::real;

/// The clock of a broker, which a test can stop and move.
///
/// Until then it shows the system's time. It is the time of everything that clients and data see: sessions and rebalances of
/// groups, timestamps, retention, compaction, and when producers, offsets and deleted files are forgotten. Whether the
/// nodes of a cluster are alive and whether a connection is idle is judged by real time whatever this clock says, since a leap
/// would declare all of them dead. A request never waits longer than its client has asked for, in real time too.
///
/// A clone is the same clock. Brokers that are given one share it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
/// use tidelog_broker::testing::Clock;
///
/// let clock = Clock::new();
/// clock.pause();
/// let before = clock.timestamp_ms();
/// clock.advance(Duration::from_secs(7 * 24 * 3600)).await;
/// assert_eq!(clock.timestamp_ms() - before, 604_800_000);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Whether it was ever stopped or moved. Until then it costs as much as the system's.
    is_set: AtomicBool,
    setting: Mutex<Setting>,
    /// How often it was stopped, moved or let go.
    changes: watch::Sender<u64>,
    followers: Mutex<Vec<Weak<Followed>>>,
    /// Told when a follower has caught up or is gone.
    caught_up: Notify,
}

/// What the clock shows, against the system's.
#[derive(Default)]
struct Setting {
    /// Where it stands, if it does.
    paused: Option<Now>,
    /// How far it is ahead and behind otherwise.
    ahead: Duration,
    behind: Duration,
    ahead_ms: i64,
}

/// When somebody's patience ends, by either time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    real: Instant,
    own: Instant,
}

/// Whoever does something when its time has come. Who moves the clock waits for it.
pub(crate) struct Follower {
    followed: Arc<Followed>,
    clock: Arc<Shared>,
}

struct Followed {
    /// The changes of the clock that it has seen and dealt with.
    done: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// What a [`Follower`] has seen of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Clock {
    /// A clock that shows the system's time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the clock.
    pub fn pause(&self) {
        self.set(|setting, real| setting.paused = Some(setting.shown(real)));
    }

    /// Lets the clock run again, from the time that it shows.
    pub fn resume(&self) {
        self.set(Setting::resume);
    }

    /// Moves the clock, whether it is stopped or runs; returns when everything is done that has come due.
    ///
    /// It is one leap: what would have come due twice in between does so once. Two sessions that end one after the other
    /// take two steps.
    pub async fn advance(&self, by: Duration) {
        let change = self.set(|setting, _| setting.advance(by));
        loop {
            let notified = self.shared.caught_up.notified();
            let followers = self.shared.followers();
            let is_behind = |f: &Arc<Followed>| f.done.load(Ordering::Acquire) < change;
            if !followers.iter().any(is_behind) {
                return;
            }
            // Held any longer, one that ends now would seem to be there still.
            drop(followers);
            notified.await;
        }
    }

    /// Whether it stands still.
    pub fn is_paused(&self) -> bool {
        self.shared.setting.lock().paused.is_some()
    }

    /// What it shows, in milliseconds since 1970: the timestamp of a record that is appended now.
    pub fn timestamp_ms(&self) -> i64 {
        self.now().timestamp.as_millis()
    }

    /// Changes the setting, and tells everybody; gives the number of the change.
    fn set(&self, change: impl FnOnce(&mut Setting, Now)) -> u64 {
        let mut setting = self.shared.setting.lock();
        change(&mut setting, real::both());
        self.shared.is_set.store(true, Ordering::Release);
        // Under the lock, so that who has seen this number sees the change.
        let mut number = 0;
        self.shared.changes.send_modify(|changes| {
            *changes += 1;
            number = *changes;
        });
        drop(setting);
        for follower in self.shared.followers() {
            (follower.wake)();
        }
        number
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        let real = real::both();
        if !self.shared.is_set.load(Ordering::Acquire) {
            return real;
        }
        self.shared.setting.lock().shown(real)
    }

    /// The time by which replicas and voters judge each other, with the timestamp of everything that is written.
    pub(crate) fn steady(&self) -> Now {
        Now {
            instant: real::now(),
            timestamp: self.now().timestamp,
        }
    }

    /// This moment.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            real: real::now(),
            own: self.now().instant,
        }
    }

    fn is_over(&self, moment: Moment) -> bool {
        moment.real <= real::now() || moment.own <= self.now().instant
    }

    /// Returns when the moment comes.
    pub(crate) fn until(&self, moment: Moment) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        async move {
            let mut changes = clock.shared.changes.subscribe();
            while !clock.is_over(moment) {
                let own = clock.in_real_time(moment.own);
                let at = own.map_or(moment.real, |own| own.min(moment.real));
                tokio::select! {
                    () = real::sleep_until(at) => {}
                    _ = changes.changed() => {}
                }
            }
        }
    }

    /// When in real time this clock will show `at`; `None` if it stands still.
    pub(crate) fn in_real_time(&self, at: Instant) -> Option<Instant> {
        if !self.shared.is_set.load(Ordering::Acquire) {
            return Some(at);
        }
        let setting = self.shared.setting.lock();
        match setting.paused {
            Some(now) if now.instant < at => None,
            Some(_) => Some(real::now()),
            None => Some((at + setting.behind).checked_sub(setting.ahead)?),
        }
    }

    /// Makes the caller known, so that `wake` is called when the clock was moved, and whoever moved it waits until the
    /// caller has caught up. `wake` must not wait.
    pub(crate) fn follow(&self, wake: impl Fn() + Send + Sync + 'static) -> Follower {
        let followed = Arc::new(Followed {
            done: AtomicU64::new(*self.shared.changes.borrow()),
            wake: Box::new(wake),
        });
        let mut followers = self.shared.followers.lock();
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(&followed));
        Follower {
            followed,
            clock: Arc::clone(&self.shared),
        }
    }
}

impl Shared {
    fn followers(&self) -> Vec<Arc<Followed>> {
        let followers = self.followers.lock();
        followers.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Setting {
    /// What the clock shows when the system's show `real`.
    fn shown(&self, real: Now) -> Now {
        self.paused.unwrap_or_else(|| Now {
            instant: (real.instant + self.ahead)
                .checked_sub(self.behind)
                .unwrap_or(real.instant),
            timestamp: real.timestamp.saturating_add_millis(self.ahead_ms),
        })
    }

    fn advance(&mut self, by: Duration) {
        if let Some(now) = &mut self.paused {
            *now = *now + by;
        } else {
            let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            self.ahead += by;
            self.ahead_ms = self.ahead_ms.saturating_add(millis);
        }
    }

    fn resume(&mut self, real: Now) {
        if let Some(now) = self.paused.take() {
            self.ahead = now.instant.saturating_duration_since(real.instant);
            self.behind = real.instant.saturating_duration_since(now.instant);
            self.ahead_ms = now.timestamp.millis_since(real.timestamp);
        }
    }
}

impl Moment {
    /// The earlier one.
    pub(crate) fn earlier(self, other: Self) -> Self {
        Self {
            real: self.real.min(other.real),
            own: self.own.min(other.own),
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self {
            real: self.real + wait,
            own: self.own + wait,
        }
    }
}

impl Follower {
    /// To be called before the time is read.
    pub(crate) fn look(&self) -> Seen {
        Seen(*self.clock.changes.borrow())
    }

    /// Everything is done that was due when the caller looked.
    pub(crate) fn caught_up(&self, seen: Seen) {
        self.followed.done.fetch_max(seen.0, Ordering::AcqRel);
        self.clock.caught_up.notify_waiters();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followed.done.store(u64::MAX, Ordering::Release);
        self.clock.caught_up.notify_waiters();
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("is_paused", &self.is_paused())
            .field("timestamp_ms", &self.timestamp_ms())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Clock;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_goes_on_from_what_it_showed() {
        let clock = Clock::new();
        clock.pause();
        let stopped = clock.now();
        assert_eq!(clock.now(), stopped);
        clock.resume();
        let resumed = clock.now();
        assert!(resumed.instant >= stopped.instant);
        assert!(resumed.instant < stopped.instant + HOUR);
        assert!(resumed.timestamp >= stopped.timestamp);
    }

    #[tokio::test]
    async fn who_moves_the_clock_waits_until_what_was_due_is_done() {
        let clock = Clock::new();
        clock.pause();
        let due = clock.now().instant + HOUR;
        let wake = std::sync::Arc::new(tokio::sync::Notify::new());
        let follower = clock.follow({
            let wake = wake.clone();
            move || wake.notify_one()
        });
        let fired = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let task = tokio::spawn({
            let (clock, fired) = (clock.clone(), fired.clone());
            async move {
                loop {
                    let seen = follower.look();
                    if clock.now().instant >= due {
                        tokio::task::yield_now().await;
                        fired.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                    follower.caught_up(seen);
                    assert_eq!(clock.in_real_time(due + HOUR), None);
                    wake.notified().await;
                }
            }
        });
        clock.advance(HOUR - Duration::from_nanos(1)).await;
        assert_eq!(fired.load(std::sync::atomic::Ordering::SeqCst), 0);
        clock.advance(Duration::from_nanos(1)).await;
        assert_eq!(fired.load(std::sync::atomic::Ordering::SeqCst), 1);
        task.abort();
        // Nobody waits for who is gone.
        let _ = task.await;
        clock.advance(HOUR).await;
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_clock_is_moved_there() {
        let clock = Clock::new();
        clock.pause();
        let wait = tokio::spawn(clock.until(clock.moment() + HOUR));
        clock.advance(HOUR / 2).await;
        assert!(!wait.is_finished());
        clock.resume();
        clock.advance(HOUR / 2).await;
        wait.await.unwrap();
    }
}
