//! Commits, in the order in which they were asked for: one is under way, the others become one that follows.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tidelog_types::TopicPartition;
use tokio::sync::oneshot;

use super::ConsumeError;
use super::fetcher::Position;

/// What becomes of a commit, once it is known. It is carried out also if nobody awaits this.
#[derive(Debug)]
pub struct Commit {
    outcome: oneshot::Receiver<Result<(), ConsumeError>>,
}

impl Future for Commit {
    type Output = Result<(), ConsumeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.outcome).poll(cx);
        outcome.map(|outcome| outcome.unwrap_or(Err(ConsumeError::Closed)))
    }
}

/// What one request commits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) offsets: BTreeMap<TopicPartition, Position>,
    /// Who wants to know.
    told: Vec<oneshot::Sender<Result<(), ConsumeError>>>,
}

impl Waiting {
    pub(super) fn end(self, outcome: &Result<(), ConsumeError>) {
        for told in self.told {
            // Whoever asked may have given up.
            let _ = told.send(outcome.clone());
        }
    }
}

/// The commits of a consumer that are not over.
#[derive(Debug, Default)]
pub(super) struct Commits {
    waiting: Option<Waiting>,
    is_running: bool,
}

impl Commits {
    /// Takes one more; true if somebody has to begin.
    pub(super) fn add(&mut self, offsets: BTreeMap<TopicPartition, Position>) -> (Commit, bool) {
        let (told, outcome) = oneshot::channel();
        let waiting = self.waiting.get_or_insert_default();
        waiting.offsets.extend(offsets);
        waiting.told.push(told);
        let begins = !std::mem::replace(&mut self.is_running, true);
        (Commit { outcome }, begins)
    }

    /// The next one to be carried out; if there is none, whoever asks has ended.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        let next = self.waiting.take();
        self.is_running = next.is_some();
        next
    }
}
