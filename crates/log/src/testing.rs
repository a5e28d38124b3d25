//! A directory in memory that fails the way disks do, for tests of everything that writes logs.
//!
//! ```
//! use std::path::Path;
//! use std::io::IoSlice;
//! use tidelog_log::{Access, Dir};
//! use tidelog_log::testing::{Crash, FaultDir};
//!
//! let dir = FaultDir::new();
//! let file = dir.open(Path::new("a"), Access::Create)?;
//! file.write_all_at(&mut [IoSlice::new(b"kept")], 0)?;
//! file.sync_data()?;
//! dir.sync_dir(Path::new(""))?;
//! file.write_all_at(&mut [IoSlice::new(b" lost")], 4)?;
//!
//! dir.crash(Crash::LoseUnsynced);
//! assert!(file.len().is_err()); // the process that held it is gone
//! assert_eq!(dir.open(Path::new("a"), Access::Read)?.len()?, 4);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_types::Timestamp;

use crate::dir::{Access, Dir, DirEntry, File, FileIdentity, Lock};
use crate::files::OpenFiles;

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: everything that was written is still there.
    KeepAll,
    /// The power fails, and nothing that was not synced has reached the disk.
    LoseUnsynced,
    /// The power fails: of each file a beginning of the unsynced writes is there, the last of them torn; and of each
    /// directory a beginning of the unsynced changes. The number chooses among the possible outcomes.
    Tear(u64),
}

/// Kinds of operation that can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writing into a file.
    Write,
    /// Reading from a file.
    Read,
    /// Syncing a file or a directory.
    Sync,
    /// Creating, renaming, removing names, changing a file's length.
    Change,
    /// Any of the above but reading.
    Mutation,
}

/// A directory in memory that loses, tears and fails on demand. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct FaultDir {
    disk: Arc<Mutex<Disk>>,
    open_files: Option<Arc<OpenFiles>>,
}

#[derive(Debug, Default)]
struct Disk {
    /// All files ever created, by number.
    files: Vec<Content>,
    /// Names as a running process sees them.
    names: BTreeMap<PathBuf, Node>,
    /// Names as they are on the disk.
    durable_names: BTreeMap<PathBuf, Node>,
    /// Unsynced changes of names, oldest first.
    changes: Vec<Change>,
    locks: BTreeSet<PathBuf>,
    /// How many crashes there were; a file opened before the last one is dead.
    life: u32,
    faults: Vec<Fault>,
    reads_are_short: bool,
    capacity: Option<u64>,
    syncs: u64,
    opened: u64,
    bytes_read: u64,
    clock: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Dir,
}

#[derive(Clone, Debug)]
enum Change {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    modified: i64,
}

#[derive(Debug)]
enum Pending {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug)]
struct Fault {
    op: Op,
    countdown: usize,
    kind: io::ErrorKind,
}

impl Pending {
    /// Applies the change, or only its first `upto` bytes.
    fn apply(&self, content: &mut Vec<u8>, upto: usize) {
        match self {
            Self::Write { position, bytes } => {
                let bytes = &bytes[..upto.min(bytes.len())];
                if bytes.is_empty() {
                    return;
                }
                let end = position + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*position..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }
}

impl Content {
    fn change(&mut self, pending: Pending) {
        pending.apply(&mut self.bytes, usize::MAX);
        self.pending.push(pending);
    }
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Put(path, _) | Self::Remove(path) | Self::Rename(_, path) => path,
        }
    }

    /// The same change in a directory that was renamed meanwhile.
    fn moved(self, from: &Path, to: &Path) -> Self {
        let moved = |path: PathBuf| match path.strip_prefix(from) {
            Ok(rest) if !rest.as_os_str().is_empty() => to.join(rest),
            _ => path,
        };
        match self {
            Self::Put(path, node) => Self::Put(moved(path), node),
            Self::Remove(path) => Self::Remove(moved(path)),
            Self::Rename(old, new) => Self::Rename(moved(old), moved(new)),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Put(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                let moved: Vec<_> = names
                    .keys()
                    .filter(|p| p.starts_with(from))
                    .cloned()
                    .collect();
                for path in moved {
                    let rest = path.strip_prefix(from).unwrap_or_else(|_| Path::new(""));
                    let target = if rest.as_os_str().is_empty() {
                        to.clone()
                    } else {
                        to.join(rest)
                    };
                    if let Some(node) = names.remove(&path) {
                        names.insert(target, node);
                    }
                }
            }
        }
    }
}

/// A small generator of numbers (splitmix64), so that one number stands for one outcome of a crash.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

impl FaultDir {
    /// An empty directory on a faultless disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same directory, of which logs hold at most `files_max` files open.
    #[must_use]
    pub fn with_open_files_max(self, files_max: usize) -> Self {
        Self {
            open_files: Some(Arc::new(OpenFiles::new(files_max))),
            ..self
        }
    }

    /// Ends the life of the process that used the directory: its open files and locks are gone, and of what it wrote
    /// there is what `crash` says. Faults that were ordered are forgotten.
    pub fn crash(&self, crash: Crash) {
        let mut disk = self.disk.lock();
        disk.life += 1;
        disk.locks.clear();
        disk.faults.clear();
        if let Crash::KeepAll = crash {
            return;
        }
        let mut random = Random(if let Crash::Tear(seed) = crash {
            seed
        } else {
            0
        });
        for content in &mut disk.files {
            let pending = std::mem::take(&mut content.pending);
            if let Crash::Tear(_) = crash {
                let whole = random.below(pending.len() + 1);
                for change in &pending[..whole] {
                    change.apply(&mut content.durable, usize::MAX);
                }
                if let Some(torn @ Pending::Write { bytes, .. }) = pending.get(whole) {
                    torn.apply(&mut content.durable, random.below(bytes.len() + 1));
                }
            }
            content.bytes.clone_from(&content.durable);
        }
        let changes = std::mem::take(&mut disk.changes);
        if let Crash::Tear(_) = crash {
            // Changes of one directory reach the disk in order, those of different directories in any order.
            let mut stopped = BTreeSet::new();
            for change in changes {
                let parent = parent(change.path());
                if random.below(4) == 0 {
                    stopped.insert(parent.clone());
                }
                if !stopped.contains(&parent) {
                    change.apply(&mut disk.durable_names);
                }
            }
        }
        // What lies in a directory that is not there is not there.
        let names = disk.durable_names.clone();
        disk.durable_names.retain(|path, _| {
            path.ancestors()
                .skip(1)
                .all(|a| a.as_os_str().is_empty() || names.contains_key(a))
        });
        disk.names = disk.durable_names.clone();
    }

    /// Lets the `nth` operation of this kind from now on (0 is the very next) and all later ones of the kind fail.
    pub fn fail(&self, op: Op, nth: usize, kind: io::ErrorKind) {
        self.disk.lock().faults.push(Fault {
            op,
            countdown: nth,
            kind,
        });
    }

    /// Lets every operation succeed again.
    pub fn heal(&self) {
        let mut disk = self.disk.lock();
        disk.faults.clear();
        disk.capacity = None;
        disk.reads_are_short = false;
    }

    /// Lets every read of more than one byte return half of what it could.
    pub fn shorten_reads(&self) {
        self.disk.lock().reads_are_short = true;
    }

    /// Lets the disk hold this many bytes in all its files. A write that does not fit writes what fits, and the next one
    /// fails.
    pub fn limit_capacity(&self, bytes: u64) {
        self.disk.lock().capacity = Some(bytes);
    }

    /// How many bytes all its files hold.
    pub fn bytes_used(&self) -> u64 {
        self.disk.lock().used()
    }

    /// How many syncs of files and directories there were.
    pub fn syncs(&self) -> u64 {
        self.disk.lock().syncs
    }

    /// How many times a file was opened.
    pub fn opened(&self) -> u64 {
        self.disk.lock().opened
    }

    /// How many bytes were read out of files.
    pub fn bytes_read(&self) -> u64 {
        self.disk.lock().bytes_read
    }

    /// The content of a file as a running process sees it.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        match disk.names.get(path.as_ref()) {
            Some(Node::File(file)) => Some(disk.files[*file].bytes.clone()),
            _ => None,
        }
    }

    /// Puts a file there, durably, with its directories.
    pub fn put(&self, path: impl AsRef<Path>, content: &[u8]) {
        let path = path.as_ref();
        let mut disk = self.disk.lock();
        let file = disk.files.len();
        disk.files.push(Content {
            bytes: content.to_vec(),
            durable: content.to_vec(),
            ..Content::default()
        });
        for ancestor in path
            .ancestors()
            .skip(1)
            .filter(|a| !a.as_os_str().is_empty())
        {
            disk.names.insert(ancestor.to_owned(), Node::Dir);
            disk.durable_names.insert(ancestor.to_owned(), Node::Dir);
        }
        disk.names.insert(path.to_owned(), Node::File(file));
        disk.durable_names.insert(path.to_owned(), Node::File(file));
    }

    /// The names of all files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let disk = self.disk.lock();
        let is_file = |node: &Node| matches!(node, Node::File(_));
        disk.names
            .iter()
            .filter(|(_, node)| is_file(node))
            .map(|(path, _)| path.clone())
            .collect()
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or_else(|| Path::new("")).to_owned()
}

impl Disk {
    fn check(&mut self, op: Op) -> io::Result<()> {
        for fault in &mut self.faults {
            if fault.op == op || (fault.op == Op::Mutation && op != Op::Read) {
                if fault.countdown == 0 {
                    return Err(fault.kind.into());
                }
                fault.countdown -= 1;
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, node: Node) {
        self.names.insert(path.to_owned(), node);
        self.changes.push(Change::Put(path.to_owned(), node));
    }

    fn remove(&mut self, path: &Path) {
        self.names.remove(path);
        self.changes.push(Change::Remove(path.to_owned()));
    }

    fn has_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.names.get(path) == Some(&Node::Dir)
    }

    fn used(&self) -> u64 {
        let len = |node: &Node| match node {
            Node::File(file) => self.files[*file].bytes.len() as u64,
            Node::Dir => 0,
        };
        self.names.values().map(len).sum()
    }

    fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }
}

impl Dir for FaultDir {
    fn open_files(&self) -> Option<&OpenFiles> {
        self.open_files.as_deref()
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk.lock();
        let file = match disk.names.get(path) {
            Some(Node::File(file)) => *file,
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                if !disk.has_dir(&parent(path)) || matches!(access, Access::Read | Access::Write) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                disk.check(Op::Change)?;
                let file = disk.files.len();
                disk.files.push(Content::default());
                disk.put(path, Node::File(file));
                file
            }
        };
        disk.opened += 1;
        if access == Access::Truncate {
            disk.files[file].change(Pending::SetLen(0));
        }
        Ok(Arc::new(FaultFile {
            disk: self.disk.clone(),
            file,
            life: disk.life,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Op::Change)?;
        let missing: Vec<_> = path.ancestors().filter(|a| !disk.has_dir(a)).collect();
        for ancestor in missing.into_iter().rev() {
            disk.put(ancestor, Node::Dir);
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Op::Change)?;
        if disk.names.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if disk.names.keys().any(|name| name.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        disk.remove(path);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Op::Change)?;
        match disk.names.get(path) {
            Some(Node::File(_)) => disk.remove(path),
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(Op::Change)?;
        if !disk.names.contains_key(from) || !disk.has_dir(&parent(to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = Change::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut disk.names);
        let earlier = std::mem::take(&mut disk.changes);
        disk.changes = earlier
            .into_iter()
            .map(|change| change.moved(from, to))
            .collect();
        disk.changes.push(change);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let disk = self.disk.lock();
        if !disk.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = disk
            .names
            .iter()
            .filter(|(name, _)| name.parent() == Some(path));
        let entry = |(name, node): (&PathBuf, &Node)| {
            let name = name.file_name()?.to_str()?.to_owned();
            let (is_dir, len, modified) = match node {
                Node::Dir => (true, 0, 0),
                Node::File(file) => (
                    false,
                    disk.files[*file].bytes.len() as u64,
                    disk.files[*file].modified,
                ),
            };
            Some(DirEntry {
                name,
                is_dir,
                len,
                modified: Timestamp::from_millis(modified),
            })
        };
        Ok(children.filter_map(entry).collect())
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        match self.disk.lock().names.get(path) {
            Some(Node::File(file)) => Ok(Some(FileIdentity([*file as u64, 0, 0]))),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.syncs += 1;
        disk.check(Op::Sync)?;
        if !disk.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut disk.changes)
            .into_iter()
            .partition(|c| parent(c.path()) == path);
        disk.changes = rest;
        for change in synced {
            change.apply(&mut disk.durable_names);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.open(path, Access::Create)?;
        let mut disk = self.disk.lock();
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FaultLock {
            disk: self.disk.clone(),
            path: path.to_owned(),
            life: disk.life,
        }))
    }
}

#[derive(Debug)]
struct FaultLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
    life: u32,
}

impl Lock for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        if disk.life == self.life {
            disk.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: Arc<Mutex<Disk>>,
    file: usize,
    life: u32,
}

impl FaultFile {
    fn disk(&self) -> io::Result<parking_lot::MutexGuard<'_, Disk>> {
        let disk = self.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::other(
                "the process that opened the file has crashed",
            ));
        }
        Ok(disk)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.syncs += 1;
        disk.check(Op::Sync)?;
        let content = &mut disk.files[self.file];
        for change in std::mem::take(&mut content.pending) {
            change.apply(&mut content.durable, usize::MAX);
        }
        Ok(())
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut disk = self.disk()?;
        disk.check(Op::Read)?;
        let content = &disk.files[self.file].bytes;
        let start = usize::try_from(position).map_or(content.len(), |p| p.min(content.len()));
        let mut n = buf.len().min(content.len() - start);
        if disk.reads_are_short && n > 1 {
            n /= 2;
        }
        buf[..n].copy_from_slice(&content[start..start + n]);
        disk.bytes_read += n as u64;
        Ok(n)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut disk = self.disk()?;
        disk.check(Op::Write)?;
        let position = usize::try_from(position).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if let Some(capacity) = disk.capacity {
            let grows = (position + bytes.len()).saturating_sub(disk.files[self.file].bytes.len());
            let lacking = (disk.used() + grows as u64).saturating_sub(capacity) as usize;
            bytes.truncate(bytes.len().saturating_sub(lacking));
            if bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let n = bytes.len();
        let now = disk.tick();
        disk.files[self.file].modified = now;
        disk.files[self.file].change(Pending::Write { position, bytes });
        Ok(n)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk()?.files[self.file].bytes.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.check(Op::Change)?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        disk.files[self.file].change(Pending::SetLen(len));
        Ok(())
    }

    fn set_modified(&self, modified: Timestamp) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.check(Op::Change)?;
        disk.files[self.file].modified = modified.as_millis();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Arc<dyn File>, bytes: &[u8], position: u64) -> io::Result<()> {
        file.write_all_at(&mut [IoSlice::new(bytes)], position)
    }

    #[test]
    fn a_name_is_lost_unless_its_directory_is_synced() {
        for synced in [false, true] {
            let dir = FaultDir::new();
            dir.create_dir(Path::new("d")).unwrap();
            let file = dir.open(Path::new("d/f"), Access::Create).unwrap();
            write(&file, b"x", 0).unwrap();
            file.sync_data().unwrap();
            dir.sync_dir(Path::new("d")).unwrap();
            if synced {
                dir.sync_dir(Path::new("")).unwrap();
            }
            dir.crash(Crash::LoseUnsynced);
            assert_eq!(dir.content("d/f"), synced.then(|| b"x".to_vec()));
        }
    }

    #[test]
    fn a_torn_crash_keeps_a_beginning_of_what_was_written() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let dir = FaultDir::new();
            dir.put("f", b"");
            let file = dir.open(Path::new("f"), Access::Write).unwrap();
            write(&file, b"ab", 0).unwrap();
            write(&file, b"cd", 2).unwrap();
            dir.crash(Crash::Tear(seed));
            let content = dir.content("f").unwrap();
            assert!(b"abcd".starts_with(&content[..]), "{content:?}");
            outcomes.insert(content.len());
        }
        assert_eq!(outcomes, BTreeSet::from([0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let dir = FaultDir::new();
        dir.limit_capacity(3);
        let file = dir.open(Path::new("f"), Access::Create).unwrap();
        let error = write(&file, b"abcd", 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(dir.content("f").unwrap(), b"abc");
    }
}
