use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tidelog_types::Timestamp;

use crate::dir::{Access, Dir, DirEntry, File, FileIdentity, Lock, Space};
use crate::files::OpenFiles;

/// How many times as much as is set aside has to be free.
const FREE_FOR_RESERVED: u64 = 32;

/// A directory of the operating system.
#[derive(Debug)]
pub struct FsDir {
    root: PathBuf,
    open_files: OpenFiles,
    /// The root, opened when syncs were deferred: the file system says by it what went wrong since.
    deferred: Mutex<Option<fs::File>>,
    is_deferring: AtomicBool,
    /// What goes with it.
    _temporary: Option<Temporary>,
}

/// A directory that is removed, with all that is in it, when this is dropped.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed stays; nobody waits for an answer.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl FsDir {
    /// The directory at `root`. It is created when first needed, not here.
    ///
    /// Its logs hold at most half as many files open as the process may have; sockets need some too.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        Self {
            root: root.into(),
            open_files: OpenFiles::new(limit / 2),
            deferred: Mutex::new(None),
            is_deferring: AtomicBool::new(false),
            _temporary: None,
        }
    }

    /// Has the directory removed with everything in it when this is dropped, which is after the last of its users.
    #[must_use]
    pub fn removed_when_dropped(self) -> Self {
        let temporary = Temporary(self.root.clone());
        Self {
            _temporary: Some(temporary),
            ..self
        }
    }

    /// Another bound for the number of files that its logs hold open.
    #[must_use]
    pub fn with_open_files_max(self, files_max: usize) -> Self {
        Self {
            open_files: OpenFiles::new(files_max),
            ..self
        }
    }

    /// How many files its logs hold open at most, unless more wait for being flushed.
    pub const fn open_files_max(&self) -> usize {
        self.open_files.files_max()
    }

    /// Where the directory is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn is_deferring(&self) -> bool {
        self.is_deferring.load(Ordering::Acquire)
    }

    fn at(&self, path: &Path) -> PathBuf {
        // Joining an empty path would add a slash, and the directory itself is named by an empty path.
        if path.as_os_str().is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }
}

impl Dir for FsDir {
    fn open_files(&self) -> Option<&OpenFiles> {
        Some(&self.open_files)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => &mut options,
            Access::Write => options.write(true),
            Access::Create => options.write(true).create(true),
            Access::Truncate => options.write(true).create(true).truncate(true),
        };
        let file = FsFile(options.open(self.at(path))?);
        Ok(match self.is_deferring() {
            true => Arc::new(DeferredFile(file)),
            false => Arc::new(file),
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let created = self.at(path);
        // The directory itself is named outside of it, where nobody else makes the name durable.
        let missing: Vec<_> = match path.as_os_str().is_empty() {
            true => created.ancestors().take_while(|a| !a.is_dir()).collect(),
            false => Vec::new(),
        };
        fs::create_dir_all(&created)?;
        for made in missing {
            let parent = made
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            fs::File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(self.at(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.at(path))? {
            let entry = entry?;
            // A name that is not text is none of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_dir = metadata.is_dir();
            let modified = metadata
                .modified()?
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            entries.push(DirEntry {
                name,
                is_dir,
                len: if is_dir { 0 } else { metadata.len() },
                modified: Timestamp::from_millis(
                    i64::try_from(modified.as_millis()).unwrap_or(i64::MAX),
                ),
            });
        }
        Ok(entries)
    }

    fn list_dirs(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at(path))? {
            let entry = entry?;
            // The kind comes with the name, so that nothing has to be asked of each of a hundred thousand.
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    /// The number of the file, and when it was last changed in any way: a copy differs in both.
    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        let metadata = fs::metadata(self.at(path))?;
        Ok(Some(FileIdentity([
            metadata.ino(),
            metadata.ctime().cast_unsigned(),
            metadata.ctime_nsec().cast_unsigned(),
        ])))
    }

    fn space(&self) -> io::Result<Option<Space>> {
        let system = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Ok(Some(Space {
            total_bytes: bytes(system.f_blocks),
            usable_bytes: bytes(system.f_bavail),
        }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.is_deferring() {
            return Ok(());
        }
        fs::File::open(self.at(path))?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn defer_syncs(&self) -> io::Result<()> {
        *self.deferred.lock() = Some(fs::File::open(&self.root)?);
        self.is_deferring.store(true, Ordering::Release);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn sync_deferred(&self) -> io::Result<()> {
        self.is_deferring.store(false, Ordering::Release);
        match self.deferred.lock().take() {
            Some(root) => Ok(rustix::fs::syncfs(&root)?),
            None => Ok(()),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let path = self.at(path);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // Two kinds of lock: this one holds against another broker in the same process too, the other one is what a Java
        // broker looks at.
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| match error {
                Errno::ACCESS => io::ErrorKind::WouldBlock.into(),
                error => io::Error::from(error),
            })?;
        Ok(Box::new(FsLock(file)))
    }
}

#[derive(Debug)]
struct FsLock(#[expect(dead_code, reason = "closing the file lets go of the lock")] fs::File);

impl Lock for FsLock {}

#[derive(Debug)]
struct FsFile(fs::File);

impl File for FsFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }

    #[cfg(target_os = "linux")]
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, parts, position)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.0.write_at(&parts.concat(), position)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// What is set aside for one log is lacking to all others, so a disk that is getting full sets nothing aside.
    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        let system = rustix::fs::fstatvfs(&self.0)?;
        let free = system.f_bavail.saturating_mul(system.f_frsize);
        if free / FREE_FOR_RESERVED < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, position, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => Ok(done?),
        }
    }

    fn set_modified(&self, modified: Timestamp) -> io::Result<()> {
        let millis = u64::try_from(modified.as_millis()).unwrap_or(0);
        self.0
            .set_modified(UNIX_EPOCH + Duration::from_millis(millis))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// A file that the file system makes durable along with all others.
#[derive(Debug)]
struct DeferredFile(FsFile);

impl File for DeferredFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.0.write_at(parts, position)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        self.0.reserve(position, len)
    }

    fn set_modified(&self, modified: Timestamp) -> io::Result<()> {
        self.0.set_modified(modified)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_against_the_same_process_until_dropped() {
        let root = tempfile::tempdir().unwrap();
        let dir = FsDir::new(root.path());
        let lock = dir.lock(Path::new(".lock")).unwrap();
        let error = dir.lock(Path::new(".lock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        dir.lock(Path::new(".lock")).unwrap();
    }

    #[test]
    fn parts_are_written_one_behind_the_other() {
        let root = tempfile::tempdir().unwrap();
        let dir = FsDir::new(root.path());
        let file = dir.open(Path::new("f"), Access::Create).unwrap();
        let mut parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
        file.write_all_at(&mut parts, 3).unwrap();
        let mut bytes = [9; 7];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0abcd");
        let error = file.read_exact_at(&mut [0; 8], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_deferred_is_synced_once_and_then_no_more_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = FsDir::new(root.path());
        let open = |name| dir.open(Path::new(name), Access::Create).unwrap();
        dir.defer_syncs().unwrap();
        assert!(dir.is_deferring());
        let file = open("f");
        file.write_all_at(&mut [IoSlice::new(b"ab")], 0).unwrap();
        file.sync_all().unwrap();
        dir.sync_dir(Path::new("")).unwrap();
        dir.sync_deferred().unwrap();
        assert!(!dir.is_deferring() && dir.deferred.lock().is_none());
        assert!(format!("{:?}", open("g")).starts_with("FsFile"));
        assert_eq!(file.len().unwrap(), 2);
    }

    #[test]
    fn a_disk_that_is_getting_full_sets_nothing_aside() {
        let root = tempfile::tempdir().unwrap();
        let dir = FsDir::new(root.path());
        let file = dir.open(Path::new("f"), Access::Create).unwrap();
        let blocks = || root.path().join("f").metadata().unwrap().blocks();
        let system = rustix::fs::statvfs(root.path()).unwrap();
        let free = system.f_bavail * system.f_frsize;
        // There would be room for it, but not for much else beside.
        let error = file.reserve(0, free / 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(blocks(), 0);
        file.reserve(0, 1 << 20).unwrap();
        assert!(blocks() > 0);
        assert_eq!(file.len().unwrap(), 0);
    }
}
