//! Stories in `testdata/classic`: commands, and the effects that they must have. `TIDELOG_BLESS=1` writes what is so.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, Now, Str, Timestamp, TopicPartition};

use super::super::{Assignor, Effect, Generation, Input, Peer, Subscription};
use super::{ClassicConfig, ClassicMember};

struct Story {
    member: ClassicMember,
    start: Now,
    now: Now,
    request: u64,
    demand: u64,
}

fn word<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = line.split_whitespace();
    fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

/// The number behind `name=`.
fn number(line: &str, name: &str) -> Option<i64> {
    word(line, name).map(|value| value.parse().expect("a number"))
}

fn code(name: &str) -> ErrorCode {
    let mut all = ErrorCode::ALL.iter().copied();
    all.find(|code| code.name() == Some(name))
        .unwrap_or_else(|| panic!("no error is called {name}"))
}

/// `t:0,t:1`.
fn partitions(text: &str) -> Vec<TopicPartition> {
    let all = text.split(',').filter(|it| !it.is_empty());
    let partition = |text: &str| {
        let (topic, index) = text.split_once(':').expect("topic:index");
        TopicPartition::new(topic, index.parse().expect("a number"))
    };
    all.map(partition).collect()
}

/// `me>t:0,t:1`: a member that subscribes to t, and what it owns.
fn peer(text: &str) -> Option<Peer> {
    let (id, owned) = text.split_once('>')?;
    Some(Peer {
        member_id: id.into(),
        topics: vec!["t".into()],
        owned: partitions(owned),
        ..Peer::default()
    })
}

impl Story {
    fn new(line: &str) -> Self {
        let now = Now {
            instant: Instant::now(),
            timestamp: Timestamp::from_millis(0),
        };
        let config = ClassicConfig {
            is_static: line.contains("static"),
            is_cooperative: line.contains("cooperative"),
            heartbeat_interval: Duration::from_secs(3),
            poll_interval_max: Duration::from_secs(300),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            seed: 7,
        };
        Self {
            member: ClassicMember::new(now, config),
            start: now,
            now,
            request: 0,
            demand: 0,
        }
    }

    fn input(&mut self, line: &str) -> Input {
        let mut fields = line.split_whitespace().skip(1);
        let request = self.request;
        let error = word(line, "error").map(code);
        match line.split_whitespace().next().expect("a command") {
            "subscribe" => Input::Subscribe {
                subscription: Subscription {
                    topics: fields.map(Into::into).collect(),
                    regex: None,
                },
            },
            "leave" => Input::Leave,
            "poll" => Input::Polled,
            "revoked" => Input::Revoked {
                demand: self.demand,
            },
            "counted" => Input::Counted {
                counts: BTreeMap::from([("t".into(), number(line, "t").expect("t") as i32)]),
            },
            "joined" => {
                let id: Str = word(line, "id").unwrap_or("me").into();
                let peers: Vec<Peer> = fields.filter_map(peer).collect();
                let generation = Generation {
                    generation_id: number(line, "generation").unwrap_or(-1) as i32,
                    member_id: id.clone(),
                    assignor: Some(match line.contains("cooperative") {
                        true => Assignor::CooperativeSticky,
                        false => Assignor::Range,
                    }),
                    peers: (!peers.is_empty()).then_some(peers),
                    skips_assignment: false,
                };
                let answer = error.map_or(Ok(generation), |code| Err((code, id)));
                Input::Joined { request, answer }
            }
            "synced" => {
                let owns = partitions(word(line, "owns").unwrap_or(""));
                let answer = error.map_or(Ok(owns), Err);
                Input::Synced { request, answer }
            }
            "acknowledged" => {
                let error_code = error.unwrap_or(ErrorCode::NONE);
                Input::Acknowledged {
                    request,
                    error_code,
                }
            }
            "lose" => Input::Lost { request },
            "pass" => {
                let ms = fields
                    .next()
                    .expect("milliseconds")
                    .parse()
                    .expect("a number");
                self.now = self.now + Duration::from_millis(ms);
                Input::Timeout
            }
            other => panic!("no command is called {other}"),
        }
    }

    fn step(&mut self, line: &str) -> String {
        let input = self.input(line);
        let mut effects = Vec::new();
        self.member.handle(self.now, input, &mut effects);
        self.member.check();
        let mut text = String::new();
        for effect in &effects {
            match effect {
                Effect::Join { request, .. }
                | Effect::Sync { request, .. }
                | Effect::Beat { request, .. }
                | Effect::Leave { request, .. } => self.request = *request,
                Effect::Revoke { demand, .. } => self.demand = *demand,
                _ => {}
            }
            writeln!(text, "{}", show(effect)).expect("a string takes everything");
        }
        let due = self.member.deadline();
        let due = due.map(|at| at.saturating_duration_since(self.start.instant).as_millis());
        let due = due.map_or_else(
            || "nothing is due".to_owned(),
            |ms| format!("due at {ms} ms"),
        );
        writeln!(text, "= {due}").expect("likewise");
        text
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Join { join, .. } => format!(
            "join as {:?}, owns [{}], had [{}] in {}",
            join.member_id,
            names(&join.owned),
            names(&join.last),
            join.generation_id
        ),
        Effect::Sync {
            generation_id,
            assignments,
            ..
        } => {
            let parts = assignments.iter();
            let parts = parts.map(|(id, it)| format!("{id}: {}", names(it)));
            let parts: Vec<_> = parts.collect();
            format!("sync in {generation_id} [{}]", parts.join("; "))
        }
        Effect::Beat { generation_id, .. } => format!("heartbeat in {generation_id}"),
        Effect::Leave { member_id, .. } => format!("leave as {member_id:?}"),
        Effect::Count { topics } => format!("count {topics:?}"),
        Effect::Revoke { partitions, .. } => format!("revoke {}", names(partitions)),
        Effect::Assign { partitions } => format!("assign {}", names(partitions)),
        Effect::Lose { partitions } => format!("lose {}", names(partitions)),
        Effect::Left => "left".into(),
        Effect::Fail { error_code, .. } => format!("fail: {error_code}"),
        other => panic!("{other:?} is of the other protocol"),
    }
}

/// The story as it goes now.
fn told(text: &str) -> String {
    let mut out = String::new();
    let mut story = None;
    let mut is_effect = false;
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            is_effect = false;
            writeln!(out, "{line}").expect("a string takes everything");
        } else if line == "---" {
            is_effect = true;
        } else if line.starts_with('=') {
            is_effect = false;
        } else if !is_effect {
            writeln!(out, "{line}").expect("likewise");
            if line.starts_with("new") {
                story = Some(Story::new(line));
                continue;
            }
            let story: &mut Story = story.as_mut().expect("a story begins with new");
            write!(out, "---\n{}", story.step(line)).expect("likewise");
        }
    }
    out
}

#[test]
fn stories_go_as_they_are_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/classic");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(&path).unwrap();
        let told = told(&expected);
        if std::env::var_os("TIDELOG_BLESS").is_some() {
            std::fs::write(&path, told).unwrap();
        } else {
            assert_eq!(told, expected, "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 4, "the stories were found");
}
