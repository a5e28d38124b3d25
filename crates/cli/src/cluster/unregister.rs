//! `tidelog cluster unregister`.

use std::error::Error;

use clap::Args;
use serde_json::json;
use tidelog_client::{Client, EndpointType};
use tidelog_types::NodeId;

use crate::output::{Format, Outcome, count, pretty};

#[derive(Args)]
pub(super) struct Unregister {
    /// The broker.
    #[arg(value_name = "BROKER")]
    broker: i32,
    /// Also one that is in service, or has replicas: they stay assigned to it.
    #[arg(long)]
    force: bool,
}

impl Unregister {
    pub(super) async fn run(
        &self,
        client: &Client,
        format: Format,
    ) -> Result<Outcome, Box<dyn Error>> {
        let id = NodeId::new(self.broker);
        if !self.force {
            self.check(client, id).await?;
        }
        client.unregister_broker(id).await?;
        Ok(match format {
            Format::Text => format!("the cluster has forgotten broker {id}"),
            Format::Json => pretty(&json!({ "unregistered": self.broker })),
        }
        .into())
    }

    /// A broker that is forgotten too early has to be started again, and replicas of it are missing.
    async fn check(&self, client: &Client, id: NodeId) -> Result<(), Box<dyn Error>> {
        let nodes = client.describe_cluster(EndpointType::Brokers).await?.nodes;
        let mut nodes = nodes.iter();
        if nodes.any(|node| node.broker.id == id && !node.is_fenced) {
            return Err(format!("broker {id} is in service; stop it first, or say --force").into());
        }
        let topics = client.describe_topics(None).await?;
        let partitions = topics
            .values()
            .flatten()
            .flat_map(|topic| &topic.partitions);
        let its = partitions.filter(|partition| partition.replicas.contains(&id));
        match its.count() {
            0 => Ok(()),
            replicas => Err(format!(
                "broker {id} has {}; `tidelog cluster drain` moves them away, --force leaves them assigned to it",
                count(replicas, "replica")
            )
            .into()),
        }
    }
}
