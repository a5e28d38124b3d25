//! The thread that owns quorum and controller.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use tidelog_log::LogDirectory;
use tidelog_metadata::Delta;
use tidelog_metadata::bootstrap::record_version;
use tidelog_metadata::controller::{
    Config as ControllerConfig, Controller, ControllerRequest, ControllerResponse, Effect, Input,
    Restored,
};
use tidelog_metadata::image::Image;
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_record::{Batch, BatchBuilder, Codec};
use tidelog_replication::quorum::{self, Appended, EpochStart, Quorum, QuorumState};
use tidelog_types::{LeaderEpoch, Offset};
use tokio::sync::oneshot;

use super::control::{control_records, leader_change, voters_batch};
use super::log::MetadataLog;
use super::publisher::Publisher;
use super::{Command, METADATA_FOLDER};
use crate::clock::Clock;

/// What the thread starts with.
pub(crate) struct Setup {
    pub(super) clock: Clock,
    pub(super) log: Arc<MetadataLog>,
    pub(super) directory: Arc<LogDirectory>,
    pub(super) quorum: Quorum,
    pub(super) controller: ControllerConfig,
    /// The metadata as the log has it, already applied up to `applied`.
    pub(super) image: Image,
    pub(super) applied: Offset,
    pub(super) commands: Receiver<Command>,
    /// Told once when this node leads.
    pub(super) leading: oneshot::Sender<()>,
}

/// The state of the thread.
pub(super) struct MetadataThread {
    clock: Clock,
    log: Arc<MetadataLog>,
    directory: Arc<LogDirectory>,
    quorum: Quorum,
    controller_config: ControllerConfig,
    controller: Option<Controller>,
    publisher: Option<Publisher>,
    image: Image,
    /// Everything below it is in the image.
    applied: Offset,
    parked: HashMap<u64, oneshot::Sender<ControllerResponse>>,
    request_id: u64,
    leading: Option<oneshot::Sender<()>>,
}

/// Why the thread cannot go on.
type Fatal = String;

impl MetadataThread {
    pub(super) fn new(setup: Setup) -> (Self, Receiver<Command>) {
        let thread = Self {
            clock: setup.clock,
            log: setup.log,
            directory: setup.directory,
            quorum: setup.quorum,
            controller_config: setup.controller,
            controller: None,
            publisher: None,
            image: setup.image,
            applied: setup.applied,
            parked: HashMap::new(),
            request_id: 0,
            leading: Some(setup.leading),
        };
        (thread, setup.commands)
    }

    /// Serves commands and deadlines until it is told to stop.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match self.deadline() {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    commands.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                }
            };
            let done = match command {
                Ok(Command::Request(request, reply)) => self.request(*request, reply),
                Ok(Command::Follow(publisher, done)) => {
                    self.follow(*publisher);
                    // Whoever asked may have given up.
                    let _ = done.send(());
                    Ok(())
                }
                Ok(Command::Flushed(Ok(end))) => self.quorum(quorum::Input::Flushed { end }),
                Ok(Command::Flushed(Err(error))) => Err(error),
                Err(RecvTimeoutError::Timeout) => self.timeout(),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = done {
                tracing::error!(%error, "the metadata log failed; this node takes no more changes of the cluster");
                self.resign();
                break;
            }
        }
        self.shut_down();
    }

    fn deadline(&self) -> Option<Instant> {
        let controller = self.controller.as_ref().and_then(Controller::deadline);
        self.quorum.deadline().into_iter().chain(controller).min()
    }

    fn timeout(&mut self) -> Result<(), Fatal> {
        let now = Instant::now();
        if self
            .quorum
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.quorum(quorum::Input::Timeout)?;
        }
        let deadline = self.controller.as_ref().and_then(Controller::deadline);
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.controller(Input::Timeout)?;
        }
        Ok(())
    }

    fn request(
        &mut self,
        request: ControllerRequest,
        reply: oneshot::Sender<ControllerResponse>,
    ) -> Result<(), Fatal> {
        if self.controller.is_none() {
            // Dropping the sender tells that there is no controller here.
            return Ok(());
        }
        self.request_id += 1;
        let request_id = self.request_id;
        self.parked.insert(request_id, reply);
        self.controller(Input::Request {
            request_id,
            request,
        })
    }

    /// From now on what is committed is published. All that is there already is published at once.
    fn follow(&mut self, publisher: Publisher) {
        publisher.publish(&self.image, &everything(&self.image), self.applied);
        self.publisher = Some(publisher);
    }

    /// Hands inputs to the quorum until it has no more to say. What became of the log comes before anything else.
    fn quorum(&mut self, input: quorum::Input) -> Result<(), Fatal> {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.quorum.handle(self.clock.now(), input, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    quorum::Effect::StoreQuorumState(state) => {
                        self.store(state)?;
                        inputs.push_back(quorum::Input::QuorumStateStored(state));
                    }
                    quorum::Effect::AppendLeaderChange(change) => {
                        let batch = leader_change(&change, self.now())?;
                        inputs.push_front(self.append_control(&batch, change.leader_epoch)?);
                    }
                    quorum::Effect::AppendVoters {
                        leader_epoch,
                        voters,
                    } => {
                        let batch = voters_batch(&voters, self.now())?;
                        inputs.push_front(self.append_control(&batch, leader_epoch)?);
                    }
                    quorum::Effect::PublishHighWatermark(offset) => self.committed(offset)?,
                    quorum::Effect::Lead { .. } => self.lead()?,
                    quorum::Effect::StopLeading { .. } => self.resign(),
                    quorum::Effect::AnnounceLeader(_) => {}
                    quorum::Effect::Report(anomaly) => {
                        tracing::warn!(?anomaly, "something is wrong with the metadata quorum");
                    }
                    // There is nobody to talk to, and nobody to fetch from.
                    other => return Err(format!("a quorum of one voter wants {other:?}")),
                }
            }
        }
        Ok(())
    }

    /// Appends a control batch; gives what the quorum is to hear of it.
    fn append_control(
        &self,
        batch: &Batch,
        leader_epoch: LeaderEpoch,
    ) -> Result<quorum::Input, Fatal> {
        let start_offset = self.quorum.log_end_offset();
        let end = self.append(batch, leader_epoch)?;
        // A built batch counts its records from 0.
        let records = control_records(batch)?.into_iter();
        let records = records.map(|record| record.based_at(start_offset));
        Ok(quorum::Input::Appended(Appended {
            end,
            epochs: vec![EpochStart {
                leader_epoch,
                start_offset,
            }],
            control_records: records.collect(),
        }))
    }

    fn now(&self) -> tidelog_types::Timestamp {
        self.clock.now().timestamp
    }

    fn store(&self, state: QuorumState) -> Result<(), Fatal> {
        let voted = state.voted;
        let state = tidelog_log::QuorumState {
            leader_id: state.leader_id,
            leader_epoch: state.leader_epoch.value(),
            voted_id: voted.map(|voter| voter.id),
            voted_directory_id: voted.map_or_else(Default::default, |voter| voter.directory_id),
        };
        self.directory
            .write_quorum_state(METADATA_FOLDER, &state)
            .map_err(|error| error.to_string())
    }

    /// Appends a batch and asks for its flush; gives the end of the log.
    fn append(&self, batch: &Batch, leader_epoch: LeaderEpoch) -> Result<Offset, Fatal> {
        let now = self.now();
        let appended = self
            .log
            .with(|log| log.append_as_leader(batch, leader_epoch, now));
        let end = appended.map_err(|error| error.to_string())?.end.offset;
        self.log.request_flush();
        Ok(end)
    }

    /// Applies what has been committed since the last time, batch by batch, and publishes it.
    fn committed(&mut self, offset: Offset) -> Result<(), Fatal> {
        let mut delta = Delta::default();
        let reader = self.log.with(|log| log.reader());
        for batch in reader.batches(self.applied, offset) {
            let batch = batch.map_err(|error| error.to_string())?;
            apply(&mut self.image, &batch, &mut delta)?;
        }
        self.applied = self.applied.max(offset);
        if let Some(publisher) = &self.publisher
            && !delta.is_empty()
        {
            publisher.publish(&self.image, &delta, self.applied);
        }
        if self.controller.is_some() {
            self.controller(Input::Committed { offset })?;
        }
        Ok(())
    }

    /// This node leads the quorum, and all that was before is applied: it is the controller.
    fn lead(&mut self) -> Result<(), Fatal> {
        let restored = Restored {
            image: self.image.clone(),
            end_offset: self.quorum.log_end_offset(),
        };
        let config = self.controller_config.clone();
        let controller = Controller::new(self.clock.now(), config, restored);
        self.controller = Some(controller);
        if let Some(leading) = self.leading.take() {
            // The starting broker may have given up.
            let _ = leading.send(());
        }
        Ok(())
    }

    fn controller(&mut self, input: Input) -> Result<(), Fatal> {
        let Some(controller) = &mut self.controller else {
            return Ok(());
        };
        let mut effects = Vec::new();
        controller.handle(self.clock.now(), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append {
                    base_offset,
                    records,
                } => self.append_records(base_offset, &records)?,
                Effect::Reply {
                    request_id,
                    response,
                } => {
                    // A client that has gone does not hear the answer.
                    let parked = self.parked.remove(&request_id);
                    let _ = parked.map(|reply| reply.send(response));
                }
                other => return Err(format!("the controller wants what is not known: {other:?}")),
            }
        }
        Ok(())
    }

    fn append_records(
        &mut self,
        base_offset: Offset,
        records: &[MetadataRecord],
    ) -> Result<(), Fatal> {
        let end = self.quorum.log_end_offset();
        if base_offset != end {
            return Err(format!(
                "a batch was to begin at {base_offset}, but the log ends at {end}"
            ));
        }
        let now = self.now();
        // What the records are written for, which the committed metadata may not have reached yet.
        let controller = self.controller.as_ref().map(Controller::image);
        let version = controller.unwrap_or(&self.image).metadata_version();
        let mut batch = BatchBuilder::new(Codec::None.into());
        for record in records {
            let value = record.encode(record_version(record, version));
            let value = value.map_err(|error| error.to_string())?;
            batch.push(now, None, Some(&value), &[]);
        }
        let batch = batch.build().map_err(|error| error.to_string())?;
        let end = self.append(&batch, self.quorum.leader_epoch())?;
        self.quorum(quorum::Input::Appended(Appended {
            end,
            epochs: Vec::new(),
            control_records: Vec::new(),
        }))
    }

    /// Refuses everything that waits.
    fn resign(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            let mut effects = Vec::new();
            controller.handle(self.clock.now(), Input::Resign, &mut effects);
            for effect in effects {
                if let Effect::Reply {
                    request_id,
                    response,
                } = effect
                {
                    let parked = self.parked.remove(&request_id);
                    let _ = parked.map(|reply| reply.send(response));
                }
            }
        }
        self.parked.clear();
    }

    fn shut_down(mut self) {
        self.resign();
        let _ = self.quorum(quorum::Input::Shutdown);
        if let Err(error) = self.log.with(|log| log.close()) {
            tracing::warn!(%error, "the metadata log was not closed in order");
        }
    }
}

/// Applies the records of a batch of the metadata log.
pub(super) fn apply(image: &mut Image, batch: &Batch, delta: &mut Delta) -> Result<(), Fatal> {
    if batch.header().attributes.is_control() {
        return Ok(());
    }
    for record in batch.records().map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        let value = record.value.unwrap_or_default();
        let at = |error: &dyn std::fmt::Display| format!("record {}: {error}", record.offset);
        let record = MetadataRecord::decode(&value).map_err(|error| at(&error))?;
        image.apply_to(&record, delta).map_err(|error| at(&error))?;
    }
    Ok(())
}

/// What a broker that knows nothing yet must hear of an image.
fn everything(image: &Image) -> Delta {
    let mut delta = Delta::default();
    for topic in image.topics() {
        delta.topics_created.insert(topic.id);
        delta
            .partitions
            .insert(topic.id, topic.partitions.keys().copied().collect());
    }
    delta
        .configs
        .extend(image.configured().map(|(resource, _)| resource));
    delta
        .brokers
        .extend(image.brokers().map(|broker| broker.id));
    let controllers = image
        .controllers()
        .map(|controller| controller.controller_id);
    delta.controllers.extend(controllers);
    delta.features.extend(image.features().keys().cloned());
    delta
}
