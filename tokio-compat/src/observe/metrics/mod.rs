//! Metrics as Prometheus reads them: what they are, how they are written, and those of the process itself.
//!
//! | file | holds |
//! |---|---|
//! | `family` | metrics of one name, with their values |
//! | `text` | how they are written |
//! | `process` | those of the process |

pub mod family;
pub mod process;
pub mod text;

pub use family::{Family, Kind, Sample, Unit, Value};
pub use text::{Format, write};
