//! What becomes of records that were sent.

use std::time::Instant;

use tidelog_client::{Delivery, ProduceError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::measure::Gauge;
use super::round::Failure;

/// A record that was sent: when it was due, how large it is, and what becomes of it.
struct Sent {
    due: Instant,
    bytes: u64,
    delivery: Delivery,
}

/// Waits for the outcomes of records, for those of each partition apart: they come in their order there.
pub(super) struct Outcomes {
    gauge: Gauge,
    /// Which latency the time until the outcome is.
    kind: usize,
    /// Whether a delivered record counts, or only its latency.
    counts: bool,
    of_partition: Vec<Option<mpsc::UnboundedSender<Sent>>>,
    waiting: JoinSet<Ended>,
}

/// When the last outcome came, and how many records were delivered.
pub(super) struct Ended {
    pub(super) at: Instant,
    pub(super) delivered: u64,
}

impl Outcomes {
    pub(super) fn new(gauge: Gauge, kind: usize, counts: bool) -> Self {
        Self {
            gauge,
            kind,
            counts,
            of_partition: Vec::new(),
            waiting: JoinSet::new(),
        }
    }

    pub(super) fn push(&mut self, due: Instant, bytes: usize, delivery: Delivery) {
        let index = usize::try_from(delivery.partition()).unwrap_or_default();
        if index >= self.of_partition.len() {
            self.of_partition.resize(index + 1, None);
        }
        let sender = self.of_partition[index].get_or_insert_with(|| {
            let (sender, handed) = mpsc::unbounded_channel();
            let gauge = self.gauge.clone();
            self.waiting
                .spawn(wait(handed, gauge, self.kind, self.counts));
            sender
        });
        let bytes = bytes as u64;
        let sent = Sent {
            due,
            bytes,
            delivery,
        };
        // Its task ends only after this sender.
        let _ = sender.send(sent);
    }

    /// Waits for all that were sent.
    pub(super) async fn finish(self) -> Result<Ended, Failure> {
        let Self {
            of_partition,
            mut waiting,
            ..
        } = self;
        drop(of_partition);
        let mut all = Ended {
            at: Instant::now(),
            delivered: 0,
        };
        let mut last = None;
        while let Some(ended) = waiting.join_next().await {
            let ended = ended?;
            last = last.max(Some(ended.at));
            all.delivered += ended.delivered;
        }
        all.at = last.unwrap_or(all.at);
        Ok(all)
    }
}

async fn wait(
    mut handed: mpsc::UnboundedReceiver<Sent>,
    gauge: Gauge,
    kind: usize,
    counts: bool,
) -> Ended {
    let mut ended = Ended {
        at: Instant::now(),
        delivered: 0,
    };
    while let Some(sent) = handed.recv().await {
        let outcome: Result<_, ProduceError> = sent.delivery.await;
        ended.at = Instant::now();
        gauge.count(|tally| match outcome {
            Ok(_) => {
                ended.delivered += 1;
                tally.record(kind, ended.at - sent.due);
                if counts {
                    tally.records += 1;
                    tally.bytes += sent.bytes;
                }
            }
            Err(error) => {
                tally.failed += 1;
                tally.first_error.get_or_insert_with(|| error.to_string());
            }
        });
    }
    ended
}
