//! Target: request frames.

use ringplane_core::wire::Request;
use ringplane_core::wire::pretty::Stream;

use super::framing;

/// Any bytes keep the laws of request frames, and are printed.
pub fn request(data: &[u8]) {
    framing::holds::<Request<'_>>(data);
    framing::prints(data, Stream::Requests);
}
