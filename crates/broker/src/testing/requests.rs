//! What clients have asked of a broker.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_metadata::image::Image;
use tidelog_protocol::{ApiKey, Request, RequestHeader};
use tidelog_types::{TopicId, TopicName};
use tokio::sync::Notify;

use super::TimedOut;
use crate::clock::real;

/// How many requests are remembered. Of those before only the number is known.
const REMEMBERED_MAX: usize = 10_000;

/// A request that came to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// How many came before it.
    pub number: u64,
    /// The API.
    pub api: ApiKey,
    /// The version of the request.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<String>,
    /// The connection over which it came; every one has another number.
    pub connection: u64,
    /// The topics that it names, in its order. One of an id that is not known here is left out.
    pub topics: Vec<String>,
}

/// The requests that came to a broker, and the connections over which they come.
#[derive(Clone, Default)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    seen: VecDeque<SeenRequest>,
    count: u64,
    connections_opened: u64,
    connections: usize,
}

/// A connection, for as long as it is open.
pub(crate) struct Connected {
    log: Log,
    pub(crate) number: u64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.log.shared.state.lock().connections -= 1;
        self.log.shared.changed.notify_waiters();
    }
}

impl Log {
    pub(crate) fn connected(&self) -> Connected {
        let mut state = self.shared.state.lock();
        state.connections += 1;
        state.connections_opened += 1;
        let number = state.connections_opened;
        drop(state);
        self.shared.changed.notify_waiters();
        Connected {
            log: self.clone(),
            number,
        }
    }

    /// Takes note of a request.
    pub(crate) fn add(
        &self,
        header: &RequestHeader,
        connection: u64,
        request: &Request,
        image: &Image,
    ) -> SeenRequest {
        let mut seen = SeenRequest {
            number: 0,
            api: header.api_key,
            version: header.api_version,
            client_id: header.client_id.as_ref().map(ToString::to_string),
            connection,
            topics: topics(request, image),
        };
        let mut state = self.shared.state.lock();
        seen.number = state.count;
        state.count += 1;
        if state.seen.len() == REMEMBERED_MAX {
            state.seen.pop_front();
        }
        state.seen.push_back(seen.clone());
        drop(state);
        self.shared.changed.notify_waiters();
        seen
    }

    /// Waits until `is_reached`, which looks at what has come, answers nothing more that is lacking.
    async fn wait(
        &self,
        patience: Duration,
        is_reached: impl Fn(&State) -> Result<(), String>,
    ) -> Result<(), TimedOut> {
        let until = real::now() + patience;
        loop {
            let changed = self.shared.changed.notified();
            let Err(lacking) = is_reached(&self.shared.state.lock()) else {
                return Ok(());
            };
            if real::timeout_at(until, changed).await.is_err() {
                return Err(TimedOut::new(patience, lacking));
            }
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.state.lock().connections
    }

    pub(crate) async fn wait_for_connections(
        &self,
        patience: Duration,
        count: usize,
    ) -> Result<(), TimedOut> {
        self.wait(patience, |state| match state.connections {
            open if open == count => Ok(()),
            open => Err(format!(
                "{count} connections were waited for, {open} are open"
            )),
        })
        .await
    }
}

/// The requests that came to a broker, or some of them; [`Broker::requests`](crate::Broker::requests).
#[derive(Clone)]
pub struct Requests {
    log: Log,
    patience: Duration,
    from: u64,
    api: Option<ApiKey>,
    client: Option<String>,
    topic: Option<String>,
}

impl Requests {
    pub(super) fn new(log: &Log, patience: Duration) -> Self {
        Self {
            log: log.clone(),
            patience,
            from: 0,
            api: None,
            client: None,
            topic: None,
        }
    }

    /// Those of this API.
    #[must_use]
    pub const fn of(mut self, api: ApiKey) -> Self {
        self.api = Some(api);
        self
    }

    /// Those of clients that call themselves so (`client.id`).
    #[must_use]
    pub fn from(mut self, client_id: impl Into<String>) -> Self {
        self.client = Some(client_id.into());
        self
    }

    /// Those that name this topic.
    #[must_use]
    pub fn naming(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Those that come from now on.
    #[must_use]
    pub fn since_now(mut self) -> Self {
        self.from = self.log.shared.state.lock().count;
        self
    }

    /// All that came, oldest first. The last 10,000 of all requests are remembered.
    pub fn list(&self) -> Vec<SeenRequest> {
        self.matching(&self.log.shared.state.lock())
            .cloned()
            .collect()
    }

    /// How many came, of those that are remembered.
    pub fn count(&self) -> usize {
        self.matching(&self.log.shared.state.lock()).count()
    }

    /// Returns when at least `count` of them have come. A request has come when it was read; its handling has just begun.
    pub async fn at_least(&self, count: usize) -> Result<(), TimedOut> {
        let is_reached = |state: &State| {
            let came = self.matching(state).count();
            if came >= count {
                return Ok(());
            }
            let recent: Vec<_> = state.seen.iter().rev().take(10).collect();
            Err(format!(
                "{count} requests{} were waited for, {came} have come; the last of all, newest first: {recent:?}",
                self.described()
            ))
        };
        self.log.wait(self.patience, is_reached).await
    }

    fn matching<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a SeenRequest> {
        state.seen.iter().filter(|seen| {
            seen.number >= self.from
                && self.api.is_none_or(|api| api == seen.api)
                && (self.client.is_none() || seen.client_id == self.client)
                && self
                    .topic
                    .as_ref()
                    .is_none_or(|topic| seen.topics.contains(topic))
        })
    }

    fn described(&self) -> String {
        let mut described = String::new();
        if let Some(api) = self.api {
            described += &format!(" of {api}");
        }
        if let Some(client) = &self.client {
            described += &format!(" from {client}");
        }
        if let Some(topic) = &self.topic {
            described += &format!(" naming {topic}");
        }
        described
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

/// The names of the topics that a request names, by id or by name.
fn topics(request: &Request, image: &Image) -> Vec<String> {
    let name = |name: &TopicName| name.to_string();
    let either = |by_name: &TopicName, id: TopicId| match image.topic_by_id(id) {
        Some(topic) if by_name.is_empty() => Some(topic.name.to_string()),
        None if by_name.is_empty() => None,
        _ => Some(by_name.to_string()),
    };
    let none = TopicName::default();
    match request {
        Request::Produce(r) => collect(&r.topic_data, |t| either(&t.name, t.topic_id)),
        Request::Fetch(r) => collect(&r.topics, |t| either(&t.topic, t.topic_id)),
        Request::ListOffsets(r) => collect(&r.topics, |t| Some(name(&t.name))),
        Request::OffsetForLeaderEpoch(r) => collect(&r.topics, |t| Some(name(&t.topic))),
        Request::Metadata(r) => collect(r.topics.as_deref().unwrap_or_default(), |t| {
            either(t.name.as_ref().unwrap_or(&none), t.topic_id)
        }),
        Request::OffsetCommit(r) => collect(&r.topics, |t| either(&t.name, t.topic_id)),
        Request::OffsetFetch(r) => {
            let groups = r.groups.iter();
            let groups = groups.flat_map(|group| group.topics.as_deref().unwrap_or_default());
            let groups = groups.filter_map(|t| either(&t.name, t.topic_id));
            let old = collect(r.topics.as_deref().unwrap_or_default(), |t| {
                Some(name(&t.name))
            });
            groups.chain(old).collect()
        }
        Request::OffsetDelete(r) => collect(&r.topics, |t| Some(name(&t.name))),
        Request::CreateTopics(r) => collect(&r.topics, |t| Some(name(&t.name))),
        Request::DeleteTopics(r) => {
            let topics = r.topics.iter();
            let topics =
                topics.filter_map(|t| either(t.name.as_ref().unwrap_or(&none), t.topic_id));
            topics.chain(r.topic_names.iter().map(name)).collect()
        }
        Request::DeleteRecords(r) => collect(&r.topics, |t| Some(name(&t.name))),
        Request::CreatePartitions(r) => collect(&r.topics, |t| Some(name(&t.name))),
        Request::DescribeTopicPartitions(r) => collect(&r.topics, |t| Some(name(&t.name))),
        _ => Vec::new(),
    }
}

fn collect<T>(topics: &[T], name: impl Fn(&T) -> Option<String>) -> Vec<String> {
    topics.iter().filter_map(name).collect()
}
