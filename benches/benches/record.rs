//! Record batches: walking, building, validating, and the CRC.
//!
//! `cargo bench -p tidelog-benches --bench record`, about a minute; add `-- "100 B/none|crc"` for the
//! figures of docs/performance.md alone. Batches are of 16 KiB, what a producer sends by default, in
//! records of 100 bytes without key. One core works on the same batch again and again, so that it
//! lies in the cache and the rate is that of the code: records a second in "elem/s". Building
//! includes allocating the buffer, compressing, and the CRC; walking reads each field of a record.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tidelog_record::crc::crc32c;
use tidelog_record::{Batch, BatchBuilder, Codec, Rules, validate};
use tidelog_types::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BATCH_BYTES: usize = 16 * 1024;

/// Text that compresses about as logs do.
fn value(i: usize, len: usize) -> Vec<u8> {
    let words = ["tide", "rises ", "falls", " harbour ", "mast", " keel"];
    let mut text = format!("{i:08} ").into_bytes();
    let mut state = i;
    while text.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(words[(state >> 33) % words.len()].as_bytes());
    }
    text.truncate(len);
    text
}

fn values(value_len: usize) -> Vec<Vec<u8>> {
    (0..BATCH_BYTES / value_len)
        .map(|i| value(i, value_len))
        .collect()
}

fn build(codec: Codec, values: &[Vec<u8>]) -> Batch {
    let mut builder = BatchBuilder::new(codec.into()).capacity(BATCH_BYTES + BATCH_BYTES / 4);
    for value in values {
        builder.push(NOW, None, Some(value), &[]);
    }
    builder.build().expect("a batch")
}

fn walk(batch: &Batch) -> usize {
    let mut walk = batch.walk().expect("a batch");
    let mut bytes = 0;
    while let Some(record) = walk.next_record().expect("a record") {
        bytes += record.value.map_or(0, <[u8]>::len) + record.offset_delta as usize;
    }
    bytes
}

fn per_record(
    criterion: &mut Criterion,
    name: &str,
    bench: impl Fn(&mut BenchmarkGroup<'_, criterion::measurement::WallTime>),
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(values(100).len() as u64));
    bench(&mut group);
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let values = values(100);
    per_record(criterion, "walk 100 B", |group| {
        for codec in Codec::ALL {
            let batch = build(codec, &values);
            group.bench_function(codec.name(), |b| b.iter(|| walk(black_box(&batch))));
        }
    });
    per_record(criterion, "records 100 B", |group| {
        let batch = build(Codec::None, &values);
        let count = |batch: &Batch| {
            batch
                .records()
                .expect("a batch")
                .filter(Result::is_ok)
                .count()
        };
        group.bench_function("none", |b| b.iter(|| count(black_box(&batch))));
    });
    per_record(criterion, "build 100 B", |group| {
        for codec in Codec::ALL {
            group.bench_function(codec.name(), |b| {
                b.iter(|| build(codec, black_box(&values)))
            });
        }
    });
    per_record(criterion, "validate 100 B", |group| {
        for codec in Codec::ALL {
            let batch = build(codec, &values);
            let rules = Rules::default();
            group.bench_function(codec.name(), |b| {
                b.iter(|| validate(black_box(&batch), &rules, NOW))
            });
        }
    });
}

fn crc(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for len in [256, 4 << 10, 64 << 10, 1 << 20] {
        let bytes = value(0, len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} B"), |b| b.iter(|| crc32c(black_box(&bytes))));
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

criterion_group! {
    name = benches;
    config = config();
    targets = records, crc
}
criterion_main!(benches);
