//! What is said of a bench.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::measure::{Latencies, Tally, latencies};
use super::round::{Job, Round};
use super::target::Side;
use crate::output::{Format, Outcome, nothing, pretty, table};

/// Of each kind of latency these are told.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
const MAX: &str = "max";

/// What a bench gave.
pub(super) struct Report {
    name: &'static str,
    what: String,
    settings: Value,
    topic: String,
    kinds: &'static [&'static str],
    sides: Vec<Side>,
}

/// A number with a name, for each cluster.
struct Figure {
    name: String,
    unit: Unit,
    values: Vec<Option<f64>>,
}

#[derive(Clone, Copy)]
enum Unit {
    PerSecond,
    Bytes,
    BytesPerSecond,
    /// Nanoseconds.
    Time,
    Micros,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", grouped(value)),
            Self::Bytes => format!("{} MiB", digits(value / f64::from(1 << 20))),
            Self::BytesPerSecond => format!("{} MiB/s", digits(value / f64::from(1 << 20))),
            Self::Time => format!("{} ms", digits(value / 1e6)),
            Self::Micros => format!("{} us", digits(value)),
        }
    }
}

impl Report {
    pub(super) fn new<J: Job>(job: &J, sides: Vec<Side>) -> Self {
        Self {
            name: J::NAME,
            what: job.describe(),
            settings: job.settings(),
            topic: job.target().topic().to_owned(),
            kinds: J::LATENCIES,
            sides,
        }
    }

    pub(super) fn tell(&self, format: Format) -> Outcome {
        let said = match format {
            Format::Text => self.text(),
            Format::Json => pretty(&self.json()),
        };
        let failures = self.sides.iter().filter_map(|side| {
            let failed: u64 = side.rounds.iter().map(|round| round.tally.failed).sum();
            let mut errors = side
                .rounds
                .iter()
                .filter_map(|it| it.tally.first_error.as_ref());
            let error = errors.next()?;
            let address = &side.address;
            Some(format!(
                "{address}: {} records failed; the first: {error}",
                grouped(failed as f64)
            ))
        });
        Outcome::with_complaints(said, failures.collect())
    }

    fn text(&self) -> String {
        let head = format!("bench {} of topic {}: {}", self.name, self.topic, self.what);
        let figures = self.figures();
        let latencies: Vec<_> = self.sides.iter().map(|side| self.latencies(side)).collect();
        let mut parts = vec![head];
        match &latencies[..] {
            [of_one] => {
                parts.push(alone(&figures));
                if !self.kinds.is_empty() {
                    parts.push(self.table_of_latencies(of_one));
                }
            }
            several => {
                let figures = figures.into_iter().chain(self.latency_figures(several));
                parts.push(self.beside(figures));
            }
        }
        parts.join("\n\n")
    }

    /// All rounds of a cluster together.
    fn latencies(&self, side: &Side) -> Vec<Latencies> {
        let mut all = vec![latencies(); self.kinds.len()];
        for round in &side.rounds {
            for (all, own) in all.iter_mut().zip(&round.tally.latencies) {
                all.add(own).expect("all have the same bounds");
            }
        }
        all
    }

    fn figures(&self) -> Vec<Figure> {
        let medians = |name: &str, unit, of: &dyn Fn(&Round) -> Option<f64>| Figure {
            name: name.to_owned(),
            unit,
            values: self
                .sides
                .iter()
                .map(|side| median(&side.rounds, of))
                .collect(),
        };
        vec![
            medians("records", Unit::PerSecond, &|it| {
                Some(it.records_per_second())
            }),
            medians("bytes", Unit::BytesPerSecond, &|it| {
                Some(it.bytes_per_second())
            }),
            medians("client's processor time a record", Unit::Micros, &|it| {
                Some(it.processor_per_record())
            }),
            medians("client's resident memory", Unit::Bytes, &|it| {
                it.resident.map(|bytes| bytes as f64)
            }),
        ]
    }

    fn latency_figures(&self, sides: &[Vec<Latencies>]) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (kind, name) in self.kinds.iter().enumerate() {
            let of = |what: &str, take: &dyn Fn(&Latencies) -> u64| Figure {
                name: format!("{name} {what}"),
                unit: Unit::Time,
                values: sides
                    .iter()
                    .map(|side| (!side[kind].is_empty()).then(|| take(&side[kind]) as f64))
                    .collect(),
            };
            for (what, quantile) in QUANTILES {
                figures.push(of(what, &|it| it.value_at_quantile(quantile)));
            }
            figures.push(of(MAX, &Latencies::max));
        }
        figures
    }

    fn table_of_latencies(&self, of_one: &[Latencies]) -> String {
        let heads = ["LATENCY", "P50", "P90", "P99", "P99.9", "MAX"];
        let rows = self.kinds.iter().zip(of_one).map(|(name, latencies)| {
            let quantiles = QUANTILES
                .iter()
                .map(|(_, it)| latencies.value_at_quantile(*it));
            let times = quantiles.chain([latencies.max()]);
            let times = times.map(|nanos| Unit::Time.show(nanos as f64));
            std::iter::once((*name).to_owned()).chain(times).collect()
        });
        table(&heads, rows)
    }

    /// Clusters beside each other, and what the others have of the first.
    fn beside(&self, figures: impl Iterator<Item = Figure>) -> String {
        let mut heads = vec!["FIGURE"];
        for (index, side) in self.sides.iter().enumerate() {
            heads.push(&side.address);
            if index > 0 {
                heads.push("RATIO");
            }
        }
        let rows = figures.map(|figure| {
            let first = figure.values.first().copied().flatten();
            let mut row = vec![figure.name];
            for (index, value) in figure.values.iter().enumerate() {
                row.push(value.map_or_else(nothing, |value| figure.unit.show(value)));
                if index > 0 {
                    let ratio = ratio(first, *value);
                    row.push(ratio.map_or_else(nothing, |ratio| format!("{ratio:.2}")));
                }
            }
            row
        });
        let rounds = self.sides.iter().map(|side| side.rounds.len()).max();
        let rounds = rounds.unwrap_or(0);
        format!(
            "{}\n\nratio: the first cluster's figure divided by the other's; rounds in turns, {rounds} each; medians, latencies of all rounds",
            table(&heads, rows)
        )
    }

    fn json(&self) -> Value {
        let clusters: Vec<_> = self
            .sides
            .iter()
            .map(|side| self.side_in_json(side))
            .collect();
        let mut object = Map::new();
        object.insert("bench".to_owned(), json!(self.name));
        object.insert("topic".to_owned(), json!(self.topic));
        object.insert("settings".to_owned(), self.settings.clone());
        object.insert("clusters".to_owned(), json!(clusters));
        if self.sides.len() > 1 {
            let latencies: Vec<_> = self.sides.iter().map(|side| self.latencies(side)).collect();
            let figures = self
                .figures()
                .into_iter()
                .chain(self.latency_figures(&latencies));
            let ratios = figures.map(|figure| {
                let first = figure.values.first().copied().flatten();
                let others = figure.values.iter().skip(1);
                let ratios: Vec<_> = others.map(|value| ratio(first, *value)).collect();
                (figure.name, json!(ratios))
            });
            object.insert("ratios".to_owned(), ratios.collect::<Map<_, _>>().into());
        }
        Value::Object(object)
    }

    fn side_in_json(&self, side: &Side) -> Value {
        let kinds = self.kinds.iter().zip(self.latencies(side));
        let latencies = kinds.map(|(name, latencies)| ((*name).to_owned(), in_json(&latencies)));
        let rounds = side.rounds.iter().map(|round| {
            json!({
                "records": round.tally.records,
                "bytes": round.tally.bytes,
                "failed": round.tally.failed,
                "seconds": round.took.as_secs_f64(),
                "recordsPerSecond": round.records_per_second(),
                "bytesPerSecond": round.bytes_per_second(),
                "clientProcessorSeconds": round.processor.as_secs_f64(),
                "clientResidentBytes": round.resident,
            })
        });
        let of = |of: &dyn Fn(&Round) -> Option<f64>| median(&side.rounds, of);
        json!({
            "address": side.address,
            "partitions": side.partitions.len(),
            "recordsPerSecond": of(&|it| Some(it.records_per_second())),
            "bytesPerSecond": of(&|it| Some(it.bytes_per_second())),
            "clientProcessorMicrosPerRecord": of(&|it| Some(it.processor_per_record())),
            "clientResidentBytes": of(&|it| it.resident.map(|bytes| bytes as f64)),
            "latencyMs": latencies.collect::<Map<_, _>>(),
            "rounds": rounds.collect::<Vec<_>>(),
        })
    }
}

/// The figures of one cluster.
fn alone(figures: &[Figure]) -> String {
    let rows = figures.iter().map(|figure| {
        let value = figure.values.first().copied().flatten();
        let value = value.map_or_else(nothing, |value| figure.unit.show(value));
        vec![figure.name.clone(), value]
    });
    table(&["FIGURE", "VALUE"], rows)
}

fn in_json(latencies: &Latencies) -> Value {
    let millis = |nanos: u64| json!(nanos as f64 / 1e6);
    let mut object = Map::new();
    object.insert("count".to_owned(), json!(latencies.len()));
    object.insert("min".to_owned(), millis(latencies.min()));
    object.insert("mean".to_owned(), json!(latencies.mean() / 1e6));
    for (name, quantile) in QUANTILES {
        object.insert(
            name.to_owned(),
            millis(latencies.value_at_quantile(quantile)),
        );
    }
    object.insert(MAX.to_owned(), millis(latencies.max()));
    Value::Object(object)
}

/// What happened in the last moment, for people who wait.
pub(super) fn line(since: Duration, tally: &Tally, took: Duration) -> String {
    let per_second = |count: u64| count as f64 / took.as_secs_f64();
    let records = Unit::PerSecond.show(per_second(tally.records));
    let bytes = Unit::BytesPerSecond.show(per_second(tally.bytes));
    let mut line = format!("{} s  {records}  {bytes}", since.as_secs());
    if let Some(latencies) = tally.latencies.first() {
        let at = |quantile| Unit::Time.show(latencies.value_at_quantile(quantile) as f64);
        line += &format!("  p50 {}  p99 {}", at(0.5), at(0.99));
    }
    line
}

/// The median of the rounds, the lower one of two.
fn median(rounds: &[Round], of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<_> = rounds.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    values.get(middle).copied()
}

fn ratio(first: Option<f64>, other: Option<f64>) -> Option<f64> {
    let other = other.filter(|value| *value != 0.0)?;
    Some(first? / other)
}

/// Three digits that count, or as many as stand in front of the point.
fn digits(value: f64) -> String {
    match value {
        100.0.. => grouped(value),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// With commas between the thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_easily() {
        for (value, text) in [
            (0.0, "0.000"),
            (0.312_4, "0.312"),
            (3.456, "3.46"),
            (34.56, "34.6"),
            (345.6, "346"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(digits(value), text);
        }
        assert_eq!(Unit::PerSecond.show(999.6), "1,000/s");
    }

    #[test]
    fn ratios_want_two_figures() {
        assert_eq!(ratio(Some(1.0), Some(2.0)), Some(0.5));
        assert_eq!(ratio(None, Some(2.0)), None);
        assert_eq!(ratio(Some(1.0), Some(0.0)), None);
    }
}
