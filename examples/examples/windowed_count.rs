//! How often each page was viewed in each minute, counted while the views come in: by the time at which they happened, not
//! at which they arrive, with some that come too late, and exactly, though the one who counts is stopped in the middle.
//!
//! A minute is over when every partition has come to views that are [`GRACE_MS`] younger. Its counts are then appended to a topic in
//! one batch, which either is there or is not, and which also says where in the views it was made. Whoever starts again reads that,
//! goes back to the first view of a minute that is still open, and counts on: there is no other state.
//!
//! `cargo run -p tidelog-examples --example windowed_count`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use tidelog_broker::{Broker, NewRecord, NewTopic, Offset, Record, Timestamp, Topic};
use tokio::task::JoinHandle;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long a window is.
const WINDOW_MS: i64 = 60_000;
/// How much a view may be late.
const GRACE_MS: i64 = 10_000;
const PARTITIONS: i32 = 2;
/// The headers of a result: where in each partition it was made, and how many views were too late since the one before.
const AT: &str = "at";
const LATE: &str = "late";

/// Views of each page.
type Counts = BTreeMap<String, u64>;

/// One partition of the views.
struct Input {
    /// The offset of the next view.
    position: Offset,
    /// Where it was when the last result was made; what is before was counted then, if its minute is over.
    resumed: Offset,
    /// The time of the youngest view: an older one is at most [`GRACE_MS`] older, or late.
    watermark_ms: i64,
}

struct Counter {
    views: Topic,
    results: Topic,
    inputs: Vec<Input>,
    /// The minutes that are not over, by their beginning.
    open: BTreeMap<i64, Counts>,
    /// All minutes before are over.
    closed_until_ms: i64,
    late: u64,
}

impl Counter {
    /// Goes on behind the last result.
    async fn resume(views: Topic, results: Topic) -> Outcome<Self> {
        let offsets = results.offsets(0).await?;
        let mut resumed = vec![Offset::ZERO; views.partitions()?];
        let mut closed_until_ms = 0;
        if offsets.latest > offsets.earliest {
            let last = results.records(0, offsets.latest + -1).next().await?;
            closed_until_ms = last.timestamp.as_millis() + WINDOW_MS;
            let at = String::from_utf8_lossy(last.header(AT).ok_or("where")?).into_owned();
            for (resumed, at) in resumed.iter_mut().zip(at.split(' ')) {
                *resumed = Offset::new(at.parse()?);
            }
        }
        let mut inputs = Vec::new();
        for (partition, resumed) in (0..).zip(resumed) {
            let first_open = Timestamp::from_millis(closed_until_ms);
            let first_open = views.offset_for_timestamp(partition, first_open).await?;
            inputs.push(Input {
                position: first_open.map_or(resumed, |offset| offset.min(resumed)),
                resumed,
                watermark_ms: 0,
            });
        }
        Ok(Self {
            views,
            results,
            inputs,
            open: BTreeMap::new(),
            closed_until_ms,
            late: 0,
        })
    }

    async fn run(mut self) -> Outcome<()> {
        let inputs = self.inputs.iter().enumerate();
        let partitions = inputs.map(|(partition, input)| {
            let records = self.views.records(partition as i32, input.position);
            records.map(move |record| (partition, record))
        });
        let mut views = select_all(partitions.collect::<Vec<_>>());
        while let Some((partition, view)) = views.next().await {
            self.count(partition, &view?);
            self.close().await?;
        }
        Ok(())
    }

    fn count(&mut self, partition: usize, view: &Record) {
        let input = &mut self.inputs[partition];
        input.position = view.offset + 1;
        let time_ms = view.timestamp.as_millis();
        let window = time_ms - time_ms.rem_euclid(WINDOW_MS);
        // By its own partition, so that it is the same whichever partition is read faster.
        let is_late = window + WINDOW_MS + GRACE_MS <= input.watermark_ms;
        input.watermark_ms = input.watermark_ms.max(time_ms);
        if is_late || window < self.closed_until_ms {
            // What the last result was made of was counted, or was late, then.
            self.late += u64::from(view.offset >= input.resumed);
            return;
        }
        let page = String::from_utf8_lossy(view.key.as_deref().unwrap_or_default());
        let counts = self.open.entry(window).or_default();
        *counts.entry(page.into_owned()).or_default() += 1;
    }

    /// Appends the counts of the minutes that are over. A partition without views holds all of them up.
    async fn close(&mut self) -> Outcome<()> {
        let watermarks = self.inputs.iter().map(|input| input.watermark_ms);
        let watermark_ms = watermarks.min().unwrap_or(0);
        while let Some(minute) = self.open.first_entry()
            && minute.key() + WINDOW_MS + GRACE_MS <= watermark_ms
        {
            let (window, counts) = minute.remove_entry();
            let positions = self.inputs.iter().map(|input| input.position.to_string());
            let at = positions.collect::<Vec<_>>().join(" ");
            let late = std::mem::take(&mut self.late).to_string();
            let counts: Vec<_> = counts
                .iter()
                .map(|(page, count)| (page, count.to_string()))
                .collect();
            let records = counts.iter().enumerate().map(|(index, (page, count))| {
                let late = if index == 0 { late.as_str() } else { "0" };
                let record = NewRecord::value(count)
                    .key(*page)
                    .header(AT, &at)
                    .header(LATE, late);
                record.timestamp(Timestamp::from_millis(window))
            });
            self.results.produce(0, records).await?;
            self.closed_until_ms = window + WINDOW_MS;
        }
        Ok(())
    }
}

/// Views of ten minutes, in two partitions, and what a minute's counts have to be. Most are up to [`GRACE_MS`] late, some more.
struct Visitors {
    views: Vec<(i32, &'static str, i64)>,
    expected: BTreeMap<i64, Counts>,
    late: u64,
}

impl Visitors {
    const PAGES: [&str; 3] = ["/", "/cart", "/help"];

    fn of_ten_minutes() -> Self {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let (mut views, mut late) = (Vec::new(), 0);
        let mut expected = BTreeMap::<i64, Counts>::new();
        for n in 0..3000 {
            let partition = n % PARTITIONS;
            let page = Self::PAGES[random(3) as usize];
            let now_ms = i64::from(n) * 200;
            if n >= 1000 && n % 400 == 7 {
                views.push((partition, page, now_ms - 2 * WINDOW_MS));
                late += 1;
                continue;
            }
            let time_ms = (now_ms - random(GRACE_MS as u64) as i64).max(0);
            views.push((partition, page, time_ms));
            let window = time_ms - time_ms % WINDOW_MS;
            let counts = expected.entry(window).or_default();
            *counts.entry(page.to_owned()).or_default() += 1;
        }
        Self {
            views,
            expected,
            late,
        }
    }

    async fn browse(&self, views: &Topic, which: std::ops::Range<usize>) -> Outcome<()> {
        for some in self.views[which].chunks(30) {
            for partition in 0..PARTITIONS {
                let some = some.iter().filter(|view| view.0 == partition);
                let some = some.map(|(_, page, time_ms)| {
                    let view = NewRecord::default().key(page);
                    view.timestamp(Timestamp::from_millis(*time_ms))
                });
                views.produce(partition, some).await?;
            }
        }
        Ok(())
    }
}

/// The broker and the one who counts: one program.
async fn start(directory: &Path) -> Outcome<(Broker, JoinHandle<Outcome<()>>)> {
    let broker = Broker::builder()
        .data_dir(directory)
        .no_ports()
        .start()
        .await?;
    if broker.topic_names().is_empty() {
        broker
            .create_topic(NewTopic::new("views").partitions(PARTITIONS))
            .await?;
        broker.create_topic("views-per-minute").await?;
    }
    let counter = Counter::resume(broker.topic("views"), broker.topic("views-per-minute")).await?;
    Ok((broker, tokio::spawn(counter.run())))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let visitors = Visitors::of_ten_minutes();

    let (broker, counter) = start(directory.path()).await?;
    visitors.browse(&broker.topic("views"), 0..1500).await?;
    // The counter is somewhere behind the third minute.
    let mut results = broker.topic("views-per-minute").records(0, Offset::ZERO);
    while results.next().await?.timestamp.as_millis() < 2 * WINDOW_MS {}
    counter.abort();
    broker.shutdown().await?;
    println!("stopped after three minutes were counted, or more");

    let (broker, counter) = start(directory.path()).await?;
    let views = broker.topic("views");
    visitors.browse(&views, 1500..visitors.views.len()).await?;
    // Time goes on in both partitions, which ends the last minute.
    for partition in 0..PARTITIONS {
        let view = NewRecord::value("").timestamp(Timestamp::from_millis(20 * WINDOW_MS));
        views.produce(partition, [view]).await?;
    }

    let (mut counted, mut late) = (BTreeMap::<i64, Counts>::new(), 0);
    let mut results = broker.topic("views-per-minute").records(0, Offset::ZERO);
    while counted
        .get(&(9 * WINDOW_MS))
        .is_none_or(|counts| counts.len() < Visitors::PAGES.len())
    {
        let result = results.next().await?;
        let number = |bytes: Option<&[u8]>| -> Outcome<u64> {
            Ok(str::from_utf8(bytes.unwrap_or_default())?.parse()?)
        };
        let counts = counted.entry(result.timestamp.as_millis()).or_default();
        let page = String::from_utf8_lossy(result.key.as_deref().unwrap_or_default()).into_owned();
        let before = counts.insert(page, number(result.value.as_deref())?);
        assert_eq!(before, None, "counted once");
        late += number(result.header(LATE).map(|late| &late[..]))?;
    }
    for (window, counts) in counted.iter().take(3) {
        println!("minute {}: {counts:?}", window / WINDOW_MS);
    }
    assert_eq!((&counted, late), (&visitors.expected, visitors.late));
    let views: u64 = counted.values().flat_map(Counts::values).sum();
    println!(
        "{} minutes, {views} views, {late} that came too late: exact",
        counted.len()
    );
    counter.abort();
    broker.shutdown().await?;
    Ok(())
}
