//! Why a group rebalanced, for people.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tidelog_types::GroupId;

use crate::output::Format;

/// How many partitions that moved are named.
const MOVES_NAMED_MAX: usize = 8;

/// One rebalance, as the broker tells it; see `docs/adr/0007-why-a-group-rebalanced-is-a-config.md`. What is added later is
/// left out here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rebalance {
    protocol: String,
    epoch: i32,
    started_ms: u64,
    outcome: String,
    members: usize,
    causes: Vec<Cause>,
    causes_omitted: usize,
    phases: Vec<Phase>,
    waited_for: Vec<Wait>,
    moves: Vec<Move>,
    moves_count: usize,
}

#[derive(Deserialize)]
struct Cause {
    text: String,
}

#[derive(Deserialize)]
struct Phase {
    phase: String,
    ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wait {
    member_id: String,
    client_id: String,
    client_host: String,
    phase: String,
    ms: u64,
    gave_up: bool,
}

#[derive(Deserialize)]
struct Move {
    topic: String,
    partition: i32,
    from: Option<String>,
    to: Option<String>,
}

pub(super) fn rebalances(
    group: &GroupId,
    json: &str,
    format: Format,
) -> Result<String, Box<dyn std::error::Error>> {
    if format == Format::Json {
        let value: serde_json::Value = serde_json::from_str(json)?;
        return Ok(format!("{value:#}"));
    }
    let rebalances: Vec<Rebalance> = serde_json::from_str(json)?;
    if rebalances.is_empty() {
        return Ok(format!(
            "group {group} has not rebalanced since its broker took it over"
        ));
    }
    let told: Vec<_> = rebalances.iter().map(Rebalance::tell).collect();
    Ok(told.join("\n\n"))
}

impl Rebalance {
    fn tell(&self) -> String {
        let started = SystemTime::UNIX_EPOCH + Duration::from_millis(self.started_ms);
        let took: u64 = self.phases.iter().map(|phase| phase.ms).sum();
        let name = match self.protocol.as_str() {
            "classic" => "generation",
            _ => "epoch",
        };
        let how = match self.outcome.as_str() {
            "under-way" => "under way".to_owned(),
            outcome => format!("{outcome} after {took} ms"),
        };
        let mut text = format!(
            "{} {name} {} ({}): {how}, members: {}",
            humantime::format_rfc3339_millis(started),
            self.epoch,
            self.protocol,
            self.members,
        );
        let mut line = |head: &str, what: String| text.push_str(&format!("\n  {head:<7} {what}"));
        for cause in &self.causes {
            line("because", cause.text.clone());
        }
        if self.causes_omitted > 0 {
            line(
                "because",
                format!("and {} more causes", self.causes_omitted),
            );
        }
        if !self.phases.is_empty() {
            let phases = self.phases.iter();
            let phases = phases.map(|phase| format!("{} {} ms", phase.phase, phase.ms));
            line("phases", phases.collect::<Vec<_>>().join(", "));
        }
        for wait in &self.waited_for {
            line("waited", wait.tell());
        }
        if self.moves_count > 0 {
            line("moved", self.tell_moves());
        }
        text
    }

    fn tell_moves(&self) -> String {
        let named = self.moves.iter().take(MOVES_NAMED_MAX).map(Move::tell);
        let mut text = named.collect::<Vec<_>>().join(", ");
        let more = self
            .moves_count
            .saturating_sub(self.moves.len().min(MOVES_NAMED_MAX));
        if more > 0 {
            text.push_str(&format!(", and {more} more"));
        }
        text
    }
}

impl Wait {
    fn tell(&self) -> String {
        let end = match self.gave_up {
            true => ", in vain",
            false => "",
        };
        format!(
            "{} ms in {} for {} ({}, {}){end}",
            self.ms, self.phase, self.member_id, self.client_id, self.client_host
        )
    }
}

impl Move {
    fn tell(&self) -> String {
        let partition = format!("{}-{}", self.topic, self.partition);
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!("{partition} from {from} to {to}"),
            (Some(from), None) => format!("{partition} from {from}"),
            (None, Some(to)) => format!("{partition} to {to}"),
            (None, None) => partition,
        }
    }
}
