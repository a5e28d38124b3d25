//! The binary as its user meets it: what it says when it serves, how it ends, and what it refuses.
//!
//! Every port is one that the system chose.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_tidelog");
const ANY_PORT: [&str; 2] = ["--listener", "127.0.0.1:0"];

#[test]
fn the_ready_line_says_where_and_how() {
    let home = Home::new();
    let data = home.path("data");
    let mut broker = Running::start(&home, &["--listener", "localhost:0", "--data", &data]);
    let line = broker.line();
    let port = port_of(&line);
    let expected = format!("tidelog ready on localhost:{port}, data in {data}, durability fsync\n");
    assert_eq!(line, expected);
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    if TcpListener::bind("[::1]:0").is_ok() {
        TcpStream::connect(("::1", port)).expect("localhost means both loopbacks");
    }
    assert_eq!(broker.stop("TERM"), (Some(0), String::new()));
}

#[test]
fn listeners_given_by_flags_need_no_names() {
    let home = Home::new();
    let data = home.path("data");
    let listeners = ["127.0.0.1:0", "localhost:0", "INSIDE://127.0.0.1:0"];
    let listeners = listeners
        .iter()
        .flat_map(|listener| ["--listener", listener]);
    let arguments: Vec<_> = listeners.chain(["--data", &data]).collect();
    let mut broker = Running::start(&home, &arguments);
    assert!(broker.line().starts_with("tidelog ready on 127.0.0.1:"));
    assert_eq!(broker.stop("TERM"), (Some(0), String::new()));
}

#[test]
fn both_signals_stop_in_order() {
    let home = Home::new();
    let data = home.path("data");
    let mark = Path::new(&data).join(".kafka_cleanshutdown");
    for signal in ["TERM", "INT"] {
        let mut broker = Running::start(&home, &[&ANY_PORT[..], &["--data", &data]].concat());
        broker.line();
        assert!(!mark.exists(), "a crash from now on is a crash");
        assert_eq!(broker.stop(signal), (Some(0), String::new()));
        assert!(mark.exists(), "SIG{signal} is an orderly end");
    }
}

#[test]
fn a_configuration_of_kafka_is_taken() {
    let home = Home::new();
    let data = home.path("data");
    let config = home.write(
        "server.properties",
        &format!(
            "# as Kafka has it\nprocess.roles=broker,controller\nnode.id=7\nlog.dirs={data}\n\
             listeners=EXTERNAL://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=EXTERNAL\n\
             listener.security.protocol.map=EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             offsets.topic.replication.factor=1\nno.such.key=1\n"
        ),
    );
    let arguments = ["--config", &config, "--durability", "page-cache"];
    let mut broker = Running::start(&home, &arguments);
    assert_eq!(
        broker.line(),
        "[KafkaRaftServer nodeId=7] Kafka Server started\n"
    );
    let line = broker.line();
    assert!(
        line.ends_with(&format!(", data in {data}, durability page-cache\n")),
        "{line}"
    );
    let (code, errors) = broker.stop("TERM");
    assert_eq!(code, Some(0));
    assert_eq!(
        errors,
        "tidelog: warning: no.such.key: unknown, and without effect\n"
    );
}

#[test]
fn with_memory_nothing_is_written() {
    let home = Home::new();
    let data = home.path("data");
    let arguments = [&ANY_PORT[..], &["--data", &data, "--durability", "memory"]].concat();
    let mut broker = Running::start(&home, &arguments);
    assert!(broker.line().ends_with("durability memory\n"));
    assert_eq!(broker.stop("TERM"), (Some(0), String::new()));
    assert_eq!(home.tree(), BTreeMap::new());
}

#[test]
fn a_directory_in_use_is_refused() {
    let home = Home::new();
    let data = home.path("data");
    let arguments = [&ANY_PORT[..], &["--data", &data]].concat();
    let mut first = Running::start(&home, &arguments);
    first.line();
    home.refuses(&arguments, &[&data, "in use by another broker"]);
    // The first one is none the worse for it.
    assert_eq!(first.stop("TERM"), (Some(0), String::new()));
    let mut again = Running::start(&home, &arguments);
    again.line();
    assert_eq!(again.stop("TERM").0, Some(0));
}

#[test]
fn a_port_in_use_is_refused_before_the_disk_is_touched() {
    let home = Home::new();
    let data = home.path("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.refuses(
        &["--listener", &address, "--data", &data],
        &[&address, "in use"],
    );
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let home = Home::new();
    let file = home.write("file", "not a directory");
    let below = format!("{file}/data");
    for data in [&file, &below] {
        let arguments = [&ANY_PORT[..], &["--data", data]].concat();
        home.refuses(&arguments, &[data, "or choose another directory"]);
    }
}

#[test]
fn a_foreign_or_damaged_identity_is_refused() {
    let home = Home::new();
    let data = home.path("data");
    let [first, second] = ["first", "second"].map(|name| format!("{data}/{name}"));
    let arguments = ["--data", &first, "--data", &second];
    let arguments = [&ANY_PORT[..], &arguments].concat();
    let id = "directory.id=6vs2e6t7Q1axMtaBRNKoDg\n";
    let good = format!("version=1\ncluster.id=one\nnode.id=1\n{id}");
    fs::create_dir_all(&first).unwrap();
    fs::create_dir_all(&second).unwrap();
    fs::write(format!("{first}/meta.properties"), &good).unwrap();
    for (text, words) in [
        (
            good.replace("node.id=1", "node.id=5"),
            &["node 5", "correct node.id"][..],
        ),
        (
            good.replace("cluster.id=one", "cluster.id=two"),
            &["cluster two"],
        ),
        (
            good.replace("version=1", "version=0"),
            &["version 0", "ZooKeeper"],
        ),
        (
            good.replace("node.id=1", "node.id=one"),
            &["node.id is not a number"],
        ),
        (
            good.replace("cluster.id=one", ""),
            &["cluster.id is missing"],
        ),
        (String::new(), &["version is missing"]),
    ] {
        fs::write(format!("{second}/meta.properties"), text).unwrap();
        home.refuses(&arguments, &[&["meta.properties", &second], words].concat());
    }
}

#[test]
fn a_damaged_configuration_is_refused() {
    let home = Home::new();
    let absent = home.path("absent.properties");
    home.refuses(&["--config", &absent], &[&absent, "cannot read"]);
    for (text, words) in [
        ("log.dirs=\\u00zz", &["line 1", "hexadecimal"][..]),
        ("num.partitions=many", &["num.partitions", "many"]),
        (
            "listeners=nonsense",
            &["listeners", "nonsense", "NAME://host:port"],
        ),
        (
            "listeners=PLAINTEXT://localhost:99999",
            &["listeners", "99999"],
        ),
        (
            "listeners=INSIDE://localhost:0",
            &["INSIDE", "listener.security.protocol.map"],
        ),
        ("listeners=SSL://localhost:0", &["SSL", "PLAINTEXT"]),
        ("process.roles=broker", &["process.roles=broker,controller"]),
        (
            "controller.quorum.voters=1@a:1,2@b:1",
            &["controller.listener.names"],
        ),
        (
            "controller.quorum.voters=1@a:1,2",
            &["controller.quorum.voters", "id@host:port"],
        ),
        (
            "listeners=PLAINTEXT://localhost:0,CONTROLLER://localhost:0\n\
             controller.quorum.voters=1@a:1,2@b:1",
            &["not formatted", "tidelog format"],
        ),
        ("tidelog.durability=hope", &["tidelog.durability", "hope"]),
    ] {
        // Where something would go wrong after all, it goes wrong inside of the home.
        let data = home.path("data");
        let config = home.write("server.properties", &format!("{text}\n"));
        let set = format!("log.dirs={data}");
        let arguments = match text.starts_with("log.dirs") {
            true => vec!["--config", &config],
            false => vec!["--config", &config, "--set", &set],
        };
        home.refuses(&arguments, words);
    }
    home.refuses(
        &["--set", "num.partitions"],
        &["--set num.partitions", "KEY=VALUE"],
    );
}

#[test]
fn format_and_start() {
    let home = Home::new();
    let data = home.path("data");
    let config = home.write(
        "server.properties",
        &format!(
            "node.id=3\nlog.dirs={data}\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:9\n\
             controller.listener.names=CONTROLLER\noffsets.topic.replication.factor=1\n"
        ),
    );
    let format = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command
            .current_dir(&home.0)
            .args(["format", "-t", "the-cluster", "-c", &config]);
        command.args(arguments).output().unwrap()
    };
    let refused = |arguments: &[&str], words: &[&str]| {
        let before = home.tree();
        expect_refused(&format(arguments), words);
        assert_eq!(home.tree(), before);
    };
    refused(
        &[],
        &[
            "--standalone",
            "--initial-controllers",
            "--no-initial-controllers",
        ],
    );
    refused(
        &["--standalone", "--release-version", "9.9"],
        &["9.9", "3.3-IV3 to 4.3-IV0"],
    );
    refused(
        &["--standalone", "--feature", "share.version=1"],
        &["share.version"],
    );
    refused(
        &["--standalone", "--feature", "group.version"],
        &["NAME=LEVEL"],
    );
    refused(
        &["--initial-controllers", "3@h"],
        &["3@h", "id@host:port:directory-id"],
    );

    let done = format(&["--standalone", "--feature", "kraft.version=1", "-r", "4.1"]);
    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.starts_with(&format!(
        "formatted dynamic metadata voter directory {data}"
    )));
    assert!(said.ends_with("metadata.version 4.1-IV1\n"), "{said}");
    let names: Vec<_> = home.tree().into_keys().collect();
    let quorum = "data/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint";
    let expected = [
        quorum,
        "data/bootstrap.checkpoint",
        "data/meta.properties",
        "server.properties",
    ];
    assert_eq!(names, expected.map(PathBuf::from));

    refused(
        &["--standalone"],
        &[&data, "already formatted", "--ignore-formatted"],
    );
    let identity = fs::read_to_string(format!("{data}/meta.properties")).unwrap();
    assert!(identity.contains("cluster.id=the-cluster\n"), "{identity}");
    let done = format(&["--standalone", "--ignore-formatted"]);
    assert_eq!(done.status.code(), Some(0));

    let mut broker = Running::start(&home, &["--config", &config]);
    assert_eq!(
        broker.line(),
        "[KafkaRaftServer nodeId=3] Kafka Server started\n"
    );
    broker.line();
    assert_eq!(broker.stop("TERM"), (Some(0), String::new()));
    assert_eq!(
        fs::read_to_string(format!("{data}/meta.properties")).unwrap(),
        identity
    );
}

#[test]
fn a_service_manager_hears_that_the_broker_serves_lives_and_stops() {
    let home = Home::new();
    let (data, path) = (home.path("data"), home.path("notify"));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let told = || {
        let mut text = [0; 1024];
        let len = socket
            .recv(&mut text)
            .expect("the manager is told something");
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    let environment = [("NOTIFY_SOCKET", &*path), ("WATCHDOG_USEC", "30000")];
    let arguments = [&ANY_PORT[..], &["--data", &data]].concat();
    let mut broker = Running::start_in(&home, &arguments, &environment);
    let line = broker.line();
    assert_eq!(told(), format!("READY=1\nSTATUS={line}"));
    // It goes on.
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    assert_eq!(broker.stop("TERM"), (Some(0), String::new()));
    let last = std::iter::repeat_with(told).find(|it| it != "WATCHDOG=1\n");
    assert_eq!(last.as_deref(), Some("STOPPING=1\n"));
}

/// A folder in which all of a test happens.
struct Home(
    PathBuf,
    #[expect(dead_code, reason = "removes the folder when dropped")] TempDir,
);

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self(folder.path().canonicalize().unwrap(), folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    /// Every file and folder without files, with its content.
    fn tree(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut tree = BTreeMap::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            let entries: Vec<_> = fs::read_dir(&folder)
                .unwrap()
                .map(|e| e.unwrap().path())
                .collect();
            let name = |path: &Path| path.strip_prefix(&self.0).unwrap().to_owned();
            if entries.is_empty() && folder != self.0 {
                tree.insert(name(&folder), None);
            }
            for path in entries {
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(tree.insert(name(&path), Some(fs::read(&path).unwrap()))),
                }
            }
        }
        tree
    }

    /// `tidelog broker` ends with exit code 2 and one line that has all of `words`, and changes nothing.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let before = self.tree();
        let mut command = Command::new(BINARY);
        command.current_dir(&self.0).arg("broker").args(arguments);
        expect_refused(&command.output().unwrap(), words);
        assert_eq!(self.tree(), before, "{arguments:?} left something behind");
    }
}

fn expect_refused(output: &Output, words: &[&str]) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert_eq!(
        (errors.lines().count(), &output.stdout[..]),
        (1, &[][..]),
        "{errors}"
    );
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
}

/// A broker in a process of its own, which is killed when the test is over.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::start_in(home, arguments, &[])
    }

    fn start_in(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut process = Command::new(BINARY)
            .current_dir(&home.0)
            .envs(environment.iter().copied())
            .arg("broker")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// The next line on standard output; what the broker complained of if it has ended instead.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("the broker ended: {}", self.errors());
        }
        line
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        errors
    }

    /// Sends a signal, and waits for the end. Answers the exit code and what was written to standard error.
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap();
        assert!(sent.success());
        let errors = self.errors();
        (self.process.wait().unwrap().code(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The port in a ready line.
fn port_of(line: &str) -> u16 {
    let address = line.split(", ").next().unwrap();
    address.rsplit(':').next().unwrap().parse().unwrap()
}
