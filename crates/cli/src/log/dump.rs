//! `tidelog log dump`.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tidelog_log::inspect::{Content, FileKind, InspectError, StoredBatch, StoredBatches, read};
use tidelog_log::{FsDir, PartitionFolder};
use tidelog_record::{AnyBatch, AnyHeader, Record, TimestampType};
use tidelog_types::Timestamp;

use super::decode::{self, Decoder, plain};
use super::print::{Printer, text};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Files of a log directory, or folders, which stand for all files in them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Show the records in the batches too.
    #[arg(long)]
    records: bool,
    /// What the records are.
    #[arg(long, value_enum, default_value_t = Decoder::Auto, requires = "records")]
    decoder: Decoder,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// A dump in progress.
struct Dump {
    printer: Printer,
    records: bool,
    decoder: Decoder,
    /// Whether nothing was damaged so far.
    sound: bool,
}

/// Answers whether nothing is damaged.
pub(super) fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let mut dump = Dump {
        printer: Printer::stdout(arguments.json),
        records: arguments.records,
        decoder: arguments.decoder,
        sound: true,
    };
    for path in &arguments.files {
        if path.is_dir() {
            for file in known_files(path)? {
                dump.file(&file)?;
            }
        } else {
            dump.file(path)?;
        }
    }
    let sound = dump.sound;
    dump.printer.finish()?;
    Ok(sound)
}

/// The files in a folder that belong to a log directory, by name.
fn known_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error| format!("cannot list {}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in folder.read_dir().map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if path.is_file() && name.and_then(FileKind::of).is_some() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Dump {
    fn file(&mut self, path: &Path) -> Result<(), Box<dyn Error>> {
        let name = Path::new(path.file_name().unwrap_or_default());
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        let content = match read(&FsDir::new(parent), name) {
            Ok(content) => content,
            Err(InspectError::Damaged { reason, .. }) => {
                self.head(path, "unknown")?;
                return self.damage(path, None, &reason);
            }
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        let decoder = self.decoder(path);
        self.content(path, content, decoder)
    }

    /// What the records of a file are.
    fn decoder(&self, path: &Path) -> Decoder {
        if self.decoder != Decoder::Auto {
            return self.decoder;
        }
        let name = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_owned());
        let kind = name(Some(path)).and_then(|name| FileKind::of(&name));
        if let Some(FileKind::MetadataSnapshot(_) | FileKind::Bootstrap) = kind {
            return Decoder::Metadata;
        }
        let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = name(absolute.parent()).and_then(|name| PartitionFolder::parse(&name));
        folder.map_or(Decoder::Raw, |folder| {
            Decoder::of_topic(&folder.partition.topic)
        })
    }

    fn content(
        &mut self,
        path: &Path,
        content: Content,
        decoder: Decoder,
    ) -> Result<(), Box<dyn Error>> {
        match content {
            Content::Batches(batches) => self.batches(path, batches, decoder),
            Content::OffsetIndex(index) => {
                let entries = index.entries.iter().map(|entry| {
                    json!({ "offset": entry.last_offset.value(), "position": entry.position })
                });
                let rest = (index.unused_entries, index.stray_bytes);
                self.index(path, "offset index", entries.collect(), rest)
            }
            Content::TimeIndex(index) => {
                let entries = index.entries.iter().map(|entry| {
                    json!({
                        "timestamp": entry.timestamp.as_millis(),
                        "offset": entry.last_offset.value(),
                    })
                });
                let rest = (index.unused_entries, index.stray_bytes);
                self.index(path, "time index", entries.collect(), rest)
            }
            Content::TransactionIndex(index) => {
                let entries = index.entries.iter().map(|entry| {
                    json!({
                        "producerId": entry.producer_id.value(),
                        "firstOffset": entry.first_offset.value(),
                        "lastOffset": entry.last_offset.value(),
                        "lastStableOffset": entry.last_stable_offset.value(),
                    })
                });
                let rest = (index.unused_entries, index.stray_bytes);
                self.index(path, "transaction index", entries.collect(), rest)
            }
            other => {
                let (kind, lines) = lines_of(other);
                self.head(path, kind)?;
                for line in lines {
                    self.object(path, line)?;
                }
                Ok(())
            }
        }
    }

    fn index(
        &mut self,
        path: &Path,
        kind: &str,
        entries: Vec<Value>,
        (unused_entries, stray_bytes): (usize, usize),
    ) -> Result<(), Box<dyn Error>> {
        self.head(path, kind)?;
        for entry in entries {
            self.object(path, entry)?;
        }
        if unused_entries > 0 {
            self.object(path, json!({ "unusedEntries": unused_entries }))?;
        }
        match stray_bytes {
            0 => Ok(()),
            n => self.damage(path, None, &format!("it ends with {n} bytes of an entry")),
        }
    }

    fn batches(
        &mut self,
        path: &Path,
        mut batches: StoredBatches,
        decoder: Decoder,
    ) -> Result<(), Box<dyn Error>> {
        self.head(path, "batches")?;
        while let Some(stored) = batches.next() {
            match stored {
                Ok(stored) => self.batch(path, &stored, decoder)?,
                Err(InspectError::Damaged {
                    position, reason, ..
                }) => {
                    let unused = batches.len() - batches.position();
                    if batches.rest_is_zero()? {
                        self.object(path, json!({ "position": position, "unusedBytes": unused }))?;
                    } else {
                        self.damage(path, position, &reason)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        path: &Path,
        stored: &StoredBatch,
        decoder: Decoder,
    ) -> Result<(), Box<dyn Error>> {
        let mut line = batch_fields(stored);
        self.sound &= stored.checksum.is_ok();
        let is_control =
            matches!(&stored.batch, AnyBatch::V2(batch) if batch.header().attributes.is_control());
        let mut lines = Vec::new();
        let mut damage = None;
        if self.records && stored.checksum.is_ok() {
            for record in stored.batch.records()? {
                match record {
                    Ok(record) => lines.push(record_fields(&record, is_control, decoder)),
                    Err(error) => damage = Some(error.to_string()),
                }
            }
        }
        if self.printer.is_json() && self.records {
            line["records"] = Value::Array(std::mem::take(&mut lines));
        }
        self.object(path, line)?;
        for line in lines {
            self.printer.line(&line, || format!("| {}", text(&line)))?;
        }
        match damage {
            Some(reason) => self.damage(path, Some(stored.position), &reason),
            None => Ok(()),
        }
    }

    /// Says which file comes now; in JSON every line says it.
    fn head(&mut self, path: &Path, kind: &str) -> Result<(), Box<dyn Error>> {
        if !self.printer.is_json() {
            let head = json!({});
            self.printer
                .line(&head, || format!("{} ({kind})", path.display()))?;
        }
        Ok(())
    }

    fn object(&mut self, path: &Path, line: Value) -> Result<(), Box<dyn Error>> {
        if !self.printer.is_json() {
            return Ok(self.printer.object(&line)?);
        }
        let mut object = json!({ "file": path.display().to_string() });
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), line) {
            object.extend(fields);
        }
        Ok(self.printer.object(&object)?)
    }

    fn damage(
        &mut self,
        path: &Path,
        position: Option<u64>,
        reason: &str,
    ) -> Result<(), Box<dyn Error>> {
        self.sound = false;
        self.object(path, json!({ "position": position, "damage": reason }))
    }
}

/// What a small file is called, and its lines.
fn lines_of(content: Content) -> (&'static str, Vec<Value>) {
    match content {
        Content::Producers(producers) => {
            let lines = producers.iter().map(|(id, state)| {
                let last = state.batches.back();
                json!({
                    "producerId": id.value(),
                    "producerEpoch": state.producer_epoch.value(),
                    "coordinatorEpoch": state.coordinator_epoch,
                    "lastTimestamp": state.last_timestamp.as_millis(),
                    "currentTxnFirstOffset": state.current_txn_first_offset.map(|o| o.value()),
                    "firstSequence": last.map(|batch| batch.first_sequence()),
                    "lastSequence": last.map(|batch| batch.last_sequence),
                    "lastOffset": last.map(|batch| batch.last_offset.value()),
                    "offsetDelta": last.map(|batch| batch.offset_delta),
                })
            });
            ("producer snapshot", lines.collect())
        }
        Content::LeaderEpochs(epochs) => {
            let lines = epochs.iter().map(|entry| {
                json!({ "epoch": entry.epoch.value(), "startOffset": entry.start_offset.value() })
            });
            ("leader epochs", lines.collect())
        }
        Content::PartitionMetadata(id) => (
            "partition metadata",
            vec![json!({ "topicId": id.to_string() })],
        ),
        Content::Offsets(offsets) => {
            let lines = offsets.iter().map(|(partition, offset)| {
                json!({
                    "topic": partition.topic.as_str(),
                    "partition": partition.partition,
                    "offset": offset.value(),
                })
            });
            ("offset checkpoint", lines.collect())
        }
        Content::MetaProperties(properties) => (
            "meta properties",
            vec![json!({
                "clusterId": properties.cluster_id,
                "nodeId": properties.node_id.value(),
                "directoryId": properties.directory_id.map(|id| id.to_string()),
            })],
        ),
        Content::QuorumState(state) => (
            "quorum state",
            vec![json!({
                "leaderId": state.leader_id.map(|id| id.value()),
                "leaderEpoch": state.leader_epoch,
                "votedId": state.voted_id.map(|id| id.value()),
                "votedDirectoryId": state.voted_directory_id.to_string(),
            })],
        ),
        Content::CleanShutdown { broker_epoch } => (
            "mark of a clean shutdown",
            vec![json!({ "brokerEpoch": broker_epoch })],
        ),
        _ => ("unknown", Vec::new()),
    }
}

fn batch_fields(stored: &StoredBatch) -> Value {
    let header = stored.batch.header();
    let codec = match &header {
        AnyHeader::V2(header) => header.attributes.codec(),
        AnyHeader::Legacy(header) => header.codec(),
    };
    let mut fields = json!({
        "baseOffset": header.base_offset().map(|offset| offset.value()),
        "lastOffset": header.last_offset().value(),
        "position": stored.position,
        "size": header.size(),
        "magic": header.magic(),
        "compression": codec.map_or_else(|error| error.to_string(), |codec| codec.to_string()),
        "timestampType": header.timestamp_type().map(timestamp_type),
        "maxTimestamp": header.max_timestamp().as_millis(),
    });
    if let AnyHeader::V2(header) = header {
        fields["count"] = header.records_count.into();
        fields["baseTimestamp"] = header.base_timestamp.as_millis().into();
        fields["partitionLeaderEpoch"] = header.partition_leader_epoch.value().into();
        fields["producerId"] = header.producer_id.value().into();
        fields["producerEpoch"] = header.producer_epoch.value().into();
        fields["baseSequence"] = header.base_sequence.into();
        fields["lastSequence"] = header.last_sequence().into();
        fields["isTransactional"] = header.attributes.is_transactional().into();
        fields["isControl"] = header.attributes.is_control().into();
        fields["deleteHorizonMs"] = header.delete_horizon().map(Timestamp::as_millis).into();
        fields["crc"] = header.crc.into();
    }
    fields["isValid"] = stored.checksum.is_ok().into();
    fields
}

const fn timestamp_type(of: TimestampType) -> &'static str {
    match of {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

fn record_fields(record: &Record, is_control: bool, decoder: Decoder) -> Value {
    let (key, value) = match is_control {
        true => decode::control(record),
        false => decoder.decode(record),
    };
    let headers = record.headers.iter().map(|header| {
        let key = plain(Some(&header.key));
        json!([key, plain(header.value.as_ref())])
    });
    let headers: Vec<Value> = headers.collect();
    let mut fields = json!({
        "offset": record.offset.value(),
        "timestamp": record.timestamp.as_millis(),
    });
    fields[if is_control { "control" } else { "key" }] = key;
    fields["value"] = value;
    if !headers.is_empty() {
        fields["headers"] = Value::Array(headers);
    }
    fields
}
