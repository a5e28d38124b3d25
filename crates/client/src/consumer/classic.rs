//! What a member of a classic group says, and hears.

use std::sync::Arc;

use tidelog_protocol::messages::leave_group::LeaveGroupRequest;
use tidelog_types::{ErrorCode, Str, TopicPartition};

use super::Shared;
use super::membership::{Assignor, Effect, Input, Join, RequestId, messages};
use crate::ClientError;

/// Sends what the member wants to say, and takes the answer.
pub(super) async fn say(shared: Arc<Shared>, effect: Effect) {
    let (request, done) = match effect {
        Effect::Join { request, join } => (request, shared.join(request, join).await),
        Effect::Sync {
            request,
            generation_id,
            member_id,
            assignor,
            assignments,
        } => {
            let sync = shared.sync(request, generation_id, member_id, assignor, assignments);
            (request, sync.await)
        }
        Effect::Beat {
            request,
            generation_id,
            member_id,
        } => {
            let beat = shared.beat_in(request, generation_id, member_id);
            (request, beat.await)
        }
        Effect::Leave { request, member_id } => {
            (request, shared.say_farewell(request, member_id).await)
        }
        other => unreachable!("{other:?} is nothing to be said"),
    };
    let input = done.unwrap_or_else(|error| {
        tracing::debug!(%error, "the coordinator has not answered");
        shared.with_core(|core| core.failed(error));
        Input::Lost { request }
    });
    shared.with_core(|core| core.handle_member(input));
}

impl Shared {
    async fn join(&self, request: RequestId, join: Join) -> Result<Input, ClientError> {
        let message = messages::join(&self.config, &join)?;
        let connection = match self.coordinator_over(&self.joining).await {
            // A group that is denied is denied by whoever knows its coordinator.
            Err(ClientError::Refused { code, .. }) if !code.is_retriable() => {
                let answer = Err((code, join.member_id));
                return Ok(Input::Joined { request, answer });
            }
            connection => connection?,
        };
        // The coordinator waits for the other members.
        let within = self.client.config().request_timeout + self.config.poll_interval_max;
        let answer = connection.send_within(&message, within).await;
        let answer = self.heed(answer).await?;
        self.heed_code(answer.error_code).await;
        let answer = messages::joined(answer);
        Ok(Input::Joined { request, answer })
    }

    async fn sync(
        &self,
        request: RequestId,
        generation_id: i32,
        member_id: Str,
        assignor: Option<Assignor>,
        assignments: Vec<(Str, Vec<TopicPartition>)>,
    ) -> Result<Input, ClientError> {
        let config = &self.config;
        let message = messages::sync(config, generation_id, member_id, assignor, assignments)?;
        let connection = self.coordinator_over(&self.joining).await?;
        // The coordinator waits for the leader.
        let within = self.client.config().request_timeout + self.config.poll_interval_max;
        let answer = connection.send_within(&message, within).await;
        let answer = self.heed(answer).await?;
        self.heed_code(answer.error_code).await;
        let answer = messages::synced(&answer);
        Ok(Input::Synced { request, answer })
    }

    async fn beat_in(
        &self,
        request: RequestId,
        generation_id: i32,
        member_id: Str,
    ) -> Result<Input, ClientError> {
        let message = messages::beat(&self.config, generation_id, member_id);
        let answer = self.ask_coordinator(&message, i16::MAX).await?;
        self.heed_code(answer.error_code).await;
        let error_code = answer.error_code;
        Ok(Input::Acknowledged {
            request,
            error_code,
        })
    }

    async fn say_farewell(&self, request: RequestId, member_id: Str) -> Result<Input, ClientError> {
        let connection = self.coordinator().await?;
        let version = connection.version::<LeaveGroupRequest>(i16::MAX);
        let message = messages::leave(&self.config, member_id, version.unwrap_or(0));
        let answer = connection.send(&message).await?;
        let error_code = answer.error_code;
        Ok(Input::Acknowledged {
            request,
            error_code,
        })
    }

    /// Looks for the coordinator anew if an answer says that it is another one.
    pub(super) async fn heed_code(&self, code: ErrorCode) {
        let checked = ClientError::check(code, None, String::new);
        // The code itself is the member's matter.
        let _ = self.heed(checked).await;
    }
}
