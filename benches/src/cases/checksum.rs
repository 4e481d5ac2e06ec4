//! Rows of the checksums.

use std::hint::black_box;

use ringplane_core::wire::checksum::{Crc32c, xxh3};

use crate::cases::case::{Case, Work};
use crate::inputs::{SIZES, body, crc, fixed};

/// CRC-32C both ways and XXH3 over one and two parts. What the processor's costs depends on which it is and is timed only.
pub(super) fn cases() -> Vec<Case> {
    SIZES.into_iter().flat_map(of_size).collect()
}

fn of_size(len: usize) -> [Case; 4] {
    let rows = [
        Case::new(format!("checksum/crc32c processor/{len}"), move |_| {
            let body = fixed(body(len));
            move || crc().of(black_box(body))
        })
        .counted_if(false),
        Case::new(format!("checksum/crc32c table/{len}"), move |_| {
            let body = fixed(body(len));
            move || Crc32c::PORTABLE.of(black_box(body))
        }),
        Case::new(format!("checksum/xxh3/{len}"), move |_| {
            let body = fixed(body(len));
            move || xxh3(&[], black_box(body))
        }),
        Case::new(format!("checksum/xxh3 of two parts/{len}"), move |_| {
            let (header, body) = (fixed(body(48)), fixed(body(len)));
            move || xxh3(black_box(header), black_box(body))
        }),
    ];
    rows.map(|case| {
        let counted = case.counted && len <= 1400;
        case.of(Work::Bytes(len as u64)).counted_if(counted)
    })
}
