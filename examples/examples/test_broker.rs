//! A broker for tests in other languages: it listens on a port of its own, keeps nothing, and does what it is told line by
//! line on its standard input. Each line is answered by one line.
//!
//! `cargo run --example test_broker`, and then for instance
//!
//! ```text
//! fault Produce answer NOT_LEADER_OR_FOLLOWER topic=orders times=2
//! fault Produce drop-after client=billing
//! fired 1
//! clock pause
//! clock advance-ms 45000
//! await group billing 1
//! records orders
//! crash
//! ```
//!
//! It ends with its input.

#![allow(clippy::print_stdout, reason = "it answers on its standard output")]

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use tidelog_broker::testing::{ApiKey, Crash, ErrorCode, Fault, FaultOn, TestBroker};
use tidelog_protocol::APIS;

type Answer = Result<String, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut host = runtime.block_on(Host::start())?;
    println!("listening {}", host.broker()?.bootstrap_servers());
    // The broker runs while the next line is waited for.
    let (send, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    runtime.block_on(async {
        while let Some(line) = lines.recv().await {
            match host.obey(&line).await {
                Ok(answer) => println!("ok {answer}"),
                Err(error) => println!("error {error}"),
            }
        }
    });
    Ok(())
}

struct Host {
    /// `None` while it starts again, and after a start that failed.
    broker: Option<TestBroker>,
    faults: Vec<Fault>,
}

impl Host {
    async fn start() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            broker: Some(TestBroker::start().await?),
            faults: Vec::new(),
        })
    }

    fn broker(&self) -> Result<&TestBroker, Box<dyn Error>> {
        self.broker
            .as_ref()
            .ok_or_else(|| "there is no broker".into())
    }

    async fn obey(&mut self, line: &str) -> Answer {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["fault", api, ref rest @ ..] => self.fault(api, rest),
            ["fired", number] => Ok(self.numbered(number)?.fired().to_string()),
            ["remove", number] => {
                self.numbered(number)?.remove();
                Ok(String::new())
            }
            ["clear"] => {
                self.broker()?.faults().clear();
                Ok(String::new())
            }
            ["clock", ref rest @ ..] => self.clock(rest).await,
            ["requests", api, client] => {
                let requests = self.broker()?.requests().of(api_key(api)?);
                Ok(requests.from(client).count().to_string())
            }
            ["await", ref rest @ ..] => self.wait(rest).await,
            ["group", group] => Ok(format!("{:?}", self.broker()?.group(group).await)),
            ["records", topic] => {
                let stored = self.broker()?.stored_records(topic);
                let shown = stored.iter().map(|record| {
                    format!("{}:{}:{}", record.partition, record.offset, record.text())
                });
                Ok(shown.collect::<Vec<_>>().join(" "))
            }
            ["crash"] => {
                let broker = self.broker.take().ok_or("there is no broker")?;
                self.broker = Some(broker.crash(Crash::LoseUnsynced).await?);
                Ok(String::new())
            }
            _ => Err("not understood".into()),
        }
    }

    /// `fault API WHAT [topic=T] [client=C] [after=N] [times=N]`; answers with the number of the fault.
    fn fault(&mut self, api: &str, words: &[&str]) -> Answer {
        let faults = self.broker()?.faults();
        let mut on = match api {
            "any" => faults.on_any(),
            api => faults.on(api_key(api)?),
        };
        let mut what = Vec::new();
        for word in words {
            on = match word.split_once('=') {
                Some(("topic", topic)) => on.topic(topic),
                Some(("client", client)) => on.client(client),
                Some(("after", count)) => on.after(count.parse()?),
                Some(("times", count)) => on.times(count.parse()?),
                Some(_) => return Err(format!("{word} is not understood").into()),
                None => {
                    what.push(*word);
                    on
                }
            };
        }
        self.faults.push(make(on, &what)?);
        Ok(self.faults.len().to_string())
    }

    fn numbered(&self, number: &str) -> Result<&Fault, Box<dyn Error>> {
        let index = number.parse::<usize>()?.checked_sub(1);
        let fault = index.and_then(|index| self.faults.get(index));
        fault.ok_or_else(|| "there is no such fault".into())
    }

    async fn clock(&self, words: &[&str]) -> Answer {
        let clock = self.broker()?.clock();
        match words {
            ["pause"] => clock.pause(),
            ["resume"] => clock.resume(),
            ["advance-ms", millis] => {
                clock.advance(Duration::from_millis(millis.parse()?)).await;
            }
            _ => return Err("pause, resume or advance-ms N".into()),
        }
        Ok(clock.timestamp_ms().to_string())
    }

    async fn wait(&self, words: &[&str]) -> Answer {
        let broker = self.broker()?;
        match words {
            ["group", group, members] => {
                broker.wait_for_group(group, members.parse()?).await?;
            }
            ["offset", topic, partition, offset] => {
                let (partition, offset) = (partition.parse()?, offset.parse()?);
                broker.wait_for_offset(topic, partition, offset).await?;
            }
            ["commit", group, topic, partition, offset] => {
                let (partition, offset) = (partition.parse()?, offset.parse()?);
                let committed = broker.wait_for_commit(group, topic, partition, offset);
                committed.await?;
            }
            ["requests", api, client, count] => {
                let requests = broker.requests().of(api_key(api)?).from(*client);
                requests.at_least(count.parse()?).await?;
            }
            _ => return Err("group, offset, commit or requests".into()),
        }
        Ok(String::new())
    }
}

fn make(on: FaultOn, what: &[&str]) -> Result<Fault, Box<dyn Error>> {
    Ok(match what {
        ["answer", code] => on.answer(error_code(code)?),
        ["delay-ms", millis] => on.delay(Duration::from_millis(millis.parse()?)),
        ["drop-before"] => on.drop_before(),
        ["drop-after"] => on.drop_after(),
        ["partial", bytes] => on.partial(bytes.parse()?),
        _ => return Err("answer CODE, delay-ms N, drop-before, drop-after or partial N".into()),
    })
}

fn api_key(name: &str) -> Result<ApiKey, Box<dyn Error>> {
    let mut apis = APIS.iter();
    let api = apis.find(|api| api.name.eq_ignore_ascii_case(name));
    api.map(|api| api.key)
        .ok_or_else(|| format!("there is no API {name}").into())
}

fn error_code(name: &str) -> Result<ErrorCode, Box<dyn Error>> {
    let mut codes = (-1..1000).map(ErrorCode::new);
    let code = codes.find(|code| code.name() == Some(name));
    code.ok_or_else(|| format!("there is no error {name}").into())
}
