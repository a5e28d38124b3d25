//! What a consumer makes of the answers it gets.

use std::collections::BTreeMap;

use tidelog_client::machines::{AnyMember, Input, messages};
use tidelog_coordinator::group::GroupResponse;
use tidelog_protocol::messages::offset_fetch::OffsetFetchResponseGroup;
use tidelog_types::{ErrorCode, NodeId, Offset, TopicId, TopicName};

use super::{Consumer, What};
use crate::io::Io;
use crate::message::{Message, Partition, Records, Response};

impl Consumer {
    pub(crate) fn message(&mut self, io: &mut Io<'_>, message: Message) {
        match message {
            Message::Closed { id } => self.failed(io, id),
            Message::Response { id, response } => {
                let running = self.running.as_mut();
                // Otherwise it was given up.
                if let Some(pending) = running.and_then(|running| running.pending.remove(&id)) {
                    self.answered(io, pending.what, id, response);
                }
            }
            Message::Request { .. } => {}
        }
    }

    pub(super) fn answered(&mut self, io: &mut Io<'_>, what: What, id: u64, response: Response) {
        match (what, response) {
            (What::Metadata, Response::Metadata(partitions)) => self.learn(io, partitions),
            (What::Fetch(index), Response::Records(records)) => {
                self.fetched(io, index, id, records);
            }
            (What::Member(request), Response::Group(response)) => {
                self.heed(&response);
                let input = match *response {
                    GroupResponse::ConsumerGroupHeartbeat(answer) => Input::Heartbeat {
                        request,
                        answer: messages::heard(answer),
                    },
                    GroupResponse::JoinGroup(answer) => Input::Joined {
                        request,
                        answer: messages::joined(answer),
                    },
                    GroupResponse::SyncGroup(answer) => Input::Synced {
                        request,
                        answer: messages::synced(&answer),
                    },
                    GroupResponse::Heartbeat(answer) => Input::Acknowledged {
                        request,
                        error_code: answer.error_code,
                    },
                    GroupResponse::LeaveGroup(answer) => Input::Acknowledged {
                        request,
                        error_code: answer.error_code,
                    },
                    _ => Input::Lost { request },
                };
                self.input(io, input);
            }
            (What::Committed(asked), Response::Group(response)) => {
                if let GroupResponse::OffsetFetch(answer) = *response {
                    self.positions(io, asked, &answer);
                }
            }
            (What::Commit(commits), Response::Group(response)) => {
                let GroupResponse::OffsetCommit(answer) = *response else {
                    return;
                };
                for topic in &answer.topics {
                    for done in &topic.partitions {
                        let commit = commits.get(&done.partition_index).copied();
                        self.committed(io, done.partition_index, commit, done.error_code);
                    }
                }
            }
            (what, _) => self.lost(io, what),
        }
    }

    pub(super) fn learn(
        &mut self,
        io: &mut Io<'_>,
        partitions: Vec<(TopicName, Partition, Option<NodeId>)>,
    ) {
        let Some(running) = &mut self.running else {
            return;
        };
        running.is_outdated = false;
        let known = partitions.into_iter();
        let known = known.map(|(topic, id, leader)| ((topic, id.1), (id, leader)));
        running.known = known.collect();
        let mut names: BTreeMap<TopicId, TopicName> = BTreeMap::new();
        for ((topic, _), ((id, _), _)) in &running.known {
            names.insert(*id, topic.clone());
        }
        // Who has just started may not know the topic yet, so that is told again and again.
        let counted = running.counts.iter().cloned();
        let counts: BTreeMap<TopicName, i32> = counted
            .map(|topic| {
                let of = running.known.keys().filter(|(name, _)| *name == topic);
                let count = of.count() as i32;
                (topic, count)
            })
            .collect();
        let is_classic = matches!(running.member, AnyMember::Classic(_));
        if running.coordinator().is_some() {
            for (_, what, version, request) in std::mem::take(&mut running.unsent) {
                self.tell(io, what, version, request);
            }
        }
        if !is_classic {
            self.input(io, Input::Named { names });
        } else if !counts.is_empty() {
            self.input(io, Input::Counted { counts });
        }
    }

    /// An answer may tell that the coordinator is elsewhere.
    pub(super) fn heed(&mut self, response: &GroupResponse) {
        let code = match response {
            GroupResponse::ConsumerGroupHeartbeat(answer) => answer.error_code,
            GroupResponse::JoinGroup(answer) => answer.error_code,
            GroupResponse::SyncGroup(answer) => answer.error_code,
            GroupResponse::Heartbeat(answer) => answer.error_code,
            GroupResponse::LeaveGroup(answer) => answer.error_code,
            _ => ErrorCode::NONE,
        };
        self.heed_code(code);
    }

    pub(super) const fn heed_code(&mut self, code: ErrorCode) {
        if let Some(running) = &mut self.running
            && code.is_err()
        {
            running.refused_with = Some(code);
            let is_elsewhere = matches!(
                code,
                ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE
            );
            running.is_outdated |= is_elsewhere;
        }
    }

    pub(super) fn positions(
        &mut self,
        io: &mut Io<'_>,
        asked: Vec<i32>,
        answer: &OffsetFetchResponseGroup,
    ) {
        self.heed_code(answer.error_code);
        let Some(running) = &mut self.running else {
            return;
        };
        for index in asked {
            if let Some(reading) = running.reads.get_mut(&index) {
                reading.is_asked = false;
            }
        }
        for topic in &answer.topics {
            for found in topic.partitions.iter().filter(|it| it.error_code.is_ok()) {
                let reading = running.reads.get_mut(&found.partition_index);
                let reading = reading.filter(|it| it.position.is_none() && !it.stopped);
                if let Some(reading) = reading {
                    let offset = found.committed_offset;
                    let has_offset = offset != Offset::NONE;
                    reading.committed = has_offset.then_some(offset);
                    reading.position = Some(if has_offset { offset } else { Offset::ZERO });
                    let (consumer, index) = (self.index, found.partition_index);
                    io.say(|| {
                        format!("consumer {consumer}: begins with {offset} in partition {index}")
                    });
                }
            }
        }
    }

    pub(super) fn committed(
        &mut self,
        io: &mut Io<'_>,
        index: i32,
        commit: Option<(Offset, u64)>,
        error_code: ErrorCode,
    ) {
        let Some((offset, number)) = commit else {
            return;
        };
        if error_code.is_err() {
            return self.heed_code(error_code);
        }
        let done = io.oracle.groups.commit_done(number);
        io.oracle.check(done);
        if let Some(running) = &mut self.running
            && let Some(reading) = running.reads.get_mut(&index)
        {
            reading.committed = Some(offset);
        }
    }

    pub(super) fn fetched(&mut self, io: &mut Io<'_>, index: i32, id: u64, records: Records) {
        let Some(running) = &mut self.running else {
            return;
        };
        if let Some(reading) = running.reads.get_mut(&index)
            && reading.fetch == Some(id)
        {
            reading.fetch = None;
        } else {
            return;
        }
        let key = (self.topic.clone(), index);
        let partition = running.known.get(&key).map(|(partition, _)| *partition);
        let reading = running.reads.get_mut(&index);
        let (Some(reading), Some(partition)) = (reading, partition) else {
            return;
        };
        let Some(position) = reading.position.filter(|_| !reading.stopped) else {
            return;
        };
        match records {
            Ok(batches) => {
                for batch in batches {
                    let next = batch.header().next_offset();
                    let from = position.max(batch.header().base_offset);
                    if next <= position {
                        continue;
                    }
                    io.oracle.delivered(partition, &batch);
                    let consumed = io.oracle.groups.consumes(index, from, next);
                    io.oracle.check(consumed);
                    reading.position = Some(next);
                }
            }
            Err(code) => {
                running.refused_with = Some(code);
                running.is_outdated = true;
            }
        }
    }
}
