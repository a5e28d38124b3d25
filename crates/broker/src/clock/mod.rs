//! The broker's clocks: the only place where it asks what time it is, and where it waits for time to pass.
//!
//! There are two times. *The broker's time* ([`Clock`]) is what clients and data see: the sessions and rebalances of groups,
//! timestamps, retention, compaction, and what is kept for so long. *Real time* ([`real`]) is that of processes and wires:
//! whether another node is alive, how long a connection may be idle, when the next heartbeat is due.
//!
//! With the feature `testing` the broker's time can be stopped and moved. Real time cannot: who moved it would declare
//! nodes dead that are alive. What a client waits for ([`Moment`]) ends by whichever time comes first, since the client
//! waits by its own clock.

pub(crate) mod real;
#[cfg(feature = "testing")]
mod settable;
#[cfg(not(feature = "testing"))]
mod system;

use std::future::Future;
use std::pin::pin;

#[cfg(feature = "testing")]
pub use self::settable::Clock;
#[cfg(feature = "testing")]
pub(crate) use self::settable::Moment;
#[cfg(not(feature = "testing"))]
pub(crate) use self::system::{Clock, Moment};

impl Clock {
    /// The output of `future`, or `None` if the moment comes first.
    pub(crate) async fn timeout_at<F: Future>(
        &self,
        moment: Moment,
        future: F,
    ) -> Option<F::Output> {
        let future = pin!(future);
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.until(moment) => None,
        }
    }
}
