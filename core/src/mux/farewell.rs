//! What a connection that ends because of a fault says last.

use crate::protocol::Fault;
use crate::wire::mux::message::goaway;
use crate::wire::parse::ErrorKind;

/// The farewell that tells the peer of `fault`, if the peer can read one.
pub(super) const fn farewell(fault: &Fault) -> Option<(u8, &'static str)> {
    Some(match fault {
        Fault::Wire(error) => match error.kind {
            ErrorKind::Checksum => (goaway::CHECKSUM, "checksum mismatch"),
            ErrorKind::TooLarge { .. } => (goaway::TOO_LARGE, "a length exceeds the limits"),
            _ => (goaway::MALFORMED, "malformed frame"),
        },
        Fault::Version { .. } => (goaway::VERSION, "no version in common"),
        Fault::State => (goaway::STATE, "frame not allowed in this state"),
        Fault::Credit => (goaway::CREDIT, "credit overrun"),
        Fault::Streams => (goaway::STREAMS, "too many streams"),
        Fault::Flood => (goaway::FLOOD, "too many control frames"),
        Fault::Silent | Fault::Stalled => (goaway::SILENT, "no sign of life"),
        Fault::ItemTooLarge { .. } => (goaway::TOO_LARGE, "an item exceeds the limit"),
        Fault::Dialect | Fault::Told(_) | Fault::NoMemory => return None,
    })
}
