//! Files that are renamed, cut, copied, deleted and replaced while they are read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::lines::{Rules, TooLong};
use super::tails::{Line, Settings, Tails};

/// After how long a file is closed here.
const CLOSE_AFTER: Duration = Duration::from_secs(60);

/// A folder whose files are read.
struct Folder {
    dir: TempDir,
    tails: Tails,
    now: Instant,
}

fn settings(paths: &[PathBuf]) -> Settings {
    let paths = paths.iter().map(|path| path.display().to_string());
    Settings {
        paths: paths.collect(),
        rules: Rules {
            bytes_max: 1000,
            too_long: TooLong::Split,
            first_line: None,
        },
        from_end: false,
        join_wait: Duration::from_secs(1),
        close_after: CLOSE_AFTER,
        topic: "logs-{file}".parse().unwrap(),
        key: None,
        host: "here".into(),
    }
}

impl Folder {
    fn new(pattern: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tails = Tails::new(settings(&[dir.path().join(pattern)]), Default::default());
        Self {
            dir,
            tails,
            now: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Looks once and reads all there is: topics and values, file by file, whose order among themselves is open. All of it counts as
    /// acknowledged.
    fn read(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.tails.look(self.now, &mut lines);
        let mut hand_on = |line| {
            lines.push(line);
            true
        };
        while self.tails.read(self.now, &mut hand_on) {}
        lines.sort_by(|a, b| a.source.topic.cmp(&b.source.topic));
        acknowledged(lines)
    }

    /// A second process, with what the first has written down.
    fn restart(&mut self, settings: Settings) {
        let sources = self.tails.sources();
        let sources = sources.lock();
        let there = sources.iter().filter(|source| !source.is_over());
        let entries = there.map(|source| (source.identity, source.entry()));
        self.tails = Tails::new(settings, entries.collect());
    }

    fn restart_with(&mut self, pattern: &str) {
        self.restart(settings(&[self.path(pattern)]));
    }

    fn files(&self) -> usize {
        let sources = self.tails.sources();
        let sources = sources.lock();
        sources.iter().filter(|source| !source.is_over()).count()
    }

    fn news(&mut self) -> String {
        std::mem::take(&mut self.tails.notices.news).join("\n")
    }
}

fn acknowledged(lines: Vec<Line>) -> Vec<String> {
    let lines = lines.into_iter().map(|line| {
        line.source.shipped.store(line.piece.end, Ordering::Relaxed);
        let value = String::from_utf8(line.piece.value).unwrap();
        format!("{} {value}", line.source.topic)
    });
    lines.collect()
}

/// Long enough to tell files apart.
fn long(name: &str, lines: usize) -> String {
    (0..lines)
        .map(|n| format!("{name} line number {n:04}\n"))
        .collect()
}

#[test]
fn lines_come_as_they_are_written() {
    let mut folder = Folder::new("*.log");
    assert_eq!(folder.read(), [""; 0]);
    folder.append("a.log", "1\n2");
    folder.append("b.txt", "no\n");
    assert_eq!(folder.read(), ["logs-a.log 1"]);
    folder.append("a.log", "2\n3\n");
    folder.append("b.log", "x\n");
    let both = ["logs-a.log 22", "logs-a.log 3", "logs-b.log x"];
    assert_eq!(folder.read(), both);
    assert_eq!(folder.read(), [""; 0]);
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    let mut folder = Folder::new("app.log");
    folder.append("app.log", "1\n");
    assert_eq!(folder.read(), ["logs-app.log 1"]);
    folder.append("app.log", "2\n");
    folder.rename("app.log", "app.log.1");
    folder.append("app.log", "new\n");
    // Whoever had it open may write on.
    folder.append("app.log.1", "3\n");
    let mut read = folder.read();
    read.sort();
    assert_eq!(
        read,
        ["logs-app.log 2", "logs-app.log 3", "logs-app.log new"]
    );
    assert_eq!(folder.files(), 2);
    // After a while nobody does.
    folder.now += CLOSE_AFTER;
    assert_eq!(folder.read(), [""; 0]);
    assert_eq!(folder.files(), 1);
}

#[test]
fn a_name_that_is_matched_after_the_renaming_too_changes_nothing() {
    let mut folder = Folder::new("app.log*");
    folder.append("app.log", "1\n");
    folder.read();
    folder.rename("app.log", "app.log.1");
    folder.append("app.log.1", "2\n");
    folder.append("app.log", "new\n");
    let mut read = folder.read();
    read.sort();
    assert_eq!(read, ["logs-app.log 2", "logs-app.log new"]);
}

#[test]
fn a_file_that_is_cut_begins_anew() {
    let mut folder = Folder::new("app.log");
    folder.append("app.log", "1\n2\nhalf");
    assert_eq!(folder.read().len(), 2);
    fs::write(folder.path("app.log"), "3\n").unwrap();
    // What had no end will never have one.
    assert_eq!(folder.read(), ["logs-app.log half", "logs-app.log 3"]);
    assert!(folder.news().contains("was cut at byte 8"));
    // Also if it is longer than it was when somebody looks.
    fs::write(folder.path("app.log"), "a\nb\nc\n").unwrap();
    let read = folder.read();
    assert_eq!(
        read[read.len() - 3..],
        ["logs-app.log a", "logs-app.log b", "logs-app.log c"]
    );
}

#[test]
fn a_copy_of_what_was_cut_is_read_on_where_the_original_was() {
    let mut folder = Folder::new("app.log*");
    folder.append("app.log", &long("first", 50));
    assert_eq!(folder.read().len(), 50);
    // Written after the last look, and found in the copy only.
    folder.append("app.log", "late\n");
    fs::copy(folder.path("app.log"), folder.path("app.log.1")).unwrap();
    fs::write(folder.path("app.log"), "new\n").unwrap();
    let mut read = folder.read();
    read.sort();
    assert_eq!(read, ["logs-app.log late", "logs-app.log new"]);
    assert!(folder.news().contains("is what"));
}

#[test]
fn a_copy_is_held_back_until_the_original_is_cut() {
    let mut folder = Folder::new("app.log*");
    folder.append("app.log", &long("first", 50));
    assert_eq!(folder.read().len(), 50);
    fs::copy(folder.path("app.log"), folder.path("app.log.1")).unwrap();
    assert_eq!(folder.read(), [""; 0]);
    fs::write(folder.path("app.log"), "new\n").unwrap();
    assert_eq!(folder.read(), ["logs-app.log new"]);
    // One that is no rotation is a file of its own, a little later.
    fs::write(folder.path("app.log.2"), long("other", 20)).unwrap();
    assert_eq!(folder.read().len(), 20);
    fs::copy(folder.path("app.log.2"), folder.path("app.log.3")).unwrap();
    let read: usize = (0..20).map(|_| folder.read().len()).sum();
    assert_eq!(read, 20);
}

#[test]
fn what_is_left_of_a_deleted_file_is_read() {
    let mut folder = Folder::new("*.log");
    folder.append("a.log", "1\n");
    folder.read();
    folder.append("a.log", "2\nhalf");
    fs::remove_file(folder.path("a.log")).unwrap();
    assert_eq!(folder.read(), ["logs-a.log 2"]);
    folder.now += CLOSE_AFTER;
    assert_eq!(folder.read(), ["logs-a.log half"]);
    folder.read();
    assert_eq!(folder.files(), 0);
}

#[test]
fn what_does_not_grow_is_closed_and_opened_again() {
    let mut folder = Folder::new("*.log");
    folder.append("a.log", "1\n");
    folder.read();
    folder.now += CLOSE_AFTER;
    folder.read();
    folder.append("a.log", "2\n");
    assert_eq!(folder.read(), ["logs-a.log 2"]);
    folder.now += CLOSE_AFTER;
    folder.read();
    fs::write(folder.path("a.log"), "another\n").unwrap();
    assert_eq!(folder.read(), ["logs-a.log another"]);
    folder.now += CLOSE_AFTER;
    folder.read();
    fs::remove_file(folder.path("a.log")).unwrap();
    folder.read();
    assert_eq!(folder.files(), 0);
}

#[test]
fn a_restart_goes_on_where_the_last_acknowledgement_was() {
    let mut folder = Folder::new("app.log");
    folder.append("app.log", "1\n2\nhalf");
    assert_eq!(folder.read().len(), 2);
    folder.append("app.log", " done\n");
    folder.restart_with("app.log");
    assert_eq!(folder.read(), ["logs-app.log half done"]);
    // Renamed while nobody looked, to what no pattern matches.
    folder.append("app.log", "3\n");
    folder.rename("app.log", "old");
    folder.append("app.log", "new\n");
    folder.restart_with("app.log");
    let mut read = folder.read();
    read.sort();
    assert_eq!(read, ["logs-app.log 3", "logs-app.log new"]);
    // Gone while nobody looked.
    folder.append("app.log", "lost\n");
    fs::remove_file(folder.path("app.log")).unwrap();
    folder.restart_with("app.log");
    assert_eq!(folder.read(), [""; 0]);
    assert!(folder.news().contains("is gone; it was shipped up to byte"));
}

#[test]
fn another_file_with_the_same_inode_is_another_file() {
    let mut folder = Folder::new("app.log");
    folder.append("app.log", "first\n");
    folder.read();
    // The inode stays, the content is another's and longer.
    fs::write(folder.path("app.log"), "other\nand more\n").unwrap();
    folder.restart_with("app.log");
    assert_eq!(
        folder.read(),
        ["logs-app.log other", "logs-app.log and more"]
    );
}

#[test]
fn a_folder_that_is_away_for_a_while_is_not_forgotten() {
    let mut folder = Folder::new("mount/app.log");
    fs::create_dir(folder.path("mount")).unwrap();
    folder.append("mount/app.log", "1\n");
    folder.read();
    folder.rename("mount", "elsewhere");
    folder.restart_with("mount/app.log");
    assert_eq!(folder.read(), [""; 0]);
    assert_eq!(folder.tails.earlier().len(), 1);
    folder.rename("elsewhere", "mount");
    folder.append("mount/app.log", "2\n");
    assert_eq!(folder.read(), ["logs-app.log 2"]);
}

#[test]
fn what_was_there_may_be_passed_over() {
    let mut folder = Folder::new("*.log");
    folder.append("a.log", "old\n");
    let settings = Settings {
        from_end: true,
        ..settings(&[folder.path("*.log")])
    };
    folder.restart(settings);
    assert_eq!(folder.read(), [""; 0]);
    folder.append("a.log", "new\n");
    folder.append("b.log", "whole\n");
    assert_eq!(folder.read(), ["logs-a.log new", "logs-b.log whole"]);
}

#[test]
fn compressed_files_are_passed_over_and_folders_walked() {
    let mut folder = Folder::new("");
    fs::create_dir(folder.path("deep")).unwrap();
    folder.append("deep/a.log", "1\n");
    folder.append("b.gz", "text\n");
    fs::write(folder.path("c"), b"\x1f\x8b\x08\0\n\n").unwrap();
    assert_eq!(folder.read(), ["logs-a.log 1"]);
    assert_eq!(folder.tails.notices.ignored.len(), 2);
}

#[test]
fn what_cannot_be_read_holds_nobody_up() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let mut folder = Folder::new("*.log");
    symlink(folder.path("loop.log"), folder.path("loop.log")).unwrap();
    folder.append("closed.log", "secret\n");
    let closed = folder.path("closed.log");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    folder.append("open.log", "1\n");
    let read = folder.read();
    assert!(read.contains(&"logs-open.log 1".to_owned()), "{read:?}");
    let troubles = &folder.tails.notices.troubles;
    assert!(
        troubles.contains_key(&folder.path("loop.log")),
        "{troubles:?}"
    );
    // Whom no permission holds back reads it.
    let may_read = fs::read(&closed).is_ok();
    assert_eq!(troubles.contains_key(&closed), !may_read);
    assert_eq!(read.len(), 1 + usize::from(may_read));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(folder.read().len(), usize::from(!may_read));
}
