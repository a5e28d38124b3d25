use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use tidelog_log::testing::{FaultDir, Op};
use tidelog_log::{Dir, Flusher, FsDir, LogDirectory};
use tidelog_metadata::configs::{BrokerConfig, TopicConfig};
use tidelog_record::control::{EndTxnMarker, TransactionResult};
use tidelog_record::{BatchBuilder, Codec};
use tidelog_replication::partition::{BecomeLeader, Config as ReplicaConfig, Input};
use tidelog_types::{
    ErrorCode, LeaderEpoch, NodeId, ProducerEpoch, ProducerId, Timestamp, TopicName, Uuid,
};

use super::directories::DataDirectory;
use super::partition::{Acks, Beginning, TransactionEnd, Waiter};
use super::topics::LocalTopic;
use super::{Store, Wanted};
use crate::clock::Clock;
use crate::handlers::wait::AppendWait;

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
        &BrokerConfig::default(),
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

/// KIP-890: a batch that comes after the end of its transaction opens no other one, which nobody would end.
#[test]
fn a_transaction_that_ended_before_it_began_does_not_begin() {
    let (_store, topic) = store(vec![directory(1, Arc::new(FaultDir::new()))], 1);
    let partition = topic.partitions().remove(0);
    let nobody = || Waiter {
        target: AppendWait::new(),
        token: 0,
    };
    let epoch = Cell::new(0);
    let batch = |sequence: i32| {
        let id = ProducerId::new(7);
        let builder = BatchBuilder::new(Codec::None.into()).transactional(true);
        let mut builder = builder.producer(id, ProducerEpoch::new(epoch.get()), sequence);
        builder.push(Timestamp::from_millis(1), None, Some(b"a"), &[]);
        builder.build().unwrap()
    };
    let append = |sequence, beginning: Option<&Beginning>| {
        let batch = batch(sequence);
        let appended = partition.append_in_transaction(&batch, beginning, Acks::None, nobody());
        appended.map(|_| ()).map_err(|refused| refused.error_code())
    };
    let begin = |sequence| partition.transaction_begins(batch(sequence).header());
    let end = |transaction_version| {
        let end = TransactionEnd {
            producer_id: ProducerId::new(7),
            producer_epoch: ProducerEpoch::new(epoch.get()),
            marker: EndTxnMarker {
                result: TransactionResult::Abort,
                coordinator_epoch: 0,
            },
            transaction_version,
        };
        let ended = partition.end_transaction(&end, nobody());
        ended.map(|_| ()).map_err(|refused| refused.error_code())
    };
    let refused = Err(ErrorCode::INVALID_TXN_STATE);
    assert_eq!(append(0, None), refused, "nobody has asked");
    // While the coordinator is asked it gives the transaction up.
    let beginning = begin(0).unwrap().unwrap();
    end(1).unwrap();
    assert_eq!(append(0, Some(&beginning)), refused);
    // What the coordinator refuses does not begin, and what was asked earlier does not count.
    let refused_one = begin(0).unwrap().unwrap();
    partition.transaction_refused(&refused_one);
    assert_eq!(append(0, Some(&refused_one)), refused);
    let (earlier, later) = (begin(0).unwrap().unwrap(), begin(0).unwrap().unwrap());
    assert_eq!(append(0, Some(&earlier)), refused);
    append(0, Some(&later)).unwrap();
    // It is open: nobody need be asked until it ends.
    assert!(begin(1).unwrap().is_none());
    append(1, None).unwrap();
    // A late marker of the transaction before, which had this epoch for the next one.
    assert_eq!(end(2), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    append(2, None).unwrap();
    end(1).unwrap();
    assert_eq!(append(3, None), refused);
    // With an epoch for each transaction the marker of the one before comes while the coordinator is asked about the next.
    epoch.set(1);
    let next = begin(0).unwrap().unwrap();
    end(2).unwrap();
    append(0, Some(&next)).unwrap();
    epoch.set(2);
    end(2).unwrap();
    let late = begin(0).unwrap().unwrap();
    epoch.set(3);
    end(2).unwrap();
    epoch.set(2);
    assert_eq!(append(0, Some(&late)), refused);
}
