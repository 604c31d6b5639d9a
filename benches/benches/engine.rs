//! What does the engine cost, without any I/O? One write each.

#![allow(missing_docs, reason = "criterion's macro makes a function")]

use criterion::{Criterion, criterion_group, criterion_main};
use rdb_benches::{World, block_of};
use rdb_engine::config::Protocol;

fn writes(c: &mut Criterion) {
    let data = block_of(4096);
    let mut alone = World::alone();
    let mut at = 0_u64;
    c.bench_function("engine/write/alone", |b| {
        b.iter(|| {
            at = (at + 7_919) % 200_000;
            alone.write(at * 8, &data);
        });
    });
    for (name, protocol) in [("A", Protocol::A), ("B", Protocol::B), ("C", Protocol::C)] {
        let mut pair = World::pair(protocol);
        c.bench_function(&format!("engine/write/both_nodes_protocol_{name}"), |b| {
            b.iter(|| {
                at = (at + 7_919) % 200_000;
                pair.write(at * 8, &data);
            });
        });
    }
}

criterion_group!(benches, writes);
criterion_main!(benches);
