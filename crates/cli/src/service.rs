//! What a service manager is told (systemd's `sd_notify`): that the broker serves, that it is alive, that it stops. Where no manager has
//! started this process, nothing.

use sd_notify::NotifyState;
use tokio::runtime::Handle;

/// A manager that has not heard anything for the whole time ends the process, so it hears three times as often.
const PINGS_IN_TIME: u32 = 3;

/// The broker serves from now on.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The broker stops in order, which may take a while.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells a manager with a watchdog again and again that every one of the runtimes still runs what it is given. Of one that is stuck,
/// or stopped, nothing is said any more.
pub(crate) async fn keep_alive(runtimes: Vec<Handle>) {
    let Some(timeout) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        for runtime in &runtimes {
            if runtime.spawn(async {}).await.is_err() {
                return;
            }
        }
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(timeout / PINGS_IN_TIME).await;
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
