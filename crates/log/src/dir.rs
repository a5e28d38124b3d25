use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_types::Timestamp;

use crate::files::OpenFiles;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; the file is created if it does not exist.
    Create,
    /// For reading and writing; the file is created, or emptied if it exists.
    Truncate,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the path of the directory.
    pub name: String,
    /// Whether the name stands for a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// When the content was last changed.
    pub modified: Timestamp,
}

/// Tells a file from another one that was put in its place, see [`Dir::identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity(pub [u64; 3]);

/// How large the volume of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What this process may still write, in bytes.
    pub usable_bytes: u64,
}

/// A directory on a disk, or what a test takes for one: all the file operations that a log needs and no more.
///
/// Paths are relative to the directory. Nothing is durable before it was asked for: the bytes of a file after
/// [`File::sync_data`] or [`File::sync_all`], names (created, renamed, removed) after [`Dir::sync_dir`] of the directory
/// that holds them.
pub trait Dir: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Creates a directory and its parents; one that exists is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or a directory, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Lists a directory, in no certain order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// The names of the directories in a directory, in no certain order.
    fn list_dirs(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = self.list(path)?.into_iter().filter(|entry| entry.is_dir);
        Ok(entries.map(|entry| entry.name).collect())
    }
    /// What tells this very file from one of the same name and content that was put in its place. `None` if the directory
    /// cannot tell.
    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        let _ = path;
        Ok(None)
    }
    /// How large the volume is; `None` if that is not known.
    fn space(&self) -> io::Result<Option<Space>> {
        Ok(None)
    }
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// From now on what syncs files that are opened now, or names, need not make them durable: [`sync_deferred`](Self::sync_deferred)
    /// does so for all at once. A directory that cannot do that goes on as before.
    fn defer_syncs(&self) -> io::Result<()> {
        Ok(())
    }
    /// Makes durable what was deferred, and defers no more.
    fn sync_deferred(&self) -> io::Result<()> {
        Ok(())
    }
    /// Takes a lock on a file, which is created if needed. Fails with [`io::ErrorKind::WouldBlock`] if somebody else, in
    /// this process or another, holds it. Dropping the answer lets go of it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// What keeps the number of open files within a bound; `None` for no bound.
    fn open_files(&self) -> Option<&OpenFiles> {
        None
    }
}

/// A held lock on a file.
pub trait Lock: Send + Sync + fmt::Debug {}

/// An open file. Reads and writes name their position, so that many may share it.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads into `buf` from `position`; may read less than asked for, and 0 only at the end.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes the parts one behind the other at `position`; may write less than given.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or extends it by zero bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Asks for blocks on the disk for `len` bytes from `position` on, without changing the length. Only a hint: where the
    /// file system has no such thing, nothing happens; [`io::ErrorKind::StorageFull`] says that too little would be left.
    fn reserve(&self, position: u64, len: u64) -> io::Result<()> {
        let _ = (position, len);
        Ok(())
    }
    /// Sets when the content was last changed. Only a hint, for records without timestamp.
    fn set_modified(&self, modified: Timestamp) -> io::Result<()> {
        let _ = modified;
        Ok(())
    }
    /// Makes the bytes durable, and the length as far as needed to read them.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the bytes and all that is known about the file durable.
    fn sync_all(&self) -> io::Result<()>;
    /// The descriptor, for `sendfile`; a file in memory has none.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

impl dyn File + '_ {
    /// Fills `buf` from `position`, or fails with [`io::ErrorKind::UnexpectedEof`].
    pub fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        match self.read_full_at(buf, position)? {
            n if n == buf.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Reads into `buf` until it is full or the file ends, and returns how much that was.
    pub fn read_full_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read_at(&mut buf[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Writes all parts at `position`, with one system call unless the system takes less.
    pub fn write_all_at(&self, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut parts = parts;
        let mut position = position;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.write_at(parts, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    IoSlice::advance_slices(&mut parts, n);
                    position += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads a whole small file, or `None` if it does not exist.
pub(crate) fn read_file(dir: &dyn Dir, path: &Path) -> io::Result<Option<Bytes>> {
    let file = match dir.open(path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    read_all(&*file).map(Some)
}

/// Reads a small file from its beginning to its end.
pub(crate) fn read_all(file: &dyn File) -> io::Result<Bytes> {
    let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; len];
    let n = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(n);
    Ok(bytes.into())
}

/// Replaces a small file as a whole: after a crash there is the old or the new content, never something between. The
/// caller syncs the directory.
pub(crate) fn replace_file(dir: &dyn Dir, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let file = dir.open(temporary, Access::Truncate)?;
    file.write_all_at(&mut [IoSlice::new(content)], 0)?;
    file.sync_all()?;
    dir.rename(temporary, path)
}

/// Removes a file; one that does not exist is fine.
pub(crate) fn remove_if_exists(dir: &dyn Dir, path: &Path) -> io::Result<()> {
    match dir.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory with everything in it; one that does not exist is fine.
pub(crate) fn remove_tree(dir: &dyn Dir, path: &Path) -> io::Result<()> {
    let entries = match dir.list(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let child = path.join(&entry.name);
        match entry.is_dir {
            true => remove_tree(dir, &child)?,
            false => remove_if_exists(dir, &child)?,
        }
    }
    dir.remove_dir(path)
}
