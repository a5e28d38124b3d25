//! Stories in `testdata/membership`: commands, and the effects that they must have. `TIDELOG_BLESS=1` writes what is so.
//!
//! A command is a line; behind `---` stands what it had for effects, and below `=` when something is due. `1:0` is partition 0 of the
//! topic with the id 1; its name is `t1`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use tidelog_types::{ErrorCode, Now, TopicId, TopicPartition};

use super::super::{Effect, Heartbeat, HeartbeatAnswer, Input, Member};
use crate::stories::{self, Story, code, number, word};

struct Machine {
    member: Member,
    start: Now,
    now: Now,
    request: u64,
    demand: u64,
}

fn id(number: u8) -> TopicId {
    TopicId::from_bytes([number; 16])
}

impl Machine {
    fn input(&mut self, line: &str) -> Input {
        let fields = line.split_whitespace().skip(1);
        let request = self.request;
        match line.split_whitespace().next().expect("a command") {
            "subscribe" => Input::Subscribe {
                subscription: super::subscription(line),
            },
            "leave" => Input::Leave,
            "poll" => Input::Polled,
            "revoked" => Input::Revoked {
                demand: self.demand,
            },
            "named" => Input::Named {
                names: fields
                    .map(|it| it.parse().expect("a number"))
                    .map(|it: u8| (id(it), format!("t{it}").as_str().into()))
                    .collect::<BTreeMap<_, _>>(),
            },
            "answer" => Input::Heartbeat {
                request,
                answer: HeartbeatAnswer {
                    error_code: word(line, "error").map_or(ErrorCode::NONE, code),
                    message: None,
                    member_id: Some("me".into()),
                    member_epoch: number(line, "epoch").unwrap_or(0) as i32,
                    interval: Duration::from_secs(5),
                    assignment: word(line, "owns").map(|text| {
                        let partitions = text.split(',').filter(|it| !it.is_empty());
                        let partition = |text: &str| {
                            let (topic, index) = text.split_once(':').expect("topic:index");
                            (
                                id(topic.parse().expect("a number")),
                                index.parse().expect("a number"),
                            )
                        };
                        partitions.map(partition).collect()
                    }),
                },
            },
            "lose" => Input::Lost { request },
            "pass" => {
                let ms = number(line, "ms").expect("ms") as u64;
                self.now = self.now + Duration::from_millis(ms);
                Input::Timeout
            }
            other => panic!("no command is called {other}"),
        }
    }
}

impl Story for Machine {
    fn new(line: &str) -> Self {
        let mut config = super::config("me");
        config.is_static = line.ends_with("static");
        let now = super::start();
        Self {
            member: Member::new(now, config),
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
                Effect::Heartbeat { request, .. } => self.request = *request,
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
        Effect::Heartbeat { heartbeat, .. } => show_heartbeat(heartbeat),
        Effect::Name { topics } => {
            let topics: Vec<_> = topics
                .iter()
                .map(|it| it.as_bytes()[0].to_string())
                .collect();
            format!("find the name of {}", topics.join(" "))
        }
        Effect::Revoke { partitions, .. } => format!("revoke {}", names(partitions)),
        Effect::Assign { partitions } => format!("assign {}", names(partitions)),
        Effect::Lose { partitions } => format!("lose {}", names(partitions)),
        Effect::Left => "left".into(),
        Effect::Fail { error_code, .. } => format!("fail: {error_code}"),
        other => panic!("{other:?} is of the other protocol"),
    }
}

fn show_heartbeat(heartbeat: &Heartbeat) -> String {
    let mut text = format!("heartbeat in epoch {}", heartbeat.member_epoch);
    if let Some(subscription) = &heartbeat.subscription {
        let topics: Vec<_> = subscription
            .topics
            .iter()
            .map(ToString::to_string)
            .collect();
        write!(text, ", wants {}", topics.join(" ")).expect("a string takes everything");
        if let Some(regex) = &subscription.regex {
            write!(text, "{regex:?}").expect("likewise");
        }
    }
    if heartbeat.rebalance_timeout.is_some() {
        text.push_str(", timeout");
    }
    if let Some(owned) = &heartbeat.owned {
        let owned = owned.iter().flat_map(|(id, partitions)| {
            let partitions = partitions.iter();
            partitions.map(|partition| format!("{}:{partition}", id.as_bytes()[0]))
        });
        let owned: Vec<_> = owned.collect();
        write!(text, ", owns [{}]", owned.join(" ")).expect("likewise");
    }
    text
}

#[test]
fn stories_go_as_they_are_told() {
    stories::go_as_they_are_told::<Machine>("membership", 6);
}
