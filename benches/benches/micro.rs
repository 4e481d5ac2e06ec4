//! How long every row of the table takes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringplane_benches::cases::{Case, Work, all};
use ringplane_benches::crc;

fn table(criterion: &mut Criterion) {
    let cases = all();
    for rows in cases.chunk_by(|a, b| a.group_and_function().0 == b.group_and_function().0) {
        let Some(first) = rows.first() else { continue };
        let mut group = criterion.benchmark_group(first.group_and_function().0);
        for case in rows {
            group.throughput(throughput(case));
            // Inputs are made when the row is wanted: a filter leaves most of them out.
            group.bench_function(case.group_and_function().1, |bencher| {
                let mut run = case.warm(crc());
                bencher.iter(&mut run);
            });
        }
        group.finish();
    }
}

fn throughput(case: &Case) -> Throughput {
    match case.work {
        Work::One => Throughput::Elements(1),
        Work::Bytes(bytes) => Throughput::Bytes(bytes),
        Work::Items(items) => Throughput::Elements(items),
    }
}

criterion_group!(micro, table);
criterion_main!(micro);
