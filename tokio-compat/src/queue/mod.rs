//! Queues on JetStream, as Dynamo's `NatsQueue` keeps them: tasks that are kept until one of a group has done them, and
//! everything to each group. Ours waits for the server's word that a task is kept, takes one at a time, and acknowledges it
//! when it is done; what fails again and again goes to a queue of its own, `{name}_dead`.

mod config;
mod consumer;
mod error;
mod handle;
mod names;
mod rules;
mod stream;
mod task;

pub use config::Config;
pub use consumer::Consumer;
pub use error::Error;
pub use handle::{Group, Info, Queue};
pub use names::{DEAD, GROUP, QUEUE};
pub use rules::Depth;
pub use task::{Dead, Task};
