//! Files that are read on as they grow, whatever becomes of their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use super::lines::{Piece, Rules, Splitter};
use super::state::{Entry, Head, Identity};
use super::template::Template;

/// How much of a file's beginning tells it from others.
const HEAD_BYTES: usize = 1024;
/// A shorter beginning tells too little to take one file for a copy of another.
const COPIED_BYTES_MIN: usize = 64;
/// How much in front of a position is compared, too, before a file is taken for a copy.
const RECENT_BYTES: usize = 1024;
/// How many files that were cut are remembered, until a copy of them is found.
const CUT_MAX: usize = 64;
/// For how many looks a file is held back that may be a copy in the making.
const HELD_LOOKS: u32 = 10;
/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;
/// How much of a file is read before the next one has its turn.
const TURN_BYTES: u64 = 4 << 20;
/// How the names of compressed files end.
const COMPRESSED: [&str; 9] = ["gz", "bz2", "xz", "zst", "zip", "lz4", "lzma", "Z", "br"];
/// How compressed files begin.
const MAGIC: [&[u8]; 5] = [
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\0",
    b"BZh",
    b"PK\x03\x04",
];

/// A file in one life: from its beginning until it is cut or gone.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) identity: Identity,
    /// Under which name it was found first.
    pub(super) path: PathBuf,
    pub(super) topic: String,
    pub(super) key: Option<String>,
    head: Mutex<Head>,
    /// Everything in front of this byte was acknowledged.
    pub(super) shipped: AtomicU64,
    pub(super) size: AtomicU64,
    /// Where it ends, once nothing can follow.
    over_at: AtomicU64,
    /// Whether another life has begun in its place.
    is_replaced: AtomicBool,
}

impl Source {
    pub(super) fn entry(&self) -> Entry {
        Entry {
            identity: self.identity,
            path: self.path.clone(),
            head: *self.head.lock(),
            position: self.shipped.load(Ordering::Relaxed),
        }
    }

    /// Whether it need not be remembered any more.
    pub(super) fn is_over(&self) -> bool {
        let shipped = self.shipped.load(Ordering::Relaxed);
        self.is_replaced.load(Ordering::Relaxed) || shipped >= self.over_at.load(Ordering::Relaxed)
    }

    /// How many bytes were not acknowledged yet.
    pub(super) fn behind(&self) -> u64 {
        let size = self.size.load(Ordering::Relaxed);
        size.saturating_sub(self.shipped.load(Ordering::Relaxed))
    }
}

/// All files there are.
pub(super) type Sources = Arc<Mutex<Vec<Arc<Source>>>>;

/// A record, and where it is from.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) source: Arc<Source>,
    pub(super) piece: Piece,
}

/// Which files are read, and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Files, folders and patterns.
    pub(super) paths: Vec<String>,
    pub(super) rules: Rules,
    /// Whether what stands in files of which nothing is known at the start is passed over.
    pub(super) from_end: bool,
    /// For how long lines wait for those that belong to them.
    pub(super) join_wait: Duration,
    /// After how long a file that does not grow is closed.
    pub(super) close_after: Duration,
    pub(super) topic: Template,
    pub(super) key: Option<Template>,
    pub(super) host: String,
}

/// An open file.
struct Tail {
    source: Arc<Source>,
    file: File,
    splitter: Splitter,
    /// What stands in front of the position.
    recent: Vec<u8>,
    grown: Instant,
    modified: Option<SystemTime>,
    /// Whether it was found under some name in the last look.
    is_seen: bool,
}

/// A file that was cut: what stood in it may stand in a copy.
struct Cut {
    source: Arc<Source>,
    head: Head,
    recent: Vec<u8>,
    position: u64,
}

/// A file that is not open, since nothing has happened to it for a while.
struct Closed {
    source: Arc<Source>,
    position: u64,
    modified: Option<SystemTime>,
    is_seen: bool,
}

/// What there is to be said, since it may be that somebody has to do something.
#[derive(Default)]
pub(super) struct Notices {
    pub(super) news: Vec<String>,
    /// What cannot be read just now, and why.
    pub(super) troubles: BTreeMap<PathBuf, String>,
    /// What is not read, since it is compressed.
    pub(super) ignored: BTreeSet<PathBuf>,
    pub(super) shortened: u64,
}

/// All the files.
pub(super) struct Tails {
    settings: Settings,
    open: BTreeMap<Identity, Tail>,
    closed: BTreeMap<Identity, Closed>,
    /// What an earlier run has left.
    earlier: BTreeMap<Identity, Entry>,
    cut: Vec<Cut>,
    held: BTreeMap<Identity, u32>,
    sources: Sources,
    looks: u64,
    buffer: Vec<u8>,
    pub(super) notices: Notices,
}

impl Tails {
    pub(super) fn new(settings: Settings, earlier: BTreeMap<Identity, Entry>) -> Self {
        Self {
            settings,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            earlier,
            cut: Vec::new(),
            held: BTreeMap::new(),
            sources: Arc::default(),
            looks: 0,
            buffer: vec![0; READ_BYTES],
            notices: Notices::default(),
        }
    }

    pub(super) fn sources(&self) -> Sources {
        self.sources.clone()
    }

    /// What an earlier run has left of files that were not found yet, and may be there later.
    pub(super) fn earlier(&self) -> Vec<Entry> {
        self.earlier.values().cloned().collect()
    }

    /// Looks which files there are, and what has become of those that are known.
    pub(super) fn look(&mut self, now: Instant, lines: &mut Vec<Line>) {
        self.notices.troubles.clear();
        for identity in self.open.keys().copied().collect::<Vec<_>>() {
            self.check(identity, now, lines);
        }
        for tail in self.open.values_mut() {
            tail.is_seen = false;
        }
        for closed in self.closed.values_mut() {
            closed.is_seen = false;
        }
        for path in self.expand() {
            if let Err(error) = self.meet(&path, now) {
                self.notices.troubles.insert(path, error);
            }
        }
        self.find_earlier(now);
        self.close(now, lines);
        self.looks += 1;
    }

    /// Reads what has come, and hands on the records until nobody wants more. True if something had come.
    pub(super) fn read(&mut self, now: Instant, hand_on: &mut dyn FnMut(Line) -> bool) -> bool {
        let mut has_come = false;
        let mut pieces = Vec::new();
        let mut failed = Vec::new();
        for (identity, tail) in &mut self.open {
            let until = tail.splitter.position() + TURN_BYTES;
            while tail.splitter.position() < until {
                match tail.read(now, &mut self.buffer, &mut pieces) {
                    Ok(0) => break,
                    Ok(_) => has_come = true,
                    Err(error) => {
                        let path = tail.source.path.clone();
                        self.notices.troubles.insert(path, error.to_string());
                        failed.push(*identity);
                        break;
                    }
                }
                if !tail.give(&mut pieces, hand_on) {
                    return has_come;
                }
            }
            tail.splitter
                .settle(now, self.settings.join_wait, &mut pieces);
            self.notices.shortened += std::mem::take(&mut tail.splitter.shortened);
            if !tail.give(&mut pieces, hand_on) {
                return has_come;
            }
        }
        for identity in failed {
            // The next look opens it again.
            if let Some(tail) = self.open.remove(&identity) {
                let closed = Closed {
                    position: tail.splitter.unread(),
                    source: tail.source,
                    modified: None,
                    is_seen: true,
                };
                self.closed.insert(identity, closed);
            }
        }
        has_come
    }

    /// Gives what waits for more lines, and, if `unfinished`, also lines whose end has not come.
    pub(super) fn finish(&mut self, now: Instant, unfinished: bool, lines: &mut Vec<Line>) {
        let mut pieces = Vec::new();
        for tail in self.open.values_mut() {
            match unfinished {
                true => tail.splitter.finish(now, &mut pieces),
                false => tail.splitter.settle(now, Duration::ZERO, &mut pieces),
            }
            self.notices.shortened += std::mem::take(&mut tail.splitter.shortened);
            tail.give(&mut pieces, &mut |line| {
                lines.push(line);
                true
            });
        }
    }

    /// How many lines wait for their end.
    pub(super) fn unfinished(&self) -> usize {
        let tails = self.open.values();
        tails.filter(|tail| tail.splitter.is_within_line()).count()
    }

    /// Whether a file was cut; then what follows is a life of its own.
    fn check(&mut self, identity: Identity, now: Instant, lines: &mut Vec<Line>) {
        let Some(tail) = self.open.get_mut(&identity) else {
            return;
        };
        let Ok(metadata) = tail.file.metadata() else {
            return;
        };
        let modified = metadata.modified().ok();
        let is_same = match metadata.len() < tail.splitter.position() {
            true => false,
            false if modified == tail.modified => true,
            false => {
                tail.modified = modified;
                let known = *tail.source.head.lock();
                head_of(&tail.file, known.bytes).is_ok_and(|head| head == known)
            }
        };
        if is_same {
            return;
        }
        let position = tail.splitter.position();
        let mut pieces = Vec::new();
        tail.splitter.finish(now, &mut pieces);
        tail.give(&mut pieces, &mut |line| {
            lines.push(line);
            true
        });
        let old = tail.source.clone();
        old.is_replaced.store(true, Ordering::Relaxed);
        let cut = Cut {
            head: *old.head.lock(),
            recent: std::mem::take(&mut tail.recent),
            position,
            source: old.clone(),
        };
        let path = old.path.display();
        let text = format!("{path} was cut at byte {position}, and begins anew");
        self.notices.news.push(text);
        tail.splitter = Splitter::new(self.settings.rules.clone(), 0);
        tail.source = Arc::new(self.settings.source(identity, old.path.clone(), 0));
        register(&self.sources, &tail.source);
        self.cut.push(cut);
        if self.cut.len() > CUT_MAX {
            self.cut.remove(0);
        }
    }

    /// Every file that is meant.
    fn expand(&mut self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for text in &self.settings.paths {
            let path = PathBuf::from(text);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => walk(&path, &mut found, &mut self.notices),
                Ok(_) => drop(found.insert(path)),
                Err(error) => {
                    let is_pattern = text.contains(['*', '?', '[']);
                    match glob::glob(text) {
                        Ok(paths) if is_pattern => {
                            for path in paths {
                                match path {
                                    Ok(path) if path.is_dir() => {}
                                    Ok(path) => drop(found.insert(path)),
                                    Err(error) => {
                                        let why = error.error().to_string();
                                        let path = error.path().to_owned();
                                        self.notices.troubles.insert(path, why);
                                    }
                                }
                            }
                        }
                        _ => drop(self.notices.troubles.insert(path, error.to_string())),
                    }
                }
            }
        }
        found
    }

    /// A file under one of its names.
    fn meet(&mut self, path: &Path, now: Instant) -> Result<(), String> {
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| COMPRESSED.contains(&ending)) {
            self.notices.ignored.insert(path.to_owned());
            return Ok(());
        }
        if !metadata.is_file() {
            return Ok(());
        }
        let identity = identity(&metadata);
        if let Some(tail) = self.open.get_mut(&identity) {
            tail.is_seen = true;
            return Ok(());
        }
        if let Some(closed) = self.closed.get_mut(&identity) {
            closed.is_seen = true;
            let is_same = closed.modified.is_some() && closed.modified == metadata.modified().ok();
            if is_same && closed.position == metadata.len() {
                return Ok(());
            }
        }
        if self.notices.ignored.contains(path) {
            return Ok(());
        }
        self.open(path, identity, now)
            .map_err(|error| error.to_string())
    }

    fn open(&mut self, path: &Path, identity: Identity, now: Instant) -> io::Result<()> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if self::identity(&metadata) != identity {
            // It was replaced a moment ago; the next look finds the new one.
            return Ok(());
        }
        let mut start = [0; 8];
        let read = file.read_at(&mut start, 0)?;
        if MAGIC.iter().any(|magic| start[..read].starts_with(magic)) {
            self.notices.ignored.insert(path.to_owned());
            return Ok(());
        }
        let Some((source, position)) = self.source_of(path, identity, &file, metadata.len())?
        else {
            return Ok(());
        };
        let mut recent = vec![0; RECENT_BYTES.min(position as usize)];
        let before = position - recent.len() as u64;
        file.read_exact_at(&mut recent, before)?;
        *source.head.lock() = head_of(&file, HEAD_BYTES)?;
        source.size.store(metadata.len(), Ordering::Relaxed);
        let tail = Tail {
            source,
            file,
            splitter: Splitter::new(self.settings.rules.clone(), position),
            recent,
            grown: now,
            modified: None,
            is_seen: true,
        };
        self.open.insert(identity, tail);
        Ok(())
    }

    /// What is known of a file that is opened, and where to read on; nothing, if it is to be held back for now.
    fn source_of(
        &mut self,
        path: &Path,
        identity: Identity,
        file: &File,
        size: u64,
    ) -> io::Result<Option<(Arc<Source>, u64)>> {
        let is_same = |head: Head, position: u64| -> io::Result<bool> {
            Ok(size >= position && head_of(file, head.bytes)? == head)
        };
        if let Some(closed) = self.closed.remove(&identity) {
            let head = *closed.source.head.lock();
            if is_same(head, closed.position)? {
                return Ok(Some((closed.source, closed.position)));
            }
            closed.source.is_replaced.store(true, Ordering::Relaxed);
            return Ok(Some(self.begin(identity, closed.source.path.clone(), 0)));
        }
        if let Some(entry) = self.earlier.remove(&identity) {
            let is_known = entry.head.bytes > 0 && is_same(entry.head, entry.position)?;
            let (path, position) = match is_known {
                true => (entry.path, entry.position),
                // It was cut, or another file has got the inode.
                false => (path.to_owned(), 0),
            };
            return Ok(Some(self.begin(identity, path, position)));
        }
        if let Some(found) = self.cut_copied_to(file, size)? {
            let cut = self.cut.remove(found);
            let text = format!(
                "{} is what {} was before it was cut, and is read from byte {}",
                path.display(),
                cut.source.path.display(),
                cut.position
            );
            self.notices.news.push(text);
            let path = cut.source.path.clone();
            return Ok(Some(self.begin(identity, path, cut.position)));
        }
        if self.looks > 0 && self.may_become_copy(identity, file, size)? {
            return Ok(None);
        }
        let position = match self.looks == 0 && self.settings.from_end {
            true => size,
            false => 0,
        };
        Ok(Some(self.begin(identity, path.to_owned(), position)))
    }

    fn begin(&self, identity: Identity, path: PathBuf, position: u64) -> (Arc<Source>, u64) {
        let source = Arc::new(self.settings.source(identity, path, position));
        register(&self.sources, &source);
        (source, position)
    }

    /// Which of the files that were cut has left its content in this one.
    fn cut_copied_to(&self, file: &File, size: u64) -> io::Result<Option<usize>> {
        for (index, cut) in self.cut.iter().enumerate() {
            if is_copy(file, size, cut.head, &cut.recent, cut.position)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Whether the file has the content of another, which may be cut at once: that is how logs are rotated by copying.
    fn may_become_copy(&mut self, identity: Identity, file: &File, size: u64) -> io::Result<bool> {
        for tail in self.open.values() {
            let head = *tail.source.head.lock();
            let position = tail.splitter.position();
            if is_copy(file, size, head, &tail.recent, position)? {
                let looks = self.held.entry(identity).or_default();
                *looks += 1;
                if *looks > HELD_LOOKS {
                    self.held.remove(&identity);
                    return Ok(false);
                }
                return Ok(true);
            }
        }
        self.held.remove(&identity);
        Ok(false)
    }

    /// Files of an earlier run that nothing leads to any more: renamed while nobody looked, they are beside where they were.
    fn find_earlier(&mut self, now: Instant) {
        for entry in self.earlier() {
            let folder = entry.path.parent().filter(|it| !it.as_os_str().is_empty());
            let Ok(beside) = fs::read_dir(folder.unwrap_or_else(|| Path::new("."))) else {
                // It may come back.
                continue;
            };
            let same = beside.flatten().map(|it| it.path()).find(|path| {
                let metadata = fs::metadata(path);
                metadata.is_ok_and(|it| it.is_file() && identity(&it) == entry.identity)
            });
            if let Some(path) = same {
                if let Err(error) = self.open(&path, entry.identity, now) {
                    self.notices.troubles.insert(path, error.to_string());
                }
            } else if self.earlier.remove(&entry.identity).is_some() {
                let text = format!(
                    "{} is gone; it was shipped up to byte {}, and what followed was not",
                    entry.path.display(),
                    entry.position
                );
                self.notices.news.push(text);
            }
        }
    }

    /// Closes what has not grown for a while.
    fn close(&mut self, now: Instant, lines: &mut Vec<Line>) {
        let close_after = self.settings.close_after;
        let is_idle = |tail: &Tail| now.saturating_duration_since(tail.grown) >= close_after;
        let idle = self.open.iter().filter(|(_, tail)| is_idle(tail));
        let idle: Vec<_> = idle.map(|(identity, _)| *identity).collect();
        for identity in idle {
            let Some(mut tail) = self.open.remove(&identity) else {
                continue;
            };
            let is_read = tail
                .file
                .metadata()
                .is_ok_and(|it| it.len() <= tail.splitter.position());
            if !is_read || (tail.is_seen && tail.splitter.unread() < tail.splitter.position()) {
                self.open.insert(identity, tail);
            } else if tail.is_seen {
                let closed = Closed {
                    position: tail.splitter.position(),
                    source: tail.source,
                    modified: tail.file.metadata().and_then(|it| it.modified()).ok(),
                    is_seen: true,
                };
                self.closed.insert(identity, closed);
            } else {
                let mut pieces = Vec::new();
                tail.splitter.finish(now, &mut pieces);
                tail.give(&mut pieces, &mut |line| {
                    lines.push(line);
                    true
                });
                let end = tail.splitter.position();
                tail.source.over_at.store(end, Ordering::Relaxed);
            }
        }
        self.closed.retain(|_, closed| {
            if !closed.is_seen {
                closed
                    .source
                    .over_at
                    .store(closed.position, Ordering::Relaxed);
            }
            closed.is_seen
        });
    }
}

impl Settings {
    fn source(&self, identity: Identity, path: PathBuf, position: u64) -> Source {
        let key = self.key.as_ref().map(|key| key.fill(&path, &self.host));
        Source {
            identity,
            topic: self.topic.topic(&path, &self.host),
            key: key.filter(|key| !key.is_empty()),
            path,
            head: Mutex::default(),
            shipped: AtomicU64::new(position),
            size: AtomicU64::new(position),
            over_at: AtomicU64::new(u64::MAX),
            is_replaced: AtomicBool::new(false),
        }
    }
}

impl Tail {
    /// Reads what follows; how many bytes that is.
    fn read(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        pieces: &mut Vec<Piece>,
    ) -> io::Result<usize> {
        let position = self.splitter.position();
        let read = self.file.read_at(buffer, position)?;
        if read == 0 {
            return Ok(0);
        }
        let bytes = &buffer[..read];
        self.grown = now;
        let head = *self.source.head.lock();
        if head.bytes < HEAD_BYTES {
            *self.source.head.lock() = head_of(&self.file, HEAD_BYTES)?;
        }
        self.splitter.feed(now, bytes, pieces);
        self.recent
            .extend_from_slice(&bytes[read.saturating_sub(RECENT_BYTES)..]);
        let old = self.recent.len().saturating_sub(RECENT_BYTES);
        self.recent.drain(..old);
        let size = position + read as u64;
        self.source.size.fetch_max(size, Ordering::Relaxed);
        Ok(read)
    }

    /// Hands on; false, if nobody wants more.
    fn give(&self, pieces: &mut Vec<Piece>, hand_on: &mut dyn FnMut(Line) -> bool) -> bool {
        pieces.drain(..).all(|piece| {
            hand_on(Line {
                source: self.source.clone(),
                piece,
            })
        })
    }
}

fn register(sources: &Sources, source: &Arc<Source>) {
    let mut sources = sources.lock();
    sources.retain(|known| !known.is_over());
    sources.push(source.clone());
}

fn identity(metadata: &Metadata) -> Identity {
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// The hash of the first bytes, or of as many as there are.
fn head_of(file: &File, bytes: usize) -> io::Result<Head> {
    let mut start = [0; HEAD_BYTES];
    let start = &mut start[..bytes.min(HEAD_BYTES)];
    let mut read = 0;
    while read < start.len() {
        match file.read_at(&mut start[read..], read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(Head {
        bytes: read,
        hash: XxHash3_64::oneshot(&start[..read]),
    })
}

/// Whether a file has what another had: its beginning, and what stood in front of the position.
fn is_copy(file: &File, size: u64, head: Head, recent: &[u8], position: u64) -> io::Result<bool> {
    if head.bytes < COPIED_BYTES_MIN || size < position || head_of(file, head.bytes)? != head {
        return Ok(false);
    }
    let mut there = vec![0; recent.len()];
    file.read_exact_at(&mut there, position - recent.len() as u64)?;
    Ok(there == recent)
}

/// All files below a folder.
fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>, notices: &mut Notices) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            notices
                .troubles
                .insert(folder.to_owned(), error.to_string());
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, found, notices),
            _ => drop(found.insert(path)),
        }
    }
}
