//! Elections that nobody asks for.
//!
//! From time to time leadership goes back to preferred leaders (`leader.imbalance.check.interval.seconds`, unless
//! `auto.leader.rebalance.enable` is off), and partitions without a leader get an unclean one where that is allowed. A round
//! holds a bounded number of elections; if it may have left some, the next one follows at once. While there is nothing to
//! elect, no round is due.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_types::{Now, PartitionIndex, TopicId};

use super::partition_change::Election;
use super::{Controller, Effect};
use crate::configs::{BrokerConfig, ResourceKind};
use crate::delta::Delta;
use crate::image::{Image, PartitionImage};

type Partitions = BTreeSet<(TopicId, PartitionIndex)>;

/// What the rounds have to look at, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    /// Partitions that are not led by their first replica, be it that nobody leads them.
    imbalanced: Partitions,
    /// Partitions that nobody leads.
    leaderless: Partitions,
    preferred: Schedule,
    unclean: Schedule,
}

/// When the next round is due.
#[derive(Clone, Debug, Default)]
struct Schedule {
    /// `None` while there is nothing to elect.
    due: Option<Instant>,
    /// The next round is due at once: there may be more to elect, or it has become possible.
    at_once: bool,
    /// Where in the set the last round ended that came to its limit.
    resume_after: Option<(TopicId, PartitionIndex)>,
}

impl Schedule {
    /// Sets when the next round is due, if it is not set and there is something to do.
    fn set(&mut self, now: Instant, has_work: bool, interval: Option<Duration>) {
        let at_once = std::mem::take(&mut self.at_once);
        self.due = match interval {
            Some(interval) if has_work => match self.due {
                _ if at_once => Some(now),
                Some(due) => Some(due),
                None => now.checked_add(interval),
            },
            _ => None,
        };
        if self.due.is_none() {
            self.resume_after = None;
        }
    }

    /// Whether a round is due.
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// A round has been held, up to its limit if that is where it has ended.
    fn held(&mut self, resume_after: Option<(TopicId, PartitionIndex)>) {
        self.due = None;
        self.at_once = resume_after.is_some();
        self.resume_after = resume_after;
    }

    /// What was not possible may be now: all of it is looked at once more, at once.
    const fn expedite(&mut self) {
        self.at_once = true;
        self.resume_after = None;
    }
}

impl Rounds {
    pub(super) fn of(image: &Image) -> Self {
        let mut rounds = Self::default();
        for topic in image.topics() {
            for (index, partition) in &topic.partitions {
                rounds.note((topic.id, *index), Some(partition));
            }
        }
        rounds
    }

    /// Brings up to date what depends on the partition.
    fn note(&mut self, key: (TopicId, PartitionIndex), partition: Option<&PartitionImage>) {
        let put = |set: &mut Partitions, belongs: bool| {
            if belongs {
                set.insert(key);
            } else {
                set.remove(&key);
            }
        };
        let imbalanced = partition.is_some_and(|partition| !partition.has_preferred_leader());
        put(&mut self.imbalanced, imbalanced);
        let leaderless = partition.is_some_and(|partition| !partition.has_leader());
        put(&mut self.leaderless, leaderless);
    }

    /// Follows what has changed.
    pub(super) fn follow(&mut self, delta: &Delta, image: &Image) {
        for (topic, partitions) in &delta.partitions {
            for index in partitions {
                self.note((*topic, *index), image.partition(*topic, *index));
            }
        }
        for (topic, deleted) in &delta.topics_deleted {
            for index in deleted.partitions.keys() {
                self.note((*topic, *index), None);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.preferred.due, self.unclean.due]
            .into_iter()
            .flatten()
            .min()
    }

    /// Asserts that what is derived is up to date.
    pub(super) fn check(&self, image: &Image) {
        let expected = Self::of(image);
        assert_eq!(
            self.imbalanced, expected.imbalanced,
            "imbalanced partitions are known"
        );
        assert_eq!(
            self.leaderless, expected.leaderless,
            "leaderless partitions are known"
        );
    }
}

impl Controller {
    /// Holds the rounds that are due.
    pub(super) fn hold_rounds(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.rounds.preferred.is_due(now.instant) {
            let Rounds {
                imbalanced,
                preferred,
                ..
            } = &self.rounds;
            let (records, end) = self.round(imbalanced, preferred, Election::Preferred);
            self.rounds.preferred.held(end);
            self.append(records, effects);
        }
        if self.rounds.unclean.is_due(now.instant) {
            let Rounds {
                leaderless,
                unclean,
                ..
            } = &self.rounds;
            let (records, end) = self.round(leaderless, unclean, Election::Unclean);
            self.rounds.unclean.held(end);
            self.append(records, effects);
        }
    }

    /// The elections of one round, and where it came to its limit.
    fn round(
        &self,
        partitions: &Partitions,
        schedule: &Schedule,
        election: Election,
    ) -> (Vec<MetadataRecord>, Option<(TopicId, PartitionIndex)>) {
        let from = schedule
            .resume_after
            .map_or(Bound::Unbounded, Bound::Excluded);
        let mut records = Vec::new();
        for (topic_id, index) in partitions.range((from, Bound::Unbounded)) {
            let Some(topic) = self.image.topic_by_id(*topic_id) else {
                continue;
            };
            let Some(partition) = topic.partition(*index) else {
                continue;
            };
            if election == Election::Unclean && !self.election_configs(topic).0 {
                continue;
            }
            records.extend(self.elect(topic, *index, partition, election));
            if records.len() >= self.config.limits.elections_per_round_max {
                return (records, Some((*topic_id, *index)));
            }
        }
        (records, None)
    }

    /// Sets when the next rounds are due.
    pub(super) fn schedule_rounds(&mut self, now: Now) {
        let interval = (!self.resigned).then_some(self.config.unclean_election_interval);
        let has_work = !self.rounds.leaderless.is_empty();
        self.rounds.unclean.set(now.instant, has_work, interval);
        let interval = rebalance_interval(&self.config.broker).filter(|_| !self.resigned);
        let has_work = !self.rounds.imbalanced.is_empty();
        self.rounds.preferred.set(now.instant, has_work, interval);
    }

    /// When unclean elections may have been allowed just now, they are held at once. (Kafka waits for the next round.)
    pub(super) fn expedite_unclean_elections(&mut self, delta: &Delta) {
        let allowed = delta.configs.iter().any(|resource| match resource.kind {
            ResourceKind::Topic => {
                let topic = self.image.topic(&resource.name);
                topic.is_some_and(|topic| self.election_configs(topic).0)
            }
            ResourceKind::Broker => self.broker.unclean_leader_election_enable(),
            _ => false,
        });
        if allowed {
            self.rounds.unclean.expedite();
        }
    }
}

fn rebalance_interval(config: &BrokerConfig) -> Option<Duration> {
    let seconds = u64::try_from(config.leader_imbalance_check_interval_seconds()).ok()?;
    config
        .auto_leader_rebalance_enable()
        .then(|| Duration::from_secs(seconds))
}
