//! A shard with a log, a clock and clients around it, for the tests.
#![allow(unreachable_pub, reason = "shared by several tests")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tidelog_coordinator::group::{
    ClientInfo, Config, Effect, GroupCoordinator, GroupRecord, GroupRequest, Input,
};
use tidelog_types::{LeaderEpoch, Now, ProducerId, Timestamp};

/// 2020-09-13 12:26:40 UTC, when every story begins.
pub const START: Timestamp = Timestamp::from_millis(1_600_000_000_000);

pub struct World {
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
            }
        }
        if self.commits_at_once && effects.iter().any(|e| matches!(e, Effect::Append { .. })) {
            effects.extend(self.commit(self.appended));
        }
        effects
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
        effects.extend(self.handle(Input::Loaded));
        effects
    }

    /// Another shard with the same log.
    pub fn loaded_anew(&self) -> GroupCoordinator {
        let epoch = LeaderEpoch::new(self.epoch);
        let mut shard = GroupCoordinator::new(self.now, self.config.clone(), epoch);
        for (key, value) in &self.log {
            let record = GroupRecord::decode(key, value.as_ref()).expect("it was written so");
            shard.replay(ProducerId::NONE, &record.expect("it is of a known kind"));
        }
        shard
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
