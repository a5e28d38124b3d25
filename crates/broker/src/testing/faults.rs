//! Requests that go wrong in the way a test wants.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::{ApiKey, Chunk, Request};
use tidelog_types::ErrorCode;

use super::answers::refuse;
use super::requests::SeenRequest;
use crate::clock::Clock;
use crate::handlers::{Answer, Closed, Context, Response, Role, Started};

/// What goes wrong with the requests of a broker's clients; [`Broker::faults`](crate::Broker::faults).
///
/// A rule is made by saying which requests it is about, and then what becomes of them. It holds until it is removed, and
/// also for the broker that follows after a [crash](crate::Broker::crash). Where several rules are about a request, the one
/// that was made first counts.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidelog_broker::testing::{ApiKey, ErrorCode, TestBroker};
///
/// let broker = TestBroker::start().await?;
/// let refused = broker
///     .faults()
///     .on(ApiKey::Produce)
///     .topic("orders")
///     .times(2)
///     .answer(ErrorCode::NOT_LEADER_OR_FOLLOWER);
/// // ... a producer sends its record to `broker.bootstrap_servers()` for the third time ...
/// assert_eq!(refused.fired(), 0);
/// refused.remove();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<Arc<Rule>>>>,
}

/// Which requests a rule is about; made by [`Faults::on`].
#[must_use = "says nothing yet about what becomes of the requests"]
pub struct FaultOn {
    faults: Faults,
    about: About,
}

/// A rule that was made. Dropping this changes nothing.
#[derive(Clone)]
pub struct Fault {
    faults: Faults,
    rule: Arc<Rule>,
}

#[derive(Clone, Debug, Default)]
struct About {
    api: Option<ApiKey>,
    topic: Option<String>,
    client: Option<String>,
    connection: Option<u64>,
    after: u64,
    times: Option<u64>,
}

struct Rule {
    about: About,
    what: What,
    /// How many requests it was about, those counted that were let through first.
    matched: AtomicU64,
    fired: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Answer(ErrorCode),
    Delay(Duration),
    DropBefore,
    DropAfter,
    Partial(usize),
}

impl Faults {
    /// About requests of this API.
    pub fn on(&self, api: ApiKey) -> FaultOn {
        FaultOn {
            faults: self.clone(),
            about: About {
                api: Some(api),
                ..About::default()
            },
        }
    }

    /// About all requests.
    pub fn on_any(&self) -> FaultOn {
        FaultOn {
            faults: self.clone(),
            about: About::default(),
        }
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.rules.lock().clear();
    }

    /// What is to become of a request, if a rule is about it.
    fn decide(&self, request: &SeenRequest) -> Option<What> {
        let rules = self.rules.lock();
        rules.iter().find_map(|rule| rule.decide(request))
    }
}

impl FaultOn {
    /// Only requests that name this topic. One that names others too is answered as a whole all the same.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.about.topic = Some(topic.into());
        self
    }

    /// Only requests of clients that call themselves so (`client.id`).
    pub fn client(mut self, client_id: impl Into<String>) -> Self {
        self.about.client = Some(client_id.into());
        self
    }

    /// Only requests that come over this connection; [`SeenRequest::connection`] has its number.
    pub fn connection(mut self, connection: u64) -> Self {
        self.about.connection = Some(connection);
        self
    }

    /// Lets the first `count` of them through.
    pub fn after(mut self, count: u64) -> Self {
        self.about.after = count;
        self
    }

    /// Only so many of them; otherwise every one.
    pub fn times(mut self, count: u64) -> Self {
        self.about.times = Some(count);
        self
    }

    /// They have no effect and are answered with this error, in the place where the API has it: per partition where it has
    /// partitions. A request whose answer has no place for an error gets its connection closed, and so does a producer that
    /// wants no answer.
    pub fn answer(self, code: ErrorCode) -> Fault {
        self.rule(What::Answer(code))
    }

    /// They take so much longer, by the broker's clock or in real time, whichever comes first. Answers leave a connection in
    /// the order of the requests, so later ones wait too.
    pub fn delay(self, delay: Duration) -> Fault {
        self.rule(What::Delay(delay))
    }

    /// They have no effect, and neither has anything behind them: their connection is closed.
    pub fn drop_before(self) -> Fault {
        self.rule(What::DropBefore)
    }

    /// They take effect, and their connection is closed in place of an answer.
    pub fn drop_after(self) -> Fault {
        self.rule(What::DropAfter)
    }

    /// They take effect, and of the answer the first `bytes` are sent, its length among them, before the connection is
    /// closed.
    pub fn partial(self, bytes: usize) -> Fault {
        self.rule(What::Partial(bytes))
    }

    fn rule(self, what: What) -> Fault {
        let rule = Arc::new(Rule {
            about: self.about,
            what,
            matched: AtomicU64::new(0),
            fired: AtomicU64::new(0),
        });
        self.faults.rules.lock().push(Arc::clone(&rule));
        Fault {
            faults: self.faults,
            rule,
        }
    }
}

impl Fault {
    /// How many requests it has struck.
    pub fn fired(&self) -> u64 {
        self.rule.fired.load(Ordering::Acquire)
    }

    /// Ends it. What waits because of it goes on waiting.
    pub fn remove(&self) {
        let mut rules = self.faults.rules.lock();
        rules.retain(|rule| !Arc::ptr_eq(rule, &self.rule));
    }
}

impl About {
    fn is_about(&self, request: &SeenRequest) -> bool {
        self.api.is_none_or(|api| api == request.api)
            && self
                .topic
                .as_ref()
                .is_none_or(|topic| request.topics.contains(topic))
            && self
                .client
                .as_ref()
                .is_none_or(|client| request.client_id.as_ref() == Some(client))
            && self
                .connection
                .is_none_or(|connection| connection == request.connection)
    }
}

impl Rule {
    fn decide(&self, request: &SeenRequest) -> Option<What> {
        if !self.about.is_about(request) {
            return None;
        }
        let before = self.matched.fetch_add(1, Ordering::AcqRel);
        let nth = before.checked_sub(self.about.after)?;
        if self.about.times.is_some_and(|times| nth >= times) {
            return None;
        }
        self.fired.fetch_add(1, Ordering::AcqRel);
        Some(self.what)
    }
}

/// Starts the handler of a request, or what a rule has in place of it.
pub(crate) fn start<R: Role>(
    faults: &Faults,
    clock: Clock,
    seen: &SeenRequest,
    context: Context<R>,
    request: Request,
) -> Result<Started, Closed> {
    let Some(what) = faults.decide(seen) else {
        return Ok(R::route(context, request));
    };
    Ok(match what {
        What::Answer(code) => Box::pin(async move { refuse(&context, request, code) }),
        What::Delay(delay) => {
            let until = clock.until(clock.moment() + delay);
            Box::pin(async move {
                until.await;
                R::route(context, request).await
            })
        }
        What::DropBefore => return Err(Closed::ByFault("dropped before the request was read")),
        What::DropAfter => {
            let started = R::route(context, request);
            Box::pin(async move {
                started.await;
                Answer::Close(Closed::ByFault("dropped after the request took effect"))
            })
        }
        What::Partial(bytes) => {
            let started = R::route(context, request);
            Box::pin(async move {
                match started.await {
                    Answer::Send(response) => match cut(&response, bytes) {
                        Ok(response) => Answer::Last(response),
                        Err(error) => Answer::Close(Closed::Io(error)),
                    },
                    other => other,
                }
            })
        }
    })
}

/// The first `len` bytes of an answer.
fn cut(response: &Response, len: usize) -> std::io::Result<Response> {
    let mut bytes = Vec::new();
    for chunk in &response.chunks {
        match chunk {
            Chunk::Bytes(chunk) => bytes.extend_from_slice(chunk),
            Chunk::Deferred { token, .. } => {
                let slice = &response.files[*token as usize];
                let at = bytes.len();
                bytes.resize(at + slice.len(), 0);
                slice.read_at(&mut bytes[at..], 0)?;
            }
        }
    }
    bytes.truncate(len);
    Ok(Response {
        chunks: vec![Chunk::Bytes(Bytes::from(bytes))],
        files: Vec::new(),
    })
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.rules.lock()).finish()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("about", &self.about)
            .field("what", &self.what)
            .field("fired", &self.fired)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)
    }
}

impl fmt::Debug for FaultOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.about.fmt(f)
    }
}
