use std::fs;

use tidelog_log::testing::{Crash, FaultDir, Op};
use tidelog_protocol::records::metadata::{FeatureLevelRecord, MetadataRecord};

use super::*;
use tidelog_node::metadata::read_snapshot;

const CLUSTER: &str = "dGlkZWxvZy1maXh0dXJlMQ";
const BASE: &str = "process.roles=broker,controller\nnode.id=1\n\
    listeners=PLAINTEXT://127.0.0.1:9099,CONTROLLER://127.0.0.1:19099\n\
    controller.listener.names=CONTROLLER\n";
const TWO: &str = "2@h2:9:MvDxzVmcRsaTz33bUuRU6A,1@[::1]:19099:JEXY6aqzQY-32P5TStzaFg";
const QUORUM: &str = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint";

fn options(properties: &str, initial_controllers: InitialControllers) -> FormatOptions {
    let (config, _) = BrokerConfig::parse(&format!("{BASE}{properties}")).unwrap();
    FormatOptions {
        cluster_id: CLUSTER.to_owned(),
        config,
        initial_controllers,
        release_version: None,
        features: Vec::new(),
        ignore_formatted: false,
    }
}

fn files(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(name);
            }
        }
    }
    files.sort();
    files
}

fn snapshot(path: impl AsRef<Path>) -> Snapshot {
    read_snapshot(fs::read(path).unwrap().into()).unwrap()
}

#[test]
fn each_directory_gets_what_kafka_gives_it() {
    let root = tempfile::tempdir().unwrap();
    let dirs = |names: &str| {
        let paths = names
            .split(',')
            .map(|name| root.path().join(name).display().to_string());
        let b = root.path().join("b").display().to_string();
        format!(
            "log.dirs={}\nmetadata.log.dir={b}\n",
            paths.collect::<Vec<_>>().join(",")
        )
    };
    let mut options = options(&dirs("a,b"), InitialControllers::Standalone);
    let formatted = format(&options).unwrap();
    let kinds: Vec<_> = formatted.iter().map(|formatted| formatted.kind).collect();
    assert_eq!(
        kinds,
        [DirectoryKind::Data, DirectoryKind::DynamicMetadataVoter]
    );
    let quorum = format!("b/{QUORUM}");
    let names = ["bootstrap.checkpoint", "meta.properties"];
    let [bootstrap, meta] = names;
    let expected = [
        format!("a/{bootstrap}"),
        format!("a/{meta}"),
        quorum.clone(),
        format!("b/{bootstrap}"),
        format!("b/{meta}"),
    ];
    assert_eq!(files(root.path()), expected);
    for name in ["a", "b"] {
        let records = snapshot(root.path().join(name).join("bootstrap.checkpoint")).records;
        let levels = [(METADATA_VERSION, 30), (GROUP_VERSION, 1)];
        let levels = levels.map(|(name, feature_level)| {
            let name = name.into();
            MetadataRecord::from(FeatureLevelRecord {
                name,
                feature_level,
            })
        });
        assert_eq!(records, levels);
    }
    let voters = snapshot(root.path().join(quorum)).voters.unwrap().voters;
    assert_eq!(
        Some(voters[0].voter_directory_id),
        formatted[1].directory_id
    );
    assert_eq!(voters[0].endpoints[0].host, "127.0.0.1");

    // Again, and with a directory more.
    let error = format(&options).unwrap_err().to_string();
    assert!(
        error.contains("a is already formatted; --ignore-formatted"),
        "{error}"
    );
    options.ignore_formatted = true;
    (options.config, _) = BrokerConfig::parse(&format!("{BASE}{}", dirs("a,b,c"))).unwrap();
    let again = format(&options).unwrap();
    let already: Vec<_> = again
        .iter()
        .map(|formatted| formatted.already_formatted)
        .collect();
    assert_eq!(already, [true, true, false]);
    assert_eq!(again[0].directory_id, formatted[0].directory_id);
    assert_eq!(files(&root.path().join("c")), names);

    options.cluster_id = "other".to_owned();
    let error = format(&options).unwrap_err().to_string();
    assert!(
        error.contains(&format!("says cluster {CLUSTER}")),
        "{error}"
    );
}

/// Kafka 4.3.1 wrote the fixture when it was given the same list.
#[test]
fn listed_voters_are_those_that_kafka_writes() {
    let kafkas = include_bytes!("../../testdata/kafka-4.3.1-initial-controllers.checkpoint");
    let kafkas = read_snapshot(Bytes::from_static(kafkas)).unwrap();
    let listed = InitialControllers::parse_list(TWO).unwrap();
    let plan = Plan::new(&options("log.dirs=/x\n", listed)).unwrap();
    let ours = read_snapshot(plan.voters.unwrap().snapshot).unwrap();
    assert_eq!(ours.voters, kafkas.voters);
}

#[test]
fn a_node_that_is_not_listed_is_no_voter() {
    let root = tempfile::tempdir().unwrap();
    let directory = format!("log.dirs={}\n", root.path().join("a").display());
    let (two, _) = TWO.split_once(',').unwrap();
    let listed = InitialControllers::parse_list(two).unwrap();
    let formatted = format(&options(&directory, listed)).unwrap();
    assert_eq!(formatted[0].kind, DirectoryKind::DynamicMetadata);
    assert_eq!(files(root.path())[0], format!("a/{QUORUM}"));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    use InitialControllers::{Others, Standalone, Unsaid};

    let root = tempfile::tempdir().unwrap();
    let with = |properties: &str, controllers, features: &[(&str, i16)]| {
        let directory = root.path().join("a").display().to_string();
        let mut options = options(&format!("{properties}log.dirs={directory}\n"), controllers);
        options.features = features
            .iter()
            .map(|(name, n)| ((*name).into(), *n))
            .collect();
        options
    };
    let voters = "controller.quorum.voters=1@localhost:19099\n";
    let listed = |text| InitialControllers::parse_list(text).unwrap();
    let twice = "1@a:1:MvDxzVmcRsaTz33bUuRU6A,1@b:1:MvDxzVmcRsaTz33bUuRU6A";
    let said_twice = FormatOptions {
        release_version: Some(MetadataVersion::LATEST),
        ..with("", Standalone, &[("metadata.version", 29)])
    };
    let bad_id = FormatOptions {
        cluster_id: "a=b\n".into(),
        ..with("", Standalone, &[])
    };
    let refused = [
        (with("", Unsaid, &[]), "say who the first controllers are"),
        (
            with(voters, Standalone, &[]),
            "controller.quorum.voters is set",
        ),
        (
            with(voters, listed(TWO), &[]),
            "controller.quorum.voters is set",
        ),
        (
            with("", listed(","), &[]),
            "list of initial controllers is empty",
        ),
        (with("", listed(twice), &[]), "node 1 is named twice"),
        (said_twice, "leave out one of them"),
        (bad_id, "must be one word"),
        (
            with("", Standalone, &[("metadata.version", 6)]),
            "no level 6; supported are 7 to 30",
        ),
        (
            with("", Standalone, &[("group.version", 2)]),
            "no level 2; supported are 0 to 1",
        ),
        (
            with("", Standalone, &[("share.version", 1)]),
            "share.version is not supported",
        ),
        (
            with("", Standalone, &[("group.version", 0), ("foo", 0)]),
            "foo is not supported",
        ),
        (
            with("", Standalone, &[("kraft.version", 0)]),
            "it is 1 here",
        ),
        (with("", Others, &[("kraft.version", 0)]), "it is 1 here"),
        (
            with(voters, Unsaid, &[("kraft.version", 1)]),
            "it is 0 here",
        ),
        (
            with("", Standalone, &[("kraft.version", 2)]),
            "supported are 0 to 1",
        ),
    ];
    for (options, reason) in refused {
        let error = format(&options).unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
    }
    assert_eq!(files(root.path()), [""; 0]);
    for fine in [
        with(voters, Unsaid, &[("kraft.version", 0)]),
        with("", Others, &[("kraft.version", 1), ("group.version", 0)]),
        with("", Standalone, &[("metadata.version", 22)]),
    ] {
        format(&fine).unwrap();
        fs::remove_dir_all(root.path().join("a")).unwrap();
    }
}

#[test]
fn initial_controllers_are_read() {
    let read = |text: &str| text.parse::<InitialController>();
    let id = "MvDxzVmcRsaTz33bUuRU6A";
    let expected = |host: &str| InitialController {
        node_id: NodeId::new(3),
        host: host.to_owned(),
        port: 9093,
        directory_id: id.parse().unwrap(),
    };
    assert_eq!(
        read(&format!(" 3@example.com:9093:{id}")).unwrap(),
        expected("example.com")
    );
    assert_eq!(
        read(&format!("3@[::1]:9093:{id}")).unwrap(),
        expected("::1")
    );
    for (text, reason) in [
        ("3", "has no @"),
        ("x@h:1:i", "the id is not a number"),
        ("-3@h:1:i", "the id is negative"),
        ("3@h", "has no port"),
        ("3@[::1", "bracket is not closed"),
        ("3@[::1]9:i", "has no port"),
        ("3@h:1", "has no directory id"),
        ("3@h:65536:i", "the port is not a number"),
        ("3@h:1:i", "not 22 characters"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_new_broker_is_the_only_voter() {
    let path = Path::new("/new");
    for (properties, is_in_log) in [
        ("log.dirs=/new\n", true),
        (
            "log.dirs=/new\nlisteners=PLAINTEXT://:1,CONTROLLER://:0\n",
            false,
        ),
        ("log.dirs=/new\nlisteners=PLAINTEXT://:1\n", false),
    ] {
        let dir = FaultDir::new();
        let directory = LogDirectory::open(Arc::new(dir.clone())).unwrap();
        let config = options(properties, InitialControllers::Unsaid).config;
        let cluster_id = format_new(&[(path, &directory)], &config, None).unwrap();
        let properties = directory.meta_properties().unwrap().unwrap();
        assert_eq!(properties.cluster_id, cluster_id);
        assert_eq!(dir.content(QUORUM).is_some(), is_in_log, "{config:?}");
    }
}

/// However early the machine stops, a directory with an identity has all the rest as well.
#[test]
fn a_half_formatted_directory_is_not_formatted() {
    let plan = Plan::new(&options("log.dirs=/x\n", InitialControllers::Standalone)).unwrap();
    let write = |dir: &FaultDir| {
        let refused = |source| FormatError::Directory {
            path: "/x".into(),
            source,
        };
        let directory = LogDirectory::open(Arc::new(dir.clone())).map_err(refused)?;
        plan.write(
            Path::new("/x"),
            &directory,
            DirectoryKind::DynamicMetadataVoter,
        )
    };
    let mut failures_count = 0;
    for op in [Op::Write, Op::Sync, Op::Change] {
        for nth in 0.. {
            let dir = FaultDir::new();
            dir.fail(op, nth, io::ErrorKind::StorageFull);
            let failed = write(&dir).is_err();
            dir.heal();
            dir.crash(Crash::LoseUnsynced);
            if !failed {
                break;
            }
            failures_count += 1;
            assert!(nth < 20, "the failure of {op:?} is ignored");
            if dir.content("meta.properties").is_some() {
                for name in [QUORUM, "bootstrap.checkpoint"] {
                    read_snapshot(dir.content(name).unwrap().into()).unwrap();
                }
            }
            write(&dir).unwrap();
            dir.crash(Crash::LoseUnsynced);
            read_snapshot(dir.content(QUORUM).unwrap().into()).unwrap();
            assert!(dir.content("meta.properties").is_some());
        }
    }
    assert!(failures_count > 6, "{failures_count}");
}
