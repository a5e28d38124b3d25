//! Images under random records: what a snapshot says is what there was.

use proptest::prelude::*;
use tidelog_metadata::bootstrap::{METADATA_VERSION, record_version};
use tidelog_metadata::controller::ClusterMetrics;
use tidelog_metadata::image::Image;
use tidelog_protocol::records::metadata::*;
use tidelog_types::{LeaderEpoch, NodeId, ProducerId, Timestamp, Uuid};

fn id(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
    let nodes = proptest::sample::subsequence(vec![1, 2, 3], 1..=3);
    nodes.prop_map(|nodes| nodes.into_iter().map(NodeId::new).collect())
}

fn feature() -> impl Strategy<Value = BrokerFeature> {
    ("[ab]", 0..2_i16, 2..4_i16).prop_map(|(name, min, max)| BrokerFeature {
        name: name.into(),
        min_supported_version: min,
        max_supported_version: max,
    })
}

fn endpoint() -> impl Strategy<Value = BrokerEndpoint> {
    ("[AB]", any::<u16>()).prop_map(|(name, port)| BrokerEndpoint {
        name: name.into(),
        host: "host".into(),
        port,
        security_protocol: 0,
    })
}

fn cluster() -> impl Strategy<Value = MetadataRecord> {
    let node = || 1..4_i32;
    let dirs = || proptest::collection::btree_set(3..9_u8, 0..3);
    let dirs = move || dirs().prop_map(|dirs| dirs.into_iter().map(id).collect::<Vec<_>>());
    let endpoints = || proptest::collection::vec(endpoint(), 0..3);
    // Features are kept by name, in a snapshot in their order.
    let features = || proptest::collection::btree_map("[ab]", feature(), 0..3);
    let features = move || {
        features().prop_map(|features| {
            let named = |(name, feature): (String, BrokerFeature)| BrokerFeature {
                name: name.into(),
                ..feature
            };
            features.into_iter().map(named).collect::<Vec<_>>()
        })
    };
    prop_oneof![
        (
            node(),
            1..3_i64,
            endpoints(),
            features(),
            any::<bool>(),
            any::<bool>(),
            dirs(),
            dirs()
        )
            .prop_map(
                |(node, epoch, end_points, features, fenced, stops, log_dirs, cordoned)| {
                    RegisterBrokerRecord {
                        broker_id: NodeId::new(node),
                        broker_epoch: epoch,
                        incarnation_id: id(epoch as u8),
                        end_points,
                        features,
                        rack: fenced.then(|| "rack".into()),
                        fenced,
                        in_controlled_shutdown: stops,
                        log_dirs,
                        cordoned_log_dirs: Some(cordoned),
                        ..Default::default()
                    }
                    .into()
                }
            ),
        (node(), 1..3_i64, -1..2_i8, 0..2_i8, dirs()).prop_map(
            |(node, broker_epoch, fenced, in_controlled_shutdown, log_dirs)| {
                BrokerRegistrationChangeRecord {
                    broker_id: NodeId::new(node),
                    broker_epoch,
                    fenced,
                    in_controlled_shutdown,
                    log_dirs,
                    ..Default::default()
                }
                .into()
            }
        ),
        (node(), 1..3_i64).prop_map(|(node, broker_epoch)| UnregisterBrokerRecord {
            broker_id: NodeId::new(node),
            broker_epoch,
        }
        .into()),
        (node(), endpoints(), features()).prop_map(|(node, end_points, features)| {
            RegisterControllerRecord {
                controller_id: NodeId::new(node),
                end_points,
                features,
                ..Default::default()
            }
            .into()
        }),
        ("[ab]", 0..3_i16).prop_map(|(name, feature_level)| FeatureLevelRecord {
            name: name.into(),
            feature_level,
        }
        .into()),
        (1..9_i64).prop_map(|next| ProducerIdsRecord {
            next_producer_id: ProducerId::new(next * 1000),
            ..Default::default()
        }
        .into()),
    ]
}

fn topics() -> impl Strategy<Value = MetadataRecord> {
    let topic = || 11..14_u8;
    prop_oneof![
        topic().prop_map(|topic| TopicRecord {
            name: format!("topic-{topic}").into(),
            topic_id: id(topic),
        }
        .into()),
        (topic(), 0..3_i32, nodes()).prop_map(|(topic, partition_id, replicas)| PartitionRecord {
            topic_id: id(topic),
            partition_id,
            isr: replicas.clone(),
            leader: replicas[0],
            directories: replicas.iter().map(|node| id(node.value() as u8)).collect(),
            replicas,
            leader_epoch: LeaderEpoch::new(0),
            partition_epoch: 0,
            ..Default::default()
        }
        .into()),
        (topic(), 0..3_i32, nodes(), any::<[bool; 5]>()).prop_map(
            |(topic, partition, list, what)| {
                let some = |index: usize| what[index].then(|| list.clone());
                PartitionChangeRecord {
                    topic_id: id(topic),
                    partition_id: partition,
                    isr: some(0),
                    leader: NodeId::new(if what[1] { -1 } else { -2 }),
                    leader_recovery_state: i8::from(what[2]),
                    eligible_leader_replicas: some(3),
                    last_known_elr: some(4),
                    ..Default::default()
                }
                .into()
            }
        ),
        topic().prop_map(|topic| RemoveTopicRecord {
            topic_id: id(topic)
        }
        .into()),
        (topic(), any::<bool>()).prop_map(|(topic, all)| {
            let name = format!("topic-{topic}");
            ClearElrRecord {
                topic_name: if all { String::new() } else { name }.into(),
            }
            .into()
        }),
        (
            prop_oneof![Just(2_i8), Just(4), Just(16), Just(32)],
            "[ab]",
            "[xy]",
            any::<bool>()
        )
            .prop_map(|(resource_type, resource, name, set)| ConfigRecord {
                resource_type,
                resource_name: resource.into(),
                name: name.into(),
                value: set.then(|| "value".into()),
            }
            .into()),
    ]
}

fn security() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![
        (0..3_u8, 0..9_i8).prop_map(|(number, operation)| AccessControlEntryRecord {
            id: id(number),
            resource_type: 2,
            resource_name: "topic".into(),
            pattern_type: 3,
            principal: "User:somebody".into(),
            host: "*".into(),
            operation,
            permission_type: 3,
        }
        .into()),
        (0..3_u8).prop_map(|number| RemoveAccessControlEntryRecord { id: id(number) }.into()),
        ("[ab]", 1..3_i8, any::<[u8; 4]>()).prop_map(|(name, mechanism, salt)| {
            UserScramCredentialRecord {
                name: name.into(),
                mechanism,
                salt: salt.to_vec().into(),
                iterations: 4096,
                ..Default::default()
            }
            .into()
        }),
        ("[ab]", 1..3_i8).prop_map(|(name, mechanism)| RemoveUserScramCredentialRecord {
            name: name.into(),
            mechanism,
        }
        .into()),
        ("[ab]", any::<i32>()).prop_map(|(token, at)| DelegationTokenRecord {
            owner: "User:somebody".into(),
            token_id: token.into(),
            issue_timestamp: Timestamp::from_millis(at.into()),
            ..Default::default()
        }
        .into()),
        "[ab]".prop_map(|token| RemoveDelegationTokenRecord {
            token_id: token.into()
        }
        .into()),
        (
            "(user|ip)",
            proptest::option::of("[ab]"),
            "[xy]",
            any::<bool>()
        )
            .prop_map(|(entity_type, name, key, remove)| ClientQuotaRecord {
                entity: vec![EntityData {
                    entity_type: entity_type.into(),
                    entity_name: name.map(Into::into),
                }],
                key: key.into(),
                value: 1024.0,
                remove,
            }
            .into()),
    ]
}

fn transaction() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![
        Just(BeginTransactionRecord::default().into()),
        Just(EndTransactionRecord {}.into()),
        Just(AbortTransactionRecord::default().into()),
    ]
}

fn record() -> impl Strategy<Value = MetadataRecord> {
    prop_oneof![6 => topics(), 4 => cluster(), 2 => security(), 1 => transaction()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The log of a cluster is any records that follow on each other. Its snapshot, written and read, is the same image.
    #[test]
    fn a_snapshot_is_the_image(records in proptest::collection::vec(record(), 0..80)) {
        let version = FeatureLevelRecord { name: METADATA_VERSION.into(), feature_level: 30 };
        let mut image = Image::default();
        image.apply(&version.into()).expect("it is the first record");
        for record in records {
            let before = image.clone();
            // What a transaction has held back may turn out not to follow when it ends.
            let may_break = matches!(record, MetadataRecord::EndTransaction(_));
            if image.apply(&record).is_err() {
                prop_assert!(may_break || image == before, "a refused record changes nothing");
                image = before;
                if may_break {
                    image.apply(&AbortTransactionRecord::default().into()).ok();
                }
            }
        }
        if image.in_transaction() {
            image.apply(&AbortTransactionRecord::default().into()).expect("it has begun");
        }
        let mut again = Image::default();
        for (index, record) in image.records().enumerate() {
            let is_version = matches!(&record, MetadataRecord::FeatureLevel(f) if f.name == *METADATA_VERSION);
            prop_assert_eq!(is_version, index == 0);
            let bytes = record.encode(record_version(&record, image.metadata_version()));
            let bytes = bytes.expect("metadata.version can carry the record");
            let read = MetadataRecord::decode(&bytes).expect("what was written can be read");
            again.apply(&read).expect("the records of a snapshot follow on each other");
        }
        prop_assert_eq!(again, image);
    }
}

#[test]
fn a_cluster_in_numbers() {
    let broker = |broker_id, fenced, in_controlled_shutdown| {
        MetadataRecord::from(RegisterBrokerRecord {
            broker_id: NodeId::new(broker_id),
            fenced,
            in_controlled_shutdown,
            ..Default::default()
        })
    };
    let topic = TopicRecord {
        name: "orders".into(),
        topic_id: id(7),
    };
    let partition = |partition_id, leader| {
        let replicas = vec![NodeId::new(1), NodeId::new(2)];
        MetadataRecord::from(PartitionRecord {
            topic_id: id(7),
            partition_id,
            isr: replicas.clone(),
            replicas,
            leader: NodeId::new(leader),
            leader_epoch: LeaderEpoch::new(0),
            partition_epoch: 0,
            ..Default::default()
        })
    };
    let mut image = Image::default();
    image
        .apply_batch(&[
            broker(1, false, false),
            broker(2, false, true),
            broker(3, true, true),
            topic.into(),
            partition(0, 1),
            partition(1, 2),
            partition(2, -1),
        ])
        .unwrap();
    let metrics = ClusterMetrics::of(&image);
    assert_eq!((metrics.active_brokers, metrics.fenced_brokers), (2, 1));
    assert_eq!(metrics.brokers_shutting_down, 1);
    assert_eq!((metrics.topics, metrics.partitions), (1, 3));
    assert_eq!(metrics.offline_partitions, 1);
    assert_eq!(metrics.not_led_by_preferred_replica, 2);
}
