//! Real time, which no test moves: for what concerns other processes, wires and disks.
#![expect(
    clippy::disallowed_methods,
    reason = "everybody else asks here or asks a clock"
)]

use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidelog_types::{Now, Timestamp};
pub(crate) use tokio::time::Sleep;
use tokio::time::error::Elapsed;

/// What the monotonic clock of the system says.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What both clocks of the system say.
pub(crate) fn both() -> Now {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(millis),
    }
}

/// What the clock of the runtime says, which those who test a whole runtime may have stopped.
pub(crate) fn task_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Returns when the clock of the runtime says `at`.
pub(crate) fn task_sleep_until(at: tokio::time::Instant) -> Sleep {
    tokio::time::sleep_until(at)
}

/// Returns after so long.
pub(crate) fn sleep(duration: Duration) -> Sleep {
    tokio::time::sleep(duration)
}

/// Returns at `at`.
pub(crate) fn sleep_until(at: Instant) -> Sleep {
    tokio::time::sleep_until(at.into())
}

/// The output of `future`, unless it takes too long.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(limit, future).await
}

/// The output of `future`, unless `at` comes first.
pub(crate) async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout_at(at.into(), future).await
}

/// Holds up this thread.
#[cfg(feature = "testing")]
pub(crate) fn block(duration: Duration) {
    std::thread::sleep(duration);
}

/// The next message, unless `until` comes first; without it, however long that takes.
pub(crate) fn receive<T>(
    messages: &Receiver<T>,
    until: Option<Instant>,
) -> Result<T, RecvTimeoutError> {
    match until {
        Some(until) => messages.recv_timeout(until.saturating_duration_since(now())),
        None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}
