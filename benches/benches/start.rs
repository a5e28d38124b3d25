//! How long a broker takes to start, until it serves: with its data in memory, in a new directory, and in one with data in it.
//! It is stopped again outside of what is measured.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use tidelog_broker::{Broker, Builder};

/// The time of so many starts, each of what `builder` makes.
fn starts(count: u64, mut builder: impl FnMut() -> Builder) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut taken = Duration::ZERO;
        for _ in 0..count {
            let builder = builder();
            let began = Instant::now();
            let broker = black_box(builder.start().await.expect("a broker"));
            taken += began.elapsed();
            broker.shutdown().await.expect("an orderly end");
        }
        taken
    })
}

fn on(data: &Path) -> Builder {
    Broker::builder().data_dir(data)
}

fn start(c: &mut Criterion) {
    let mut group = c.benchmark_group("start");
    group.sample_size(20);
    group.measurement_time(Duration::from_secs(10));
    group.bench_function("memory", |b| {
        b.iter_custom(|count| starts(count, Broker::builder));
    });
    group.bench_function("memory without ports", |b| {
        b.iter_custom(|count| starts(count, || Broker::builder().no_ports()));
    });
    let parent = tempfile::tempdir().expect("a directory");
    let mut number = 0;
    group.bench_function("new directory", |b| {
        b.iter_custom(|count| {
            starts(count, || {
                number += 1;
                on(&parent.path().join(number.to_string()))
            })
        });
    });
    let used = parent.path().join("used");
    group.bench_function("used directory", |b| {
        b.iter_custom(|count| starts(count, || on(&used)));
    });
    group.finish();
}

criterion_group!(benches, start);
criterion_main!(benches);
