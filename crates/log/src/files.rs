//! Which files are open.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};
use tidelog_types::Offset;

use crate::dir::{Access, Dir, File};
use crate::error::{Context, LogError};
use crate::names;

/// Where the files of a partition are.
#[derive(Debug)]
pub(crate) struct Place {
    pub dir: Arc<dyn Dir>,
    /// The folder of the partition.
    pub path: PathBuf,
}

impl Place {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The right of a segment to the names of its files. Compaction gives them to the segment that takes its place; what is
/// open then stays open, but nothing is opened any more.
#[derive(Debug, Default)]
pub(crate) struct Names {
    given_up: RwLock<bool>,
}

impl Names {
    /// Opens a file; [`io::ErrorKind::NotFound`] if the names were given up.
    pub(crate) fn open(
        &self,
        place: &Place,
        path: &Path,
        access: Access,
    ) -> io::Result<Arc<dyn File>> {
        // Held while the file is opened, so that it is the old one or none.
        let given_up = self.given_up.read();
        if *given_up {
            return Err(io::ErrorKind::NotFound.into());
        }
        place.dir.open(path, access)
    }

    pub(crate) fn give_up(&self) {
        *self.given_up.write() = true;
    }

    pub(crate) fn are_given_up(&self) -> bool {
        *self.given_up.read()
    }
}

/// Keeps the number of files within a bound that the logs of a directory hold open for reading.
///
/// Those not used for the longest time are closed, and opened again when they are needed. Who reads one just then goes on
/// reading. A file with bytes that were not flushed stays open, since an error of the disk is told only to those who hold
/// the file; if nearly all are of that kind, one is flushed to be closed.
#[derive(Debug)]
pub struct OpenFiles {
    files_max: usize,
    /// In the order in which they were opened, or spared for having been used since.
    queue: Mutex<VecDeque<Weak<Slot>>>,
}

impl OpenFiles {
    /// At most `files_max` files.
    pub const fn new(files_max: usize) -> Self {
        Self {
            files_max,
            queue: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) const fn files_max(&self) -> usize {
        self.files_max
    }

    fn opened(&self, slot: &Arc<Slot>) {
        let mut closed = Vec::new();
        let mut flushed = None;
        let mut queue = self.queue.lock();
        queue.push_back(Arc::downgrade(slot));
        let mut looked_at = 0;
        while queue.len() > self.files_max {
            let Some(candidate) = queue.pop_front() else {
                break;
            };
            let Some(slot) = candidate.upgrade() else {
                continue;
            };
            looked_at += 1;
            let is_unflushed = slot.is_unflushed.load(Ordering::Acquire);
            let was_used = slot.was_used.swap(false, Ordering::Relaxed);
            if looked_at > LOOK_AT_MAX {
                // All of them are in use, so it hits the one that waited longest.
                flushed = Some(slot);
                break;
            }
            if is_unflushed || was_used {
                queue.push_back(candidate);
            } else {
                closed.push(slot.file.lock().take());
            }
        }
        drop(queue);
        if let Some(slot) = flushed {
            slot.flush_and_close();
        }
    }
}

/// How many files are looked at for one that can be closed at no cost.
const LOOK_AT_MAX: usize = 32;

/// A file of a partition that is open, or was, or will be.
#[derive(Debug)]
pub(crate) struct Slot {
    place: Arc<Place>,
    names: Arc<Names>,
    offset: Offset,
    suffix: &'static str,
    file: Mutex<Option<Arc<dyn File>>>,
    was_used: AtomicBool,
    is_unflushed: AtomicBool,
    /// Why the file cannot be trusted any more.
    failure: OnceLock<Arc<io::Error>>,
}

impl Slot {
    pub(crate) const fn new(
        place: Arc<Place>,
        names: Arc<Names>,
        offset: Offset,
        suffix: &'static str,
    ) -> Self {
        Self {
            place,
            names,
            offset,
            suffix,
            file: Mutex::new(None),
            was_used: AtomicBool::new(false),
            is_unflushed: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place
            .file(&names::of_segment(self.offset, self.suffix))
    }

    /// The file, opened if it is not. It must exist.
    pub(crate) fn file(self: &Arc<Self>) -> Result<Arc<dyn File>, LogError> {
        self.open(Access::Write)
    }

    /// Creates the file, empty.
    pub(crate) fn create(self: &Arc<Self>) -> Result<(), LogError> {
        self.open(Access::Truncate).map(drop)
    }

    fn open(self: &Arc<Self>, access: Access) -> Result<Arc<dyn File>, LogError> {
        let mut slot = self.file.lock();
        self.was_used.store(true, Ordering::Relaxed);
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let path = self.path();
        if let Some(source) = self.failure.get() {
            let (action, source) = ("sync", source.clone());
            return Err(LogError::Io {
                action,
                path,
                source,
            });
        }
        let file = self
            .names
            .open(&self.place, &path, access)
            .context("open", &path)?;
        *slot = Some(file.clone());
        drop(slot);
        if let Some(open_files) = self.place.dir.open_files() {
            open_files.opened(self);
        }
        Ok(file)
    }

    /// Closes the file, whose bytes go to the disk first. If that fails, nobody gets the file again.
    fn flush_and_close(&self) {
        let mut file = self.file.lock();
        if let Some(file) = &*file
            && let Err(error) = file.sync_data()
        {
            let path = self.path();
            tracing::error!(file = %path.display(), %error, "a file could not be flushed");
            let _ = self.failure.set(Arc::new(error));
        }
        *file = None;
    }

    /// Says whether the file has bytes that were not flushed.
    pub(crate) fn set_unflushed(&self, is_unflushed: bool) {
        self.is_unflushed.store(is_unflushed, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::FsDir;

    fn is_open(slot: &Slot) -> bool {
        slot.file.lock().is_some()
    }

    #[test]
    fn the_files_not_used_for_the_longest_time_are_closed() {
        let root = tempfile::tempdir().unwrap();
        let dir = FsDir::new(root.path()).with_open_files_max(2);
        let place = Arc::new(Place {
            dir: Arc::new(dir),
            path: PathBuf::new(),
        });
        let slots: Vec<_> = (0..4)
            .map(|i| {
                let own = Arc::default();
                Arc::new(Slot::new(place.clone(), own, Offset::new(i), names::LOG))
            })
            .collect();
        slots[0].create().unwrap();
        slots[0].set_unflushed(true);
        let held = {
            slots[1].create().unwrap();
            slots[1].file().unwrap()
        };
        slots[2].create().unwrap();
        slots[3].create().unwrap();
        assert!(is_open(&slots[0]), "it was not flushed");
        assert!(!is_open(&slots[1]));
        assert!(is_open(&slots[3]));
        assert_eq!(held.len().unwrap(), 0, "who has the file keeps it");
        slots[1].file().unwrap();
        assert!(is_open(&slots[1]));
        assert_eq!(slots.iter().filter(|slot| is_open(slot)).count(), 2);
    }

    #[test]
    fn files_that_wait_for_a_flush_are_flushed_when_there_are_too_many() {
        let dir = crate::testing::FaultDir::new().with_open_files_max(3);
        let place = Arc::new(Place {
            dir: Arc::new(dir.clone()),
            path: PathBuf::new(),
        });
        let slots: Vec<_> = (0..40)
            .map(|i| {
                let own = Arc::default();
                Arc::new(Slot::new(place.clone(), own, Offset::new(i), names::LOG))
            })
            .collect();
        for slot in &slots {
            slot.set_unflushed(true);
            slot.create().unwrap();
        }
        assert_eq!(slots.iter().filter(|slot| is_open(slot)).count(), 3);
        assert_eq!(dir.syncs(), 37);
        dir.fail(crate::testing::Op::Sync, 0, io::ErrorKind::Other);
        slots[0].file().unwrap();
        dir.heal();
        let failed = slots.iter().filter(|slot| slot.file().is_err()).count();
        assert_eq!(failed, 1, "what was not flushed is not taken for good");
    }

    #[test]
    fn a_name_that_was_given_up_is_not_opened_again() {
        let root = tempfile::tempdir().unwrap();
        let place = Arc::new(Place {
            dir: Arc::new(FsDir::new(root.path())),
            path: PathBuf::new(),
        });
        let own: Arc<Names> = Arc::default();
        let slot = |offset| Arc::new(Slot::new(place.clone(), own.clone(), offset, names::LOG));
        let (open, closed) = (slot(Offset::new(0)), slot(Offset::new(1)));
        open.create().unwrap();
        place.dir.open(&closed.path(), Access::Create).unwrap();
        own.give_up();
        open.file().unwrap();
        let refused = closed.file().unwrap_err();
        assert!(
            matches!(refused, LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
        );
    }
}
