use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use tidelog_log::testing::{FaultDir, Op};
use tidelog_log::{Dir, Flusher, FsDir, LogDirectory};
use tidelog_metadata::configs::{BrokerConfig, TopicConfig};
use tidelog_replication::partition::{BecomeLeader, Config as ReplicaConfig, Input};
use tidelog_types::{ErrorCode, LeaderEpoch, NodeId, TopicName, Uuid};

use super::directories::DataDirectory;
use super::topics::LocalTopic;
use super::{Store, Wanted};
use crate::clock::Clock;

/// What the process has in memory, but for the pages of the program itself, which come in as they are first needed.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = |field: usize| -> usize {
        statm
            .split_whitespace()
            .nth(field)
            .unwrap()
            .parse()
            .unwrap()
    };
    (pages(1) - pages(2)) * 4096
}

const NODE: NodeId = NodeId::new(1);

pub(super) fn directory(id: u8, dir: Arc<dyn Dir>) -> DataDirectory {
    let files = Arc::new(LogDirectory::open(dir).unwrap());
    let flusher = Arc::new(Flusher::start("test").unwrap());
    let memory = Arc::new(FaultDir::new());
    let path = format!("/directory{id}").into();
    let id = Uuid::from_random([id; 16]);
    DataDirectory::open(path, id, files, flusher, memory).unwrap()
}

/// A store whose topic has partitions in these directories, all of which this node leads.
fn store(directories: Vec<DataDirectory>, partitions: usize) -> (Store, Arc<LocalTopic>) {
    let ids: Vec<_> = directories.iter().map(|directory| directory.id).collect();
    let store = Store::new(
        ReplicaConfig::new(NODE),
        Clock::new(),
        (directories, Vec::new()),
        1,
        1,
    );
    let (config, _) = BrokerConfig::new(BTreeMap::new()).unwrap();
    let topic = store
        .topics
        .add(&TopicName::from("idle"), Uuid::from_random([9; 16]), || {
            TopicConfig::resolve(&BTreeMap::new(), &config)
        });
    let partitions = (0..partitions).map(|i| (i as i32, Some(ids[i % ids.len()])));
    let wanted = Wanted {
        topic: topic.clone(),
        partitions: partitions.collect(),
    };
    store.open_partitions(&[wanted]);
    for partition in topic.partitions() {
        partition.role_changed(Input::BecomeLeader(BecomeLeader {
            leader_epoch: LeaderEpoch::new(3),
            partition_epoch: 0,
            replicas: vec![NODE],
            adding_replicas: Vec::new(),
            isr: vec![NODE],
            recovering: false,
            brokers: Vec::new(),
        }));
    }
    (store, topic)
}

#[test]
fn a_directory_that_fails_takes_its_partitions_with_it_and_no_others() {
    let (good, bad) = (FaultDir::new(), FaultDir::new());
    let directories = vec![
        directory(1, Arc::new(good.clone())),
        directory(2, Arc::new(bad.clone())),
    ];
    let (store, topic) = store(directories, 6);
    store.checkpoint();
    bad.fail(Op::Write, 0, ErrorKind::Other);
    topic.partitions().iter().for_each(|p| p.note_changed());
    store.directories()[1].forget(&topic.partitions()[1].name);
    store.checkpoint();
    for partition in topic.partitions() {
        let leads = partition
            .published()
            .leadership
            .check_leader_epoch(LeaderEpoch::NONE);
        let expected = match partition.directory() {
            0 => Ok(()),
            _ => Err(ErrorCode::KAFKA_STORAGE_ERROR),
        };
        assert_eq!(leads, expected, "{}", partition.name);
    }
    bad.heal();
    store.close(5).unwrap_err();
    assert!(good.content(".kafka_cleanshutdown").is_some());
    assert!(bad.content(".kafka_cleanshutdown").is_none());
}

#[test]
fn an_idle_partition_takes_one_kib_at_most() {
    const PARTITIONS: usize = 40_000;
    // What the first partitions cost once: the code, the threads.
    let first = tempfile::tempdir().unwrap();
    let _first = store(vec![directory(2, Arc::new(FsDir::new(first.path())))], 1000);
    // The other tests of this process take memory as well, so that the least of several figures counts.
    let mut kept = Vec::new();
    let mut measure = || {
        let root = tempfile::tempdir().unwrap();
        let directories = vec![directory(1, Arc::new(FsDir::new(root.path())))];
        let before = resident_bytes();
        let (store, topic) = store(directories, PARTITIONS);
        let each = (resident_bytes() - before) / PARTITIONS;
        kept.push((root, store, topic));
        each
    };
    let each = (0..3).map(|_| measure()).min().unwrap();
    assert!(each <= 1024, "{each} bytes for a partition");
    for (_, _, topic) in kept {
        let partitions = topic.partitions();
        assert!(partitions.iter().all(|partition| partition.is_resting()));
    }
}
