//! `tidelog bench`: what it counts is what there is.

use crate::support::{Server, fresh};

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_counted_and_what_was_made_is_removed() {
    let server = Server::start().await;
    let topic = fresh("produced");
    let arguments = [
        "bench",
        "produce",
        "-t",
        &topic,
        "-p",
        "3",
        "-n",
        "3000",
        "--warm-up",
        "0s",
        "--threads",
        "2",
        "--keys",
        "10",
        "-z",
        "lz4",
    ];
    let said = server.json(&arguments);
    let round = &said["clusters"][0]["rounds"][0];
    assert_eq!(round["records"], 3000);
    assert_eq!(round["failed"], 0);
    assert!(round["bytes"].as_u64().unwrap() > 300_000);
    assert!(round["clientProcessorSeconds"].as_f64().unwrap() > 0.0);
    let latency = &said["clusters"][0]["latencyMs"]["acknowledged"];
    assert_eq!(latency["count"], 3000);
    assert!(latency["p50"].as_f64().unwrap() <= latency["max"].as_f64().unwrap());

    // It was there, so it stays; all of it is read, in two rounds on each of two clusters that are the same.
    let arguments = [
        "bench",
        "consume",
        "-t",
        &topic,
        "--warm-up",
        "0s",
        "--threads",
        "2",
        "--rounds",
        "2",
        "--compare",
        server.address(),
        "--remove",
    ];
    let said = server.json(&arguments);
    for cluster in said["clusters"].as_array().unwrap() {
        let rounds = cluster["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        assert!(
            rounds.iter().all(|round| round["records"] == 3000),
            "{said}"
        );
    }
    assert!(said["ratios"]["records"][0].as_f64().unwrap() > 0.0);
    let arguments = [
        "bench",
        "consume",
        "-t",
        &topic,
        "--one-by-one",
        "-n",
        "500",
        "--warm-up",
        "0s",
    ];
    let said = server.json(&arguments);
    assert_eq!(said["clusters"][0]["rounds"][0]["records"], 500);

    let other = fresh("removed");
    let arguments = [
        "bench",
        "consume",
        "-t",
        &other,
        "-n",
        "700",
        "--warm-up",
        "0s",
        "--remove",
    ];
    let said = server.json(&arguments);
    assert_eq!(said["clusters"][0]["rounds"][0]["records"], 700);
    let names = server.json(&["topic", "list"]).to_string();
    assert!(names.contains(&topic) && !names.contains(&other), "{names}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latencies_are_those_of_every_record() {
    let server = Server::start().await;
    let topic = fresh("latency");
    for how in [&["--rate", "2000"][..], &["--one-at-a-time"]] {
        let arguments = [
            "bench",
            "latency",
            "-t",
            &topic,
            "-p",
            "2",
            "-n",
            "200",
            "--warm-up",
            "10ms",
            "-s",
            "16",
        ];
        let said = server.json(&[&arguments, how].concat());
        let cluster = &said["clusters"][0];
        assert_eq!(cluster["rounds"][0]["records"], 200, "{said}");
        assert_eq!(cluster["rounds"][0]["failed"], 0, "{said}");
        let latencies = cluster["latencyMs"].as_object().unwrap();
        for kind in ["end to end", "acknowledged", "sender late"] {
            assert_eq!(latencies[kind]["count"], 200, "{kind} of {said}");
        }
        let p50 = |kind: &str| latencies[kind]["p50"].as_f64().unwrap();
        assert!(p50("end to end") > 0.0);
    }
    let text = server.says(&[
        "bench",
        "latency",
        "-t",
        &topic,
        "-n",
        "20",
        "--warm-up",
        "0s",
    ]);
    assert!(
        text.starts_with(&format!(
            "bench latency of topic {topic}: 20 records of 100 bytes, at 1000/s; acks all"
        )),
        "{text}"
    );
    assert!(text.contains("\nLATENCY       P50"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_that_cannot_be_says_so() {
    let server = Server::start().await;
    let short = server.refuses(&["bench", "latency", "-t", &fresh("short"), "--size", "15"]);
    assert_eq!(
        short,
        ["--size 15: a value has 16 bytes at least, which say when it was due"]
    );
    let topic = fresh("full");
    let arguments = [
        "bench",
        "produce",
        "-t",
        &topic,
        "-c",
        "max.message.bytes=1000",
        "-s",
        "5000",
        "-n",
        "3",
        "--warm-up",
        "0s",
    ];
    let refused = server.refuses(&arguments);
    assert!(
        refused[0].contains(": 3 records failed; the first: "),
        "{refused:?}"
    );
    assert!(refused[0].contains("max.message.bytes"), "{refused:?}");
    server.stop().await;
}
