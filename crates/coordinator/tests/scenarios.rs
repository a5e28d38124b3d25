//! Stories told in text: `testdata/*.txt`. A line that begins with `> ` is a command; the lines below it, up to the next
//! command, blank line or remark, are what it must lead to. `TIDELOG_BLESS=1` writes what it does lead to into the files.

mod consumer;
mod shown;
mod world;

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tidelog_coordinator::group::{
    Config, DeletedTopic, Effect, GroupRecord, GroupRequest, GroupResponse, Input, MigrationPolicy,
};
use tidelog_protocol::messages::delete_groups::DeleteGroupsRequest;
use tidelog_protocol::messages::describe_groups::DescribeGroupsRequest;
use tidelog_protocol::messages::heartbeat::HeartbeatRequest;
use tidelog_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use tidelog_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::messages::list_groups::ListGroupsRequest;
use tidelog_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use tidelog_protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use tidelog_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidelog_protocol::records::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartition,
};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, Str, Timestamp, TopicId, Uuid};

use shown::{consumer_assignment, seconds, show_bytes, show_response};
use world::{START, World, subscription};

#[test]
fn stories_go_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let files = std::fs::read_dir(&folder).expect("the stories are there");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty());
    let bless = std::env::var_os("TIDELOG_BLESS").is_some();
    for path in paths {
        let told = std::fs::read_to_string(&path).expect("a story is text");
        let happened = Story::new().tell(&told);
        if bless {
            std::fs::write(&path, &happened).expect("the story can be written");
        } else if told != happened {
            let line = told
                .lines()
                .zip(happened.lines())
                .take_while(|(a, b)| a == b)
                .count()
                + 1;
            panic!(
                "{} differs from line {line} on; it went:\n{happened}",
                path.display()
            );
        }
    }
}

struct Story {
    world: World,
    /// Member ids and the short names that the story has for them.
    names: Vec<(String, String)>,
}

/// A partition, with the offset and the leader epoch that are committed for it.
type Place = (i32, Option<(i64, i32)>);

/// The words of a command: those with `key=value`, and the others.
struct Words<'a> {
    named: Vec<(&'a str, &'a str)>,
    plain: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(words: &'a str) -> Self {
        let (mut named, mut plain) = (Vec::new(), Vec::new());
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(pair) => named.push(pair),
                None => plain.push(word),
            }
        }
        Self { named, plain }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.named
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    fn text(&self, key: &str, default: &'a str) -> Str {
        Str::from(self.get(key).unwrap_or(default))
    }

    fn number<N: std::str::FromStr>(&self, key: &str, default: N) -> N {
        self.get(key).map_or(default, |text| {
            text.parse()
                .unwrap_or_else(|_| panic!("{key}={text} is not a number"))
        })
    }

    fn list(&self, key: &str) -> Vec<&'a str> {
        self.get(key)
            .map(|text| text.split(',').collect())
            .unwrap_or_default()
    }

    /// The words like `topic:3@42/7`, sorted by topic: partition 3, offset 42, leader epoch 7.
    fn partitions(&self) -> Vec<(&'a str, Vec<Place>)> {
        let mut topics: Vec<(&str, Vec<_>)> = Vec::new();
        for word in &self.plain {
            let Some((topic, rest)) = word.split_once(':') else {
                continue;
            };
            let (partition, position) = match rest.split_once('@') {
                Some((partition, position)) => (partition, Some(position)),
                None => (rest, None),
            };
            let position = position.map(|position| {
                let (offset, epoch) = position.split_once('/').unwrap_or((position, "-1"));
                (
                    offset.parse().expect("an offset"),
                    epoch.parse().expect("an epoch"),
                )
            });
            let partition = (partition.parse().expect("a partition"), position);
            match topics.iter_mut().find(|(name, _)| *name == topic) {
                Some((_, partitions)) => partitions.push(partition),
                None => topics.push((topic, vec![partition])),
            }
        }
        topics
    }

    /// The groups that are named.
    fn groups(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.plain
            .iter()
            .skip(1)
            .copied()
            .filter(|word| !word.contains(':') && *word != "stable")
    }

    fn group(&self) -> &'a str {
        self.groups().next().unwrap_or_default()
    }
}

fn duration(text: &str) -> Duration {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().expect("a number and a unit");
    match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3_600 * number),
        "d" => Duration::from_secs(86_400 * number),
        unit => panic!("{unit} is not a unit of time"),
    }
}

impl Story {
    fn new() -> Self {
        Self {
            world: World::new(Config::default()),
            names: Vec::new(),
        }
    }

    fn tell(mut self, told: &str) -> String {
        let mut happened = String::new();
        let mut lines = told.lines().peekable();
        while let Some(line) = lines.next() {
            writeln!(happened, "{line}").expect("a string can be written");
            let Some(command) = line.strip_prefix("> ") else {
                continue;
            };
            while lines.next_if(|line| line.starts_with("  ")).is_some() {}
            for line in self.command(command) {
                writeln!(happened, "  {line}").expect("a string can be written");
            }
        }
        happened
    }

    fn command(&mut self, command: &str) -> Vec<String> {
        // Short names of members are used wherever a member id may stand.
        let mut spelled = command.to_owned();
        for (member_id, name) in self.names.iter().rev() {
            spelled = spelled.replace(name, member_id);
        }
        let words = Words::new(&spelled);
        let effects = match words.plain[0] {
            "config" => {
                self.world = World::new(configured(&words));
                self.names.clear();
                return Vec::new();
            }
            "hold" => {
                self.world.commits_at_once = false;
                return Vec::new();
            }
            "commit-log" => {
                self.world.commits_at_once = true;
                self.world.commit(self.world.appended)
            }
            "advance" => {
                let happened = self.world.advance(duration(words.plain[1]));
                return happened
                    .iter()
                    .filter(|(_, effect)| !matches!(effect, Effect::Report { .. }))
                    .map(|(at, effect)| format!("after {}: {}", seconds(*at), self.show(effect)))
                    .collect();
            }
            // The wall clock only; the clock of timers goes on.
            "set-back" => {
                let back = duration(words.plain[1]).as_millis() as i64;
                let timestamp = &mut self.world.now.timestamp;
                *timestamp = Timestamp::from_millis(timestamp.as_millis() - back);
                return Vec::new();
            }
            "reload" => self.world.reload(),
            "take-over" => self.world.take_over(),
            "unload" => self.world.handle(Input::Unload),
            "fail" => {
                let mut known = ErrorCode::ALL.iter();
                let error = known.find(|code| code.name() == Some(words.plain[1]));
                self.world.handle(Input::AppendFailed {
                    error: *error.expect("an error code"),
                })
            }
            "topics" => {
                let topics: Vec<(&str, i32)> = words
                    .named
                    .iter()
                    .map(|(name, count)| (*name, count.parse().expect("a number")))
                    .collect();
                self.world.set_topics(&topics)
            }
            "settings" => {
                let settings = consumer::settings(&words);
                let group = words.group().to_owned();
                self.world.cluster.settings.insert(group, settings);
                self.world.show_cluster(Vec::new())
            }
            "hold-regexes" => {
                self.world.resolves_at_once = false;
                return Vec::new();
            }
            "resolve" => {
                let regexes: Vec<_> = words.list("regex").into_iter().map(Str::from).collect();
                self.world.resolves_at_once = true;
                self.world.resolve(words.group().into(), &regexes)
            }
            "explain" => {
                let history = self.world.shard.explain(&words.group().into());
                let lines = history
                    .into_iter()
                    .flatten()
                    .flat_map(consumer::show_rebalance);
                let lines: Vec<_> = lines.collect();
                return lines.into_iter().map(|line| self.shorten(line)).collect();
            }
            "topic-deleted" => {
                let topic_id = uuid(words.number("id", 0));
                let topics = vec![DeletedTopic {
                    name: words.plain[1].into(),
                    topic_id,
                }];
                self.world.handle(Input::TopicsDeleted { topics })
            }
            "records" => {
                let records = self.world.shard.records();
                return records
                    .iter()
                    .map(|record| self.show_record(record))
                    .collect();
            }
            "timer" => {
                let deadline = self.world.shard.deadline();
                let in_time = deadline.map(|at| at - self.world.start.instant);
                return vec![
                    in_time.map_or_else(|| "none".to_owned(), |at| format!("at {}", seconds(at))),
                ];
            }
            _ => {
                let request = consumer::request(&self.world, &words);
                let (version, request) = request.unwrap_or_else(|| request_of(&words));
                self.world
                    .request(words.get("client").unwrap_or("client"), version, request)
            }
        };
        let effects = effects
            .iter()
            .filter(|effect| !matches!(effect, Effect::Report { .. }));
        effects.map(|effect| self.show(effect)).collect()
    }

    fn show(&mut self, effect: &Effect) -> String {
        match effect {
            Effect::Reply {
                response: GroupResponse::JoinGroup(response),
                ..
            } => {
                self.name(&response.member_id);
                response
                    .members
                    .iter()
                    .for_each(|member| self.name(&member.member_id));
            }
            Effect::Append { records, .. } => {
                for record in records {
                    if let GroupRecord::GroupMetadata {
                        value: Some(value), ..
                    } = record
                    {
                        value
                            .members
                            .iter()
                            .for_each(|member| self.name(&member.member_id));
                    }
                }
            }
            _ => {}
        }
        let text = match effect {
            Effect::Append { append_id, records } => {
                let records: Vec<_> = records.iter().map(|r| self.show_record(r)).collect();
                format!("append {append_id}: {}", records.join("; "))
            }
            Effect::Reply {
                request_id,
                response,
            } => {
                format!("r{request_id}: {}", self.show_response(response))
            }
            Effect::ResolveRegexes { group_id, regexes } => {
                let regexes: Vec<_> = regexes.iter().map(ToString::to_string).collect();
                format!("resolve {group_id} {}", regexes.join(" "))
            }
            Effect::Report { .. } => String::new(),
        };
        self.shorten(text)
    }

    fn name(&mut self, member_id: &Str) {
        const UUID: usize = 37;
        if member_id.len() < UUID || self.names.iter().any(|(known, _)| *member_id == **known) {
            return;
        }
        let prefix = format!("{}#", &member_id[..member_id.len() - UUID]);
        let number = self
            .names
            .iter()
            .filter(|(_, name)| name.starts_with(&prefix))
            .count()
            + 1;
        self.names
            .push((member_id.to_string(), format!("{prefix}{number}")));
    }

    fn shorten(&self, mut text: String) -> String {
        for (member_id, name) in &self.names {
            text = text.replace(member_id, name);
        }
        text
    }

    fn show_response(&self, response: &GroupResponse) -> String {
        match response {
            GroupResponse::ConsumerGroupHeartbeat(r) => consumer::show_heartbeat(&self.world, r),
            GroupResponse::ConsumerGroupDescribe(r) => consumer::show_described(&self.world, r),
            GroupResponse::SyncGroup(r) => match consumer_assignment(&r.assignment) {
                Some(assignment) => format!("sync assignment=[{assignment}]"),
                None => show_response(response),
            },
            response => show_response(response),
        }
    }

    fn show_record(&self, record: &GroupRecord) -> String {
        if let Some(text) = consumer::show_record(&self.world, record) {
            return self.shorten(text);
        }
        let text = match record {
            GroupRecord::OffsetCommit {
                group_id,
                topic,
                partition,
                value: None,
            } => {
                format!("{group_id} {topic}:{partition} gone")
            }
            GroupRecord::GroupMetadata {
                group_id,
                value: None,
            } => format!("{group_id} gone"),
            GroupRecord::OffsetCommit {
                group_id,
                topic,
                partition,
                value: Some(value),
            } => {
                let mut text = format!("{group_id} {topic}:{partition}@{}", value.offset);
                if value.leader_epoch != LeaderEpoch::NONE {
                    write!(text, "/{}", value.leader_epoch).expect("a string can be written");
                }
                if !value.metadata.is_empty() {
                    write!(text, " {:?}", value.metadata).expect("a string can be written");
                }
                if value.expire_timestamp.as_millis() >= 0 {
                    let lasts = value.expire_timestamp.millis_since(value.commit_timestamp);
                    write!(text, " for {lasts} ms").expect("a string can be written");
                }
                text
            }
            GroupRecord::GroupMetadata {
                group_id,
                value: Some(value),
            } => {
                let members = value.members.iter().map(|member| {
                    let instance = member.group_instance_id.as_ref();
                    let instance = instance.map(|id| format!("({id})")).unwrap_or_default();
                    format!(
                        "{}{instance}={}",
                        member.member_id,
                        consumer_assignment(&member.assignment)
                            .unwrap_or_else(|| show_bytes(&member.assignment))
                    )
                });
                let since = value.current_state_timestamp.millis_since(START);
                format!(
                    "{group_id} generation={} type={:?} protocol={} leader={} since={} members=[{}]",
                    value.generation,
                    value.protocol_type,
                    value.protocol.as_deref().unwrap_or("-"),
                    value.leader.as_deref().unwrap_or("-"),
                    seconds(Duration::from_millis(since.unsigned_abs())),
                    members.collect::<Vec<_>>().join(" "),
                )
            }
            _ => unreachable!("shown above"),
        };
        self.shorten(text)
    }
}

/// `orders:0,1|users:2`
fn topic_partitions(text: &str) -> Vec<TopicPartition> {
    let topics = text.split('|').filter_map(|topic| {
        let (name, partitions) = topic.split_once(':')?;
        Some(TopicPartition {
            topic: name.into(),
            partitions: partitions
                .split(',')
                .map(|p| p.parse().expect("a number"))
                .collect(),
        })
    });
    topics.collect()
}

/// What a consumer tells of itself that also says what it owns: `orders:0,1|users:2`.
fn owning_subscription(topics: &[&str], owned: &str) -> Bytes {
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|name| (*name).into()).collect(),
        owned_partitions: topic_partitions(owned),
        ..Default::default()
    };
    subscription.encode_versioned(1).expect("a subscription")
}

fn configured(words: &Words<'_>) -> Config {
    let default = Config::default();
    Config {
        group_initial_rebalance_delay_ms: words
            .number("initial_delay_ms", default.group_initial_rebalance_delay_ms),
        group_max_size: words.number("max_size", default.group_max_size),
        group_pending_members_max: words.number("pending_max", default.group_pending_members_max),
        groups_max: words.number("groups_max", default.groups_max),
        group_offsets_max: words.number("offsets_max", default.group_offsets_max),
        consumer_group_max_size: words.number("consumer_max_size", default.consumer_group_max_size),
        consumer_group_assignment_interval_ms: words
            .number("interval_ms", default.consumer_group_assignment_interval_ms),
        consumer_group_migration_policy: words
            .get("migration")
            .and_then(MigrationPolicy::from_name)
            .unwrap_or_default(),
        append_bytes_max: words.number("append_bytes_max", default.append_bytes_max),
        offsets_retention_ms: words.number("retention_ms", default.offsets_retention_ms),
        ..default
    }
}

/// Makes up the request of a command, with the version in which it is sent.
fn request_of(words: &Words<'_>) -> (i16, GroupRequest) {
    let group_id = words.group().into();
    let group_instance_id = words.get("instance").map(Str::from);
    let member_id = words.text("member", "");
    let generation_id = words.number("generation", -1);
    match words.plain[0] {
        "join" => {
            let topics = words.list("topics");
            let names = words.get("protocols").unwrap_or("range").split(',');
            let protocol = |name: &str| JoinGroupRequestProtocol {
                name: name.into(),
                metadata: match words.get("metadata") {
                    Some(text) => Bytes::copy_from_slice(text.as_bytes()),
                    None => match words.get("owned") {
                        Some(owned) => owning_subscription(&topics, owned),
                        None => subscription(topics.iter().copied()),
                    },
                },
            };
            let request = JoinGroupRequest {
                group_id,
                session_timeout_ms: words.number("session", 10_000),
                rebalance_timeout_ms: words.number("rebalance", 60_000),
                member_id,
                group_instance_id,
                protocol_type: words.text("type", "consumer"),
                protocols: names
                    .filter(|name| !name.is_empty())
                    .map(protocol)
                    .collect(),
                reason: words.get("reason").map(Str::from),
            };
            (words.number("version", 9), GroupRequest::JoinGroup(request))
        }
        "sync" => {
            let assignments = words.list("assign").into_iter().map(|pair| {
                let (member_id, assignment) = pair.rsplit_once(':').expect("member:assignment");
                let assignment = Bytes::copy_from_slice(assignment.as_bytes());
                SyncGroupRequestAssignment {
                    member_id: member_id.into(),
                    assignment,
                }
            });
            let consumers = words.get("consumer-assign").map(|pair| {
                let (member_id, owned) = pair.split_once('>').expect("member>topic:partitions");
                let assignment = ConsumerProtocolAssignment {
                    assigned_partitions: topic_partitions(owned),
                    user_data: None,
                };
                SyncGroupRequestAssignment {
                    member_id: member_id.into(),
                    assignment: assignment.encode_versioned(1).expect("an assignment"),
                }
            });
            let request = SyncGroupRequest {
                group_id,
                generation_id,
                member_id,
                group_instance_id,
                protocol_type: words.get("type").map(Str::from),
                protocol_name: words.get("protocol").map(Str::from),
                assignments: assignments.chain(consumers).collect(),
            };
            // Version 5 needs the names of the protocol, which most scenarios are not about.
            let version = if words.get("type").is_some() { 5 } else { 4 };
            (
                words.number("version", version),
                GroupRequest::SyncGroup(request),
            )
        }
        "heartbeat" => {
            let request = HeartbeatRequest {
                group_id,
                generation_id,
                member_id,
                group_instance_id,
            };
            (words.number("version", 4), GroupRequest::Heartbeat(request))
        }
        "leave" => {
            let one = |member_id: &str, group_instance_id| MemberIdentity {
                member_id: member_id.into(),
                group_instance_id,
                reason: words.get("reason").map(Str::from),
            };
            let by_member = words.list("member").into_iter();
            let mut members: Vec<_> = by_member
                .map(|id| one(id, group_instance_id.clone()))
                .collect();
            if members.is_empty() {
                let instances = words.list("instance").into_iter();
                members = instances
                    .map(|instance| one("", Some(instance.into())))
                    .collect();
            }
            let request = LeaveGroupRequest {
                group_id,
                member_id,
                members,
            };
            (
                words.number("version", 5),
                GroupRequest::LeaveGroup(request),
            )
        }
        "commit" => {
            let partition = |(partition_index, position)| {
                let (offset, epoch) = Option::unwrap_or(position, (0, -1));
                OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: Offset::new(offset),
                    committed_leader_epoch: LeaderEpoch::new(epoch),
                    committed_metadata: words.get("metadata").map(Str::from).or_else(|| {
                        words
                            .get("metadata_length")
                            .map(|n| "é".repeat(n.parse().unwrap()).into())
                    }),
                    ..Default::default()
                }
            };
            let topics =
                words
                    .partitions()
                    .into_iter()
                    .map(|(name, partitions)| OffsetCommitRequestTopic {
                        name: name.into(),
                        topic_id: uuid(words.number("id", 0)),
                        partitions: partitions.into_iter().map(partition).collect(),
                    });
            let request = OffsetCommitRequest {
                group_id,
                generation_id_or_member_epoch: generation_id,
                member_id,
                group_instance_id,
                retention_time_ms: words.number("retention", -1),
                topics: topics.collect(),
            };
            (
                words.number("version", 10),
                GroupRequest::OffsetCommit(request),
            )
        }
        "fetch" => {
            let topics =
                words
                    .partitions()
                    .into_iter()
                    .map(|(name, partitions)| OffsetFetchRequestTopics {
                        name: name.into(),
                        topic_id: uuid(words.number("id", 0)),
                        partition_indexes: partitions.into_iter().map(|(index, _)| index).collect(),
                    });
            let topics: Vec<_> = topics.collect();
            let topics = Some(topics).filter(|topics| !topics.is_empty());
            let group = OffsetFetchRequestGroup {
                group_id,
                topics,
                ..Default::default()
            };
            let require_stable = words.plain.contains(&"stable");
            (
                10,
                GroupRequest::OffsetFetch {
                    group,
                    require_stable,
                },
            )
        }
        "delete-offsets" => {
            let topics = words.partitions().into_iter().map(|(name, partitions)| {
                let indexes = partitions.into_iter();
                OffsetDeleteRequestTopic {
                    name: name.into(),
                    partitions: indexes
                        .map(|(partition_index, _)| OffsetDeleteRequestPartition {
                            partition_index,
                        })
                        .collect(),
                }
            });
            let request = OffsetDeleteRequest {
                group_id,
                topics: topics.collect(),
            };
            (0, GroupRequest::OffsetDelete(request))
        }
        "list" => {
            let request = ListGroupsRequest {
                states_filter: words.list("states").into_iter().map(Str::from).collect(),
                types_filter: words.list("types").into_iter().map(Str::from).collect(),
            };
            (5, GroupRequest::ListGroups(request))
        }
        "describe" => {
            let groups = words.groups().map(Into::into).collect();
            let request = DescribeGroupsRequest {
                groups,
                ..Default::default()
            };
            (
                words.number("version", 6),
                GroupRequest::DescribeGroups(request),
            )
        }
        "delete" => {
            let groups_names = words.groups().map(Into::into).collect();
            (
                2,
                GroupRequest::DeleteGroups(DeleteGroupsRequest { groups_names }),
            )
        }
        other => panic!("{other} is not a command"),
    }
}

/// The topic ids of a story are small numbers.
fn uuid(number: u128) -> TopicId {
    Uuid::from_bytes(number.to_be_bytes())
}
