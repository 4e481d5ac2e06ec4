//! ringplane, on each of its drivers. Another driver is an implementation of `Driver` and a row in `engines::all`.

mod client;
mod dialect;
mod driver;
mod engine;
mod facade;
mod several;
mod watched;

pub use driver::{Driver, IoUring, Listens, Monoio, Started, Tokio, TokioUring};
pub use engine::{CallHome, Ringplane};
pub use facade::{Facade, Place};
pub use several::Several;
pub use watched::Watched;
