//! A consumer in a group: what the member is told becomes partitions to read, and what the application does with them goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use tidelog_types::{ErrorCode, Now, Str, TopicId, TopicName, TopicPartition, Uuid};

use super::core::{Core, Ready};
use super::fetcher::Start;
use super::membership::{
    AnyMember, Assignor, ClassicConfig, ClassicMember, Config, Effect, Heartbeat, HeartbeatAnswer,
    Input, Member, RequestId, Subscription, messages,
};
use super::{ConsumeError, ConsumerConfig, GroupProtocol, Shared};
use crate::ClientError;
use crate::backoff::Random;

/// What has become of a consumer's partitions. Said in the order in which it happens, between the records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebalance {
    /// These are the consumer's from now on. No record of them came before; a seek decides where to begin.
    Assigned(Vec<TopicPartition>),
    /// These are to become another one's. No record of them comes any more. They are given up, and committed if that goes by itself,
    /// when the application asks for what is next.
    Revoked(Vec<TopicPartition>),
    /// These are another one's already: the group has gone on without this consumer. Nothing of them can be committed.
    Lost(Vec<TopicPartition>),
}

/// What waits for the application beside records.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) rebalance: Rebalance,
    /// The number of the member's demand to give partitions up.
    pub(super) demand: Option<u64>,
}

/// The group's side of a consumer's state.
#[derive(Debug)]
pub(super) struct Group {
    group_id: tidelog_types::GroupId,
    member: AnyMember,
    effects: Vec<Effect>,
    subscription: Subscription,
    /// The expression of the subscription, if nobody else resolves it.
    matching: Option<Regex>,
    /// Topics without a known name.
    nameless: BTreeSet<TopicId>,
    /// Topics whose partitions the leader of a classic group has to know.
    counted: BTreeSet<TopicName>,
    /// Nobody is there to be asked any more.
    pub(super) is_closing: bool,
    pub(super) has_left: bool,
}

impl Core {
    /// Becomes a member, or changes what it subscribes to.
    pub(super) fn subscribe(
        &mut self,
        config: &ConsumerConfig,
        subscription: Subscription,
    ) -> Result<(), ConsumeError> {
        let group_id = config.group_id.as_ref().ok_or(ConsumeError::NoGroup)?;
        let is_classic = match self.group {
            Some(_) => self.is_classic(),
            None => config.group_protocol == GroupProtocol::Classic,
        };
        let matching = match is_classic {
            true => expression(&subscription).map_err(|text| invalid(group_id, &text))?,
            false => None,
        };
        if self.group.is_none() {
            for partition in self.assignment() {
                self.unassign(&partition);
            }
            let member = new_member(self.now(), config, self.client.config());
            self.group = Some(Group {
                group_id: group_id.clone(),
                member,
                effects: Vec::new(),
                subscription: Subscription::default(),
                matching: None,
                nameless: BTreeSet::new(),
                counted: BTreeSet::new(),
                is_closing: false,
                has_left: false,
            });
        }
        if let Some(group) = &mut self.group {
            group.subscription = subscription.clone();
            group.matching = matching;
            group.has_left = false;
        }
        self.chores.refresh = true;
        self.name_topics();
        self.handle_member(Input::Subscribe { subscription });
        Ok(())
    }

    /// The expression whose topics the member waits for, or wants to know of.
    pub(super) fn matching(&self) -> Option<Regex> {
        self.group.as_ref()?.matching.clone()
    }

    /// Tells the member what its expression matches, unless it has another one by now.
    pub(super) fn matched(&mut self, matching: &Regex, topics: BTreeSet<TopicName>) {
        let current = self.matching();
        if current.is_some_and(|it| it.as_str() == matching.as_str()) {
            self.handle_member(Input::Matched { topics });
        }
    }

    /// Has the member take in what has happened, and does what it wants.
    pub(super) fn handle_member(&mut self, input: Input) {
        let now = self.now();
        let Some(group) = &mut self.group else {
            return;
        };
        group.member.handle(now, input, &mut group.effects);
        while let Some(effects) = self
            .group
            .as_mut()
            .map(|it| std::mem::take(&mut it.effects))
        {
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out_for_member(effect);
            }
        }
    }

    fn carry_out_for_member(&mut self, effect: Effect) {
        match effect {
            Effect::Heartbeat { request, heartbeat } => {
                self.chores.heartbeats.push((request, heartbeat));
            }
            Effect::Join { .. }
            | Effect::Sync { .. }
            | Effect::Beat { .. }
            | Effect::Leave { .. } => self.chores.classic.push(effect),
            Effect::Count { topics } => {
                if let Some(group) = &mut self.group {
                    group.counted = topics;
                }
                self.chores.refresh = true;
                self.chores.others_wait = true;
            }
            Effect::Name { topics } => {
                if let Some(group) = &mut self.group {
                    group.nameless.extend(topics);
                }
                self.name_topics();
            }
            Effect::Revoke { demand, partitions } => {
                for partition in &partitions {
                    self.stop(partition);
                }
                if self.group.as_ref().is_some_and(|it| it.is_closing) {
                    return self.give_up(demand, &partitions);
                }
                self.notify_first(Notice {
                    rebalance: Rebalance::Revoked(partitions),
                    demand: Some(demand),
                });
            }
            Effect::Assign { partitions } => {
                self.assign(&partitions, Start::Committed);
                self.push(Ready::Notice(Notice {
                    rebalance: Rebalance::Assigned(partitions),
                    demand: None,
                }));
            }
            Effect::Lose { partitions } => {
                for partition in &partitions {
                    self.unassign(partition);
                }
                self.forget_demands();
                self.notify_first(Notice {
                    rebalance: Rebalance::Lost(partitions),
                    demand: None,
                });
            }
            Effect::Left => {
                if let Some(group) = &mut self.group {
                    group.has_left = true;
                }
                self.chores.left = true;
            }
            Effect::Fail { error_code, .. } if self.may_fall_back(error_code) => self.fall_back(),
            Effect::Fail {
                error_code,
                message,
            } => {
                if let Some(group) = &mut self.group {
                    group.has_left = true;
                    self.chores.left = true;
                    let group = group.group_id.clone();
                    self.tell(ConsumeError::Group {
                        group,
                        code: error_code,
                        message,
                    });
                }
            }
        }
    }

    /// Whether the coordinator lacks the protocol, and the other one may be tried.
    fn may_fall_back(&self, code: ErrorCode) -> bool {
        self.config.group_protocol == GroupProtocol::Auto
            && code == ErrorCode::UNSUPPORTED_VERSION
            && !self.is_classic()
    }

    /// Becomes a member by the classic protocol.
    fn fall_back(&mut self) {
        let member = new_classic_member(self.now(), &self.config, self.client.config());
        let Some(group) = &mut self.group else {
            return;
        };
        tracing::debug!(group = %group.group_id, "the coordinator knows the classic protocol only");
        group.member = member;
        group.nameless.clear();
        let subscription = group.subscription.clone();
        match expression(&subscription) {
            Ok(matching) => group.matching = matching,
            Err(text) => {
                group.has_left = true;
                let error = invalid(&group.group_id, &text);
                self.chores.left = true;
                return self.tell(error);
            }
        }
        self.chores.refresh = true;
        self.handle_member(Input::Subscribe { subscription });
    }

    /// Whether the consumer is a member by the classic protocol.
    pub(super) fn is_classic(&self) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|it| matches!(it.member, AnyMember::Classic(_)))
    }

    /// The application is done with these partitions, unless they were lost meanwhile.
    pub(super) fn give_up(&mut self, demand: u64, partitions: &[TopicPartition]) {
        let demanded = self.group.as_ref().and_then(|it| it.member.demand());
        if demanded.is_some_and(|(it, _)| it == demand) {
            for partition in partitions {
                self.unassign(partition);
            }
            self.handle_member(Input::Revoked { demand });
        }
    }

    /// Gives up at once what waits to be given up: nobody will ask any more.
    pub(super) fn close_demands(&mut self) {
        let demand = self.group.as_ref().and_then(|it| it.member.demand());
        if let Some((demand, partitions)) = demand {
            self.give_up(demand, &partitions);
        }
    }

    /// The topics whose partitions the leader of a classic group has to know.
    pub(super) fn counted(&self) -> BTreeSet<TopicName> {
        let group = self.group.as_ref();
        group.map_or_else(BTreeSet::new, |it| it.counted.clone())
    }

    /// Tells the leader how many partitions these topics have, which have just been looked up.
    pub(super) fn count_topics(&mut self, topics: &BTreeSet<TopicName>) {
        let counts = self.client.read_cluster(|cluster| {
            let counts = topics.iter().map(|topic| {
                let known = cluster.topics.get(topic);
                let count = known.map_or(0, |known| known.partitions.len());
                (topic.clone(), i32::try_from(count).unwrap_or(i32::MAX))
            });
            counts.collect::<BTreeMap<_, _>>()
        });
        if !counts.is_empty() {
            self.handle_member(Input::Counted { counts });
        }
    }

    /// Tells the member the names of topics that it may have to do with.
    pub(super) fn name_topics(&mut self) {
        let Some(group) = &mut self.group else {
            return;
        };
        if matches!(group.member, AnyMember::Classic(_)) {
            return;
        }
        let wanted = &group.subscription.topics;
        let names = self.client.read_cluster(|cluster| {
            let topics = cluster.topics.iter().filter(|(name, topic)| {
                let is_wanted = wanted.contains(name) || group.nameless.contains(&topic.id);
                is_wanted && !topic.id.is_zero()
            });
            let names = topics.map(|(name, topic)| (topic.id, name.clone()));
            names.collect::<BTreeMap<_, _>>()
        });
        group.nameless.retain(|id| !names.contains_key(id));
        self.chores.refresh |= !group.nameless.is_empty();
        if !names.is_empty() {
            self.handle_member(Input::Named { names });
        }
    }

    /// The topics that the consumer subscribes to, and the ids of those whose names it has to find out.
    pub(super) fn subscribed(&self) -> (Vec<TopicName>, Vec<TopicId>) {
        self.group.as_ref().map_or_else(Default::default, |group| {
            let nameless = group.nameless.iter().copied().collect();
            let topics = group.subscription.topics.iter().chain(&group.counted);
            (topics.cloned().collect(), nameless)
        })
    }

    /// The id and the epoch under which the member commits.
    pub(super) fn identity(&self) -> Option<(Str, i32)> {
        self.group.as_ref()?.member.identity()
    }

    /// Whether the group may be in another epoch or generation than this one, of which the member is about to hear.
    pub(super) fn may_have_left(&self, epoch: i32) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.member.may_have_left(epoch))
    }

    pub(super) fn member_deadline(&self) -> Option<std::time::Instant> {
        self.group.as_ref()?.member.deadline()
    }
}

/// The expression of a subscription, which has to match a whole name; or what is wrong with it.
fn expression(subscription: &Subscription) -> Result<Option<Regex>, String> {
    let regex = subscription.regex.as_ref();
    let regex = regex.map(|regex| Regex::new(&format!(r"\A(?:{regex})\z")));
    regex.transpose().map_err(|error| error.to_string())
}

fn invalid(group: &tidelog_types::GroupId, text: &str) -> ConsumeError {
    ConsumeError::Group {
        group: group.clone(),
        code: ErrorCode::INVALID_REGULAR_EXPRESSION,
        message: Some(text.into()),
    }
}

fn new_member(now: Now, config: &ConsumerConfig, client: &crate::Config) -> AnyMember {
    match config.group_protocol {
        GroupProtocol::Consumer | GroupProtocol::Auto => {
            AnyMember::Consumer(Box::new(Member::new(now, member_config(config, client))))
        }
        GroupProtocol::Classic => new_classic_member(now, config, client),
    }
}

fn new_classic_member(now: Now, config: &ConsumerConfig, client: &crate::Config) -> AnyMember {
    let config = classic_config(config, client);
    AnyMember::Classic(Box::new(ClassicMember::new(now, config)))
}

fn member_config(config: &ConsumerConfig, client: &crate::Config) -> Config {
    let mut id = [0; 16];
    // Without randomness the coordinator would refuse all members but one, and say so.
    let _ = getrandom::fill(&mut id);
    Config {
        member_id: Uuid::from_bytes(id).to_string().as_str().into(),
        is_static: config.group_instance_id.is_some(),
        poll_interval_max: config.poll_interval_max,
        retry_backoff: client.retry_backoff,
        retry_backoff_max: client.retry_backoff_max,
        seed: Random::seeded().next(),
    }
}

fn classic_config(config: &ConsumerConfig, client: &crate::Config) -> ClassicConfig {
    let mut assignors = config.assignors.iter();
    ClassicConfig {
        is_static: config.group_instance_id.is_some(),
        is_cooperative: assignors.all(|it| *it == Assignor::CooperativeSticky),
        heartbeat_interval: config.heartbeat_interval,
        poll_interval_max: config.poll_interval_max,
        retry_backoff: client.retry_backoff,
        retry_backoff_max: client.retry_backoff_max,
        seed: Random::seeded().next(),
    }
}

/// Sends a heartbeat and takes the answer.
pub(super) async fn beat(shared: Arc<Shared>, request: RequestId, heartbeat: Heartbeat) {
    let answer = shared.send_heartbeat(heartbeat).await;
    let input = match answer {
        Ok(answer) => Input::Heartbeat { request, answer },
        Err(error) => {
            tracing::debug!(%error, "a heartbeat is lost");
            Input::Lost { request }
        }
    };
    shared.with_core(|core| core.handle_member(input));
}

impl Shared {
    async fn send_heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, ClientError> {
        let request = messages::heartbeat(&self.config, heartbeat);
        let answer = match self.ask_coordinator(&request, i16::MAX).await {
            // Trying again would not help. A group that is denied is denied by whoever knows its coordinator.
            Err(error) if !error.is_retriable() => {
                return Ok(refusal(&error));
            }
            answer => answer?,
        };
        self.heed_code(answer.error_code).await;
        Ok(messages::heard(answer))
    }

    /// Gives partitions up, after a commit if that goes by itself.
    pub(super) fn confirm(self: &Arc<Self>, demand: u64, partitions: Vec<TopicPartition>) {
        if self.config.auto_commit_interval.is_none() {
            return self.with_core(|core| core.give_up(demand, &partitions));
        }
        let mut positions = self.core.lock().positions();
        positions.retain(|partition, _| partitions.contains(partition));
        let commit = self.start_commit(positions);
        let shared = self.clone();
        self.spawn(async move {
            if let Err(error) = commit.await {
                tracing::warn!(%error, "what was consumed of revoked partitions is not committed");
            }
            shared.with_core(|core| core.give_up(demand, &partitions));
        });
    }
}

fn refusal(error: &ClientError) -> HeartbeatAnswer {
    HeartbeatAnswer {
        error_code: match error {
            ClientError::Refused { code, .. } => *code,
            ClientError::Unsupported { .. } => ErrorCode::UNSUPPORTED_VERSION,
            _ => ErrorCode::UNKNOWN_SERVER_ERROR,
        },
        message: match error {
            ClientError::Refused { message, .. } => message.clone(),
            error => Some(error.to_string().into()),
        },
        member_id: None,
        member_epoch: 0,
        interval: Duration::ZERO,
        assignment: None,
    }
}
