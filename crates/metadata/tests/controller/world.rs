//! A controller, its log, and an image that follows the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidelog_metadata::bootstrap::{
    MetadataVersion, bootstrap_records, record_version, registered_features,
};
use tidelog_metadata::configs::BrokerConfig;
use tidelog_metadata::controller::{
    BrokerEpoch, Config, Controller, ControllerRequest, ControllerResponse, Effect, Input, Limits,
    Restored,
};
use tidelog_metadata::image::{Image, SupportedLevels};
use tidelog_protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
use tidelog_protocol::messages::broker_registration::{
    BrokerRegistrationRequest, Feature, Listener,
};
use tidelog_protocol::records::metadata::{BeginTransactionRecord, MetadataRecord, TopicRecord};
use tidelog_types::{NodeId, Now, Offset, Timestamp, Uuid};

const CLUSTER_ID: &str = "Some-cluster-of-tests-";

pub(crate) struct World {
    config: Config,
    pub(crate) controller: Controller,
    pub(crate) now: Now,
    /// All that was appended, read back from its bytes.
    pub(crate) follower: Image,
    log_end: Offset,
    next_request_id: u64,
    pub(crate) unanswered: BTreeSet<u64>,
    /// Names of topics, those of deleted ones included.
    pub(crate) names: BTreeMap<Uuid, String>,
}

impl World {
    /// A fresh cluster whose log holds nothing but the leader's control record.
    pub(crate) fn new(properties: &str, limits: Limits) -> Self {
        let image = Image::default();
        let restored = Restored {
            image: image.clone(),
            end_offset: Offset::new(1),
        };
        let now = now();
        let config = config(properties, limits);
        Self {
            controller: Controller::new(now, config.clone(), restored),
            config,
            now,
            follower: image,
            log_end: Offset::new(1),
            next_request_id: 1,
            unanswered: BTreeSet::new(),
            names: BTreeMap::new(),
        }
    }

    /// Makes the cluster usable: its first records, and the brokers, active.
    pub(crate) fn begin(&mut self, version: MetadataVersion, brokers: &[(i32, Option<&str>)]) {
        self.begin_with(bootstrap_records(version), brokers);
    }

    /// The same with other first records.
    pub(crate) fn begin_with(
        &mut self,
        records: Vec<MetadataRecord>,
        brokers: &[(i32, Option<&str>)],
    ) {
        self.ask(ControllerRequest::Bootstrap(records));
        self.commit_all();
        for (id, rack) in brokers {
            let registration = registration(*id, 1, *rack);
            self.ask(ControllerRequest::BrokerRegistration(registration));
            self.commit_all();
            let heartbeat = self.heartbeat(*id);
            self.ask(ControllerRequest::BrokerHeartbeat(heartbeat));
            self.commit_all();
        }
    }

    /// The same with a quorum of several nodes, before anything has happened.
    pub(crate) fn with_controllers(mut self, controllers: Vec<NodeId>) -> Self {
        self.config.controllers = controllers;
        self.take_over();
        self
    }

    /// Another controller takes over with what the log says.
    pub(crate) fn restart(&mut self) -> Vec<Effect> {
        let effects = self.handle(Input::Resign);
        self.log_end = self.log_end.next();
        self.take_over();
        effects
    }

    fn take_over(&mut self) {
        let restored = Restored {
            image: self.follower.clone(),
            end_offset: self.log_end,
        };
        self.config.seed[0] = self.log_end.value() as u8;
        self.controller = Controller::new(self.now, self.config.clone(), restored);
        self.controller.check();
    }

    /// The controller fails when it has begun a transaction, and another one takes over.
    pub(crate) fn fail_in_transaction(&mut self) {
        let topic = TopicRecord {
            name: "half".into(),
            topic_id: Uuid::from_bytes([7; 16]),
        };
        self.append(
            self.log_end,
            &[BeginTransactionRecord::default().into(), topic.into()],
        );
        self.log_end = self.log_end.next();
        self.take_over();
    }

    pub(crate) fn ask(&mut self, request: ControllerRequest) -> Vec<Effect> {
        let request_id = self.next_request_id;
        self.next_request_id += 1;
        self.unanswered.insert(request_id);
        self.handle(Input::Request {
            request_id,
            request,
        })
    }

    pub(crate) fn commit_all(&mut self) -> Vec<Effect> {
        self.handle(Input::Committed {
            offset: self.log_end,
        })
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    pub(crate) fn epoch(&self, id: i32) -> BrokerEpoch {
        let broker_id = NodeId::new(id);
        let registered = self.controller.image().broker(broker_id);
        BrokerEpoch {
            broker_id,
            broker_epoch: registered.map_or(-1, |broker| broker.epoch),
        }
    }

    /// What a broker sends that has read all of the log and wants to serve.
    pub(crate) fn heartbeat(&self, id: i32) -> BrokerHeartbeatRequest {
        let BrokerEpoch {
            broker_id,
            broker_epoch,
        } = self.epoch(id);
        BrokerHeartbeatRequest {
            broker_id,
            broker_epoch,
            current_metadata_offset: Offset::new(self.log_end.value() - 1),
            ..Default::default()
        }
    }

    /// Hands the input over, appends what is to be appended, and checks everything that must hold.
    pub(crate) fn handle(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.controller.handle(self.now, input, &mut effects);
        self.controller.check();
        for effect in &effects {
            match effect {
                Effect::Append {
                    base_offset,
                    records,
                } => self.append(*base_offset, records),
                Effect::Reply { request_id, .. } => {
                    assert!(
                        self.unanswered.remove(request_id),
                        "{request_id} is answered once"
                    );
                }
                other => panic!("unknown effect {other:?}"),
            }
        }
        assert_eq!(self.controller.end_offset(), self.log_end);
        assert_eq!(
            self.controller.image(),
            &self.follower,
            "what was appended is what is known"
        );
        effects
    }

    fn append(&mut self, base_offset: Offset, records: &[MetadataRecord]) {
        assert_eq!(base_offset, self.log_end, "batches follow each other");
        assert!(!records.is_empty());
        for record in records {
            let version = record_version(record, self.follower.metadata_version());
            let bytes = record
                .encode(version)
                .expect("the version can carry the record");
            let read = MetadataRecord::decode(&bytes).expect("what was written can be read");
            assert_eq!(&read, record, "nothing is lost in version {version}");
            if let MetadataRecord::Topic(topic) = record {
                self.names.insert(topic.topic_id, topic.name.to_string());
            }
            self.follower
                .apply(&read)
                .expect("records follow on each other");
        }
        self.log_end += records.len() as i64;
    }
}

/// The only response among the effects.
pub(crate) fn response(effects: &[Effect]) -> Option<&ControllerResponse> {
    let mut responses = effects.iter().filter_map(|effect| match effect {
        Effect::Reply { response, .. } => Some(response),
        _ => None,
    });
    let only = responses.next();
    assert!(responses.next().is_none(), "one response");
    only
}

pub(crate) fn registration(
    id: i32,
    incarnation: u8,
    rack: Option<&str>,
) -> BrokerRegistrationRequest {
    let feature = |(name, levels): (&str, SupportedLevels)| Feature {
        name: name.into(),
        min_supported_version: levels.min,
        max_supported_version: levels.max,
    };
    BrokerRegistrationRequest {
        broker_id: NodeId::new(id),
        cluster_id: CLUSTER_ID.into(),
        incarnation_id: Uuid::from_bytes([incarnation; 16]),
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: format!("host-{id}").into(),
            port: 9092,
            security_protocol: 0,
        }],
        rack: rack.map(Into::into),
        features: registered_features().map(feature).collect(),
        log_dirs: vec![Uuid::from_bytes([id as u8 | 0x80; 16])],
        ..Default::default()
    }
}

fn config(properties: &str, limits: Limits) -> Config {
    let (broker, warnings) = BrokerConfig::parse(properties).expect("a configuration");
    assert_eq!(warnings, []);
    Config {
        limits,
        ..Config::new(broker, CLUSTER_ID.into(), [3; 32])
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock"
)]
fn now() -> Now {
    Now {
        instant: Instant::now(),
        timestamp: Timestamp::from_millis(0),
    }
}
