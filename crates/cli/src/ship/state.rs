//! How far each file was shipped, on disk.
//!
//! The file is written anew each time, flushed, and put in the place of the old one: it is the old one or the new one, whatever
//! happens.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a later version cannot take for its own.
const VERSION: u32 = 1;

/// Which file it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// How a file begins: by that another file is known that has got the inode of one that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Of how many bytes the hash is.
    pub(super) bytes: usize,
    pub(super) hash: u64,
}

/// A file, and how far it was shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) identity: Identity,
    /// Under which name it was found first.
    pub(super) path: PathBuf,
    #[serde(flatten)]
    pub(super) head: Head,
    /// Everything in front of this byte was acknowledged.
    pub(super) position: u64,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    files: Vec<Entry>,
}

/// The state file, which nobody else writes.
pub(super) struct State {
    path: PathBuf,
    /// Held as long as this.
    _lock: File,
    written: Vec<Entry>,
}

impl State {
    /// Opens the state, and gives what is in it.
    pub(super) fn open(path: &Path) -> Result<(Self, BTreeMap<Identity, Entry>), String> {
        let cannot = |error: io::Error| format!("the state {}: {error}", path.display());
        if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(cannot)?;
        }
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true);
        let lock = options.open(path.with_added_extension("lock"));
        let lock = lock.map_err(cannot)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => format!(
                "the state {} is in use by another `tidelog ship`; --state names another",
                path.display()
            ),
            TryLockError::Error(error) => cannot(error),
        })?;
        let content = match fs::read(path) {
            Ok(bytes) => {
                read(&bytes).map_err(|why| format!("the state {}: {why}", path.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(cannot(error)),
        };
        let state = Self {
            path: path.to_owned(),
            _lock: lock,
            written: content.clone(),
        };
        let entries = content.into_iter().map(|entry| (entry.identity, entry));
        Ok((state, entries.collect()))
    }

    /// Writes it, if it is another than the last time.
    pub(super) fn write(&mut self, files: Vec<Entry>) -> Result<(), String> {
        if files == self.written {
            return Ok(());
        }
        let written = self.replace(&files);
        written.map_err(|error| format!("the state {}: {error}", self.path.display()))?;
        self.written = files;
        Ok(())
    }

    fn replace(&self, files: &[Entry]) -> io::Result<()> {
        let content = Content {
            version: VERSION,
            files: files.to_vec(),
        };
        let new = self.path.with_added_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&content)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let content: Content = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match content.version {
        VERSION => Ok(content.files),
        version => Err(format!(
            "it is of version {version}, and this knows {VERSION}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(inode: u64, position: u64) -> Entry {
        Entry {
            identity: Identity { device: 1, inode },
            path: "/var/log/a".into(),
            head: Head {
                bytes: 3,
                hash: u64::MAX,
            },
            position,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state.json");
        let (mut state, found) = State::open(&path).unwrap();
        assert!(found.is_empty());
        state.write(vec![entry(1, 10), entry(2, 20)]).unwrap();
        state.write(vec![entry(2, 30)]).unwrap();
        let busy = State::open(&path).err().unwrap();
        assert!(busy.contains("in use by another"), "{busy}");
        drop(state);
        let (_, found) = State::open(&path).unwrap();
        assert_eq!(found.into_values().collect::<Vec<_>>(), [entry(2, 30)]);
    }

    /// Guessing would lose or double what is in the files.
    #[test]
    fn a_state_that_makes_no_sense_is_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for (text, why) in [
            ("{\"version\":1,\"fil", "EOF"),
            ("{\"version\":2,\"files\":[]}", "version 2"),
        ] {
            fs::write(&path, text).unwrap();
            let error = State::open(&path).err().unwrap();
            assert!(error.contains(why), "{error}");
        }
    }
}
