//! What the targets of framed formats share.

use std::fmt::Debug;

use ringplane_core::wire::pretty::Stream;
use ringplane_core::wire::sniff::{self, Dialect};
use ringplane_core::wire::{Format, Limits, Parse};

use crate::wire_laws;

/// Bounds small enough that a short input can reach them.
const TIGHT: Limits = Limits { max_message: 96, max_header: 40, max_body: 40, max_fragment: 40, max_mux_header: 40 };

/// Characters of a printed line; far more than the printer's own bounds add up to.
const MAX_LINE: usize = 8192;

/// The laws of a framed format, with ordinary and with tight limits.
pub(super) fn holds<'a, F: Format<'a> + PartialEq + Debug>(data: &'a [u8]) {
    for limits in [Limits::default(), TIGHT] {
        wire_laws::frames::<F>(data, &limits);
        if let Ok(Parse::Complete { .. }) = F::parse(data, &limits) {
            wire_laws::prefixes_are_incomplete::<F>(data, &limits);
        }
    }
}

/// Prints anything as one of Dynamo's streams.
pub(super) fn prints(data: &[u8], stream: Stream) {
    prints_as(data, Dialect::Dynamo(stream));
}

/// Prints anything: one line a frame, each bounded and free of control characters.
pub(super) fn prints_as(data: &[u8], dialect: Dialect) {
    let mut out = String::new();
    sniff::print(data, dialect, &Limits::default(), &mut out).expect("a string takes every text");
    assert_eq!(out.is_empty(), data.is_empty());
    out.lines().for_each(line_holds);
}

/// A printed line is bounded and free of control characters.
pub(super) fn line_holds(line: &str) {
    assert!(line.chars().count() < MAX_LINE && !line.contains(char::is_control), "{line}");
}
