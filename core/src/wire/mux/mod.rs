//! Our own frames: many calls in both directions over one connection. `docs/wire.md` shows every byte.
//!
//! A connection starts with a [`Preface`] from each side, then carries frames: a head of [`HEAD_LEN`] bytes, a header of
//! up to 65 535 and, for items only, a body. The head has a checksum of its own, so lengths are trusted before anything is
//! buffered; the payload checksum covers header and body and can be taken chunk by chunk.
//!
//! | file | holds |
//! |---|---|
//! | `frame` | the preface, the kinds of frames and their heads |
//! | `load` | what a worker says of its load |
//! | `message` | what their headers say, and whole frames |

pub mod frame;
pub mod load;
pub mod message;
#[cfg(test)]
mod tests;

pub use frame::{HEAD_LEN, Head, ITEM_COST, Kind, MAX_FRAGMENT, OLDEST_VERSION, PREFACE_LEN, Preface, VERSION, flags};
pub use load::Load;
pub use message::{CancelMode, End, Frame, GoAway, Hello, MAX_TEXT, Meaning, Open, Reject, RejectCode, Status, goaway};
