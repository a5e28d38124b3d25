//! `tidelog cluster describe`: the nodes, the features, and the quorum.

use std::error::Error;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use tidelog_client::{
    Client, ClientError, ClusterDescription, EndpointType, Features, QuorumDescription,
    QuorumReplica,
};
use tidelog_protocol::messages::metadata::MetadataRequest;
use tidelog_types::{NodeId, Timestamp};

use crate::output::{Format, Outcome, count, nothing, or_nothing, pretty, table};

/// All that a cluster says of itself.
struct Shown {
    endpoint_type: EndpointType,
    cluster: ClusterDescription,
    features: Features,
    /// Or why nobody tells, such as a broker that does not serve it.
    quorum: Result<QuorumDescription, ClientError>,
}

pub(super) async fn run(client: &Client, format: Format) -> Result<Outcome, Box<dyn Error>> {
    // Controllers keep no metadata for clients.
    let serves_metadata = client.any().await?.version::<MetadataRequest>(i16::MAX);
    let endpoint_type = match serves_metadata {
        Some(_) => EndpointType::Brokers,
        None => EndpointType::Controllers,
    };
    let shown = Shown {
        endpoint_type,
        cluster: client.describe_cluster(endpoint_type).await?,
        features: client.features().await?,
        quorum: client.describe_quorum().await,
    };
    Ok(match format {
        Format::Text => shown.in_text(),
        Format::Json => pretty(&shown.in_json()),
    }
    .into())
}

impl Shown {
    fn in_text(&self) -> String {
        let cluster = &self.cluster;
        let what = match self.endpoint_type {
            EndpointType::Brokers => "broker",
            EndpointType::Controllers => "controller",
        };
        let mut text = format!(
            "cluster {}: {}, changes go to node {}\n\n",
            cluster.cluster_id.as_deref().unwrap_or("without an id"),
            count(cluster.nodes.len(), what),
            cluster.controller.map_or_else(nothing, |id| id.to_string()),
        );
        let rows = cluster.nodes.iter().map(|node| {
            let state = match node.is_fenced {
                true => "fenced",
                false => "in service",
            };
            vec![
                node.broker.id.to_string(),
                node.broker.address(),
                or_nothing(node.rack.as_deref().unwrap_or_default()),
                state.to_owned(),
            ]
        });
        text.push_str(&table(&["NODE", "ADDRESS", "RACK", "STATE"], rows));
        let features = &self.features;
        if !features.supported.is_empty() {
            let rows = features.supported.iter().map(|(name, (lowest, highest))| {
                let level = features.finalized.get(name);
                vec![
                    name.to_string(),
                    level.map_or_else(nothing, ToString::to_string),
                    format!("{lowest} to {highest}"),
                ]
            });
            text.push_str("\n\n");
            text.push_str(&table(&["FEATURE", "LEVEL", "SUPPORTED"], rows));
        }
        text.push_str("\n\n");
        match &self.quorum {
            Ok(quorum) => text.push_str(&quorum_in_text(quorum)),
            Err(error) => text.push_str(&format!("metadata quorum: not known, {error}")),
        }
        text
    }

    fn in_json(&self) -> Value {
        let nodes = self.cluster.nodes.iter().map(|node| {
            json!({
                "id": node.broker.id.value(),
                "host": node.broker.host.as_str(),
                "port": node.broker.port,
                "rack": node.rack.as_deref(),
                "fenced": node.is_fenced,
            })
        });
        let supported = self.features.supported.iter();
        let supported = supported.map(|(name, (lowest, highest))| {
            let range = json!({ "min": lowest, "max": highest });
            (name.to_string(), range)
        });
        let finalized = self.features.finalized.iter();
        let finalized = finalized.map(|(name, level)| (name.to_string(), json!(level)));
        json!({
            "clusterId": self.cluster.cluster_id.as_deref(),
            "controller": self.cluster.controller.map(NodeId::value),
            "nodeType": match self.endpoint_type {
                EndpointType::Brokers => "broker",
                EndpointType::Controllers => "controller",
            },
            "nodes": nodes.collect::<Vec<_>>(),
            "features": {
                "supported": supported.collect::<Map<_, _>>(),
                "finalized": finalized.collect::<Map<_, _>>(),
                "finalizedEpoch": self.features.finalized_epoch,
            },
            "quorum": self.quorum.as_ref().ok().map(quorum_in_json),
            "quorumError": self.quorum.as_ref().err().map(ToString::to_string),
        })
    }
}

/// Every node of the quorum, and whether it votes.
fn replicas(quorum: &QuorumDescription) -> impl Iterator<Item = (&QuorumReplica, &'static str)> {
    let voters = quorum.voters.iter().map(|replica| {
        let is_leader = quorum.leader == Some(replica.id);
        (replica, if is_leader { "leader" } else { "voter" })
    });
    let observers = quorum.observers.iter();
    voters.chain(observers.map(|replica| (replica, "observer")))
}

pub(super) fn quorum_in_text(quorum: &QuorumDescription) -> String {
    let end_of = |replica: &QuorumReplica| replica.log_end_offset.map(|end| end.value());
    let leader = quorum.voters.iter();
    let leader = leader.filter(|replica| quorum.leader == Some(replica.id));
    let end = leader.filter_map(end_of).next();
    let rows = replicas(quorum).map(|(replica, role)| {
        let lag = end.zip(end_of(replica)).map(|(end, own)| end - own);
        vec![
            replica.id.to_string(),
            role.to_owned(),
            end_of(replica).map_or_else(nothing, |end| end.to_string()),
            lag.map_or_else(nothing, |lag| lag.to_string()),
            replica.last_fetch.map_or_else(nothing, time),
            replica.last_caught_up.map_or_else(nothing, time),
        ]
    });
    let heads = [
        "NODE",
        "ROLE",
        "LOG END",
        "LAG",
        "LAST FETCH",
        "LAST CAUGHT UP",
    ];
    format!(
        "metadata quorum: leader {}, epoch {}, high watermark {}\n\n{}",
        quorum.leader.map_or_else(nothing, |id| id.to_string()),
        quorum.leader_epoch,
        quorum.high_watermark,
        table(&heads, rows)
    )
}

pub(super) fn quorum_in_json(quorum: &QuorumDescription) -> Value {
    let replicas = replicas(quorum).map(|(replica, role)| {
        let listeners = quorum.listeners.get(&replica.id).into_iter().flatten();
        let listeners = listeners.map(|(name, host, port)| {
            json!({ "name": name.as_str(), "host": host.as_str(), "port": port })
        });
        json!({
            "id": replica.id.value(),
            "role": role,
            "directoryId": replica.directory_id.map(|id| id.to_string()),
            "logEndOffset": replica.log_end_offset.map(|end| end.value()),
            "lastFetchMs": replica.last_fetch.map(Timestamp::as_millis),
            "lastCaughtUpMs": replica.last_caught_up.map(Timestamp::as_millis),
            "listeners": listeners.collect::<Vec<_>>(),
        })
    });
    json!({
        "leader": quorum.leader.map(NodeId::value),
        "leaderEpoch": quorum.leader_epoch.value(),
        "highWatermark": quorum.high_watermark.value(),
        "nodes": replicas.collect::<Vec<_>>(),
    })
}

fn time(time: Timestamp) -> String {
    let since_1970 = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(0));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since_1970).to_string()
}
