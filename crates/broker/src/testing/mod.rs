//! What tests do to a broker, and what they see of it. Behind the feature `testing`.
//!
//! A broker under test is the very broker that runs in production; what is here reaches into it. [`TestBroker`] is one in
//! memory, for one test. What may go wrong is said with [`Broker::faults`], [`Disk`] and [`Broker::crash`]; time is
//! [`Broker::clock`]; what has come is waited for with [`Broker::requests`], [`Broker::wait_for_offset`], [`Broker::wait_for_group`] and
//! their like. The guide in `docs/guides/testing.md` has recipes.

mod answers;
mod broker;
mod crash;
mod disk;
mod faults;
mod observe;
mod requests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
pub use tidelog_log::testing::Op as DiskOp;
pub use tidelog_protocol::ApiKey;
use tidelog_protocol::Request;
pub use tidelog_types::ErrorCode;

pub use self::broker::{RestartError, TestBroker};
pub use self::crash::{Crash, Crashed};
pub use self::disk::Disk;
pub use self::faults::{Fault, FaultOn, Faults};
pub use self::observe::{GroupState, MemberState, StoredRecord};
pub(crate) use self::requests::Connected;
pub use self::requests::{Requests, SeenRequest};
pub use crate::clock::Clock;
use crate::handlers::{Closed, Context, Role, Started};
use crate::{Broker, Builder};

/// How long what is waited for may take, unless a test says otherwise. Nothing takes so long unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was waited for has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut {
    patience: Duration,
    lacking: String,
}

impl TimedOut {
    const fn new(patience: Duration, lacking: String) -> Self {
        Self { patience, lacking }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}: {}", self.patience, self.lacking)
    }
}

impl std::error::Error for TimedOut {}

/// Where tests reach into a broker. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Probe {
    faults: Faults,
    requests: requests::Log,
    patience: Arc<Mutex<Duration>>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self {
            faults: Faults::default(),
            requests: requests::Log::default(),
            patience: Arc::new(Mutex::new(PATIENCE)),
        }
    }

    /// Returns when no connection is left.
    pub(crate) async fn until_disconnected(&self) {
        // One that outlives this is served by a runtime that does nothing else.
        let _ = self.requests.wait_for_connections(PATIENCE, 0).await;
    }

    /// A connection was opened.
    pub(crate) fn connected(&self) -> Connected {
        self.requests.connected()
    }

    /// Starts the handler of a request, or what a rule has in place of it.
    pub(crate) fn start<R: Role>(
        &self,
        clock: &Clock,
        context: Context<R>,
        request: Request,
    ) -> Result<Started, Closed> {
        let connection = context.peer.connected.as_ref();
        let connection = connection.map_or(0, |connected| connected.number);
        let image = context.node.image();
        let seen = self
            .requests
            .add(&context.header, connection, &request, &image);
        faults::start(&self.faults, clock.clone(), &seen, context, request)
    }
}

/// The recipes are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guides/testing.md")]
struct Guide;

impl Builder {
    /// Has the broker go by this clock, which a test can stop and move, and which several brokers may share.
    #[must_use]
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }
}

impl Broker {
    /// The clock that this broker goes by.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What goes wrong with the requests of this broker's clients.
    pub const fn faults(&self) -> &Faults {
        &self.probe.faults
    }

    /// The requests that came to this broker, from clients and from other brokers.
    pub fn requests(&self) -> Requests {
        Requests::new(&self.probe.requests, self.patience())
    }

    /// How many connections clients and other brokers have open.
    pub fn connections(&self) -> usize {
        self.probe.requests.connections()
    }

    /// Returns when clients and other brokers have exactly `count` connections open.
    pub async fn wait_for_connections(&self, count: usize) -> Result<(), TimedOut> {
        let requests = &self.probe.requests;
        requests.wait_for_connections(self.patience(), count).await
    }

    /// How long is waited for what a test waits for, in real time; 30 seconds unless this says otherwise.
    pub fn set_patience(&self, patience: Duration) {
        *self.probe.patience.lock() = patience;
    }

    fn patience(&self) -> Duration {
        *self.probe.patience.lock()
    }
}
