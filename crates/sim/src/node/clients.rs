//! What producers, consumers and administrators ask of a node's partitions.

use tidelog_node::partition::Acks;
use tidelog_record::Batch;
use tidelog_types::{ErrorCode, LeaderEpoch, Offset};

use super::{Process, batches};
use crate::io::Io;
use crate::message::{Partition, Records, Response};
use crate::network::Place;
use crate::planted::Bug;

/// How much a consumer gets at a time.
const FETCH_BYTES: usize = 16 * 1024;

/// An append of a producer that waits for its answer.
pub(super) struct Produced {
    asker: (Place, u64),
    partition: Partition,
    acks: Acks,
    base_offset: Offset,
}

impl Process {
    pub(super) fn produce(
        &mut self,
        io: &mut Io<'_>,
        asker: (Place, u64),
        partition: Partition,
        batch: &Batch,
        acks: Acks,
    ) {
        let waiter = self.id();
        let waited_for = match acks {
            Acks::All if io.has(Bug::AcknowledgesTooEarly) => Acks::None,
            Acks::Leader if io.has(Bug::AnswersBeforeItIsWritten) => Acks::None,
            acks => acks,
        };
        let forgetful;
        let batch = match io.has(Bug::ForgetsSequences) {
            true => {
                forgetful = without_sequence(batch);
                &forgetful
            }
            false => batch,
        };
        let accepted = self.with(io, partition, |core, now, after| {
            core.append(now, batch, LeaderEpoch::NONE, waited_for, waiter, after)
        });
        match accepted {
            None => {
                let refused = Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                self.answer(io, asker, Response::Produce(refused));
            }
            Some(Err(refused)) => {
                let id = self.id;
                io.say(|| {
                    let header = batch.header();
                    let sequence = header.base_sequence;
                    format!(
                        "node {id}: partition {} refuses the batch from {sequence} on: {refused}",
                        partition.1
                    )
                });
                self.answer(io, asker, Response::Produce(Err(refused.error_code())));
            }
            Some(Ok(accepted)) => {
                let produced = Produced {
                    asker,
                    partition,
                    acks,
                    base_offset: accepted.appended.base_offset,
                };
                if accepted.done {
                    self.produced(io, &produced, Ok(()));
                } else {
                    self.producers.insert(waiter, produced);
                }
                if accepted.flush {
                    self.flush(io, partition);
                }
            }
        }
    }

    /// What became of an append.
    pub(super) fn acknowledge(
        &mut self,
        io: &mut Io<'_>,
        waiter: u64,
        result: Result<(), ErrorCode>,
    ) {
        if self.group_appended(waiter, result) {
            return;
        }
        if let Some(produced) = self.producers.remove(&waiter) {
            self.produced(io, &produced, result);
        }
    }

    fn produced(&self, io: &mut Io<'_>, produced: &Produced, result: Result<(), ErrorCode>) {
        let base_offset = produced.base_offset;
        let local = self.partitions.get(&produced.partition);
        if let (Acks::Leader, Ok(()), Some(local)) = (produced.acks, result, local) {
            let flushed = local.core.log().recovery_point();
            if flushed <= base_offset {
                io.oracle.wrong(format!(
                    "node {} says that {base_offset} of {} is written, and has flushed what comes before {flushed}",
                    self.id, local.name
                ));
            }
        }
        let response = Response::Produce(result.map(|()| base_offset));
        self.answer(io, produced.asker, response);
    }

    /// Deletes what is committed of a partition. Who has asked looks for itself what came of it.
    pub(super) fn delete_records(&mut self, io: &mut Io<'_>, partition: Partition) {
        let deleted = self.with(io, partition, |core, now, after| {
            core.delete_records(now, Offset::NONE, after)
        });
        if let Some(Ok(start)) = deleted {
            let id = self.id;
            io.say(|| format!("node {id}: partition {} begins with {start}", partition.1));
            self.checkpoint(partition);
        }
    }

    /// What a consumer gets: what is committed, whole batches.
    pub(super) fn records(&self, partition: Partition, from: Offset) -> Records {
        let local = self.partitions.get(&partition);
        let local = local.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let (marks, leadership) = local.core.readers_see();
        leadership.check_leader_epoch(LeaderEpoch::NONE)?;
        if from < marks.log_start_offset || from > marks.log_end_offset {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if from >= marks.high_watermark {
            return Ok(Vec::new());
        }
        let reader = local.core.log().reader();
        let slice = reader.read(from, FETCH_BYTES, marks.high_watermark, true);
        let slice = slice.map_err(|error| error.error_code())?;
        let bytes = slice.data.read_all();
        Ok(batches(bytes.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?))
    }

    /// What a client is told of who leads.
    pub(super) fn leaders(&self) -> Response {
        let topics = self.image.topics();
        let partitions = topics.flat_map(|topic| {
            topic.partitions.iter().map(move |(index, partition)| {
                let leader = Some(partition.leader).filter(|_| partition.has_leader());
                (topic.name.clone(), (topic.id, *index), leader)
            })
        });
        let mut partitions: Vec<_> = partitions.collect();
        partitions.sort_by(|a, b| (&*a.0, a.1).cmp(&(&*b.0, b.1)));
        Response::Metadata(partitions)
    }
}

/// The same records from a producer of which nobody remembers anything.
fn without_sequence(batch: &Batch) -> Batch {
    let mut builder = tidelog_record::BatchBuilder::new(tidelog_record::Compression::NONE);
    for record in batch.records().into_iter().flatten().flatten() {
        builder.push(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &[],
        );
    }
    builder.build().expect("the records were in a batch")
}
