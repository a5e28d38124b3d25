//! Checks whether the files of a log directory go together: for tools.
//!
//! Every batch is read, and everything else is compared with the batches: indexes, producer snapshots, leader epochs,
//! checkpoints. Nothing is changed; a directory of Apache Kafka is as good as one of ours. While a broker works on the
//! directory, what it writes meanwhile may look like damage.
//!
//! ```
//! use tidelog_log::testing::FaultDir;
//! use tidelog_log::verify::{Severity, verify};
//!
//! let dir = FaultDir::new(); // or FsDir::new("/var/lib/kafka")
//! dir.put("orders-0/00000000000000000000.log", b"these are no batches at all");
//! dir.put("orders-0/00000000000000000000.snapshot", b"");
//! let mut damage = Vec::new();
//! let summary = verify(&dir, &Default::default(), &mut |finding| {
//!     if finding.severity == Severity::Damage {
//!         damage.push(finding.to_string());
//!     }
//! })?;
//! assert_eq!(summary.partitions, 1);
//! assert_eq!(damage, ["damage: orders-0/00000000000000000000.snapshot: it ends too early"]);
//! # Ok::<(), tidelog_log::LogError>(())
//! ```

mod indexes;
mod metadata;
mod partition;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tidelog_types::{Offset, TopicName, TopicPartition};

use crate::dir::{Dir, DirEntry};
use crate::directory::{Checkpoint, FolderKind, LOCK, PartitionFolder, SUMMARY};
use crate::error::{Context, LogError};
use crate::inspect::{Content, FileKind, InspectError, read, split_suffix};

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Whether the records in the batches are read too, which takes decompressing them. Without it their checksums are
    /// trusted.
    pub records: bool,
}

/// Something about a directory that its owner may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is bad.
    pub severity: Severity,
    /// The file or folder, relative to the directory.
    pub path: PathBuf,
    /// Where in the file, if it can be said.
    pub position: Option<u64>,
    /// What there is to know, on one line.
    pub text: String,
}

/// Whether a finding is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A broker that starts here puts it right by itself, and nothing that was promised is lost.
    Note,
    /// Something is lost or wrong.
    Damage,
}

impl fmt::Display for Finding {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Damage => "damage",
        };
        write!(f, "{severity}: {}", self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at position {position}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// How much was looked at, and how much was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Folders of partitions, the metadata log among them.
    pub partitions: usize,
    /// Segments in them.
    pub segments: usize,
    /// Batches in the segments that are whole.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Findings that are [`Severity::Note`].
    pub notes: usize,
    /// Findings that are [`Severity::Damage`].
    pub damages: usize,
}

/// Looks at all files of a log directory, and reports what is there to know, file by file.
///
/// Fails if the directory cannot be listed; files that cannot be read are findings.
pub fn verify(
    dir: &dyn Dir,
    depth: &Depth,
    report: &mut dyn FnMut(Finding),
) -> Result<Summary, LogError> {
    let top = Path::new("");
    let mut entries = dir.list(top).context("list", Path::new("."))?;
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut verifier = Verifier {
        dir,
        depth: *depth,
        report,
        summary: Summary::default(),
    };
    verifier.directory(&entries);
    Ok(verifier.summary)
}

/// The state of a verification.
struct Verifier<'a> {
    dir: &'a dyn Dir,
    depth: Depth,
    report: &'a mut dyn FnMut(Finding),
    summary: Summary,
}

/// What the checkpoints say of one partition.
#[derive(Clone, Copy, Debug, Default)]
struct Checkpointed {
    recovery_point: Option<Offset>,
    log_start: Option<Offset>,
    high_watermark: Option<Offset>,
    cleaned: Option<Offset>,
}

impl Checkpointed {
    const fn get_mut(&mut self, checkpoint: Checkpoint) -> &mut Option<Offset> {
        match checkpoint {
            Checkpoint::RecoveryPoint => &mut self.recovery_point,
            Checkpoint::LogStart => &mut self.log_start,
            Checkpoint::Replication => &mut self.high_watermark,
            Checkpoint::Cleaner => &mut self.cleaned,
        }
    }
}

impl Verifier<'_> {
    fn directory(&mut self, entries: &[DirEntry]) {
        let mut was_clean = false;
        let mut checkpoints: BTreeMap<TopicPartition, Checkpointed> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            match self.top_file(Path::new(&entry.name)) {
                Some(Content::CleanShutdown { .. }) => was_clean = true,
                Some(Content::Offsets(offsets)) => {
                    let Some(FileKind::Checkpoint(checkpoint)) = FileKind::of(&entry.name) else {
                        continue;
                    };
                    for (partition, offset) in offsets {
                        let found = checkpoints.entry(partition).or_default();
                        *found.get_mut(checkpoint) = Some(offset);
                    }
                }
                Some(Content::Batches(_)) => self.snapshot(Path::new(&entry.name)),
                _ => {}
            }
        }
        if !entries.iter().any(|entry| entry.name == "meta.properties") {
            self.note(
                "meta.properties",
                "it is missing: no broker has used the directory",
            );
        }
        if !was_clean {
            self.note(
                "",
                "it was not closed in order: a broker that starts here recovers the logs first",
            );
        }
        let mut seen = BTreeSet::new();
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let Some(folder) = PartitionFolder::parse(&entry.name) else {
                self.note(&entry.name, "it is no folder of a partition");
                continue;
            };
            match folder.kind {
                FolderKind::Live => {
                    let found = checkpoints.get(&folder.partition).copied();
                    self.partition(&folder, found.unwrap_or_default(), was_clean);
                    seen.insert(folder.partition);
                }
                FolderKind::Deleted => {
                    self.note(&entry.name, "it is deleted, and waits for being removed")
                }
                FolderKind::Future => {
                    self.note(&entry.name, "it is on its way to another directory")
                }
                FolderKind::Stray => {
                    self.note(&entry.name, "it was set aside as nothing knew of it")
                }
            }
        }
        for (partition, found) in &checkpoints {
            let is_more =
                |offset: Option<Offset>| offset.is_some_and(|offset| offset > Offset::ZERO);
            if seen.contains(partition) || partition.topic == TopicName::CLUSTER_METADATA {
                continue;
            }
            if is_more(found.recovery_point) || is_more(found.high_watermark) {
                self.note(
                    partition.to_string(),
                    "checkpoints name it, but there is no such folder",
                );
            }
        }
    }

    /// Reads a file beside the folders.
    fn top_file(&mut self, path: &Path) -> Option<Content> {
        let name = path.to_str().unwrap_or_default();
        if [LOCK, SUMMARY].contains(&name) {
            return None;
        }
        if let Some(text) = left_over(name) {
            self.note(name, text);
            return None;
        }
        let belongs = matches!(
            FileKind::of(name),
            Some(
                FileKind::Checkpoint(_)
                    | FileKind::MetaProperties
                    | FileKind::CleanShutdown
                    | FileKind::Bootstrap
            )
        );
        if belongs {
            self.read(path)
        } else {
            self.note(name, "it is no file of a log directory");
            None
        }
    }

    /// Reads a file; what is wrong with it is reported.
    fn read(&mut self, path: &Path) -> Option<Content> {
        match read(self.dir, path) {
            Ok(content) => Some(content),
            Err(error) => {
                self.unreadable(Severity::Damage, path, error);
                None
            }
        }
    }

    /// Reads a file of a folder that need not be there.
    fn optional(&mut self, path: &Path, names: &[String]) -> Option<Content> {
        let name = path.file_name().and_then(|name| name.to_str())?;
        match names.iter().any(|other| other == name) {
            true => self.read(path),
            false => None,
        }
    }

    fn unreadable(&mut self, severity: Severity, path: &Path, error: InspectError) {
        let (position, text) = match error {
            InspectError::Damaged {
                position, reason, ..
            } => (position, reason),
            other => (None, other.to_string()),
        };
        self.find(severity, path, position, text);
    }

    fn note(&mut self, path: impl AsRef<Path>, text: &str) {
        self.find(Severity::Note, path.as_ref(), None, text.to_owned());
    }

    fn find(&mut self, severity: Severity, path: &Path, position: Option<u64>, text: String) {
        match severity {
            Severity::Note => self.summary.notes += 1,
            Severity::Damage => self.summary.damages += 1,
        }
        let path = match path.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => path.to_owned(),
        };
        (self.report)(Finding {
            severity,
            path,
            position,
            text,
        });
    }
}

/// What to say of a file that is on its way out or in.
fn left_over(name: &str) -> Option<&'static str> {
    match split_suffix(name).1? {
        ".deleted" => Some("it is deleted, and waits for being removed"),
        ".cleaned" => Some("compaction did not finish it, and it will be removed"),
        ".swap" => Some("compaction did not put it in its place, which will be done"),
        _ => Some("it was not written to its end, and will be removed"),
    }
}

/// Whether there is no such file.
fn is_absent(error: &InspectError) -> bool {
    matches!(error, InspectError::Log(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
}
