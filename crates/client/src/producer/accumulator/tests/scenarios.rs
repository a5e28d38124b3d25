//! Stories in `testdata/accumulator`: commands, and the effects that they must have. `TIDELOG_BLESS=1` writes what is so.
//!
//! A command is a line; behind `---` stands what it had for effects, and below `=` when something is due. Batches and requests
//! have the numbers that the accumulator gives them.

use std::fmt::Write;
use std::time::Duration;

use tidelog_types::{
    ErrorCode, LeaderEpoch, NodeId, Now, Offset, ProducerEpoch, ProducerId, Timestamp,
};

use super::super::{Accumulator, Answer, Dispatch, Effect, Identity, Input, Outcome};
use crate::stories::{self, Story, number};

struct Machine {
    accumulator: Accumulator,
    start: Now,
    now: Now,
}

fn needed(line: &str, name: &str) -> i64 {
    number(line, name).unwrap_or_else(|| panic!("{line}: {name}= is missing"))
}

impl Machine {
    fn input(&mut self, line: &str) -> Input {
        let id = |name| needed(line, name) as u64;
        let partition = number(line, "partition").unwrap_or(0) as usize;
        match line.split_whitespace().next().expect("a command") {
            "record" => Input::Record {
                partition,
                bytes: needed(line, "bytes") as usize,
            },
            "leader" => Input::Leader {
                partition,
                leader: number(line, "node").map(|node| NodeId::new(node as i32)),
                leader_epoch: LeaderEpoch::new(needed(line, "epoch") as i32),
            },
            "identified" => Input::Identified {
                identity: Identity {
                    producer_id: ProducerId::new(needed(line, "id")),
                    producer_epoch: ProducerEpoch::new(needed(line, "epoch") as i16),
                },
            },
            "unidentified" => Input::Unidentified {
                error_code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            },
            "answer" => Input::Answered {
                request: id("request"),
                answers: line.split_whitespace().filter_map(answer).collect(),
            },
            "lose" => Input::Lost {
                request: id("request"),
            },
            "flush" => Input::Flush,
            "abort" => Input::Abort,
            "pass" => {
                self.now = self.now + Duration::from_millis(id("ms"));
                Input::Timeout
            }
            other => panic!("no command is called {other}"),
        }
    }
}

impl Story for Machine {
    /// `new`, with settings that differ from the usual ones.
    fn new(line: &str) -> Self {
        let mut config = super::config();
        config.is_idempotent = number(line, "idempotent") != Some(0);
        if let Some(count) = number(line, "in_flight") {
            config.in_flight_max = count as usize;
        }
        if let Some(bytes) = number(line, "buffer") {
            config.buffer_bytes_max = bytes as usize;
        }
        let now = super::start();
        let mut accumulator = Accumulator::new(now, config);
        for _ in 0..number(line, "partitions").unwrap_or(1) {
            accumulator.add_partition();
        }
        Self {
            accumulator,
            start: now,
            now,
        }
    }

    fn step(&mut self, line: &str) -> String {
        let input = self.input(line);
        let mut effects = Vec::new();
        self.accumulator.handle(self.now, input, &mut effects);
        self.accumulator.check();
        let mut text = String::new();
        for effect in &effects {
            writeln!(text, "{}", show(effect)).expect("a string takes everything");
        }
        let due = stories::due(self.accumulator.deadline(), self.start);
        let bytes = self.accumulator.buffered_bytes();
        let in_flight = self.accumulator.requests_in_flight();
        writeln!(text, "= {bytes} B, {in_flight} in flight, {due}").expect("likewise");
        text
    }
}

/// `batch:offset`, or `batch:ERROR_CODE`.
fn answer(field: &str) -> Option<(u64, Answer)> {
    let (batch, said) = field.split_once(':')?;
    let code = ErrorCode::ALL.iter().find(|code| code.name() == Some(said));
    let offset = match code {
        Some(_) => Offset::NONE,
        None => Offset::new(said.parse().expect("an offset or an error code")),
    };
    let answer = Answer {
        error_code: code.copied().unwrap_or(ErrorCode::NONE),
        base_offset: offset,
        log_append_time: Timestamp::NONE,
    };
    Some((batch.parse().expect("a batch"), answer))
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Put { batch } => format!("put into batch {batch}"),
        Effect::Full => "full".into(),
        Effect::Send {
            request,
            node,
            batches,
        } => {
            let batches: Vec<_> = batches.iter().map(show_dispatch).collect();
            format!("send request {request} to {node}: {}", batches.join(", "))
        }
        Effect::Split {
            batch,
            records,
            first,
            second,
        } => format!("split batch {batch} after {records} into {first} and {second}"),
        Effect::Complete { batch, outcome } => match outcome {
            Outcome::Delivered { base_offset, .. } => {
                format!("batch {batch} is at {base_offset}")
            }
            Outcome::Refused { error_code } | Outcome::Unidentified { error_code } => {
                format!("batch {batch} has failed: {error_code}")
            }
            Outcome::TimedOut => format!("batch {batch} is given up"),
            Outcome::Aborted => format!("batch {batch} is aborted"),
        },
        Effect::Identify => "identify".into(),
        Effect::Refresh => "refresh".into(),
    }
}

fn show_dispatch(dispatch: &Dispatch) -> String {
    let stamp = dispatch.stamp.map(|stamp| {
        let epoch = stamp.identity.producer_epoch;
        format!(" (epoch {epoch}, sequence {})", stamp.base_sequence)
    });
    format!("batch {}{}", dispatch.batch, stamp.unwrap_or_default())
}

#[test]
fn stories_go_as_they_are_told() {
    stories::go_as_they_are_told::<Machine>("accumulator", 8);
}
