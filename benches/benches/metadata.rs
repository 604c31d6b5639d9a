//! What do the activity log and the bitmap cost a write?

#![allow(missing_docs, reason = "criterion's macro makes a function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rdb_meta::activity_log::Acquire;
use rdb_meta::{ActivityLog, AlGeometry, Bitmap, ExtentNr};

fn activity_log(c: &mut Criterion) {
    let mut log = ActivityLog::new(AlGeometry::DEFAULT, 1237, 0);
    let extent = ExtentNr(5);
    assert!(matches!(log.acquire(extent, extent), Acquire::Pending(_)));
    let sealed = log.seal().expect("one extent was collected");
    log.commit(sealed.tr_number);
    c.bench_function("meta/al_hot", |b| {
        b.iter(|| {
            assert_eq!(log.acquire(extent, extent), Acquire::Granted);
            log.release(extent, extent);
        });
    });
    let mut next = 10;
    c.bench_function("meta/al_transaction", |b| {
        b.iter(|| {
            next = 10 + (next + 1) % 100_000;
            let cold = ExtentNr(next);
            if let Acquire::Pending(_) = log.acquire(cold, cold) {
                let sealed = log.seal().expect("one extent was collected");
                black_box(&sealed.block);
                log.commit(sealed.tr_number);
            }
            log.release(cold, cold);
        });
    });
}

fn bitmap(c: &mut Criterion) {
    let mut bitmap = Bitmap::new(2 << 30, false); // 1 TiB
    let mut at = 0;
    c.bench_function("meta/bitmap_set_and_clear_4k", |b| {
        b.iter(|| {
            at = (at + 1_000_003 * 8) % (2 << 30);
            bitmap.set_sectors(at - at % 8, 8);
            bitmap.clear_sectors(at - at % 8, 8);
        });
    });
}

criterion_group!(benches, activity_log, bitmap);
criterion_main!(benches);
