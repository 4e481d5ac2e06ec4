//! Metrics as Prometheus reads them: what they are, how they are written, and those of the process itself.
//!
//! | file | holds |
//! |---|---|
//! | `family` | metrics of one name, with their values |
//! | `text` | how they are written |
//! | `process` | those of the process |
//! | `histogram`, `stages` | what is counted of an endpoint |
//! | `record` | that of all endpoints, watched on each core |
//! | `timed`, `dynamo` | what it says, under our names and under Dynamo's |

pub mod dynamo;
pub mod family;
mod histogram;
pub mod process;
pub mod record;
mod stages;
pub mod text;
pub mod timed;

pub use family::{Family, Kind, Sample, Unit, Value};
pub use text::{Format, write};
