//! Every measured function as a row of one table: criterion times them all, and the instructions of most are counted.
//!
//! | file | rows |
//! |---|---|
//! | `mux` | our own frames, every kind |
//! | `dynamo` | the frames of Dynamo and the JSON in them |
//! | `payload` | what frames carry: envelopes, annotated items, failures, MessagePack |
//! | `text` | trace context, the names of a guess, printing |
//! | `checksum` | CRC-32C and XXH3 |
//! | `buf` | deframer, send queue, slab, timers |
//! | `connection` | two mux connections back to back |
//! | `decide` | selection, backoff, retry budget, randomness |
//! | `bridge` | a call between a core and the thread that reads it |

mod bridge;
mod buf;
pub mod case;
mod checksum;
mod connection;
mod decide;
mod dynamo;
mod mux;
mod payload;
pub mod table;
mod text;

pub use case::{Case, Run, Work};
pub use table::all;
