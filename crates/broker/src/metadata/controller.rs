//! The controller, for as long as this node leads the quorum.

use tidelog_log::LogDirectory;
use tidelog_metadata::ApiError;
use tidelog_metadata::bootstrap::{
    KRAFT_VERSION, MetadataVersion, bootstrap_records, registered_features,
};
use tidelog_metadata::controller::{
    Controller, ControllerRequest, ControllerResponse, Effect, Input, Restored,
};
use tidelog_node::metadata::{batch_of, read_snapshot};
use tidelog_protocol::records::metadata::MetadataRecord;
use tidelog_replication::quorum::{self, Appended};
use tidelog_types::{ErrorCode, Offset};
use tokio::sync::oneshot;

use super::thread::{Fatal, MetadataThread};
use super::unserved;
use super::wire::Brought;

impl MetadataThread {
    pub(super) fn request(
        &mut self,
        request: ControllerRequest,
        reply: oneshot::Sender<ControllerResponse>,
    ) -> Result<(), Fatal> {
        let Some(controller) = &self.controller else {
            // Dropping the sender tells that there is no controller here.
            return Ok(());
        };
        if let ControllerRequest::UpdateFeatures(update) = &request
            && let Some(kraft_version) = controller.kraft_upgrade(update)
        {
            if let Err(reason) = self.quorum.check_upgrade(kraft_version) {
                let message =
                    format!("{KRAFT_VERSION} cannot be at level {kraft_version}: {reason}");
                let error = ApiError::new(ErrorCode::INVALID_UPDATE_VERSION, message);
                let _ = reply.send(request.refused(&error));
                return Ok(());
            }
            if !update.validate_only {
                self.drive(
                    quorum::Input::UpgradeKRaftVersion { kraft_version },
                    Brought::Nothing,
                )?;
            }
        }
        self.next_id += 1;
        let request_id = self.next_id;
        self.parked.insert(request_id, reply);
        self.controller(Input::Request {
            request_id,
            request,
        })
    }

    /// This node leads the quorum, and all that was before is applied: it is the controller. Of a cluster that is new it
    /// writes the first records.
    pub(super) fn lead(&mut self) -> Result<(), Fatal> {
        let restored = Restored {
            image: self.image.clone(),
            end_offset: self.quorum.log_end_offset(),
        };
        let mut config = self.controller_config.clone();
        config.controllers = self.quorum.voters().keys().map(|voter| voter.id).collect();
        self.controller = Some(Controller::new(self.clock.steady(), config, restored));
        let level = self.quorum.kraft_version();
        self.controller(Input::KRaftVersion { level })?;
        let leader_epoch = self.quorum.leader_epoch();
        tracing::info!(%leader_epoch, "this node is the active controller");
        if self.image.features().is_empty() {
            let records = first_records(&self.files)?;
            self.next_id += 1;
            self.controller(Input::Request {
                request_id: self.next_id,
                request: ControllerRequest::Bootstrap(records),
            })?;
        } else {
            unserved::warn_of(&self.image);
        }
        self.announce_controller();
        Ok(())
    }

    pub(super) fn controller(&mut self, input: Input) -> Result<(), Fatal> {
        let Some(controller) = &mut self.controller else {
            return Ok(());
        };
        let mut effects = Vec::new();
        controller.handle(self.clock.steady(), input, &mut effects);
        for effect in effects {
            if self.controller.is_none() {
                // It lost its place over the effect before.
                break;
            }
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
        let batch = batch_of(records, version, now)?;
        let end = self.append(&batch, self.quorum.leader_epoch())?;
        let appended = Appended {
            end,
            epochs: Vec::new(),
            control_records: Vec::new(),
        };
        self.drive(quorum::Input::Appended(appended), Brought::Nothing)
    }

    /// There is no controller here any more. Those who wait hear of it, and ask the next one: what they asked for may have
    /// been done, or not.
    pub(super) fn resign(&mut self) {
        self.controller = None;
        self.parked.clear();
        self.announce_controller();
    }
}

/// What `format` wrote for the first start, or else what a new cluster begins with. Kafka's format switches on features that
/// this version does not have; they stay switched on for when Kafka goes on. Those that nobody knows are left out.
fn first_records(files: &LogDirectory) -> Result<Vec<MetadataRecord>, String> {
    let content = files.read_bootstrap().map_err(|error| error.to_string())?;
    let Some(content) = content else {
        return Ok(bootstrap_records(MetadataVersion::LATEST));
    };
    let mut records = read_snapshot(content)
        .map_err(|error| error.to_string())?
        .records;
    records.retain(|record| match record {
        MetadataRecord::FeatureLevel(feature) => {
            let known = registered_features().any(|(name, levels)| {
                feature.name == *name && levels.contains(feature.feature_level)
            });
            if !known {
                tracing::warn!(feature = %feature.name, level = feature.feature_level,
                    "a feature of bootstrap.checkpoint is not known and stays off");
            }
            known
        }
        _ => true,
    });
    Ok(records)
}
