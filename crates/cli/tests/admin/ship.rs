//! `tidelog ship`: what stands in files stands in topics, whatever happens between them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Server, eventually, fresh, tidelog};

/// A folder with files and a state.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn append(&self, name: &str, text: &str) {
        append(&self.path(name), text);
    }
}

fn append(path: &Path, text: &str) {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// The values of a topic.
fn values(server: &Server, topic: &str) -> Vec<String> {
    let printed = server.says(&["consume", topic]);
    printed.lines().map(str::to_owned).collect()
}

/// The command at work.
struct Ship(Child);

impl Ship {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_tidelog"))
            .args(["ship", "--poll", "5ms"])
            .args(arguments)
            .env_clear()
            .env("TIDELOG_BOOTSTRAP_SERVER", server.address())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(command.unwrap())
    }

    /// Ends it as a service manager does.
    fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut said).unwrap();
        let mut complained = String::new();
        std::io::Read::read_to_string(&mut self.0.stderr.take().unwrap(), &mut complained).unwrap();
        assert!(self.0.wait().unwrap().success(), "{complained}");
        said
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shipped_is_not_shipped_again() {
    let server = Server::start().await;
    let topic = fresh("shipped");
    let place = Place::new();
    let (log, state) = (place.name("app.log"), place.name("state"));
    let once = ["ship", &log, "-t", &topic, "--state", &state, "--once"];
    place.append("app.log", "one\ntwo\nthr");
    let missing = server.refuses(&once);
    assert!(
        missing[0].ends_with("--create lets this command do that"),
        "{missing:?}"
    );
    let said = tidelog(
        server.address(),
        &[&once[..], &["--create", "-p", "1"]].concat(),
    );
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(
        text,
        "shipped: 2 records of 1 file; 1 unfinished line waiting\n"
    );
    place.append("app.log", "ee\n");
    let said = server.json(&once);
    assert_eq!(said["records"], 1);
    assert_eq!(said["files"][0]["position"], 14);
    assert_eq!(said["files"][0]["behind"], 0);
    assert_eq!(server.json(&once)["records"], 0);
    assert_eq!(values(&server, &topic), ["one", "two", "three"]);
    let format = r"%k %h\n";
    let origin = server.says(&["consume", &topic, "-f", format, "--from", "-1"]);
    assert!(
        origin.contains(&format!(":{log} file={log},host=")),
        "{origin}"
    );
    assert!(origin.ends_with(",offset=8\n"), "{origin}");
    place.append("app.log", "end");
    let said = server.json(&[&once[..], &["--unfinished"]].concat());
    assert_eq!(said["records"], 1);
    server.stop().await;
}

/// The process dies after the broker has acknowledged, and before that was written down.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_state_is_written_loses_nothing() {
    let server = Server::start().await;
    let topic = fresh("crashed");
    server.creates(&topic, &["--partitions", "1"]).await;
    let place = Place::new();
    let (log, state) = (place.name("app.log"), place.name("state"));
    let once = ["ship", &log, "-t", &topic, "--state", &state, "--once"];
    place.append("app.log", "1\n2\n");
    server.json(&once);
    let before = fs::read(&state).unwrap();
    place.append("app.log", "3\n");
    server.json(&once);
    fs::write(&state, before).unwrap();
    // A new state that was not put in its place yet.
    fs::write(place.path("state.new"), "{\"vers").unwrap();
    assert_eq!(server.json(&once)["records"], 1);
    assert_eq!(values(&server, &topic), ["1", "2", "3", "3"]);
    // By its origin it is seen that it is the same.
    let origins = server.says(&["consume", &topic, "-f", r"%h\n", "--from", "2"]);
    let origins: Vec<_> = origins.lines().collect();
    assert_eq!(origins[0], origins[1]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_loses_and_doubles_nothing() {
    const LINES: usize = 20_000;
    const ROTATE_EVERY: usize = 1_500;
    let server = Server::start().await;
    let topic = fresh("rotated");
    server.creates(&topic, &["--partitions", "1"]).await;
    let place = Place::new();
    let (pattern, state) = (place.name("app.log*"), place.name("state"));
    let ship = Ship::start(&server, &[&pattern, "-t", &topic, "--state", &state]);
    let (log, folder) = (place.path("app.log"), place.dir.path().to_owned());
    let writer = std::thread::spawn(move || {
        for number in 0..LINES {
            append(&log, &format!("line {number:05} of many that are alike\n"));
            if number % ROTATE_EVERY == ROTATE_EVERY - 1 {
                let old = folder.join(format!("app.log.{}", number / ROTATE_EVERY));
                fs::rename(&log, old).unwrap();
            }
        }
    });
    let shipped = async || {
        let said = server.json(&["topic", "describe", &topic, "--offsets"]);
        said[0]["partitions"][0]["end"].as_u64().unwrap()
    };
    let end = eventually(shipped, |end| *end >= LINES as u64).await;
    assert_eq!(end, LINES as u64);
    writer.join().unwrap();
    let said = ship.stop();
    assert!(
        said.starts_with(&format!("shipped: {LINES} records of ")),
        "{said}"
    );
    let mut all = values(&server, &topic);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), LINES);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_goes_on_and_loses_nothing() {
    const LINES: usize = 6_000;
    let server = Server::start().await;
    let topic = fresh("killed");
    server.creates(&topic, &["--partitions", "1"]).await;
    let place = Place::new();
    let (log, state) = (place.name("app.log"), place.name("state"));
    let arguments = [log.as_str(), "-t", &topic, "--state", &state];
    for part in 0..3 {
        let first = part * LINES / 3;
        let ship = Ship::start(&server, &arguments);
        for number in first..first + LINES / 3 {
            place.append("app.log", &format!("{number}\n"));
        }
        // At some time in the middle of it.
        let some = async || values(&server, &topic).len();
        eventually(some, |count| *count > first).await;
        ship.kill();
    }
    let once = [&["ship"], &arguments[..], &["--once"]].concat();
    server.json(&once);
    let all = values(&server, &topic);
    let mut numbers: Vec<usize> = all.iter().map(|value| value.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..LINES).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shipped_is_said() {
    let server = Server::start().await;
    let place = Place::new();
    let state = place.name("state");
    let topic = fresh("said");
    server.creates(&topic, &["--partitions", "1"]).await;
    let nowhere = place.name("nowhere.log");
    let refused = server.refuses(&["ship", &nowhere, "-t", &topic, "--state", &state, "--once"]);
    assert!(
        refused[0].starts_with(&format!("cannot read {nowhere}: No such file")),
        "{refused:?}"
    );
    assert_eq!(refused[1], format!("not shipped: {nowhere}"));
    fs::write(place.path("broken"), "no state").unwrap();
    let broken = place.name("broken");
    let refused = server.refuses(&["ship", &nowhere, "-t", &topic, "--state", &broken, "--once"]);
    assert!(
        refused[0].starts_with(&format!("the state {broken}: ")),
        "{refused:?}"
    );
    // Lines that belong together, and a header of one's own.
    place.append("trace.log", "1 error\n at x\n2 fine\n");
    let arguments = [
        "ship",
        &place.name("trace.log"),
        "-t",
        &topic,
        "--state",
        &state,
        "--once",
        "--first-line",
        "^[0-9]",
        "--no-origin",
        "-H",
        "app=shop",
        "-k",
        "",
    ];
    assert_eq!(server.json(&arguments)["records"], 2);
    let printed = server.says(&["consume", &topic, "-f", r"[%s] %K %h\n"]);
    assert_eq!(
        printed,
        "[1 error\n at x] -1 app=shop\n[2 fine] -1 app=shop\n"
    );
    server.stop().await;
}
