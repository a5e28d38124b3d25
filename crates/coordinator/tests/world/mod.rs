//! A shard with a log, a clock and clients around it, for the tests.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by several tests, none of which needs everything"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tidelog_coordinator::group::{
    ClientInfo, ClusterView, Config, Effect, GroupCoordinator, GroupRecord, GroupRequest,
    GroupSettings, Input, TopicChange, TopicChangeKind, TopicView, resolve_regexes,
};
use tidelog_types::{
    GroupId, LeaderEpoch, Now, PartitionIndex, ProducerId, Str, Timestamp, TopicId, TopicName, Uuid,
};

/// 2020-09-13 12:26:40 UTC, when every story begins.
pub const START: Timestamp = Timestamp::from_millis(1_600_000_000_000);

/// The topics of a story, and the settings of its groups.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub version: i64,
    pub topics: BTreeMap<String, (TopicId, i32)>,
    pub settings: BTreeMap<String, GroupSettings>,
    /// How many topics there have ever been.
    created: u128,
}

impl ClusterView for Cluster {
    fn version(&self) -> i64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicView> {
        let (id, partitions) = *self.topics.get(name)?;
        Some(TopicView {
            id,
            name: name.into(),
            partitions,
        })
    }

    fn topic_by_id(&self, id: TopicId) -> Option<TopicView> {
        let mut topics = self.topics.iter();
        let (name, _) = topics.find(|(_, (known, _))| *known == id)?;
        self.topic(name)
    }

    fn racks(&self, _id: TopicId, _partition: PartitionIndex) -> Vec<Str> {
        Vec::new()
    }

    fn topic_names(&self) -> Box<dyn Iterator<Item = TopicName> + '_> {
        Box::new(self.topics.keys().map(|name| name.as_str().into()))
    }

    fn group_settings(&self, group_id: &GroupId) -> GroupSettings {
        self.settings.get(&**group_id).copied().unwrap_or_default()
    }
}

pub struct World {
    pub cluster: Cluster,
    /// Look up expressions as soon as that is asked for.
    pub resolves_at_once: bool,
    pub start: Now,
    pub now: Now,
    pub config: Config,
    pub shard: GroupCoordinator,
    pub log: Vec<(Bytes, Option<Bytes>)>,
    pub epoch: i32,
    /// The newest append that was asked for.
    pub appended: u64,
    /// How long the log was before each append of the shard, and is now.
    log_ends: Vec<usize>,
    /// How much of the log is committed.
    pub committed: usize,
    /// Commit every append as soon as it was asked for.
    pub commits_at_once: bool,
    /// Requests that were not answered yet.
    pub open: BTreeSet<u64>,
    pub last_request: u64,
}

impl World {
    pub fn new(config: Config) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no other way to make an Instant"
        )]
        let now = Now {
            instant: Instant::now(),
            timestamp: START,
        };
        let mut world = Self {
            cluster: Cluster::default(),
            resolves_at_once: true,
            start: now,
            now,
            shard: GroupCoordinator::new(now, config.clone(), LeaderEpoch::new(0)),
            config,
            log: Vec::new(),
            epoch: 0,
            appended: 0,
            log_ends: vec![0],
            committed: 0,
            commits_at_once: true,
            open: BTreeSet::new(),
            last_request: 0,
        };
        world.handle(Input::Loaded);
        world
    }

    /// Feeds one input, and does what the shard wants done.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.shard.handle(self.now, input, &mut effects);
        self.shard.check();
        for effect in &effects {
            match effect {
                Effect::Append { append_id, records } => {
                    assert_eq!(*append_id, self.appended + 1, "append ids rise by one");
                    assert!(!records.is_empty());
                    self.appended = *append_id;
                    for record in records {
                        let (key, value) = record.encode().expect("a record can be written");
                        let read = GroupRecord::decode(&key, value.as_ref());
                        assert_eq!(read.expect("it can be read").as_ref(), Some(record));
                        let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
                        assert!(bytes <= record.size_bound(), "{bytes} bytes: {record:?}");
                        self.log.push((key, value));
                    }
                    self.log_ends.push(self.log.len());
                }
                Effect::Reply { request_id, .. } => {
                    assert!(
                        self.open.remove(request_id),
                        "r{request_id} was answered before"
                    );
                }
                Effect::ResolveRegexes { .. } | Effect::Report { .. } => {}
            }
        }
        if self.commits_at_once && effects.iter().any(|e| matches!(e, Effect::Append { .. })) {
            effects.extend(self.commit(self.appended));
        }
        let asked = effects.iter().filter_map(|effect| match effect {
            Effect::ResolveRegexes { group_id, regexes } => {
                Some((group_id.clone(), regexes.clone()))
            }
            _ => None,
        });
        for (group_id, regexes) in asked.collect::<Vec<_>>() {
            if self.resolves_at_once {
                effects.extend(self.resolve(group_id, &regexes));
            }
        }
        effects
    }

    /// Somebody looks for the topics that expressions match.
    pub fn resolve(&mut self, group_id: GroupId, regexes: &[Str]) -> Vec<Effect> {
        let resolved = resolve_regexes(&self.cluster, regexes);
        let version = self.cluster.version;
        self.handle(Input::RegexesResolved {
            group_id,
            version,
            resolved,
        })
    }

    /// There are these topics, with so many partitions, and no others.
    pub fn set_topics(&mut self, topics: &[(&str, i32)]) -> Vec<Effect> {
        let before = self.cluster.topics.clone();
        let mut changes = Vec::new();
        let mut change = |name: &str, kind| {
            let name = name.into();
            changes.push(TopicChange { name, kind });
        };
        for name in before
            .keys()
            .filter(|name| !topics.iter().any(|(kept, _)| kept == name))
        {
            self.cluster.topics.remove(name);
            change(name, TopicChangeKind::Deleted);
        }
        for (name, partitions) in topics {
            match self.cluster.topics.get_mut(*name) {
                Some((_, before)) if before == partitions => {}
                Some((_, before)) => {
                    *before = *partitions;
                    change(name, TopicChangeKind::Changed);
                }
                None => {
                    self.cluster.created += 1;
                    let id = Uuid::from_bytes(self.cluster.created.to_be_bytes());
                    self.cluster
                        .topics
                        .insert((*name).to_owned(), (id, *partitions));
                    change(name, TopicChangeKind::Created);
                }
            }
        }
        self.cluster.version += 1;
        self.show_cluster(changes)
    }

    /// The shard sees the cluster as it is now.
    pub fn show_cluster(&mut self, changes: Vec<TopicChange>) -> Vec<Effect> {
        let view = Arc::new(self.cluster.clone());
        self.handle(Input::ClusterChanged { view, changes })
    }

    pub fn topic_id(&self, name: &str) -> TopicId {
        self.cluster
            .topics
            .get(name)
            .map(|(id, _)| *id)
            .unwrap_or_default()
    }

    pub fn topic_name(&self, id: TopicId) -> String {
        let topic = self.cluster.topic_by_id(id);
        topic.map_or_else(
            || format!("#{}", u128::from_be_bytes(*id.as_bytes())),
            |topic| topic.name.to_string(),
        )
    }

    /// The log is committed up to this append.
    pub fn commit(&mut self, append_id: u64) -> Vec<Effect> {
        let index = usize::try_from(append_id).expect("few appends");
        self.committed = self.committed.max(self.log_ends[index]);
        self.handle(Input::Committed { append_id })
    }

    pub fn request(&mut self, client: &str, version: i16, request: GroupRequest) -> Vec<Effect> {
        self.last_request += 1;
        let request_id = self.last_request;
        self.open.insert(request_id);
        let client_host = "/127.0.0.1".into();
        let client = ClientInfo {
            client_id: client.into(),
            client_host,
        };
        self.handle(Input::Request {
            request_id,
            version,
            client,
            request,
        })
    }

    /// Lets time pass; what happens meanwhile comes with the time at which it happens.
    pub fn advance(&mut self, time: Duration) -> Vec<(Duration, Effect)> {
        let end = self.now + time;
        let mut happened = Vec::new();
        let mut steps = 0;
        while let Some(deadline) = self.shard.deadline().filter(|at| *at <= end.instant) {
            steps += 1;
            assert!(steps < 100_000, "the shard does not rest");
            self.now = self.now + deadline.saturating_duration_since(self.now.instant);
            let at = self.now.instant - self.start.instant;
            happened.extend(
                self.handle(Input::Timeout)
                    .into_iter()
                    .map(|effect| (at, effect)),
            );
        }
        self.now = end;
        happened
    }

    /// The shard is gone, with what was not committed; another one is loaded from the log.
    pub fn reload(&mut self) -> Vec<Effect> {
        let mut effects = self.handle(Input::Unload);
        assert!(
            self.open.is_empty(),
            "unanswered after unloading: {:?}",
            self.open
        );
        self.epoch += 1;
        self.appended = 0;
        self.log.truncate(self.committed);
        self.log_ends = vec![self.committed];
        self.shard = self.loaded_anew();
        self.shard.check();
        effects.extend(self.show_cluster(Vec::new()));
        effects.extend(self.handle(Input::Loaded));
        effects
    }

    /// Another node takes over, with the same log; what was not committed is not yet. Gives what the former one answers.
    pub fn take_over(&mut self) -> Vec<Effect> {
        let mut effects = self.handle(Input::Unload);
        self.epoch += 1;
        self.log_ends = vec![self.committed];
        self.shard = self.loaded_up_to(self.committed);
        if self.committed < self.log.len() {
            let append_id = self.shard.replay_uncommitted(self.now);
            assert_eq!(append_id, 1, "it comes before all appends");
            self.log_ends.push(self.log.len());
            replay(&mut self.shard, &self.log[self.committed..]);
        }
        self.appended = self.log_ends.len() as u64 - 1;
        effects.extend(self.show_cluster(Vec::new()));
        effects.extend(self.handle(Input::Loaded));
        effects
    }

    /// Another shard with the same log.
    pub fn loaded_anew(&self) -> GroupCoordinator {
        self.loaded_up_to(self.log.len())
    }

    fn loaded_up_to(&self, end: usize) -> GroupCoordinator {
        let epoch = LeaderEpoch::new(self.epoch);
        let mut shard = GroupCoordinator::new(self.now, self.config.clone(), epoch);
        replay(&mut shard, &self.log[..end]);
        shard
    }
}

fn replay(shard: &mut GroupCoordinator, records: &[(Bytes, Option<Bytes>)]) {
    for (key, value) in records {
        let record = GroupRecord::decode(key, value.as_ref()).expect("it was written so");
        shard.replay(ProducerId::NONE, &record.expect("it is of a known kind"));
    }
}

/// What a consumer tells of itself: version 0 of its subscription.
pub fn subscription<'a>(topics: impl IntoIterator<Item = &'a str>) -> Bytes {
    let topics: Vec<&str> = topics.into_iter().collect();
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(i32::try_from(topics.len()).expect("few topics"));
    for topic in topics {
        bytes.put_i16(i16::try_from(topic.len()).expect("a short name"));
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}
