//! Several nodes with one metadata quorum: a leader is found, changes of the cluster go to it from everywhere, and another
//! one takes over when it is gone.

use std::io::Write;
use std::path::{Path, PathBuf};

use tidelog_broker::format::InitialControllers;
use tidelog_protocol::messages::add_raft_voter::{AddRaftVoterRequest, Listener};
use tidelog_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidelog_protocol::messages::describe_cluster::DescribeClusterRequest;
use tidelog_protocol::messages::describe_quorum::PartitionResult;
use tidelog_protocol::messages::remove_raft_voter::RemoveRaftVoterRequest;
use tidelog_protocol::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use tidelog_types::{ErrorCode, NodeId, Uuid};

use crate::client::{Client, soon};
use crate::cluster::{Cluster, Voters, quorum};

const THREE: &[(i32, &str)] = &[
    (1, "broker,controller"),
    (2, "broker,controller"),
    (3, "broker,controller"),
];

/// Creates a topic; who leads its partition is of no interest.
async fn create(client: &mut Client, name: &str) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let created = soon(client.ask(&request)).await.topics.remove(0);
    let is_there = [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS];
    assert!(is_there.contains(&created.error_code), "{created:?}");
}

/// Waits until the broker knows the topic.
async fn sees(client: &mut Client, name: &str) {
    soon(async { while client.describe(name).await.error_code.is_err() {} }).await;
}

/// Waits until those and no other brokers serve.
async fn shows(client: &mut Client, brokers: &[i32]) {
    let seen = async {
        loop {
            let described = client.ask(&DescribeClusterRequest::default()).await;
            let mut ids: Vec<_> = described
                .brokers
                .iter()
                .map(|b| b.broker_id.value())
                .collect();
            ids.sort_unstable();
            if ids == brokers {
                return;
            }
        }
    };
    soon(seen).await;
}

/// Waits until a leader other than `former` is known by way of node `id`.
async fn successor(cluster: &Cluster, id: i32, former: NodeId) -> i32 {
    let mut client = cluster.client(id).await;
    soon(async {
        loop {
            let leader_id = quorum(&mut client).await.leader_id;
            if leader_id != former {
                return leader_id.value();
            }
        }
    })
    .await
}

#[tokio::test]
async fn three_nodes_elect_a_leader_and_topics_created_anywhere_are_seen_everywhere() {
    for voters in [Voters::Fixed, Voters::InLog] {
        let mut cluster = Cluster::start(THREE, voters).await;
        let found = cluster.quorum(1).await;
        assert!((1..=3).contains(&found.leader_id.value()), "{found:?}");
        assert_eq!(found.current_voters.len(), 3);
        for id in 1..=3 {
            assert_eq!(cluster.quorum(id).await.leader_id, found.leader_id);
            create(&mut cluster.client(id).await, &format!("by-{id}")).await;
        }
        for id in 1..=3 {
            let mut client = cluster.client(id).await;
            for by in 1..=3 {
                sees(&mut client, &format!("by-{by}")).await;
            }
            let request = DescribeClusterRequest::default();
            soon(async { while client.ask(&request).await.brokers.len() != 3 {} }).await;
        }
        for id in 1..=3 {
            cluster.stop(id).await;
        }
    }
}

#[tokio::test]
async fn another_node_leads_when_the_leader_stops_and_when_it_crashes() {
    let mut cluster = Cluster::start(THREE, Voters::Fixed).await;
    let first = cluster.quorum(1).await.leader_id;
    create(&mut cluster.client(first.value()).await, "first").await;
    cluster.stop(first.value()).await;
    let others: Vec<i32> = (1..=3).filter(|id| *id != first.value()).collect();
    let second = successor(&cluster, others[0], first).await;
    assert_ne!(second, first.value());
    for id in &others {
        let mut client = cluster.client(*id).await;
        sees(&mut client, "first").await;
        create(&mut client, &format!("second-{id}")).await;
    }
    cluster.run(&[first.value()]).await;
    sees(&mut cluster.client(first.value()).await, "first").await;

    cluster.crash(second);
    let rest: Vec<i32> = (1..=3).filter(|id| *id != second).collect();
    let third = successor(&cluster, rest[0], NodeId::new(second)).await;
    assert_ne!(third, second);
    for id in &rest {
        let mut client = cluster.client(*id).await;
        create(&mut client, &format!("third-{id}")).await;
        for name in ["first", &format!("second-{}", others[0])] {
            sees(&mut client, name).await;
        }
    }
    cluster.run(&[second]).await;
    sees(&mut cluster.client(second).await, &format!("third-{third}")).await;
}

/// A connection that closes and cannot be opened again is evidence: nobody waits for the session. Nor does a shutdown in
/// order wait for the heartbeats of others.
#[tokio::test]
async fn a_broker_that_dies_is_fenced_at_once() {
    let nodes = [(1, "controller"), (2, "broker"), (3, "broker")];
    let mut cluster = Cluster::new(&nodes, Voters::Fixed);
    for member in cluster.members.values_mut() {
        // Nobody waits so long here: what shows comes of closed connections.
        member.set("broker.session.timeout.ms", "600000");
    }
    cluster.run(&[1, 2, 3]).await;
    let mut client = cluster.client(2).await;
    shows(&mut client, &[2, 3]).await;
    cluster.crash(3);
    shows(&mut client, &[2]).await;

    // Its place is free at once, too.
    cluster.run(&[3]).await;
    shows(&mut client, &[2, 3]).await;
    cluster.stop(3).await;
    shows(&mut client, &[2]).await;
}

#[tokio::test]
async fn a_node_with_an_empty_disk_comes_back_by_a_snapshot() {
    let mut cluster = Cluster::new(THREE, Voters::Fixed);
    for member in cluster.members.values_mut() {
        // A snapshot after almost every change, and nothing before it is kept.
        member.set("metadata.log.max.record.bytes.between.snapshots", "200");
        member.set("metadata.max.retention.bytes", "0");
    }
    cluster.run(&[1, 2, 3]).await;
    let leader = cluster.quorum(1).await.leader_id;
    for round in 0..5 {
        create(
            &mut cluster.client(leader.value()).await,
            &format!("t-{round}"),
        )
        .await;
    }
    let lost = 1 + leader.value() % 3;
    cluster.crash(lost);
    cluster
        .member(lost)
        .replace_disk(InitialControllers::Unsaid);
    cluster.run(&[lost]).await;
    let mut client = cluster.client(lost).await;
    for round in 0..5 {
        sees(&mut client, &format!("t-{round}")).await;
    }
    let folder = cluster.members[&lost]
        .dir
        .path()
        .join("__cluster_metadata-0");
    let names = std::fs::read_dir(folder).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name.ends_with(".checkpoint")));
}

#[tokio::test]
async fn brokers_without_a_vote_and_controllers_without_partitions() {
    for voters in [Voters::Fixed, Voters::InLog] {
        let nodes = [
            (1, "controller"),
            (2, "controller"),
            (3, "controller"),
            (4, "broker"),
            (5, "broker"),
        ];
        let mut cluster = Cluster::start(&nodes, voters).await;
        let found = cluster.quorum(4).await;
        assert_eq!(found.current_voters.len(), 3);
        create(&mut cluster.client(4).await, "by-4").await;
        sees(&mut cluster.client(5).await, "by-4").await;
        // Controllers say who they are to those who ask them, and serve nothing else.
        let mut controller = cluster.controller_client(1).await;
        let described = soon(async {
            loop {
                let request = DescribeClusterRequest {
                    endpoint_type: 2,
                    ..Default::default()
                };
                let described = controller.ask(&request).await;
                if described.brokers.len() == 3 {
                    return described;
                }
            }
        });
        assert_eq!(described.await.controller_id, found.leader_id);
        let leader = found.leader_id.value();
        cluster.crash(leader);
        create(&mut cluster.client(5).await, "by-5").await;
        sees(&mut cluster.client(4).await, "by-5").await;
        assert_ne!(cluster.quorum(4).await.leader_id.value(), leader);
        for id in [4, 5] {
            cluster.stop(id).await;
        }
    }
}

/// The directory with which an observer fetches, once it does.
async fn observer(client: &mut Client, id: i32) -> Uuid {
    soon(async {
        loop {
            let mut observers = quorum(client).await.observers.into_iter();
            if let Some(found) = observers.find(|found| found.replica_id.value() == id) {
                return found.replica_directory_id;
            }
        }
    })
    .await
}

fn voters(found: &PartitionResult) -> Vec<i32> {
    let voters = found.current_voters.iter();
    let mut ids: Vec<i32> = voters.map(|voter| voter.replica_id.value()).collect();
    ids.sort_unstable();
    ids
}

/// KIP-853: voters that were configured become part of the log, and can then come and go.
#[tokio::test]
async fn configured_voters_go_into_the_log() {
    let mut cluster = Cluster::start(THREE, Voters::Fixed).await;
    let mut client = cluster.client(2).await;
    let update = |level, validate_only| UpdateFeaturesRequest {
        timeout_ms: 30_000,
        feature_updates: vec![FeatureUpdateKey {
            feature: "kraft.version".into(),
            max_version_level: level,
            upgrade_type: 1,
            ..Default::default()
        }],
        validate_only,
    };
    shows(&mut client, &[1, 2, 3]).await;
    let refused = soon(client.ask(&update(2, false))).await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_UPDATE_VERSION);
    // Voters have a moment to say where their logs are.
    soon(async {
        loop {
            let tried = client.ask(&update(1, true)).await;
            if tried.error_code.is_ok() {
                return;
            }
            assert_eq!(
                tried.error_code,
                ErrorCode::INVALID_UPDATE_VERSION,
                "{tried:?}"
            );
        }
    })
    .await;
    let before = quorum(&mut client).await;
    let nowhere = |found: &PartitionResult| {
        let voters = found.current_voters.iter();
        voters.filter(|v| v.replica_directory_id.is_zero()).count()
    };
    assert_eq!(
        nowhere(&before),
        2,
        "it was only tried, and the leader knows its own"
    );
    let raised = soon(client.ask(&update(1, false))).await;
    assert_eq!(raised.error_code, ErrorCode::NONE, "{raised:?}");
    let after = quorum(&mut client).await;
    assert_eq!((nowhere(&after), voters(&after)), (0, vec![1, 2, 3]));
    assert_eq!(
        after.leader_id, before.leader_id,
        "nobody had to be elected"
    );
    let again = soon(client.ask(&update(1, false))).await;
    assert_eq!(again.error_code, ErrorCode::NONE, "{again:?}");
    // A voter goes, and all of them find each other again after a restart.
    let gone = if after.leader_id.value() == 3 { 2 } else { 3 };
    let mut replicas = after.current_voters.iter();
    let found = replicas.find(|voter| voter.replica_id.value() == gone);
    let request = RemoveRaftVoterRequest {
        voter_id: NodeId::new(gone),
        voter_directory_id: found.unwrap().replica_directory_id,
        ..Default::default()
    };
    let removed = soon(client.ask(&request)).await;
    assert_eq!(removed.error_code, ErrorCode::NONE, "{removed:?}");
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    cluster.run(&[1, 2, 3]).await;
    let mut client = cluster.client(1).await;
    create(&mut client, "after").await;
    let left: Vec<i32> = (1..=3).filter(|id| *id != gone).collect();
    assert_eq!(voters(&quorum(&mut client).await), left);
}

#[tokio::test]
async fn voters_are_added_and_taken_away_by_way_of_a_broker() {
    let mut cluster = Cluster::start(THREE, Voters::FirstInLog).await;
    let mut client = cluster.client(3).await;
    assert_eq!(voters(&quorum(&mut client).await), [1]);
    for id in [2, 3] {
        let directory = observer(&mut client, id).await;
        let (host, port) = cluster.controller_address(id);
        let request = AddRaftVoterRequest {
            timeout_ms: 30_000,
            voter_id: NodeId::new(id),
            voter_directory_id: directory,
            listeners: vec![Listener {
                name: "CONTROLLER".into(),
                host: host.into(),
                port,
            }],
            ..Default::default()
        };
        let added = soon(client.ask(&request)).await;
        assert_eq!(added.error_code, ErrorCode::NONE, "{added:?}");
    }
    let found = quorum(&mut client).await;
    assert_eq!(voters(&found), [1, 2, 3]);
    assert_eq!(found.leader_id.value(), 1, "nobody had to be elected");
    // A topic written over the changes of voters, and a leader that votes itself out.
    create(&mut client, "between").await;
    let leader = found
        .current_voters
        .iter()
        .find(|voter| voter.replica_id.value() == 1);
    let request = RemoveRaftVoterRequest {
        voter_id: NodeId::new(1),
        voter_directory_id: leader.unwrap().replica_directory_id,
        ..Default::default()
    };
    let removed = soon(client.ask(&request)).await;
    assert_eq!(removed.error_code, ErrorCode::NONE, "{removed:?}");
    assert_ne!(successor(&cluster, 2, NodeId::new(1)).await, 1);
    assert_eq!(voters(&quorum(&mut client).await), [2, 3]);
    cluster.stop(1).await;
    create(&mut client, "after").await;
    sees(&mut cluster.client(2).await, "after").await;
}

#[tokio::test]
async fn who_does_not_belong_to_the_cluster_is_refused() {
    let mut cluster = Cluster::start(&[(1, "controller"), (4, "broker")], Voters::Fixed).await;
    // An unformatted disk does not say to which cluster the node belongs.
    let mut stray = Cluster::new(&[(1, "controller"), (7, "broker")], Voters::Fixed);
    let stray = stray.member(7);
    let empty = tempfile::tempdir().unwrap();
    stray.set("log.dirs", empty.path().to_str().unwrap());
    let refusal = stray.refusal().await.to_string();
    assert!(refusal.contains("not formatted"), "{refusal}");
    // Two brokers with one id: the second gives up, the first goes on.
    let address = {
        let broker = cluster.member(1).broker.as_ref().unwrap();
        broker.bootstrap_servers()
    };
    stray.replace_disk(InitialControllers::Unsaid);
    stray.set("node.id", "4");
    stray.replace_disk(InitialControllers::Unsaid);
    stray.set("controller.quorum.voters", &format!("1@{address}"));
    stray.set("initial.broker.registration.timeout.ms", "200");
    let refusal = stray.refusal().await.to_string();
    assert!(refusal.contains("registered"), "{refusal}");
    create(&mut cluster.client(4).await, "goes-on").await;
}

/// The file of the metadata log of a node, and those of its snapshots.
fn metadata_files(cluster: &Cluster, id: i32) -> (PathBuf, Vec<PathBuf>) {
    let folder = cluster.members[&id].dir.path().join("__cluster_metadata-0");
    let files = std::fs::read_dir(&folder).unwrap();
    let mut snapshots: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    snapshots.retain(|path| path.extension().is_some_and(|kind| kind == "checkpoint"));
    snapshots.sort();
    (folder.join("00000000000000000000.log"), snapshots)
}

fn cut(path: &Path, bytes: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
}

fn len(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// The last batch is torn, or there is a hole or noise behind it: what is damaged is cut off, and fetched again.
#[tokio::test]
async fn a_node_whose_metadata_log_is_torn_fetches_what_it_lacks() {
    let mut cluster = Cluster::start(THREE, Voters::Fixed).await;
    for round in 0..4 {
        create(&mut cluster.client(1).await, &format!("t-{round}")).await;
    }
    for (id, damage) in [(1, "torn"), (2, "noise"), (3, "hole")] {
        cluster.crash(id);
        let (log, _) = metadata_files(&cluster, id);
        let end = len(&log);
        match damage {
            "torn" => cut(&log, end - 9),
            "hole" => cut(&log, end + 4096),
            _ => {
                let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
                file.write_all(&[0xa5; 300]).unwrap();
            }
        }
        let others: Vec<i32> = (1..=3).filter(|other| *other != id).collect();
        let mut client = cluster.client(others[0]).await;
        shows(&mut client, &others).await;
        create(&mut client, &format!("without-{id}")).await;
        cluster.run(&[id]).await;
        let mut client = cluster.client(id).await;
        for round in 0..4 {
            sees(&mut client, &format!("t-{round}")).await;
        }
        sees(&mut client, &format!("without-{id}")).await;
    }
}

/// The newest snapshot was cut short: an older one, or the log, has the same.
#[tokio::test]
async fn a_node_whose_snapshot_is_cut_short_goes_by_what_is_whole() {
    let mut cluster = Cluster::new(THREE, Voters::Fixed);
    for member in cluster.members.values_mut() {
        member.set("metadata.log.max.record.bytes.between.snapshots", "200");
    }
    cluster.run(&[1, 2, 3]).await;
    for round in 0..5 {
        create(&mut cluster.client(1).await, &format!("t-{round}")).await;
    }
    let others = [1, 3];
    let snapshots = soon(async {
        loop {
            let (_, snapshots) = metadata_files(&cluster, 2);
            // The first is what `format` wrote.
            if snapshots.len() > 2 {
                return snapshots;
            }
            tokio::task::yield_now().await;
        }
    });
    snapshots.await;
    cluster.crash(2);
    shows(&mut cluster.client(1).await, &others).await;
    let (_, snapshots) = metadata_files(&cluster, 2);
    let newest = snapshots.last().unwrap();
    cut(newest, len(newest) / 2);
    create(&mut cluster.client(1).await, "meanwhile").await;
    cluster.run(&[2]).await;
    let mut client = cluster.client(2).await;
    for name in ["t-0", "t-1", "t-2", "t-3", "t-4", "meanwhile"] {
        sees(&mut client, name).await;
    }
}

/// No snapshot of a node is whole, and its log is of no use without: it fetches all anew, and does not lead before it has all.
#[tokio::test]
async fn a_node_without_a_snapshot_that_is_whole_fetches_one() {
    for voters in [Voters::Fixed, Voters::InLog] {
        let mut cluster = Cluster::new(THREE, voters);
        for member in cluster.members.values_mut() {
            member.set("metadata.log.max.record.bytes.between.snapshots", "200");
            member.set("metadata.max.retention.bytes", "0");
        }
        cluster.run(&[1, 2, 3]).await;
        for round in 0..5 {
            create(&mut cluster.client(1).await, &format!("t-{round}")).await;
        }
        let others = [1, 3];
        // What `format` wrote ends at 0.
        let formatted = format!("{:020}-{:010}.checkpoint", 0, 0);
        let is_made = |path: &PathBuf| !path.ends_with(&formatted);
        soon(async {
            while !metadata_files(&cluster, 2).1.iter().any(is_made) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        cluster.crash(2);
        shows(&mut cluster.client(1).await, &others).await;
        // Its log begins with a snapshot from now on.
        let (log, _) = metadata_files(&cluster, 2);
        std::fs::remove_file(&log).unwrap();
        cluster.run(&[2]).await;
        sees(&mut cluster.client(2).await, "t-4").await;
        cluster.crash(2);
        shows(&mut cluster.client(1).await, &others).await;
        let (first, snapshots) = metadata_files(&cluster, 2);
        assert!(!first.exists());
        for snapshot in &snapshots {
            cut(snapshot, len(snapshot) / 2);
        }
        create(&mut cluster.client(1).await, "meanwhile").await;
        cluster.run(&[2]).await;
        let mut client = cluster.client(2).await;
        for name in ["t-0", "t-1", "t-2", "t-3", "t-4", "meanwhile"] {
            sees(&mut client, name).await;
        }
        let folder = cluster.members[&2].dir.path().join("__cluster_metadata-0");
        let names = std::fs::read_dir(&folder).unwrap();
        let names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            names.iter().any(|name| name.ends_with(".damaged")),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name == "lost-log"), "{names:?}");
        // It counts again: with one of the others gone, the quorum goes on.
        cluster.crash(3);
        shows(&mut client, &[1, 2]).await;
        create(&mut client, "afterwards").await;
    }
}
