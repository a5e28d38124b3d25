//! DeleteTopics.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use tidelog_protocol::records::metadata::{MetadataRecord, RemoveTopicRecord};
use tidelog_types::{ErrorCode, TopicId, TopicName, Uuid};

use super::{Controller, ControllerRequest, ControllerResponse, Decision};
use crate::ApiError;

/// How a request names a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Name(TopicName),
    Id(TopicId),
    Both(TopicName, TopicId),
    Neither,
}

impl Controller {
    pub(super) fn delete_topics(
        &self,
        api_version: i16,
        request: &DeleteTopicsRequest,
    ) -> Decision {
        if !self.broker.delete_topic_enable() {
            // KIP-322: older clients do not know the code.
            let error = match api_version {
                ..3 => ApiError::new(
                    ErrorCode::INVALID_REQUEST,
                    "deleting topics is switched off",
                ),
                _ => ErrorCode::TOPIC_DELETION_DISABLED.into(),
            };
            let request = ControllerRequest::DeleteTopics {
                api_version,
                request: request.clone(),
            };
            return Decision::atomic(Vec::new(), request.refused(&error));
        }
        let names = request.topic_names.iter().cloned().map(Named::Name);
        let states = request.topics.iter().map(|topic| match &topic.name {
            None if topic.topic_id.is_zero() => Named::Neither,
            None => Named::Id(topic.topic_id),
            Some(name) if topic.topic_id.is_zero() => Named::Name(name.clone()),
            Some(name) => Named::Both(name.clone(), topic.topic_id),
        });
        let wanted: Vec<Named> = names.chain(states).collect();
        let mut counts: BTreeMap<Named, usize> = BTreeMap::new();
        for named in &wanted {
            *counts.entry(named.clone()).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut responses = Vec::new();
        let mut answered = BTreeSet::new();
        for named in wanted {
            // What is named twice is answered once.
            let single = matches!(named, Named::Name(_) | Named::Id(_));
            if single && !answered.insert(named.clone()) {
                continue;
            }
            let (name, topic_id, found) = self.find(&named, &counts);
            let Some(found) = found else { continue };
            let mut result = DeletableTopicResult {
                name,
                topic_id,
                ..Default::default()
            };
            match found {
                Ok(()) => records.push(MetadataRecord::from(RemoveTopicRecord { topic_id })),
                Err(error) => {
                    result.error_code = error.code;
                    result.error_message = error.message;
                }
            }
            responses.push(result);
        }
        let response = DeleteTopicsResponse {
            throttle_time_ms: 0,
            responses,
        };
        Decision::atomic(records, ControllerResponse::DeleteTopics(response))
    }

    /// The name and the id of a topic, as far as the answer tells them, and whether it may be deleted; `None` if another
    /// entry of the request answers for it.
    fn find(
        &self,
        named: &Named,
        counts: &BTreeMap<Named, usize>,
    ) -> (Option<TopicName>, TopicId, Option<Result<(), ApiError>>) {
        let invalid = |message: &str| Some(Err(ApiError::new(ErrorCode::INVALID_REQUEST, message)));
        let repeated = counts.get(named).is_some_and(|count| *count > 1);
        let is_named = |name: &TopicName| counts.get(&Named::Name(name.clone())) == Some(&1);
        match named {
            Named::Neither => (
                None,
                Uuid::ZERO,
                invalid("neither name nor id of the topic is given"),
            ),
            Named::Both(name, id) => (
                Some(name.clone()),
                *id,
                invalid("name and id of the topic are given, only one may be"),
            ),
            Named::Name(name) if repeated => (
                Some(name.clone()),
                Uuid::ZERO,
                invalid("the request names the topic more than once"),
            ),
            Named::Id(id) if repeated => (
                None,
                *id,
                invalid("the request names the topic more than once"),
            ),
            Named::Name(name) => match self.image.topic_id(name) {
                None => {
                    let error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into();
                    (Some(name.clone()), Uuid::ZERO, Some(Err(error)))
                }
                Some(id) if counts.contains_key(&Named::Id(id)) => (
                    Some(name.clone()),
                    id,
                    invalid("the request names the topic by its id, too"),
                ),
                Some(id) => (Some(name.clone()), id, Some(Ok(()))),
            },
            Named::Id(id) => match self.image.topic_by_id(*id) {
                None => (None, *id, Some(Err(ErrorCode::UNKNOWN_TOPIC_ID.into()))),
                Some(topic) if is_named(&topic.name) => (None, *id, None),
                Some(topic) => (Some(topic.name.clone()), *id, Some(Ok(()))),
            },
        }
    }
}
