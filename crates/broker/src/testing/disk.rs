//! Disks that fail, are slow or full, and lose at a crash what was not flushed.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tidelog_log::testing::{Crash, FaultDir, Op};
use tidelog_log::{Access, Dir, DirEntry, File, FileIdentity, FsDir, Lock};
use tidelog_types::Timestamp;

use crate::clock::real;

/// Numbers for directories in memory, which need a name.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// A log directory of a broker under test, on a disk that does what a test wants.
///
/// It remembers what was flushed, so that a [crash](crate::Broker::crash) can take the rest. To that end it keeps everything
/// in memory, also where it has a directory of the file system: there every change is made too, and after a crash the
/// directory has what the crash has left, so that other programs can look at it. It is for tests: what it holds should fit
/// into memory.
///
/// A clone is the same disk.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidelog_broker::Broker;
/// use tidelog_broker::testing::{Disk, DiskOp};
///
/// let disk = Disk::memory();
/// let broker = Broker::builder()
///     .listener("PLAINTEXT://localhost:0")
///     .disks([&disk])
///     .start()
///     .await?;
/// disk.fail(DiskOp::Sync);
/// // Whoever writes now hears of it, and what is written counts for nothing.
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// Everything, and what of it was flushed.
    content: FaultDir,
    /// Where the same is on the file system.
    mirror: Option<FsDir>,
    mirror_locks: Mutex<HashMap<PathBuf, Box<dyn Lock>>>,
    /// How many crashes there were: who came before the last one can do nothing any more.
    life: RwLock<u64>,
    slow: Mutex<Vec<(Op, Duration)>>,
}

impl Disk {
    /// A disk in memory.
    pub fn memory() -> Self {
        let name = format!("/disk-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        Self::new(name.into(), FaultDir::new(), None)
    }

    /// A directory of the file system, with what is in it. It is created if it does not exist.
    pub fn directory(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let mirror = FsDir::new(&path);
        mirror.create_dir(Path::new(""))?;
        let content = FaultDir::new();
        load(&mirror, &content, Path::new(""))?;
        Ok(Self::new(path, content, Some(mirror)))
    }

    fn new(path: PathBuf, content: FaultDir, mirror: Option<FsDir>) -> Self {
        Self {
            shared: Arc::new(Shared {
                path,
                content,
                mirror,
                mirror_locks: Mutex::default(),
                life: RwLock::new(0),
                slow: Mutex::default(),
            }),
        }
    }

    /// What the directory is called in `log.dirs`.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Lets every operation of this kind fail, until the disk is [healed](Self::heal).
    pub fn fail(&self, op: Op) {
        self.fail_after(op, 0);
    }

    /// Lets the next `count` operations of this kind succeed, and all later ones fail.
    pub fn fail_after(&self, op: Op, count: usize) {
        self.shared.content.fail(op, count, ErrorKind::Other);
    }

    /// Lets every operation of this kind take so much longer. Whoever does it waits, as with a real disk.
    pub fn slow(&self, op: Op, by: Duration) {
        self.shared.slow.lock().push((op, by));
    }

    /// Lets the disk hold so many bytes in all its files.
    pub fn limit_bytes(&self, bytes: u64) {
        self.shared.content.limit_capacity(bytes);
    }

    /// Lets nothing more fit on the disk.
    pub fn fill(&self) {
        self.limit_bytes(0);
    }

    /// The disk works again. A broker does not come back to a partition or a directory that has failed before it is started
    /// anew.
    pub fn heal(&self) {
        self.shared.content.heal();
        self.shared.slow.lock().clear();
    }

    /// How many flushes of files and directories there were.
    pub fn syncs(&self) -> u64 {
        self.shared.content.syncs()
    }

    /// The content of a file as a running broker sees it.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.shared.content.content(path)
    }

    /// The paths of all files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        self.shared.content.files()
    }

    /// Ends the life of whoever uses the disk. Faults end with it.
    pub(super) fn crash(&self, crash: Crash) -> io::Result<()> {
        let shared = &self.shared;
        let mut life = shared.life.write();
        *life += 1;
        shared.content.crash(crash);
        shared.content.heal();
        shared.slow.lock().clear();
        shared.mirror_locks.lock().clear();
        match &shared.mirror {
            Some(mirror) => restore(mirror, &shared.content),
            None => Ok(()),
        }
    }

    /// The disk for the next life.
    pub(crate) fn attach(&self) -> Arc<dyn Dir> {
        Arc::new(Attached {
            shared: Arc::clone(&self.shared),
            life: *self.shared.life.read(),
        })
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.shared.path).finish()
    }
}

/// Reads a directory of the file system.
fn load(from: &FsDir, to: &FaultDir, path: &Path) -> io::Result<()> {
    for entry in from.list(path)? {
        let path = path.join(&entry.name);
        if entry.is_dir {
            to.create_dir(&path)?;
            to.sync_dir(path.parent().unwrap_or_else(|| Path::new("")))?;
            load(from, to, &path)?;
        } else {
            to.put(&path, &read(from, &path)?);
        }
    }
    Ok(())
}

fn read(dir: &FsDir, path: &Path) -> io::Result<Vec<u8>> {
    let file = dir.open(path, Access::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(|_| ErrorKind::FileTooLarge)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Makes a directory of the file system what is in memory.
fn restore(mirror: &FsDir, content: &FaultDir) -> io::Result<()> {
    prune(mirror, content, Path::new(""))?;
    for path in content.files() {
        let bytes = content.content(&path).unwrap_or_default();
        if read(mirror, &path).ok().as_ref() == Some(&bytes) {
            continue;
        }
        mirror.create_dir(path.parent().unwrap_or_else(|| Path::new("")))?;
        let file = mirror.open(&path, Access::Truncate)?;
        file.write_all_at(&mut [IoSlice::new(&bytes)], 0)?;
    }
    Ok(())
}

/// Removes what is not in memory.
fn prune(mirror: &FsDir, content: &FaultDir, path: &Path) -> io::Result<()> {
    let kept = content.list(path).unwrap_or_default();
    for entry in mirror.list(path)? {
        let path = path.join(&entry.name);
        let is_kept = kept
            .iter()
            .any(|kept| kept.name == entry.name && kept.is_dir == entry.is_dir);
        if entry.is_dir {
            prune(mirror, content, &path)?;
            if !is_kept {
                mirror.remove_dir(&path)?;
            }
        } else if !is_kept {
            mirror.remove_file(&path)?;
        }
    }
    Ok(())
}

/// The disk as one life of a broker has it.
#[derive(Clone)]
struct Attached {
    shared: Arc<Shared>,
    life: u64,
}

impl Attached {
    /// Waits as long as the disk is slow, and holds off a crash while the answer lives.
    fn begin(&self, op: Op) -> io::Result<RwLockReadGuard<'_, u64>> {
        let is_slow = |slow: Op| slow == op || (slow == Op::Mutation && op != Op::Read);
        let slow = self.shared.slow.lock();
        let wait = slow.iter().filter(|(slow, _)| is_slow(*slow));
        let wait: Duration = wait.map(|(_, by)| *by).sum();
        drop(slow);
        if !wait.is_zero() {
            real::block(wait);
        }
        let life = self.shared.life.read();
        if *life != self.life {
            return Err(io::Error::other("the broker has crashed"));
        }
        Ok(life)
    }

    fn mirror(&self) -> Option<&FsDir> {
        self.shared.mirror.as_ref()
    }
}

impl Dir for Attached {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let op = match access {
            Access::Read | Access::Write => Op::Read,
            Access::Create | Access::Truncate => Op::Change,
        };
        let _life = self.begin(op)?;
        let content = self.shared.content.open(path, access)?;
        let mirror = self.mirror().map(|mirror| mirror.open(path, access));
        Ok(Arc::new(DiskFile {
            dir: self.clone(),
            content,
            mirror: mirror.transpose()?,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let _life = self.begin(Op::Change)?;
        self.shared.content.create_dir(path)?;
        self.mirror().map_or(Ok(()), |dir| dir.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let _life = self.begin(Op::Change)?;
        self.shared.content.remove_dir(path)?;
        self.mirror().map_or(Ok(()), |dir| dir.remove_dir(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let _life = self.begin(Op::Change)?;
        self.shared.content.remove_file(path)?;
        self.mirror().map_or(Ok(()), |dir| dir.remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _life = self.begin(Op::Change)?;
        self.shared.content.rename(from, to)?;
        self.mirror().map_or(Ok(()), |dir| dir.rename(from, to))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let _life = self.begin(Op::Read)?;
        self.shared.content.list(path)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        let _life = self.begin(Op::Read)?;
        self.mirror().map_or_else(
            || self.shared.content.identity(path),
            |dir| dir.identity(path),
        )
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let _life = self.begin(Op::Sync)?;
        self.shared.content.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let _life = self.begin(Op::Change)?;
        if let Some(mirror) = self.mirror() {
            let lock = mirror.lock(path)?;
            self.shared
                .mirror_locks
                .lock()
                .insert(path.to_owned(), lock);
        }
        Ok(Box::new(DiskLock {
            _content: self.shared.content.lock(path)?,
            dir: self.clone(),
            path: path.to_owned(),
        }))
    }
}

/// A lock in memory, and with it the one on the file system.
#[derive(Debug)]
struct DiskLock {
    _content: Box<dyn Lock>,
    dir: Attached,
    path: PathBuf,
}

impl Lock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        let life = self.dir.shared.life.read();
        if *life == self.dir.life {
            self.dir.shared.mirror_locks.lock().remove(&self.path);
        }
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.shared.path).finish()
    }
}

#[derive(Debug)]
struct DiskFile {
    dir: Attached,
    content: Arc<dyn File>,
    mirror: Option<Arc<dyn File>>,
}

impl DiskFile {
    fn mirrored(&self, change: impl FnOnce(&dyn File) -> io::Result<()>) -> io::Result<()> {
        self.mirror
            .as_ref()
            .map_or(Ok(()), |mirror| change(&**mirror))
    }
}

impl File for DiskFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let _life = self.dir.begin(Op::Read)?;
        self.content.read_at(buf, position)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let _life = self.dir.begin(Op::Write)?;
        let wrote = self.content.write_at(parts, position)?;
        self.mirrored(|mirror| {
            let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            bytes.truncate(wrote);
            mirror.write_all_at(&mut [IoSlice::new(&bytes)], position)
        })?;
        Ok(wrote)
    }

    fn len(&self) -> io::Result<u64> {
        let _life = self.dir.begin(Op::Read)?;
        self.content.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _life = self.dir.begin(Op::Change)?;
        self.content.set_len(len)?;
        self.mirrored(|mirror| mirror.set_len(len))
    }

    fn set_modified(&self, modified: Timestamp) -> io::Result<()> {
        let _life = self.dir.begin(Op::Change)?;
        self.content.set_modified(modified)?;
        self.mirrored(|mirror| mirror.set_modified(modified))
    }

    fn sync_data(&self) -> io::Result<()> {
        let _life = self.dir.begin(Op::Sync)?;
        self.content.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        let _life = self.dir.begin(Op::Sync)?;
        self.content.sync_all()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &dyn Dir, name: &str, content: &[u8]) -> Arc<dyn File> {
        let file = dir.open(Path::new(name), Access::Create).unwrap();
        file.write_all_at(&mut [IoSlice::new(content)], 0).unwrap();
        file
    }

    #[test]
    fn after_a_crash_a_directory_has_what_was_flushed_and_the_dead_can_do_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("old")).unwrap();
        std::fs::write(root.path().join("old/file"), b"was there").unwrap();
        let disk = Disk::directory(root.path()).unwrap();
        let dir = disk.attach();
        write(&*dir, "flushed", b"stays").sync_all().unwrap();
        dir.sync_dir(Path::new("")).unwrap();
        let late = write(&*dir, "flushed", b"stray");
        write(&*dir, "unflushed", b"goes");
        assert_eq!(
            std::fs::read(root.path().join("unflushed")).unwrap(),
            b"goes"
        );
        disk.crash(Crash::LoseUnsynced).unwrap();
        let content = |name: &str| std::fs::read(root.path().join(name)).ok();
        assert_eq!(content("old/file").unwrap(), b"was there");
        assert_eq!(content("flushed").unwrap(), b"stays");
        assert_eq!(content("unflushed"), None);
        late.write_at(&[IoSlice::new(b"dead")], 0).unwrap_err();
        dir.rename(Path::new("flushed"), Path::new("gone"))
            .unwrap_err();
        assert_eq!(disk.file("flushed").unwrap(), b"stays");
        let reborn = disk.attach();
        assert_eq!(reborn.list(Path::new("")).unwrap().len(), 2);
    }
}
