//! Stories in `testdata/classic`: commands, and the effects that they must have. `TIDELOG_BLESS=1` writes what is so.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use tidelog_types::{ErrorCode, Now, Str, Timestamp, TopicPartition};

use super::super::tests::subscription;
use super::super::{Assignor, Effect, Generation, Input, Peer};
use super::{ClassicConfig, ClassicMember};
use crate::stories::{self, Story, code, number, word};

struct Machine {
    member: ClassicMember,
    start: Now,
    now: Now,
    request: u64,
    demand: u64,
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

impl Machine {
    fn input(&mut self, line: &str) -> Input {
        let mut fields = line.split_whitespace().skip(1);
        let request = self.request;
        let error = word(line, "error").map(code);
        match line.split_whitespace().next().expect("a command") {
            "subscribe" => Input::Subscribe {
                subscription: subscription(line),
            },
            "matched" => Input::Matched {
                topics: fields.map(Into::into).collect(),
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
}

impl Story for Machine {
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
        let due = stories::due(self.member.deadline(), self.start);
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
            "join as {:?} for {}, owns [{}], had [{}] in {}",
            join.member_id,
            join.topics.join(" "),
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

#[test]
fn stories_go_as_they_are_told() {
    stories::go_as_they_are_told::<Machine>("classic", 6);
}
