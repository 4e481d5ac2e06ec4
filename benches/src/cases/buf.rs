//! Rows of memory with rules: deframer, send queue, slab, timer wheel.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::buf::{SendQueue, Slab, Wheel};
use ringplane_core::time::{Instant, Reason};
use ringplane_core::wire::mux::{HEAD_LEN, Kind, Preface};

use crate::cases::case::{Case, Work};
use crate::inputs::{SIZES, body, deframe, fixed, frame, stream};

/// Items per run of the deframer and the queue.
const ITEMS: usize = 64;

/// All of `buf`.
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = SIZES.into_iter().flat_map(deframer).collect();
    cases.extend(deframer_of_control());
    cases.extend([small_batch(), large_batch()]);
    cases.extend(slab());
    cases.extend(wheel());
    cases
}

fn deframer(len: usize) -> [Case; 2] {
    let total = (ITEMS * (HEAD_LEN + len)) as u64;
    let rows = [("whole", usize::MAX), ("in 16 KiB", 16 << 10)].map(|(name, portion)| {
        Case::new(format!("deframer/items {name}/{len}"), move |crc| {
            let bytes = fixed(stream(ITEMS, len, crc));
            move || deframe(black_box(bytes), portion, crc)
        })
    });
    rows.map(|case| case.of(Work::Bytes(total)).counted_if(len <= 1400))
}

fn deframer_of_control() -> [Case; 2] {
    [("whole", usize::MAX), ("in 100 bytes", 100)].map(|(name, portion)| {
        let prepare = move |crc| {
            let credit = frame(Kind::Credit, &65_536u32.to_be_bytes(), &[], crc);
            let bytes = fixed([Preface::OURS.to_bytes().to_vec(), credit.repeat(ITEMS)].concat());
            move || deframe(black_box(bytes), portion, crc)
        };
        Case::new(format!("deframer/credit frames {name}"), prepare).of(Work::Items(ITEMS as u64))
    })
}

fn small_batch() -> Case {
    let prepare = |_| {
        let (head, item) = ([7; HEAD_LEN], body(64));
        let mut queue = SendQueue::new(256 << 10);
        move || batch(&mut queue, &head, &item)
    };
    Case::new("send queue/heads and items/64", prepare).of(Work::Items(ITEMS as u64))
}

fn large_batch() -> Case {
    let prepare = |_| {
        let (head, item) = ([7; HEAD_LEN], body(64 << 10));
        let mut queue = SendQueue::new(256 << 10);
        move || batch(&mut queue, &head, &item)
    };
    Case::new("send queue/heads and items/65536", prepare).of(Work::Items(ITEMS as u64))
}

/// Queues items with their heads and writes them in portions of at most 16 slices.
fn batch(queue: &mut SendQueue, head: &[u8], item: &Bytes) -> usize {
    for _ in 0..ITEMS {
        queue.push(black_box(head));
        queue.push_payload(black_box(item), 0..item.len());
    }
    let mut writes = 0;
    while !queue.is_empty() {
        let mut slices = [&[][..]; 16];
        let used = queue.slices(&mut slices);
        let written = slices.iter().take(used).map(|slice| slice.len()).sum();
        queue.advance(written);
        writes += 1;
    }
    writes
}

fn slab() -> [Case; 2] {
    let filled = || {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..256u64).map(|value| slab.insert(value)).collect();
        (slab, keys)
    };
    [
        Case::new("slab/get", move |_| {
            let (slab, keys) = filled();
            move || slab.get(black_box(keys[100])).copied()
        }),
        Case::new("slab/insert and remove", move |_| {
            let (mut slab, _) = filled();
            move || {
                let key = slab.insert(black_box(1));
                slab.remove(black_box(key))
            }
        }),
    ]
}

fn wheel() -> [Case; 4] {
    let after = |millis| Instant::ZERO + Duration::from_millis(millis);
    let filled = move || {
        let mut wheel = Wheel::default();
        let ids: Vec<_> = (0..256).map(|n| wheel.arm(n, Reason::CallDeadline, after(100 + n * 25))).collect();
        (wheel, ids)
    };
    [
        Case::new("wheel/arm and cancel", move |_| {
            let (mut wheel, _) = filled();
            move || {
                let id = wheel.arm(1, Reason::CallDeadline, black_box(after(3000)));
                wheel.cancel(black_box(id))
            }
        }),
        Case::new("wheel/rearm", move |_| {
            let (mut wheel, ids) = filled();
            move || wheel.rearm(black_box(ids[100]), Reason::ItemGap, black_box(after(3000)))
        }),
        Case::new("wheel/next", move |_| {
            let (wheel, _) = filled();
            move || black_box(&wheel).next()
        }),
        Case::new("wheel/arm and expire", move |_| {
            let mut wheel = Wheel::default();
            let mut now = Instant::ZERO;
            move || {
                // 12 slots of 8 ms: every run crosses as many.
                now = now + Duration::from_millis(96);
                for token in 0..64 {
                    wheel.arm(token, Reason::Ping, now);
                }
                std::iter::from_fn(|| wheel.expire(now)).count()
            }
        })
        .of(Work::Items(64)),
    ]
}
