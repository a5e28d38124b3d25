//! How commands find the cluster.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::Server;

/// A home with these profiles.
fn home(profiles: &[(&str, String)]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/tidelog");
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in profiles {
        fs::write(folder.join(name).with_extension("properties"), text).unwrap();
    }
    home
}

/// Names and values.
type Variables<'a> = &'a [(&'a str, &'a str)];

fn list(home: &Path, variables: Variables<'_>, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidelog"))
        .args(["topic", "list"])
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_more_closely_holds() {
    let server = Server::start().await;
    let (right, wrong) = (server.address(), nobody());
    let wrong = wrong.as_str();
    let is_at = |address: &str| format!("bootstrap.servers={address}\nclient.id=me\n");
    let home = home(&[
        ("default", is_at(wrong)),
        ("right", is_at(right)),
        ("wrong", is_at(wrong)),
    ]);
    let file = home.path().join("client.properties");
    fs::write(&file, is_at(right)).unwrap();
    let file = file.to_str().unwrap();
    let servers = "TIDELOG_BOOTSTRAP_SERVER";
    let property = format!("bootstrap.servers={right}");
    let cases: [(Variables<'_>, &[&str]); 8] = [
        (&[(servers, right)], &[]),
        (&[("TIDELOG_PROFILE", "right")], &[]),
        (&[("TIDELOG_PROFILE", "wrong"), (servers, right)], &[]),
        (&[(servers, wrong)], &["--profile", "right"]),
        (&[(servers, wrong)], &["--command-config", file]),
        (&[], &["--profile", "wrong", "-X", &property]),
        (
            &[],
            &["-b", right, "-X", &format!("bootstrap.servers={wrong}")],
        ),
        (&[], &["-b", &format!("{wrong},{right}")]),
    ];
    for (variables, arguments) in cases {
        let output = list(home.path(), variables, arguments);
        assert!(
            output.status.success(),
            "{variables:?} {arguments:?}: {output:?}"
        );
    }
    let said = error(&list(home.path(), &[], &[]));
    let from = home.path().join(".config/tidelog/default.properties");
    let from = format!(
        "(the address is from profile default, {})\n",
        from.display()
    );
    assert!(said.ends_with(&from), "{said}");
    server.stop().await;
}

#[test]
fn where_nothing_listens_it_is_said_what_helps() {
    let home = home(&[]);
    // Unless somebody has a broker there.
    if TcpListener::bind("localhost:9092").is_ok() {
        let said = error(&list(home.path(), &[], &[]));
        assert!(said.starts_with("tidelog: cannot connect to localhost:9092: "));
        assert!(said.contains("`tidelog broker` starts one"), "{said}");
    }
    let said = error(&list(home.path(), &[], &["-b", &nobody()]));
    assert!(said.contains("is a broker listening there?"), "{said}");
    assert!(
        said.ends_with("(the address is from --bootstrap-server)\n"),
        "{said}"
    );
    let said = error(&list(home.path(), &[], &["-b", "brokers"]));
    assert!(said.contains("\"brokers\" is not an address"), "{said}");
}

#[test]
fn a_profile_that_is_wrong_is_said_so() {
    let home = home(&[
        (
            "prod",
            "bootstrap.servers=localhost:1\nacks=all\nsecurity.protocol=TLS\n".to_owned(),
        ),
        ("slow", "request.timeout.ms=long\n".to_owned()),
    ]);
    let cases: [(&[&str], &str); 6] = [
        (&["--profile", "dev"], "dev.properties; there: prod, slow"),
        (
            &["--profile", "prod"],
            "security.protocol=TLS: expected PLAINTEXT, SSL",
        ),
        (
            &["--profile", "slow"],
            "request.timeout.ms=long: expected milliseconds",
        ),
        (&["--command-config", "/nowhere"], "cannot read /nowhere"),
        (&["-X", "acks=all"], "-X acks: there is no such key"),
        (
            &[
                "-X",
                "security.protocol=SASL_SSL",
                "-X",
                "sasl.pasword=hush",
            ],
            "-X sasl.pasword: there is no such key",
        ),
    ];
    for (arguments, expected) in cases {
        let said = error(&list(home.path(), &[], arguments));
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!said.contains("hush"), "{arguments:?}: {said}");
    }
    let said = error(&list(home.path(), &[], &["--profile", "prod"]));
    assert!(
        said.contains("warning: ") && said.contains("without effect: acks\n"),
        "{said}"
    );
}
