//! Small parts on their own: the mux codec, the deframer, a pair of connections, selection.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringplane_benches::{Pair, SIZES, body, candidates, crc, deframe, item, stream};
use ringplane_core::id::StreamId;
use ringplane_core::rng::Rng;
use ringplane_core::route::policy::any::{ALL, AnyPolicy};
use ringplane_core::route::policy::pick::{Pick, Slate};
use ringplane_core::time::Instant;
use ringplane_core::wire::checksum::Crc32c;
use ringplane_core::wire::mux::{Head, Kind};
use ringplane_core::wire::parse::Limits;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mux codec");
    for len in SIZES {
        let (body, frame) = (body(len), item(len));
        group.throughput(Throughput::Bytes(len as u64));
        for (name, crc) in [("crc32c instruction", crc()), ("crc32c table", Crc32c::PORTABLE)] {
            group.bench_function(BenchmarkId::new(format!("seal, {name}"), len), |bencher| {
                bencher.iter(|| Head::seal(Kind::Item, 0, StreamId(1), &[], black_box(&body), crc));
            });
        }
        group.bench_function(BenchmarkId::new("parse head", len), |bencher| {
            bencher.iter(|| Head::parse(black_box(&frame), &Limits::default(), crc()));
        });
    }
    group.finish();
}

fn deframer(criterion: &mut Criterion) {
    const ITEMS: usize = 64;
    let mut group = criterion.benchmark_group("deframer");
    for len in SIZES {
        let bytes = stream(ITEMS, len);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        for (name, portion) in [("whole", bytes.len()), ("in 16 KiB", 16 << 10)] {
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                bencher.iter(|| deframe(black_box(&bytes), portion));
            });
        }
    }
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connection pair");
    for (answers, len) in [(1, 64), (100, 64), (1, 64 << 10)] {
        let item = body(len);
        let mut pair = Pair::new();
        assert_eq!(pair.call(&item, answers), answers * len, "the pair carries every byte");
        group.throughput(Throughput::Elements(answers as u64 + 1));
        group.bench_function(BenchmarkId::new(format!("call with {answers} answers"), len), |bencher| {
            bencher.iter(|| pair.call(&item, answers));
        });
    }
    group.finish();
}

fn selection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("selection");
    for count in [4, 64, 1024] {
        let candidates = candidates(count);
        let slate = Slate { candidates: &candidates, avoid: &[], now: Instant::ZERO };
        for row in ALL {
            let text = if row.argument.is_some() { format!("{}:1", row.name) } else { row.name.to_owned() };
            let mut policy = AnyPolicy::from_name(&text).expect("a name of the table");
            let mut rng = Rng::new(1);
            assert!(policy.pick(&slate, &mut rng).is_ok(), "somebody is picked");
            group.bench_function(BenchmarkId::new(row.name, count), |bencher| {
                bencher.iter(|| policy.pick(black_box(&slate), &mut rng));
            });
        }
    }
    group.finish();
}

criterion_group!(micro, codec, deframer, connections, selection);
criterion_main!(micro);
