//! The broker of a node as a member of its cluster: it registers, tells that it is alive, and asks for other ISRs.

use std::collections::BTreeMap;

use tidelog_metadata::bootstrap::registered_features;
use tidelog_metadata::controller::{ControllerRequest, ControllerResponse};
use tidelog_protocol::messages::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, PartitionData, TopicData,
};
use tidelog_protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
use tidelog_protocol::messages::broker_registration::{
    BrokerRegistrationRequest, Feature, Listener,
};
use tidelog_replication::partition::{AlterPartition, AlteredPartition, Input};
use tidelog_types::{ErrorCode, Offset, Str, TopicId, Uuid};

use super::metadata::Brought;
use super::{Context, Process};
use crate::clock::{MS, SECOND, Time};
use crate::event::Timer;
use crate::io::Io;
use crate::message::{Partition, Request};
use crate::settings::CLUSTER_ID;

const RETRY: Time = 100 * MS;
const HEARTBEAT: Time = 500 * MS;
/// How long it may take until others lead what a broker leads that is to stop.
const DRAIN_MAX: Time = 5 * SECOND;

/// How far a broker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Registering,
    /// It has not read its own registration.
    CatchingUp {
        broker_epoch: i64,
    },
    Serving {
        broker_epoch: i64,
    },
}

/// How far a broker has come that is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    No,
    /// Others are to lead what it leads.
    Draining,
    /// The quorum is told.
    Leaving,
    Stopped,
}

impl Stage {
    const fn broker_epoch(self) -> i64 {
        match self {
            Self::Registering => -1,
            Self::CatchingUp { broker_epoch } | Self::Serving { broker_epoch } => broker_epoch,
        }
    }
}

impl Process {
    pub(super) const fn broker_epoch(&self) -> i64 {
        self.stage.broker_epoch()
    }

    pub(super) const fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Serving { .. })
    }

    pub(super) fn member_due(&mut self, io: &mut Io<'_>) {
        let Some(controller) = self.controller_place() else {
            return self.arm_in(io, Timer::Member, RETRY);
        };
        match self.stage {
            Stage::Registering | Stage::CatchingUp { .. } if self.stopping != Stopping::No => {
                self.leave(io);
            }
            Stage::Registering => {
                let request = ControllerRequest::BrokerRegistration(self.registration());
                self.ask(
                    io,
                    controller,
                    Request::Controller(request),
                    Context::Register,
                );
            }
            Stage::CatchingUp { .. } => self.arm_in(io, Timer::Member, RETRY),
            Stage::Serving { broker_epoch } => {
                let request = ControllerRequest::BrokerHeartbeat(BrokerHeartbeatRequest {
                    broker_id: self.id,
                    broker_epoch,
                    want_shut_down: self.stopping != Stopping::No,
                    current_metadata_offset: Offset::new(self.metadata_offset().value() - 1),
                    ..Default::default()
                });
                self.ask(
                    io,
                    controller,
                    Request::Controller(request),
                    Context::Heartbeat,
                );
            }
        }
    }

    /// Begins an orderly stop: others are to lead what this broker leads.
    pub(crate) fn shut_down(&mut self, io: &mut Io<'_>) {
        if self.stopping == Stopping::No {
            let id = self.id;
            io.say(|| format!("node {id}: is to stop"));
            self.stopping = Stopping::Draining;
            self.arm_in(io, Timer::Stop, DRAIN_MAX);
            self.arm_in(io, Timer::Member, MS);
        }
    }

    /// Others lead, or it takes too long: whoever follows in the quorum is told.
    fn leave(&mut self, io: &mut Io<'_>) {
        if self.stopping == Stopping::Draining {
            self.stopping = Stopping::Leaving;
            self.drive(
                io,
                tidelog_replication::quorum::Input::Shutdown,
                Brought::Nothing,
            );
            self.timers.remove(&Timer::Stop);
            self.arm_in(io, Timer::Stop, 100 * MS);
        }
    }

    pub(super) fn stop(&mut self, io: &mut Io<'_>) {
        match self.stopping {
            Stopping::Draining => self.leave(io),
            Stopping::Leaving => {
                self.stopping = Stopping::Stopped;
                self.close_partitions(io);
            }
            Stopping::No | Stopping::Stopped => {}
        }
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.stopping == Stopping::Stopped
    }

    fn registration(&self) -> BrokerRegistrationRequest {
        let feature =
            |(name, levels): (&'static str, tidelog_metadata::image::SupportedLevels)| Feature {
                name: Str::from_static(name),
                min_supported_version: levels.min,
                max_supported_version: levels.max,
            };
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&self.member_seed.to_le_bytes());
        BrokerRegistrationRequest {
            broker_id: self.id,
            cluster_id: Str::from_static(CLUSTER_ID),
            incarnation_id: Uuid::from_random(incarnation),
            listeners: vec![Listener {
                name: Str::from_static("PLAINTEXT"),
                host: Str::from(self.id.to_string()),
                port: 9092,
                security_protocol: 0,
            }],
            features: registered_features().map(feature).collect(),
            log_dirs: vec![self.directory_id],
            ..Default::default()
        }
    }

    /// What this node knows has changed; perhaps it has read its own registration now.
    pub(super) fn look_for_registration(&mut self, io: &mut Io<'_>) {
        if let Stage::CatchingUp { broker_epoch } = self.stage
            && self
                .image
                .broker(self.id)
                .is_some_and(|broker| broker.epoch == broker_epoch)
        {
            self.stage = Stage::Serving { broker_epoch };
            let id = self.id;
            io.say(|| format!("node {id}: serves as broker {broker_epoch}"));
            self.publish_everything(io);
            self.arm_in(io, Timer::Member, MS);
        }
    }

    /// The controller's answer, or none.
    pub(super) fn controller_answered(
        &mut self,
        io: &mut Io<'_>,
        context: Context,
        response: Option<ControllerResponse>,
    ) {
        match (context, response) {
            (Context::Register, Some(ControllerResponse::BrokerRegistration(Ok(broker_epoch)))) => {
                self.stage = Stage::CatchingUp { broker_epoch };
                self.look_for_registration(io);
                self.arm_in(io, Timer::Member, RETRY);
            }
            (Context::Register, answer) => {
                if let Some(ControllerResponse::BrokerRegistration(Err(error))) = answer
                    && error.code == ErrorCode::DUPLICATE_BROKER_REGISTRATION
                {
                    self.report_former_self(io);
                }
                self.arm_in(io, Timer::Member, RETRY);
            }
            (Context::Heartbeat, Some(ControllerResponse::BrokerHeartbeat(Ok(answer)))) => {
                let is_stopping = self.stopping != Stopping::No;
                if is_stopping && answer.should_shut_down {
                    return self.leave(io);
                }
                let is_urgent = is_stopping || answer.is_fenced;
                let wait = if is_urgent { RETRY } else { HEARTBEAT };
                self.arm_in(io, Timer::Member, wait);
            }
            (Context::Heartbeat, _) => self.arm_in(io, Timer::Member, RETRY),
            (Context::Changes(changes), answer) => {
                let answer = match answer {
                    Some(ControllerResponse::AlterPartition(answer)) => answer,
                    _ => AlterPartitionResponse {
                        error_code: ErrorCode::NOT_CONTROLLER,
                        ..Default::default()
                    },
                };
                self.changes_answered(io, changes, &answer);
            }
            (
                Context::Forget | Context::Quorum(_) | Context::Fetch(_) | Context::Offsets(..),
                _,
            ) => {}
        }
    }

    /// This process has the directory of the former one, which is therefore gone.
    fn report_former_self(&mut self, io: &mut Io<'_>) {
        let former = self.image.broker(self.id).map(|broker| broker.epoch);
        if let (Some(broker_epoch), Some(controller)) = (former, self.controller_place()) {
            let request = ControllerRequest::BrokerUnreachable {
                broker_id: self.id,
                broker_epoch,
            };
            self.ask(
                io,
                controller,
                Request::Controller(request),
                Context::Forget,
            );
        }
    }

    pub(super) fn want_changes(
        &mut self,
        io: &mut Io<'_>,
        partition: Partition,
        changes: Vec<AlterPartition>,
    ) {
        let changes = changes.into_iter().map(|change| (partition, change));
        self.changes.extend(changes);
        if !self.changes.is_empty() {
            self.arm_in(io, Timer::Changes, MS);
        }
    }

    /// One request at a time, with all that is wanted.
    pub(super) fn send_changes(&mut self, io: &mut Io<'_>) {
        if self.changes.is_empty() || self.changes_in_flight {
            return;
        }
        let Some(controller) = self.controller_place() else {
            return self.arm_in(io, Timer::Changes, RETRY);
        };
        let changes = std::mem::take(&mut self.changes);
        let mut topics: BTreeMap<TopicId, Vec<PartitionData>> = BTreeMap::new();
        for ((topic, index), change) in &changes {
            let members = change.new_isr.iter().map(|member| BrokerState {
                broker_id: member.id,
                broker_epoch: member.broker_epoch,
            });
            topics.entry(*topic).or_default().push(PartitionData {
                partition_index: *index,
                leader_epoch: change.leader_epoch,
                new_isr_with_epochs: members.collect(),
                partition_epoch: change.partition_epoch,
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(topic_id, partitions)| TopicData {
            topic_id,
            partitions,
            ..Default::default()
        });
        let request = ControllerRequest::AlterPartition(AlterPartitionRequest {
            broker_id: self.id,
            broker_epoch: self.broker_epoch(),
            topics: topics.collect(),
        });
        self.changes_in_flight = true;
        self.ask(
            io,
            controller,
            Request::Controller(request),
            Context::Changes(changes),
        );
    }

    fn changes_answered(
        &mut self,
        io: &mut Io<'_>,
        changes: Vec<(Partition, AlterPartition)>,
        answer: &AlterPartitionResponse,
    ) {
        self.changes_in_flight = false;
        let mut results = BTreeMap::new();
        for topic in &answer.topics {
            for result in &topic.partitions {
                results.insert((topic.topic_id, result.partition_index), result);
            }
        }
        for (partition, change) in changes {
            let result = match results.get(&partition) {
                _ if answer.error_code.is_err() => Err(answer.error_code),
                None => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
                Some(result) if result.error_code.is_err() => Err(result.error_code),
                Some(result) => Ok(AlteredPartition {
                    leader_epoch: result.leader_epoch,
                    partition_epoch: result.partition_epoch,
                    isr: result.isr.clone(),
                    recovering: result.leader_recovery_state != 0,
                }),
            };
            let input = Input::AlterPartitionAnswered {
                id: change.id,
                answer: result,
            };
            self.partition_input(io, partition, input);
        }
        self.arm_in(io, Timer::Changes, MS);
    }
}
