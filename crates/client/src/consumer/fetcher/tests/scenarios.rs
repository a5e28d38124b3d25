//! Stories in `testdata/fetcher`: commands, and the effects that they must have. `TIDELOG_BLESS=1` writes what is so.
//!
//! A command is a line; behind `---` stands what it had for effects, and below `=` when something is due. Requests have the
//! numbers that the fetcher gives them; `request=last` is the last one.

use std::fmt::Write;
use std::time::Duration;

use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, Now, Offset, Timestamp, Uuid};

use super::super::{Effect, FetchAnswer, FetchAnswers, Fetcher, Input, Position, RequestId, Start};
use crate::stories::{self, Story, code, number, word};
use crate::{OffsetReset, OffsetSpec};

struct Machine {
    fetcher: Fetcher,
    start: Now,
    now: Now,
    last: RequestId,
}

fn position(text: &str) -> Position {
    let (offset, epoch) = text.split_once('@').unwrap_or((text, "-1"));
    Position {
        offset: Offset::new(offset.parse().expect("an offset")),
        leader_epoch: LeaderEpoch::new(epoch.parse().expect("an epoch")),
    }
}

fn show_position(position: Position) -> String {
    match position.leader_epoch {
        LeaderEpoch::NONE => position.offset.to_string(),
        epoch => format!("{}@{epoch}", position.offset),
    }
}

fn spec(text: &str) -> OffsetSpec {
    match text {
        "earliest" => OffsetSpec::Earliest,
        "latest" => OffsetSpec::Latest,
        time => OffsetSpec::At(Timestamp::from_millis(time.parse().expect("a time"))),
    }
}

/// `0:12@3`, `0:none` or `0:ERROR`: what is said of a partition.
fn said(field: &str) -> Option<(usize, Result<Option<Position>, ErrorCode>)> {
    let (slot, text) = field.split_once(':')?;
    let answer = match text {
        "none" => Ok(None),
        text if text.starts_with(|c: char| c.is_ascii_uppercase()) => Err(code(text)),
        text => Ok(Some(position(text))),
    };
    Some((slot.parse().ok()?, answer))
}

/// `0:12@3,400` so many bytes up to there, `0:nothing`, `0:prefers=2`, or `0:ERROR`: what was fetched of a partition.
fn fetched(field: &str) -> Option<(usize, FetchAnswer)> {
    let (slot, text) = field.split_once(':')?;
    let mut answer = FetchAnswer {
        error_code: ErrorCode::NONE,
        preferred_replica: None,
        records: None,
    };
    if let Some(node) = text.strip_prefix("prefers=") {
        answer.preferred_replica = Some(NodeId::new(node.parse().expect("a node")));
    } else if let Some((to, bytes)) = text.split_once(',') {
        answer.records = Some((bytes.parse().expect("a number"), position(to)));
    } else if text != "nothing" {
        answer.error_code = code(text);
    }
    Some((slot.parse().ok()?, answer))
}

impl Machine {
    fn input(&mut self, line: &str) -> Input {
        let slot = number(line, "partition").unwrap_or(0) as usize;
        let request = match word(line, "request") {
            Some("last") | None => self.last,
            Some(number) => number.parse().expect("a number"),
        };
        let fields = || line.split_whitespace().skip(1);
        match line.split_whitespace().next().expect("a command") {
            "assign" => {
                let start = match (word(line, "at"), word(line, "lookup")) {
                    (Some(at), _) => Start::At(position(at)),
                    (_, Some(lookup)) => Start::Lookup(spec(lookup)),
                    _ if line.ends_with("committed") => Start::Committed,
                    _ => Start::Reset,
                };
                let several = word(line, "partitions").map(|slots| slots.split(','));
                let slots = several.map(|slots| slots.map(|it| it.parse().expect("a number")));
                let slots = slots.map_or_else(|| vec![slot], Iterator::collect);
                Input::Assign {
                    starts: slots.into_iter().map(|slot| (slot, start)).collect(),
                }
            }
            "unassign" => Input::Unassign { slot },
            "pause" => Input::Pause { slot },
            "resume" => Input::Resume { slot },
            "leader" => Input::Leader {
                slot,
                topic_id: Uuid::from_bytes([number(line, "topic").unwrap_or(1) as u8; 16]),
                leader: number(line, "node").map(|node| NodeId::new(node as i32)),
                leader_epoch: LeaderEpoch::new(number(line, "epoch").unwrap_or(0) as i32),
            },
            "committed" => Input::Committed {
                request,
                answers: fields().filter_map(said).collect(),
            },
            "found" => Input::Found {
                request,
                answers: fields().filter_map(said).collect(),
            },
            "ends" => Input::EpochEnds {
                request,
                answers: fields()
                    .filter_map(said)
                    .map(|(slot, it)| (slot, it.map(|it| it.expect("an end"))))
                    .collect(),
            },
            "fetched" => Input::Fetched {
                request,
                answers: FetchAnswers {
                    error_code: word(line, "error").map_or(ErrorCode::NONE, code),
                    session_id: number(line, "session").unwrap_or(5) as i32,
                    throttle_ms: number(line, "throttle").unwrap_or(0) as u32,
                    partitions: fields().filter_map(fetched).collect(),
                },
            },
            "lose" => Input::Lost { request },
            "take" => Input::Taken {
                slot,
                bytes: number(line, "bytes").expect("bytes") as usize,
            },
            "stop" => Input::Stop { slot },
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
    /// `new`, with settings that differ from the usual ones.
    fn new(line: &str) -> Self {
        let mut config = super::config();
        config.reset = match word(line, "reset") {
            Some("none") => OffsetReset::None,
            Some("latest") => OffsetReset::Latest,
            Some(millis) => {
                let millis = millis.parse().expect("milliseconds");
                OffsetReset::ByDuration(Duration::from_millis(millis))
            }
            None => OffsetReset::Earliest,
        };
        let now = super::start();
        Self {
            fetcher: Fetcher::new(now, config),
            start: now,
            now,
            last: 0,
        }
    }

    fn step(&mut self, line: &str) -> String {
        let input = self.input(line);
        let mut effects = Vec::new();
        self.fetcher.handle(self.now, input, &mut effects);
        self.fetcher.check();
        let mut text = String::new();
        for effect in &effects {
            let (shown, request) = show(effect);
            self.last = request.unwrap_or(self.last);
            writeln!(text, "{shown}").expect("a string takes everything");
        }
        let due = stories::due(self.fetcher.deadline(), self.start);
        let bytes = self.fetcher.buffered_bytes();
        writeln!(text, "= {due}, {bytes} bytes").expect("likewise");
        text
    }
}

fn show(effect: &Effect) -> (String, Option<RequestId>) {
    let joined = |words: Vec<String>| words.join(", ");
    match effect {
        Effect::FetchCommitted { request, slots } => {
            let text = format!("request {request}: what is committed for {slots:?}");
            (text, Some(*request))
        }
        Effect::Lookup {
            request,
            node,
            partitions,
        } => {
            let partitions = partitions.iter();
            let partitions = partitions.map(|(slot, spec, epoch)| match spec {
                OffsetSpec::At(time) => format!("{slot} of time {time} (epoch {epoch})"),
                spec => format!("{slot} {spec:?} (epoch {epoch})"),
            });
            let text = joined(partitions.collect());
            (
                format!("request {request} to {node}: look up {text}"),
                Some(*request),
            )
        }
        Effect::AskEpochEnds {
            request,
            node,
            partitions,
        } => {
            let partitions = partitions.iter();
            let partitions =
                partitions.map(|(slot, known, of)| format!("of {of} in {slot} (epoch {known})"));
            let text = joined(partitions.collect());
            (
                format!("request {request} to {node}: the end {text}"),
                Some(*request),
            )
        }
        Effect::Fetch {
            request,
            node,
            session_id,
            session_epoch,
            bytes_max,
            partitions,
            forgotten,
        } => {
            let partitions = partitions.iter();
            let partitions = partitions.map(|it| {
                format!(
                    "{} from {} (epoch {})",
                    it.slot, it.fetch_offset, it.leader_epoch
                )
            });
            let text = joined(partitions.collect());
            let text = format!(
                "request {request} to {node}: fetch [{text}], {bytes_max} bytes, session {session_id}/{session_epoch}, forget {forgotten:?}"
            );
            (text, Some(*request))
        }
        Effect::Keep { slot, from } => (format!("keep {slot} from {from}"), None),
        Effect::Begin { slot, position } => (
            format!("begin {slot} at {}", show_position(*position)),
            None,
        ),
        Effect::Truncated { slot, to } => (
            format!("{slot} is truncated to {}", show_position(*to)),
            None,
        ),
        Effect::OutOfRange { slot, offset } => (format!("{slot} has no {offset}"), None),
        Effect::NoOffset { slot } => (format!("nothing is committed for {slot}"), None),
        Effect::Refused { slot, error_code } => (format!("{slot} is refused: {error_code}"), None),
        Effect::Refresh => ("refresh".into(), None),
    }
}

#[test]
fn stories_go_as_they_are_told() {
    stories::go_as_they_are_told::<Machine>("fetcher", 7);
}
