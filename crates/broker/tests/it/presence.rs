//! Which processes are there: who is gone or stalled is fenced without waiting for its session, who is only busy is not.

use std::time::Duration;

use tidelog_broker::StartError;
use tidelog_protocol::messages::api_versions::ApiVersionsRequest;
use tidelog_protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
use tidelog_protocol::messages::broker_registration::{
    BrokerRegistrationRequest, Feature, Listener,
};
use tidelog_protocol::messages::describe_cluster::{
    DescribeClusterRequest, DescribeClusterResponse,
};
use tidelog_types::{ErrorCode, NodeId, Offset, Uuid};

use crate::client::{Client, soon};
use crate::cluster::{Cluster, Voters};
use crate::ops::create_topic_request;

/// So long that nothing here happens because a session is over.
const SESSION_MS: &str = "600000";

fn with_long_sessions(nodes: &[(i32, &str)]) -> Cluster {
    let mut cluster = Cluster::new(nodes, Voters::Fixed);
    for member in cluster.members.values_mut() {
        member.set("broker.session.timeout.ms", SESSION_MS);
    }
    cluster
}

async fn cluster_as_seen(client: &mut Client) -> DescribeClusterResponse {
    let request = DescribeClusterRequest {
        include_fenced_brokers: true,
        ..Default::default()
    };
    client.ask(&request).await
}

/// Those that count as alive, in order.
fn alive(seen: &DescribeClusterResponse) -> Vec<i32> {
    let alive = seen.brokers.iter().filter(|broker| !broker.is_fenced);
    let mut ids: Vec<_> = alive.map(|broker| broker.broker_id.value()).collect();
    ids.sort_unstable();
    ids
}

async fn shows(client: &mut Client, brokers: &[i32]) {
    soon(async { while alive(&cluster_as_seen(client).await) != brokers {} }).await;
}

/// The node that dies is the active controller and a broker. Who takes over has never heard of that broker.
#[tokio::test]
async fn a_node_that_was_controller_and_broker_is_fenced_by_its_successor_and_comes_back() {
    let nodes = [1, 2, 3].map(|id| (id, "broker,controller"));
    let mut cluster = with_long_sessions(&nodes);
    cluster.run(&[1, 2, 3]).await;
    let leader = cluster.quorum(1).await.leader_id.value();
    let rest: Vec<i32> = (1..=3).filter(|id| *id != leader).collect();
    let mut client = cluster.client(rest[0]).await;
    shows(&mut client, &[1, 2, 3]).await;
    cluster.crash(leader);
    shows(&mut client, &rest).await;
    cluster.run(&[leader]).await;
    shows(&mut client, &[1, 2, 3]).await;
}

/// Starts a node as soon as its former self has let go of the directory.
async fn run_at_once(cluster: &mut Cluster, id: i32) {
    let broker = soon(async {
        loop {
            match cluster.member(id).builder().start().await {
                Err(StartError::Directory { .. }) => tokio::task::yield_now().await,
                started => return started.unwrap(),
            }
        }
    });
    cluster.member(id).broker = Some(broker.await);
}

/// The process is back before anybody has looked for the one before: it need not wait for that one's session.
#[tokio::test]
async fn a_node_that_is_started_again_at_once_is_taken_at_once() {
    let nodes = [1, 2, 3].map(|id| (id, "broker,controller"));
    let mut cluster = with_long_sessions(&nodes);
    cluster.run(&[1, 2, 3]).await;
    for _ in 0..3 {
        let leader = cluster.quorum(1).await.leader_id.value();
        for id in [leader, 1 + leader % 3] {
            cluster.crash(id);
            run_at_once(&mut cluster, id).await;
        }
    }
    shows(&mut cluster.client(1).await, &[1, 2, 3]).await;
}

/// A broker as a controller sees it: a registration, and heartbeats over a connection.
struct Impostor {
    client: Client,
    heartbeat: BrokerHeartbeatRequest,
}

impl Impostor {
    async fn register(cluster: &Cluster, id: i32, software: &str) -> Self {
        let mut client = cluster.controller_client(1).await;
        let versions = ApiVersionsRequest {
            client_software_name: software.into(),
            client_software_version: "1".into(),
        };
        let versions = client.ask(&versions).await;
        let described = cluster_as_seen(&mut cluster.client(2).await).await;
        let features = versions.supported_features.iter();
        let features = features.map(|feature| Feature {
            name: feature.name.clone(),
            min_supported_version: feature.min_version,
            max_supported_version: feature.max_version,
        });
        let registration = BrokerRegistrationRequest {
            broker_id: NodeId::new(id),
            cluster_id: described.cluster_id,
            incarnation_id: Uuid::from_bytes([7; 16]),
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "127.0.0.1".into(),
                port: 1,
                security_protocol: 0,
            }],
            features: features.collect(),
            log_dirs: vec![Uuid::from_bytes([u8::try_from(id).unwrap(); 16])],
            ..Default::default()
        };
        let registered = client.ask(&registration).await;
        assert_eq!(registered.error_code, ErrorCode::NONE, "{registered:?}");
        let heartbeat = BrokerHeartbeatRequest {
            broker_id: NodeId::new(id),
            broker_epoch: registered.broker_epoch,
            current_metadata_offset: Offset::new(i64::MAX),
            ..Default::default()
        };
        Self { client, heartbeat }
    }

    async fn report(&mut self) {
        let answer = self.client.ask(&self.heartbeat).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        assert!(!answer.is_fenced);
    }
}

/// Both keep their connections and say nothing more. The one that promised to report often is fenced when it has been silent
/// for a while. The other has the session of Kafka's brokers, although it was heard of earlier.
#[tokio::test]
async fn silence_is_evidence_against_who_promised_to_report() {
    let nodes = [(1, "controller"), (2, "broker")];
    let cluster = Cluster::start(&nodes, Voters::Fixed).await;
    let mut client = cluster.client(2).await;
    let mut other = Impostor::register(&cluster, 8, "apache-kafka-java").await;
    let mut ours = Impostor::register(&cluster, 9, "tidelog").await;
    other.report().await;
    ours.report().await;
    soon(async {
        loop {
            let alive = alive(&cluster_as_seen(&mut client).await);
            if alive.contains(&8) && alive.contains(&9) {
                return;
            }
        }
    })
    .await;
    soon(async {
        loop {
            let alive = alive(&cluster_as_seen(&mut client).await);
            assert!(alive.contains(&2) && alive.contains(&8), "{alive:?}");
            if !alive.contains(&9) {
                return;
            }
        }
    })
    .await;
    // Its next word brings it back.
    ours.report().await;
    shows(&mut client, &[2, 8, 9]).await;
}

/// Where the user has said how long a session is, nobody is fenced for being silent.
#[tokio::test]
async fn a_session_that_was_set_is_what_counts() {
    let mut cluster = with_long_sessions(&[(1, "controller"), (2, "broker")]);
    cluster.run(&[1, 2]).await;
    let mut client = cluster.client(2).await;
    let mut ours = Impostor::register(&cluster, 9, "tidelog").await;
    ours.report().await;
    shows(&mut client, &[2, 9]).await;
    std::thread::sleep(Duration::from_secs(3));
    shows(&mut client, &[2, 9]).await;
}

/// All connections of clients, and all that copies partitions, stand still, as if disks took seconds. The node goes on to report.
#[tokio::test]
async fn who_is_busy_is_not_taken_for_stalled() {
    let nodes = [(1, "controller"), (2, "broker"), (3, "broker")];
    let cluster = Cluster::start(&nodes, Voters::Fixed).await;
    let mut client = cluster.client(2).await;
    shows(&mut client, &[2, 3]).await;
    for name in ["a", "b", "c", "d"] {
        let created = soon(client.ask(&create_topic_request(name, 1, 2, &[]))).await;
        assert_eq!(created.topics[0].error_code, ErrorCode::NONE, "{created:?}");
    }
    // What runs here is all on one thread.
    std::thread::sleep(Duration::from_secs(4));
    for name in ["a", "b", "c", "d"] {
        // Whose leader was fenced has another epoch.
        let topic = client.describe(name).await;
        assert_eq!(topic.partitions[0].leader_epoch.value(), 0, "{topic:?}");
    }
}
