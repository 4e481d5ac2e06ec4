//! Target: two-part frames.

use ringplane_core::wire::TwoPart;
use ringplane_core::wire::pretty::Stream;

use super::framing;

/// Any bytes keep the laws of two-part frames, and are printed.
pub fn two_part(data: &[u8]) {
    framing::holds::<TwoPart<'_>>(data);
    framing::prints(data, Stream::CallHome);
}
