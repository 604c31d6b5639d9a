//! What do the wire's hot packets and a bitmap cost? Nanoseconds a packet, or a bitmap of 1 TiB.

#![allow(missing_docs, reason = "criterion's macro makes a function")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use replica_proto::bitmap_code::{BitmapSender, WordSlice};
use replica_proto::{
    BlockAck, BlockId, DataHeader, DpFlags, Features, Packet, ProtocolVersion, Socket, WireContext,
    decode,
};

fn packets(c: &mut Criterion) {
    let context = WireContext::agreed(ProtocolVersion::MAX, Features::all());
    let block_id = BlockId::from_u64(42);
    let data = Packet::Data(DataHeader {
        sector: 2048,
        block_id,
        seq_num: 7,
        flags: DpFlags::SEND_WRITE_ACK,
    });
    let ack = Packet::WriteAck(BlockAck {
        sector: 2048,
        block_id,
        bytes: 4096,
        seq_num: 7,
    });
    for (name, packet, payload) in [("data", data, 4096), ("write_ack", ack, 0)] {
        let mut bytes = Vec::with_capacity(64);
        c.bench_function(&format!("wire/encode/{name}"), |b| {
            b.iter(|| {
                bytes.clear();
                black_box(&packet).encode(&context, 0, None, payload, &mut bytes);
            });
        });
        let socket: Socket = packet.socket();
        c.bench_function(&format!("wire/decode/{name}"), |b| {
            b.iter(|| decode(&context, socket, black_box(&bytes)).expect("a good packet"));
        });
    }
}

fn bitmaps(c: &mut Criterion) {
    let context = WireContext::agreed(ProtocolVersion::MAX, Features::all());
    let bits = 1 << 28;
    let mut words = vec![0_u64; bits / 64];
    for n in 0..10_000 {
        words[n * 419] = 1 << (n % 64);
    }
    let source = WordSlice::new(&words, bits as u64).expect("as many words as bits");
    let mut group = c.benchmark_group("wire/bitmap");
    group.sample_size(10);
    group.bench_function("run_lengths_10000_bits_of_1TiB", |b| {
        b.iter(|| {
            let mut sender = BitmapSender::new(&context, bits as u64, true);
            while let Some(packet) = sender.next_packet(&source) {
                black_box(packet);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, packets, bitmaps);
criterion_main!(benches);
