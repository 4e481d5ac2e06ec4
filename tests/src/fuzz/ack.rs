//! Target: ack frames.

use ringplane_core::wire::Ack;
use ringplane_core::wire::pretty::Stream;

use super::framing;

/// Any bytes keep the laws of ack frames, and are printed.
pub fn ack(data: &[u8]) {
    framing::holds::<Ack<'_>>(data);
    framing::prints(data, Stream::Acks);
}
