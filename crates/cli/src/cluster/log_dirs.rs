//! `tidelog cluster log-dirs`.

use std::collections::BTreeMap;
use std::error::Error;

use clap::Args;
use serde_json::json;
use tidelog_client::{Client, ClientError, EndpointType, LogDir};
use tidelog_types::{NodeId, TopicName};

use crate::output::{Format, Outcome, code_name, failure, nothing, pretty, table};

#[derive(Args)]
pub(super) struct LogDirs {
    /// The brokers; all of them, if none is named.
    #[arg(value_name = "BROKER")]
    brokers: Vec<i32>,
    /// Show the replicas of this topic, and no others; may be given several times.
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<String>,
}

impl LogDirs {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let brokers: Vec<_> = match self.brokers.is_empty() {
            false => self.brokers.iter().copied().map(NodeId::new).collect(),
            true => {
                let cluster = client.describe_cluster(EndpointType::Brokers).await?;
                let live = cluster.nodes.iter().filter(|node| !node.is_fenced);
                live.map(|node| node.broker.id).collect()
            }
        };
        let mut described = BTreeMap::new();
        let mut failed: Vec<(NodeId, ClientError)> = Vec::new();
        for (id, dirs) in client.describe_log_dirs(&brokers).await? {
            match dirs {
                Ok(dirs) => drop(described.insert(id, self.chosen(dirs))),
                Err(error) => failed.push((id, error)),
            }
        }
        let said = match format {
            Format::Text => self.in_text(&described),
            Format::Json => {
                let dirs = described.iter().flat_map(|(id, dirs)| {
                    let dirs = dirs.iter();
                    dirs.map(|dir| in_json(*id, dir))
                });
                let failed = failed.iter();
                let failed = failed.map(|(id, error)| failure("broker", &id.to_string(), error));
                pretty(&json!({
                    "logDirs": dirs.collect::<Vec<_>>(),
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        let failures = failed.into_iter().map(|(_, error)| error);
        Ok(Outcome::new(said, failures.collect()))
    }

    fn chosen(&self, mut dirs: Vec<LogDir>) -> Vec<LogDir> {
        let is_chosen = |name: &TopicName| self.topic.iter().any(|topic| topic == name.as_str());
        if !self.topic.is_empty() {
            for dir in &mut dirs {
                dir.replicas
                    .retain(|replica| is_chosen(&replica.partition.topic));
            }
        }
        dirs
    }

    fn in_text(&self, described: &BTreeMap<NodeId, Vec<LogDir>>) -> String {
        let all = described.iter().flat_map(|(id, dirs)| {
            let dirs = dirs.iter();
            dirs.map(move |dir| (id, dir))
        });
        if self.topic.is_empty() {
            let rows = all.map(|(id, dir)| {
                let moving = dir
                    .replicas
                    .iter()
                    .filter(|replica| replica.is_future)
                    .count();
                let bytes: i64 = dir.replicas.iter().map(|replica| replica.size_bytes).sum();
                vec![
                    id.to_string(),
                    dir.path.to_string(),
                    state(dir),
                    (dir.replicas.len() - moving).to_string(),
                    moving.to_string(),
                    bytes.to_string(),
                    dir.usable_bytes
                        .map_or_else(nothing, |bytes| bytes.to_string()),
                    dir.total_bytes
                        .map_or_else(nothing, |bytes| bytes.to_string()),
                ]
            });
            let heads = [
                "BROKER",
                "DIRECTORY",
                "STATE",
                "REPLICAS",
                "COMING",
                "BYTES",
                "FREE",
                "VOLUME",
            ];
            return table(&heads, rows);
        }
        let rows = all.flat_map(|(id, dir)| {
            dir.replicas.iter().map(move |replica| {
                vec![
                    replica.partition.topic.to_string(),
                    replica.partition.partition.to_string(),
                    id.to_string(),
                    dir.path.to_string(),
                    replica.size_bytes.to_string(),
                    replica.offset_lag.to_string(),
                    if replica.is_future { "coming" } else { "here" }.to_owned(),
                ]
            })
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| {
            (&a[0], a[1].len(), &a[1], &a[2]).cmp(&(&b[0], b[1].len(), &b[1], &b[2]))
        });
        let heads = [
            "TOPIC",
            "PARTITION",
            "BROKER",
            "DIRECTORY",
            "BYTES",
            "LAG",
            "IS",
        ];
        table(&heads, rows.into_iter())
    }
}

fn state(dir: &LogDir) -> String {
    match dir.error.is_ok() {
        false => code_name(dir.error),
        true if dir.is_cordoned => "cordoned".to_owned(),
        true => "in service".to_owned(),
    }
}

fn in_json(id: NodeId, dir: &LogDir) -> serde_json::Value {
    let replicas = dir.replicas.iter().map(|replica| {
        json!({
            "topic": replica.partition.topic.as_str(),
            "partition": replica.partition.partition,
            "bytes": replica.size_bytes,
            "lag": replica.offset_lag,
            "coming": replica.is_future,
        })
    });
    json!({
        "broker": id.value(),
        "path": dir.path.as_str(),
        "error": dir.error.is_err().then(|| code_name(dir.error)),
        "cordoned": dir.is_cordoned,
        "freeBytes": dir.usable_bytes,
        "volumeBytes": dir.total_bytes,
        "replicas": replicas.collect::<Vec<_>>(),
    })
}
