//! A disk whose flushes wait until they are let through.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use tidelog_log::testing::FaultDir;
use tidelog_log::{Access, Dir, DirEntry, File, Lock};

/// A directory in memory with a gate before every flush of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct GatedDir {
    disk: FaultDir,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

/// Who opens and closes the gate. Without it the gate is open, so that a test that fails ends.
pub(crate) struct Keeper {
    gate: Arc<Gate>,
}

impl GatedDir {
    pub(crate) fn new() -> (Self, Keeper) {
        let dir = Self::default();
        let gate = Arc::clone(&dir.gate);
        (dir, Keeper { gate })
    }
}

impl Keeper {
    /// From now on flushes wait.
    pub(crate) fn close(&self) {
        *self.gate.closed.lock().unwrap() = true;
    }

    /// Lets those that wait go on, and all that come.
    pub(crate) fn open(&self) {
        *self.gate.closed.lock().unwrap() = false;
        self.gate.opened.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.open();
    }
}

impl Gate {
    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl Dir for GatedDir {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile {
            file: self.disk.open(path, access)?,
            gate: Arc::clone(&self.gate),
        }))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buf, position)
    }
    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.file.write_at(parts, position)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_all()
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }
}
